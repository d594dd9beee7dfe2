# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The model card of a Hub repository. An export fills in what is known of every model; its author writes the rest.

A card is Markdown with metadata at its head. An export replaces the text between `<!-- NAME -->` and `<!-- /NAME -->`
for the names in [`fill_model_card`], and keeps all other text.
"""

import re
from typing import Any

import torch
from huggingface_hub import ModelCard

from ..pipeline_mcdiff import MCDiffPipeline


# The name of the repository in a card until it is pushed.
REPOSITORY = "owner/name"

TAGS = ["mcdiff", "image-to-video", "motion-control", "optical-flow"]

# For a model without a card. It states only what is known.
BLANK_CARD = """---
license: other
---

# A model for mcdiff-pipeline

Moves an image along strokes, with the open implementation of MCDiff
([arXiv 2304.14404](https://arxiv.org/abs/2304.14404)).

## Components

<!-- components -->
<!-- /components -->

## Usage

<!-- loading -->
<!-- /loading -->

<!-- example -->
<!-- /example -->

## Training

<!-- training -->
Not stated.
<!-- /training -->

## Intended use, license, limits

Not stated.

## Evaluation

<!-- figures -->
Not measured.
<!-- /figures -->

## Citation

```bibtex
@article{chen2023mcdiff,
  title   = {Motion-Conditioned Diffusion Model for Controllable Video Synthesis},
  author  = {Chen, Tsai-Shien and Lin, Chieh Hubert and Tseng, Hung-Yu and Lin, Tsung-Yi and Yang, Ming-Hsuan},
  journal = {arXiv preprint arXiv:2304.14404},
  year    = {2023}
}
```
"""

LOADING = """There are four ways to load the model with [diffusers](https://github.com/huggingface/diffusers) 0.42.

Points are (x, y) in pixels of the given image: x to the right, y down, (0, 0) at the top left corner. A stroke sheet
is a JSON file that follows [`stroke_sheet.schema.json`](stroke_sheet.schema.json); the pipeline takes its path.

With the package `mcdiff-pipeline`, no code of this repository is run:

```py
from mcdiff_pipeline import MCDiffPipeline, Stroke

pipe = MCDiffPipeline.from_pretrained("{repository}"{variant})
frames = pipe("image.jpg", [Stroke([(206, 238), (160, 230)]), Stroke([(287, 280)], kind="hold")]).frames[0]
```

Without the package, with the copy of its code in this repository. Read that code first: `trust_remote_code` runs it.

```py
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained(
    "{repository}", custom_pipeline="{repository}", trust_remote_code=True{variant}
)
frames = pipe("image.jpg", "strokes.json").frames[0]
```

The same as blocks of Modular Diffusers, which can be exchanged one by one:

```py
from diffusers import ModularPipeline

pipe = ModularPipeline.from_pretrained("{repository}", trust_remote_code=True)
pipe.load_components({components_variant})
frames = pipe(image="image.jpg", strokes="strokes.json", num_frames=4, output="videos")[0]
```

Offline, from a folder that was downloaded before. With the package as above, without it like this:

```py
from diffusers import DiffusionPipeline
from huggingface_hub import snapshot_download

folder = snapshot_download("{repository}")
pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True{variant})
```"""


def fill_model_card(
    card: str,
    pipe: MCDiffPipeline,
    *,
    variant: str | None = None,
    example: str | None = None,
    metrics: dict[str, Any] | None = None,
    training: str | None = None,
) -> str:
    """Fills in a model card.

    Args:
        card (`str`): Markdown with or without metadata.
        pipe (`MCDiffPipeline`): the model; fills the parts `components` and `loading`.
        variant (`str`, *optional*): variant of the weights in the folder, named in `loading`.
        example (`str`, *optional*): name of the example without suffix: image (`.jpg`), stroke sheet (`.json`) and
            video (`.mp4`). Fills `example`; None empties it.
        metrics (`dict[str, Any]`, *optional*): content of an evaluation's `metrics.json`. Fills `figures`; None keeps
            it.
        training (`str`, *optional*): Markdown about the training. Fills `training`; None keeps it.

    Returns:
        `str`: the card, with the metadata by which the Hub recognizes a pipeline.

    Raises:
        ValueError: if the metadata of the card cannot be read, or an evaluation did not write `metrics`.
    """
    parts = {
        "components": _components(pipe),
        "loading": LOADING.format(
            repository=REPOSITORY,
            variant=f', variant="{variant}"' if variant else "",
            components_variant=f'variant="{variant}"' if variant else "",
        ),
        "example": "" if example is None else _example(example),
    }
    measured: list[str] = []
    if metrics is not None:
        parts["figures"], measured = metrics_table(metrics)
    if training is not None:
        parts["training"] = training
    for name, text in parts.items():
        block = f"<!-- {name} -->\n{text}\n<!-- /{name} -->"
        card = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _: block, card, flags=re.DOTALL)

    try:
        filled = ModelCard(card)
    except Exception as error:  # huggingface_hub chooses the YAML parser and its exceptions
        raise ValueError(f"the metadata at the head of the model card cannot be read: {error}") from error
    data: Any = filled.data
    data.library_name = "diffusers"
    data.pipeline_tag = "image-to-video"
    data.tags = list(dict.fromkeys([*(data.tags or []), *TAGS]))
    if measured:
        data.metrics = measured
    return str(filled)


def metrics_table(metrics: dict[str, Any]) -> tuple[str, list[str]]:
    """The results of an evaluation over all frames, as a table.

    Args:
        metrics (`dict[str, Any]`): `{"data": ..., "rows": [...]}` and more. Each row is an object with the name of a
            method in `row`, the number of `strokes`, the `frames` that were measured ("all" or some of them), and for
            each metric null or an object with `value`, `low` and `high`.

    Returns:
        `tuple[str, list[str]]`: Markdown, and the names of the metrics.

    Raises:
        ValueError: if `metrics` has another structure.
    """
    try:
        rows = [row for row in metrics["rows"] if row["frames"] == "all"]
        names = [name for name in rows[0] if name not in ("row", "strokes", "frames")]
        lines = [f"Measured on {metrics['data']}, with 95 % confidence intervals (bootstrap over clips).", ""]
        lines += [f"| | strokes | {' | '.join(names)} |", "|---|---" + "|---" * len(names) + "|"]
        for row in rows:
            estimates = [row[name] for name in names]
            cells = [
                ""
                if estimate is None
                else f"{estimate['value']:.4g} ({estimate['low']:.4g} to {estimate['high']:.4g})"
                for estimate in estimates
            ]
            strokes = "" if row["strokes"] is None else row["strokes"]
            lines.append(f"| {row['row']} | {strokes} | {' | '.join(cells)} |")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"these are not the metrics of an evaluation ({type(error).__name__}: {error}): give the metrics.json "
            "that `mcdiff evaluate` wrote."
        ) from None
    return "\n".join(lines), names


def _components(pipe: MCDiffPipeline) -> str:
    lines = ["| component | class | parameters |", "|---|---|---|"]
    total = 0
    for name, component in pipe.components.items():
        if component is None:
            continue
        count = ""
        if isinstance(component, torch.nn.Module):
            number = sum(parameter.numel() for parameter in component.parameters())
            total += number
            count = f"{number:,}"
        lines.append(f"| `{name}` | `{type(component).__name__}` | {count} |")
    config = pipe.config
    return "\n".join(
        [
            *lines,
            "",
            f"{total:,} parameters in total. The UNet is conditioned on {', '.join(pipe.conditioning)}. The "
            f"defaults are images of {config.default_width} × {config.default_height} pixels, videos of "
            f"{config.default_num_frames} frames, and {config.default_num_inference_steps} denoising steps per frame.",
        ]
    )


def _example(name: str) -> str:
    return (
        f"![The image]({name}.jpg)\n\nFrom this image and the strokes in [`{name}.json`]({name}.json), the model "
        f"makes the video [`{name}.mp4`]({name}.mp4)."
    )
