"""Trains tiny models on tiny clips through the scripts' own command lines."""

import argparse
import importlib.machinery
import importlib.util
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import assemble_pipeline
import numpy as np
import pytest
import torch
import train_autoencoder
import train_flow_completion
import train_future_frame
from diffusers import AutoencoderDC, UNet2DConditionModel
from diffusers.optimization import get_scheduler
from loop import latent_cache
from loop.denoising_loss import denoising_loss, drop_conditions
from loop.flow_loss import flow_completion_loss
from loop.trainer import LR_SCHEDULERS, SeededDraws, checkpoints, learning_rate_factor, make_accelerator
from PIL import Image
from safetensors.torch import load_file
from support.tiny_models import make_flow_completion, make_pipeline, make_vae
from support.training_runs import SIZE, TRAINING, arguments, launch, logged, sliding_square
from torch.nn import functional as F

from mcdiff_pipeline import MCDiffPipeline, Stroke
from mcdiff_pipeline.atomic_files import atomic_folder
from mcdiff_pipeline.dataset import ClipDataset
from mcdiff_pipeline.flow import accumulate_flow
from mcdiff_pipeline.flow_completion_unet import FlowCompletionUNet
from mcdiff_pipeline.pipeline_mcdiff import conditioning_channels, splat_picture


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Output folders of four steps of each script, run as a user would."""
    outputs = {}
    for script in ("train_autoencoder", "train_flow_completion", "train_future_frame"):
        outputs[script] = tmp_path_factory.mktemp(script)
        process = launch(script, arguments(data, script, outputs[script]))
        text, _ = process.communicate(timeout=280)
        assert process.returncode == 0, text
    return outputs


def assemble(data, unet: Path, flow_completion: Path | None, output_dir: Path) -> MCDiffPipeline:
    """Puts a pipeline folder together through the script and loads it."""
    command_line = ["--vae", data / "vae", "--unet", unet / "unet", "--scheduler", unet / "scheduler"]
    if flow_completion is not None:
        command_line += ["--flow_completion", flow_completion / "flow_completion"]
    command_line += ["--output_dir", output_dir, "--default_size", SIZE, "--default_frames", 2]
    assert assemble_pipeline.main([str(argument) for argument in command_line]) == 0
    pipe = MCDiffPipeline.from_pretrained(output_dir)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_outputs_make_a_pipeline_with_the_conditions_that_the_unet_was_trained_with(data, trained, tmp_path):
    unet, flow_completion = trained["train_future_frame"], trained["train_flow_completion"]
    pipe = assemble(data, unet, flow_completion, tmp_path / "model")
    assert pipe.conditioning == ("previous_frame", "dense_flow", "splatted_frame", "hole_mask", "start_frame")
    assert len(pipe(Image.new("RGB", (SIZE, SIZE)), [Stroke([(4, 4), (20, 20)])]).frames[0]) == 2
    with pytest.raises(ValueError, match="was trained with dense flow, so --flow_completion has to name"):
        assemble(data, unet, None, tmp_path / "without")
    shutil.copytree(unet / "unet", tmp_path / "alone/somewhere/unet")
    shutil.copytree(unet / "scheduler", tmp_path / "alone/somewhere/scheduler")
    with pytest.raises(ValueError, match="no training_arguments.json in the folder above"):
        assemble(data, tmp_path / "alone/somewhere", flow_completion, tmp_path / "unknown")


def test_a_unet_trained_on_strokes_makes_a_pipeline_without_flow_completion(data, trained, tmp_path):
    switches = {"no_flow_completion": True, "no_keypoints": True, "sampling": "uniform"}
    command_line = arguments(data, "train_future_frame", tmp_path / "run", start_frame_reference=None, **switches)
    assert train_future_frame.main(command_line) == 0
    pipe = assemble(data, tmp_path / "run", None, tmp_path / "model")
    assert pipe.flow_completion is None and pipe.conditioning == ("previous_frame", "sparse_flow")
    assert pipe(Image.new("RGB", (SIZE, SIZE)), [Stroke([(4, 4), (20, 20)])]).dense_flow is None
    with pytest.raises(ValueError, match="was trained without dense flow, so --flow_completion has no use"):
        assemble(data, tmp_path / "run", trained["train_flow_completion"], tmp_path / "other")


@pytest.mark.parametrize(
    ("switches", "conditioning"),
    [
        ({"flow_conditioning": "concat"}, ["previous_frame", "dense_flow"]),
        ({}, ["previous_frame", "dense_flow", "splatted_frame", "hole_mask"]),
        (
            {"flow_conditioning": "concat", "start_frame_reference": True},
            ["previous_frame", "dense_flow", "start_frame"],
        ),
        (
            {"flow_conditioning": "concat", "start_picture_reference": True},
            ["previous_frame", "dense_flow", "start_picture"],
        ),
    ],
)
def test_switches_choose_the_conditions(data, tmp_path, switches, conditioning):
    switches = {"start_frame_reference": None, "validation_data_dir": None, "max_train_steps": 1} | switches
    assert train_future_frame.main(arguments(data, "train_future_frame", tmp_path, **switches)) == 0
    assert json.loads((tmp_path / "training_arguments.json").read_text())["conditioning"] == conditioning
    assert UNet2DConditionModel.load_config(tmp_path / "unet")["in_channels"] == 4 + conditioning_channels(
        conditioning, 4
    )


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ({"no_flow_completion": True, "start_frame_reference": True}, "leaves no dense flow for"),
        ({"no_flow_completion": True, "flow_conditioning": "concat"}, "leaves no dense flow for"),
        ({"no_flow_completion": True, "start_picture_reference": True}, "leaves no dense flow for"),
        ({"residual_condition": "start_frame"}, "`residual_condition` is 'start_frame', but .* one of"),
        ({"residual_condition": "splatted_frame", "residual_scale": 0}, "multiplied by more than 0"),
        ({"no_keypoints": True}, "only with --no_flow_completion"),
        ({"sampling": "uniform"}, "only with --no_flow_completion"),
    ],
)
def test_switches_that_contradict_each_other_are_refused(data, tmp_path, switches, message):
    switches = {"start_frame_reference": None} | switches
    with pytest.raises(ValueError, match=message):
        train_future_frame.main(arguments(data, "train_future_frame", tmp_path, **switches))


def test_a_unet_can_be_trained_on_differences_from_a_condition(data, trained, tmp_path, monkeypatch):
    seen = []

    def record(model, scheduler, conditions, target, *arguments):
        seen.append((conditions, target))
        return denoising_loss(model, scheduler, conditions, target, *arguments)

    monkeypatch.setattr(train_future_frame, "denoising_loss", record)
    differences = {"residual_condition": "start_picture", "residual_scale": 2.0}
    for name, switches in (("frame", {}), ("difference", differences)):
        changes = {"start_frame_reference": None, "start_picture_reference": True, "max_train_steps": 1} | switches
        assert train_future_frame.main(arguments(data, "train_future_frame", tmp_path / name, **changes)) == 0
    (_, next_latent), (conditions, difference) = seen
    start_picture = conditions[:, -4:]
    torch.testing.assert_close(difference, 2 * (next_latent - start_picture))

    flow_completion = trained["train_flow_completion"]
    config = assemble(data, tmp_path / "difference", flow_completion, tmp_path / "model").config
    assert (config.residual_condition, config.residual_scale) == ("start_picture", 2)
    assert assemble(data, tmp_path / "frame", flow_completion, tmp_path / "other").config.residual_condition is None


def test_the_reference_is_the_start_frame_at_the_place_of_the_next_frame(data):
    vae = latent_cache.load_vae(str(data / "vae"), "cpu")
    clips = latent_cache.open_latent_clips([str(data / "clips")], "train", vae, str(data / "cache"))
    item = next(index for index in range(len(clips)) if clips.pairs[index][2] == 1)
    pair, start = clips[item], clips.start(item, picture=True)
    frames = clips.frames(item - 1, 2)
    np.testing.assert_array_equal(start["start_picture"], frames[0].transpose(2, 0, 1).astype(np.float32) / 255)
    pictures = torch.from_numpy(start["start_picture"])[None]
    flow = accumulate_flow(*(torch.from_numpy(flow)[None] for flow in (start["start_flow"], pair["flow"])))
    carried = splat_picture(pictures, flow, 4)[0].permute(1, 2, 0).numpy()
    assert np.abs(carried - frames[2] / 255).mean() < 0.5 * np.abs(frames[0] / 255 - frames[2] / 255).mean()


def test_noise_augmentation_can_be_left_out(data, trained, tmp_path):
    changes = {"validation_data_dir": None, "no_noise_augmentation": True}
    assert train_future_frame.main(arguments(data, "train_future_frame", tmp_path, **changes)) == 0
    assert json.loads((tmp_path / "training_arguments.json").read_text())["noise_augmentation"] == 0
    assert logged(tmp_path, "loss")[1] != logged(trained["train_future_frame"], "loss")[1]


@pytest.mark.parametrize("switch", [{"no_keypoints": True}, {"sampling": "uniform"}, {"flow_weighting": "none"}])
def test_switches_change_what_flow_completion_is_trained_on(data, trained, tmp_path, switch):
    changes = {"validation_data_dir": None, "max_train_steps": 1} | switch
    assert train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path, **changes)) == 0
    assert logged(tmp_path, "loss")[1] != logged(trained["train_flow_completion"], "loss")[1]


@pytest.mark.parametrize(
    ("script", "name", "model_class"),
    [
        ("train_autoencoder", "vae", AutoencoderDC),
        ("train_flow_completion", "flow_completion", FlowCompletionUNet),
        ("train_future_frame", "unet", UNet2DConditionModel),
    ],
)
def test_checkpoint_holds_model_and_average_and_the_average_is_the_result(trained, script, name, model_class):
    checkpoint = trained[script] / "checkpoint-4"
    model = model_class.from_pretrained(checkpoint, subfolder=name)
    average = model_class.from_pretrained(checkpoint, subfolder=f"{name}_ema")
    result = model_class.from_pretrained(trained[script], subfolder=name)
    same_as_model = []
    for key, tensor in result.state_dict().items():
        torch.testing.assert_close(tensor, average.state_dict()[key])
        same_as_model.append(torch.equal(tensor, model.state_dict()[key]))
    assert not all(same_as_model)


def test_autoencoder_scales_latents_to_unit_variance(data, trained):
    vae = AutoencoderDC.from_pretrained(trained["train_autoencoder"], subfolder="vae")
    picture = train_autoencoder.read_photographs([str(data / "photographs")])[0]
    rng = np.random.default_rng(0)
    patches = torch.stack([train_autoencoder.random_patch(picture, 32, rng) for _ in range(64)])
    with torch.no_grad():
        latents = vae.encode(patches).latent * vae.config.scaling_factor
    assert latents.std() == pytest.approx(1, rel=0.35)


@pytest.mark.parametrize(
    "script", [train_autoencoder, train_flow_completion, train_future_frame], ids=lambda module: module.__name__
)
def test_resumed_run_has_the_losses_of_an_uninterrupted_one(data, trained, tmp_path, script):
    shutil.copytree(trained[script.__name__] / "checkpoint-2", tmp_path / "checkpoint-2")
    assert script.main(arguments(data, script.__name__, tmp_path, resume_from_checkpoint="latest")) == 0
    expected, losses = logged(trained[script.__name__], "loss"), logged(tmp_path, "loss")
    assert list(losses) == [3, 4]
    assert losses == pytest.approx({step: expected[step] for step in (3, 4)}, rel=1e-6)


def test_validation_compares_with_the_simple_rivals_and_shows_pictures(trained):
    flow, frames = trained["train_flow_completion"], trained["train_future_frame"]
    assert logged(flow, "epe_body_zero")[4] > 1  # the squares move by at least one pixel each way
    assert logged(flow, "epe_body_nearest")[4] < 0.5  # and rigidly: any stroke tells it all
    assert logged(flow, "epe_off_body_zero")[4] < 0.2
    assert logged(frames, "psnr_still_repeat")[4] > 40
    assert logged(frames, "psnr_moving_model")[4] > 0
    for folder in (flow, frames):
        with Image.open(folder / "validation_000004.png") as picture:
            assert picture.width == 4 * SIZE


def test_run_ends_in_time_and_keeps_few_checkpoints(data, tmp_path):
    changes = {"max_train_steps": None, "max_train_minutes": 0.03, "checkpoints_total_limit": 1, "use_ema": None}
    changes |= {"validation_data_dir": None, "checkpointing_steps": 1}
    assert train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path, **changes)) == 0
    (checkpoint,) = tmp_path.glob("checkpoint-*")
    assert checkpoint.name == f"checkpoint-{max(logged(tmp_path, 'learning_rate'))}"


def test_learning_rate_follows_the_budget_that_is_spent_further(data, trained, tmp_path):
    shutil.copytree(trained["train_flow_completion"] / "checkpoint-2", tmp_path / "checkpoint-2")
    progress = json.loads((tmp_path / "checkpoint-2/progress.json").read_text())
    (tmp_path / "checkpoint-2/progress.json").write_text(json.dumps(progress | {"minutes": 90}))
    changes = {"max_train_steps": 3, "max_train_minutes": 100, "resume_from_checkpoint": "latest"}
    changes |= {"validation_data_dir": None}
    assert train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path, **changes)) == 0
    assert logged(tmp_path, "learning_rate")[3] == pytest.approx(1e-3 * (1 + math.cos(0.9 * math.pi)) / 2, rel=0.05)


def test_loss_that_is_not_finite_stops_the_run_and_names_the_step(data, tmp_path):
    changes = {"learning_rate": 1e30, "max_grad_norm": 1e30, "validation_data_dir": None, "max_train_steps": 50}
    with pytest.raises(FloatingPointError, match=r"Step \d+: loss .* lower --learning_rate") as caught:
        train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path, **changes))
    named = re.findall(r"frame (\d) of clip number (\d) in (\S+train-0000\d\.tar)", str(caught.value))
    assert len(named) == 2
    (snapshot,) = tmp_path.glob("not-finite-*")
    assert str(snapshot) in str(caught.value)
    FlowCompletionUNet.from_pretrained(snapshot, subfolder="flow_completion")
    batch = load_file(snapshot / "batch.safetensors")
    for flow, (frame, clip, shard) in zip(batch["flow"], named):
        np.testing.assert_array_equal(flow, ClipDataset([shard])[int(clip)].flow[int(frame)])


def test_damaged_shard_is_skipped_counted_and_named(data, tmp_path, capsys):
    shutil.copytree(data / "clips", tmp_path / "clips")
    damaged = tmp_path / "clips/train-00001.tar"
    damaged.write_bytes(damaged.read_bytes()[:5000])
    vae = AutoencoderDC.from_pretrained(data / "vae")
    clips = latent_cache.open_latent_clips([tmp_path / "clips"], "train", vae, tmp_path / "cache")
    assert len(clips) == 2 + 3
    told = capsys.readouterr().err
    assert "Skipped 1 of 2 train shards:" in told and f"The shard {damaged} cannot be read" in told
    (tmp_path / "clips/train-00000.tar").unlink()
    with pytest.raises(ValueError, match="None of the train shards in .* can be read"):
        latent_cache.open_latent_clips([tmp_path / "clips"], "train", vae, tmp_path / "cache")


def test_full_disk_is_told_and_keeps_the_last_checkpoint(data, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk can be mounted by root only")
    try:
        changes = {"validation_data_dir": None, "checkpointing_steps": 1, "checkpoints_total_limit": 100}
        changes |= {"max_train_steps": 50}
        with pytest.raises(OSError, match=r"could not be written to .* MB are free: .*; checkpoint-\d+ is kept"):
            train_flow_completion.main(arguments(data, "train_flow_completion", disk / "run", **changes))
        kept = checkpoints(disk / "run")
        assert kept and not list((disk / "run").glob(".checkpoint-*"))
        FlowCompletionUNet.from_pretrained(kept[-1], subfolder="flow_completion_ema")
        for old in kept[:-1]:
            shutil.rmtree(old)
        changes |= {"resume_from_checkpoint": "latest", "max_train_steps": len(kept) + 1}
        assert train_flow_completion.main(arguments(data, "train_flow_completion", disk / "run", **changes)) == 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_killed_while_it_writes_a_checkpoint_a_run_goes_on_from_the_one_before(data, tmp_path):
    changes = {"validation_data_dir": None, "checkpointing_steps": 1, "max_train_steps": 100000}
    process = launch("train_flow_completion", arguments(data, "train_flow_completion", tmp_path, **changes))
    while not checkpoints(tmp_path) or not list(tmp_path.glob(".checkpoint-*.unfinished")):
        assert process.poll() is None, process.communicate()[0]
    process.kill()
    process.communicate()
    (last, *_) = reversed(checkpoints(tmp_path))
    reached = int(last.name.split("-")[1])
    changes |= {"resume_from_checkpoint": "latest", "max_train_steps": reached + 1}
    assert train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path, **changes)) == 0
    assert checkpoints(tmp_path)[-1].name == f"checkpoint-{reached + 1}"
    assert not list(tmp_path.glob(".checkpoint-*"))


def test_two_processes_have_the_losses_of_one_with_twice_the_batch(data, tmp_path):
    changes = {"validation_data_dir": None, "lr_scheduler": "constant"}
    one, two = tmp_path / "one", tmp_path / "two"
    assert (
        train_flow_completion.main(arguments(data, "train_flow_completion", one, train_batch_size=4, **changes)) == 0
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(TRAINING / "train_flow_completion.py")]
    process = subprocess.run(
        [*command, *arguments(data, "train_flow_completion", two, train_batch_size=2, **changes)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert process.returncode == 0, process.stderr
    # Each draw has its own sample, so that equal losses need every sample once, on one of the two.
    expected, losses = logged(one, "loss"), logged(two, "loss")
    assert list(losses) == [1, 2, 3, 4] and len(set(losses.values())) == 4
    assert losses == pytest.approx(expected, rel=1e-4)
    found, wanted = (
        FlowCompletionUNet.from_pretrained(folder, subfolder="flow_completion").state_dict() for folder in (two, one)
    )
    for key in wanted:
        torch.testing.assert_close(found[key], wanted[key], rtol=1e-3, atol=1e-4)


def dropped(**rates) -> dict[str, torch.Tensor]:
    args = argparse.Namespace(**({"flow_dropout": 0.0, "image_dropout": 0.0} | rates))
    condition = {name: torch.ones(1000, 2, 1, 1) for name in ("latent", "start_latent", "flow", "sparse_flow")}
    condition |= {"mask": torch.ones(1000, 1, 1, 1, dtype=torch.bool), "next_latent": torch.ones(1000, 2, 1, 1)}
    torch.manual_seed(0)
    return drop_conditions(condition, args)


def test_conditions_are_dropped_by_sample_motion_and_frames_each_as_a_whole():
    found = dropped(flow_dropout=0.3, image_dropout=0.1)
    for names, rate in ((("flow", "sparse_flow", "mask"), 0.3), (("latent", "start_latent"), 0.1)):
        gone = [(found[name].float() == 0).all(dim=1).flatten() for name in names]
        assert all(torch.equal(one, gone[0]) for one in gone)
        assert gone[0].float().mean() == pytest.approx(rate, abs=0.05)
    assert found["mask"].dtype == torch.bool and (found["next_latent"] == 1).all()
    assert all((tensor == 1).all() for tensor in dropped().values())


@pytest.mark.parametrize(
    "switch", [{"flow_dropout": 0.5}, {"image_dropout": 0.5}, {"noise_offset": 0.5}, {"snr_gamma": 1.0}]
)
def test_switches_change_what_the_unet_is_trained_on(data, tmp_path, switch):
    changes = {"validation_data_dir": None, "max_train_steps": 1, "train_batch_size": 16}
    losses = []
    for name, switches in (("with", switch), ("without", {})):
        command_line = arguments(data, "train_future_frame", tmp_path / name, **changes, **switches)
        assert train_future_frame.main(command_line) == 0
        losses.append(logged(tmp_path / name, "loss")[1])
    assert losses[0] != losses[1]


def test_terminated_run_leaves_a_checkpoint(data, tmp_path):
    changes = {"max_train_steps": 100000, "checkpointing_steps": 100000, "validation_data_dir": None}
    process = launch("train_flow_completion", arguments(data, "train_flow_completion", tmp_path, **changes))
    deadline = time.monotonic() + 120
    while not (tmp_path / "log.jsonl").exists() or not (tmp_path / "log.jsonl").read_text():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, text
    (checkpoint,) = tmp_path.glob("checkpoint-*")
    assert json.loads((checkpoint / "progress.json").read_text())["step"] == int(checkpoint.name.split("-")[1])


def test_run_without_an_end_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="--max_train_steps, --max_train_minutes"):
        train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path, max_train_steps=None))


def test_unknown_checkpoint_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="no folder"):
        train_flow_completion.main(
            arguments(data, "train_flow_completion", tmp_path, resume_from_checkpoint="checkpoint-9")
        )


def test_decoder_alone_can_be_trained_on(data, trained, tmp_path):
    before = AutoencoderDC.from_pretrained(trained["train_autoencoder"], subfolder="vae")
    changes = {"pretrained_model_name_or_path": trained["train_autoencoder"] / "vae", "freeze_encoder": True}
    assert train_autoencoder.main(arguments(data, "train_autoencoder", tmp_path, **changes)) == 0
    after = AutoencoderDC.from_pretrained(tmp_path, subfolder="vae")
    assert after.config.scaling_factor == before.config.scaling_factor
    changed = {
        key.split(".")[0]
        for key, tensor in after.state_dict().items()
        if not torch.equal(tensor, before.state_dict()[key])
    }
    assert changed == {"decoder"}


def test_variational_autoencoder_trains_too(data, tmp_path):
    config = {
        "_class_name": "AutoencoderKL",
        "latent_channels": 4,
        "block_out_channels": [8, 8, 8],
        "norm_num_groups": 4,
    }
    config |= {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}
    (tmp_path / "vae.json").write_text(json.dumps(config))
    changes = {"model_config": tmp_path / "vae.json", "max_train_steps": 2, "validation_data_dir": None}
    assert train_autoencoder.main(arguments(data, "train_autoencoder", tmp_path / "out", **changes)) == 0
    assert latent_cache.load_vae(tmp_path / "out/vae", "cpu").config.latent_channels == 4


def test_cache_encodes_each_shard_once_for_each_encoder(data, tmp_path):
    shutil.copytree(data / "clips", tmp_path / "clips")
    shutil.move(tmp_path / "clips/train-00001.tar", tmp_path / "later.tar")
    vae = AutoencoderDC.from_pretrained(data / "vae")
    first = latent_cache.open_latent_clips([tmp_path / "clips"], "train", vae, tmp_path / "cache")
    assert len(first) == 2 + 3
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/*/*/*.npy")}

    shutil.move(tmp_path / "later.tar", tmp_path / "clips/train-00001.tar")
    with torch.no_grad():
        next(vae.decoder.parameters()).add_(1)
    assert len(latent_cache.open_latent_clips([tmp_path / "clips"], "train", vae, tmp_path / "cache")) == 10
    assert len(list(tmp_path.glob("cache/*/*/*.npy"))) == 2 * len(written)
    assert all(path.stat().st_mtime_ns == when for path, when in written.items())

    with torch.no_grad():
        next(vae.encoder.parameters()).add_(1)
    latent_cache.open_latent_clips([tmp_path / "clips"], "train", vae, tmp_path / "cache")
    assert len(list(tmp_path.glob("cache/*"))) == 2


def test_two_trainings_that_start_at_a_time_encode_once(data, tmp_path, monkeypatch):
    written = []
    write_part = latent_cache.write_part
    monkeypatch.setattr(latent_cache, "write_part", lambda *args: (written.append(args[1]), write_part(*args)))
    vae = AutoencoderDC.from_pretrained(data / "vae")

    def open_clips(_):
        return len(latent_cache.open_latent_clips([data / "clips"], "train", vae, tmp_path))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(open_clips, range(2))) == [10, 10]
    assert len(written) == len(set(written)) == 2


def test_cached_latents_are_those_of_the_pipeline_whatever_the_autoencoder_s_scale(data, tmp_path):
    pipe = make_pipeline(vae=make_vae(shift_factor=0.3, scaling_factor=0.5))
    clips = latent_cache.open_latent_clips([str(data / "clips")], "train", pipe.vae, str(tmp_path))
    frames = torch.from_numpy(clips.frames(0)).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        expected = pipe.encode_image(frames)
    cached = torch.from_numpy(np.stack([clips[0]["latent"], clips[0]["next_latent"]]))
    torch.testing.assert_close(cached, expected, rtol=1e-2, atol=1e-3)


def test_cached_pair_is_what_the_clip_holds(data):
    vae = AutoencoderDC.from_pretrained(data / "vae")
    clips = latent_cache.open_latent_clips([data / "clips"], "train", vae, data / "cache")
    clip, pair = sliding_square(1, num_frames=4), clips[2 + 1]  # the second pair of the second clip
    np.testing.assert_array_equal(pair["flow"], clip.flow[1])
    np.testing.assert_array_equal(pair["mask"], clip.masks[1])
    np.testing.assert_array_equal(pair["keypoints"], clip.keypoints[1])
    np.testing.assert_array_equal(clips.frames(2 + 1), clip.frames[1:3])
    pictures = torch.from_numpy(clip.frames[1:3]).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        latents = vae.encode(pictures).latent * vae.config.scaling_factor
    cached = torch.from_numpy(np.stack([pair["latent"], pair["next_latent"]]))
    assert (cached - latents).norm() < 0.02 * latents.norm()


def test_draws_visit_every_item_once_in_each_pass_and_repeat_by_number():
    draws = SeededDraws(5, lambda index, rng: {"index": index, "value": rng.random()}, seed=1)
    passes = [[draws[5 * epoch + i]["index"] for i in range(5)] for epoch in range(3)]
    assert all(sorted(order) == list(range(5)) for order in passes) and passes[0] != passes[1]
    again = SeededDraws(5, draws.load, seed=1)
    assert again[12] == draws[12] and again[12]["value"] != again[13]["value"]


def test_folder_that_fails_half_way_leaves_the_old_one(tmp_path):
    atomic_folder(tmp_path / "model", lambda folder: (folder / "weights").write_text("old"))

    def fail(folder):
        (folder / "weights").write_text("new")
        raise OSError("No space left on device")

    with pytest.raises(OSError):
        atomic_folder(tmp_path / "model", fail)
    assert (tmp_path / "model/weights").read_text() == "old"


def test_learning_rate_warms_up_and_ends_at_zero():
    assert learning_rate_factor("constant", 4, 10, 0.9) == 1
    assert learning_rate_factor("constant_with_warmup", 4, 10, 0.9) == 0.5
    assert learning_rate_factor("linear", 100, 10, 0.25) == 0.75
    assert learning_rate_factor("cosine", 100, 10, 0.5) == pytest.approx(0.5)
    assert learning_rate_factor("cosine", 100, 10, 1.0) == 0
    assert learning_rate_factor("cosine_with_restarts", 100, 10, 1.0, num_cycles=2) == 0


@pytest.mark.parametrize("scheduler", LR_SCHEDULERS)
def test_learning_rates_are_those_of_diffusers_own_schedulers(scheduler):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_scheduler(scheduler, optimizer, num_warmup_steps=0, num_training_steps=20, num_cycles=2, power=2.0)
    for step in range(20):
        factor = learning_rate_factor(scheduler, step, 0, step / 20, num_cycles=2, power=2.0)
        assert factor == pytest.approx(schedule.get_last_lr()[0], abs=1e-6)
        optimizer.step()
        schedule.step()


def test_learning_rate_can_be_that_of_one_sample(data, tmp_path):
    changes = {"validation_data_dir": None, "max_train_steps": 1, "lr_scheduler": "constant", "scale_lr": True}
    changes |= {"gradient_accumulation_steps": 3}
    assert train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path, **changes)) == 0
    assert logged(tmp_path, "learning_rate")[1] == pytest.approx(2 * 3 * 1e-3)


def test_tf32_is_used_where_it_is_allowed(data):
    assert torch.get_float32_matmul_precision() == "highest"
    try:
        command_line = arguments(data, "train_flow_completion", "unused", allow_tf32=True)
        make_accelerator(train_flow_completion.parse_args(command_line))
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


class AdamInTheTest(torch.optim.AdamW):
    """Stands in for bitsandbytes' optimizer where that is not installed; its states are not of 8 bits."""


def test_adam_with_8_bits_is_that_of_bitsandbytes(data, monkeypatch, tmp_path):
    command_line = arguments(data, "train_flow_completion", tmp_path, use_8bit_adam=True, validation_data_dir=None)
    if importlib.util.find_spec("bitsandbytes") is None:
        with pytest.raises(ImportError, match="pip install bitsandbytes"):
            train_flow_completion.main(command_line)
        module = types.ModuleType("bitsandbytes")
        module.__spec__ = importlib.machinery.ModuleSpec("bitsandbytes", None)
        module.optim = types.SimpleNamespace(AdamW8bit=AdamInTheTest)
        monkeypatch.setitem(sys.modules, "bitsandbytes", module)
    import bitsandbytes

    made, make = [], bitsandbytes.optim.AdamW8bit

    def remembered(*given, **named):
        made.append(make(*given, **named))
        return made[-1]

    monkeypatch.setattr(bitsandbytes.optim, "AdamW8bit", remembered)
    assert train_flow_completion.main(command_line) == 0
    assert made[0].state and made[0].param_groups[0]["betas"] == (0.9, 0.99)
    expected = logged(tmp_path, "loss")
    assert len(set(expected.values())) == 4
    shutil.rmtree(tmp_path / "checkpoint-4")
    assert train_flow_completion.main([*command_line, "--resume_from_checkpoint", "latest"]) == 0
    assert len(made) == 2 and logged(tmp_path, "loss") == pytest.approx(expected, rel=1e-5)


def test_flow_loss_counts_errors_where_things_move():
    target = torch.zeros(1, 2, 1, 2)
    target[0, 0, 0, 0] = 4.0  # one cell moves, one is still
    moving_missed, still_missed = target.clone(), target.clone()
    moving_missed[0, 0, 0, 0] = 3.0
    still_missed[0, 1, 0, 1] = 1.0

    def loss(prediction, weighting, norm="norm"):
        return flow_completion_loss(prediction, target, weighting=weighting, weight_floor=0.1, norm=norm)

    assert loss(moving_missed, "magnitude") == pytest.approx((0.1 + 1) * 1 / 2, abs=2e-3)
    assert loss(still_missed, "magnitude") == pytest.approx(0.1 * 1 / 2, abs=2e-3)
    assert loss(2 * target, "magnitude", norm="squared") == pytest.approx((0.1 + 1) * 16 / 2)
    assert loss(moving_missed, "none") == pytest.approx(1 / 2, abs=2e-3)
    assert loss(still_missed, "none") == pytest.approx(1 / 2, abs=2e-3)


def test_flow_loss_by_mask_counts_all_motion_of_the_background_alike():
    target = torch.zeros(1, 2, 1, 3)
    target[0, 0, 0, 1:] = 4.0  # a still background, one that moves, and a person
    foreground = torch.tensor([0.0, 0.0, 1.0])[None, None, None]
    settings = {"weighting": "mask", "weight_floor": 0.2, "norm": "norm", "foreground": foreground}
    for cell, weight in enumerate((0.2, 0.2, 0.2 + 1)):
        missed = target.clone()
        missed[0, 1, 0, cell] = 3.0
        assert flow_completion_loss(missed, target, **settings) == pytest.approx(weight * 3 / 3, abs=4e-3)


def test_an_enlarged_model_answers_as_the_one_it_was_made_from():
    small = make_flow_completion()
    large = make_flow_completion(
        down_block_types=("AttnDownBlock2D",) * 2,
        up_block_types=("AttnUpBlock2D",) * 2,
        separate_foreground=True,
    )
    train_flow_completion.enlarge(large, small)
    generator = torch.Generator().manual_seed(0)
    latent, sparse_flow = (torch.randn(2, channels, 8, 8, generator=generator) for channels in (4, 2))
    mask = torch.rand(2, 1, 8, 8, generator=generator) < 0.1
    with torch.no_grad():
        expected = small(latent, sparse_flow, mask).dense_flow
        torch.testing.assert_close(large(latent, sparse_flow, mask).dense_flow, expected)
    with pytest.raises(ValueError, match="conv_in.weight of the pretrained model does not fit"):
        train_flow_completion.enlarge(make_flow_completion(num_spread_levels=4), small)


def test_flow_completion_goes_on_from_a_smaller_model(data, trained, tmp_path):
    config = json.loads((data / "train_flow_completion.json").read_text())
    config["separate_foreground"] = True
    (tmp_path / "larger.json").write_text(json.dumps(config))
    changes = {
        "pretrained_model_name_or_path": trained["train_flow_completion"] / "flow_completion",
        "model_config": tmp_path / "larger.json",
        "flow_weighting": "mask",
    }
    assert train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path / "run", **changes)) == 0
    model = FlowCompletionUNet.from_pretrained(tmp_path / "run/flow_completion")
    assert model.config.separate_foreground
    assert len(logged(tmp_path / "run", "foreground_loss")) == 4


def test_nearest_stroke_rival_copies_the_nearest_displacement():
    flow = train_flow_completion.nearest_stroke_flow(
        np.array([[2.0, 2.0], [30.0, 2.0]]), np.array([[1.0, 0.0], [0.0, -3.0]]), (8, 8), cell=4
    )
    assert flow[:, 7, 0].tolist() == [1, 0] and flow[:, 0, 7].tolist() == [0, -3]


def test_latent_and_picture_move_alike():
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    picture = (3 * x + 5 * y)[None, None]
    latent, moved = train_autoencoder.shift_latent_and_picture(F.avg_pool2d(picture, 4), picture, (1, 3), 4)
    torch.testing.assert_close(F.avg_pool2d(moved, 4), latent)


def test_moving_pixels_are_left_and_reached():
    flow = torch.zeros(1, 2, 4, 8)
    flow[0, 0, 1, 2] = 3.0
    moving = train_future_frame.moving_pixels(flow)
    assert moving.nonzero().tolist() == [[0, 1, 2], [0, 1, 5]]


def test_psnr_is_ten_for_an_error_of_a_tenth_in_square():
    target = torch.zeros(1, 3, 2, 2)
    output = target + 2 * math.sqrt(0.1)
    assert train_autoencoder.psnr(output, target) == pytest.approx(10, abs=1e-4)
