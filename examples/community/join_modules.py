"""Joins the pipeline and the modules that it imports to one file, as diffusers' community folder wants it.

python examples/community/join_modules.py mcdiff.py
"""

import argparse
import ast
from collections import defaultdict
from pathlib import Path

import mcdiff_pipeline
from mcdiff_pipeline.atomic_files import atomic_path


# A lower module comes before those that import it.
MODULES = ("flow", "flow_completion_unet", "model_files", "strokes", "pipeline_mcdiff")


def joined_source(package: Path) -> str:
    """
    The source of the pipeline as one module.

    Args:
        package (`Path`): Folder of the package's sources.

    Raises:
        ValueError: If two modules define the same name, so that one file cannot hold both.
    """
    header, plain, taken, body, owners = [], set(), defaultdict(set), [], {}
    for module in MODULES:
        source = package.joinpath(f"{module}.py").read_text(encoding="utf-8")
        lines, (docstring, *nodes) = source.splitlines(), ast.parse(source).body
        start = docstring.end_lineno
        if module == "pipeline_mcdiff":
            header = lines[:start]  # license and docstring
        for node in nodes:
            if isinstance(node, ast.Import):
                plain.add(ast.unparse(node))
            elif isinstance(node, ast.ImportFrom):
                if node.level == 0:
                    taken[node.module] |= {alias.name for alias in node.names}
            else:
                named = [node.name] if hasattr(node, "name") else [ast.unparse(target) for target in node.targets]
                for name in named:
                    if owners.setdefault(name, module) != module:
                        raise ValueError(f"{name} is defined in {owners[name]}.py and in {module}.py: rename one.")
                body.append("\n".join(lines[start : node.end_lineno]).strip("\n"))  # with the comment above it
            start = node.end_lineno
    imports = sorted(plain) + [f"from {module} import {', '.join(sorted(names))}" for module, names in taken.items()]
    return "\n\n\n".join(["\n".join([*header, "", *imports]), *body]) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, metavar="FILE", help="the file to write")
    output = parser.parse_args().output
    with atomic_path(output) as unfinished:
        unfinished.write_text(joined_source(Path(mcdiff_pipeline.__file__).parent), encoding="utf-8")
