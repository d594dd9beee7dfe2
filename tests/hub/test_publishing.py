# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What docs/publishing.md and the exported card tell a user to type works as it stands, on a Hub in the test."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from loopback_hub import TOKEN, LoopbackHub


REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = ("docs/publishing.md", "examples/community/README.md")

PROGRAM = """
import re, sys
from pathlib import Path
from mcdiff_pipeline import cli
document, *commands = sys.argv[1:]
for command in commands:
    assert cli.main(command.split("\\t")) == 0, command
for text, language in ((document, "python"), (Path("exported/README.md").read_text(), "py")):
    programs = re.findall(f"```{language}\\n(.*?)```", text, flags=re.DOTALL)
    assert programs
    for program in programs:
        exec(program, {})
"""


@pytest.mark.weights
def test_commands_and_programs_run(tmp_path):
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    for name, suffix in (("picture", ".jpg"), ("strokes", ".json")):
        (tmp_path / name).with_suffix(suffix).symlink_to(REPOSITORY / "examples" / f"cat{suffix}")
    document = (REPOSITORY / "docs/publishing.md").read_text(encoding="utf-8")
    lines = "".join(re.findall(r"```bash\n(.*?)```", document, flags=re.DOTALL)).splitlines()
    commands = ["\t".join(shlex.split(line)[1:]) for line in lines if line.startswith("mcdiff ")]
    assert len(commands) == 2
    with LoopbackHub() as hub:
        environment = {"HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"} | hub.environment
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM, document, *commands],
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
        assert "owner/name" in hub.repositories


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_to_files_lead_somewhere(document):
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    assert targets
    assert [target for target in targets if not (REPOSITORY / document).parent.joinpath(target).exists()] == []
