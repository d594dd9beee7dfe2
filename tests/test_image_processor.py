# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Any image becomes a tensor at the working size, and frames become what the caller asks for."""

import math
import random
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from mcdiff_pipeline.image_processor import ImageProcessor, load_image_tensor
from support.mutations import refusals
from support.paths import is_open


# Sizes are multiples of 8, and 32 x 32 pixels by default.
PROCESSOR = ImageProcessor(8, 32, 32)


@pytest.fixture
def pixels(image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).movedim(-1, 0) / 255


# Reading


def test_rgb_keeps_its_values(image, pixels):
    assert torch.equal(load_image_tensor(image), pixels)


def test_transparent_pixels_become_white(image, pixels):
    alpha = PIL.Image.new("L", image.size, 0)
    alpha.paste(255, (0, 0, 24, 40))
    rgba = image.copy()
    rgba.putalpha(alpha)
    found = load_image_tensor(rgba)
    assert torch.equal(found[:, :, :24], pixels[:, :, :24])
    assert (found[:, :, 24:] == 1).all()


def test_transparent_gray_becomes_white():
    assert load_image_tensor(PIL.Image.new("LA", (3, 2), (100, 0))).eq(1).all()
    assert load_image_tensor(PIL.Image.new("LA", (3, 2), (100, 255))).eq(100 / 255).all()


def test_transparent_palette_color_becomes_white(tmp_path):
    image = PIL.Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 200, 0])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "palette.png", transparency=1)
    expected = torch.tensor([[200 / 255, 1], [0, 1], [0, 1]])[:, None]
    torch.testing.assert_close(load_image_tensor(tmp_path / "palette.png"), expected)


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "YCbCr", "HSV", "P"])
def test_other_modes_are_converted_to_rgb(image, mode):
    converted = image.convert(mode)
    expected = torch.from_numpy(np.array(converted.convert("RGB"))).movedim(-1, 0) / 255
    assert load_image_tensor(converted).shape == (3, 40, 48)
    assert torch.equal(load_image_tensor(converted), expected)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_16_bit_values_are_divided_by_65535(mode):
    values = np.array([[0, 32768, 65535]])
    if mode == "I":
        image = PIL.Image.fromarray(values.astype(np.int32))
    else:
        data = values.astype("<u2" if mode == "I;16" else ">u2").tobytes()
        image = PIL.Image.frombytes(mode, (3, 1), data)
    assert image.mode == mode
    expected = torch.tensor([[0, 32768 / 65535, 1]]).expand(3, 1, 3)
    torch.testing.assert_close(load_image_tensor(image), expected)


def test_16_bit_png_is_read(tmp_path):
    values = np.array([[0, 32768, 65535]], dtype=np.uint16)
    PIL.Image.fromarray(values).save(tmp_path / "deep.png")
    torch.testing.assert_close(load_image_tensor(tmp_path / "deep.png")[0], torch.tensor([[0, 32768 / 65535, 1]]))


def test_floating_point_image_is_read():
    image = PIL.Image.fromarray(np.array([[0.0, 0.25, 1.0]], dtype=np.float32))
    assert image.mode == "F"
    torch.testing.assert_close(load_image_tensor(image)[1], torch.tensor([[0, 0.25, 1]]))


@pytest.mark.parametrize(("dtype", "white"), [(np.int32, 255), (np.int32, 65535), (np.float32, 1), (np.float32, 255)])
def test_white_of_32_bit_images_is_found(tmp_path, dtype, white):
    PIL.Image.fromarray(np.array([[0, white // 5 if white > 1 else 0.2, white]], dtype)).save(tmp_path / "deep.tif")
    torch.testing.assert_close(load_image_tensor(tmp_path / "deep.tif")[0], torch.tensor([[0, 0.2, 1]]))


@pytest.mark.parametrize("value", [-1.0, 1e6, np.nan])
def test_32_bit_image_without_a_known_white_is_refused(tmp_path, value):
    PIL.Image.fromarray(np.array([[0, value]], np.float32)).save(tmp_path / "deep.tif")
    with pytest.raises(ValueError, match="deep.tif cannot be read as an image"):
        load_image_tensor(tmp_path / "deep.tif")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((3024, 4032), (96, 128)),
        ((4032, 3024), (128, 96)),
        ((400, 600), (128, 192)),
        ((1080, 1920), (128, 224)),
        ((300, 300), (128, 128)),
        ((1, 4000), (32, 4096)),
    ],
)
def test_fitting_size_keeps_the_shape_of_photographs(given, expected):
    assert ImageProcessor(32, 128, 128).fitting_size(given) == expected


def test_images_of_any_shape_are_hardly_stretched_by_default():
    processor, generator = ImageProcessor(32, 128, 128), random.Random(0)
    stretches = []
    for _ in range(200):
        aspect = math.exp(generator.uniform(-math.log(4), math.log(4)))
        given = round(1000 / math.sqrt(aspect)), round(1000 * math.sqrt(aspect))
        height, width = processor.to_working_size([torch.zeros(3, *given)]).shape[2:]
        assert 0.5 <= height * width / 128**2 <= 2
        stretches.append(abs(math.log(width / height / (given[1] / given[0]))))
    assert max(stretches) < math.log(1.12) and np.median(stretches) < math.log(1.035)


@pytest.mark.parametrize(
    ("given", "working", "shown"),
    [
        ([(302, 403)], (96, 128), (96, 128)),
        ([(333, 1000)], (64, 192), None),
        ([(3155, 3523)], (128, 128), (121, 135)),
        ([(3155, 3523), (300, 300)], (128, 128), None),
    ],
)
def test_unstretched_size_has_the_shape_of_the_image_and_the_area_of_the_working_size(given, working, shown):
    assert ImageProcessor.unstretched_size(given, working) == (None if shown == working else shown)


# Damaged files


def test_image_of_too_many_pixels_is_refused(tmp_path):
    PIL.Image.new("1", (20000, 10000)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="a.png has more pixels than are read"):
        load_image_tensor(tmp_path / "a.png")


def test_damaged_exif_is_ignored(image, pixels, tmp_path):
    image.save(tmp_path / "a.png", exif=b"MM")
    assert torch.equal(load_image_tensor(tmp_path / "a.png"), pixels)


def test_missing_image_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_image_tensor(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tif", "avif"])
def test_mutated_image_is_read_or_refused_in_one_sentence(image, tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    image.save(path)
    assert len(refusals(path, load_image_tensor, 60)) > 5
    assert not is_open(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(pixels, tmp_path, orientation):
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
    assert torch.equal(load_image_tensor(tmp_path / "photo.png"), pixels)
    assert torch.equal(load_image_tensor(PIL.Image.open(tmp_path / "photo.png")), pixels)


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
def test_arrays_and_tensors_are_read(image, pixels, convert):
    found = load_image_tensor(convert(np.array(image)))
    assert found.dtype == torch.float32 and not found.requires_grad
    torch.testing.assert_close(found, pixels, rtol=0, atol=1e-6)


@pytest.mark.parametrize("convert", [lambda a: a, lambda a: a[..., None], lambda a: torch.from_numpy(a)[None]])
def test_gray_arrays_are_read(image, convert):
    gray = np.array(image.convert("L"))
    expected = (torch.from_numpy(gray) / 255).expand(3, -1, -1)
    torch.testing.assert_close(load_image_tensor(convert(gray)), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_tensors_are_read(pixels, dtype):
    torch.testing.assert_close(load_image_tensor(pixels.to(dtype)), pixels, rtol=0, atol=4e-3)


def test_reading_does_not_change_the_given_array(image):
    array = np.array(image) / 255
    before = array.copy()
    load_image_tensor(array).zero_()
    assert np.array_equal(array, before)


@pytest.mark.parametrize("path_type", [str, Path])
def test_paths_are_read(image, pixels, tmp_path, path_type):
    image.save(tmp_path / "photo.png")
    assert torch.equal(load_image_tensor(path_type(tmp_path / "photo.png")), pixels)


def test_error_names_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.png"):
        load_image_tensor(tmp_path / "nothing.png")


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
        (np.full((2, 2, 3), 255.0), ValueError, "rescale floating point images, or give uint8"),
        (PIL.Image.fromarray(np.array([[70000]], np.int32)), ValueError, "span"),
        (np.ones((2, 2, 3), np.int64), ValueError, "uint8, uint16 or floating point, but these are torch.int64"),
        (np.ones((2, 2), bool), ValueError, "torch.bool"),
        (3, TypeError, "`image` is a int, but"),
        (None, TypeError, "`image` is a NoneType, but"),
        (b"not an image", TypeError, "`image` is a bytes, but"),
    ],
)
def test_invalid_image_is_refused(image, error, message):
    with pytest.raises(error, match=message):
        load_image_tensor(image)


# The working size


@pytest.mark.parametrize(
    "size, height, width, working_size",
    [
        ((32, 32), None, None, (32, 32)),
        ((64, 64), None, None, (32, 32)),
        ((48, 40), None, None, (40, 48)),
        ((200, 50), None, None, (16, 64)),
        ((1, 1), None, None, (32, 32)),
        ((7, 300), None, None, (256, 8)),
        ((48, 40), 64, None, (64, 80)),
        ((48, 40), None, 40, (32, 40)),
        ((48, 40), 16, 56, (16, 56)),
        ((33, 31), None, None, (32, 32)),
    ],
)
def test_working_size_follows_the_shape_of_the_image(size, height, width, working_size):
    images, given_sizes = PROCESSOR.preprocess(PIL.Image.new("RGB", size), height, width)
    assert images.shape == (1, 3, *working_size)
    assert given_sizes == [(size[1], size[0])]
    assert images.dtype == torch.float32


def test_resized_values_stay_in_range():
    edges = np.zeros((31, 33, 3), np.uint8)
    edges[::2, ::3] = 255
    images, _ = PROCESSOR.preprocess(edges)
    assert 0 <= images.min() and images.max() <= 1


@pytest.mark.parametrize("kind", ["list", "tuple", "array", "tensor"])
def test_batches_of_images_are_read(image, kind):
    other = PIL.Image.fromarray(255 - np.array(image))
    batch = {
        "list": [image, other],
        "tuple": (image, np.array(other)),
        "array": np.stack([image, other]),
        "tensor": torch.from_numpy(np.stack([image, other])).movedim(-1, 1),
    }[kind]
    images, given_sizes = PROCESSOR.preprocess(batch, 40, 48)
    assert torch.equal(images[0], load_image_tensor(image))
    assert torch.equal(images[1], load_image_tensor(other))
    assert given_sizes == [(40, 48)] * 2


def test_images_of_several_shapes_need_a_size():
    batch = [PIL.Image.new("RGB", (64, 32)), PIL.Image.new("RGB", (32, 64))]
    with pytest.raises(ValueError, match=r"theirs would be \[\(24, 48\), \(48, 24\)\]: give `height` and `width`"):
        PROCESSOR.preprocess(batch)
    assert PROCESSOR.preprocess(batch, 32, 32)[0].shape == (2, 3, 32, 32)


@pytest.mark.parametrize(
    "name, size, nearest", [("height", 30, 32), ("height", 0, 8), ("width", -8, 8), ("width", 3, 8)]
)
def test_size_that_is_not_a_multiple_is_refused_with_the_nearest_one(image, name, size, nearest):
    with pytest.raises(ValueError, match=f"`{name}` is {size}, but .* multiple of 8: {nearest} is the nearest"):
        PROCESSOR.preprocess(image, **{name: size})


def test_empty_list_of_images_is_refused():
    with pytest.raises(ValueError, match="`image` is an empty list"):
        PROCESSOR.preprocess([])


# Output


def test_frames_are_converted_to_every_output_type():
    frames = torch.rand(2, 3, 3, 4, 5, generator=torch.Generator().manual_seed(0))  # two videos of three frames
    assert ImageProcessor.postprocess(frames, "pt") is frames
    arrays = ImageProcessor.postprocess(frames, "np")
    assert arrays.shape == (2, 3, 4, 5, 3) and arrays.dtype == np.float32
    assert np.array_equal(arrays, frames.permute(0, 1, 3, 4, 2).numpy())
    videos = ImageProcessor.postprocess(frames, "pil")
    assert [len(video) for video in videos] == [3, 3]
    assert all(isinstance(frame, PIL.Image.Image) and frame.size == (5, 4) for video in videos for frame in video)
    pixels = np.array([[np.array(frame) for frame in video] for video in videos])
    assert np.array_equal(pixels, (arrays * 255).round().astype(np.uint8))
