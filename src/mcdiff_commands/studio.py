# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""`mcdiff studio`: draw on a picture in the browser, and see it move."""

import contextlib
import json
import os
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import InputError, checking_input
from .model import DeviceOption, DtypeOption, ModelOption, long_dtype
from .option_values import number


if TYPE_CHECKING:
    from mcdiff_pipeline.studio.settings import StudioSettings


EPILOG = "Example: mcdiff studio cat.jpg"
DEFAULT_PORT = 7861


def studio(
    image: Annotated[Path | None, typer.Argument(metavar="IMAGE", help="The picture to open: a file.")] = None,
    strokes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A stroke sheet to begin with (JSON, see docs/stroke-format.md)."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            parser=number(int, 8), metavar="N", help="Shorter side of the working size (default: the model's)."
        ),
    ] = None,
    port: Annotated[
        int,
        typer.Option(parser=number(int, 1, 65535), metavar="N", help=f"Port to listen at (default: {DEFAULT_PORT})."),
    ] = DEFAULT_PORT,
    threads: Annotated[
        int | None,
        typer.Option(parser=number(int, 1), metavar="N", help="Threads of PyTorch (default: the cores it may use)."),
    ] = None,
    sessions: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for sessions (default: mcdiff/studio in the user's data folder)."),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Whether to open the page.")] = True,
    shared: Annotated[
        bool,
        typer.Option(
            "--shared",
            help="Let others use it: listens on all addresses, keeps nothing after its end, and bounds what each may "
            "do. docs/studio.md says how to do this safely.",
        ),
    ] = False,
    host: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="With --shared: a name by which others reach this machine; repeatable."),
    ] = [],  # noqa: B006
    model: ModelOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
) -> None:
    """Draw on a picture in the browser, and see it move.

    Serves a page for this machine until Ctrl-C. Everything drawn is kept in the folder of sessions.
    """
    if image is not None and not image.is_file():
        raise InputError(f"{image}: there is no such picture.")
    if strokes is not None and (image is None or not strokes.is_file()):
        why = "there is no such stroke sheet." if image is not None else "name the IMAGE that they are for, too."
        raise InputError(f"--strokes {strokes}: {why}")
    if shared and sessions is not None:
        raise InputError("--sessions is given together with --shared, which keeps nothing after its end.")
    if host and not shared:
        raise InputError("--host is given, but without --shared only this machine is served.")
    check_installed()
    find_early(model)
    with contextlib.ExitStack() as stack:
        if shared:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mcdiff-studio-")))
        else:
            from mcdiff_pipeline.studio.settings import default_folder

            folder = sessions or default_folder()
        stack.enter_context(owning(folder))
        settings = make_settings(folder, shared, port, host, size)
        listener = stack.enter_context(listening(settings))
        dtype = long_dtype(dtype) or "float32"
        has_model_thread = serve(settings, listener, image, strokes, browser, (model, device, dtype, threads))
    if has_model_thread:
        # All is closed and written. Python would wait for exports and for what PyTorch cleans up, and would abort if
        # the thread of the model is in PyTorch meanwhile.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def check_installed() -> None:
    """Raises an [`InputError`] if the extra is missing."""
    import importlib.util

    for package in ("fastapi", "uvicorn", "websockets"):
        if importlib.util.find_spec(package) is None:
            raise InputError(f"{package} is missing; pip install 'mcdiff-pipeline[studio]' installs it.")


def find_early(model: str | None) -> None:
    """Raises an [`InputError`] if there is no such model, before anything is served."""
    from mcdiff_pipeline.model_names import find_model

    with checking_input():
        find_model(model)


def make_settings(folder: Path, shared: bool, port: int, hosts: list[str], size: int | None) -> "StudioSettings":
    """The options of the server."""
    from mcdiff_pipeline.model_names import EXAMPLE_IMAGE
    from mcdiff_pipeline.studio.security import new_token
    from mcdiff_pipeline.studio.settings import StudioSettings

    space = os.environ.get("SPACE_HOST")
    names = [*hosts, *([space] if space else []), *([socket.gethostname()] if shared else [])]
    settings = StudioSettings(
        folder=folder,
        shared=shared,
        port=port,
        hosts=tuple(name.lower() for name in names),
        token=None if shared else new_token(),
        size=size,
        is_space=space is not None,
        examples=EXAMPLE_IMAGE.parent,
    )
    if size is not None and size > settings.bounds.shorter_side:
        raise InputError(f"--size is {size}; the shorter side may have {settings.bounds.shorter_side} pixels.")
    return settings


@contextlib.contextmanager
def owning(folder: Path) -> Iterator[None]:
    """Keeps the folder of sessions for this server, until its end or a crash."""
    from mcdiff_pipeline.folder_lock import FolderInUse, folder_lock

    try:
        with folder_lock(folder):
            yield
    except FolderInUse:
        raise InputError(
            f"Another Studio uses {folder}: open its page, end it, or give this one a folder with --sessions."
        ) from None
    except (FileExistsError, NotADirectoryError, PermissionError, FileNotFoundError) as error:
        raise InputError(f"--sessions {folder} cannot be used ({error.strerror}): name another folder.") from None


@contextlib.contextmanager
def listening(settings: "StudioSettings") -> Iterator[socket.socket]:
    """A socket that listens at the port: of this machine alone, or of all addresses if it is shared."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("0.0.0.0" if settings.shared else "127.0.0.1", settings.port))
        listener.listen()  # who opens the printed address at once waits a moment, and is not refused
    except OSError as error:
        listener.close()
        raise InputError(
            f"--port {settings.port} cannot be used ({error.strerror}): another program may listen there; name "
            "another port."
        ) from None
    with listener:
        yield listener


def serve(
    settings: "StudioSettings",
    listener: socket.socket,
    image: Path | None,
    strokes: Path | None,
    browser: bool,
    model: tuple[str | None, str | None, str, int | None],
) -> bool:
    """Serves the page until Ctrl-C or SIGTERM. Returns whether the thread of the model was started."""
    import uvicorn

    from mcdiff_pipeline.processor import available_cores
    from mcdiff_pipeline.studio.app import create_app
    from mcdiff_pipeline.studio.settings import MESSAGE_BYTES

    name, device, dtype, threads = model
    threads = threads or available_cores()
    # OpenMP reads it when PyTorch is imported, which happens in the thread of the model
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))

    def load() -> Any:
        from mcdiff_pipeline.studio.engine import load_engine

        return load_engine(name, device, dtype, threads, settings)

    app = create_app(settings, load)
    session = None if image is None else open_image(app.state.studio, image, strokes)
    address = f"http://127.0.0.1:{settings.port}/"
    parts = [f"token={settings.token}"] if settings.token else []
    parts += [f"session={session}"] if session else []
    address += f"#{'&'.join(parts)}" if parts else ""
    print(f"Studio: {address}\nCtrl-C ends it." + ("" if settings.shared else f" Sessions are in {settings.folder}"))
    sys.stdout.flush()
    if browser and not settings.shared:
        opener = threading.Timer(0.3, webbrowser.open, [address])
        opener.daemon = True
        opener.start()
    config = uvicorn.Config(
        app,
        log_level="warning",
        ws="websockets-sansio",
        ws_max_size=MESSAGE_BYTES,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=1,
        limit_concurrency=1000,
        server_header=False,
        proxy_headers=False,
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
    return app.state.studio.model.ident is not None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it has {name}, which is no number of JSON")


def open_image(studio: Any, image: Path, strokes: Path | None) -> str:
    """Opens the picture that is named on the command line; returns the id of its session."""
    import asyncio

    from mcdiff_pipeline.studio.refusals import Refused

    try:
        sheet = None
        if strokes is not None:
            sheet = json.loads(strokes.read_text(encoding="utf-8-sig"), parse_constant=_refuse_constant)
        return asyncio.run(studio.open_picture(image.read_bytes(), image.name, sheet)).id
    except Refused as refused:
        raise InputError(f"{image}: {refused.why}") from None
    except ValueError as error:
        raise InputError(f"{strokes} is not JSON, but a stroke sheet has to be: {error}.") from None
    except OSError as error:
        raise InputError(f"{error.filename or image} cannot be read or written: {error.strerror}.") from None
