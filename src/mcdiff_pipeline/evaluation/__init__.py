"""Compares a model with simple baselines on clips with true flow."""

from typing import Any

from .settings import EvaluationSettings


__all__ = ["EvaluationSettings", "evaluate"]


def __getattr__(name: str) -> Any:
    # `evaluate` needs the extra `evaluation`. The settings do not, and the command line reads them first.
    if name == "evaluate":
        from .run import evaluate

        return evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
