"""Writes `docs/results.md`: the results of the embedded model, its baselines and its variants.

    mcdiff evaluate --data data/people --output runs/evaluation
    python benchmarks/results.py --evaluation runs/evaluation --ablations runs/ablations/evaluations

`make results` does both. Every number on the page comes from `metrics.json` of these folders, and the verdicts are
computed. Variants take days to train and do not depend on the model, so without `--ablations` the page keeps its
section about them. `--ablations` takes several folders, one for each seed.
"""

import argparse
import dataclasses
import functools
import json
import operator
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mcdiff_pipeline.atomic_files import atomic_path
from mcdiff_pipeline.evaluation import EvaluationSettings
from mcdiff_pipeline.evaluation.aggregation import differences, recall_distance
from mcdiff_pipeline.evaluation.confidence import Estimate
from mcdiff_pipeline.evaluation.records import COMPLETED_FLOW, ClipRecord, MethodResult, method_label
from mcdiff_pipeline.evaluation.summary import Estimates, EvaluationSummary
from mcdiff_pipeline.evaluation.tables import (
    DIFFERENCE_NOTE,
    DRIFT_NOTE,
    FLOW_RATIO_NOTE,
    KEYPOINT_NOTE,
    MOTION_NOTE,
    NEXT_FRAME_NOTE,
    cell,
    difference_table,
    differences_to_methods_table,
    drift_table,
    flow_ratio_table,
    flow_table,
    image_table,
    keypoint_table,
    motion_table,
    next_frame_table,
    plural,
    table,
)
from mcdiff_pipeline.evaluation.whole_motions import Setup


REPOSITORY = Path(__file__).parents[1]
NUM_SAMPLES, SAMPLE_WIDTH = 2, 1000
# These commands render the clips of the page. training/README.md names the sources of motions and photographs.
COMMANDS = (
    "python training/render_people.py --output_dir data/people --split test --num_clips 200 --num_frames 7 \\",
    "    --motions_dir data/pybullet/pybullet_data/data/motions --photographs_dir data/photographs --seed 1",
)
COMPARISONS = {"<": operator.lt, "≤": operator.le, "≥": operator.ge, ">": operator.gt}
# The model and the baseline that it is compared with: given the true flow, the same as the model is given it, and F's.
TRUE_FLOW, OWN_FLOW = ("ours, true flow", "splat, true flow"), ("ours", "splat, F's flow")
TRUE_FLOW_ON_CELLS = ("ours, true flow", "splat, true flow on cells")
# The translations of whole things, with holds, in the tables of variants: number of strokes and measure.
WHOLE_COLUMNS = {
    "whole things, 1 stroke: miss ↓": (1, "miss"),
    "3 strokes: miss ↓": (3, "miss"),
    "leak ↓": (3, "leak"),
}
# The columns of the table of seeds, and their digits after the point.
SEED_COLUMNS = {"PSNR, moving ↑ (dB)": 1, "ADE ↓ (px)": 2, "F, body ↓ (px)": 2} | dict.fromkeys(WHOLE_COLUMNS, 3)
# What ablations with several seeds have in common: arguments of training/run_ablations.py.
COMMON_ARGUMENTS = ("steps", "minutes", "train_batch_size", "data_weights", "mixed_precision")


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluation", type=Path, required=True, help="Folder of the evaluation of the model.")
    parser.add_argument(
        "--ablations",
        type=Path,
        nargs="+",
        default=None,
        help="Folder with the evaluation of each variant, and more such folders, each of another seed. If absent, the "
        "section about variants stays as it is.",
    )
    parser.add_argument(
        "--samples", nargs="*", default=[], help="Keys of the clips to show (default: the first ones)."
    )
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs/results.md")
    return parser.parse_args(arguments)


@dataclass(frozen=True)
class Target:
    """One line of the table of targets.

    Args:
        title (`str`): what is measured.
        value (`float`, *optional*): the result; None where it was not measured.
        comparison (`str`): a key of `COMPARISONS`, how the value compares with the limit if the target is met.
        limit (`float`): the limit.
        unit (`str`, defaults to `""`): the unit of the limit.
    """

    title: str
    value: float | None
    comparison: str
    limit: float
    unit: str = ""

    def cells(self) -> list[str]:
        """The cells of its line."""
        limit = f"{self.comparison} {self.limit:g} {self.unit}".strip()
        if self.value is None:
            return [self.title, "–", limit, "–"]
        met = COMPARISONS[self.comparison](self.value, self.limit)
        return [self.title, f"{self.value:.3g}", limit, "met" if met else "**missed**"]


class Results:
    """Looks up single values in the results of an evaluation; None where a value is missing.

    Args:
        summary (`EvaluationSummary`): the results.
    """

    def __init__(self, summary: EvaluationSummary) -> None:
        self.summary = summary

    def image(self, metric: str, method: str, strokes: int | None, frames: str) -> float | None:
        """An image metric of one method over "all" frames, the "first" or the "last" one."""
        wanted = (method, strokes, frames)
        entries = self.summary.images
        return _first(e.estimates[metric] for e in entries if (e.method, e.strokes, e.frames) == wanted)

    def images(
        self, metric: str, methods: tuple[str, str], strokes: int | None, frames: str
    ) -> tuple[float | None, float | None]:
        """An image metric of two methods."""
        first, second = (self.image(metric, method, strokes, frames) for method in methods)
        return first, second

    def motion(self, metric: str, method: str, strokes: int) -> float | None:
        """`ade`, `recall` or `first_stroke_ade` of one method over all frames."""
        wanted = (method, strokes, "all")
        entries = self.summary.motion
        return _first(getattr(e, metric) for e in entries if (e.method, e.strokes, e.frames) == wanted)

    def flow(self, flow: str, strokes: int, region: str = "body") -> float | None:
        """The end-point error of a flow in pixels."""
        wanted = (flow, strokes, region)
        entries = self.summary.flow
        return _first(e.end_point_error for e in entries if (e.flow, e.strokes, e.region) == wanted)


def _first(estimates: Iterable[Estimate | None]) -> float | None:
    """The value of the first estimate."""
    estimate = next(iter(estimates), None)
    return None if estimate is None else estimate.value


def ratio(value: float | None, baseline: float | None) -> float | None:
    """Their ratio; None where a value is missing."""
    return value / baseline if value is not None and baseline else None


def difference(value: float | None, baseline: float | None) -> float | None:
    """Their difference; None where a value is missing."""
    return value - baseline if value is not None and baseline is not None else None


def targets(summary: EvaluationSummary) -> list[Target]:
    """The targets of the model, with their results."""
    results = Results(summary)
    return [*flow_targets(results), *frame_targets(results), *motion_targets(results), *long_targets(results)]


def flow_targets(results: Results) -> list[Target]:
    """The targets of flow completion."""
    settings = results.summary.description.settings
    n, title = settings.middle_strokes, "F on the body, error relative to"
    own = {number: results.flow("F", number) for number in settings.strokes}
    found = [
        Target(f"{title} zero flow, {n} strokes", ratio(own[n], results.flow("zero flow", n)), "≤", 0.45),
        Target(
            f"{title} zero flow, {n} strokes, with regions",
            ratio(results.flow("F, regions", n), results.flow("zero flow", n)),
            "≤",
            0.4,
        ),
        Target(f"{title} the nearest stroke, {n} strokes", ratio(own[n], results.flow("nearest stroke", n)), "≤", 0.4),
    ]
    for number, error in own.items():
        relative = ratio(error, results.flow("thin plate", number))
        found.append(Target(f"{title} a thin plate, {number} {plural(number)}", relative, "<", 1))
    still = results.flow("F", n, "still off the body")
    return [*found, Target(f"F on still cells off the body, error, {n} strokes", still, "≤", 0.12, "px")]


def frame_targets(results: Results) -> list[Target]:
    """The targets of the generated frames, compared with splatting along the same flow."""
    n = results.summary.description.settings.middle_strokes
    moving, perceptual = "PSNR on moving pixels, minus the splat", "ST-LPIPS relative to the splat"
    with_true_flow = []
    for methods, along in ((TRUE_FLOW, ""), (TRUE_FLOW_ON_CELLS, " along the flow of cells")):
        better = difference(*results.images("psnr_moving", methods, None, "first"))
        relative = ratio(*results.images("st_lpips", methods, None, "first"))
        with_true_flow += [
            Target(f"G with true flow, first frame: {moving}{along}", better, "≥", 0.5, "dB"),
            Target(f"G with true flow, first frame: {perceptual}{along}", relative, "≤", 1),
        ]
    entries = results.summary.next_frame
    gain = _first(entry.uncovered_gain for entry in entries if entry.method == TRUE_FLOW[0])
    first_moving = results.images("psnr_moving", OWN_FLOW, n, "first")
    last_moving = results.images("psnr_moving", OWN_FLOW, n, "last")
    last_perceptual = results.images("st_lpips", OWN_FLOW, n, "last")
    return [
        *with_true_flow,
        Target("G with true flow, first frame: PSNR where uncovered, minus filling from behind", gain, "≥", 1, "dB"),
        Target(f"F and G, first frame: {moving}", difference(*first_moving), "≥", 0.5, "dB"),
        Target(f"F and G, last frame: {perceptual}", ratio(*last_perceptual), "≤", 0.95),
        Target(f"F and G, last frame: {moving}", difference(*last_moving), "≥", 0.5, "dB"),
    ]


def motion_targets(results: Results) -> list[Target]:
    """The targets of motion following."""
    settings = results.summary.description.settings
    n, fewest, most = settings.middle_strokes, settings.strokes[0], settings.strokes[-1]
    still = results.motion("ade", "still", n)
    closed = difference(still, results.motion("ade", "ours", n))
    gap = difference(still, results.motion("ade", "splat, true flow", n))
    first_stroke = [results.motion("first_stroke_ade", "ours", number) for number in (most, fewest)]
    return [
        Target(f"ADE, share of the gap from still to the true-flow splat, {n} strokes", ratio(closed, gap), "≥", 0.65),
        Target(f"ADE of the first stroke, {most} strokes relative to {fewest}", ratio(*first_stroke), "≤", 1),
    ]


def long_targets(results: Results) -> list[Target]:
    """The targets of still regions and long rollouts."""
    n = results.summary.description.settings.middle_strokes
    background = results.image("psnr_background", "ours", n, "last")
    found = [Target("still pixels, last frame: PSNR to the given image", background, "≥", 30, "dB")]
    for end in results.summary.drift[-1:]:
        still = _first([end.still_st_lpips])
        found += [
            Target(f"frame {end.frame}: largest change of mean color", end.largest_color, "≤", 0.03),
            Target(f"frame {end.frame}: sharpness relative to the given image", _first([end.sharpness]), "≥", 0.95),
            Target(f"frame {end.frame}: ST-LPIPS of still regions", still, "≤", 0.25),
        ]
    return found


def evaluation_flags(settings: EvaluationSettings) -> str:
    """The arguments of `mcdiff evaluate` for the settings that are not the defaults, except the numbers of strokes."""
    names = ("num_frames", "num_clips", "num_inference_steps", "seed", "drift_frames", "drift_clips")
    used = dataclasses.asdict(settings)
    default = dataclasses.asdict(EvaluationSettings()) | {"num_inference_steps": settings.num_inference_steps}
    flags = [f"--{name.replace('_', '-')} {used[name]}" for name in names if used[name] != default[name]]
    return " ".join(flags)


def make_command(settings: EvaluationSettings) -> str:
    """The command with the settings that are not the defaults."""
    flags = evaluation_flags(settings)
    return f'make results EVALUATE="{flags}"' if flags else "make results"


def ablation_arguments(folder: Path) -> dict:
    """The arguments of `training/run_ablations.py` for the variants whose evaluations are in the folder."""
    return json.loads((folder.parent / "ablations.json").read_text())


def ablation_command(folder: Path, variants: list[str], settings: EvaluationSettings) -> str:
    """The command that trains and evaluates these variants."""
    given = ablation_arguments(folder)
    budget = f" STEPS={given['steps']}" if given["steps"] else ""
    budget += f" SEED={given['seed']}" if given["seed"] else ""
    more = [f"--train_batch_size {given['train_batch_size']}"]
    if given["minutes"]:
        more.append(f"--minutes {given['minutes']:g}")
    if given["data_weights"]:
        more.append(f"--data_weights {' '.join(f'{weight:g}' for weight in given['data_weights'])}")
    if len(variants) < len(given["all_variants"]):
        more.append(f"--variants {' '.join(variants)}")
    strokes = ",".join(map(str, settings.strokes))
    evaluate = f"--strokes {strokes} {evaluation_flags(settings)}".strip()
    return f'make ablations{budget} ABLATIONS="{" ".join(more)}" EVALUATE="{evaluate}"'


def read_summary(evaluation: Path) -> EvaluationSummary:
    """The results in the folder of an evaluation."""
    return EvaluationSummary.from_json(json.loads((evaluation / "metrics.json").read_text()))


@functools.cache  # every variant is compared with the same one
def model_results(evaluation: Path, strokes: int) -> list[MethodResult]:
    """The results of the model itself on each clip."""
    records = [ClipRecord.read(path) for path in sorted((evaluation / "clips").glob("*.json"))]
    return [next(r for r in record.methods if (r.method, r.strokes) == ("ours", strokes)) for record in records]


def variant_differences(folder: Path, variant: str, other: str) -> Estimates:
    """One variant minus another; see `differences`.

    Raises:
        ValueError: if they were not evaluated on the same clips with the same settings.
    """
    n = check_comparable(folder / variant, folder / other).middle_strokes
    return differences(model_results(folder / variant, n), model_results(folder / other, n), n)


def check_comparable(first: Path, second: Path) -> EvaluationSettings:
    """The settings of two evaluations.

    Raises:
        ValueError: if they are of other clips or with other settings.
    """
    summaries = [read_summary(folder) for folder in (first, second)]
    descriptions = [(s.description.data_fingerprint, s.description.settings, s.clips) for s in summaries]
    if descriptions[0] != descriptions[1]:
        raise ValueError(
            f"{first} and {second} are evaluations of other clips or with other settings, so they cannot be compared: "
            "evaluate both by the same command."
        )
    return summaries[0].description.settings


def ablation_section(folders: list[Path]) -> list[str]:
    """The section about variants: their results and differences to the full one, then the results for other seeds.

    Args:
        folders (`list[Path]`): the evaluations, one folder for each seed. The lowest seed is described in full.
    """
    folder, *others = sorted(folders, key=lambda folder: ablation_arguments(folder)["seed"])
    summaries = {path.parent.name: read_summary(path.parent) for path in sorted(folder.glob("*/metrics.json"))}
    some = next(iter(summaries.values()))
    order = sorted(summaries, key=lambda name: (name != "full", name))
    minus_full = {f"`{name}`": variant_differences(folder, name, "full") for name in order if name != "full"}
    settings = some.description.settings
    return [
        "## Ablations",
        "",
        f"Trained from random weights by `training/run_ablations.py`, {budget(folder)}. This is far less than the "
        "model above, so compare only the lines of this table with each other. "
        f"{some.clips} clips, {settings.middle_strokes} strokes, {settings.num_frames} frames."
        + whole_note(summaries.values()),
        "",
        *("```bash", ablation_command(folder, order, settings), "```", ""),
        *variant_table(folder, {name: summaries[name] for name in order}),
        "",
        *missing_lines(folder, order),
        "Each variant minus `full`, over the same clips. An interval that excludes 0 is a difference:",
        "",
        *difference_table(minus_full, "minus `full`"),
        "",
        *flow_completion_lines(folder),
        *(seed_lines([folder, *others]) if others else []),
    ]


def variant_table(folder: Path, summaries: dict[str, EvaluationSummary]) -> list[str]:
    """The table of variants of one seed."""
    rows = []
    for name, summary in summaries.items():
        changed = json.loads((folder.parent / name / "ablation.json").read_text())["difference"]
        n = summary.description.settings.middle_strokes
        distances = [of_methods[method_label("ours", n)] for of_methods in summary.frechet.values()]
        distance = f"{distances[0]:.3g}" if distances else "–"
        estimates = variant_estimates(summary)
        rows.append([f"`{name}`", changed, distance, *("–" if e is None else cell(e) for e in estimates.values())])
    return table(["variant", "difference to full", "Fréchet distance on ST-LPIPS features ↓", *estimates], rows)


def seed_lines(folders: list[Path]) -> list[str]:
    """The table of the variants that were trained with several seeds.

    Args:
        folders (`list[Path]`): the evaluations, one folder for each seed.

    Raises:
        ValueError: if they differ in more than the seed, or no variant is in all of them.
    """
    given = [ablation_arguments(folder) for folder in folders]
    if any(len({str(arguments[name]) for arguments in given}) > 1 for name in COMMON_ARGUMENTS):
        names = ", ".join(f"--{name}" for name in COMMON_ARGUMENTS)
        raise ValueError(
            f"The variants of {', '.join(map(str, folders))} were trained with different {names}: train them by the "
            "same command with other seeds."
        )
    of_folders = [{path.parent.name for path in folder.glob("*/metrics.json")} for folder in folders]
    names = sorted(set.intersection(*of_folders), key=lambda name: (name != "full", name))
    if not names:
        raise ValueError(f"No variant is in all of {', '.join(map(str, folders))}: give folders with the same ones.")
    rows = []
    for name in names:
        settings = [check_comparable(folder / name, folders[0] / name) for folder in folders]
        of_seeds = [variant_estimates(read_summary(folder / name)) for folder in folders]
        cells = []
        for column, digits in SEED_COLUMNS.items():
            values = [estimates[column].value for estimates in of_seeds if estimates[column] is not None]
            each = ", ".join(f"{value:.{digits}f}" for value in values)
            cells.append(f"{sum(values) / len(values):.{digits}f}<br>{each}" if values else "–")
        rows.append([f"`{name}`", *cells])
    seeds = [str(arguments["seed"]) for arguments in given]
    return [
        f"The same for seeds {', '.join(seeds)}, each trained and evaluated by a command like this. The mean of the "
        "seeds, and each of them below it:",
        "",
        *("```bash", ablation_command(folders[-1], names, settings[-1]), "```", ""),
        *table(["variant", *SEED_COLUMNS], rows),
        "",
    ]


def variant_estimates(summary: EvaluationSummary) -> dict[str, Estimate | None]:
    """The results of one variant, by the title of the column; None where a result is missing."""
    n = summary.description.settings.middle_strokes
    images = {e.frames: e.estimates for e in summary.images if (e.method, e.strokes) == ("ours", n)}
    ade = [e.ade for e in summary.motion if (e.method, e.strokes, e.frames) == ("ours", n, "all")]
    flow = [e.end_point_error for e in summary.flow if (e.flow, e.strokes, e.region) == ("F", n, "body")]
    return {
        "ST-LPIPS ↓": images["all"]["st_lpips"],
        "SSIM ↑": images["all"]["ssim"],
        "PSNR ↑ (dB)": images["all"]["psnr"],
        "PSNR, moving ↑ (dB)": images["all"]["psnr_moving"],
        "last frame: PSNR, moving ↑ (dB)": images["last"]["psnr_moving"],
        "ADE ↓ (px)": ade[0],
        "F, body ↓ (px)": flow[0] if flow else None,
        **whole_estimates(summary),
    }


def whole_estimates(summary: EvaluationSummary) -> dict[str, Estimate | None]:
    """The results of `WHOLE_COLUMNS`, at the largest working size, without regions."""
    if summary.wholes is None:
        return dict.fromkeys(WHOLE_COLUMNS)
    wanted = {
        result.setup.strokes: result.estimates
        for result in summary.wholes.results
        if (result.method, result.size) == (COMPLETED_FLOW, max(summary.wholes.sizes))
        and result.setup == Setup("translation", result.setup.strokes, True)
    }
    return {column: wanted[strokes][measure] for column, (strokes, measure) in WHOLE_COLUMNS.items()}


def whole_note(summaries: Iterable[EvaluationSummary]) -> str:
    """A sentence about `WHOLE_COLUMNS`; empty if they were not measured."""
    wholes = next((summary.wholes for summary in summaries if summary.wholes is not None), None)
    if wholes is None:
        return ""
    return (
        f" Whole things: translations with two holds on {len(wholes.photographs)} photographs at {max(wholes.sizes)} "
        "pixels, without regions."
    )


def missing_lines(folder: Path, evaluated: list[str]) -> list[str]:
    """A sentence that names the variants of the script that were not trained; none if all were."""
    known = ablation_arguments(folder)["all_variants"]
    missing = [f"`{name}`" for name in known if name not in evaluated]
    return [f"Not trained: {', '.join(missing)}.", ""] if missing else []


def flow_completion_lines(folder: Path) -> list[str]:
    """What flow completion improves (the paper's Table 2): a model in the paper's form with F minus one without F."""
    if not all((folder / name / "metrics.json").is_file() for name in ("plain", "no_flow_completion")):
        return []
    found = variant_differences(folder, "plain", "no_flow_completion")
    without = read_summary(folder / "no_flow_completion")
    n = without.description.settings.middle_strokes
    distance = Results(without).image("st_lpips", "ours", n, "all")
    st_lpips = [f"{value / distance:+.0%}" for value in _ends(found["st_lpips"])]
    decibels = [f"{value:+.2f}" for value in _ends(found["psnr"])]
    pixels = [f"{value:+.2f}" for value in _ends(found["ade"])]
    return [
        "What does flow completion improve? In the paper's form (`plain` minus `no_flow_completion`, over the same "
        f"clips) it changes ST-LPIPS by {st_lpips[0]} ({st_lpips[1]} to {st_lpips[2]}), PSNR by {decibels[0]} dB "
        f"({decibels[1]} to {decibels[2]}) and ADE by {pixels[0]} pixels ({pixels[1]} to {pixels[2]}). In the paper, "
        "on MPII, after 400,000 steps, it gives -22 % LPIPS, +1.18 dB and -29 % FVD.",
        "",
    ]


def _ends(estimate: Estimate) -> tuple[float, float, float]:
    """The value of an estimate and the ends of its interval."""
    return estimate.value, estimate.low, estimate.high


def budget(folder: Path) -> str:
    """How long the variants were trained, in words."""
    made = [json.loads(path.read_text()) for path in sorted(folder.parent.glob("*/ablation.json"))]
    components = [component for variant in made for component in variant["components"].values()]
    steps = sorted({component["steps"] for component in components})
    minutes = sum(component["minutes"] for component in components if component["shared_with"] is None)
    span = f"{steps[0]}" if steps[0] == steps[-1] else f"{steps[0]} to {steps[-1]}"
    batch = ablation_arguments(folder)["train_batch_size"]
    return f"{span} steps of {batch} for each F and each G, {minutes:.0f} minutes in all"


def existing_section(page: Path, title: str) -> list[str]:
    """The lines of one section of an existing page, including the title; empty if there is none."""
    lines = page.read_text(encoding="utf-8").splitlines() if page.is_file() else []
    if title not in lines:
        return []
    first = lines.index(title)
    following = [number for number in range(first + 1, len(lines)) if lines[number].startswith("## ")]
    return lines[first : following[0] if following else len(lines)]


def introduction(summary: EvaluationSummary) -> list[str]:
    """The head of the page: commands, model and data."""
    description, settings = summary.description, summary.description.settings
    height, width = description.frame_size
    return [
        "# Results",
        "",
        "`make results` (`benchmarks/results.py`) writes this page. Every number is the output of these commands:",
        "",
        "```bash",
        *COMMANDS,
        make_command(settings),
        "```",
        "",
        f"{description.model}: {summary.clips} clips of {description.data} (rendered people; their motions, bodies "
        f"and photographs are not in the training data), {width} × {height} pixels, {settings.num_frames} frames, "
        f"{settings.num_inference_steps} denoising steps per frame, seed {settings.seed}. "
        "[evaluation.md](evaluation.md) explains each method, and each metric with its limits. Each value has its "
        "95 % bootstrap interval over clips below it.",
        "",
    ]


def comparison(summary: EvaluationSummary) -> list[str]:
    """The tables of image metrics, motion following, flow and long rollouts."""
    n = summary.description.settings.middle_strokes
    lines = [f"## Comparison with baselines: the paper's Table 2, {n} strokes", "", "Mean over all frames:", ""]
    lines += [*image_table(summary, "all", n), "", "The first frame:", "", *image_table(summary, "first", n), ""]
    lines += ["The last frame:", "", *image_table(summary, "last", n), ""]
    lines += [f"### Ours minus each method, {n} strokes", "", DIFFERENCE_NOTE, ""]
    lines += [*differences_to_methods_table(summary), ""]
    motion_note = MOTION_NOTE.format(distance=recall_distance(summary.description))
    lines += ["## Motion following: the paper's Table 3", "", motion_note, "", *motion_table(summary), ""]
    lines += ["![Average displacement error over strokes](images/results-ade.png)", ""]
    if summary.keypoints:
        lines += ["### Keypoints detected on the last frame", "", KEYPOINT_NOTE, "", *keypoint_table(summary), ""]
    lines += ["## Flow of the first step", "", "End-point error in pixels:", "", *flow_table(summary), ""]
    if summary.flow_ratios:
        lines += [FLOW_RATIO_NOTE, "", *flow_ratio_table(summary), ""]
    if summary.next_frame:
        lines += ["## Next frame from the true flow", "", NEXT_FRAME_NOTE, "", *next_frame_table(summary), ""]
    if summary.drift:
        lines += ["## Long rollouts", "", DRIFT_NOTE, "", *drift_table(summary), ""]
        lines += ["![Color, sharpness and still regions over frames](images/results-drift.png)", ""]
    return lines


def sample_section(evaluation: Path, keys: list[str], images: Path) -> list[str]:
    """The section with sample sheets. Scales the sheets and writes them to `images`.

    Args:
        evaluation (`Path`): folder of the evaluation.
        keys (`list[str]`): the clips to show; the first ones if empty.
        images (`Path`): folder for the images.
    """
    keys = keys or [path.stem for path in sorted((evaluation / "samples").glob("*.png"))[:NUM_SAMPLES]]
    if not keys:
        return []
    lines = ["## Samples", "", "One line per method. The last line shows the flow that drove the model.", ""]
    for number, key in enumerate(keys):
        sheet = Image.open(evaluation / f"samples/{key}.png")
        sheet = sheet.resize((SAMPLE_WIDTH, round(sheet.height * SAMPLE_WIDTH / sheet.width)))
        with atomic_path(images / f"results-sample-{number}.jpg") as path:
            sheet.convert("RGB").save(path, quality=85)
        lines += [f"![{key}](images/results-sample-{number}.jpg)", ""]
    return lines


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    summary = read_summary(args.evaluation)
    images = args.output.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    for name in ("ade", "drift") if summary.drift else ("ade",):
        shutil.copyfile(args.evaluation / f"{name}.png", images / f"results-{name}.png")

    lines = introduction(summary)
    verdicts = [target.cells() for target in targets(summary)]
    lines += ["## Targets", "", *table(["", "reached", "target", ""], verdicts), ""]
    lines += comparison(summary)
    if args.ablations is not None:
        lines += ablation_section(args.ablations)
    else:
        lines += existing_section(args.output, "## Ablations")
    lines += sample_section(args.evaluation, args.samples, images)
    lines += ["## Not measured", ""]
    lines += [f"- {name}: {reason.replace(str(Path.home()), '~')}" for name, reason in summary.absent.items()]
    lines += [
        "- The results are for rendered people. Real photographs have no true motion to compare with. The images in "
        "the [README](../README.md) show good and bad results on photographs."
    ]
    with atomic_path(args.output) as path:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"Wrote {args.output}.")


if __name__ == "__main__":
    main()
