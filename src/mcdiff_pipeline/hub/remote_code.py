# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The modules of this package that travel with a model, so that diffusers can run it without this package."""

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
        `flow_completion/`.
    """
    pipeline, blocks = Path(pipeline_mcdiff.__file__), Path(modular_blocks.__file__)
    code = {"pipeline.py": pipeline.read_bytes(), blocks.name: blocks.read_bytes()}
    # diffusers copies the modules that this function of it finds; those of the blocks contain those of the pipeline
    for name in get_relative_imports(blocks):
        code[f"{name}.py"] = pipeline.with_name(f"{name}.py").read_bytes()
    if flow_completion:
        # diffusers looks for the module of a component under its name in model_index.json, dots included
        path = f"flow_completion/{flow_completion_unet.__name__}.py"
        code[path] = Path(flow_completion_unet.__file__).read_bytes()
    return code
