# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What is done for each message of a page: the steps that the thread of the model takes, and what is sent of them."""

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from PIL import Image

from . import protocol
from .pictures import encoded, lossless_webp, mask_uri
from .pull import Pull
from .refusals import Refused, first_line
from .renders import Renders, disk_error, is_full
from .sessions import Session
from .store import now
from .stored_frames import open_frame
from .tree import Node, branch_of, find_node, node_with_frame
from .worker import Job, ModelThread


if TYPE_CHECKING:
    from .engine import Engine

logger = logging.getLogger(__name__)

# Longer side of a mask that is sent; the page keeps no larger ones.
SENT_MASK_SIDE = 1600


class Tasks:
    """
    Answers the messages of pages.

    Args:
        model (`ModelThread`): Does the work.
        bounds: The bounds of the server.
    """

    def __init__(self, model: ModelThread, bounds: Any):
        self.model, self.bounds = model, bounds
        self.renders = Renders(model, bounds)

    @property
    def fingerprint(self) -> str | None:
        return self.renders.fingerprint

    def rendering(self, session: Session) -> dict[str, Any] | None:
        """The node that is being rendered, and whether it rests."""
        render = self.renders.of(session)
        return None if render is None else {"node": render.node.id, "paused": render.is_paused}

    def answer(self, session: Session, message: protocol.ClientMessage) -> None:
        """
        Takes up a message. Answers come later, from the thread of the model.

        Raises:
            Refused: If it cannot be taken up.
        """
        if self.model.failure is not None and not isinstance(message, protocol.Cancel):
            raise Refused(f"The model could not be loaded: {self.model.failure}", code="failed")
        if isinstance(message, protocol.Flow):
            self.model.ask_flow(session, message)
        elif isinstance(message, protocol.Render):
            self._check(session, message, lambda engine: self._render(engine, session, message))
        elif isinstance(message, protocol.Steer):
            self._check(session, message, lambda engine: self.renders.steer(engine, session, message))
        elif isinstance(message, protocol.Best):
            self._check(session, message, lambda engine: self._best(engine, session, message))
        elif isinstance(message, protocol.Pause):
            self.renders.pause(session, message.node, message.paused)
        elif isinstance(message, protocol.Pull):
            self.renders.pull(session, message)
        elif isinstance(message, protocol.Cancel):
            self._cancel(session, message.node)
        elif isinstance(message, protocol.Enlarge):
            find_node(session.nodes, message.node)
            self.model.add(Job(session, self._enlarge(session, message), lambda: not is_full(session)))
        elif isinstance(message, protocol.Joints):
            self.model.add(self._short(session, message, lambda engine: self._joints(engine, session, message)))
        elif isinstance(message, protocol.Segment):
            self.model.add(self._short(session, message, lambda engine: self._segment(engine, session, message)))
        elif isinstance(message, protocol.Propose):
            self.model.add(self._short(session, message, lambda engine: self._propose(engine, session, message)))

    def answer_flow(self, engine: "Engine", session: Session, request: protocol.Flow) -> None:
        """Computes flow and sends it, or why there is none."""
        begin = time.perf_counter()
        try:
            content, header = engine.flow(session, request)
        except Refused as refused:
            session.send(refused.header("flow", request.rev))
            return
        milliseconds = round(1e3 * (time.perf_counter() - begin), 1)
        header = {"type": "flow", "rev": request.rev, "node": request.node, "frame": request.frame, **header}
        session.send(header | {"ms": milliseconds}, content)

    # Rendering

    def stop(self, session: Session, why: str, *, at_once: bool, node: str | None = None) -> bool:
        """Ends the renders of a session, or that of one node. Returns whether there was one."""
        if self.renders.stop(session, why, at_once=at_once, node=node):
            return True
        if self.renders.of(session) is None and self.model.drop_checks(session):  # it waited for the model
            session.send({"type": "stopped", "node": node, "frames": 0, "why": why})
            return True
        return False

    def _cancel(self, session: Session, node: str | None) -> None:
        """Ends a render at the next denoising step, also one that is just being taken up in the other thread."""

        def stop(engine: "Engine | None" = None) -> bool:
            return self.stop(session, "canceled", at_once=True, node=node)

        if not stop() and self.model.engine is not None:
            self.model.check(session, stop)

    def remove_node(self, session: Session, node: Node) -> list[str]:
        """Removes a node and what continues it, and ends their renders."""
        removed = session.remove_node(node)
        self.renders.remove(session, removed)
        session.send_tree(self.fingerprint)
        return removed

    def _check(
        self,
        session: Session,
        message: protocol.Render | protocol.Steer | protocol.Best,
        work: Callable[["Engine"], None],
    ) -> None:
        """Runs what decides about a message in the thread of the model, and sends why it is refused."""

        def check(engine: "Engine") -> None:
            try:
                work(engine)
            except Refused as refused:
                session.send(refused.header(message.type, message.rev))
            except OSError as error:
                session.send(disk_error(error))

        self.model.check(session, check)

    def _render(self, engine: "Engine", session: Session, message: protocol.Render) -> None:
        self.renders.check_room(session)
        known = session.nodes.get(message.node)
        if known is None:
            node = self._new_node(engine, session, message)
        else:
            node = self._continued_node(known, message)
        pull = None
        if node.endless:
            pull = Pull(session.size, node.num_frames - 1)
            pull.begin(message.strokes, message.num_frames)
        self.renders.add(session, node, message.rev, pull)

    def _new_node(self, engine: "Engine", session: Session, message: protocol.Render) -> Node:
        self.renders.check_nodes(session)
        engine.check_num_frames(message.num_frames)
        parent = None if message.parent is None else self._parent_of(session, message)
        if parent is None and message.at != 0:
            raise Refused(f"at is {message.at}, but there is no parent: give 0, or name a parent.", field="at")
        if parent is None:
            settings = engine.node_settings(session, message.settings or protocol.TreeSettings())
        node = Node(
            id=message.node,
            parent=None if parent is None else parent.id,
            at=message.at,
            num_frames=self.bounds.frames if message.endless else message.num_frames,
            fps=message.fps,
            strokes=message.strokes,
            regions=message.regions if parent is None else parent.regions,
            settings=settings if parent is None else parent.settings,
            model=engine.fingerprint,
            created=now(),
            size="working" if message.preview else "output",
            endless=message.endless,
            camera=protocol.fields_of_camera(message.camera),
        )
        engine.check(session, [*([] if parent is None else branch_of(session.nodes, parent)), node])
        with session.lock:
            session.nodes[node.id] = node
        return node

    def _parent_of(self, session: Session, message: protocol.Render) -> Node:
        """The node that made the frame at which a branch begins: the one that is named, or an ancestor of it."""
        assert message.parent is not None
        parent = find_node(session.nodes, message.parent)
        last = min(parent.last, (self.bounds.frames if message.endless else message.num_frames) - 2)
        if not 1 <= message.at <= last:
            raise Refused(
                f"at is {message.at}; a branch begins at a frame that is made and not the last one, from 1 to {last}.",
                code="node",
                field="at",
                node=parent.id,
            )
        if message.settings is not None:
            raise Refused(
                "A branch has the seed, steps, guidance and sizes of its tree: render from frame 0 for others.",
                code="node",
                field="settings",
            )
        if message.regions not in (None, parent.regions):
            raise Refused(
                "A branch has the regions of its tree: render from frame 0 for others.",
                code="regions",
                field="regions",
            )
        return node_with_frame(session.nodes, parent, message.at)

    @staticmethod
    def _continued_node(node: Node, message: protocol.Render) -> Node:
        """A node that was stopped, to go on with."""
        camera = protocol.fields_of_camera(message.camera)
        if (node.strokes, node.camera, node.at) != (message.strokes, camera, message.at):
            raise Refused(
                "A version of this id has other strokes, or another camera: take a new id.", code="node", node=node.id
            )
        if node.is_running:
            raise Refused("This version is being rendered.", code="busy", node=node.id)
        if node.state == "done" or message.endless:
            raise Refused("This version is complete: render from one of its frames.", code="node", node=node.id)
        return node

    def _best(self, engine: "Engine", session: Session, message: protocol.Best) -> None:
        """Queues renders of the strokes of a branch with other seeds."""
        source = find_node(session.nodes, message.node)
        ids = list(dict.fromkeys(message.ids))
        self.renders.check_nodes(session, len(ids))
        self.renders.check_room(session, len(ids))
        strokes, camera = source.strokes, source.camera
        if source.parent is not None:
            strokes, camera = engine.joined_strokes(session, source), engine.joined_camera(session, source)
        tried = {one.settings.seed for one in session.nodes.values() if source.id in (one.id, one.best_of)}
        seeds = (seed for seed in itertools.count() if seed not in tried)
        nodes = []
        for one, seed in zip(ids, seeds, strict=False):
            if one in session.nodes:
                raise Refused("A version of this id exists: take a new id.", code="node", node=one)
            node = Node(
                id=one,
                parent=None,
                at=0,
                num_frames=source.num_frames,
                fps=source.fps,
                strokes=strokes,
                regions=source.regions,
                settings=replace(source.settings, seed=seed),
                model=engine.fingerprint,
                created=now(),
                size=source.size,
                best_of=source.id,
                camera=camera,
            )
            nodes.append(node)
        engine.check(session, nodes[:1])
        with session.lock:
            session.nodes.update({node.id: node for node in nodes})
        for node in nodes:
            self.renders.add(session, node, message.rev)

    # Full frames

    def _enlarge(self, session: Session, message: protocol.Enlarge) -> Iterator[None]:
        """The frames of a branch at the output size, one a step."""
        try:
            engine, node = self._engine(), find_node(session.nodes, message.node)
            begin, missing = time.perf_counter(), []
            for frame in range(1, node.last + 1):
                name = _full_name(session, node, frame)
                if session.files.has(name):
                    _send_full(session, node, frame, session.files.read(name), 0.0)
                    yield
                else:
                    missing.append(frame)
            for frame, image in engine.full_frames(session, node, missing):
                content = lossless_webp(image)
                if node.id not in session.nodes or session.is_removed:
                    return
                session.files.write(_full_name(session, node, frame), content)
                _send_full(session, node, frame, content, time.perf_counter() - begin)
                yield
                begin = time.perf_counter()
            session.send({"type": "done", "node": node.id, "frames": node.frames, "seconds": None, "enlarged": True})
        except Refused as refused:
            session.send(refused.header("enlarge", message.rev))
        except OSError as error:
            session.send(disk_error(error))

    # Things and people

    def _short(self, session: Session, message: Any, work: Callable[["Engine"], None]) -> Job:
        """A job of one step."""

        def steps() -> Iterator[None]:
            try:
                work(self._engine())
            except Refused as refused:
                session.send(refused.header(message.type, message.rev))
            except (OSError, RuntimeError, ValueError) as error:
                session.send(Refused(f"It did not work: {first_line(error)}.").header(message.type, message.rev))
            yield from ()

        return Job(session, steps(), is_short=True)

    def _joints(self, engine: "Engine", session: Session, message: protocol.Joints) -> None:
        from ..dataset.keypoints import COCO_KEYPOINTS

        picture = engine.picture(session)
        if message.node is not None and message.frame > 0:
            picture = open_frame(session, message.node, message.frame)
        people = [{"points": points} for points in engine.people(picture, session.size)]
        header = {"type": "joints", "rev": message.rev, "node": message.node, "frame": message.frame}
        session.send(header | {"names": list(COCO_KEYPOINTS), "people": people})

    def _segment(self, engine: "Engine", session: Session, message: protocol.Segment) -> None:
        found = engine.segment(session, message.points, message.labels)
        mask = _sent_mask(found.mask)
        header = {"type": "mask", "rev": message.rev, "h": mask.height, "w": mask.width}
        header |= {"confidence": round(float(found.confidence), 4), "warning": found.warning}
        session.send(header, encoded(mask, "PNG", compress_level=6))

    def _propose(self, engine: "Engine", session: Session, message: protocol.Propose) -> None:
        masks = engine.propose(session, message.strokes)
        regions = [{"mask": mask_uri(_sent_mask(mask))} for mask in masks]
        session.send({"type": "proposed", "rev": message.rev, "regions": regions})

    def _engine(self) -> "Engine":
        if self.model.engine is None:
            raise Refused("The model is still loading: try again in a moment.", code="loading", status=503)
        return self.model.engine


def _full_name(session: Session, node: Node, frame: int) -> str:
    return session.files.frame_name(node_with_frame(session.nodes, node, frame).id, frame, "output.webp")


def _send_full(session: Session, node: Node, frame: int, content: bytes, seconds: float) -> None:
    maker = node_with_frame(session.nodes, node, frame)
    header = {"type": "frame", "node": maker.id, "index": frame, "seconds": round(seconds, 4), "size": "output"}
    size = {"width": node.settings.output_width, "height": node.settings.output_height}
    session.send(header | size, content)


def _sent_mask(mask: Any) -> Image.Image:
    """A mask `[H, W]` in [0, 1] as gray, at most 1,600 pixels on a side."""
    image = Image.fromarray((mask * 255).round().astype("uint8"))
    image.thumbnail((SENT_MASK_SIDE, SENT_MASK_SIDE), Image.Resampling.BOX)
    return image
