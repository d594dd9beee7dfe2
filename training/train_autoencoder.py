"""Trains the autoencoder (diffusers' `AutoencoderDC` or `AutoencoderKL`) on photographs and clips.

    python train_autoencoder.py --photographs_dir photographs --train_data_dir clips --output_dir runs/autoencoder \\
        --max_train_minutes 30 --mixed_precision bf16 --use_ema

The trained model is the folder `output_dir/vae`.

A lighter autoencoder for the latents of a trained one, so that models on these latents stay valid:

    python train_autoencoder.py --teacher runs/autoencoder/vae --model_config configs/small-128/vae_light.json ...
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import AutoencoderDC, AutoencoderKL
from PIL import Image

from loop.accelerator import make_accelerator
from loop.arguments import add_training_arguments, check_training_arguments
from loop.autoencoder import load_vae, vae_class
from loop.draws import SeededDraws
from loop.image_quality import psnr
from loop.publishing import add_hub_arguments, open_repository, push_component
from loop.trainer import Trainer
from loop.validation_media import show
from mcdiff_pipeline.atomic_files import atomic_folder
from mcdiff_pipeline.dataset import ClipDataset
from mcdiff_pipeline.drawing import titled_columns
from mcdiff_pipeline.latent_codec import latent_scaling, retrieve_latents, vae_scale_factor


# Photographs are shrunk to this short side in memory; smaller ones than the least are left out.
LARGEST_SHORT_SIDE, LEAST_SHORT_SIDE = 768, 96
# Patches from which the standard deviation of the latents is estimated.
NUM_SCALING_PATCHES = 256


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs_dir", nargs="*", default=[], help="Folders of images, read recursively.")
    parser.add_argument("--train_data_dir", nargs="*", default=[], help="Folders of clip shards (split train).")
    parser.add_argument("--clip_fraction", type=float, default=0.5, help="Share of the patches that come from clips.")
    parser.add_argument("--max_clips", type=int, default=2000, help="Clips to keep in memory, from each folder.")
    parser.add_argument("--validation_photographs_dir", nargs="*", default=[])
    parser.add_argument("--validation_data_dir", nargs="*", default=[], help="Folders of clip shards.")
    parser.add_argument("--validation_split", default="validation")
    parser.add_argument(
        "--num_validation_pictures", type=int, default=48, help="Validation images, of photographs and of clips each."
    )
    parser.add_argument("--model_config", default=str(Path(__file__).parent / "configs/small-128/vae.json"))
    parser.add_argument("--pretrained_model_name_or_path", default=None, help="Start from this vae folder instead.")
    parser.add_argument(
        "--freeze_encoder",
        action="store_true",
        help="Train only the decoder. Latents, and models that were trained on them, stay valid.",
    )
    parser.add_argument(
        "--teacher",
        default=None,
        help="Folder of a trained autoencoder. The new encoder learns to give its latents, and the new decoder to "
        "decode them. Models that were trained on these latents stay valid.",
    )
    parser.add_argument("--latent_channels", type=int, default=None, help="Overrides the model config.")
    parser.add_argument("--resolution", type=int, default=128, help="Validation images are resized to this size.")
    parser.add_argument("--patch_size", type=int, default=64, help="Side of a training patch in pixels.")
    parser.add_argument("--kl_weight", type=float, default=1e-6, help="For `AutoencoderKL`.")
    parser.add_argument(
        "--latent_noise",
        type=float,
        default=0.05,
        help="For `AutoencoderDC`, which has no posterior: standard deviation of noise on the latent. A penalty keeps "
        "the latent near unit variance. The noise makes the decoder robust against small errors of the diffusion "
        "model.",
    )
    parser.add_argument(
        "--gradient_weight", type=float, default=0.5, help="Weight of the difference of image gradients."
    )
    parser.add_argument(
        "--shift_equivariance",
        type=float,
        default=0.25,
        help="Probability of decoding the latent after a shift by a fraction of a cell. The target is the image after "
        "the same shift. The pipeline moves latents in the same way when it splats them.",
    )
    add_training_arguments(parser)
    add_hub_arguments(parser)
    args = parser.parse_args(arguments)
    check_training_arguments(args)
    if not args.photographs_dir and not args.train_data_dir:
        raise ValueError("There is nothing to train on: give --photographs_dir, --train_data_dir or both.")
    if args.freeze_encoder and not args.pretrained_model_name_or_path:
        raise ValueError("--freeze_encoder keeps a trained encoder: name it with --pretrained_model_name_or_path.")
    if args.freeze_encoder and args.teacher:
        raise ValueError("--teacher trains the encoder, which --freeze_encoder does not allow: leave one of them out.")
    return args


def read_photographs(folders: list[str]) -> list[np.ndarray]:
    """All JPEG and PNG files under the folders as uint8 `[H, W, 3]`, shrunk to a short side of at most 768 pixels."""
    images = []
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
                continue
            with Image.open(path) as image:
                if min(image.size) < LEAST_SHORT_SIDE:
                    continue
                image.draft("RGB", (2 * LARGEST_SHORT_SIDE, 2 * LARGEST_SHORT_SIDE))
                image = image.convert("RGB")
                shrink = LARGEST_SHORT_SIDE / min(image.size)
                if shrink < 1:
                    size = [round(side * shrink) for side in image.size]
                    image = image.resize(size, Image.Resampling.LANCZOS)
                images.append(np.asarray(image))
    return images


def read_clip_frames(folders: list[str], split: str, frames_per_clip: int, max_clips: int) -> list[np.ndarray]:
    """Frames at equal distances in each clip, uint8 `[H, W, 3]`. Neighboring frames would be too similar.

    Damaged clips are named on stderr, and left out from their damaged frame on.
    """
    images = []
    for folder in folders:
        dataset = ClipDataset(folder, split)
        for index in np.linspace(0, len(dataset) - 1, min(max_clips, len(dataset))).round().astype(int):
            num_frames = dataset.num_frames(index)
            for t in np.linspace(0, num_frames - 1, min(frames_per_clip, num_frames)).round().astype(int):
                try:
                    images.append(dataset.read(index, (t,)).frames[0])
                except ValueError as error:
                    print(f"Skipped: {error}", file=sys.stderr)
                    break
    return images


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """A uint8 image `[H, W, 3]` as float32 `[3, H, W]` in [-1, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(127.5).sub(1)


def random_patch(image: np.ndarray, size: int, rng: np.random.Generator) -> torch.Tensor:
    """A random patch of a uint8 image, float32 `[3, size, size]` in [-1, 1].

    The patch is cut as if the short side of the image had 96 to 512 pixels. So patches are as detailed as a whole
    photograph at the working resolution, or as smooth as a close view.
    """
    height, width = image.shape[:2]
    short_side = min(height, width)
    scaled_side = np.exp(rng.uniform(np.log(max(96, size)), np.log(512)))
    scaled_side = float(np.clip(scaled_side, size, max(short_side, size)))
    side = min(short_side, size * short_side / scaled_side)
    left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
    box = (left, top, left + side, top + side)
    if short_side <= scaled_side * 1.01:  # the original scale: copy the pixels
        left, top = int(left), int(top)
        patch = image[top : top + size, left : left + size]
    else:
        patch = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
        patch = np.asarray(patch)
    patch = np.rot90(patch, int(rng.integers(4)))
    if rng.random() < 0.5:
        patch = patch[:, ::-1]
    if rng.random() < 0.25:
        patch = patch[:, :, rng.permutation(3)]
    contrast, brightness = rng.uniform(0.7, 1.2), rng.uniform(-0.15, 0.15)
    return (to_tensor(patch) * contrast + brightness).clamp(-1, 1)


def center_square(image: np.ndarray, size: int) -> torch.Tensor:
    """The largest centered square of a uint8 image, resized to float32 `[3, size, size]` in [-1, 1]."""
    image = Image.fromarray(image)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    return to_tensor(image.resize((size, size), Image.Resampling.LANCZOS))


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor, gradient_weight: float) -> torch.Tensor:
    """L1 and L2 of the error, and L1 of its gradients along x and y at three scales, which keeps edges sharp."""
    error = output.float() - target
    loss = error.abs().mean() + 2 * error.square().mean()
    for _ in range(3):
        loss = loss + gradient_weight * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean())
        error = F.avg_pool2d(error, 2)
    return loss


def shift_latent_and_image(
    latent: torch.Tensor, image: torch.Tensor, shift: tuple[int, int], scale_factor: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Moves a latent and its image to the right and down, and crops both to the cells that stay known.

    Args:
        latent (`torch.Tensor`): `[B, C, h, w]`. It is interpolated between cells and loses one row and one column.
        image (`torch.Tensor`): `[B, 3, H, W]`. It is cropped at whole pixels.
        shift (`tuple[int, int]`): (x, y) in pixels, each from 0 to `scale_factor`.
        scale_factor (`int`): pixels along one side of a latent cell.
    """
    h, w = latent.shape[-2:]
    x, y = shift
    latent = torch.lerp(latent[..., 1:, :], latent[..., :-1, :], y / scale_factor)
    latent = torch.lerp(latent[..., 1:], latent[..., :-1], x / scale_factor)
    top, left = scale_factor - y, scale_factor - x
    height, width = (h - 1) * scale_factor, (w - 1) * scale_factor
    return latent, image[..., top : top + height, left : left + width]


def reconstruct(
    vae: AutoencoderDC | AutoencoderKL, images: torch.Tensor, batch_size: int = 16
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unscaled latents (the mean of the posterior, if there is one) and decoded images."""
    latents = [retrieve_latents(vae.encode(batch)) for batch in images.split(batch_size)]
    return torch.cat(latents), torch.cat([vae.decode(latent).sample.float() for latent in latents])


def make_vae(args: argparse.Namespace) -> AutoencoderDC | AutoencoderKL:
    """The autoencoder to train: pretrained, or with random weights."""
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
    return vae


def load_teacher(
    folder: str, vae: AutoencoderDC | AutoencoderKL, device: torch.device
) -> AutoencoderDC | AutoencoderKL:
    """The teacher of `vae`, which takes over the scaling of its latents.

    Raises:
        ValueError: if the two have latents of different shapes, or the scaling has a shift that `vae` cannot have.
    """
    teacher = load_vae(folder, device)
    shapes = [(one.config.latent_channels, vae_scale_factor(one)) for one in (vae, teacher)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"The new autoencoder has latents of {shapes[0][0]} channels and cells of {shapes[0][1]} pixels, but the "
            f"teacher {folder} has {shapes[1][0]} and {shapes[1][1]}: give a --model_config with these."
        )
    factor, shift = latent_scaling(teacher)
    vae.register_to_config(scaling_factor=factor)
    if shift != latent_scaling(vae)[1]:
        if "shift_factor" not in vae.config:
            raise ValueError(
                f"The latents of the teacher {folder} are shifted by {shift}, which an {type(vae).__name__} cannot "
                "do: give a --model_config of an AutoencoderKL."
            )
        vae.register_to_config(shift_factor=shift)
    return teacher


class AutoencoderLoss(torch.nn.Module):
    """The autoencoder with its loss. Encoding and decoding are one forward pass, as DDP needs it."""

    def __init__(self, vae: AutoencoderDC | AutoencoderKL, args: argparse.Namespace):
        super().__init__()
        self.vae, self.args = vae, args

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss and its two terms, for images `[B, 3, H, W]` in [-1, 1]."""
        image = image.contiguous(memory_format=torch.channels_last)
        encoded = self.vae.encode(image)
        if hasattr(encoded, "latent_dist"):
            latent = encoded.latent_dist.sample()
            regularization = self.args.kl_weight * encoded.latent_dist.kl().float().mean()
        else:
            latent = encoded.latent + self.args.latent_noise * torch.randn_like(encoded.latent)
            # Without this, the latent would grow until the noise has no effect.
            regularization = 1e-2 * (encoded.latent.float().square().mean() - 1).relu()
        reconstruction = decoding_loss(self.vae, latent, image, self.args)
        return reconstruction + regularization, {"reconstruction": reconstruction, "regularization": regularization}


class DistillationLoss(torch.nn.Module):
    """A new autoencoder with the loss that gives it the latents of a trained one, the teacher.

    The teacher is frozen and not part of the trained module.
    """

    def __init__(self, vae: AutoencoderDC | AutoencoderKL, teacher: AutoencoderDC | AutoencoderKL, args):
        super().__init__()
        self.vae, self.args = vae, args
        self._teacher = [teacher]  # in a list, so that its weights are not among those of this module

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss and its two terms, for images `[B, 3, H, W]` in [-1, 1]."""
        image = image.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            latent = retrieve_latents(self._teacher[0].encode(image)).float()
        error = retrieve_latents(self.vae.encode(image)).float() - latent
        encoding = error.square().mean() + error.abs().mean()
        latent = latent + self.args.latent_noise * torch.randn_like(latent)
        reconstruction = decoding_loss(self.vae, latent, image, self.args)
        return reconstruction + encoding, {"reconstruction": reconstruction, "encoding": encoding}


def decoding_loss(
    vae: AutoencoderDC | AutoencoderKL, latent: torch.Tensor, image: torch.Tensor, args: argparse.Namespace
) -> torch.Tensor:
    """The `reconstruction_loss` of what latents decode to, some of them after a shift."""
    if torch.rand(()) < args.shift_equivariance:
        scale_factor = vae_scale_factor(vae)
        shift = tuple(torch.randint(0, scale_factor + 1, (2,)).tolist())
        latent, image = shift_latent_and_image(latent, image, shift, scale_factor)
    return reconstruction_loss(vae.decode(latent).sample, image, args.gradient_weight)


class AutoencoderTraining:
    """The autoencoder with its training images, loss and validation.

    A sample is `{"picture": float32 [3, S, S] in [-1, 1]}`.
    """

    def __init__(self, args: argparse.Namespace, accelerator: Accelerator):
        self.args, self.accelerator = args, accelerator
        self.photographs = read_photographs(args.photographs_dir)
        self.clip_frames = read_clip_frames(args.train_data_dir, "train", 2, args.max_clips)
        accelerator.print(
            f"{len(self.photographs)} photographs and {len(self.clip_frames)} frames of clips to train on."
        )
        self.validation_images = self.load_validation_images()
        self.vae = make_vae(args)
        accelerator.print(f"{type(self.vae).__name__} with {self.vae.num_parameters() / 1e6:.2f} M parameters.")
        self.teacher = None if args.teacher is None else load_teacher(args.teacher, self.vae, accelerator.device)
        if self.teacher is None:
            self.model = AutoencoderLoss(self.vae, args)
        else:
            self.model = DistillationLoss(self.vae, self.teacher, args)
        num_images = len(self.photographs) + len(self.clip_frames)
        self.draws = SeededDraws(max(1, num_images), self.load_sample, args.seed)

    def load_sample(self, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """A patch of a random image. The index is ignored."""
        from_clips = self.clip_frames and (not self.photographs or rng.random() < self.args.clip_fraction)
        images = self.clip_frames if from_clips else self.photographs
        return {"picture": random_patch(images[int(rng.integers(len(images)))], self.args.patch_size, rng)}

    def load_validation_images(self) -> dict[str, torch.Tensor]:
        """`photographs` and `clips`, as far as there are any: `[N, 3, resolution, resolution]` in [-1, 1]."""
        args = self.args
        sources = {
            "photographs": read_photographs(args.validation_photographs_dir),
            "clips": read_clip_frames(
                args.validation_data_dir, args.validation_split, 1, args.num_validation_pictures
            ),
        }
        validation = {}
        for name, images in sources.items():
            if images:
                indices = np.linspace(0, len(images) - 1, min(args.num_validation_pictures, len(images)))
                chosen = [center_square(images[int(round(index))], args.resolution) for index in indices]
                validation[name] = torch.stack(chosen).to(self.accelerator.device)
        return validation

    def compute_loss(
        self, model: torch.nn.Module, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return model(batch["picture"])

    def validate(self, model: AutoencoderLoss | DistillationLoss, step: int) -> dict[str, float]:
        """PSNR of reconstructions, and of reconstructions from latents that were shifted by half a cell.

        With a teacher, also of what the new decoder makes of the teacher's latents, and the teacher's decoder of the
        new latents.
        """
        values = {}
        scale_factor = vae_scale_factor(model.vae)
        for name, images in self.validation_images.items():
            with self.accelerator.autocast():
                latents, output = reconstruct(model.vae, images)
                values[f"psnr_{name}"] = psnr(output, images)
                moved, target = shift_latent_and_image(latents, images, (scale_factor // 2, 1), scale_factor)
                output_moved = torch.cat([model.vae.decode(part).sample.float() for part in moved.split(16)])
            values[f"psnr_{name}_shifted"] = psnr(output_moved, target)
            if self.teacher is not None:
                values |= self.compare_with_teacher(model.vae, name, latents)
            # One row for each image.
            columns = torch.stack([images[:8], output[:8].clamp(-1, 1)]).add(1).mul(127.5).round().byte().cpu()
            sheet = columns.permute(1, 3, 0, 4, 2).flatten(0, 1).flatten(1, 2).numpy()
            sheet = titled_columns(sheet, ("image", "reconstruction"))
            show(self.accelerator, self.args, f"validation_{name}", step, sheet)
        return values

    def compare_with_teacher(
        self, vae: AutoencoderDC | AutoencoderKL, name: str, latents: torch.Tensor
    ) -> dict[str, float]:
        """PSNR of the validation images `name`, with one part of the autoencoder and one of the teacher.

        `latents` are those of `vae`, `[N, C, h, w]`.
        """
        images = self.validation_images[name]
        with self.accelerator.autocast():
            of_teacher, reconstructed = reconstruct(self.teacher, images)
            decoded = torch.cat([vae.decode(part).sample.float() for part in of_teacher.split(16)])
            encoded = torch.cat([self.teacher.decode(part).sample.float() for part in latents.split(16)])
        return {
            f"psnr_{name}_teacher": psnr(reconstructed, images),
            f"psnr_{name}_decoder": psnr(decoded, images),
            f"psnr_{name}_encoder": psnr(encoded, images),
        }

    def scale_latents(self) -> None:
        """Sets `scaling_factor` to 1 / std over training patches: diffusion needs latents of unit variance."""
        rng = np.random.default_rng(self.args.seed)
        patches = [self.load_sample(0, rng)["picture"] for _ in range(NUM_SCALING_PATCHES)]
        with torch.no_grad():
            latents, _ = reconstruct(self.vae.eval(), torch.stack(patches).to(self.accelerator.device))
        self.vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 5))
        self.accelerator.print(f"Standard deviation of the latent channels: {latents.std((0, 2, 3)).tolist()}.")


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    accelerator = make_accelerator(args)
    repository = open_repository(args) if accelerator.is_main_process else None
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)

    training = AutoencoderTraining(args, accelerator)
    status = Trainer(
        accelerator,
        args,
        name="vae",
        model=training.model,
        draws=training.draws,
        compute_loss=training.compute_loss,
        validate=training.validate if training.validation_images else None,
        parts={"vae": training.vae},
    ).train()

    if accelerator.is_main_process:
        if not args.freeze_encoder and args.teacher is None:
            training.scale_latents()
        atomic_folder(Path(args.output_dir, "vae"), training.vae.save_pretrained)
    if repository is not None and status == 0:
        push_component(args.output_dir, ["vae"], repository, title="Autoencoder")
    return status


if __name__ == "__main__":
    sys.exit(main())
