# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Which model a name means, and what a checkout of this project has for its embedded model."""

import os
import re
from dataclasses import dataclass
from pathlib import Path


MODEL_VARIABLE = "MCDIFF_MODEL"

# Without a checkout, none of these files exist.
_CHECKOUT = Path(__file__).resolve().parents[2]
EMBEDDED_MODEL = _CHECKOUT / "checkpoints" / "mcdiff-small-128"
EMBEDDED_MODEL_CARD = _CHECKOUT / "model_card.md"
EXAMPLE_IMAGE = _CHECKOUT / "examples" / "cat.jpg"


@dataclass(frozen=True)
class ModelLocation:
    """Where a model is.

    Args:
        path (`str`): a folder or a Hub repository, as `from_pretrained` takes it.
        name (`str`): the name that clips and reports show.
        is_embedded (`bool`): whether it is the model in the checkout.
    """

    path: str
    name: str
    is_embedded: bool = False


def find_model(name: str | None = None) -> ModelLocation:
    """Finds a model by its name.

    Args:
        name (`str`, *optional*): a folder, a Hub repository, or the name of the embedded model. None takes the
            environment variable `MCDIFF_MODEL`, else the embedded model.

    Raises:
        ValueError: if the name is neither a model's folder nor a possible repository, or there is no default.

    Example:
        ```py
        >>> from mcdiff_pipeline import MCDiffPipeline
        >>> from mcdiff_pipeline.model_names import find_model

        >>> pipe = MCDiffPipeline.from_pretrained(find_model("mcdiff-small-128").path)
        ```
    """
    name = name or os.environ.get(MODEL_VARIABLE) or None
    means_embedded = name is None or name == EMBEDDED_MODEL.name or Path(name).resolve() == EMBEDDED_MODEL
    if means_embedded and EMBEDDED_MODEL.joinpath("model_index.json").is_file():
        return ModelLocation(str(EMBEDDED_MODEL), EMBEDDED_MODEL.name, is_embedded=True)
    if name is None:
        raise ValueError(
            f"no model is named: give --model a folder or a Hub repository, or set {MODEL_VARIABLE} to one."
        )
    if Path(name).joinpath("model_index.json").is_file():
        return ModelLocation(name, name)
    if Path(name).exists():
        raise ValueError(
            f"{name} is not a model: it has no model_index.json; name the folder that save_pretrained wrote."
        )
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError(f"{name} is neither a folder nor the name of a Hub repository (owner/name).")
    return ModelLocation(name, name)


def default_example() -> Path | None:
    """The image of the example in an exported folder: the checkout's, or None without a checkout."""
    return EXAMPLE_IMAGE if EXAMPLE_IMAGE.is_file() else None
