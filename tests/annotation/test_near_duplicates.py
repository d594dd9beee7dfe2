import numpy as np
import pytest
from PIL import Image

from mcdiff_pipeline.annotation.near_duplicates import (
    FINGERPRINT_LENGTH,
    MAX_RELATIVE_DISTANCE,
    fingerprint,
    without_near_duplicates,
)


def scene(seed: int) -> np.ndarray:
    """float `[96, 96, 3]`: smooth colors that depend on the seed."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC), dtype=float)


def clip_of(background: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Five frames of a bright square that moves over the background from column `start` to column `stop`."""
    frames = []
    for left in np.linspace(start, stop, 5).astype(int):
        frame = background.copy()
        frame[36:60, left : left + 16] = 250
        frames.append(frame)
    return np.stack(frames).astype(np.uint8)


def encoded_again(frames: np.ndarray, size: int, quality: int) -> np.ndarray:
    again = []
    for frame in frames:
        copy = Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR).quantize(quality).convert("RGB")
        again.append(np.asarray(copy.resize((96, 96), Image.Resampling.BILINEAR)))
    return np.stack(again)


def kept(*clips: np.ndarray) -> list[bool]:
    return without_near_duplicates(np.stack([fingerprint(clip) for clip in clips])).tolist()


@pytest.mark.parametrize("size, quality", [(96, 64), (64, 64), (48, 128)])
def test_copy_of_lower_quality_is_dropped_and_first_clip_stays(size, quality):
    clips = [clip_of(scene(seed), 8, 40) for seed in range(3)]
    copies = [encoded_again(clip, size, quality) for clip in clips]
    assert kept(*clips, *copies) == [True] * 3 + [False] * 3
    assert kept(*copies, *clips) == [True] * 3 + [False] * 3


def test_consecutive_clips_of_a_static_camera_are_kept():
    background = scene(0)
    assert kept(*(clip_of(background, start, start + 16) for start in (0, 16, 32, 48, 64))) == [True] * 5


def test_opposite_motions_are_two_clips():
    background = scene(0)
    assert kept(clip_of(background, 10, 40), clip_of(background, 40, 10)) == [True, True]


def test_crop_shifted_by_a_few_pixels_is_a_copy():
    clip = clip_of(scene(0), 8, 40)
    assert kept(clip, np.roll(clip, 2, axis=2)) == [True, False]


def test_without_motion_only_exact_copies_are_dropped():
    still = clip_of(scene(0), 8, 8)
    other = still.copy()
    other[:, :24, :24] ^= 8
    assert kept(still, other, still.copy()) == [True, True, False]


def test_decision_changes_at_the_stated_distance():
    clip = np.zeros((2, 64), dtype=np.int8)
    clip[0] = -100  # the brightness rises by 100 levels
    limit = round(100 * MAX_RELATIVE_DISTANCE)
    for difference, stays in ((limit, False), (limit + 1, True)):
        pair = np.stack([clip, clip + np.int8(difference)]).reshape(2, -1)
        assert without_near_duplicates(pair).tolist() == [True, stays]


def test_decisions_are_exact_at_the_limits_of_the_range():
    darkest = np.full(FINGERPRINT_LENGTH, -128, dtype=np.int8)
    nearly = darkest.copy()
    nearly[0] = -127
    assert without_near_duplicates(np.stack([darkest, nearly, darkest, nearly])).tolist() == [True, True, False, False]


def test_duplicates_are_found_across_batches():
    rng = np.random.default_rng(0)
    clips = rng.integers(-128, 128, (600, FINGERPRINT_LENGTH), dtype=np.int8)
    decisions = without_near_duplicates(np.concatenate([clips, clips[::-1]]))
    assert decisions.tolist() == [True] * 600 + [False] * 600


def test_no_clips_give_no_decisions():
    assert without_near_duplicates(np.empty((0, FINGERPRINT_LENGTH), dtype=np.int8)).shape == (0,)
