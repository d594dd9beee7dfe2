"""Joins the pipeline and the modules that it imports into one file, as diffusers' community folder needs it.

python examples/community/join_modules.py mcdiff.py
"""

import argparse
import ast
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import mcdiff_pipeline
from mcdiff_pipeline.atomic_files import atomic_path


PIPELINE = "pipeline_mcdiff"


def joined_source(package: Path) -> str:
    """The source of the pipeline as one module.

    Args:
        package (`Path`): folder of the sources of the package.

    Raises:
        ValueError: if two modules define the same name in different ways, so that one file cannot hold both.
        graphlib.CycleError: if modules import each other in a circle.
    """
    sources = imported_sources(package)
    plain, names_of = imports_from_outside(sources)
    imports = sorted(plain) + [
        f"from {module} import {', '.join(sorted(names))}" for module, names in names_of.items()
    ]
    pieces, owners = [], {}
    for module, source in sources.items():
        for names, text in definitions(source):
            if text in pieces:  # such as a logger
                continue
            for name in names:
                if owners.setdefault(name, module) != module:
                    raise ValueError(f"{name} is defined in {owners[name]}.py and in {module}.py: rename one.")
            pieces.append(text)
    lines = sources[PIPELINE].splitlines()
    header = lines[: ast.parse(sources[PIPELINE]).body[0].end_lineno]  # license and docstring
    return "\n\n\n".join(["\n".join([*header, "", *imports]), *pieces]) + "\n"


def imported_sources(package: Path) -> dict[str, str]:
    """The sources of the pipeline and of all modules that it imports, each after those that it imports."""
    sources, imports, missing = {}, {}, [PIPELINE]
    while missing:
        module = missing.pop()
        sources[module] = package.joinpath(f"{module}.py").read_text(encoding="utf-8")
        nodes = ast.parse(sources[module]).body
        imports[module] = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 1}
        missing += sorted(imports[module] - sources.keys())
    return {module: sources[module] for module in TopologicalSorter(imports).static_order()}


def imports_from_outside(sources: dict[str, str]) -> tuple[set[str], dict[str, set[str]]]:
    """The `import` statements, and the names imported from each module by `from`, without those from the package."""
    plain, names_of = set(), defaultdict(set)
    for source in sources.values():
        for node in ast.parse(source).body:
            if isinstance(node, ast.Import):
                plain.add(ast.unparse(node))
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names_of[node.module] |= {ast.unparse(alias) for alias in node.names}
    return plain, names_of


def definitions(source: str) -> list[tuple[list[str], str]]:
    """The statements of a module after its imports: the names that each defines, and its text with comments above."""
    lines, (docstring, *nodes) = source.splitlines(), ast.parse(source).body
    found, start = [], docstring.end_lineno
    for node in nodes:
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            if hasattr(node, "name"):
                names = [node.name]
            else:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [ast.unparse(target) for target in targets]
            found.append((names, "\n".join(lines[start : node.end_lineno]).strip("\n")))
        start = node.end_lineno
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, metavar="FILE", help="the file to write")
    output = parser.parse_args().output
    with atomic_path(output) as unfinished:
        unfinished.write_text(joined_source(Path(mcdiff_pipeline.__file__).parent), encoding="utf-8")
