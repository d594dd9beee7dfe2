# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Layers on a small picture of colored squares, 32 x 48 pixels of 4 x 4 a cell."""

import pytest
import torch

from mcdiff_pipeline import Region
from mcdiff_pipeline.layers import LayerMotion, Layers, extend_flow, filled_cells
from mcdiff_pipeline.similarity import fit_similarity, identity_similarity


HEIGHT, WIDTH, CELL = 32, 48, 4
RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def square(top, left, side=8):
    """A mask of a square."""
    mask = torch.zeros(HEIGHT, WIDTH)
    mask[top : top + side, left : left + side] = 1
    return mask


def picture(*squares):
    """A gradient with squares of one color on it, `[1, 3, H, W]`."""
    image = torch.linspace(0.2, 0.8, WIDTH).expand(3, HEIGHT, WIDTH).clone()
    for mask, color in squares:
        image[:, mask > 0] = torch.tensor(color)[:, None]
    return image[None]


def layers_of(*regions, accumulated=None):
    flow = torch.zeros(1, 2, HEIGHT // CELL, WIDTH // CELL) if accumulated is None else accumulated
    return Layers.begin([regions], [(HEIGHT, WIDTH)], (HEIGHT, WIDTH), flow)


def moving(layers, **pixels):
    """A motion in which layer k moves by `layer_k=(right, down)` pixels."""
    flow = torch.zeros_like(layers.accumulated_flow)
    similarities = identity_similarity(*layers.shares.shape[:2])
    for name, displacement in pixels.items():
        layer = int(name.removeprefix("layer_"))
        flow[:, layer] = torch.tensor(displacement)[:, None, None] / CELL
        similarities[:, layer] = fit_similarity([(0, 0)], [displacement], [False])
    return LayerMotion(flow, similarities)


RED_SQUARE = square(8, 8)
IMAGE = picture((RED_SQUARE, RED))


# Carrying the picture


@pytest.mark.parametrize("rigid", [False, True])
def test_region_moves_whole_and_uncovers_the_scene_behind_it(rigid):
    layers = layers_of(Region(RED_SQUARE, rigid=rigid))
    carried = layers.advance(moving(layers, layer_1=(16.0, 8.0))).carry(IMAGE)
    expected = picture((square(16, 24), RED))
    assert (carried - expected).abs()[:, :, square(16, 24) > 0].max() < 0.01
    outside = (square(16, 24, 8) == 0) & (square(6, 6, 12) == 0)
    assert (carried - expected).abs()[:, :, outside].max() < 0.02
    # what is uncovered is gray, like the gradient behind it, and nothing of the red remains
    uncovered = carried[0][:, RED_SQUARE > 0]
    assert (uncovered.amax(dim=0) - uncovered.amin(dim=0)).max() < 0.02
    assert (uncovered - expected[0][:, RED_SQUARE > 0]).abs().max() < 0.1


def test_without_motion_the_picture_is_untouched():
    layers = layers_of(Region(RED_SQUARE))
    assert torch.equal(layers.carry(IMAGE), IMAGE)
    assert (layers.advance(moving(layers, layer_1=(1e-7, 0.0))).carry(IMAGE) - IMAGE).abs().max() < 1e-5


def test_soft_outline_keeps_its_share_of_the_scene():
    soft = torch.nn.functional.avg_pool2d(RED_SQUARE[None, None], 3, stride=1, padding=1)[0, 0]
    image = soft * torch.tensor(RED)[:, None, None] + (1 - soft) * torch.full((3, HEIGHT, WIDTH), 0.5)
    layers = layers_of(Region(soft))
    assert (layers.advance(moving(layers, layer_1=(1e-7, 0.0))).carry(image[None]) - image).abs().max() < 0.02
    carried = layers.advance(moving(layers, layer_1=(16.0, 0.0))).carry(image[None])[0]
    expected = image.roll(16, dims=2)
    assert (carried - expected).abs()[:, :, 20:].max() < 0.05


def test_point_follows_its_own_layer_while_another_one_hides_it():
    behind, front = square(8, 4), square(4, 20, 16)
    image = picture((behind, RED), (front, BLUE))
    layers = layers_of(Region(behind), Region(front, order=1))
    for _ in range(4):  # by 8 pixels each: under the blue square and out on its other side
        layers = layers.advance(moving(layers, layer_1=(8.0, 0.0)))
    carried = layers.carry(image)[0]
    assert carried[:, 10, 38].tolist() == pytest.approx(RED, abs=0.02)
    assert carried[:, 10, 25].tolist() == pytest.approx(BLUE, abs=0.02)


def test_carrying_works_at_another_size():
    layers = layers_of(Region(RED_SQUARE, rigid=True))
    layers = layers.advance(moving(layers, layer_1=(16.0, 8.0)))
    large = torch.nn.functional.interpolate(IMAGE, scale_factor=2)
    carried = torch.nn.functional.avg_pool2d(layers.carry(large), 2)
    assert (carried - layers.carry(IMAGE)).abs().mean() < 0.02


def test_rigid_layer_turns_exactly():
    mask = square(8, 8, 12)
    layers = layers_of(Region(mask, rigid=True))
    quarter = fit_similarity([(14, 14), (20, 14)], [(14, 14), (14, 20)], [True, False])
    motion = moving(layers)
    motion.similarities[0, 1] = quarter
    for _ in range(4):
        layers = layers.advance(motion)
    assert layers.forward_flow((HEIGHT, WIDTH))[0, 1].abs().max() < 1e-4  # four quarter turns
    once = layers_of(Region(mask, rigid=True)).advance(motion).forward_flow((HEIGHT, WIDTH))[0, 1]
    assert once[:, 8, 8].tolist() == pytest.approx([11, 0], abs=1e-4)  # (8.5, 8.5) goes to (19.5, 8.5)


def test_thing_that_leaves_the_picture_is_gone():
    layers = layers_of(Region(RED_SQUARE, rigid=True))
    layers = layers.advance(moving(layers, layer_1=(-40.0, 0.0)))
    assert layers.visible[0, 1].max() == 0
    carried = layers.carry(IMAGE)[0]
    assert (carried[0] - carried[1]).abs().max() < 0.02


# Latents


def test_latents_move_with_their_layers_and_leave_a_clean_hole():
    mask = square(8, 8)  # two by two cells
    layers = layers_of(Region(mask))
    latents = torch.zeros(1, 3, HEIGHT // CELL, WIDTH // CELL)
    latents[:, :, 2:4, 2:4] = 5
    motion = moving(layers, layer_1=(16.0, 0.0))
    splatted, coverage = layers.splat_latents(latents, motion, layers.advance(motion))
    assert torch.equal(splatted[:, :, 2:4, 6:8], torch.full((1, 3, 2, 2), 5.0))
    assert coverage[0, 0, 2:4, 2:4].max() == 0 and splatted[:, :, 2:4, 2:4].abs().max() == 0
    splatted[:, :, 2:4, 6:8] = 0
    assert splatted.abs().max() < 1e-6  # nothing of the region stays anywhere else
    coverage[0, 0, 2:4, 2:4] = 1
    assert torch.allclose(coverage, torch.ones_like(coverage))


# Order


def order_of(layers):
    return layers.front_to_back[0].tolist()


def test_region_that_moved_more_is_in_front():
    layers = layers_of(Region(square(8, 4)), Region(square(8, 32)))
    assert order_of(layers.advance(moving(layers, layer_1=(8.0, 0.0), layer_2=(-12.0, 0.0)))) == [2, 1, 0]
    assert order_of(layers.advance(moving(layers, layer_1=(12.0, 0.0), layer_2=(-8.0, 0.0)))) == [1, 2, 0]


def test_given_order_wins_over_motion():
    layers = layers_of(Region(square(8, 4), order=-1), Region(square(8, 32), order=2))
    assert order_of(layers.advance(moving(layers, layer_1=(30.0, 0.0)))) == [2, 0, 1]


def test_still_region_is_in_front_of_a_scene_that_moves_and_behind_one_that_stands_still():
    layers = layers_of(Region(square(8, 4)))
    assert order_of(layers.advance(moving(layers, layer_0=(8.0, 0.0)))) == [1, 0]
    assert order_of(layers.advance(moving(layers))) == [0, 1]


# Visible layers and labels


def test_visible_shares_move_with_their_layers():
    layers = layers_of(Region(RED_SQUARE), Region(square(8, 32), order=1))
    assert torch.equal(layers.visible, layers.shares)
    moved = layers.advance(moving(layers, layer_1=(20.0, 0.0)))
    assert moved.visible[0, 1, 10, 30] == pytest.approx(1, abs=0.01)
    assert moved.visible[0, 1, 10, 34] == pytest.approx(0, abs=0.01)  # hidden by the second region
    assert moved.visible[0, :, 10, 10].sum() == pytest.approx(0, abs=0.01)  # uncovered
    assert moved.visible[0, :, 10, 30].sum() == pytest.approx(1, abs=0.01)
    assert moved.visible.sum(dim=1).max() < 1.001


def test_layer_at_a_point():
    layers = layers_of(Region(RED_SQUARE))
    assert layers.layer_at(0, 0, (10.5, 10.5), (99, 99)) == 1
    assert layers.layer_at(0, 0, (30.5, 10.5), (10, 10)) == 0
    moved = layers.advance(moving(layers, layer_1=(16.0, 0.0)))
    assert moved.layer_at(0, 3, (0, 0), (30.5, 10.5)) == 1  # begins now: where things are now
    assert moved.layer_at(0, 0, (10.5, 10.5), (0, 0)) == 1
    assert moved.layer_at(0, 3, (-50, -50), (-50, 90)) == 0  # outside the image


def test_layer_of_a_stroke_is_remembered():
    layers = layers_of(Region(RED_SQUARE))
    motion = moving(layers)
    named = LayerMotion(motion.flow, motion.similarities, ({"2 10.5 10.5": 1},))
    later = layers.advance(named).advance(motion)
    assert later.layer_at(0, 2, (10.5, 10.5), (40, 20)) == 1
    assert layers.layer_at(0, 2, (10.5, 10.5), (40, 20)) == 0


# Regions in the course of a rollout, and batches


def test_regions_given_later_take_over_the_flow_of_their_pixels():
    flow = torch.zeros(1, 2, HEIGHT // CELL, WIDTH // CELL)
    flow[:, 0, 2:4, 2:4] = 3  # the red square has moved by 12 pixels
    for rigid in (False, True):
        layers = layers_of(Region(RED_SQUARE, rigid=rigid), accumulated=flow)
        carried = layers.carry(IMAGE)
        assert carried[0, :, 12, 24].tolist() == pytest.approx(RED, abs=0.02)
        assert layers.forward_flow((HEIGHT, WIDTH))[0, 0].abs().max() < 0.01


def test_images_of_a_batch_have_regions_of_their_own():
    flow = torch.zeros(2, 2, HEIGHT // CELL, WIDTH // CELL)
    regions = [[Region(RED_SQUARE)], [Region(square(8, 4)), Region(square(8, 32), order=1)]]
    layers = Layers.begin(regions, [(HEIGHT, WIDTH)] * 2, (HEIGHT, WIDTH), flow)
    moved = layers.advance(moving(layers, layer_1=(16.0, 0.0), layer_2=(0.0, 8.0)))
    images = torch.cat([IMAGE, picture((square(8, 4), RED), (square(8, 32), BLUE))])
    together = moved.carry(images)
    for index in range(2):
        alone = Layers.begin(regions[index : index + 1], [(HEIGHT, WIDTH)], (HEIGHT, WIDTH), flow[:1])
        alone = alone.advance(moving(alone, **{"layer_1": (16.0, 0.0)} | ({"layer_2": (0.0, 8.0)} if index else {})))
        assert torch.allclose(together[index], alone.carry(images[index : index + 1])[0], atol=1e-5)


def test_no_regions_are_no_layers():
    assert layers_of() is None


# Parts


def test_extended_flow_keeps_what_is_known_and_is_zero_where_nothing_is():
    known = torch.zeros(1, 2, 8, 8)
    known[0, 0, 2:4, 2:4] = 1
    flow = torch.full((1, 2, 2, 8, 8), 9.0)
    flow[0, 0, :, 2:4, 2:4] = 1.5
    extended = extend_flow(flow, known)
    assert torch.allclose(extended[0, 0], torch.full((2, 8, 8), 1.5))
    assert not extended[0, 1].any()


def test_flow_of_a_layer_that_turns_goes_on_turning():
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    turning = 0.1 * torch.stack([8 - rows, columns - 8])
    known = torch.zeros(1, 1, 16, 16)
    known[:, :, 2:12, 2:12] = 1
    flow = torch.where(known[:, :, None] > 0, turning, 9.0)
    extended = extend_flow(flow, known)[0, 0]
    assert torch.equal(extended[:, 2:12, 2:12], turning[:, 2:12, 2:12])
    assert (extended - turning).norm(dim=0).max() < 0.03 * turning.norm(dim=0).max()
    # two cells say little about a turn
    known = torch.zeros(1, 1, 16, 16)
    known[:, :, 8, 8:10] = 1
    far = extend_flow(turning[None, None], known)[0, 0, :, 0, 0]
    assert far.norm() < 0.3


def test_cells_that_a_layer_shares_with_others_do_not_tell_its_flow():
    shares = torch.tensor([[0.0, 0.5, 0.95, 1.0], [0.2, 0.4, 0.1, 0.0]])[None, :, None]
    filled = filled_cells(torch.cat([shares, torch.zeros(1, 1, 1, 4)], dim=1))
    torch.testing.assert_close(filled[0, 0, 0], torch.tensor([0, 0, 0.5, 1]))
    assert filled[0, 1, 0].tolist() == [0, 1, 0, 0]  # it fills no cell, so that with its largest share counts
    assert not filled[0, 2].any()


# Carrying features


def test_features_of_a_region_move_with_it_and_do_not_stay_behind():
    layers = layers_of(Region(RED_SQUARE))
    features = torch.zeros(1, 2, HEIGHT // CELL, WIDTH // CELL)
    features[:, 0] = 1
    features[:, :, 2:4, 2:4] = torch.tensor([0.0, 1.0])[:, None, None]  # the red square
    assert layers.carry_features(features) is features
    carried = layers.advance(moving(layers, layer_1=(16.0, 8.0))).carry_features(features.half())
    expected = torch.zeros_like(features)
    expected[:, 0] = 1
    expected[:, :, 4:6, 6:8] = torch.tensor([0.0, 1.0])[:, None, None]
    torch.testing.assert_close(carried, expected, rtol=0, atol=1e-3)
