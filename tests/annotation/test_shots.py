from functools import cache

import cv2
import numpy as np
import pytest
from PIL import Image

from mcdiff_pipeline.annotation.shots import number_shots
from support.paths import EXAMPLES


PHOTOGRAPHS = ["astronaut", "balancing", "cat", "coffee", "rocket", "walking"]
HEIGHT, WIDTH = 96, 144


@cache
def photograph(name: str) -> np.ndarray:
    """Gray, uint8 `[300, 300]`."""
    return np.asarray(Image.open(EXAMPLES / f"{name}.jpg").convert("L").resize((300, 300), Image.Resampling.BOX))


def pan(name: str, num_frames: int = 20, speed: int = 2) -> list[np.ndarray]:
    """A camera that pans left and right over a photograph, `speed` pixels per frame."""
    reach = 300 - WIDTH
    starts = [reach - abs(reach - speed * frame % (2 * reach)) for frame in range(num_frames)]
    return [photograph(name)[100 : 100 + HEIGHT, start : start + WIDTH].copy() for start in starts]


def person_at(x: int) -> np.ndarray:
    """A person `x` pixels from the left on a still background."""
    image = photograph("coffee")[:HEIGHT, :WIDTH].copy()
    image[16:, x : x + 50] = photograph("astronaut")[20:100, 100:150]
    return image


def starts_of_shots(images: list[np.ndarray]) -> list[int]:
    shots = [shot for shot, _ in number_shots(images, lambda image: image)]
    assert shots[0] == 0
    assert set(np.diff(shots)) <= {0, 1}
    return [frame for frame in range(1, len(shots)) if shots[frame] != shots[frame - 1]]


class TestCuts:
    def test_cuts_between_photographs_are_found(self):
        images = [image for name in PHOTOGRAPHS for image in pan(name)]
        assert starts_of_shots(images) == [20, 40, 60, 80, 100]

    @pytest.mark.parametrize("num_frames", [1, 2, 5])
    def test_last_shot_may_be_short(self, num_frames):
        assert starts_of_shots(pan("cat") + pan("coffee", num_frames)) == [20]

    def test_grain_and_darkness_do_not_hide_cuts(self):
        rng = np.random.default_rng(0)
        images = [
            np.clip(0.35 * image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
            for name in PHOTOGRAPHS
            for image in pan(name)
        ]
        assert starts_of_shots(images) == [20, 40, 60, 80, 100]

    def test_black_bars_do_not_hide_cuts(self):
        images = [image for name in PHOTOGRAPHS for image in pan(name)]
        for image in images:
            image[:, :40] = image[:, -40:] = 16
        assert starts_of_shots(images) == [20, 40, 60, 80, 100]

    def test_cut_with_a_mixed_frame_is_one_cut(self):
        before, after = pan("cat"), pan("walking")
        mixture = ((before[-1].astype(int) + after[0]) // 2).astype(np.uint8)
        assert len(starts_of_shots([*before, mixture, *after])) == 1

    @pytest.mark.parametrize("with_mixture", [False, True])
    def test_jump_within_a_scene_is_found_where_little_moves(self, with_mixture):
        scene, other_take = person_at(10), person_at(80)
        mixture = [((scene.astype(int) + other_take) // 2).astype(np.uint8)] if with_mixture else []
        assert starts_of_shots([scene] * 15 + mixture + [other_take] * 10) == [15]

    def test_fade_through_black_is_a_boundary(self):
        brightness = [*np.linspace(1, 0, 12), *[0] * 6, *np.linspace(0, 1, 12)]
        images = [
            (image * factor).astype(np.uint8)
            for image, factor in zip(pan("cat", 15) + pan("rocket", 15), brightness, strict=True)
        ]
        assert len(starts_of_shots(images)) == 1

    def test_change_of_size_is_a_boundary(self):
        images = pan("cat")
        assert starts_of_shots(images + [image[:, :100].copy() for image in images]) == [20]


class TestNoCuts:
    @pytest.mark.parametrize("name", PHOTOGRAPHS)
    @pytest.mark.parametrize("speed", [0, 1, 5, 15, 40])
    def test_pan_up_to_a_quarter_of_the_image_per_frame_is_not_a_cut(self, name, speed):
        assert starts_of_shots(pan(name, 40, speed)) == []

    @pytest.mark.parametrize("name", PHOTOGRAPHS)
    def test_fast_zoom_is_not_a_cut(self, name):
        images = [
            cv2.resize(
                photograph(name)[edge : 300 - edge, edge : 300 - edge], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA
            )
            for edge in range(0, 100, 6)
        ]
        assert starts_of_shots(images) == []

    @pytest.mark.parametrize("name", PHOTOGRAPHS)
    def test_shaking_camera_is_not_a_cut(self, name):
        places = np.random.default_rng(0).integers(60, 100, (40, 2))
        image = photograph(name)
        assert starts_of_shots([image[y : y + HEIGHT, x : x + WIDTH].copy() for x, y in places]) == []

    @pytest.mark.parametrize("num_frames", [1, 2, 3])
    @pytest.mark.parametrize("name", PHOTOGRAPHS)
    def test_flash_is_not_a_cut(self, name, num_frames):
        images = pan(name, 30)
        for frame in range(12, 12 + num_frames):
            images[frame] = np.clip(0.3 * images[frame] + 200, 0, 255).astype(np.uint8)
        assert starts_of_shots(images) == []

    @pytest.mark.parametrize("factor", [0.4, 0.7, 1.5])
    def test_switched_light_is_not_a_cut(self, factor):
        images = pan("coffee", 30)
        images[15:] = [np.clip(factor * image, 0, 255).astype(np.uint8) for image in images[15:]]
        assert starts_of_shots(images) == []

    def test_images_repeated_for_some_frames_are_not_cuts(self):
        images = [person_at(8 * step) for step in range(12) for _ in range(6)]
        assert starts_of_shots(images) == []

    def test_blank_wall_with_grain_is_not_a_cut(self):
        rng = np.random.default_rng(0)
        images = [np.clip(rng.normal(120, 3, (HEIGHT, WIDTH)), 0, 255).astype(np.uint8) for _ in range(30)]
        assert starts_of_shots(images) == []


class TestStreaming:
    def test_all_frames_are_returned_in_order_with_their_shot(self):
        images = pan("cat", 10) + pan("rocket", 10)
        numbered = list(number_shots(range(20), lambda frame: images[frame]))
        assert numbered == [(0, frame) for frame in range(10)] + [(1, frame) for frame in range(10, 20)]

    def test_three_frames_are_read_ahead(self):
        images = pan("cat", 20)
        read = []

        def frames():
            for frame in range(20):
                read.append(frame)
                yield frame

        for _, frame in number_shots(frames(), lambda frame: images[frame]):
            assert len(read) <= frame + 4

    def test_no_frames_have_no_shots(self):
        assert list(number_shots([], lambda frame: frame)) == []

    @pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2)])
    def test_images_of_any_size_are_numbered(self, size):
        rng = np.random.default_rng(0)
        images = [rng.integers(0, 256, size, dtype=np.uint8) for _ in range(12)]
        assert len(list(number_shots(images, lambda image: image))) == 12
