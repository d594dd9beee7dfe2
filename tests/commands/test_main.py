# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Help, completion, wrong arguments and exit codes."""

import os
import re
import resource
import subprocess
import sys

import pytest
import typer

from mcdiff_commands import generate
from mcdiff_commands.main import app, main, parse
from mcdiff_pipeline import __version__, model_names
from mcdiff_pipeline.annotation.flow import DTYPES, ESTIMATORS
from mcdiff_pipeline.annotation.settings import AnnotationSettings
from mcdiff_pipeline.evaluation import EvaluationSettings


COMMANDS = ("generate", "flow", "segment", "grid", "info", "export", "push", "annotate", "evaluate", "dataset")

COMPLETION = {"_MCDIFF_COMPLETE": "complete_bash", "COMP_WORDS": "mcdiff gen", "COMP_CWORD": "1"}
# Answers that need nothing of the library: the arguments of `mcdiff`, environment variables, and the exit code.
QUICK = {
    "help": (["--help"], {}, 0),
    "help of a command": (["annotate", "-h"], {}, 0),
    "no command": ([], {}, 0),
    "unknown command": (["genrate"], {}, 2),
    "unknown option": (["flow", "--speed", "3"], {}, 2),
    "wrong value": (["generate", "--num-frames", "1"], {}, 2),
    "missing argument": (["push", "exported"], {}, 2),
    "completion": ([], COMPLETION, 0),
}
PROGRAM = """
import sys
from mcdiff_commands.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:  # completion ends the process
    code = end.code or 0
print(*{"diffusers", "mcdiff_pipeline", "numpy", "PIL", "torch"} & set(sys.modules), file=sys.stderr)
sys.exit(code)
"""


def run_python(*arguments: str, **variables: str) -> tuple[subprocess.CompletedProcess, float]:
    """Runs Python in a process of its own; returns its result and its CPU time in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=os.environ | variables)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return result, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("name", QUICK)
def test_answer_without_the_library_imports_none_of_it(name):
    arguments, variables, code = QUICK[name]
    result, _ = run_python("-c", PROGRAM, *arguments, **variables)
    assert result.returncode == code, result.stderr
    assert result.stderr.splitlines()[-1] == ""


def test_completion_completes_a_command():
    result, _ = run_python("-m", "mcdiff_commands", **COMPLETION)
    assert (result.returncode, result.stdout.split()) == (0, ["generate"])


def test_answers_cost_little_more_than_importing_typer():
    """0.1 to 0.2 s of CPU time on a machine that imports Typer in 0.08 s; importing the library takes 13 s there."""
    bare = min(run_python("-c", "import typer")[1] for _ in range(3))
    for name in ("help", "help of a command", "wrong value", "completion"):
        arguments, variables, _ = QUICK[name]
        spent = min(run_python("-m", "mcdiff_commands", *arguments, **variables)[1] for _ in range(2))
        assert spent < 6 * bare, name


def test_help_lists_all_commands_in_groups(mcdiff):
    code, out, err = mcdiff("--help")
    assert (code, err) == (0, "")
    groups = re.findall(r"^(\S.*):\n((?:  .*\n)+)", out, re.MULTILINE)
    names = {title: tuple(line.split()[0] for line in lines.splitlines()) for title, lines in groups}
    assert names["Make a video"] == ("generate", "studio", "flow", "segment", "grid", "strokes")
    assert names["Models"] == ("info", "export", "push")
    assert names["Data and measuring"] == ("annotate", "evaluate", "dataset")
    assert "--install-completion" in out and "--show-completion" in out


@pytest.mark.parametrize("command", [*([name] for name in COMMANDS), ["dataset", "show"], ["strokes", "convert"]])
def test_help_of_a_command_describes_every_option(mcdiff, command):
    code, out, err = mcdiff(*command, "--help")
    assert (code, err) == (0, "") and out.startswith(f"Usage: mcdiff {' '.join(command)} ")
    found = typer.main.get_command(app)
    for name in command:
        found = found.commands[name]
    assert all(parameter.help for parameter in found.params)
    for parameter in found.params:
        assert parameter.opts[0] in out or parameter.metavar in out


@pytest.mark.parametrize("group", [[], ["dataset"], ["strokes"]])
def test_group_without_a_command_shows_its_help(mcdiff, group):
    assert mcdiff(*group) == mcdiff(*group, "--help")


def test_version_equals_the_version_of_the_package(mcdiff):
    assert mcdiff("--version") == (0, f"mcdiff-pipeline {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["genrate"], "mcdiff: No such command 'genrate'. Did you mean 'generate'? (`mcdiff --help` "),
        (["dataset", "show"], "mcdiff dataset show: Missing argument 'SHARD' (`mcdiff dataset show --help` "),
        (["push", "exported"], "mcdiff push: Missing argument 'OWNER/NAME' (`mcdiff push --help` "),
        (["flow", "a.png"], "mcdiff flow: Missing option '--output' / '-o' (`mcdiff flow --help` "),
        (["generate", "--strokes"], "mcdiff generate: Option '--strokes' requires an argument (`mcdiff generate "),
        (["generate", "--dtype", "int8"], "'int8' is not one of 'float32', 'float16', 'bfloat16', 'fp16', 'bf16' ("),
    ],
)
def test_usage_mistake_is_one_sentence(mcdiff, arguments, message):
    code, out, err = mcdiff(*arguments)
    assert (code, out) == (2, "")
    assert message in err and err.startswith("mcdiff") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (RuntimeError("no memory\nleft"), 1, "mcdiff generate: failed: RuntimeError: no memory\n"),
        (
            OSError(28, "No space left on device"),
            1,
            "failed: the disk is full: make room, then give the same command again.\n",
        ),
        (MemoryError(), 1, "mcdiff generate: failed: MemoryError: MemoryError\n"),
        (KeyboardInterrupt(), 130, "mcdiff generate: stopped.\n"),
        (KeyboardInterrupt("stopped; 2 of 4 frames are in a.mp4."), 130, "stopped; 2 of 4 frames are in a.mp4.\n"),
    ],
)
def test_exit_code_of_a_command_that_does_not_finish(place, mcdiff, monkeypatch, error, code, message):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(generate, "load_model", fail)
    found, out, err = mcdiff("generate", "photo.png", "--hold", "1,1", "--output", "a.mp4")
    assert (found, out) == (code, "")
    assert err.startswith("mcdiff generate: ") and err.endswith(message) and err.count("\n") == 1


def test_without_any_model_one_sentence_says_how_to_name_one(place, mcdiff, monkeypatch):
    monkeypatch.setenv("MCDIFF_MODEL", "")
    monkeypatch.setattr(model_names, "EMBEDDED_MODEL", place / "nothing")
    code, _, err = mcdiff("generate", "photo.png", "--hold", "1,1", "--output", "a.mp4")
    assert code == 2
    assert err == (
        "mcdiff generate: no model is named: give --model a folder or a Hub repository, set MCDIFF_MODEL to one, or "
        "install the small one: pip install 'mcdiff-pipeline[model]'.\n"
    )


def stated_default(command: str, parameter: str) -> str:
    """The default in an option's help text."""
    found = typer.main.get_command(app).commands[command]
    (help_text,) = [option.help for option in found.params if option.name == parameter]
    return re.search(r"\(default: (.*?)\)", help_text)[1]


@pytest.mark.parametrize(
    "name",
    ["resolution", "num_frames", "displacement_range", "max_gap", "max_seconds", "frame_format"]
    + ["flow", "dtype", "max_people"],
)
def test_help_of_annotate_states_the_defaults_of_its_settings(name):
    settings = AnnotationSettings()
    value = getattr(settings.selection if hasattr(settings.selection, name) else settings, name)
    numbers = value if isinstance(value, tuple) else (value,)
    assert stated_default("annotate", name) == " ".join(
        number if isinstance(number, str) else f"{number:g}" for number in numbers
    )


@pytest.mark.parametrize("name", ["strokes", "num_frames", "seed", "drift_frames", "drift_clips", "num_samples"])
def test_help_of_evaluate_states_the_defaults_of_its_settings(name):
    value = getattr(EvaluationSettings(), name)
    assert stated_default("evaluate", name) == ",".join(map(str, value if isinstance(value, tuple) else (value,)))


@pytest.mark.parametrize(
    ("command", "option", "values"),
    [
        ("annotate", "--flow", ESTIMATORS),
        ("annotate", "--dtype", DTYPES),
        ("generate", "--dtype", (*DTYPES, "fp16", "bf16")),
    ],
)
def test_choices_of_an_option_are_those_of_the_library(mcdiff, command, option, values):
    _, _, err = mcdiff(command, option, "?")
    assert f"'?' is not one of {', '.join(map(repr, values))} (" in err


def test_parse_reads_arguments_without_running_the_command():
    options = parse(["evaluate", "--data", "clips", "--output", "out", "--strokes", "1,5", "--anywhere"])
    assert (str(options["data"]), options["strokes"], options["anywhere"]) == ("clips", (1, 5), True)
    with pytest.raises(ValueError, match="^mcdiff evaluate: .*'--steps': 'x' is not a whole number .*--help"):
        parse(["evaluate", "--data", "clips", "--output", "out", "--steps", "x"])
    with pytest.raises(ValueError, match="^mcdiff: there is no command 'nothing'"):
        parse(["nothing"])


def test_main_reads_the_arguments_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mcdiff", "--version"])
    assert main() == 0 and "mcdiff-pipeline" in capsys.readouterr().out


@pytest.mark.parametrize(("load", "given", "turns"), [(17.0, {}, "1000"), (0.0, {}, None), (17.0, {"x": "5"}, "5")])
def test_threads_sleep_while_they_wait_on_a_busy_machine(monkeypatch, mcdiff, load, given, turns):
    monkeypatch.setattr("os.getloadavg", lambda: (load, load, load))
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", given.get("x", ""))
    if not given:
        monkeypatch.delenv("GOMP_SPINCOUNT")
    assert mcdiff("--version")[0] == 0
    assert os.environ.get("GOMP_SPINCOUNT") == turns
