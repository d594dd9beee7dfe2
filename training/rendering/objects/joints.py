"""Objects with hinged parts."""

import numpy as np
from PIL import Image


def split_at_joints(rng: np.random.Generator, image: Image.Image) -> tuple[list[Image.Image], list[np.ndarray]]:
    """Cut an object across its longer side into two or three parts that turn about joints.

    Returns:
        The parts on canvases of the same size, and the joint (x, y) of each part. The first part carries the others
        and has no joint. Each part keeps a disc around its joint, so that no gap opens when it turns.
    """
    alpha = np.asarray(image.getchannel("A"))
    across = image.width >= image.height  # cut along x
    length = max(image.size)
    places = [rng.uniform(0.35, 0.65)] if rng.random() < 0.6 else [rng.uniform(0.25, 0.4), rng.uniform(0.6, 0.75)]
    x, y = np.meshgrid(np.arange(image.width) + 0.5, np.arange(image.height) + 0.5)
    position = x if across else y
    cuts, joints, discs = [], [], []
    for place in places:
        cut = int(place * length)
        section = alpha[:, cut] if across else alpha[cut]
        covered = np.flatnonzero(section > 127)
        if len(covered) == 0:  # the object has a gap there
            return [image], [np.zeros(2)]
        middle, radius = covered.mean() + 0.5, (covered[-1] - covered[0] + 1) / 2
        joint = np.array([cut, middle] if across else [middle, cut], dtype=np.float64)
        cuts.append(cut)
        joints.append(joint)
        discs.append(np.hypot(x - joint[0], y - joint[1]) <= radius)

    parts = cut_parts(image, position, cuts, discs, length)
    # The part between the joints, or the first one of two, carries the rest.
    if len(cuts) == 2:
        return [parts[1], parts[0], parts[2]], [np.zeros(2), joints[0], joints[1]]
    return parts, [np.zeros(2), joints[0]]


def cut_parts(
    image: Image.Image, position: np.ndarray, cuts: list[int], discs: list[np.ndarray], length: int
) -> list[Image.Image]:
    """The parts of `image` between consecutive cuts, each with the discs around its joints.

    Args:
        position: float64 `[h, w]`, the place of each pixel along the longer side, which has `length` pixels.
        cuts: increasing places of the cuts.
        discs: bool `[h, w]` for each cut, the disc around its joint.
    """
    alpha = np.asarray(image.getchannel("A"))
    edges = [0, *cuts, length]
    parts = []
    for i in range(len(cuts) + 1):
        kept = (position >= edges[i]) & (position < edges[i + 1])
        for j in (i - 1, i):
            if 0 <= j < len(cuts):
                kept |= discs[j] & (np.abs(position - cuts[j]) <= 0.5 * length)
        part = image.copy()
        part.putalpha(Image.fromarray(np.where(kept, alpha, 0).astype(np.uint8)))
        parts.append(part)
    return parts
