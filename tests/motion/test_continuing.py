# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""A clip is continued from exactly the state that it was made with."""

import numpy as np
import pytest
import torch

from mcdiff_pipeline import Region, Stroke, StrokeSheet
from mcdiff_pipeline.color_matching import color_match
from mcdiff_pipeline.motion.camera import Camera, CameraKeyframe
from mcdiff_pipeline.motion.clip_streams import continued_clip, remake_state, stream_clip
from mcdiff_pipeline.motion.description import describe_camera
from mcdiff_pipeline.video.clip_metadata import ClipMetadata, ClipSettings
from support.pipeline_runs import seeded
from support.tiny_models import make_pipeline


MASK = np.zeros((40, 48), np.float32)
MASK[4:20, 4:24] = 1
BENT = [(10, 10), (20, 12), (20, 20)]  # its speed depends on the size at which it is measured


def clip_of(image, strokes, num_frames=5, **arguments):
    # a working size of other proportions than the image
    settings = ClipSettings(num_frames, 2, 1.0, 3, 8.0, "float32", 32, 48)
    regions = arguments.pop("regions", ())
    return ClipMetadata(
        "tiny", "", settings, StrokeSheet(strokes, 48, 40, num_frames, regions=regions), image, **arguments
    )


NEXT = StrokeSheet([Stroke([(20, 20), (12, 26)]), Stroke([(40, 30)], kind="hold", end_frame=2)], 48, 40, num_frames=4)


@pytest.mark.parametrize("frame", [None, 2])
def test_continued_clip_is_the_clip_up_to_the_frame(image, frame):
    pipe = make_pipeline()
    clip = clip_of(image, [Stroke(BENT), Stroke([(30, 5)], kind="hold", start_frame=1)], regions=[Region(MASK)])
    before = dict((state.frame, (shown, state)) for shown, state in stream_clip(pipe, clip))
    longer = ClipMetadata.from_dict(continued_clip(clip, NEXT, frame).to_dict())
    at = 4 if frame is None else frame
    assert longer.settings.num_frames == at + 4
    after = list(stream_clip(pipe, longer))
    assert [state.frame for _, state in after] == list(range(at + 4))
    for shown, state in after[: at + 1]:
        assert torch.equal(state.latents, before[state.frame][1].latents)
        assert np.array_equal(np.asarray(shown), np.asarray(before[state.frame][0]))
    # and from there on, it is what the state becomes by the new strokes
    state = remake_state(pipe, clip, frame)
    assert torch.equal(state.latents, before[at][1].latents)
    strokes = [Stroke([(20, 20), (12, 26)], start_frame=at, end_frame=at + 3)]
    strokes.append(Stroke([(40, 30)], kind="hold", start_frame=at, end_frame=at + 2))
    for _ in range(3):
        state = pipe.step(state, strokes, num_frames=at + 4, num_inference_steps=2)
    assert torch.equal(state.latents, after[-1][1].latents)


def test_clip_is_continued_twice(image):
    pipe = make_pipeline()
    longer = continued_clip(clip_of(image, [Stroke(BENT)]), NEXT)
    longest = continued_clip(longer, NEXT, 6)
    assert [part.at for part in longest.parts] == [0, 4, 6]
    frames = [state.latents for _, state in stream_clip(pipe, longest)]
    expected = [state.latents for _, state in stream_clip(pipe, longer)]
    assert len(frames) == 10 and all(torch.equal(*pair) for pair in zip(frames[:7], expected[:7], strict=True))


def test_strokes_of_the_new_part_lie_where_the_camera_sees_them(image):
    pan = Camera([CameraKeyframe(4, pan=(8, 4))], 48, 40)
    clip = clip_of(image, [Stroke(BENT)], motion=(describe_camera(pan),))
    zoom = describe_camera(Camera([CameraKeyframe(3, zoom=2)], 48, 40).shifted(4))
    longer = continued_clip(clip, NEXT, motion=[zoom])
    # drawn at (20, 20) on the last frame, which shows the point (28, 24) of frame 0 there
    assert longer.parts[1].strokes.strokes[0].points[0] == pytest.approx((28, 24))
    state = [state for _, state in stream_clip(make_pipeline(), longer)][-1]
    # the view after both cameras: the center of the last frame stays where it is
    assert state.layers.view[0, 0].flatten().tolist() == pytest.approx([2, 0, -24 - 16, -20 - 8], abs=1e-6)


def test_handles_of_the_new_part_turn_where_the_camera_sees_them(image):
    zoom = describe_camera(Camera([CameraKeyframe(4, zoom=2)], 48, 40))
    turning = Stroke([(24, 20)], kind="hold", rotate=90, radius=8)
    sheet = StrokeSheet([turning], 48, 40, num_frames=4)
    left, right = continued_clip(clip_of(image, [Stroke(BENT)], motion=(zoom,)), sheet).parts[1].strokes.strokes
    # 8 pixels of the last frame are 4 of frame 0
    assert left.at(4) == pytest.approx((20, 20)) and right.at(7) == pytest.approx((24, 24))


def test_camera_of_the_new_part_leaves_the_first_part_as_it_is(image):
    pipe, clip = make_pipeline(), clip_of(image, [Stroke(BENT)])
    zoom = describe_camera(Camera([CameraKeyframe(3, zoom=2)], 48, 40).shifted(4))
    states = [state for _, state in stream_clip(pipe, continued_clip(clip, NEXT, motion=[zoom]))]
    expected = [state for _, state in stream_clip(pipe, clip)]
    assert all(torch.equal(one.latents, other.latents) for one, other in zip(states, expected, strict=False))
    assert states[4].layers is None and float(states[7].layers.view[0, 0, 0, 0]) == pytest.approx(2)


def test_new_part_has_no_regions_of_its_own(image):
    sheet = StrokeSheet([], 48, 40, 3, regions=[Region(MASK)])
    with pytest.raises(ValueError, match="has those of its first frame"):
        continued_clip(clip_of(image, [Stroke(BENT)]), sheet)
    with pytest.raises(ValueError, match="frame is 9"):
        continued_clip(clip_of(image, [Stroke(BENT)]), NEXT, 9)


def test_rollout_starts_from_the_last_frame_with_the_colors_of_the_first(image):
    pipe = make_pipeline()
    first = np.asarray(image).astype(np.float32) / 255
    drifted = np.clip(np.roll(first, 6, axis=1) * 0.9 + np.array([0.06, 0.0, -0.02]), 0, 1).astype(np.float32)
    state = pipe.start(frames=[image, image, drifted], generator=seeded(0), output_size="image")
    shown = state.output_image[0].float() / 255
    assert np.abs(shown.mean((1, 2)).numpy() - first.mean((0, 1))).max() < 0.01
    assert np.abs(shown.numpy().transpose(1, 2, 0) - np.roll(first, 6, axis=1)).mean() < 0.02
    with pytest.raises(ValueError, match="`image` and `frames`"):
        pipe.start(image, frames=[image])
    with pytest.raises(ValueError, match="`frames` is empty"):
        pipe.start(frames=[])


def test_frame_of_another_scene_keeps_its_colors():
    scale, shift = color_match(torch.full((3, 4, 4), 0.2), torch.full((3, 4, 4), 0.8))
    assert (scale == 1).all() and (shift == 0).all()
