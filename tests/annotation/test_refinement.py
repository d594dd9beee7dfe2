import numpy as np
import pytest

from mcdiff_pipeline.annotation.people import Person
from mcdiff_pipeline.annotation.refinement import PARTS, label_parts, refine_flow
from mcdiff_pipeline.dataset.keypoints import COCO_KEYPOINTS


HEIGHT, WIDTH = 160, 120
# A person who stands upright with arms spread, in pixels.
POSE = {
    "nose": (60, 24),
    "left_eye": (63, 21),
    "right_eye": (57, 21),
    "left_ear": (67, 23),
    "right_ear": (53, 23),
    "left_shoulder": (72, 40),
    "right_shoulder": (48, 40),
    "left_elbow": (90, 46),
    "right_elbow": (30, 46),
    "left_wrist": (108, 52),
    "right_wrist": (12, 52),
    "left_hip": (68, 80),
    "right_hip": (52, 80),
    "left_knee": (68, 110),
    "right_knee": (52, 110),
    "left_ankle": (68, 140),
    "right_ankle": (52, 140),
}


def person(moved: dict[str, tuple[float, float]] | None = None, hidden: tuple[str, ...] = ()) -> Person:
    """The person of `POSE`, with some keypoints displaced; the mask covers the whole image."""
    keypoints = np.array([(*POSE[name], 1.0) for name in COCO_KEYPOINTS], dtype=np.float32)
    for name, displacement in (moved or {}).items():
        keypoints[COCO_KEYPOINTS.index(name), :2] += displacement
    for name in hidden:
        keypoints[COCO_KEYPOINTS.index(name), 2] = 0.1
    return Person(keypoints=keypoints, mask=np.ones((HEIGHT, WIDTH), dtype=np.float32))


GRAY = np.full((2, HEIGHT, WIDTH, 3), 128, dtype=np.uint8)


def refined(
    first: Person,
    second: Person,
    confidence: float | np.ndarray = 0.0,
    flow: np.ndarray | None = None,
    frames: np.ndarray = GRAY,
):
    flow = np.zeros((2, HEIGHT, WIDTH), dtype=np.float32) if flow is None else flow
    confidence = np.broadcast_to(np.float32(confidence), (HEIGHT, WIDTH))
    return refine_flow(frames, flow, confidence, [(first, second)])


def test_displacement_along_a_limb_is_interpolated_between_its_joints():
    flow, weight = refined(person(), person({"left_wrist": (6, -12)}))
    np.testing.assert_allclose(flow[:, 46, 90], (0, 0), atol=0.5)  # elbow
    np.testing.assert_allclose(flow[:, 49, 99], (3, -6), atol=0.4)  # middle of the lower arm
    np.testing.assert_allclose(flow[:, 51, 107], (6, -12), atol=0.8)  # wrist
    assert weight[49, 99] == 1


def test_turning_limb_does_not_change_other_parts():
    flow, _ = refined(person(), person({"left_wrist": (6, -12)}))
    assert np.abs(flow[:, :, :80]).max() == 0
    assert np.abs(flow[:, 100:]).max() == 0


def test_torso_moves_by_affine_map_of_its_corners():
    turned = {
        name: (0.1 * (POSE[name][1] - 60), -0.1 * (POSE[name][0] - 60))
        for name in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
    }
    flow, _ = refined(person(), person(turned))
    np.testing.assert_allclose(flow[:, 65, 60], (0.1 * 5.5, -0.1 * 0.5), atol=1e-4)
    np.testing.assert_allclose(flow[:, 50, 55], (0.1 * -9.5, 0.1 * 4.5), atol=1e-4)


def test_head_moves_by_mean_of_its_keypoints():
    face = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
    flow, _ = refined(person(), person({name: (4, k) for k, name in enumerate(face)}))
    np.testing.assert_allclose(flow[:, 22, 60], (4, 2), atol=1e-5)


def test_part_with_consistent_dense_flow_keeps_it():
    dense = np.full((2, HEIGHT, WIDTH), 7.0, dtype=np.float32)
    flow, weight = refined(person(), person({"left_wrist": (6, -12)}), confidence=0.9, flow=dense)
    np.testing.assert_array_equal(flow, dense)
    assert weight.max() == 0


def test_consistent_pixels_of_an_inconsistent_part_keep_dense_flow():
    confidence = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
    confidence[:, 95:98] = 0.9  # a sixth of the lower arm
    flow, weight = refined(person(), person({"left_wrist": (6, -12)}), confidence=confidence)
    assert weight[:, 95:98].max() == 0 and np.abs(flow[:, :, 95:98]).max() == 0
    assert weight[50, 102] == 1


def test_part_whose_keypoint_flow_leads_to_other_colors_keeps_dense_flow():
    frames = np.random.default_rng(0).integers(0, 256, size=(1, HEIGHT, WIDTH, 3)).astype(np.uint8).repeat(2, axis=0)
    moved = person({"left_wrist": (6, -12), "right_wrist": (0, 9)})
    frames[1, :, : WIDTH // 2] = 128  # the content of the left half is gone, so no flow fits it
    flow, _ = refined(person(), moved, frames=frames)
    assert np.abs(flow[:, :, 80:]).max() == 0  # zero dense flow is correct there
    np.testing.assert_allclose(flow[:, 51, 13], (0, 9), atol=1)


def test_keypoint_flow_fades_out_near_the_rim_of_a_part():
    _, weight = refined(person(), person({"left_wrist": (0, -9)}))
    across = weight[49:70, 99]
    assert across[0] == 1 and across[-1] == 0
    assert (np.diff(across) <= 0).all() and ((across > 0.1) & (across < 0.9)).any()


def test_pixels_outside_the_mask_keep_dense_flow():
    first = person()
    first.mask[:, :100] = 0
    flow, weight = refined(first, person({"left_wrist": (6, -12)}))
    assert weight[:, :100].max() == 0 and np.abs(flow[:, :, :100]).max() == 0
    assert weight[:, 100:].max() > 0


@pytest.mark.parametrize("frame", [0, 1])
def test_joint_not_visible_in_both_frames_moves_nothing(frame):
    pair = [person(), person({"left_wrist": (6, -12)})]
    pair[frame] = person({"left_wrist": (6, -12)} if frame else None, hidden=("left_wrist",))
    flow, _ = refined(*pair)
    assert np.abs(flow).max() == 0


def test_joints_that_may_be_swapped_move_nothing():
    left, right = POSE["left_wrist"], POSE["right_wrist"]
    swap = {"left_wrist": (right[0] - left[0], 0), "right_wrist": (left[0] - right[0], 0), "left_knee": (0, 5)}
    flow, weight = refined(person(), person(swap))
    assert weight[49, 99] == 0 and np.abs(flow[:, :60]).max() == 0
    np.testing.assert_allclose(flow[:, 110, 68], (0, 5), atol=0.5)


def test_two_people_move_independently():
    left, right = person(), person()
    for someone, shift in ((left, -30), (right, 30)):
        someone.keypoints[:, 0] = someone.keypoints[:, 0] / 2 + 30 + shift
        someone.mask[:, WIDTH // 2 :] = shift > 0
        someone.mask[:, : WIDTH // 2] = shift < 0
    moved = []
    for someone, displacement in ((left, (3, 0)), (right, (0, -5))):
        keypoints = someone.keypoints.copy()
        keypoints[:, :2] += displacement
        moved.append(Person(keypoints, someone.mask))
    flow = np.zeros((2, HEIGHT, WIDTH), dtype=np.float32)
    doubt = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
    refined_flow, _ = refine_flow(GRAY, flow, doubt, [(left, moved[0]), (right, moved[1])])
    np.testing.assert_allclose(refined_flow[:, 60, 30], (3, 0), atol=1e-5)
    np.testing.assert_allclose(refined_flow[:, 60, 90], (0, -5), atol=1e-5)


def test_without_people_flow_is_unchanged():
    flow = np.random.default_rng(0).normal(size=(2, HEIGHT, WIDTH)).astype(np.float32)
    result, weight = refine_flow(GRAY, flow, np.zeros((HEIGHT, WIDTH), dtype=np.float32), [])
    np.testing.assert_array_equal(result, flow)
    assert weight.max() == 0


def test_visible_face_alone_moves_only_the_head():
    body = tuple(name for name in COCO_KEYPOINTS[5:])
    flow, weight = refined(person(hidden=body), person({name: (3, 1) for name in COCO_KEYPOINTS[:5]}, hidden=body))
    np.testing.assert_allclose(flow[:, 22, 60], (3, 1), atol=1e-5)
    assert weight[60:].max() == 0


def test_pixels_belong_to_the_part_at_their_position():
    labels = label_parts(person())
    for name, (x, y) in {
        "left upper arm": (81, 43),
        "right lower arm": (21, 49),
        "left thigh": (68, 97),
        "right shin": (52, 125),
        "torso": (60, 60),
        "head": (60, 22),
    }.items():
        assert PARTS[labels[y, x]] == name
    assert labels[0, 0] == labels[100, 5] == -1


def test_frames_of_another_size_are_rejected():
    with pytest.raises(ValueError, match="mask 0 has 160 x 120 pixels, but the flow has 8 x 8; compute all of them"):
        refine_flow(GRAY[:, :8, :8], np.zeros((2, 8, 8), np.float32), np.zeros((8, 8), np.float32), [(person(),) * 2])
