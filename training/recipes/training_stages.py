"""Stages that train the networks: the autoencoder, F (flow completion) and G (the next frame)."""

from clip_stages import data_weights, new_motions, train_folders, validation_folders
from recipe_settings import CONFIGS, Settings, checkpoint, script
from stages import Command, Stage


# The form of F, and its loss and strokes.
FLOW_COMPLETION = (
    *("--reads_regions", "--reads_features", "--strokes_on_things", "0.7", "--gradient_weight", "0.2"),
    *("--flow_weighting", "mask", "--flow_weight_floor", "0.25", "--foreground_weight", "0.5", "--sample_size", "32"),
    *("--motion_threshold", "0.18"),
)
# The conditions of a G that starts from random weights; another one keeps those of its pipeline folder.
NEW_FUTURE_FRAME = ("--start_picture_reference", "--residual_condition", "start_picture", "--residual_scale", "2.5")
# Samples per step, learning rate and loader processes of each training. Those of F are for its smallest frames, of 96
# pixels: a batch of 128 pixels has 16 of 28 or 256 of 455.
ON_DEVICE = {
    "cpu": {
        "autoencoder": ("8", "2e-3", "0"),
        "light_autoencoder": ("8", "2e-3", "0"),
        "flow_completion": ("28", "3e-4", "0"),
        "future_frame": ("16", "3e-4", "0"),
    },
    "cuda": {
        "autoencoder": ("32", "2e-3", "4"),
        "light_autoencoder": ("32", "2e-3", "4"),
        "flow_completion": ("455", "6e-4", "6"),
        "future_frame": ("128", "5e-4", "4"),
    },
}


def trained_with(settings: Settings, name: str) -> tuple[str, ...]:
    """The arguments that all trainings share."""
    batch, rate, workers = ON_DEVICE[settings.device][name]
    is_fast = settings.device == "cuda"
    arguments = ("--validation_data_dir", *validation_folders(settings))
    arguments += ("--output_dir", str(settings.work_dir / "runs" / name))
    arguments += ("--train_batch_size", batch, "--learning_rate", rate, "--dataloader_num_workers", workers)
    arguments += ("--lr_warmup_steps", "200" if is_fast else "50", "--mixed_precision", settings.precision)
    arguments += ("--use_ema", "--ema_decay", "0.998" if is_fast else "0.995", "--report_to", "none")
    arguments += ("--checkpointing_steps", "250" if is_fast else "50", "--validation_steps", "1000")
    return (*arguments, "--resume_from_checkpoint", "latest", *(("--allow_tf32",) if is_fast else ()))


def trained_on_latents(settings: Settings, name: str) -> tuple[str, ...]:
    """The arguments that F and G share."""
    arguments = ("--pretrained_vae", str(settings.vae), "--cache_dir", str(settings.work_dir / "cache"))
    if settings.is_short and settings.device == "cpu":
        arguments += ("--num_validation_samples", "16")
    return (*trained_with(settings, name), *arguments)


def trained_on_pixels(settings: Settings, name: str) -> tuple[str, ...]:
    """The arguments that both autoencoders share."""
    photographs = settings.source("photographs")
    arguments = (
        "--photographs_dir",
        photographs / "train",
        "--validation_photographs_dir",
        photographs / "validation",
    )
    arguments += ("--train_data_dir", *train_folders(settings, only_128=True), "--clip_fraction", "0.4")
    arguments += ("--max_clips", "100", "--shift_equivariance", "0.35")
    return (*map(str, arguments), *trained_with(settings, name))


def autoencoder(settings: Settings) -> list[Command]:
    """Trains an autoencoder from random weights, the teacher of the light one."""
    line = script("train_autoencoder.py", *trained_on_pixels(settings, "autoencoder"))
    return [Command("train", (line,), "--max_train_minutes")]


def light_autoencoder(settings: Settings) -> list[Command]:
    """Trains the light autoencoder for the latents of its teacher."""
    arguments = ("--teacher", settings.teacher, "--model_config", CONFIGS / "vae_light.json")
    line = script("train_autoencoder.py", *arguments, *trained_on_pixels(settings, "light_autoencoder"))
    return [Command("train", (line,), "--max_train_minutes")]


def flow_completion(settings: Settings) -> list[Command]:
    """Trains F, on frames of all sizes."""
    start: tuple[object, ...] = ("--model_config", CONFIGS / "flow_completion_foreground.json")
    if settings.start is not None:
        start = ("--pretrained_model_name_or_path", settings.start / "flow_completion")
    arguments = ("--train_data_dir", *train_folders(settings), "--data_weights", *data_weights(settings))
    arguments += ("--new_motions", *new_motions(settings))
    arguments += (*trained_on_latents(settings, "flow_completion"), *FLOW_COMPLETION)
    line = script("train_flow_completion.py", *arguments, *start, "--image_encoder", settings.source("image_encoder"))
    return [Command("train", (line,), "--max_train_minutes")]


def future_frame(settings: Settings) -> list[Command]:
    """Trains G. It takes frames of one size."""
    start: tuple[object, ...] = NEW_FUTURE_FRAME
    if settings.start is not None:
        start = ("--pretrained_model_name_or_path", settings.start)
    arguments = ("--train_data_dir", *train_folders(settings, only_128=True))
    arguments += (*trained_on_latents(settings, "future_frame"), "--noise_augmentation", "0.1")
    return [Command("train", (script("train_future_frame.py", *arguments, *start),), "--max_train_minutes")]


TRAINED_ON = ("photographs", "clips", "annotated_clips")
AUTOENCODER = Stage("autoencoder", autoencoder, ("runs/autoencoder",), TRAINED_ON, share=0.12)
LIGHT_AUTOENCODER = Stage(
    *("light_autoencoder", light_autoencoder, ("runs/light_autoencoder",)),
    *((*TRAINED_ON, "autoencoder", "bundle"), checkpoint, 0.08),
)
NETWORKS = (
    Stage("flow_completion", flow_completion, ("runs/flow_completion",), ("cache",), None, 0.53, "networks"),
    Stage("future_frame", future_frame, ("runs/future_frame",), ("cache",), None, 0.53, "networks"),
)


def autoencoders(settings: Settings) -> tuple[Stage, ...]:
    """Both autoencoders, or the light one alone, or neither for a model to start from that has a light one."""
    if settings.teacher is None:
        return ()
    return (LIGHT_AUTOENCODER,) if settings.start is not None else (AUTOENCODER, LIGHT_AUTOENCODER)
