"""The model sizes in `training/configs/`, built on the `meta` device, where even large models need no memory."""

import re

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from loop.autoencoder import vae_class
from mcdiff_pipeline import FlowCompletionUNet
from mcdiff_pipeline.conditioning import FrameConditioner
from mcdiff_pipeline.latent_codec import vae_scale_factor
from support.training_runs import TRAINING


CONFIGS = TRAINING / "configs"
SPLAT = ("previous_frame", "dense_flow", "splatted_frame", "hole_mask")
# The conditions of the unet, and the side of the images in pixels.
SIZES = {
    "small-128": ((*SPLAT, "start_picture"), 128),
    "ldm4-256": (("previous_frame", "dense_flow"), 256),
    "sd15-512": (SPLAT, 512),
}


def build(name: str) -> dict[str, torch.nn.Module]:
    classes = {
        "flow_completion": FlowCompletionUNet,
        "unet": UNet2DConditionModel,
        "vae": vae_class(str(CONFIGS / name / "vae.json")),
    }
    with torch.device("meta"):
        return {
            part: model_class.from_config(model_class.load_config(CONFIGS / name / f"{part}.json"))
            for part, model_class in classes.items()
        }


def test_every_folder_of_configs_is_tested():
    assert {folder.name for folder in CONFIGS.iterdir()} == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_models_of_a_size_fit_each_other(name):
    conditioning, resolution = SIZES[name]
    models = build(name)
    vae, cell = models["vae"], vae_scale_factor(models["vae"])
    channels, side = vae.config.latent_channels, resolution // cell

    latent = torch.empty(1, channels, side, side, device="meta")
    assert vae.decode(latent).sample.shape == (1, 3, resolution, resolution)
    assert models["flow_completion"].config.vae_scale_factor == cell
    strokes = torch.empty(1, 2, side, side, device="meta"), torch.ones(1, 1, side, side, device="meta") > 0
    assert models["flow_completion"](latent, *strokes).dense_flow.shape == (1, 2, side, side)

    unet = models["unet"]
    conditioner = FrameConditioner(conditioning, latent_channels=channels, vae_scale_factor=cell)
    assert unet.config.in_channels == conditioner.in_channels
    assert unet.config.sample_size == side
    sample = torch.empty(1, unet.config.in_channels, side, side, device="meta")
    text = torch.empty(1, 77, unet.config.cross_attention_dim, device="meta") if name == "sd15-512" else None
    timestep = torch.zeros(1, dtype=torch.long, device="meta")
    assert unet(sample, timestep, encoder_hidden_states=text).sample.shape == latent.shape


@pytest.mark.parametrize("name", SIZES)
def test_only_v_prediction_starts_at_zero_signal(name):
    scheduler = DDIMScheduler.from_config(DDIMScheduler.load_config(CONFIGS / name / "scheduler.json"))
    starts_at_zero_signal = float(scheduler.alphas_cumprod[-1]) < 1e-6
    assert starts_at_zero_signal == (scheduler.config.prediction_type == "v_prediction")


@pytest.mark.parametrize("name", SIZES)
def test_readme_states_the_number_of_parameters(name):
    (row,) = re.findall(rf"^\| `{name}` \|(.+)$", (TRAINING / "README.md").read_text(), re.MULTILINE)
    millions = [f"{model.num_parameters() / 1e6:.1f}" for model in build(name).values()]
    assert [cell.strip() for cell in row.split("|")][:3] == millions
