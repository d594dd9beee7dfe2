"""Reading autoencoders of the classes that can be trained."""

import torch
from diffusers import AutoencoderDC, AutoencoderKL


def vae_class(config: str) -> type[AutoencoderDC] | type[AutoencoderKL]:
    """The class of autoencoder in a config.

    Args:
        config (`str`): a config file, or the folder of a model.

    Raises:
        ValueError: if training does not support the class.
    """
    classes = {"AutoencoderDC": AutoencoderDC, "AutoencoderKL": AutoencoderKL}
    name = AutoencoderKL.load_config(config).get("_class_name")
    if name not in classes:
        raise ValueError(f"{config} names the class {name}; give an autoencoder of class {' or '.join(classes)}.")
    return classes[name]


def load_vae(folder: str, device: torch.device | str) -> AutoencoderDC | AutoencoderKL:
    """A trained autoencoder from its folder, frozen."""
    vae = vae_class(folder).from_pretrained(folder)
    return vae.to(device, memory_format=torch.channels_last).requires_grad_(False).eval()
