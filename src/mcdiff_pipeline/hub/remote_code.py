# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The modules of this package that travel with a model, so that diffusers can run it without this package."""

import re
from pathlib import Path

from diffusers.utils.dynamic_modules_utils import get_relative_imports

from .. import flow_completion_unet, modular_blocks, pipeline_mcdiff


def remote_code(*, flow_completion: bool) -> dict[str, bytes]:
    """The files with code in a repository of a model.

    Args:
        flow_completion (`bool`): whether the model has F.

    Returns:
        `dict[str, bytes]`: paths in the repository, with their contents: `pipeline.py` for `DiffusionPipeline`,
        `modular_blocks.py` for `ModularPipeline`, the modules that they import, and the module of F in
        `flow_completion/`. All are copies; the modules that the first two import have their own imports hidden from
        diffusers, see [`hide_relative_imports`].
    """
    pipeline, blocks = Path(pipeline_mcdiff.__file__), Path(modular_blocks.__file__)
    code = {"pipeline.py": pipeline.read_bytes(), blocks.name: blocks.read_bytes()}
    # diffusers copies the modules that this function of it finds; those of the blocks contain those of the pipeline
    for name in get_relative_imports(blocks):
        source = pipeline.with_name(f"{name}.py").read_text(encoding="utf-8")
        code[f"{name}.py"] = hide_relative_imports(source).encode()
    if flow_completion:
        # diffusers looks for the module of a component under its name in model_index.json, dots included
        path = f"flow_completion/{flow_completion_unet.__name__}.py"
        code[path] = Path(flow_completion_unet.__file__).read_bytes()
    return code


def hide_relative_imports(source: str) -> str:
    """
    Writes `from .name import` as `from . name import`, which is the same to Python, but which diffusers does not see.

    diffusers takes the modules that the first file names, and then those that each of them names, and so on, with two
    requests to the Hub for each, however often it has been there: some hundred requests for two dozen modules. The
    first file names all of them, so nothing is missing if the others name none.

    Args:
        source (`str`): Python source code.
    """
    return re.sub(r"^(\s*from )\.(?=\w)", r"\1. ", source, flags=re.MULTILINE)
