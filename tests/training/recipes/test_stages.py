"""Stages with stand-in commands: order, resuming, skipping, failures, budget and Ctrl-C."""

import os
import signal
import subprocess
import sys
import time

import pytest

import stages
from running import run
from stages import Command, Recipe, Stage, StageFailed, describe


WRITE = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(' '.join(sys.argv[2:]))"
APPEND = "import sys, pathlib; p = pathlib.Path(sys.argv[1]); p.write_text(p.read_text() + 'x' if p.exists() else 'x')"


def stage(root, name, *, code=APPEND, share=0.0, group=None, inputs=(), words=(), minutes_argument=None, parts=1):
    """A stage that writes the file `root/name`."""
    line = ("python", "-c", code, str(root / name), *words)

    def commands(settings):
        return [Command(f"part{part}", (line,), minutes_argument) for part in range(parts)]

    return Stage(name, commands, (name,), inputs, None, share, group)


def recipe(root, *given, budget=10.0, **arguments):
    return Recipe(given, None, root, budget, **arguments)


def test_stages_that_are_done_are_skipped_and_changed_ones_are_made_again(tmp_path, capsys):
    first, second = stage(tmp_path, "first"), stage(tmp_path, "second", inputs=("first",))
    run(recipe(tmp_path, first, second))
    run(recipe(tmp_path, first, second))
    assert (tmp_path / "first").read_text() == (tmp_path / "second").read_text() == "x"
    assert "second: done already" in capsys.readouterr().out

    run(recipe(tmp_path, stage(tmp_path, "first", words=("new",)), second))  # what depends on it is made again, too
    assert (tmp_path / "second").read_text() == "x"
    assert {path.name.partition("-")[0] for path in (tmp_path / "outdated").iterdir()} == {"first", "second"}


def test_stage_whose_output_was_removed_is_made_again(tmp_path):
    run(recipe(tmp_path, stage(tmp_path, "first")))
    (tmp_path / "first").unlink()
    assert "first: to do" in describe(recipe(tmp_path, stage(tmp_path, "first")))


def test_failure_names_the_stage_and_its_log_and_the_rest_is_kept(tmp_path):
    bad = stage(tmp_path, "bad", code="import sys; sys.exit('no such thing')")
    with pytest.raises(StageFailed, match=r"Stage bad failed \(part0, exit status 1\); see its log .*bad\.log"):
        run(recipe(tmp_path, stage(tmp_path, "first"), bad, stage(tmp_path, "last")))
    assert "no such thing" in (tmp_path / "logs/bad.log").read_text()
    assert (tmp_path / "first").exists() and not (tmp_path / "last").exists()
    run(recipe(tmp_path, stage(tmp_path, "first"), stage(tmp_path, "bad"), stage(tmp_path, "last")))
    assert (tmp_path / "first").read_text() == (tmp_path / "last").read_text() == "x"


def test_minutes_are_shares_of_the_budget_and_rounds_of_a_group_divide_them(tmp_path):
    limited = {"code": WRITE, "minutes_argument": "--minutes"}
    given = (
        stage(tmp_path, "clips", share=1, parts=4, **limited),
        stage(tmp_path, "one", share=3, group="pair", **limited),
        stage(tmp_path, "other", share=3, group="pair", **limited),
    )
    run(recipe(tmp_path, *given, budget=8, jobs=2))
    assert (tmp_path / "clips").read_text() == "--minutes 1.000"  # 2 minutes, two rounds of two processes
    assert (tmp_path / "one").read_text() == (tmp_path / "other").read_text() == "--minutes 6.000"
    run(recipe(tmp_path, *given, budget=4, jobs=1))
    assert (tmp_path / "one").read_text() == "--minutes 1.500"


def test_deadline_gives_the_time_that_is_left_to_what_is_chosen(tmp_path):
    first, second = (
        stage(tmp_path, name, code=WRITE, share=1, minutes_argument="--minutes") for name in ("first", "second")
    )
    run(recipe(tmp_path, first, second, budget=4, is_deadline=True))
    # The first gets its half. It needs none of it, so the second gets nearly everything.
    assert float((tmp_path / "first").read_text().split()[1]) == pytest.approx(2, abs=0.1)
    assert float((tmp_path / "second").read_text().split()[1]) == pytest.approx(4, abs=0.1)
    assert "first: done" in describe(recipe(tmp_path, first, second, budget=1, is_deadline=True))


def test_accompanying_command_ends_with_its_group(tmp_path):
    line = ("python", "-c", f"import time; open({str(tmp_path / 'beside')!r}, 'w').close(); time.sleep(60)")
    beside = Stage("beside", lambda settings: [Command("b", (line,), accompanies=True)], (), group="pair")
    main = stage(tmp_path, "main", code=f"import time; time.sleep(0.6); {APPEND}", group="pair")
    started = time.monotonic()
    run(recipe(tmp_path, main, beside))
    assert (tmp_path / "beside").exists() and time.monotonic() - started < 30


def test_plan_names_stages_minutes_and_commands(tmp_path):
    first = stage(tmp_path, "first", share=1, minutes_argument="--minutes")
    second = stage(tmp_path, "second", share=1)
    text = describe(recipe(tmp_path, first, second, budget=6, chosen=["first"]))
    assert "first: to do, 3.0 min\n    python -c" in text and "--minutes 3.00" in text
    assert "second: not chosen" in text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": 0}, "--budget_minutes is 0"),
        ({"jobs": 0}, "--jobs is 0"),
        ({"chosen": ["second"]}, "its stages are first"),
    ],
)
def test_impossible_arguments_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        recipe(tmp_path, stage(tmp_path, "first"), **changes)


def test_interrupt_lets_commands_finish_their_checkpoint_and_the_same_recipe_goes_on(tmp_path):
    slow = (
        "import pathlib, sys, time\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "if path.exists(): path.write_text('resumed'); sys.exit()\n"
        "try: path.with_suffix('.started').touch(); time.sleep(60)\n"
        "except KeyboardInterrupt: path.write_text('checkpoint'); sys.exit(130)\n"
    )
    program = (
        f"import sys; sys.path.insert(0, {os.path.dirname(stages.__file__)!r})\n"
        "from pathlib import Path\n"
        "from running import run\nfrom stages import Command, Recipe, Stage\n"
        f"root = Path({str(tmp_path)!r})\n"
        f"line = ('python', '-c', {slow!r}, str(root / 'slow'))\n"
        "stage = Stage('slow', lambda settings: [Command('c', (line,))], ('slow',))\n"
        "run(Recipe([stage], None, root, 1))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "slow.started").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert "KeyboardInterrupt" in process.communicate(timeout=30)[1]
    assert (tmp_path / "slow").read_text() == "checkpoint"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
    assert (tmp_path / "slow").read_text() == "resumed"


def test_interrupt_just_after_a_command_started_leaves_none_running(tmp_path, monkeypatch):
    started = []

    class InterruptedPopen(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(subprocess, "Popen", InterruptedPopen)
    with pytest.raises(KeyboardInterrupt):
        run(recipe(tmp_path, stage(tmp_path, "slow", code="import time; time.sleep(120)")))
    (process,) = started
    try:
        assert process.wait(timeout=60) != 0
    finally:
        process.kill()
