# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The dataset card, `README.md`, with the metadata that the Hugging Face Hub reads."""

import math

from .markdown import table, table_of
from .report import HISTOGRAMS, REPORT_TEXT, Report, count_of, duration


TAGS = ("mcdiff", "motion-control", "optical-flow", "keypoints", "webdataset")


def dataset_card(report: Report) -> str:
    """The card of a finished dataset, in Markdown."""
    parts = [
        _metadata(report),
        "# Video clips with dense motion",
        _introduction(report),
        f"![Histograms of displacements, gaps, people and the outcome of candidate clips]({HISTOGRAMS})",
        "## How to read it",
        "```python\n"
        "from mcdiff_pipeline.dataset import ClipDataset\n\n"
        f'dataset = ClipDataset("path/of/this/folder", split="{report.split}")\n'
        "clip = dataset[0]  # frames, flow, occlusion, masks, keypoints, meta\n"
        "```",
        "The shards are tar files in the layout of WebDataset. `docs/dataset-format.md` of mcdiff-pipeline documents "
        "every field, with coordinates and units:",
        table(
            ["member", "content"],
            [
                ["`frame_TT`", "the frame, 8-bit RGB"],
                ["`flow_TT.png`", "flow to the next frame and occlusion, 16-bit RGB in the encoding of KITTI"],
                ["`mask_TT.png`", "0 = background, k = the k-th person"],
                ["`keypoints.npy`", "17 COCO keypoints of each person: x, y, visibility"],
                ["`meta.json`", "video, frames, gap, crop, shot, estimators, versions"],
            ],
        ),
        "## How it was made",
        _method(report),
        *map(table_of, report.made_with),
        table_of(report.settings, ["setting", "value"]),
        "## What to know before using it",
        "- Flow, occlusion, masks and keypoints are estimates by the programs named above, not measurements.\n"
        "- The clips are parts of the videos and have their license"
        + (", which was not stated.\n" if report.license == "unknown" else f" (`{report.license}`).\n")
        + "- If the clips show people, ask whether they agreed to this use.",
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(report: Report) -> str:
    lines = [
        "---",
        f"license: {report.license}",
        "task_categories:",
        "- image-to-video",
        "tags:",
        *(f"- {tag}" for tag in TAGS),
        "size_categories:",
        f"- {_size_category(report.total.clips)}",
        "configs:",
        "- config_name: default",
        "  data_files:",
        f"  - split: {report.split}",
        f"    path: {report.split}-*.tar",
        "---",
    ]
    return "\n".join(lines)


def _introduction(report: Report) -> str:
    total = report.total
    selection = report.settings["selection"]
    size = selection["resolution"]
    height, width = (size, size) if isinstance(size, int) else size
    with_people = sum(count for number, count in total.people.items() if int(number) > 0)
    people = (
        f"Masks and keypoints of people are in {with_people:,} of them."
        if report.settings["pose_model"] is not None
        else "People were not annotated."
    )
    return (
        f"{count_of(total.clips, 'clip')} of {selection['num_frames']} frames of {width} × {height} pixels, with "
        f"dense forward flow and occlusion. {people} mcdiff-pipeline made them from {duration(total.seconds)} of "
        "plain video, as training data for image-to-video models that follow strokes."
    )


def _method(report: Report) -> str:
    gaps = sorted(map(int, report.total.gaps)) or [0]
    return (
        "Each clip is from one shot of a video, cropped around the motion. Static, too fast and doubtful parts were "
        "left out. Of clips that show the same part of a film, exact copies were left out, and about half of the "
        f"re-encoded copies. [{REPORT_TEXT}]({REPORT_TEXT}) states the outcome of every video. "
        f"The gap between consecutive frames of a clip is {gaps[0]} to {gaps[-1]} frames of its video."
    )


def _size_category(clips: int) -> str:
    """The name of the Hub for the order of magnitude, from `n<1K` to `n>1T`."""
    steps = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
    step = max(0, int(math.log10(max(clips, 1))) - 2)
    if step == 0:
        return f"n<{steps[0]}"
    return f"{steps[step - 1]}<n<{steps[step]}"
