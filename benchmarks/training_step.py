"""What does a step of the training scripts cost beside the networks, and how long does it wait for data?

    python benchmarks/training_step.py --data data/people --vae runs/autoencoder/vae --cache_dir data/cache

Time of a step of the script's own loop over the floor: the same loss, backward pass, clipping, optimizer step and
moving average on one batch that stays, of a copy of the model, in the same process with the same threads. Limit 1.05.
A floor step is taken inside every step of the loop, and its time subtracted, so that both meet the same disturbances;
the ratio is the median over the steps, by the clock and by CPU time. As many steps follow without floor, in which the
loop counts for how long it waits for its loader workers. Limit 2 %.
"""

import argparse
import copy
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel


sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import train_flow_completion
import train_future_frame
from loop import trainer


SCRIPTS = {"train_flow_completion": train_flow_completion, "train_future_frame": train_future_frame}
RATIO_LIMIT, WAITING_LIMIT = 1.05, 0.02
WARM_UP = 3


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="Folder of clip shards (split train).")
    parser.add_argument("--vae", default=str(Path(__file__).parents[1] / "checkpoints/mcdiff-small-128/vae"))
    parser.add_argument("--cache_dir", required=True, help="Where the latents of the clips are kept.")
    parser.add_argument("--scripts", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    parser.add_argument(
        "--steps", type=int, default=20, help="Steps that are timed beside the floor, and again alone."
    )
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--mixed_precision", default="no")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


class Floor:
    """One step on a batch that stays, of a copy of what the loop trains."""

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


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def measure(name: str, args: argparse.Namespace) -> dict:
    """Runs a script with its loop timed; seconds of each step and of the floor, and the part spent waiting."""
    script = SCRIPTS[name]
    loop_steps, floor_steps = [], []

    def train(*, accelerator, args: argparse.Namespace, model, compute_loss, **rest):
        calls, floor, ended = 0, None, None

        def timed_loss(model, batch):
            # From the end of this function's own work in one step to its start in the next is one step of the loop.
            nonlocal calls, floor, ended
            began = clocks()
            calls += 1
            if ended is not None and calls > WARM_UP + 1:
                loop_steps.append([now - before for now, before in zip(began, ended)])
            ended = None
            if calls <= WARM_UP + benchmark.steps:
                floor = floor or Floor(model, batch, compute_loss, accelerator, args)
                before = clocks()
                floor.step()
                ended = clocks()
                if calls > WARM_UP:
                    floor_steps.append([now - then for now, then in zip(ended, before)])
            return compute_loss(model, batch)

        return trainer.train(accelerator=accelerator, args=args, model=model, compute_loss=timed_loss, **rest)

    benchmark, script.train = args, train
    with tempfile.TemporaryDirectory() as folder:
        command_line = ["--train_data_dir", args.data, "--pretrained_vae", args.vae, "--cache_dir", args.cache_dir]
        command_line += ["--output_dir", folder, "--train_batch_size", str(args.batch_size), "--use_ema"]
        command_line += ["--dataloader_num_workers", str(args.workers), "--mixed_precision", args.mixed_precision]
        command_line += ["--logging_steps", str(WARM_UP + args.steps)]
        command_line += ["--max_train_steps", str(2 * (WARM_UP + args.steps))]
        if name == "train_future_frame":
            command_line.append("--start_frame_reference")
        script.main(command_line)
        last = json.loads(Path(folder, "log.jsonl").read_text().splitlines()[-1])
    return {"loop": loop_steps, "floor": floor_steps, "waiting": last["waiting_for_data"]}


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    torch.set_num_threads(args.threads)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    print(f"machine  {device}, load {os.getloadavg()[0]:.1f}; torch {torch.__version__}, {args.threads} threads")
    print(f"given    batch {args.batch_size}, {args.workers} workers, precision {args.mixed_precision}")
    print(f"\n{'':32}{'step':>10}{'floor':>10}{'ratio':>8}{'quartiles':>12}{'limit':>8}", flush=True)
    for name in args.scripts:
        times = measure(name, args)
        for number, unit in enumerate(("clock", "CPU")):
            loop, floor = ([step[number] for step in times[side]] for side in ("loop", "floor"))
            ratios = [one / other for one, other in zip(loop, floor, strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            medians = "".join(f"{1000 * statistics.median(side):7.0f} ms" for side in (loop, floor))
            print(f"{name + ', ' + unit:32}{medians}{middle:8.3f}{f'{low:.2f}-{high:.2f}':>12}{RATIO_LIMIT:8.2f}")
        waiting = 100 * times["waiting"]
        print(f"{name + ', waiting for data':52}{waiting:6.1f} %{100 * WAITING_LIMIT:18.0f} %", flush=True)


if __name__ == "__main__":
    main()
