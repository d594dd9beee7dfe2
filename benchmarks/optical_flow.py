"""End-point error of optical flow estimators, on rendered people and on warped photographs.

    python benchmarks/optical_flow.py --data data/people --photographs_dir data/photographs/test \\
        --estimators dis raft_small=C_T_V2 raft_small=runs/raft/raft_small
    python benchmarks/optical_flow.py --data data/people --split validation --estimators \\
        --dis_presets ultrafast fast medium --dis_upsampling 1 2 3 4 6 8      # how the settings of DIS were chosen

End-point errors are means in pixels over all pixels of a kind in all pairs of frames: on bodies, off bodies, and on
bodies that move less than 2, 2 to 8, and 8 pixels or more. All pixels of warped photographs count as body. Occluded
pixels are included, because rendered flow is exact there too. Time is CPU time per pair.
"""

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from mcdiff_pipeline.annotation.flow import DisFlow, FlowEstimator, load_flow_estimator
from mcdiff_pipeline.dataset import ClipDataset
from mcdiff_pipeline.flow import backward_warp, resize_flow


# Kinds of pixels, and the range of their displacement in pixels.
KINDS = {
    "body": (0, math.inf),
    "off body": (0, math.inf),
    "below 2": (0, 2),
    "2 to 8": (2, 8),
    "above 8": (8, math.inf),
}
# Two frames, uint8 [H, W, 3]; flow from the first to the second, [2, H, W] in pixels; mask of bodies, bool [H, W].
Pair = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class ZeroFlow:
    """Predicts that nothing moves."""

    description = {"name": "zero flow"}

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        batch, height, width = first.shape[:3]
        return np.zeros((batch, 2, height, width), dtype=np.float32)


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", default=[], help="Folders of clip shards.")
    parser.add_argument("--split", default="test")
    parser.add_argument("--num_clips", type=int, default=1000, help="The first clips of the split of each folder.")
    parser.add_argument("--photographs_dir", type=Path, help="Folder of photographs to warp.")
    parser.add_argument("--photograph_size", type=int, default=256, help="Height and width of warped photographs.")
    parser.add_argument(
        "--estimators",
        nargs="*",
        default=["dis"],
        metavar="NAME[=WEIGHTS]",
        help="Names and weights for load_flow_estimator, such as raft_large=C_T_V2.",
    )
    parser.add_argument("--dis_presets", nargs="*", default=[], help="Also DIS with each of these presets.")
    parser.add_argument(
        "--dis_upsampling", nargs="*", type=int, default=[], help="Factors that enlarge the frames of --dis_presets."
    )
    parser.add_argument("--device", default="cpu", help="Device of RAFT.")
    parser.add_argument(
        "--dtype", default="float32", choices=["float32", "bfloat16", "float16"], help="Number format of RAFT."
    )
    parser.add_argument("--output", default=None, help="Also write the numbers to this JSON file.")
    args = parser.parse_args(arguments)
    if not args.data and args.photographs_dir is None:
        parser.error("there is nothing to measure on: give --data, --photographs_dir or both")
    return args


def load_estimators(args: argparse.Namespace) -> dict[str, FlowEstimator]:
    """Label → estimator, in the order of the table."""
    estimators = {"zero flow": ZeroFlow()}
    for text in args.estimators:
        name, _, weights = text.partition("=")
        dtype = None if name == "dis" else getattr(torch, args.dtype)
        estimators[text] = load_flow_estimator(name, weights=weights or None, device=args.device, dtype=dtype)
    for preset in args.dis_presets:
        for factor in args.dis_upsampling:
            estimators[f"dis {preset} x{factor}"] = DisFlow(preset, factor)
    return estimators


def clip_pairs(folder: str, split: str, num_clips: int) -> Iterator[Pair]:
    dataset = ClipDataset(folder, split)
    for index in range(min(num_clips, len(dataset))):
        clip = dataset[index]
        for t in range(len(clip.flow)):
            yield clip.frames[t], clip.frames[t + 1], clip.flow[t], clip.masks[t] > 0


def warped_photographs(folder: Path, size: int) -> Iterator[Pair]:
    """Yields pairs from photographs that move by known smooth flow. All pixels count as body.

    The second frame is a part of the photograph. The first frame is sampled from it at the end of the flow, so the
    flow is exact. Both are made at twice the size and averaged, so that sampling does not blur the first frame only.
    The flow is a shift of up to 10 pixels, a rotation of up to 5 degrees, a zoom of up to 5 % and waves of up to 3
    pixels with a length of at least half the image. It depends on the position of the photograph in the folder.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not paths:
        raise ValueError(f"{folder} holds no .jpg, .jpeg or .png file; give a folder that does.")
    margin = size // 4
    large = 2 * (size + 2 * margin)
    grid = torch.arange(large) / (2 * size) - large / (4 * size)  # 0 in the middle; the image is 1 wide
    x, y = grid[None, :], grid[:, None]
    for number, path in enumerate(paths):
        rng = np.random.default_rng(number)
        image = Image.open(path).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.resize((large, large), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
        second = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()

        angle, zoom = np.radians(rng.uniform(-5, 5)), rng.uniform(0.95, 1.05)
        turned = (zoom * (np.cos(angle) * x - np.sin(angle) * y), zoom * (np.sin(angle) * x + np.cos(angle) * y))
        flow = []
        for place, target in zip((x, y), turned):
            displacement = (target - place) * size + rng.uniform(-10, 10)
            for _ in range(2):
                (a, b), phase = rng.uniform(-2, 2, 2) / np.sqrt(2), rng.uniform(0, 2 * np.pi)
                displacement = displacement + rng.uniform(0, 1.5) * torch.sin(2 * np.pi * (a * x + b * y) + phase)
            flow.append(displacement)
        flow = torch.stack(flow)[None].float()  # in pixels of the final size
        first = backward_warp(second, flow * 2)

        inside = slice(margin, margin + size)
        frames = [F.avg_pool2d(frame, 2)[0, :, inside, inside].permute(1, 2, 0) for frame in (first, second)]
        first, second = (frame.round().byte().numpy() for frame in frames)
        flow = resize_flow(flow * 2, (large // 2, large // 2))[0, :, inside, inside].numpy()
        yield first, second, flow, np.ones((size, size), dtype=bool)


def measure(estimators: dict[str, FlowEstimator], pairs: Iterator[Pair]) -> dict[str, dict[str, float]]:
    """Row → column → number, with a row for each estimator.

    The columns are the kinds, with end-point errors in pixels, and `ms`, milliseconds of CPU time per pair. The first
    row is the fraction of pixels of each kind.
    """
    errors = {label: dict.fromkeys(KINDS, 0.0) for label in estimators}
    pixels = dict.fromkeys(KINDS, 0)
    seconds = dict.fromkeys(estimators, 0.0)
    count = 0
    for first, second, truth, body in pairs:
        length = np.linalg.norm(truth, axis=0)
        where = {
            kind: (body != (kind == "off body")) & (length >= least) & (length < most)
            for kind, (least, most) in KINDS.items()
        }
        count += 1
        for kind, chosen in where.items():
            pixels[kind] += int(chosen.sum())
        for label, estimator in estimators.items():
            started = time.process_time()
            flow = estimator(first[None], second[None])[0]
            seconds[label] += time.process_time() - started
            error = np.linalg.norm(flow - truth, axis=0)
            for kind, chosen in where.items():
                errors[label][kind] += float(error[chosen].sum(dtype=np.float64))
    rows = {"share of pixels": {kind: pixels[kind] / (pixels["body"] + pixels["off body"]) for kind in KINDS}}
    for label in estimators:
        rows[label] = {kind: errors[label][kind] / pixels[kind] for kind in KINDS if pixels[kind]}
        rows[label]["ms"] = 1000 * seconds[label] / count
    return rows


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    estimators = load_estimators(args)
    results = {}
    for folder in args.data:
        pairs = clip_pairs(folder, args.split, args.num_clips)
        results[f"{Path(folder).name}, {args.split}"] = measure(estimators, pairs)
    if args.photographs_dir is not None:
        pairs = warped_photographs(args.photographs_dir, args.photograph_size)
        results["warped photographs"] = measure(estimators, pairs)

    machine = f"{platform.machine()}, {os.cpu_count()} cores; torch {torch.__version__}"
    machine += f", {torch.get_num_threads()} threads"
    print(f"machine  {machine}")
    for title, rows in results.items():
        print(f"\n{title:<28}" + "".join(f"{column:>10}" for column in (*KINDS, "ms")))
        for label, values in rows.items():
            cells = [f"{values[column]:>10.3f}" if column in values else f"{'-':>10}" for column in (*KINDS, "ms")]
            print(f"{label:<28}" + "".join(cells))
    if args.output:
        described = {label: estimator.description for label, estimator in estimators.items()}
        content = {"machine": machine, "estimators": described, "figures": results}
        Path(args.output).write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
