"""Trains flow completion and future-frame prediction together, starting from a pipeline folder.

    python train_end_to_end.py --pretrained_model_name_or_path runs/mcdiff-small-128 --train_data_dir clips \\
        --validation_data_dir clips --cache_dir cache --output_dir runs/end_to_end --max_train_minutes 30 \\
        --learning_rate 7e-5 --mixed_precision bf16 --use_ema

The loss is L = 0.05 L_F + L_G, as in the paper. The gradient of L_G reaches flow completion through the dense flow.

With `--rollout_steps k` the model learns to continue from its own frames, which reduces drift. A sample starts at a
true frame. The model makes the next k - 1 frames itself, with few denoising steps. Only the k-th frame has a loss.
Back-propagation is truncated: only the last step has gradients. Clips of k + 1 frames are needed.

Flow completion that reads semantic features gets those of the start frame of the clip, carried along the flow since,
as in the pipeline. The image encoder stays as it is. Flow completion that reads regions gets them in the last step.

The trained model is the pipeline folder `output_dir/pipeline`.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from loop.accelerator import make_accelerator
from loop.arguments import add_training_arguments, check_probabilities, check_training_arguments
from loop.denoising_loss import (
    add_denoising_arguments,
    augment_with_noise,
    check_denoising_arguments,
    denoising_loss,
    drop_conditions,
)
from loop.draws import SeededDraws
from loop.feature_cache import add_feature_drop_argument, load_image_encoder
from loop.flow_loss import add_flow_loss_arguments, complete_and_compare
from loop.image_quality import psnr_moving_and_still
from loop.latent_cache import LatentClips, add_clip_arguments, open_training_clips
from loop.pipeline_folders import load_pipeline, save_pipeline
from loop.publishing import add_hub_arguments, describe_training, open_repository, push_pipeline
from loop.region_sampling import add_region_probability_argument, draw_regions
from loop.rollout_states import state_from_batch
from loop.samples import RolloutSample
from loop.stroke_sampling import (
    add_stroke_arguments,
    add_strokes_on_things_argument,
    draw_strokes,
    draw_strokes_on_things,
    set_strokes_on_things,
)
from loop.trainer import Trainer
from loop.validation_media import show
from mcdiff_pipeline import MCDiffPipeline
from mcdiff_pipeline.baselines import moving_pixels
from mcdiff_pipeline.dataset.sampling import rasterize_points
from mcdiff_pipeline.drawing import titled_columns
from mcdiff_pipeline.flow import accumulate_flow, resize_flow, to_pixels
from mcdiff_pipeline.flow_completion_unet import FlowCompletionUNet
from mcdiff_pipeline.rollout import Motion, RolloutState
from mcdiff_pipeline.semantic_features import carry_features


# The video of a validation shows the first frames of a few clips.
VIDEO_CLIPS, VIDEO_STEPS = 4, 15


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pretrained_model_name_or_path", required=True, help="Pipeline folder to start from, with flow completion."
    )
    add_clip_arguments(parser, names_vae=False)
    parser.add_argument("--num_validation_samples", type=int, default=64)
    parser.add_argument("--flow_loss_weight", type=float, default=0.05, help="Weight of L_F. L_G has the weight 1.")
    parser.add_argument("--rollout_steps", type=int, default=1, help="k; with 1 each step starts at a true frame.")
    parser.add_argument(
        "--rollout_inference_steps",
        type=int,
        default=2,
        help="Denoising steps for frames that the model makes itself, in training and in validation.",
    )
    add_flow_loss_arguments(parser)
    add_denoising_arguments(parser)
    add_stroke_arguments(parser)
    add_strokes_on_things_argument(parser)
    add_region_probability_argument(parser)
    add_feature_drop_argument(parser)
    add_training_arguments(parser)
    add_hub_arguments(parser)
    args = parser.parse_args(arguments)
    check_training_arguments(args)
    for name in ("rollout_steps", "rollout_inference_steps"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} is {getattr(args, name)}; it must be 1 or more.")
    check_probabilities(args, ("region_probability", "feature_drop_probability", "strokes_on_things"))
    folder = args.pretrained_model_name_or_path
    config = MCDiffPipeline.load_config(folder)
    if config["flow_completion"][0] is None:
        raise ValueError(
            f"{folder} has no flow completion, so there is nothing to train end to end; name a model that has it."
        )
    args.pretrained_vae = str(Path(folder, "vae"))
    args.conditioning = config["conditioning"].split(",")
    check_denoising_arguments(args)
    flow_completion = FlowCompletionUNet.load_config(folder, subfolder="flow_completion")
    args.reads_regions = flow_completion.get("reads_regions", False)
    # Without an image encoder, the pipeline gives flow completion no features either.
    has_image_encoder = config.get("image_encoder", [None])[0] is not None
    args.reads_features = has_image_encoder and flow_completion.get("feature_channels") is not None
    set_strokes_on_things(args, reads_either=args.reads_regions or args.reads_features)
    return args


class EndToEndModel(torch.nn.Module):
    """Both networks with their losses, as one module: so DDP averages the gradients of both.

    A batch holds k steps of clips; see `RolloutSample`.
    """

    def __init__(self, pipe: MCDiffPipeline, args: argparse.Namespace):
        super().__init__()
        self.flow_completion, self.unet = pipe.flow_completion, pipe.unet
        self.pipe, self.args = pipe, args
        with torch.no_grad():
            self.prompt_embeds = pipe.encode_prompt(None, 1)  # the empty text; None for a model without text

    def start(self, batch: dict[str, torch.Tensor]) -> RolloutState:
        """The state at the first frame of the batch, which is a true one."""
        return state_from_batch(batch, batch["latent"][:, 0], self.prompt_embeds)

    @torch.no_grad()
    def roll_out(self, state: RolloutState, batch: dict[str, torch.Tensor], steps: int) -> RolloutState:
        """Makes `steps` frames along the strokes of the batch, without gradients."""
        for step in range(steps):
            state = self.pipe.step(
                state,
                Motion(sparse_flow=batch["sparse_flow"][:, step], mask=batch["mask"][:, step]),
                noise=torch.randn(state.latents.shape, device=state.latents.device),
                num_inference_steps=self.args.rollout_inference_steps,
                guidance_scale=1.0,
            )
        return state

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        last = batch["flow"].shape[1] - 1
        state = self.roll_out(self.start(batch), batch, last)
        # PyTorch 2.6 would reuse the bfloat16 copies of the weights from the steps without gradients.
        torch.clear_autocast_cache()
        step = {name: batch[name][:, last] for name in ("flow", "labels", "sparse_flow", "mask")}
        given = {name: batch[name] for name in ("regions", "region_sparse_flow", "region_mask") if name in batch}
        if state.start_features is not None:
            given["features"] = carry_features(state.start_features, state.accumulated_flow)
        dense_flow, flow_loss, values = complete_and_compare(
            self.flow_completion,
            step | given | {"latent": state.latents},
            self.args,
            self.pipe.vae_scale_factor,
            self.flow_completion.config.flow_scale,
        )
        state = dataclasses.replace(state, latents=augment_with_noise(state.latents, self.args))
        state, motion = drop_conditions(state, Motion(dense_flow, step["sparse_flow"], step["mask"]), self.args)
        conditioner = self.pipe.conditioner
        conditions = conditioner.build(state, motion, self.pipe.vae)
        values["denoising_loss"] = denoising_loss(
            self.unet,
            self.pipe.scheduler,
            conditions.tensor,
            conditioner.to_difference(batch["latent"][:, last + 1], conditions.base),
            self.args,
            state.prompt_embeds,
            conditions.coverage,
        )
        return self.args.flow_loss_weight * flow_loss + values["denoising_loss"], values


def load_steps(
    clips: LatentClips, index: int, steps: int, args: argparse.Namespace, rng: np.random.Generator
) -> RolloutSample:
    """The `steps` consecutive steps of a clip that start with pair `index`."""
    pairs = [clips[index + step] for step in range(steps)]
    draw = draw_strokes_on_things if args.strokes_on_things > 0 else draw_strokes
    strokes = [draw(pair, args, rng) for pair in pairs]
    grid, size = pairs[0]["latent"].shape[1:], pairs[0]["flow"].shape[1:]
    drawn = [rasterize_points(points, displacements, grid, size) for points, displacements in strokes]
    sample = {
        "latent": np.stack([*(pair["latent"] for pair in pairs), pairs[-1]["next_latent"]]),
        "flow": np.stack([pair["flow"] for pair in pairs]),
        "labels": np.stack([pair["mask"][None] for pair in pairs]),
        "sparse_flow": torch.stack([displacement for displacement, _ in drawn]),
        "mask": torch.stack([mask for _, mask in drawn]),
    } | clips.start(index, image="start_picture" in args.conditioning, features=args.reads_features)
    if args.reads_regions:
        sample |= draw_regions(pairs[-1], *strokes[-1], args, rng)
    return sample


class EndToEndTraining:
    """Both networks with their training clips, loss and validation."""

    def __init__(self, args: argparse.Namespace, accelerator: Accelerator):
        self.args, self.accelerator = args, accelerator
        folder, image_encoder = args.pretrained_model_name_or_path, None
        if args.reads_features:
            image_encoder = load_image_encoder(str(Path(folder, "image_encoder")), accelerator.device)
        vae, self.clips, self.validation_clips = open_training_clips(args, accelerator, image_encoder=image_encoder)
        self.starts = self.clips.with_steps(args.rollout_steps)
        self.pipe = load_pipeline(folder, vae)
        self.model = EndToEndModel(self.pipe, args)
        self.parts = {"flow_completion": self.pipe.flow_completion, "unet": self.pipe.unet}
        accelerator.print(f"{len(self.starts)} places to start from, with {args.rollout_steps} steps each.")
        self.draws = SeededDraws(len(self.starts), self.load_sample, args.seed, self.describe)
        self.validation = None
        if self.validation_clips is not None:
            self.validation = self.load_validation()
            self.video, self.true_video = self.load_video()

    def load_sample(self, number: int, rng: np.random.Generator) -> RolloutSample:
        sample = load_steps(self.clips, int(self.starts[number]), self.args.rollout_steps, self.args, rng)
        if self.args.reads_features and rng.random() < self.args.feature_drop_probability:
            sample["start_features"] = np.zeros_like(sample["start_features"])
        return sample

    def describe(self, number: int) -> str:
        return self.clips.describe(self.starts[number])

    def load_validation(self) -> dict[str, torch.Tensor]:
        """A batch of rollouts, the same for each validation."""
        indices = np.random.default_rng(1).permutation(self.validation_clips.with_steps(self.args.rollout_steps))
        return self.load_validation_batch(indices[: self.args.num_validation_samples], self.args.rollout_steps)

    def load_video(self) -> tuple[dict[str, torch.Tensor], np.ndarray]:
        """The longest validation clips, from their first frame, for the video.

        Returns:
            A batch of rollouts, and the true frames, uint8 `[clips, frames, H, W, 3]`.
        """
        clips = self.validation_clips
        firsts = np.flatnonzero(clips.pairs[:, 2] == 0)
        lengths = np.diff(firsts, append=len(clips))
        steps = int(min(lengths.max(), VIDEO_STEPS))
        firsts = firsts[lengths >= steps][:VIDEO_CLIPS]
        frames = np.stack([clips.frames(index, steps) for index in firsts])
        return self.load_validation_batch(firsts, steps), frames

    def load_validation_batch(self, indices: np.ndarray, steps: int) -> dict[str, torch.Tensor]:
        samples = [
            load_steps(self.validation_clips, index, steps, self.args, np.random.default_rng([2, int(index)]))
            for index in indices
        ]
        batch = torch.utils.data.default_collate(samples)
        return {name: tensor.to(self.accelerator.device) for name, tensor in batch.items()}

    def compute_loss(
        self, model: torch.nn.Module, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return model(batch)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Images `[B, 3, H, W]` in [0, 1]."""
        with self.accelerator.autocast():
            return torch.cat([self.pipe.decode_latents(part).float() for part in latents.split(16)])

    def make_video(self, model: EndToEndModel) -> np.ndarray:
        """The rollouts of the model from the first frames of the video, uint8 `[clips, frames, H, W, 3]`."""
        state = model.start(self.video)
        latents = [state.latents]
        for step in range(self.video["flow"].shape[1]):
            strokes = {name: self.video[name][:, step : step + 1] for name in ("sparse_flow", "mask")}
            with self.accelerator.autocast():
                state = model.roll_out(state, strokes, 1)
            latents.append(state.latents)
        images = [self.decode(frame).mul(255).round().byte().permute(0, 2, 3, 1) for frame in latents]
        return torch.stack(images, dim=1).cpu().numpy()

    def validate(self, model: EndToEndModel, step: int) -> dict[str, float]:
        """PSNR of the last frames of rollouts and of repeating the first, and the end-point error in pixels."""
        torch.manual_seed(3)
        batch = self.validation
        with self.accelerator.autocast():
            end = model.roll_out(model.start(batch), batch, self.args.rollout_steps)
        flow = torch.zeros_like(batch["flow"][:, 0])
        for true_flow in batch["flow"].unbind(1):
            flow = accumulate_flow(flow, true_flow)
        outputs = {"model": self.decode(end.latents), "repeat": self.decode(batch["latent"][:, 0])}
        values = psnr_moving_and_still(outputs, self.decode(batch["latent"][:, -1]), moving_pixels(flow))
        # One row for each clip.
        frames = np.concatenate([self.true_video, self.make_video(model)], axis=3)  # [clips, frames, H, 2 W, 3]
        video = titled_columns(np.concatenate(frames, axis=1), ("true frames", "frames of the model"))
        show(self.accelerator, self.args, "validation", step, video)
        error = end.dense_flow - resize_flow(batch["flow"][:, -1], tuple(end.latents.shape[2:]))
        return values | {"epe": float(to_pixels(error, self.pipe.vae_scale_factor).norm(dim=1).mean())}


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    accelerator = make_accelerator(args)
    repository = open_repository(args, whole_pipeline=True) if accelerator.is_main_process else None
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)

    training = EndToEndTraining(args, accelerator)
    status = Trainer(
        accelerator,
        args,
        name="end_to_end",
        model=training.model,
        draws=training.draws,
        compute_loss=training.compute_loss,
        validate=training.validate if training.validation is not None else None,
        parts=training.parts,
    ).train()

    if accelerator.is_main_process:
        folder = Path(args.output_dir, "pipeline")
        save_pipeline(training.pipe, folder)
        if repository is not None and status == 0:
            description = f"**`flow_completion` and `unet`, together.** {describe_training(folder)}"
            push_pipeline(folder, description, repository)
    return status


if __name__ == "__main__":
    sys.exit(main())
