#!/usr/bin/env python
"""Make the embedded model by one command: sources, labels, clips, latents, trainings, model folder, evaluation.

    python training/recipes/small_128.py --budget_minutes 600 --dry_run      # prints the plan
    python training/recipes/small_128.py --budget_minutes 600
    python training/recipes/small_128.py --budget_minutes 120 --from_checkpoint checkpoints/mcdiff-small-128

Everything is written to `--work_dir`. Stages that are done are skipped, and Ctrl-C stops so that the same command goes
on from there.

For a machine with a GPU and no network, make a bundle here, and carry it:

    python training/recipes/small_128.py --make_bundle bundle --from_checkpoint checkpoints/mcdiff-small-128
    python bundle/code/training/recipes/small_128.py --bundle bundle --budget_minutes 9 --device cuda     # there
    python training/recipes/bundle.py load runs/small-128/result --output_dir runs/carried                # back here

There the budget is a deadline, and the trained weights are saved again and again, in files of at most 16 MiB.
"""

import argparse
import os
import sys
from pathlib import Path

from clip_stages import CLIPS, LATENTS
from recipe_settings import Settings
from result_stages import MODEL, SAVED
from running import run
from source_stages import bundle_made, bundle_opened, sources
from stages import REPOSITORY, Recipe, Stage, StageFailed, describe
from training_stages import NETWORKS, ON_DEVICE, autoencoders


def stages_of(settings: Settings) -> tuple[Stage, ...]:
    """The stages of a run from collected sources or from a bundle, or those that make a bundle."""
    if settings.make_bundle is not None:
        return (*(stage for stage in sources(settings) if stage.name != "wholes"), bundle_made(settings))
    trained = (*CLIPS, *autoencoders(settings), LATENTS, *NETWORKS)
    if settings.bundle is not None:
        return (bundle_opened(settings), *trained, *SAVED)
    return (*sources(settings), *trained, *MODEL)


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--budget_minutes", type=float, help="Time for clips, latents and trainings; not needed with --make_bundle."
    )
    parser.add_argument("--stage", nargs="+", metavar="NAME", help="Run these stages only.")
    parser.add_argument("--device", choices=sorted(ON_DEVICE), default="cpu")
    parser.add_argument("--jobs", type=int, help="Processes at the same time; default: one for each core.")
    parser.add_argument("--work_dir", type=Path, default=Path("runs/small-128"), help="Folder of all outputs.")
    parser.add_argument("--packages_dir", type=Path, help="Folder of downloaded packages; default: download them.")
    parser.add_argument(
        "--sources_dir",
        type=Path,
        help="Folder with what is there already, of photographs, masks, motions, stamps, annotated_clips, "
        "image_encoder and wholes.",
    )
    parser.add_argument(
        "--from_checkpoint", type=Path, help="Start from this pipeline folder, and keep its autoencoder."
    )
    parser.add_argument("--make_bundle", type=Path, metavar="DIR", help="Write a bundle, and train nothing.")
    parser.add_argument("--bundle_mib", type=float, default=60.0, help="Size of the bundle to make; default: 60.")
    parser.add_argument(
        "--bundle", type=Path, metavar="DIR", help="Take sources and models to start from this bundle."
    )
    parser.add_argument(
        "--result_dir", type=Path, help="With --bundle: folder of the trained weights; default: WORK_DIR/result."
    )
    parser.add_argument("--readme", type=Path, help="File that gets the report, such as checkpoints/README.md.")
    parser.add_argument("--dry_run", action="store_true", help="Print the plan and do nothing.")
    args = parser.parse_args(arguments)
    if not hasattr(os, "killpg"):
        parser.error("this recipe stops groups of processes, which Windows does not have: run it on Linux or macOS")
    if args.budget_minutes is None and args.make_bundle is None:
        parser.error("--budget_minutes is missing; say how many minutes the model may take")
    if args.make_bundle is not None and (args.from_checkpoint is None or args.bundle is not None):
        parser.error("--make_bundle needs --from_checkpoint, a pipeline folder to start from, and no --bundle")
    if args.bundle is not None and args.from_checkpoint is not None:
        parser.error("--from_checkpoint has no use with --bundle, which holds models to start from; leave one out")
    if args.bundle is not None and not (args.bundle / "manifest.json").is_file():
        parser.error(f"--bundle {args.bundle} has no manifest.json; make one with --make_bundle")
    if args.from_checkpoint is not None and not (args.from_checkpoint / "model_index.json").is_file():
        parser.error(f"--from_checkpoint {args.from_checkpoint} has no model_index.json; name a pipeline folder")
    for name in ("packages_dir", "sources_dir"):
        folder = getattr(args, name)
        if folder is not None and not folder.is_dir():
            parser.error(f"--{name} {folder} is no folder; name one, or leave it out to download")
    return args


def make_recipe(args: argparse.Namespace) -> Recipe:
    """The recipe of the arguments.

    Raises:
        ValueError: if a value is impossible.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = args.jobs if args.jobs is not None else cores
    work_dir = args.work_dir.resolve()
    paths = {
        name: None if getattr(args, name) is None else getattr(args, name).resolve()
        for name in ("packages_dir", "sources_dir", "bundle", "from_checkpoint", "make_bundle", "readme")
    }
    budget = args.budget_minutes if args.budget_minutes is not None else 1.0
    paths["result_dir"] = (args.result_dir or work_dir / "result").resolve()
    numbers = {"jobs": jobs, "budget_minutes": budget, "bundle_mib": args.bundle_mib}
    settings = Settings(work_dir=work_dir, device=args.device, **numbers, **paths)
    path = os.pathsep.join([str(REPOSITORY / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "PYTHONPATH": path}
    if args.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return Recipe(
        stages_of(settings),
        settings,
        work_dir,
        budget,
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
