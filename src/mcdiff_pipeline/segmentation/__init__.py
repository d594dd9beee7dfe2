# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Where regions come from: masks of things from points, masks of people, and regions from strokes.

Needs the extra `segmentation`; people need the extra `annotation`, too.
"""

from .masks import Segmentation
from .model_folder import find_segmenter
from .people import PersonSegmenter, regions_of_people
from .prompts import PromptSegmenter
from .stroke_groups import regions_of_strokes


__all__ = [
    "PersonSegmenter",
    "PromptSegmenter",
    "Segmentation",
    "find_segmenter",
    "regions_of_people",
    "regions_of_strokes",
]
