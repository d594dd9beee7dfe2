"""What the documents tell a user to type works as it stands."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from annotation_runs import pan
from sliding_squares import write_squares

from mcdiff_pipeline.video import write_video


REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = (
    "README.md",
    "model_card.md",
    "examples/README.md",
    "docs/annotation.md",
    "docs/evaluation.md",
    "docs/results.md",
)


def blocks(language: str) -> list:
    """All fenced blocks of the language, each as a test parameter named after its document."""
    found = []
    for document in DOCUMENTS:
        text = (REPOSITORY / document).read_text(encoding="utf-8")
        for index, block in enumerate(re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)):
            found.append(pytest.param(block, id=f"{document}-{index}"))
    return found


COMMANDS = [
    pytest.param(
        line,
        id=f"{block.id}-{line.split()[1]}",
        marks=pytest.mark.pose_model if line.startswith("mcdiff annotate") else pytest.mark.weights,
    )
    for block in blocks("bash")
    for line in block.values[0].splitlines()
    if line.startswith("mcdiff ")
]


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A folder that looks like the repository's root, for programs that read from it and write into it."""
    for name in ("checkpoints", "examples"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / "videos").mkdir()
    write_video(pan("astronaut"), tmp_path / "videos" / "pan.mp4", fps=24)
    write_squares(tmp_path / "data" / "people", range(1), size=64, num_frames=7)
    monkeypatch.delenv("MCDIFF_MODEL", raising=False)
    return tmp_path


def test_the_readme_shows_a_program_and_a_command():
    assert blocks("python") and COMMANDS


@pytest.mark.weights
@pytest.mark.parametrize("program", blocks("python"))
def test_program_runs(program, checkout):
    subprocess.run([sys.executable, "-c", program], cwd=checkout, check=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_runs_and_writes_its_output(command, checkout):
    arguments = shlex.split(command, comments=True)
    subprocess.run([sys.executable, "-m", "mcdiff_pipeline.cli", *arguments[1:]], cwd=checkout, check=True)
    output = "--output-dir" if "--output-dir" in arguments else "--output"
    assert (checkout / arguments[arguments.index(output) + 1]).stat().st_size > 0


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_to_files_lead_somewhere(document):
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    folder = (REPOSITORY / document).parent
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    assert [target for target in targets if not (folder / target).exists()] == []
