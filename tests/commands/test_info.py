# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
import shutil

from support.tiny_models import make_feature_pipeline


def test_info_describes_the_model(place, mcdiff, tiny_pipeline):
    code, out, _ = mcdiff("info")
    assert code == 0
    for name in ("vae", "flow_completion", "unet"):
        parameters = sum(parameter.numel() for parameter in getattr(tiny_pipeline, name).parameters())
        assert f"{parameters:,}" in out
    assert "previous_frame, dense_flow, splatted_frame, hole_mask" in out
    assert "32 x 32" in out and "FlowCompletionUNet" in out and "yes" in out


def test_info_says_why_a_model_does_not_load(place, mcdiff, tiny_model_dir):
    shutil.copytree(tiny_model_dir, "broken")
    shutil.rmtree("broken/unet")
    code, out, _ = mcdiff("info", "broken")
    assert code == 1 and "loads         no: " in out


def test_verbose_shows_the_configuration_of_every_component(place, mcdiff):
    make_feature_pipeline().save_pretrained("model")  # its image encoder has a configuration of transformers
    code, out, _ = mcdiff("info", "model", "--verbose")
    assert code == 0
    for name, entry in (("unet", "block_out_channels"), ("image_encoder", "patch_size"), ("scheduler", "beta_end")):
        assert f'"{entry}"' in out.partition(f"\n{name}: ")[2]
