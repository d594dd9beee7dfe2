# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""A short `repr` of objects that hold images and tensors: shapes instead of pixels."""

from dataclasses import fields
from typing import Any

import numpy as np
import PIL.Image
import torch


class ShortReprMixin:
    """Gives a dataclass with `repr=False` a `repr` of one line."""

    def __repr__(self) -> str:
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        shown = (f"{name}={_described(value)}" for name, value in values.items() if value is not None)
        return f"{type(self).__name__}({', '.join(shown)})"


def _described(value: Any) -> str:
    if isinstance(value, (torch.Tensor, np.ndarray)):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"{dtype}{list(value.shape)}"
    if isinstance(value, PIL.Image.Image):
        return f"image of {value.width} x {value.height}"
    if isinstance(value, list) and value:
        return f"{len(value)} x {_described(value[0])}"
    return repr(value)
