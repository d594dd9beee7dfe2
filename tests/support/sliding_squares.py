"""Small clips with exact flow: a textured square that slides over a still, textured background."""

from pathlib import Path

import numpy as np

from mcdiff_pipeline.dataset import Clip, ShardWriter


def sliding_square(number: int = 0, *, size: int = 32, num_frames: int = 4, keypoints: bool = True) -> Clip:
    """A square of 12 x 12 pixels that moves 2 + `number` pixels to the right per frame. Three of the keypoints of COCO
    are on it."""
    rng = np.random.default_rng(number)
    background, square = (np.kron(rng.integers(40, 215, (n, n, 3)), np.ones((4, 4, 1))) for n in (size // 4, 3))
    frames = np.repeat(background[None], num_frames, axis=0).astype(np.uint8)
    masks = np.zeros((num_frames, size, size), np.uint8)
    flow = np.zeros((num_frames - 1, 2, size, size), np.float32)
    points = np.zeros((num_frames, 1, 17 if keypoints else 0, 3), np.float32)
    for t in range(num_frames):
        left = 4 + (2 + number) * t
        masks[t, 8:20, left : left + 12] = 1
        frames[t, 8:20, left : left + 12] = square
        if keypoints:
            points[t, 0, :3] = [[left + 2.5, 10.5, 2], [left + 9.5, 12.5, 2], [left + 6.5, 17.5, 2]]
        if t < num_frames - 1:
            flow[t, 0][masks[t] > 0] = 2 + number
    return Clip(f"square_{number}", frames, flow, np.zeros(flow[:, 0].shape, bool), masks, points)


def write_squares(folder: Path, numbers: range, split: str = "test", **keywords) -> Path:
    """Writes shards of these clips; returns the folder."""
    with ShardWriter(folder, split, clips_per_shard=2) as writer:
        for number in numbers:
            writer.write(sliding_square(number, **keywords))
    return folder
