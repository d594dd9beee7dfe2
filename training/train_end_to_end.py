"""Trains F and G together: L = 0.05 L_F + L_G, with gradients through G(x, F(x, s)), from a pipeline folder on.

    python train_end_to_end.py --pretrained_model_name_or_path runs/mcdiff-small-128 --train_data_dir clips \\
        --validation_data_dir clips --cache_dir cache --output_dir runs/end_to_end --max_train_minutes 30 \\
        --learning_rate 7e-5 --mixed_precision bf16 --use_ema

With `--rollout_steps k` the model learns to go on from its own frames, against drift: the first k - 1 frames after the
true one are sampled, in few denoising steps, by F and G as they are at that step of the training, and the loss is that
of the k-th. Back-propagation is truncated: only the last step carries gradients. Clips of k + 1 frames are needed.

The trained model is the pipeline folder `output_dir/pipeline`.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
import torch
from assemble_pipeline import load_pipeline, save_pipeline
from loop.denoising_loss import add_denoising_arguments, augment_with_noise, denoising_loss, drop_conditions
from loop.flow_loss import add_flow_loss_arguments, complete_and_compare
from loop.latent_cache import LatentClips, add_clip_arguments, open_training_clips
from loop.publishing import add_hub_arguments, describe_training, open_repository, push_pipeline
from loop.stroke_sampling import add_stroke_arguments, draw_sparse_flow
from loop.trainer import SeededDraws, add_training_arguments, check_training_arguments, make_accelerator, train
from loop.validation_media import show
from train_future_frame import psnr_where

from mcdiff_pipeline import MCDiffPipeline
from mcdiff_pipeline.baselines import moving_pixels
from mcdiff_pipeline.flow import accumulate_flow, resize_flow
from mcdiff_pipeline.pipeline_mcdiff import MCDiffRollout


# What the video of a validation shows: the first frames of a few clips.
VIDEO_CLIPS, VIDEO_STEPS = 4, 15


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pretrained_model_name_or_path", required=True, help="Pipeline folder to start from; it has both F and G."
    )
    add_clip_arguments(parser, names_vae=False)
    parser.add_argument("--num_validation_samples", type=int, default=64)
    parser.add_argument("--flow_loss_weight", type=float, default=0.05, help="Weight of L_F; that of L_G is 1.")
    parser.add_argument("--rollout_steps", type=int, default=1, help="k; 1 starts every step at a true frame.")
    parser.add_argument(
        "--rollout_inference_steps",
        type=int,
        default=2,
        help="Denoising steps of a frame that the model goes on from, and of those in validation.",
    )
    add_flow_loss_arguments(parser)
    add_denoising_arguments(parser)
    add_stroke_arguments(parser)
    add_training_arguments(parser)
    add_hub_arguments(parser)
    args = parser.parse_args(arguments)
    check_training_arguments(args)
    for name in ("rollout_steps", "rollout_inference_steps"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} is {getattr(args, name)}; it must be 1 or more.")
    args.pretrained_vae = str(Path(args.pretrained_model_name_or_path, "vae"))
    args.conditioning = MCDiffPipeline.load_config(args.pretrained_model_name_or_path)["conditioning"].split(",")
    return args


class EndToEndModel(torch.nn.Module):
    """F and G with the loss of both: one module, so that several processes share the gradients of both.

    A batch holds `steps` consecutive steps of clips: `latent` `[B, k + 1, C, h, w]`, scaled; `flow`
    `[B, k, 2, H, W]` in pixels; bool `foreground` `[B, k, 1, H, W]`; strokes as `sparse_flow` `[B, k, 2, h, w]` in
    pixels and bool `mask` `[B, k, 1, h, w]`; and from where the clip started, `start_latent` `[B, C, h, w]`,
    `start_flow` `[B, 2, H, W]` to the first of these frames and, where it is a condition, `start_picture`
    `[B, 3, H, W]` in [0, 1].
    """

    def __init__(self, pipe: MCDiffPipeline, args: argparse.Namespace):
        super().__init__()
        self.flow_completion, self.unet = pipe.flow_completion, pipe.unet
        self.pipe, self.args = pipe, args
        with torch.no_grad():
            self.prompt_embeds = pipe.encode_prompt(None, 1)  # the empty text, or None where G reads none

    def text(self, batch_size: int) -> torch.Tensor | None:
        return None if self.prompt_embeds is None else self.prompt_embeds.expand(batch_size, -1, -1)

    def start(self, batch: dict[str, torch.Tensor]) -> MCDiffRollout:
        """The roll-out at the first of the frames, which is true."""
        latents = batch["latent"][:, 0]
        accumulated_flow = resize_flow(batch["start_flow"], tuple(latents.shape[2:])) * self.pipe.vae_scale_factor
        return MCDiffRollout(
            0, latents, batch["start_latent"], accumulated_flow, start_pictures=batch.get("start_picture")
        )

    @torch.no_grad()
    def roll_out(self, rollout: MCDiffRollout, batch: dict[str, torch.Tensor], steps: int) -> MCDiffRollout:
        """`steps` steps of the pipeline's own loop, along the strokes of the batch."""
        for step in range(steps):
            sparse_flow = batch["sparse_flow"][:, step], batch["mask"][:, step]
            rollout = self.pipe.next_frame(
                rollout,
                self.flow_completion(rollout.latents, *sparse_flow, return_dict=False)[0].float(),
                torch.randn_like(rollout.latents),
                sparse_flow=sparse_flow,
                num_inference_steps=self.args.rollout_inference_steps,
                guidance_scale=1.0,
                prompt_embeds=self.text(len(rollout.latents)),
            )
        return rollout

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        last = batch["flow"].shape[1] - 1
        rollout = self.roll_out(self.start(batch), batch, last)
        # PyTorch 2.6 would take the copies of the weights in bfloat16 that were made here, and they carry no gradients
        torch.clear_autocast_cache()
        step = {name: batch[name][:, last] for name in ("flow", "foreground", "sparse_flow", "mask")}
        cell = self.pipe.vae_scale_factor
        dense_flow, flow_loss, values = complete_and_compare(
            self.flow_completion,
            step | {"latent": rollout.latents},
            self.args,
            cell,
            self.flow_completion.config.flow_scale,
        )
        given = drop_conditions(
            {
                "latent": augment_with_noise(rollout.latents, self.args),
                "start_latent": rollout.start_latents,
                "flow": dense_flow.float(),
                "sparse_flow": step["sparse_flow"],
                "mask": step["mask"],
            }
            | ({} if rollout.start_pictures is None else {"start_picture": rollout.start_pictures}),
            self.args,
        )
        rollout = dataclasses.replace(
            rollout,
            latents=given["latent"],
            start_latents=given["start_latent"],
            start_pictures=given.get("start_picture"),
        )
        _, conditions, base = self.pipe.frame_conditions(rollout, given["flow"], (given["sparse_flow"], given["mask"]))
        target = batch["latent"][:, last + 1]
        if base is not None:
            target = self.pipe.config.residual_scale * (target - base)
        values["denoising_loss"] = denoising_loss(
            self.unet,
            self.pipe.scheduler,
            conditions,
            target,
            self.args,
            self.text(len(conditions)),
        )
        return self.args.flow_loss_weight * flow_loss + values["denoising_loss"], values


def load_steps(
    clips: LatentClips, index: int, args: argparse.Namespace, rng: np.random.Generator, steps: int | None = None
) -> dict:
    """One sample of what `EndToEndModel` reads: the steps from pair `index` on, `--rollout_steps` if None."""
    pairs = [clips[index + step] for step in range(steps or args.rollout_steps)]
    strokes = [draw_sparse_flow(pair, args, rng) for pair in pairs]
    return {
        "latent": np.stack([*(pair["latent"] for pair in pairs), pairs[-1]["next_latent"]]),
        "flow": np.stack([pair["flow"] for pair in pairs]),
        "foreground": np.stack([pair["mask"][None] > 0 for pair in pairs]),
        "sparse_flow": torch.stack([displacement for displacement, _ in strokes]),
        "mask": torch.stack([mask for _, mask in strokes]),
    } | clips.start(index, picture="start_picture" in args.conditioning)


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    folder = args.pretrained_model_name_or_path
    if MCDiffPipeline.load_config(folder)["flow_completion"][0] is None:
        raise ValueError(f"{folder} has no flow completion, so there is nothing to train end to end; name one with F.")
    accelerator = make_accelerator(args)
    repository = open_repository(args, whole_pipeline=True) if accelerator.is_main_process else None
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)

    vae, clips, validation = open_training_clips(args, accelerator)
    starts = clips.with_steps(args.rollout_steps)

    pipe = load_pipeline(folder, vae)
    model = EndToEndModel(pipe, args)
    accelerator.print(f"{len(starts)} places to start from, with {args.rollout_steps} steps each.")

    chosen = None
    if validation is not None:
        indices = np.random.default_rng(1).permutation(validation.with_steps(args.rollout_steps))
        indices = indices[: args.num_validation_samples]
        samples = [load_steps(validation, index, args, np.random.default_rng([2, int(index)])) for index in indices]
        chosen = {
            name: tensor.to(accelerator.device) for name, tensor in torch.utils.data.default_collate(samples).items()
        }

    film, true_film = None, None
    if validation is not None:
        firsts = np.flatnonzero(validation.pairs[:, 2] == 0)
        lengths = np.diff(firsts, append=len(validation))
        film_steps = int(min(lengths.max(), VIDEO_STEPS))
        firsts = firsts[lengths >= film_steps][:VIDEO_CLIPS]
        samples = [
            load_steps(validation, index, args, np.random.default_rng([2, int(index)]), film_steps) for index in firsts
        ]
        film = {
            name: tensor.to(accelerator.device) for name, tensor in torch.utils.data.default_collate(samples).items()
        }
        true_film = np.stack([validation.frames(index, film_steps) for index in firsts])  # [clips, frames, H, W, 3]

    def decode(latents):
        with accelerator.autocast():
            return torch.cat([pipe.decode_latents(part).float() for part in latents.split(16)])

    def roll_out_film(model):
        """The frames that the model makes of the first one of each clip, uint8 `[clips, frames, H, W, 3]`."""
        rollout = model.start(film)
        latents = [rollout.latents]
        for step in range(film_steps):
            strokes = {name: film[name][:, step : step + 1] for name in ("sparse_flow", "mask")}
            with accelerator.autocast():
                rollout = model.roll_out(rollout, strokes, 1)
            latents.append(rollout.latents)
        pictures = [decode(frame).mul(255).round().byte().permute(0, 2, 3, 1) for frame in latents]
        return torch.stack(pictures, dim=1).cpu().numpy()

    def validate(model, step):
        torch.manual_seed(3)
        with accelerator.autocast():
            end = model.roll_out(model.start(chosen), chosen, args.rollout_steps)
        target = decode(chosen["latent"][:, -1])
        flow = torch.zeros_like(chosen["flow"][:, 0])
        for true_flow in chosen["flow"].unbind(1):
            flow = accumulate_flow(flow, true_flow)
        moving = moving_pixels(flow)
        true_cells = resize_flow(chosen["flow"][:, -1], tuple(end.latents.shape[2:])) * pipe.vae_scale_factor
        pictures = {"model": decode(end.latents), "repeat": decode(chosen["latent"][:, 0])}
        values = {f"psnr_moving_{name}": psnr_where(picture, target, moving) for name, picture in pictures.items()}
        values |= {f"psnr_still_{name}": psnr_where(picture, target, ~moving) for name, picture in pictures.items()}
        # One row a clip: the true frames, and those of the model.
        frames = np.concatenate([true_film, roll_out_film(model)], axis=3)  # [clips, frames, H, 2 W, 3]
        show(accelerator, args, "validation", step, np.concatenate(frames, axis=1))
        return values | {"epe": float((end.dense_flow - true_cells).norm(dim=1).mean())}

    status = train(
        accelerator=accelerator,
        args=args,
        name="end_to_end",
        model=model,
        draws=SeededDraws(
            len(starts),
            lambda number, rng: load_steps(clips, int(starts[number]), args, rng),
            args.seed,
            lambda number: clips.describe(starts[number]),
        ),
        compute_loss=lambda model, batch: model(batch),
        validate=validate if chosen is not None else None,
        parts={"flow_completion": pipe.flow_completion, "unet": pipe.unet},
    )
    if accelerator.is_main_process:
        folder = Path(args.output_dir, "pipeline")
        save_pipeline(pipe, folder)
        if repository is not None and status == 0:
            training = f"**`flow_completion` and `unet`, together.** {describe_training(folder)}"
            push_pipeline(folder, training, repository)
    return status


if __name__ == "__main__":
    sys.exit(main())
