"""Time of a step of the training loop, compared with the networks alone, and the time of waiting for data.

    python benchmarks/training_step.py --data data/people --vae runs/autoencoder/vae --cache_dir data/cache

The time of a step of the loop is divided by a floor: the same loss, backward pass, clipping, optimizer step and moving
average, on one fixed batch and a copy of the model, in the same process with the same threads. Limit 1.05. Each step
of the loop contains one floor step, whose time is subtracted, so that both have the same disturbances. The ratio is
the median over the steps, in wall-clock time and in CPU time. The same number of steps without floor follows, in which
the loop measures how long it waits for its loader workers. Limit 2 %.
"""

import argparse
import copy
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel


sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import train_flow_completion
import train_future_frame

from loop.accelerator import make_accelerator
from loop.trainer import Trainer


RATIO_LIMIT, WAITING_LIMIT = 1.05, 0.02
WARM_UP = 3

# By name: the script, its class, and further arguments.
SCRIPTS = {
    "train_flow_completion": (train_flow_completion, train_flow_completion.FlowCompletionTraining, ()),
    "train_future_frame": (
        train_future_frame,
        train_future_frame.FutureFrameTraining,
        ("--start_picture_reference",),
    ),
}


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="Folder of clip shards (split train).")
    parser.add_argument("--vae", default=str(Path(__file__).parents[1] / "checkpoints/mcdiff-small-128/vae"))
    parser.add_argument("--cache_dir", required=True, help="Folder for the latents of the clips.")
    parser.add_argument("--scripts", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    parser.add_argument("--steps", type=int, default=20, help="Timed steps with the floor, and as many without it.")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--mixed_precision", default="no")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


class Floor:
    """One step on a fixed batch, of a copy of the model in training."""

    def __init__(self, model: torch.nn.Module, batch: dict, compute_loss, accelerator, args: argparse.Namespace):
        self.model = copy.deepcopy(accelerator.unwrap_model(model))
        self.batch = {name: tensor.clone() for name, tensor in batch.items()}
        self.compute_loss, self.autocast, self.args = compute_loss, accelerator.autocast, args
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=args.learning_rate, fused=True)
        self.ema = EMAModel(self.parameters, decay=args.ema_decay, foreach=True)

    def step(self) -> None:
        with self.autocast():
            loss, _ = self.compute_loss(self.model, self.batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.args.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.step(self.parameters)


@dataclass
class Clock:
    """Wall-clock time and CPU time in seconds, since a start."""

    wall: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=time.process_time)

    def elapsed(self) -> tuple[float, float]:
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


class TimedLoss:
    """The loss of a script, which also times the steps of the loop and those of the floor.

    A step of the loop lasts from the end of one call to the start of the next.

    Args:
        training: the object of a training script.
        steps (`int`): steps to time with the floor.
    """

    def __init__(self, training, steps: int):
        self.training, self.steps = training, steps
        self.calls, self.floor, self.ended = 0, None, None
        self.loop_seconds: list[tuple[float, float]] = []  # wall-clock time and CPU time
        self.floor_seconds: list[tuple[float, float]] = []

    def __call__(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]):
        self.calls += 1
        if self.ended is not None and self.calls > WARM_UP + 1:
            self.loop_seconds.append(self.ended.elapsed())
        self.ended = None
        if self.calls <= WARM_UP + self.steps:
            training = self.training
            self.floor = self.floor or Floor(model, batch, training.compute_loss, training.accelerator, training.args)
            clock = Clock()
            self.floor.step()
            if self.calls > WARM_UP:
                self.floor_seconds.append(clock.elapsed())
            self.ended = Clock()
        return self.training.compute_loss(model, batch)


def measure(name: str, benchmark: argparse.Namespace) -> tuple[TimedLoss, float]:
    """Runs a training. Returns its timed loss, and the share of the time that it waited for data."""
    script, training_class, arguments = SCRIPTS[name]
    with tempfile.TemporaryDirectory() as folder:
        settings = {"train_data_dir": benchmark.data, "pretrained_vae": benchmark.vae, "output_dir": folder}
        settings |= {"cache_dir": benchmark.cache_dir, "train_batch_size": benchmark.batch_size}
        settings |= {"dataloader_num_workers": benchmark.workers, "mixed_precision": benchmark.mixed_precision}
        settings |= {"logging_steps": WARM_UP + benchmark.steps, "report_to": "none"}
        settings |= {"max_train_steps": 2 * (WARM_UP + benchmark.steps)}
        args = script.parse_args([*(f"--{key}={value}" for key, value in settings.items()), "--use_ema", *arguments])
        accelerator = make_accelerator(args)
        training = training_class(args, accelerator)
        loss = TimedLoss(training, benchmark.steps)
        Trainer(accelerator, args, name=name, model=training.model, draws=training.draws, compute_loss=loss).train()
        last = json.loads(Path(folder, "log.jsonl").read_text().splitlines()[-1])
    return loss, last["waiting_for_data"]


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    torch.set_num_threads(args.threads)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    print(f"machine  {device}, load {os.getloadavg()[0]:.1f}; torch {torch.__version__}, {args.threads} threads")
    print(f"given    batch {args.batch_size}, {args.workers} workers, precision {args.mixed_precision}")
    print(f"\n{'':32}{'step':>10}{'floor':>10}{'ratio':>8}{'quartiles':>12}{'limit':>8}", flush=True)
    for name in args.scripts:
        loss, waiting = measure(name, args)
        for number, unit in enumerate(("clock", "CPU")):
            loop, floor = ([step[number] for step in steps] for steps in (loss.loop_seconds, loss.floor_seconds))
            ratios = [one / other for one, other in zip(loop, floor, strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            medians = "".join(f"{1000 * statistics.median(side):7.0f} ms" for side in (loop, floor))
            print(f"{name + ', ' + unit:32}{medians}{middle:8.3f}{f'{low:.2f}-{high:.2f}':>12}{RATIO_LIMIT:8.2f}")
        print(f"{name + ', waiting for data':52}{100 * waiting:6.1f} %{100 * WAITING_LIMIT:18.0f} %", flush=True)


if __name__ == "__main__":
    main()
