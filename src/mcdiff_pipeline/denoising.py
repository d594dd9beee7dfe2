# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Denoising of the frames of one call, with guidance on motion; and how a call is interrupted."""

import contextlib
import copy
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from diffusers import DiffusionPipeline
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.schedulers import KarrasDiffusionSchedulers
from diffusers.utils.torch_utils import randn_tensor

from .conditioning import FrameConditions
from .flow import to_pixels
from .rollout import Motion, RolloutState, noise_state_of


StepCallback: TypeAlias = Callable[[Any, int, Any, dict], dict | None] | PipelineCallback | MultiPipelineCallbacks

# Held while the scheduler of a pipeline is copied, since another thread would change what is being copied.
_SCHEDULER_LOCK = threading.Lock()

# The denoiser whose callback runs in this thread.
_DENOISER_OF_CALLBACK: ContextVar["FrameDenoiser | None"] = ContextVar("mcdiff_denoiser_of_callback", default=None)


def tensor_inputs_of(callback: StepCallback | None, names: Sequence[str]) -> Sequence[str]:
    """Names of the tensors that a callback is given: its own, if it is one of diffusers' classes, else `names`."""
    if isinstance(callback, (PipelineCallback, MultiPipelineCallbacks)):
        return callback.tensor_inputs
    return names


class MotionGuidance:
    """
    Classifier-free guidance on motion (Ho and Salimans 2022): away from the frame in which nothing moves.

    A denoising step has two branches: one in which nothing moves, and one with the motion of the step.

    If G denoises the difference from a condition, the two branches denoise differences from different images. The
    input of the still branch is then moved by the offset between both, and its prediction is restated for the other
    difference, so that the result is the same as in a model that denoises the frame itself.

    Args:
        moving (`FrameConditions`):
            Conditions of the step.
        still (`FrameConditions`):
            Conditions of the same step with [`~mcdiff_pipeline.rollout.Motion.still`].
        residual_scale (`float`):
            Factor on the difference that G denoises.
        scheduler ([`SchedulerMixin`]):
            The scheduler of the call.
    """

    def __init__(
        self,
        moving: FrameConditions,
        still: FrameConditions,
        residual_scale: float,
        scheduler: KarrasDiffusionSchedulers,
    ):
        self.scheduler = scheduler
        self.conditions = torch.cat([still.tensor, moving.tensor])  # [2 * B, C', h, w]
        self.offset = None
        if moving.base is not None and still.base is not None:
            self.offset = residual_scale * (still.base - moving.base)

    def expand(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """The scaled noisy latents `[B, C, h, w]` as input of both branches, `[2 * B, C, h, w]`."""
        still = sample
        if self.offset is not None:
            still = sample - self._signal_level(timestep)[0] * self.offset
        return torch.cat([still, sample])

    def combine(self, prediction: torch.Tensor, timestep: torch.Tensor, scale: float) -> torch.Tensor:
        """The guided prediction `[B, C, h, w]`, `still + scale * (moving - still)`, from the predictions of both
        branches `[2 * B, C, h, w]`. A scale of 1.0 gives that of the moving branch."""
        still, moving = prediction.chunk(2)
        if self.offset is not None:
            still = self._restate(still, timestep, self.offset)
        return still + scale * (moving - still)

    def _restate(self, prediction: torch.Tensor, timestep: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """The prediction for a sample, restated as the prediction for that sample plus `offset`."""
        prediction_type = self.scheduler.config.prediction_type
        if prediction_type == "v_prediction":
            return prediction - self._signal_level(timestep)[1] * offset
        if prediction_type == "sample":
            return prediction + offset
        return prediction  # the noise is the same

    def _signal_level(self, timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """α and σ of the input of G at a timestep, `α * clean + σ * noise`, of a scheduler that `check_guidance`
        allows."""
        signal = self.scheduler.alphas_cumprod.to(timestep.device)[timestep.long()]
        return signal.sqrt(), (1 - signal).sqrt()


class FrameDenoiser:
    """
    Denoises the frames of one call. It owns everything that changes during the call, so that threads can share a
    pipeline.

    Args:
        pipe (`MCDiffPipeline`):
            The pipeline. Its scheduler is copied.
        num_inference_steps (`int`):
            Denoising steps of a frame.
        guidance_scale (`float`):
            Guidance on motion.
        eta (`float`):
            η of DDIM (Song et al. 2021).
        cancel (`threading.Event`, *optional*):
            Ends the call when it is set.
        callback (`Callable`, *optional*):
            Called after every denoising step.
        callback_tensor_inputs (`Sequence[str]`):
            Names of the tensors that the callback is given.
    """

    def __init__(
        self,
        pipe: DiffusionPipeline,
        num_inference_steps: int,
        guidance_scale: float,
        eta: float,
        cancel: threading.Event | None,
        callback: StepCallback | None,
        callback_tensor_inputs: Sequence[str],
    ):
        self.pipe, self.num_inference_steps = pipe, num_inference_steps
        self.guidance_scale, self.eta = guidance_scale, eta
        self.cancel, self.callback, self.callback_tensor_inputs = cancel, callback, callback_tensor_inputs
        self.interrupted = False
        self._unchecked: list[tuple[int, list[tuple[str, torch.dtype]], torch.Tensor]] = []
        with _SCHEDULER_LOCK:
            pipe.scheduler.set_timesteps(num_inference_steps)  # callbacks read its timesteps
            self.scheduler = copy.deepcopy(pipe.scheduler)
        # diffusers searches all modules for these, which is too slow for every frame
        self._dtype, self._vae_dtype = pipe.unet.dtype, pipe.vae.dtype
        self._step_arguments = inspect.signature(self.scheduler.step).parameters

    @staticmethod
    def of_running_callback(pipe: object) -> "FrameDenoiser | None":
        """The denoiser of `pipe` that called the callback that runs in this thread; None outside of callbacks."""
        denoiser = _DENOISER_OF_CALLBACK.get()
        return denoiser if denoiser is not None and denoiser.pipe is pipe else None

    @property
    def is_canceled(self) -> bool:
        return self.interrupted or (self.cancel is not None and self.cancel.is_set())

    def next_state(
        self,
        state: RolloutState,
        motion: Motion,
        noise: torch.Tensor | None,
        generator: torch.Generator | list[torch.Generator] | None,
    ) -> RolloutState | None:
        """
        Denoise the next frame.

        Args:
            state (`RolloutState`):
                The state at the current frame; it is left as it is.
            motion (`Motion`):
                The motion to the next frame, with everything that the conditions of the model need.
            noise (`torch.Tensor` of shape `(batch_size, channels, height, width)`, *optional*):
                Standard normal noise, instead of drawing it.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Where noise is drawn from.

        Returns:
            `RolloutState` at the next frame, or None if the call was canceled before the frame was finished. Whether
            its values are finite is computed, but only [`FrameDenoiser.check_finite`] waits for the answer.
        """
        pipe = self.pipe
        conditions = pipe.conditioner.build(state, motion, pipe.vae, self._vae_dtype)
        guidance = None
        if self.guidance_scale != 1.0:
            still = pipe.conditioner.build(state, motion.still(), pipe.vae, self._vae_dtype)
            guidance = MotionGuidance(conditions, still, pipe.conditioner.residual_scale, self.scheduler)
        if noise is None:
            # drawn in float32, since in half precision older PyTorch draws other numbers from the same seed
            noise = randn_tensor(
                state.latents.shape, generator=generator, device=state.latents.device, dtype=torch.float32
            )
        difference = self._denoise(
            state,
            noise.to(state.latents),
            conditions.tensor if guidance is None else guidance.conditions,
            guidance,
            generator,
            None if motion.dense_flow is None else to_pixels(motion.dense_flow, pipe.vae_scale_factor),
        )
        if difference is None:
            return None
        latents = pipe.conditioner.from_difference(difference, conditions.base, conditions.seen)
        checked = [("flow to", motion.dense_flow), ("latents of", latents)]
        given = [(name, tensor) for name, tensor in checked if tensor is not None]
        are_finite = torch.stack([tensor.isfinite().all() for _, tensor in given])
        self._unchecked.append((state.frame + 1, [(name, tensor.dtype) for name, tensor in given], are_finite))
        noise_state, noise_device = noise_state_of(generator)
        return replace(
            state,
            frame=state.frame + 1,
            latents=latents,
            accumulated_flow=(
                state.accumulated_flow if conditions.accumulated_flow is None else conditions.accumulated_flow
            ),
            dense_flow=motion.dense_flow,
            layers=conditions.layers,
            noise_state=noise_state,
            noise_device=noise_device,
        )

    def check_finite(self, but_last: int = 0) -> None:
        """
        Check that the flow and the latents of the frames made so far are finite.

        On a GPU this waits until the frames are made. A caller that has shown a frame has waited already; one that has
        not leaves out the last frames, so that the GPU has work while it waits.

        Args:
            but_last (`int`, defaults to 0):
                How many of the last frames are left for the next check.

        Raises:
            RuntimeError: If values of a frame are NaN or infinite.
        """
        while len(self._unchecked) > but_last:
            frame, tensors, are_finite = self._unchecked.pop(0)
            for (name, dtype), is_finite in zip(tensors, are_finite.tolist(), strict=True):
                if not is_finite:
                    raise RuntimeError(
                        f"The {name} frame {frame} have values that are NaN or infinite, in {dtype}: load the model "
                        "in float32 if this is half precision, and check what its scheduler or a LoRA changed."
                    )

    def _denoise(
        self,
        state: RolloutState,
        noise: torch.Tensor,
        conditions: torch.Tensor,
        guidance: MotionGuidance | None,
        generator: torch.Generator | list[torch.Generator] | None,
        dense_flow: torch.Tensor | None,
    ) -> torch.Tensor | None:
        """
        Denoise one frame, or its difference from a condition.

        Args:
            state: The state at the current frame.
            noise: `(batch_size, channels, height, width)`, in the dtype of the latents.
            conditions: `(batch_size, C', height, width)`; twice the batch with guidance.
            guidance: Guidance on motion, if any.
            generator: Where stochastic schedulers draw noise from.
            dense_flow: The flow of the step in pixels, for the callback.

        Returns:
            `torch.Tensor` of shape `(batch_size, channels, height, width)`, or None if the call was canceled.
        """
        pipe, scheduler = self.pipe, self.scheduler
        scheduler.set_timesteps(self.num_inference_steps, device=noise.device)
        latents = noise * scheduler.init_noise_sigma
        step_arguments = {"eta": self.eta, "generator": generator}
        step_arguments = {name: value for name, value in step_arguments.items() if name in self._step_arguments}
        embeds = state.prompt_embeds
        if guidance is not None and embeds is not None:
            embeds = torch.cat([embeds, embeds])

        with contextlib.ExitStack() as stack:
            progress_bar = None
            if pipe.shows_steps:
                progress_bar = stack.enter_context(pipe.progress_bar(total=len(scheduler.timesteps)))
                progress_bar.set_description(f"Frame {state.frame + 1}")
                progress_bar.leave = False
            for index, timestep in enumerate(scheduler.timesteps):
                if self.is_canceled:
                    return None
                sample = scheduler.scale_model_input(latents, timestep)
                if guidance is not None:
                    sample = guidance.expand(sample, timestep)
                model_input = torch.cat([sample, conditions], dim=1).to(self._dtype)  # [B, C + C', h, w]
                prediction = pipe.unet(model_input, timestep, encoder_hidden_states=embeds, return_dict=False)[0]
                if guidance is not None:
                    prediction = guidance.combine(prediction, timestep, self.guidance_scale)
                latents = scheduler.step(prediction, timestep, latents, **step_arguments, return_dict=False)[0]
                latents = latents.to(noise.dtype)
                if self.callback is not None:
                    tensors = {
                        "latents": latents,
                        "previous_latents": state.latents,
                        "dense_flow": dense_flow,
                        "prompt_embeds": state.prompt_embeds,
                    }
                    latents = self._call_back(self.callback, state.frame, index, timestep, tensors)
                if progress_bar is not None:
                    progress_bar.update()
        return latents

    def _call_back(
        self, callback: StepCallback, frame: int, index: int, timestep: torch.Tensor, tensors: dict[str, Any]
    ) -> torch.Tensor:
        """Calls the callback after a denoising step. Returns the latents for the next step."""
        step = frame * len(self.scheduler.timesteps) + index
        token = _DENOISER_OF_CALLBACK.set(self)
        try:
            wanted = {name: tensors[name] for name in self.callback_tensor_inputs}
            answer = callback(self.pipe, step, timestep, wanted) or {}
        finally:
            _DENOISER_OF_CALLBACK.reset(token)
        latents, given = tensors["latents"], answer.get("latents", tensors["latents"])
        if not isinstance(given, torch.Tensor) or given.shape != latents.shape:
            found = f"of shape {tuple(given.shape)}" if isinstance(given, torch.Tensor) else type(given).__name__
            raise ValueError(
                f"The callback returned `latents` {found}, but a tensor of shape {tuple(latents.shape)} is needed: "
                "leave `latents` out to go on with those of the step."
            )
        return given


class RunningCallsMixin:
    """What a callback may change in diffusers' pipelines, `_interrupt` and `_guidance_scale`, for each call.

    To be named before the classes of diffusers.
    """

    def __init__(self):
        super().__init__()
        self._running: list[FrameDenoiser] = []
        self._last_interrupted = False
        self._last_guidance_scale = 1.0

    @property
    def guidance_scale(self) -> float:
        """In a callback, the guidance on motion of its call; outside, of the call that began last."""
        denoiser = FrameDenoiser.of_running_callback(self)
        return self._last_guidance_scale if denoiser is None else denoiser.guidance_scale

    @property
    def _guidance_scale(self) -> float:
        return self.guidance_scale

    @_guidance_scale.setter
    def _guidance_scale(self, value: float) -> None:
        """In a callback, changes the guidance of its call from the next step on. A frame that began without guidance
        stays without it."""
        denoiser = FrameDenoiser.of_running_callback(self)
        if denoiser is not None:
            denoiser.guidance_scale = value

    @property
    def interrupt(self) -> bool:
        """
        In a callback, whether its call is interrupted. Outside, whether a running call is, or the last one was.
        """
        denoiser = FrameDenoiser.of_running_callback(self)
        if denoiser is not None:
            return denoiser.interrupted
        return self._last_interrupted or any(one.interrupted for one in self._running)

    @property
    def _interrupt(self) -> bool:
        return self.interrupt

    @_interrupt.setter
    def _interrupt(self, value: bool) -> None:
        """In a callback, interrupts the call of that callback; outside, every call of this pipeline that runs."""
        denoiser = FrameDenoiser.of_running_callback(self)
        for one in [denoiser] if denoiser is not None else list(self._running):
            one.interrupted = bool(value)

    @contextlib.contextmanager
    def _interruptible(self, denoiser: FrameDenoiser) -> Iterator[None]:
        """While this context is open, `_interrupt` reaches the call of the denoiser."""
        self._running.append(denoiser)
        try:
            yield
        finally:
            self._running.remove(denoiser)
            self._last_interrupted = denoiser.interrupted
