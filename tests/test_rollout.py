# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""States of a rollout: their generators, and their files."""

import json
from dataclasses import fields, replace

import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler
from safetensors import safe_open
from safetensors.torch import save_file

from mcdiff_pipeline.rollout import RolloutState, noise_state_of
from support.pipeline_runs import STROKES, seeded
from support.tiny_models import make_pipeline


def make_state(batch_size: int = 2, **changes) -> RolloutState:
    """A state with all fields, of a model with 4 pixels along a cell."""
    noise_state, noise_device = noise_state_of([seeded(seed) for seed in range(batch_size)])
    state = RolloutState(
        frame=3,
        latents=torch.randn(batch_size, 4, 5, 6, generator=seeded(0)),
        start_latents=torch.randn(batch_size, 4, 5, 6, generator=seeded(1)),
        accumulated_flow=torch.randn(batch_size, 2, 5, 6, generator=seeded(2)),
        dense_flow=torch.randn(batch_size, 2, 5, 6, generator=seeded(3)),
        start_image=torch.rand(batch_size, 3, 20, 24, generator=seeded(4)),
        start_features=torch.randn(batch_size, 16, 15, 18, generator=seeded(6)).half(),
        prompt_embeds=torch.randn(batch_size, 7, 8, generator=seeded(5)),
        image_sizes=((40, 48),) * batch_size,
        noise_state=noise_state,
        noise_device=noise_device,
    )
    return replace(state, **changes)


def assert_equal_states(found: RolloutState, expected: RolloutState):
    for field in fields(RolloutState):
        value, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(other, torch.Tensor):
            assert value.dtype == other.dtype and torch.equal(value, other), field.name
        else:
            assert value == other, field.name


def test_states_in_a_list_are_found_by_identity():
    states = [make_state(), make_state()]
    assert [states.index(state) for state in states] == [0, 1]
    assert make_state() not in states and len({*states, *states}) == 2


# Generators


def test_generators_of_a_state_are_new_and_in_the_saved_state():
    state = make_state()
    for _ in range(2):
        for seed, generator in enumerate(state.generator()):
            assert torch.equal(torch.randn(5, generator=generator), torch.randn(5, generator=seeded(seed)))


def test_one_generator_of_a_state_is_not_in_a_list():
    noise_state, noise_device = noise_state_of(seeded(4))
    state = make_state(noise_state=noise_state, noise_device=noise_device)
    assert torch.equal(torch.randn(5, generator=state.generator()), torch.randn(5, generator=seeded(4)))


def test_state_without_a_generator_has_none():
    noise_state, noise_device = noise_state_of(None)
    assert make_state(noise_state=noise_state, noise_device=noise_device).generator() is None


# Files


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("optional", [True, False])
def test_saved_state_is_loaded_exactly(tmp_path, dtype, optional):
    state = make_state()
    state = replace(state, latents=state.latents.to(dtype), start_latents=state.start_latents.to(dtype))
    if not optional:
        optional_fields = ("dense_flow", "start_image", "start_features", "prompt_embeds", "noise_state")
        state = replace(state, **dict.fromkeys(optional_fields))
    state.save(tmp_path / "state.safetensors")
    assert_equal_states(RolloutState.load(tmp_path / "state.safetensors"), state)
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


def test_tensors_that_share_memory_or_are_views_are_saved(tmp_path):
    latents = torch.randn(2, 5, 6, 4, generator=seeded()).permute(0, 3, 1, 2)
    state = make_state(latents=latents, start_latents=latents)
    state.save(tmp_path / "state.safetensors")
    assert_equal_states(RolloutState.load(tmp_path / "state.safetensors"), state)


def test_loaded_state_is_brought_to_the_device(tmp_path):
    make_state().save(tmp_path / "state.safetensors")
    state = RolloutState.load(tmp_path / "state.safetensors", device="meta")
    assert state.latents.device.type == state.start_image.device.type == "meta"
    assert state.noise_state.device.type == "cpu"  # where PyTorch reads it


@pytest.mark.parametrize("conditioning", [("previous_frame", "dense_flow"), ("dense_flow", "start_picture")])
@pytest.mark.parametrize("frame", [0, 2])
def test_continuing_a_loaded_state_gives_exactly_the_same_frames(image, tmp_path, conditioning, frame):
    pipe = make_pipeline(conditioning)
    # draws noise in its steps
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    state = pipe.start(image, generator=seeded())
    for _ in range(frame):
        state = pipe.step(state, STROKES)
    state.save(tmp_path / "state.safetensors")
    loaded = RolloutState.load(tmp_path / "state.safetensors")
    arguments = {"num_frames": 6, "output_type": "latent"}
    expected = list(pipe.stream(state, STROKES, **arguments))
    found = list(pipe.stream(loaded, STROKES, **arguments))
    assert len(found) == 5 - frame
    assert torch.equal(torch.stack(found), torch.stack(expected))


@pytest.mark.parametrize("end", ["interrupted", "full disk"])
def test_failed_save_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch, end):
    path = tmp_path / "state.safetensors"
    make_state().save(path)
    before = path.read_bytes()

    def save_a_part(tensors, name, metadata):
        name.write_bytes(before[:100])
        raise {"interrupted": KeyboardInterrupt(), "full disk": OSError("no space left")}[end]

    monkeypatch.setattr("mcdiff_pipeline.rollout.save_file", save_a_part)
    with pytest.raises((KeyboardInterrupt, OSError)):
        make_state(frame=4).save(path)
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


def test_path_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OSError, match="missing/state.safetensors cannot be written"):
        make_state().save(tmp_path / "missing" / "state.safetensors")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file .*state.safetensors"):
        RolloutState.load(tmp_path / "state.safetensors")


def change_file(path, changes: dict[str, torch.Tensor | None], metadata: dict[str, str | None]):
    """Rewrites a file with other tensors and metadata; None removes one."""
    with safe_open(path, framework="pt") as file:
        contents = {name: file.get_tensor(name) for name in file.keys()} | changes
        texts = file.metadata() | metadata
    save_file(
        {name: tensor for name, tensor in contents.items() if tensor is not None},
        path,
        {name: text for name, text in texts.items() if text is not None},
    )


def assert_refused(path, message: str):
    with pytest.raises(ValueError, match=message) as refusal:
        RolloutState.load(path)
    text = str(refusal.value)
    assert text.startswith(f"{path} is not a rollout state that can be read: ")
    assert text.endswith(".") and "\n" not in text


@pytest.mark.parametrize(
    "changes, metadata, message",
    [
        ({}, {"format": "another"}, "does not say that it is a rollout state of version 1"),
        ({}, {"format": None}, "does not say that it is a rollout state of version 1"),
        ({}, {"version": "4"}, "does not say that it is a rollout state of version 1 to 3"),
        ({}, {"frame": None, "noise_device": None}, "it lacks frame, noise_device"),
        ({"latents": None, "accumulated_flow": None}, {}, "it lacks latents, accumulated_flow"),
        ({"other": torch.zeros(1)}, {}, "unexpected keyword argument 'other'"),
        ({}, {"frame": "-1"}, "`frame` is -1, but frames count from 0"),
        ({}, {"frame": "three"}, "invalid literal .*'three'"),
        ({}, {"image_sizes": "[[40, 48]]"}, "there are 1 image sizes, but `latents` are for 2 images"),
        ({}, {"image_sizes": "[[40], [48]]"}, "not enough values"),
        ({}, {"image_sizes": "[[40, Infinity], [40, 48]]"}, "infinity"),
        ({}, {"image_sizes": "7"}, "'int' object is not iterable"),
        ({}, {"image_sizes": "[" * 5000}, "."),
        ({}, {"noise_device": "abacus"}, "abacus"),
        ({"latents": torch.zeros(2, 4, 5)}, {}, r"`latents` has the shape \(2, 4, 5\)"),
        ({"latents": torch.zeros(0, 4, 5, 6)}, {}, r"`latents` has the shape \(0, 4, 5, 6\)"),
        ({"latents": torch.zeros(2, 4, 5, 6, dtype=torch.int32)}, {}, "`latents` has the dtype torch.int32"),
        (
            {"start_latents": torch.zeros(2, 4, 5, 7)},
            {},
            r"`start_latents` has the shape \(2, 4, 5, 7\), .*2, 4, 5, 6",
        ),
        ({"accumulated_flow": torch.zeros(2, 1, 5, 6)}, {}, r"`accumulated_flow` has the shape .*\(2, 2, 5, 6\)"),
        ({"dense_flow": torch.zeros(1, 2, 5, 6)}, {}, r"`dense_flow` has the shape \(1, 2, 5, 6\)"),
        ({"start_image": torch.zeros(2, 3, 20, 25)}, {}, r"`start_image` has the shape .* \(2, 3, 20, 24\)"),
        ({"start_image": torch.zeros(3)}, {}, r"`start_image` has the shape \(3,\)"),
        ({"start_features": torch.zeros(1, 16, 15, 18)}, {}, r"`start_features` has the shape \(1, 16, 15, 18\)"),
        ({"start_features": torch.zeros(2, 16, 270)}, {}, r"`start_features` has .* \(2, channels, grid_height, grid"),
        ({"prompt_embeds": torch.zeros(1, 7, 8)}, {}, r"`prompt_embeds` has the shape \(1, 7, 8\)"),
        ({"noise_state": torch.zeros(2, 5056)}, {}, "`noise_state` has the dtype torch.float32"),
        ({"noise_state": torch.zeros(3, 5056, dtype=torch.uint8)}, {}, r"`noise_state` has the shape \(3, 5056\)"),
        ({"noise_state": torch.zeros(2, 7, dtype=torch.uint8)}, {}, "size"),
        ({"noise_state": torch.zeros(2, 5056, dtype=torch.uint8)}, {}, "[Ii]nvalid"),
    ],
)
def test_changed_file_is_refused_with_one_sentence(tmp_path, changes, metadata, message):
    path = tmp_path / "state.safetensors"
    make_state().save(path)
    change_file(path, changes, metadata)
    assert_refused(path, message)


@pytest.mark.parametrize("content", [b"", b"\x00" * 200, b"PK\x03\x04", json.dumps({"frame": 1}).encode()])
def test_file_of_another_format_is_refused(tmp_path, content):
    path = tmp_path / "state.safetensors"
    path.write_bytes(content)
    assert_refused(path, ".")


@pytest.mark.parametrize("share", [0.0005, 0.1, 0.5, 0.999])
def test_truncated_file_is_refused(tmp_path, share):
    path = tmp_path / "state.safetensors"
    make_state().save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert_refused(path, ".")
