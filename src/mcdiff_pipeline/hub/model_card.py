# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The model card of a Hub repository: what is known of any model is filled in, the rest is its author's to say.

A card is Markdown with metadata at its head. What lies between `<!-- NAME -->` and `<!-- /NAME -->` is replaced on
export, for the names of [`fill_model_card`]; the other text is left as it is.
"""

import re
from typing import Any

import torch
from huggingface_hub import ModelCard

from ..pipeline_mcdiff import MCDiffPipeline


# Stands for the repository's name in a card until the folder is pushed.
REPOSITORY = "owner/name"

TAGS = ["mcdiff", "image-to-video", "motion-control", "optical-flow"]

# The card of a model that has none: what its author has not said is not made up.
BLANK_CARD = """---
license: other
---

# A model for mcdiff-pipeline

Moves a picture along strokes, by the open implementation of MCDiff
([arXiv 2304.14404](https://arxiv.org/abs/2304.14404)).

## What it is made of

<!-- components -->
<!-- /components -->

## How to use it

<!-- loading -->
<!-- /loading -->

<!-- example -->
<!-- /example -->

## Training

<!-- training -->
Not stated by who exported it.
<!-- /training -->

## What it is for, license, limits

Not stated by who exported it.

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

LOADING = """With [diffusers](https://github.com/huggingface/diffusers) 0.42, in one of three ways.

Points are (x, y) in pixels of the given picture, x to the right, y downwards, (0, 0) at its top left corner. A stroke
sheet is a JSON file by [`stroke_sheet.schema.json`](stroke_sheet.schema.json); the pipeline takes its path.

With the package `mcdiff-pipeline`, no code of this repository is run:

```py
from mcdiff_pipeline import MCDiffPipeline, Stroke

pipe = MCDiffPipeline.from_pretrained("{repository}"{variant})
frames = pipe("picture.jpg", [Stroke([(206, 238), (160, 230)]), Stroke([(287, 280)], kind="hold")]).frames[0]
```

Without it, by the copy of its code in this repository. Read that code first: `trust_remote_code` runs it.

```py
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained(
    "{repository}", custom_pipeline="{repository}", trust_remote_code=True{variant}
)
frames = pipe("picture.jpg", "strokes.json").frames[0]
```

Offline, from a folder that was fetched before; with the package as above, without it as here:

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
    """
    The card with what is known of the model.

    Args:
        card (`str`):
            Markdown with or without metadata.
        pipe (`MCDiffPipeline`):
            The model; fills `components`.
        variant (`str`, *optional*):
            Variant of the weights that the folder holds beside the default; named in `loading`.
        example (`str`, *optional*):
            Name, without suffix, of the example: picture (`.jpg`), stroke sheet (`.json`) and video (`.mp4`); fills
            `example`. Where None, that part is left empty.
        metrics (`dict[str, Any]`, *optional*):
            Content of the evaluation's `metrics.json`; fills `figures`. Where None, that part stays as it is.
        training (`str`, *optional*):
            Markdown on how the model was trained; fills `training`. Where None, that part stays as it is.

    Returns:
        `str`: The card, with at least the metadata that the Hub needs to know a pipeline.

    Raises:
        ValueError: If the metadata of the card cannot be read, or `metrics` is not what an evaluation writes.
    """
    parts = {
        "components": _components(pipe),
        "loading": LOADING.format(repository=REPOSITORY, variant=f', variant="{variant}"' if variant else ""),
        "example": "" if example is None else _example(example),
    }
    measured = []
    if metrics is not None:
        parts["figures"], measured = figures(metrics)
    if training is not None:
        parts["training"] = training
    for name, text in parts.items():
        block = f"<!-- {name} -->\n{text}\n<!-- /{name} -->"
        card = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _: block, card, flags=re.DOTALL)

    try:
        card = ModelCard(card)
    except Exception as error:  # of the YAML parser, which is huggingface_hub's and not ours
        raise ValueError(f"the metadata at the head of the model card cannot be read: {error}") from error
    card.data.library_name = "diffusers"
    card.data.pipeline_tag = "image-to-video"
    card.data.tags = list(dict.fromkeys([*(card.data.tags or []), *TAGS]))
    if measured:
        card.data.metrics = measured
    return str(card)


def figures(metrics: dict[str, Any]) -> tuple[str, list[str]]:
    """
    The table of an evaluation, over all frames.

    Args:
        metrics (`dict[str, Any]`):
            `{"data": ..., "rows": [...]}` and more; each row is an object with its name in `row`, the number of
            `strokes`, the `frames` that it is about ("all" or some of them), and for each metric null or an object
            with `value`, `low` and `high`.

    Returns:
        `tuple[str, list[str]]`: Markdown, and the names of the metrics.

    Raises:
        ValueError: If `metrics` has another shape.
    """
    try:
        rows = [row for row in metrics["rows"] if row["frames"] == "all"]
        names = [name for name in rows[0] if name not in ("row", "strokes", "frames")]
        lines = [f"Measured on {metrics['data']}, with the ends of 95 % of the resamplings of its clips.", ""]
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
            f"the metrics are not those of an evaluation ({type(error).__name__}: {error}): give the metrics.json "
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
            f"{total:,} parameters together. The UNet is given the noise and: {', '.join(pipe.conditioning)}. Made "
            f"for pictures of {config.default_width} × {config.default_height} pixels, videos of "
            f"{config.default_num_frames} frames, {config.default_num_inference_steps} denoising steps a frame.",
        ]
    )


def _example(name: str) -> str:
    return (
        f"![The picture]({name}.jpg)\n\nThis picture and the strokes in [`{name}.json`]({name}.json) give the video "
        f"[`{name}.mp4`]({name}.mp4)."
    )
