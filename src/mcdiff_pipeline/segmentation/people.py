# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Masks of the people in a picture, by the pose model that also annotates videos."""

import os
from typing import Self

import numpy as np
import torch
from diffusers.utils import logging

from ..image_processor import ImageInput, load_image_tensor
from ..regions import Region
from .masks import Segmentation, grown, smoothed, soft_mask, specks_and_holes, stability, without_overlap


logger = logging.get_logger(__name__)


# People are searched on a picture of at most this many pixels along its longer side; the pose model's own mask of a
# person has 256 x 256 pixels.
_SEARCHED_SIZE = 1024

# Side of the grid that masks are cleaned on.
_GRID = 512

# Pixels that are surely of a person or surely not have this logit at most, which is a probability of 0.998.
_LARGEST_LOGIT = 6.0

# A mask is unsure below this stability. On the photographs in examples/ that of true people is 0.87 and more.
_SURE_STABILITY = 0.7


class PersonSegmenter:
    """Finds people, and a mask for each, by MediaPipe's pose landmarker.

    It holds memory outside Python: use it as a context manager, or call `close`.

    Args:
        model (`str` or `os.PathLike`, *optional*): the `.task` file; see `annotation.pose_model.find_pose_model` for
            None.
        max_people (`int`, defaults to 4): largest number of people.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if MediaPipe or SciPy is missing.
        ValueError: if the file is not a pose model, or `max_people` is below 1.
    """

    def __init__(self, model: str | os.PathLike | None = None, *, max_people: int = 4) -> None:
        from ..annotation.people import PersonDetector
        from ..annotation.pose_model import find_pose_model

        try:
            import scipy.ndimage  # noqa: F401
        except ImportError as error:
            raise ImportError(
                f"Segmentation needs SciPy, which cannot be imported ({error}); "
                "pip install 'mcdiff-pipeline[annotation,segmentation]' installs all that masks of people need."
            ) from error
        self._detector = PersonDetector(find_pose_model(model), max_people=max_people)

    def segment(self, image: ImageInput) -> list[Segmentation]:
        """Finds the people in an image.

        Args:
            image (`ImageInput`): as [`load_image_tensor`] reads it.

        Returns:
            `list[Segmentation]`: one for each person, the largest first. The confidence is the stability of the mask:
            its area where the model gives a probability of 0.73 over its area at 0.27. The warning says if it is below
            0.7.
        """
        picture = load_image_tensor(image)
        height, width = picture.shape[1:]
        scale = min(1.0, _SEARCHED_SIZE / max(height, width))
        size = max(1, round(height * scale)), max(1, round(width * scale))
        small = torch.nn.functional.interpolate(picture[None], size=size, mode="bilinear", antialias=True)[0]
        people = self._detector((small * 255).round().byte().permute(1, 2, 0).numpy())
        found = [self._segmentation(person.mask, height, width) for person in people]
        return sorted(found, key=lambda one: -float(one.mask.sum()))

    def _segmentation(self, mask: np.ndarray, height: int, width: int) -> Segmentation:
        """A mask of any size at the picture's size, cleaned."""
        longer = max(height, width)
        rows, columns = max(1, round(height / longer * _GRID)), max(1, round(width / longer * _GRID))
        share = torch.nn.functional.interpolate(
            torch.from_numpy(mask)[None, None], size=(rows, columns), mode="bilinear", antialias=True
        )[0, 0]
        grid = np.full((_GRID, _GRID), -_LARGEST_LOGIT, dtype=np.float32)
        grid[:rows, :columns] = share.logit(eps=1e-6).clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT).numpy()
        grid = smoothed(grid)
        logits = grid[:rows, :columns]
        specks, holes = specks_and_holes(logits > 0, [], [])
        confidence = stability(logits)
        warning = None if confidence >= _SURE_STABILITY else f"the outline is not clear (confidence {confidence:.2f})"
        return Segmentation(soft_mask(*grown(grid, specks, holes, []), height, width), confidence, warning)

    def close(self) -> None:
        """Frees the networks."""
        self._detector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def regions_of_people(image: ImageInput, segmenter: PersonSegmenter) -> list[Region]:
    """Finds a region for each person in an image.

    A person whose mask is unsure gets no region, and a warning says so.

    Args:
        image (`ImageInput`): as [`load_image_tensor`] reads it.
        segmenter (`PersonSegmenter`): finds the masks.

    Returns:
        `list[Region]`: a mask of the image's size for each person. Where masks overlap, the larger person is in front,
        and comes later.
    """
    masks = []
    for person in reversed(segmenter.segment(image)):
        if person.warning is None:
            masks.append(person.mask)
        else:
            row, column = np.argwhere(person.mask == person.mask.max())[0]
            logger.warning(
                f"No region for the person at ({column}, {row}): {person.warning}; draw the region yourself."
            )
    return [Region(mask=mask) for mask in without_overlap(masks)]
