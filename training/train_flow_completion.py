"""Trains flow completion: from the latent of one frame and a few strokes to dense flow, by regression.

    python train_flow_completion.py --train_data_dir clips --validation_data_dir clips \\
        --pretrained_vae runs/autoencoder/vae --cache_dir cache --output_dir runs/flow_completion \\
        --max_train_minutes 60 --mixed_precision bf16 --use_ema

The trained model is the folder `output_dir/flow_completion`.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from diffusers import AutoencoderDC, AutoencoderKL

from loop.accelerator import make_accelerator
from loop.arguments import add_training_arguments, check_probabilities, check_training_arguments
from loop.draws import MixedDraws, SeededDraws
from loop.feature_basis import feature_basis, has_feature_basis
from loop.feature_cache import add_feature_drop_argument, load_image_encoder
from loop.feature_forms import WITHOUT
from loop.flow_loss import add_flow_loss_arguments, complete_and_compare
from loop.flow_validation import FlowValidation
from loop.latent_cache import LatentClips, add_clip_arguments, open_training_clips
from loop.motion_drawing import with_new_motions
from loop.publishing import add_hub_arguments, open_repository, push_component
from loop.region_sampling import add_region_arguments, draw_regions
from loop.samples import FlowSample
from loop.stroke_sampling import (
    add_stroke_arguments,
    add_strokes_on_things_argument,
    draw_strokes,
    draw_strokes_on_things,
    set_strokes_on_things,
)
from loop.trainer import Trainer
from loop.validation_media import show
from mcdiff_pipeline.atomic_files import atomic_folder
from mcdiff_pipeline.dataset.sampling import rasterize_points
from mcdiff_pipeline.flow_completion_unet import FlowCompletionUNet
from mcdiff_pipeline.latent_codec import vae_scale_factor


CONFIGS = Path(__file__).parent / "configs/small-128"
# First parts of the names of layers that only a model with features has.
NEW_LAYERS = ("stroke_attention.", "conv_attention_gate.")


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
    parser.add_argument(
        "--sample_size",
        type=int,
        default=None,
        help="Latent cells along one side of the square grid at which the pipeline runs the model. Default: the most "
        "frequent size of the training clips.",
    )
    parser.add_argument(
        "--motion_threshold",
        type=float,
        default=None,
        help="In the finished model, flow below this share of the motion of the strokes becomes still. Default: as in "
        "the config or the pretrained model.",
    )
    parser.add_argument(
        "--open_gates",
        type=float,
        nargs=2,
        default=None,
        metavar=("REGIONS", "FEATURES"),
        help="Add these to the logits of the gates to the flow of regions and to that of features, in the pretrained "
        "model. A model that learned them late keeps its gates nearly closed; opened ones are trained again.",
    )
    add_mixture_arguments(parser)
    add_feature_arguments(parser)
    add_flow_loss_arguments(parser)
    add_stroke_arguments(parser)
    add_region_arguments(parser)
    add_training_arguments(parser)
    add_hub_arguments(parser)
    args = parser.parse_args(arguments)
    check_training_arguments(args)
    check_arguments(args)
    return args


def add_mixture_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `MixedDraws`, and which strokes its samples get."""
    group = parser.add_argument_group("mixture of clips")
    group.add_argument(
        "--data_weights",
        type=float,
        nargs="+",
        default=None,
        help="Share of the batches for each folder of --train_data_dir. Default: by its number of pairs of frames.",
    )
    group.add_argument(
        "--size_weights",
        type=float,
        nargs="+",
        default=None,
        help="Share of the batches for each size of frames, smallest first. Default: by the number of its pairs of "
        "frames. --train_batch_size is that of the smallest size; larger sizes get fewer samples, at the same cost.",
    )
    add_strokes_on_things_argument(group)
    group.add_argument(
        "--new_motions",
        type=float,
        nargs="+",
        default=None,
        help="For each folder of --train_data_dir, share of the samples in which the things get other motions than in "
        "their clip: random translations and rotations as a whole. Default: 0.",
    )


def add_feature_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of a model that reads semantic features."""
    group = parser.add_argument_group("semantic features")
    group.add_argument(
        "--image_encoder", default=None, help="Folder of the frozen image encoder, which gives semantic features."
    )
    group.add_argument(
        "--reads_features",
        action="store_true",
        help="Train a model that reads semantic features: a new one, or the pretrained one with new inputs of zero "
        "weight.",
    )
    add_feature_drop_argument(group)
    group.add_argument(
        "--new_layers_learning_rate",
        type=float,
        default=None,
        help="Learning rate of the layers that compare features. Default: --learning_rate.",
    )
    group.add_argument(
        "--features_without",
        choices=WITHOUT,
        default=None,
        help="For ablations, leave a part out of how features are read: the gate to the output, the input channels, "
        "the training of the attention to strokes, or distance in it. Not with FSDP.",
    )


def check_arguments(args: argparse.Namespace) -> None:
    """Raises `ValueError` for impossible values of the script's own arguments."""
    check_probabilities(args, ("region_probability", "feature_drop_probability", "strokes_on_things"))
    if args.motion_threshold is not None and not 0 <= args.motion_threshold < 1:
        raise ValueError(f"--motion_threshold is {args.motion_threshold:g}; give a number from 0 to below 1.")
    for name in ("data_weights", "size_weights"):
        weights = getattr(args, name)
        if weights is not None and (min(weights) < 0 or sum(weights) <= 0):
            raise ValueError(f"--{name} is {weights}; give numbers of 0 or more, not all 0.")
    for name in ("data_weights", "new_motions"):
        values = getattr(args, name)
        if values is not None and len(values) != len(args.train_data_dir):
            raise ValueError(
                f"--{name} has {len(values)} values for {len(args.train_data_dir)} folders of --train_data_dir; give "
                "one for each."
            )
    if args.new_motions is not None and not all(0 <= share <= 1 for share in args.new_motions):
        raise ValueError(f"--new_motions is {args.new_motions}; give numbers from 0 to 1.")
    if args.gradient_weight < 0:
        raise ValueError(f"--gradient_weight is {args.gradient_weight:g}; it must be 0 or more.")
    if args.open_gates is not None and args.pretrained_model_name_or_path is None:
        raise ValueError("--open_gates is for the gates of a pretrained model; give --pretrained_model_name_or_path.")
    if args.sample_size is not None and args.sample_size < 1:
        raise ValueError(f"--sample_size is {args.sample_size}; it must be 1 or more.")
    if args.reads_features and args.image_encoder is None:
        raise ValueError(
            "--reads_features needs --image_encoder; give the folder that training/tools/build_image_encoder.py wrote."
        )


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


@torch.no_grad()
def open_gates(model: FlowCompletionUNet, logits: list[float]) -> None:
    """Adds to the logits of the gates of a model: of the one for regions, and of those for features.

    Raises:
        ValueError: if the model has not both.
    """
    if not model.config.fits_regions or model.config.feature_channels is None:
        raise ValueError(
            "--open_gates has no use, since the model does not read both regions and features; leave it out, or add "
            "--reads_regions and --reads_features."
        )
    model.conv_gate.bias.add_(logits[0])
    model.conv_attention_gate.bias.add_(logits[1])


def make_model(
    args: argparse.Namespace, vae: AutoencoderDC | AutoencoderKL, feature_channels: int | None
) -> FlowCompletionUNet:
    """The model to train: pretrained, enlarged, or with random weights.

    Args:
        feature_channels (`int`, *optional*): channels of the image encoder's features; None without an image encoder.

    Raises:
        ValueError: if the model reads features, but there is no image encoder, or one with another number of channels;
            or if it reads none, but a part of how they are read is to be left out.
    """
    torch.manual_seed(args.seed)
    inputs = {"reads_regions": True, "fits_regions": True} if args.reads_regions else {}
    if args.reads_features:
        inputs["feature_channels"] = feature_channels
    pretrained = None
    if args.pretrained_model_name_or_path:
        pretrained = FlowCompletionUNet.from_pretrained(args.pretrained_model_name_or_path)
    if pretrained is not None and args.model_config is None:
        model = FlowCompletionUNet.widened(pretrained, **inputs) if inputs else pretrained
    else:
        config = FlowCompletionUNet.load_config(args.model_config or str(CONFIGS / "flow_completion.json"))
        config["in_channels"] = vae.config.latent_channels
        config["vae_scale_factor"] = vae_scale_factor(vae)
        model = FlowCompletionUNet.from_config(config | inputs)
        if pretrained is not None:
            new = {name: model.config[name] for name in ("reads_regions", "fits_regions", "feature_channels")}
            enlarge(model, FlowCompletionUNet.widened(pretrained, **new))
    if model.config.feature_channels not in (None, feature_channels):
        raise ValueError(
            f"The model reads semantic features of {model.config.feature_channels} channels, but --image_encoder "
            f"{args.image_encoder} gives {feature_channels}; give the encoder that it was trained with."
        )
    if args.open_gates is not None:
        open_gates(model, args.open_gates)
    if args.features_without is not None:
        if model.config.feature_channels is None:
            raise ValueError(
                f"--features_without {args.features_without} has no use, since the model reads no features; leave it "
                "out, or add --reads_features."
            )
        WITHOUT[args.features_without](model)
    return model


def most_frequent_size(clips: LatentClips) -> int:
    """Cells along one side of the square grid with the area of the most frequent size."""
    grids, numbers = np.unique(clips.grids, axis=0, return_counts=True)
    return round(float(np.prod(grids[numbers.argmax()])) ** 0.5)


def largest_displacement(clips: LatentClips, num_pairs: int = 256) -> float:
    """The displacement in pixels that 0.1 % of the training data exceeds, from evenly spaced pairs of frames.

    Args:
        clips (`LatentClips`): the training clips.
        num_pairs (`int`, defaults to 256): how many pairs are read.
    """
    chosen = np.unique(np.linspace(0, len(clips) - 1, min(len(clips), num_pairs)).astype(int))
    # every fourth pixel in each direction is enough, and 256 large frames fit in memory
    lengths = [np.linalg.norm(clips[int(index)]["flow"][:, ::4, ::4], axis=0).ravel() for index in chosen]
    return round(float(np.quantile(np.concatenate(lengths), 0.999)), 2)


class FlowCompletionTraining:
    """Flow completion with its training clips, loss and validation."""

    def __init__(self, args: argparse.Namespace, accelerator: Accelerator):
        self.args, self.accelerator = args, accelerator
        image_encoder = load_image_encoder(args.image_encoder, accelerator.device) if args.image_encoder else None
        vae, self.clips, validation_clips = open_training_clips(
            args, accelerator, image_encoder=image_encoder, several_sizes=True
        )
        if args.features_without is not None and accelerator.distributed_type == DistributedType.FSDP:
            raise ValueError(
                "--features_without does not work with FSDP, which copies the model; use one process or DDP."
            )
        self.model = make_model(args, vae, None if image_encoder is None else image_encoder.config.hidden_size)
        config = self.model.config
        self.cell, self.flow_scale = config.vae_scale_factor, config.flow_scale
        self.reads_regions, self.reads_features = config.reads_regions, config.feature_channels is not None
        self.model.register_to_config(
            sample_size=args.sample_size or most_frequent_size(self.clips),
            max_displacement=largest_displacement(self.clips),
            motion_threshold=config.motion_threshold if args.motion_threshold is None else args.motion_threshold,
        )
        set_strokes_on_things(args, reads_either=self.reads_regions or self.reads_features)
        self.draws = self.make_draws()
        if self.reads_features and not has_feature_basis(self.model):
            self.model.set_feature_basis(*feature_basis(self.clips, self.draws, self.model, args.seed))
        accelerator.print(f"Flow completion with {self.model.num_parameters() / 1e6:.2f} M parameters.")
        self.validation = None
        if validation_clips is not None:
            self.validation = FlowValidation(validation_clips, args, accelerator, config)

    def make_draws(self) -> SeededDraws:
        """Each pair once per pass; with weights or several sizes, pairs by their weights and batches of one size."""
        args, clips = self.args, self.clips
        if args.data_weights is None and args.size_weights is None and len(np.unique(clips.grids, axis=0)) == 1:
            return SeededDraws(len(clips), self.load_sample, args.seed, clips.describe)
        return MixedDraws(
            clips.sources,
            clips.grids,
            args.train_batch_size,
            self.load_sample,
            args.seed,
            clips.describe,
            data_weights=args.data_weights,
            size_weights=args.size_weights,
        )

    def load_sample(self, index: int, rng: np.random.Generator) -> FlowSample:
        pair = self.clips[index]
        new_motions = self.args.new_motions
        if new_motions is not None and rng.random() < new_motions[self.clips.sources[index]]:
            pair = with_new_motions(pair, rng)
        draw = draw_strokes_on_things if self.args.strokes_on_things > 0 else draw_strokes
        points, displacements = draw(pair, self.args, rng)
        size = pair["latent"].shape[1:]
        sparse_flow, mask = rasterize_points(points, displacements, size, pair["flow"].shape[1:])
        sample: FlowSample = {
            "latent": pair["latent"],
            "flow": pair["flow"],
            "labels": pair["mask"][None],
            "sparse_flow": sparse_flow,
            "mask": mask,
        }
        if self.reads_regions:
            sample |= draw_regions(pair, points, displacements, self.args, rng)
        if self.reads_features:
            given = rng.random() >= self.args.feature_drop_probability
            sample["features"] = pair["features"] if given else np.zeros_like(pair["features"])
        return sample

    def compute_loss(
        self, model: torch.nn.Module, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        _, loss, values = complete_and_compare(model, batch, self.args, self.cell, self.flow_scale)
        return loss, values

    def validate(self, model: FlowCompletionUNet, step: int) -> dict[str, float]:
        sheet = self.validation.draw_sheet(model)
        if sheet is not None:
            show(self.accelerator, self.args, "validation", step, sheet)
        return self.validation.measure(model)


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
        validate=training.validate if training.validation else None,
        learning_rates=dict.fromkeys(NEW_LAYERS, args.new_layers_learning_rate),
    ).train()

    if accelerator.is_main_process:
        atomic_folder(Path(args.output_dir, "flow_completion"), training.model.save_pretrained)
    if repository is not None and status == 0:
        push_component(args.output_dir, ["flow_completion"], repository, title="Flow completion (F)")
    return status


if __name__ == "__main__":
    sys.exit(main())
