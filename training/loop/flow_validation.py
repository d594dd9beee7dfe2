"""Validation of flow completion: errors on bodies by strokes at keypoints, and how well things move as wholes."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator

from loop.flow_loss import complete
from loop.latent_cache import LatentClips
from loop.region_sampling import true_regions
from loop.samples import FramePair
from loop.stroke_sampling import at, large_labels
from mcdiff_pipeline.baselines import nearest_stroke_flow
from mcdiff_pipeline.dataset.sampling import STILL, keypoint_strokes, rasterize_points
from mcdiff_pipeline.drawing import titled_columns
from mcdiff_pipeline.evaluation.whole_measures import measure_whole, share_inside
from mcdiff_pipeline.evaluation.whole_motions import INSETS, OUTSETS, spread_points
from mcdiff_pipeline.flow import resize_flow, to_cells, to_pixels
from mcdiff_pipeline.flow_completion_unet import FlowCompletionUNet
from mcdiff_pipeline.flow_visualization import flow_to_image


# Strokes on a whole thing, and holds outside of it.
WHOLE_STROKES, WHOLE_HOLDS = (1, 3), 2
# Things of each folder, with both numbers of strokes.
NUM_WHOLES = 24
# A whole thing moves at least by this share of the frame's side, alone, over a background that is still almost
# everywhere; and its motion differs from a similarity by at most this share of it.
WHOLE_MOTION, STILL_SHARE, RIGID_RESIDUAL = 1 / 128, 0.99, 0.1
# Samples in one forward pass.
BATCH_SIZE = 32
# Rows of the sheet.
SHEET_ROWS = 6


class ValidationSample(TypedDict):
    """A pair of frames with strokes at keypoints, on the latent grid. Flow is in cells.

    latent: `[C, h, w]`.
    flow, nearest: `[2, h, w]`, the true flow, and the baseline in which each cell follows the nearest stroke.
    body: bool `[1, h, w]`, cells that people and objects cover by more than half.
    sparse_flow, mask: the strokes, `[2, h, w]` and bool `[1, h, w]`.
    index: number of the pair in the validation clips.
    regions, region_sparse_flow, region_mask: people and objects as in `RegionSample`; for a model that reads regions.
    features: as in `FlowSample`; for a model that reads features.
    """

    latent: torch.Tensor
    flow: torch.Tensor
    nearest: torch.Tensor
    body: torch.Tensor
    sparse_flow: torch.Tensor
    mask: torch.Tensor
    index: int
    regions: NotRequired[torch.Tensor]
    region_sparse_flow: NotRequired[torch.Tensor]
    region_mask: NotRequired[torch.Tensor]
    features: NotRequired[torch.Tensor]


class WholeSample(TypedDict):
    """A thing that moves as a whole over a still background, with strokes on it and holds outside. Flow is in cells.

    latent, sparse_flow, mask, features: as in `ValidationSample`.
    asked: `[2, h, w]`, motion of the thing.
    share: `[h, w]`, share of each cell that it covers.
    name: name of its figures, with the number of strokes and the folder of the clip.
    """

    latent: torch.Tensor
    sparse_flow: torch.Tensor
    mask: torch.Tensor
    asked: torch.Tensor
    share: torch.Tensor
    name: str
    features: NotRequired[torch.Tensor]


class FlowValidation:
    """The same samples for each validation of flow completion, and its figures.

    Args:
        clips (`LatentClips`): validation clips.
        args (`argparse.Namespace`): arguments of the training script.
        accelerator (`Accelerator`): runs the model.
        config (`dict`): config of the model.
    """

    def __init__(self, clips: LatentClips, args: argparse.Namespace, accelerator: Accelerator, config: dict[str, Any]):
        self.clips, self.args, self.accelerator = clips, args, accelerator
        self.cell, self.reads_regions = config["vae_scale_factor"], config["reads_regions"]
        self.reads_features = config["feature_channels"] is not None
        self.samples = self._load_samples()
        self.wholes = self._load_wholes()

    def __bool__(self) -> bool:
        return bool(self.samples or self.wholes)

    def measure(self, model: FlowCompletionUNet) -> dict[str, float]:
        """The figures of a model; those of `_measure_bodies` and `_measure_wholes`."""
        values = self._measure_bodies(model) if self.samples else {}
        return values | self._measure_wholes(model)

    def _load_samples(self) -> list[ValidationSample]:
        """Pairs without a visible keypoint are left out."""
        samples: list[ValidationSample] = []
        for index in np.random.default_rng(1).permutation(len(self.clips)).tolist():
            sample = self._load_sample(index)
            if sample is not None:
                samples.append(sample)
            if len(samples) == self.args.num_validation_samples:
                break
        return samples

    def _load_sample(self, index: int) -> ValidationSample | None:
        pair = self.clips[index]
        points, displacements = keypoint_strokes(
            pair["flow"], pair["keypoints"], self.args.num_validation_strokes, np.random.default_rng([2, index])
        )
        if len(points) == 0 or not (pair["mask"] > 0).any():
            return None
        size = pair["latent"].shape[1:]
        sparse_flow, mask = rasterize_points(points, displacements, size, pair["flow"].shape[1:])
        body = torch.from_numpy(pair["mask"] > 0)[None, None].float()
        sample: ValidationSample = {
            "latent": torch.from_numpy(pair["latent"]),
            "flow": resize_flow(torch.from_numpy(pair["flow"])[None], size)[0],
            "nearest": torch.from_numpy(nearest_stroke_flow(points, displacements, size, self.cell)),
            "body": F.interpolate(body, size, mode="area")[0] > 0.5,
            "sparse_flow": sparse_flow,
            "mask": mask,
            "index": index,
        }
        if self.reads_regions:
            sample |= true_regions(pair, points, displacements)
        if self.reads_features:
            sample["features"] = torch.from_numpy(pair["features"])
        return sample

    def _load_wholes(self) -> list[WholeSample]:
        """At most `NUM_WHOLES` things of each folder, each with both numbers of strokes."""
        samples: list[WholeSample] = []
        for source, data_dir in enumerate(self.args.validation_data_dir):
            indices = np.flatnonzero(self.clips.sources == source)
            number = 0
            for index in np.random.default_rng(3).permutation(indices).tolist():
                pair = self.clips[index]
                thing = whole_thing(pair)
                if thing is None:
                    continue
                samples += self._whole_samples(pair, thing, Path(data_dir).resolve().name)
                number += 1
                if number == NUM_WHOLES:
                    break
        return samples

    def _whole_samples(self, pair: FramePair, thing: np.ndarray, folder: str) -> Iterator[WholeSample]:
        size = pair["latent"].shape[1:]
        share = share_inside(thing, size)
        asked = resize_flow(torch.from_numpy(pair["flow"] * thing)[None], size)[0] / share.clamp_min(1e-3)
        for strokes in WHOLE_STROKES:
            try:
                inside = spread_points(thing, strokes, INSETS)
                outside = spread_points(~thing, WHOLE_HOLDS, OUTSETS)
            except ValueError:  # the thing has no room for the strokes
                continue
            displacements = np.concatenate([at(pair["flow"], inside).T, np.zeros_like(outside)])
            sparse_flow, mask = rasterize_points(
                np.concatenate([inside, outside]), displacements, size, pair["flow"].shape[1:]
            )
            sample: WholeSample = {
                "latent": torch.from_numpy(pair["latent"]),
                "sparse_flow": sparse_flow,
                "mask": mask,
                "asked": asked,
                "share": share,
                "name": f"{strokes}_stroke{'s' * (strokes > 1)}_{folder}",
            }
            if self.reads_features:
                sample["features"] = torch.from_numpy(pair["features"])
            yield sample

    def _measure_bodies(self, model: FlowCompletionUNet) -> dict[str, float]:
        """End-point errors in pixels, on bodies and off bodies, of the model and of the baselines.

        A model that reads regions is measured with and without them.
        """
        samples = self.samples
        flows: dict[str, Sequence[Any]] = {
            "model": self.predict(model, samples, regions=False),
            "zero": [0] * len(samples),
            "nearest": [sample["nearest"] for sample in samples],
        }
        if self.reads_regions:
            flows["model_with_regions"] = self.predict(model, samples, regions=True)
        values = {}
        for place in ("body", "off_body"):
            for name, predictions in flows.items():
                errors = []
                for sample, flow in zip(samples, predictions, strict=True):
                    error = to_pixels(flow - sample["flow"], self.cell).norm(dim=0)
                    errors.append(error[sample["body"][0] == (place == "body")])
                values[f"epe_{place}_{name}"] = float(torch.cat(errors).mean())
            for name in ("zero", "nearest"):
                baseline = max(values[f"epe_{place}_{name}"], 1e-6)
                values[f"epe_{place}_over_{name}"] = values[f"epe_{place}_model"] / baseline
        return values

    def _measure_wholes(self, model: FlowCompletionUNet) -> dict[str, float]:
        """`miss` and `leak` of `measure_whole`, means over the things of each folder."""
        found: dict[str, list[float]] = {}
        for sample, flow in zip(self.wholes, self.predict(model, self.wholes, regions=False), strict=True):
            measures = measure_whole(flow, sample["asked"], sample["share"])
            for measure in ("miss", "leak"):
                if np.isfinite(measures[measure]):
                    found.setdefault(f"{measure}_{sample['name']}", []).append(measures[measure])
        return {name: float(np.mean(measured)) for name, measured in found.items()}

    def predict(
        self, model: FlowCompletionUNet, samples: Sequence[ValidationSample | WholeSample], *, regions: bool
    ) -> list[torch.Tensor]:
        """The dense flow of samples, each float32 `[2, h, w]` in cells."""
        flows: dict[int, torch.Tensor] = {}
        by_size: dict[torch.Size, list[int]] = {}
        for number, sample in enumerate(samples):
            by_size.setdefault(sample["latent"].shape, []).append(number)
        names = ("latent", "sparse_flow", "mask", "features")
        names += ("regions", "region_sparse_flow", "region_mask") if regions else ()
        for numbers in by_size.values():
            for first in range(0, len(numbers), BATCH_SIZE):
                chosen = numbers[first : first + BATCH_SIZE]
                batch = {
                    name: torch.stack([samples[number][name] for number in chosen]).to(self.accelerator.device)
                    for name in names
                    if name in samples[chosen[0]]
                }
                with self.accelerator.autocast():
                    dense_flow = complete(model, batch, self.cell, regions=regions)[0]
                flows |= dict(zip(chosen, to_cells(dense_flow.float().cpu(), self.cell)))
        return [flows[number] for number in range(len(samples))]

    def draw_sheet(self, model: FlowCompletionUNet) -> np.ndarray | None:
        """One row for each of the first samples: the frame, its strokes, the true flow, the predicted flow.

        They have the size of the first one. None without samples.
        """
        if not self.samples:
            return None
        shape = self.samples[0]["latent"].shape
        samples = [sample for sample in self.samples if sample["latent"].shape == shape][:SHEET_ROWS]
        height, width = (size * self.cell for size in shape[1:])
        rows = []
        for sample, prediction in zip(samples, self.predict(model, samples, regions=False)):
            flows = to_pixels(torch.stack([sample["sparse_flow"], sample["flow"], prediction]), self.cell)
            colors = flow_to_image(flows, max_magnitude=float(flows[1].norm(dim=0).max().clamp_min(1)))
            colors = F.interpolate(colors, (height, width), mode="nearest").permute(0, 2, 3, 1).numpy()
            rows.append(np.concatenate([self.clips.frames(sample["index"])[0], *colors], axis=1))
        return titled_columns(np.concatenate(rows), ("frame", "strokes", "true flow", "predicted flow"))


def whole_thing(pair: FramePair) -> np.ndarray | None:
    """The mask, bool `[H, W]`, of the thing that alone moves, and as a whole; None if there is no such thing."""
    flow, mask, size = pair["flow"], pair["mask"], pair["latent"].shape[1:]
    speed = np.hypot(*flow)
    side = np.sqrt(mask.size)
    moving = [label for label in large_labels(mask, size) if speed[mask == label].mean() >= WHOLE_MOTION * side]
    if len(moving) != 1:
        return None
    thing = mask == moving[0]
    if (speed[~thing] < STILL).mean() < STILL_SHARE or not (share_inside(thing, size) > 0.5).any():
        return None
    # the similarity (a, b, t_x, t_y) that fits its flow best
    rows, columns = np.nonzero(thing)
    x, y = columns - columns.mean(), rows - rows.mean()
    one, zero = np.ones_like(x), np.zeros_like(x)
    matrix = np.concatenate([np.stack([x, -y, one, zero], axis=1), np.stack([y, x, zero, one], axis=1)])
    target = flow[:, thing].reshape(-1)
    residual = target - matrix @ np.linalg.lstsq(matrix, target, rcond=None)[0]
    is_rigid = np.sqrt(np.square(residual).mean() / np.square(target).mean()) <= RIGID_RESIDUAL
    return thing if is_rigid else None
