# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Making the folder of a Hub repository from a model.

The folder holds what `save_pretrained` writes, and copies of modules of this package. diffusers runs them if this
package is not installed.
"""

import importlib.metadata
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import safe_open

from .. import pipeline_mcdiff
from ..model_files import check_model_files, read_config
from ..pipeline_mcdiff import MCDiffPipeline
from ..progress import is_progress_hidden
from ..strokes import StrokeSheet
from .model_card import BLANK_CARD, REPOSITORY, fill_model_card
from .modular_index import write_modular_index
from .remote_code import remote_code


# Number formats of a variant of the weights.
VARIANTS = {"fp16": torch.float16, "bf16": torch.bfloat16}

# Files that an export may hold in addition to its code. None of them is ever run.
DATA_SUFFIXES = (".safetensors", ".json", ".md", ".txt", ".jpg", ".mp4")


def export_model(
    model: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    card: str | os.PathLike | None = None,
    example: str | os.PathLike | None = None,
    metrics: str | os.PathLike | None = None,
    training: str | None = None,
    variant: str | None = None,
    max_shard_size: str = "10GB",
) -> None:
    """Writes weights, code, model card, license and example into a new folder.

    The folder appears under its name only when it is complete.

    Args:
        model (`str` or `os.PathLike`): folder of the model, as `save_pretrained` writes it.
        folder (`str` or `os.PathLike`): the folder to write: new, or empty.
        card (`str` or `os.PathLike`, *optional*): the model card, see `model_card`. None takes `README.md` in the
            folder of the model, else a blank card.
        example (`str` or `os.PathLike`, *optional*): an image, with a stroke sheet of the same name (`.json`) beside
            it. Both go into the folder, with the video that the model makes from them.
        metrics (`str` or `os.PathLike`, *optional*): `metrics.json` of an evaluation, for the card.
        training (`str`, *optional*): Markdown about the training of the model, for the card.
        variant (`str`, *optional*): `"fp16"` or `"bf16"`: also write the weights in this number format. The others
            keep the format that they have in `model`.
        max_shard_size (`str`, defaults to `"10GB"`): largest size of one file of weights.

    Raises:
        ValueError: if an argument has a wrong value, `model` is not a model, or `folder` is not empty.
        OSError: if a file cannot be read or written.
    """
    model, folder = Path(model), Path(folder)
    if variant is not None and variant not in VARIANTS:
        raise ValueError(f"`variant` is {variant!r}, but must be one of {', '.join(VARIANTS)}.")
    _check_new_folder(folder)
    check_model_files(model)
    text = _read_card(card, model)
    summary = None if metrics is None else _read_metrics(metrics)
    if example is not None:
        StrokeSheet.load(Path(example).with_suffix(".json"))  # refuses a damaged sheet before slow work starts

    pipe = MCDiffPipeline.from_pretrained(model, dtype={**_weight_dtypes(model), "default": torch.float32})
    name = None if example is None else Path(example).stem
    text = fill_model_card(text, pipe, variant=variant, example=name, metrics=summary, training=training)

    with tempfile.TemporaryDirectory(dir=folder.resolve().parent, prefix=f".{folder.name}.") as temporary:
        unfinished = Path(temporary) / "export"
        pipe.save_pretrained(unfinished, max_shard_size=max_shard_size)
        for path, content in remote_code(flow_completion=pipe.flow_completion is not None).items():
            unfinished.joinpath(path).write_bytes(content)
        unfinished.joinpath("README.md").write_text(text, encoding="utf-8")
        unfinished.joinpath("LICENSE").write_text(_license(), encoding="utf-8")
        schema = Path(pipeline_mcdiff.__file__).with_name("stroke_sheet.schema.json")
        shutil.copyfile(schema, unfinished / schema.name)
        if example is not None:
            _write_example(Path(example), unfinished)
        if variant is not None:
            pipe = MCDiffPipeline.from_pretrained(unfinished, dtype=VARIANTS[variant])
            pipe.save_pretrained(unfinished, variant=variant, max_shard_size=max_shard_size)
        remove_local_paths(unfinished)
        load_in_float32(unfinished)
        write_modular_index(unfinished, REPOSITORY)
        for path in unfinished.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        check_export(unfinished)
        os.replace(unfinished, folder)


def check_export(folder: str | os.PathLike) -> None:
    """Checks that a folder is what [`export_model`] of this version writes, so that its code can be trusted.

    Args:
        folder (`str` or `os.PathLike`): the folder.

    Raises:
        ValueError: if there is no model or no model card, if its code is missing or differs from this package's, or if
            there is another file that could be run when the model is loaded.
    """
    folder = Path(folder)
    check_model_files(folder)
    index = read_config(folder / "model_index.json")
    code = remote_code(flow_completion=index.get("flow_completion", [None])[0] is not None)
    for name in ["README.md", *code]:
        if not folder.joinpath(name).is_file():
            raise ValueError(f"{folder} is not an export: it holds no {name}; make one with `mcdiff export`.")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            continue
        if name in code:
            if path.read_bytes() != code[name]:
                raise ValueError(
                    f"{path} differs from the file of this version of mcdiff-pipeline: export the model again, since "
                    "only unchanged code is uploaded for others to trust."
                )
        elif name != "LICENSE" and path.suffix not in DATA_SUFFIXES:
            raise ValueError(
                f"{path} is not part of an export: only its code and files with the suffixes "
                f"{', '.join(DATA_SUFFIXES)} are uploaded; remove it."
            )


def remove_local_paths(folder: str | os.PathLike) -> None:
    """Removes the path that a model or component had on this machine from the configurations in a folder."""
    for path in [*Path(folder).glob("model_index.json"), *Path(folder).glob("*/config.json")]:
        config = json.loads(path.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_in_float32(folder: str | os.PathLike) -> None:
    """Lets transformers load its components in float32 unless a call names another dtype, as diffusers loads its own.

    Their configuration names a dtype, of a variant if one was saved last.
    """
    for path in Path(folder).glob("*/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        if "dtype" in config:
            config["dtype"] = "float32"
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _check_new_folder(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not empty: name a new folder, or remove this one first.")
    if not folder.resolve().parent.is_dir():
        raise ValueError(f"{folder}: there is no folder {folder.resolve().parent}; make it first.")


def _read_card(card: str | os.PathLike | None, model: Path) -> str:
    """The text of the model card before it is filled in."""
    if card is None and model.joinpath("README.md").is_file():
        card = model / "README.md"
    return BLANK_CARD if card is None else Path(card).read_text(encoding="utf-8")


def _read_metrics(path: str | os.PathLike) -> dict[str, Any]:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}; give the metrics.json of an evaluation.") from None


def _license() -> str:
    """The text of this package's license."""
    # An installation may leave several folders of metadata; one of them holds the license.
    found = importlib.metadata.distributions(name="mcdiff-pipeline")
    return next(filter(None, (distribution.read_text("licenses/LICENSE") for distribution in found)))


def _weight_dtypes(model: Path) -> dict[str, torch.dtype]:
    """The dtype of the first stored weight of each component that has weights."""
    dtypes: dict[str, torch.dtype] = {}
    for path in sorted(model.glob("*/*.safetensors")):
        with safe_open(path, framework="pt") as weights:
            for name in weights.keys():
                dtypes.setdefault(path.parent.name, weights.get_tensor(name).dtype)
                break
    return dtypes


def _write_example(image: Path, folder: Path) -> None:
    """Writes image, stroke sheet, and the video that the model in the folder makes from them."""
    with Image.open(image) as opened:
        if opened.format == "JPEG":
            shutil.copyfile(image, folder / f"{image.stem}.jpg")
        else:
            opened.convert("RGB").save(folder / f"{image.stem}.jpg", quality=95)
    sheet = StrokeSheet.load(image.with_suffix(".json"))
    sheet.save(folder / f"{image.stem}.json")
    pipe = MCDiffPipeline.from_pretrained(folder).to("cuda" if torch.cuda.is_available() else "cpu")
    pipe.set_progress_bar_config(disable=True if is_progress_hidden() else None)  # None: shown on a terminal only
    height, width = pipe.image_processor.fitting_size((sheet.height, sheet.width))
    video = pipe(image, sheet, height=height, width=width, generator=torch.Generator().manual_seed(0)).frames[0]
    from ..video import write_video  # PyAV, which nothing else here needs

    write_video(video, folder / f"{image.stem}.mp4", fps=sheet.fps)
