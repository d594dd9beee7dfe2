"""`--push_to_hub` of the training scripts: checks before the training, uploads the result after it.

A pipeline folder is exported and uploaded as by `mcdiff export` and `mcdiff push`. A single component is not a
complete model. The model card in its repository describes how to make a model of it.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.utils import validate_repo_id

from loop.checkpoints import PROGRESS, Progress, find_checkpoints
from mcdiff_pipeline.atomic_files import atomic_folder
from mcdiff_pipeline.hub import export_model, push_export
from mcdiff_pipeline.hub.export import remove_local_paths
from mcdiff_pipeline.hub.model_card import REPOSITORY, TAGS
from mcdiff_pipeline.hub.push import hub_client, hub_errors_explained
from mcdiff_pipeline.model_names import default_example


# Arguments that describe the machine and not the model.
MACHINE_ARGUMENTS = ("output_dir", "cache_dir", "resume_from_checkpoint", "dataloader_num_workers", "report_to")

COMPONENT_CARD = """
# {title}

{title} for mcdiff-pipeline, the open implementation of MCDiff
([arXiv 2304.14404](https://arxiv.org/abs/2304.14404)): one component of a model. It does not work alone.

## How to use it

{usage}

## Training

{training}

## Intended use, license, limits

Not stated by its author.
"""

ASSEMBLY_USAGE = """In a clone of mcdiff-pipeline, with the other components in place of the words in capitals:

```bash
hf download owner/name --local-dir part
python training/assemble_pipeline.py {arguments} --output_dir model
```"""

LORA_USAGE = f"""With the model that it was trained on in place of the word in capitals:

```py
from mcdiff_pipeline import MCDiffPipeline

pipe = MCDiffPipeline.from_pretrained("MODEL")
pipe.load_lora_weights("{REPOSITORY}")
```"""


@dataclass(frozen=True)
class HubRepository:
    """A repository that this login may write to.

    Args:
        name (`str`): `owner/name`.
        private (`bool`): whether a new repository is private.
        token (`str`, *optional*): token to use; None uses the login of this machine.
    """

    name: str
    private: bool
    token: str | None


def add_hub_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `open_repository`. Their names are those of diffusers' training scripts."""
    group = parser.add_argument_group("Hugging Face Hub")
    group.add_argument("--push_to_hub", action="store_true", help="Upload the result after the training.")
    group.add_argument(
        "--hub_model_id",
        default=None,
        help="owner/name of the repository, which is made if it does not exist; by default your own, with the name of "
        "--output_dir.",
    )
    group.add_argument("--hub_token", default=None, help="Instead of a login by `hf auth login` or HF_TOKEN.")
    group.add_argument("--hub_private_repo", action="store_true", help="Make a new repository private.")


def open_repository(args: argparse.Namespace, *, whole_pipeline: bool = False) -> HubRepository | None:
    """The repository of `--push_to_hub`, which is made if it does not exist; None without that argument.

    Removes the token from `args`, since these are written to files.

    Args:
        whole_pipeline (`bool`): whether a complete model is uploaded, not a component.

    Raises:
        ValueError: if the arguments contradict each other, the name is invalid or belongs to someone else, or a
            component would go into the repository of a complete model.
        RuntimeError: if nobody is logged in, the Hub refuses, or the Hub cannot be reached.
    """
    token, args.hub_token = args.hub_token, None
    if not args.push_to_hub:
        if args.hub_model_id or token or args.hub_private_repo:
            raise ValueError(
                "--hub_model_id, --hub_token and --hub_private_repo have no effect without --push_to_hub; add it, or "
                "leave them out."
            )
        return None
    wanted = args.hub_model_id or Path(args.output_dir).resolve().name
    validate_repo_id(wanted)
    api = hub_client(token)
    with hub_errors_explained(wanted):
        user = api.whoami()
        name = wanted if "/" in wanted else f"{user['name']}/{wanted}"
        owners = [user["name"], *(organization["name"] for organization in user.get("orgs", []))]
        if name.split("/")[0] not in owners:
            raise ValueError(
                f"--hub_model_id {wanted!r} belongs to none of {', '.join(owners)}, the accounts of this login; name "
                "a repository of one of these."
            )
        api.create_repo(name, private=args.hub_private_repo, exist_ok=True)
        if not whole_pipeline and api.file_exists(name, "model_index.json"):
            raise ValueError(
                f"--hub_model_id {name!r} holds a complete model already, and this script makes only a component; "
                "name another repository, and make the model with assemble_pipeline.py --push_to_hub."
            )
    return HubRepository(name, args.hub_private_repo, token)


def _without_folders(value: Any) -> Any:
    """A value, or a list of values, in which each path on this machine is reduced to its last part."""
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    if isinstance(value, str) and (Path(value).is_absolute() or Path(value).exists()):
        return Path(value).name
    return value


def public_arguments(run: Path) -> dict[str, Any]:
    """The arguments of a run, without those that describe the machine, and without folders in paths."""
    arguments = json.loads(Path(run, "training_arguments.json").read_text())
    return {
        name: _without_folders(value)
        for name, value in arguments.items()
        if value is not None and name not in MACHINE_ARGUMENTS and not name.startswith(("hub_", "push_to_hub"))
    }


def run_folder(component: str | Path) -> Path | None:
    """The output folder of the run that made a component: one or two folders up, or None."""
    for folder in list(Path(component).resolve().parents)[:2]:
        if (folder / "training_arguments.json").is_file():
            return folder
    return None


def progress_of(component: str | Path, run: Path) -> Progress | None:
    """How long a component was trained, as in `progress.json`; None if its checkpoint was removed."""
    for folder in (Path(component).resolve().parent, *reversed(find_checkpoints(run))):
        if (folder / PROGRESS).is_file():
            return Progress.load(folder)
    return None


def describe_training(component: str | Path) -> str:
    """Markdown on how a component was trained, from the files of its run."""
    run = run_folder(component)
    if run is None:
        return "Its training is not recorded."
    arguments, progress = public_arguments(run), progress_of(component, run)
    duration = f", {progress.step} steps in {progress.minutes:.1f} minutes" if progress else ""
    data = [name for argument in ("train_data_dir", "photographs_dir") for name in arguments.get(argument, [])]
    rows = [
        f"| `--{name}` | {' '.join(map(str, value)) if isinstance(value, list) else value} |"
        for name, value in arguments.items()
        if value is not False and value != []
    ]
    return "\n".join(
        [
            f"Trained on {', '.join(data)}{duration}. It was not evaluated.",
            "",
            "| argument | value |",
            "|---|---|",
            *rows,
        ]
    )


def push_pipeline(folder: str | Path, training: str, repository: HubRepository) -> None:
    """Exports a pipeline folder to `FOLDER-hub` and uploads it.

    Args:
        training (`str`): Markdown on the training, for the model card.

    Raises:
        RuntimeError: if the upload fails. The export is kept, and the message names the command that uploads it.
    """
    export = Path(f"{folder}-hub")
    shutil.rmtree(export, ignore_errors=True)
    export_model(folder, export, training=training, example=default_example())
    private = " --private" if repository.private else ""
    _upload(
        lambda: push_export(export, repository.name, private=repository.private, token=repository.token),
        repository,
        f"mcdiff push {export} {repository.name}{private}",
    )


def push_component(output_dir: str | Path, names: Sequence[str], repository: HubRepository, *, title: str) -> None:
    """Uploads folders of a run's output with a model card, from the folder `OUTPUT_DIR/NAME-hub`.

    Args:
        names (`Sequence[str]`): the folders; the first is the trained component.
        title (`str`): title of the card.

    Raises:
        RuntimeError: if the upload fails. The folder is kept, and the message names the command that uploads it.
    """
    places = {"vae": "VAE", "flow_completion": "FLOW_COMPLETION", "unet": "UNET", "scheduler": "SCHEDULER"}
    places |= {name: f"part/{name}" for name in names}
    usage = ASSEMBLY_USAGE.format(arguments=" ".join(f"--{name} {place}" for name, place in places.items()))
    _push_part(output_dir, {name: name for name in names}, repository, title, usage, TAGS)


def push_lora(output_dir: str | Path, repository: HubRepository) -> None:
    """Like `push_component`, for the folder `unet_lora`. Its files go to the top of the repository, as is usual."""
    title = "A LoRA of future-frame prediction (G)"
    _push_part(output_dir, {"unet_lora": ""}, repository, title, LORA_USAGE, [*TAGS, "lora"])


def _push_part(
    output_dir: str | Path,
    places: dict[str, str],
    repository: HubRepository,
    title: str,
    usage: str,
    tags: Sequence[str],
) -> None:
    """Uploads `places`, folder in the output → folder in the repository; the first is the trained component."""
    trained = Path(output_dir, next(iter(places)))
    folder = Path(f"{trained}-hub")
    card = ModelCardData(license="other", library_name="diffusers", tags=list(tags))
    text = COMPONENT_CARD.format(
        title=title, usage=usage.replace(REPOSITORY, repository.name), training=describe_training(trained)
    )

    def write(unfinished: Path) -> None:
        for name, place in places.items():
            shutil.copytree(Path(output_dir, name), unfinished / place, dirs_exist_ok=True)
        remove_local_paths(unfinished)
        # `assemble_pipeline.py` reads the arguments, and its model card states the progress.
        arguments = json.dumps(public_arguments(Path(output_dir)), indent=2) + "\n"
        (unfinished / "training_arguments.json").write_text(arguments)
        progress = progress_of(trained, Path(output_dir))
        if progress is not None:
            progress.save(unfinished)
        ModelCard(f"---\n{card.to_yaml()}\n---\n{text}").save(unfinished / "README.md")

    atomic_folder(folder, write)
    api = hub_client(repository.token)
    _upload(
        lambda: api.upload_folder(repo_id=repository.name, folder_path=folder, commit_message="Upload model"),
        repository,
        f"hf upload {repository.name} {folder} .",
    )


def _upload(upload: Callable[[], object], repository: HubRepository, command: str) -> None:
    """Runs `upload`. After a failure, the message names the `command` that repeats it."""
    try:
        with hub_errors_explained(repository.name):
            upload()
    except (RuntimeError, ValueError, OSError) as error:
        raise RuntimeError(
            f"The result of the training is complete, but could not be uploaded: {error} Try again later: {command}"
        ) from error
    print(f"Uploaded to {repository.name}.")
