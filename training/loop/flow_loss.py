"""L_F, the loss of flow completion, and its arguments."""

import argparse

import torch
import torch.nn.functional as F

from mcdiff_pipeline.flow import resize_flow, to_cells, to_pixels


def add_flow_loss_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `complete_and_compare`."""
    group = parser.add_argument_group("loss of flow completion")
    group.add_argument(
        "--flow_weighting",
        choices=("magnitude", "mask", "none"),
        default="magnitude",
        help="Weight of a cell: λ + ‖d̂‖ / max ‖d̂‖ as in the paper, λ + the share of the cell that people and objects "
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
    group.add_argument(
        "--gradient_weight",
        type=float,
        default=0.0,
        help="Weight of the error of the flow's gradient inside people and objects, against tearing them.",
    )


def flow_completion_loss(
    prediction: torch.Tensor,
    target: torch.Tensor,
    *,
    weighting: str,
    weight_floor: float,
    norm: str,
    foreground: torch.Tensor | None = None,
) -> torch.Tensor:
    """L_F of MCDiff: the mean over cells of `w ‖d - d̂‖`, where d̂ is the true flow.

    Most cells do not move. The weight keeps the model from answering zero everywhere. In the paper it is
    `w = λ + ‖d̂‖ / max ‖d̂‖`. With this weight a moving background counts far more than a still one, so an uncertain
    model moves the background. With `w = λ + foreground` the weight does not depend on the flow, so the best
    prediction under uncertainty is the most plausible flow.

    Args:
        prediction, target (`torch.Tensor`): `[B, 2, h, w]`; the loss has their unit.
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
    # The small constant makes the root differentiable at zero error.
    return (weight * (squared if norm == "squared" else (squared + 1e-6).sqrt())).mean()


def gradient_loss(prediction: torch.Tensor, target: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean over pairs of neighboring cells of `‖Δ(d - d̂)‖`, where both cells lie inside the same thing.

    It is 0 if each thing moves as it should up to a translation of its own, and large where the flow tears a thing. A
    cell that an outline crosses belongs to no thing.

    Args:
        prediction, target (`torch.Tensor`): `[B, 2, h, w]`; the loss has their unit.
        labels (`torch.Tensor`): `[B, 1, H, W]`, 0 = background, k = k-th person or object.
    """
    size = prediction.shape[2:]
    largest = F.adaptive_max_pool2d(labels.float(), size)
    thing = torch.where(largest == -F.adaptive_max_pool2d(-labels.float(), size), largest, 0)
    error, total, number = prediction.float() - target, 0.0, 0.0
    for axis in (2, 3):
        first, second = (thing.narrow(axis, start, size[axis - 2] - 1) for start in (0, 1))
        is_inside = ((first == second) & (first > 0)).float()
        # The small constant makes the root differentiable at zero error.
        difference = (error.diff(dim=axis).square().sum(dim=1, keepdim=True) + 1e-6).sqrt()
        total = total + (is_inside * difference).sum()
        number = number + is_inside.sum()
    return total / number.clamp_min(1)


def complete(
    model: torch.nn.Module, batch: dict[str, torch.Tensor], cell: int, *, regions: bool = True
) -> tuple[torch.Tensor, ...]:
    """Runs flow completion on a batch.

    Args:
        model (`torch.nn.Module`): flow completion.
        batch (`dict`): see `FlowSample`, of which `flow` and `labels` are not read.
        cell (`int`): pixels along one side of a latent cell.
        regions (`bool`, defaults to `True`): whether the model is given the regions, if the batch has any.

    Returns:
        The dense flow, `[B, 2, h, w]` in pixels; from a model that separates the foreground also the foreground.
    """
    given = {}
    if regions and "regions" in batch:
        given = {name: batch[name] for name in ("regions", "region_mask")}
        given["region_sparse_flow"] = to_pixels(batch["region_sparse_flow"], cell)
    if "features" in batch:
        given["features"] = batch["features"]
    strokes = to_pixels(batch["sparse_flow"], cell)
    return model(batch["latent"], strokes, batch["mask"], **given, return_dict=False)


def complete_and_compare(
    model: torch.nn.Module, batch: dict[str, torch.Tensor], args: argparse.Namespace, cell: int, flow_scale: float
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Runs flow completion on a batch and compares the result with the true flow.

    Args:
        model (`torch.nn.Module`): flow completion, as prepared for training.
        batch (`dict`): see `FlowSample`.
        cell (`int`): pixels along one side of a latent cell.
        flow_scale (`float`): `flow_scale` of the model's config, in cells. The loss is in this unit.

    Returns:
        The dense flow, float32 `[B, 2, h, w]` in cells; the loss; and further values to log, of which
        `end_point_error` is in pixels.
    """
    size = tuple(batch["latent"].shape[2:])
    target = resize_flow(batch["flow"], size)
    foreground = F.interpolate((batch["labels"] > 0).float(), size, mode="area")
    dense_flow, *predicted = complete(model, batch, cell)
    dense_flow = to_cells(dense_flow.float(), cell)
    loss = flow_completion_loss(
        dense_flow / flow_scale,
        target / flow_scale,
        weighting=args.flow_weighting,
        weight_floor=args.flow_weight_floor,
        norm=args.flow_norm,
        foreground=foreground,
    )
    values = {"flow_loss": loss}
    if predicted:
        values["foreground_loss"] = F.mse_loss(predicted[0].float(), foreground)
        loss = loss + args.foreground_weight * values["foreground_loss"]
    if args.gradient_weight > 0:
        values["gradient_loss"] = gradient_loss(dense_flow / flow_scale, target / flow_scale, batch["labels"])
        loss = loss + args.gradient_weight * values["gradient_loss"]
    with torch.no_grad():
        values["end_point_error"] = to_pixels(dense_flow - target, cell).norm(dim=1).mean()
    return dense_flow, loss, values
