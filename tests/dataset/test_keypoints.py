from mcdiff_pipeline.dataset.keypoints import COCO_KEYPOINTS, HEAD, LIMBS, SKELETON, TORSO


def test_keypoints_have_names_and_order_of_coco():
    assert len(COCO_KEYPOINTS) == 17 and len(LIMBS) == 8
    names = [{COCO_KEYPOINTS[start], COCO_KEYPOINTS[end]} for start, end in LIMBS]
    assert {"left_shoulder", "left_elbow"} in names and {"right_knee", "right_ankle"} in names
    assert all(len({name.partition("_")[0] for name in limb}) == 1 for limb in names)  # left or right only
    assert [COCO_KEYPOINTS[corner] for corner in TORSO] == ["left_shoulder", "right_shoulder", "right_hip", "left_hip"]
    assert {part for line in SKELETON for part in line} | set(HEAD) == set(range(17))
