"""The code of the documents runs as written, and their links have a target."""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from support import documents
from support.documents import ALL_PAGES, MARKDOWN, NOT_RUN, ONLY_COMPILED, REPOSITORY, blocks, commands, read
from support.loopback_hub import TOKEN, LoopbackHub


LANGUAGES = {"python", "py", "bash", "json"}
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").iterdir())
PAGES = [page for page in ALL_PAGES if any(block.language in LANGUAGES for block in blocks(read(page)))]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, str | None]:
    """The error of each page, or None. One process runs all pages; this process has the Hub that they use."""
    place = tmp_path_factory.mktemp("documents")
    with LoopbackHub() as hub:
        environment = {"HF_HOME": str(place / "hf"), "HF_TOKEN": TOKEN, "MCDIFF_MODEL": ""} | hub.environment
        subprocess.run(
            [sys.executable, documents.__file__, *PAGES],
            cwd=place,
            env=os.environ | environment,
            check=True,
            capture_output=True,
        )
    return json.loads((place / "results.json").read_text())


def commands_of(page: str) -> list[list[str]]:
    found = commands([block for block in blocks(read(page)) if block.language == "bash"])
    return [command for block in found for command in block]


def needs_pose_model(page: str) -> bool:
    return any(command[:2] == ["mcdiff", "annotate"] for command in commands_of(page))


def needs_segmenter(page: str) -> bool:
    return any(command[:2] == ["mcdiff", "segment"] or "auto" in command for command in commands_of(page))


def needed_models(page: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.pose_model] * needs_pose_model(page) + [pytest.mark.segmenter] * needs_segmenter(page)


@pytest.mark.weights
@pytest.mark.parametrize("page", [pytest.param(page, marks=needed_models(page)) for page in PAGES])
def test_code_of_page_runs(page, results):
    assert results[page] is None, results[page]


def test_readme_has_python_code_and_commands():
    assert {"python", "bash"} <= {block.language for block in blocks(read("README.md"))}


def test_every_exception_is_needed_by_a_page():
    reasons = {reason for _, _, reason in (*NOT_RUN, *ONLY_COMPILED)}
    for page in PAGES:
        reasons -= {documents.reason_not_to_run(page, command) for command in commands_of(page)}
        reasons -= {documents.reason_to_compile_only(page, block.content) for block in blocks(read(page))}
    assert not reasons


def test_every_block_has_a_language_that_is_checked_or_only_shown():
    shown_only = {"", "bibtex"}
    languages = {block.language for page in ALL_PAGES for block in blocks(read(page))}
    assert languages == LANGUAGES | shown_only


@pytest.mark.parametrize(
    "line",
    [
        "mcdiff generate cat.jpg --no-such-option",
        "python training/cache_latents.py --train_data_dir a --pretrained_vae b --cache_dir c --no-such-option",
        "python benchmarks/results.py --evaluation evaluation --no-such-option",
        "pip install -e '.[no-such-option]'",
        "make no-such-option",
    ],
)
def test_command_that_is_only_parsed_is_refused_if_it_could_not_run(line, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.syspath_prepend(REPOSITORY / "training")
    with pytest.raises(RuntimeError, match="no-such-option"):
        documents.check(shlex.split(line))


@pytest.mark.parametrize(
    "workflow", sorted((REPOSITORY / ".github" / "workflows").iterdir()), ids=lambda path: path.stem
)
def test_workflow_runs_targets_of_make(workflow):
    for job in yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"].values():
        (command,) = (step["run"] for step in job["steps"] if "run" in step)
        targets = job.get("strategy", {}).get("matrix", {}).get("target", [""])
        for target in targets:
            program, *arguments = shlex.split(command.replace("${{ matrix.target }}", target))
            assert program == "make" and arguments
            documents.check([program, *arguments])


def slugs(page: Path) -> set[str]:
    """Anchors of the headings of a page, made as on GitHub."""
    tokens = MARKDOWN.parse(page.read_text(encoding="utf-8"))
    found = []
    for heading, text in zip(tokens, tokens[1:]):
        if heading.type == "heading_open":
            words = "".join(part.content for part in text.children if part.type in ("text", "code_inline"))
            slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return set(found)


def links(page: str) -> list[str]:
    """Targets of the links and images of a page."""
    inline = [token for token in MARKDOWN.parse(read(page)) if token.type == "inline"]
    return [part.attrs.get("href") or part.attrs["src"] for token in inline for part in token.children if part.attrs]


@pytest.mark.parametrize("page", [page for page in ALL_PAGES if links(page)])
def test_links_have_a_target(page):
    broken = []
    for link in links(page):
        address = urlsplit(link)
        if address.scheme:
            good = address.scheme == "https" and "." in address.netloc
        else:
            path = REPOSITORY / page
            if address.path:
                path = path.parent / unquote(address.path)
            good = path.exists() and (not address.fragment or address.fragment in slugs(path))
        if not good:
            broken.append(link)
    assert broken == []


def test_every_picture_of_a_page_is_made_by_the_script():
    made = set(runpy.run_path(REPOSITORY / "docs" / "make_images.py")["PICTURES"])
    shown = {
        Path(link).stem
        for page in ALL_PAGES
        for link in links(page)
        if "docs/images/" in link or link.startswith("images/")
    }
    assert len(shown) > 10
    assert {name for name in shown if name not in made and name.partition("-")[0] not in made} == set()


def test_page_on_annotation_has_a_remedy_for_every_reason_to_drop_a_clip():
    folder = REPOSITORY / "src" / "mcdiff_pipeline" / "annotation"
    reasons = set()
    for name in ("selection", "annotator", "merge"):
        code = (folder / f"{name}.py").read_text(encoding="utf-8")
        lines = [
            line for line in code.splitlines() if re.search(r"_drop\(|reason = |return \"|NEAR_DUPLICATE = ", line)
        ]
        reasons |= {text for line in lines for text in re.findall(r'"([a-z][a-z -]+)"', line)}
    assert {"static", "flow cannot be stored", "near-duplicate of an earlier clip"} < reasons
    table = read("docs/annotation.md").partition("## Why clips are dropped")[2].partition("\n## ")[0]
    assert {reason for reason in reasons if f"| `{reason}` |" not in table} == set()
