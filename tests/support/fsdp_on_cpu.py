"""Runs a script of training with FSDP on the CPU, for tests.

    accelerate launch --config_file training/accelerate_configs/fsdp.yaml tests/support/fsdp_on_cpu.py SCRIPT ARGUMENTS

accelerate splits weights over processes of the kind MULTI_GPU and the like alone, not of MULTI_CPU, though PyTorch's
FSDP has no such limit. So this makes accelerate's processes on the CPU, which talk through gloo, calls them MULTI_GPU,
and leaves everything else as it is.
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
