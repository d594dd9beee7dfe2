"""Bundles: what is carried to another machine, and the trained weights that are carried back."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file
from transformers import Dinov2Model

import bundle
import carried_weights
import small_128
from mcdiff_pipeline import FlowCompletionUNet
from support.tiny_models import make_feature_pipeline


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A folder with a photograph, its masks, a motion, a cut-out and a pipeline folder."""
    root = tmp_path_factory.mktemp("sources")
    random = np.random.default_rng(0)
    for split in ("train", "validation"):
        (root / "photographs" / split).mkdir(parents=True)
        (root / "masks" / split).mkdir(parents=True)
        pixels = random.integers(0, 255, (30, 40, 3)).astype(np.uint8)
        image = Image.fromarray(pixels).resize((800, 600), Image.Resampling.BICUBIC)
        image.save(root / "photographs" / split / "one.jpg")
        masks = np.zeros((2, 600, 800), np.uint8)
        masks[0, 100:300, 200:600] = masks[1, 400:500, 100:200] = 255
        np.savez_compressed(root / "masks" / split / "one.npz", masks=masks, is_salient=np.array([True, False]))
    (root / "photographs/LICENCES.tsv").write_text("one\tCC0\n")
    (root / "motions").mkdir()
    (root / "motions/humanoid3d_walk.txt").write_text("{}")
    (root / "stamps/animals").mkdir(parents=True)
    Image.new("RGBA", (300, 200), (200, 10, 10, 128)).save(root / "stamps/animals/cat.png")
    (root / "annotated_clips").mkdir()
    for number in range(6):
        (root / f"annotated_clips/train-{number:05d}.tar").write_bytes(bytes([number]) * 2**10)
    torch.manual_seed(0)
    make_feature_pipeline().save_pretrained(root / "model")
    return root


def make(sources: Path, output: Path, *more: str) -> int:
    arguments = ["make", str(output), "--from_checkpoint", str(sources / "model"), *more]
    for name in ("photographs", "masks", "motions", "stamps", "annotated_clips"):
        arguments += [f"--{name}_dir", str(sources / name)]
    return bundle.main([*arguments, "--image_encoder", str(sources / "model/image_encoder")])


@pytest.fixture(scope="module")
def made(sources, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "bundle"
    assert make(sources, folder) == 0
    return folder


def test_models_of_a_bundle_load_and_differ_by_rounding_alone(sources, made, tmp_path):
    assert bundle.main(["open", str(made), "--output_dir", str(tmp_path)]) == 0
    for kind, name in (
        (FlowCompletionUNet, "flow_completion"),
        (UNet2DConditionModel, "unet"),
        (AutoencoderKL, "vae"),
    ):
        before = kind.from_pretrained(sources / "model" / name).state_dict()
        after = kind.from_pretrained(tmp_path / "start" / name).state_dict()
        for key, weights in before.items():
            assert (after[key].float() - weights).abs().max() <= weights.abs().max() / 127, key
    for folder in ("image_encoder", "start/image_encoder"):
        Dinov2Model.from_pretrained(tmp_path / folder)


def test_bundle_holds_smaller_photographs_and_masks_and_the_code(sources, made):
    assert max(Image.open(made / "photographs/train/one.jpg").size) == 512
    with np.load(made / "masks/train/one.npz") as file:
        assert file["masks"].shape == (2, 192, 256) and file["is_salient"].tolist() == [True, False]
        assert (file["masks"][0] > 128).mean() == pytest.approx(200 * 400 / (600 * 800), abs=0.01)
    assert (made / "photographs/LICENCES.tsv").is_file() and (made / "motions/humanoid3d_walk.txt").is_file()
    assert max(Image.open(made / "stamps/animals/cat.png").size) <= 160
    assert (made / "code/training/recipes/small_128.py").is_file()
    assert (made / "code/src/mcdiff_pipeline/__init__.py").is_file()


def test_plan_from_a_bundle_trains_from_it_and_saves_weights(made, tmp_path, capsys):
    arguments = ["--bundle", str(made), "--budget_minutes", "9", "--device", "cuda", "--jobs", "16", "--dry_run"]
    assert small_128.main([*arguments, "--work_dir", str(tmp_path / "work")]) == 0
    text = capsys.readouterr().out
    assert f"{made}/annotated_clips" in text
    assert f"--photographs_dir {made}/photographs" in text and f"{tmp_path}/work/data/start/flow_completion" in text
    assert "save_along: to do" in text and "assemble" not in text and "collect_" not in text


def test_damaged_bundle_is_refused(sources, tmp_path, capsys):
    assert make(sources, tmp_path / "bundle") == 0
    (tmp_path / "bundle/motions/humanoid3d_walk.txt").write_text("{ }")
    assert bundle.main(["open", str(tmp_path / "bundle"), "--output_dir", str(tmp_path / "opened")]) == 1
    assert "humanoid3d_walk.txt is missing or damaged" in capsys.readouterr().err


def test_bundle_that_does_not_fit_is_refused_and_leaves_nothing(sources, tmp_path, capsys):
    assert make(sources, tmp_path / "bundle", "--max_mib", "0.1") == 1
    assert "does not fit in --max_mib 0.1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_bundle_takes_as_many_shards_as_fit_from_everywhere(sources, tmp_path, capsys):
    assert make(sources, tmp_path / "bundle", "--clips_mib", str(3.5 / 1024)) == 0
    shards = sorted((tmp_path / "bundle/annotated_clips").iterdir())
    assert [path.name for path in shards] == ["train-00000.tar", "train-00001.tar", "train-00002.tar"]
    assert [path.read_bytes()[0] for path in shards] == [0, 2, 4]
    assert make(sources, tmp_path / "none", "--clips_mib", "0.0001") == 1
    assert "is larger than the 0.0 MiB of --clips_mib" in capsys.readouterr().err


def test_bundle_is_not_written_into_a_filled_folder(sources, tmp_path, capsys):
    (tmp_path / "mine").touch()
    assert make(sources, tmp_path) == 1
    assert "is not empty" in capsys.readouterr().err


def test_weights_are_carried_back_in_parts_from_the_newest_checkpoint(sources, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(carried_weights, "SHARD_BYTES", 20_000)
    run = tmp_path / "work/runs/flow_completion"
    model = FlowCompletionUNet.from_pretrained(sources / "model/flow_completion")
    for step, value in ((9, 0.0), (10, 0.25)):
        with torch.no_grad():
            next(model.parameters()).fill_(value)
        model.save_pretrained(run / f"checkpoint-{step}/flow_completion_ema")
    (run / "training_arguments.json").write_text('{"seed": 3}')
    (tmp_path / "work/logs").mkdir()
    (tmp_path / "work/logs/flow_completion.log").write_text("10 steps")

    assert bundle.main(["save", str(tmp_path / "work"), "--output_dir", str(tmp_path / "result")]) == 0
    parts = sorted((tmp_path / "result").glob("*.safetensors"))
    assert len(parts) > 1 and "10 steps" in (tmp_path / "result/result.json").read_text()

    assert bundle.main(["load", str(tmp_path / "result"), "--output_dir", str(tmp_path / "carried")]) == 0
    assert "checkpoint-10" in capsys.readouterr().out
    carried = FlowCompletionUNet.from_pretrained(tmp_path / "carried/flow_completion/flow_completion")
    for key, weights in model.state_dict().items():
        assert torch.equal(carried.state_dict()[key], weights.half().float()), key
    assert json.loads((tmp_path / "carried/flow_completion/training_arguments.json").read_text()) == {"seed": 3}

    model.save_pretrained(run / "flow_completion")  # the end of the run
    assert bundle.main(["save", str(tmp_path / "work"), "--output_dir", str(tmp_path / "result")]) == 0
    assert "runs/flow_completion/flow_completion" in (tmp_path / "result/result.json").read_text()
    parts[0].write_bytes(parts[0].read_bytes()[:-1])
    assert bundle.main(["load", str(tmp_path / "result"), "--output_dir", str(tmp_path / "again")]) == 1
    assert f"{parts[0]} is missing or damaged" in capsys.readouterr().err
    assert len(load_file(parts[1])) >= 1
