"""Measuring a model beside simple rivals."""

from typing import Any

from .settings import EvaluationSettings


__all__ = ["EvaluationSettings", "evaluate"]


def __getattr__(name: str) -> Any:
    # `evaluate` needs the extra `evaluation`; the rivals, which training shows beside a model, do not.
    if name == "evaluate":
        from .run import evaluate

        return evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
