import numpy as np
import pytest

from mcdiff_pipeline.dataset import Clip
from mcdiff_pipeline.evaluation.handles import draw_handles, follow_points


SIZE, NUM_FRAMES = 32, 5


def sliding_square(speed: float = 3.0, num_frames: int = NUM_FRAMES) -> Clip:
    """A square of 8 x 8 pixels that slides right over a still ground, with two visible keypoints and a hidden one."""
    frames = np.zeros((num_frames, SIZE, SIZE, 3), np.uint8)
    masks = np.zeros((num_frames, SIZE, SIZE), np.uint8)
    flow = np.zeros((num_frames - 1, 2, SIZE, SIZE), np.float32)
    keypoints = np.zeros((num_frames, 1, 3, 3), np.float32)
    for t in range(num_frames):
        left = 4 + round(speed * t)
        masks[t, 8:16, left : left + 8] = 1
        frames[t][masks[t] > 0] = 200
        keypoints[t, 0] = [[left + 4, 12, 2], [left + 6, 14, 2], [left + 2, 10, 1]]
        if t < num_frames - 1:
            flow[t, 0][masks[t] > 0] = speed
    return Clip("square", frames, flow, np.zeros((num_frames - 1, SIZE, SIZE), bool), masks, keypoints)


def test_point_moves_by_the_flow_of_its_pixel():
    (track,) = follow_points(sliding_square(), np.array([[8.5, 12.5]]))
    np.testing.assert_allclose(track, [[8.5 + 3 * t, 12.5] for t in range(NUM_FRAMES)])


def test_track_ends_where_the_point_is_occluded():
    clip = sliding_square()
    clip.occlusion[1, :, :] = True
    (track,) = follow_points(clip, np.array([[8.5, 12.5]]))
    assert len(track) == 2


def test_track_ends_where_the_point_leaves_the_image():
    (track,) = follow_points(sliding_square(speed=6, num_frames=4), np.array([[11.5, 12.5]]))
    np.testing.assert_allclose(track[:, 0], [11.5, 17.5, 23.5, 29.5])
    (track,) = follow_points(sliding_square(speed=8, num_frames=4), np.array([[11.5, 12.5]]))
    np.testing.assert_allclose(track[:, 0], [11.5, 19.5, 27.5])


def test_track_ends_where_rounding_moves_the_point_to_another_mask():
    clip = sliding_square()
    clip.masks[2] = 0
    (track,) = follow_points(clip, np.array([[8.5, 12.5]]))
    assert len(track) == 2


def test_handles_start_at_visible_keypoints_and_their_strokes_follow_the_true_flow():
    handles = draw_handles(sliding_square(), 9, np.random.default_rng(0))
    assert sorted(handle.track[0].tolist() for handle in handles) == [[8, 12], [10, 14]]
    stroke = handles[0].stroke()
    x, y = handles[0].track[0]
    assert stroke.at(2) == (x + 6, y)
    assert stroke.displacement(2) == (3, 0)


def test_still_keypoint_is_not_a_handle():
    clip = sliding_square()
    clip.keypoints[:, 0, 1, :2] = [2, 2]
    clip.masks[:, :4, :4] = 1
    handles = draw_handles(clip, 9, np.random.default_rng(0))
    assert [handle.track[0].tolist() for handle in handles] == [[8, 12]]


def test_smaller_draw_is_the_start_of_a_larger_one():
    many = draw_handles(sliding_square(), 6, np.random.default_rng(3), anywhere=True)
    few = draw_handles(sliding_square(), 2, np.random.default_rng(3), anywhere=True)
    assert [handle.track.tolist() for handle in few] == [handle.track.tolist() for handle in many[:2]]


def test_handles_anywhere_start_at_moving_pixels():
    clip = sliding_square()
    for handle in draw_handles(clip, 20, np.random.default_rng(1), anywhere=True):
        column, row = handle.track[0].astype(int)
        assert clip.masks[0, row, column] == 1


@pytest.mark.parametrize("anywhere", [False, True])
def test_probability_of_a_handle_grows_with_its_reach(anywhere):
    clip = sliding_square(num_frames=2)
    # The lower half of the square moves only a third as far.
    clip.flow[:, :, 12:] /= 3
    clip.masks[1, 12:16, 4:15] = 1
    clip.keypoints[:, 0, 0, 1] = 9
    upper = 0
    for seed in range(300):
        (handle,) = draw_handles(clip, 1, np.random.default_rng(seed), anywhere=anywhere)
        upper += handle.track[0, 1] < 12
    assert 0.67 < upper / 300 < 0.83
