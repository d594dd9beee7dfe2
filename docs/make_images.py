# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""
Makes the pictures of the documents: all of `docs/images`, or those whose names are given.

Pictures whose data, model or browser is missing are left as they are, and named at the end with the reason. With the
embedded model and everything that is needed it takes about 10 minutes on two CPU cores.

Usage:
    python docs/make_images.py                  # all
    python docs/make_images.py citrus remedies  # some
    python docs/make_images.py --list           # the names, with what they need
"""

import argparse
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mcdiff_commands.main import main as mcdiff
from mcdiff_pipeline import MCDiffPipeline, Stroke, StrokeSheet
from mcdiff_pipeline.atomic_files import atomic_path
from mcdiff_pipeline.drawing import draw_strokes, titled_columns
from mcdiff_pipeline.motion.alignment import aligned_by_points
from mcdiff_pipeline.motion.camera import Camera, CameraKeyframe
from mcdiff_pipeline.motion.physics import Gravity, Ripple
from mcdiff_pipeline.motion.reference import ReferenceFlow, ReferenceMotion
from mcdiff_pipeline.motion.thinning import thin_tracks
from mcdiff_pipeline.motion.tracks import Tracks
from mcdiff_pipeline.motion_completion import MotionSource
from mcdiff_pipeline.video import write_video


ROOT = Path(__file__).resolve().parents[1]
EXAMPLES, IMAGES = ROOT / "examples", ROOT / "docs" / "images"
QUALITY = 88
# Clips of examples/annotated that the documents show.
ANNOTATED_CLIP, SAMPLED_CLIP = "8", "12"
# Colors of found regions, RGB.
TINTS = (255, 190, 0), (80, 170, 255)
# Strokes for the picture of found regions: moves and holds, in pixels of the photograph.
SEGMENTED = {
    "astronaut": (
        ["228,30 256,32 280,42", "225,118 258,122", "224,170 238,172"],
        ["190,290", "90,330", "420,430", "440,150", "40,150"],
    ),
    "balancing": (
        ["150,262 96,232 59,183", "177,190 146,175 128,151", "343,259 398,228 438,175", "322,177 344,162 361,139"],
        ["224,50", "243,140", "255,255", "240,460", "70,330", "390,290", "160,480"],
    ),
    "cat": (
        ["206,238 182,236 160,230", "112,115 82,119", "256,133 218,131", "175,45 145,47"],
        ["20,285", "287,280"],
    ),
    "coffee": (
        ["104,110 59,118", "322,120 277,128", "210,164 165,172", "136,277 91,285"],
        ["286,282", "333,77", "365,240", "190,365", "350,20"],
    ),
    "rocket": (
        ["216,140 216,120 216,65", "216,246 216,226 216,171", "216,380 216,360 216,305"],
        ["93,219", "342,219", "88,394", "259,397", "60,60"],
    ),
    "walking": (
        [
            *("304,74 258,76", "327,122 282,124", "308,256 262,258", "343,346 285,340", "373,423 335,404 295,414"),
            *("187,228 202,238", "407,263 372,276 335,274"),
        ],
        ["205,432", "60,200", "440,170", "110,470"],
    ),
}


class Missing(Exception):
    """Something that a picture needs is missing; the message names it."""


@dataclass(frozen=True)
class Picture:
    """How to make pictures.

    Args:
        make (`Callable`): `make(name)` writes the files.
        needs (`str`): what it needs besides this package.
    """

    make: Callable[[str], None]
    needs: str = "the embedded model"


def save(image: Image.Image, name: str) -> None:
    """Writes an image as `docs/images/NAME.jpg`."""
    with atomic_path(IMAGES / f"{name}.jpg") as path:
        image.convert("RGB").save(path, format="JPEG", quality=QUALITY, progressive=True, optimize=True)


def run(*arguments: str | Path) -> None:
    """Runs `mcdiff` without output of its own."""
    if mcdiff([str(argument) for argument in arguments] + ["--quiet"]) != 0:
        raise Missing("its command failed, see above")


def save_sheet(name: str, *arguments: str | Path) -> None:
    """Saves the contact sheet of a run of `mcdiff generate`."""
    with tempfile.TemporaryDirectory() as folder:
        sheet = Path(folder, "sheet.png")
        run("generate", *arguments, "--seed", "0", "-o", Path(folder, "video.mp4"), "--contact-sheet", sheet)
        save(Image.open(sheet), name)


def make_example(name: str) -> None:
    """An example as `make demo` shows it."""
    save_sheet(name, EXAMPLES / f"{name}.jpg", "--strokes", EXAMPLES / f"{name}.json", "--size", "256")


def make_first_video(name: str) -> None:
    """The first video of docs/quick-start.md."""
    strokes = ("--stroke", "70%,80% 54%,77%", "--stroke", "37%,38% 27%,40%", "--hold", "95%,93%")
    save_sheet(name, EXAMPLES / "cat.jpg", *strokes)


def make_grid(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "grid.png")
        run("grid", EXAMPLES / "cat.jpg", "-o", page)
        image = Image.open(page)
        save(image.resize((600, round(600 * image.height / image.width)), Image.Resampling.LANCZOS), name)


def make_clip(name: str) -> None:
    """A clip of the annotated sample, or samples of its strokes."""
    options = ("--clip", ANNOTATED_CLIP) if name == "annotated" else ("--clip", SAMPLED_CLIP, "--samples", "16")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "clip.png")
        run("dataset", "show", EXAMPLES / "annotated", *options, "-o", page)
        save(Image.open(page), name)


def make_segmentation(name: str) -> None:
    """The strokes of `SEGMENTED` and the regions that `regions_of_strokes` finds for them."""
    from mcdiff_pipeline.segmentation import PromptSegmenter, regions_of_strokes

    try:
        segmenter = PromptSegmenter()
    except (ImportError, FileNotFoundError, ValueError) as error:
        raise Missing(str(error)) from None
    side, tiles = 240, []
    for photograph, (moves, holds) in SEGMENTED.items():
        image = Image.open(EXAMPLES / f"{photograph}.jpg").convert("RGB")
        strokes = [Stroke(points_of(text)) for text in moves]
        strokes += [Stroke(points_of(text), kind="hold") for text in holds]
        regions = regions_of_strokes(EXAMPLES / f"{photograph}.jpg", strokes, segmenter)
        sheet = StrokeSheet(strokes, image.width, image.height, num_frames=16)
        found = np.asarray(image).astype(np.float32) * 0.3
        for number, region in enumerate(regions):
            coverage = region.coverage(image.height, image.width).numpy()[..., None]
            found = found * (1 - coverage) + coverage * (0.8 * np.asarray(image) + 0.2 * np.array(TINTS[number % 2]))
        pair = (draw_strokes(image, sheet), Image.fromarray(found.round().astype(np.uint8)))
        tiles.append(np.concatenate([np.asarray(tile.resize((side, side))) for tile in pair], axis=1))
    rows = [np.concatenate(tiles[start : start + 2], axis=1) for start in range(0, len(tiles), 2)]
    save(Image.fromarray(np.concatenate(rows)), name)


def points_of(text: str) -> list[tuple[float, float]]:
    """The points of `"x,y x,y"`."""
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in text.split())]


def make_remedies(name: str) -> None:
    """Symptoms of docs/troubleshooting.md: the strokes and the last frame, before and after the remedy."""
    pipe = MCDiffPipeline.from_pretrained(ROOT / "checkpoints" / "mcdiff-small-128")
    pipe.set_progress_bar_config(disable=True)
    cup, rocket, man = (StrokeSheet.load(EXAMPLES / f"{one}.json") for one in ("coffee", "rocket", "balancing"))
    pull = replace(cup, strokes=[Stroke([(136, 277), (76, 290)])], regions=())
    rise = replace(rocket, strokes=[Stroke([(216, 140), (216, 65)])], regions=())
    towers = [Stroke([point], kind="hold") for point in ((93, 219), (342, 219), (88, 394), (342, 394))]
    wave = replace(man, strokes=[Stroke([(343, 259), (398, 228), (438, 175)])], regions=())
    rows = [
        ("coffee", pull, replace(pull, regions=cup.regions[:1])),
        ("rocket", rise, replace(rise, strokes=[*rise.strokes, *towers])),
        ("balancing", wave, man),
    ]
    pictures = [np.concatenate([shown(pipe, photo, sheet) for sheet in sheets], axis=1) for photo, *sheets in rows]
    titles = ("strokes", "last frame", "strokes, better", "last frame")
    save(Image.fromarray(titled_columns(np.concatenate(pictures), titles)), name)


def shown(pipe: MCDiffPipeline, photograph: str, sheet: StrokeSheet, side: int = 256) -> np.ndarray:
    """The strokes and the last frame that they give, uint8 `[side, 2 * side, 3]`."""
    path = EXAMPLES / f"{photograph}.jpg"
    generator = torch.Generator().manual_seed(0)
    last = pipe(path, sheet, output_size="image", generator=generator).frames[0][-1]
    tiles = (draw_strokes(Image.open(path).convert("RGB"), sheet), last)
    return np.concatenate([np.asarray(tile.resize((side, side), Image.Resampling.LANCZOS)) for tile in tiles], axis=1)


def make_camera(name: str) -> None:
    """A camera over the layers of an example."""
    sheet = StrokeSheet.load(EXAMPLES / "citrus.json")
    camera = Camera([CameraKeyframe(7, truck=(80, 0), dolly=0.15, rotate=-6)], sheet.width, sheet.height)
    frames = frames_of("citrus", sheet, camera, (178, 256))
    first = draw_strokes(frames[0], sheet.scaled(*frames[0].size))
    save(Image.fromarray(side_by_side([first, *frames[2::2], frames[-1]])), name)


def make_reference(name: str) -> None:
    """Frames of a video of a cup, and the frames of half a fig that moves in the same way."""
    cup, fig = (StrokeSheet.load(EXAMPLES / f"{photograph}.json") for photograph in ("coffee", "fig"))
    frames = frames_of("coffee", cup, None, (256, 256))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "cup.mkv")
        write_video(frames, path, fps=8)
        flow = ReferenceFlow(path)
        # the point of the cup where its stroke begins lies on the fig, and the cup is as large as half of the fig
        (x, y), (fig_x, fig_y) = cup.scaled(256, 256).strokes[0].points[0], fig.strokes[0].points[0]
        alignment = aligned_by_points([(fig_x, fig_y)], [(x, y)], scale=256 / fig.height)
        motion = ReferenceMotion(flow, alignment, fig.width, fig.height, region=1)
        moved = frames_of("fig", replace(fig, strokes=()), motion, (173, 256))
    rows = [side_by_side([row[0], row[2], row[5], row[7]], 173) for row in (frames, moved)]
    width = min(row.shape[1] for row in rows)
    save(Image.fromarray(np.concatenate([row[:, :width] for row in rows])), name)


def make_physics(name: str) -> None:
    """A region that falls, and a background that ripples."""
    rows = []
    for photograph, size, toy in (
        ("fig", (173, 256), Gravity(1, acceleration=1.5, bounce=0.5)),
        ("walking", (256, 256), Ripple(0, amplitude=1.2)),
    ):
        drawn = StrokeSheet.load(EXAMPLES / f"{photograph}.json")
        frames = frames_of(photograph, replace(drawn, strokes=()), toy, size)
        rows.append(side_by_side([frames[0], frames[2], frames[5], frames[7]], 173))
    width = min(row.shape[1] for row in rows)
    save(Image.fromarray(np.concatenate([row[:, :width] for row in rows])), name)


def make_handles(name: str) -> None:
    """One stroke whose two handles turn a region along its path."""
    fig = StrokeSheet.load(EXAMPLES / "fig.json")
    path = [(1130, 640), (1180, 560), (1300, 520)]
    stroke = Stroke(path, rotate=-50, scale=1.15, radius=210, easing="ease-in-out", region="fig")
    sheet = replace(fig, strokes=[stroke, *(one for one in fig.strokes if one.kind == "hold")])
    frames = frames_of("fig", sheet, None, (173, 256))
    drawn = draw_strokes(Image.open(EXAMPLES / "fig.jpg").convert("RGB"), sheet).resize(frames[0].size)
    save(Image.fromarray(side_by_side([drawn, *frames[2::2], frames[-1]])), name)


def make_tracks(name: str) -> None:
    """Many tracks, the strokes from which they follow, and the last frame that these give."""
    cup = StrokeSheet.load(EXAMPLES / "coffee.json")
    (region,), (moved, *_) = cup.regions, cup.strokes
    size = (cup.height, cup.width)
    rows, columns = np.mgrid[12.5 : cup.height : 25, 12.5 : cup.width : 25]
    points = np.stack([columns, rows], axis=-1).reshape(-1, 2)
    inside = region.coverage(*size).numpy()[points[:, 1].astype(int), points[:, 0].astype(int)] > 0.5
    way = np.array([np.subtract(moved.at(frame, 16), moved.points[0]) for frame in range(16)])
    tracks = Tracks(points + way[:, None] * inside[:, None], np.ones((16, len(points)), bool), cup.width, cup.height)
    few = replace(thin_tracks(tracks, max_tracks=12).tracks.sheet(), regions=[replace(region, rigid=False)])
    last = frames_of("coffee", few, None, (256, 256), number=16)[-1]
    image = Image.open(EXAMPLES / "coffee.jpg").convert("RGB").resize((256, 256), Image.Resampling.LANCZOS)
    tiles = [draw_strokes(image, tracks.sheet()), draw_strokes(image, few), last]
    titles = (f"{len(tracks)} tracks", f"{len(few.strokes)} strokes", "the last frame")
    save(Image.fromarray(titled_columns(side_by_side(tiles), titles)), name)


def make_continued(name: str) -> None:
    """A video and what follows it: strokes, its last frame with the next strokes, and the last frame of all."""
    pipe, hold = motion_model(), Stroke([(20, 285)], kind="hold")
    left, back = Stroke([(206, 238), (160, 230)], end_frame=5), Stroke([(160, 230), (200, 246)])
    state = pipe.start(EXAMPLES / "cat.jpg", generator=torch.Generator().manual_seed(0), output_size="image")
    (first,) = pipe.decode_frame(state)
    shown_frames = [first]
    for strokes in ([left, hold], [back.timed(6, 5), hold]):
        for _ in range(5):
            state = pipe.step(state, strokes, num_frames=11)
        shown_frames += pipe.decode_frame(state)
    sheets = [StrokeSheet([stroke, hold], *first.size, num_frames=6) for stroke in (left, back)]
    tiles = [draw_strokes(frame, sheet) for frame, sheet in zip(shown_frames, sheets, strict=False)]
    titles = ("strokes", "the last frame, further strokes", "the last frame of all")
    save(Image.fromarray(titled_columns(side_by_side([*tiles, shown_frames[-1]], 256), titles)), name)


@functools.cache
def motion_model() -> MCDiffPipeline:
    """The embedded model, for the pictures of docs/motion.md."""
    pipe = MCDiffPipeline.from_pretrained(ROOT / "checkpoints" / "mcdiff-small-128")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def frames_of(
    photograph: str, sheet: StrokeSheet, motion: MotionSource | None, size: tuple[int, int], number: int = 8
) -> list[Image.Image]:
    """Frames of an example photograph, at (height, width) `size`."""
    generator = torch.Generator().manual_seed(0)
    image = Image.open(EXAMPLES / f"{photograph}.jpg").convert("RGB")
    arguments = {"num_frames": number, "motion": motion, "output_size": size, "generator": generator}
    return motion_model()(image, sheet, **arguments).frames[0]


def side_by_side(images: Sequence[Image.Image], height: int | None = None) -> np.ndarray:
    """Images in a row, each `height` pixels high."""
    scales = [1.0 if height is None else height / one.height for one in images]
    sizes = [(round(one.width * scale), round(one.height * scale)) for one, scale in zip(images, scales, strict=True)]
    resized = [one.resize(size, Image.Resampling.LANCZOS) for one, size in zip(images, sizes, strict=True)]
    return np.concatenate([np.asarray(one.convert("RGB")) for one in resized], axis=1)


def make_refinement(name: str) -> None:
    data = ROOT / "data" / "people256"
    if not data.is_dir():
        raise Missing("data/people256 is missing; docs/annotation.md has the command that renders it")
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "refinement.png")
        program = ROOT / "benchmarks" / "refinement.py"
        run_program(program, "--data", data, "--split", "test", "--picture", picture)
        save(Image.open(picture), name)


def make_results(_: str) -> None:
    if not (ROOT / "runs" / "evaluation" / "metrics.json").is_file():
        raise Missing("runs/evaluation is missing; `make results` makes it, the pictures and docs/results.md (hours)")
    run_program(ROOT / "benchmarks" / "results.py", "--evaluation", ROOT / "runs" / "evaluation")


def make_studio(_: str) -> None:
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        raise Missing("Chromium is missing")
    run_program(ROOT / "docs" / "studio_screenshots.py")


def make_comfyui(_: str) -> None:
    if "MCDIFF_COMFYUI" not in os.environ:
        raise Missing("MCDIFF_COMFYUI is not set; it names a checkout of ComfyUI")
    run_program(ROOT / "docs" / "comfyui_screenshot.py")


def run_program(program: Path, *arguments: str | Path) -> None:
    """Runs a script of the repository in its root.

    Raises:
        Missing: if it fails.
    """
    result = subprocess.run([sys.executable, program, *arguments], cwd=ROOT)
    if result.returncode != 0:
        raise Missing(f"{program.name} failed, see above")


PICTURES = {
    **dict.fromkeys(("citrus", "coffee", "fig", "balancing", "walking", "astronaut"), Picture(make_example)),
    "first-video": Picture(make_first_video),
    "grid": Picture(make_grid, "nothing"),
    "remedies": Picture(make_remedies),
    "motion-camera": Picture(make_camera),
    "motion-reference": Picture(make_reference, "the embedded model, the extra `annotation`"),
    "motion-handles": Picture(make_handles),
    "motion-tracks": Picture(make_tracks),
    "motion-continued": Picture(make_continued),
    "motion-physics": Picture(make_physics),
    "annotated": Picture(make_clip, "nothing"),
    "samples": Picture(make_clip, "nothing"),
    "segmentation": Picture(make_segmentation, "the segmenter (training/tools/build_segmenter.py)"),
    "studio": Picture(make_studio, "the embedded model, the extra `studio`, playwright and Chromium"),
    "comfyui": Picture(make_comfyui, "the embedded model, a checkout of ComfyUI, playwright and Chromium"),
    "refinement": Picture(make_refinement, "rendered clips in data/people256, the pose model"),
    "results": Picture(make_results, "an evaluation in runs/evaluation"),
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="pictures to make (default: all)")
    parser.add_argument("--list", action="store_true", help="list the names, and what each needs")
    args = parser.parse_args(arguments)
    if unknown := [name for name in args.names if name not in PICTURES]:
        parser.error(f"there is no picture {unknown[0]}; the names are {', '.join(PICTURES)}")
    if args.list:
        print(*(f"{name:14} {picture.needs}" for name, picture in PICTURES.items()), sep="\n")
        return 0
    missing = {}
    for name in args.names or PICTURES:
        try:
            PICTURES[name].make(name)
            print(f"{name}: made")
        except Missing as error:
            missing[name] = error
    for name, error in missing.items():
        print(f"{name}: not made: {error}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
