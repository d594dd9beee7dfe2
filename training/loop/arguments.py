"""The command-line arguments that all training scripts share."""

import argparse
import importlib.util
from collections.abc import Sequence

from loop.learning_rate import LR_SCHEDULERS
from loop.validation_media import TRACKERS, check_tracker


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the shared arguments. Their names are those of diffusers' training scripts."""
    group = parser.add_argument_group("training")
    group.add_argument("--output_dir", required=True, help="Folder for checkpoints, logs and the trained model.")
    group.add_argument("--seed", type=int, default=0, help="Seed of all randomness.")
    group.add_argument("--train_batch_size", type=int, default=16, help="Samples per process and step.")
    group.add_argument("--gradient_accumulation_steps", type=int, default=1)
    group.add_argument("--gradient_checkpointing", action="store_true", help="Use less memory, but more time.")
    group.add_argument("--max_train_steps", type=int, default=None, help="Stop after this many optimizer steps.")
    group.add_argument(
        "--max_train_minutes",
        type=float,
        default=None,
        help="Stop after this much training time, summed over resumed runs. The learning rate follows the budget of "
        "which the larger part is spent, so only a run limited by steps alone is reproducible bit by bit.",
    )
    group.add_argument("--learning_rate", type=float, default=1e-4)
    group.add_argument(
        "--scale_lr",
        action="store_true",
        help="Multiply the learning rate by the number of samples in a step, over all processes.",
    )
    group.add_argument("--lr_scheduler", choices=LR_SCHEDULERS, default="cosine")
    group.add_argument("--lr_warmup_steps", type=int, default=100, help="For all schedulers except constant.")
    group.add_argument("--lr_num_cycles", type=int, default=1, help="For cosine_with_restarts.")
    group.add_argument("--lr_power", type=float, default=1.0, help="For polynomial.")
    group.add_argument("--use_8bit_adam", action="store_true", help="Use the 8-bit AdamW of bitsandbytes.")
    group.add_argument("--adam_beta1", type=float, default=0.9)
    group.add_argument("--adam_beta2", type=float, default=0.99)
    group.add_argument("--adam_weight_decay", type=float, default=1e-2)
    group.add_argument("--adam_epsilon", type=float, default=1e-8)
    group.add_argument("--max_grad_norm", type=float, default=1.0)
    group.add_argument(
        "--use_ema", action="store_true", help="Keep a moving average of the weights, validate it and save it."
    )
    group.add_argument("--ema_decay", type=float, default=0.999)
    group.add_argument("--mixed_precision", choices=("no", "fp16", "bf16"), default="no")
    group.add_argument("--allow_tf32", action="store_true", help="Faster float32 on Ampere GPUs and later.")
    group.add_argument("--dataloader_num_workers", type=int, default=0)
    group.add_argument("--checkpointing_steps", type=int, default=1000)
    group.add_argument(
        "--checkpoints_total_limit", type=int, default=2, help="Keep this many checkpoints, remove older ones."
    )
    group.add_argument(
        "--resume_from_checkpoint",
        default=None,
        help='Path or name of a checkpoint, or "latest" (starts from scratch if there is none).',
    )
    group.add_argument("--validation_steps", type=int, default=1000)
    group.add_argument("--logging_steps", type=int, default=10)
    group.add_argument(
        "--report_to",
        choices=(*TRACKERS, "none"),
        default="tensorboard",
        help="Tracker that gets numbers, images and videos, in addition to the files in --output_dir.",
    )


def check_probabilities(args: argparse.Namespace, names: Sequence[str]) -> None:
    """Raises `ValueError` if one of these arguments is given and no number from 0 to 1."""
    for name in names:
        value = getattr(args, name)
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"--{name} is {value}; it must be a number from 0 to 1.")


def check_training_arguments(args: argparse.Namespace) -> None:
    """Checks the shared arguments before any slow work.

    Raises:
        ValueError: for impossible values.
        ImportError: if a package that they ask for is not installed.
    """
    if args.max_train_steps is None and args.max_train_minutes is None:
        raise ValueError("The run has no end: give --max_train_steps, --max_train_minutes or both.")
    names = ("train_batch_size", "gradient_accumulation_steps", "checkpointing_steps", "logging_steps")
    for name in (*names, "lr_num_cycles"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} is {getattr(args, name)}; it must be 1 or more.")
    check_tracker(args.report_to)
    if args.use_8bit_adam and importlib.util.find_spec("bitsandbytes") is None:
        raise ImportError("--use_8bit_adam needs bitsandbytes, which is not installed: pip install bitsandbytes.")
