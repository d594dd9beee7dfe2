"""Trains future-frame prediction, G: latent diffusion of the next frame, given the current frame and its true flow.

    python train_future_frame.py --train_data_dir clips --validation_data_dir clips \\
        --pretrained_vae runs/autoencoder/vae --cache_dir cache --output_dir runs/future_frame \\
        --max_train_minutes 60 --mixed_precision bf16 --use_ema

The trained model is the folders `output_dir/unet` and `output_dir/scheduler`. From a pipeline folder on:

    python train_future_frame.py --pretrained_model_name_or_path runs/mcdiff-small-128 --lora_rank 8 ...

trains a small addition to its model alone, `output_dir/unet_lora`, which `MCDiffPipeline.load_lora_weights` loads.
"""

import argparse
import functools
import sys
from pathlib import Path

import numpy as np
import torch
from assemble_pipeline import load_pipeline
from diffusers import DDIMScheduler, UNet2DConditionModel
from loop.denoising_loss import add_denoising_arguments, augment_with_noise, denoising_loss, drop_conditions
from loop.latent_cache import add_clip_arguments, open_training_clips
from loop.lora import add_lora, add_lora_arguments, check_lora_arguments
from loop.publishing import add_hub_arguments, open_repository, push_component, push_lora
from loop.stroke_sampling import add_stroke_arguments, draw_sparse_flow
from loop.trainer import SeededDraws, add_training_arguments, check_training_arguments, make_accelerator, train
from loop.validation_media import show

from mcdiff_pipeline import MCDiffPipeline
from mcdiff_pipeline.atomic_files import atomic_folder
from mcdiff_pipeline.baselines import moving_pixels, splat_frame
from mcdiff_pipeline.flow import accumulate_flow, resize_flow
from mcdiff_pipeline.pipeline_mcdiff import (
    check_residual,
    condition_latent,
    conditioning_channels,
    decode_pictures,
    frame_condition,
    splatted_start,
    vae_scale_factor,
)


CONFIGS = Path(__file__).parent / "configs/small-128"


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_clip_arguments(parser)
    parser.add_argument("--num_validation_samples", type=int, default=64)
    parser.add_argument("--validation_inference_steps", type=int, default=5)
    parser.add_argument("--model_config", default=str(CONFIGS / "unet.json"))
    parser.add_argument(
        "--scheduler_config", default=None, help=f"Noise schedule; {CONFIGS.name}/scheduler.json if absent."
    )
    parser.add_argument(
        "--pretrained_model_name_or_path",
        default=None,
        help="Start from this unet folder, or from the unet of this pipeline folder, which also says what it is given "
        "and by which noise schedule.",
    )
    parser.add_argument(
        "--no_flow_completion",
        action="store_true",
        help="Give the model strokes drawn from the true flow instead of the flow, for a pipeline without F.",
    )
    parser.add_argument(
        "--flow_conditioning",
        choices=("concat", "concat+splat"),
        default=None,
        help="Give the model the flow as it is, as in the paper, or also the current frame splatted by it and the "
        "mask of holes; concat+splat if absent.",
    )
    parser.add_argument(
        "--start_frame_reference",
        action="store_true",
        help="Give the model also the start frame of the clip, splatted along the flow accumulated since.",
    )
    parser.add_argument(
        "--flow_scale", type=float, default=None, help="Displacement in cells that is 1 for the model; 1 if absent."
    )
    parser.add_argument(
        "--start_picture_reference",
        action="store_true",
        help="Give the model also the start frame of the clip, splatted as a picture and then encoded.",
    )
    parser.add_argument(
        "--residual_condition",
        default=None,
        help="Denoise the difference of the next frame from this condition, such as splatted_frame or start_picture, "
        "instead of the next frame itself, which is the paper's form and what is done if absent.",
    )
    parser.add_argument(
        "--residual_scale", type=float, default=None, help="What that difference is multiplied by; 1 if absent."
    )
    parser.add_argument(
        "--prediction_type",
        choices=("epsilon", "v_prediction"),
        default=None,
        help="What the model predicts; v_prediction, with zero terminal SNR, if absent. epsilon is without.",
    )
    add_lora_arguments(parser)
    add_denoising_arguments(parser)
    add_stroke_arguments(parser)
    add_training_arguments(parser)
    add_hub_arguments(parser)
    args = parser.parse_args(arguments)
    check_training_arguments(args)
    check_lora_arguments(args)
    references = args.start_frame_reference or args.start_picture_reference
    if args.no_flow_completion and (args.flow_conditioning or references):
        raise ValueError(
            "--no_flow_completion leaves no dense flow for --flow_conditioning, --start_frame_reference and "
            "--start_picture_reference; leave these out."
        )
    if is_pipeline(args.pretrained_model_name_or_path):
        names = ("no_flow_completion", "flow_conditioning", "start_frame_reference", "start_picture_reference")
        names += ("flow_scale", "residual_condition", "residual_scale", "prediction_type", "scheduler_config")
        given = [f"--{name}" for name in names if getattr(args, name) is not None and getattr(args, name) is not False]
        if given:
            raise ValueError(
                f"{args.pretrained_model_name_or_path} is a whole model, whose unet is trained on as it is used "
                f"there; leave {', '.join(given)} out."
            )
        config = MCDiffPipeline.load_config(args.pretrained_model_name_or_path)
        args.conditioning, args.flow_scale = config["conditioning"].split(","), config["flow_scale"]
        args.residual_condition = config.get("residual_condition")
        args.residual_scale = config.get("residual_scale", 1.0)
    else:
        args.conditioning, args.flow_scale = conditioning_of(args), args.flow_scale or 1.0
        args.residual_scale = 1.0 if args.residual_scale is None else args.residual_scale
    check_residual(args.conditioning, args.residual_condition, args.residual_scale)
    if "sparse_flow" not in args.conditioning and (args.no_keypoints or args.sampling != "magnitude"):
        raise ValueError(
            "--no_keypoints and --sampling say how strokes are drawn, but only with --no_flow_completion is this "
            "model given strokes; leave them out."
        )
    return args


def is_pipeline(folder: str | None) -> bool:
    return folder is not None and Path(folder, "model_index.json").is_file()


def conditioning_of(args: argparse.Namespace) -> list[str]:
    """Names for `frame_condition`, in order, of what the switches say the model is given beside the noise."""
    if args.no_flow_completion:
        return ["previous_frame", "sparse_flow"]
    names = ["previous_frame", "dense_flow"]
    if args.flow_conditioning != "concat":
        names += ["splatted_frame", "hole_mask"]
    if args.start_frame_reference:
        names.append("start_frame")
    if args.start_picture_reference:
        names.append("start_picture")
    return names


def psnr_where(output: torch.Tensor, target: torch.Tensor, where: torch.Tensor) -> float:
    """PSNR in dB over the pixels `where` `[B, H, W]` of all pictures together; `[B, 3, H, W]` in [0, 1]."""
    error = (output - target).square().mean(dim=1)
    return float(-10 * error[where].mean().clamp_min(1e-10).log10())


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    accelerator = make_accelerator(args)
    repository = open_repository(args) if accelerator.is_main_process else None
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)

    vae, clips, validation = open_training_clips(args, accelerator)

    torch.manual_seed(args.seed)
    channels = vae.config.latent_channels
    in_channels = channels + conditioning_channels(args.conditioning, channels)
    text = None
    if is_pipeline(args.pretrained_model_name_or_path):
        pipe = load_pipeline(args.pretrained_model_name_or_path, vae)
        model, scheduler = pipe.unet, pipe.scheduler
        with torch.no_grad():
            text = pipe.encode_prompt(None, 1)  # the empty text, or None where the model reads none
    else:
        scheduler_config = DDIMScheduler.load_config(args.scheduler_config or str(CONFIGS / "scheduler.json"))
        scheduler_config["prediction_type"] = args.prediction_type or "v_prediction"
        # At zero signal the noise says nothing about the picture, so only v-prediction can start there (Lin et al.
        # 2024).
        scheduler_config["rescale_betas_zero_snr"] = scheduler_config["prediction_type"] == "v_prediction"
        scheduler = DDIMScheduler.from_config(scheduler_config)
        if args.pretrained_model_name_or_path:
            model = UNet2DConditionModel.from_pretrained(args.pretrained_model_name_or_path)
        else:
            config = UNet2DConditionModel.load_config(args.model_config)
            model = UNet2DConditionModel.from_config({**config, "in_channels": in_channels, "out_channels": channels})
        if any("CrossAttn" in block for block in model.config.down_block_types):
            raise ValueError(
                f"The unet has {model.config.down_block_types}, which attend to text, and none is encoded here: "
                "name blocks without CrossAttn, or with --pretrained_model_name_or_path a pipeline folder that has a "
                "text encoder, such as widen_unet.py makes of Stable Diffusion."
            )
    if model.config.in_channels != in_channels:
        raise ValueError(
            f"The unet in {args.pretrained_model_name_or_path} takes {model.config.in_channels} channels, but "
            f"{', '.join(args.conditioning)} and the noise make {in_channels}; give the switches that it was trained "
            "with."
        )
    lora = None
    if args.lora_rank is not None:
        lora = add_lora(model, args.lora_rank, args.lora_alpha, args.mixed_precision)
    cell = vae_scale_factor(vae)
    accelerator.print(
        f"Future-frame prediction with {model.num_parameters() / 1e6:.2f} M parameters, "
        f"{model.num_parameters(only_trainable=True) / 1e6:.2f} M of them trained."
    )

    def load_from(clips, index, rng):
        pair = clips[index]
        sample = {name: pair[name] for name in ("latent", "next_latent")}
        if "dense_flow" in args.conditioning:
            sample["flow"] = pair["flow"]
        if "start_frame" in args.conditioning or "start_picture" in args.conditioning:
            sample |= clips.start(index, picture="start_picture" in args.conditioning)
        if "sparse_flow" in args.conditioning:
            sample["sparse_flow"], sample["mask"] = draw_sparse_flow(pair, args, rng)
        return sample

    def condition(batch):
        """What the model is given beside the noise, and what its target is a difference from, or None."""
        size = tuple(batch["latent"].shape[2:])
        cells = start_cells = start_picture = sparse_flow = None
        if "dense_flow" in args.conditioning:
            cells = resize_flow(batch["flow"], size)  # [B, 2, h, w]
        if "start_flow" in batch:
            start_cells = accumulate_flow(resize_flow(batch["start_flow"], size), cells)
        if "start_picture" in args.conditioning:
            with torch.no_grad():
                start_picture = splatted_start(vae, batch["start_picture"], start_cells * cell)
        if "sparse_flow" in args.conditioning:
            sparse_flow = batch["sparse_flow"], batch["mask"]
        conditions = frame_condition(
            args.conditioning,
            batch["latent"],
            None if cells is None else cells * cell,
            vae_scale_factor=cell,
            flow_scale=args.flow_scale,
            start_frame=batch.get("start_latent"),
            accumulated_flow=None if start_cells is None else start_cells * cell,
            start_picture=start_picture,
            sparse_flow=sparse_flow,
        )
        if args.residual_condition is None:
            return conditions, None
        return conditions, condition_latent(conditions, args.conditioning, args.residual_condition, channels)

    def text_for(samples):
        return None if text is None else text.expand(len(samples), -1, -1)

    def compute_loss(model, batch):
        given = drop_conditions(batch | {"latent": augment_with_noise(batch["latent"], args)}, args)
        conditions, base = condition(given)
        target = batch["next_latent"]
        if base is not None:
            target = args.residual_scale * (target - base)
        return denoising_loss(model, scheduler, conditions, target, args, text_for(conditions)), {}

    chosen = {}
    if validation is not None:
        indices = np.random.default_rng(1).permutation(len(validation))
        indices = [index for index in indices if np.linalg.norm(validation[index]["flow"], axis=0).max() > 1]
        indices = indices[: args.num_validation_samples]
        samples = [
            load_from(validation, index, np.random.default_rng([2, int(index)])) | {"flow": validation[index]["flow"]}
            for index in indices
        ]
        chosen = {
            name: tensor.to(accelerator.device) for name, tensor in torch.utils.data.default_collate(samples).items()
        }
        pictures = torch.from_numpy(np.stack([validation.frames(index) for index in indices]))
        pictures = pictures.permute(1, 0, 4, 2, 3).float().div(255).to(accelerator.device)

    def decode(latents):
        with accelerator.autocast():
            return torch.cat([decode_pictures(vae, part).float() for part in latents.split(16)])

    def validate(model, step):
        latent, flow = chosen["latent"], chosen["flow"]
        current, target = pictures
        generator = torch.Generator("cpu").manual_seed(3)
        sample = torch.randn(latent.shape, generator=generator).to(latent.device)
        sampler = DDIMScheduler.from_config(scheduler.config)
        sampler.set_timesteps(args.validation_inference_steps, device=latent.device)
        conditions, base = condition(chosen)
        for timestep in sampler.timesteps:
            model_input = torch.cat([sample, conditions], dim=1).contiguous(memory_format=torch.channels_last)
            with accelerator.autocast():
                parts = [
                    model(part, timestep, encoder_hidden_states=text_for(part)).sample
                    for part in model_input.split(32)
                ]
            prediction = torch.cat(parts).float()
            sample = sampler.step(prediction, timestep, sample).prev_sample
        if base is not None:
            sample = base + sample / args.residual_scale

        cells = resize_flow(flow, tuple(latent.shape[2:]))
        shown = {
            "model": decode(sample),
            "repeat": current,
            "splat": decode(splat_frame(latent, cells)),
            "autoencoder": decode(chosen["next_latent"]),
        }
        moving = moving_pixels(flow)
        values = {f"psnr_moving_{name}": psnr_where(picture, target, moving) for name, picture in shown.items()}
        values |= {f"psnr_still_{name}": psnr_where(picture, target, ~moving) for name, picture in shown.items()}
        # One row a sample: the frame, the true next frame, the predicted one, the splatted one.
        columns = torch.stack([current, target, *(shown[name] for name in ("model", "splat"))])[:, :8]
        sheet = columns.mul(255).round().byte().cpu().permute(1, 3, 0, 4, 2)
        show(accelerator, args, "validation", step, sheet.flatten(0, 1).flatten(1, 2).numpy())
        return values

    status = train(
        accelerator=accelerator,
        args=args,
        name="unet",
        model=model,
        draws=SeededDraws(len(clips), functools.partial(load_from, clips), args.seed, clips.describe),
        compute_loss=compute_loss,
        validate=validate if chosen else None,
        parts=None if lora is None else {"unet_lora": lora},
    )
    made = {"unet": model, "scheduler": scheduler} if lora is None else {"unet_lora": lora}
    if accelerator.is_main_process:
        for name, part in made.items():
            atomic_folder(Path(args.output_dir, name), part.save_pretrained)
    if repository is not None and status == 0:
        if lora is None:
            push_component(args.output_dir, list(made), repository, title="Future-frame prediction (G)")
        else:
            push_lora(args.output_dir, repository)
    return status


if __name__ == "__main__":
    sys.exit(main())
