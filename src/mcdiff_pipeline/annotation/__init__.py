"""Annotation of plain video: clips with optical flow, occlusion, masks and keypoints of people."""
