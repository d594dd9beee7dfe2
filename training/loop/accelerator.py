"""The `Accelerator` of a training script: devices, precision, and the kinds of distributed training."""

import argparse
from pathlib import Path

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.utils import DistributedType, ProjectConfiguration, compare_versions, parse_flag_from_env
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy


# 1.6 fails on modules without `_no_split_modules`.
FSDP_ACCELERATE_VERSION = "1.7"


def make_accelerator(args: argparse.Namespace) -> Accelerator:
    """Makes the `Accelerator` for the shared training arguments. Logs go to `output_dir/logs`.

    Raises:
        ValueError: if accelerate was launched with FSDP or DeepSpeed, and the machine or the arguments do not fit.
    """
    if parse_flag_from_env("ACCELERATE_USE_DEEPSPEED") and args.mixed_precision == "fp16":
        raise ValueError(
            "--mixed_precision fp16 would leave no weights in float32 to average under DeepSpeed; use bf16 or no."
        )
    fsdp_plugin = make_fsdp_plugin(args) if parse_flag_from_env("ACCELERATE_USE_FSDP") else None
    if args.allow_tf32:
        torch.set_float32_matmul_precision("high")
    accelerator = Accelerator(
        # Without this, several processes on a machine without an accelerator would train independently.
        cpu=not torch.accelerator.is_available(),
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        mixed_precision=args.mixed_precision,
        fsdp_plugin=fsdp_plugin,
        log_with=None if args.report_to == "none" else args.report_to,
        project_config=ProjectConfiguration(project_dir=args.output_dir, logging_dir=Path(args.output_dir, "logs")),
    )
    if fsdp_plugin is not None and accelerator.distributed_type != DistributedType.FSDP:
        raise ValueError(
            f"distributed_type is FSDP, but accelerate gives {accelerator.distributed_type.value} on this machine: it "
            "splits weights over accelerators only; launch with training/accelerate_configs/cpu_two_processes.yaml."
        )
    return accelerator


def make_fsdp_plugin(args: argparse.Namespace) -> FullyShardedDataParallelPlugin:
    """The FSDP settings that accelerate was launched with. Weights stay in float32; autocast does the rest.

    Raises:
        ValueError: if accelerate is too old, or a setting or an argument does not work with FSDP here.
    """
    if compare_versions("accelerate", "<", FSDP_ACCELERATE_VERSION):
        raise ValueError(
            f"distributed_type FSDP needs accelerate {FSDP_ACCELERATE_VERSION} or later; update it, or launch with "
            "training/accelerate_configs/ddp.yaml."
        )
    plugin = FullyShardedDataParallelPlugin()
    unsupported = {
        "fsdp_version 1": plugin.fsdp_version == 1,
        "fsdp_offload_params": isinstance(plugin.cpu_offload, CPUOffloadPolicy),
        "--mixed_precision fp16": args.mixed_precision == "fp16",
        "--use_8bit_adam": args.use_8bit_adam,
    }
    given = [name for name, is_given in unsupported.items() if is_given]
    if given:
        raise ValueError(
            f"distributed_type FSDP does not work with {' and '.join(given)} here; leave that out, and launch with "
            "training/accelerate_configs/fsdp.yaml."
        )
    plugin.mixed_precision_policy = MixedPrecisionPolicy()
    return plugin
