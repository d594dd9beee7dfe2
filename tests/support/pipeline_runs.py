"""What tests of the pipeline share: strokes, seeds, calls, and records of what a network is given."""

import torch

from mcdiff_pipeline import MCDiffPipeline, Stroke


# Both lie inside the fixture `image`.
DRAG = Stroke([(10, 10), (34, 26)])
HOLD = Stroke([(40, 30)], kind="hold")
STROKES = [DRAG, HOLD]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latents_of(pipe: MCDiffPipeline, image, strokes=STROKES, **arguments) -> torch.Tensor:
    """Latents of all frames of a call, from the seed 0 unless `arguments` say otherwise: `[B, N, C, h, w]`."""
    arguments = {"generator": seeded(), "output_type": "latent"} | arguments
    return pipe(image, strokes, **arguments).frames


def record_inputs(model: torch.nn.Module) -> list[torch.Tensor]:
    """A list that grows by a copy of the first argument at every call of `model`."""
    calls = []
    model.register_forward_pre_hook(lambda _, arguments: calls.append(arguments[0].clone()))
    return calls
