"""The latents of all clips, encoded once and kept in files.

Training flow completion and future-frame prediction then reads latents instead of images. Each shard becomes a folder
of arrays. The name of the folder depends on the weights of the encoder and on the shard. So an interrupted pass
continues where it stopped, new shards are added to the old ones, and latents of different autoencoders never mix.
Processes that run at the same time encode each shard once: one of them encodes, the others wait. Semantic features of
the frames are kept in the same way if there is an image encoder; see `feature_cache`.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderDC, AutoencoderKL
from filelock import FileLock, Timeout
from transformers import Dinov2Model

from loop.autoencoder import load_vae
from loop.feature_cache import FEATURES, encode_shard_features, features_folder
from loop.samples import ClipStart, FramePair
from mcdiff_pipeline.atomic_files import atomic_folder
from mcdiff_pipeline.dataset import Clip, ClipDataset
from mcdiff_pipeline.flow import accumulate_flow
from mcdiff_pipeline.latent_codec import encode_images, latent_scaling
from mcdiff_pipeline.progress import progress_bar


# Part of the name of every folder. A new layout of the arrays needs a new number.
CACHE_VERSION = 1


@dataclass(frozen=True)
class CachedShard:
    """A shard and its folders in the cache.

    Args:
        shard (`Path`): the shard.
        source (`int`): which of the folders of shards it is from, counted from 0.
        latents (`Path`): folder that `encode_shard` writes.
        features (`Path`, *optional*): folder that `encode_shard_features` writes; None without an image encoder.
    """

    shard: Path
    source: int
    latents: Path
    features: Path | None = None


class LatentClips:
    """Pairs of consecutive frames with latents, memory-mapped.

    Item `i` is one pair of frames; see `FramePair`.

    Args:
        shards (`Sequence[CachedShard]`): shards whose folders in the cache are complete.

    Attributes:
        pairs: int32 `[N, 3]`: number of the shard, of the clip in it, and of the first frame of each pair.
    """

    def __init__(self, shards: Sequence[CachedShard]):
        self.shards = list(shards)
        self.parts = []
        self.datasets = {}  # number of a shard -> dataset, for shards from which images were read
        self.pairs = []
        for number, shard in enumerate(self.shards):
            names = ("latents", "flow", "masks", "keypoints", "num_frames")
            self.parts.append({name: np.load(shard.latents / f"{name}.npy", mmap_mode="r") for name in names})
            if shard.features is not None:
                self.parts[-1]["features"] = np.load(shard.features / FEATURES, mmap_mode="r")
            for clip, num_frames in enumerate(self.parts[-1]["num_frames"]):
                self.pairs.extend((number, clip, t) for t in range(num_frames - 1))
        self.pairs = np.array(self.pairs, dtype=np.int32).reshape(-1, 3)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> FramePair:
        part, clip, t = self.pairs[index]
        arrays = self.parts[part]
        pair: FramePair = {
            "latent": arrays["latents"][clip, t].astype(np.float32),
            "next_latent": arrays["latents"][clip, t + 1].astype(np.float32),
            "flow": arrays["flow"][clip, t].astype(np.float32),
            "mask": np.array(arrays["masks"][clip, t]),
            "keypoints": np.array(arrays["keypoints"][clip, t]),
        }
        if "features" in arrays:
            pair["features"] = arrays["features"][clip, t].astype(np.float32)
        return pair

    @property
    def sources(self) -> np.ndarray:
        """int `[N]`: from which of the folders of shards each pair is."""
        return np.array([shard.source for shard in self.shards])[self.pairs[:, 0]]

    @property
    def grids(self) -> np.ndarray:
        """int `[N, 2]`: (height, width) of the latent grid of each pair."""
        return np.array([part["latents"].shape[-2:] for part in self.parts])[self.pairs[:, 0]]

    def with_steps(self, number: int) -> np.ndarray:
        """Indices `i` where the pairs `i`, ..., `i + number - 1` are consecutive steps of one clip.

        Raises:
            ValueError: if no clip is long enough.
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
        """Names a pair in error messages, by clip, frame and shard."""
        part, clip, t = (int(number) for number in self.pairs[index])
        return f"frame {t} of clip number {clip} in {self.shards[part].shard}"

    def start(self, index: int, *, image: bool = False, features: bool = False) -> ClipStart:
        """The start of the clip of a pair, as seen from the first frame of the pair.

        Args:
            image (`bool`): whether to read frame 0 itself from the shard, too.
            features (`bool`): whether to give its semantic features, too.
        """
        part, clip, t = self.pairs[index]
        arrays = self.parts[part]
        flow = torch.zeros(1, 2, *arrays["flow"].shape[-2:])
        for step in arrays["flow"][clip, :t]:
            flow = accumulate_flow(flow, torch.from_numpy(step.astype(np.float32))[None])
        start = {"start_latent": arrays["latents"][clip, 0].astype(np.float32), "start_flow": flow[0].numpy()}
        if image:
            frame = self._read(part, clip, (0,))[0]
            start["start_picture"] = frame.transpose(2, 0, 1).astype(np.float32) / 255
        if features:
            start["start_features"] = arrays["features"][clip, 0].astype(np.float32)
        return start

    def history(self, index: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """The motion of a clip from frame 0 until `steps` steps after the first frame of a pair.

        Returns:
            `tuple[np.ndarray, np.ndarray]`: for all n of these steps the flow in pixels, float32 `[n, 2, H, W]`, and
            the label map of the frame before it, uint8 `[n, H, W]`.
        """
        part, clip, t = (int(number) for number in self.pairs[index])
        arrays, end = self.parts[part], t + steps
        return arrays["flow"][clip, :end].astype(np.float32), np.array(arrays["masks"][clip, :end])

    def frames(self, index: int, steps: int = 1) -> np.ndarray:
        """The images of a pair, or of more steps, from its shard, uint8 `[steps + 1, H, W, 3]`. Slow."""
        part, clip, t = (int(number) for number in self.pairs[index])
        return self._read(part, clip, range(t, t + steps + 1))

    def _read(self, part: int, clip: int, frames: Sequence[int]) -> np.ndarray:
        """Images of a clip from its shard, uint8 `[frames, H, W, 3]`."""
        if part not in self.datasets:
            self.datasets[part] = ClipDataset([self.shards[part].shard])
        return self.datasets[part].read(clip, tuple(frames)).frames


def encode_frames(vae: AutoencoderDC | AutoencoderKL, frames: np.ndarray, batch_size: int = 32) -> torch.Tensor:
    """Scaled latents `[T, C, h, w]` of uint8 frames `[T, H, W, 3]`, as the pipeline encodes them (posterior mean).

    On a GPU in bfloat16: its rounding error is far below the loss of the autoencoder. On a CPU in float32: many CPUs
    have no bfloat16 instructions and are several times slower with it.
    """
    device = next(vae.parameters()).device
    latents = []
    for batch in torch.from_numpy(frames).split(batch_size):
        images = batch.permute(0, 3, 1, 2).to(device).float().div(255)
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu"):
            latents.append(encode_images(vae, images).float())
    return torch.cat(latents)


def encode_shard(
    folder: Path, shard: Path, vae: AutoencoderDC | AutoencoderKL, watch: Callable[[float], object]
) -> None:
    """Encodes one shard into the arrays that `LatentClips` reads. Short clips are padded with zeros.

    Damaged clips, and clips with frames of another size than the first, are named on stderr and have 0 frames.

    `watch` is called with the share of the frames that are encoded, in [0, 1].

    Raises:
        ValueError: if the shard cannot be read, or no clip in it.
    """
    clips = read_intact_clips(shard)
    first = next(iter(clips.values()))
    num_clips, num_frames = max(clips) + 1, max(len(clip.frames) for clip in clips.values())
    height, width = first.frames.shape[1:3]
    people, points = (max(clip.keypoints.shape[axis] for clip in clips.values()) for axis in (1, 2))
    arrays = {
        "flow": np.zeros((num_clips, num_frames - 1, 2, height, width), np.float16),
        "masks": np.zeros((num_clips, num_frames, height, width), np.uint8),
        "keypoints": np.zeros((num_clips, num_frames, people, points, 3), np.float32),
        "num_frames": np.zeros(num_clips, np.int32),
    }
    total, encoded = sum(len(clip.frames) for clip in clips.values()), 0
    for number, clip in clips.items():
        arrays["num_frames"][number] = len(clip.frames)
        latents = encode_frames(vae, clip.frames).cpu().numpy().astype(np.float16)
        if clip is first:
            arrays["latents"] = np.zeros((num_clips, num_frames, *latents.shape[1:]), np.float16)
        arrays["latents"][number, : len(latents)] = latents
        arrays["flow"][number, : len(clip.flow)] = clip.flow
        arrays["masks"][number, : len(clip.masks)] = clip.masks
        arrays["keypoints"][number, : len(clip.frames), : clip.keypoints.shape[1], : clip.keypoints.shape[2]] = (
            clip.keypoints
        )
        encoded += len(clip.frames)
        watch(encoded / total)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def read_intact_clips(shard: Path) -> dict[int, Clip]:
    """The clips of a shard by their numbers. Others are counted and named on stderr.

    Raises:
        ValueError: if the shard cannot be read, or no clip in it.
    """
    dataset, clips, skipped = ClipDataset([shard]), dict[int, Clip](), []
    for number in range(len(dataset)):
        try:
            clip = dataset[number]
        except ValueError as error:
            skipped.append(str(error))
            continue
        size, expected = (one.frames.shape[1:3] for one in (clip, next(iter(clips.values()), clip)))
        if size == expected:
            clips[number] = clip
        else:
            skipped.append(f"Clip {clip.key} has frames of {size} pixels, but the first clip of its shard {expected}.")
    if not clips:
        raise ValueError(f"The shard {shard} has no clip that can be read" + f": {skipped[0]}" * bool(skipped))
    if skipped:
        print(f"Skipped {len(skipped)} of {len(dataset)} clips in {shard}:", *skipped, sep="\n  ", file=sys.stderr)
    return clips


def encoder_folder(cache_dir: str | Path, vae: AutoencoderDC | AutoencoderKL) -> Path:
    """The folder of an encoder in the cache, named by the hash of its weights and of the scaling.

    The weights of the decoder do not count: a better decoder reads the same latents.
    """
    weights = hashlib.sha256(json.dumps(latent_scaling(vae)).encode())
    for name, tensor in sorted(vae.state_dict().items()):
        if name.startswith(("encoder.", "quant_conv.")):
            weights.update(name.encode())
            weights.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return Path(cache_dir, f"v{CACHE_VERSION}-{weights.hexdigest()[:16]}")


def shard_folder(shard: Path) -> str:
    """The name of a shard's folder in the cache: its path, size and time of change."""
    state = shard.stat()
    identity = f"{shard.resolve()} {state.st_size} {state.st_mtime_ns}"
    return f"{shard.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def encode_missing(
    folders: Sequence[tuple[Path, Path]],
    encode: Callable[[Path, Path, Callable[[float], object]], None],
    title: str,
    split: str,
) -> None:
    """Encodes the shards that have no folder yet. Prints the shards that cannot be read, and skips them.

    Args:
        folders (`Sequence[tuple[Path, Path]]`): shards with their folders in the cache, which are in one folder.
        encode (`Callable`): `encode(folder, shard, watch)` fills the folder, and calls `watch` with the share of it
            that is done.
        title (`str`): what is shown while it is done.
        split (`str`): the split of the shards.
    """
    skipped, busy = [], []
    locks = folders[0][1].parent / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    missing = [(shard, folder) for shard, folder in folders if not folder.is_dir()]
    # First what no other process encodes at the moment, so that several processes share the work.
    for waits, waiting in ((False, missing), (True, busy)):
        sizes = [shard.stat().st_size for shard, _ in waiting]
        with progress_bar(title, sum(sizes) / 1e6, unit="MB") as bar:
            for (shard, folder), size in zip(list(waiting), sizes, strict=True):
                end = bar.n + size / 1e6

                def watch(share: float, end: float = end, size: float = size / 1e6) -> None:
                    bar.update(end - (1 - share) * size - bar.n)

                try:
                    with FileLock(locks / folder.name, timeout=-1 if waits else 0):
                        if not folder.is_dir():
                            atomic_folder(folder, lambda unfinished, shard=shard: encode(unfinished, shard, watch))
                except Timeout:
                    busy.append((shard, folder))
                except ValueError as error:
                    skipped.append(str(error))
                watch(1.0)
    if skipped:
        print(f"Skipped {len(skipped)} of {len(folders)} {split} shards:", *skipped, sep="\n  ", file=sys.stderr)


def open_latent_clips(
    data_dirs: Sequence[str],
    split: str,
    vae: AutoencoderDC | AutoencoderKL,
    cache_dir: str,
    *,
    image_encoder: Dinov2Model | None = None,
    write: bool = True,
) -> LatentClips:
    """Opens the latents of a split, after encoding the shards that are not in the cache yet.

    Shards and clips that cannot be read are skipped. Their number and their names are printed. Frames may differ in
    size from shard to shard.

    Args:
        data_dirs (`Sequence[str]`): folders of shards.
        image_encoder (`Dinov2Model`, *optional*): encoder of the semantic features; None leaves these out.
        write (`bool`): False for the other processes, which only read what the main process has encoded.

    Raises:
        ValueError: if a folder has no shard of the split, or no shard can be read.
    """
    cache, found = encoder_folder(cache_dir, vae), []
    features = None if image_encoder is None else features_folder(cache_dir, image_encoder)
    for source, data_dir in enumerate(data_dirs):
        shards = sorted(Path(data_dir).glob(f"{split}-*.tar"))
        if not shards:
            raise ValueError(f"There are no shards {split}-*.tar in {data_dir}; name a folder that has some.")
        for shard in shards:
            name = shard_folder(shard)
            found.append(CachedShard(shard, source, cache / name, None if features is None else features / name))
    if write:
        folders = [(shard.shard, shard.latents) for shard in found]
        encode_missing(
            folders,
            lambda to, shard, watch: encode_shard(to, shard, vae, watch),
            f"encoding {split} shards",
            split,
        )
    found = [shard for shard in found if shard.latents.is_dir()]
    if write and image_encoder is not None and found:
        folders = [(shard.shard, shard.features) for shard in found]
        encode_missing(
            folders,
            lambda to, shard, watch: encode_shard_features(to, shard, image_encoder, watch),
            f"features of {split} shards",
            split,
        )
    found = [shard for shard in found if shard.features is None or shard.features.is_dir()]
    if not found:
        raise ValueError(f"None of the {split} shards in {', '.join(map(str, data_dirs))} can be read.")
    return LatentClips(found)


def add_clip_arguments(parser: argparse.ArgumentParser, *, names_vae: bool = True) -> None:
    """Adds the arguments of `open_training_clips`.

    Args:
        names_vae (`bool`): False for a script that sets `args.pretrained_vae` itself.
    """
    group = parser.add_argument_group("clips")
    group.add_argument("--train_data_dir", nargs="+", required=True, help="Folders of clip shards (split train).")
    group.add_argument("--validation_data_dir", nargs="*", default=[], help="Folders of clip shards.")
    group.add_argument("--validation_split", default="validation")
    if names_vae:
        group.add_argument("--pretrained_vae", required=True, help="Folder of the trained autoencoder.")
    group.add_argument("--cache_dir", required=True, help="Folder for the latents of the clips.")


def open_training_clips(
    args: argparse.Namespace,
    accelerator: Accelerator,
    *,
    image_encoder: Dinov2Model | None = None,
    several_sizes: bool = False,
) -> tuple[AutoencoderDC | AutoencoderKL, LatentClips, LatentClips | None]:
    """The autoencoder, the training clips, and the validation clips, if there are folders of these.

    Args:
        image_encoder (`Dinov2Model`, *optional*): encoder of the semantic features; None leaves these out.
        several_sizes (`bool`): whether frames may differ in size.

    Raises:
        ValueError: if the frames differ in size, but must not.
    """
    vae = load_vae(args.pretrained_vae, accelerator.device)
    settings = {"image_encoder": image_encoder, "write": accelerator.is_main_process}
    with accelerator.main_process_first():
        clips = open_latent_clips(args.train_data_dir, "train", vae, args.cache_dir, **settings)
        validation = None
        if args.validation_data_dir:
            validation = open_latent_clips(
                args.validation_data_dir, args.validation_split, vae, args.cache_dir, **settings
            )
    if not several_sizes:
        for opened in filter(None, (clips, validation)):
            sizes = {part["flow"].shape[-2:] for part in opened.parts}
            if len(sizes) > 1:
                raise ValueError(
                    f"The clips have frames of {sorted(sizes)} pixels, but only flow completion is trained on several "
                    "sizes; name folders of one size."
                )
    accelerator.print(f"{len(clips)} pairs of frames to train on.")
    return vae, clips, validation
