"""L_F, the loss of flow completion, and the switches that say how it weighs its errors."""

import argparse

import torch
import torch.nn.functional as F

from mcdiff_pipeline.flow import resize_flow


def add_flow_loss_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that `complete_and_compare` reads."""
    group = parser.add_argument_group("loss of flow completion")
    group.add_argument(
        "--flow_weighting",
        choices=("magnitude", "mask", "none"),
        default="magnitude",
        help="Weight of a cell: λ + ‖d̂‖ / max ‖d̂‖ as in the paper, λ + the share of the cell that people and things "
        "cover, or 1.",
    )
    group.add_argument("--flow_weight_floor", type=float, default=0.1, help="λ in the weight of a cell.")
    group.add_argument(
        "--foreground_weight",
        type=float,
        default=0.25,
        help="Weight of the squared error of the foreground, for a model that separates it.",
    )
    group.add_argument("--flow_norm", choices=("norm", "squared"), default="norm", help="‖d - d̂‖ or its square.")


def flow_completion_loss(
    prediction: torch.Tensor,
    target: torch.Tensor,
    *,
    weighting: str,
    weight_floor: float,
    norm: str,
    foreground: torch.Tensor | None = None,
) -> torch.Tensor:
    """L_F of MCDiff: the mean over cells of `w ‖d - d̂‖`, d̂ the true flow.

    The weight keeps the model from answering "nothing moves" (most cells do not). The paper's is
    `w = λ + ‖d̂‖ / max ‖d̂‖`. It counts a background that moves far more than one that is still, so that a model which
    cannot know moves it. With `w = λ + foreground`, which does not depend on the flow, the best answer under
    uncertainty is the most plausible one.

    Args:
        prediction, target (`torch.Tensor`): `[B, 2, h, w]`; the loss is in their unit.
        weighting (`str`): `magnitude`, `mask` or `none` (`w = 1`).
        weight_floor (`float`): λ.
        norm (`str`): `norm` or `squared`.
        foreground (`torch.Tensor`, *optional*): covered share of each cell, `[B, 1, h, w]`; needed for `mask`.
    """
    if weighting == "magnitude":
        magnitude = target.norm(dim=1)
        weight = weight_floor + magnitude / magnitude.amax(dim=(1, 2), keepdim=True).clamp_min(1e-3)
    elif weighting == "mask":
        weight = weight_floor + foreground[:, 0]
    else:
        weight = 1.0
    squared = (prediction.float() - target).square().sum(dim=1)
    # The small constant makes the root differentiable where the prediction is exact.
    return (weight * (squared if norm == "squared" else (squared + 1e-6).sqrt())).mean()


def complete_and_compare(
    model: torch.nn.Module, batch: dict[str, torch.Tensor], args: argparse.Namespace, cell: int, flow_scale: float
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Runs F on a batch and compares what it answers with the truth.

    Args:
        batch (`dict`): `latent` `[B, C, h, w]`, `sparse_flow` `[B, 2, h, w]` in pixels and its bool `mask`
            `[B, 1, h, w]`, and the truth: `flow` `[B, 2, H, W]` in pixels, bool `foreground` `[B, 1, H, W]`.
        cell (`int`): pixels along one side of a latent cell.
        flow_scale (`float`): cells that are 1.0 for F; the loss is in this unit.

    Returns:
        Dense flow `[B, 2, h, w]` in pixels, the loss, and the values to log.
    """
    size = tuple(batch["latent"].shape[2:])
    target = resize_flow(batch["flow"], size) * cell
    foreground = F.interpolate(batch["foreground"].float(), size, mode="area")
    dense_flow, *predicted = model(batch["latent"], batch["sparse_flow"], batch["mask"], return_dict=False)
    loss = flow_completion_loss(
        dense_flow / (cell * flow_scale),
        target / (cell * flow_scale),
        weighting=args.flow_weighting,
        weight_floor=args.flow_weight_floor,
        norm=args.flow_norm,
        foreground=foreground,
    )
    values = {"flow_loss": loss}
    if predicted:
        values["foreground_loss"] = F.mse_loss(predicted[0].float(), foreground)
        loss = loss + args.foreground_weight * values["foreground_loss"]
    with torch.no_grad():
        values["end_point_error"] = (dense_flow.float() - target).norm(dim=1).mean()
    return dense_flow, loss, values
