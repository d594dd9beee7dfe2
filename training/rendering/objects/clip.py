"""One clip of moving objects over a photograph."""

import zlib
from collections.abc import Sequence

import numpy as np

from mcdiff_pipeline.dataset import Clip
from rendering.clip_shape import FRAME_GAP, frame_size, motion_factor
from rendering.objects.assets import Assets
from rendering.objects.background import Background
from rendering.objects.pieces import random_object
from rendering.objects.scene import Scene
from rendering.occlusion import occlusion_from_layers
from rendering.photographs import SPLITS


def render_clip(
    seed: int | Sequence[int],
    split: str,
    assets: Assets,
    resolution: int | tuple[int, int] = 128,
    num_frames: int = 4,
    time_gap: float | None = None,
) -> Clip:
    """Render one clip.

    Args:
        seed: one or several numbers that determine everything random.
        split: name of the split of the assets; a part of the seed and of the clip's key.
        assets: from `load_assets(split, ...)`.
        resolution: pixels; one number for height and width, or (height, width).
        num_frames: number of frames, at least 1.
        time_gap: seconds between two frames; None for the 1/12 s that speeds refer to. Objects and cameras keep their
            paths and move in proportion to the gap (see `motion_factor`).

    Returns:
        A clip. The same arguments give the same bits. Its keypoints are points spread over each object, the same ones
        in all frames.

    Raises:
        ValueError: if the resolution or the time gap is not possible.
    """
    size = frame_size(resolution)
    factor = motion_factor(time_gap, num_frames)
    numbers = [seed] if isinstance(seed, int | np.integer) else list(seed)
    # The word distinguishes these clips from those of the other renderer with the same seed.
    rng = np.random.default_rng([*numbers, SPLITS.index(split), zlib.crc32(b"objects")])
    photograph = assets.photographs[rng.integers(len(assets.photographs))]
    background = Background.random(photograph, rng, size=size, num_frames=num_frames, factor=factor)
    camera = np.stack([background.motion(0, t) for t in range(num_frames)])
    count = int(rng.choice([1, 2, 3, 4], p=[0.4, 0.3, 0.2, 0.1]))
    objects = [
        random_object(rng, assets, camera, size=size, factor=factor, object_number=number)
        for number in range(1, count + 1)
    ]
    noise = rng.uniform(0.5, 2.5) if rng.random() < 0.4 else 0.0
    scene = Scene(rng, background, objects)

    frames = np.zeros((num_frames, *size, 3), np.uint8)
    layers = np.zeros((num_frames, *size), np.int64)
    for t in range(num_frames):
        image, layers[t] = scene.draw(t)
        if noise:
            image += noise * rng.standard_normal(image.shape, np.float32)
        frames[t] = np.clip(np.round(image), 0, 255).astype(np.uint8)

    flow = np.zeros((num_frames - 1, 2, *size), np.float32)
    occlusion = np.zeros((num_frames - 1, *size), bool)
    for t in range(num_frames - 1):
        flow[t] = scene.flow(t, layers[t])
        occlusion[t] = occlusion_from_layers(flow[t], layers[t], layers[t + 1])
    return Clip(
        key="-".join(["objects", split, *(f"{n:06d}" for n in numbers)]),
        frames=frames,
        flow=flow,
        occlusion=occlusion,
        masks=scene.owner[layers],
        keypoints=np.stack([scene.keypoints(t, layers[t]) for t in range(num_frames)]),
        meta={
            "source": "objects",
            "seed": [int(n) for n in numbers],
            "split": split,
            "seconds_per_frame": FRAME_GAP if time_gap is None else float(time_gap),
        },
    )
