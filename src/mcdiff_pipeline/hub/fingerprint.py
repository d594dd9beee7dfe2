# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Identifying the model that made a clip or an evaluation."""

import hashlib
import json
from typing import Any

import torch
from transformers import PreTrainedConfig

from ..pipeline_mcdiff import MCDiffPipeline


def model_fingerprint(pipe: MCDiffPipeline) -> str:
    """A short digest of the configuration of each component and of the first 64 values of each weight.

    Args:
        pipe (`MCDiffPipeline`): the model. Its dtype affects the digest.

    Returns:
        `str`: 16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, component in sorted(pipe.components.items()):
        if hasattr(component, "config"):
            config = {key: value for key, value in _values(component.config).items() if not key.startswith("_")}
            digest.update(f"{name}{json.dumps(config, sort_keys=True, default=str)}".encode())
        if isinstance(component, torch.nn.Module):
            for key, tensor in sorted(component.state_dict().items()):
                digest.update(f"{name}.{key}{tuple(tensor.shape)}".encode())
                digest.update(tensor.flatten()[:64].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _values(config: Any) -> dict[str, Any]:
    """The values of a configuration of diffusers, or of transformers without the version that wrote it."""
    if not isinstance(config, PreTrainedConfig):
        return dict(config)
    return {key: value for key, value in config.to_diff_dict().items() if key != "transformers_version"}
