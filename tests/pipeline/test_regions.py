# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Regions: strokes act in their layer only, rigid things move exactly, and layers are carried along."""

import numpy as np
import pytest
import torch
from PIL import Image

from mcdiff_pipeline import MCDiffPipeline, Motion, Region, RolloutState, Stroke, StrokeSheet
from mcdiff_pipeline.flow import flow_magnitude
from mcdiff_pipeline.layers import resize_shares
from mcdiff_pipeline.motion.camera import Camera, CameraKeyframe
from support.pipeline_runs import DRAG, HOLD, STROKES, latents_of, seeded
from support.tiny_models import make_flow_completion, make_pipeline


@pytest.fixture
def image(wide_image):
    return wide_image


HEIGHT, WIDTH, CELL = 40, 48, 4
START_PICTURE = ("previous_frame", "dense_flow", "start_picture")

# The upper left of the picture, where DRAG begins; HOLD is outside.
MASK = np.zeros((HEIGHT, WIDTH), np.float32)
MASK[4:20, 4:24] = 1
SIZE = {"height": HEIGHT, "width": WIDTH}
INSIDE = (slice(2, 4), slice(2, 5))  # cells that lie in the mask with all their neighbors


def flow_of(pipe, image, strokes, regions=None, **arguments):
    return pipe.predict_flow(image, strokes, num_frames=4, regions=regions, **(SIZE | arguments))


# Which strokes act where


def test_no_regions_change_nothing(tiny_pipeline, image):
    expected = latents_of(tiny_pipeline, image)
    assert torch.equal(latents_of(tiny_pipeline, image, regions=None), expected)
    assert torch.equal(latents_of(tiny_pipeline, image, regions=[]), expected)
    assert torch.equal(latents_of(tiny_pipeline, image, regions=np.zeros((HEIGHT, WIDTH), int)), expected)


def test_stroke_acts_in_its_region_only(tiny_pipeline, image):
    free = flow_of(tiny_pipeline, image, [])
    with_stroke = flow_of(tiny_pipeline, image, [DRAG])
    found = flow_of(tiny_pipeline, image, [DRAG], [Region(MASK)])
    assert torch.allclose(found[0][:, *INSIDE], with_stroke[0][:, *INSIDE], atol=1e-5)
    assert torch.allclose(found[0, :, 7:, 8:], free[0, :, 7:, 8:], atol=1e-5)
    assert not torch.allclose(found[0, :, 7:, 8:], with_stroke[0, :, 7:, 8:], atol=1e-5)


@pytest.mark.parametrize("reads_regions", [False, True])
@pytest.mark.parametrize("regions", [None, [Region(MASK)]])
def test_overridden_complete_flow_replaces_flow_completion(image, reads_regions, regions):
    class Rightward(MCDiffPipeline):
        def complete_flow(self, latents, sparse_flow, mask, **regions):
            assert bool(regions) == (given and reads_regions)
            return torch.ones_like(sparse_flow) * torch.tensor([1.0, 0.0])[:, None, None]

    given = regions is not None
    f = make_flow_completion(reads_regions=reads_regions)
    pipe = Rightward(**make_pipeline(("previous_frame", "dense_flow"), flow_completion=f).components)
    flow = flow_of(pipe, image, [DRAG], regions)
    assert torch.allclose(flow[:, 0], torch.tensor(float(CELL))) and not flow[:, 1].any()


def test_label_map_names_the_same_regions(tiny_pipeline, image):
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[4:20, 4:24], labels[24:36, 30:44] = 1, 2
    expected = flow_of(tiny_pipeline, image, STROKES, [Region(labels == 1), Region(labels == 2)])
    for given in (labels, torch.from_numpy(labels), Image.fromarray(labels)):
        assert torch.equal(flow_of(tiny_pipeline, image, STROKES, given), expected)


def test_polygon_is_in_pixels_of_the_given_image(tiny_pipeline, image):
    polygon = Region(polygon=[(8, 8), (48, 8), (48, 40), (8, 40)])
    large = image.resize((2 * WIDTH, 2 * HEIGHT))
    strokes = [DRAG.scaled(2, 2)]
    mask = Region(np.kron(MASK, np.ones((2, 2), np.float32)))
    expected = flow_of(tiny_pipeline, large, strokes, [mask])
    assert torch.allclose(flow_of(tiny_pipeline, large, strokes, [polygon]), expected, atol=1e-5)


def test_stroke_keeps_the_region_in_which_it_begins(tiny_pipeline, image):
    rigid = [Region(MASK, rigid=True)]
    leaving = Stroke([(10, 10), (40, 34)], end_frame=3)  # its path leaves the first outline at once
    state = tiny_pipeline.start(image, regions=rigid)
    for _ in range(3):
        state = tiny_pipeline.step(state, [leaving], num_frames=4)
    moved = state.layers.forward_flow((HEIGHT, WIDTH))[0, 1]
    assert torch.allclose(moved, torch.tensor([30.0, 24.0])[:, None, None].expand_as(moved), atol=1e-4)


def test_stroke_can_name_its_region(tiny_pipeline, image):
    outside = Stroke([(40, 30), (43, 30)], region="thing")
    regions = [Region(MASK, rigid=True, name="thing")]
    found = flow_of(tiny_pipeline, image, [outside], regions)
    assert torch.allclose(found[0][:, *INSIDE], torch.tensor([1.0, 0.0])[:, None, None].expand(2, 2, 3), atol=1e-5)
    by_number = flow_of(tiny_pipeline, image, [Stroke([(40, 30), (43, 30)], region=1)], regions)
    assert torch.equal(by_number, found)
    none = flow_of(tiny_pipeline, image, [Stroke(DRAG.points, region=0)], [Region(MASK)])
    assert torch.allclose(none[0][:, *INSIDE], flow_of(tiny_pipeline, image, [])[0][:, *INSIDE], atol=1e-5)
    with pytest.raises(ValueError, match="'other'.*'thing'"):
        flow_of(tiny_pipeline, image, [Stroke(DRAG.points, region="other")], regions)


def test_stroke_that_begins_later_belongs_to_what_is_there_then(tiny_pipeline, image):
    regions = [Region(MASK, rigid=True, name="thing")]
    first = Stroke([(10, 10), (30, 10)], end_frame=2)
    later = Stroke([(35, 10), (35, 18)], start_frame=2, end_frame=4)  # outside the mask, on the thing as it is then
    state = tiny_pipeline.start(image, regions=regions)
    for _ in range(4):
        state = tiny_pipeline.step(state, [first, later], num_frames=6)
    moved = state.layers.forward_flow((HEIGHT, WIDTH))[0, 1, :, 10, 10]
    assert moved.tolist() == pytest.approx([20, 8], abs=1e-3)


# Rigid regions


def test_rigid_region_moves_exactly_as_its_stroke(tiny_pipeline, image):
    found = flow_of(tiny_pipeline, image, [DRAG], [Region(MASK, rigid=True)])
    expected = torch.tensor(DRAG.displacement(0, 4))[:, None, None].expand(2, 2, 3)
    assert torch.allclose(found[0][:, *INSIDE], expected, atol=1e-5)


def test_hold_in_a_rigid_region_is_its_pivot(tiny_pipeline, image):
    pivot = Stroke([(10, 10)], kind="hold")
    handle = Stroke([(20, 10), (10, 20)], end_frame=1)  # a quarter turn about the hold
    state = tiny_pipeline.start(image, regions=[Region(MASK, rigid=True)])
    flow = tiny_pipeline.step(state, [pivot, handle]).layers.forward_flow((HEIGHT, WIDTH))[0, 1]
    for x, y in ((9, 9), (19, 5), (12, 17)):
        u, v = flow[:, y, x].tolist()
        dx, dy = x + 0.5 - 10, y + 0.5 - 10
        assert (dx + u, dy + v) == pytest.approx((-dy, dx), abs=1e-3)


def test_rigid_region_turns_in_the_metric_of_the_given_image(tiny_pipeline, image):
    """At a working size of another aspect ratio, a turn is a turn on the given image."""
    pivot, handle = Stroke([(10, 10)], kind="hold"), Stroke([(20, 10), (10, 20)], end_frame=1)
    state = tiny_pipeline.start(image, height=40, width=96, regions=[Region(MASK, rigid=True)])
    flow = tiny_pipeline.step(state, [pivot, handle]).layers.forward_flow((HEIGHT, WIDTH))[0, 1]
    assert flow[:, 9, 19].tolist() == pytest.approx([-9.0, 10.0], abs=1e-3)  # (9.5, -0.5) to (0.5, 9.5)


def test_rigid_region_without_strokes_stays_in_a_step(tiny_pipeline, image):
    state = tiny_pipeline.start(image, regions=[Region(MASK, rigid=True)])
    following = tiny_pipeline.step(state, [HOLD])
    assert not following.layers.forward_flow((HEIGHT, WIDTH))[0, 1].any()


@pytest.mark.parametrize("name, called", [(None, "Region 1"), ("cup", r"Region 1 \('cup'\)")])
def test_rigid_region_without_strokes_is_an_error_in_a_clip(tiny_pipeline, image, name, called):
    regions = [Region(MASK, rigid=True, name=name)]
    for call in (tiny_pipeline, tiny_pipeline.stream):
        with pytest.raises(ValueError, match=f"{called} is rigid, but no stroke begins in it"):
            call(image, [HOLD], regions=regions)


def test_free_region_without_strokes_is_allowed(tiny_pipeline, image):
    found = flow_of(tiny_pipeline, image, [HOLD], [Region(MASK)])
    free = flow_of(tiny_pipeline, image, [])
    assert torch.allclose(found[0][:, *INSIDE], free[0][:, *INSIDE], atol=1e-5)


def test_what_is_only_held_stays_exactly(tiny_pipeline, image):
    found = flow_of(tiny_pipeline, image, [DRAG, HOLD], [Region(MASK)])
    assert not found[0, :, 7:, 8:].any()
    assert found[0, :, *INSIDE].any()


# Ways to give them


def test_stroke_sheet_brings_its_regions(tiny_pipeline, image):
    regions = [Region(MASK, rigid=True)]
    sheet = StrokeSheet([DRAG], WIDTH, HEIGHT, num_frames=4, regions=regions)
    expected = latents_of(tiny_pipeline, image, [DRAG], regions=regions)
    assert torch.equal(latents_of(tiny_pipeline, image, sheet), expected)


def test_regions_of_a_sheet_are_scaled_with_its_strokes(tiny_pipeline, image):
    polygon = [(8, 8), (48, 8), (48, 40), (8, 40)]
    sheet = StrokeSheet([DRAG.scaled(2, 2)], 2 * WIDTH, 2 * HEIGHT, num_frames=4, regions=[Region(polygon=polygon)])
    expected = flow_of(tiny_pipeline, image, [DRAG], [Region(MASK)])
    assert torch.allclose(flow_of(tiny_pipeline, image, sheet), expected, atol=1e-5)


def test_regions_given_twice_are_an_error(tiny_pipeline, image):
    sheet = StrokeSheet([DRAG], WIDTH, HEIGHT, num_frames=4, regions=[Region(MASK)])
    with pytest.raises(ValueError, match="`regions` is given together with a stroke sheet that has regions"):
        tiny_pipeline(image, sheet, regions=[Region(MASK)])


def test_batch_has_regions_for_each_image(tiny_pipeline, image):
    other = image.rotate(180)
    regions = [[Region(MASK, rigid=True)], [Region(np.flip(MASK).copy()), Region(MASK)]]
    strokes = [[DRAG], [HOLD]]
    together = flow_of(tiny_pipeline, [image, other], strokes, regions)
    for index, one in enumerate((image, other)):
        alone = flow_of(tiny_pipeline, one, strokes[index], regions[index])
        assert torch.allclose(together[index], alone[0], atol=1e-4)
    shared = flow_of(tiny_pipeline, [image, other], [DRAG], [Region(MASK)])
    assert torch.allclose(shared[0], flow_of(tiny_pipeline, image, [DRAG], [Region(MASK)])[0], atol=1e-4)
    with pytest.raises(ValueError, match="regions for 3 images, but 2 images"):
        tiny_pipeline.predict_flow([image, other], [], regions=[[Region(MASK)]] * 3)


def test_batch_in_which_only_some_images_have_regions_is_refused(tiny_pipeline, image):
    regions = [[Region(MASK)], []]
    with pytest.raises(ValueError, match="Image 1 of this batch has no regions, but others have"):
        tiny_pipeline([image, image], STROKES, regions=regions)
    # a camera makes a layer of every image
    arguments = {"motion": Camera([CameraKeyframe(2, pan=(4, 0))], WIDTH, HEIGHT), "output_type": "latent"}
    generators = [seeded(1), seeded(5)]
    together = tiny_pipeline([image, image], STROKES, regions=regions, generator=generators, **arguments).dense_flow
    alone = tiny_pipeline(image, STROKES, generator=seeded(5), **arguments).dense_flow
    torch.testing.assert_close(together[1], alone[0], rtol=0, atol=1e-3)


def test_mask_of_another_size_names_both_sizes(tiny_pipeline, image):
    with pytest.raises(ValueError, match="mask has 10 x 12 pixels, but the picture has 48 x 40"):
        tiny_pipeline(image, STROKES, regions=[Region(np.eye(12, 10))])


# Rollouts


@pytest.mark.parametrize("conditioning", [("previous_frame", "dense_flow"), START_PICTURE])
def test_call_stream_and_steps_make_the_same_frames(image, conditioning):
    pipe = make_pipeline(conditioning)
    regions = [Region(MASK, rigid=True), Region(np.flip(MASK).copy())]
    arguments = {"generator": seeded(), "output_type": "np", "decode_chunk_size": 1}
    expected = pipe(image, STROKES, regions=regions, **arguments).frames[0]
    streamed = pipe.stream(image, STROKES, num_frames=4, regions=regions, generator=seeded(), output_type="np")
    for frame, one in zip(streamed, expected, strict=True):
        assert np.array_equal(frame, one)
    state = pipe.start(image, regions=regions, generator=seeded())
    for frame in expected[1:]:
        state = pipe.step(state, STROKES)
        assert np.array_equal(pipe.decode_frame(state, "np")[0], frame)


def test_saved_state_with_regions_goes_on_as_before(image, tmp_path):
    pipe = make_pipeline(START_PICTURE)
    regions = [Region(MASK, rigid=True, name="thing", order=2)]
    state = pipe.step(pipe.start(image, regions=regions, output_size=(64, 80), generator=seeded()), STROKES)
    state.save(tmp_path / "state.safetensors")
    loaded = RolloutState.load(tmp_path / "state.safetensors")
    one, other = (pipe.step(each, STROKES) for each in (state, loaded))
    assert torch.equal(one.latents, other.latents)
    assert torch.equal(pipe.decode_frame(one, "pt"), pipe.decode_frame(other, "pt"))
    assert loaded.layers.traits == state.layers.traits


@pytest.mark.parametrize("first", [None, [Region(MASK)]], ids=["no regions", "regions"])
def test_video_of_states_with_other_regions_shows_each_state(image, first):
    pipe = make_pipeline(START_PICTURE)
    states = [pipe.start(image, **SIZE, regions=first, generator=seeded())]
    states.append(pipe.step(states[-1], STROKES))
    for regions in ([Region(np.flip(MASK).copy())], [Region(MASK, rigid=True), Region(np.flip(MASK).copy())]):
        states.append(pipe.step(states[-1], STROKES, regions=regions))
    images, _ = pipe.prepare_images(image, **SIZE)
    frames = pipe.decode_video(states, images, output_type="np", decode_chunk_size=1)[0]
    for state, frame in zip(states[1:], frames[1:], strict=True):
        assert np.array_equal(pipe.decode_frame(state, "np")[0], frame)


def test_regions_can_be_given_to_a_later_step(image):
    pipe = make_pipeline(("dense_flow", "start_picture"))
    state = pipe.step(pipe.start(image, **SIZE), STROKES)
    assert state.layers is None and state.accumulated_flow.any()
    following = pipe.step(state, [DRAG], regions=[Region(MASK, rigid=True)])
    still = pipe.step(state, [Stroke([(10, 10)], kind="hold")], regions=[Region(MASK, rigid=True)])
    moved, held = (one.layers.forward_flow((HEIGHT, WIDTH))[0, 1] for one in (following, still))
    expected = torch.tensor(DRAG.displacement(1, 4))[:, None, None].expand_as(moved)
    assert torch.allclose(moved - held, expected, atol=1e-3)


def test_state_with_regions_of_a_later_step_can_be_saved(image, tmp_path):
    pipe = make_pipeline(("previous_frame", "dense_flow"))  # keeps no start image
    state = pipe.step(pipe.start(image, generator=seeded()), STROKES, regions=[Region(MASK)])
    state.save(tmp_path / "state.safetensors")
    loaded = RolloutState.load(tmp_path / "state.safetensors")
    one, other = (pipe.step(each, STROKES) for each in (state, loaded))
    assert torch.equal(one.latents, other.latents)


@pytest.mark.parametrize("nothing", [[], np.zeros((HEIGHT, WIDTH), int)], ids=["list", "label map"])
def test_no_regions_replace_those_of_a_state(tiny_pipeline, image, nothing):
    state = tiny_pipeline.start(image, regions=[Region(MASK, rigid=True)], generator=seeded())
    assert tiny_pipeline.step(state, STROKES).layers is not None
    assert tiny_pipeline.step(state, STROKES, regions=nothing).layers is None


@pytest.mark.parametrize("region", ["cup", 1])
def test_stroke_that_names_a_region_of_an_image_without_any_is_an_error(tiny_pipeline, image, region):
    strokes = [Stroke(DRAG.points, region=region)]
    with pytest.raises(ValueError, match="has no regions; give some"):
        tiny_pipeline(image, strokes)
    with pytest.raises(ValueError, match="has no regions; give some"):
        list(tiny_pipeline.stream(image, lambda frame: strokes, num_frames=2))
    with pytest.raises(ValueError, match="has no regions; give some"):
        tiny_pipeline.step(tiny_pipeline.start(image), strokes)


def test_given_flow_moves_the_layers(image):
    pipe = make_pipeline(START_PICTURE)
    flow = torch.zeros(1, 2, HEIGHT, WIDTH)
    flow[:, 0] = torch.from_numpy(MASK) * 8
    state = pipe.start(image, **SIZE, regions=[Region(MASK), Region(np.flip(MASK).copy(), rigid=True)])
    for given in ({"strokes": [], "dense_flow": flow}, {"strokes": Motion(flow[:, :, 2::4, 2::4] / CELL)}):
        moved = pipe.step(state, **given).layers.forward_flow((HEIGHT, WIDTH))
        assert moved[0, 1, :, 12, 14].tolist() == pytest.approx([8, 0], abs=0.05)
        assert moved[0, 2].abs().max() < 1e-4


def test_mean_flow_in_cells_on_an_outline_is_the_flow_of_no_layer(image):
    pipe = make_pipeline(START_PICTURE)
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    mask[6:22, 6:26] = 1  # ends in the middle of cells
    flow = torch.zeros(1, 2, HEIGHT, WIDTH)
    flow[:, 0] = torch.from_numpy(mask) * 8
    state = pipe.start(image, **SIZE, regions=[Region(mask)])
    moved = pipe.step(state, [], dense_flow=flow).layers.forward_flow((HEIGHT, WIDTH))
    in_region = torch.from_numpy(mask) > 0
    assert (moved[0, 1, 0, in_region] - 8).abs().max() < 1e-3
    assert moved[0, 0, :, ~in_region].abs().max() < 1e-3


def test_model_paints_only_what_is_uncovered(image):
    pipe = make_pipeline(START_PICTURE, residual_condition="start_picture")
    start = pipe.start(image, **SIZE, regions=[Region(MASK, rigid=True)])
    pull = Stroke([(10, 10), (22, 10)], end_frame=1)
    one, other = (pipe.step(start, [pull, HOLD], noise=torch.randn(1, 4, 10, 12, generator=seeded(s))) for s in (0, 1))
    painted = (one.latents - other.latents).abs().amax(dim=1)[0]
    seen = resize_shares(one.layers.visible, (10, 12)).sum(dim=1)[0]
    assert painted[seen > 0.999].max() < 1e-5
    assert painted[seen < 0.5].min() > 1e-3


def test_guidance_works_with_layers(image):
    pipe = make_pipeline(START_PICTURE)
    arguments = {"regions": [Region(MASK, rigid=True)], "num_frames": 3}
    guided = latents_of(pipe, image, guidance_scale=2.0, **arguments)
    assert torch.isfinite(guided).all() and not torch.equal(guided, latents_of(pipe, image, **arguments))


# F at its own size


def test_flow_completion_runs_at_its_own_size(image):
    pipe = make_pipeline(flow_completion=make_flow_completion(sample_size=8))
    large = image.resize((96, 80))
    strokes = [DRAG.scaled(2, 2), HOLD.scaled(2, 2)]
    found = pipe.predict_flow(large, strokes, num_frames=4, height=160, width=192)
    small = pipe.predict_flow(large, strokes, num_frames=4, height=32, width=32)
    assert found.shape == (1, 2, 40, 48)
    # the image is reduced from the working size, so it differs a little from one that was read at F's size
    expected = torch.nn.functional.interpolate(small, size=(40, 48), mode="bilinear")
    expected = expected * torch.tensor([6.0, 5.0])[:, None, None]
    assert (found - expected).abs().mean() < 0.1 * expected.abs().mean()
    assert flow_magnitude(found).mean() > 0.1


def test_flow_completion_without_a_size_runs_at_the_working_size(image):
    pipe = make_pipeline(flow_completion=make_flow_completion())
    assert pipe.predict_flow(image, STROKES, height=80, width=96).shape == (1, 2, 20, 24)
    same = make_pipeline(flow_completion=make_flow_completion(sample_size=8))
    arguments = {"height": 32, "width": 40}
    expected = pipe.predict_flow(image, STROKES, **arguments)
    assert torch.equal(same.predict_flow(image, STROKES, **arguments), expected)
