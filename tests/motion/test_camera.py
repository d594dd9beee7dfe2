# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""A camera moves a still scene exactly, nearer layers more than far ones, and strokes relative to itself."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mcdiff_pipeline import Region, Stroke
from mcdiff_pipeline.motion.camera import Camera, CameraKeyframe
from mcdiff_pipeline.motion.camera_text import camera_from_text
from mcdiff_pipeline.rollout import RolloutState
from support.pipeline_runs import seeded
from support.tiny_models import make_pipeline


HEIGHT, WIDTH = 40, 48
SIZE = {"height": HEIGHT, "width": WIDTH}
CENTER = (WIDTH / 2, HEIGHT / 2)
MASK = np.zeros((HEIGHT, WIDTH), np.float32)
MASK[8:24, 8:24] = 1
THERE_AND_BACK = Camera(
    [CameraKeyframe(2, zoom=1.6, pan=(5, -3), rotate=20), CameraKeyframe(4, zoom=1, pan=(0, 0), rotate=0)],
    WIDTH,
    HEIGHT,
)


def roll_out(pipe, image, camera, steps, strokes=(), **arguments):
    state = pipe.start(image, motion=camera, generator=seeded(0), **(SIZE | arguments))
    states = [state]
    for _ in range(steps):
        states.append(pipe.step(states[-1], list(strokes), motion=camera, num_frames=steps + 1))
    return states


def seen_at(point, zoom=1.0, pan=(0, 0), rotate=0.0, truck=(0, 0), dolly=0.0, depth=1.0):
    """Where a point of the image is seen, by the formula of a pinhole camera."""
    u = [(point[axis] - CENTER[axis] - truck[axis] / depth) / (1 - dolly / depth) - pan[axis] for axis in range(2)]
    cos, sin = math.cos(math.radians(rotate)), math.sin(math.radians(rotate))
    return CENTER[0] + zoom * (cos * u[0] + sin * u[1]), CENTER[1] + zoom * (cos * u[1] - sin * u[0])


def inverse_flow(zoom, pan, rotate):
    """Where each pixel comes from in frame 0, minus where it is: `[2, HEIGHT, WIDTH]` in pixels, float64."""
    y, x = torch.meshgrid(
        torch.arange(HEIGHT, dtype=torch.float64) + 0.5, torch.arange(WIDTH, dtype=torch.float64) + 0.5, indexing="ij"
    )
    cos, sin = math.cos(math.radians(rotate)), math.sin(math.radians(rotate))
    u, v = (x - CENTER[0]) / zoom, (y - CENTER[1]) / zoom
    from_x, from_y = cos * u - sin * v + pan[0] + CENTER[0], sin * u + cos * v + pan[1] + CENTER[1]
    return torch.stack([from_x - x, from_y - y])


def test_still_scene_moves_by_the_closed_form_and_comes_back(image):
    pipe = make_pipeline(("previous_frame", "dense_flow", "start_picture"), residual_condition="start_picture")
    states = roll_out(pipe, image, THERE_AND_BACK, 4)
    for state, (zoom, pan, rotate) in zip(
        states[1:],
        [(1.6**0.5, (2.5, -1.5), 10), (1.6, (5, -3), 20), (1.6**0.5, (2.5, -1.5), 10), (1, (0, 0), 0)],
        strict=True,
    ):
        backward, _ = state.layers.backward_flow((HEIGHT, WIDTH))
        expected = inverse_flow(zoom, pan, rotate)
        assert (backward[0, 0].double() - expected).abs().max() < 1e-4
        assert torch.count_nonzero(state.layers.accumulated_flow) == 0
    # what had left the image is back where it was
    assert (states[4].layers.carry(states[0].start_image) - states[0].start_image).abs().max() < 1e-5


def test_frame_is_the_warped_image_where_the_image_is_seen(image):
    pipe = make_pipeline(("previous_frame", "dense_flow", "start_picture"), residual_condition="start_picture")
    camera = Camera([CameraKeyframe(1, zoom=1.5, rotate=15)], WIDTH, HEIGHT)
    state = roll_out(pipe, image, camera, 1, output_size=(120, 144))[1]
    frame = pipe.decode_frame(state, output_type="pt")[0]
    start = state.output_image[0].float() / 255
    flow = inverse_flow(1.5, (0, 0), 15).float()
    # the same at the size of the frames, whose pixels are three times as small
    y, x = torch.meshgrid(torch.arange(120) + 0.5, torch.arange(144) + 0.5, indexing="ij")
    there = F.interpolate(flow[None], (120, 144), mode="bilinear")[0] * 3
    grid = torch.stack([2 * (x + there[0]) / 144 - 1, 2 * (y + there[1]) / 120 - 1], dim=-1)[None]
    expected = F.grid_sample(start[None], grid, "bicubic", "border", align_corners=False)[0].clamp(0, 1)
    assert (frame - expected)[:, 6:-6, 6:-6].abs().max() < 2 / 255


def test_no_network_of_flow_runs_for_a_still_scene(image):
    pipe = make_pipeline()
    pipe.complete_flow = None  # would fail
    state = roll_out(pipe, image, THERE_AND_BACK, 1)[1]
    cells = state.dense_flow[0, :, 5, 6]
    x, y = (6 + 0.5) * 4, (5 + 0.5) * 4
    there = seen_at((x, y), zoom=1.6**0.5, pan=(2.5, -1.5), rotate=10)
    assert (cells * 4).tolist() == pytest.approx([there[0] - x, there[1] - y], abs=1e-4)


@pytest.mark.parametrize("moved", [{"pan": (6, 2)}, {"truck": (6, 2)}, {"dolly": 0.2}, {"zoom": 2}])
def test_nearer_layers_move_more_only_where_the_camera_itself_moves(image, moved):
    camera = Camera([CameraKeyframe(1, **moved)], WIDTH, HEIGHT, parallax=1.0)
    near, nearer = MASK, np.roll(MASK, (14, 20), (0, 1))
    regions = [Region(near), Region(nearer, order=2)]
    state = roll_out(make_pipeline(), image, camera, 1, regions=regions)[1]
    flow = state.layers.forward_flow((HEIGHT, WIDTH))[0, :, :, 10, 12]
    point = (12.5, 10.5)
    for layer, depth in enumerate((1, 1 / 2, 1 / 4)):
        there = seen_at(point, **moved, depth=depth)
        expected = [there[0] - point[0], there[1] - point[1]]
        assert flow[layer].tolist() == pytest.approx(expected, abs=1e-4)
    alike = torch.allclose(flow[0], flow[2])
    assert alike == ("pan" in moved or "zoom" in moved)


def test_strokes_move_relative_to_the_camera(image):
    camera = Camera([CameraKeyframe(3, zoom=1.3, truck=(9, 0))], WIDTH, HEIGHT, parallax=0.5)
    stroke = Stroke([(12, 12), (21, 18)], end_frame=3)
    regions = [Region(MASK, rigid=True)]
    states = roll_out(make_pipeline(), image, camera, 3, [stroke], regions=regions)
    layers = states[3].layers
    # in the scene, the region has moved as the stroke says; the camera sees it from where it is
    assert layers.similarities[0, 1].flatten().tolist() == pytest.approx([1, 0, 9, 6], abs=1e-6)
    backward, _ = layers.backward_flow((HEIGHT, WIDTH))
    there = seen_at((12.5 + 9, 12.5 + 6), zoom=1.3, truck=(9, 0), depth=1 / 1.5)
    column, row = int(there[0]), int(there[1])
    found = backward[0, 1, :, row, column] + torch.tensor([column + 0.5, row + 0.5])
    nearby = seen_at((13.5 + 9, 12.5 + 6), zoom=1.3, truck=(9, 0), depth=1 / 1.5)
    pixel = 1 / (nearby[0] - there[0])  # of frame 0 in a pixel of the frame
    assert (found - 12.5).abs().max() <= pixel


def test_free_layer_follows_its_stroke_and_the_camera(image):
    """Without regions: F's own flow is what it is without a camera at the first step, and the camera is added."""
    pipe = make_pipeline()
    stroke = Stroke([(12, 12), (21, 18)], end_frame=3)
    camera = Camera([CameraKeyframe(1, pan=(8, 4))], WIDTH, HEIGHT)
    alone = pipe.predict_flow(image, [stroke], num_frames=4, **SIZE)
    together = pipe.predict_flow(image, [stroke], num_frames=4, motion=camera, **SIZE)
    assert torch.allclose(together, alone + torch.tensor([-8.0, -4.0])[:, None, None], atol=1e-4)


def test_stroke_is_found_where_the_camera_sees_it(image):
    """At the second step, F is given the stroke at the place that the camera has moved it to."""
    pipe, given = make_pipeline(), []
    complete_flow = pipe.complete_flow
    pipe.complete_flow = lambda latents, flow, mask, **others: (
        given.append(mask[0, 0].nonzero().tolist()) or complete_flow(latents, flow, mask, **others)
    )
    camera = Camera([CameraKeyframe(1, pan=(8, 4))], WIDTH, HEIGHT)
    roll_out(pipe, image, camera, 2, [Stroke([(20, 20), (20.1, 20)], end_frame=2)])
    assert given == [[[5, 5]], [[4, 3]]]


def test_state_with_a_camera_is_saved_and_continued(image, tmp_path):
    pipe = make_pipeline()
    states = roll_out(pipe, image, THERE_AND_BACK, 3)
    states[1].save(tmp_path / "state.safetensors")
    loaded = RolloutState.load(tmp_path / "state.safetensors")
    again = pipe.step(pipe.step(loaded, [], motion=THERE_AND_BACK), [], motion=THERE_AND_BACK)
    assert torch.equal(again.latents, states[3].latents)
    assert torch.equal(again.layers.view, states[3].layers.view)


def test_guidance_counts_the_camera_as_motion(image):
    pipe = make_pipeline()
    frames = [
        pipe(image, [], motion=THERE_AND_BACK, guidance_scale=scale, generator=seeded(0), output_type="latent").frames
        for scale in (1.0, 2.0)
    ]
    assert not torch.allclose(*frames)


def test_call_stream_and_steps_agree(image):
    pipe = make_pipeline()
    arguments = {"motion": THERE_AND_BACK, "num_frames": 4, "output_type": "latent", **SIZE}
    called = pipe(image, [], generator=seeded(0), **arguments).frames[0]
    streamed = list(pipe.stream(image, [], generator=seeded(0), **arguments))
    stepped = roll_out(pipe, image, THERE_AND_BACK, 3)
    for frame in range(4):
        assert torch.allclose(called[frame], streamed[frame]) and torch.equal(called[frame], stepped[frame].latents[0])


def test_keyframes_hold_their_values_and_ease():
    camera = Camera(
        [CameraKeyframe(4, zoom=4, easing="ease-in"), CameraKeyframe(6, pan=(8, 0), easing="ease-in-out")], 48, 40
    )
    assert camera.at(0).zoom == 1 and camera.at(2).zoom == pytest.approx(4**0.25)
    assert camera.at(4).pan == (0, 0) and camera.at(5).pan == (4, 0) and camera.at(5).zoom == 4
    assert camera.at(9).pan == (8, 0)
    assert Camera.from_dict(camera.to_dict()) == camera


def test_camera_in_words():
    camera = camera_from_text("2: zoom 1.5 ease-out; pan 10%, -5 rotate 30 dolly .2 parallax 1", 200, 100, 9)
    assert camera == Camera(
        [CameraKeyframe(2, zoom=1.5, easing="ease-out"), CameraKeyframe(8, pan=(20, -5), rotate=30, dolly=0.2)],
        200,
        100,
        parallax=1,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not move"),
        ("5: ease-in", "does not move"),
        ("zoom", "'zoom' is not understood"),
        ("fly 3", "'fly' is not understood"),
        ("zoom big", "zoom is 'big'; it must be a number"),
        ("zoom 0", "zoom is 0.0; it must be a number from 0.05 to 20"),
        ("pan 3", "pan is '3'; it must be X,Y"),
        ("dolly 1", "dolly is 1.0"),
        ("8: zoom 2; 4: zoom 1", "not above"),
        ("x: zoom 2", "frame is 'x'"),
        ("zoom 2 parallax 99", "parallax is 99"),
    ],
)
def test_words_that_say_nothing_are_shown(text, message):
    with pytest.raises(ValueError, match=message):
        camera_from_text(text, 48, 40, 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version is 2"),
        ({"keyframes": []}, "keyframes is empty"),
        ({"keyframes": [{"zoom": 2}]}, r"keyframes\[0\] is"),
        ({"keyframes": [{"frame": 1, "zom": 2}]}, "'zom' is not a field of"),
        ({"keyframes": [{"frame": 1, "pan": 2}]}, r"keyframes\[0\].pan is 2"),
        ({"width": 0}, "width is 0"),
        ({"depth": 1}, "'depth' is not a field"),
    ],
)
def test_bad_file_names_the_field(change, message, tmp_path):
    fields = Camera([CameraKeyframe(1, zoom=2)], 48, 40).to_dict() | change
    with pytest.raises(ValueError, match=message):
        Camera.from_dict(fields)


def test_camera_that_reaches_a_layer_is_refused(image):
    camera = Camera([CameraKeyframe(3, dolly=0.8)], WIDTH, HEIGHT)
    with pytest.raises(ValueError, match="the camera reaches a layer"):
        make_pipeline()(image, [], motion=camera, regions=[Region(MASK, order=2)], num_frames=4)


def test_what_is_no_source_of_motion_is_refused(image):
    with pytest.raises(TypeError, match="`motion` holds a str"):
        make_pipeline()(image, [], motion="zoom")
    with pytest.raises(ValueError, match="`motion` holds a Camera, but this model has no dense flow"):
        make_pipeline(("previous_frame", "sparse_flow"), flow_completion=None)(image, [], motion=THERE_AND_BACK)


@pytest.mark.parametrize("name", ["pan", "truck"])
def test_camera_that_leaves_the_image_far_behind_is_refused(name):
    with pytest.raises(ValueError, match=rf"keyframes\[0\].{name} is \(1e\+29, 0.0\), more than 32 times"):
        Camera([CameraKeyframe(3, **{name: (1e29, 0)})], 48, 40)
