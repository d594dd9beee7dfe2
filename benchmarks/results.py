"""Writes `docs/results.md`: what the embedded model reaches, beside its rivals and its variants.

    mcdiff evaluate --data data/people --output runs/evaluation
    python benchmarks/results.py --evaluation runs/evaluation --ablations runs/ablations/evaluations

`make results` does both. Every figure on the page comes out of `metrics.json` of these folders; the text around them
is here, the verdicts are computed. Variants are trained for days and do not depend on the model, so without
`--ablations` their section stays as it is.
"""

import argparse
import dataclasses
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from mcdiff_pipeline.atomic_files import atomic_path
from mcdiff_pipeline.evaluation import EvaluationSettings
from mcdiff_pipeline.evaluation.report import (
    DIFFERENCE_NOTE,
    DRIFT_NOTE,
    KEYPOINT_NOTE,
    MOTION_NOTE,
    cell,
    difference_table,
    drift_table,
    flow_table,
    keypoint_table,
    motion_table,
    picture_table,
    plural,
    table,
    usual_strokes,
)
from mcdiff_pipeline.evaluation.summary import differences, recall_distance, row_name


REPOSITORY = Path(__file__).parents[1]
NUM_SAMPLES, SAMPLE_WIDTH = 2, 1000
# How the clips are made that the page is about; the sources are those of training/README.md.
COMMANDS = (
    "python training/render_people.py --output_dir data/people --split test --num_clips 200 --num_frames 7 \\",
    "    --motions_dir data/pybullet/pybullet_data/data/motions --photographs_dir data/photographs --seed 1",
)


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluation", type=Path, required=True, help="Folder of the evaluation of the model.")
    parser.add_argument(
        "--ablations",
        type=Path,
        default=None,
        help="Folder with the evaluation of each variant; the page keeps what it says of them if absent.",
    )
    parser.add_argument("--samples", nargs="*", default=[], help="Keys of clips to show; the first ones if absent.")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs/results.md")
    return parser.parse_args(arguments)


def section(page: Path, title: str) -> list[str]:
    """The lines of one section of a page as it is, its title included; none where it has no such section."""
    lines = page.read_text(encoding="utf-8").splitlines() if page.is_file() else []
    if title not in lines:
        return []
    first = lines.index(title)
    following = [number for number in range(first + 1, len(lines)) if lines[number].startswith("## ")]
    return lines[first : following[0] if following else len(lines)]


class Figures:
    """Looks figures up by what they are of."""

    def __init__(self, metrics: dict[str, Any]) -> None:
        self.metrics = metrics

    def __call__(self, kind: str, name: str, **which: Any) -> float | None:
        """The value of one figure, None where there is none."""
        for entry in self.metrics[kind]:
            if all(entry.get(key) == value for key, value in which.items()):
                return None if entry[name] is None else entry[name]["value"]
        return None


def over(figure: float | None, rival: float | None) -> float | None:
    """Their ratio, None where there is none."""
    return figure / rival if figure is not None and rival else None


def above(figure: float | None, rival: float | None) -> float | None:
    """Their difference, None where there is none."""
    return figure - rival if figure is not None and rival is not None else None


def targets(figures: Figures) -> list[tuple[str, float | None, str, Callable[[float], bool]]]:
    """What the model is held to: in words, the figure, the limit in words, and whether a figure meets it."""

    def body(flow: str, number: int) -> float | None:
        return figures("flow", "end_point_error", flow=flow, strokes=number, region="body")

    def moving(row: str, strokes: int | None, frames: str) -> float | None:
        return figures("rows", "psnr_moving", row=row, strokes=strokes, frames=frames)

    def perceptual(row: str, strokes: int | None, frames: str) -> float | None:
        return figures("rows", "st_lpips", row=row, strokes=strokes, frames=frames)

    def ade(row: str, strokes: int, name: str = "ade") -> float | None:
        return figures("motion", name, row=row, strokes=strokes, frames="all")

    numbers = figures.metrics["settings"]["strokes"]
    n, last = usual_strokes(figures.metrics), numbers[-1]
    found = [
        (
            f"F on the body over zero flow, {n} strokes",
            over(body("F", n), body("zero flow", n)),
            "≤ 0.5",
            lambda x: x <= 0.5,
        ),
        (
            f"F on the body over the nearest stroke, {n} strokes",
            over(body("F", n), body("nearest stroke", n)),
            "≤ 0.4",
            lambda x: x <= 0.4,
        ),
    ]
    found += [
        (
            f"F on the body over a thin plate, {number} {plural(number)}",
            over(body("F", number), body("thin plate", number)),
            "< 1",
            lambda x: x < 1,
        )
        for number in numbers
    ]
    still = figures("flow", "end_point_error", flow="F", strokes=n, region="still off the body")
    way = over(above(ade("still", n), ade("ours", n)), above(ade("still", n), ade("splat, true flow", n)))
    found += [
        (f"F off the body where nothing moves, {n} strokes", still, "≤ 0.3 px", lambda x: x <= 0.3),
        (
            "G with true flow, first frame: PSNR on moving pixels over splatting along it",
            above(moving("ours, true flow", None, "first"), moving("splat, true flow", None, "first")),
            "> 0 dB",
            lambda x: x > 0,
        ),
        (
            "G with true flow, first frame: ST-LPIPS over splatting along it",
            over(perceptual("ours, true flow", None, "first"), perceptual("splat, true flow", None, "first")),
            "< 1",
            lambda x: x < 1,
        ),
        (
            "whole chain, first frame: PSNR on moving pixels over splatting along F's flow",
            above(moving("ours", n, "first"), moving("splat, F's flow", n, "first")),
            "≥ 0.5 dB",
            lambda x: x >= 0.5,
        ),
        (
            "whole chain, last frame: ST-LPIPS over splatting along F's flow",
            over(perceptual("ours", n, "last"), perceptual("splat, F's flow", n, "last")),
            "< 1",
            lambda x: x < 1,
        ),
        (
            "whole chain, last frame: PSNR on moving pixels over splatting along F's flow",
            above(moving("ours", n, "last"), moving("splat, F's flow", n, "last")),
            "≥ 0 dB",
            lambda x: x >= 0,
        ),
        (f"way from a still to splatting along the true flow, {n} strokes", way, "≥ 0.5", lambda x: x >= 0.5),
        (
            f"first stroke's error with {last} strokes over alone",
            over(ade("ours", last, "first_stroke_ade"), ade("ours", numbers[0], "first_stroke_ade")),
            "≤ 1",
            lambda x: x <= 1,
        ),
        (
            "what nothing moves in, last frame, against the autoencoder's start frame",
            figures("rows", "psnr_background", row="ours", strokes=n, frames="last"),
            "≥ 30 dB",
            lambda x: x >= 30,
        ),
    ]
    if figures.metrics["drift"]:
        end = figures.metrics["drift"][-1]
        found += [
            (
                f"frame {end['frame']}: largest change of mean color",
                end["largest_color"],
                "≤ 0.05",
                lambda x: x <= 0.05,
            ),
            (
                f"frame {end['frame']}: ST-LPIPS of still regions",
                figures("drift", "still_st_lpips", frame=end["frame"]),
                "≤ 0.25",
                lambda x: x <= 0.25,
            ),
        ]
    return found


def make_command(settings: dict[str, Any]) -> str:
    """The command with what was set otherwise than by default."""
    names = ("num_frames", "num_clips", "num_inference_steps", "seed", "drift_frames", "drift_clips")
    default = dataclasses.asdict(EvaluationSettings()) | {"num_inference_steps": settings["num_inference_steps"]}
    flags = [f"--{name.replace('_', '-')} {settings[name]}" for name in names if settings[name] != default[name]]
    return f'make results EVALUATE="{" ".join(flags)}"' if flags else "make results"


def worth_of_flow_completion(folder: Path) -> list[str]:
    """Table 2 of the paper again: a model in its form with F over one without, as lines of Markdown."""
    if not all((folder / name / "metrics.json").is_file() for name in ("plain", "no_flow_completion")):
        return []
    found = variant_differences(folder, "plain", "no_flow_completion")
    without = Figures(json.loads((folder / "no_flow_completion/metrics.json").read_text()))
    distance = without("rows", "st_lpips", row="ours", strokes=usual_strokes(without.metrics), frames="all")
    st_lpips, psnr, ade = (found[name] for name in ("st_lpips", "psnr", "ade"))
    relative = [f"{st_lpips[end] / distance:+.0%}" for end in ("value", "low", "high")]
    decibel = [f"{psnr[end]:+.2f}" for end in ("value", "low", "high")]
    pixels = [f"{ade[end]:+.2f}" for end in ("value", "low", "high")]
    return [
        f"Does F earn its place? In the paper's form (`plain` minus `no_flow_completion`, over the same clips) it "
        f"changes ST-LPIPS by {relative[0]} ({relative[1]} to {relative[2]}), PSNR by {decibel[0]} dB ({decibel[1]} "
        f"to {decibel[2]}) and ADE by {pixels[0]} pixels ({pixels[1]} to {pixels[2]}); in the paper, on MPII, after "
        "400,000 steps, F gives -22 % LPIPS, +1.18 dB and -29 % FVD.",
        "",
    ]


def variant_differences(folder: Path, variant: str, other: str) -> dict[str, dict[str, Any] | None]:
    """One variant minus another, as `differences` gives it.

    Raises:
        ValueError: if they were not evaluated on the same clips with the same settings.
    """
    described = [json.loads((folder / name / "metrics.json").read_text()) for name in (variant, other)]
    if any(described[0][key] != described[1][key] for key in ("data_fingerprint", "settings", "clips")):
        raise ValueError(
            f"{folder / variant} and {folder / other} are evaluations of other clips or with other settings, so they "
            "cannot be compared: evaluate both by the same command."
        )
    n = usual_strokes(described[0])
    return differences(own_rows(folder / variant, n), own_rows(folder / other, n), n)


@functools.cache
def own_rows(evaluation: Path, strokes: int) -> list[dict[str, Any]]:
    """What was measured of the model itself on each clip; every variant is compared with one that is read once."""
    records = [json.loads(path.read_text()) for path in sorted((evaluation / "clips").glob("*.json"))]
    return [next(r for r in record["rows"] if (r["row"], r["strokes"]) == ("ours", strokes)) for record in records]


def ablation_lines(folder: Path) -> list[str]:
    """The tables of variants: their figures, and their differences to the full one, as lines of Markdown."""
    evaluations = {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/metrics.json"))}
    order = sorted(evaluations, key=lambda name: (name != "full", name))
    header = ["variant", "difference to full", "Fréchet distance on ST-LPIPS features ↓", "ST-LPIPS ↓", "SSIM ↑"]
    header += ["PSNR ↑ (dB)", "PSNR, moving ↑ (dB)", "last frame: PSNR, moving ↑ (dB)", "ADE ↓ (px)", "F, body ↓ (px)"]
    lines = []
    for name in order:
        metrics = evaluations[name]
        n = usual_strokes(metrics)
        made = json.loads((folder.parent / name / "ablation.json").read_text())
        rows = {row["frames"]: row for row in metrics["rows"] if row["row"] == "ours" and row["strokes"] == n}
        motion = [m for m in metrics["motion"] if m["row"] == "ours" and m["strokes"] == n and m["frames"] == "all"]
        flow = [
            f["end_point_error"]
            for f in metrics["flow"]
            if f["flow"] == "F" and f["strokes"] == n and f["region"] == "body"
        ]
        distances = [of_rows[row_name("ours", n)] for of_rows in metrics["frechet"].values()]
        lines.append(
            [
                f"`{name}`",
                made["difference"],
                f"{distances[0]:.3g}" if distances else "–",
                *(cell(rows["all"][metric]) for metric in ("st_lpips", "ssim", "psnr", "psnr_moving")),
                cell(rows["last"]["psnr_moving"]),
                cell(motion[0]["ade"]),
                cell(flow[0]) if flow else "–",
            ]
        )
    minus_full = {f"`{name}`": variant_differences(folder, name, "full") for name in order if name != "full"}
    return [
        *table(header, lines),
        "",
        "Each variant minus `full`, over the same clips; an interval that leaves out 0 is a difference:",
        "",
        *difference_table(minus_full, "minus `full`"),
    ]


def budget(folder: Path) -> str:
    """How long the variants were trained, in words."""
    made = [json.loads(path.read_text()) for path in sorted(folder.parent.glob("*/ablation.json"))]
    steps = sorted({component["steps"] for variant in made for component in variant["components"].values()})
    minutes = sum(
        component["minutes"]
        for variant in made
        for component in variant["components"].values()
        if component["shared_with"] is None
    )
    span = f"{steps[0]}" if steps[0] == steps[-1] else f"{steps[0]} to {steps[-1]}"
    return f"{span} steps for each F and each G, {minutes:.0f} minutes in all"


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    metrics = json.loads((args.evaluation / "metrics.json").read_text())
    settings, n = metrics["settings"], usual_strokes(metrics)
    images = args.output.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    for name in ("ade", "drift") if metrics["drift"] else ("ade",):
        shutil.copyfile(args.evaluation / f"{name}.png", images / f"results-{name}.png")

    height, width = metrics["frame_size"]
    lines = [
        "# Results",
        "",
        "Written by `make results` (`benchmarks/results.py`): every figure is the output of the commands below.",
        "",
        "```bash",
        *COMMANDS,
        make_command(settings),
        "```",
        "",
        f"{metrics['model']}: {metrics['clips']} clips of {metrics['data']} (people rendered with motions, bodies and "
        f"photographs that were never trained on), {width} × {height} pixels, {settings['num_frames']} frames, "
        f"{settings['num_inference_steps']} denoising steps a frame, seed {settings['seed']}. What each row and each "
        "metric is, and what it is blind to, is in [evaluation.md](evaluation.md). Below a figure: the interval of "
        "95 % of the resamplings of the clips.",
        "",
        "## Targets",
        "",
    ]
    verdicts = [
        [
            what,
            "–" if value is None else f"{value:.3g}",
            limit,
            "–" if value is None else "met" if meets(value) else "**missed**",
        ]
        for what, value, limit, meets in targets(Figures(metrics))
    ]
    lines += [*table(["", "reached", "target", ""], verdicts), ""]
    lines += [f"## Beside its rivals: the paper's Table 2, {n} strokes", "", "Mean over all frames:", ""]
    lines += [*picture_table(metrics, "all", n), "", "The first frame:", "", *picture_table(metrics, "first", n), ""]
    lines += ["The last frame:", "", *picture_table(metrics, "last", n), ""]
    lines += [f"### Ours minus each rival, {n} strokes", "", DIFFERENCE_NOTE, ""]
    lines += [*difference_table({found["minus"]: found for found in metrics["differences"]}, "ours minus"), ""]
    lines += [
        "## Are strokes followed: the paper's Table 3",
        "",
        MOTION_NOTE.format(distance=recall_distance(metrics)),
    ]
    lines += ["", *motion_table(metrics), "", "![Average displacement error over strokes](images/results-ade.png)", ""]
    if metrics["keypoints"]:
        lines += ["### Keypoints detected on the last frame", "", KEYPOINT_NOTE, "", *keypoint_table(metrics), ""]
    lines += ["## Flow of the first step", "", "End-point error in pixels:", "", *flow_table(metrics), ""]
    if metrics["drift"]:
        lines += ["## Long roll-outs", "", DRIFT_NOTE, "", *drift_table(metrics), ""]
        lines += ["![Color, sharpness and still regions over frames](images/results-drift.png)", ""]
    if args.ablations is not None:
        some = json.loads(next(args.ablations.glob("*/metrics.json")).read_text())
        lines += [
            "## Ablations",
            "",
            f"Trained by `training/run_ablations.py` (`make ablations`), {budget(args.ablations)}: far less than the "
            "model above, so only rows of this table are comparable. "
            f"{some['clips']} clips, {usual_strokes(some)} strokes.",
            "",
            *ablation_lines(args.ablations),
            "",
            *worth_of_flow_completion(args.ablations),
        ]
    else:
        lines += section(args.output, "## Ablations")
    samples = args.samples or [path.stem for path in sorted((args.evaluation / "samples").glob("*.png"))[:NUM_SAMPLES]]
    if samples:
        lines += ["## Samples", "", "One line for each row; the flow that drove the model is the last.", ""]
        for number, key in enumerate(samples):
            sheet = Image.open(args.evaluation / f"samples/{key}.png")
            sheet = sheet.resize((SAMPLE_WIDTH, round(sheet.height * SAMPLE_WIDTH / sheet.width)))
            with atomic_path(images / f"results-sample-{number}.jpg") as path:
                sheet.convert("RGB").save(path, quality=85)
            lines += [f"![{key}](images/results-sample-{number}.jpg)", ""]
    lines += ["## Not measured", ""]
    lines += [f"- {name}: {reason.replace(str(Path.home()), '~')}" for name, reason in metrics["absent"].items()]
    lines += [
        "- The figures are of rendered people. On real photographs there is no true motion to compare with; the "
        "pictures in the [README](../README.md) show good and bad ones."
    ]
    with atomic_path(args.output) as path:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"Wrote {args.output}.")


if __name__ == "__main__":
    main()
