#!/usr/bin/env python
"""Render short clips of moving things over photographs, with exact flow, occlusion, masks and keypoints.

    apt-get download tuxpaint-stamps-default && dpkg-deb -x tuxpaint-stamps-default_*.deb stamps
    python training/render_objects.py --output_dir clips/objects --split train --num_clips 2000 --seed 0 \\
        --photographs_dir photographs --cutouts_dir stamps/usr/share/tuxpaint/stamps

A thing is a photographic cut-out with an alpha channel, or a random shape textured with a piece of a photograph. Some
have two or three hinged parts, some bend like cloth, some stand still. Photographs and cut-outs are divided into
train, validation and test; without `--cutouts_dir` there are random shapes only. A clip depends on nothing but its
seed, its split, its size and time gap and the files given.

Speeds are drawn for frames 1/12 s apart. `--time_gap` multiplies them, so the same things take the same way, only
further from frame to frame; over a clip of more than 4 s they slow down to what 4 s would show.
"""

import fnmatch
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from collect_photographs import split_of
from numba import njit
from PIL import Image, ImageDraw
from rendering.clip_shards import SPLITS, clip_parser, parse_clip_arguments, write_shards
from rendering.compositing import (
    FRAME_GAP,
    Background,
    compose,
    frame_size,
    inverse_affine,
    list_photographs,
    motion_factor,
    occlusion_from_layers,
    smooth_noise,
)

from mcdiff_pipeline.dataset import Clip


# Folders of tuxpaint's stamps that hold drawings or signs, by glob on the path inside the folder.
DRAWN_CUTOUTS = (
    "*cartoon*",
    "*outline*",
    "clothes/*",
    "naturalforces/*",
    "seasonal/easter/*",
    "seasonal/newyears/*",
    "symbols/*",
)
PHOTOGRAPHED_SYMBOLS = "symbols/money/*/coins/*"
SMALLEST_CUTOUT = 48

# A texture has this many pixels per pixel of the frame, so that turning and growing it keeps it sharp.
TEXTURE_DENSITY = 1.5
KEYPOINTS_PER_THING = 8
# Control points of the two cubic B-splines along which a soft thing bends.
CONTROL_POINTS = 7


@dataclass
class Assets:
    """Everything that clips of one split are made of."""

    photographs: list[Image.Image]
    cutouts: list[Image.Image]


def load_assets(split: str, *, photographs_dir: str | Path, cutouts_dir: str | Path | None = None) -> Assets:
    """Read what the clips of `split` may use.

    Args:
        split: `train`, `validation` or `test`.
        photographs_dir: folder with one subfolder of JPEG or PNG photographs per split.
        cutouts_dir: folder of PNG pictures with an alpha channel, at any depth; None for random shapes only.

    Raises:
        ValueError: if the split is unknown.
        FileNotFoundError: if there is no photograph or no cut-out for it.
    """
    if split not in SPLITS:
        raise ValueError(f"Split {split!r} is unknown, it must be one of {', '.join(SPLITS)}.")
    photographs = [Image.open(path).convert("RGB") for path in list_photographs(photographs_dir, split)]
    cutouts = []
    if cutouts_dir is not None:
        for path in sorted(Path(cutouts_dir).rglob("*.png")):
            name = path.relative_to(cutouts_dir).as_posix()
            drawn = any(fnmatch.fnmatch(name, pattern) for pattern in DRAWN_CUTOUTS)
            if (drawn and not fnmatch.fnmatch(name, PHOTOGRAPHED_SYMBOLS)) or split_of(name) != split:
                continue
            if path.stem.endswith(("_mirror", "_flip")):
                continue
            image = Image.open(path).convert("RGBA")
            image = image.crop(image.getchannel("A").getbbox())
            covered = np.asarray(image.getchannel("A")) > 127
            if min(image.size) >= SMALLEST_CUTOUT and 0.1 < covered.mean() < 0.98:
                cutouts.append(image)
        if not cutouts:
            raise FileNotFoundError(
                f"There are no cut-outs of the split {split!r} in {cutouts_dir}; leave it out or add some."
            )
    return Assets(photographs, cutouts)


@dataclass
class Piece:
    """A rigid or softly bending part of a thing: a texture and its way through the clip.

    Args:
        texture: float32 `[h, w, 4]`, premultiplied RGBA, colors 0 to 255 and alpha 0 to 1, with a transparent rim.
        matrices: float64 `[T, 2, 3]`, from bent texture pixels to pixels of frame t.
        controls: float64 `[T, 2, CONTROL_POINTS]`, how far (texture pixels) each point is sheared along x as a spline
            of y, and then along y as a spline of the new x. Shears are undone exactly, so flow needs no iteration.
        thing: number of the thing it is part of, from 1.
    """

    texture: np.ndarray
    matrices: np.ndarray
    controls: np.ndarray
    thing: int


def render_clip(
    seed: int | Sequence[int],
    split: str,
    assets: Assets,
    resolution: int | tuple[int, int] = 128,
    num_frames: int = 4,
    time_gap: float | None = None,
) -> Clip:
    """Render one clip.

    Args:
        seed: number, or numbers, that everything random follows from.
        split: name of the split the assets belong to; part of the seed and of the clip's key.
        assets: from `load_assets(split, ...)`.
        resolution: pixels; one number for height and width, or (height, width).
        num_frames: number of frames, at least 1.
        time_gap: seconds between two frames; None for the 1/12 s that speeds are drawn for. Things and cameras keep
            their way, and move in proportion to it; see `compositing.motion_factor`.

    Returns:
        A clip, the same bit for bit whenever the arguments are the same. Its keypoints are points spread over each
        thing, the same ones in all frames.

    Raises:
        ValueError: if the resolution or the time gap is not possible.
    """
    size = height, width = frame_size(resolution)
    factor = motion_factor(time_gap, num_frames)
    numbers = [seed] if isinstance(seed, int | np.integer) else list(seed)
    # The word keeps the clips apart from those of another renderer under the same seed.
    rng = np.random.default_rng([*numbers, SPLITS.index(split), zlib.crc32(b"objects")])
    background = Background.random(
        assets.photographs[rng.integers(len(assets.photographs))],
        rng,
        size=size,
        num_frames=num_frames,
        factor=factor,
    )
    camera = np.stack([background.motion(0, t) for t in range(num_frames)])

    number = int(rng.choice([1, 2, 3, 4], p=[0.4, 0.3, 0.2, 0.1]))
    pieces: list[Piece] = []
    for thing in range(1, number + 1):
        pieces += random_thing(rng, assets, camera, size=size, factor=factor, thing=thing)
    noise = rng.uniform(0.5, 2.5) if rng.random() < 0.4 else 0.0

    points = [spread_points(rng, [piece for piece in pieces if piece.thing == k + 1]) for k in range(number)]
    first_piece = [next(i for i, piece in enumerate(pieces) if piece.thing == k + 1) for k in range(number)]
    owner = np.array([0, *(piece.thing for piece in pieces)], dtype=np.uint8)
    controls = np.stack([piece.controls for piece in pieces], axis=1)  # [T, pieces, 2, CONTROL_POINTS]
    matrices = np.stack([piece.matrices for piece in pieces], axis=1)  # [T, pieces, 2, 3]
    inverses = np.stack([[inverse_affine(matrix) for matrix in of_frame] for of_frame in matrices])
    extents = np.array([piece.texture.shape[1::-1] for piece in pieces], dtype=np.float64)  # [pieces, (w, h)]

    frames = np.zeros((num_frames, *size, 3), np.uint8)
    layers = np.zeros((num_frames, *size), np.int64)
    keypoints = np.zeros((num_frames, number, KEYPOINTS_PER_THING, 3), np.float32)
    for t in range(num_frames):
        picture = background.frame(t).astype(np.float32)
        for i, piece in enumerate(pieces):
            draw_piece(picture, layers[t], i + 1, piece.texture, matrices[t, i], inverses[t, i], controls[t, i])
        if noise:
            picture += noise * rng.standard_normal(picture.shape, np.float32)
        frames[t] = np.clip(np.round(picture), 0, 255).astype(np.uint8)

        for k, (part, places) in enumerate(points):
            for j in range(KEYPOINTS_PER_THING):
                i = first_piece[k] + part[j]
                x, y = matrices[t, i] @ [*bend(*places[j], controls[t, i], *extents[i]), 1]
                if 0 <= x < width and 0 <= y < height:
                    keypoints[t, k, j] = x, y, 2 if layers[t, int(y), int(x)] == i + 1 else 1

    flow = np.zeros((num_frames - 1, 2, *size), np.float32)
    occlusion = np.zeros((num_frames - 1, *size), bool)
    for t in range(num_frames - 1):
        flow[t] = background.flow(t)
        flow_of_pieces(flow[t], layers[t], inverses[t], controls[t], matrices[t + 1], controls[t + 1], extents)
        occlusion[t] = occlusion_from_layers(flow[t], layers[t], layers[t + 1])
    return Clip(
        key="-".join(["objects", split, *(f"{n:06d}" for n in numbers)]),
        frames=frames,
        flow=flow,
        occlusion=occlusion,
        masks=owner[layers],
        keypoints=keypoints,
        meta={
            "source": "objects",
            "seed": [int(n) for n in numbers],
            "split": split,
            "seconds_per_frame": FRAME_GAP if time_gap is None else float(time_gap),
        },
    )


def random_thing(
    rng: np.random.Generator,
    assets: Assets,
    camera: np.ndarray,
    *,
    size: tuple[int, int],
    factor: float,
    thing: int,
) -> list[Piece]:
    """The pieces of one random thing, farthest first, on a random way through the clip.

    `size` is (H, W) of the frames; `factor` multiplies all speeds.
    """
    num_frames, short = len(camera), min(size)
    length = short * np.exp(rng.uniform(np.log(0.25), np.log(0.8)))  # pixels, of the longer side
    texture_length = max(8, round(TEXTURE_DENSITY * length))
    if assets.cutouts and rng.random() < 0.6:
        image = assets.cutouts[rng.integers(len(assets.cutouts))]
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        scale = texture_length / max(image.size)
        image = image.resize([max(4, round(side * scale)) for side in image.size], Image.Resampling.LANCZOS)
        angle = rng.normal(0, 0.25)  # most things stand upright
    else:
        image = random_shape(rng, assets.photographs[rng.integers(len(assets.photographs))], texture_length)
        angle = rng.uniform(-np.pi, np.pi)

    # Where the thing is, how it is turned and how large it is at each frame, before the camera moves.
    time = factor * np.arange(num_frames, dtype=np.float64)
    still = thing > 1 and rng.random() < 0.2
    path, turn, growth = np.zeros((num_frames, 2)), np.zeros(num_frames), np.zeros(num_frames)
    if not still:
        direction, speed = rng.uniform(0, 2 * np.pi), short * np.exp(rng.uniform(np.log(0.003), np.log(0.06)))
        path = speed * (
            time[:, None] * [np.cos(direction), np.sin(direction)]
            + 0.3 * factor * np.cumsum(smooth_noise(rng, num_frames, 2), axis=0)
        )
        if rng.random() < 0.6:
            turn = time * rng.normal(0, 0.07) + 0.02 * factor * np.cumsum(smooth_noise(rng, num_frames, 1)[:, 0])
        if rng.random() < 0.4:
            growth = time * rng.normal(0, 0.02)
    path += rng.uniform(0.1, 0.9, 2) * size[::-1] - path[num_frames // 2]
    fixed_to_world = rng.random() < 0.6  # else only the background moves with the camera

    textures, joints = [image], [np.zeros(2)]
    kind = rng.choice(["rigid", "hinged", "soft"], p=[0.35, 0.35, 0.3])
    if kind == "hinged":
        textures, joints = split_at_joints(rng, image)

    center = np.array(image.size) / 2 + 1  # the transparent rim moves everything by one
    limits = np.array(image.size) + 2.0
    controls = np.zeros((num_frames, 2, CONTROL_POINTS))
    if kind == "soft":
        swing = rng.normal(0, 0.06, (2, CONTROL_POINTS)) * limits[:, None]
        phase = rng.uniform(0, 2 * np.pi, (2, CONTROL_POINTS))
        rate = 0 if still else rng.uniform(0.15, 0.9)
        controls = swing * np.sin(rate * time[:, None, None] + phase)
    # Each hinge swings about its joint; the first part carries the others.
    swings = [np.zeros(num_frames)]
    for _ in textures[1:]:
        rate, width = rng.uniform(0.2, 0.9), rng.uniform(0.2, 0.7)
        swings.append(width * np.sin((0 if still else rate) * time + rng.uniform(0, 2 * np.pi)))

    pieces = []
    light = rng.uniform(0.75, 1.2) * rng.uniform(0.93, 1.07, 3)  # of a scene other than the background's
    for texture, joint, swing in zip(textures, joints, swings, strict=True):
        matrices = np.zeros((num_frames, 2, 3))
        for t in range(num_frames):
            about_joint = affine(swing[t], 1.0, joint + 1, joint + 1)
            place = affine(angle + turn[t], np.exp(growth[t]) / TEXTURE_DENSITY, center, path[t])
            matrix = compose(place, about_joint)
            matrices[t] = compose(camera[t], matrix) if fixed_to_world else matrix
        pieces.append(Piece(premultiplied(texture, light), matrices, controls, thing))
    order = rng.permutation(len(pieces))
    return [pieces[i] for i in order]


def random_shape(rng: np.random.Generator, photograph: Image.Image, length: int) -> Image.Image:
    """A blob or polygon of `length` pixels along its longer side, textured with a piece of a photograph (RGBA)."""
    if rng.random() < 0.6:
        angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        waves = np.arange(1, 6)
        radius = 1 + (
            rng.normal(0, 0.28, 5)[:, None]
            / waves[:, None]
            * np.cos(waves[:, None] * angles + rng.uniform(0, 6.3, (5, 1)))
        ).sum(0)
    else:
        corners = int(rng.integers(3, 9))
        angles = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) / corners
        radius = rng.uniform(0.5, 1, corners)
    outline = np.maximum(radius, 0.15)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    outline *= [1, rng.uniform(0.3, 1)]
    outline -= outline.min(0)
    outline *= length / outline.max()
    width, height = np.ceil(outline.max(0)).astype(int)
    alpha = Image.new("L", (4 * width, 4 * height))
    ImageDraw.Draw(alpha).polygon([tuple(point) for point in 4 * outline], fill=255)
    alpha = alpha.resize((width, height), Image.Resampling.BOX)

    side = np.array([width, height]) * rng.uniform(1, max(1, 0.8 * min(np.array(photograph.size) / (width, height))))
    side = np.minimum(side, photograph.size)
    corner = rng.uniform(0, 1, 2) * (np.array(photograph.size) - side)
    image = photograph.resize((width, height), Image.Resampling.LANCZOS, box=(*corner, *(corner + side)))
    image.putalpha(alpha)
    return image


def split_at_joints(rng: np.random.Generator, image: Image.Image) -> tuple[list[Image.Image], list[np.ndarray]]:
    """Cuts a thing across its longer side into two or three parts that turn about joints.

    Returns the parts, on canvases of the same size, and the joint of each as (x, y); the first part has none to turn
    about. Each part keeps a disc around its joint, so that no gap opens when it turns.
    """
    alpha = np.asarray(image.getchannel("A"))
    across = image.width >= image.height  # cut along x
    along = np.arange(image.width if across else image.height)
    places = [rng.uniform(0.35, 0.65)] if rng.random() < 0.6 else [rng.uniform(0.25, 0.4), rng.uniform(0.6, 0.75)]
    x, y = np.meshgrid(np.arange(image.width) + 0.5, np.arange(image.height) + 0.5)
    position = x if across else y
    cuts, joints, discs = [], [], []
    for place in places:
        cut = int(place * len(along))
        section = alpha[:, cut] if across else alpha[cut]
        covered = np.flatnonzero(section > 127)
        if len(covered) == 0:  # the thing has a gap there
            return [image], [np.zeros(2)]
        middle, radius = covered.mean() + 0.5, (covered[-1] - covered[0] + 1) / 2
        joint = np.array([cut, middle] if across else [middle, cut], dtype=np.float64)
        cuts.append(cut)
        joints.append(joint)
        discs.append(np.hypot(x - joint[0], y - joint[1]) <= radius)

    # The part between the joints, or the larger one of two, carries the rest.
    edges = [0, *cuts, len(along)]
    parts = []
    for i in range(len(cuts) + 1):
        kept = (position >= edges[i]) & (position < edges[i + 1])
        for j in (i - 1, i):
            if 0 <= j < len(cuts):
                kept |= discs[j] & (np.abs(position - cuts[j]) <= 0.5 * len(along))
        part = image.copy()
        part.putalpha(Image.fromarray(np.where(kept, alpha, 0).astype(np.uint8)))
        parts.append(part)
    if len(cuts) == 2:
        return [parts[1], parts[0], parts[2]], [np.zeros(2), joints[0], joints[1]]
    return parts, [np.zeros(2), joints[0]]


def spread_points(rng: np.random.Generator, pieces: list[Piece]) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints of a thing: for each, the number of its piece and its place in the texture, far from each other."""
    candidates = []
    for number, piece in enumerate(pieces):
        solid = np.argwhere(piece.texture[..., 3] > 0.9)
        if len(solid) == 0:
            solid = np.argwhere(piece.texture[..., 3] == piece.texture[..., 3].max())
        chosen = solid[rng.integers(len(solid), size=4 * KEYPOINTS_PER_THING)]
        candidates += [(number, *(place[::-1] + 0.5)) for place in chosen]
    candidates = np.array(candidates)
    frame = np.stack([pieces[int(n)].matrices[0] @ [x, y, 1] for n, x, y in candidates])
    chosen = [0]
    for _ in range(KEYPOINTS_PER_THING - 1):  # farthest point sampling
        distance = np.linalg.norm(frame[:, None] - frame[chosen], axis=-1).min(1)
        chosen.append(int(distance.argmax()))
    return candidates[chosen, 0].astype(int), candidates[chosen, 1:]


def premultiplied(image: Image.Image, light: np.ndarray) -> np.ndarray:
    """float32 `[h + 2, w + 2, 4]`: the texture of a piece, see `Piece`."""
    pixels = np.asarray(image, dtype=np.float32)
    alpha = pixels[..., 3:] / 255
    color = np.clip(pixels[..., :3] * light.astype(np.float32), 0, 255)
    return np.pad(np.concatenate([color * alpha, alpha], axis=2), ((1, 1), (1, 1), (0, 0)))


def affine(angle: float, scale: float, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """`[2, 3]`: turns and scales about `source`, which goes to `target`."""
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.concatenate([linear, (target - linear @ source)[:, None]], axis=1)


@njit(cache=True)
def spline(controls, position, extent):
    """Uniform cubic B-spline of the control points along [0, extent]; constant beyond."""
    spans = len(controls) - 3
    s = min(max(position / extent, 0.0), 1.0) * spans
    i = min(int(s), spans - 1)
    f = s - i
    return (
        (1 - f) ** 3 * controls[i]
        + (3 * f**3 - 6 * f**2 + 4) * controls[i + 1]
        + (-3 * f**3 + 3 * f**2 + 3 * f + 1) * controls[i + 2]
        + f**3 * controls[i + 3]
    ) / 6


@njit(cache=True)
def bend(x, y, controls, width, height):
    """Texture point -> bent texture point: two shears."""
    x = x + spline(controls[0], y, height)
    return x, y + spline(controls[1], x, width)


@njit(cache=True)
def unbend(x, y, controls, width, height):
    """The exact inverse of `bend`."""
    y = y - spline(controls[1], x, width)
    return x - spline(controls[0], y, height), y


@njit(cache=True)
def draw_piece(picture, layers, number, texture, matrix, inverse, controls):
    """Draws a piece over `picture` `[H, W, 3]` and writes its number into `layers` where it is the one to be seen.

    Color and coverage of a pixel are means over 3 x 3 samples. A pixel belongs to the piece if more than half of it
    is covered.
    """
    height, width = layers.shape
    texture_height, texture_width = texture.shape[:2]
    reach_x, reach_y = np.abs(controls[0]).max(), np.abs(controls[1]).max()
    left, top, right, bottom = 1e9, 1e9, -1e9, -1e9
    for x in (-reach_x, texture_width + reach_x):
        for y in (-reach_y, texture_height + reach_y):
            u = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
            v = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
            left, right, top, bottom = min(left, u), max(right, u), min(top, v), max(bottom, v)
    for row in range(max(0, int(np.floor(top))), min(height, int(np.ceil(bottom)))):
        for column in range(max(0, int(np.floor(left))), min(width, int(np.ceil(right)))):
            red, green, blue, alpha = 0.0, 0.0, 0.0, 0.0
            for sample in range(9):
                u, v = column + (sample % 3 + 0.5) / 3, row + (sample // 3 + 0.5) / 3
                x = inverse[0, 0] * u + inverse[0, 1] * v + inverse[0, 2]
                y = inverse[1, 0] * u + inverse[1, 1] * v + inverse[1, 2]
                x, y = unbend(x, y, controls, texture_width, texture_height)
                x, y = x - 0.5, y - 0.5
                if x < 0 or y < 0 or x >= texture_width - 1 or y >= texture_height - 1:
                    continue
                i, j = int(x), int(y)
                f, g = x - i, y - j
                for di, dj, weight in (
                    (0, 0, (1 - f) * (1 - g)),
                    (1, 0, f * (1 - g)),
                    (0, 1, (1 - f) * g),
                    (1, 1, f * g),
                ):
                    texel = texture[j + dj, i + di]
                    red += weight * texel[0]
                    green += weight * texel[1]
                    blue += weight * texel[2]
                    alpha += weight * texel[3]
            if alpha > 0:
                through = 1 - alpha / 9
                picture[row, column, 0] = through * picture[row, column, 0] + red / 9
                picture[row, column, 1] = through * picture[row, column, 1] + green / 9
                picture[row, column, 2] = through * picture[row, column, 2] + blue / 9
                if alpha > 4.5:
                    layers[row, column] = number


@njit(cache=True)
def flow_of_pieces(flow, layers, inverses, controls, next_matrices, next_controls, extents):
    """Writes the flow of all pixels that belong to pieces: back to the texture, and forward to the next frame."""
    height, width = layers.shape
    for row in range(height):
        for column in range(width):
            i = layers[row, column] - 1
            if i < 0:
                continue
            u, v = column + 0.5, row + 0.5
            inverse, matrix = inverses[i], next_matrices[i]
            x = inverse[0, 0] * u + inverse[0, 1] * v + inverse[0, 2]
            y = inverse[1, 0] * u + inverse[1, 1] * v + inverse[1, 2]
            x, y = unbend(x, y, controls[i], extents[i, 0], extents[i, 1])
            x, y = bend(x, y, next_controls[i], extents[i, 0], extents[i, 1])
            flow[0, row, column] = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] - u
            flow[1, row, column] = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] - v


def main(arguments: list[str] | None = None) -> None:
    parser = clip_parser(__doc__, default_gap="default: the 1/12 s that speeds are drawn for")
    parser.add_argument("--cutouts_dir", type=Path, help="Folder of PNG pictures with alpha; default: shapes only.")
    args = parse_clip_arguments(parser, arguments)
    sources = {"photographs_dir": args.photographs_dir, "cutouts_dir": args.cutouts_dir}
    write_shards(args, render_clip, load_assets, sources)


if __name__ == "__main__":
    main()
