# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Which model a name means, and where the embedded model is: in a checkout, or in a data package."""

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path


MODEL_VARIABLE = "MCDIFF_MODEL"

EMBEDDED_NAME = "mcdiff-small-128"
# The extra `model` installs it. It holds a folder of the name above.
DATA_PACKAGE = "mcdiff_small_128"

_CHECKOUT = Path(__file__).resolve().parents[2]


def _embedded_model() -> tuple[Path, Path]:
    """The folder of the embedded model and its card. Without a checkout and the data package, neither exists."""
    in_checkout = _CHECKOUT / "checkpoints" / EMBEDDED_NAME
    package = importlib.util.find_spec(DATA_PACKAGE)
    if in_checkout.joinpath("model_index.json").is_file() or package is None or package.origin is None:
        return in_checkout, _CHECKOUT / "model_card.md"
    installed = Path(package.origin).parent / EMBEDDED_NAME
    return installed, installed / "README.md"


EMBEDDED_MODEL, EMBEDDED_MODEL_CARD = _embedded_model()
EXAMPLE_IMAGE = _CHECKOUT / "examples" / "cat.jpg"


@dataclass(frozen=True)
class ModelLocation:
    """Where a model is.

    Args:
        path (`str`): a folder or a Hub repository, as `from_pretrained` takes it.
        name (`str`): the name that clips and reports show.
        is_embedded (`bool`): whether it is the embedded model.
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

        >>> pipe = MCDiffPipeline.from_pretrained(find_model().path)
        ```
    """
    name = name or os.environ.get(MODEL_VARIABLE) or None
    means_embedded = name is None or name == EMBEDDED_MODEL.name or Path(name).resolve() == EMBEDDED_MODEL
    if means_embedded and EMBEDDED_MODEL.joinpath("model_index.json").is_file():
        return ModelLocation(str(EMBEDDED_MODEL), EMBEDDED_MODEL.name, is_embedded=True)
    if name is None:
        raise ValueError(
            f"no model is named: give --model a folder or a Hub repository, set {MODEL_VARIABLE} to one, or install "
            "the small one: pip install 'mcdiff-pipeline[model]'."
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
