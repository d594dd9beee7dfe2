# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What is done for each message of a page: the steps that the thread of the model takes, and what is sent of them."""

import errno
import io
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from PIL import Image

from . import protocol
from .pictures import PICTURE_ERRORS, encoded, lossless_webp, mask_uri
from .refusals import Refused, first_line
from .sessions import Session
from .store import now
from .tree import Node, branch_of, find_node, node_with_frame
from .worker import Job, ModelThread


if TYPE_CHECKING:
    from .engine import Engine

logger = logging.getLogger(__name__)

# Longer side of a mask that is sent; the page keeps no larger ones.
SENT_MASK_SIDE = 1600
# Seconds between two messages about the progress of a frame.
PROGRESS_SECONDS = 0.2
# Messages about progress are left out if as many messages wait.
QUIET_OUTBOX = 8


class Render:
    """
    One render: a node whose frames are being made.

    Args:
        session (`Session`): Has the node.
        node (`Node`): The node.
    """

    def __init__(self, session: Session, node: Node):
        self.session, self.node = session, node
        self.cancel = threading.Event()
        self.why: str | None = None  # it ends after the frame that is being made
        self.steer: protocol.Steer | None = None

    def stop(self, why: str, at_once: bool) -> None:
        """Ends the render at the next denoising step, or at the next frame."""
        self.why = self.why or why
        if at_once:
            self.cancel.set()


class Tasks:
    """
    Answers the messages of pages.

    Args:
        model (`ModelThread`): Does the work.
        bounds: The bounds of the server.
    """

    def __init__(self, model: ModelThread, bounds: Any):
        self.model, self.bounds = model, bounds
        self._renders: dict[Session, Render] = {}

    @property
    def fingerprint(self) -> str | None:
        return None if self.model.engine is None else self.model.engine.fingerprint

    def rendering(self, session: Session) -> Node | None:
        """The node that is being rendered."""
        render = self._renders.get(session)
        # one that is over is forgotten a moment after its node says so
        return render.node if render is not None and render.node.is_running else None

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
            self._check(session, message, lambda engine: self._steer(engine, session, message))
        elif isinstance(message, protocol.Cancel):
            self._cancel(session, message.node)
        elif isinstance(message, protocol.Enlarge):
            find_node(session.nodes, message.node)
            self.model.add(Job(session, self._enlarge(session, message), lambda: not _is_full(session)))
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
        """Ends the render of a session, if there is one (of this node). Returns whether there was."""
        render = self._renders.get(session)
        if render is not None and node in (None, render.node.id):
            render.stop(why, at_once)
            return True
        if render is None and self.model.drop_checks(session):  # it was waiting for the model to be loaded
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
        """Removes a node and what continues it, and ends their render."""
        removed = session.remove_node(node)
        render = self._renders.get(session)
        if render is not None and render.node.id in removed:
            render.stop("removed", at_once=True)
        session.send_tree(self.fingerprint)
        return removed

    def _check(
        self, session: Session, message: protocol.Render | protocol.Steer, work: Callable[["Engine"], None]
    ) -> None:
        """Runs what decides about a message in the thread of the model, and sends why it is refused."""

        def check(engine: "Engine") -> None:
            try:
                work(engine)
            except Refused as refused:
                session.send(refused.header(message.type, message.rev))
            except OSError as error:
                session.send(_disk_error(error))

        self.model.check(session, check)

    def _render(self, engine: "Engine", session: Session, message: protocol.Render) -> None:
        if session in self._renders:
            raise Refused("A version of this picture is being rendered: stop it first.", code="busy")
        if len(self._renders) >= self.bounds.renders:
            raise Refused(
                f"{len(self._renders)} people are rendering, as many as this server allows: try again in a moment.",
                code="limit",
            )
        known = session.nodes.get(message.node)
        if known is None:
            node = self._new_node(engine, session, message)
        else:
            node = self._continued_node(known, message)
        self._begin(session, node, message.rev)

    def _new_node(self, engine: "Engine", session: Session, message: protocol.Render) -> Node:
        if len(session.nodes) >= self.bounds.nodes:
            raise Refused(
                f"The picture has {len(session.nodes)} versions, as many as possible here: remove one from the tree.",
                code="limit",
            )
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
            num_frames=message.num_frames,
            fps=message.fps,
            strokes=message.strokes,
            regions=message.regions if parent is None else parent.regions,
            settings=settings if parent is None else parent.settings,
            model=engine.fingerprint,
            created=now(),
            size="working" if message.preview else "output",
        )
        engine.check(session, [*([] if parent is None else branch_of(session.nodes, parent)), node])
        with session.lock:
            session.nodes[node.id] = node
        return node

    @staticmethod
    def _parent_of(session: Session, message: protocol.Render) -> Node:
        """The node that made the frame at which a branch begins: the one that is named, or an ancestor of it."""
        assert message.parent is not None
        parent = find_node(session.nodes, message.parent)
        last = min(parent.last, message.num_frames - 2)
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
        if node.strokes != message.strokes or node.at != message.at:
            raise Refused("A version of this id has other strokes: take a new id.", code="node", node=node.id)
        if node.state == "done":
            raise Refused("This version is complete: render from one of its frames.", code="node", node=node.id)
        return node

    def _begin(self, session: Session, node: Node, rev: int) -> None:
        """Queues the render of a node that is checked."""
        render = Render(session, node)
        node.state, node.why = "queued", None
        try:
            session.save()
        except OSError as error:
            session.send(_disk_error(error))
        others = len(self._renders)
        self._renders[session] = render
        session.send_tree(self.fingerprint)
        session.send({"type": "queued", "rev": rev, "node": node.id, "ahead": others})
        steps = self._render_steps(render, rev)
        self.model.add(Job(session, steps, lambda: render.cancel.is_set() or not _is_full(session)), is_counted=False)

    def _render_steps(self, render: Render, rev: int) -> Iterator[None]:
        """The frames of a render, one a step."""
        session, engine = render.session, self.model.engine
        assert engine is not None
        begin = time.perf_counter()
        frames = engine.frames(session, render.node, render.cancel, self._after_denoising_step(render))
        try:
            render.node.state = "rendering"
            found = engine.stroke_warnings(session, render.node)
            session.send({"type": "warnings", "rev": rev, "node": render.node.id, "warnings": found})
            while render.why is None and render.node.last < render.node.num_frames - 1:
                made = next(frames, None)
                if made is None or session.is_removed or render.why == "removed":
                    break
                begin = self._keep_frame(engine, render, *made, begin)
                if render.steer is not None:
                    self._branch_off(render)
                yield
            self._end(render)
        except Refused as refused:
            self._end_refused(render, refused, rev)
        except OSError as error:
            session.send(_disk_error(error))
            self._end(render, "The disk is full." if _is_full_disk(error) else f"A frame cannot be written: {error}.")
        except (RuntimeError, MemoryError, ValueError, ArithmeticError) as error:
            logger.debug("a render failed", exc_info=True)
            self._end(render, f"The frame could not be made ({first_line(error)}): try a smaller size.")
        finally:
            frames.close()
            self._renders.pop(session, None)
        if render.steer is not None and render.node.state == "stopped" and not session.is_removed:
            self._begin_branch(render, rev)

    def _after_denoising_step(self, render: Render) -> Callable[[int, int, int], None]:
        """What happens between denoising steps: flow of all sessions is answered."""
        last = time.perf_counter()

        def after_step(frame: int, step: int, steps: int) -> None:
            nonlocal last
            outbox = render.session.outbox
            if time.perf_counter() - last > PROGRESS_SECONDS and outbox is not None and len(outbox) < QUIET_OUTBOX:
                last = time.perf_counter()
                header = {"type": "progress", "node": render.node.id, "index": frame, "step": step, "steps": steps}
                render.session.send(header)
            self.model.serve()

        return after_step

    def _keep_frame(self, engine: "Engine", render: Render, image: Image.Image, state: Any, begin: float) -> float:
        """Writes a frame and sends it. Returns the time at which the next one begins."""
        session, node = render.session, render.node
        content = lossless_webp(image)
        if node.size == "output":
            session.files.write(session.files.frame_name(node.id, state.frame, "output.webp"), content)
        session.files.write(session.files.frame_name(node.id, state.frame, "webp"), content)
        engine.keep(session, node, state)
        end = time.perf_counter()
        seconds = end - begin
        with session.lock:
            node.seconds = seconds if node.seconds is None else 0.5 * (node.seconds + seconds)
            node.frames = state.frame - node.at
        header = {"type": "frame", "node": node.id, "index": state.frame, "seconds": round(seconds, 4)}
        session.send(header | {"size": node.size, "width": image.width, "height": image.height}, content)
        self.model.serve()  # also after decoding
        return end

    def _end(self, render: Render, failure: str | None = None) -> None:
        """Says that a render is over, and how."""
        session, node = render.session, render.node
        is_done = node.last == node.num_frames - 1
        with session.lock:
            node.state = "failed" if failure is not None else "done" if is_done else "stopped"
            node.why = failure
        header: dict[str, Any] = {"node": node.id, "frames": node.frames}
        if failure is not None:
            header |= {"type": "failed", "why": failure}
        elif is_done:
            header |= {"type": "done", "seconds": node.seconds}
        else:
            header |= {"type": "stopped", "why": render.why or "canceled"}
        if session.is_removed or node.id not in session.nodes:
            return
        try:
            session.save()
        except OSError as error:
            session.send(_disk_error(error))
        session.send_tree(self.fingerprint)
        session.send(header)

    def _end_refused(self, render: Render, refused: Refused, rev: int) -> None:
        """A render that turns out to be impossible: without any frame, it never was."""
        if render.node.frames:
            self._end(render, refused.why)
            return
        with render.session.lock:
            render.session.nodes.pop(render.node.id, None)
        try:
            render.session.save()
        except OSError as error:
            render.session.send(_disk_error(error))
        render.session.send_tree(self.fingerprint)
        render.session.send(refused.header("render", rev))

    # Steering

    def _steer(self, engine: "Engine", session: Session, message: protocol.Steer) -> None:
        render = self._renders.get(session)
        if render is None or render.node.id != message.node:
            raise Refused("This version is not being rendered: render from one of its frames.", code="node")
        at = max(render.node.last, render.node.at + 1)
        if at > render.node.num_frames - 2:
            raise Refused("The version is nearly complete: render from one of its frames.", code="node")
        engine.check(session, [*branch_of(session.nodes, render.node), self._child(render.node, message, at)])
        render.steer = message

    def _branch_off(self, render: Render) -> None:
        """Ends a render at the frame that is made, so that a child goes on."""
        if 1 <= render.node.last <= render.node.num_frames - 2:
            render.why = render.why or "steered"
        else:
            assert render.steer is not None
            why = "The version was complete before the change: render from one of its frames."
            render.session.send(Refused(why, code="node").header("steer", render.steer.rev))
            render.steer = None

    @staticmethod
    def _child(node: Node, message: protocol.Steer, at: int) -> Node:
        return Node(
            id=secrets.token_hex(16),
            parent=node.id,
            at=at,
            num_frames=node.num_frames,
            fps=node.fps,
            strokes=message.strokes,
            regions=node.regions,
            settings=node.settings,
            model=node.model,
            created=now(),
            size=node.size,
        )

    def _begin_branch(self, render: Render, rev: int) -> None:
        """Begins the child of a render that was steered."""
        session, message = render.session, render.steer
        assert message is not None
        child = self._child(render.node, message, render.node.last)
        if len(session.nodes) >= self.bounds.nodes:
            why = f"The picture has {len(session.nodes)} versions, as many as possible here: remove one from the tree."
            session.send(Refused(why, code="limit").header("steer", message.rev))
            return
        with session.lock:
            session.nodes[child.id] = child
        header = {"type": "steered", "rev": message.rev, "node": render.node.id, "child": child.id}
        session.send(header | {"frame": child.at})
        self._begin(session, child, message.rev)

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
            session.send(_disk_error(error))

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


def stored_frame(session: Session, node_id: str, frame: int, *, full: bool = False) -> bytes:
    """
    The file of a frame of a branch, frame 0 excepted.

    Raises:
        Refused: If there is none.
    """
    node = node_with_frame(session.nodes, find_node(session.nodes, node_id), frame)
    if frame > node.last or frame < 1:
        raise Refused(f"Frame {frame} is not made.", code="node", status=404)
    try:
        return session.files.read(session.files.frame_name(node.id, frame, "output.webp" if full else "webp"))
    except OSError:
        raise Refused(f"Frame {frame} is not there in this size.", code="node", status=404) from None


def open_frame(session: Session, node_id: str, frame: int, *, full: bool = False) -> Image.Image:
    """
    A frame of a branch, frame 0 excepted, as RGB.

    Raises:
        Refused: If there is none, or its file is damaged or has another size than a frame has.
    """
    settings = find_node(session.nodes, node_id).settings
    sizes = (settings.width, settings.height), (settings.output_width, settings.output_height)
    try:
        picture = Image.open(io.BytesIO(stored_frame(session, node_id, frame, full=full)), formats=["WEBP"])
        if picture.size in sizes:
            return picture.convert("RGB")
    except PICTURE_ERRORS:
        pass
    raise Refused(f"The file of frame {frame} is damaged: render it again.", code="node")


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


def _is_full(session: Session) -> bool:
    return session.outbox is not None and session.outbox.is_full


def _is_full_disk(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _disk_error(error: OSError) -> dict[str, Any]:
    why = "The disk is full: make room, what you draw is kept in the page until then."
    if not _is_full_disk(error):
        why = f"A file cannot be written ({error.strerror or error}): what you draw is kept in the page."
    return {"type": "error", "code": "disk", "why": why}
