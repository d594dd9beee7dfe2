# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The 17 body keypoints of COCO, and the limbs between them."""

# fmt: off
COCO_KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)
"""Names in the order of COCO. Left and right are those of the person, not of the image."""
# fmt: on

LIMBS = ((5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16))
"""Pairs of joints at the ends of the upper and lower arms, thighs and shins; left before right."""

TORSO = (5, 6, 12, 11)
"""Corners of the torso, in order around it."""

HEAD = (0, 1, 2, 3, 4)
"""Keypoints of the head."""

SKELETON = (*LIMBS, (5, 6), (6, 12), (12, 11), (11, 5))
"""Lines of a stick figure from the shoulders down: limbs and the outline of the torso."""
