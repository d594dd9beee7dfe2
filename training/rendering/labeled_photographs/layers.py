"""The layers of a scene: things cut out of a photograph, without what is in front of them."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from rendering.labeled_photographs.casting import Role
from rendering.labeled_photographs.filling import nearest_fill, smooth_fill
from rendering.labeled_photographs.paths import apply
from rendering.labeled_photographs.window import DENSITY


# Pixels of a texture between the outline of a thing and colors that are surely its own.
RIM = 1
# A body goes on under a part in front of it as far as this share of the shorter side of the frame.
OVERLAP = 0.04


@dataclass
class Layer:
    """A texture that moves by homographies.

    Args:
        texture: float32 `[h, w, 4]`, premultiplied RGBA with a transparent rim; colors 0 to 255, alpha 0 to 1.
        to_texture: float64 `[3, 3]`, from points of frame 0 to points of the texture, in its pixels.
        matrices: float64 `[T, 3, 3]`, from points of frame 0 to points of frame t.
        number: of the thing, from 1; 0 is the background.
    """

    texture: np.ndarray
    to_texture: np.ndarray
    matrices: np.ndarray
    number: int

    def inverse(self, t: int) -> np.ndarray:
        """Float64 `[3, 3]`, from points of frame t to points of the texture."""
        return self.to_texture @ np.linalg.inv(self.matrices[t])

    def box(self, t: int) -> np.ndarray:
        """(left, top, right, bottom) in pixels of frame t, outside of which the layer is transparent."""
        solid = self.texture[..., 3] > 0
        rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
        if not len(rows):
            return np.zeros(4, np.int64)
        x, y = (columns[0] - 1, columns[-1] + 2), (rows[0] - 1, rows[-1] + 2)
        corners = np.array([(u, v) for u in x for v in y], dtype=np.float64)
        places = apply(self.matrices[t] @ np.linalg.inv(self.to_texture), corners)
        return np.concatenate([np.floor(places.min(0)), np.ceil(places.max(0))]).astype(np.int64)

    def points(self, rng: np.random.Generator, number: int) -> np.ndarray:
        """Random points (x, y) of frame 0 on the thing, float64 `[number, 2]`."""
        alpha = self.texture[..., 3]
        solid = np.argwhere(alpha > 0.9 * alpha.max())
        chosen = solid[rng.integers(len(solid), size=number)]
        return apply(np.linalg.inv(self.to_texture), chosen[:, ::-1] + 0.5)


def cut_out(color: np.ndarray, alphas: list[np.ndarray], roles: list[Role]) -> list[np.ndarray]:
    """The textures of the roles: premultiplied RGBA, float32 `[h, w, 4]`.

    A thing loses what later ones cover. It goes on behind them a little way, and all the way inside of it, so that no
    hole opens when they move.

    Args:
        color: uint8 `[h, w, 3]`.
        alphas: float32 `[h, w]` in [0, 1], one for each role.
    """
    reach = max(1, round(OVERLAP * DENSITY * min(color.shape[:2]) / (DENSITY + 1)))
    textures = []
    for index, alpha in enumerate(alphas):
        in_front = np.zeros_like(alpha)
        for other in alphas[index + 1 :]:
            in_front = np.maximum(in_front, other)
        colors = color
        if ((in_front > 0.5) & (alpha > 0.5)).any():
            kept = alpha * (1 - in_front)
            solid = kept > 0.5
            near = ndimage.distance_transform_edt(~solid) <= reach
            behind = (ndimage.binary_fill_holes(solid) | (near & (alpha > 0.5))) & ~solid
            # The rim of what is in front is not of this thing, either.
            surely = solid & ~ndimage.binary_dilation(in_front > 0.1, iterations=DENSITY)
            colors = filled_near(color, behind | (solid & ~surely), surely)
            alpha = np.where(behind, np.maximum(kept, alpha), kept)
        textures.append(premultiplied(colors, alpha))
    return textures


def premultiplied(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Premultiplied RGBA, float32 `[h, w, 4]`, whose rim has the colors of the inside instead of the surroundings."""
    texture = np.zeros((*alpha.shape, 4), np.float32)
    area = area_of(alpha > 0, pad=RIM + 1)
    colors, cover = color[area], alpha[area]
    surely = ndimage.binary_erosion(cover > 0.9, iterations=RIM)
    if surely.any():
        colors = nearest_fill(colors, (cover > 0) & ~surely)
    texture[area] = np.concatenate([colors * cover[..., None], cover[..., None]], axis=2)
    texture[[0, -1]] = texture[:, [0, -1]] = 0
    return texture


def filled_near(color: np.ndarray, hole: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The image with smooth colors in the hole, taken from what is known only; both masks are bool `[h, w]`."""
    area = area_of(hole, pad=12)
    if not known[area].any():
        return color
    result = color.copy()
    part = smooth_fill(color[area], ~known[area])
    result[area][hole[area]] = part[hole[area]]
    return result


def area_of(mask: np.ndarray, pad: int) -> tuple[slice, slice]:
    """Rows and columns that contain a mask, bool `[h, w]`, and `pad` more on each side; empty if it is."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(max(0, rows[0] - pad), rows[-1] + pad + 1), slice(max(0, columns[0] - pad), columns[-1] + pad + 1)


def joint_of(part: np.ndarray, body: np.ndarray) -> np.ndarray:
    """The middle (x, y) of the place where two masks, float32 `[h, w]`, touch, in pixels of the texture."""
    touching = ndimage.binary_dilation(part > 0.5, iterations=2 * DENSITY) & (body > 0.5)
    if not touching.any():
        touching = part > 0.5
    return np.argwhere(touching).mean(0)[::-1] + 0.5
