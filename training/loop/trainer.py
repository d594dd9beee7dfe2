"""The training loop of all training scripts.

A script builds a model and a training set, and passes a function that turns a batch into a loss. All randomness of a
step follows from `--seed` and the number of the step. So a run that is resumed from `checkpoint-N` sees the same data
and the same noise as a run without interruption.

With several processes, a step takes the next draws of the training set: the first batch is for process 0, the second
for process 1, and so on. A checkpoint says how many samples were drawn. So a run that is resumed with another number
of processes or another batch size skips no draw and repeats none.
"""

import argparse
import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from diffusers import ModelMixin
from safetensors.torch import save_file
from torch.utils.data import DataLoader
from tqdm.std import tqdm

from loop.checkpoints import (
    Progress,
    checkpoint_folder,
    checkpoint_to_resume,
    find_checkpoints,
    remove_old_checkpoints,
    remove_unfinished_checkpoints,
    write_checkpoint,
)
from loop.draws import SeededDraws, collate_draws
from loop.learning_rate import learning_rate_factor
from loop.lora import LoraWeights
from loop.run_log import Averages, RunLog
from loop.sharding import full_tensor
from loop.signals import StopSignals
from loop.training_state import TrainingState
from loop.validation_history import ValidationHistory
from mcdiff_pipeline.atomic_files import atomic_folder, unfinished_name
from mcdiff_pipeline.folder_lock import folder_lock
from mcdiff_pipeline.progress import progress_bar


Batch = dict[str, torch.Tensor]
Loss = tuple[torch.Tensor, dict[str, torch.Tensor]]


class Trainer:
    """Trains a model in place.

    Args:
        accelerator (`Accelerator`): from `make_accelerator`.
        args (`argparse.Namespace`): the shared training arguments.
        name (`str`): name of the run for the tracker, and of the model's folder in a checkpoint.
        model (`torch.nn.Module`): the model to train.
        draws (`SeededDraws`): the training set; sample `n` of the run is `draws[n]`.
        compute_loss (`Callable`): takes the model and a collated batch; returns the loss and further values to log.
        validate (`Callable`, *optional*): takes the averaged model in evaluation mode and the step; returns the
            numbers to log. Only the main process calls it.
        parts (`dict`, *optional*): where `model` is not itself a diffusers model: the diffusers models in it, or the
            `LoraWeights`, by the names of their folders in a checkpoint. They hold all trained parameters, in the
            order in which `model` has them. By default `{name: model}`.
        learning_rates (`dict`, *optional*): as in `TrainingState`.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        args: argparse.Namespace,
        *,
        name: str,
        model: torch.nn.Module,
        draws: SeededDraws,
        compute_loss: Callable[[torch.nn.Module, Batch], Loss],
        validate: Callable[[torch.nn.Module, int], dict[str, float]] | None = None,
        parts: dict[str, ModelMixin | LoraWeights] | None = None,
        learning_rates: Mapping[str, float | None] | None = None,
    ):
        self.accelerator, self.args, self.name = accelerator, args, name
        self.draws, self.compute_loss, self.validate = draws, compute_loss, validate
        self.state = TrainingState(accelerator, args, model, parts or {name: model}, learning_rates)
        self.progress = Progress()
        self.samples_per_step = args.train_batch_size * args.gradient_accumulation_steps * accelerator.num_processes
        self.last_step = 2**31 if args.max_train_steps is None else args.max_train_steps
        # With FSDP all processes help to gather the weights.
        self.validates = validate is not None and (accelerator.is_main_process or self.state.uses_fsdp)

    def train(self) -> int:
        """Runs the training. At the end the model has the averaged weights, if `--use_ema` is given.

        With FSDP, only the main process has the final model on its device.

        Returns:
            `int`: 0, or 128 + the number of the signal (SIGINT, SIGTERM) that ended the run, after its checkpoint was
            written.

        Raises:
            FloatingPointError: if the loss or the gradient is not finite. The last checkpoint is untouched. The models
                and the batch are kept in `output_dir/not-finite-STEP-process-N`.
            OSError: if a checkpoint cannot be written, for example to a full disk. The last one is untouched.
            ValueError: if `--resume_from_checkpoint` names no folder, or another training writes to `output_dir`.
        """
        with self._output_dir_locked():
            return self._train()

    @contextlib.contextmanager
    def _output_dir_locked(self) -> Iterator[None]:
        """Keeps other trainings out of `output_dir`. The lock ends with the process, however it ends."""
        if not self.accelerator.is_main_process:
            yield
            return
        with folder_lock(Path(self.args.output_dir), used_by="training"):
            yield

    def _train(self) -> int:
        if self.accelerator.is_main_process:
            remove_unfinished_checkpoints(self.args.output_dir)
            arguments = Path(self.args.output_dir, "training_arguments.json")
            arguments.write_text(json.dumps(vars(self.args), indent=2) + "\n")
        self._resume()
        self.history = ValidationHistory(Path(self.args.output_dir, "log.jsonl"))
        with RunLog(self.accelerator, self.args, self.name) as self.log, StopSignals() as self.signals:
            self._run_steps()
            self._finish()
        return self.signals.exit_status

    def _resume(self) -> None:
        checkpoint = checkpoint_to_resume(self.args.output_dir, self.args.resume_from_checkpoint)
        if checkpoint is not None:
            self.progress = Progress.load(checkpoint)
            self.state.load(checkpoint, self.progress.step)
            self.accelerator.print(f"Resumed from {checkpoint} at step {self.progress.step}.")

    def _run_steps(self) -> None:
        """The loop over optimizer steps, until a budget is spent or a signal arrives."""
        args, progress = self.args, self.progress
        batches = self._batches()
        self.averages = Averages(self.accelerator)
        self.started, self.resumed_minutes = time.monotonic(), progress.minutes
        with self._progress_bar() as bar:
            while progress.step < self.last_step and not self._is_over():
                learning_rate = self._learning_rate()
                gradient_norm = self._step(batches, learning_rate)
                self._advance(bar)
                if progress.step % args.logging_steps == 0 or progress.step == self.last_step:
                    means = self.averages.take()
                    self.log.write(
                        progress.step, means | {"learning_rate": learning_rate, "gradient_norm": gradient_norm}
                    )
                    bar.set_postfix(loss=f"{means['loss']:.4f}", refresh=False)
                if self.validates and progress.step % args.validation_steps == 0 and progress.step < self.last_step:
                    with self.state.averaged_weights():
                        self._run_validation(bar.write)
                if progress.step % args.checkpointing_steps == 0:
                    self._save_checkpoint()

    @property
    def _counts_minutes(self) -> bool:
        """Whether minutes are limited, and steps are not."""
        return self.args.max_train_steps is None and self.args.max_train_minutes is not None

    def _progress_bar(self) -> tqdm:
        """Progress in steps, or in minutes if only they are limited."""
        args, progress = self.args, self.progress
        disable = not self.accelerator.is_local_main_process
        if self._counts_minutes:
            total, minutes = float(args.max_train_minutes), round(progress.minutes, 2)
            return progress_bar(self.name, total, initial=minutes, unit="min", disable=disable)
        return progress_bar(self.name, args.max_train_steps, initial=progress.step, unit="step", disable=disable)

    def _advance(self, bar: tqdm) -> None:
        """Counts one step."""
        if self._counts_minutes:
            bar.set_description_str(f"{self.name}, step {self.progress.step}", refresh=False)
            bar.update(self._minutes() - bar.n)
        else:
            bar.update()

    def _minutes(self) -> float:
        """Minutes of training until now, over resumed runs."""
        return self.resumed_minutes + (time.monotonic() - self.started) / 60

    def _finish(self) -> None:
        """Writes the last checkpoint, and validates the final model."""
        if find_checkpoints(self.args.output_dir)[-1:] != [
            checkpoint_folder(self.args.output_dir, self.progress.step)
        ]:
            self._save_checkpoint()
        self.state.take_averages()
        if self.accelerator.is_main_process:
            self.state.full_model.to(self.accelerator.device)
        if self.validates and not self.signals.received:
            self.state.full_model.eval()
            self._run_validation(print)
        self.accelerator.end_training()

    def _batches(self) -> Iterator[Batch]:
        """The batches of this process, from the first sample that was not drawn yet."""
        steps = self.last_step - self.progress.step
        if steps <= 0:
            return iter(())
        first = self.draws.first_of_batch(self.progress.samples)
        loader = DataLoader(
            self.draws,
            batch_size=self.args.train_batch_size,
            sampler=range(first, first + steps * self.samples_per_step),
            num_workers=self.args.dataloader_num_workers,
            persistent_workers=self.args.dataloader_num_workers > 0,
            drop_last=True,
            collate_fn=collate_draws,
        )
        return iter(self.accelerator.prepare(loader))

    def _is_over(self) -> bool:
        """Updates the training time. Returns whether the minutes are spent or a signal arrived."""
        minutes = self._minutes()
        if self.accelerator.num_processes > 1:
            # The processes must agree on the clock and on the signals, or they would stop at different steps.
            minutes, *received = broadcast_object_list([[minutes, *self.signals.received]])[0]
            self.signals.received[:] = received
        self.progress.minutes = minutes
        limit = self.args.max_train_minutes
        return bool(self.signals.received) or (limit is not None and minutes >= limit)

    def _learning_rate(self) -> float:
        """Sets the learning rate of the next step, by the budget of which the larger part is spent."""
        args, progress = self.args, self.progress
        spent = max(
            progress.step / args.max_train_steps if args.max_train_steps else 0.0,
            progress.minutes / args.max_train_minutes if args.max_train_minutes else 0.0,
        )
        factor = learning_rate_factor(
            args.lr_scheduler, progress.step, args.lr_warmup_steps, spent, args.lr_num_cycles, args.lr_power
        )
        learning_rate = args.learning_rate * (self.samples_per_step if args.scale_lr else 1) * factor
        self.state.set_learning_rate(learning_rate)
        return learning_rate

    def _step(self, batches: Iterator[Batch], learning_rate: float) -> float:
        """One optimizer step, over `--gradient_accumulation_steps` batches; returns the norm of the gradient."""
        for part in range(self.args.gradient_accumulation_steps):
            before = time.monotonic()
            batch = next(batches)
            self.averages.waited += time.monotonic() - before
            items = [self.draws.describe(index) for index in batch.pop("index").tolist()]
            self._seed_noise(part)
            with self.accelerator.accumulate(self.state.model):
                with self.accelerator.autocast():
                    loss, values = self.compute_loss(self.state.model, batch)
                self.accelerator.backward(loss)
                gradient_norm = self._clip_gradient()
                if not self._is_finite(loss.item(), gradient_norm):
                    self._stop_not_finite(loss.item(), gradient_norm, learning_rate, batch, items)
                self.state.optimizer.step()
                self.state.optimizer.zero_grad()
            self.averages.add_batch({"loss": loss, **values})
            self.averages.samples += len(items) * self.accelerator.num_processes
        self.state.update_average()
        self.progress.step += 1
        self.progress.samples += self.samples_per_step
        return gradient_norm

    def _seed_noise(self, part: int) -> None:
        """Seeds torch for one batch: by the seed of the run, the step, the part of the step and the process."""
        key = [self.args.seed, 2, self.progress.step, part, self.accelerator.process_index]
        torch.manual_seed(int(np.random.default_rng(key).integers(2**63)))

    def _clip_gradient(self) -> float:
        """Clips the gradient and returns its norm before; 0 while gradients are still accumulated."""
        if not self.accelerator.sync_gradients:
            return 0.0
        norm = self.accelerator.clip_grad_norm_(self.state.model.parameters(), self.args.max_grad_norm)
        return float(full_tensor(norm) or 0.0)

    def _is_finite(self, loss: float, gradient_norm: float) -> bool:
        # With fp16 the gradient scaler handles infinite gradients: it skips the step.
        finite = math.isfinite(loss) and (math.isfinite(gradient_norm) or self.args.mixed_precision == "fp16")
        if self.state.uses_fsdp:
            # All processes have to stop together, since all are needed to gather the weights.
            flag = torch.tensor(float(finite), device=self.accelerator.device)
            finite = float(self.accelerator.reduce(flag, "mean")) == 1
        return finite

    def _stop_not_finite(
        self, loss: float, gradient_norm: float, learning_rate: float, batch: Batch, items: list[str]
    ) -> None:
        """Keeps the models and the batch, and raises `FloatingPointError`."""
        self.state.gather_weights()
        step, process = self.progress.step, self.accelerator.process_index
        snapshot = Path(self.args.output_dir, f"not-finite-{step}-process-{process}")

        def write(unfinished: Path) -> None:
            self.state.save_parts(unfinished)
            tensors = {key: tensor.contiguous() for key, tensor in batch.items()}
            save_file(tensors, unfinished / "batch.safetensors")

        atomic_folder(snapshot, write)
        raise FloatingPointError(
            f"Step {step}: loss {loss}, gradient norm {gradient_norm} on {', '.join(items)}; the models and the batch "
            f"are in {snapshot}; look at them, lower --learning_rate (now {learning_rate:g}) and resume from the last "
            "checkpoint."
        )

    def _run_validation(self, write: Callable[[str], None]) -> None:
        """Validates the full model as it is, in the main process; `write` shows the numbers."""
        if not self.accelerator.is_main_process:
            return
        step = self.progress.step
        with torch.no_grad():
            values = self.validate(self.state.full_model.to(self.accelerator.device), step)
        self.log.write(step, values)
        write(self.history.take(step, values))

    def _save_checkpoint(self) -> None:
        """Writes `checkpoint-STEP` and removes old ones; all processes call this together."""
        output_dir = self.args.output_dir
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            write_checkpoint(output_dir, self.progress, self.state.save)
            remove_old_checkpoints(output_dir, self.args.checkpoints_total_limit)
        elif self.state.saves_from_all_processes:
            # With DeepSpeed this writes the process's part of the optimizer. With FSDP it sends its shards. Otherwise
            # the seed, the step and the drawn samples define the state of the other processes.
            self.state.save(unfinished_name(checkpoint_folder(output_dir, self.progress.step)))
        self.accelerator.wait_for_everyone()
