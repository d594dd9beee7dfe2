"""Trains flow completion: from the latent of one frame and a few strokes to dense flow, by regression.

    python train_flow_completion.py --train_data_dir clips --validation_data_dir clips \\
        --pretrained_vae runs/autoencoder/vae --cache_dir cache --output_dir runs/flow_completion \\
        --max_train_minutes 60 --mixed_precision bf16 --use_ema

The trained model is the folder `output_dir/flow_completion`.
"""

import argparse
import sys
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import AutoencoderDC, AutoencoderKL

from loop.accelerator import make_accelerator
from loop.arguments import add_training_arguments, check_training_arguments
from loop.draws import SeededDraws
from loop.flow_loss import add_flow_loss_arguments, complete, complete_and_compare
from loop.latent_cache import add_clip_arguments, open_training_clips
from loop.publishing import add_hub_arguments, open_repository, push_component
from loop.region_sampling import add_region_arguments, draw_regions, draw_strokes_on_things, true_regions
from loop.samples import FlowSample
from loop.stroke_sampling import add_stroke_arguments, draw_strokes
from loop.trainer import Trainer
from loop.validation_media import show
from mcdiff_pipeline.atomic_files import atomic_folder
from mcdiff_pipeline.baselines import nearest_stroke_flow
from mcdiff_pipeline.dataset.sampling import keypoint_strokes, rasterize_points
from mcdiff_pipeline.flow import resize_flow, to_cells, to_pixels
from mcdiff_pipeline.flow_completion_unet import FlowCompletionUNet
from mcdiff_pipeline.flow_visualization import flow_to_image
from mcdiff_pipeline.latent_codec import vae_scale_factor


CONFIGS = Path(__file__).parent / "configs/small-128"


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_clip_arguments(parser)
    parser.add_argument("--num_validation_samples", type=int, default=256)
    parser.add_argument("--num_validation_strokes", type=int, default=5, help="Keypoint strokes in validation.")
    parser.add_argument(
        "--model_config",
        default=None,
        help=f"Config of the model. Default: {CONFIGS.name}/flow_completion.json, or from the pretrained model.",
    )
    parser.add_argument(
        "--pretrained_model_name_or_path",
        default=None,
        help="Start from this model folder. With --model_config, its weights are copied into a larger model, which at "
        "first gives the same output.",
    )
    add_flow_loss_arguments(parser)
    add_stroke_arguments(parser)
    add_region_arguments(parser)
    add_training_arguments(parser)
    add_hub_arguments(parser)
    args = parser.parse_args(arguments)
    check_training_arguments(args)
    if not 0 <= args.region_probability <= 1:
        raise ValueError(f"--region_probability is {args.region_probability}; it must be a number from 0 to 1.")
    return args


def enlarge(model: FlowCompletionUNet, pretrained: FlowCompletionUNet) -> None:
    """Copies the weights of a model into a larger one, which then gives the same output.

    New attention layers add zero at first. If foreground and background are new, both get the same flow.

    Raises:
        ValueError: if a layer of the smaller model is missing in the larger one or differs in size, except the last.
    """
    weights, given = model.state_dict(), pretrained.state_dict()
    is_new_output = model.config.separate_foreground and not pretrained.config.separate_foreground
    for name, tensor in given.items():
        if is_new_output and name.startswith("conv_out."):
            tensor = torch.cat([tensor, tensor, torch.zeros_like(tensor[:1])])
        if name not in weights or weights[name].shape != tensor.shape:
            raise ValueError(
                f"{name} of the pretrained model does not fit the model of --model_config: only attention and a "
                "separate foreground can be added; leave one of the two arguments out."
            )
        weights[name] = tensor
    for name, tensor in weights.items():
        if name not in given and ".to_out." in name:
            weights[name] = torch.zeros_like(tensor)
    model.load_state_dict(weights)


def make_model(args: argparse.Namespace, vae: AutoencoderDC | AutoencoderKL) -> FlowCompletionUNet:
    """The model to train: pretrained, enlarged, or with random weights."""
    torch.manual_seed(args.seed)
    pretrained = None
    if args.pretrained_model_name_or_path:
        pretrained = FlowCompletionUNet.from_pretrained(args.pretrained_model_name_or_path)
        if args.model_config is None:
            return FlowCompletionUNet.widened(pretrained, True, True) if args.reads_regions else pretrained
    config = FlowCompletionUNet.load_config(args.model_config or str(CONFIGS / "flow_completion.json"))
    config["in_channels"] = vae.config.latent_channels
    config["vae_scale_factor"] = vae_scale_factor(vae)
    if args.reads_regions:
        config["reads_regions"] = config["fits_regions"] = True
    model = FlowCompletionUNet.from_config(config)
    if pretrained is not None:
        enlarge(model, FlowCompletionUNet.widened(pretrained, model.config.reads_regions, model.config.fits_regions))
    return model


class ValidationSample(TypedDict):
    """A pair of frames with strokes at keypoints, on the latent grid. Flow is in cells.

    latent: `[C, h, w]`.
    flow, nearest: `[2, h, w]`, the true flow, and the baseline in which each cell follows the nearest stroke.
    body: bool `[1, h, w]`, cells that people and objects cover by more than half.
    sparse_flow, mask: the strokes, `[2, h, w]` and bool `[1, h, w]`.
    index: number of the pair in the validation clips.
    regions, region_sparse_flow, region_mask: people and objects as in `RegionSample`; for a model that reads regions.
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


class FlowCompletionTraining:
    """Flow completion with its training clips, loss and validation."""

    def __init__(self, args: argparse.Namespace, accelerator: Accelerator):
        self.args, self.accelerator = args, accelerator
        vae, self.clips, self.validation_clips = open_training_clips(args, accelerator)
        self.model = make_model(args, vae)
        self.cell, self.flow_scale = self.model.config.vae_scale_factor, self.model.config.flow_scale
        self.reads_regions = self.model.config.reads_regions
        height, width = self.clips[0]["latent"].shape[1:]
        self.model.register_to_config(sample_size=round((height * width) ** 0.5))
        accelerator.print(f"Flow completion with {self.model.num_parameters() / 1e6:.2f} M parameters.")
        self.draws = SeededDraws(len(self.clips), self.load_sample, args.seed, self.clips.describe)
        self.validation_samples = self.load_validation_samples()

    def load_sample(self, index: int, rng: np.random.Generator) -> FlowSample:
        pair = self.clips[index]
        draw = draw_strokes_on_things if self.reads_regions else draw_strokes
        points, displacements = draw(pair, self.args, rng)
        size = pair["latent"].shape[1:]
        sparse_flow, mask = rasterize_points(points, displacements, size, pair["flow"].shape[1:])
        sample: FlowSample = {
            "latent": pair["latent"],
            "flow": pair["flow"],
            "foreground": (pair["mask"] > 0)[None],
            "sparse_flow": sparse_flow,
            "mask": mask,
        }
        if self.reads_regions:
            sample |= draw_regions(pair, points, displacements, self.args, rng)
        return sample

    def load_validation_samples(self) -> list[ValidationSample]:
        """The same samples for each validation. Pairs without a visible keypoint are left out."""
        samples, clips = [], self.validation_clips
        if clips is None:
            return samples
        for index in np.random.default_rng(1).permutation(len(clips)).tolist():
            sample = self.load_validation_sample(index)
            if sample is not None:
                samples.append(sample)
            if len(samples) == self.args.num_validation_samples:
                break
        return samples

    def load_validation_sample(self, index: int) -> ValidationSample | None:
        pair = self.validation_clips[index]
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
        return sample

    def compute_loss(
        self, model: torch.nn.Module, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        _, loss, values = complete_and_compare(model, batch, self.args, self.cell, self.flow_scale)
        return loss, values

    def validate(self, model: FlowCompletionUNet, step: int) -> dict[str, float]:
        """End-point errors in pixels, on bodies and off bodies, of the model and of the baselines.

        A model that reads regions is measured with and without them.
        """
        samples = torch.utils.data.default_collate(self.validation_samples)
        flows = {"model": self.predict(model, regions=False), "zero": 0, "nearest": samples["nearest"]}
        if self.reads_regions:
            flows["model_with_regions"] = self.predict(model, regions=True)
        values = {}
        for place, where in (("body", samples["body"][:, 0]), ("off_body", ~samples["body"][:, 0])):
            for name, flow in flows.items():
                error = to_pixels(flow - samples["flow"], self.cell)
                values[f"epe_{place}_{name}"] = float(error.norm(dim=1)[where].mean())
            for name in ("zero", "nearest"):
                baseline = max(values[f"epe_{place}_{name}"], 1e-6)
                values[f"epe_{place}_over_{name}"] = values[f"epe_{place}_model"] / baseline
        show(self.accelerator, self.args, "validation", step, self.draw_sheet(flows["model"]))
        return values

    def predict(self, model: FlowCompletionUNet, *, regions: bool) -> torch.Tensor:
        """The dense flow of the validation samples, float32 `[N, 2, h, w]` in cells."""
        flows = []
        for first in range(0, len(self.validation_samples), 32):
            batch = torch.utils.data.default_collate(self.validation_samples[first : first + 32])
            batch = {name: tensor.to(self.accelerator.device) for name, tensor in batch.items()}
            with self.accelerator.autocast():
                dense_flow = complete(model, batch, self.cell, regions=regions)[0]
            flows.append(to_cells(dense_flow.float().cpu(), self.cell))
        return torch.cat(flows)

    def draw_sheet(self, predictions: torch.Tensor) -> np.ndarray:
        """One row for each of the first samples: the frame, its strokes, the true flow, the predicted flow."""
        height, width = (size * self.cell for size in predictions.shape[2:])
        rows = []
        for sample, prediction in zip(self.validation_samples[:6], predictions):
            flows = to_pixels(torch.stack([sample["sparse_flow"], sample["flow"], prediction]), self.cell)
            colors = flow_to_image(flows, max_magnitude=float(flows[1].norm(dim=0).max().clamp_min(1)))
            colors = F.interpolate(colors, (height, width), mode="nearest").permute(0, 2, 3, 1).numpy()
            rows.append(np.concatenate([self.validation_clips.frames(sample["index"])[0], *colors], axis=1))
        return np.concatenate(rows)


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    accelerator = make_accelerator(args)
    repository = open_repository(args) if accelerator.is_main_process else None
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)

    training = FlowCompletionTraining(args, accelerator)
    status = Trainer(
        accelerator,
        args,
        name="flow_completion",
        model=training.model,
        draws=training.draws,
        compute_loss=training.compute_loss,
        validate=training.validate if training.validation_samples else None,
    ).train()

    if accelerator.is_main_process:
        atomic_folder(Path(args.output_dir, "flow_completion"), training.model.save_pretrained)
    if repository is not None and status == 0:
        push_component(args.output_dir, ["flow_completion"], repository, title="Flow completion (F)")
    return status


if __name__ == "__main__":
    sys.exit(main())
