# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The images, strokes and arguments that the pipeline accepts, and its errors for all others."""

import types

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    IPNDMScheduler,
)

from mcdiff_pipeline import Stroke, StrokeSheet
from support.pipeline_runs import DRAG, HOLD
from support.tiny_models import make_flow_completion, make_pipeline, make_unet, make_vae


@pytest.fixture(scope="module")
def pipe():
    return make_pipeline()


# Images


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (33, 31)])
def test_odd_and_tiny_images_become_videos(pipe, size):
    frames = pipe(PIL.Image.new("RGB", size, "teal"), [], num_frames=2, num_inference_steps=1).frames[0]
    assert len(frames) == 2
    assert frames[0].size == frames[1].size
    assert np.abs(np.array(frames[0]).astype(int) - (0, 128, 128)).max() <= 1


def test_first_frame_is_exactly_the_image_if_its_size_is_kept(pipe, image):
    image = image.resize((48, 40))
    first = pipe(image, [], height=40, width=48, num_frames=2).frames[0][0]
    assert np.array_equal(np.array(first), np.array(image))


def test_first_frame_is_the_resized_image_otherwise(pipe, wide_image):
    large = wide_image.resize((96, 80), PIL.Image.Resampling.BICUBIC)
    first = pipe(large, [], height=40, width=48, num_frames=2).frames[0][0]
    assert np.abs(np.array(first).astype(int) - np.array(wide_image)).mean() < 3


@pytest.mark.parametrize("size", [{}, {"height": 32}, {"width": 32}])
def test_frames_have_the_shape_of_the_image_unless_both_sides_are_given(pipe, size):
    image = PIL.Image.new("RGB", (47, 32))
    (frame, *_), *_ = pipe(image, [], num_frames=2, num_inference_steps=1, **size).frames
    assert abs(frame.width / frame.height / (47 / 32) - 1) < 0.02
    (frame, *_), *_ = pipe(image, [], num_frames=2, num_inference_steps=1, height=32, width=32).frames
    assert frame.size == (32, 32)


# Strokes


def test_strokes_are_in_pixels_of_the_given_image(pipe, wide_image):
    large = wide_image.resize((96, 80), PIL.Image.Resampling.NEAREST)
    strokes = [DRAG, HOLD]
    small = pipe.predict_flow(wide_image, strokes, height=40, width=48)
    scaled = pipe.predict_flow(large, [stroke.scaled(2, 2) for stroke in strokes], height=40, width=48)
    unscaled = pipe.predict_flow(large, strokes, height=40, width=48)
    still = pipe.predict_flow(wide_image, [], height=40, width=48)
    torch.testing.assert_close(scaled, small, rtol=0, atol=0.2 * (small - still).abs().max().item())
    assert (unscaled - small).abs().max() > 2 * (scaled - small).abs().max()


def test_strokes_scale_along_each_axis(pipe):
    moves = [Stroke([(10, 10), (40, 10)]), Stroke([(10, 30), (10, 60)])]
    scaled, num_frames = pipe.prepare_strokes(moves, [(80, 160)], 40, 32, 4)
    assert [stroke.points for stroke in scaled[0]] == [((2, 5), (8, 5)), ((2, 15), (2, 30))]
    assert num_frames == 4


def test_strokes_are_in_pixels_of_the_upright_image(pipe, image, tmp_path):
    sideways = image.transpose(PIL.Image.Transpose.ROTATE_90)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # shown after a rotation by 90 degrees clockwise
    sideways.save(tmp_path / "photo.png", exif=exif)
    expected = pipe.predict_flow(image, [DRAG], height=40, width=48)
    assert torch.equal(pipe.predict_flow(tmp_path / "photo.png", [DRAG], height=40, width=48), expected)


def test_list_sheet_and_path_give_the_same_flow(pipe, wide_image, tmp_path):
    sheet = StrokeSheet([DRAG, HOLD], width=48, height=40, num_frames=4)
    sheet.save(tmp_path / "strokes.json")
    expected = pipe.predict_flow(wide_image, [DRAG, HOLD])
    path = tmp_path / "strokes.json"
    for strokes in ((DRAG, HOLD), sheet, path, str(path), [[DRAG, HOLD]], [(DRAG, HOLD)], [sheet], [path]):
        assert torch.equal(pipe.predict_flow(wide_image, strokes), expected)
    assert not torch.equal(pipe.predict_flow(wide_image, [DRAG]), expected)


def test_sheet_scales_from_the_image_that_it_was_drawn_on(pipe, wide_image):
    sheet = StrokeSheet([DRAG], width=48, height=40, num_frames=4).scaled(480, 400)
    torch.testing.assert_close(pipe.predict_flow(wide_image, sheet), pipe.predict_flow(wide_image, [DRAG]))


def test_each_image_can_have_its_own_strokes(pipe, wide_image):
    images = [wide_image] * 3
    sheet = StrokeSheet([HOLD], width=48, height=40, num_frames=4)
    flow = pipe.predict_flow(images, [[DRAG], [], sheet])
    for sample, strokes in enumerate(([DRAG], [], [HOLD])):
        torch.testing.assert_close(
            flow[sample : sample + 1], pipe.predict_flow(wide_image, strokes), rtol=0, atol=1e-4
        )


@pytest.mark.parametrize("strokes", [[DRAG], [], [[DRAG]], StrokeSheet([DRAG], 48, 40, 4)])
def test_one_entry_serves_all_images(pipe, image, strokes):
    flow = pipe.predict_flow([image] * 2, strokes)
    torch.testing.assert_close(flow[0], flow[1])


@pytest.mark.parametrize(
    "strokes, error, message",
    [
        ([[DRAG], []], ValueError, "strokes for 2 images, but 1 images"),
        (DRAG, TypeError, "`strokes` holds a Stroke, but it has to be a list of `Stroke`"),
        (None, TypeError, "`strokes` holds a NoneType"),
        (7, TypeError, "`strokes` holds a int"),
        ([7], TypeError, "`strokes` holds a int"),
        ([[DRAG, 7]], TypeError, "`strokes` holds a list"),
        ({"points": []}, TypeError, "`strokes` holds a dict"),
        (lambda frame: [DRAG], TypeError, "`strokes` holds a function"),  # only a stream asks before each frame
    ],
)
def test_invalid_strokes_are_refused(pipe, image, strokes, error, message):
    with pytest.raises(error, match=message):
        pipe(image, strokes)
    with pytest.raises(error, match=message):
        pipe.predict_flow(image, strokes)


@pytest.mark.parametrize(
    "stroke",
    [
        {"points": DRAG.points},
        list(DRAG.points),
        types.SimpleNamespace(
            points=DRAG.points, start_frame=0, end_frame=None, frames=None, kind="move"
        ),  # of a copy of the module, as with code that travels with a model
    ],
)
def test_strokes_are_known_by_their_shape(pipe, image, stroke):
    assert torch.equal(pipe.predict_flow(image, [stroke]), pipe.predict_flow(image, [DRAG]))


def test_list_of_one_point_is_a_hold(pipe, image):
    hold = Stroke([(20, 20)], kind="hold")
    assert torch.equal(pipe.predict_flow(image, [DRAG, [(20, 20)]]), pipe.predict_flow(image, [DRAG, hold]))


def test_number_of_strokes_is_limited(pipe, image):
    with pytest.raises(ValueError, match="strokes holds 100000, but at most 1000 strokes for one image are read"):
        pipe(image, [DRAG] * 100_000)


def test_error_names_a_missing_sheet(pipe, image, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.json"):
        pipe(image, tmp_path / "nothing.json")


# The number of frames


def test_number_of_frames_is_from_the_call_else_the_sheet_else_the_model(pipe, image):
    sheet = StrokeSheet([DRAG], width=48, height=40, num_frames=3)
    assert len(pipe(image, [DRAG], num_inference_steps=1).frames[0]) == 4
    assert len(pipe(image, sheet, num_inference_steps=1).frames[0]) == 3
    assert len(pipe(image, sheet, num_frames=5, num_inference_steps=1).frames[0]) == 5


def test_sheets_of_several_lengths_need_a_number_of_frames(pipe, image):
    sheets = [StrokeSheet([DRAG], 48, 40, num_frames) for num_frames in (3, 5)]
    with pytest.raises(ValueError, match=r"sheets last \[3, 5\] frames: give `num_frames`"):
        pipe([image] * 2, sheets)
    assert len(pipe([image] * 2, sheets, num_frames=2, num_inference_steps=1).frames[1]) == 2


def test_video_of_one_frame_is_the_image(pipe, image):
    output = pipe(image, [DRAG], num_frames=1, output_type="pt")
    assert output.frames.shape == (1, 1, 3, 32, 32)
    assert output.dense_flow.shape == (1, 0, 2, 8, 8)


def test_strokes_without_an_end_run_over_the_whole_video(pipe, image):
    to_the_third = Stroke(DRAG.points, end_frame=2)
    flow = pipe(image, [DRAG], num_frames=3, num_inference_steps=1, generator=torch.manual_seed(0)).dense_flow
    same = pipe(image, [to_the_third], num_frames=3, num_inference_steps=1, generator=torch.manual_seed(0))
    assert torch.equal(flow, same.dense_flow)


# Errors

GRID = (1, 3, 4, 8, 8)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_frames": 0}, "`num_frames` is 0, but it has to be a whole number from 1 up"),
        ({"num_frames": 2.5}, "`num_frames` is 2.5"),
        ({"num_frames": True}, "`num_frames` is True, but it has to be a whole number from 1 up"),
        ({"height": 32.5}, "`height` is 32.5, but it has to be a whole number of pixels"),
        ({"width": "32"}, "`width` is '32', but it has to be a whole number of pixels"),
        (
            {"height": 40_000, "width": 32},
            "working size would be 32 x 40000 pixels, but each side can have at most 4096",
        ),
        ({"num_inference_steps": 0}, "`num_inference_steps` is 0, but it has to be a whole number from 1 up"),
        ({"num_inference_steps": 1.5}, "`num_inference_steps` is 1.5"),
        ({"height": 30}, "`height` is 30, but this model needs a multiple of 8: 32 is the nearest"),
        ({"height": 0}, "`height` is 0, .* 8 is the nearest"),
        ({"width": -8}, "`width` is -8, .* 8 is the nearest"),
        ({"height": 32, "width": 3}, "`width` is 3, .* 8 is the nearest"),
        ({"output_type": "mp4"}, "`output_type` is 'mp4', but it has to be"),
        ({"decode_chunk_size": 0}, "`decode_chunk_size` is 0, but it has to be a whole number from 1 up"),
        ({"decode_chunk_size": 2.5}, "`decode_chunk_size` is 2.5, but it has to be a whole number from 1 up"),
        ({"generator": 0}, "`generator` is 0, but it has to be a `torch.Generator`"),
        ({"generator": [torch.Generator()] * 2}, "`generator` is a list of 2, but there are 1 images"),
        ({"latents": torch.zeros(1, 4, 4, 8, 8)}, r"`latents` has the shape \(1, 4, 4, 8, 8\).* \(1, 3, 4, 8, 8\)"),
        ({"latents": torch.zeros(GRID), "num_frames": 3}, r"`latents` has the shape \(1, 3, .*\(1, 2, 4, 8, 8\)"),
        ({"latents": torch.zeros(GRID), "height": 64, "width": 32}, r"\(1, 3, 4, 16, 8\)"),
        ({"dense_flow": torch.zeros(1, 2, 8, 8)}, r"`dense_flow` has the shape \(1, 2, 8, 8\), .*five dimensions"),
        ({"dense_flow": torch.zeros(1, 1, 2, 9, 8)}, r"`dense_flow` has the shape \(1, 2, 9, 8\) for one step.*8, 8"),
        ({"dense_flow": torch.zeros(2, 1, 2, 8, 8)}, r"`dense_flow` has the shape \(2, 2, 8, 8\).*\(1, 2, 32, 32\)"),
        ({"dense_flow": [None, torch.zeros(1, 3, 8, 8)]}, r"`dense_flow` has the shape \(1, 3, 8, 8\) for one step"),
        ({"dense_flow": (torch.zeros(1, 2, 4, 4),)}, r"`dense_flow` has the shape \(1, 2, 4, 4\) for one step"),
        ({"dense_flow": torch.full((1, 1, 2, 8, 8), torch.nan)}, "`dense_flow` holds values that are NaN or infinite"),
        ({"dense_flow": [None, torch.full((1, 2, 8, 8), torch.inf)]}, "`dense_flow` holds values that are NaN"),
        ({"prompt": "a dog"}, "`prompt` is 'a dog', but this model takes no text"),
        ({"prompt_embeds": torch.zeros(1, 7, 32)}, "`prompt_embeds` is given, but the `unet` .* no cross-attention"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "names 'noise', but it has to name some of"),
    ],
)
def test_argument_that_is_not_allowed_is_refused(pipe, image, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipe(image, [DRAG], **arguments)


def test_whole_numbers_of_any_type_are_accepted(pipe, image):
    expected = pipe(image, [DRAG], num_frames=2, height=32, width=40, num_inference_steps=1, output_type="latent")
    numbers = {"num_frames": np.int64(2), "height": 32.0, "width": np.float32(40), "num_inference_steps": np.uint8(1)}
    numbers["decode_chunk_size"] = 4.0
    assert pipe(image, [DRAG], **numbers, output_type="latent").frames.shape == expected.frames.shape


def test_call_ends_at_the_first_frame_that_is_not_finite(image):
    pipe, shown = make_pipeline(), []
    with pytest.raises(
        RuntimeError, match="latents of frame 2 have values that are NaN or infinite, in torch.float32"
    ):
        for frame in pipe.stream(image, [DRAG], num_frames=4):
            shown.append(frame)
            if len(shown) == 2:
                torch.nn.init.constant_(pipe.unet.conv_out.bias, torch.nan)
    assert len(shown) == 2


@pytest.mark.parametrize("frame", [-1, 3])
def test_flow_of_a_step_outside_the_video_is_refused(pipe, image, frame):
    with pytest.raises(ValueError, match=f"`frame` is {frame}, but a video of 4 frames has the steps 0 to 2"):
        pipe.predict_flow(image, [DRAG], frame=frame)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_frames": 0}, "`num_frames` is 0"),
        ({"num_inference_steps": 0}, "`num_inference_steps` is 0"),
        ({"height": 30}, "`height` is 30"),
        ({"output_type": "mp4"}, "`output_type` is 'mp4'"),
        ({"dense_flow": torch.zeros(1, 2, 8, 8)}, "`dense_flow` has the shape"),
        ({"prompt": "a dog"}, "`prompt` is 'a dog'"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "names 'noise'"),
        ({"strokes": lambda frame: [], "num_frames": 0}, "`num_frames` is 0"),
        ({"strokes": 7}, "`strokes` holds a int"),
    ],
)
def test_stream_raises_errors_before_the_first_frame_is_asked_for(pipe, image, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        pipe.stream(image, **({"strokes": [DRAG]} | arguments))


def test_stream_of_two_images_is_refused(pipe, image):
    with pytest.raises(ValueError, match="2 images, but a stream shows one"):
        pipe.stream([image] * 2, [DRAG])


# Components that do not fit together


@pytest.mark.parametrize(
    "names, channels",
    [
        (("previous_frame",), 4),
        (("previous_frame", "dense_flow"), 6),
        (("splatted_frame", "hole_mask"), 5),
        (("dense_flow", "start_picture", "hole_mask"), 7),
        (("previous_frame", "dense_flow", "splatted_frame", "hole_mask", "start_picture"), 15),
    ],
)
def test_conditions_add_up_to_the_channels_of_the_unet(image, names, channels):
    pipe = make_pipeline(conditioning=names, unet=make_unet(4 + channels))
    frames = pipe(image, [DRAG], num_frames=2, num_inference_steps=1, output_type="latent").frames
    assert frames.isfinite().all()
    for wrong in (3 + channels, 5 + channels):
        message = rf"`unet` takes {wrong} channels, .* has {channels}: .*`in_channels={4 + channels}`"
        with pytest.raises(ValueError, match=message):
            make_pipeline(conditioning=names, unet=make_unet(wrong))


def test_scheduler_of_another_kind_of_model_is_refused(image):
    pipe = make_pipeline(scheduler=FlowMatchEulerDiscreteScheduler())
    with pytest.raises(ValueError, match="`scheduler` is a FlowMatchEulerDiscreteScheduler, which has no `"):
        pipe(image, [DRAG])


def test_scheduler_with_nan_is_refused(image):
    pipe = make_pipeline(scheduler=DDIMScheduler(beta_end=float("nan")))
    with pytest.raises(ValueError, match="`scheduler` is a DDIMScheduler whose `betas` holds NaN"):
        pipe(image, [DRAG])


def test_component_that_was_removed_is_missed_at_once(image):
    pipe = make_pipeline()
    pipe.flow_completion = None
    with pytest.raises(ValueError, match="`flow_completion` is None, but the conditions"):
        pipe.stream(image, [DRAG])


@pytest.mark.parametrize("settings", [{"in_channels": 3}, {"vae_scale_factor": 8}])
def test_flow_completion_has_to_read_the_latents_of_the_autoencoder(settings):
    with pytest.raises(ValueError, match="`flow_completion` reads latents of .* 4 and 4: use models"):
        make_pipeline(flow_completion=make_flow_completion(**settings))


# Guidance, flow and components


@pytest.mark.parametrize("scale", ["a", float("nan"), True, -1.0, 1e38])
def test_guidance_that_is_no_number_is_refused(pipe, image, scale):
    with pytest.raises(
        ValueError, match="`guidance_scale` is .*, but it has to be a number from 0 to 1000; 1.0 is no guidance"
    ):
        pipe(image, [], guidance_scale=scale)


FLOW_SCHEDULER = DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")


@pytest.mark.parametrize("scheduler", [IPNDMScheduler(), FLOW_SCHEDULER])
def test_guidance_of_differences_is_refused_with_a_scheduler_that_does_not_tell_its_noise(image, scheduler):
    conditioning = ("dense_flow", "start_picture")
    pipe = make_pipeline(conditioning, residual_condition="start_picture", scheduler=scheduler)
    with pytest.raises(ValueError, match=f"`guidance_scale` is 2.0, .* `scheduler` is a {type(scheduler).__name__}"):
        pipe(image, [], guidance_scale=2.0)
    make_pipeline(scheduler=scheduler)(image, [], guidance_scale=2.0, num_frames=2)


@pytest.mark.parametrize("generators", [[None], [None, torch.Generator()]])
def test_list_of_generators_has_one_for_each_image(pipe, image, generators):
    with pytest.raises(ValueError, match="has to be a `torch.Generator` or a list of one for each image"):
        pipe([image] * len(generators), [], generator=generators)


def test_flow_for_more_steps_than_the_video_has_is_refused(pipe, image):
    flow = torch.zeros(1, 3, 2, 8, 8)
    for call in (pipe, pipe.stream):
        with pytest.raises(ValueError, match="`dense_flow` is given for 3 steps, but a video of 3 frames has 2"):
            call(image, [], num_frames=3, dense_flow=flow)
    assert next(iter(pipe.stream(image, [], dense_flow=flow))) is not None  # a stream without an end


def test_autoencoder_of_another_shape_is_refused_after_loading(image):
    pipe = make_pipeline()
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    pipe.vae = make_vae(block_out_channels=(8, 8), **levels)
    with pytest.raises(ValueError, match="`vae` has latents of 4 channels and 2 pixels a cell, but .* for 4 and 4"):
        pipe(image, [])


@pytest.mark.parametrize("number", [100_001, 10**9, 2**70])
def test_video_of_endless_length_is_refused_at_once(pipe, image, number):
    with pytest.raises(ValueError, match=f"`num_frames` is {number}, but a video has at most 100000 frames"):
        pipe(image, [DRAG], num_frames=number)
    with pytest.raises(ValueError, match=f"num_frames is {number}, but a clip has at most 100000 frames"):
        StrokeSheet([DRAG], 48, 40, num_frames=number)


def test_more_steps_than_the_scheduler_has_are_refused(pipe, image):
    with pytest.raises(ValueError, match="`num_inference_steps` is 1001, but `scheduler` has 1000 timesteps"):
        pipe(image, [], num_inference_steps=1001)
