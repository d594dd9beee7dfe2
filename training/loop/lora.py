"""Low-rank adaptation (LoRA, Hu et al. 2022) of the unet: trains a small addition to its attention layers only.

The weights are written in diffusers' format, for `MCDiffPipeline.load_lora_weights`.
"""

import argparse
import importlib.util
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE
from safetensors.torch import load_file

from mcdiff_pipeline import MCDiffPipeline


# The same layers as in diffusers' training scripts: all linear layers of attention.
TARGETS = ("to_k", "to_q", "to_v", "to_out.0")


def add_lora_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `add_lora`."""
    group = parser.add_argument_group("LoRA")
    group.add_argument(
        "--lora_rank",
        type=int,
        default=None,
        help="Train a low-rank addition of this rank to the attention of a pretrained model and freeze the rest. This "
        "needs little memory.",
    )
    group.add_argument(
        "--lora_alpha",
        type=float,
        default=None,
        help="The addition is multiplied by alpha / rank; by default alpha is the rank.",
    )


def check_lora_arguments(args: argparse.Namespace) -> None:
    """Checks the arguments of `add_lora`.

    Raises:
        ValueError: if the arguments contradict each other.
        ImportError: if peft is needed and not installed.
    """
    if args.lora_rank is None:
        if args.lora_alpha is not None:
            raise ValueError("--lora_alpha scales a LoRA, but there is none without --lora_rank.")
        return
    if args.lora_rank < 1:
        raise ValueError(f"--lora_rank is {args.lora_rank}; it must be 1 or more.")
    if not args.pretrained_model_name_or_path:
        raise ValueError("--lora_rank adapts a trained model: name it with --pretrained_model_name_or_path.")
    if importlib.util.find_spec("peft") is None:
        raise ImportError("--lora_rank needs peft, which is not installed: pip install peft.")


class LoraWeights:
    """The LoRA of a unet, with the interface of a diffusers model: checkpoints hold it in place of the unet.

    Args:
        weights (`dict[str, torch.Tensor]`): by their names in the unet, without the name of the adapter.
        metadata (`dict`, *optional*): rank, alpha and layers. They are written with the weights.
        unet ([`UNet2DConditionModel`], *optional*): the unet that has these weights.
    """

    def __init__(
        self,
        weights: dict[str, torch.Tensor],
        metadata: dict | None = None,
        unet: UNet2DConditionModel | None = None,
    ):
        self.weights = dict(sorted(weights.items()))
        self.metadata, self.unet = metadata, unet

    @classmethod
    def from_pretrained(cls, folder: str | Path, subfolder: str) -> "LoraWeights":
        """Reads what `save_pretrained` has written."""
        weights = load_file(Path(folder, subfolder, LORA_WEIGHT_NAME_SAFE))
        return cls({name.removeprefix("unet."): tensor for name, tensor in weights.items()})

    def parameters(self) -> list[torch.Tensor]:
        return list(self.weights.values())

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach() for name, tensor in self.weights.items()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Copies the weights. Raises `ValueError` if they are from a LoRA of another rank or for another unet."""
        given, expected = ({name: tuple(t.shape) for name, t in which.items()} for which in (state, self.weights))
        if given != expected:
            different = next(name for name in {**given, **expected} if given.get(name) != expected.get(name))
            raise ValueError(
                f"The LoRA of the checkpoint has the shape {given.get(different)} at {different}, but the one in "
                f"training has {expected.get(different)}; give the --lora_rank and the model that it was started with."
            )
        for name, tensor in self.state_dict().items():
            tensor.copy_(state[name])

    def save_pretrained(self, folder: str | Path) -> None:
        MCDiffPipeline.save_lora_weights(
            folder, unet_lora_layers=self.state_dict(), unet_lora_adapter_metadata=dict(self.metadata)
        )

    def enable_gradient_checkpointing(self) -> None:
        self.unet.enable_gradient_checkpointing()


def add_lora(unet: UNet2DConditionModel, rank: int, alpha: float | None, mixed_precision: str) -> LoraWeights:
    """Adds a LoRA to a unet. At first it does not change the output. The other weights are frozen.

    Args:
        rank (`int`): rank of the addition to each layer.
        alpha (`float`, *optional*): the addition is multiplied by alpha / rank; the rank if None.
        mixed_precision (`str`): `no`, `fp16` or `bf16`; the precision of the frozen weights.

    Raises:
        ValueError: if the unet has no attention, or does not read all of its conditions yet.
    """
    from peft import LoraConfig

    if not any(name.endswith(TARGETS) for name, _ in unet.named_modules()):
        raise ValueError(
            "--lora_rank adapts attention, and this unet has none; train the whole unet without --lora_rank."
        )
    if (unet.conv_in.weight == 0).all(dim=3).all(dim=2).all(dim=0).any():
        raise ValueError(
            "--lora_rank does not train the first layer, but this layer does not read all of its conditions "
            "yet: widen_unet.py leaves it so; train the whole unet first, without --lora_rank."
        )
    metadata = {"r": rank, "lora_alpha": alpha or rank, "target_modules": list(TARGETS)}
    unet.requires_grad_(False)
    unet.to({"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[mixed_precision])
    unet.add_adapter(LoraConfig(**metadata, init_lora_weights="gaussian"))
    weights = {
        name.replace(".default.", "."): parameter
        for name, parameter in unet.named_parameters()
        if parameter.requires_grad
    }
    for parameter in weights.values():
        parameter.data = parameter.data.float()
    return LoraWeights(weights, metadata, unet)
