# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The thread that owns the model, and whose turn it is.

Order: what takes no time (checks of a new render), then the newest flow request of each session, then one step of a
job. Sessions take turns by step; a step of a render is a frame. A job that is busy with a step calls
[`ModelThread.serve`] between denoising steps, so that flow never waits for a whole frame.
"""

import collections
import functools
import logging
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .refusals import Refused
from .sessions import Session


if TYPE_CHECKING:
    from .engine import Engine

logger = logging.getLogger(__name__)

# Jobs of one session that wait or run, besides its render; and its checks that wait.
JOBS, CHECKS = 4, 16


class Job:
    """
    Work for one session, in steps.

    Args:
        session (`Session`): For whom it is.
        steps (`Iterator[None]`): Each `next` is one step. It runs in the thread of the model, and catches its errors.
        is_ready (`Callable[[], bool]`): Whether it can make a step now, or has to wait for a slow reader.
        is_short (`bool`, defaults to `False`): Whether it goes before other jobs of its session.
    """

    def __init__(
        self,
        session: Session,
        steps: Iterator[None],
        is_ready: Callable[[], bool] = lambda: True,
        is_short: bool = False,
    ):
        self.session, self.steps, self.is_ready, self.is_short = session, steps, is_ready, is_short


class ModelThread(threading.Thread):
    """
    Loads the model and does all work with it.

    Args:
        load (`Callable[[], Engine]`): Loads the model, in this thread.
        answer_flow (`Callable[[Engine, Session, Any], None]`): Answers a flow request. It catches its errors.
        changed (`Callable[[], None]`): Called when the model is loaded, or could not be.
        begin (`threading.Event`): Loading begins when this is set.
    """

    def __init__(
        self,
        load: Callable[[], "Engine"],
        answer_flow: Callable[["Engine", Session, Any], None],
        changed: Callable[[], None],
        begin: threading.Event,
    ):
        super().__init__(name="mcdiff-model", daemon=True)
        self._load, self._answer_flow, self._changed, self._begin = load, answer_flow, changed, begin
        self.engine: Engine | None = None
        self.failure: str | None = None
        self._condition = threading.Condition(threading.RLock())
        self._flows: dict[Session, Any] = {}
        self._checks: collections.deque[tuple[Session, Callable[[Engine], object]]] = collections.deque()
        self._jobs: dict[Session, list[Job]] = {}  # in the order of turns
        self._running: Job | None = None
        self._is_ending = False

    @property
    def state(self) -> str:
        """ "loading", "ready" or "failed"."""
        return "failed" if self.failure is not None else "loading" if self.engine is None else "ready"

    def ask_flow(self, session: Session, request: Any) -> None:
        """Asks for flow; a request of the session that still waits is dropped."""
        with self._condition:
            self._flows[session] = request
            self._condition.notify_all()

    def check(self, session: Session, check: Callable[["Engine"], object]) -> None:
        """Runs something short between two denoising steps. It catches its errors. `Refused` if too many wait."""
        with self._condition:
            waiting = sum(one is session for one, _ in self._checks)
            if waiting >= CHECKS:
                raise Refused(f"{waiting} requests wait: wait for one of them.", code="busy", status=429)
            self._checks.append((session, check))
            self._condition.notify_all()

    def drop_checks(self, session: Session) -> bool:
        """Drops the checks of a session that wait. Returns whether there were any."""
        with self._condition:
            kept = [one for one in self._checks if one[0] is not session]
            dropped = len(kept) < len(self._checks)
            self._checks = collections.deque(kept)
            return dropped

    def add(self, job: Job, *, is_counted: bool = True) -> None:
        """Queues a job. Raises `Refused` if its session has too many, unless this one is not counted."""
        with self._condition:
            jobs = self._jobs.setdefault(job.session, [])
            if is_counted and len(jobs) > JOBS:
                raise Refused(
                    f"{len(jobs)} requests of this picture are being worked on: wait for one of them.",
                    code="busy",
                    status=429,
                )
            jobs.insert(0 if job.is_short else len(jobs), job)
            self._condition.notify_all()

    def is_busy(self, session: Session) -> bool:
        """Whether a job of the session waits or runs."""
        with self._condition:
            return bool(self._jobs.get(session)) or any(one is session for one, _ in self._checks)

    def forget(self, session: Session) -> None:
        """Drops what a closed session has asked for, and what is kept for it."""
        with self._condition:
            self._flows.pop(session, None)
            self._checks.append((session, lambda engine: engine.forget(session)))
            self._condition.notify_all()

    def wake(self) -> None:
        """Looks again for jobs that are ready."""
        with self._condition:
            self._condition.notify_all()

    @property
    def is_ending(self) -> bool:
        """Whether nothing more will be done."""
        return self._is_ending

    def end(self) -> None:
        """Ends the thread after the step that it is busy with."""
        with self._condition:
            self._is_ending = True
            self._begin.set()
            self._condition.notify_all()

    def run(self) -> None:
        self._begin.wait()
        if self._is_ending:
            return
        try:
            self.engine = self._load()
        except Exception as error:  # whatever the files of the model are like, the page says what is wrong
            logger.debug("loading failed", exc_info=True)
            message = (str(error).strip() or type(error).__name__).splitlines()[0]
            self.failure = message if message.endswith(".") else f"{message}."
        self._changed()
        while not self._is_ending:
            with self._condition:
                job = self._next_job() if self.engine is not None else None
                while job is None and not self._has_short_work() and not self._is_ending:
                    self._condition.wait()
                    job = self._next_job() if self.engine is not None else None
            self.serve()
            if job is not None:
                self._step(job)

    def serve(self) -> None:
        """Does what is short: checks that wait, and the flow request of each session, each session once."""
        while True:
            with self._condition:
                if not self._checks:
                    break
                session, check = self._checks.popleft()
            self._guarded(session, check)
        with self._condition:
            waiting, self._flows = self._flows, {}
        for session in list(waiting):
            with self._condition:  # a newer request that came meanwhile is answered instead
                request = self._flows.pop(session, waiting[session])
            outbox = session.outbox
            if outbox is None or outbox.is_closed:
                continue
            if outbox.is_full:  # the page is slower than this: it gets the newest one when it has caught up
                with self._condition:
                    self._flows.setdefault(session, request)
                continue
            self._guarded(session, functools.partial(self._answer, session, request))

    def _answer(self, session: Session, request: Any, engine: "Engine") -> None:
        self._answer_flow(engine, session, request)

    def _has_short_work(self) -> bool:
        """Whether there is something for [`serve`]; flow that waits for a slow reader is not."""
        return bool(self._checks) or any(
            session.outbox is None or not session.outbox.is_full for session in self._flows
        )

    def _guarded(self, session: Session, work: Callable[["Engine"], object]) -> None:
        """Runs something, or says that there is no model. What it does not catch is a mistake of ours."""
        if self.engine is None:
            session.send({"type": "error", "code": "failed", "why": f"The model could not be loaded: {self.failure}"})
            return
        try:
            work(self.engine)
        except Exception:
            logger.exception("a request failed")
            session.send({"type": "error", "code": "failed", "why": "The request failed for an unknown reason."})

    def _next_job(self) -> Job | None:
        """The first job that is ready, of the session whose turn it is. That session then goes to the end."""
        for session, jobs in list(self._jobs.items()):
            for job in jobs:
                if job.is_ready():
                    del self._jobs[session]
                    self._jobs[session] = [*(one for one in jobs if one is not job), job]
                    return job
        return None

    def _step(self, job: Job) -> None:
        self._running = job
        try:
            next(job.steps)
            return
        except StopIteration:
            pass
        except Exception:
            logger.exception("a job failed")
            job.session.send({"type": "error", "code": "failed", "why": "The request failed for an unknown reason."})
        finally:
            self._running = None
        with self._condition:
            jobs = self._jobs.get(job.session, [])
            if job in jobs:
                jobs.remove(job)
            if not jobs:
                self._jobs.pop(job.session, None)
