"""The code in the project's Markdown pages, and a program that runs it.

    python tests/support/documents.py PAGE ...

Runs each page in its own folder, which looks like a clone. The Python blocks of a page share their names, and its
commands share one shell. All pages run in this process, because importing everything takes seconds. `results.json`
has the error of each page, or null.
"""

import argparse
import configparser
import contextlib
import io
import json
import os
import runpy
import shlex
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt


REPOSITORY = Path(__file__).resolve().parents[2]
PLACES = ("*.md", *(f"{folder}/**/*.md" for folder in ("docs", "training", "examples", "benchmarks", "checkpoints")))
ALL_PAGES = sorted(
    path.relative_to(REPOSITORY).as_posix() for place in PLACES for path in REPOSITORY.glob(place) if path.is_file()
)
MARKDOWN = MarkdownIt("commonmark").enable("table")

# Commands that are only parsed, not run: page ("" for all pages), beginning of the command, reason.
NOT_RUN = (
    ("", "pip install", "would change the environment that the tests run in"),
    ("", "make", "installs everything, or takes hours"),
    ("", "mcdiff studio", "serves a page until it is ended; the tests in tests/studio do"),
    (
        "",
        "python training/tools/build_pose_model.py",
        "downloads a wheel; its own test runs it",
    ),
    ("", "python training/collect_wholes.py", "needs downloads; test_collect_wholes.py runs it"),
    (
        "",
        "python training/tools/build_segmenter.py",
        "downloads a package; its own test runs it",
    ),
    ("", "python training/tools/build_image_encoder.py", "downloads a wheel; its own test runs it"),
    ("CONTRIBUTING.md", "python -m pytest", "runs the tests; this is one of them"),
    ("", "python benchmarks/", "measures for minutes to hours, on data that the tests do not have"),
    ("training/README.md", "", "hours; docs/training-your-own-videos.md has the same steps with small budgets"),
    ("checkpoints/README.md", "", "hours: how the embedded model was made"),
    ("docs/annotation.md", "python training/render_people.py", "needs downloads; test_render_people.py runs it"),
    (
        "docs/annotation.md",
        "python training/train_optical_flow.py",
        "minutes of a GPU; test_train_optical_flow.py runs it",
    ),
    ("docs/results.md", "python training/render_people.py", "needs downloads; test_render_people.py runs it"),
)
# Python blocks that are only compiled: page, a line of the block, reason.
ONLY_COMPILED = (
    (
        "examples/community/README.md",
        'pipe = DiffusionPipeline.from_pretrained("owner/name", custom_pipeline="mcdiff", trust_remote_code=True)',
        "diffusers fetches that file from GitHub; tests/hub/test_loading.py runs it from a folder",
    ),
    (
        "training/README.md",
        'pipe.load_lora_weights("runs/lora/unet_lora")',
        "loads what hours of training make; tests/training/loop/test_lora.py loads what a few steps make",
    ),
)

# Programs that commands of the pages may begin with. Bash runs functions instead, which print their arguments.
PROGRAMS = ("mcdiff", "python", "accelerate", "pip", "make", "mkdir", "cd", "apt-get", "dpkg-deb")
ARGUMENT, COMMAND, BLOCK = "\x1f", "\x1e", "\x1d"
SHELL = "set -eu\n" + "".join(
    f"{program}() {{ printf '%s{ARGUMENT}' {program} \"$@\"; printf '{COMMAND}'; }}\n" for program in PROGRAMS
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its content, and the number of lines of the page before its content."""

    language: str
    content: str
    lines_before: int


def read(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page."""
    return [
        Block(token.info.strip(), token.content, token.map[0] + 1)
        for token in MARKDOWN.parse(text)
        if token.type == "fence"
    ]


def commands(blocks: list[Block]) -> list[list[list[str]]]:
    """The commands of the bash blocks of a page: for each block a list of commands, each a list of words.

    Bash expands variables, loops, comments and continued lines, but runs no program.

    Raises:
        ValueError: if a command is not one of `PROGRAMS`, or bash cannot parse a block.
    """
    script = SHELL + "".join(f"{block.content}\nprintf '{BLOCK}'\n" for block in blocks)
    bash = subprocess.run([shutil.which("bash"), "-c", script], env={"PATH": ""}, capture_output=True, text=True)
    if bash.returncode != 0 or bash.stderr:
        raise ValueError(bash.stderr.strip())
    return [
        [command.split(ARGUMENT)[:-1] for command in block.split(COMMAND)[:-1]]
        for block in bash.stdout.split(BLOCK)[:-1]
    ]


def reason_not_to_run(page: str, command: list[str]) -> str | None:
    for where, beginning, reason in NOT_RUN:
        if where in ("", page) and shlex.join(command).startswith(beginning):
            return reason
    return None


def reason_to_compile_only(page: str, content: str) -> str | None:
    for where, line, reason in ONLY_COMPILED:
        if where == page and line in content.splitlines():
            return reason
    return None


class Parsed(Exception):
    """A program has parsed its arguments."""


@contextlib.contextmanager
def stopping_after_arguments() -> Iterator[None]:
    """Stops programs as soon as their parser has accepted the arguments."""
    parse_args = argparse.ArgumentParser.parse_args

    def parse_and_stop(*arguments, **keywords):
        parse_args(*arguments, **keywords)
        raise Parsed

    argparse.ArgumentParser.parse_args = parse_and_stop
    try:
        yield
    except Parsed:
        pass
    finally:
        argparse.ArgumentParser.parse_args = parse_args


def run(command: list[str]) -> None:
    """Runs a command in this process.

    Raises:
        RuntimeError: if it fails or does not write its output.
    """
    from mcdiff_commands.main import main

    program, *arguments = command
    said, argv, path = io.StringIO(), sys.argv, sys.path
    try:
        with contextlib.redirect_stderr(said):
            match program, arguments:
                case "mcdiff", [name, *_]:
                    if name == "evaluate":  # generates hundreds of frames: with a tiny model, unless one is named
                        os.environ["MCDIFF_MODEL"] = "tiny"
                    if name == "generate" and "--replay" not in arguments and "--num-frames" not in arguments:
                        arguments += ["--num-frames", "4"]  # the default takes seconds
                    code = main(arguments)
                case "python", [script, *_]:
                    sys.argv, sys.path = arguments, [str(Path(script).resolve().parent), *sys.path]
                    runpy.run_path(script, run_name="__main__")
                    code = 0
                case "mkdir", ["-p", *folders]:
                    for folder in folders:
                        Path(folder).mkdir(parents=True, exist_ok=True)
                    code = 0
                case _:
                    raise RuntimeError("the tests cannot run this; support/documents.py has a list of such commands.")
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv, sys.path = argv, path
        os.environ.pop("MCDIFF_MODEL", None)
    if code != 0:
        raise RuntimeError(f"it ends with code {code}: {said.getvalue()}")
    for name, value in zip(arguments, arguments[1:]):
        if name in ("-o", "--output", "--output-dir", "--output_dir") and not Path(value).exists():
            raise RuntimeError(f"it has not written {value}.")


def check(command: list[str]) -> None:
    """Checks that a command could run, without running it.

    Raises:
        RuntimeError: if its parser refuses the arguments, or an extra or a target of make does not exist.
    """
    program, *arguments = command
    match program, arguments:
        case "mcdiff", _:
            from mcdiff_commands.main import parse

            try:
                parse(arguments)
            except ValueError as error:
                raise RuntimeError(str(error)) from None
        case "python", _ if arguments[0] != "-m":
            with stopping_after_arguments():
                run(command)
        case "accelerate", ["launch", "--config_file", config, *script]:
            if not Path(config).is_file():
                raise RuntimeError(f"there is no {config}.")
            check(["python", *script])
        case "pip", ["install", *_, requirement] if "[" in requirement:
            setup = configparser.ConfigParser()
            setup.read(REPOSITORY / "setup.cfg")
            extras = requirement.partition("[")[2].rstrip("]").split(",")
            if unknown := set(extras) - set(setup["options.extras_require"]):
                raise RuntimeError(f"setup.cfg has no extra {', '.join(unknown)}.")
        case "make", _:
            dry = subprocess.run(["make", "-n", *arguments], cwd=REPOSITORY, capture_output=True, text=True)
            if dry.returncode != 0:
                raise RuntimeError(dry.stderr)


def make_place(folder: Path) -> None:
    """Makes a folder that looks like a clone with some data. Commands of a page read it and write into it."""
    from mcdiff_pipeline.video import write_video
    from support.annotation_runs import pan
    from support.photographs import write_photographs
    from support.sliding_squares import write_squares
    from support.text_models import write_stable_diffusion
    from support.tiny_models import make_pipeline

    folder.mkdir(parents=True)
    for name in ("benchmarks", "checkpoints", "examples", "training"):
        (folder / name).symlink_to(REPOSITORY / name)
    for name, suffix in (("image", ".jpg"), ("strokes", ".json")):
        (folder / name).with_suffix(suffix).symlink_to(REPOSITORY / "examples" / f"cat{suffix}")
    make_pipeline().save_pretrained(folder / "tiny")
    write_stable_diffusion(folder / "stable-diffusion", in_channels=4)
    (folder / "path/of/this").mkdir(parents=True)
    (folder / "path/of/this/folder").symlink_to(REPOSITORY / "examples" / "annotated")
    for videos, photograph in (
        ("videos", "astronaut"),
        ("my-videos/train", "coffee"),
        ("my-videos/validation", "rocket"),
        ("my-videos/test", "walking"),
    ):
        (folder / videos).mkdir(parents=True)
        write_video(pan(photograph), folder / videos / "pan.mp4", fps=24)
    for split in ("train", "validation", "test"):
        write_squares(folder / "data" / "people", range(1), split, size=64, num_frames=7)
    write_photographs(folder / "data" / "wholes", 1)


def follow(page: str, text: str, done: list[list[str]]) -> None:
    """Runs or checks all blocks of a page in order, in the working folder.

    Commands in `done` were run for earlier pages and are only checked; new commands are added to it.

    Raises:
        RuntimeError: names the first line that fails.
    """
    from mcdiff_pipeline import StrokeSheet

    found = blocks(text)
    in_bash = iter(commands([block for block in found if block.language == "bash"]))
    names = {"__name__": "__main__"}
    for block in found:
        where = f"{page}, line {block.lines_before + 1}"
        try:
            if block.language in ("python", "py"):
                program = compile("\n" * block.lines_before + block.content, page, "exec")
                if reason_to_compile_only(page, block.content) is None:
                    exec(program, names)
            elif block.language == "json":
                StrokeSheet.from_dict(json.loads(block.content))
            elif block.language == "bash":
                for command in next(in_bash):
                    where = f"{page}, line {block.lines_before + 1}: {shlex.join(command)}"
                    if reason_not_to_run(page, command) is None and command not in done:
                        run(command)
                        done.append(command)
                    else:
                        check(command)
        except BaseException as error:
            raise RuntimeError(where) from error


def main(pages: list[str]) -> None:
    sys.path += [str(REPOSITORY / "training"), str(REPOSITORY / "tests")]
    results, done, place = {}, [], Path.cwd()
    make_place(place / "clone")
    for page in pages:
        folder = place / page.replace("/", "-").removesuffix(".md")
        shutil.copytree(place / "clone", folder, symlinks=True)
        os.chdir(folder)
        try:
            follow(page, read(page), done)
            if Path("exported/README.md").is_file():
                follow("the exported model card", Path("exported/README.md").read_text(encoding="utf-8"), done)
            results[page] = None
        except RuntimeError:
            results[page] = traceback.format_exc()
        (place / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1:])
