# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Whose turn it is: with an engine that only writes down what it is asked for."""

import threading

import pytest

from mcdiff_pipeline.studio.refusals import Refused
from mcdiff_pipeline.studio.worker import Job, ModelThread


class FullBox:
    is_closed = False

    def __init__(self):
        self.is_full = False


class FakeSession:
    def __init__(self, name):
        self.name, self.outbox, self.sent = name, FullBox(), []

    def send(self, header, payload=b""):
        self.sent.append(header)


class Script:
    """A thread of the model whose jobs and flow requests are written down in the order in which they are done."""

    def __init__(self):
        self.done, self.may_load = [], threading.Event()
        self.thread = ModelThread(object, self.answer, lambda: None, self.may_load)

    def answer(self, engine, session, request):
        self.done.append((session.name, request))

    def job(self, session, steps, hook=None, **options):
        def work():
            for step in range(steps):
                if hook is not None:
                    hook(step)
                self.done.append((session.name, step))
                yield

        return Job(session, work(), **options)

    def run(self):
        """Does everything that was queued before, then ends."""
        last = threading.Event()
        end = FakeSession("end")
        self.thread.add(Job(end, iter(()), is_ready=lambda: set(self.thread._jobs) == {end} and not last.set()))
        self.thread.start()
        self.may_load.set()
        assert last.wait(5)
        self.thread.end()
        self.thread.join(5)


@pytest.fixture
def script():
    return Script()


def test_sessions_take_turns_by_step(script):
    one, other = FakeSession("one"), FakeSession("other")
    script.thread.add(script.job(one, 3))
    script.thread.add(script.job(other, 2))
    script.run()
    assert script.done == [("one", 0), ("other", 0), ("one", 1), ("other", 1), ("one", 2)]


def test_newest_flow_request_of_each_session_is_answered_before_any_step(script):
    one, other = FakeSession("one"), FakeSession("other")
    script.thread.add(script.job(one, 1))
    for request in ("old", "newer", "newest"):
        script.thread.ask_flow(one, request)
        script.thread.ask_flow(other, request)
    script.run()
    assert script.done == [("one", "newest"), ("other", "newest"), ("one", 0)]


def test_flow_is_answered_between_denoising_steps_once_a_session(script):
    one, other = FakeSession("one"), FakeSession("other")

    def hook(step):
        for request in range(3):
            script.thread.ask_flow(other, f"{step}.{request}")
        script.thread.serve()

    script.thread.add(script.job(one, 2, hook))
    script.run()
    assert script.done == [("other", "0.2"), ("one", 0), ("other", "1.2"), ("one", 1)]


def test_job_of_a_full_outbox_waits_and_flow_for_it_too(script):
    slow, other = FakeSession("slow"), FakeSession("other")
    slow.outbox.is_full = True

    def empty(step):
        if step == 1:
            slow.outbox.is_full = False

    script.thread.add(script.job(slow, 1, is_ready=lambda: not slow.outbox.is_full))
    script.thread.ask_flow(slow, "flow")
    script.thread.add(script.job(other, 3, empty))
    script.run()
    assert script.done.index(("slow", "flow")) > script.done.index(("other", 1))
    assert script.done.index(("slow", 0)) > script.done.index(("other", 1))


def test_short_job_goes_before_others_of_its_session(script):
    one = FakeSession("one")
    script.thread.add(script.job(one, 2))
    script.thread.add(script.job(one, 1, is_short=True))
    script.thread.add(script.job(FakeSession("other"), 1))
    script.run()
    assert script.done == [("one", 0), ("other", 0), ("one", 0), ("one", 1)]


def test_too_many_jobs_of_a_session_are_refused(script):
    one = FakeSession("one")
    with pytest.raises(Refused, match="wait for one of them"):
        for _ in range(10):
            script.thread.add(script.job(one, 1))


def test_mistake_in_a_job_ends_only_that_job(script, caplog):
    one, other = FakeSession("one"), FakeSession("other")

    def broken(step):
        raise KeyError("a mistake")

    script.thread.add(script.job(one, 2, broken))
    script.thread.add(script.job(other, 1))
    script.run()
    assert script.done == [("other", 0)] and one.sent[0]["code"] == "failed" and "a mistake" in caplog.text
