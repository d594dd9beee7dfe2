"""The training of RAFT-small, for a few steps, and its training samples."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import train_optical_flow
from safetensors.torch import load_file
from train_optical_flow import disturb, random_crop, sequence_loss

from mcdiff_pipeline.annotation.flow import load_flow_estimator
from mcdiff_pipeline.dataset import Clip, ShardWriter
from mcdiff_pipeline.flow import backward_warp
from support.mutations import damage_member
from support.training_runs import logged


SIZE = 136


def rising_ramps() -> tuple[torch.Tensor, torch.Tensor]:
    """Two frames whose red and green are the position of each pixel, and their flow.

    In the second frame everything has moved by 6 pixels to the right and 4 pixels up.
    """
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    first = torch.stack([x, y, torch.full_like(x, 128)])
    second = torch.stack([x - 6, y + 4, torch.full_like(x, 128)])
    flow = torch.tensor([6.0, -4.0])[:, None, None].expand(2, SIZE, SIZE)
    return (torch.stack([first, second]) + 20).byte(), flow


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Clips with a random texture that moves by 4 pixels."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for split in ("train", "validation"):
        with ShardWriter(folder, split) as writer:
            for number in range(3):
                texture = rng.integers(0, 255, (SIZE + 8, SIZE + 8, 3), dtype=np.uint8)
                frames = np.stack([texture[:SIZE, 4 : 4 + SIZE], texture[:SIZE, :SIZE]])
                flow = np.zeros((1, 2, SIZE, SIZE), np.float32)
                flow[:, 0] = 4
                masks = np.zeros((2, SIZE, SIZE), np.uint8)
                masks[:, 20:60, 20:60] = 1
                writer.write(
                    Clip(
                        f"clip_{number}",
                        frames,
                        flow,
                        np.zeros((1, SIZE, SIZE), bool),
                        masks,
                        np.zeros((2, 1, 17, 3), np.float32),
                    )
                )
    return folder


def run(clips: Path, output_dir: Path, steps: int, *more: str) -> int:
    settings = {"train_data_dir": clips, "validation_data_dir": clips, "output_dir": output_dir, "seed": 7}
    settings |= {"num_validation_samples": 1, "upsampling": 1, "crop_size": 128, "num_flow_updates": 2}
    settings |= {"train_batch_size": 1, "max_train_steps": steps, "lr_scheduler": "constant", "lr_warmup_steps": 0}
    settings |= {"checkpointing_steps": 2, "logging_steps": 1, "report_to": "none"}
    return train_optical_flow.main([*(f"--{name}={value}" for name, value in settings.items()), "--use_ema", *more])


@pytest.fixture(scope="module")
def trained(clips, tmp_path_factory) -> Path:
    output_dir = tmp_path_factory.mktemp("run")
    assert run(clips, output_dir, 3) == 0
    return output_dir


def test_trained_folder_loads_as_an_estimator(trained):
    estimator = load_flow_estimator("raft_small", weights=trained / "raft_small")
    frames = np.random.default_rng(0).integers(0, 255, (1, 128, 128, 3), dtype=np.uint8)
    assert np.isfinite(estimator(frames, frames)).all()
    config = json.loads((trained / "raft_small/config.json").read_text())
    assert config["architecture"].endswith("raft_small") and config["upsampling"] == 1


def test_validation_reports_the_errors_of_the_model_and_of_zero_flow(trained):
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    validation = next(line for line in lines if "epe_body_model" in line)
    assert validation["epe_body_zero"] == pytest.approx(4) and validation["epe_off_body_zero"] == pytest.approx(4)
    assert validation["epe_body_model"] > 0 and validation["epe_off_body_model"] > 0


def test_resumed_run_has_the_losses_and_weights_of_an_uninterrupted_run(clips, trained, tmp_path):
    assert run(clips, tmp_path, 2) == 0
    assert run(clips, tmp_path, 3, "--resume_from_checkpoint", "latest") == 0
    assert logged(tmp_path, "loss") == logged(trained, "loss")
    resumed, straight = (load_file(folder / "raft_small/model.safetensors") for folder in (tmp_path, trained))
    for name, tensor in straight.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0)


def test_damaged_clips_are_named_and_left_out(clips, tmp_path, capsys):
    damaged = shutil.copytree(clips, tmp_path / "clips")
    for number in (0, 2):
        damage_member(damaged / "train-00000.tar", f"clip_{number}.frame_01.png")
    assert run(damaged, tmp_path / "run", 3) == 0
    named = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Skipped: ")]
    assert sorted(line.split()[2] for line in named) == ["clip_0", "clip_2"]
    damage_member(damaged / "train-00000.tar", "clip_1.frame_01.png")
    with pytest.raises(ValueError, match="No pair of frames can be read"):
        run(damaged, tmp_path / "none", 3)


@pytest.mark.parametrize("seed", range(12))
def test_flow_of_a_crop_leads_to_the_same_colors_in_its_second_frame(seed):
    frames, flow = random_crop(*rising_ramps(), 128, (1.1, 2.0), 0.7, np.random.default_rng(seed))
    assert frames.shape == (2, 3, 128, 128) and flow.shape == (2, 128, 128)
    reached = backward_warp(frames[1:], flow[None])[0]
    inside = slice(48, 80)  # pixels further out may have left the image
    # Colors change by one level per pixel of the source.
    difference = 255 * (reached - frames[0])[:, inside, inside]
    assert difference.abs().max() < 0.2


def test_crops_differ_in_size_place_direction_and_shift():
    flows = [random_crop(*rising_ramps(), 128, (1.1, 2.0), 0.7, np.random.default_rng(seed))[1] for seed in range(40)]
    across, down = np.array([flow.mean(dim=(1, 2)).tolist() for flow in flows]).T
    assert len({*across.round(3)}) > 35
    assert 8 < (across > 0).sum() < 32 and 8 < (down > 0).sum() < 32


def test_disturbed_frames_stay_in_range_and_sometimes_have_different_light():
    frames = torch.full((2, 3, 64, 64), 0.5) + torch.linspace(-0.3, 0.3, 64)
    differences = []
    for seed in range(40):
        disturbed = disturb(frames, np.random.default_rng(seed))
        assert disturbed.shape == frames.shape and disturbed.min() >= 0 and disturbed.max() <= 1
        differences.append(float((disturbed[1] - disturbed[0]).median(dim=-1).values.median().abs()))
    assert 2 <= (np.array(differences) > 0.02).sum() <= 16


def test_samples_depend_on_the_generator_alone():
    def sample(seed):
        rng = np.random.default_rng(seed)
        frames, flow = random_crop(*rising_ramps(), 128, (0.8, 2.0), 0.7, rng)
        return disturb(frames, rng), flow

    torch.testing.assert_close(sample(1), sample(1), rtol=0, atol=0)
    assert not torch.equal(sample(1)[0], sample(2)[0])


def test_weights_of_earlier_predictions_are_powers_of_four_fifths():
    target = torch.zeros(1, 2, 4, 4)
    far = torch.full_like(target, 10.0)
    assert sequence_loss([far, target, target], target) == pytest.approx(10 * 0.8**2)
    assert sequence_loss([target, target, far], target) == pytest.approx(10)


def test_very_large_displacements_do_not_count_in_the_loss():
    target = torch.zeros(1, 2, 4, 4)
    target[:, :, 0] = 1000
    assert sequence_loss([torch.zeros_like(target)], target) == 0


def test_crop_size_that_raft_cannot_take_is_refused_before_anything_is_read(tmp_path):
    for size in ("100", "130"):
        with pytest.raises(ValueError, match=f"--crop_size is {size}"):
            train_optical_flow.main(
                ["--train_data_dir", "nowhere", "--output_dir", str(tmp_path), "--max_train_steps", "1"]
                + ["--crop_size", size]
            )
