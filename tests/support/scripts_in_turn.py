"""Runs several scripts in turn, each with its arguments, in one process: starting processes takes most of the time.

    accelerate launch ... tests/support/scripts_in_turn.py COMMANDS

COMMANDS is a JSON file with a list of commands, each a list of a script and its arguments.
"""

import json
import os
import runpy
import sys
from pathlib import Path

from accelerate.state import AcceleratorState, GradientState, PartialState


if __name__ == "__main__":
    # Otherwise accelerate destroys the group of processes at the end of a training.
    os.environ["FORK_LAUNCHED"] = "1"
    # What `fsdp_on_cpu.py` has set. With FSDP, accelerate changes it.
    state = dict(PartialState._shared_state)
    for command in json.loads(Path(sys.argv[1]).read_text()):
        sys.argv = command
        try:
            runpy.run_path(command[0], run_name="__main__")
        except SystemExit as end:
            if end.code:
                raise
        AcceleratorState._reset_state()
        GradientState._reset_state()
        PartialState._shared_state.update(state)
