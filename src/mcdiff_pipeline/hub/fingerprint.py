# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Telling models apart: by a digest that a clip or an evaluation keeps of the model that made it."""

import hashlib
import json

import torch

from ..pipeline_mcdiff import MCDiffPipeline


def model_fingerprint(pipe: MCDiffPipeline) -> str:
    """A short digest of the components' configurations and of a sample of every weight: other model, other digest.

    Args:
        pipe (`MCDiffPipeline`): the model.

    Returns:
        `str`: 16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, component in sorted(pipe.components.items()):
        if hasattr(component, "config"):
            config = {key: value for key, value in dict(component.config).items() if not key.startswith("_")}
            digest.update(f"{name}{json.dumps(config, sort_keys=True, default=str)}".encode())
        if isinstance(component, torch.nn.Module):
            for key, tensor in sorted(component.state_dict().items()):
                digest.update(f"{name}.{key}{tuple(tensor.shape)}".encode())
                digest.update(tensor.flatten()[:64].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
