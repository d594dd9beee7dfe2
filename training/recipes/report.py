#!/usr/bin/env python
"""Write what a recipe ran and what its model reaches, for the README of the model.

    python training/recipes/report.py --work_dir runs/small-128 --readme checkpoints/README.md

The commands and minutes are those of the stamps, the figures those of `mcdiff evaluate`. The text becomes
`WORK_DIR/report.md`. With `--readme`, it also replaces what is between the lines `<!-- recipe -->` and
`<!-- end of recipe -->` there, or is added at the end if there are none.
"""

import argparse
import json
import os
import platform
import re
import sys
from pathlib import Path


# A path outside the repository, and its last two parts.
ELSEWHERE = re.compile(r"(?<![\w./-])/(?:[^\s/']+/)*([^\s/']+/[^\s/']+)")
BEGIN, END = "<!-- recipe -->", "<!-- end of recipe -->"


def stages_text(stamps: Path) -> str:
    """The commands that were run, in the order in which they ended, with the minutes that each took."""
    found = sorted(
        (path for path in stamps.glob("*/*.json") if path.name != "started.json"),
        key=lambda path: path.stat().st_mtime,
    )
    lines = []
    for path in found:
        stamp = json.loads(path.read_text())
        lines.append(f"# {path.parent.name}, {path.stem}: {stamp['minutes']:.1f} minutes")
        lines += stamp["commands"]
    return "\n".join(lines)


def make_report(work_dir: Path) -> str:
    """The section as Markdown.

    Raises:
        ValueError: if nothing was evaluated.
    """
    evaluation = work_dir / "evaluation/report.md"
    if not evaluation.is_file():
        raise ValueError(f"There is no {evaluation}; run the stage evaluate first.")
    tables = evaluation.read_text().strip().splitlines()
    tables = [f"##{line}" if line.startswith("#") else line for line in tables if not line.startswith("![")]
    stages = stages_text(work_dir / "stamps")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    text = "\n".join(
        [
            "## Made by the recipe",
            "",
            f"The commands that `training/recipes/small_128.py` ran on this machine ({machine}), with their minutes:",
            "",
            *("```bash", stages, "```", ""),
            *tables,
            "",
        ]
    )
    return ELSEWHERE.sub(r".../\1", text.replace(str(work_dir.resolve()), "runs/small-128"))


def insert(readme: str, text: str) -> str:
    """The README with the text between the two marks."""
    before, begin, rest = readme.partition(BEGIN)
    after = rest.partition(END)[2] if begin else ""
    return f"{before.rstrip()}\n\n{BEGIN}\n\n{text.strip()}\n\n{END}\n{after.lstrip()}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work_dir", type=Path, required=True)
    parser.add_argument("--readme", type=Path, help="File that gets the section.")
    args = parser.parse_args(arguments)
    try:
        text = make_report(args.work_dir)
        (args.work_dir / "report.md").write_text(text)
        if args.readme is not None:
            args.readme.write_text(insert(args.readme.read_text(), text))
    except (OSError, ValueError) as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
