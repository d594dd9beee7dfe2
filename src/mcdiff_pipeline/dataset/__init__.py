"""Training data: the clip format and sampling of sparse flow from dense flow."""

from .clips import Clip, ClipDataset, ShardWriter
from .sampling import keypoint_strokes, rasterize_points, sample_strokes


__all__ = ["Clip", "ClipDataset", "ShardWriter", "keypoint_strokes", "rasterize_points", "sample_strokes"]
