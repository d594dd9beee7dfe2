"""The log of a run: `log.jsonl` in the output folder, and the tracker."""

import argparse
import json
import time
from pathlib import Path
from typing import Self

import torch
from accelerate import Accelerator


class RunLog:
    """Writes one line of JSON for each logged step, and sends the same numbers to the tracker."""

    def __init__(self, accelerator: Accelerator, args: argparse.Namespace, name: str):
        self.accelerator = accelerator
        self.file = None
        if accelerator.is_main_process:
            if args.report_to != "none":
                plain = {key: value for key, value in vars(args).items() if isinstance(value, (int, float, str))}
                accelerator.init_trackers(name, config=plain)
            self.file = open(Path(args.output_dir, "log.jsonl"), "a")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.file is not None:
            self.file.close()

    def write(self, step: int, values: dict[str, float]) -> None:
        self.accelerator.log(values, step=step)
        if self.file is not None:
            self.file.write(json.dumps({"step": step, **values}) + "\n")
            self.file.flush()


class Averages:
    """Means of losses, speed and waiting time since the last line of the log."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self._restart()

    def _restart(self) -> None:
        self.started, self.waited, self.samples = time.monotonic(), 0.0, 0
        self.sums: dict[str, torch.Tensor] = {}
        self.batches = 0

    def add_batch(self, values: dict[str, torch.Tensor]) -> None:
        """Adds the losses of one batch. They stay on their device: reading them would wait for the optimizer."""
        for key, value in values.items():
            self.sums[key] = self.sums.get(key, 0.0) + value.detach().float()
        self.batches += 1

    def take(self) -> dict[str, float]:
        """The means over batches and processes, `samples_per_second`, and `waiting_for_data` as a share of the time.

        Counting starts again. All processes have to call this together.
        """
        means = torch.stack(list(self.sums.values())) / self.batches
        values = dict(zip(self.sums, self.accelerator.reduce(means, "mean").tolist()))
        seconds = time.monotonic() - self.started
        values |= {"samples_per_second": self.samples / seconds, "waiting_for_data": self.waited / seconds}
        self._restart()
        return values
