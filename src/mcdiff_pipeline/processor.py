# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What the processor offers: the cores that this process may use, and the number format in which it is fastest."""

import math
import os
from pathlib import Path


# Flags of x86 processors, as Linux names them, with instructions that multiply bfloat16. Without one of them bfloat16
# is converted in software: on a processor with AVX2 alone it took 5.7 times as long as float32.
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}


def available_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """
    Cores that this process may use: those of its affinity mask, or fewer if its control group has a quota.

    More threads than cores wait for each other: with two threads on one busy core, F took 12 times as long.

    Args:
        cgroup (`Path`, defaults to `/sys/fs/cgroup`):
            Folder of the control group, of version 1 or 2.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    try:
        version_2 = (cgroup / "cpu.max").read_text().split()
        quota, period = (float(version_2[0]) if version_2[0] != "max" else math.inf), float(version_2[1])
    except (OSError, ValueError, IndexError):
        try:
            quota = float((cgroup / "cpu" / "cpu.cfs_quota_us").read_text())
            period = float((cgroup / "cpu" / "cpu.cfs_period_us").read_text())
            quota = quota if quota > 0 else math.inf
        except (OSError, ValueError):
            return cores
    return max(1, min(cores, math.ceil(quota / period) if math.isfinite(quota) else cores))


def fastest_dtype(device: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """
    The number format in which a device runs the networks fastest without a loss that the evaluation shows.

    Args:
        device (`str`):
            A device of PyTorch, for example `"cpu"` or `"cuda:0"`. Only processors are chosen for; other devices get
            float32.
        cpuinfo (`Path`, defaults to `/proc/cpuinfo`):
            What Linux says about the processor.

    Returns:
        `str`: `"bfloat16"` for a processor with instructions for it, else `"float32"`.
    """
    if not device.startswith("cpu"):
        return "float32"
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return "float32"
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return "bfloat16" if BFLOAT16_FLAGS & set(flags.split()) else "float32"
