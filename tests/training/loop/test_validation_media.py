"""Numbers, images and videos of a validation, as files and in the tracker."""

import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import train_end_to_end
import train_flow_completion
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from loop.validation_media import check_tracker, show
from mcdiff_pipeline.drawing import TITLE_HEIGHT, TITLED_WIDTH
from mcdiff_pipeline.video import read_video
from support.training_runs import SIZE, arguments


def logged_to_tensorboard(output_dir, name: str) -> EventAccumulator:
    accumulator = EventAccumulator(str(output_dir / "logs" / name), size_guidance={"images": 0})
    return accumulator.Reload()


def test_run_sends_numbers_and_sheets_to_tensorboard(data, tmp_path):
    changes = {"max_train_steps": 2, "validation_steps": 1, "report_to": None}  # the default
    assert train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path, **changes)) == 0
    events = logged_to_tensorboard(tmp_path, "flow_completion")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    assert {event.step: event.value for event in events.Scalars("loss")} == pytest.approx(losses)
    sheets = events.Images("validation")
    assert [sheet.step for sheet in sheets] == [1, 2]
    with Image.open(tmp_path / "validation_000002.png") as kept:
        with Image.open(io.BytesIO(sheets[1].encoded_image_string)) as sent:
            np.testing.assert_array_equal(np.asarray(sent), np.asarray(kept))


def test_end_to_end_training_shows_a_rollout_beside_the_true_frames(data, start, tmp_path):
    changes = {"pretrained_model_name_or_path": start, "pretrained_vae": None, "model_config": None}
    changes |= {"max_train_steps": 1, "report_to": "tensorboard", "num_validation_samples": 2}
    assert train_end_to_end.main(arguments(data, "train_end_to_end", tmp_path, **changes)) == 0
    kept = read_video(tmp_path / "validation_000001.mp4")
    # Only the longer of the two clips is shown, with four frames: true frames at the left, the model's at the right.
    width = TITLED_WIDTH // SIZE * SIZE
    height = width + TITLE_HEIGHT
    assert len(kept.frames) == 4 and kept.frames[0].shape == (height, 2 * width, 3)
    (sent,) = logged_to_tensorboard(tmp_path, "end_to_end").Images("validation")
    with Image.open(io.BytesIO(sent.encoded_image_string)) as animation:
        assert (animation.format, animation.n_frames, animation.size) == ("GIF", 4, (2 * width, height))
    first, last = (frame[TITLE_HEIGHT:].astype(float) for frame in (kept.frames[0], kept.frames[-1]))
    assert np.abs(last[:, :width] - first[:, :width]).mean() > 2  # the square moves
    assert np.abs(last[:, :width] - last[:, width:]).mean() > 2  # an untrained model does not follow it


class FakeWandbTracker:
    """Records what accelerate's tracker would pass to wandb, which is not installed here."""

    name = "wandb"

    def __init__(self):
        self.logged = []

    def log(self, values, step):
        self.logged.append((step, values))

    def log_images(self, values, step):
        self.log({name: [image.shape for image in images] for name, images in values.items()}, step)


def test_wandb_gets_images_and_the_file_of_the_video(monkeypatch, tmp_path):
    wandb = SimpleNamespace(Video=lambda path, format: (path, format))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    tracker = FakeWandbTracker()
    accelerator, args = SimpleNamespace(is_main_process=True, trackers=[tracker]), SimpleNamespace(output_dir=tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 16, 24, 3)).astype(np.uint8)
    show(accelerator, args, "sheet", 7, pixels[0])
    show(accelerator, args, "video", 7, pixels)
    video = tmp_path / "video_000007.mp4"
    assert tracker.logged == [(7, {"sheet": [(16, 24, 3)]}), (7, {"video": (str(video), "mp4")})]
    assert video.is_file() and (tmp_path / "sheet_000007.png").is_file()


def test_missing_tracker_is_reported_before_the_training(data, monkeypatch, tmp_path):
    monkeypatch.setattr("loop.validation_media.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="--report_to wandb, which is not installed: pip install wandb, or give"):
        train_flow_completion.main(arguments(data, "train_flow_completion", tmp_path / "run", report_to="wandb"))
    assert not (tmp_path / "run").exists()
    check_tracker("none")
