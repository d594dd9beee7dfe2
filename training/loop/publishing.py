"""`--push_to_hub` of the training scripts: what is wrong is told before the training, what was trained goes up after.

A pipeline folder goes the way of `mcdiff export` and `mcdiff push`. A component, which is no model by itself, becomes
a repository that says how to make one of it.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.utils import validate_repo_id

from loop.trainer import checkpoints
from mcdiff_pipeline.atomic_files import atomic_folder
from mcdiff_pipeline.hub import export_model, push_export
from mcdiff_pipeline.hub.export import remove_local_paths
from mcdiff_pipeline.hub.model_card import REPOSITORY, TAGS
from mcdiff_pipeline.hub.push import hub_client, hub_errors_explained
from mcdiff_pipeline.model_names import default_example


# Arguments that say something about the machine, and nothing about what was trained.
OF_THE_MACHINE = ("output_dir", "cache_dir", "resume_from_checkpoint", "dataloader_num_workers", "report_to")

COMPONENT_CARD = """
# {title}

{title} for mcdiff-pipeline, the open implementation of MCDiff
([arXiv 2304.14404](https://arxiv.org/abs/2304.14404)): one part of a model, which does nothing by itself.

## How to use it

{usage}

## Training

{training}

## What it is for, license, limits

Not stated by who trained it.
"""


ASSEMBLY = """In a clone of mcdiff-pipeline, with the other parts in the place of the words in capitals:

```bash
hf download owner/name --local-dir part
python training/assemble_pipeline.py {arguments} --output_dir model
```"""

LORA_USAGE = f"""With the model that it was trained on in the place of the word in capitals:

```py
from mcdiff_pipeline import MCDiffPipeline

pipe = MCDiffPipeline.from_pretrained("MODEL")
pipe.load_lora_weights("{REPOSITORY}")
```"""


@dataclass(frozen=True)
class HubRepository:
    """A repository that may be written to: `owner/name`, and whose it is (None: that of who is logged in)."""

    name: str
    private: bool
    token: str | None


def add_hub_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that `open_repository` reads, named as in the training scripts of diffusers."""
    group = parser.add_argument_group("Hugging Face Hub")
    group.add_argument("--push_to_hub", action="store_true", help="Upload what was trained when it is finished.")
    group.add_argument(
        "--hub_model_id",
        default=None,
        help="owner/name of the repository, made if there is none; yours, with the name of --output_dir, if absent.",
    )
    group.add_argument("--hub_token", default=None, help="Instead of a login by `hf auth login` or HF_TOKEN.")
    group.add_argument("--hub_private_repo", action="store_true", help="If the repository is made, make it private.")


def open_repository(args: argparse.Namespace, *, whole_pipeline: bool = False) -> HubRepository | None:
    """The repository of `--push_to_hub`, made if there is none; None without that argument.

    The token is taken out of `args`, which are written to files.

    Raises:
        ValueError: if the arguments contradict each other, the name is none or of a stranger's repository, or a
            component would be put into the repository of a whole model.
        RuntimeError: if nobody is logged in, the Hub refuses, or it cannot be reached.
    """
    token, args.hub_token = args.hub_token, None
    if not args.push_to_hub:
        if args.hub_model_id or token or args.hub_private_repo:
            raise ValueError(
                "--hub_model_id, --hub_token and --hub_private_repo say how to upload, but only with --push_to_hub is "
                "anything uploaded; add it, or leave them out."
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
                f"--hub_model_id {wanted!r} belongs to none of {', '.join(owners)}, for whom the login is; name a "
                "repository of one of these."
            )
        api.create_repo(name, private=args.hub_private_repo, exist_ok=True)
        if not whole_pipeline and api.file_exists(name, "model_index.json"):
            raise ValueError(
                f"--hub_model_id {name!r} holds a whole model already, and this script makes only a part of one; name "
                "another repository, and put the model together with assemble_pipeline.py --push_to_hub."
            )
    return HubRepository(name, args.hub_private_repo, token)


def described_arguments(run: Path) -> dict:
    """The arguments of a run without what concerns the machine: of paths on it the last part is left."""

    def described(value):
        if isinstance(value, list):
            return [described(item) for item in value]
        if isinstance(value, str) and (Path(value).is_absolute() or Path(value).exists()):
            return Path(value).name
        return value

    arguments = json.loads(Path(run, "training_arguments.json").read_text())
    return {
        name: described(value)
        for name, value in arguments.items()
        if value is not None and name not in OF_THE_MACHINE and not name.startswith(("hub_", "push_to_hub"))
    }


def run_folder(component: str | Path) -> Path | None:
    """The output folder of the run that made the folder of a component, which lies in it or in a checkpoint of it."""
    for folder in list(Path(component).resolve().parents)[:2]:
        if (folder / "training_arguments.json").is_file():
            return folder
    return None


def progress_of(component: str | Path, run: Path) -> dict | None:
    """Steps and minutes after which the component in a folder is as it is; None where its checkpoint is gone."""
    for folder in (Path(component).resolve().parent, *reversed(checkpoints(run))):
        if (folder / "progress.json").is_file():
            return json.loads((folder / "progress.json").read_text())
    return None


def describe_training(component: str | Path) -> str:
    """Markdown on how the component in a folder was trained, as far as its run has left that beside it."""
    run = run_folder(component)
    if run is None:
        return "How it was trained is not recorded beside it."
    arguments, progress = described_arguments(run), progress_of(component, run)
    duration = f", {progress['step']} steps in {progress['minutes']:.1f} minutes" if progress else ""
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
    """Exports a pipeline folder to `FOLDER-hub`, and uploads that.

    Args:
        training: Markdown on how it was trained, for the model card.

    Raises:
        RuntimeError: if the upload fails; the export is kept, and the command that uploads it is named.
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
    """Uploads folders of a run's output, with their model card, from the folder `OUTPUT_DIR/NAME-hub`.

    Args:
        names: The folders; the first is what was trained.
        title: What that is, for people.

    Raises:
        RuntimeError: if the upload fails; the folder is kept, and the command that uploads it is named.
    """
    places = {"vae": "VAE", "flow_completion": "FLOW_COMPLETION", "unet": "UNET", "scheduler": "SCHEDULER"}
    places |= {name: f"part/{name}" for name in names}
    usage = ASSEMBLY.format(arguments=" ".join(f"--{name} {place}" for name, place in places.items()))
    _push_part(output_dir, {name: name for name in names}, repository, title, usage, TAGS)


def push_lora(output_dir: str | Path, repository: HubRepository) -> None:
    """As `push_component` the folder `unet_lora`, whose weights lie at the top of the repository, as is usual."""
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
    """`places`: folder in the output → folder in the repository; the first is what was trained."""
    trained = Path(output_dir, next(iter(places)))
    folder = Path(f"{trained}-hub")
    data = ModelCardData(license="other", library_name="diffusers", tags=list(tags))
    text = COMPONENT_CARD.format(
        title=title, usage=usage.replace(REPOSITORY, repository.name), training=describe_training(trained)
    )

    def write(unfinished):
        for name, place in places.items():
            shutil.copytree(Path(output_dir, name), unfinished / place, dirs_exist_ok=True)
        remove_local_paths(unfinished)
        # What `assemble_pipeline.py` reads of the run.
        for name, content in (
            ("training_arguments", described_arguments(Path(output_dir))),
            ("progress", progress_of(trained, Path(output_dir))),
        ):
            (unfinished / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
        ModelCard(f"---\n{data.to_yaml()}\n---\n{text}").save(unfinished / "README.md")

    atomic_folder(folder, write)
    api = hub_client(repository.token)
    _upload(
        lambda: api.upload_folder(repo_id=repository.name, folder_path=folder, commit_message="Upload model"),
        repository,
        f"hf upload {repository.name} {folder} .",
    )


def _upload(upload, repository: HubRepository, command: str) -> None:
    try:
        with hub_errors_explained(repository.name):
            upload()
    except (RuntimeError, ValueError, OSError) as error:
        raise RuntimeError(
            f"What was trained is complete, but could not be uploaded: {error} Try again later: {command}"
        ) from error
    print(f"Uploaded to {repository.name}.")
