# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Identifying the model that made a clip or an evaluation."""

import hashlib
import json
from typing import Any

import torch
from transformers import PretrainedConfig

from ..pipeline_mcdiff import MCDiffPipeline


# Keys that transformers writes by itself, according to its version and to how the model was loaded.
OF_LIBRARY = ("transformers_version", "dtype", "torch_dtype", "architectures")
# Keys that describe the training data, on which no frame depends.
OF_TRAINING_DATA = ("max_displacement",)


def own_config(component: Any) -> dict[str, Any]:
    """What a component says about itself, without what depends on the version of the libraries or affects no frame.

    Args:
        component (`ConfigMixin` or `PreTrainedModel`): a component of diffusers or of transformers.

    Returns:
        `dict[str, Any]`: the values by their names.
    """
    config = component.config
    if isinstance(config, PretrainedConfig):
        config = {key: value for key, value in config.to_diff_dict().items() if key not in OF_LIBRARY}
    return {
        key: value for key, value in dict(config).items() if not key.startswith("_") and key not in OF_TRAINING_DATA
    }


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
            digest.update(f"{name}{json.dumps(own_config(component), sort_keys=True, default=str)}".encode())
        if isinstance(component, torch.nn.Module):
            for key, tensor in sorted(component.state_dict().items()):
                digest.update(f"{name}.{key}{tuple(tensor.shape)}".encode())
                while tensor.ndim > 1 and tensor[0].numel() >= 64:  # without a copy of weights in another layout
                    tensor = tensor[0]
                digest.update(tensor.flatten()[:64].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
