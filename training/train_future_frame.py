"""Trains future-frame prediction: latent diffusion of the next frame, given the current frame and its true flow.

    python train_future_frame.py --train_data_dir clips --validation_data_dir clips \\
        --pretrained_vae runs/autoencoder/vae --cache_dir cache --output_dir runs/future_frame \\
        --max_train_minutes 60 --mixed_precision bf16 --use_ema

The trained model is the folders `output_dir/unet` and `output_dir/scheduler`. The unet of a pipeline folder can be
trained further, as a whole, or with a LoRA:

    python train_future_frame.py --pretrained_model_name_or_path runs/mcdiff-small-128 --lora_rank 8 ...

The LoRA is the folder `output_dir/unet_lora`, for `MCDiffPipeline.load_lora_weights`.

With `--rollout_steps k` the model also learns to continue from its own frames. A sample starts at a true frame. For
each batch a number n from 1 to k is drawn. The model makes n - 1 frames itself, without gradients, and the n-th frame
has the loss. Clips of k + 1 frames are needed.

With `--region_probability`, the things of a clip are regions with this probability, as when a user gives them.
"""

import argparse
import dataclasses
import functools
import sys
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderDC, AutoencoderKL, DDIMScheduler, UNet2DConditionModel

from loop.accelerator import make_accelerator
from loop.arguments import add_training_arguments, check_training_arguments
from loop.condition_arguments import add_condition_arguments, condition_settings, set_conditions
from loop.denoising_loss import (
    add_denoising_arguments,
    augment_with_noise,
    check_denoising_arguments,
    denoising_loss,
    drop_conditions,
)
from loop.draws import SeededDraws
from loop.image_quality import psnr_moving_and_still
from loop.latent_cache import LatentClips, add_clip_arguments, open_training_clips
from loop.lora import add_lora, add_lora_arguments, check_lora_arguments
from loop.perceptual_loss import PerceptualLoss
from loop.pipeline_folders import is_pipeline_folder, load_pipeline
from loop.publishing import add_hub_arguments, open_repository, push_component, push_lora
from loop.rollout_states import layer_entries, motion_from_batch, state_from_batch
from loop.samples import FrameSample
from loop.stroke_sampling import add_stroke_arguments, draw_sparse_flow
from loop.trainer import Trainer
from loop.validation_media import show
from mcdiff_pipeline import MCDiffPipeline
from mcdiff_pipeline.atomic_files import atomic_folder
from mcdiff_pipeline.baselines import moving_pixels, splat_frame
from mcdiff_pipeline.conditioning import FrameConditions
from mcdiff_pipeline.drawing import titled_columns
from mcdiff_pipeline.flow import resize_flow
from mcdiff_pipeline.input_checks import text_blocks
from mcdiff_pipeline.latent_codec import decode_latents


CONFIGS = Path(__file__).parent / "configs/small-128"


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_clip_arguments(parser)
    parser.add_argument("--num_validation_samples", type=int, default=64)
    parser.add_argument("--validation_inference_steps", type=int, default=5)
    parser.add_argument("--model_config", default=str(CONFIGS / "unet.json"))
    parser.add_argument(
        "--scheduler_config", default=None, help=f"Noise schedule. Default: {CONFIGS.name}/scheduler.json."
    )
    parser.add_argument(
        "--pretrained_model_name_or_path",
        default=None,
        help="Start from this unet folder, or from the unet of this pipeline folder, with the conditions and the "
        "noise schedule of the pipeline.",
    )
    parser.add_argument(
        "--rollout_steps", type=int, default=1, help="k; with 1 each step of the training starts at a true frame."
    )
    parser.add_argument(
        "--rollout_inference_steps",
        type=int,
        default=2,
        help="Denoising steps for frames that the model makes itself.",
    )
    parser.add_argument(
        "--region_probability",
        type=float,
        default=0.0,
        help="Probability that the things of a clip are regions. The options that drop conditions do "
        "not apply there. Needs the condition start_picture.",
    )
    parser.add_argument(
        "--perceptual_weight",
        type=float,
        default=0.0,
        help="Weight of ST-LPIPS between what the predicted and the true latents decode to; needs the extra "
        "`evaluation`.",
    )
    add_condition_arguments(parser)
    add_lora_arguments(parser)
    add_denoising_arguments(parser)
    add_stroke_arguments(parser)
    add_training_arguments(parser)
    add_hub_arguments(parser)
    args = parser.parse_args(arguments)
    check_training_arguments(args)
    check_lora_arguments(args)
    set_conditions(args)
    check_frame_arguments(args)
    return args


def check_frame_arguments(args: argparse.Namespace) -> None:
    """Raises `ValueError` if a number is not allowed, or an option needs a condition that the model is not given."""
    for name in ("rollout_steps", "rollout_inference_steps"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} is {getattr(args, name)}; it must be 1 or more.")
    if not 0 <= args.region_probability <= 1:
        raise ValueError(f"--region_probability is {args.region_probability}; it must be from 0 to 1.")
    if args.region_probability and "start_picture" not in args.conditioning:
        raise ValueError(
            f"--region_probability needs the start picture, but the conditions are {', '.join(args.conditioning)}; "
            "add start_picture, or leave it out."
        )
    if args.perceptual_weight < 0:
        raise ValueError(f"--perceptual_weight is {args.perceptual_weight}; it must be 0 or more.")
    check_denoising_arguments(args)


def make_scheduler(args: argparse.Namespace) -> DDIMScheduler:
    config = DDIMScheduler.load_config(args.scheduler_config or str(CONFIGS / "scheduler.json"))
    config["prediction_type"] = args.prediction_type or "v_prediction"
    # At zero signal the noise contains no information about the image, so only v-prediction can start there (Lin et
    # al. 2024).
    config["rescale_betas_zero_snr"] = config["prediction_type"] == "v_prediction"
    return DDIMScheduler.from_config(config)


def make_unet(args: argparse.Namespace, latent_channels: int, in_channels: int) -> UNet2DConditionModel:
    """The unet to train, from its own folder, or with random weights.

    Raises:
        ValueError: if it attends to text, for which there is no encoder here.
    """
    if args.pretrained_model_name_or_path:
        unet = UNet2DConditionModel.from_pretrained(args.pretrained_model_name_or_path)
    else:
        config = UNet2DConditionModel.load_config(args.model_config)
        config = {**config, "in_channels": in_channels, "out_channels": latent_channels}
        unet = UNet2DConditionModel.from_config(config)
    if blocks := text_blocks(unet):
        raise ValueError(
            f"The unet has the blocks {', '.join(blocks)}, which attend to text, but there is no text encoder: name "
            "other blocks, also as mid_block_type, or give --pretrained_model_name_or_path a pipeline folder with a "
            "text encoder, such as widen_unet.py makes of Stable Diffusion."
        )
    return unet


def make_pipeline(args: argparse.Namespace, vae: AutoencoderDC | AutoencoderKL) -> MCDiffPipeline:
    """The pipeline whose unet is trained. It needs no flow completion, since training and validation use true flow.

    Raises:
        ValueError: if the unet does not take the conditions.
    """
    torch.manual_seed(args.seed)
    if is_pipeline_folder(args.pretrained_model_name_or_path):
        return load_pipeline(args.pretrained_model_name_or_path, vae)
    pipe = MCDiffPipeline(
        vae=vae, flow_completion=None, unet=None, scheduler=make_scheduler(args), **condition_settings(args)
    )
    unet = make_unet(args, pipe.latent_channels, pipe.conditioner.in_channels)
    if unet.config.in_channels != pipe.conditioner.in_channels:
        raise ValueError(
            f"The unet in {args.pretrained_model_name_or_path} takes {unet.config.in_channels} channels, but "
            f"{', '.join(args.conditioning)} and the noise have {pipe.conditioner.in_channels}; give the arguments "
            "that it was trained with."
        )
    # Only now, since a pipeline with a unet checks that there is flow completion.
    pipe.register_modules(unet=unet)
    pipe.set_progress_bar_config(disable=True)
    return pipe


class FutureFrameTraining:
    """Future-frame prediction with its training clips, loss and validation."""

    def __init__(self, args: argparse.Namespace, accelerator: Accelerator):
        self.args, self.accelerator = args, accelerator
        self.vae, self.clips, self.validation_clips = open_training_clips(args, accelerator)
        self.pipe = make_pipeline(args, self.vae)
        self.model, self.conditioner = self.pipe.unet, self.pipe.conditioner
        self.lora = None
        if args.lora_rank is not None:
            self.lora = add_lora(self.model, args.lora_rank, args.lora_alpha, args.mixed_precision)
        with torch.no_grad():
            self.prompt_embeds = self.pipe.encode_prompt(None, 1)  # the empty text; None for a model without text
        accelerator.print(
            f"Future-frame prediction with {self.model.num_parameters() / 1e6:.2f} M parameters, "
            f"{self.model.num_parameters(only_trainable=True) / 1e6:.2f} M of them trained."
        )
        self.perceptual_loss = PerceptualLoss(self.vae) if args.perceptual_weight else None
        self.starts = self.clips.with_steps(args.rollout_steps)
        load_sample = functools.partial(self.load_training_sample, self.clips)
        self.draws = SeededDraws(len(self.starts), load_sample, args.seed, self.describe)
        self.validation = None if self.validation_clips is None else self.load_validation()

    def describe(self, number: int) -> str:
        return self.clips.describe(self.starts[number])

    def load_training_sample(self, clips: LatentClips, number: int, rng: np.random.Generator) -> FrameSample:
        index, steps = int(self.starts[number]), self.args.rollout_steps
        sample = self.load_sample(clips, index, rng, steps)
        if self.args.region_probability:
            sample |= layer_entries(*clips.history(index, steps), steps, sample["latent"].shape[1:])
        return sample

    def load_sample(self, clips: LatentClips, index: int, rng: np.random.Generator, steps: int = 1) -> FrameSample:
        """The `steps` consecutive steps of a clip that start with pair `index`."""
        pairs = [clips[index + step] for step in range(steps)]
        sample = {"latent": pairs[0]["latent"], "next_latent": np.stack([pair["next_latent"] for pair in pairs])}
        if self.conditioner.needs_dense_flow:
            sample["flow"] = np.stack([pair["flow"] for pair in pairs])
        if self.conditioner.needs_accumulated_flow:
            sample |= clips.start(index, image=self.conditioner.needs_start_image)
        if self.conditioner.needs_sparse_flow:
            strokes = [draw_sparse_flow(pair, self.args, rng) for pair in pairs]
            sample["sparse_flow"], sample["mask"] = (torch.stack(parts) for parts in zip(*strokes, strict=True))
        return sample

    def load_validation(self) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
        """Pairs with motion, the same for each validation.

        Returns:
            A batch of `FrameSample` with `flow`; and the current and the next frames, `[B, 3, H, W]` in [0, 1].
        """
        clips, device = self.validation_clips, self.accelerator.device
        indices = np.random.default_rng(1).permutation(len(clips))
        indices = [index for index in indices if np.linalg.norm(clips[index]["flow"], axis=0).max() > 1]
        indices = indices[: self.args.num_validation_samples]
        samples = [
            self.load_sample(clips, index, np.random.default_rng([2, int(index)]))
            | {"flow": clips[index]["flow"][None]}
            for index in indices
        ]
        batch = torch.utils.data.default_collate(samples)
        images = torch.from_numpy(np.stack([clips.frames(index) for index in indices]))
        images = images.permute(1, 0, 4, 2, 3).float().div(255).to(device)  # [2, B, 3, H, W]
        return {name: tensor.to(device) for name, tensor in batch.items()}, *images

    def compute_loss(
        self, model: torch.nn.Module, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        steps = 1 + int(torch.randint(self.args.rollout_steps, ()))
        with_regions = 0
        if self.args.region_probability:
            with_regions = int((torch.rand(len(batch["latent"])) < self.args.region_probability).sum())
        parts = [batch]
        if with_regions:
            parts = [{name: tensor[:with_regions] for name, tensor in batch.items()}]
            rest = {name: tensor[with_regions:] for name, tensor in batch.items() if "layer" not in name}
            parts += [rest] if len(rest["latent"]) else []
        conditions = [self.build_conditions(part, steps) for part in parts]
        tensor = torch.cat([one.tensor for one in conditions])
        base, coverage = (_joined([getattr(one, name) for one in conditions]) for name in ("base", "coverage"))
        target = self.conditioner.to_difference(batch["next_latent"][:, steps - 1], base)
        prompt_embeds = self.prompt_embeds
        if prompt_embeds is not None:
            prompt_embeds = prompt_embeds.expand(len(target), -1, -1)
        values: dict[str, torch.Tensor] = {}

        def perceptual_loss(estimate: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            true = batch["next_latent"][:, steps - 1]
            predicted = self.conditioner.from_difference(estimate, base)
            values["perceptual_loss"] = self.perceptual_loss(predicted, true, timesteps)
            return self.args.perceptual_weight * values["perceptual_loss"]

        further = None if self.perceptual_loss is None else perceptual_loss
        inputs = (tensor, target, self.args, prompt_embeds, coverage, further)
        return denoising_loss(model, self.pipe.scheduler, *inputs), values

    def build_conditions(self, batch: dict[str, torch.Tensor], steps: int) -> FrameConditions:
        """The conditions of the last of `steps` steps, before which the model makes the frames itself."""
        grid = tuple(batch["latent"].shape[2:])
        state = state_from_batch(batch, batch["latent"], self.prompt_embeds)
        with torch.no_grad():
            for step in range(steps - 1):
                state = self.pipe.step(
                    state,
                    motion_from_batch(batch, step, grid),
                    noise=torch.randn(state.latents.shape, device=state.latents.device),
                    num_inference_steps=self.args.rollout_inference_steps,
                    guidance_scale=1.0,
                )
        if steps > 1:
            # PyTorch 2.6 would reuse the bfloat16 copies of the weights from the steps without gradients.
            torch.clear_autocast_cache()
        state = dataclasses.replace(state, latents=augment_with_noise(state.latents, self.args))
        motion = motion_from_batch(batch, steps - 1, grid)
        if motion.layers is None:
            state, motion = drop_conditions(state, motion, self.args)
        return self.conditioner.build(state, motion, self.vae)

    def predict(self, batch: dict[str, torch.Tensor], noise: torch.Tensor) -> torch.Tensor:
        """Latents `[B, C, h, w]` of the next frames, as the pipeline makes them from the true flow."""
        with self.accelerator.autocast():
            following = self.pipe.step(
                state_from_batch(batch, batch["latent"], self.prompt_embeds),
                motion_from_batch(batch, 0, tuple(noise.shape[2:])),
                noise=noise,
                num_inference_steps=self.args.validation_inference_steps,
                guidance_scale=1.0,
            )
        return following.latents

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Images `[B, 3, H, W]` in [0, 1]."""
        with self.accelerator.autocast():
            return torch.cat([decode_latents(self.vae, part).float() for part in latents.split(16)])

    def validate(self, model: UNet2DConditionModel, step: int) -> dict[str, float]:
        """PSNR of predicted next frames and of the baselines, on moving and on still pixels.

        `model` is the unet of the pipeline that predicts.
        """
        batch, current, target = self.validation
        latents, flow = batch["latent"], batch["flow"][:, 0]
        noise = torch.randn(latents.shape, generator=torch.Generator("cpu").manual_seed(3)).to(latents.device)
        predicted = [
            self.predict({name: tensor[i : i + 32] for name, tensor in batch.items()}, noise[i : i + 32])
            for i in range(0, len(latents), 32)
        ]
        outputs = {
            "model": self.decode(torch.cat(predicted)),
            "repeat": current,
            "splat": self.decode(splat_frame(latents, resize_flow(flow, tuple(latents.shape[2:])))),
            "autoencoder": self.decode(batch["next_latent"][:, 0]),
        }
        # One row for each sample.
        columns = torch.stack([current, target, outputs["model"], outputs["splat"]])[:, :8]
        sheet = columns.mul(255).round().byte().cpu().permute(1, 3, 0, 4, 2)
        titles = ("frame", "true next frame", "predicted", "splatted")
        sheet = titled_columns(sheet.flatten(0, 1).flatten(1, 2).numpy(), titles)
        show(self.accelerator, self.args, "validation", step, sheet)
        return psnr_moving_and_still(outputs, target, moving_pixels(flow))

    def save(self) -> None:
        """Writes `unet` and `scheduler`, or `unet_lora`."""
        parts = {"unet": self.model, "scheduler": self.pipe.scheduler}
        if self.lora is not None:
            parts = {"unet_lora": self.lora}
        for name, part in parts.items():
            atomic_folder(Path(self.args.output_dir, name), part.save_pretrained)


def _joined(parts: list[torch.Tensor | None]) -> torch.Tensor | None:
    """The parts of a batch, or None where there is nothing."""
    return None if parts[0] is None else torch.cat(parts)


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    accelerator = make_accelerator(args)
    repository = open_repository(args) if accelerator.is_main_process else None
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)

    training = FutureFrameTraining(args, accelerator)
    status = Trainer(
        accelerator,
        args,
        name="unet",
        model=training.model,
        draws=training.draws,
        compute_loss=training.compute_loss,
        validate=training.validate if training.validation is not None else None,
        parts=None if training.lora is None else {"unet_lora": training.lora},
    ).train()

    if accelerator.is_main_process:
        training.save()
    if repository is not None and status == 0:
        if training.lora is None:
            push_component(args.output_dir, ["unet", "scheduler"], repository, title="Future-frame prediction (G)")
        else:
            push_lora(args.output_dir, repository)
    return status


if __name__ == "__main__":
    sys.exit(main())
