"""Runs a training script with FSDP on the CPU, for tests.

    accelerate launch --config_file training/accelerate_configs/fsdp.yaml tests/support/fsdp_on_cpu.py SCRIPT ARGUMENTS

accelerate shards weights only over processes of kinds such as MULTI_GPU, not MULTI_CPU. FSDP in PyTorch has no such
limit. So this program makes accelerate's processes on the CPU, which communicate through gloo, and names their kind
MULTI_GPU. Everything else is as on GPUs.
"""

import runpy
import sys

from accelerate import PartialState
from accelerate.utils import DistributedType


if __name__ == "__main__":
    PartialState(cpu=True)
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
