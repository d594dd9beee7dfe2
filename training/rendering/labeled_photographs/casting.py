"""Which things of a photograph move, and how they depend on each other."""

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from rendering.labeled_photographs.assets import LabeledPhotograph, small_masks


# How often things move as a whole, a part moves alone, a part moves on a whole that moves, or two things or parts
# turn about the place where they touch. What a photograph does not offer is replaced by the first.
KINDS = {"wholes": 0.45, "part": 0.15, "part of a whole": 0.15, "joint": 0.25}
NUM_WHOLES = {1: 0.5, 2: 0.35, 3: 0.15}
# Things that are labeled although they do not move.
NUM_STILL = {0: 0.6, 1: 0.25, 2: 0.15}
# Things are apart if they share less than this part of the smaller one.
APART = 0.15


@dataclass
class Role:
    """A thing that is labeled in a clip.

    Args:
        mask: its index in the photograph.
        moves: whether it moves by itself.
        carried_by: the number of the role that carries it along; None if it is carried by the camera only.
        turns_at_joint: whether it turns about the place where it touches the one that carries it.
    """

    mask: int
    moves: bool = True
    carried_by: int | None = None
    turns_at_joint: bool = False


@dataclass
class Cast:
    """The roles of a clip, and the word for them in its meta."""

    kind: str
    roles: list[Role] = field(default_factory=list)


def random_cast(rng: np.random.Generator, photograph: LabeledPhotograph, *, cuttings: bool = False) -> Cast:
    """A random choice of moving and still things.

    Args:
        cuttings: whether things are taken out of the photograph, so that none may be cut by its border.
    """
    masks = small_masks(photograph.masks)
    usable = np.flatnonzero(~photograph.is_cut) if cuttings else np.arange(len(masks))
    usable = usable if len(usable) else np.arange(len(masks))
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    cast = None
    if kind == "joint":
        cast = _joint(rng, masks, photograph.wholes, usable)
    elif kind != "wholes":
        cast = _part(rng, photograph.wholes, usable, kind)
    cast = cast or _wholes(rng, photograph, masks, usable)
    return cast if cuttings else _with_still_things(rng, cast, masks, photograph.wholes)


def _wholes(rng: np.random.Generator, photograph: LabeledPhotograph, masks: np.ndarray, usable: np.ndarray) -> Cast:
    """One to three things that are apart; rather whole and salient ones."""
    weights = np.where(photograph.wholes[usable] < 0, 3.0, 1.0) + 3.0 * photograph.is_salient[usable]
    order = rng.choice(usable, size=len(usable), replace=False, p=weights / weights.sum())
    number = int(rng.choice(list(NUM_WHOLES), p=list(NUM_WHOLES.values())))
    chosen: list[int] = []
    for index in order:
        if len(chosen) < number and all(_are_apart(masks, index, other) for other in chosen):
            chosen.append(int(index))
    return Cast("wholes", [Role(index) for index in chosen])


def _part(rng: np.random.Generator, wholes: np.ndarray, usable: np.ndarray, kind: str) -> Cast | None:
    """A part that moves on its whole, which moves, too, or not."""
    parts = [int(index) for index in usable if wholes[index] >= 0]
    if not parts:
        return None
    part = int(rng.choice(parts))
    return Cast(kind, [Role(int(wholes[part]), moves=kind == "part of a whole"), Role(part, carried_by=0)])


def _joint(rng: np.random.Generator, masks: np.ndarray, wholes: np.ndarray, usable: np.ndarray) -> Cast | None:
    """A part at the rim of its whole, or a thing that touches another one."""
    pairs = [
        (int(first), int(second))
        for second in usable
        for first in usable
        if (first == wholes[second] and _sticks_out(masks[first], masks[second]))
        or (first != second and _touch(masks[first], masks[second]))
    ]
    if not pairs:
        return None
    carrier, part = pairs[rng.integers(len(pairs))]
    carrier_moves = bool(rng.random() < 0.6)
    return Cast("joint", [Role(carrier, carrier_moves), Role(part, carried_by=0, turns_at_joint=True)])


def _with_still_things(rng: np.random.Generator, cast: Cast, masks: np.ndarray, wholes: np.ndarray) -> Cast:
    number = int(rng.choice(list(NUM_STILL), p=list(NUM_STILL.values())))
    for index in rng.permutation(len(masks))[: 2 * number]:
        apart = all(_are_apart(masks, int(index), role.mask) for role in cast.roles)
        if apart and sum(not role.moves for role in cast.roles) < number:
            cast.roles.append(Role(int(index), moves=False))
    return cast


def _are_apart(masks: np.ndarray, first: int, second: int) -> bool:
    smaller = min(masks[first].sum(), masks[second].sum())
    return bool((masks[first] & masks[second]).sum() <= APART * max(smaller, 1))


def _sticks_out(whole: np.ndarray, part: np.ndarray) -> bool:
    """Whether at least a third of the outline of a part is outline of the whole, and part of it is not."""
    outline = ndimage.binary_dilation(part) & ~part
    free = (outline & ~ndimage.binary_erosion(whole)).sum() / max(outline.sum(), 1)
    return bool(0.33 < free < 0.95)


def _touch(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two things that do not overlap touch along 5 to 50 % of the outline of the second."""
    outline = ndimage.binary_dilation(second, iterations=2) & ~second
    shared = (outline & first).sum() / max(outline.sum(), 1)
    overlap = (first & second).sum() / max(second.sum(), 1)
    return bool(0.05 < shared < 0.5 and overlap < APART)
