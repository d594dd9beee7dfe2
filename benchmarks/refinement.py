"""End-point error of dense flow on people, with and without refinement by keypoint flow.

    python benchmarks/refinement.py --data data/people256 --split test
    python benchmarks/refinement.py --data data/people256 --split test --estimators dis raft_small=C_T_V2

Rendered people have exact flow. Their keypoints are detected, as in real video. `docs/annotation.md` shows the output
on the test split. The thresholds were chosen on the validation split (`--min_agreement`).
"""

import argparse
import json

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from mcdiff_pipeline.annotation.consistency import forward_backward_consistency
from mcdiff_pipeline.annotation.flow import FlowEstimator, load_flow_estimator
from mcdiff_pipeline.annotation.people import Person, PersonDetector
from mcdiff_pipeline.annotation.pose_model import find_pose_model
from mcdiff_pipeline.annotation.refinement import MIN_AGREEMENT, PARTS, label_parts, refine_flow
from mcdiff_pipeline.annotation.tracking import match_people
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
        help="Names and weights for load_flow_estimator, such as raft_small=C_T_V2.",
    )
    parser.add_argument("--pose_model", default=None, help="Pose landmarker, as in `mcdiff annotate`.")
    parser.add_argument("--min_agreement", type=float, default=MIN_AGREEMENT, help="Threshold of refine_flow.")
    parser.add_argument("--output", default=None, help="Also write the numbers to this JSON file.")
    parser.add_argument("--picture", default=None, help="Write the clips that change most to this PNG file.")
    return parser.parse_args(arguments)


def true_parts(clip: Clip) -> np.ndarray:
    """int8 `[H, W]`: part of the body at each pixel of the first frame, from exact keypoints; -1 elsewhere."""
    labels = np.full(clip.masks.shape[1:], -1, dtype=np.int8)
    for index, keypoints in enumerate(clip.keypoints[0]):
        mask = (clip.masks[0] == index + 1).astype(np.float32)
        person = Person(keypoints=np.concatenate([keypoints[:, :2], keypoints[:, 2:] > 0], axis=1), mask=mask)
        labels = np.maximum(labels, label_parts(person))
    return labels


class Errors:
    """Sums of end-point errors over pixels, by variant and region."""

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


class RefinementBenchmark:
    """Compares flow with and without refinement on rendered clips.

    Attributes:
        errors: end-point errors in pixels.
        num_people, num_found: people in the clips, and those that were detected in both frames.
        rows: for each clip, how much the last estimator's flow changes, and the images of its row.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.estimators = {}
        for text in args.estimators:
            name, _, weights = text.partition("=")
            self.estimators[text] = load_flow_estimator(name, weights=weights or None)
        self.errors = Errors()
        self.num_people = self.num_found = 0
        self.rows: list[tuple[float, list[np.ndarray]]] = []

    def measure(self, clip: Clip, detector: PersonDetector) -> None:
        """Adds the errors of a clip of two frames."""
        truth, body, parts = clip.flow[0], clip.masks[0] > 0, true_parts(clip)
        before, after = (detector(frame) for frame in clip.frames)
        people = [(before[i], after[j]) for i, j in match_people(before, after)]
        self.num_found += len(people)
        self.num_people += clip.keypoints.shape[1]
        variants = {"zero flow": np.zeros_like(truth)}
        for name, estimator in self.estimators.items():
            dense, refined, weight = self._flows(clip, estimator, people)
            variants |= {name: dense, f"{name}, refined": refined}
            for variant in (name, f"{name}, refined"):
                self.errors.add(variant, f"replaced pixels ({name})", _error(variants[variant], truth)[weight > 0.5])
        regions = {"body": body, "off the body": ~body}
        regions |= {name: parts == part for part, name in enumerate(PARTS)}
        for variant, flow in variants.items():
            for region, where in regions.items():
                self.errors.add(variant, region, _error(flow, truth)[where])
        if self.args.picture:
            change = np.hypot(*(refined - dense)).sum()
            self.rows.append((change, [clip.frames[0], truth, dense, refined]))

    def _flows(
        self, clip: Clip, estimator: FlowEstimator, people: list[tuple[Person, Person]]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Dense flow, refined flow and the weight of keypoint flow in it."""
        dense = estimator(clip.frames[:1], clip.frames[1:])
        _, confidence = forward_backward_consistency(dense, estimator(clip.frames[1:], clip.frames[:1]))
        refined, weight = refine_flow(
            clip.frames, dense[0], confidence[0], people, min_agreement=self.args.min_agreement
        )
        return dense[0], refined, weight

    def report(self, num_clips: int) -> None:
        """Prints the table, and writes the files that the arguments name."""
        regions = list(dict.fromkeys(region for _, region in self.errors.sums))
        variants = list(dict.fromkeys(variant for variant, _ in self.errors.sums))
        means = {region: {variant: self.errors.mean(variant, region) for variant in variants} for region in regions}
        people = f"{self.num_found} of {self.num_people} people found in both frames"
        print(f"{num_clips} clips of the {self.args.split} split, {people}")
        print(f"{'end-point error, px':26}{'pixels':>9}" + "".join(f"{variant:>21}" for variant in variants))
        for region, values in means.items():
            cells = "".join(f"{value:21.2f}" for value in values.values())
            print(f"{region:26}{self.errors.pixels(region):>9}{cells}")
        if self.args.output:
            summary = {
                "clips": num_clips,
                "split": self.args.split,
                "people": self.num_people,
                "people found": self.num_found,
                "end-point error (px)": means,
            }
            with atomic_path(self.args.output) as path:
                path.write_text(json.dumps(summary, indent=2) + "\n")
        if self.args.picture:
            self.rows.sort(key=lambda row: -row[0])
            images = [_image_row(*row) for _, row in self.rows[:6]]
            Image.fromarray(np.concatenate(images)).save(self.args.picture)


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    dataset = ClipDataset(args.data, args.split)
    benchmark = RefinementBenchmark(args)
    num_clips = min(args.num_clips, len(dataset))
    with PersonDetector(find_pose_model(args.pose_model)) as detector:
        for index in tqdm(range(num_clips), desc="Clips"):
            benchmark.measure(dataset.read(index, frames=(0, 1)), detector)
    benchmark.report(num_clips)


def _error(flow: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.hypot(*(flow - truth))


def _image_row(frame: np.ndarray, *flows: np.ndarray) -> np.ndarray:
    """The frame, and the true, dense and refined flow on one scale."""
    fastest = max(float(np.hypot(*flows[0]).max()), 1e-6)
    colors = flow_to_image(torch.from_numpy(np.stack(flows)), max_magnitude=fastest).permute(0, 2, 3, 1).numpy()
    return np.concatenate([frame, *colors], axis=1)


if __name__ == "__main__":
    main()
