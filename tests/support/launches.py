"""Launches scripts like `accelerate launch`, several times in turn.

    python tests/support/launches.py LAUNCHES

LAUNCHES is a JSON file with a list of launches, each a list of the arguments of `accelerate launch`. The only
difference is that processes are forks of this one, which has imported what trainings need: importing it again in each
process would take most of the time.
"""

import json
import sys
from pathlib import Path

import train_end_to_end  # noqa: F401
import train_flow_completion  # noqa: F401
from accelerate.commands.launch import launch_command, launch_command_parser

from support import fsdp_on_cpu, recorded_training, scripts_in_turn  # noqa: F401


if __name__ == "__main__":
    for arguments in json.loads(Path(sys.argv[1]).read_text()):
        launch = launch_command_parser().parse_args(arguments)
        launch.start_method, launch.run_path = "fork", True  # arguments of torchrun, which accelerate passes on
        launch_command(launch)
