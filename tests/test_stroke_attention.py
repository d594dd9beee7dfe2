# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""F with semantic features: cells follow the strokes on what is alike."""

import math

import pytest
import torch

from mcdiff_pipeline import FlowCompletionUNet
from mcdiff_pipeline.flow_completion_unet import ATTENTION_STROKES, StrokeAttention
from mcdiff_pipeline.semantic_features import carry_features
from support.tiny_models import make_flow_completion


HEIGHT, WIDTH = 8, 12
LEFT = (..., slice(0, WIDTH // 2))
RIGHT = (..., slice(WIDTH // 2, WIDTH))


def two_things(batch_size=1):
    """Features of two things, the left and the right half of the frame."""
    features = torch.zeros(batch_size, 6, HEIGHT, WIDTH)
    features[:, 0][LEFT] = 3
    features[:, 1][RIGHT] = 3
    return features


def strokes(*cells, batch_size=1):
    """Sparse flow in pixels and its mask, from (row, column, right, down)."""
    sparse_flow = torch.zeros(batch_size, 2, HEIGHT, WIDTH)
    mask = torch.zeros(batch_size, 1, HEIGHT, WIDTH, dtype=torch.bool)
    for row, column, *displacement in cells:
        sparse_flow[:, :, row, column] = torch.tensor(displacement, dtype=torch.float32)
        mask[:, :, row, column] = True
    return sparse_flow, mask


def inputs(batch_size=2, **changes):
    sparse_flow, mask = strokes((2, 3, 8.0, -4.0), (5, 9, 0.0, 0.0), (6, 1, -4.0, 2.0), batch_size=batch_size)
    sample = torch.randn(batch_size, 4, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    return {"sample": sample, "sparse_flow": sparse_flow, "mask": mask, "features": two_things(batch_size)} | changes


def make_model(**config):
    return make_flow_completion(feature_channels=6, **config)


@torch.no_grad()
def complete(model, inputs):
    return model(**inputs).dense_flow


@torch.no_grad()
def attend(features, *cells, **scalars):
    """The channels and the two flows of fresh `StrokeAttention`."""
    attention = StrokeAttention(features.shape[1])
    for name, value in scalars.items():
        getattr(attention, name).fill_(value)
    channels, flows, _ = attention(features, *strokes(*cells), hold=0.1)
    return channels[0], flows[0]


def test_cells_follow_the_strokes_on_the_same_thing():
    _, (average, fit) = attend(two_things(), (4, 2, 3.0, 1.0), (4, 9, -2.0, 0.0))
    for flow in (average, fit):
        torch.testing.assert_close(
            flow[LEFT], torch.tensor([3.0, 1.0])[:, None, None].expand(-1, 8, 6), atol=0.02, rtol=0
        )
        torch.testing.assert_close(
            flow[RIGHT], torch.tensor([-2.0, 0])[:, None, None].expand(-1, 8, 6), atol=0.02, rtol=0
        )


def test_what_resembles_no_stroke_stays():
    _, (average, _) = attend(two_things(), (4, 2, 3.0, 1.0))
    assert average[LEFT].norm(dim=0).min() > 3
    assert average[RIGHT].norm(dim=0).max() < 0.6  # cosine 0 against the threshold of 0.2


def test_the_nearer_of_two_things_of_a_kind_follows_more():
    features = torch.ones(1, 6, HEIGHT, WIDTH)
    _, (average, _) = attend(features, (4, 0, 3.0, 0.0), (4, 11, 0.0, 0.0), log_locality=math.log(20))
    assert average[0, 4, 1] > 2.9 and average[0, 4, 10] < 0.1


def test_fit_turns_with_three_strokes():
    angle = math.radians(6)
    turn = torch.tensor([[math.cos(angle) - 1, -math.sin(angle)], [math.sin(angle), math.cos(angle) - 1]])
    rows, columns = torch.meshgrid(torch.arange(HEIGHT) - 3.5, torch.arange(WIDTH) - 5.5, indexing="ij")
    expected = torch.einsum("ij,jhw->ihw", turn, torch.stack([columns, rows]))
    cells = [(row, column, *expected[:, row, column].tolist()) for row, column in ((1, 1), (6, 3), (3, 10))]
    _, (average, fit) = attend(torch.ones(1, 6, HEIGHT, WIDTH), *cells, log_locality=-10.0)
    assert (fit - expected).norm(dim=0).max() < 0.08 * expected.norm(dim=0).max()
    assert (average - expected).norm(dim=0).max() > 0.5 * expected.norm(dim=0).max()


def test_a_hold_on_another_thing_does_not_bend_the_fit():
    _, (_, fit) = attend(two_things(), (4, 2, 3.0, 1.0), (0, 11, 0.0, 0.0), (7, 11, 0.0, 0.0))
    torch.testing.assert_close(fit[LEFT], torch.tensor([3.0, 1.0])[:, None, None].expand(-1, 8, 6), atol=0.05, rtol=0)


def test_no_strokes_give_no_flow():
    channels, flows = attend(two_things())
    assert channels.isfinite().all() and flows.abs().max() == 0


def test_more_strokes_than_attention_takes():
    every = [(row, column, 2.0, 0.0) for row in range(HEIGHT) for column in range(WIDTH)]
    assert len(every) > ATTENTION_STROKES
    _, (average, fit) = attend(torch.ones(1, 6, HEIGHT, WIDTH), *every)
    torch.testing.assert_close(fit[0], torch.full((HEIGHT, WIDTH), 2.0), atol=1e-3, rtol=0)
    assert average[0].min() > 1.9


def test_features_on_any_grid_change_the_flow():
    model = make_model()
    before = complete(model, inputs(features=None))
    for size in ((HEIGHT, WIDTH), (4, 6), (16, 24)):
        resized = torch.nn.functional.interpolate(two_things(2), size)
        assert (complete(model, inputs(features=resized)) - before).abs().max() > 1e-2, size


def test_features_of_zeros_equal_no_features():
    model, given = make_model(), inputs()
    given["features"][0] = 0
    found, without = complete(model, given), complete(model, inputs(features=None))
    torch.testing.assert_close(found[:1], without[:1])
    assert (found[1:] - without[1:]).abs().max() > 1e-2


def test_reduced_features_give_the_same_flow():
    model, given = make_model(), inputs()
    torch.nn.init.normal_(model.conv_attention_gate.weight)
    generator = torch.Generator().manual_seed(1)
    model.set_feature_basis(torch.randn(6, generator=generator), torch.randn(6, 6, generator=generator))
    given["features"][1] = 0  # the second sample has none
    reduced = model.reduce_features(given["features"])
    assert reduced.shape == (2, 7, HEIGHT, WIDTH) and reduced[0, -1].min() == 1 and not reduced[1].any()
    assert torch.equal(model.reduce_features(reduced), reduced)
    assert torch.equal(complete(model, given | {"features": reduced}), complete(model, given))


def test_features_can_be_reduced_before_they_are_carried():
    model = make_model()
    generator = torch.Generator().manual_seed(1)
    model.set_feature_basis(torch.randn(6, generator=generator), torch.randn(6, 6, generator=generator))
    features = torch.randn(1, 6, HEIGHT, WIDTH, generator=generator)
    flow = 2 * torch.randn(1, 2, HEIGHT, WIDTH, generator=generator)
    found = carry_features(model.reduce_features(features), flow)
    expected = model.reduce_features(carry_features(features, flow))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_open_gates_give_the_flow_of_the_strokes_in_pixels():
    model = make_model(separate_foreground=True, flow_scale=2.0)
    with torch.no_grad():
        model.conv_attention_gate.bias.copy_(torch.tensor([-30.0, 30.0]))
    sparse_flow, mask = strokes((4, 2, 8.0, -4.0), (4, 9, 0.0, 0.0))
    found = complete(model, inputs(1, sparse_flow=sparse_flow, mask=mask))
    torch.testing.assert_close(
        found[0][LEFT], torch.tensor([8.0, -4.0])[:, None, None].expand(-1, 8, 6), atol=0.1, rtol=0
    )


def test_basis_is_whitened_and_saved(tmp_path):
    model = make_model()
    mean, projection = torch.arange(6.0), torch.eye(6).flip(0) / 2
    model.set_feature_basis(mean, projection)
    model.save_pretrained(tmp_path)
    loaded = FlowCompletionUNet.from_pretrained(tmp_path)
    assert loaded.config.feature_channels == 6
    torch.testing.assert_close(complete(loaded, inputs()), complete(model, inputs()))
    shifted = two_things() + mean[:, None, None]
    channels, _, _ = loaded.stroke_attention(shifted, *strokes((4, 2, 1.0, 1.0)), hold=0.1)
    torch.testing.assert_close(channels[0, :6], (two_things()[0] / 2).flip(0))


def test_every_parameter_has_gradients():
    model = make_model().train()
    with torch.no_grad():
        model.stroke_attention.metric.add_(0.1 * torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))
    given = inputs()
    given["features"] = given["features"] + 0.5 * torch.randn(2, 6, HEIGHT, WIDTH)
    model(**given).dense_flow.square().mean().backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.abs().max() > 0] == []


def test_it_compiles_without_graph_breaks_and_keeps_dtypes(fresh_compiler):
    model, given = make_model(), inputs()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(complete(compiled, given), complete(model, given))
    with torch.autocast("cpu", torch.bfloat16):
        assert complete(model, given).dtype == torch.bfloat16
    half = make_model().to(torch.bfloat16)
    assert complete(half, given | {"sample": given["sample"].bfloat16()}).dtype == torch.bfloat16


def test_regions_and_features_are_added_in_either_order():
    model = make_flow_completion()
    one = FlowCompletionUNet.widened(model, feature_channels=6)
    with torch.no_grad():
        one.conv_in.weight[:, -one.stroke_attention.num_channels :] = 0.1  # as if trained
    both = FlowCompletionUNet.widened(one, reads_regions=True, fits_regions=True)
    for given in (inputs(), inputs(features=None)):
        torch.testing.assert_close(complete(both, given), complete(one, given), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        complete(one, inputs(features=None)), complete(model, inputs(features=None) | {"features": None})
    )
    with pytest.raises(
        ValueError, match="`feature_channels` is 7, but the model was made with 6: .*leave the argument out"
    ):
        FlowCompletionUNet.widened(one, feature_channels=7)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="this model does not read them .*leave them out, or widen"):
        complete(make_flow_completion(), inputs())
    with pytest.raises(ValueError, match=r"`features` has the shape \(2, 5, 8, 12\), but \(2, 6, height, width\)"):
        complete(make_model(), inputs(features=torch.zeros(2, 5, HEIGHT, WIDTH)))
    with pytest.raises(ValueError, match="reads no semantic features .*widen the model"):
        make_flow_completion().set_feature_basis(torch.zeros(6), torch.eye(6))
    with pytest.raises(ValueError, match=r"shapes \(5,\) and \(6, 6\), but this model needs \(6,\) and \(6, 6\)"):
        make_model().set_feature_basis(torch.zeros(5), torch.eye(6))
