# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What G is given in addition to the noise, and the difference that it denoises."""

import re
from dataclasses import replace

import pytest
import torch

from mcdiff_pipeline.conditioning import CONDITIONS, FrameConditioner
from mcdiff_pipeline.flow import splat_image, splat_latents
from mcdiff_pipeline.latent_codec import encode_images
from mcdiff_pipeline.layers import LayerMotion, Layers
from mcdiff_pipeline.regions import Region
from mcdiff_pipeline.rollout import Motion, RolloutState
from mcdiff_pipeline.similarity import identity_similarity
from support.pipeline_runs import seeded
from support.tiny_models import FULL_CONDITIONING, make_vae


def make_conditioner(*names, **settings) -> FrameConditioner:
    return FrameConditioner(names, latent_channels=4, vae_scale_factor=4, **settings)


def latent_grid() -> torch.Tensor:
    return torch.randn(1, 4, 6, 8, generator=seeded())


def flow_of(u: float, v: float) -> torch.Tensor:
    """The same displacement in all cells."""
    return torch.tensor([u, v]).float().view(1, 2, 1, 1).repeat(1, 1, 6, 8)


def make_state(latents=None, **fields) -> RolloutState:
    latents = latent_grid() if latents is None else latents
    fields = {"start_latents": latents, "accumulated_flow": flow_of(0, 0)} | fields
    return RolloutState(frame=0, latents=latents, **fields)


def condition(name: str, state: RolloutState, motion: Motion, **settings) -> torch.Tensor:
    return make_conditioner(name, **settings).build(state, motion).tensor


# One condition


def test_previous_frame_is_the_latent_of_the_current_frame():
    state = make_state(start_latents=latent_grid() + 1)
    assert torch.equal(condition("previous_frame", state, Motion()), state.latents)


def test_dense_flow_is_in_units_of_the_flow_scale():
    flow = torch.randn(1, 2, 6, 8, generator=seeded()) * 5
    torch.testing.assert_close(condition("dense_flow", make_state(), Motion(flow), flow_scale=5.0), flow / 5)


def test_splatted_frame_moves_by_whole_cells_and_leaves_a_hole():
    state = make_state()
    conditions = make_conditioner("splatted_frame", "hole_mask").build(state, Motion(flow_of(0, 2)))
    splatted, hole = conditions.tensor.split([4, 1], 1)
    torch.testing.assert_close(splatted[:, :, 2:], state.latents[:, :, :-2])
    assert (splatted[:, :, :2] == 0).all()
    assert (hole[:, :, :2] == 1).all() and (hole[:, :, 2:] == 0).all()


def test_cell_that_moves_more_is_in_front():
    state, flow = make_state(), flow_of(0, 0)
    flow[0, 0, 3, 2] = 2  # lands on the cell two to the right, which stays
    splatted = condition("splatted_frame", state, Motion(flow))[0, :, 3, 4]
    mover, stayer = state.latents[0, :, 3, 2], state.latents[0, :, 3, 4]
    assert (splatted - mover).norm() < 0.3 * (splatted - stayer).norm()


def test_start_picture_is_splatted_as_an_image_before_it_is_encoded():
    vae, image = make_vae(), torch.rand(1, 3, 24, 32, generator=seeded())
    state = make_state(start_image=image, accumulated_flow=flow_of(1, 0))
    with torch.no_grad():
        found = make_conditioner("start_picture").build(state, Motion(flow_of(0, 0.5)), vae).tensor
        moved = splat_image(image, torch.tensor([4.0, 2.0]).view(1, 2, 1, 1).repeat(1, 1, 24, 32), 4)
        torch.testing.assert_close(moved[..., 2:, 4:], image[..., :-2, :-4])
        torch.testing.assert_close(found, encode_images(vae, moved), rtol=1e-4, atol=1e-4)


def test_start_coverage_is_what_the_start_picture_shows_of_the_start_frame():
    state = make_state(start_image=torch.rand(1, 3, 24, 32, generator=seeded()), accumulated_flow=flow_of(1, 0))
    found = make_conditioner("start_coverage").build(state, Motion(flow_of(0, 1.5)))
    assert (found.tensor[:, :, 2:, 1:] == 1).all()
    assert (found.tensor[:, :, 0] == 0).all() and (found.tensor[..., 0] == 0).all()
    torch.testing.assert_close(found.tensor[0, 0, 1, 1:], torch.full((7,), 0.5))
    assert torch.equal(found.coverage, found.tensor)


def test_sparse_flow_distinguishes_a_held_cell_from_a_free_cell():
    displacement, mask = torch.zeros(1, 2, 3, 3), torch.zeros(1, 1, 3, 3, dtype=torch.bool)
    displacement[0, :, 0, 1] = torch.tensor([3.0, -2.0])
    mask[0, 0, 0, 1] = mask[0, 0, 2, 2] = True  # one cell moves, one is held, seven are free
    state = make_state(torch.zeros(1, 4, 3, 3))
    found = condition("sparse_flow", state, Motion(None, displacement, mask), flow_scale=2.0)
    expected = torch.zeros(1, 3, 3, 3)
    expected[0, :, 0, 1] = torch.tensor([1.5, -1.0, 1.0])
    expected[0, :, 2, 2] = torch.tensor([0.0, 0.0, 1.0])
    assert torch.equal(found, expected)


# All conditions


def test_conditions_are_concatenated_in_the_order_of_their_names():
    names = ("hole_mask", "dense_flow", "previous_frame", "splatted_frame")
    state = make_state(start_latents=latent_grid() + 1, accumulated_flow=flow_of(-1, 0))
    motion = Motion(torch.randn(1, 2, 6, 8, generator=seeded()))
    expected = torch.cat([condition(name, state, motion) for name in names], dim=1)
    assert torch.equal(make_conditioner(*names).build(state, motion).tensor, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_conditions_have_the_dtype_of_the_latents(dtype):
    conditioner = make_conditioner(*FULL_CONDITIONING)
    motion = Motion(torch.randn(1, 2, 6, 8, generator=seeded()))
    found = conditioner.build(make_state(latent_grid().to(dtype)), motion)
    assert found.tensor.dtype == dtype
    assert found.tensor.shape == (1, conditioner.channels, 6, 8)


def test_conditions_pass_gradients_to_the_flow():
    # end-to-end training needs this
    flow = torch.randn(1, 2, 6, 8, generator=seeded()).requires_grad_()
    conditions = make_conditioner("dense_flow", "splatted_frame").build(make_state(), Motion(flow))
    conditions.tensor.square().sum().backward()
    assert flow.grad.isfinite().all() and flow.grad.abs().max() > 0


@pytest.mark.parametrize("names", [("start_coverage",), FULL_CONDITIONING, ("previous_frame", "dense_flow")])
def test_accumulated_flow_is_chained_only_if_a_condition_needs_it(names):
    image = torch.rand(1, 3, 24, 32, generator=seeded()) if "start_coverage" in names else None
    state = make_state(accumulated_flow=flow_of(1, 0), start_image=image)
    found = make_conditioner(*names).build(state, Motion(flow_of(0, 2))).accumulated_flow
    if "start_coverage" in names:
        torch.testing.assert_close(found, flow_of(1, 2))
    else:
        assert found is None


def test_state_and_motion_are_not_changed():
    state, motion = make_state(), Motion(flow_of(1, 0))
    before = [tensor.clone() for tensor in (state.latents, state.accumulated_flow, motion.dense_flow)]
    make_conditioner(*FULL_CONDITIONING).build(state, motion)
    for tensor, expected in zip((state.latents, state.accumulated_flow, motion.dense_flow), before, strict=True):
        assert torch.equal(tensor, expected)


@pytest.mark.parametrize(
    "name, channels, needs",
    [
        ("previous_frame", 4, ()),
        ("dense_flow", 2, ("dense_flow",)),
        ("splatted_frame", 4, ("dense_flow",)),
        ("hole_mask", 1, ("dense_flow",)),
        ("start_picture", 4, ("dense_flow", "accumulated_flow", "start_image")),
        ("start_coverage", 1, ("dense_flow", "accumulated_flow", "start_image")),
        ("sparse_flow", 3, ("sparse_flow",)),
    ],
)
def test_conditioner_states_channels_and_needs_of_each_condition(name, channels, needs):
    conditioner = make_conditioner(name)
    assert (conditioner.channels, conditioner.in_channels) == (channels, 4 + channels)
    found = [
        source
        for source in ("dense_flow", "sparse_flow", "accumulated_flow", "start_image")
        if getattr(conditioner, f"needs_{source}")
    ]
    assert sorted(found) == sorted(needs)
    assert conditioner.dense_flow_conditions == ([name] if "dense_flow" in needs else [])


def test_channels_of_all_conditions_add_up():
    conditioner = FrameConditioner(list(CONDITIONS), latent_channels=3, vae_scale_factor=8)
    assert conditioner.channels == 3 * 3 + 2 + 1 + 1 + 3
    assert conditioner.in_channels == 3 + conditioner.channels


@pytest.mark.parametrize("names", [("previous_frame", "depth"), ("dense_flow", "dense_flow"), ()])
def test_unknown_repeated_or_missing_names_are_refused(names):
    message = re.escape(f"`conditioning` is {list(names)}, but") + r".* each once, out of \['previous_frame', "
    with pytest.raises(ValueError, match=message):
        make_conditioner(*names)


def test_removed_condition_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"names \['start_frame'\].* no longer exists: .*widen_unet.py"):
        make_conditioner("previous_frame", "start_frame")


# With layers


def test_where_something_is_uncovered_no_condition_shows_what_has_left():
    """The two columns of cells on the left move right by two cells."""
    mask = torch.zeros(24, 32)
    mask[:, :8] = 1
    layers = Layers.begin([[Region(mask)]], [(24, 32)], (24, 32), flow_of(0, 0))
    moved = torch.zeros(1, 2, 2, 6, 8)
    moved[:, 1, 0] = 2
    flow = torch.cat([moved[:, 1, :, :, :2], moved[:, 0, :, :, 2:]], dim=-1)
    motion = Motion(flow, layers=LayerMotion(moved, identity_similarity(1, 2)))
    state = make_state(start_image=torch.rand(1, 3, 24, 32, generator=seeded()), layers=layers)
    conditioner = make_conditioner("previous_frame", "splatted_frame", "hole_mask", "start_picture")
    found = conditioner.build(state, motion, make_vae())
    previous, splatted, hole, start = found.tensor.split([4, 4, 1, 4], dim=1)
    uncovered = (slice(None), slice(None), slice(None), slice(0, 2))
    assert torch.equal(previous[uncovered], start[uncovered])
    assert torch.equal(splatted[uncovered], start[uncovered])
    assert not hole[uncovered].any()
    assert torch.equal(previous[..., 2:], state.latents[..., 2:])
    expected, _ = layers.splat_latents(state.latents, motion.layers, layers.advance(motion.layers))
    assert torch.equal(splatted[..., 2:], expected[..., 2:])
    assert (found.coverage[uncovered] == 0).all() and (found.coverage[..., 2:] == 1).all()
    assert found.seen is None  # G does not denoise the difference from the start picture


# The difference that G denoises


def test_base_is_the_condition_that_the_difference_is_from():
    state, motion = make_state(), Motion(flow_of(0, 2))
    names = ("dense_flow", "splatted_frame", "previous_frame")
    assert make_conditioner(*names).build(state, motion).base is None
    found = make_conditioner(*names, residual_condition="splatted_frame").build(state, motion).base
    assert torch.equal(found, splat_latents(state.latents, motion.dense_flow)[0])
    found = make_conditioner(*names, residual_condition="previous_frame").build(state, motion).base
    assert torch.equal(found, state.latents)


def test_difference_is_multiplied_by_the_scale_and_can_be_undone():
    conditioner = make_conditioner("previous_frame", residual_condition="previous_frame", residual_scale=2.5)
    latents, base = latent_grid() + 1, latent_grid()
    difference = conditioner.to_difference(latents, base)
    torch.testing.assert_close(difference, torch.full_like(latents, 2.5))
    torch.testing.assert_close(conditioner.from_difference(difference, base), latents)


def test_without_a_base_the_frame_itself_is_denoised():
    conditioner = make_conditioner("previous_frame", residual_scale=2.5)
    latents = latent_grid()
    assert conditioner.to_difference(latents, None) is latents
    assert conditioner.from_difference(latents, None) is latents


@pytest.mark.parametrize("scale", [0, -1.0, float("nan")])
def test_scale_that_is_not_positive_is_refused(scale):
    with pytest.raises(ValueError, match=r"`residual_scale` is .*, but it has to be above 0"):
        make_conditioner("previous_frame", residual_scale=scale)


@pytest.mark.parametrize("name", ["dense_flow", "hole_mask", "start_picture", "next_frame"])
def test_difference_from_anything_but_a_given_latent_is_refused(name):
    message = rf"`residual_condition` is '{name}', but .* one of \['previous_frame', 'splat"
    with pytest.raises(ValueError, match=message):
        make_conditioner(*FULL_CONDITIONING, residual_condition=name)


# Motion


def test_still_motion_specifies_nothing_and_moves_nothing():
    motion = Motion(flow_of(1, 2), flow_of(3, 4), torch.ones(1, 1, 6, 8, dtype=torch.bool))
    still = motion.still()
    for part, expected in ((still.dense_flow, motion.dense_flow), (still.mask, motion.mask)):
        assert part.shape == expected.shape and part.dtype == expected.dtype and not part.any()
    assert replace(motion, sparse_flow=None, mask=None).still().mask is None
