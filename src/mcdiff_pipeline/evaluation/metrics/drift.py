# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What a long roll-out does to a picture: color, sharpness, and regions in which nothing should ever change.

The strokes of a clip are followed for as long as the clip lasts; after that each holds its place. The longer the model
then goes on from its own frames, the more of its errors add up.
"""

import torch
import torch.nn.functional as F

from ...dataset import Clip
from ...pipeline_mcdiff import MCDiffPipeline
from ...strokes import Stroke
from ..handles import Handle
from ..methods import ClipBatch
from .image import psnr
from .st_lpips import STLPIPS


# Still regions end this far, in pixels at 128 pixels on the shorter side, from anything that moves in the clip, so
# that neither the outline of a mask nor the spread of a latent cell is counted.
MARGIN = 6
# A clip with a smaller share of still pixels says nothing about them.
LEAST_SHARE = 0.1


def long_strokes(handles: list[Handle]) -> list[Stroke]:
    """The strokes of the handles, each followed by a hold where it ends."""
    strokes = [handle.stroke() for handle in handles]
    ends = [(stroke.points[-1], int(stroke.frames[-1])) for stroke in strokes]
    return strokes + [Stroke([point], kind="hold", start_frame=frame) for point, frame in ends]


def measured_frames(num_frames: int) -> list[int]:
    """Frames 1, 2, 4, 8, ... and the last one."""
    frames = [1]
    while 2 * frames[-1] < num_frames - 1:
        frames.append(2 * frames[-1])
    return sorted({*frames, num_frames - 1})


def measure_drift(
    pipe: MCDiffPipeline,
    clip: Clip,
    handles: list[Handle],
    *,
    num_frames: int,
    num_inference_steps: int | None,
    seed: int,
    st_lpips: STLPIPS,
) -> dict[int, dict[str, float]]:
    """Measures one long roll-out against the autoencoder's own picture of the start frame.

    Args:
        pipe (`MCDiffPipeline`): the model.
        clip (`Clip`): the clip; its first frame is the picture, and its flow says what is still.
        handles (`list[Handle]`): what is dragged.
        num_frames (`int`): length of the roll-out, the given picture included.
        num_inference_steps (`int`, *optional*): denoising steps of a frame.
        seed (`int`): of the noise.
        st_lpips (`STLPIPS`): the perceptual distance.

    Returns:
        `dict[int, dict[str, float]]`: for the frames of `measured_frames`, `color` (largest relative change of the
        mean of a channel), `sharpness` (mean of the Laplacian's magnitude over that of the start), and of the still
        region, NaN where there is none, `still_st_lpips` and `still_psnr` in dB.
    """
    batch = ClipBatch(pipe, [clip], [seed])
    start = batch.reconstruction[:, 0]  # [1, 3, H, W]
    height, width = start.shape[2:]
    margin = round(MARGIN * min(height, width) / 128)
    still = ~F.max_pool2d((~batch.still[:, -1]).float(), 2 * margin + 1, stride=1, padding=margin).bool()  # [1, H, W]
    enough = still.float().mean() >= LEAST_SHARE

    wanted = measured_frames(num_frames)
    stream = pipe.stream(
        batch.start,
        long_strokes(handles),
        num_frames=num_frames,
        height=height,
        width=width,
        num_inference_steps=num_inference_steps,
        generator=torch.Generator().manual_seed(seed),
        output_type="pt",
    )
    drift = {}
    for number, frame in enumerate(stream):
        if number not in wanted:
            continue
        frame = frame[None].float().cpu()
        means = frame.mean(dim=(2, 3)) / start.mean(dim=(2, 3)).clamp_min(1e-3)
        drift[number] = {
            "color": float((means - 1).abs().max()),
            "sharpness": _sharpness(frame) / max(_sharpness(start), 1e-6),
            "still_st_lpips": float(st_lpips(frame, start, where=still)) if enough else float("nan"),
            "still_psnr": float(psnr(frame, start, still)) if enough else float("nan"),
        }
    return drift


def _sharpness(picture: torch.Tensor) -> float:
    """Mean magnitude of the Laplacian of the gray picture."""
    gray = picture.mean(dim=1, keepdim=True)
    kernel = gray.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return float(F.conv2d(gray, kernel).abs().mean())
