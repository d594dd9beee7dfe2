"""The arguments that choose the conditions of future-frame prediction."""

import argparse
from typing import Any

from loop.pipeline_folders import CONDITION_SETTINGS, is_pipeline_folder
from mcdiff_pipeline import MCDiffPipeline
from mcdiff_pipeline.conditioning import CONDITIONS, FrameConditioner


# Arguments that name the conditions one by one, and those that a pipeline folder answers itself.
SWITCHES = ("no_flow_completion", "flow_conditioning", "start_picture_reference")
CONDITION_ARGUMENTS = (
    *("conditioning", *SWITCHES, "flow_scale", "residual_condition", "residual_scale"),
    *("prediction_type", "scheduler_config"),
)


def add_condition_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `set_conditions`, and `--prediction_type`."""
    parser.add_argument(
        "--conditioning",
        nargs="+",
        choices=CONDITIONS,
        default=None,
        metavar="CONDITION",
        help=f"Give the model exactly these conditions, in this order, out of {', '.join(CONDITIONS)}.",
    )
    parser.add_argument(
        "--no_flow_completion",
        action="store_true",
        help="Give the model strokes drawn from the true flow instead of the flow, for a pipeline without flow "
        "completion.",
    )
    parser.add_argument(
        "--flow_conditioning",
        choices=("concat", "concat+splat"),
        default=None,
        help="Give the model the flow alone, as in the paper (concat), or the flow, the current frame splatted along "
        "it, and the mask of holes (concat+splat, the default).",
    )
    parser.add_argument(
        "--flow_scale", type=float, default=None, help="Displacement in cells that is 1 for the model. Default: 1."
    )
    parser.add_argument(
        "--start_picture_reference",
        action="store_true",
        help="Give the model the start frame of the clip, too, splatted as an image along the flow accumulated since "
        "and then encoded.",
    )
    parser.add_argument(
        "--residual_condition",
        default=None,
        help="Denoise the difference of the next frame from this condition, such as splatted_frame or start_picture. "
        "By default the next frame itself is denoised, as in the paper.",
    )
    parser.add_argument("--residual_scale", type=float, default=None, help="Factor on that difference. Default: 1.")
    parser.add_argument(
        "--prediction_type",
        choices=("epsilon", "v_prediction"),
        default=None,
        help="What the model predicts. v_prediction, the default, has zero terminal SNR; epsilon does not have it.",
    )


def set_conditions(args: argparse.Namespace) -> None:
    """Sets `conditioning` and its scales, from the arguments or from the pipeline folder.

    Raises:
        ValueError: if the arguments contradict each other.
    """
    folder = args.pretrained_model_name_or_path
    if args.no_flow_completion and (args.flow_conditioning or args.start_picture_reference):
        raise ValueError(
            "--no_flow_completion leaves no dense flow for --flow_conditioning and --start_picture_reference; leave "
            "these out."
        )
    switched = [f"--{name}" for name in SWITCHES if getattr(args, name)]
    if args.conditioning and switched:
        raise ValueError(f"--conditioning names all conditions; leave {', '.join(switched)} out.")
    if is_pipeline_folder(folder):
        given = [f"--{name}" for name in CONDITION_ARGUMENTS if getattr(args, name) not in (None, False)]
        if given:
            raise ValueError(
                f"{folder} is a complete model, and its unet is trained as the model uses it; leave "
                f"{', '.join(given)} out."
            )
        config = MCDiffPipeline.load_config(folder)
        args.conditioning, args.flow_scale = config["conditioning"].split(","), config["flow_scale"]
        args.residual_condition = config.get("residual_condition")
        args.residual_scale = config.get("residual_scale", 1.0)
    else:
        args.conditioning, args.flow_scale = conditioning_of(args), args.flow_scale or 1.0
        args.residual_scale = 1.0 if args.residual_scale is None else args.residual_scale
    # This checks the names and the residual. The sizes are those of the autoencoder, which is not read yet.
    conditioner = FrameConditioner(**condition_settings(args), latent_channels=1, vae_scale_factor=1)
    if not conditioner.needs_sparse_flow and (args.no_keypoints or args.sampling != "magnitude"):
        raise ValueError(
            "--no_keypoints and --sampling say how strokes are drawn, but this model gets strokes only with "
            "--no_flow_completion; leave them out."
        )


def conditioning_of(args: argparse.Namespace) -> list[str]:
    """The names of the conditions, in order, that the arguments ask for."""
    if args.conditioning:
        return args.conditioning
    if args.no_flow_completion:
        return ["previous_frame", "sparse_flow"]
    names = ["previous_frame", "dense_flow"]
    if args.flow_conditioning != "concat":
        names += ["splatted_frame", "hole_mask"]
    if args.start_picture_reference:
        names.append("start_picture")
    return names


def condition_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of a pipeline for the conditions of the model."""
    return {name: getattr(args, name) for name in CONDITION_SETTINGS}
