"""Does keypoint flow describe the body better than dense flow? End-point error with and without refinement.

    python benchmarks/refinement.py --data data/people256 --split test
    python benchmarks/refinement.py --data data/people256 --split test --estimators dis raft_small=C_T_V2

Rendered people have exact flow; their keypoints are not given but detected. The figures of `docs/annotation.md` are
this program's output on the test split; thresholds were chosen on the validation split (`--min_agreement`).
"""

import argparse
import json

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from mcdiff_pipeline.annotation.flow import forward_backward_consistency, load_flow_estimator
from mcdiff_pipeline.annotation.people import Person, PersonDetector, find_pose_model, match_people
from mcdiff_pipeline.annotation.refinement import MIN_AGREEMENT, PARTS, label_parts, refine_flow
from mcdiff_pipeline.atomic_files import atomic_path
from mcdiff_pipeline.dataset import Clip, ClipDataset
from mcdiff_pipeline.flow_visualization import flow_to_image


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="Folder of rendered clip shards.")
    parser.add_argument("--split", default="test")
    parser.add_argument("--num_clips", type=int, default=100, help="The first clips of the split.")
    parser.add_argument(
        "--estimators",
        nargs="+",
        default=["dis"],
        metavar="NAME[=WEIGHTS]",
        help="As load_flow_estimator takes them, such as raft_small=C_T_V2.",
    )
    parser.add_argument("--pose_model", default=None, help="As in `mcdiff annotate`.")
    parser.add_argument("--min_agreement", type=float, default=MIN_AGREEMENT)
    parser.add_argument("--output", default=None, help="Write the figures to this JSON file, too.")
    parser.add_argument("--picture", default=None, help="Write the clips that changed most to this PNG file.")
    return parser.parse_args(arguments)


def true_parts(clip: Clip) -> np.ndarray:
    """int8 `[H, W]`: the part of the body at each pixel of the first frame, by the exact keypoints; -1 elsewhere."""
    labels = np.full(clip.masks.shape[1:], -1, dtype=np.int8)
    for index, keypoints in enumerate(clip.keypoints[0]):
        mask = (clip.masks[0] == index + 1).astype(np.float32)
        person = Person(keypoints=np.concatenate([keypoints[:, :2], keypoints[:, 2:] > 0], axis=1), mask=mask)
        labels = np.maximum(labels, label_parts(person))
    return labels


class Errors:
    """Sums of end-point errors by estimator, variant and region, over pixels."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, str], list[float]] = {}

    def add(self, variant: str, region: str, error: np.ndarray) -> None:
        total = self.sums.setdefault((variant, region), [0.0, 0])
        total[0] += float(error.sum())
        total[1] += error.size

    def mean(self, variant: str, region: str) -> float:
        total, count = self.sums.get((variant, region), (0.0, 0))
        return total / count if count else float("nan")

    def pixels(self, region: str) -> int:
        return max((int(count) for (_, name), (_, count) in self.sums.items() if name == region), default=0)


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    dataset = ClipDataset(args.data, args.split)
    estimators = {}
    for text in args.estimators:
        name, _, weights = text.partition("=")
        estimators[text] = load_flow_estimator(name, weights=weights or None)
    errors = Errors()
    found = shown_people = 0
    rows = []
    number = min(args.num_clips, len(dataset))
    with PersonDetector(find_pose_model(args.pose_model)) as detector:
        for index in tqdm(range(number), desc="Clips"):
            clip = dataset.read(index, frames=(0, 1))
            truth, body, parts = clip.flow[0], clip.masks[0] > 0, true_parts(clip)
            before, after = (detector(frame) for frame in clip.frames)
            pairs = [(before[i], after[j]) for i, j in match_people(before, after)]
            found += len(pairs)
            shown_people += clip.keypoints.shape[1]
            regions = {"body": body, "off the body": ~body}
            regions |= {name: parts == part for part, name in enumerate(PARTS)}
            variants = {"zero flow": np.zeros_like(truth)}
            for name, estimator in estimators.items():
                dense = estimator(clip.frames[:1], clip.frames[1:])
                _, confidence = forward_backward_consistency(dense, estimator(clip.frames[1:], clip.frames[:1]))
                refined, weight = refine_flow(
                    clip.frames, dense[0], confidence[0], pairs, min_agreement=args.min_agreement
                )
                variants |= {name: dense[0], f"{name}, refined": refined}
                for variant in (name, f"{name}, refined"):
                    errors.add(variant, f"replaced pixels ({name})", _error(variants[variant], truth)[weight > 0.5])
            for variant, flow in variants.items():
                for region, where in regions.items():
                    errors.add(variant, region, _error(flow, truth)[where])
            if args.picture:
                name = args.estimators[-1]
                change = np.hypot(*(variants[f"{name}, refined"] - variants[name])).sum()
                rows.append((change, [clip.frames[0], truth, variants[name], variants[f"{name}, refined"]]))

    regions = list(dict.fromkeys(region for _, region in errors.sums))
    variants = list(dict.fromkeys(variant for variant, _ in errors.sums))
    print(f"{number} clips of the {args.split} split, {found} of {shown_people} people found in both frames")
    print(f"{'end-point error, px':26}{'pixels':>9}" + "".join(f"{variant:>21}" for variant in variants))
    for region in regions:
        means = "".join(f"{errors.mean(variant, region):21.2f}" for variant in variants)
        print(f"{region:26}{errors.pixels(region):>9}{means}")
    if args.output:
        figures = {
            "clips": number,
            "split": args.split,
            "people": shown_people,
            "people found": found,
            "end-point error (px)": {
                region: {variant: errors.mean(variant, region) for variant in variants} for region in regions
            },
        }
        with atomic_path(args.output) as path:
            path.write_text(json.dumps(figures, indent=2) + "\n")
    if args.picture:
        rows.sort(key=lambda row: -row[0])
        Image.fromarray(np.concatenate([_picture_row(*row) for _, row in rows[:6]])).save(args.picture)


def _error(flow: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.hypot(*(flow - truth))


def _picture_row(frame: np.ndarray, *flows: np.ndarray) -> np.ndarray:
    """The frame, then the true, the dense and the refined flow on one scale."""
    fastest = max(float(np.hypot(*flows[0]).max()), 1e-6)
    colors = flow_to_image(torch.from_numpy(np.stack(flows)), max_magnitude=fastest).permute(0, 2, 3, 1).numpy()
    return np.concatenate([frame, *colors], axis=1)


if __name__ == "__main__":
    main()
