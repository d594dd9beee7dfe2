"""Trains the autoencoder (diffusers' `AutoencoderDC` or `AutoencoderKL`) on photographs and clips.

    python train_autoencoder.py --photographs_dir photographs --train_data_dir clips --output_dir runs/autoencoder \\
        --max_train_minutes 30 --mixed_precision bf16 --use_ema

The trained model is the folder `output_dir/vae`.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC, AutoencoderKL
from loop.latent_cache import vae_class
from loop.publishing import add_hub_arguments, open_repository, push_component
from loop.trainer import SeededDraws, add_training_arguments, check_training_arguments, make_accelerator, train
from loop.validation_media import show
from PIL import Image

from mcdiff_pipeline.atomic_files import atomic_folder
from mcdiff_pipeline.dataset import ClipDataset
from mcdiff_pipeline.pipeline_mcdiff import retrieve_latents, vae_scale_factor


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs_dir", nargs="*", default=[], help="Folders of pictures, read recursively.")
    parser.add_argument("--train_data_dir", nargs="*", default=[], help="Folders of clip shards (split train).")
    parser.add_argument("--clip_fraction", type=float, default=0.5, help="Part of the patches that come from clips.")
    parser.add_argument("--max_clips", type=int, default=2000, help="Clips kept in memory, from each folder.")
    parser.add_argument("--validation_photographs_dir", nargs="*", default=[])
    parser.add_argument("--validation_data_dir", nargs="*", default=[], help="Folders of clip shards.")
    parser.add_argument("--validation_split", default="validation")
    parser.add_argument("--num_validation_pictures", type=int, default=48, help="Of photographs and clips each.")
    parser.add_argument("--model_config", default=str(Path(__file__).parent / "configs/small-128/vae.json"))
    parser.add_argument("--pretrained_model_name_or_path", default=None, help="Start from this vae folder instead.")
    parser.add_argument(
        "--freeze_encoder",
        action="store_true",
        help="Train the decoder alone: the latents, and what was trained on them, stay valid.",
    )
    parser.add_argument("--latent_channels", type=int, default=None, help="Overrides the model config.")
    parser.add_argument("--resolution", type=int, default=128, help="Validation pictures are resized to this size.")
    parser.add_argument("--patch_size", type=int, default=64, help="Side of a training patch in pixels.")
    parser.add_argument("--kl_weight", type=float, default=1e-6, help="For `AutoencoderKL`.")
    parser.add_argument(
        "--latent_noise",
        type=float,
        default=0.05,
        help="For `AutoencoderDC`, which has no posterior: standard deviation of noise on the latent, which a penalty "
        "keeps near unit variance. The decoder then forgives what the diffusion model gets slightly wrong.",
    )
    parser.add_argument("--gradient_weight", type=float, default=0.5, help="Weight of the difference of gradients.")
    parser.add_argument(
        "--shift_equivariance",
        type=float,
        default=0.25,
        help="Probability of decoding the latent moved by a part of a cell, against the picture moved as far: what "
        "the pipeline does when it carries a latent along the flow.",
    )
    add_training_arguments(parser)
    add_hub_arguments(parser)
    args = parser.parse_args(arguments)
    check_training_arguments(args)
    if not args.photographs_dir and not args.train_data_dir:
        raise ValueError("There is nothing to train on: give --photographs_dir, --train_data_dir or both.")
    if args.freeze_encoder and not args.pretrained_model_name_or_path:
        raise ValueError("--freeze_encoder keeps a trained encoder: name it with --pretrained_model_name_or_path.")
    return args


def read_photographs(folders: list[str], largest_short_side: int = 768) -> list[np.ndarray]:
    """All JPEG and PNG files under the folders as uint8 [H, W, 3], shrunk where the short side is larger."""
    pictures = []
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
                continue
            with Image.open(path) as picture:
                if min(picture.size) < 96:
                    continue
                picture.draft("RGB", (2 * largest_short_side, 2 * largest_short_side))
                picture = picture.convert("RGB")
                shrink = largest_short_side / min(picture.size)
                if shrink < 1:
                    size = [round(side * shrink) for side in picture.size]
                    picture = picture.resize(size, Image.Resampling.LANCZOS)
                pictures.append(np.asarray(picture))
    return pictures


def read_clip_frames(folders: list[str], split: str, frames_per_clip: int, max_clips: int) -> list[np.ndarray]:
    """Frames spread over each clip as uint8 [H, W, 3]; neighbors are too alike to be worth their memory."""
    pictures = []
    for folder in folders:
        dataset = ClipDataset(folder, split)
        for index in np.linspace(0, len(dataset) - 1, min(max_clips, len(dataset))).round().astype(int):
            num_frames = dataset.num_frames(index)
            for t in np.linspace(0, num_frames - 1, min(frames_per_clip, num_frames)).round().astype(int):
                pictures.append(dataset.read(index, (t,)).frames[0])
    return pictures


def random_patch(picture: np.ndarray, size: int, rng: np.random.Generator) -> torch.Tensor:
    """A patch [3, size, size] in [-1, 1] of the picture, seen as if its short side had 96 to 512 pixels.

    So the patches hold detail as dense as in a whole photograph shrunk to the working resolution as well as the
    smoother detail of a close view.
    """
    height, width = picture.shape[:2]
    short_side = min(height, width)
    seen = np.exp(rng.uniform(np.log(max(96, size)), np.log(512)))
    seen = float(np.clip(seen, size, max(short_side, size)))
    side = min(short_side, size * short_side / seen)
    left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
    box = (left, top, left + side, top + side)
    if short_side <= seen * 1.01:  # seen as it is: copy pixels, do not resample
        left, top = int(left), int(top)
        patch = picture[top : top + size, left : left + size]
    else:
        patch = Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
        patch = np.asarray(patch)
    patch = np.rot90(patch, int(rng.integers(4)))
    if rng.random() < 0.5:
        patch = patch[:, ::-1]
    if rng.random() < 0.25:
        patch = patch[:, :, rng.permutation(3)]
    patch = torch.from_numpy(np.array(patch)).permute(2, 0, 1).float().div(127.5).sub(1)
    contrast, brightness = rng.uniform(0.7, 1.2), rng.uniform(-0.15, 0.15)
    return (patch * contrast + brightness).clamp(-1, 1)


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor, gradient_weight: float) -> torch.Tensor:
    """L1 and L2 of the error plus L1 of its slopes along x and y at three scales, so that edges stay sharp."""
    error = output.float() - target
    loss = error.abs().mean() + 2 * error.square().mean()
    for _ in range(3):
        loss = loss + gradient_weight * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean())
        error = F.avg_pool2d(error, 2)
    return loss


def shift_latent_and_picture(
    latent: torch.Tensor, picture: torch.Tensor, shift: tuple[int, int], scale_factor: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both moved right and down by `shift` = (x, y) pixels, 0 to `scale_factor`, cut to the cells that stay known.

    The latent `[B, C, h, w]` is interpolated between cells and loses one row and one column, the picture
    `[B, 3, H, W]` is cut at whole pixels.
    """
    h, w = latent.shape[-2:]
    x, y = shift
    latent = torch.lerp(latent[..., 1:, :], latent[..., :-1, :], y / scale_factor)
    latent = torch.lerp(latent[..., 1:], latent[..., :-1], x / scale_factor)
    top, left = scale_factor - y, scale_factor - x
    height, width = (h - 1) * scale_factor, (w - 1) * scale_factor
    return latent, picture[..., top : top + height, left : left + width]


def psnr(output: torch.Tensor, target: torch.Tensor) -> float:
    """Mean over the pictures of their PSNR in dB; both `[N, 3, H, W]` in [-1, 1]."""
    error = (output.clamp(-1, 1) - target).div(2).square().mean(dim=(1, 2, 3))
    return float((-10 * error.clamp_min(1e-10).log10()).mean())


def reconstruct(
    vae: AutoencoderDC | AutoencoderKL, pictures: torch.Tensor, batch_size: int = 16
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents (unscaled; the posterior's mean where there is one) and decoded pictures."""
    latents = [retrieve_latents(vae.encode(batch)) for batch in pictures.split(batch_size)]
    return torch.cat(latents), torch.cat([vae.decode(latent).sample.float() for latent in latents])


class AutoencoderLoss(torch.nn.Module):
    """The autoencoder with its loss: encoding and decoding in one forward, after which processes share gradients."""

    def __init__(self, vae: AutoencoderDC | AutoencoderKL, args: argparse.Namespace):
        super().__init__()
        self.vae, self.args = vae, args

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss and its two terms for pictures `[B, 3, H, W]` in [-1, 1]."""
        picture = picture.contiguous(memory_format=torch.channels_last)
        encoded = self.vae.encode(picture)
        if hasattr(encoded, "latent_dist"):
            latent = encoded.latent_dist.sample()
            regularization = self.args.kl_weight * encoded.latent_dist.kl().float().mean()
        else:
            latent = encoded.latent + self.args.latent_noise * torch.randn_like(encoded.latent)
            # nothing else keeps the latent from growing until the noise no longer matters
            regularization = 1e-2 * (encoded.latent.float().square().mean() - 1).relu()
        if torch.rand(()) < self.args.shift_equivariance:
            scale_factor = vae_scale_factor(self.vae)
            shift = tuple(torch.randint(0, scale_factor + 1, (2,)).tolist())
            latent, picture = shift_latent_and_picture(latent, picture, shift, scale_factor)
        reconstruction = reconstruction_loss(self.vae.decode(latent).sample, picture, self.args.gradient_weight)
        return reconstruction + regularization, {"reconstruction": reconstruction, "regularization": regularization}


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    accelerator = make_accelerator(args)
    repository = open_repository(args) if accelerator.is_main_process else None
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)

    photographs = read_photographs(args.photographs_dir)
    clip_frames = read_clip_frames(args.train_data_dir, "train", 2, args.max_clips)
    accelerator.print(f"{len(photographs)} photographs and {len(clip_frames)} frames of clips to train on.")

    def load(index, rng):
        from_clips = clip_frames and (not photographs or rng.random() < args.clip_fraction)
        pictures = clip_frames if from_clips else photographs
        return {"picture": random_patch(pictures[int(rng.integers(len(pictures)))], args.patch_size, rng)}

    validation = {}
    for name, pictures in (
        ("photographs", read_photographs(args.validation_photographs_dir)),
        ("clips", read_clip_frames(args.validation_data_dir, args.validation_split, 1, args.num_validation_pictures)),
    ):
        chosen = []
        for index in np.linspace(0, len(pictures) - 1, min(args.num_validation_pictures, len(pictures))):
            picture = Image.fromarray(pictures[int(round(index))])
            side = min(picture.size)
            left, top = (picture.width - side) // 2, (picture.height - side) // 2
            picture = picture.crop((left, top, left + side, top + side))
            picture = picture.resize((args.resolution, args.resolution), Image.Resampling.LANCZOS)
            chosen.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1).float().div(127.5).sub(1))
        if chosen:
            validation[name] = torch.stack(chosen).to(accelerator.device)

    torch.manual_seed(args.seed)
    if args.pretrained_model_name_or_path:
        folder = args.pretrained_model_name_or_path
        vae = vae_class(folder).from_pretrained(folder)
    else:
        config = AutoencoderKL.load_config(args.model_config)
        if args.latent_channels is not None:
            config["latent_channels"] = args.latent_channels
        vae = vae_class(args.model_config).from_config(config)
    if args.freeze_encoder:
        vae.encoder.requires_grad_(False)
        if hasattr(vae, "quant_conv"):
            vae.quant_conv.requires_grad_(False)
    scale_factor = vae_scale_factor(vae)
    accelerator.print(f"{type(vae).__name__} with {vae.num_parameters() / 1e6:.2f} M parameters.")

    def validate(model, step):
        values = {}
        for name, pictures in validation.items():
            with accelerator.autocast():
                latents, output = reconstruct(model.vae, pictures)
                values[f"psnr_{name}"] = psnr(output, pictures)
                moved, target = shift_latent_and_picture(latents, pictures, (scale_factor // 2, 1), scale_factor)
                output_moved = torch.cat([model.vae.decode(part).sample.float() for part in moved.split(16)])
            values[f"psnr_{name}_shifted"] = psnr(output_moved, target)
            rows = torch.cat([pictures[:8], output[:8].clamp(-1, 1)]).add(1).mul(127.5).round().byte().cpu()
            sheet = rows.unflatten(0, (2, -1)).permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
            show(accelerator, args, f"validation_{name}", step, sheet.numpy())
        return values

    draws = SeededDraws(max(1, len(photographs) + len(clip_frames)), load, args.seed)
    status = train(
        accelerator=accelerator,
        args=args,
        name="vae",
        model=AutoencoderLoss(vae, args),
        draws=draws,
        compute_loss=lambda model, batch: model(batch["picture"]),
        validate=validate if validation else None,
        parts={"vae": vae},
    )

    if accelerator.is_main_process and not args.freeze_encoder:
        # The diffusion model wants latents of unit variance: scaling_factor = 1 / std over training pictures.
        rng = np.random.default_rng(args.seed)
        sample = torch.stack([load(0, rng)["picture"] for _ in range(256)]).to(accelerator.device)
        with torch.no_grad():
            latents, _ = reconstruct(vae.eval(), sample)
        vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 5))
        accelerator.print(f"Standard deviation of the latent channels: {latents.std((0, 2, 3)).tolist()}.")
    if accelerator.is_main_process:
        atomic_folder(Path(args.output_dir, "vae"), vae.save_pretrained)
    if repository is not None and status == 0:
        push_component(args.output_dir, ["vae"], repository, title="Autoencoder")
    return status


if __name__ == "__main__":
    sys.exit(main())
