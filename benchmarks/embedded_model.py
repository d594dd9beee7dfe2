"""What a model reaches on the test split: its autoencoder, F and G, each beside the simple rival it has to beat.

    python benchmarks/embedded_model.py --data data/people --split test

The figures of `checkpoints/README.md` are this program's output. Nothing here is tuned on the split it reads.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from mcdiff_pipeline import MCDiffPipeline
from mcdiff_pipeline.atomic_files import atomic_path
from mcdiff_pipeline.baselines import moving_pixels, nearest_stroke_flow, splat_frame
from mcdiff_pipeline.dataset import ClipDataset
from mcdiff_pipeline.dataset.sampling import keypoint_strokes, rasterize_points
from mcdiff_pipeline.flow import resize_flow
from mcdiff_pipeline.flow_visualization import flow_to_image


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(Path(__file__).parents[1] / "checkpoints/mcdiff-small-128"))
    parser.add_argument("--data", required=True, help="Folder of clip shards.")
    parser.add_argument("--split", default="test")
    parser.add_argument("--num_clips", type=int, default=200, help="The first clips of the split.")
    parser.add_argument("--strokes", type=int, nargs="+", default=[5], help="Numbers of keypoint strokes for F.")
    parser.add_argument("--steps", type=int, default=None, help="Denoising steps of G; the model's default if absent.")
    parser.add_argument("--seed", type=int, default=0, help="Of the strokes and of G's noise.")
    parser.add_argument("--output", default=None, help="Write the figures to this JSON file, too.")
    parser.add_argument("--picture", default=None, help="Write a contact sheet of the first clips to this PNG file.")
    return parser.parse_args(arguments)


def decibels(squared_error: float, count: int) -> float:
    """PSNR in dB of values in [0, 1] from a sum of squared errors over `count` values."""
    return -10 * float(np.log10(squared_error / count))


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    dataset = ClipDataset(args.data, args.split)
    pipe = MCDiffPipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    cell = pipe.vae_scale_factor

    reconstruction = []  # PSNR in dB of every frame
    # sums over cells, then over pixels, so that a clip counts by how much of it there is to see
    epe = {
        (number, region, name): [0.0, 0]
        for number in args.strokes
        for region in ("body", "off the body")
        for name in ("F", "zero flow", "nearest stroke")
    }
    next_frame = {name: [0.0, 0] for name in ("G", "repeat the last frame", "splat the last frame")}
    rows = []
    for index in tqdm(range(min(args.num_clips, len(dataset))), desc="Clips"):
        clip = dataset.read(index, frames=(0, 1))
        rng = np.random.default_rng([args.seed, index])
        frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2).float() / 255  # [2, 3, H, W]
        flow = torch.from_numpy(clip.flow)  # [1, 2, H, W]
        size = tuple(frames.shape[2:])
        grid = (size[0] // cell, size[1] // cell)
        true_flow = resize_flow(flow, grid) * cell  # [1, 2, h, w] pixels

        latents = pipe.encode_image(frames)
        decoded = pipe.decode_latents(latents)
        reconstruction += [-10 * error.square().mean().log10().item() for error in decoded - frames]

        person = torch.from_numpy(clip.masks[0] > 0).float()[None, None]
        person = torch.nn.functional.avg_pool2d(person, cell)[0, 0] > 0.5  # [h, w]
        shown = torch.zeros_like(true_flow)  # where no keypoint is visible, there are no strokes to complete
        for number in args.strokes:
            points, displacements = keypoint_strokes(clip.flow[0], clip.keypoints[0], number, rng)
            if len(points) == 0:
                continue
            sparse, mask = rasterize_points(points, displacements, grid, size)
            answers = {
                "F": pipe.flow_completion(latents[:1], sparse[None] * cell, mask[None]).dense_flow,
                "zero flow": torch.zeros_like(true_flow),
                "nearest stroke": torch.from_numpy(nearest_stroke_flow(points, displacements, grid, cell))[None],
            }
            shown = answers["F"]
            for name, answer in answers.items():
                error = (answer - true_flow).norm(dim=1)[0]  # [h, w]
                for region, cells in (("body", person), ("off the body", ~person)):
                    epe[number, region, name][0] += error[cells].sum().item()
                    epe[number, region, name][1] += int(cells.sum())

        rollout = pipe.start_rollout(frames[:1])
        noise = torch.randn(latents[:1].shape, generator=torch.Generator().manual_seed(args.seed + index))
        following = pipe.next_frame(rollout, true_flow, noise, num_inference_steps=args.steps)
        pictures = {
            "G": pipe.decode_latents(following.latents),
            "repeat the last frame": frames[:1],
            "splat the last frame": pipe.decode_latents(splat_frame(latents[:1], true_flow / cell)),
        }
        moving = moving_pixels(flow)[0]
        for name, picture in pictures.items():
            error = (picture[0] - frames[1])[:, moving]
            next_frame[name][0] += error.square().sum().item()
            next_frame[name][1] += error.numel()

        if args.picture and len(rows) < 12:
            wheel = flow.norm(dim=1).max().item() + 1e-6
            flows = [
                flow_to_image(flow, max_magnitude=wheel),
                torch.nn.functional.interpolate(flow_to_image(shown, max_magnitude=wheel), size=size),
            ]
            tiles = [frames[0], flows[0][0] / 255, flows[1][0] / 255, frames[1], pictures["G"][0], decoded[1]]
            rows.append(torch.cat([*tiles, pictures["splat the last frame"][0]], dim=2))

    steps = args.steps or pipe.config.default_num_inference_steps
    figures = {
        "model": Path(args.model).name,
        "split": args.split,
        "clips": min(args.num_clips, len(dataset)),
        "autoencoder PSNR (dB)": float(np.mean(reconstruction)),
        "end-point error of F (px)": {
            f"{number} strokes, {region}": {
                name: epe[number, region, name][0] / max(epe[number, region, name][1], 1)
                for name in ("F", "zero flow", "nearest stroke")
            }
            for number in args.strokes
            for region in ("body", "off the body")
        },
        f"next frame at true flow, {steps} steps, PSNR on moving pixels (dB)": {
            name: decibels(*sums) for name, sums in next_frame.items()
        },
    }
    for errors in figures["end-point error of F (px)"].values():
        errors["F / zero flow"] = errors["F"] / errors["zero flow"]
        errors["F / nearest stroke"] = errors["F"] / errors["nearest stroke"]
    print(json.dumps(figures, indent=2))
    if args.output:
        with atomic_path(args.output) as path:
            path.write_text(json.dumps(figures, indent=2) + "\n")
    if args.picture:
        sheet = (torch.cat(rows, dim=1).clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
        Image.fromarray(sheet.numpy()).save(args.picture)


if __name__ == "__main__":
    main()
