# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Semantic features in a rollout: encoded once, carried along, and given to F."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from diffusers.hooks import apply_group_offloading

from mcdiff_pipeline import MCDiffPipeline, Region, RolloutState
from mcdiff_pipeline.model_weights import is_offloaded
from mcdiff_pipeline.rollout import Motion
from support.pipeline_runs import DRAG, STROKES, latents_of, record_inputs, seeded
from support.tiny_models import (
    PAPER_CONDITIONING,
    make_feature_pipeline,
    make_flow_completion,
    make_image_encoder,
    make_pipeline,
)


NETWORKS = ("vae", "flow_completion", "unet", "image_encoder")
START_PICTURE = ("previous_frame", "dense_flow", "start_picture")
REGION = np.zeros((40, 48), np.float32)
REGION[4:20, 4:24] = 1


@pytest.fixture
def pipe() -> MCDiffPipeline:
    return make_feature_pipeline(PAPER_CONDITIONING)


def record_features(pipe: MCDiffPipeline) -> list[torch.Tensor | None]:
    """A list that grows by the features that F is given at every call."""
    given = []
    pipe.flow_completion.register_forward_pre_hook(
        lambda _, arguments, keywords: given.append(keywords["features"]), with_kwargs=True
    )
    return given


# What F is given


def test_features_change_the_flow(pipe, image):
    state = pipe.start(image)
    assert state.start_features.shape == (1, 16, 16, 16) and state.start_features.dtype == torch.float32
    flow = pipe.predict_flow(state, STROKES)
    assert torch.equal(pipe.predict_flow(image, STROKES), flow)
    other = replace(state, start_features=state.start_features.flip(3))
    assert (pipe.predict_flow(other, STROKES) - flow).abs().max() > 1e-3
    without = make_pipeline(PAPER_CONDITIONING, flow_completion=pipe.flow_completion)
    assert (without.predict_flow(image, STROKES) - flow).abs().max() > 1e-3


def test_image_is_encoded_once_for_a_rollout(pipe, image):
    encoded = record_inputs(pipe.image_encoder)
    given = record_features(pipe)
    pipe([image, image.rotate(180)], STROKES, num_frames=3)
    list(pipe.stream(image, STROKES, num_frames=3))
    assert len(encoded) == 2 and [len(features) for features in given] == [2, 2, 1, 1]


@pytest.mark.parametrize("flow_completion", [make_flow_completion(), None])
def test_encoder_is_not_run_for_an_f_that_reads_no_features(image, flow_completion):
    conditioning = ("previous_frame", "sparse_flow") if flow_completion is None else PAPER_CONDITIONING
    parts = {"flow_completion": flow_completion, "image_encoder": make_image_encoder()}
    pipe = make_pipeline(conditioning, **parts)
    encoded = record_inputs(pipe.image_encoder)
    assert pipe.start(image).start_features is None
    assert torch.equal(
        latents_of(pipe, image), latents_of(make_pipeline(conditioning, **parts | {"image_encoder": None}), image)
    )
    assert not encoded


def test_features_are_carried_with_the_image(pipe, image):
    given = record_features(pipe)
    state = pipe.start(image, height=32, width=32)  # 16 x 16 features, 8 x 8 cells
    motion = Motion(dense_flow=torch.tensor([1.0, 0.0])[:, None, None].expand(1, 2, 8, 8))  # one cell to the right
    for _ in range(2):
        state = pipe.step(state, motion)
    pipe.predict_flow(state, STROKES)
    reduced = pipe.flow_completion.reduce_features(state.start_features)
    torch.testing.assert_close(given[-1][..., 4:], reduced[..., :-4], rtol=0, atol=1e-4)


@pytest.mark.parametrize("reads_regions", [False, True])
def test_features_are_carried_with_regions(wide_image, reads_regions):
    f = make_flow_completion(feature_channels=16, reads_regions=reads_regions)
    pipe = make_feature_pipeline(START_PICTURE, flow_completion=f)
    given = record_features(pipe)
    state = pipe.step(pipe.start(wide_image, 40, 48, regions=[Region(REGION)]), [DRAG], num_frames=4)
    pipe.predict_flow(state, [DRAG], num_frames=4)
    runs = 1 if reads_regions else 2  # one for all layers, or one for each
    assert [features.shape for features in given] == [(runs, 17, 15, 18)] * 2
    reduced = f.reduce_features(state.start_features)
    assert torch.equal(given[0][0], reduced[0])
    assert torch.equal(given[1][0], state.layers.carry_features(reduced)[0])
    assert not torch.equal(given[1][0], given[0][0])


def test_overridden_complete_flow_is_given_features_only_if_there_are_any(pipe, image):
    class Still(MCDiffPipeline):
        def complete_flow(self, latents, sparse_flow, mask, **further):
            names.append(sorted(further))
            return torch.zeros_like(sparse_flow)

    names = []
    Still(**pipe.components).predict_flow(image, STROKES)
    Still(**make_pipeline(PAPER_CONDITIONING).components).predict_flow(image, STROKES)
    assert names == [["features"], []]


# States


def test_continuing_a_saved_state_gives_the_same_frames(pipe, image, tmp_path):
    state = pipe.step(pipe.start(image, generator=seeded()), STROKES)
    state.save(tmp_path / "state.safetensors")
    loaded = RolloutState.load(tmp_path / "state.safetensors")
    assert torch.equal(loaded.start_features, state.start_features)
    assert torch.equal(pipe.step(loaded, STROKES).latents, pipe.step(state, STROKES).latents)


def test_missing_features_of_a_state_are_encoded_from_its_image(image):
    pipe = make_feature_pipeline(START_PICTURE)
    state = pipe.step(pipe.start(image, generator=seeded()), STROKES)
    older = replace(state, start_features=None)
    assert torch.equal(pipe.predict_flow(older, STROKES), pipe.predict_flow(state, STROKES))
    assert torch.equal(pipe.step(older, STROKES).start_features, state.start_features)


def test_state_without_features_and_image_runs_without_them(pipe, image):
    state = replace(pipe.start(image), start_features=None)
    without = make_pipeline(PAPER_CONDITIONING, flow_completion=pipe.flow_completion)
    assert torch.equal(pipe.predict_flow(state, STROKES), without.predict_flow(image, STROKES))


def test_state_of_a_model_with_other_features_is_refused(pipe, image):
    state = pipe.start(image)
    state = replace(state, start_features=state.start_features[:, :8])
    with pytest.raises(ValueError, match="The state has features of 8 channels, but this model reads 16: continue"):
        pipe.stream(state, STROKES)


# The component


def test_encoder_that_does_not_fit_f_is_refused():
    f = make_flow_completion(feature_channels=12)
    with pytest.raises(ValueError, match="makes features of 16 channels, but `flow_completion` reads 12: give the"):
        make_pipeline(flow_completion=f, image_encoder=make_image_encoder())


def test_missing_encoder_is_warned_about_once(image):
    records = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append
    # the library's name outside of an export is no child of "diffusers"
    logger = logging.getLogger("mcdiff_pipeline.input_checks")
    logger.addHandler(handler)
    try:
        pipe = make_pipeline(flow_completion=make_flow_completion(feature_channels=16))
        pipe(image, STROKES, num_frames=3)
        make_feature_pipeline()
        make_pipeline()
    finally:
        logger.removeHandler(handler)
    (record,) = records
    assert "16 channels, but there is no `image_encoder`, so it runs without them" in record.getMessage()


def test_encoder_is_saved_loaded_shared_and_cast(pipe, image, tmp_path):
    expected = latents_of(pipe, image)
    pipe.save_pretrained(tmp_path / "model")
    assert (tmp_path / "model/image_encoder/model.safetensors").is_file()
    loaded = MCDiffPipeline.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(latents_of(loaded, image), expected, rtol=0, atol=1e-4)
    assert MCDiffPipeline.from_pipe(loaded).image_encoder is loaded.image_encoder
    half = MCDiffPipeline.from_pretrained(tmp_path / "model", dtype={"image_encoder": torch.float16})
    assert half.image_encoder.dtype == torch.float16 and half.unet.dtype == torch.float32
    torch.testing.assert_close(latents_of(half, image), expected, rtol=0, atol=0.02)
    assert latents_of(pipe.to(torch.float16), image).isfinite().all()
    assert pipe.image_encoder.dtype == torch.float16
    pipe.save_pretrained(tmp_path / "half")
    assert MCDiffPipeline.from_pretrained(tmp_path / "half").image_encoder.dtype == torch.float32


def offloaded(pipe: MCDiffPipeline, how: str, folder) -> None:
    """Offloads the networks from the CPU to the CPU. Weights that no hook fetches raise an error, or are wrong."""
    cpu = torch.device("cpu")
    if how == "model":
        pipe.enable_model_cpu_offload(device="cpu")
        assert len(pipe._all_hooks) == 4
        return
    for name in NETWORKS:
        network = getattr(pipe, name)
        if how == "sequential":
            cpu_offload(network, cpu, offload_buffers=len(network._parameters) > 0)
            continue
        settings = {"offload_type": how, "offload_to_disk_path": str(folder / name)}
        settings |= {"num_blocks_per_group": 1} if how == "block_level" else {}
        apply_group_offloading(network, cpu, cpu, **settings)


@pytest.mark.parametrize("how", ["model", "sequential", "block_level", "leaf_level"])
@pytest.mark.parametrize("conditioning", [PAPER_CONDITIONING, START_PICTURE])
def test_offloaded_model_with_features_gives_the_same_video(image, tmp_path, how, conditioning):
    pipe = make_feature_pipeline(conditioning)
    expected, flow = latents_of(pipe, image), pipe.predict_flow(image, STROKES)
    assert not is_offloaded(pipe.unet) and not is_offloaded(pipe.flow_completion)
    offloaded(pipe, how, tmp_path)
    assert is_offloaded(pipe.unet) and is_offloaded(pipe.flow_completion)
    for _ in range(2):
        torch.testing.assert_close(latents_of(pipe, image), expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(pipe.predict_flow(image, STROKES), flow, rtol=0, atol=1e-4)
