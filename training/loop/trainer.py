"""The training loop that the scripts share: budget, learning rate, EMA, checkpoints, resuming, logs.

A script builds its model and its data and hands over one function that turns a batch into a loss. Everything random
in a step follows from `--seed` and the step's number, never from what ran before, so a run that is resumed from
`checkpoint-N` sees the same data and the same noise as one that was never interrupted.

A step of several processes takes the next draws of the training set, a batch for each process after the other, and a
checkpoint says how many were drawn. So a run that goes on with another number of processes, or another batch, skips no
draw and repeats none.
"""

import argparse
import contextlib
import copy
import importlib.util
import json
import math
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.utils import (
    OPTIMIZER_NAME,
    DistributedType,
    ProjectConfiguration,
    broadcast_object_list,
    compare_versions,
    parse_flag_from_env,
)
from diffusers import ModelMixin
from diffusers.training_utils import EMAModel
from loop.sharding import (
    load_whole_optimizer_state,
    names_of_blocks,
    put_together,
    split,
    split_like,
    whole,
    whole_optimizer_state,
)
from loop.validation_media import TRACKERS, check_tracker
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from mcdiff_pipeline.atomic_files import atomic_folder, unfinished_name


# 1.6 takes no other modules than those that name `_no_split_modules`.
FSDP_ACCELERATE_VERSION = "1.7"

# Those of diffusers' own training scripts.
LR_SCHEDULERS = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that all scripts share, named as in the training scripts of diffusers."""
    group = parser.add_argument_group("training")
    group.add_argument("--output_dir", required=True, help="Folder for checkpoints, logs and the trained model.")
    group.add_argument("--seed", type=int, default=0, help="Everything random follows from it.")
    group.add_argument("--train_batch_size", type=int, default=16, help="Samples per process and step.")
    group.add_argument("--gradient_accumulation_steps", type=int, default=1)
    group.add_argument("--gradient_checkpointing", action="store_true", help="Slower, with less memory.")
    group.add_argument("--max_train_steps", type=int, default=None, help="Stop after this many optimizer steps.")
    group.add_argument(
        "--max_train_minutes",
        type=float,
        default=None,
        help="Stop after this much training time, summed over resumed runs. The learning rate follows whichever "
        "budget is spent further, so only a run limited by steps alone repeats bit by bit.",
    )
    group.add_argument("--learning_rate", type=float, default=1e-4)
    group.add_argument(
        "--scale_lr", action="store_true", help="Multiply the learning rate by the samples of a step, over processes."
    )
    group.add_argument("--lr_scheduler", choices=LR_SCHEDULERS, default="cosine")
    group.add_argument("--lr_warmup_steps", type=int, default=100, help="Of all schedulers but constant.")
    group.add_argument("--lr_num_cycles", type=int, default=1, help="Of cosine_with_restarts.")
    group.add_argument("--lr_power", type=float, default=1.0, help="Of polynomial.")
    group.add_argument("--use_8bit_adam", action="store_true", help="AdamW with 8-bit states, of bitsandbytes.")
    group.add_argument("--adam_beta1", type=float, default=0.9)
    group.add_argument("--adam_beta2", type=float, default=0.99)
    group.add_argument("--adam_weight_decay", type=float, default=1e-2)
    group.add_argument("--adam_epsilon", type=float, default=1e-8)
    group.add_argument("--max_grad_norm", type=float, default=1.0)
    group.add_argument("--use_ema", action="store_true", help="Average the weights; the average is what is saved.")
    group.add_argument("--ema_decay", type=float, default=0.999)
    group.add_argument("--mixed_precision", choices=("no", "fp16", "bf16"), default="no")
    group.add_argument("--allow_tf32", action="store_true", help="Faster float32 on Ampere GPUs and later.")
    group.add_argument("--dataloader_num_workers", type=int, default=0)
    group.add_argument("--checkpointing_steps", type=int, default=1000)
    group.add_argument("--checkpoints_total_limit", type=int, default=2, help="Older checkpoints are removed.")
    group.add_argument(
        "--resume_from_checkpoint", default=None, help='Path or name of a checkpoint, or "latest" (none yet: start).'
    )
    group.add_argument("--validation_steps", type=int, default=1000)
    group.add_argument("--logging_steps", type=int, default=10)
    group.add_argument(
        "--report_to",
        choices=(*TRACKERS, "none"),
        default="tensorboard",
        help="Where numbers, pictures and videos are sent beside the files in --output_dir.",
    )


def check_training_arguments(args: argparse.Namespace) -> None:
    """Raises, before any slow work, `ValueError` for impossible values, `ImportError` for what is not installed."""
    if args.max_train_steps is None and args.max_train_minutes is None:
        raise ValueError("The run has no end: give --max_train_steps, --max_train_minutes or both.")
    names = ("train_batch_size", "gradient_accumulation_steps", "checkpointing_steps", "logging_steps")
    for name in (*names, "lr_num_cycles"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} is {getattr(args, name)}; it must be 1 or more.")
    check_tracker(args.report_to)
    if args.use_8bit_adam and importlib.util.find_spec("bitsandbytes") is None:
        raise ImportError("--use_8bit_adam needs bitsandbytes, which is not installed: pip install bitsandbytes.")


def make_accelerator(args: argparse.Namespace) -> Accelerator:
    """Accelerate's entry point for these arguments; logs go to `output_dir/logs`.

    Raises:
        ValueError: if accelerate was launched with FSDP where it cannot be had, or with FSDP or DeepSpeed for what
            they cannot do.
    """
    if parse_flag_from_env("ACCELERATE_USE_DEEPSPEED") and args.mixed_precision == "fp16":
        raise ValueError(
            "--mixed_precision fp16 would leave no weights in float32 to average under DeepSpeed; use bf16 or no."
        )
    fsdp_plugin = make_fsdp_plugin(args) if parse_flag_from_env("ACCELERATE_USE_FSDP") else None
    if args.allow_tf32:
        torch.set_float32_matmul_precision("high")
    accelerator = Accelerator(
        # Without it, several processes on a machine without accelerator would each train alone, as if there were one.
        cpu=not torch.accelerator.is_available(),
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        mixed_precision=args.mixed_precision,
        fsdp_plugin=fsdp_plugin,
        log_with=None if args.report_to == "none" else args.report_to,
        project_config=ProjectConfiguration(project_dir=args.output_dir, logging_dir=Path(args.output_dir, "logs")),
    )
    if fsdp_plugin is not None and accelerator.distributed_type != DistributedType.FSDP:
        raise ValueError(
            f"distributed_type FSDP was asked for, but accelerate gives {accelerator.distributed_type.value} on this "
            "machine, since it splits weights over accelerators only; launch with "
            "training/accelerate_configs/cpu_two_processes.yaml."
        )
    return accelerator


def make_fsdp_plugin(args: argparse.Namespace) -> FullyShardedDataParallelPlugin:
    """What accelerate was launched with for FSDP, with weights in float32 as everywhere here, under torch's autocast.

    Raises:
        ValueError: if accelerate is too old, or for what these scripts cannot do with FSDP.
    """
    if compare_versions("accelerate", "<", FSDP_ACCELERATE_VERSION):
        raise ValueError(
            f"distributed_type FSDP needs accelerate {FSDP_ACCELERATE_VERSION} or later; update it, or launch with "
            "training/accelerate_configs/ddp.yaml."
        )
    plugin = FullyShardedDataParallelPlugin()
    unfit = {
        "fsdp_version 1": plugin.fsdp_version == 1,
        "fsdp_offload_params": isinstance(plugin.cpu_offload, CPUOffloadPolicy),
        "--mixed_precision fp16": args.mixed_precision == "fp16",
        "--use_8bit_adam": args.use_8bit_adam,
    }
    given = [name for name, is_given in unfit.items() if is_given]
    if given:
        raise ValueError(
            f"distributed_type FSDP cannot be had with {' and '.join(given)} here; leave that out, and launch with "
            "training/accelerate_configs/fsdp.yaml."
        )
    plugin.mixed_precision_policy = MixedPrecisionPolicy()
    return plugin


class SeededDraws(Dataset):
    """The endless training set: draw number `n` is a function of the seed and of `n` alone.

    Each pass over `num_items` items is in a new order. `load(index, rng)` makes the sample of item `index` with all
    randomness taken from the `numpy.random.Generator` it is given; the sample is handed out with the item's `index`.
    `describe(index)` is what a person finds the item by.
    """

    def __init__(
        self,
        num_items: int,
        load: Callable[[int, np.random.Generator], dict],
        seed: int,
        describe: Callable[[int], str] = "item {}".format,
    ):
        if num_items < 1:
            raise ValueError("The training set is empty: check the folder and the split that were given.")
        self.num_items, self.load, self.seed, self.describe = num_items, load, seed, describe
        self.epoch, self.order = -1, None

    def __getitem__(self, draw: int) -> dict:
        epoch, position = divmod(draw, self.num_items)
        if epoch != self.epoch:
            self.epoch = epoch
            self.order = np.random.default_rng([self.seed, 0, epoch]).permutation(self.num_items)
        index = int(self.order[position])
        return self.load(index, np.random.default_rng([self.seed, 1, draw])) | {"index": index}


def checkpoints(output_dir: str | Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [path for path in Path(output_dir).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def learning_rate_factor(
    scheduler: str, step: int, warmup_steps: int, progress: float, num_cycles: int = 1, power: float = 1.0
) -> float:
    """Factor on the learning rate at a step; `progress` in [0, 1] is the part of the budget already spent."""
    if scheduler == "constant":
        return 1.0
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps > 0 else 1.0
    progress = min(progress, 1.0)
    if scheduler == "constant_with_warmup":
        return warmup
    if scheduler == "linear":
        return warmup * (1.0 - progress)
    if scheduler == "polynomial":
        return warmup * (1.0 - progress) ** power
    if scheduler == "cosine_with_restarts" and progress < 1.0:
        progress = num_cycles * progress % 1.0
    return warmup * 0.5 * (1.0 + math.cos(math.pi * progress))


def make_optimizer(args: argparse.Namespace, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    settings = {
        "lr": args.learning_rate,
        "betas": (args.adam_beta1, args.adam_beta2),
        "weight_decay": args.adam_weight_decay,
        "eps": args.adam_epsilon,
    }
    if args.use_8bit_adam:
        import bitsandbytes

        return bitsandbytes.optim.AdamW8bit(parameters, **settings)
    return torch.optim.AdamW(parameters, **settings, fused=True)


def train(
    *,
    accelerator: Accelerator,
    args: argparse.Namespace,
    name: str,
    model: torch.nn.Module,
    draws: SeededDraws,
    compute_loss: Callable[[torch.nn.Module, dict], tuple[torch.Tensor, dict[str, torch.Tensor]]],
    validate: Callable[[torch.nn.Module, int], dict[str, float]] | None = None,
    parts: dict[str, ModelMixin] | None = None,
) -> int:
    """Trains `model` in place; at the end it carries the averaged weights if `--use_ema` is given.

    With FSDP it is on the device in the main process alone then.

    Args:
        name: Name of what is trained; a checkpoint holds it as the diffusers folders `name/` and `name_ema/`.
        draws: Training set; sample `n` of the run is `draws[n]`.
        compute_loss: Takes the model and a collated batch, returns the loss and further values to log.
        validate: Takes the averaged model in evaluation mode and the step; returns the numbers to log. Only the main
            process calls it.
        parts: The diffusers models that `model` is made of, by the names of their folders in a checkpoint, where it is
            none itself; in the order in which it has them, and all that it has parameters in. Or the `LoraWeights` of
            which alone it is trained.

    Returns:
        0, or 128 + the number of the signal (SIGINT, SIGTERM) that ended the run after its checkpoint was written.

    Raises:
        FloatingPointError: The loss or the gradient is not a finite number; the last checkpoint is untouched, and the
            models and the batch are kept in `output_dir/not-finite-STEP-process-N`.
        OSError: A checkpoint could not be written, such as to a full disk; the last one is untouched.
    """
    device = accelerator.device
    parts = parts or {name: model}
    uses_deepspeed = accelerator.distributed_type == DistributedType.DEEPSPEED
    uses_fsdp = accelerator.distributed_type == DistributedType.FSDP
    # Channels last is what the convolutions of oneDNN (CPU) and cuDNN (tensor cores) are fastest with; DeepSpeed and
    # FSDP send weights as they lie in memory and take no other layout than the plain one.
    layout = torch.contiguous_format if uses_deepspeed or uses_fsdp else torch.channels_last
    if args.gradient_checkpointing:
        for part in parts.values():
            part.enable_gradient_checkpointing()
    # FSDP takes a model apart. It is given a copy; the model itself stays whole in the memory of the CPU, and is given
    # the weights where they are validated or saved.
    trained = model
    if uses_fsdp:
        model = copy.deepcopy(model)
    model = model.to(device=device, memory_format=layout).train()
    optimizer = make_optimizer(args, [parameter for parameter in model.parameters() if parameter.requires_grad])
    samples_per_step = args.train_batch_size * args.gradient_accumulation_steps * accelerator.num_processes
    learning_rate = args.learning_rate * (samples_per_step if args.scale_lr else 1)
    if uses_deepspeed:
        # What DeepSpeed does in its own step, and asks for where no loader is prepared beside the model. Its bf16 mode
        # would keep no weights in float32 to average; torch's autocast does.
        accelerator.state.deepspeed_plugin.deepspeed_config |= {
            "train_micro_batch_size_per_gpu": args.train_batch_size,
            "gradient_accumulation_steps": args.gradient_accumulation_steps,
            "gradient_clipping": args.max_grad_norm,
            "bf16": {"enabled": False},
            "torch_autocast": {"enabled": args.mixed_precision == "bf16", "dtype": "bfloat16"},
        }
    if uses_fsdp and accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap is None:
        accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap = names_of_blocks(model)
    model, optimizer = accelerator.prepare(model, optimizer)
    saved = [parameter for part in parts.values() for parameter in part.parameters()]
    # The same, as they are trained: with FSDP the parts that this process has of them.
    counterparts = dict(zip(trained.parameters(), model.parameters(), strict=True))
    averaged = [counterparts[parameter] for parameter in saved]
    ema = None
    if args.use_ema:
        ema = EMAModel(averaged, decay=args.ema_decay, foreach=True)

    def take_averages():
        if uses_fsdp:
            put_together(averaged if ema is None else ema.shadow_params, saved)
        elif ema is not None:
            ema.copy_to(averaged)

    @contextlib.contextmanager
    def averaged_weights():
        trained.eval()
        if ema is not None and not uses_fsdp:
            ema.store(averaged)
        take_averages()
        yield
        if uses_fsdp:
            trained.to("cpu")
        elif ema is not None:
            ema.restore(averaged)
        trained.train()

    def save_parts(folder, suffix=""):
        if accelerator.is_main_process:
            for part_name, part in parts.items():
                part.save_pretrained(Path(folder, f"{part_name}{suffix}"))

    def save_hook(models, weights, folder):
        if uses_fsdp:
            put_together(averaged, saved)
        save_parts(folder)
        if ema is not None:
            with averaged_weights():
                save_parts(folder, "_ema")
        weights.clear()

    def load_hook(models, folder):
        models.clear()
        for part_name, part in parts.items():
            part.load_state_dict(type(part).from_pretrained(folder, subfolder=part_name).state_dict())
        if uses_fsdp:
            split(saved, averaged)
        if ema is not None:
            averages = [
                type(part).from_pretrained(folder, subfolder=f"{part_name}_ema") for part_name, part in parts.items()
            ]
            shadow = [parameter.detach() for average in averages for parameter in average.parameters()]
            if uses_fsdp:
                shadow = [split_like(tensor, part) for tensor, part in zip(shadow, averaged, strict=True)]
            ema.load_state_dict({"shadow_params": shadow, "optimization_step": step})
            ema.to(device)

    def save_state(folder):
        if not uses_fsdp:
            accelerator.save_state(folder)
            return
        # accelerate would write the weights a second time, and an optimizer that only as many processes can read.
        save_hook([], [], folder)
        state = whole_optimizer_state(optimizer, keep=accelerator.is_main_process)
        if accelerator.is_main_process:
            torch.save(state, Path(folder, f"{OPTIMIZER_NAME}.bin"))

    def load_state(folder):
        if not uses_fsdp:
            accelerator.load_state(folder)
            return
        load_hook([], folder)
        state = torch.load(Path(folder, f"{OPTIMIZER_NAME}.bin"), map_location="cpu", weights_only=True)
        load_whole_optimizer_state(optimizer, state)

    if accelerator.is_main_process:
        # What a run that was killed while it wrote a checkpoint left behind.
        for leftover in Path(args.output_dir).glob(".checkpoint-*"):
            shutil.rmtree(leftover)
        Path(args.output_dir, "training_arguments.json").write_text(json.dumps(vars(args), indent=2) + "\n")
    accelerator.register_save_state_pre_hook(save_hook)
    accelerator.register_load_state_pre_hook(load_hook)

    step, samples, spent_minutes = 0, 0, 0.0
    checkpoint = args.resume_from_checkpoint
    if checkpoint == "latest":
        checkpoint = next(reversed(checkpoints(args.output_dir)), None)
    elif checkpoint is not None:
        checkpoint = Path(checkpoint) if Path(checkpoint).is_dir() else Path(args.output_dir, checkpoint)
        if not checkpoint.is_dir():
            raise ValueError(
                f'--resume_from_checkpoint {args.resume_from_checkpoint!r} is no folder; use "latest" or one of '
                f"{[path.name for path in checkpoints(args.output_dir)]}."
            )
    if checkpoint is not None:
        progress = json.loads(Path(checkpoint, "progress.json").read_text())
        step, samples, spent_minutes = progress["step"], progress["samples"], progress["minutes"]
        load_state(str(checkpoint))
        accelerator.print(f"Resumed from {checkpoint} at step {step}.")

    def save_checkpoint():
        def write(unfinished):
            save_state(str(unfinished))
            progress = {"step": step, "samples": samples, "minutes": minutes}
            Path(unfinished, "progress.json").write_text(json.dumps(progress))

        accelerator.wait_for_everyone()
        folder = Path(args.output_dir, f"checkpoint-{step}")
        if (uses_deepspeed or uses_fsdp) and not accelerator.is_main_process:
            # With DeepSpeed it writes its part of the optimizer, with FSDP it hands over its parts of everything.
            save_state(str(unfinished_name(folder)))
        # Else what the other processes know follows from the seed, the step and the samples drawn.
        if accelerator.is_main_process:
            try:
                atomic_folder(folder, write)
            except (OSError, RuntimeError, SafetensorError) as error:  # how a full disk is told depends on the writer
                kept = [path.name for path in checkpoints(args.output_dir)[-1:]] or ["no earlier one"]
                free = shutil.disk_usage(args.output_dir).free / 1e6
                raise OSError(
                    f"checkpoint-{step} could not be written to {args.output_dir}, where {free:.0f} MB are free: "
                    f"{error}; {kept[0]} is kept, so make room and go on with --resume_from_checkpoint latest."
                ) from error
            for old in checkpoints(args.output_dir)[: -args.checkpoints_total_limit]:
                shutil.rmtree(old)
        accelerator.wait_for_everyone()

    def check_finite(loss, norm, batch, items):
        # With fp16 an infinite gradient is the grad scaler's business: it skips the step.
        finite = math.isfinite(loss) and (math.isfinite(norm) or args.mixed_precision == "fp16")
        if uses_fsdp:
            # Where one stops all have to, since it takes all to put the weights together.
            finite = float(accelerator.reduce(torch.tensor(float(finite), device=device), "mean")) == 1
        if finite:
            return
        if uses_fsdp:
            put_together(averaged, saved)
        snapshot = Path(args.output_dir, f"not-finite-{step}-process-{accelerator.process_index}")

        def write(unfinished):
            for part_name, part in parts.items():
                part.save_pretrained(Path(unfinished, part_name))
            save_file(
                {key: tensor.contiguous() for key, tensor in batch.items()}, Path(unfinished, "batch.safetensors")
            )

        atomic_folder(snapshot, write)
        raise FloatingPointError(
            f"Step {step}: loss {loss}, gradient norm {norm} on {', '.join(items)}; the models and the batch are in "
            f"{snapshot}; look at these, lower --learning_rate (now {learning_rate * factor:g}) and resume from "
            "the last checkpoint."
        )

    if args.report_to != "none" and accelerator.is_main_process:
        plain = {key: value for key, value in vars(args).items() if isinstance(value, (int, float, str))}
        accelerator.init_trackers(name, config=plain)
    log_file = open(Path(args.output_dir, "log.jsonl"), "a") if accelerator.is_main_process else None

    def log(values):
        accelerator.log(values, step=step)
        if log_file is not None:
            log_file.write(json.dumps({"step": step, **values}) + "\n")
            log_file.flush()

    def run_validation(write):
        if accelerator.is_main_process:
            with torch.no_grad():
                values = validate(trained.to(device), step)
            log(values)
            write(f"step {step}: " + ", ".join(f"{key} {value:.4f}" for key, value in values.items()))

    received = []
    handlers = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }

    # The sampler of the draws is a plain range that starts where the resumed run stopped.
    last_step = args.max_train_steps if args.max_train_steps is not None else 2**31
    loader = DataLoader(
        draws,
        batch_size=args.train_batch_size,
        sampler=range(samples, samples + (last_step - step) * samples_per_step),
        num_workers=args.dataloader_num_workers,
        persistent_workers=args.dataloader_num_workers > 0,
        drop_last=True,
    )
    batches = iter(accelerator.prepare(loader)) if step < last_step else iter(())
    bar = tqdm(
        total=args.max_train_steps,
        initial=step,
        desc=name,
        mininterval=0.1 if sys.stderr.isatty() else 30,
        disable=not accelerator.is_local_main_process,
    )
    # With FSDP all others help to put the weights together.
    validates = validate is not None and (accelerator.is_main_process or uses_fsdp)
    started, minutes, sums, count = time.monotonic(), spent_minutes, {}, 0
    waiting, mark, marked_step = 0.0, started, step
    while step < last_step:
        # Ranks must agree on the clock and on the signals, or they would stop at different steps.
        minutes = spent_minutes + (time.monotonic() - started) / 60
        if accelerator.num_processes > 1:
            minutes, *received[:] = broadcast_object_list([[minutes, *received]])[0]
        if received or (args.max_train_minutes is not None and minutes >= args.max_train_minutes):
            break
        progress = max(
            step / args.max_train_steps if args.max_train_steps else 0.0,
            minutes / args.max_train_minutes if args.max_train_minutes else 0.0,
        )
        factor = learning_rate_factor(
            args.lr_scheduler, step, args.lr_warmup_steps, progress, args.lr_num_cycles, args.lr_power
        )
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * factor

        for part in range(args.gradient_accumulation_steps):
            before = time.monotonic()
            batch = next(batches)
            waiting += time.monotonic() - before
            items = [draws.describe(index) for index in batch.pop("index").tolist()]
            torch.manual_seed(
                int(np.random.default_rng([args.seed, 2, step, part, accelerator.process_index]).integers(2**63))
            )
            with accelerator.accumulate(model):
                with accelerator.autocast():
                    loss, values = compute_loss(model, batch)
                accelerator.backward(loss)
                norm = 0.0
                if accelerator.sync_gradients:
                    norm = accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
                    norm = float(whole(norm) or 0.0)
                check_finite(loss.item(), norm, batch, items)
                optimizer.step()
                optimizer.zero_grad()
            for key, value in {"loss": loss, **values}.items():
                # Summed where it is, so that nothing waits for the optimizer's step on an accelerator.
                sums[key] = sums.get(key, 0.0) + value.detach().float()
            count += 1
        if ema is not None:
            ema.step(averaged)
        step += 1
        samples += samples_per_step
        bar.update()

        if step % args.logging_steps == 0 or step == last_step:
            now = time.monotonic()
            means = torch.stack(list(sums.values())) / count
            means = dict(zip(sums, accelerator.reduce(means, "mean").tolist()))
            log(
                means
                | {
                    "learning_rate": learning_rate * factor,
                    "gradient_norm": norm,
                    "samples_per_second": (step - marked_step) * samples_per_step / (now - mark),
                    "waiting_for_data": waiting / (now - mark),
                }
            )
            bar.set_postfix(loss=f"{means['loss']:.4f}", refresh=False)
            sums, count, waiting, mark, marked_step = {}, 0, 0.0, now, step
        if validates and step % args.validation_steps == 0 and step < last_step:
            with averaged_weights():
                run_validation(bar.write)
        if step % args.checkpointing_steps == 0:
            save_checkpoint()
    bar.close()

    if checkpoints(args.output_dir)[-1:] != [Path(args.output_dir, f"checkpoint-{step}")]:
        save_checkpoint()
    take_averages()
    if accelerator.is_main_process:
        trained.to(device)
    if validates and not received:
        trained.eval()
        run_validation(print)
    if log_file is not None:
        log_file.close()
    accelerator.end_training()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return 128 + received[0] if received else 0
