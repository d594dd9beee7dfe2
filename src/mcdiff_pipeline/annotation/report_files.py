# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The files of a report: text, histograms, dataset card and JSON.

They depend on the report alone, not on time or paths: the same videos, settings and clips give the same bytes.
"""

import io
import json
from collections.abc import Mapping

from .dataset_card import dataset_card
from .histograms import bar_panel, column_panel, page_of
from .markdown import code, plain, table, table_of
from .outcome import VideoOutcome
from .report import CARD, HISTOGRAMS, REPORT_JSON, REPORT_TEXT, Report, by_count, displacement_shares, duration


def report_files(report: Report) -> dict[str, bytes]:
    """File name -> content. `report.json` is the last, because it marks a finished dataset."""
    return {
        CARD: dataset_card(report).encode(),
        REPORT_TEXT: _text(report).encode(),
        HISTOGRAMS: _histograms(report),
        REPORT_JSON: (json.dumps(report.as_dict(), indent=1, sort_keys=True) + "\n").encode(),
    }


def _text(report: Report) -> str:
    total = report.total
    parts = ["# Annotation report", _overview(report)]
    if report.failed:
        parts += [
            "## Videos that were not read to the end",
            table(
                ["video", "reason", "clips kept"],
                [[code(outcome.video), plain(outcome.error or ""), f"{outcome.clips:,}"] for outcome in report.failed],
            ),
        ]
    parts += [
        "## Statistics of the clips",
        f"![Histograms]({HISTOGRAMS})",
        table(["gap between frames of a clip, in frames of the video", "clips"], _histogram_rows(total.gaps)),
        table(["people", "clips"], _histogram_rows(total.people)),
        table(
            ["displacement between frames, in pixels", "share of all pixels"],
            [[label, f"{share:.2%}"] for label, share in displacement_shares(total)],
        ),
        "## Videos",
        table(
            ["video", "length", "size", "frames/s", "shots", "clips", "dropped", "remarks"],
            [_video_row(outcome) for outcome in report.videos],
        ),
        "## Settings",
        table_of(report.settings, ["setting", "value"]),
        "## Made with",
        *map(table_of, report.made_with),
    ]
    return "\n\n".join(parts) + "\n"


def _overview(report: Report) -> str:
    total = report.total
    dropped = sum(total.dropped.values())
    return table(
        ["", "total"],
        [
            ["**input**", ""],
            ["videos found", f"{len(report.videos):,}"],
            ["videos not read to the end", f"{len(report.failed):,}"],
            ["length", duration(total.seconds)],
            ["decoded frames", f"{total.num_frames:,}"],
            ["shots", f"{total.shots:,}"],
            ["candidate clips", f"{total.clips + dropped:,}"],
            ["**dropped**", f"{dropped:,}"],
            *([reason, f"{count:,}"] for reason, count in by_count(total.dropped)),
            ["**output**", ""],
            [f"clips in split `{report.split}`", f"{total.clips:,}"],
            ["clips enlarged to the resolution", f"{total.enlarged:,}"],
            ["videos with clips", f"{report.num_sources:,}"],
            ["shards", f"{report.num_shards:,}"],
        ],
    )


def _video_row(outcome: VideoOutcome) -> list[str]:
    return [
        code(outcome.video),
        f"{outcome.seconds:.1f} s",
        f"{outcome.width} × {outcome.height}",
        f"{outcome.fps:.4g}",
        f"{outcome.shots:,}",
        f"{outcome.clips:,}",
        "; ".join(f"{count:,} {reason}" for reason, count in by_count(outcome.dropped)),
        "; ".join(map(plain, [*([outcome.error] if outcome.error else []), *outcome.notes])),
    ]


def _histogram_rows(histogram: Mapping[str, int]) -> list[list[str]]:
    return [[key, f"{histogram[key]:,}"] for key in sorted(histogram, key=int)]


def _histograms(report: Report) -> bytes:
    total = report.total
    most_people = max(map(int, total.people), default=0)
    largest_gap = max(map(int, total.gaps), default=1)
    page = page_of(
        [
            column_panel(
                "Displacement between two frames",
                "pixels",
                "% of all pixels",
                [(label, 100 * share) for label, share in displacement_shares(total)],
            ),
            column_panel(
                "Gap from one frame to the next",
                "frames of the video",
                "clips",
                [(str(gap), total.gaps.get(str(gap), 0)) for gap in range(1, largest_gap + 1)],
            ),
            column_panel(
                "People in a clip",
                "people",
                "clips",
                [(str(number), total.people.get(str(number), 0)) for number in range(most_people + 1)],
            ),
            bar_panel("What became of the candidate clips", [("kept", total.clips), *by_count(total.dropped)]),
        ]
    )
    buffer = io.BytesIO()
    page.save(buffer, format="PNG")
    return buffer.getvalue()
