"""Trains variants of a small model that differ in one switch each, all with the same budget, one after the other.

    python training/run_ablations.py --train_data_dir data/people data/objects --pretrained_vae runs/autoencoder/vae \\
        --cache_dir data/cache --output_dir runs/ablations --minutes 30

Each variant becomes the pipeline folder `output_dir/VARIANT`; `ablation.json` in it says how it was made. F and G are
trained for the budget each, and so is what trains both together from the full model on. Those that a variant shares
with another are trained once: they lie in `output_dir/components/VARIANT`, under the name of the first variant that
they belong to. Started again, the script goes on where it stopped and keeps what is finished.
"""

import argparse
import json
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import assemble_pipeline
import train_end_to_end
import train_flow_completion
import train_future_frame
from loop.latent_cache import add_clip_arguments
from loop.trainer import checkpoints

from mcdiff_commands import main as commands
from mcdiff_commands.evaluate import check_evaluation
from mcdiff_pipeline.atomic_files import atomic_folder, atomic_path


CONFIGS = Path(__file__).parent / "configs/small-128"

# What both have in common, and how each is trained best as far as is known (checkpoints/README.md).
COMMON = ("--use_ema", "--ema_decay", "0.998", "--resume_from_checkpoint", "latest")
FLOW_COMPLETION = ("--learning_rate", "5e-4", "--flow_weight_floor", "0.2")
FUTURE_FRAME = ("--learning_rate", "4e-4")
END_TO_END = ("--learning_rate", "7e-5", "--flow_weight_floor", "0.2")
NOISE = ("--noise_augmentation", "0.3")


@dataclass(frozen=True)
class Variant:
    """The switches of one variant; what they do is described where the training scripts define them.

    Args:
        difference (`str`): to the full model, in words.
        flow_completion (`tuple[str, ...]`, *optional*): of F; None is a variant without F.
        future_frame (`tuple[str, ...]`): of G.
        end_to_end (`tuple[str, ...]`, *optional*): of training both together afterwards; None leaves that out.
    """

    difference: str
    flow_completion: tuple[str, ...] | None = ()
    future_frame: tuple[str, ...] = ("--flow_conditioning", "concat+splat", "--start_frame_reference", *NOISE)
    end_to_end: tuple[str, ...] | None = None


VARIANTS = {
    "full": Variant("none"),
    "no_flow_completion": Variant(
        "strokes go straight into G, so there is neither a splatted frame nor a start frame either",
        flow_completion=None,
        future_frame=("--no_flow_completion", *NOISE),
    ),
    "weighting_none": Variant(
        "all cells count the same in the loss of F", flow_completion=("--flow_weighting", "none")
    ),
    "no_keypoints": Variant("F sees no strokes on keypoints in training", flow_completion=("--no_keypoints",)),
    "sampling_uniform": Variant(
        "strokes are drawn without regard to motion in the training of F", flow_completion=("--sampling", "uniform")
    ),
    "no_splat": Variant(
        "G is not given the splatted frame and the mask of holes",
        future_frame=("--flow_conditioning", "concat", "--start_frame_reference", *NOISE),
    ),
    "no_start_frame_reference": Variant(
        "G is not given the start frame", future_frame=("--flow_conditioning", "concat+splat", *NOISE)
    ),
    "no_noise_augmentation": Variant(
        "the current frame gets no noise in the training of G",
        future_frame=(
            *("--flow_conditioning", "concat+splat", "--start_frame_reference"),
            "--no_noise_augmentation",
        ),
    ),
    "epsilon": Variant(
        "G predicts the noise instead of v, without zero terminal SNR",
        future_frame=(
            *("--flow_conditioning", "concat+splat", "--start_frame_reference", *NOISE),
            *("--prediction_type", "epsilon"),
        ),
    ),
    "start_picture": Variant(
        "G is given the start frame splatted as a picture, and denoises the difference from it",
        future_frame=(
            *("--flow_conditioning", "concat+splat", "--start_picture_reference", *NOISE),
            *("--residual_condition", "start_picture", "--residual_scale", "2.5"),
        ),
    ),
    "plain": Variant(
        "G in the paper's form: the current frame and the flow, without noise",
        future_frame=("--flow_conditioning", "concat", "--no_noise_augmentation"),
    ),
    "end_to_end": Variant(
        "F and G are trained together afterwards, for one more budget", end_to_end=("--rollout_steps", "1", *NOISE)
    ),
    "rollout": Variant(
        "as end_to_end, on frames that the model made itself", end_to_end=("--rollout_steps", "2", *NOISE)
    ),
}


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_clip_arguments(parser)
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--steps", type=int, default=None, help="Optimizer steps of each component.")
    parser.add_argument("--minutes", type=float, default=None, help="Training time of each component.")
    parser.add_argument(
        "--configs", default=str(CONFIGS), help="Folder of flow_completion.json, unet.json and scheduler.json."
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
        help="Evaluate each variant on the test split of these clips at the end, by `mcdiff evaluate`.",
    )
    parser.add_argument(
        "--evaluate_arguments",
        default="",
        help="What `mcdiff evaluate` is given beside, in one string such as '--strokes 5 --num-clips 48'.",
    )
    args = parser.parse_args(arguments)
    if args.steps is None and args.minutes is None:
        raise ValueError("The variants have no budget: give --steps, --minutes or both.")
    # What `mcdiff evaluate` would refuse after days of training, it refuses now.
    options = commands.parse(evaluation(args, "full"))
    if args.evaluate_data_dir is not None:
        check_evaluation(options)
    return args


def evaluation(args: argparse.Namespace, variant: str) -> list[str]:
    """The arguments of `mcdiff` that evaluate a variant."""
    command_line = ["evaluate", "--model", str(Path(args.output_dir, variant))]
    command_line += ["--data", args.evaluate_data_dir or "CLIPS"]
    command_line += ["--output", str(Path(args.output_dir, "evaluations", variant))]
    return command_line + shlex.split(args.evaluate_arguments)


def check_same_ablation(args: argparse.Namespace) -> None:
    """Raises `ValueError` if the output folder holds variants that were made otherwise: they cannot be compared."""
    given = {
        key: value
        for key, value in vars(args).items()
        if key not in ("output_dir", "variants", "evaluate_data_dir", "evaluate_arguments", "checkpointing_steps")
    }
    path = Path(args.output_dir, "ablations.json")
    if path.is_file():
        found = json.loads(path.read_text())
        different = [f"--{key} {found.get(key)}" for key in given if found.get(key) != given[key]]
        if different:
            raise ValueError(
                f"{args.output_dir} holds variants that were made with {', '.join(different)}; give the same, or "
                "another --output_dir."
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(given, indent=2) + "\n")


def train_component(
    name: str, script, owner: str, switches: tuple[str, ...], args: argparse.Namespace
) -> tuple[int, Path]:
    """Trains F, G or both of a variant, unless that is done.

    Returns:
        `tuple[int, Path]`: the script's exit status, and its output folder, in which `made.json` keeps the arguments,
        and the steps and minutes that were reached.
    """
    output_dir = Path(args.output_dir, "components", owner, name)
    made = output_dir / "made.json"
    if made.is_file():
        print(f"{owner}: {name} is trained already.")
        return 0, output_dir
    command_line = ["--train_data_dir", *args.train_data_dir, "--validation_data_dir", *args.validation_data_dir]
    for argument in ("validation_split", "cache_dir"):
        command_line += [f"--{argument}", getattr(args, argument)]
    for argument in ("train_batch_size", "mixed_precision", "checkpointing_steps", "validation_steps", "seed"):
        command_line += [f"--{argument}", str(getattr(args, argument))]
    command_line += ["--logging_steps", str(args.logging_steps), "--output_dir", str(output_dir), *COMMON]
    if args.steps is not None:
        command_line += ["--max_train_steps", str(args.steps)]
    if args.minutes is not None:
        command_line += ["--max_train_minutes", str(args.minutes)]
    command_line += switches
    print(f"{owner}: training {name} ...", flush=True)
    status = script.main(command_line)
    if status == 0:
        progress = json.loads((checkpoints(output_dir)[-1] / "progress.json").read_text())
        with atomic_path(made) as unfinished:
            unfinished.write_text(
                json.dumps(
                    {"arguments": command_line, "steps": progress["step"], "minutes": round(progress["minutes"], 4)}
                )
            )
    return status, output_dir


def make_variant(variant: str, args: argparse.Namespace) -> int:
    """Trains what a variant needs and puts it together; returns the exit status of a training that was stopped."""
    folder, settings = Path(args.output_dir, variant), VARIANTS[variant]
    if (folder / "ablation.json").is_file():
        print(f"{variant}: finished already.")
        return 0

    vae = ("--pretrained_vae", args.pretrained_vae)
    recipes = {
        "flow_completion": (
            train_flow_completion,
            (*vae, "--model_config", f"{args.configs}/flow_completion.json", *FLOW_COMPLETION),
        ),
        "future_frame": (
            train_future_frame,
            (
                *(*vae, "--model_config", f"{args.configs}/unet.json"),
                *("--scheduler_config", f"{args.configs}/scheduler.json", *FUTURE_FRAME),
            ),
        ),
        "end_to_end": (
            train_end_to_end,
            ("--pretrained_model_name_or_path", str(Path(args.output_dir, "full")), *END_TO_END),
        ),
    }
    if settings.end_to_end is not None:
        status = make_variant("full", args)
        if status != 0:
            return status
    folders, components = {}, {}
    for name, (script, recipe) in recipes.items():
        switches = getattr(settings, name)
        if switches is None:
            continue
        owner = next(other for other in VARIANTS if getattr(VARIANTS[other], name) == switches)
        status, folders[name] = train_component(name, script, owner, (*recipe, *switches), args)
        if status != 0:
            return status
        made = json.loads((folders[name] / "made.json").read_text())
        components[name] = {"switches": list(switches), "shared_with": owner if owner != variant else None, **made}

    if "end_to_end" in folders:
        atomic_folder(
            folder,
            lambda unfinished: shutil.copytree(folders["end_to_end"] / "pipeline", unfinished, dirs_exist_ok=True),
        )
    else:
        command_line = ["--vae", args.pretrained_vae, "--unet", str(folders["future_frame"] / "unet")]
        command_line += ["--scheduler", str(folders["future_frame"] / "scheduler"), "--output_dir", str(folder)]
        if "flow_completion" in folders:
            command_line += ["--flow_completion", str(folders["flow_completion"] / "flow_completion")]
        assemble_pipeline.main(command_line)
    made = {
        "variant": variant,
        "difference": settings.difference,
        "budget_of_each_component": {"steps": args.steps, "minutes": args.minutes},
        "components": components,
    }
    with atomic_path(folder / "ablation.json") as unfinished:
        unfinished.write_text(json.dumps(made, indent=2) + "\n")
    return 0


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    check_same_ablation(args)
    for variant in args.variants:
        status = make_variant(variant, args)
        if status != 0:
            print(f"{variant}: stopped; the same command goes on from here.")
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
