"""`--push_to_hub`: uploads of training scripts, and their checks before the training, with a Hub in the test."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import assemble_pipeline
import pytest
import train_autoencoder
import train_end_to_end
import train_flow_completion
import train_future_frame
from huggingface_hub import ModelCard, constants

from loop.trainer import Trainer
from mcdiff_commands.main import main
from mcdiff_pipeline import FlowCompletionUNet, MCDiffPipeline
from mcdiff_pipeline.hub import check_export
from support.loopback_hub import TOKEN, LoopbackHub
from support.training_runs import SIZE, arguments


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub where this process is logged in."""
    with LoopbackHub() as hub:
        template = hub.endpoint + constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def command_line(data, script: str, output_dir: Path, **changes) -> list[str]:
    settings = {"push_to_hub": True, "max_train_steps": 1, "validation_data_dir": None}
    return arguments(data, script, output_dir, **(settings | changes))


def downloaded(hub: LoopbackHub, name: str, folder: Path) -> Path:
    """The content of a repository, written to a folder."""
    repository = hub.repositories[name]
    for path, content in repository.commits[repository.branches["main"]].items():
        folder.joinpath(path).parent.mkdir(parents=True, exist_ok=True)
        folder.joinpath(path).write_bytes(content)
    return folder


def assert_files_do_not_contain(folder: Path, *words: str | Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            assert not [word for word in words if str(word).encode() in path.read_bytes()], path


def test_components_are_uploaded_and_then_assembled_into_a_model_that_is_uploaded(hub, data, tmp_path):
    scripts = {"train_autoencoder": train_autoencoder, "train_flow_completion": train_flow_completion}
    scripts["train_future_frame"] = train_future_frame
    parts = {}
    for name, script in scripts.items():
        changes = {"hub_model_id": f"lab/{name}", "hub_private_repo": True}
        assert script.main(command_line(data, name, tmp_path / name, **changes)) == 0
        assert hub.repositories[f"lab/{name}"].private
        parts[name] = downloaded(hub, f"lab/{name}", tmp_path / "downloads" / name)
        assert_files_do_not_contain(parts[name], data, tmp_path, TOKEN)
        card = ModelCard.load(parts[name] / "README.md")
        assert card.data.library_name == "diffusers"
        assert f"hf download lab/{name} --local-dir part" in card.text
        assert "Trained on clips" in card.text and ", 1 steps in 0." in card.text and "not evaluated" in card.text
        assert "| `--learning_rate` | 0.001 |" in card.text and "| `--train_data_dir` | clips |" in card.text
    FlowCompletionUNet.from_pretrained(parts["train_flow_completion"], subfolder="flow_completion")

    # As the cards say.
    words = ["--vae", parts["train_autoencoder"] / "vae", "--unet", parts["train_future_frame"] / "unet"]
    words += ["--scheduler", parts["train_future_frame"] / "scheduler"]
    words += ["--flow_completion", parts["train_flow_completion"] / "flow_completion"]
    words += ["--output_dir", tmp_path / "small", "--default_size", SIZE, "--default_frames", 2, "--push_to_hub"]
    assert assemble_pipeline.main([str(word) for word in words]) == 0
    model = downloaded(hub, "owner/small", tmp_path / "downloads/model")
    check_export(model)
    assert_files_do_not_contain(model, data, tmp_path, TOKEN)
    assert MCDiffPipeline.from_pretrained(model).conditioning[-1] == "start_picture"
    card = (model / "README.md").read_text()
    for name in ("vae", "flow_completion", "unet"):
        assert f"**`{name}`.** Trained on clips" in card
    assert 'from_pretrained("owner/small"' in card and "Not measured" in card


def end_to_end(data, start, output_dir, **changes) -> list[str]:
    settings = {"pretrained_model_name_or_path": start, "pretrained_vae": None, "model_config": None}
    return command_line(data, "train_end_to_end", output_dir, **(settings | changes))


def test_trained_pipeline_is_uploaded_as_an_export_with_a_card(hub, data, start, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    changes = {"hub_model_id": "together", "hub_token": TOKEN}
    assert train_end_to_end.main(end_to_end(data, start, tmp_path / "run", **changes)) == 0
    assert not hub.repositories["owner/together"].private
    model = downloaded(hub, "owner/together", tmp_path / "downloads")
    check_export(model)
    card = (model / "README.md").read_text()
    assert "**`flow_completion` and `unet`, together.** Trained on clips, 1 steps in 0." in card
    assert "| `--pretrained_model_name_or_path` | model |" in card
    assert_files_do_not_contain(model, data, tmp_path, TOKEN)
    assert_files_do_not_contain(tmp_path / "run", TOKEN)
    for name in ("cat.jpg", "cat.json", "cat.mp4"):
        assert (model / name).is_file()


def test_failed_upload_keeps_the_result_and_names_the_command_that_repeats_it(hub, data, start, tmp_path):
    for script, command in (
        (train_flow_completion, command_line(data, "train_flow_completion", tmp_path / "component")),
        (train_end_to_end, end_to_end(data, start, tmp_path / "pipeline", hub_private_repo=True)),
    ):
        hub.is_read_only = True
        with pytest.raises(RuntimeError, match=r"is complete, but could not be uploaded: .*\(403\)") as caught:
            script.main(command)
        again = shlex.split(str(caught.value).split("Try again later: ")[1])
        hub.is_read_only = False
        if again[0] == "mcdiff":
            assert main(again[1:]) == 0
        else:
            environment = os.environ | hub.environment | {"HF_HOME": str(tmp_path / "hf")}
            program = Path(sys.executable).with_name(again[0])
            subprocess.run([program, *again[1:]], env=environment, check=True, capture_output=True)
    component = downloaded(hub, "owner/component", tmp_path / "one")
    FlowCompletionUNet.from_pretrained(component, subfolder="flow_completion")
    check_export(downloaded(hub, "owner/pipeline", tmp_path / "two"))
    assert hub.repositories["owner/pipeline"].private


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"push_to_hub": None, "hub_model_id": "owner/f"}, "have no effect without --push_to_hub"),
        ({"push_to_hub": None, "hub_private_repo": True}, "have no effect without --push_to_hub"),
        ({"hub_model_id": "owner/na me"}, "na me"),
        ({"hub_model_id": "stranger/f"}, "'stranger/f' belongs to none of owner, lab"),
        ({"hub_model_id": "owner/whole"}, "'owner/whole' holds a complete model already"),
        ({"hub_token": "wrong"}, "Log in with `hf auth login`"),
        ({"hub_token": None}, "nobody is logged in to the Hub"),
    ],
)
def test_mistakes_are_reported_before_the_training(hub, data, monkeypatch, tmp_path, changes, message):
    if changes == {"hub_token": None}:
        monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole/model_index.json").write_text("{}")
    hub.add("owner/whole", tmp_path / "whole")
    with pytest.raises((ValueError, RuntimeError), match=message):
        train_flow_completion.main(command_line(data, "train_flow_completion", tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists() and set(hub.repositories) == {"owner/whole"}


def test_unreachable_hub_is_reported_before_the_training(hub, data, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RuntimeError, match="the Hub cannot be reached"):
        train_flow_completion.main(command_line(data, "train_flow_completion", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_lora_is_uploaded_so_that_the_pipeline_loads_it_by_name(hub, data, start, tmp_path):
    changes = {"pretrained_model_name_or_path": start, "lora_rank": 2, "learning_rate": 0.1}
    changes |= {"start_picture_reference": None, "model_config": None}
    assert train_future_frame.main(command_line(data, "train_future_frame", tmp_path / "lora", **changes)) == 0
    card = (downloaded(hub, "owner/lora", tmp_path / "downloads") / "README.md").read_text()
    assert 'pipe.load_lora_weights("owner/lora")' in card and "- lora" in card and "| `--lora_rank` | 2 |" in card
    assert_files_do_not_contain(tmp_path / "downloads", data, tmp_path, start)
    pipe = MCDiffPipeline.from_pretrained(start)
    pipe.load_lora_weights("owner/lora", weight_name="pytorch_lora_weights.safetensors", cache_dir=tmp_path / "cache")
    assert pipe.get_active_adapters() == ["default_0"]


def test_stopped_run_uploads_nothing(hub, data, monkeypatch, tmp_path):
    train = Trainer.train
    monkeypatch.setattr(Trainer, "train", lambda trainer: train(trainer) or 128 + signal.SIGTERM)
    assert train_flow_completion.main(command_line(data, "train_flow_completion", tmp_path / "run")) == 143
    repository = hub.repositories["owner/run"]
    assert repository.commits[repository.branches["main"]] == {}
