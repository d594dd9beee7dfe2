import numpy as np
import pytest

from mcdiff_pipeline.annotation.outcome import DISPLACEMENT_BINS, ClipCounts, VideoOutcome
from mcdiff_pipeline.dataset import Clip


def clip_of(flow: np.ndarray, *, num_people: int = 0, gap: int = 2, crop: tuple[int, int] = (64, 64)) -> Clip:
    """A clip with this flow, `[T - 1, 2, H, W]`, from a crop of this width and height."""
    time, _, height, width = flow.shape
    return Clip(
        "clip",
        frames=np.zeros((time + 1, height, width, 3), np.uint8),
        flow=flow,
        occlusion=np.zeros((time, height, width), bool),
        masks=np.zeros((time + 1, height, width), np.uint8),
        keypoints=np.zeros((time + 1, num_people, 17, 3), np.float32),
        meta={"gap": gap, "crop": [0, 0, *crop]},
    )


def test_clips_are_counted():
    flow = np.zeros((4, 2, 64, 64), np.float32)
    flow[0, 0, 0, 0] = -3
    flow[1, :, 1, 1] = 30, 40
    flow[2, 1, 2, 2] = 1000
    outcome = VideoOutcome("clip.mp4")
    outcome.add(ClipCounts.of(clip_of(flow, num_people=2)))
    outcome.add(ClipCounts.of(clip_of(np.zeros_like(flow))))
    assert outcome.clips == 2 and outcome.enlarged == 0
    assert outcome.people == {"2": 1, "0": 1}
    assert outcome.gaps == {"2": 2}
    pixels = 4 * 64 * 64
    expected = dict.fromkeys(DISPLACEMENT_BINS, 0) | {0.0: 2 * pixels - 3, 2.0: 1, 32.0: 1, 64.0: 1}
    assert outcome.displacements == list(expected.values())


@pytest.mark.parametrize("crop", [(63, 64), (64, 63)])
def test_clips_from_smaller_crops_are_counted_as_enlarged(crop):
    flow = np.zeros((1, 2, 64, 64), np.float32)
    assert ClipCounts.of(clip_of(flow, crop=crop)).enlarged == 1


def test_counts_of_a_clip_can_be_subtracted():
    flow = np.zeros((1, 2, 64, 64), np.float32)
    first, second = (ClipCounts.of(clip_of(flow + gap, gap=gap, num_people=gap)) for gap in (1, 2))
    both, one = VideoOutcome("a.mp4"), VideoOutcome("a.mp4")
    for outcome in (both, one):
        outcome.add(first)
        outcome.drop("static")
    both.add(second)
    both.add(second, sign=-1)
    assert both == one
