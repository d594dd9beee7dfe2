"""Images and videos of a validation: files in the output folder, and the run's tracker."""

import argparse
import importlib.util
import io
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from PIL import Image


# Frames per second of validation videos.
FPS = 4

TRACKERS = ("tensorboard", "wandb")


def check_tracker(name: str | None) -> None:
    """Raises `ImportError` if the package of a tracker is not installed."""
    if name in TRACKERS and importlib.util.find_spec(name) is None:
        raise ImportError(
            f"--report_to {name}, which is not installed: pip install {name}, or give --report_to none; log.jsonl in "
            "the output folder has the same numbers."
        )


def show(accelerator: Accelerator, args: argparse.Namespace, name: str, step: int, pixels: np.ndarray) -> None:
    """Saves an image or a video as `output_dir/NAME_STEP.png` or `.mp4`, and sends it to the tracker.

    Args:
        pixels (`np.ndarray`): uint8 `[H, W, 3]`, or `[frames, H, W, 3]` for a video with `FPS` frames per second.
    """
    if not accelerator.is_main_process:
        return
    is_video = pixels.ndim == 4
    path = Path(args.output_dir, f"{name}_{step:06d}.{'mp4' if is_video else 'png'}")
    if is_video:
        # Only videos need PyAV, which a machine that trains F and G alone may lack.
        from mcdiff_pipeline.video import write_video

        write_video(pixels, path, fps=FPS)
    else:
        Image.fromarray(pixels).save(path)
    for tracker in accelerator.trackers:
        if not is_video:
            keywords = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({name: pixels[None]}, step=step, **keywords)
        elif tracker.name == "tensorboard":
            # `SummaryWriter.add_video` writes the same, but needs moviepy to make the GIF.
            from tensorboard.compat.proto.summary_pb2 import Summary

            height, width = pixels.shape[1:3]
            image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encode_gif(pixels))
            tracker.writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)
        else:
            import wandb

            tracker.log({name: wandb.Video(str(path), format="mp4")}, step=step)


def encode_gif(frames: np.ndarray) -> bytes:
    """Encodes uint8 frames `[frames, H, W, 3]` as an animated GIF."""
    first, *others = (Image.fromarray(frame) for frame in frames)
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=others, duration=1000 // FPS, loop=0)
    return file.getvalue()
