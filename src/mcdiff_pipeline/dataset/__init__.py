"""Clips for training and evaluation: their format, shards of them, and sparse flow sampled from dense flow."""

from .clips import Clip
from .sampling import keypoint_strokes, rasterize_points, sample_strokes
from .shards import ClipDataset, ShardWriter


__all__ = ["Clip", "ClipDataset", "ShardWriter", "keypoint_strokes", "rasterize_points", "sample_strokes"]
