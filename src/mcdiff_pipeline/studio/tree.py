# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The tree of a session: each node is a render, and a branch continues its parent from a frame with other strokes."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self, TypedDict

from .protocol import ID_PATTERN, KEY_PATTERN, read_camera
from .refusals import Refused
from .settings import GUIDANCE, LARGEST_FRAME, LARGEST_SEED, LARGEST_SIDE, STEPS


NodeState = Literal["queued", "rendering", "done", "stopped", "failed"]
STATES = ("queued", "rendering", "done", "stopped", "failed")


@dataclass(frozen=True)
class NodeSettings:
    """
    What all nodes of a tree share.

    Args:
        seed (`int`): Seed of the noise.
        steps (`int`): Denoising steps of a frame.
        guidance (`float`): Guidance on motion.
        width (`int`): Working width in pixels.
        height (`int`): Working height in pixels.
        output_width (`int`): Width of full frames in pixels. The picture at this size is what the model is given.
        output_height (`int`): Their height.
    """

    seed: int
    steps: int
    guidance: float
    width: int
    height: int
    output_width: int
    output_height: int

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Reads the JSON object. Raises `KeyError`, `TypeError` or `ValueError` if it is damaged."""
        numbers = {name: int(fields[name]) for name in cls.__dataclass_fields__ if name != "guidance"}
        limits = {"seed": LARGEST_SEED, "steps": STEPS}
        for name, value in numbers.items():
            if not (0 if name == "seed" else 1) <= value <= limits.get(name, LARGEST_SIDE):
                raise ValueError(f"{name} is {value}")
        settings = cls(guidance=float(fields["guidance"]), **numbers)
        if not 0 <= settings.guidance <= GUIDANCE:
            raise ValueError(f"guidance is {settings.guidance}")
        if max(settings.width * settings.height, settings.output_width * settings.output_height) > LARGEST_FRAME:
            raise ValueError("its frames are too large")
        return settings


class Score(TypedDict):
    """Mean distances in pixels of the picture: of all strokes, and of each one; None where nothing can be measured."""

    mean: float | None
    strokes: list[float | None]


@dataclass
class Node:
    """
    One render. Its frames are `at + 1` to `at + frames`; frame `at` is the parent's, or the picture.

    Args:
        id (`str`): 32 hexadecimal digits.
        parent (`str`, *optional*): The node that it continues; None begins a tree.
        at (`int`): The frame of the parent that it continues from; 0 without a parent.
        num_frames (`int`): Frames of the video, frame 0 included, when the node is done.
        fps (`float`): Frames per second.
        strokes (`list[dict]`): All strokes of the drawing, as in a stroke sheet, in pixels of the picture.
        regions (`str`, *optional*): Key of the regions; the same in a tree.
        settings (`NodeSettings`): The same in a tree.
        model (`str`): Fingerprint of the model that makes it.
        created (`float`): Unix seconds.
        state (`str`): "queued", "rendering", "done", "stopped" or "failed".
        frames (`int`): How many frames are made.
        size (`"working"` or `"output"`): Size in which its frames are kept.
        seconds (`float`, *optional*): What a frame took, on average.
        name (`str`, *optional*): What the user calls it.
        star (`bool`): Whether the user marked it.
        why (`str`, *optional*): Why it failed.
        endless (`bool`): Whether it goes on until it is stopped; `num_frames` then says which frames are kept.
        best_of (`str`, *optional*): The node whose strokes it has with another seed, to see which one is better.
        score (`Score`, *optional*): How near its strokes are to where they should be.
        camera (`list[dict]`): The moves of its camera; see [`~mcdiff_pipeline.studio.camera_moves`].
    """

    id: str
    parent: str | None
    at: int
    num_frames: int
    fps: float
    strokes: list[dict[str, Any]]
    regions: str | None
    settings: NodeSettings
    model: str
    created: float
    state: NodeState = "queued"
    frames: int = 0
    size: Literal["working", "output"] = "working"
    seconds: float | None = None
    name: str | None = None
    star: bool = False
    why: str | None = None
    endless: bool = False
    best_of: str | None = None
    score: Score | None = None
    camera: list[dict[str, Any]] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The last frame that is made."""
        return self.at + self.frames

    @property
    def is_running(self) -> bool:
        return self.state in ("queued", "rendering")

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the node."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """
        Reads the JSON object. What was running is stopped.

        Raises:
            KeyError, TypeError, ValueError: If it is damaged.
        """
        strokes = fields["strokes"]
        if not isinstance(strokes, list) or not all(isinstance(stroke, dict) for stroke in strokes):
            raise ValueError("strokes is not a list of objects")
        state = STATES[STATES.index(fields["state"])]
        fields = {
            "endless": False,
            "best_of": None,
            "score": None,
            "camera": [],
        } | fields  # files of earlier versions have no such
        of_files = {"id": ID_PATTERN, "parent": ID_PATTERN, "best_of": ID_PATTERN, "regions": KEY_PATTERN}
        for name, pattern in of_files.items():
            if fields[name] is not None and not re.fullmatch(pattern, fields[name]):
                raise ValueError(f"{name} of a node is not one")
        return cls(
            id=str(fields["id"]),
            parent=None if fields["parent"] is None else str(fields["parent"]),
            at=int(fields["at"]),
            num_frames=int(fields["num_frames"]),
            fps=float(fields["fps"]),
            strokes=strokes,
            regions=None if fields["regions"] is None else str(fields["regions"]),
            settings=NodeSettings.from_dict(fields["settings"]),
            model=str(fields["model"]),
            created=float(fields["created"]),
            state="stopped" if state in ("queued", "rendering") else state,  # type: ignore[arg-type]
            size="output" if fields["size"] == "output" else "working",
            seconds=None if fields["seconds"] is None else float(fields["seconds"]),
            name=None if fields["name"] is None else str(fields["name"])[:100],
            star=bool(fields["star"]),
            why=None if fields["why"] is None else str(fields["why"]),
            endless=bool(fields["endless"]),
            best_of=None if fields["best_of"] is None else str(fields["best_of"]),
            score=None if fields["score"] is None else _read_score(fields["score"]),
            camera=read_camera(fields["camera"]),
        )

    def set_frames(self, frames: int) -> None:
        """Says how many frames were found of a node whose render is over."""
        if self.endless:
            self.endless, self.num_frames = False, self.at + max(frames, 1) + 1
        self.frames = min(frames, self.num_frames - 1 - self.at)
        if self.state in ("done", "stopped"):
            self.state = "done" if self.last == self.num_frames - 1 else "stopped"


def _read_score(fields: dict[str, Any]) -> Score:
    """Raises `KeyError`, `TypeError` or `ValueError` if it is damaged."""
    distances = [fields["mean"], *fields["strokes"]]
    mean, *strokes = (None if distance is None else float(distance) for distance in distances)
    return {"mean": mean, "strokes": strokes}


def branch_of(nodes: dict[str, Node], node: Node) -> list[Node]:
    """The nodes from the root of the tree to `node`. Raises `Refused` if they were removed meanwhile."""
    branch = [node]
    while branch[0].parent is not None:
        branch.insert(0, find_node(nodes, branch[0].parent))
    return branch


def cameras_of(branch: Iterable[Node]) -> list[tuple[int, list[dict[str, Any]]]]:
    """Where each node of a branch begins, and the moves of its camera."""
    return [(node.at, node.camera) for node in branch]


def node_with_frame(nodes: dict[str, Node], node: Node, frame: int) -> Node:
    """The node of the branch to `node` that made a frame; the root for frame 0."""
    for one in reversed(branch_of(nodes, node)):
        if frame > one.at or one.parent is None:
            return one
    raise AssertionError("a branch begins with a root")


def subtree_of(nodes: dict[str, Node], node: Node) -> list[Node]:
    """`node` and all nodes that continue it, parents first."""
    found = [node]
    for one in found:
        found.extend(child for child in nodes.values() if child.parent == one.id)
    return found


def check_tree(nodes: dict[str, Node]) -> None:
    """Raises `ValueError` if the nodes of a file are not trees."""
    for node in nodes.values():
        if (node.parent is None) != (node.at == 0) or node.num_frames < 2 or node.at > node.num_frames - 2:
            raise ValueError(f"node {node.id} begins at frame {node.at} of {node.num_frames}")
        if node.parent is not None:
            parent = nodes.get(node.parent)
            if parent is None:
                raise ValueError(f"the parent of node {node.id} is missing")
            if (parent.settings, parent.regions) != (node.settings, node.regions):
                raise ValueError(f"node {node.id} has other settings than its parent")
        seen, one = set(), node
        while one.parent is not None:
            if one.id in seen or one.parent not in nodes:
                raise ValueError(f"node {node.id} continues itself")
            seen.add(one.id)
            one = nodes[one.parent]


def find_node(nodes: dict[str, Node], node_id: str) -> Node:
    """The node of an id. Raises `Refused` if there is none."""
    node = nodes.get(node_id)
    if node is None:
        raise Refused("This version is no longer there: choose another one in the tree.", code="node", status=404)
    return node
