"""Stages that make something of trained networks: the model folder, its evaluation and report, or weights to carry."""

from recipe_settings import Settings, checkpoint, option, script
from stages import Command, Stage


# Seconds between two looks for newer weights, which are saved while F and G train.
SAVE_SECONDS = 45


def assemble(settings: Settings) -> list[Command]:
    """Makes the model folder."""
    runs = settings.work_dir / "runs"
    parts = ("--vae", settings.vae, "--flow_completion", runs / "flow_completion/flow_completion")
    parts += ("--unet", runs / "future_frame/unet", "--scheduler", runs / "future_frame/scheduler")
    parts += ("--image_encoder", settings.source("image_encoder"), "--output_dir", settings.work_dir / "model")
    return [Command("assemble", (script("assemble_pipeline.py", *parts),))]


def evaluate(settings: Settings) -> list[Command]:
    """Evaluates the model on validation clips and on photographs with masked things; a short run on a few clips."""
    work = settings.work_dir
    clips, long_rollouts = (
        min(48, max(2, int(settings.budget_minutes / 10))),
        min(4, int(settings.budget_minutes / 60)),
    )
    line = ("python", "-m", "mcdiff_commands", "evaluate", "--model", str(work / "model"))
    line += ("--data", str(work / "validation_clips/people"), "--split", "validation", "--strokes", "1,5")
    line += ("--num-clips", str(clips), "--drift-clips", str(long_rollouts))
    line += ("--wholes", str(settings.source("wholes")), "--output", str(work / "evaluation"))
    return [Command("evaluate", (line,))]


def report(settings: Settings) -> list[Command]:
    """Writes what was run and reached, also into a README."""
    arguments = ("--work_dir", settings.work_dir, *option("--readme", settings.readme))
    return [Command("write", (script("recipes/report.py", *arguments),))]


def save_along(settings: Settings) -> list[Command]:
    """Saves the newest weights again and again."""
    arguments = ("save", settings.work_dir, "--output_dir", settings.result_dir, "--every_seconds", SAVE_SECONDS)
    return [Command("save", (script("recipes/bundle.py", *arguments),), accompanies=True)]


def save(settings: Settings) -> list[Command]:
    """Saves the final weights."""
    arguments = ("save", settings.work_dir, "--output_dir", settings.result_dir)
    return [Command("save", (script("recipes/bundle.py", *arguments),))]


TRAINED = ("flow_completion", "future_frame")
MODEL = (
    Stage("assemble", assemble, ("model",), (*TRAINED, "light_autoencoder", "image_encoder"), checkpoint, minutes=0.5),
    Stage("evaluate", evaluate, ("evaluation",), ("assemble", "validation_clips", "wholes"), minutes=30),
    Stage("report", report, ("report.md",), ("evaluate",), minutes=0.1),
)
# The share of the last stage also covers that trainings take a while to start and to validate at the end.
SAVED = (
    Stage("save_along", save_along, (), ("cache",), share=0.53, group="networks"),
    Stage("save", save, (), TRAINED, share=0.15),
)
