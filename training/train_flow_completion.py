"""Trains flow completion, F: from the latent of one frame and a few strokes to dense flow, by regression.

    python train_flow_completion.py --train_data_dir clips --validation_data_dir clips \\
        --pretrained_vae runs/autoencoder/vae --cache_dir cache --output_dir runs/flow_completion \\
        --max_train_minutes 60 --mixed_precision bf16 --use_ema

The trained model is the folder `output_dir/flow_completion`.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from loop.flow_loss import add_flow_loss_arguments, complete_and_compare
from loop.latent_cache import add_clip_arguments, open_training_clips
from loop.publishing import add_hub_arguments, open_repository, push_component
from loop.stroke_sampling import add_stroke_arguments, draw_sparse_flow
from loop.trainer import SeededDraws, add_training_arguments, check_training_arguments, make_accelerator, train
from loop.validation_media import show

from mcdiff_pipeline.atomic_files import atomic_folder
from mcdiff_pipeline.baselines import nearest_stroke_flow
from mcdiff_pipeline.dataset.sampling import keypoint_strokes, rasterize_points
from mcdiff_pipeline.flow import resize_flow
from mcdiff_pipeline.flow_completion_unet import FlowCompletionUNet
from mcdiff_pipeline.flow_visualization import flow_to_image
from mcdiff_pipeline.pipeline_mcdiff import vae_scale_factor


CONFIGS = Path(__file__).parent / "configs/small-128"


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_clip_arguments(parser)
    parser.add_argument("--num_validation_samples", type=int, default=256)
    parser.add_argument("--num_validation_strokes", type=int, default=5, help="Keypoint strokes in validation.")
    parser.add_argument(
        "--model_config",
        default=None,
        help=f"Layout of the model; {CONFIGS.name}/flow_completion.json, or that of the pretrained model, if absent.",
    )
    parser.add_argument(
        "--pretrained_model_name_or_path",
        default=None,
        help="Start from this model folder. With --model_config its weights go into a larger model that answers as "
        "it does at first.",
    )
    add_flow_loss_arguments(parser)
    add_stroke_arguments(parser)
    add_training_arguments(parser)
    add_hub_arguments(parser)
    args = parser.parse_args(arguments)
    check_training_arguments(args)
    return args


def enlarge(model: FlowCompletionUNet, pretrained: FlowCompletionUNet) -> None:
    """Puts the weights of a model into one with more parts, which then answers as the smaller one does.

    New attention adds nothing at first, and a foreground and a background that are new both move like the one flow.

    Raises:
        ValueError: if the larger model lacks or resizes a part of the smaller one, but for the last layer.
    """
    weights, given = model.state_dict(), pretrained.state_dict()
    is_new_output = model.config.separate_foreground and not pretrained.config.separate_foreground
    for name, tensor in given.items():
        if is_new_output and name.startswith("conv_out."):
            tensor = torch.cat([tensor, tensor, torch.zeros_like(tensor[:1])])
        if name not in weights or weights[name].shape != tensor.shape:
            raise ValueError(
                f"{name} of the pretrained model does not fit the model of --model_config: only attention and a "
                "separate foreground can be added; leave one of the two arguments out."
            )
        weights[name] = tensor
    for name, tensor in weights.items():
        if name not in given and ".to_out." in name:
            weights[name] = torch.zeros_like(tensor)
    model.load_state_dict(weights)


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    accelerator = make_accelerator(args)
    repository = open_repository(args) if accelerator.is_main_process else None
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)

    vae, clips, validation = open_training_clips(args, accelerator)

    torch.manual_seed(args.seed)
    pretrained = None
    if args.pretrained_model_name_or_path:
        pretrained = FlowCompletionUNet.from_pretrained(args.pretrained_model_name_or_path)
    if pretrained is not None and args.model_config is None:
        model = pretrained
    else:
        config = FlowCompletionUNet.load_config(args.model_config or str(CONFIGS / "flow_completion.json"))
        config["in_channels"] = vae.config.latent_channels
        config["vae_scale_factor"] = vae_scale_factor(vae)
        model = FlowCompletionUNet.from_config(config)
        if pretrained is not None:
            enlarge(model, pretrained)
    cell = model.config.vae_scale_factor
    flow_scale = model.config.flow_scale
    accelerator.print(f"Flow completion with {model.num_parameters() / 1e6:.2f} M parameters.")

    def load(index, rng):
        pair = clips[index]
        sparse_flow, mask = draw_sparse_flow(pair, args, rng)
        return {
            "latent": pair["latent"],
            "flow": pair["flow"],
            "foreground": (pair["mask"] > 0)[None],
            "sparse_flow": sparse_flow,
            "mask": mask,
        }

    def compute_loss(model, batch):
        _, loss, values = complete_and_compare(model, batch, args, cell, flow_scale)
        return loss, values

    # Fixed samples with keypoint strokes; clips without a visible keypoint have no such strokes and are left out.
    chosen = []
    if validation is not None:
        for index in np.random.default_rng(1).permutation(len(validation)):
            pair = validation[int(index)]
            points, displacements = keypoint_strokes(
                pair["flow"], pair["keypoints"], args.num_validation_strokes, np.random.default_rng([2, int(index)])
            )
            if len(points) and (pair["mask"] > 0).any():
                size = pair["latent"].shape[1:]
                sparse_flow, mask = rasterize_points(points, displacements, size, pair["flow"].shape[1:])
                body = torch.from_numpy(pair["mask"] > 0)[None, None].float()
                chosen.append(
                    {
                        "latent": torch.from_numpy(pair["latent"]),
                        "flow": resize_flow(torch.from_numpy(pair["flow"])[None], size)[0] * cell,
                        "body": F.interpolate(body, size, mode="area")[0] > 0.5,
                        "sparse_flow": sparse_flow * cell,
                        "mask": mask,
                        "nearest": torch.from_numpy(nearest_stroke_flow(points, displacements, size, cell)) * cell,
                        "index": int(index),
                    }
                )
            if len(chosen) == args.num_validation_samples:
                break

    def validate(model, step):
        predictions = []
        for start in range(0, len(chosen), 32):
            batch = torch.utils.data.default_collate(chosen[start : start + 32])
            inputs = [batch[name].to(accelerator.device) for name in ("latent", "sparse_flow", "mask")]
            with accelerator.autocast():
                predictions.append(model(*inputs, return_dict=False)[0].float().cpu())
        predictions = torch.cat(predictions)
        samples = torch.utils.data.default_collate(chosen)
        values = {}
        for place, where in (("body", samples["body"][:, 0]), ("off_body", ~samples["body"][:, 0])):
            flows = {"model": predictions, "zero": 0, "nearest": samples["nearest"]}
            for name, flow in flows.items():
                values[f"epe_{place}_{name}"] = float((flow - samples["flow"]).norm(dim=1)[where].mean())
            for name in ("zero", "nearest"):
                rival = max(values[f"epe_{place}_{name}"], 1e-6)
                values[f"epe_{place}_over_{name}"] = values[f"epe_{place}_model"] / rival

        # One row a sample: the frame, its strokes, the true flow, the predicted flow.
        rows = []
        for number in range(min(6, len(chosen))):
            height, width = (size * cell for size in predictions.shape[2:])
            flows = torch.stack([samples["sparse_flow"][number], samples["flow"][number], predictions[number]])
            colors = flow_to_image(flows, max_magnitude=float(samples["flow"][number].norm(dim=0).max().clamp_min(1)))
            colors = F.interpolate(colors, (height, width), mode="nearest").permute(0, 2, 3, 1).numpy()
            rows.append(np.concatenate([validation.frames(chosen[number]["index"])[0], *colors], axis=1))
        show(accelerator, args, "validation", step, np.concatenate(rows))
        return values

    status = train(
        accelerator=accelerator,
        args=args,
        name="flow_completion",
        model=model,
        draws=SeededDraws(len(clips), load, args.seed, clips.describe),
        compute_loss=compute_loss,
        validate=validate if chosen else None,
    )
    if accelerator.is_main_process:
        atomic_folder(Path(args.output_dir, "flow_completion"), model.save_pretrained)
    if repository is not None and status == 0:
        push_component(args.output_dir, ["flow_completion"], repository, title="Flow completion (F)")
    return status


if __name__ == "__main__":
    sys.exit(main())
