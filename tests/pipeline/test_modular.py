# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The blocks of Modular Diffusers make the frames of the pipeline, bit for bit, and can be exchanged."""

import inspect
import threading

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, ModularPipeline

from mcdiff_pipeline import MCDiffPipeline, Motion, Region, Stroke
from mcdiff_pipeline.hub import export_model
from mcdiff_pipeline.modular_blocks import (
    CONFIGS,
    MCDiffBlocks,
    MCDiffFlowCompletionStep,
    modular_pipeline_of,
)
from mcdiff_pipeline.motion.camera import Camera, CameraKeyframe
from support.pipeline_runs import DRAG, HOLD, STROKES, seeded
from support.tiny_models import FULL_CONDITIONING, make_feature_pipeline, make_pipeline


SIZE = {"height": 40, "width": 48}
# Arguments of the pipeline that blocks have no use for.
OF_THE_PIPELINE = {"self", "return_dict"}


def modular(pipe: MCDiffPipeline, blocks: MCDiffBlocks | None = None) -> ModularPipeline:
    """The blocks with the components and settings of a pipeline, without bars."""
    found = modular_pipeline_of(pipe, blocks)
    found.set_progress_bar_config(disable=True)
    return found


def assert_same_frames(pipe: MCDiffPipeline, blocks: ModularPipeline, image, strokes, **arguments):
    arguments |= {"generator": seeded(), "output_type": "pt"}
    expected = pipe(image, strokes, **arguments)
    found = blocks(image=image, strokes=strokes, **arguments | {"generator": seeded()})
    assert torch.equal(found.videos, expected.frames)
    assert torch.equal(found.completed_flow, expected.dense_flow)


LABELS = np.pad(np.ones((16, 20), int), ((4, 20), (4, 24)))  # 40 x 48, with the start of DRAG


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"num_frames": 1},
        {"guidance_scale": 2.0, "eta": 1.0, "num_inference_steps": 3},
        {"regions": [Region(LABELS.astype(np.float32), rigid=True)], "output_size": "image", "detail": False},
        {"motion": Camera([CameraKeyframe(2, zoom=1.2)], width=48, height=40)},
        {"dense_flow": torch.ones(1, 2, 2, 10, 12), "latents": torch.randn(1, 3, 4, 10, 12, generator=seeded(1))},
    ],
    ids=lambda arguments: ",".join(arguments) or "defaults",
)
def test_blocks_make_the_frames_of_the_pipeline(wide_image, arguments):
    pipe = make_feature_pipeline((*FULL_CONDITIONING, "start_picture"))
    assert_same_frames(pipe, modular(pipe), wide_image, STROKES, **SIZE | arguments)


def test_blocks_take_several_images(tiny_pipeline, image):
    assert_same_frames(tiny_pipeline, modular(tiny_pipeline), [image, image], [[DRAG], [HOLD]], **SIZE)


def test_inputs_of_the_blocks_are_those_of_the_pipeline():
    expected = inspect.signature(MCDiffPipeline.__call__).parameters
    found = {param.name: param for param in MCDiffBlocks().inputs}
    assert found.keys() == expected.keys() - OF_THE_PIPELINE
    for name, param in found.items():
        if param.required:
            assert expected[name].default is inspect.Parameter.empty
        else:
            assert param.default == expected[name].default, name


def test_callback_sees_every_denoising_step_of_the_blocks(tiny_pipeline, image):
    seen = {"pipeline": [], "blocks": []}
    arguments = {"num_frames": 3, "num_inference_steps": 2, "output_type": "pt", **SIZE}
    arguments["callback_on_step_end_tensor_inputs"] = ["latents", "dense_flow"]
    for name, call in (("pipeline", tiny_pipeline), ("blocks", modular(tiny_pipeline))):

        def keep(pipe, step, timestep, tensors, name=name):
            assert isinstance(pipe, MCDiffPipeline)
            seen[name].append((step, int(timestep), *(one.sum().item() for one in tensors.values())))
            return {"latents": 0.5 * tensors["latents"]}

        call(image=image, strokes=STROKES, generator=seeded(), callback_on_step_end=keep, **arguments)
    assert seen["blocks"] == seen["pipeline"] and [one[0] for one in seen["blocks"]] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="names 'flow'"):
        modular(tiny_pipeline)(image=image, strokes=[], **SIZE, callback_on_step_end_tensor_inputs=["flow"])


def test_blocks_end_with_the_last_finished_frame(tiny_pipeline, image):
    arguments = {"image": image, "strokes": STROKES, "num_frames": 4, "num_inference_steps": 2, "output_type": "pt"}
    arguments |= SIZE | {"decode_chunk_size": 1}
    blocks, cancel = modular(tiny_pipeline), threading.Event()
    whole = blocks(**arguments, generator=seeded()).videos

    def interrupt(pipe, step, timestep, tensors):
        pipe._interrupt = step == 2  # in the second frame

    def set_event(pipe, step, timestep, tensors):
        cancel.set() if step == 4 else None

    for ends, frames in (
        ({"callback_on_step_end": interrupt}, 2),
        (
            {"callback_on_step_end": set_event, "cancel": cancel},
            3,
        ),
    ):
        ended = blocks(**arguments, generator=seeded(), **ends)
        assert torch.equal(ended.videos, whole[:, :frames]) and ended.completed_flow.shape[1] == frames - 1
    assert blocks(**arguments, cancel=cancel).videos.shape[1] == 1  # it is still set


def test_block_can_be_exchanged(tiny_pipeline, image):
    class Rightward(MCDiffFlowCompletionStep):
        def __call__(self, components, block_state, **others):
            flow = torch.zeros_like(block_state.rollout_state.accumulated_flow)
            flow[:, 0] = 1.0
            block_state.step_motion = Motion(dense_flow=flow)
            return components, block_state

    blocks = MCDiffBlocks()
    blocks.sub_blocks["rollout"].sub_blocks["flow_completion"] = Rightward()
    state = modular(tiny_pipeline, blocks)(image=image, strokes=[], num_frames=3, output_type="pt", **SIZE)
    flow = torch.tensor([4.0, 0.0])[:, None, None].expand(1, 2, 2, 10, 12)  # one cell, in pixels
    assert torch.equal(state.completed_flow, flow)


def test_state_is_called_again_with_other_strokes(tiny_pipeline, image):
    blocks = modular(tiny_pipeline)
    arguments = {"num_frames": 3, "output_type": "pt", **SIZE}
    state = blocks(image=image, strokes=STROKES, generator=seeded(), **arguments)
    found = blocks(state=state, strokes=[HOLD], generator=seeded(), output="videos")
    assert torch.equal(found, tiny_pipeline(image, [HOLD], generator=seeded(), **arguments).frames)


def test_component_is_exchanged(tiny_pipeline, image):
    blocks = modular(tiny_pipeline)
    scheduler = DDIMScheduler(prediction_type="v_prediction", clip_sample=False, timestep_spacing="leading")
    blocks.update_components(scheduler=scheduler)
    pipe = MCDiffPipeline.from_pipe(tiny_pipeline, scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    assert_same_frames(pipe, blocks, image, STROKES, **SIZE)


def test_errors_are_those_of_the_pipeline_and_name_what_is_not_loaded(tiny_pipeline, image):
    with pytest.raises(ValueError, match="`num_frames` is 0"):
        modular(tiny_pipeline)(image=image, strokes=STROKES, num_frames=0)
    with pytest.raises(ValueError, match="`vae` is not loaded.*load_components"):
        MCDiffBlocks().init_pipeline()(image=image, strokes=STROKES)
    outside = [Stroke([(-90, -90), (-80, -80)])]
    with pytest.warns(UserWarning, match="outside"):
        modular(tiny_pipeline)(image=image, strokes=outside, num_frames=2, **SIZE)


def test_export_loads_as_modular_pipeline(image, tmp_path):
    pipe = make_pipeline(default_num_frames=3)
    pipe.save_pretrained(tmp_path / "model")
    export_model(tmp_path / "model", tmp_path / "exported")
    blocks = MCDiffBlocks().init_pipeline(str(tmp_path / "exported"))
    blocks.load_components()
    assert blocks.null_component_names == ["text_encoder", "tokenizer", "image_encoder"]
    assert {spec.name: blocks.config[spec.name] for spec in CONFIGS} == {s.name: pipe.config[s.name] for s in CONFIGS}
    assert_same_frames(MCDiffPipeline.from_pretrained(tmp_path / "exported"), blocks, image, STROKES, **SIZE)
