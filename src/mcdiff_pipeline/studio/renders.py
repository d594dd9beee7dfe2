# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Renders: one under way for each session, and those of it that wait.

A render makes the frames of a node, one a step of its job. It can be paused between frames, steered to other strokes
and ended; the next one of the session then begins.
"""

import collections
import errno
import logging
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from PIL import Image

from . import protocol
from .pictures import lossless_webp
from .pull import Pull
from .refusals import Refused, first_line
from .sessions import Session
from .settings import Bounds
from .store import now
from .tree import Node, branch_of
from .worker import Job, ModelThread


if TYPE_CHECKING:
    from .engine import Engine

logger = logging.getLogger(__name__)

# Seconds between two messages about the progress of a frame.
PROGRESS_SECONDS = 0.2
# Messages about progress are left out if as many messages wait.
QUIET_OUTBOX = 8


class Render:
    """
    One render: a node whose frames are being made, or will be.

    Args:
        session (`Session`): Has the node.
        node (`Node`): The node.
        rev (`int`): Of the message that asked for it.
        pull (`Pull`, *optional*): Gives the strokes of an endless render.
    """

    def __init__(self, session: Session, node: Node, rev: int, pull: Pull | None = None):
        self.session, self.node, self.rev, self.pull = session, node, rev, pull
        self.cancel = threading.Event()
        self.why: str | None = None  # it ends after the frame that is being made
        self.steer: protocol.Steer | None = None
        self.is_paused = False

    def stop(self, why: str, at_once: bool) -> None:
        """Ends the render at the next denoising step, or at the next frame."""
        self.why = self.why or why
        if at_once:
            self.cancel.set()

    def is_ready(self) -> bool:
        """Whether a step of it can be made now."""
        if self.why is not None or self.steer is not None or self.session.is_removed:
            return True
        if self.is_paused or is_full(self.session):
            return False
        return self.pull is None or self.pull.is_wanted


class Renders:
    """
    The renders of all sessions.

    Args:
        model (`ModelThread`): Does the work.
        bounds (`Bounds`): The bounds of the server.
    """

    def __init__(self, model: ModelThread, bounds: Bounds):
        self.model, self.bounds = model, bounds
        self._lock = threading.RLock()
        self._under_way: dict[Session, Render] = {}
        self._waiting: dict[Session, collections.deque[Render]] = {}

    @property
    def fingerprint(self) -> str | None:
        return None if self.model.engine is None else self.model.engine.fingerprint

    def of(self, session: Session) -> Render | None:
        """The render of a session that is under way."""
        render = self._under_way.get(session)
        # one that is over is forgotten a moment after its node says so
        return render if render is not None and render.node.is_running else None

    def check_room(self, session: Session, number: int = 1) -> None:
        """Raises `Refused` if a session may not begin as many renders."""
        if session not in self._under_way and len(self._under_way) >= self.bounds.renders:
            raise Refused(
                f"{len(self._under_way)} people are rendering, as many as this server allows: try again in a moment.",
                code="limit",
            )
        waiting = len(self._waiting.get(session, ()))
        if waiting + number - (session not in self._under_way) > self.bounds.queue:
            raise Refused(
                f"{waiting} renders of this picture wait, and {self.bounds.queue} may: wait for one, or cancel some.",
                code="busy",
            )

    def check_nodes(self, session: Session, number: int = 1) -> None:
        """Raises `Refused` if a session may not have as many nodes more."""
        if len(session.nodes) + number > self.bounds.nodes:
            raise Refused(
                f"The picture has {len(session.nodes)} versions of {self.bounds.nodes} that are possible here: remove "
                "some from the tree.",
                code="limit",
            )

    def add(self, session: Session, node: Node, rev: int, pull: Pull | None = None) -> None:
        """Begins the render of a node that is checked, or lets it wait for the others of its session."""
        render = Render(session, node, rev, pull)
        node.state, node.why = "queued", None
        with self._lock:
            others, waits = len(self._under_way), session in self._under_way
            queue = self._waiting.setdefault(session, collections.deque())
            if waits:
                queue.append(render)
            else:
                self._under_way[session] = render
        save(session)
        session.send_tree(self.fingerprint)
        header = {"type": "queued", "rev": rev, "node": node.id, "ahead": 0 if waits else others}
        session.send(header | {"waiting": len(queue)})
        if not waits:
            self._start(render)

    def _start(self, render: Render) -> None:
        self.model.add(Job(render.session, self._steps(render), render.is_ready), is_counted=False)

    # Ending and pausing

    def stop(self, session: Session, why: str, *, at_once: bool, node: str | None = None) -> bool:
        """Ends the renders of a session, or that of one node. Returns whether there was one."""
        with self._lock:
            render = self._under_way.get(session)
            waiting = self._waiting.get(session, collections.deque())
            dropped = [one for one in waiting if node in (None, one.node.id)]
            for one in dropped:
                waiting.remove(one)
                one.node.state = "stopped"
            is_meant = render is not None and node in (None, render.node.id)
            if render is not None and is_meant:
                render.stop(why, at_once)
        if dropped and why != "removed":
            steps = self._drop(session, [one.node for one in dropped], why)
            self.model.add(Job(session, steps, is_short=True), is_counted=False)  # it writes a file
        self.model.wake()
        return is_meant or bool(dropped)

    def _drop(self, session: Session, nodes: list[Node], why: str) -> Iterator[None]:
        """Says that renders that waited will not begin. A node that was made for its render alone goes, too."""
        with session.lock:
            for node in nodes:
                if node.best_of is not None and not node.frames and node.state == "stopped":
                    session.nodes.pop(node.id, None)
        save(session)
        session.send_tree(self.fingerprint)
        for node in nodes:
            session.send({"type": "stopped", "node": node.id, "frames": node.frames, "why": why})
        yield from ()

    def remove(self, session: Session, nodes: list[str]) -> None:
        """Ends the renders of nodes that are removed."""
        for node in nodes:
            self.stop(session, "removed", at_once=True, node=node)

    def pause(self, session: Session, node: str, is_paused: bool) -> None:
        """Lets a render rest after the frame that is being made, or go on. Raises `Refused` if it is not under way."""
        render = self._found(session, node)
        render.is_paused = is_paused
        session.send({"type": "paused", "node": node, "paused": is_paused, "frame": render.node.last})
        self.model.wake()

    def pull(self, session: Session, message: protocol.Pull) -> None:
        """Moves the pen of an endless render. Raises `Refused` if there is none."""
        render = self._found(session, message.node)
        if render.pull is None:
            raise Refused("This render follows its strokes, and not a pen.", code="node", node=message.node)
        render.pull.pull(message.start, message.to, is_down=message.down)
        self.model.wake()

    def _found(self, session: Session, node: str) -> Render:
        render = self.of(session)
        if render is None or render.node.id != node:
            raise Refused("This version is not being rendered: render from one of its frames.", code="node")
        return render

    # Frames

    def _steps(self, render: Render) -> Iterator[None]:
        """The frames of a render, one a step."""
        session, engine = render.session, self.model.engine
        assert engine is not None
        begin = time.perf_counter()
        strokes = None if render.pull is None else self._pulled(render, render.pull)
        frames = engine.frames(session, render.node, render.cancel, self._after_denoising_step(render), strokes)
        try:
            render.node.state = "rendering"
            found = engine.stroke_warnings(session, render.node)
            session.send({"type": "warnings", "rev": render.rev, "node": render.node.id, "warnings": found})
            while self._goes_on(render):
                made = next(frames, None)
                if made is None or session.is_removed or render.why == "removed":
                    break
                begin = self._keep_frame(engine, render, *made, begin)
                yield
                if render.pull is not None:
                    begin = time.perf_counter()  # it may have rested
            if render.node.best_of is not None and render.why is None:
                yield from self._score_all(engine, render)
            self._end(render)
        except Refused as refused:
            self._end_refused(render, refused)
        except OSError as error:
            session.send(disk_error(error))
            self._end(render, "The disk is full." if _is_full_disk(error) else f"A frame cannot be written: {error}.")
        except (RuntimeError, MemoryError, ValueError, ArithmeticError) as error:
            logger.debug("a render failed", exc_info=True)
            self._end(render, f"The frame could not be made ({first_line(error)}): try a smaller size.")
        finally:
            frames.close()
            self._end_turn(render)

    def _goes_on(self, render: Render) -> bool:
        """Whether there is another frame to make. Here a change of strokes takes effect."""
        node = render.node
        if render.steer is not None:
            self._branch_off(render, render.steer)
        return render.why is None and (render.pull is not None or node.last < node.num_frames - 1)

    def _end_turn(self, render: Render) -> None:
        """After the last step of a render, the next one of its session begins."""
        session = render.session
        if render.steer is not None and render.why == "steered" and not session.is_removed:
            if self._begin_branch(render, render.steer):
                return
        with self._lock:
            waiting = self._waiting.get(session)
            following = waiting.popleft() if waiting and not session.is_removed else None
            if following is None:
                self._under_way.pop(session, None)
                self._waiting.pop(session, None)
            else:
                self._under_way[session] = following
        if following is not None:
            session.send({"type": "begun", "node": following.node.id})
            self._start(following)

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
        is_kept = state.frame < node.num_frames
        if is_kept:
            if node.size == "output":
                session.files.write(session.files.frame_name(node.id, state.frame, "output.webp"), content)
            session.files.write(session.files.frame_name(node.id, state.frame, "webp"), content)
            engine.keep(session, node, state)
        end = time.perf_counter()
        seconds = end - begin
        with session.lock:
            node.seconds = seconds if node.seconds is None else 0.5 * (node.seconds + seconds)
            node.frames = min(state.frame, node.num_frames - 1) - node.at
        header = {"type": "frame", "node": node.id, "index": state.frame, "seconds": round(seconds, 4)}
        header |= {"size": node.size, "width": image.width, "height": image.height, "kept": is_kept}
        session.send(header, content)
        self.model.serve()  # also after decoding
        return end

    def _end(self, render: Render, failure: str | None = None) -> None:
        """Says that a render is over, and how."""
        session, node = render.session, render.node
        if render.pull is not None:
            self._end_endless(render, render.pull)
        is_done = node.last == node.num_frames - 1
        with session.lock:
            node.state = "failed" if failure is not None else "done" if is_done else "stopped"
            node.why = failure
        header: dict[str, Any] = {"node": node.id, "frames": node.frames}
        if failure is not None:
            header |= {"type": "failed", "why": failure}
        elif is_done and render.pull is None:
            header |= {"type": "done", "seconds": node.seconds}
        else:
            header |= {"type": "stopped", "why": render.why or "canceled"}
        if session.is_removed or (node.id not in session.nodes and render.pull is None):
            return
        save(session)
        session.send_tree(self.fingerprint)
        session.send(header)

    def _end_refused(self, render: Render, refused: Refused) -> None:
        """A render that turns out to be impossible: without any frame, it never was."""
        if render.node.frames:
            self._end(render, refused.why)
            return
        with render.session.lock:
            render.session.nodes.pop(render.node.id, None)
        save(render.session)
        render.session.send_tree(self.fingerprint)
        render.session.send(refused.header("render", render.rev))

    # Endless renders

    def _pulled(self, render: Render, pull: Pull) -> Callable[[int], Node]:
        """What gives the node of an endless render with its strokes up to the frame after the current one."""
        node, session = render.node, render.session

        def node_at(frame: int) -> Node:
            strokes = pull.strokes(frame)
            if frame + 1 < node.num_frames:  # before the frame is written, so that no crash leaves it without them
                with session.lock:
                    node.strokes = strokes
                session.save()
            return replace(node, strokes=strokes, num_frames=max(node.num_frames, frame + 2))

        return node_at

    def _end_endless(self, render: Render, pull: Pull) -> None:
        """Makes the node that of a video of its length; without any frame, it never was."""
        session, node = render.session, render.node
        with session.lock:
            node.endless = False
            node.strokes = pull.strokes_until(node.last)
            node.num_frames = max(node.last, node.at + 1) + 1
            if not node.frames:
                session.nodes.pop(node.id, None)

    # Steering

    def steer(self, engine: "Engine", session: Session, message: protocol.Steer) -> None:
        """Changes the strokes of a render from its next frame on. Raises `Refused` if that is not possible."""
        render = self._found(session, message.node)
        node = render.node
        at = max(node.last, node.at + 1)
        if at > node.num_frames - 2:
            raise Refused("The version is nearly complete: render from one of its frames.", code="node")
        if node.frames:
            self.check_nodes(session)
        engine.check(session, [*branch_of(session.nodes, node), self._child(node, message, at)])
        render.steer, render.is_paused = message, False
        self.model.wake()

    def _branch_off(self, render: Render, message: protocol.Steer) -> None:
        """Ends a render at the frame that is made, so that a child goes on."""
        node, session = render.node, render.session
        if not node.frames:  # nothing was made of its strokes yet
            with session.lock:
                node.strokes = message.strokes
                node.camera = protocol.fields_of_camera(message.camera)
            if render.pull is not None:
                render.pull.begin(message.strokes, message.num_frames or node.num_frames)
            render.steer = None
            save(session)
            session.send_tree(self.fingerprint)
            header = {"type": "steered", "rev": message.rev, "node": node.id, "child": node.id}
            session.send(header | {"frame": node.at})
        elif node.last <= node.num_frames - 2:
            render.why = render.why or "steered"
        else:
            why = "The version was complete before the change: render from one of its frames."
            session.send(Refused(why, code="node").header("steer", message.rev))
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
            camera=protocol.fields_of_camera(message.camera),
        )

    def _begin_branch(self, render: Render, message: protocol.Steer) -> bool:
        """Begins the child of a render that was steered, before others that wait. Returns whether it did."""
        session = render.session
        child = self._child(render.node, message, render.node.last)
        try:
            self.check_nodes(session)
        except Refused as refused:  # others were made meanwhile
            session.send(refused.header("steer", message.rev))
            session.send({"type": "stopped", "node": render.node.id, "frames": render.node.frames, "why": "canceled"})
            return False
        if render.pull is not None:
            child.endless, child.num_frames = True, self.bounds.frames
            render.pull.begin(message.strokes, message.num_frames or self.bounds.frames)
        with session.lock:
            session.nodes[child.id] = child
        header = {"type": "steered", "rev": message.rev, "node": render.node.id, "child": child.id}
        session.send(header | {"frame": child.at})
        with self._lock:
            following = self._under_way[session] = Render(session, child, message.rev, render.pull)
        save(session)
        session.send_tree(self.fingerprint)
        self._start(following)
        return True

    # Scores

    def _score_all(self, engine: "Engine", render: Render) -> Generator[None, None, None]:
        """Measures how well a node follows its strokes, and the node that it competes with."""
        session = render.session
        for node in (session.nodes.get(str(render.node.best_of)), render.node):
            if node is None or node.score is not None or node.last < node.num_frames - 1:
                continue
            try:
                for score in engine.scores(session, node):
                    yield
                    if score is not None:
                        node.score = score
            except Refused:  # its frames are gone
                continue


def save(session: Session) -> None:
    """Writes `session.json`, or says why that is not possible."""
    try:
        session.save()
    except OSError as error:
        session.send(disk_error(error))


def is_full(session: Session) -> bool:
    """Whether the page has to read before it gets more."""
    return session.outbox is not None and session.outbox.is_full


def _is_full_disk(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_error(error: OSError) -> dict[str, Any]:
    """The message about a file that cannot be written."""
    why = "The disk is full: make room, what you draw is kept in the page until then."
    if not _is_full_disk(error):
        why = f"A file cannot be written ({error.strerror or error}): what you draw is kept in the page."
    return {"type": "error", "code": "disk", "why": why}
