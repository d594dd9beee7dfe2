"""Imports go one way, as CONTRIBUTING.md draws it, and there are no circles."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from support.paths import REPOSITORY


# Modules and packages of the library, from the lowest row to the highest. A row imports from itself and lower rows.
ROWS = (
    {"flow", "similarity", "model_weights", "model_files", "model_names", "helper_models"}
    | {"atomic_files", "folder_lock", "progress", "processor", "short_repr", "worker_processes"},
    {"color_matching", "regions", "strokes", "stroke_controls", "drawing", "layer_colors", "semantic_features"}
    | {"inpainting", "latent_codec", "image_processor", "flow_completion_unet", "flow_io", "flow_visualization"},
    {"layers", "rollout", "detail", "stroke_problems", "stroke_verdicts"},
    {"conditioning", "motion_completion", "frame_decoder"},
    {"denoising", "input_checks"},
    {"call_inputs"},
    {"pipeline_mcdiff"},
    {"modular_blocks"},
    {"", "public_names", "video", "dataset", "baselines", "openvino_networks"},  # "" is the package itself
    {"annotation", "hub", "segmentation"},
    {"evaluation", "studio", "motion"},
)
# These travel with an exported model, so they import nothing of the package but one another.
REMOTE_CODE = {
    "flow",
    "similarity",
    "short_repr",
    "color_matching",
    "layer_colors",
    "inpainting",
    "layers",
    "rollout",
    "semantic_features",
    "model_files",
    "model_weights",
    "model_names",
    "regions",
    "strokes",
    "stroke_controls",
    "stroke_problems",
    "detail",
    "motion_completion",
    "frame_decoder",
    "latent_codec",
    "image_processor",
    "flow_completion_unet",
    "conditioning",
    "denoising",
    "input_checks",
    "call_inputs",
    "pipeline_mcdiff",
    "modular_blocks",
}


def imported_modules(path: Path, package: str) -> Iterator[str]:
    """Dotted names of the modules that a file imports; relative names are resolved in `package`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def module_imports(root: Path) -> dict[str, set[str]]:
    """Which modules below `root` import which others below `root`, by dotted name."""
    files = {".".join(path.relative_to(root).with_suffix("").parts): path for path in root.rglob("*.py")}
    files = {name.removesuffix(".__init__"): path for name, path in files.items()}
    imports = {}
    for name, path in files.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        imports[name] = {other for other in imported_modules(path, package) if other in files} - {name}
    return imports


LIBRARY = module_imports(REPOSITORY / "src")
TRAINING = module_imports(REPOSITORY / "training")


def row_of(module: str) -> int:
    part = module.removeprefix("mcdiff_pipeline").removeprefix(".").partition(".")[0]
    return next(number for number, row in enumerate(ROWS) if part in row)


def test_library_imports_only_from_its_row_and_lower_ones():
    for module, imports in LIBRARY.items():
        if module.startswith("mcdiff_pipeline."):
            assert max((row_of(other) for other in imports), default=0) <= row_of(module), module


@pytest.mark.parametrize("imports", [LIBRARY, TRAINING], ids=["src", "training"])
def test_no_module_imports_itself_by_way_of_others(imports):
    list(TopologicalSorter(imports).static_order())


def test_remote_code_imports_nothing_of_the_package_but_itself():
    for name in REMOTE_CODE & {module.removeprefix("mcdiff_pipeline.") for module in LIBRARY}:
        others = {other.removeprefix("mcdiff_pipeline.") for other in LIBRARY[f"mcdiff_pipeline.{name}"]}
        assert others <= REMOTE_CODE, name


def test_scripts_of_training_import_only_parts_and_parts_only_their_folder():
    for module, imports in TRAINING.items():
        folder, _, part = module.partition(".")
        allowed = {folder} if part else {"loop", "rendering"}
        assert {other.partition(".")[0] for other in imports} <= allowed, module


def test_make_test_runs_all_tests():
    """The Makefile names parts of the tests; each file of tests is in one of them."""
    (parts,) = re.findall(r"for part in (.*?); do", (REPOSITORY / "Makefile").read_text(encoding="utf-8"))
    run = {path for part in parts.replace('"', "").split() for path in REPOSITORY.glob(part)}
    missing = [
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        if not run & {path, *path.parents}
    ]
    assert not missing
