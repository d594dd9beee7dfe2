# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""`mcdiff push`: upload an exported folder to the Hub."""

from pathlib import Path
from typing import Annotated

import typer

from .errors import checking_input
from .telling import Teller, told


EPILOG = "Example: mcdiff push exported owner/name --private"


@told
def push(
    teller: Teller,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder that `mcdiff export` wrote.")],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="The repository; created if it does not exist.")
    ],
    private: Annotated[bool, typer.Option("--private", help="Make the repository private, if it is created.")] = False,
) -> None:
    """Upload an exported folder to the Hub.

    Uploads what `mcdiff export` wrote to the Hugging Face Hub, as one commit.
    """
    from mcdiff_pipeline.hub import push_export
    from mcdiff_pipeline.hub.push import hub_errors_explained

    with checking_input(), hub_errors_explained(repository):
        address = push_export(folder, repository, private=private)
    teller.say(address, address=address, repository=repository)
