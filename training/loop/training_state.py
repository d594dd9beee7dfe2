"""The model in training, its optimizer and its moving average, in one process or over several."""

import argparse
import contextlib
import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import OPTIMIZER_NAME, DistributedType
from diffusers import ModelMixin
from diffusers.training_utils import EMAModel

from loop.lora import LoraWeights
from loop.sharding import (
    block_class_names,
    gather,
    gather_optimizer_state,
    load_gathered_optimizer_state,
    scatter,
    shard_like,
)


def make_optimizer(args: argparse.Namespace, parameters: list[list[torch.nn.Parameter]]) -> torch.optim.Optimizer:
    """AdamW with one group for each list of parameters."""
    groups = [{"params": group} for group in parameters]
    settings = {
        "lr": args.learning_rate,
        "betas": (args.adam_beta1, args.adam_beta2),
        "weight_decay": args.adam_weight_decay,
        "eps": args.adam_epsilon,
    }
    if args.use_8bit_adam:
        import bitsandbytes

        return bitsandbytes.optim.AdamW8bit(groups, **settings)
    return torch.optim.AdamW(groups, **settings, fused=True)


class TrainingState:
    """What a checkpoint restores: weights, optimizer and moving average.

    Args:
        model (`torch.nn.Module`): the model to train, in place. FSDP shards a copy of it; the model itself stays in
            main memory and gets the weights for validation and for saving.
        parts (`dict`): the diffusers models or `LoraWeights` that hold all trained parameters of `model`, in its order
            of parameters. A checkpoint has a folder with the name of each.
        learning_rates (`dict`, *optional*): learning rates of parameters in place of `args.learning_rate`, by the
            first part of their names in `model`; None is as `args.learning_rate`.

    Attributes:
        model: the prepared model, for the forward pass.
        full_model: the model that was given.
        optimizer: the prepared optimizer.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        args: argparse.Namespace,
        model: torch.nn.Module,
        parts: dict[str, ModelMixin | LoraWeights],
        learning_rates: Mapping[str, float | None] | None = None,
    ):
        self.accelerator, self.parts, self.full_model = accelerator, parts, model
        self.uses_fsdp = accelerator.distributed_type == DistributedType.FSDP
        self.uses_deepspeed = accelerator.distributed_type == DistributedType.DEEPSPEED
        if args.gradient_checkpointing:
            for part in parts.values():
                part.enable_gradient_checkpointing()
        # factor on the learning rate -> first parts of names
        self.own_rates: dict[float, tuple[str, ...]] = {}
        for name, rate in (learning_rates or {}).items():
            if rate is not None:
                factor = rate / args.learning_rate
                self.own_rates[factor] = (*self.own_rates.get(factor, ()), name)
        self.model, self.optimizer = self._prepare(args, copy.deepcopy(model) if self.uses_fsdp else model)

        self.full_parameters = [parameter for part in parts.values() for parameter in part.parameters()]
        # The same parameters as they are trained: with FSDP, the shards of this process.
        counterparts = dict(zip(model.parameters(), self.model.parameters(), strict=True))
        self.parameters = [counterparts[parameter] for parameter in self.full_parameters]
        self.ema = EMAModel(self.parameters, decay=args.ema_decay, foreach=True) if args.use_ema else None
        accelerator.register_save_state_pre_hook(self._save_weights)
        accelerator.register_load_state_pre_hook(self._load_weights)

    def _prepare(
        self, args: argparse.Namespace, model: torch.nn.Module
    ) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        """Moves the model to its device, makes the optimizer, and prepares both with accelerate."""
        # Convolutions are fastest with channels last, by oneDNN (CPU) and by cuDNN (tensor cores). DeepSpeed and FSDP
        # send weights in their memory layout and need the default one.
        sends_weights = self.uses_deepspeed or self.uses_fsdp
        layout = torch.contiguous_format if sends_weights else torch.channels_last
        model = model.to(device=self.accelerator.device, memory_format=layout).train()
        optimizer = make_optimizer(args, self._parameter_groups(model))
        if self.uses_deepspeed:
            # DeepSpeed clips in its own step and asks for the batch, since no loader is prepared with the model. Its
            # bf16 mode would keep no float32 weights to average, so torch's autocast is used instead.
            self.accelerator.state.deepspeed_plugin.deepspeed_config |= {
                "train_micro_batch_size_per_gpu": args.train_batch_size,
                "gradient_accumulation_steps": args.gradient_accumulation_steps,
                "gradient_clipping": args.max_grad_norm,
                "bf16": {"enabled": False},
                "torch_autocast": {"enabled": args.mixed_precision == "bf16", "dtype": "bfloat16"},
            }
        if self.uses_fsdp and self.accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap is None:
            self.accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap = block_class_names(model)
        return self.accelerator.prepare(model, optimizer)

    def _parameter_groups(self, model: torch.nn.Module) -> list[list[torch.nn.Parameter]]:
        """The trained parameters with the common learning rate, and those of each other rate; empty groups left out.

        Sets `learning_rate_factors`, the factors of these groups.
        """
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        groups, self.learning_rate_factors = [], []
        for factor, names in self.own_rates.items():
            own = [name for name in trained if name.startswith(names)]
            if own:
                groups.append([trained.pop(name) for name in own])
                self.learning_rate_factors.append(factor)
        return [list(trained.values()), *groups]

    @property
    def saves_from_all_processes(self) -> bool:
        """Whether all processes have to call `save` together: each holds a part of the state."""
        return self.uses_fsdp or self.uses_deepspeed

    def set_learning_rate(self, learning_rate: float) -> None:
        """Sets the common learning rate; other ones keep their ratio to it."""
        for group, factor in zip(self.optimizer.param_groups, [1.0, *self.learning_rate_factors], strict=True):
            group["lr"] = learning_rate * factor

    def update_average(self) -> None:
        """Updates the moving average after a step of the optimizer."""
        if self.ema is not None:
            self.ema.step(self.parameters)

    def gather_weights(self) -> None:
        """With FSDP, copies the trained weights into the full model."""
        if self.uses_fsdp:
            gather(self.parameters, self.full_parameters)

    def take_averages(self) -> None:
        """Puts the averaged weights into the full model, or the trained weights if there is no average."""
        if self.uses_fsdp:
            gather(self.parameters if self.ema is None else self.ema.shadow_params, self.full_parameters)
        elif self.ema is not None:
            self.ema.copy_to(self.parameters)

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """In the block the full model has the averaged weights and is in evaluation mode."""
        self.full_model.eval()
        if self.ema is not None and not self.uses_fsdp:
            self.ema.store(self.parameters)
        self.take_averages()
        yield
        if self.uses_fsdp:
            self.full_model.to("cpu")
        elif self.ema is not None:
            self.ema.restore(self.parameters)
        self.full_model.train()

    def save(self, folder: Path) -> None:
        """Writes weights, averages, optimizer and random states into a folder."""
        if not self.uses_fsdp:
            self.accelerator.save_state(str(folder))
            return
        # accelerate would write the weights twice, and an optimizer that only the same number of processes can read.
        self._save_weights([], [], str(folder))
        state = gather_optimizer_state(self.optimizer, keep=self.accelerator.is_main_process)
        if self.accelerator.is_main_process:
            torch.save(state, Path(folder, f"{OPTIMIZER_NAME}.bin"))

    def load(self, folder: Path, step: int) -> None:
        """Restores what `save` wrote after `step` optimizer steps."""
        self._loaded_step = step
        if not self.uses_fsdp:
            self.accelerator.load_state(str(folder))
            return
        self._load_weights([], str(folder))
        state = torch.load(Path(folder, f"{OPTIMIZER_NAME}.bin"), map_location="cpu", weights_only=True)
        load_gathered_optimizer_state(self.optimizer, state)

    def save_parts(self, folder: str | Path, suffix: str = "") -> None:
        """Writes each part as the folder `NAME` + `suffix`."""
        for name, part in self.parts.items():
            part.save_pretrained(Path(folder, f"{name}{suffix}"))

    def _save_weights(self, models: list[torch.nn.Module], weights: list[dict[str, Any]], folder: str) -> None:
        """Hook of `accelerator.save_state`: writes the parts in place of accelerate's own file of weights."""
        self.gather_weights()
        if self.accelerator.is_main_process:
            self.save_parts(folder)
        if self.ema is not None:
            with self.averaged_weights():
                if self.accelerator.is_main_process:
                    self.save_parts(folder, "_ema")
        weights.clear()

    def _load_weights(self, models: list[torch.nn.Module], folder: str) -> None:
        """Hook of `accelerator.load_state`: reads what `_save_weights` wrote."""
        models.clear()
        for name, part in self.parts.items():
            part.load_state_dict(type(part).from_pretrained(folder, subfolder=name).state_dict())
        if self.uses_fsdp:
            scatter(self.full_parameters, self.parameters)
        if self.ema is not None:
            averages = [
                type(part).from_pretrained(folder, subfolder=f"{name}_ema") for name, part in self.parts.items()
            ]
            shadow = [parameter.detach() for average in averages for parameter in average.parameters()]
            if self.uses_fsdp:
                shadow = [shard_like(tensor, shard) for tensor, shard in zip(shadow, self.parameters, strict=True)]
            self.ema.load_state_dict({"shadow_params": shadow, "optimization_step": self._loaded_step})
            self.ema.to(self.accelerator.device)
