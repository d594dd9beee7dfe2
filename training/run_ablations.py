"""Trains variants of a small model that differ in one setting each, all with the same budget, one after the other.

    python training/run_ablations.py --train_data_dir data/people data/objects data/photograph_clips \\
        --pretrained_vae runs/autoencoder/vae --image_encoder data/image_encoder --cache_dir data/cache \\
        --output_dir runs/ablations --minutes 30

The full model has the form of the embedded one. Each variant becomes the pipeline folder `output_dir/VARIANT`, with a
description in `ablation.json`. Flow completion and future-frame prediction are trained for one budget each. A variant
that trains both together starts from the full model and gets one more budget. Components that several variants share
are trained once. They are in `output_dir/components/VARIANT`, with the name of the first variant that uses them. A run
that was stopped continues when it is started again, and keeps what is finished.
"""

import argparse
import importlib
import json
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from loop.checkpoints import Progress, find_checkpoints
from loop.latent_cache import add_clip_arguments
from mcdiff_commands import main as commands
from mcdiff_commands.evaluate import check_evaluation
from mcdiff_pipeline.atomic_files import atomic_folder, atomic_path


CONFIGS = Path(__file__).parent / "configs/small-128"

# Arguments of all variants, and the best known ones for each kind of training (checkpoints/README.md).
COMMON = ("--use_ema", "--ema_decay", "0.998", "--resume_from_checkpoint", "latest")
FLOW_LOSS = (
    *("--flow_weighting", "mask", "--flow_weight_floor", "0.25", "--foreground_weight", "0.5"),
    *("--gradient_weight", "0.2"),
)
FLOW_COMPLETION = ("--learning_rate", "5e-4", "--strokes_on_things", "0.7", *FLOW_LOSS)
FUTURE_FRAME = ("--learning_rate", "4e-4")
END_TO_END = ("--learning_rate", "7e-5", "--strokes_on_things", "0.7", *FLOW_LOSS)

# What flow completion reads, and what the unet is given, in the full model.
READS = ("--reads_regions", "--reads_features")
PICTURE = ("--start_picture_reference", "--residual_condition", "start_picture", "--residual_scale", "2.5")
NOISE = ("--noise_augmentation", "0.1")
PAPER_LOSS = ("--flow_weighting", "magnitude", "--gradient_weight", "0", "--strokes_on_things", "0")
# The conditions of the full model without one of them, or with one more.
GIVEN = ("previous_frame", "dense_flow", "splatted_frame", "hole_mask", "start_picture")
RESIDUAL = PICTURE[1:]

# Arguments of this script that do not change the variants.
IRRELEVANT_ARGUMENTS = (
    *("output_dir", "variants", "evaluate_data_dir", "evaluate_wholes", "evaluate_arguments"),
    "checkpointing_steps",
)


def conditions(*names: str) -> tuple[str, ...]:
    """Arguments of a unet that is given exactly these conditions, and denoises the difference from the start image."""
    return ("--conditioning", *names, *RESIDUAL, *NOISE)


@dataclass(frozen=True)
class Variant:
    """The arguments of one variant. The training scripts describe what they do.

    Args:
        difference (`str`): the difference from the full model, in words.
        flow_completion (`tuple[str, ...]`, *optional*): for `train_flow_completion.py`; None for a variant without
            flow completion.
        future_frame (`tuple[str, ...]`): for `train_future_frame.py`.
        end_to_end (`tuple[str, ...]`, *optional*): for `train_end_to_end.py`, which then follows; None leaves it out.
    """

    difference: str
    flow_completion: tuple[str, ...] | None = READS
    future_frame: tuple[str, ...] = (*PICTURE, *NOISE)
    end_to_end: tuple[str, ...] | None = None


VARIANTS = {
    "full": Variant("none"),
    # what F reads
    "no_features": Variant("F reads no semantic features", flow_completion=("--reads_regions",)),
    "features_as_channels": Variant(
        "features are input channels of F only, without the gate to its output",
        flow_completion=(*READS, "--features_without", "gate"),
    ),
    "features_as_gate": Variant(
        "features act through the gate of F only, without input channels",
        flow_completion=(*READS, "--features_without", "channels"),
    ),
    "fixed_kernel": Variant(
        "how alike a cell and a stroke are is not trained",
        flow_completion=(*READS, "--features_without", "trained_kernel"),
    ),
    "no_locality": Variant(
        "in the attention to strokes only likeness counts, not distance",
        flow_completion=(*READS, "--features_without", "locality"),
    ),
    "no_regions": Variant("F reads no regions", flow_completion=("--reads_features",)),
    # how it is trained
    "weighting_magnitude": Variant(
        "cells that move more have a larger weight in the loss of F, as in the paper",
        flow_completion=(*READS, "--flow_weighting", "magnitude", "--flow_weight_floor", "0.2"),
    ),
    "no_gradient_loss": Variant(
        "the gradient of the flow inside things has no weight in the loss of F",
        flow_completion=(*READS, "--gradient_weight", "0"),
    ),
    "no_strokes_on_things": Variant(
        "no samples in which all moves are on one thing", flow_completion=(*READS, "--strokes_on_things", "0")
    ),
    "no_keypoints": Variant("F is trained without strokes on keypoints", flow_completion=(*READS, "--no_keypoints")),
    "sampling_uniform": Variant(
        "strokes for the training of F are drawn without regard to motion",
        flow_completion=(*READS, "--sampling", "uniform"),
    ),
    # what G is given
    "no_start_picture": Variant(
        "G does not get the start image, and denoises the next frame itself", future_frame=NOISE
    ),
    "no_residual": Variant(
        "G denoises the next frame itself, not its difference from the start image",
        future_frame=("--start_picture_reference", *NOISE),
    ),
    "coverage": Variant(
        "G also gets what of the start image is carried and what was filled",
        future_frame=conditions(*GIVEN, "start_coverage"),
    ),
    "no_previous_frame": Variant("G does not get the current frame", future_frame=conditions(*GIVEN[1:])),
    "no_splat": Variant(
        "G does not get the splatted frame and the mask of holes",
        future_frame=("--flow_conditioning", "concat", *PICTURE, *NOISE),
    ),
    "no_hole_mask": Variant(
        "G does not get the mask of holes",
        future_frame=conditions(*(name for name in GIVEN if name != "hole_mask")),
    ),
    "no_noise_augmentation": Variant(
        "no noise is added to the current frame in the training of G",
        future_frame=(*PICTURE, "--no_noise_augmentation"),
    ),
    "epsilon": Variant(
        "G predicts the noise instead of v, without zero terminal SNR",
        future_frame=(*PICTURE, *NOISE, "--prediction_type", "epsilon"),
    ),
    # the form of the paper
    "plain": Variant(
        "F and G get what they get in the paper: the latent and strokes; the current frame and the flow, "
        "without noise",
        flow_completion=PAPER_LOSS,
        future_frame=("--flow_conditioning", "concat", "--no_noise_augmentation"),
    ),
    "no_flow_completion": Variant(
        "G gets the current frame and the strokes themselves",
        flow_completion=None,
        future_frame=("--no_flow_completion", "--no_noise_augmentation"),
    ),
    # both together
    "end_to_end": Variant(
        "F and G are trained together afterwards, for one more budget",
        end_to_end=("--rollout_steps", "1", *NOISE),
    ),
    "rollout": Variant(
        "like end_to_end, but on frames that the model made itself", end_to_end=("--rollout_steps", "2", *NOISE)
    ),
}


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_clip_arguments(parser)
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--image_encoder", required=True, help="Folder of the frozen encoder of semantic features.")
    parser.add_argument(
        "--data_weights",
        type=float,
        nargs="+",
        default=None,
        help="Share of the samples of flow completion for each folder of --train_data_dir. Default: by its pairs.",
    )
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--steps", type=int, default=None, help="Optimizer steps of each component.")
    parser.add_argument("--minutes", type=float, default=None, help="Training time of each component.")
    parser.add_argument(
        "--configs",
        default=str(CONFIGS),
        help="Folder with flow_completion_foreground.json, unet.json and scheduler.json.",
    )
    parser.add_argument("--train_batch_size", type=int, default=16)
    parser.add_argument("--mixed_precision", choices=("no", "fp16", "bf16"), default="bf16")
    parser.add_argument("--checkpointing_steps", type=int, default=500)
    parser.add_argument("--validation_steps", type=int, default=1000)
    parser.add_argument("--logging_steps", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--evaluate_data_dir",
        default=None,
        help="Evaluate each variant at the end on the test split of these clips, with `mcdiff evaluate`.",
    )
    parser.add_argument(
        "--evaluate_wholes",
        default=None,
        help="With --evaluate_data_dir: photographs of things that move as a whole, on which each variant with a flow "
        "completion of its own is evaluated, too.",
    )
    parser.add_argument(
        "--evaluate_arguments",
        default="",
        help="Further arguments of `mcdiff evaluate`, in one string such as '--strokes 5 --num-clips 48'.",
    )
    args = parser.parse_args(arguments)
    if args.steps is None and args.minutes is None:
        raise ValueError("The variants have no budget: give --steps, --minutes or both.")
    if args.evaluate_wholes is not None and args.evaluate_data_dir is None:
        raise ValueError("--evaluate_wholes needs --evaluate_data_dir, the clips on which variants are compared.")
    # `mcdiff evaluate` would refuse wrong arguments only after days of training.
    options = commands.parse(evaluation(args, "full"))
    if args.evaluate_data_dir is not None:
        check_evaluation(options)
    return args


def evaluation(args: argparse.Namespace, variant: str) -> list[str]:
    """The arguments of `mcdiff` to evaluate a variant."""
    command_line = ["evaluate", "--model", str(Path(args.output_dir, variant))]
    command_line += ["--data", args.evaluate_data_dir or "CLIPS"]
    command_line += ["--output", str(Path(args.output_dir, "evaluations", variant))]
    if args.evaluate_wholes is not None and owner_of(variant, "flow_completion") == variant:
        command_line += ["--wholes", args.evaluate_wholes]
    return command_line + shlex.split(args.evaluate_arguments)


def owner_of(variant: str, component: str) -> str | None:
    """The first variant with the same component; None if it has none."""
    arguments = getattr(VARIANTS[variant], component)
    if arguments is None:
        return None
    return next(other for other in VARIANTS if getattr(VARIANTS[other], component) == arguments)


def check_same_ablation(args: argparse.Namespace) -> None:
    """Raises `ValueError` if the output folder has variants with other arguments: these cannot be compared."""
    given = {key: value for key, value in vars(args).items() if key not in IRRELEVANT_ARGUMENTS}
    path = Path(args.output_dir, "ablations.json")
    if path.is_file():
        found = json.loads(path.read_text())
        different = [f"--{key} {found.get(key)}" for key in given if found.get(key) != given[key]]
        if different:
            raise ValueError(
                f"{args.output_dir} has variants that were made with {', '.join(different)}; give the same, or "
                "another --output_dir."
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(given | {"all_variants": list(VARIANTS)}, indent=2) + "\n")


def run_script(name: str, command_line: list[str]) -> int:
    """Runs a training script in this process, since its imports take longer than a short training."""
    return importlib.import_module(name).main(command_line)


def training_arguments(args: argparse.Namespace, output_dir: Path) -> list[str]:
    """The arguments of this script that are passed on to each training script."""
    command_line = ["--train_data_dir", *args.train_data_dir, "--validation_data_dir", *args.validation_data_dir]
    names = ("validation_split", "cache_dir", "train_batch_size", "mixed_precision", "checkpointing_steps")
    for name in (*names, "validation_steps", "logging_steps", "seed"):
        command_line += [f"--{name}", str(getattr(args, name))]
    command_line += ["--output_dir", str(output_dir), *COMMON]
    if args.steps is not None:
        command_line += ["--max_train_steps", str(args.steps)]
    if args.minutes is not None:
        command_line += ["--max_train_minutes", str(args.minutes)]
    return command_line


def train_component(
    name: str, owner: str, own_arguments: tuple[str, ...], args: argparse.Namespace
) -> tuple[int, Path]:
    """Trains a component of a variant with `train_NAME.py`, unless that is done.

    Returns:
        `tuple[int, Path]`: the exit status of the script, and its output folder. There `made.json` has the arguments,
        and the steps and minutes of the training.
    """
    output_dir = Path(args.output_dir, "components", owner, name)
    made = output_dir / "made.json"
    if made.is_file():
        print(f"{owner}: {name} is trained already.")
        return 0, output_dir
    print(f"{owner}: training {name} ...", flush=True)
    command_line = [*training_arguments(args, output_dir), *own_arguments]
    status = run_script(f"train_{name}", command_line)
    if status == 0:
        progress = Progress.load(find_checkpoints(output_dir)[-1])
        result = {"arguments": command_line, "steps": progress.step, "minutes": round(progress.minutes, 4)}
        with atomic_path(made) as unfinished:
            unfinished.write_text(json.dumps(result))
    return status, output_dir


def component_arguments(variant: Variant, args: argparse.Namespace) -> dict[str, tuple[str, ...]]:
    """The components of a variant, in the order of training, with the arguments that all variants share."""
    vae = ("--pretrained_vae", args.pretrained_vae)
    encoder = ("--image_encoder", args.image_encoder)
    weights = () if args.data_weights is None else ("--data_weights", *map(str, args.data_weights))
    config = f"{args.configs}/flow_completion_foreground.json"
    components = {
        "flow_completion": (*vae, *encoder, *weights, "--model_config", config, *FLOW_COMPLETION),
        "future_frame": (
            *(*vae, "--model_config", f"{args.configs}/unet.json"),
            *("--scheduler_config", f"{args.configs}/scheduler.json", *FUTURE_FRAME),
        ),
        "end_to_end": ("--pretrained_model_name_or_path", str(Path(args.output_dir, "full")), *END_TO_END),
    }
    return {name: shared for name, shared in components.items() if getattr(variant, name) is not None}


def assemble(folder: Path, variant: Variant, components: dict[str, Path], args: argparse.Namespace) -> None:
    """Makes the pipeline folder of a variant from the output folders of its components."""
    if "end_to_end" in components:
        pipeline = components["end_to_end"] / "pipeline"
        atomic_folder(folder, lambda unfinished: shutil.copytree(pipeline, unfinished, dirs_exist_ok=True))
        return
    command_line = ["--vae", args.pretrained_vae, "--unet", str(components["future_frame"] / "unet")]
    command_line += ["--scheduler", str(components["future_frame"] / "scheduler"), "--output_dir", str(folder)]
    if "flow_completion" in components:
        command_line += ["--flow_completion", str(components["flow_completion"] / "flow_completion")]
    if "--reads_features" in (variant.flow_completion or ()):
        command_line += ["--image_encoder", args.image_encoder]
    run_script("assemble_pipeline", command_line)


def make_variant(name: str, args: argparse.Namespace) -> int:
    """Trains the components of a variant and assembles them.

    Returns:
        `int`: 0, or the exit status of a training that was stopped.
    """
    folder, variant = Path(args.output_dir, name), VARIANTS[name]
    if (folder / "ablation.json").is_file():
        print(f"{name}: finished already.")
        return 0
    if variant.end_to_end is not None:
        status = make_variant("full", args)
        if status != 0:
            return status

    folders, described = {}, {}
    for component, shared_arguments in component_arguments(variant, args).items():
        own_arguments = getattr(variant, component)
        owner = owner_of(name, component)
        status, folders[component] = train_component(component, owner, (*shared_arguments, *own_arguments), args)
        if status != 0:
            return status
        described[component] = {
            "switches": list(own_arguments),
            "shared_with": owner if owner != name else None,
            **json.loads((folders[component] / "made.json").read_text()),
        }
    assemble(folder, variant, folders, args)
    description = {
        "variant": name,
        "difference": variant.difference,
        "budget_of_each_component": {"steps": args.steps, "minutes": args.minutes},
        "components": described,
    }
    with atomic_path(folder / "ablation.json") as unfinished:
        unfinished.write_text(json.dumps(description, indent=2) + "\n")
    return 0


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    check_same_ablation(args)
    for variant in args.variants:
        status = make_variant(variant, args)
        if status != 0:
            print(f"{variant}: stopped; run the same command to continue.")
            return status

    for variant in args.variants:
        print(shlex.join(["mcdiff", *evaluation(args, variant)]), flush=True)
        if args.evaluate_data_dir is not None:
            status = commands.main(evaluation(args, variant))
            if status != 0:
                return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
