from functools import cache

import cv2
import numpy as np
import pytest
from PIL import Image
from support.paths import EXAMPLES

from mcdiff_pipeline.annotation.shots import number_shots


PHOTOGRAPHS = ["astronaut", "balancing", "cat", "coffee", "rocket", "walking"]
HEIGHT, WIDTH = 96, 144


@cache
def photograph(name: str) -> np.ndarray:
    """Gray, uint8 `[300, 300]`."""
    return np.asarray(Image.open(EXAMPLES / f"{name}.jpg").convert("L").resize((300, 300), Image.Resampling.BOX))


def pan(name: str, num_frames: int = 20, speed: int = 2) -> list[np.ndarray]:
    """A camera that goes to and fro, `speed` pixels a frame, over a photograph."""
    reach = 300 - WIDTH
    starts = [reach - abs(reach - speed * frame % (2 * reach)) for frame in range(num_frames)]
    return [photograph(name)[100 : 100 + HEIGHT, start : start + WIDTH].copy() for start in starts]


def person_at(x: int) -> np.ndarray:
    """Somebody `x` pixels from the left before a still background."""
    picture = photograph("coffee")[:HEIGHT, :WIDTH].copy()
    picture[16:, x : x + 50] = photograph("astronaut")[20:100, 100:150]
    return picture


def starts_of_shots(pictures: list[np.ndarray]) -> list[int]:
    shots = [shot for shot, _ in number_shots(pictures, lambda picture: picture)]
    assert shots[0] == 0
    assert set(np.diff(shots)) <= {0, 1}
    return [frame for frame in range(1, len(shots)) if shots[frame] != shots[frame - 1]]


class TestCuts:
    def test_cuts_between_photographs_are_found_where_they_are(self):
        pictures = [picture for name in PHOTOGRAPHS for picture in pan(name)]
        assert starts_of_shots(pictures) == [20, 40, 60, 80, 100]

    @pytest.mark.parametrize("num_frames", [1, 2, 5])
    def test_a_last_shot_may_be_short(self, num_frames):
        assert starts_of_shots(pan("cat") + pan("coffee", num_frames)) == [20]

    def test_grain_and_darkness_hide_no_cut(self):
        rng = np.random.default_rng(0)
        pictures = [
            np.clip(0.35 * picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)
            for name in PHOTOGRAPHS
            for picture in pan(name)
        ]
        assert starts_of_shots(pictures) == [20, 40, 60, 80, 100]

    def test_black_bars_hide_no_cut(self):
        pictures = [picture for name in PHOTOGRAPHS for picture in pan(name)]
        for picture in pictures:
            picture[:, :40] = picture[:, -40:] = 16
        assert starts_of_shots(pictures) == [20, 40, 60, 80, 100]

    def test_a_cut_by_way_of_a_mixed_frame_is_one_cut(self):
        before, after = pan("cat"), pan("walking")
        mixture = ((before[-1].astype(int) + after[0]) // 2).astype(np.uint8)
        assert len(starts_of_shots([*before, mixture, *after])) == 1

    @pytest.mark.parametrize("by_way_of_a_mixture", [False, True])
    def test_a_jump_within_a_scene_is_found_where_little_moves(self, by_way_of_a_mixture):
        scene, other_take = person_at(10), person_at(80)
        mixture = [((scene.astype(int) + other_take) // 2).astype(np.uint8)] if by_way_of_a_mixture else []
        assert starts_of_shots([scene] * 15 + mixture + [other_take] * 10) == [15]

    def test_a_fade_through_black_is_a_boundary(self):
        brightness = [*np.linspace(1, 0, 12), *[0] * 6, *np.linspace(0, 1, 12)]
        pictures = [
            (picture * factor).astype(np.uint8)
            for picture, factor in zip(pan("cat", 15) + pan("rocket", 15), brightness, strict=True)
        ]
        assert len(starts_of_shots(pictures)) == 1

    def test_a_change_of_size_is_a_boundary(self):
        pictures = pan("cat")
        assert starts_of_shots(pictures + [picture[:, :100].copy() for picture in pictures]) == [20]


class TestNoCuts:
    @pytest.mark.parametrize("name", PHOTOGRAPHS)
    @pytest.mark.parametrize("speed", [0, 1, 5, 15, 40])
    def test_pans_up_to_a_quarter_of_the_picture_a_frame(self, name, speed):
        assert starts_of_shots(pan(name, 40, speed)) == []

    @pytest.mark.parametrize("name", PHOTOGRAPHS)
    def test_a_quick_zoom(self, name):
        pictures = [
            cv2.resize(
                photograph(name)[edge : 300 - edge, edge : 300 - edge], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA
            )
            for edge in range(0, 100, 6)
        ]
        assert starts_of_shots(pictures) == []

    @pytest.mark.parametrize("name", PHOTOGRAPHS)
    def test_a_shaking_camera(self, name):
        places = np.random.default_rng(0).integers(60, 100, (40, 2))
        picture = photograph(name)
        assert starts_of_shots([picture[y : y + HEIGHT, x : x + WIDTH].copy() for x, y in places]) == []

    @pytest.mark.parametrize("num_frames", [1, 2, 3])
    @pytest.mark.parametrize("name", PHOTOGRAPHS)
    def test_a_flash(self, name, num_frames):
        pictures = pan(name, 30)
        for frame in range(12, 12 + num_frames):
            pictures[frame] = np.clip(0.3 * pictures[frame] + 200, 0, 255).astype(np.uint8)
        assert starts_of_shots(pictures) == []

    @pytest.mark.parametrize("factor", [0.4, 0.7, 1.5])
    def test_a_light_that_is_switched(self, factor):
        pictures = pan("coffee", 30)
        pictures[15:] = [np.clip(factor * picture, 0, 255).astype(np.uint8) for picture in pictures[15:]]
        assert starts_of_shots(pictures) == []

    def test_pictures_that_are_held_for_some_frames(self):
        pictures = [person_at(8 * step) for step in range(12) for _ in range(6)]
        assert starts_of_shots(pictures) == []

    def test_a_blank_wall_with_grain(self):
        rng = np.random.default_rng(0)
        pictures = [np.clip(rng.normal(120, 3, (HEIGHT, WIDTH)), 0, 255).astype(np.uint8) for _ in range(30)]
        assert starts_of_shots(pictures) == []


class TestStreaming:
    def test_every_frame_comes_back_in_order_with_its_shot(self):
        pictures = pan("cat", 10) + pan("rocket", 10)
        numbered = list(number_shots(range(20), lambda frame: pictures[frame]))
        assert numbered == [(0, frame) for frame in range(10)] + [(1, frame) for frame in range(10, 20)]

    def test_three_frames_are_read_ahead(self):
        pictures = pan("cat", 20)
        read = []

        def frames():
            for frame in range(20):
                read.append(frame)
                yield frame

        for _, frame in number_shots(frames(), lambda frame: pictures[frame]):
            assert len(read) <= frame + 4

    def test_no_frames_have_no_shots(self):
        assert list(number_shots([], lambda frame: frame)) == []

    @pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2)])
    def test_pictures_of_any_size(self, size):
        rng = np.random.default_rng(0)
        pictures = [rng.integers(0, 256, size, dtype=np.uint8) for _ in range(12)]
        assert len(list(number_shots(pictures, lambda picture: picture))) == 12
