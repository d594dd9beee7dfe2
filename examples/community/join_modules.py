"""Joins the pipeline and the modules that it imports into one file, as diffusers' community folder needs it.

python examples/community/join_modules.py mcdiff.py
"""

import argparse
import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import mcdiff_pipeline
from mcdiff_pipeline.atomic_files import atomic_path


PIPELINE = "pipeline_mcdiff"

# Longest line in diffusers.
LINE_LENGTH = 119


def joined_source(package: Path) -> str:
    """The source of the pipeline as one module.

    Args:
        package (`Path`): folder of the sources of the package.

    Raises:
        ValueError: if two modules define the same name in different ways, so that one file cannot hold both.
        graphlib.CycleError: if modules import each other in a circle.
    """
    sources = imported_sources(package)
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
    return "\n\n\n".join(["\n".join([*header, "", *imports_from_outside(sources)]), *pieces]) + "\n"


def imported_sources(package: Path) -> dict[str, str]:
    """The sources of the pipeline and of all modules that it imports, each after those that it imports."""
    sources, imports, missing = {}, {}, [PIPELINE]
    while missing:
        module = missing.pop()
        sources[module] = without_overloads(package.joinpath(f"{module}.py").read_text(encoding="utf-8"))
        nodes = ast.parse(sources[module]).body
        found = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 1}
        imports[module] = sorted(found)
        missing += sorted(found - sources.keys())
    return {module: sources[module] for module in TopologicalSorter(imports).static_order()}


def without_overloads(source: str) -> str:
    """A module without the signatures that are only for type checkers: diffusers' checks of docstrings read them."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and any(ast.unparse(one) == "overload" for one in node.decorator_list):
            first = node.decorator_list[0].lineno - 1
            lines[first : node.end_lineno + 1] = [""] * (node.end_lineno + 1 - first)  # and the empty line below
    return "".join(lines)


def imports_from_outside(sources: dict[str, str]) -> list[str]:
    """The imports of all modules, without those from the package, in the order that `make style` of diffusers gives:
    the standard library, other packages, diffusers; in each of these parts `import` before `from`.

    Raises:
        ValueError: if two modules import different things by one name.
    """
    origins: dict[str, tuple[str, str]] = {}  # of each name: the module, and what is imported from it ("" is itself)
    for source in sources.values():
        used = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
        for node in ast.parse(source).body:
            if isinstance(node, ast.Import):
                found = {ast.unparse(alias): (alias.name, "") for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found = {alias.asname or alias.name: (node.module, ast.unparse(alias)) for alias in node.names}
            else:
                continue
            for name, origin in found.items():
                if origin[1] and name not in used:
                    continue
                first = origins.setdefault(name, origin)
                if (package_of(first[0]), first[1]) != (package_of(origin[0]), origin[1]):
                    raise ValueError(f"{name} is imported from {origins[name][0]} and from {origin[0]}: rename one.")
    lines: list[list[str]] = [[], [], []]
    for name in sorted((name for name, origin in origins.items() if not origin[1]), key=in_order):
        lines[part_of(name)].append(f"import {name}")
    for module in sorted({module for module, name in origins.values() if name}, key=in_order):
        names = sorted((name for one, name in origins.values() if one == module and name), key=by_type)
        line = f"from {module} import {', '.join(names)}"
        if len(line) > LINE_LENGTH:
            line = f"from {module} import (\n" + "".join(f"    {name},\n" for name in names) + ")"
        lines[part_of(module)].append(line)
    return "\n\n".join("\n".join(part) for part in lines if part).split("\n")


def package_of(module: str) -> str:
    """The package that a module is in. It exports a name from several modules, but as one thing."""
    return re.split(r"[. ]", module)[0]


def part_of(module: str) -> int:
    """The part of the imports that a module belongs to: the standard library, other packages, diffusers."""
    package = package_of(module)
    return 0 if package in sys.stdlib_module_names else 2 if package == "diffusers" else 1


def in_order(module: str) -> tuple[str, str]:
    """The key by which modules are sorted."""
    return module.lower(), module


def by_type(name: str) -> tuple[int, str, str]:
    """The key by which names are sorted: constants, classes, others."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2
    return kind, *in_order(name)


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
