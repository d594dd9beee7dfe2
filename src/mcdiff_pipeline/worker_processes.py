# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""How processes that work beside this one are started."""

import multiprocessing
from collections.abc import Sequence
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext


def worker_context(preload: Sequence[str]) -> "ForkServerContext | SpawnContext":
    """
    The way to start workers that this system has.

    Workers are forked from a process that has only imported some modules. So a worker starts in milliseconds instead
    of seconds, also after a crash, and shares the memory of the imports with the other workers. Windows has only
    spawn.

    Args:
        preload (`Sequence[str]`): names of the modules to import before.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context


def prepare_workers(context: "ForkServerContext | SpawnContext") -> None:
    """Starts the process from which workers are forked, which imports its modules while this process goes on. Without
    this, it starts with the first worker."""
    if context.get_start_method() == "forkserver":
        from multiprocessing import forkserver

        forkserver.ensure_running()
