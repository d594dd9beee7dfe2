# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Semantic features of images: where they lie, and how they are carried along."""

import torch

from mcdiff_pipeline.semantic_features import MEAN, STD, carry_features, encode_features, feature_grid
from support.pipeline_runs import seeded
from support.tiny_models import make_image_encoder


def test_features_are_the_patch_tokens_of_the_normalized_image():
    encoder, images = make_image_encoder(), torch.rand(2, 3, 224, 224, generator=seeded())
    features = encode_features(encoder, images)
    assert features.shape == (2, 16, 16, 16) and not features.requires_grad
    normalized = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.no_grad():
        tokens = encoder(normalized).last_hidden_state
    torch.testing.assert_close(features[:, :, 2, 5], tokens[:, 1 + 2 * 16 + 5], rtol=0, atol=1e-5)
    assert features[0].std(dim=(1, 2)).min() > 0  # not the same everywhere


def test_grid_has_the_aspect_ratio_of_the_image_and_the_area_of_a_square():
    assert feature_grid((128, 128), 14) == feature_grid((2000, 2000), 14) == (16, 16)
    assert feature_grid((100, 200), 14) == (11, 23)
    assert feature_grid((1, 1000), 14) == (1, 506)
    images = torch.rand(1, 3, 100, 200, generator=seeded())
    assert encode_features(make_image_encoder(), images).shape == (1, 16, 11, 23)


def test_encoder_in_half_precision_gives_about_the_same_features():
    encoder, images = make_image_encoder(), torch.rand(1, 3, 40, 48, generator=seeded())
    expected = encode_features(encoder, images)
    found = encode_features(encoder.half(), images)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)


def test_features_stay_if_nothing_moves():
    features = torch.randn(1, 16, 8, 8, generator=seeded()).half()
    assert carry_features(features, torch.zeros(1, 2, 16, 16)) is features


def test_features_move_along_the_flow_of_the_latent_grid():
    features = torch.randn(1, 16, 8, 8, generator=seeded()).half()
    flow = torch.tensor([6.0, -2.0])[:, None, None].expand(1, 2, 16, 16)  # 3 patches to the right, 1 up
    carried = carry_features(features, flow)
    torch.testing.assert_close(carried[..., :-1, 3:], features[..., 1:, :-3].float(), rtol=0, atol=1e-3)
    assert carried.isfinite().all() and carried[..., 0].abs().max() > 0.1  # the nearest ones, continued


def test_uncovered_place_takes_the_features_of_what_lies_behind():
    features = torch.zeros(1, 2, 8, 8)
    features[:, 0] = 1
    features[:, :, 2:4, 1:3] = torch.tensor([0.0, 1.0])[:, None, None]
    flow = torch.zeros(1, 2, 8, 8)
    flow[:, 0, 2:4, 1:3] = 4
    carried = carry_features(features, flow)
    assert carried[0, 1, 2:4, 5:7].min() > 0.95
    assert carried[0, 1, 2:4, 1:3].max() < 0.05
