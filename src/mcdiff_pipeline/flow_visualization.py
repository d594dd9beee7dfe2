# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Flow as an image, in the colors of the Middlebury wheel."""

import torch

from .flow import check_flow


# Middlebury marks pixels of unknown flow with 1e10 and reads everything above 1e9 as unknown.
UNKNOWN_FLOW = 1e9


def _color_wheel(device: torch.device) -> torch.Tensor:
    """The 55 colors of Baker et al., "A Database and Evaluation Methodology for Optical Flow" (ICCV 2007).

    Returns:
        `torch.Tensor`: `[55, 3]` float32, whole numbers from 0 to 255, starting at red.
    """
    # Each arc fades one channel of RGB in or out while the others rest: (cells, resting color, channel, fades in).
    arcs = (
        (15, (255, 0, 0), 1, True),  # red to yellow
        (6, (0, 255, 0), 0, False),  # yellow to green
        (4, (0, 255, 0), 2, True),  # green to cyan
        (11, (0, 0, 255), 1, False),  # cyan to blue
        (13, (0, 0, 255), 0, True),  # blue to magenta
        (6, (255, 0, 0), 2, False),  # magenta to red
    )
    colors = []
    for cells, resting, channel, fades_in in arcs:
        for cell in range(cells):
            color = list(resting)
            color[channel] = 255 * cell // cells if fades_in else 255 - 255 * cell // cells
            colors.append(color)
    return torch.tensor(colors, device=device, dtype=torch.float32)


@torch.no_grad()
def flow_to_image(flow: torch.Tensor, max_magnitude: float | None = None) -> torch.Tensor:
    """Paints flow with the Middlebury color wheel: hue is direction (red: right), saturation is magnitude.

    Args:
        flow (`torch.Tensor`): `[B, 2, H, W]`, displacements in any unit.
        max_magnitude (`float`, *optional*): magnitude painted in full saturation; larger ones are darkened, as in the
            Middlebury code. None takes the largest magnitude of the batch, so that a batch shares one scale.

    Returns:
        `torch.Tensor`: `[B, 3, H, W]` uint8, RGB. No motion is white; unknown flow (not finite, or above 1e9 as in
        Middlebury's files) is black.

    Raises:
        ValueError: if `flow` is not `[B, 2, H, W]` or `max_magnitude` is not positive.
    """
    check_flow(flow)
    if max_magnitude is not None and not max_magnitude > 0:
        raise ValueError(f"`max_magnitude` is {max_magnitude}, but a number above 0 (or None) is needed.")
    flow = flow.float()
    known = (flow.abs() < UNKNOWN_FLOW).all(dim=1, keepdim=True)
    flow = torch.where(known, flow, 0.0)
    if max_magnitude is None:
        largest = flow.square().sum(dim=1).sqrt().amax() + torch.finfo(flow.dtype).eps
    else:
        largest = max_magnitude
    flow = flow / largest
    magnitude = flow.square().sum(dim=1).sqrt()  # [B, H, W]
    wheel = _color_wheel(flow.device)
    angle = torch.atan2(-flow[:, 1], -flow[:, 0]) / torch.pi
    position = (angle + 1) / 2 * (len(wheel) - 1)
    cell = position.floor().long()
    share = (position - cell)[..., None]
    color = (1 - share) * (wheel[cell] / 255) + share * (wheel[(cell + 1) % len(wheel)] / 255)  # [B, H, W, 3]
    magnitude = magnitude[..., None]
    color = torch.where(magnitude <= 1, 1 - magnitude * (1 - color), color * 0.75)
    image = (255 * color).floor().to(torch.uint8).permute(0, 3, 1, 2)
    return torch.where(known, image, torch.zeros_like(image))
