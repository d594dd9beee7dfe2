# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Uploading an exported model to the Hub."""

import contextlib
import importlib.metadata
import os
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from huggingface_hub.utils import validate_repo_id

from ..atomic_files import atomic_path
from .export import check_export
from .model_card import REPOSITORY
from .modular_index import write_modular_index


def push_export(folder: str | os.PathLike, repository: str, *, private: bool = False, token: str | None = None) -> str:
    """Uploads an export as one commit, with the name of the repository in its model card and its modular index.

    Args:
        folder (`str` or `os.PathLike`): the folder that [`export_model`] wrote.
        repository (`str`): `owner/name`; the repository is created if it does not exist.
        private (`bool`, defaults to `False`): whether a repository that is created is private.
        token (`str`, *optional*): token of the Hub; None takes the token of the login.

    Returns:
        `str`: the address of the repository.

    Raises:
        ValueError: if the folder is not an export, or `repository` cannot be the name of a repository.
        huggingface_hub.errors.HfHubHTTPError: if the Hub refuses.
    """
    if repository.count("/") != 1:
        raise ValueError(f"{repository!r} is not the name of a repository: write owner/name.")
    validate_repo_id(repository)
    folder = Path(folder)
    check_export(folder)

    api = hub_client(token)
    address = api.create_repo(repository, private=private, exist_ok=True)
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8").replace(f'"{REPOSITORY}"', f'"{repository}"')
    with atomic_path(card) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    write_modular_index(folder, repository)
    api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload model")
    return str(address)


def hub_client(token: str | None = None) -> HfApi:
    """A client of the Hub with this token; None takes the token of the login."""
    version = importlib.metadata.version("mcdiff-pipeline")
    return HfApi(token=token, library_name="mcdiff-pipeline", library_version=version)


@contextlib.contextmanager
def hub_errors_explained(repository: str) -> Iterator[None]:
    """Turns errors of huggingface_hub into one sentence with the way out.

    Raises:
        RuntimeError: if there is no login, the Hub refuses, or it cannot be reached. `ValueError` and `OSError` are
            raised unchanged.
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
    except Exception as error:  # huggingface_hub chooses the HTTP client and its exceptions
        raise RuntimeError(f"the Hub cannot be reached: {error}.") from error
