# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""A model as a repository of the Hugging Face Hub: a folder that loads with and without this package.

The folder is what `save_pretrained` writes and, beside it, byte copies of the modules of this package, by which
diffusers runs the pipeline where the package is not installed: `pipeline.py`, the modules that it imports, and the
module of F in `flow_completion/`.
"""

import contextlib
import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers.utils.dynamic_modules_utils import get_relative_imports
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from huggingface_hub.utils import validate_repo_id
from PIL import Image
from safetensors import safe_open

from .. import flow_completion_unet, pipeline_mcdiff
from ..atomic_files import atomic_path
from ..model_files import check_model_files, read_config
from ..pipeline_mcdiff import MCDiffPipeline
from ..strokes import StrokeSheet
from ..video import write_video
from .model_card import BLANK_CARD, REPOSITORY, fill_model_card


# Number formats of a variant of the weights.
VARIANTS = {"fp16": torch.float16, "bf16": torch.bfloat16}

# What an export may hold beside the code of `packaged_code`; none of it is ever run.
DATA_SUFFIXES = (".safetensors", ".json", ".md", ".txt", ".jpg", ".mp4")


def packaged_code(*, flow_completion: bool) -> dict[str, bytes]:
    """
    The modules of this package that travel with a model.

    Args:
        flow_completion (`bool`): Whether the model has F.

    Returns:
        `dict[str, bytes]`: Path in the folder to content.
    """
    pipeline = Path(pipeline_mcdiff.__file__)
    code = {"pipeline.py": pipeline.read_bytes()}
    # what diffusers copies beside the pipeline is what this function of its finds
    for name in get_relative_imports(pipeline):
        code[f"{name}.py"] = pipeline.with_name(f"{name}.py").read_bytes()
    if flow_completion:
        # diffusers looks for the module of a component under the name in model_index.json, dots included
        path = f"flow_completion/{flow_completion_unet.__name__}.py"
        code[path] = Path(flow_completion_unet.__file__).read_bytes()
    return code


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
    """
    Writes the folder of a Hub repository: weights, code, model card, license, example.

    The folder appears under its name when it is complete, and not before.

    Args:
        model (`str` or `os.PathLike`):
            Folder of the model, as `save_pretrained` writes it.
        folder (`str` or `os.PathLike`):
            The folder to write: a new one, or an empty one.
        card (`str` or `os.PathLike`, *optional*):
            The model card; see `model_card`. Where None, `README.md` in the folder of the model, else a blank card.
        example (`str` or `os.PathLike`, *optional*):
            A picture with a stroke sheet of the same name (`.json`) beside it: both go into the folder, with the video
            that the model makes of them.
        metrics (`str` or `os.PathLike`, *optional*):
            An evaluation's `metrics.json`, for the card.
        training (`str`, *optional*):
            Markdown on how the model was trained, for the card.
        variant (`str`, *optional*):
            `"fp16"` or `"bf16"`: write the weights in this number format too, beside those in the format that they
            have in `model`.
        max_shard_size (`str`, defaults to `"10GB"`):
            Size up to which weights lie in one file, such as `"5GB"`.

    Raises:
        ValueError: If an argument has a value that is not allowed, `model` is no model, or `folder` is not empty.
        OSError: If a file cannot be read or written.
    """
    model, folder = Path(model), Path(folder)
    if variant is not None and variant not in VARIANTS:
        raise ValueError(f"`variant` is {variant!r}, but has to be one of {', '.join(VARIANTS)}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not empty: name a new folder, or remove this one first.")
    if not folder.resolve().parent.is_dir():
        raise ValueError(f"{folder}: there is no folder {folder.resolve().parent}; make it first.")
    check_model_files(model)
    if card is None:
        card = model / "README.md" if model.joinpath("README.md").is_file() else None
    text = BLANK_CARD if card is None else Path(card).read_text(encoding="utf-8")
    try:
        figures = None if metrics is None else json.loads(Path(metrics).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{metrics} is no JSON: {error}; give the metrics.json of an evaluation.") from None
    sheet = None if example is None else StrokeSheet.load(Path(example).with_suffix(".json"))

    dtypes = {path.name: stored_dtype(path) for path in model.iterdir() if path.is_dir()}
    dtypes = {name: dtype for name, dtype in dtypes.items() if dtype is not None}
    pipe = MCDiffPipeline.from_pretrained(model, dtype={**dtypes, "default": torch.float32})
    name = None if example is None else Path(example).stem
    text = fill_model_card(text, pipe, variant=variant, example=name, metrics=figures, training=training)

    with tempfile.TemporaryDirectory(dir=folder.resolve().parent, prefix=f".{folder.name}.") as temporary:
        unfinished = Path(temporary) / "export"
        pipe.save_pretrained(unfinished, max_shard_size=max_shard_size)
        for path, content in packaged_code(flow_completion=pipe.flow_completion is not None).items():
            unfinished.joinpath(path).write_bytes(content)
        unfinished.joinpath("README.md").write_text(text, encoding="utf-8")
        # Of the folders of metadata that an installation may leave, only the installed one's holds the license.
        found = importlib.metadata.distributions(name="mcdiff-pipeline")
        license = next(filter(None, (one.read_text("licenses/LICENSE") for one in found)))
        unfinished.joinpath("LICENSE").write_text(license, encoding="utf-8")
        schema = Path(pipeline_mcdiff.__file__).with_name("stroke_sheet.schema.json")
        shutil.copyfile(schema, unfinished / schema.name)
        if example is not None:
            _write_example(Path(example), sheet, unfinished)
        if variant is not None:
            pipe = MCDiffPipeline.from_pretrained(unfinished, dtype=VARIANTS[variant])
            pipe.save_pretrained(unfinished, variant=variant, max_shard_size=max_shard_size)
        forget_where_it_lay(unfinished)
        for path in unfinished.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        check_export(unfinished)
        os.replace(unfinished, folder)


def forget_where_it_lay(folder: str | os.PathLike) -> None:
    """Takes the path that a model or a component had on this machine out of the configurations in a folder."""
    for path in [*Path(folder).glob("model_index.json"), *Path(folder).glob("*/config.json")]:
        config = json.loads(path.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def stored_dtype(component: Path) -> torch.dtype | None:
    """The dtype of a component's weights as they lie in its folder; None where it has none."""
    for path in sorted(component.glob("*.safetensors")):
        with safe_open(path, framework="pt") as weights:
            for name in weights.keys():
                return weights.get_tensor(name).dtype
    return None


def _write_example(picture: Path, sheet: StrokeSheet, folder: Path) -> None:
    """Picture, stroke sheet, and the video that the model in the folder makes of them."""
    with Image.open(picture) as image:
        if image.format == "JPEG":
            shutil.copyfile(picture, folder / f"{picture.stem}.jpg")
        else:
            image.convert("RGB").save(folder / f"{picture.stem}.jpg", quality=95)
    sheet.save(folder / f"{picture.stem}.json")
    pipe = MCDiffPipeline.from_pretrained(folder).to("cuda" if torch.cuda.is_available() else "cpu")
    pipe.set_progress_bar_config(disable=None)  # None: shown on a terminal only
    video = pipe(picture, sheet, generator=torch.Generator().manual_seed(0)).frames[0]
    write_video(video, folder / f"{picture.stem}.mp4", fps=sheet.fps)


def check_export(folder: str | os.PathLike) -> None:
    """
    Refuses a folder that is not what [`export_model`] writes.

    Args:
        folder (`str` or `os.PathLike`):
            The folder.

    Raises:
        ValueError: If the folder holds no model or no model card; if its code is missing or not that of this package;
            or if it holds anything else that could be run when it is loaded.
    """
    folder = Path(folder)
    check_model_files(folder)
    index = read_config(folder / "model_index.json")
    code = packaged_code(flow_completion=index.get("flow_completion", [None])[0] is not None)
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
                    f"{path} is not the file of this version of mcdiff-pipeline: export the model again, since code "
                    "that others are to trust is uploaded only unchanged."
                )
        elif name != "LICENSE" and path.suffix not in DATA_SUFFIXES:
            raise ValueError(
                f"{path} is no part of an export: only its code and files with the suffixes "
                f"{', '.join(DATA_SUFFIXES)} are uploaded; remove it."
            )


@contextlib.contextmanager
def refusals_explained(repository: str) -> Iterator[None]:
    """
    Says in one sentence what keeps huggingface_hub from doing something with a repository.

    Raises:
        RuntimeError: In place of what huggingface_hub raises where nobody is logged in, the Hub refuses, or it cannot
            be reached. `ValueError` and `OSError` are let through.
    """
    try:
        yield
    except LocalTokenNotFoundError:
        raise RuntimeError("nobody is logged in to the Hub: run `hf auth login`, or set HF_TOKEN.") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        reason = error.server_message or error.response.reason_phrase
        login = " Log in with `hf auth login`, or set HF_TOKEN." if status in (401, 403) else ""
        raise RuntimeError(f"the Hub refuses {repository} ({status}): {reason.rstrip('.')}.{login}") from error
    except (ValueError, OSError):
        raise
    except Exception as error:  # of the HTTP client, which is huggingface_hub's to choose
        raise RuntimeError(f"the Hub cannot be reached: {error}.") from error


def hub_client(token: str | None = None) -> HfApi:
    """The Hub, as the one that the token belongs to; where None, as whoever is logged in."""
    version = importlib.metadata.version("mcdiff-pipeline")
    return HfApi(token=token, library_name="mcdiff-pipeline", library_version=version)


def push_export(folder: str | os.PathLike, repository: str, *, private: bool = False, token: str | None = None) -> str:
    """
    Uploads an export to the Hub as one commit, with the repository's name in its model card.

    Args:
        folder (`str` or `os.PathLike`):
            What [`export_model`] wrote.
        repository (`str`):
            `owner/name`; made if there is none.
        private (`bool`, defaults to `False`):
            Whether a repository that is made is private.
        token (`str`, *optional*):
            Whose repository it is; where None, that of who is logged in.

    Returns:
        `str`: The address of the repository.

    Raises:
        ValueError: If the folder is no export, or `repository` is no name of one.
        huggingface_hub.errors.HfHubHTTPError: If the Hub refuses.
    """
    if repository.count("/") != 1:
        raise ValueError(f"{repository!r} is no name of a repository: write owner/name.")
    validate_repo_id(repository)
    check_export(folder)

    api = hub_client(token)
    address = api.create_repo(repository, private=private, exist_ok=True)
    card = Path(folder) / "README.md"
    text = card.read_text(encoding="utf-8").replace(f'"{REPOSITORY}"', f'"{repository}"')
    with atomic_path(card) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload model")
    return str(address)
