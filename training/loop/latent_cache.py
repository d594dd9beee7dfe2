"""Encodes clips once, so that training flow completion and future frames reads latents instead of pictures.

    python latent_cache.py --train_data_dir clips --pretrained_vae runs/autoencoder/vae --cache_dir cache

Each shard becomes a folder of arrays, named by what it depends on: the weights of the encoder and the shard. So a
pass that was interrupted goes on where it stopped, new shards are added to what is there, and an autoencoder never
meets the latents of another. Of several passes at a time one encodes and the others wait. The training scripts call
`open_latent_clips`, which does this pass where it is needed.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderDC, AutoencoderKL
from filelock import FileLock
from tqdm.auto import tqdm

from mcdiff_pipeline.atomic_files import atomic_folder
from mcdiff_pipeline.dataset import ClipDataset
from mcdiff_pipeline.flow import accumulate_flow
from mcdiff_pipeline.pipeline_mcdiff import encode_pictures, vae_scaling


# Part of every folder's name: another layout of the arrays gets another name.
CACHE_VERSION = 1


def vae_class(config: str) -> type[AutoencoderDC] | type[AutoencoderKL]:
    """The class of autoencoder that a config names, by the config's file or the folder of a model.

    Raises:
        ValueError: if training does not know the class.
    """
    classes = {"AutoencoderDC": AutoencoderDC, "AutoencoderKL": AutoencoderKL}
    name = AutoencoderKL.load_config(config).get("_class_name")
    if name not in classes:
        raise ValueError(f"{config} names the class {name}; give an autoencoder of class {' or '.join(classes)}.")
    return classes[name]


def load_vae(folder: str, device: torch.device | str) -> AutoencoderDC | AutoencoderKL:
    """The trained autoencoder of a folder, frozen, of the class that its config names."""
    vae = vae_class(folder).from_pretrained(folder)
    return vae.to(device, memory_format=torch.channels_last).requires_grad_(False).eval()


class LatentClips:
    """Pairs of consecutive frames with latents, from the folders that `open_latent_clips` wrote; memory-mapped.

    Item `i` is one pair (t, t + 1), a dict of arrays:
        latent, next_latent: float32 `[C, h, w]`, scaled as the pipeline scales them.
        flow: float32 `[2, H, W]`, forward flow in pixels, rounded to float16.
        mask: uint8 `[H, W]` of frame t, 0 = background, k = k-th person or object.
        keypoints: float32 `[P, K, 3]` of frame t; padded with visibility 0.
    """

    def __init__(self, parts: Sequence[tuple[Path, Path]]):
        self.shards = [shard for shard, _ in parts]
        self.parts = []
        self.datasets = {}  # of the shards that pictures were read from, by part
        self.pairs = []  # (part, clip, t)
        for number, (_, folder) in enumerate(parts):
            names = ("latents", "flow", "masks", "keypoints", "num_frames")
            self.parts.append({name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names})
            for clip, num_frames in enumerate(self.parts[-1]["num_frames"]):
                self.pairs.extend((number, clip, t) for t in range(num_frames - 1))
        self.pairs = np.array(self.pairs, dtype=np.int32).reshape(-1, 3)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        part, clip, t = self.pairs[index]
        arrays = self.parts[part]
        return {
            "latent": arrays["latents"][clip, t].astype(np.float32),
            "next_latent": arrays["latents"][clip, t + 1].astype(np.float32),
            "flow": arrays["flow"][clip, t].astype(np.float32),
            "mask": np.array(arrays["masks"][clip, t]),
            "keypoints": np.array(arrays["keypoints"][clip, t]),
        }

    def with_steps(self, number: int) -> np.ndarray:
        """Indices `i` of pairs such that the pairs `i`, ..., `i + number - 1` are steps of one clip, in their order.

        Raises:
            ValueError: if no clip is as long.
        """
        part, clip, t = self.pairs.T
        left = np.array([self.parts[p]["num_frames"][c] for p, c in zip(part, clip)]) - 1 - t
        if not (left >= number).any():
            raise ValueError(
                f"{number} steps need clips of {number + 1} frames or more, but the longest has "
                f"{left.max(initial=0) + 1}; render or annotate longer ones, or ask for fewer steps."
            )
        return np.flatnonzero(left >= number)

    def describe(self, index: int) -> str:
        """What a person finds a pair by: clip, frame and shard."""
        part, clip, t = (int(number) for number in self.pairs[index])
        return f"frame {t} of clip number {clip} in {self.shards[part]}"

    def start(self, index: int, *, picture: bool = False) -> dict[str, np.ndarray]:
        """Where the clip of a pair starts: `start_latent` of frame 0 and `start_flow` from it to frame t, as above.

        With `picture` also `start_picture`, frame 0 itself, from its shard, float32 `[3, H, W]` in [0, 1].
        """
        part, clip, t = self.pairs[index]
        arrays = self.parts[part]
        flow = torch.zeros(1, 2, *arrays["flow"].shape[-2:])
        for step in arrays["flow"][clip, :t]:
            flow = accumulate_flow(flow, torch.from_numpy(step.astype(np.float32))[None])
        start = {"start_latent": arrays["latents"][clip, 0].astype(np.float32), "start_flow": flow[0].numpy()}
        if picture:
            frame = self.read(part, clip, (0,))[0]
            start["start_picture"] = frame.transpose(2, 0, 1).astype(np.float32) / 255
        return start

    def read(self, part: int, clip: int, frames: Sequence[int]) -> np.ndarray:
        """Pictures of a clip from its shard, uint8 `[frames, H, W, 3]`."""
        if part not in self.datasets:
            self.datasets[part] = ClipDataset([self.shards[part]])
        return self.datasets[part].read(clip, tuple(frames)).frames

    def frames(self, index: int, steps: int = 1) -> np.ndarray:
        """The pictures of a pair, or of more steps, from its shard, uint8 `[steps + 1, H, W, 3]`; slow."""
        part, clip, t = (int(number) for number in self.pairs[index])
        return self.read(part, clip, range(t, t + steps + 1))


def encode_frames(vae: AutoencoderDC | AutoencoderKL, frames: np.ndarray, batch_size: int = 32) -> torch.Tensor:
    """Scaled latents `[T, C, h, w]` (posterior mean, as in the pipeline) of uint8 frames `[T, H, W, 3]`.

    On a GPU in bfloat16, whose rounding is far below what the autoencoder itself loses; on a CPU in float32, since
    many CPUs have no instructions for less and are several times slower with it.
    """
    device = next(vae.parameters()).device
    latents = []
    for batch in torch.from_numpy(frames).split(batch_size):
        pictures = batch.permute(0, 3, 1, 2).to(device).float().div(255)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu"):
            latents.append(encode_pictures(vae, pictures).float())
    return torch.cat(latents)


def write_part(folder: Path, shard: Path, vae: AutoencoderDC | AutoencoderKL) -> None:
    """Encodes one shard into the arrays that `LatentClips` reads; shorter clips are padded with zeros."""
    dataset = ClipDataset([shard])
    clips = [dataset[index] for index in range(len(dataset))]
    num_clips, num_frames = len(clips), max(len(clip.frames) for clip in clips)
    height, width = clips[0].frames.shape[1:3]
    people, points = (max(clip.keypoints.shape[axis] for clip in clips) for axis in (1, 2))
    arrays = {
        "flow": np.zeros((num_clips, num_frames - 1, 2, height, width), np.float16),
        "masks": np.zeros((num_clips, num_frames, height, width), np.uint8),
        "keypoints": np.zeros((num_clips, num_frames, people, points, 3), np.float32),
        "num_frames": np.array([len(clip.frames) for clip in clips], np.int32),
    }
    for number, clip in enumerate(clips):
        latents = encode_frames(vae, clip.frames).cpu().numpy().astype(np.float16)
        if number == 0:
            arrays["latents"] = np.zeros((num_clips, num_frames, *latents.shape[1:]), np.float16)
        arrays["latents"][number, : len(latents)] = latents
        arrays["flow"][number, : len(clip.flow)] = clip.flow
        arrays["masks"][number, : len(clip.masks)] = clip.masks
        arrays["keypoints"][number, : len(clip.frames), : clip.keypoints.shape[1], : clip.keypoints.shape[2]] = (
            clip.keypoints
        )
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def open_latent_clips(
    data_dirs: Sequence[str], split: str, vae: AutoencoderDC | AutoencoderKL, cache_dir: str, *, write: bool = True
) -> LatentClips:
    """Opens the latents of a split of the given folders of shards, after encoding the shards that are not cached yet.

    Shards that cannot be read are skipped; how many, and which, is printed.

    Args:
        write: False for processes that only wait for the main one, which has encoded what can be encoded.

    Raises:
        ValueError: if a folder holds no shard of the split, none can be read, or the frames are not of one size.
    """
    weights = hashlib.sha256(json.dumps(vae_scaling(vae)).encode())
    for name, tensor in sorted(vae.state_dict().items()):
        if not name.startswith(("encoder.", "quant_conv.")):
            continue  # a better decoder reads the same latents
        weights.update(name.encode())
        weights.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    vae_folder = Path(cache_dir, f"v{CACHE_VERSION}-{weights.hexdigest()[:16]}")

    parts = []
    for data_dir in data_dirs:
        shards = sorted(Path(data_dir).glob(f"{split}-*.tar"))
        if not shards:
            raise ValueError(f"There are no shards {split}-*.tar in {data_dir}; name a folder that has some.")
        for shard in shards:
            state = shard.stat()
            identity = f"{shard.resolve()} {state.st_size} {state.st_mtime_ns}"
            name = f"{shard.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
            parts.append((shard, vae_folder / name))
    skipped = []
    if write:
        vae_folder.mkdir(parents=True, exist_ok=True)
        with FileLock(vae_folder / ".lock"):  # F and G are trained side by side, and read the same shards
            missing = [(shard, folder) for shard, folder in parts if not folder.is_dir()]
            for shard, folder in tqdm(missing, desc=f"encoding {split} shards", disable=not missing):
                try:
                    atomic_folder(folder, lambda unfinished, shard=shard: write_part(unfinished, shard, vae))
                except ValueError as error:
                    skipped.append(str(error))
    if skipped:
        print(f"Skipped {len(skipped)} of {len(parts)} {split} shards:", *skipped, sep="\n  ", file=sys.stderr)
    parts = [(shard, folder) for shard, folder in parts if folder.is_dir()]
    if not parts:
        raise ValueError(f"None of the {split} shards in {', '.join(map(str, data_dirs))} can be read.")

    clips = LatentClips(parts)
    sizes = {part["flow"].shape[-2:] for part in clips.parts}
    if len(sizes) > 1:
        raise ValueError(f"The clips have frames of {sorted(sizes)} pixels; train on folders of one size.")
    return clips


def add_clip_arguments(parser: argparse.ArgumentParser, *, names_vae: bool = True) -> None:
    """Adds the arguments that `open_training_clips` reads; without `names_vae` the script sets `pretrained_vae`."""
    group = parser.add_argument_group("clips")
    group.add_argument("--train_data_dir", nargs="+", required=True, help="Folders of clip shards (split train).")
    group.add_argument("--validation_data_dir", nargs="*", default=[], help="Folders of clip shards.")
    group.add_argument("--validation_split", default="validation")
    if names_vae:
        group.add_argument("--pretrained_vae", required=True, help="Folder of the trained autoencoder.")
    group.add_argument("--cache_dir", required=True, help="Where the latents of the clips are kept.")


def open_training_clips(
    args: argparse.Namespace, accelerator: Accelerator
) -> tuple[AutoencoderDC | AutoencoderKL, LatentClips, LatentClips | None]:
    """The autoencoder, the training clips and, where folders are given, the validation clips of a training script."""
    vae = load_vae(args.pretrained_vae, accelerator.device)
    with accelerator.main_process_first():
        write = accelerator.is_main_process
        clips = open_latent_clips(args.train_data_dir, "train", vae, args.cache_dir, write=write)
        validation = None
        if args.validation_data_dir:
            validation = open_latent_clips(
                args.validation_data_dir, args.validation_split, vae, args.cache_dir, write=write
            )
    accelerator.print(f"{len(clips)} pairs of frames to train on.")
    return vae, clips, validation


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train_data_dir", nargs="+", required=True, help="Folders of clip shards.")
    parser.add_argument("--splits", nargs="+", default=["train", "validation"])
    parser.add_argument("--pretrained_vae", required=True, help="Folder of the trained autoencoder.")
    parser.add_argument("--cache_dir", required=True)
    args = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    vae = load_vae(args.pretrained_vae, device)
    for split in args.splits:
        clips = open_latent_clips(args.train_data_dir, split, vae, args.cache_dir)
        print(f"{split}: {len(clips)} pairs of frames.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
