# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The files by which `ModularPipeline.from_pretrained` of diffusers loads a model and its blocks."""

import json
from pathlib import Path
from typing import Any

from ..atomic_files import atomic_path
from ..model_files import read_config
from ..modular_blocks import MCDiffBlocks


BLOCKS_FILE, INDEX_FILE = "modular_config.json", "modular_model_index.json"


def write_modular_index(folder: Path, repository: str) -> None:
    """
    Writes `modular_config.json`, which names the class of the blocks, and `modular_model_index.json`, which says where
    the components and the settings of the model are.

    In a local folder, diffusers takes the components from there. From the Hub, it takes them from `repository`.

    Args:
        folder (`Path`): an export, with its `model_index.json`.
        repository (`str`): name of the repository on the Hub, `owner/name`.
    """
    index = read_config(folder / "model_index.json")
    blocks = MCDiffBlocks()
    version = {"_diffusers_version": index["_diffusers_version"]}
    module = type(blocks).__module__.rpartition(".")[2]
    config = {
        "_class_name": type(blocks).__name__,
        "auto_map": {"ModularPipelineBlocks": f"{module}.{type(blocks).__name__}"},
    }
    _write(folder / BLOCKS_FILE, config | version)

    modular: dict[str, Any] = {"_class_name": "ModularPipeline", "_blocks_class_name": type(blocks).__name__}
    for spec in blocks.expected_components:
        library, class_name = index.get(spec.name) or (None, None)
        if library is not None:
            modular[spec.name] = [
                library,
                class_name,
                {
                    "type_hint": [library, class_name],
                    "pretrained_model_name_or_path": repository,
                    "subfolder": spec.name,
                    "variant": None,
                    "revision": None,
                },
            ]
    modular |= {spec.name: index.get(spec.name, spec.default) for spec in blocks.expected_configs}
    _write(folder / INDEX_FILE, modular | version)


def _write(path: Path, config: dict[str, Any]) -> None:
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
