import contextlib

import pytest
import torch

from mcdiff_pipeline.annotation.annotator import VideoAnnotator
from mcdiff_pipeline.annotation.flow import FlowEstimator
from mcdiff_pipeline.annotation.found_videos import find_videos
from mcdiff_pipeline.annotation.parts import WRITING, Part, annotate_part
from support.annotation_runs import SETTINGS, write_pans


@pytest.mark.parametrize(
    ("error", "video_is_blamed"),
    [
        (MemoryError(), False),
        (torch.OutOfMemoryError("CUDA out of memory."), False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("shapes do not fit"), True),
        (ValueError("content of the video"), True),
    ],
)
def test_failures_of_the_machine_are_not_blamed_on_the_video(tmp_path, error, video_is_blamed):
    class Failing(FlowEstimator):
        def __call__(self, first, second):
            raise error

    (tmp_path / WRITING).mkdir()
    write_pans(tmp_path, ["cat"])
    (video,) = find_videos([tmp_path / "cat.mp4"])
    with VideoAnnotator(SETTINGS) as annotator:
        annotator.estimator = Failing()
        with contextlib.nullcontext() if video_is_blamed else pytest.raises(type(error)):
            annotate_part(annotator, video, tmp_path)
    part = Part.read(video, tmp_path)
    assert (part is not None) == video_is_blamed
    assert not video_is_blamed or str(error) in part.outcome.error
    assert not list((tmp_path / WRITING).iterdir())
