"""One clip of things that move in a photograph."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from mcdiff_pipeline.dataset import Clip
from rendering.clip_shape import FRAME_GAP, frame_size, motion_factor
from rendering.labeled_photographs import paths
from rendering.labeled_photographs.assets import Assets, LabeledPhotograph
from rendering.labeled_photographs.casting import Cast, random_cast
from rendering.labeled_photographs.layers import Layer, cut_out, joint_of
from rendering.labeled_photographs.scene import Scene
from rendering.labeled_photographs.window import DENSITY, Window, random_window
from rendering.occlusion import occlusion_from_layers
from rendering.photographs import SPLITS


# Share of clips whose things are pasted over another photograph, so that what they uncover is true.
PASTED_SHARE = 0.25
# Of these, the share whose things come from photographs with a soft outline, which cuttings need most.
SALIENT_SHARE = 0.7
CAMERA_SHARE = 0.25
# Layers reach beyond the frame by this share of its shorter side, and as far as the camera sees.
MARGIN = 0.25
# Of a thing in a frame: its smallest area as a share of the frame, the smallest share of it that is in the frame, and
# the largest area of all that moves.
SMALLEST_AREA, SMALLEST_PART, LARGEST_AREA = 0.006, 0.5, 0.75
# Extent of what is pasted, as a share of the shorter side of the frame.
PASTED_EXTENT = (0.3, 0.9)
# Pixels of the frame around a thing that are filled with it, because masks are not exact.
HOLE_RIM = 2.0
# Pixels beyond what the camera sees that are filled, too.
SEEN_BEYOND = 8
# Shares of a pixel below and above these are taken for 0 and 1: soft outlines have faint halos.
OUTLINE = (0.15, 0.85)
ATTEMPTS = 30


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
        seed: one or several numbers that determine everything random.
        split: name of the split of the assets; a part of the seed and of the clip's key.
        assets: from `load_assets(split, ...)`.
        resolution: pixels; one number for height and width, or (height, width).
        num_frames: number of frames, at least 1.
        time_gap: seconds between two frames; None for the 1/12 s that speeds refer to. Motion is in proportion to the
            gap (see `motion_factor`).

    Returns:
        A clip. The same arguments give the same bits. Its keypoints are points spread over each thing, the same ones
        in all frames. `meta` names the photographs with their licenses, what moves, whether the things are pasted over
        another photograph, and how what they uncover was filled.

    Raises:
        ValueError: if the resolution or the time gap is not possible.
    """
    size = frame_size(resolution)
    factor = motion_factor(time_gap, num_frames)
    numbers = [seed] if isinstance(seed, int | np.integer) else list(seed)
    # The word distinguishes these clips from those of the other renderers with the same seed.
    rng = np.random.default_rng([*numbers, SPLITS.index(split), zlib.crc32(b"photographs")])
    time = paths.times(rng, num_frames, factor)
    is_pasted = bool(rng.random() < PASTED_SHARE)
    stage = (pasted_stage if is_pasted else natural_stage)(rng, assets, time, size)
    scene = Scene(rng, stage.layers, size)

    frames = np.zeros((num_frames, *size, 3), np.uint8)
    things = np.zeros((num_frames, *size), np.int64)
    for t in range(num_frames):
        image, things[t] = scene.draw(t)
        if t == 0 and stage.untouched is not None:
            image, _ = Scene(rng, [stage.untouched], size).draw(0)
        frames[t] = np.clip(np.round(image), 0, 255).astype(np.uint8)

    flow = np.zeros((num_frames - 1, 2, *size), np.float32)
    occlusion = np.zeros((num_frames - 1, *size), bool)
    for t in range(num_frames - 1):
        flow[t] = scene.flow(t, things[t])
        occlusion[t] = occlusion_from_layers(flow[t], things[t], things[t + 1])
    return Clip(
        key="-".join(["photographs", split, *(f"{n:06d}" for n in numbers)]),
        frames=frames,
        flow=flow,
        occlusion=occlusion,
        masks=things.astype(np.uint8),
        keypoints=np.stack([scene.keypoints(t, things[t]) for t in range(num_frames)]),
        meta={
            "source": "photographs",
            "seed": [int(n) for n in numbers],
            "split": split,
            "seconds_per_frame": FRAME_GAP if time_gap is None else float(time_gap),
            **stage.meta,
        },
    )


@dataclass
class Stage:
    """What a clip shows.

    Args:
        layers: the background and the things in the order of drawing.
        untouched: the photograph itself, if it is the first frame.
        meta: what is noted about the clip.
    """

    layers: list[Layer]
    untouched: Layer | None
    meta: dict[str, Any]


def natural_stage(rng: np.random.Generator, assets: Assets, time: np.ndarray, size: tuple[int, int]) -> Stage:
    """Things of a photograph move in it; what they uncover is filled."""
    camera, moves = random_camera(rng, time, size)
    margin = margin_for(camera, size)
    photograph, cast, window, alphas = visible_cast(rng, assets, size, margin)
    color = window.layer(photograph.image, photograph.image.size, continues=True)
    layers = things_of(rng, color, alphas, cast, camera, size, window.to_texture, time)
    hole = hole_of(layers, cast, alphas)
    background = fill_background(rng, assets, color, hole, unseen=max(0, round(MARGIN * min(size)) - SEEN_BEYOND))
    untouched = opaque_layer(color, window, camera)
    layers = [opaque_layer(background, window, camera), *in_drawing_order(rng, layers, cast)]
    meta = {
        "moves": cast.kind,
        "camera_moves": moves,
        "uncovered": assets.filling.name if hole.any() else "none",
        "photographs": [{"file": photograph.name, **photograph.origin}],
    }
    return Stage(layers, untouched, meta)


def pasted_stage(rng: np.random.Generator, assets: Assets, time: np.ndarray, size: tuple[int, int]) -> Stage:
    """Things of a photograph move over another one, which is known where they uncover it."""
    camera, moves = random_camera(rng, time, size)
    behind = assets.photographs[rng.integers(len(assets.photographs))]
    view = random_window(rng, behind.image.size, size, margin_for(camera, size))
    background = view.layer(behind.image, behind.image.size, continues=True)

    photograph, cast, window, alphas = visible_cuttings(rng, assets, size)
    color = window.layer(photograph.image, photograph.image.size, continues=True)
    color = np.clip(color * (rng.uniform(0.8, 1.2) * rng.uniform(0.95, 1.05, 3)), 0, 255).astype(np.uint8)
    center = np.array(size[::-1]) / 2
    turn = paths.steady_motion(np.ones(1), center, np.zeros(2), turn=rng.normal(0, 0.15))[0]
    to_texture = window.to_texture @ np.linalg.inv(turn)
    layers = things_of(rng, color, alphas, cast, camera, size, to_texture, time)
    meta = {
        "moves": cast.kind,
        "camera_moves": moves,
        "uncovered": "true",
        "photographs": [{"file": one.name, **one.origin} for one in (photograph, behind)],
    }
    return Stage([opaque_layer(background, view, camera), *in_drawing_order(rng, layers, cast)], None, meta)


def random_camera(rng: np.random.Generator, time: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, bool]:
    """The camera's path, float64 `[T, 3, 3]`, and whether it moves."""
    moves = bool(rng.random() < CAMERA_SHARE)
    still = np.tile(np.eye(3), (len(time), 1, 1))
    return (paths.random_camera(rng, time, size) if moves else still), moves


def margin_for(camera: np.ndarray, size: tuple[int, int]) -> int:
    """Pixels beyond the frame that the camera sees, and some more."""
    height, width = size
    corners = np.array([(x, y) for x in (0, width) for y in (0, height)], dtype=np.float64)
    seen = np.stack([paths.apply(np.linalg.inv(matrix), corners) for matrix in camera])
    beyond = max(0.0, -seen.min(), (seen - [width, height]).max())
    return round(MARGIN * min(size) + min(beyond, max(size)))


def visible_cast(
    rng: np.random.Generator, assets: Assets, size: tuple[int, int], margin: int
) -> tuple[LabeledPhotograph, Cast, Window, list[np.ndarray]]:
    """A photograph, what moves in it, and a window in which this can be seen; the alphas are those of `alphas_of`."""
    for attempt in range(ATTEMPTS):
        photograph = assets.photographs[rng.integers(len(assets.photographs))]
        cast = random_cast(rng, photograph)
        scales = (0.4, 1.0) if attempt < ATTEMPTS // 2 else (1.0, 1.0)
        shows = extent_of(photograph, cast)
        window = random_window(rng, photograph.image.size, size, margin, shows=shows, scales=scales)
        alphas = alphas_of(photograph, cast, window)
        if are_visible(alphas, margin) or attempt == ATTEMPTS - 1:
            break
    return photograph, cast, window, alphas


def visible_cuttings(
    rng: np.random.Generator, assets: Assets, size: tuple[int, int]
) -> tuple[LabeledPhotograph, Cast, Window, list[np.ndarray]]:
    """The same for things that are pasted elsewhere."""
    margin = round(MARGIN * min(size))
    uncut = [one for one in assets.photographs if not one.is_cut.all()] or assets.photographs
    salient = [one for one in uncut if (one.is_salient & ~one.is_cut).any()] or uncut
    for _ in range(ATTEMPTS):
        candidates = salient if rng.random() < SALIENT_SHARE else uncut
        photograph = candidates[rng.integers(len(candidates))]
        cast = random_cast(rng, photograph, cuttings=True)
        window = pasting_window(rng, photograph, cast, size, margin)
        alphas = alphas_of(photograph, cast, window)
        if are_visible(alphas, margin):
            break
    return photograph, cast, window, alphas


def are_visible(alphas: list[np.ndarray], margin: int) -> bool:
    """Whether each thing is large enough and mostly in the frame, and not everything moves."""
    inner = slice(DENSITY * margin, -DENSITY * margin)
    shown = [alpha[inner, inner] for alpha in alphas]
    areas = np.array([alpha.mean() for alpha in shown])
    parts = np.array([part.sum() / max(alpha.sum(), 1e-6) for part, alpha in zip(shown, alphas)])
    return bool((areas >= SMALLEST_AREA).all() and (parts >= SMALLEST_PART).all() and areas.max() <= LARGEST_AREA)


def extent_of(photograph: LabeledPhotograph, cast: Cast) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) in pixels of the photograph of all that has a role."""
    together = photograph.masks[[role.mask for role in cast.roles]].max(0) > 127
    rows, columns = np.flatnonzero(together.any(1)), np.flatnonzero(together.any(0))
    step = np.array(photograph.image.size) / together.shape[::-1]
    left, right = columns[[0, -1]] if len(columns) else (0, 0)
    top, bottom = rows[[0, -1]] if len(rows) else (0, 0)
    return (*(np.array([left, top]) * step), *(np.array([right + 1, bottom + 1]) * step))  # type: ignore[return-value]


def pasting_window(
    rng: np.random.Generator, photograph: LabeledPhotograph, cast: Cast, size: tuple[int, int], margin: int
) -> Window:
    """A window that shows the things at a random place of the frame and in a random size."""
    box = np.array(extent_of(photograph, cast))
    is_mirrored = bool(rng.random() < 0.5)
    if is_mirrored:
        box[[0, 2]] = photograph.image.size[0] - box[[2, 0]]
    extent = min(size) * np.exp(rng.uniform(*np.log(PASTED_EXTENT)))
    scale = (box[2:] - box[:2]).max() / extent
    place = rng.uniform(0.25, 0.75, 2) * size[::-1]
    corner = (box[:2] + box[2:]) / 2 - scale * place
    return Window((float(corner[0]), float(corner[1])), float(scale), size, margin, is_mirrored)


def alphas_of(photograph: LabeledPhotograph, cast: Cast, window: Window) -> list[np.ndarray]:
    """The coverage of each role at the density of textures, float32 `[h, w]` in [0, 1]."""
    alphas = []
    for role in cast.roles:
        mask = Image.fromarray(photograph.masks[role.mask])
        # A thing that the border of the photograph cuts goes on beyond it.
        continues = bool(photograph.is_cut[role.mask])
        share = window.layer(mask, photograph.image.size, continues=continues).astype(np.float32) / 255
        alphas.append(np.clip((share - OUTLINE[0]) / (OUTLINE[1] - OUTLINE[0]), 0, 1))
    return alphas


def things_of(
    rng: np.random.Generator,
    color: np.ndarray,
    alphas: list[np.ndarray],
    cast: Cast,
    camera: np.ndarray,
    size: tuple[int, int],
    to_texture: np.ndarray,
    time: np.ndarray,
) -> list[Layer]:
    """A layer for each role, with its path."""
    layers: list[Layer] = []
    for number, (role, texture) in enumerate(zip(cast.roles, cut_out(color, alphas, cast.roles)), 1):
        layer = Layer(texture, to_texture, camera, number)
        carrier = camera if role.carried_by is None else layers[role.carried_by].matrices
        layer.matrices = carrier
        if role.moves and texture[..., 3].any():
            points = layer.points(rng, 48)
            if role.turns_at_joint and role.carried_by is not None:
                place = joint_of(alphas[number - 1], layers[role.carried_by].texture[..., 3])
                joint = paths.apply(np.linalg.inv(to_texture), place)
                own = paths.random_joint_path(rng, time, joint, points, size)
            else:
                own = paths.random_thing_path(rng, time, points, size)
            layer.matrices = carrier @ own
        layers.append(layer)
    return layers


def hole_of(layers: list[Layer], cast: Cast, alphas: list[np.ndarray]) -> np.ndarray:
    """Where the background has to be filled: what moves, with a rim, without what stays in front of it."""
    hole, stays = np.zeros(alphas[0].shape, bool), np.zeros(alphas[0].shape, bool)
    for layer, role, alpha in zip(layers, cast.roles, alphas):
        is_carried_along = role.carried_by is not None and cast.roles[role.carried_by].moves
        if role.moves or is_carried_along:
            hole |= alpha > 0
        else:
            stays |= layer.texture[..., 3] > 0.95
    rim = ndimage.distance_transform_edt(~hole) <= HOLE_RIM * DENSITY if hole.any() else hole
    return rim & ~stays


def fill_background(
    rng: np.random.Generator, assets: Assets, color: np.ndarray, hole: np.ndarray, unseen: int
) -> np.ndarray:
    """The photograph, uint8 `[h, w, 3]`, without what moves. It is filled at the density of frames.

    Args:
        unseen: pixels of a frame at each border of the layer that no frame shows.
    """
    inner = slice(DENSITY * unseen, -DENSITY * unseen or None)
    part, hole = color[inner, inner], hole[inner, inner]
    if not hole.any():
        return color
    height, width = part.shape[:2]
    small = Image.fromarray(part).resize((width // DENSITY, height // DENSITY), Image.Resampling.BOX)
    small_hole = hole.reshape(height // DENSITY, DENSITY, width // DENSITY, DENSITY).any((1, 3))
    filled = assets.filling(np.asarray(small), small_hole, rng)
    large = np.asarray(Image.fromarray(filled).resize((width, height), Image.Resampling.BICUBIC))
    result = color.copy()
    result[inner, inner] = np.where(hole[..., None], large, part)
    return result


def opaque_layer(color: np.ndarray, window: Window, camera: np.ndarray) -> Layer:
    """The background as a layer."""
    alpha = np.ones((*color.shape[:2], 1), np.float32)
    return Layer(np.concatenate([color.astype(np.float32), alpha], axis=2), window.to_texture, camera, 0)


def in_drawing_order(rng: np.random.Generator, layers: list[Layer], cast: Cast) -> list[Layer]:
    """What is carried is in front of what carries it; a part at a joint may be behind; the rest in any order."""
    height = rng.random(len(layers))
    for index, role in enumerate(cast.roles):
        if role.carried_by is not None:
            is_behind = role.turns_at_joint and rng.random() < 0.3
            height[index] = height[role.carried_by] + (-1e-3 if is_behind else 1e-3)
    return [layers[index] for index in np.argsort(height)]
