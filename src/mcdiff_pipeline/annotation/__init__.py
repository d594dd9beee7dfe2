"""From video to training data: the dataset format and the sampling of sparse flow from dense flow."""

from .clips import Clip, ClipDataset, ShardWriter
from .sampling import keypoint_strokes, rasterise_points, sample_strokes


__all__ = ["Clip", "ClipDataset", "ShardWriter", "keypoint_strokes", "rasterise_points", "sample_strokes"]
