# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The networks of a pipeline by OpenVINO (extra `openvino`), which runs them faster on a CPU than PyTorch does."""

import copy
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .pipeline_mcdiff import MCDiffPipeline


def use_openvino(pipe: MCDiffPipeline) -> None:
    """
    Lets OpenVINO run the networks of a pipeline from now on, in their dtype and with PyTorch's number of threads.

    These are the UNet, the blocks of F, and the encoder and decoder of the autoencoder. Everything else, and a call of
    the UNet with text, stays with PyTorch. A network is converted when it first gets an input of a shape, which takes
    seconds; so this pays for many frames of one size. Weights that are changed later have no effect. OpenVINO's
    telemetry is switched off for the process, unless it was imported before.

    Args:
        pipe (`MCDiffPipeline`):
            The pipeline, on a CPU.

    Raises:
        ImportError: If OpenVINO is missing.
        ValueError: If the pipeline is on another device, or in float16.
    """
    # What OpenVINO converts it reports to Google Analytics, unless this module is missing. It has no switch for that.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino  # noqa: F401
    except ImportError as error:
        raise ImportError("OpenVINO is missing: pip install 'mcdiff-pipeline[openvino]' installs it.") from error
    if pipe.unet.device.type != "cpu" or pipe.unet.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(
            f"The pipeline is on {pipe.unet.device} in {pipe.unet.dtype}, but OpenVINO runs it on a CPU in float32 or "
            "bfloat16: move it there, or leave OpenVINO out."
        )
    run_unet, unet = _Converted(pipe.unet, _UNet), pipe.unet.forward

    def forward(sample: torch.Tensor, timestep: torch.Tensor, *others: Any, **named: Any) -> Any:
        return_dict = named.pop("return_dict", True)
        if others or return_dict or any(value is not None for value in named.values()):
            return unet(sample, timestep, *others, return_dict=return_dict, **named)
        return (run_unet(sample, torch.as_tensor(timestep)),)

    pipe.unet.forward = forward
    for network in (pipe.vae.encoder, pipe.vae.decoder):
        network.forward = _Converted(network)
    if pipe.flow_completion is not None:
        pipe.flow_completion.run_blocks = _Converted(pipe.flow_completion, _Blocks)


class _UNet(nn.Module):
    def __init__(self, unet: nn.Module):
        super().__init__()
        self.unet = unet

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        unet: Any = self.unet
        return unet(sample, timestep, None, return_dict=False)[0]


class _Blocks(nn.Module):
    def __init__(self, flow_completion: nn.Module):
        super().__init__()
        self.flow_completion = flow_completion

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        flow_completion: Any = self.flow_completion
        return flow_completion.run_blocks(hidden_states)


class _Converted:
    """
    A network that is converted for each shape of its inputs.

    Args:
        network (`nn.Module`): the network. It is copied before its calls are replaced.
        wrap (`Callable`, *optional*): makes a module of the copy that takes and returns tensors; None if it does.
    """

    def __init__(self, network: nn.Module, wrap: Callable[[nn.Module], nn.Module] | None = None):
        copied = copy.deepcopy(network).float().eval()
        self._network = copied if wrap is None else wrap(copied)
        dtype = next(network.parameters()).dtype
        self._precision = "bf16" if dtype == torch.bfloat16 else "f32"
        self._models: dict[Any, Any] = {}
        self._lock = threading.Lock()
        self._of_thread = threading.local()

    def __call__(self, *inputs: torch.Tensor | None) -> torch.Tensor:
        """Runs the network on the inputs that are not None. Result in the dtype of the first input."""
        given = tuple(one for one in inputs if one is not None)
        dtype = given[0].dtype
        given = tuple(one.detach().float() if one.is_floating_point() else one.detach() for one in given)
        key = tuple((tuple(one.shape), one.dtype) for one in given)
        requests = self._of_thread.__dict__.setdefault("requests", {})  # one of each thread, for they run at once
        if key not in requests:
            requests[key] = self._model(key, given).create_infer_request()
        result = requests[key].infer([one.contiguous().numpy() for one in given])[0]
        return torch.from_numpy(result.copy()).to(dtype)

    def _model(self, key: Any, inputs: tuple[torch.Tensor, ...]) -> Any:
        import openvino

        with self._lock:
            if key not in self._models:
                with torch.no_grad(), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of tracing, and of PyTorch's deprecations
                    shapes = [tuple(one.shape) for one in inputs]
                    model = openvino.convert_model(self._network, example_input=inputs, input=shapes)
                options = {
                    "INFERENCE_PRECISION_HINT": self._precision,
                    "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                    "NUM_STREAMS": 1,
                }
                self._models[key] = openvino.Core().compile_model(model, "CPU", options)
            return self._models[key]
