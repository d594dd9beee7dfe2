"""Fills the places that things uncover from their surroundings."""

from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage


# `patchmatch` continues textures (patchmatch-cython; Barnes et al., "PatchMatch", 2009), `smooth` only colors.
FILLINGS = ("patchmatch", "smooth")
PATCH_SIZE = 5
# At each size of the image. More than these change little after the coarser sizes; 15 at the finest, the package's
# default, took three times as long.
ITERATIONS = 4


class Filling:
    """A way to fill holes in images.

    Args:
        name: one of `FILLINGS`.

    Raises:
        ImportError: if its package is missing.
        ValueError: if the name is unknown.
    """

    def __init__(self, name: str) -> None:
        if name not in FILLINGS:
            raise ValueError(f"The filling {name!r} is unknown, it must be one of {', '.join(FILLINGS)}.")
        self.name = name
        if name == "patchmatch":
            try:
                import patchmatch_cython
            except ImportError as error:
                raise ImportError(
                    f"Filling with PatchMatch needs a package that cannot be imported ({error}); "
                    "pip install patchmatch-cython installs it, and --filling smooth does without."
                ) from error
            solver = patchmatch_cython.CythonSolver

            class ShortSolver(solver):  # type: ignore[misc, valid-type]
                """The package's solver, with fewer iterations."""

                def __call__(self, iterations: int = ITERATIONS, **options: Any) -> np.ndarray:
                    return super().__call__(iterations=min(iterations, ITERATIONS), **options)

            self._inpaint, self._solver = patchmatch_cython.inpaint_pyramid, ShortSolver

    def __call__(self, image: np.ndarray, hole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image uint8 `[H, W, 3]` with new colors where `hole`, bool `[H, W]`, is True."""
        if self.name == "smooth" or not hole.any() or (~hole).sum() < 100:
            return smooth_fill(image, hole)
        seed = int(rng.integers(2**31))
        # Blending would blur the rim of the hole, which is what things uncover.
        try:
            return self._inpaint(
                image, hole, patch_size=PATCH_SIZE, solver_class=self._solver, seed=seed, poisson_blend=False
            )
        except ValueError:  # the hole leaves no whole patch at the coarsest size of the image
            return smooth_fill(image, hole)


def smooth_fill(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The image uint8 `[H, W, 3]` with a smooth continuation of its colors in the hole, bool `[H, W]`.

    Pull and push (Gortler et al., "The Lumigraph", 1996): means of what is known on coarser and coarser grids, and
    each grid filled from the next coarser one.
    """
    known = (~hole).astype(np.float32)[..., None]
    levels = [(np.where(hole[..., None], 0, image).astype(np.float32), known)]
    while min(levels[-1][0].shape[:2]) > 1 and not levels[-1][1].all():
        color, weight = (_sum_of_four(array) for array in levels[-1])
        scale = 1 / np.maximum(weight, 1)
        levels.append((color * scale, np.minimum(weight, 1)))
    filled = levels[-1][0]
    for color, weight in levels[-2::-1]:
        finer = Image.fromarray(np.round(filled).astype(np.uint8)).resize(color.shape[1::-1], Image.Resampling.BICUBIC)
        filled = np.where(weight > 0, color, np.asarray(finer, dtype=np.float32))
    return np.where(hole[..., None], np.round(filled), image).astype(np.uint8)


def _sum_of_four(array: np.ndarray) -> np.ndarray:
    """Sums of 2 x 2 pixels of `[H, W, C]`; a last row or column of its own counts alone."""
    padded = np.pad(array, ((0, array.shape[0] % 2), (0, array.shape[1] % 2), (0, 0)))
    return padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]


def nearest_fill(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The image `[H, W, ...]` whose pixels in the hole, bool `[H, W]`, have the color of the nearest other pixel."""
    rows, columns = ndimage.distance_transform_edt(hole, return_distances=False, return_indices=True)
    return image[rows, columns]
