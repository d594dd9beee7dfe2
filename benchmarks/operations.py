"""Parameters and floating-point operations of the networks, for models of several sizes. Nothing is computed.

    python benchmarks/operations.py

A multiplication with an addition counts as two operations. Networks are built without weights, on the device `meta`,
so this takes seconds on any machine. docs/scale.md makes costs of it.
"""

import torch
from random_pipelines import make_random_pipeline
from torch.utils.flop_counter import FlopCounterMode

from mcdiff_pipeline import MCDiffPipeline


SIZES = (("small-128", 128, False), ("ldm4-256", 256, False), ("sd15-512", 512, False), ("sd15-512", 512, True))
TEXT_TOKENS = 77


@torch.no_grad()
def operations(pipe: MCDiffPipeline, pixels: int) -> dict[str, float]:
    """Operations of one call of each network, for one image."""
    grid = pixels // pipe.vae_scale_factor
    options = {"device": "meta", "dtype": pipe.unet.dtype}
    latents = torch.empty(1, pipe.latent_channels, grid, grid, **options)
    text = torch.empty(1, TEXT_TOKENS, pipe.unet.config.cross_attention_dim, **options)
    calls = {
        "F": lambda: pipe.flow_completion(latents, latents[:, :2], latents[:, :1] > 0),
        "unet": lambda: pipe.unet(
            torch.empty(1, pipe.unet.config.in_channels, grid, grid, **options), torch.empty((), device="meta"), text
        ),
        "encode": lambda: pipe.vae.encode(torch.empty(1, 3, pixels, pixels, **options)),
        "decode": lambda: pipe.vae.decode(latents),
    }
    found = {}
    for name, call in calls.items():
        with FlopCounterMode(display=False) as counter:
            call()
        found[name] = float(counter.get_total_flops())
    return found


def main() -> None:
    names = ("F", "unet", "encode", "decode")
    print(f"{'':<16}{'parameters in millions':^36}{'GFLOP of one call':^36}")
    print(f"{'':<16}" + 2 * "".join(f"{name:>9}" for name in names))
    for config, pixels, has_tiny_autoencoder in SIZES:
        pipe = make_random_pipeline(config, pixels, device="meta", has_tiny_autoencoder=has_tiny_autoencoder)
        parts = (pipe.flow_completion, pipe.unet, pipe.vae.encoder, pipe.vae.decoder)
        millions = [sum(one.numel() for one in part.parameters()) / 1e6 for part in parts]
        giga = [value / 1e9 for value in operations(pipe, pixels).values()]
        title = config + (", tiny" if has_tiny_autoencoder else "")
        print(f"{title:<16}" + "".join(f"{value:>9.1f}" for value in [*millions, *giga]))


if __name__ == "__main__":
    main()
