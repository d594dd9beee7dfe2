"""Trains future-frame prediction: latent diffusion of the next frame, given the current frame and its true flow.

    python train_future_frame.py --train_data_dir clips --validation_data_dir clips \\
        --pretrained_vae runs/autoencoder/vae --cache_dir cache --output_dir runs/future_frame \\
        --max_train_minutes 60 --mixed_precision bf16 --use_ema

The trained model is the folders `output_dir/unet` and `output_dir/scheduler`. The unet of a pipeline folder can be
trained further, as a whole, or with a LoRA:

    python train_future_frame.py --pretrained_model_name_or_path runs/mcdiff-small-128 --lora_rank 8 ...

The LoRA is the folder `output_dir/unet_lora`, for `MCDiffPipeline.load_lora_weights`.
"""

import argparse
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
from loop.denoising_loss import add_denoising_arguments, augment_with_noise, denoising_loss, drop_conditions
from loop.draws import SeededDraws
from loop.image_quality import psnr_moving_and_still
from loop.latent_cache import LatentClips, add_clip_arguments, open_training_clips
from loop.lora import add_lora, add_lora_arguments, check_lora_arguments
from loop.pipeline_folders import is_pipeline_folder, load_pipeline
from loop.publishing import add_hub_arguments, open_repository, push_component, push_lora
from loop.rollout_states import state_from_batch
from loop.samples import FrameSample
from loop.stroke_sampling import add_stroke_arguments, draw_sparse_flow
from loop.trainer import Trainer
from loop.validation_media import show
from mcdiff_pipeline import MCDiffPipeline
from mcdiff_pipeline.atomic_files import atomic_folder
from mcdiff_pipeline.baselines import moving_pixels, splat_frame
from mcdiff_pipeline.flow import resize_flow
from mcdiff_pipeline.latent_codec import decode_latents
from mcdiff_pipeline.rollout import Motion, RolloutState


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
    return args


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
    if any("CrossAttn" in block for block in unet.config.down_block_types):
        raise ValueError(
            f"The unet has {unet.config.down_block_types}, which attend to text, but there is no text encoder: name "
            "blocks without CrossAttn, or give --pretrained_model_name_or_path a pipeline folder with a text encoder, "
            "such as widen_unet.py makes of Stable Diffusion."
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
        load_sample = functools.partial(self.load_sample, self.clips)
        self.draws = SeededDraws(len(self.clips), load_sample, args.seed, self.clips.describe)
        self.validation = None if self.validation_clips is None else self.load_validation()

    def load_sample(self, clips: LatentClips, index: int, rng: np.random.Generator) -> FrameSample:
        pair = clips[index]
        sample = {name: pair[name] for name in ("latent", "next_latent")}
        if self.conditioner.needs_dense_flow:
            sample["flow"] = pair["flow"]
        if self.conditioner.needs_accumulated_flow:
            sample |= clips.start(index, image=self.conditioner.needs_start_image)
        if self.conditioner.needs_sparse_flow:
            sample["sparse_flow"], sample["mask"] = draw_sparse_flow(pair, self.args, rng)
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
            self.load_sample(clips, index, np.random.default_rng([2, int(index)])) | {"flow": clips[index]["flow"]}
            for index in indices
        ]
        batch = torch.utils.data.default_collate(samples)
        images = torch.from_numpy(np.stack([clips.frames(index) for index in indices]))
        images = images.permute(1, 0, 4, 2, 3).float().div(255).to(device)  # [2, B, 3, H, W]
        return {name: tensor.to(device) for name, tensor in batch.items()}, *images

    def state_and_motion(self, batch: dict[str, torch.Tensor], latents: torch.Tensor) -> tuple[RolloutState, Motion]:
        """The state at the current frame, with latents `[B, C, h, w]`, and the true motion to the next."""
        dense_flow = None
        if self.conditioner.needs_dense_flow:
            dense_flow = resize_flow(batch["flow"], tuple(latents.shape[2:]))
        motion = Motion(dense_flow, batch.get("sparse_flow"), batch.get("mask"))
        return state_from_batch(batch, latents, self.prompt_embeds), motion

    def compute_loss(
        self, model: torch.nn.Module, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        state, motion = self.state_and_motion(batch, augment_with_noise(batch["latent"], self.args))
        state, motion = drop_conditions(state, motion, self.args)
        conditions = self.conditioner.build(state, motion, self.vae)
        target = self.conditioner.to_difference(batch["next_latent"], conditions.base)
        loss = denoising_loss(model, self.pipe.scheduler, conditions.tensor, target, self.args, state.prompt_embeds)
        return loss, {}

    def predict(self, batch: dict[str, torch.Tensor], noise: torch.Tensor) -> torch.Tensor:
        """Latents `[B, C, h, w]` of the next frames, as the pipeline makes them from the true flow."""
        state, motion = self.state_and_motion(batch, batch["latent"])
        with self.accelerator.autocast():
            following = self.pipe.step(
                state,
                motion,
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
        latents, flow = batch["latent"], batch["flow"]
        noise = torch.randn(latents.shape, generator=torch.Generator("cpu").manual_seed(3)).to(latents.device)
        predicted = [
            self.predict({name: tensor[i : i + 32] for name, tensor in batch.items()}, noise[i : i + 32])
            for i in range(0, len(latents), 32)
        ]
        outputs = {
            "model": self.decode(torch.cat(predicted)),
            "repeat": current,
            "splat": self.decode(splat_frame(latents, resize_flow(flow, tuple(latents.shape[2:])))),
            "autoencoder": self.decode(batch["next_latent"]),
        }
        # One row for each sample: the frame, the true next frame, the predicted one, the splatted one.
        columns = torch.stack([current, target, outputs["model"], outputs["splat"]])[:, :8]
        sheet = columns.mul(255).round().byte().cpu().permute(1, 3, 0, 4, 2)
        show(self.accelerator, self.args, "validation", step, sheet.flatten(0, 1).flatten(1, 2).numpy())
        return psnr_moving_and_still(outputs, target, moving_pixels(flow))

    def save(self) -> None:
        """Writes `unet` and `scheduler`, or `unet_lora`."""
        parts = {"unet": self.model, "scheduler": self.pipe.scheduler}
        if self.lora is not None:
            parts = {"unet_lora": self.lora}
        for name, part in parts.items():
            atomic_folder(Path(self.args.output_dir, name), part.save_pretrained)


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
