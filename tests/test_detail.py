# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Frames with the detail of the start picture, at a size of their own."""

import ctypes
import gc
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mcdiff_pipeline.detail import DetailRenderer
from mcdiff_pipeline.layer_colors import separate_colors


WORKING = (32, 48)
SIZES = [(32, 48), (128, 192), (97, 150), (300, 90), (20, 30)]


def random_picture(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def smooth_picture(height, width, seed=0):
    """A picture without fine detail: colors that change over about a tenth of its sides."""
    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)[0]


def renderer_of(picture, reconstruction, shares=None):
    """A renderer of a picture with an autoencoder that gives this reconstruction of it."""
    shown = picture.float() / (255 if picture.dtype == torch.uint8 else 1)
    start = F.interpolate(shown[None], tuple(reconstruction.shape[1:]), mode="area")[0]
    return DetailRenderer(picture, start, reconstruction, shares)


def still(layers=1, size=WORKING):
    """Backward flow of layers that do not move, and how far it is known."""
    return torch.zeros(layers, 2, *size), torch.ones(layers, *size)


def in_8_bits(image):
    return (255 * image).round()


def left_half(soft=False):
    """Shares of two layers: layer 1 is the left half of the picture."""
    share = torch.zeros(2, *WORKING)
    share[1, :, :24] = 1
    if soft:
        share[1, :, 22:26] = torch.tensor([0.8, 0.6, 0.4, 0.2])
    share[0] = 1 - share[1]
    return share


class TestOneLayer:
    @pytest.mark.parametrize("size", SIZES)
    def test_without_motion_and_change_the_picture_comes_back(self, size):
        picture, reconstruction = random_picture(*size), torch.rand(3, *WORKING)
        frame = renderer_of(picture, reconstruction).render(reconstruction, *still())
        assert torch.equal(in_8_bits(frame), picture.float())

    def test_translation_by_whole_pixels_moves_the_pixels(self):
        columns = random_picture(128, 96)
        picture = torch.stack([columns, 255 - columns], dim=-1).flatten(2)  # gray at the working size
        reconstruction = torch.full((3, *WORKING), 0.5)
        backward, known = still()
        backward[:, 0], backward[:, 1] = -2.0, 1.0  # 8 pixels to the right and 4 up at four times the working size
        frame = renderer_of(picture, reconstruction).render(reconstruction, backward, known)
        assert torch.equal(in_8_bits(frame)[:, :-4, 8:], picture[:, 4:, :-8].float())

    def test_where_the_model_changed_nothing_the_decoded_frame_does_not_count(self):
        picture, reconstruction = random_picture(128, 192), torch.rand(3, *WORKING)
        unchanged = torch.zeros(1, *WORKING)
        unchanged[:, :, :24] = 1
        renderer, decoded = renderer_of(picture, reconstruction), torch.rand(3, *WORKING)
        frame = renderer.render(decoded, *still(), unchanged=unchanged)
        assert torch.equal(in_8_bits(frame)[:, :, :80], picture[:, :, :80].float())
        torch.testing.assert_close(frame[:, :, 112:], renderer.render(decoded, *still())[:, :, 112:])

    def test_unknown_pixels_show_the_decoded_frame(self):
        picture, reconstruction = random_picture(128, 192), torch.rand(3, *WORKING)
        decoded = smooth_picture(*WORKING)
        backward, _ = still()
        frame = renderer_of(picture, reconstruction).render(decoded, backward, torch.zeros(1, *WORKING))
        expected = F.interpolate(decoded[None], (128, 192), mode="bicubic", align_corners=False)[0].clamp(0, 1)
        torch.testing.assert_close(frame, expected)

    def test_a_pixel_known_in_part_is_a_mixture(self):
        reconstruction = torch.full((3, *WORKING), 0.5)
        picture = torch.full((3, 64, 96), 0.7)
        frame = renderer_of(picture, reconstruction).render(
            reconstruction, still()[0], torch.full((1, *WORKING), 0.25)
        )
        torch.testing.assert_close(frame, torch.full((3, 64, 96), 0.55))

    def test_half_precision_is_computed_in_float32(self):
        picture, reconstruction = random_picture(64, 96), torch.rand(3, *WORKING).half()
        backward, known = still()
        frame = renderer_of(picture, reconstruction).render(reconstruction, backward.half(), known.half())
        assert frame.dtype == torch.float32
        assert torch.equal(in_8_bits(frame), picture.float())

    def test_frames_stay_in_range(self):
        picture = (random_picture(64, 96) > 127).to(torch.uint8) * 255
        backward, known = still()
        frame = renderer_of(picture, torch.rand(3, *WORKING)).render(torch.rand(3, *WORKING), backward - 0.3, known)
        assert 0 <= frame.min() and frame.max() <= 1


class TestLayers:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("soft", [False, True])
    def test_without_motion_the_picture_comes_back(self, size, soft):
        picture, reconstruction = smooth_picture(*size), smooth_picture(*WORKING, seed=1)
        renderer = renderer_of(in_8_bits(picture).to(torch.uint8), reconstruction, left_half(soft))
        frame = renderer.render(reconstruction, *still(2))
        assert (in_8_bits(frame) - in_8_bits(picture)).abs().max() <= 1

    def test_the_layer_in_front_hides_the_other(self):
        picture = torch.zeros(3, 64, 96)
        picture[0, :, 32:64] = 1  # a red block in the middle, layer 1
        picture[1, :, 64:] = 1  # a green block on the right, layer 2
        shares = torch.zeros(3, 64, 96)
        shares[1, :, 32:64], shares[2, :, 64:], shares[0, :, :32] = 1, 1, 1
        reconstruction = F.interpolate(picture[None], WORKING, mode="area")[0]
        renderer = renderer_of(picture, reconstruction, shares)
        backward, known = still(3)
        backward[1, 0] = -16.0  # red moves onto green
        ends = []
        for order in ([1, 2, 0], [2, 1, 0]):
            decoded, *_ = renderer._at_working_size(backward, known, order)
            ends.append(renderer.render(decoded, backward, known, order)[:, 32, 80].tolist())
        assert ends[0] == pytest.approx([1, 0, 0], abs=0.02)
        assert ends[1] == pytest.approx([0, 1, 0], abs=0.02)

    def test_what_a_layer_uncovers_shows_the_decoded_frame(self):
        picture = torch.zeros(3, 64, 96)
        picture[0, :, :48] = 1
        reconstruction = F.interpolate(picture[None], WORKING, mode="area")[0]
        renderer = renderer_of(picture, reconstruction, left_half())
        backward, known = still(2)
        backward[1, 0] = 24.0  # layer 1 leaves to the left
        decoded = torch.full((3, *WORKING), 0.3)
        frame = renderer.render(decoded, backward, known)
        torch.testing.assert_close(frame[:, :, 8:32], torch.full((3, 64, 24), 0.3))

    def test_a_still_layer_keeps_its_pixels_where_another_moves(self):
        picture, reconstruction = random_picture(64, 96), torch.full((3, *WORKING), 0.5)
        renderer = renderer_of(picture, reconstruction, left_half())
        backward, known = still(2)
        backward[1, 0] = 6.0
        frame = renderer.render(reconstruction, backward, known)
        assert torch.equal(in_8_bits(frame)[:, :, 56:], picture[:, :, 56:].float())

    def test_no_line_stays_where_a_mask_was_larger_than_its_thing(self):
        picture = torch.tensor([0.6, 0.7, 0.9])[:, None, None].repeat(1, 64, 96)
        background = picture.clone()
        picture[:, 20:44, 20:44] = torch.tensor([0.8, 0.2, 0.1])[:, None, None]
        shares = torch.zeros(2, 64, 96)
        shares[1, 19:45, 19:45] = 0.5  # an outline beside the thing
        shares[1, 20:44, 20:44] = 1
        shares[0] = 1 - shares[1]
        reconstruction = F.interpolate(picture[None], WORKING, mode="area")[0]
        renderer = renderer_of(picture, reconstruction, shares)
        plates = renderer._plates
        seen = plates[0].colors.float() / (255 if plates[0].colors.dtype == torch.uint8 else 1)
        outline = shares[1] == 0.5
        assert (seen - background)[:, outline].abs().max() < 0.06
        share = plates[1].share.float() / 255
        inside = outline[
            plates[1].top : plates[1].top + share.shape[1], plates[1].left : plates[1].left + share.shape[2]
        ]
        assert share[0][inside].max() < 0.03

    def test_colors_of_layers_make_up_the_picture(self):
        picture, shares = torch.rand(3, *WORKING), left_half(soft=True)
        colors = separate_colors(picture, shares)
        torch.testing.assert_close((shares[:, None] * colors).sum(dim=0), picture, atol=2e-3, rtol=0)

    def test_the_color_behind_a_layer_is_not_that_of_the_layer(self):
        shares = left_half(soft=True)
        red, blue = torch.tensor([1.0, 0, 0]).view(3, 1, 1), torch.tensor([0, 0, 1.0]).view(3, 1, 1)
        colors = separate_colors(shares[1] * red + shares[0] * blue, shares)
        torch.testing.assert_close(colors[0, :, :, :24], blue.expand(3, 32, 24), atol=0.1, rtol=0)


class TestBadInput:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"decoded": torch.zeros(3, 32, 40)}, r"`decoded` has the shape \(3, 32, 40\)"),
            ({"backward": torch.zeros(2, 2, *WORKING)}, r"`backward` .* of 1 layers"),
            ({"known": torch.zeros(1, 1, *WORKING)}, "`known`"),
            ({"order": [1]}, r"`order` is \[1\]"),
        ],
    )
    def test_of_a_frame(self, change, message):
        backward, known = still()
        inputs = {"decoded": torch.zeros(3, *WORKING), "backward": backward, "known": known} | change
        with pytest.raises(ValueError, match=message):
            renderer_of(random_picture(64, 96), torch.zeros(3, *WORKING)).render(**inputs)

    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            (
                (torch.zeros(1, 8, 8), torch.zeros(3, 4, 4), torch.zeros(3, 4, 4)),
                r"`picture` has the shape \(1, 8, 8\)",
            ),
            (
                (torch.zeros(3, 8, 8, dtype=torch.int64), torch.zeros(3, 4, 4), torch.zeros(3, 4, 4)),
                "dtype torch.int64",
            ),
            ((torch.zeros(3, 8, 8), torch.zeros(3, 4, 4), torch.zeros(3, 4, 4), torch.ones(8, 8)), "`shares`"),
            ((torch.zeros(3, 8, 8), torch.zeros(3, 4, 4), torch.zeros(3, 4, 8)), "`start` has the shape"),
        ],
    )
    def test_of_a_picture(self, inputs, message):
        with pytest.raises(ValueError, match=message):
            DetailRenderer(*inputs)


def largest_memory() -> int:
    """The most memory that this process has had since `forget_largest_memory`, in MB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 // 10**6


def forget_largest_memory() -> None:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what other tests have freed would be used again, and not be measured
    Path("/proc/self/clear_refs").write_text("5")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can measure the memory again")
def test_memory_of_a_large_picture_is_bounded():
    """A frame of 4,096 x 1,000 pixels takes little more than the frame itself, 49 MB, and the picture."""
    picture = torch.zeros(3, 4096, 1000, dtype=torch.uint8)
    shares = torch.zeros(2, 256, 64)
    shares[1, 64:128], shares[0] = 1, 1
    shares[0, 64:128] = 0
    backward, known = torch.full((2, 2, 256, 64), 0.7), torch.ones(2, 256, 64)
    colors = torch.zeros(3, 256, 64)
    renderer = DetailRenderer(picture[:, :64, :64], colors, colors, shares)
    renderer.render(colors, backward, known)  # loads what PyTorch loads at first use
    forget_largest_memory()
    before = largest_memory()
    frame = DetailRenderer(picture, colors, colors, shares).render(colors, backward, known)
    added = largest_memory() - before
    assert frame.shape[-2:] == (4096, 1000)
    assert 40 < added < 200  # less than the frame would mean that nothing was measured
