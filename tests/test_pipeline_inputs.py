# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What the pipeline accepts as picture, strokes and arguments, and how it refuses the rest."""

import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from support.tiny_models import make_flow_completion, make_pipeline, make_unet

from mcdiff_pipeline import Stroke, StrokeSheet
from mcdiff_pipeline.pipeline_mcdiff import load_picture


DRAG = Stroke([(10, 10), (34, 26)])
HOLD = Stroke([(40, 30)], kind="hold")


@pytest.fixture(scope="module")
def pipe():
    return make_pipeline()


@pytest.fixture
def pixels(picture) -> torch.Tensor:
    return torch.from_numpy(np.array(picture)).movedim(-1, 0) / 255


# Pictures of every kind


def test_rgb_is_read_as_it_is(picture, pixels):
    assert torch.equal(load_picture(picture), pixels)


def test_transparency_is_laid_over_white(picture, pixels):
    alpha = PIL.Image.new("L", picture.size, 0)
    alpha.paste(255, (0, 0, 24, 40))
    rgba = picture.copy()
    rgba.putalpha(alpha)
    found = load_picture(rgba)
    assert torch.equal(found[:, :, :24], pixels[:, :, :24])
    assert (found[:, :, 24:] == 1).all()


def test_gray_with_transparency_is_laid_over_white():
    assert load_picture(PIL.Image.new("LA", (3, 2), (100, 0))).eq(1).all()
    assert load_picture(PIL.Image.new("LA", (3, 2), (100, 255))).eq(100 / 255).all()


def test_transparent_color_of_a_palette_is_laid_over_white(tmp_path):
    image = PIL.Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 200, 0])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "palette.png", transparency=1)
    expected = torch.tensor([[200 / 255, 1], [0, 1], [0, 1]])[:, None]
    torch.testing.assert_close(load_picture(tmp_path / "palette.png"), expected)


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "YCbCr", "HSV", "P"])
def test_other_modes_are_converted_to_rgb(picture, mode):
    image = picture.convert(mode)
    expected = torch.from_numpy(np.array(image.convert("RGB"))).movedim(-1, 0) / 255
    assert load_picture(image).shape == (3, 40, 48)
    assert torch.equal(load_picture(image), expected)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_16_bits_keep_their_scale(mode):
    values = np.array([[0, 32768, 65535]])
    if mode == "I":
        image = PIL.Image.fromarray(values.astype(np.int32))
    else:
        data = values.astype("<u2" if mode == "I;16" else ">u2").tobytes()
        image = PIL.Image.frombytes(mode, (3, 1), data)
    assert image.mode == mode
    expected = torch.tensor([[0, 32768 / 65535, 1]]).expand(3, 1, 3)
    torch.testing.assert_close(load_picture(image), expected)


def test_16_bit_png_is_read(tmp_path):
    values = np.array([[0, 32768, 65535]], dtype=np.uint16)
    PIL.Image.fromarray(values).save(tmp_path / "deep.png")
    torch.testing.assert_close(load_picture(tmp_path / "deep.png")[0], torch.tensor([[0, 32768 / 65535, 1]]))


def test_floating_point_picture_is_read():
    image = PIL.Image.fromarray(np.array([[0.0, 0.25, 1.0]], dtype=np.float32))
    assert image.mode == "F"
    torch.testing.assert_close(load_picture(image)[1], torch.tensor([[0, 0.25, 1]]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(picture, pixels, tmp_path, orientation):
    upright_to_stored = {
        1: lambda p: p,
        2: lambda p: p.flip(2),
        3: lambda p: p.rot90(2, (1, 2)),
        4: lambda p: p.flip(1),
        5: lambda p: p.transpose(1, 2),
        6: lambda p: p.rot90(1, (1, 2)),
        7: lambda p: p.rot90(2, (1, 2)).transpose(1, 2),
        8: lambda p: p.rot90(-1, (1, 2)),
    }
    stored = (upright_to_stored[orientation](pixels) * 255).round().byte().movedim(0, -1).contiguous()
    image = PIL.Image.fromarray(stored.numpy())
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "photo.png", exif=exif)
    assert torch.equal(load_picture(tmp_path / "photo.png"), pixels)
    assert torch.equal(load_picture(PIL.Image.open(tmp_path / "photo.png")), pixels)


@pytest.mark.parametrize(
    "convert",
    [
        lambda array: array,
        lambda array: array.astype(np.uint16) * 257,
        lambda array: array.astype(np.float32) / 255,
        lambda array: array.astype(np.float64) / 255,
        lambda array: np.concatenate([array, np.full_like(array[..., :1], 255)], axis=-1),
        lambda array: torch.from_numpy(array).movedim(-1, 0),
        lambda array: torch.from_numpy(array).movedim(-1, 0) / 255,
        lambda array: (torch.from_numpy(array).movedim(-1, 0) / 255).double().requires_grad_(),
        lambda array: array[::-1][::-1],
    ],
    ids="uint8 uint16 float32 float64 rgba tensor-uint8 tensor-float tensor-grad strided".split(),
)
def test_arrays_and_tensors_are_read(picture, pixels, convert):
    found = load_picture(convert(np.array(picture)))
    assert found.dtype == torch.float32 and not found.requires_grad
    torch.testing.assert_close(found, pixels, rtol=0, atol=1e-6)


@pytest.mark.parametrize("convert", [lambda a: a, lambda a: a[..., None], lambda a: torch.from_numpy(a)[None]])
def test_gray_arrays_are_read(picture, convert):
    gray = np.array(picture.convert("L"))
    expected = (torch.from_numpy(gray) / 255).expand(3, -1, -1)
    torch.testing.assert_close(load_picture(convert(gray)), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_tensors_are_read(pixels, dtype):
    torch.testing.assert_close(load_picture(pixels.to(dtype)), pixels, rtol=0, atol=4e-3)


def test_reading_leaves_the_given_array_alone(picture):
    array = np.array(picture) / 255
    before = array.copy()
    load_picture(array).zero_()
    assert np.array_equal(array, before)


@pytest.mark.parametrize("path_type", [str, Path])
def test_paths_are_read(picture, pixels, tmp_path, path_type):
    picture.save(tmp_path / "picture.png")
    assert torch.equal(load_picture(path_type(tmp_path / "picture.png")), pixels)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.png"):
        load_picture(tmp_path / "nothing.png")


@pytest.mark.parametrize(
    "image, error, message",
    [
        (np.zeros((4, 4, 2), np.uint8), ValueError, r"1, 3 or 4 channels .* \(2, 4, 4\)"),
        (np.zeros((3, 4, 5), np.uint8), ValueError, r"\(5, 3, 4\) .*height x width x channels"),
        (torch.zeros(8, 5, 3), ValueError, r"\(8, 5, 3\).*tensors as channels x height x width"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, r"at least one pixel.*\(3, 0, 4\)"),
        (torch.full((3, 2, 2), 1.5), ValueError, r"\[0, 1\], but they span \[1\.5, 1\.5\]"),
        (np.full((2, 2, 3), -0.5), ValueError, r"span \[-0\.5, -0\.5\]"),
        (np.full((2, 2), np.nan, np.float32), ValueError, "span"),
        (np.full((2, 2, 3), 255.0), ValueError, "rescale floating point pictures, or give uint8"),
        (PIL.Image.fromarray(np.array([[70000]], np.int32)), ValueError, "span"),
        (np.ones((2, 2, 3), np.int64), ValueError, "uint8, uint16 or floating point, but these are torch.int64"),
        (np.ones((2, 2), bool), ValueError, "torch.bool"),
        (3, TypeError, "`image` is a int, but"),
        (None, TypeError, "`image` is a NoneType, but"),
        (b"not a picture", TypeError, "`image` is a bytes, but"),
    ],
)
def test_what_is_no_picture_is_refused(image, error, message):
    with pytest.raises(error, match=message):
        load_picture(image)


# The working size


@pytest.mark.parametrize(
    "size, height, width, working_size",
    [
        ((32, 32), None, None, (32, 32)),
        ((64, 64), None, None, (32, 32)),
        ((48, 40), None, None, (32, 32)),  # 29.2 x 35.1 pixels have the area; 8 divides 32 and 32
        ((200, 50), None, None, (16, 64)),
        ((1, 1), None, None, (32, 32)),
        ((7, 300), None, None, (208, 8)),
        ((48, 40), 64, None, (64, 80)),
        ((48, 40), None, 40, (32, 40)),
        ((48, 40), 16, 56, (16, 56)),
        ((33, 31), None, None, (32, 32)),
    ],
)
def test_working_size_follows_the_shape_of_the_picture(pipe, size, height, width, working_size):
    pictures, given_sizes = pipe.prepare_images(PIL.Image.new("RGB", size), height, width)
    assert pictures.shape == (1, 3, *working_size)
    assert given_sizes == [(size[1], size[0])]
    assert pictures.dtype == torch.float32


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (33, 31)])
def test_odd_and_tiny_pictures_become_videos(pipe, size):
    frames = pipe(PIL.Image.new("RGB", size, "teal"), [], num_frames=2, num_inference_steps=1).frames[0]
    assert len(frames) == 2
    assert frames[0].size == frames[1].size
    assert np.abs(np.array(frames[0]).astype(int) - (0, 128, 128)).max() <= 1


def test_first_frame_is_the_given_picture_where_its_size_is_kept(pipe, picture):
    picture = picture.resize((48, 40))
    first = pipe(picture, [], height=40, width=48, num_frames=2).frames[0][0]
    assert np.array_equal(np.array(first), np.array(picture))


def test_first_frame_is_the_resized_picture_otherwise(pipe, picture):
    large = picture.resize((96, 80), PIL.Image.Resampling.BICUBIC)
    first = pipe(large, [], height=40, width=48, num_frames=2).frames[0][0]
    assert np.abs(np.array(first).astype(int) - np.array(picture)).mean() < 3


def test_resizing_stays_in_range(pipe):
    edges = np.zeros((31, 33, 3), np.uint8)
    edges[::2, ::3] = 255
    pictures, _ = pipe.prepare_images(edges)
    assert 0 <= pictures.min() and pictures.max() <= 1


@pytest.mark.parametrize("kind", ["list", "tuple", "array", "tensor"])
def test_batches_of_pictures_are_read(pipe, picture, kind):
    other = PIL.Image.fromarray(255 - np.array(picture))
    batch = {
        "list": [picture, other],
        "tuple": (picture, np.array(other)),
        "array": np.stack([picture, other]),
        "tensor": torch.from_numpy(np.stack([picture, other])).movedim(-1, 1),
    }[kind]
    pictures, given_sizes = pipe.prepare_images(batch, 40, 48)
    assert torch.equal(pictures[0], load_picture(picture))
    assert torch.equal(pictures[1], load_picture(other))
    assert given_sizes == [(40, 48)] * 2


def test_pictures_of_several_shapes_need_a_size(pipe):
    batch = [PIL.Image.new("RGB", (64, 32)), PIL.Image.new("RGB", (32, 64))]
    with pytest.raises(ValueError, match=r"theirs would be \[\(24, 48\), \(48, 24\)\]: give `height` and `width`"):
        pipe.prepare_images(batch)
    assert pipe.prepare_images(batch, 32, 32)[0].shape == (2, 3, 32, 32)


# Strokes of every kind


def first_flow(pipe, image, strokes, **arguments):
    return pipe.predict_flow(image, strokes, **arguments)


def test_strokes_are_pixels_of_the_given_picture_and_scale_with_it(pipe, picture):
    large = picture.resize((96, 80), PIL.Image.Resampling.NEAREST)
    strokes = [DRAG, HOLD]
    small = first_flow(pipe, picture, strokes, height=40, width=48)
    scaled = first_flow(pipe, large, [stroke.scaled(2, 2) for stroke in strokes], height=40, width=48)
    unscaled = first_flow(pipe, large, strokes, height=40, width=48)
    still = first_flow(pipe, picture, [], height=40, width=48)
    torch.testing.assert_close(scaled, small, rtol=0, atol=0.2 * (small - still).abs().max().item())
    assert (unscaled - small).abs().max() > 2 * (scaled - small).abs().max()


def test_strokes_scale_on_each_axis_alone(pipe):
    moves = [Stroke([(10, 10), (40, 10)]), Stroke([(10, 30), (10, 60)])]
    scaled, num_frames = pipe.prepare_strokes(moves, [(80, 160)], 40, 32, 4)
    assert [stroke.points for stroke in scaled[0]] == [((2, 5), (8, 5)), ((2, 15), (2, 30))]
    assert num_frames == 4


def test_strokes_are_in_pixels_of_the_upright_picture(pipe, picture, tmp_path):
    sideways = picture.transpose(PIL.Image.Transpose.ROTATE_90)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turn it clockwise to see it upright
    sideways.save(tmp_path / "photo.png", exif=exif)
    expected = pipe.predict_flow(picture, [DRAG], height=40, width=48)
    assert torch.equal(pipe.predict_flow(tmp_path / "photo.png", [DRAG], height=40, width=48), expected)


def test_list_sheet_path_and_list_of_each_say_the_same(pipe, picture, tmp_path):
    sheet = StrokeSheet([DRAG, HOLD], width=48, height=40, num_frames=4)
    sheet.save(tmp_path / "strokes.json")
    expected = pipe.predict_flow(picture, [DRAG, HOLD])
    path = tmp_path / "strokes.json"
    for strokes in ((DRAG, HOLD), sheet, path, str(path), [[DRAG, HOLD]], [(DRAG, HOLD)], [sheet], [path]):
        assert torch.equal(pipe.predict_flow(picture, strokes), expected)
    assert not torch.equal(pipe.predict_flow(picture, [DRAG]), expected)


def test_sheet_scales_from_the_picture_that_it_was_drawn_on(pipe, picture):
    sheet = StrokeSheet([DRAG], width=48, height=40, num_frames=4).scaled(480, 400)
    torch.testing.assert_close(pipe.predict_flow(picture, sheet), pipe.predict_flow(picture, [DRAG]))


def test_every_image_may_have_strokes_of_its_own(pipe, picture):
    images = [picture] * 3
    sheet = StrokeSheet([HOLD], width=48, height=40, num_frames=4)
    flow = pipe.predict_flow(images, [[DRAG], [], sheet])
    for sample, strokes in enumerate(([DRAG], [], [HOLD])):
        torch.testing.assert_close(flow[sample : sample + 1], pipe.predict_flow(picture, strokes), rtol=0, atol=1e-4)


@pytest.mark.parametrize("strokes", [[DRAG], [], [[DRAG]], StrokeSheet([DRAG], 48, 40, 4)])
def test_one_entry_serves_all_images(pipe, picture, strokes):
    flow = pipe.predict_flow([picture] * 2, strokes)
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
    ],
)
def test_what_are_no_strokes_is_refused(pipe, picture, strokes, error, message):
    with pytest.raises(error, match=message):
        pipe(picture, strokes)


def test_missing_sheet_is_named(pipe, picture, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.json"):
        pipe(picture, tmp_path / "nothing.json")


# The number of frames


def test_call_names_the_number_of_frames_before_sheet_and_model(pipe, picture):
    sheet = StrokeSheet([DRAG], width=48, height=40, num_frames=3)
    assert len(pipe(picture, [DRAG], num_inference_steps=1).frames[0]) == 4
    assert len(pipe(picture, sheet, num_inference_steps=1).frames[0]) == 3
    assert len(pipe(picture, sheet, num_frames=5, num_inference_steps=1).frames[0]) == 5


def test_sheets_of_several_lengths_need_a_number_of_frames(pipe, picture):
    sheets = [StrokeSheet([DRAG], 48, 40, num_frames) for num_frames in (3, 5)]
    with pytest.raises(ValueError, match=r"sheets last \[3, 5\] frames: give `num_frames`"):
        pipe([picture] * 2, sheets)
    assert len(pipe([picture] * 2, sheets, num_frames=2, num_inference_steps=1).frames[1]) == 2


def test_video_of_one_frame_is_the_picture(pipe, picture):
    output = pipe(picture, [DRAG], num_frames=1, output_type="pt")
    assert output.frames.shape == (1, 1, 3, 32, 32)
    assert output.dense_flow.shape == (1, 0, 2, 8, 8)


def test_strokes_without_an_end_run_over_the_whole_video(pipe, picture):
    to_the_third = Stroke(DRAG.points, end_frame=2)
    flow = pipe(picture, [DRAG], num_frames=3, num_inference_steps=1, generator=torch.manual_seed(0)).dense_flow
    same = pipe(picture, [to_the_third], num_frames=3, num_inference_steps=1, generator=torch.manual_seed(0))
    assert torch.equal(flow, same.dense_flow)


# Refusals

GRID = (1, 3, 4, 8, 8)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_frames": 0}, "`num_frames` is 0, but it has to be an `int` from 1 up"),
        ({"num_frames": 2.5}, "`num_frames` is 2.5"),
        ({"num_frames": np.int64(2)}, r"`num_frames` is np.int64\(2\), but it has to be an `int` from 1 up"),
        ({"num_inference_steps": 0}, "`num_inference_steps` is 0, but it has to be an `int` from 1 up"),
        ({"num_inference_steps": 1.5}, "`num_inference_steps` is 1.5"),
        ({"height": 30}, "`height` is 30, but this model needs a multiple of 8: 32 is the nearest"),
        ({"height": 0}, "`height` is 0, .* 8 is the nearest"),
        ({"width": -8}, "`width` is -8, .* 8 is the nearest"),
        ({"height": 32, "width": 3}, "`width` is 3, .* 8 is the nearest"),
        ({"output_type": "mp4"}, "`output_type` is 'mp4', but it has to be"),
        ({"decode_chunk_size": 0}, "`decode_chunk_size` is 0, but it has to be an `int` from 1 up"),
        ({"decode_chunk_size": 2.5}, "`decode_chunk_size` is 2.5, but it has to be an `int` from 1 up"),
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
        ({"prompt": "a dog"}, "`prompt` is 'a dog', but this model takes no text"),
        ({"prompt_embeds": torch.zeros(1, 7, 32)}, "`prompt_embeds` is given, but the `unet` .* no cross-attention"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "names 'noise', but it has to name some of"),
    ],
)
def test_argument_that_is_not_allowed_is_refused(pipe, picture, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipe(picture, [DRAG], **arguments)


def test_empty_list_of_images_is_refused(pipe):
    with pytest.raises(ValueError, match="`image` is an empty list"):
        pipe([], [DRAG])


@pytest.mark.parametrize("frame", [-1, 3])
def test_flow_of_a_step_outside_the_video_is_refused(pipe, picture, frame):
    with pytest.raises(ValueError, match=f"`frame` is {frame}, but a video of 4 frames has the steps 0 to 2"):
        pipe.predict_flow(picture, [DRAG], frame=frame)


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
        ({"strokes": 7}, "`strokes` holds a int"),
    ],
)
def test_stream_refuses_at_once(pipe, picture, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        pipe.stream(picture, **({"strokes": [DRAG]} | arguments))  # no frame is asked for


def test_stream_of_two_images_is_refused(pipe, picture):
    with pytest.raises(ValueError, match="2 images, but a stream shows one"):
        pipe.stream([picture] * 2, [DRAG])


# Models that do not fit together


@pytest.mark.parametrize(
    "names, channels",
    [
        (("previous_frame",), 4),
        (("previous_frame", "dense_flow"), 6),
        (("splatted_frame", "hole_mask"), 5),
        (("dense_flow", "start_frame", "hole_mask"), 7),
        (("previous_frame", "dense_flow", "splatted_frame", "hole_mask", "start_frame"), 15),
    ],
)
def test_conditions_add_up_to_the_channels_of_the_unet(picture, names, channels):
    pipe = make_pipeline(conditioning=names, unet=make_unet(4 + channels))
    frames = pipe(picture, [DRAG], num_frames=2, num_inference_steps=1, output_type="latent").frames
    assert frames.isfinite().all()
    for wrong in (3 + channels, 5 + channels):
        message = rf"`unet` takes {wrong} channels, .* has {channels}: .*`in_channels={4 + channels}`"
        with pytest.raises(ValueError, match=message):
            make_pipeline(conditioning=names, unet=make_unet(wrong))


@pytest.mark.parametrize("names", [("previous_frame", "depth"), ("dense_flow", "dense_flow"), ()])
def test_conditions_are_known_and_named_once(names):
    message = re.escape(f"`conditioning` is {list(names)}, but") + r".* each once, out of \['previous_frame', "
    with pytest.raises(ValueError, match=message):
        make_pipeline(conditioning=names, unet=make_unet(10))


@pytest.mark.parametrize("settings", [{"in_channels": 3}, {"vae_scale_factor": 8}])
def test_flow_completion_has_to_read_the_latents_of_the_autoencoder(settings):
    with pytest.raises(ValueError, match="`flow_completion` reads latents of .* 4 and 4: use models"):
        make_pipeline(flow_completion=make_flow_completion(**settings))
