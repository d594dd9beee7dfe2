# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The `mcdiff` command: make a clip from a picture and strokes, show the dense flow, describe a model.

Exit codes: 0 done, 1 failed, 2 wrong input, 130 stopped by Ctrl-C. Everything that can be wrong with the input is said
in one sentence before the model is loaded, or before the first frame where only the model knows.
"""

import argparse
import base64
import contextlib
import io
import math
import os
import re
import signal
import sys
from dataclasses import replace
from pathlib import Path


MODEL_VARIABLE = "MCDIFF_MODEL"
EMBEDDED_MODEL = Path(__file__).resolve().parents[2] / "checkpoints" / "mcdiff-small-128"
DTYPES = ("float32", "float16", "bfloat16")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
CLIP_FORMAT = "mcdiff clip"
CLIP_VERSION = 1

# The pictures of strokes and flow keep the given picture's size up to this many pixels on the longer side.
LONGEST_SIDE = 1024


class InputError(Exception):
    """Something is wrong with what the user gave; the message is one sentence for them."""


@contextlib.contextmanager
def checking_input(prefix: str = ""):
    """Turns what a library says about wrong input into an [`InputError`], with `prefix` before it."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        raise InputError(prefix + first_line(error)) from error


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type's name where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class OneSentenceParser(argparse.ArgumentParser):
    """An argument parser that answers a mistake with one sentence instead of the usage."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (`{self.prog} --help` shows what is allowed)\n")


def number(convert: type, minimum: float, *, exclusive: bool = False):
    """A type for argparse: a number of type `convert` from `minimum` (or above it, if `exclusive`), below 2^63."""

    def parse(text: str):
        try:
            value = convert(text)
        except ValueError:
            value = math.nan
        if not (minimum <= value < 2**63) or (exclusive and value == minimum):
            kind = "whole number" if convert is int else "number"
            raise argparse.ArgumentTypeError(f"{text!r} is no {kind} {'above' if exclusive else 'from'} {minimum}")
        return value

    return parse


def points(text: str) -> list[tuple[float, float]]:
    """Parses `"x,y x,y ..."`, in pixels of the picture."""
    pairs = []
    for pair in text.split():
        try:
            x, y = map(float, pair.split(","))
        except ValueError:
            raise argparse.ArgumentTypeError(f'{pair!r} is no point; write "x,y x,y", in pixels') from None
        pairs.append((x, y))
    return pairs


def size(text: str) -> int | tuple[int, int]:
    """Parses `"N"`, the shorter side, or `"WxH"`, both in pixels."""
    if not re.fullmatch(r"[1-9]\d{0,5}(x[1-9]\d{0,5})?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 256 for the shorter side, or 384x256")
    numbers = tuple(map(int, text.split("x")))
    return numbers[0] if len(numbers) == 1 else numbers


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command; `run` of its result is the function to call with it."""
    from .annotation.arguments import add_annotation_arguments
    from .evaluation.arguments import add_evaluation_arguments
    from .hub_arguments import add_export_arguments, add_push_arguments

    parser = OneSentenceParser(
        prog="mcdiff",
        description="From one picture and a few strokes to a video.",
        epilog="`mcdiff COMMAND --help` describes each command.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    strokes = argparse.ArgumentParser(add_help=False)
    group = strokes.add_argument_group("strokes, in pixels of the picture (all that are given are used together)")
    group.add_argument("--strokes", metavar="FILE", type=Path, help="a stroke sheet (JSON, see docs/stroke-format.md)")
    group.add_argument(
        "--stroke",
        metavar='"X,Y X,Y ..."',
        type=points,
        action="append",
        default=[],
        help="move what is at the first point along the others, over the whole clip; may be repeated",
    )
    group.add_argument(
        "--hold",
        metavar='"X,Y"',
        type=points,
        action="append",
        default=[],
        help="keep what is at this point still; may be repeated",
    )
    model = argparse.ArgumentParser(add_help=False)
    group = model.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="DIR_OR_REPO",
        help=f"folder or Hub repository of the model (default: ${MODEL_VARIABLE}, else the one in this checkout)",
    )
    group.add_argument("--device", help="where to compute, for example cpu or cuda:0 (default: cuda if there is one)")
    group.add_argument("--dtype", choices=DTYPES, help="number format of the networks (default: float32)")
    working_size = argparse.ArgumentParser(add_help=False)
    working_size.add_argument(
        "--size",
        type=size,
        metavar="N|WxH",
        help="working size: the shorter side, or width x height (default: the model's, in the picture's shape)",
    )

    generate_parser = commands.add_parser(
        "generate",
        parents=[strokes, model, working_size],
        help="make a video from a picture and strokes",
        description="Makes a video from a picture and strokes. Ctrl-C keeps the frames made so far as a whole file.",
        epilog='example: mcdiff generate cat.jpg --stroke "206,238 160,230" --hold "20,285" --output cat.mp4',
    )
    generate_parser.add_argument("image", metavar="IMAGE", nargs="?", help="the picture: a file or an http(s) address")
    generate_parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the video to write; the suffix decides: .mp4, .webm, .gif, or .mkv (lossless)",
    )
    generate_parser.add_argument(
        "--replay",
        type=Path,
        metavar="CLIP",
        help="make the video again from all that a clip of this command carries: picture, strokes, settings; "
        "settings given beside it win (default output: CLIP-replay)",
    )
    generate_parser.add_argument(
        "--num-frames", type=number(int, 2), metavar="N", help="length, the picture included (default: the sheet's)"
    )
    generate_parser.add_argument(
        "--steps", type=number(int, 1), metavar="N", help="denoising steps per frame (default: the model's)"
    )
    generate_parser.add_argument(
        "--guidance-scale", type=number(float, 0), metavar="G", help="guidance on motion (default: the model's)"
    )
    generate_parser.add_argument("--seed", type=number(int, 0), metavar="N", help="seed of the noise (default: 0)")
    generate_parser.add_argument(
        "--fps", type=number(float, 0, exclusive=True), help="frames per second (default: the sheet's, else 8)"
    )
    generate_parser.add_argument(
        "--flow-video", type=Path, metavar="FILE", help="also write the dense flow of every step as a video"
    )
    generate_parser.add_argument(
        "--contact-sheet",
        type=Path,
        metavar="FILE",
        help="also write one picture (.png, .jpg) with the strokes and frames from the whole clip",
    )
    generate_parser.set_defaults(run=generate)

    flow_parser = commands.add_parser(
        "flow",
        parents=[strokes, model, working_size],
        help="show the dense flow that the strokes give",
        description="Writes a picture: the strokes drawn over the given one, and beside it the dense flow of one step "
        "in the colors of the Middlebury wheel (white: no motion, red: right, hue: direction, depth: speed).",
        epilog='example: mcdiff flow cat.jpg --stroke "206,238 160,230" --output flow.png',
    )
    flow_parser.add_argument("image", metavar="IMAGE", help="the picture: a file or an http(s) address")
    flow_parser.add_argument("--output", type=Path, metavar="FILE", required=True, help="the picture to write")
    flow_parser.add_argument(
        "--frame",
        type=number(int, 0),
        metavar="N",
        default=0,
        help="the step shown, from frame N to N + 1 (default: 0)",
    )
    flow_parser.add_argument(
        "--num-frames", type=number(int, 2), metavar="N", help="length of the clip (default: the sheet's)"
    )
    flow_parser.set_defaults(run=flow)

    info_parser = commands.add_parser(
        "info",
        help="describe a model and say whether it loads",
        description="Describes a model: its parts, their sizes, what it is conditioned on, its defaults.",
    )
    info_parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help=f"folder or Hub repository (default: ${MODEL_VARIABLE}, else the one in this checkout)",
    )
    info_parser.set_defaults(run=info)

    export_parser = commands.add_parser(
        "export",
        help="make the folder of a Hub repository of a model",
        description="Writes weights, code, model card, license and an example into a folder that loads with and "
        "without this package.",
        epilog="example: mcdiff export mcdiff-small-128 exported --variant fp16",
    )
    add_export_arguments(export_parser)
    export_parser.set_defaults(run=export)

    push_parser = commands.add_parser(
        "push",
        help="upload such a folder to the Hub",
        description="Uploads what `mcdiff export` wrote to the Hugging Face Hub, as one commit.",
        epilog="example: mcdiff push exported owner/name --private",
    )
    add_push_arguments(push_parser)
    push_parser.set_defaults(run=push)

    annotate_parser = commands.add_parser(
        "annotate",
        help="turn videos into training data",
        description="Turns videos into clips with dense flow, people and keypoints: shards that the training scripts "
        "read, a report and a dataset card. Killed and started again, it goes on.",
        epilog="example: mcdiff annotate holiday.mp4 videos/ --output-dir clips",
    )
    add_annotation_arguments(annotate_parser)
    annotate_parser.set_defaults(run=annotate)

    evaluate_parser = commands.add_parser(
        "evaluate",
        parents=[model],
        help="measure a model beside its rivals",
        description="Measures a model on clips with true flow, beside simple rivals in the same run: metrics.json, a "
        "report with tables and plots, sheets and videos. Killed and started again, it goes on.",
        epilog="example: mcdiff evaluate --data data/people --output evaluation",
    )
    add_evaluation_arguments(evaluate_parser)
    evaluate_parser.set_defaults(run=evaluate)

    dataset_parser = commands.add_parser("dataset", help="look at training data", description="Looks at clips.")
    actions = dataset_parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show_parser = actions.add_parser(
        "show",
        help="draw a clip",
        description="Draws frames, people, flow and strokes sampled from the flow as one picture.",
        epilog="example: mcdiff dataset show clips/train-00000.tar --output clip.png",
    )
    show_parser.add_argument("shard", metavar="SHARD", type=Path, help="a shard, or a folder of shards")
    show_parser.add_argument("--clip", metavar="N|KEY", default="0", help="number or key of the clip (default: 0)")
    show_parser.add_argument(
        "--samples",
        metavar="N",
        type=number(int, 1),
        help="draw N samples of strokes from the first flow instead",
    )
    show_parser.add_argument("--seed", type=number(int, 0), default=0, metavar="N", help="of the strokes (default: 0)")
    show_parser.add_argument("--output", metavar="FILE", type=Path, required=True, help="the picture to write")
    show_parser.set_defaults(run=show_clip)
    return parser


def resolve_model(name: str | None) -> tuple[str, str]:
    """
    Finds the model to use.

    Args:
        name (`str`, *optional*): A folder, a Hub repository, or the embedded model's name; None takes the default.

    Returns:
        `tuple[str, str]`: What `from_pretrained` takes, and the name to write into a clip.

    Raises:
        InputError: If there is no such model, or none is named and there is no default.
    """
    name = name or os.environ.get(MODEL_VARIABLE) or None
    embedded = EMBEDDED_MODEL.joinpath("model_index.json").is_file()
    if name is None and not embedded:
        raise InputError(
            f"no model is named: give --model a folder or a Hub repository, or set {MODEL_VARIABLE} to one."
        )
    if embedded and (name in (None, EMBEDDED_MODEL.name) or Path(name).resolve() == EMBEDDED_MODEL):
        return str(EMBEDDED_MODEL), EMBEDDED_MODEL.name
    if Path(name).joinpath("model_index.json").is_file():
        return name, name
    if Path(name).exists():
        raise InputError(
            f"{name} is no model: it holds no model_index.json; name the folder that save_pretrained wrote."
        )
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise InputError(f"{name} is neither a folder nor the name of a Hub repository (owner/name).")
    return name, name


def load_model(path: str, dtype: str, device: str | None):
    """The pipeline at `path`, on its device, with progress bars only where someone watches."""
    import diffusers
    import torch

    from .pipeline_mcdiff import MCDiffPipeline

    try:
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"--device {device} cannot be used: {first_line(error)}") from None

    diffusers.utils.logging.disable_progress_bar()
    try:
        pipe = MCDiffPipeline.from_pretrained(path, dtype=getattr(torch, dtype)).to(device)
    except ValueError as error:  # of the model's files; a Hub that cannot be reached is no wrong input
        raise InputError(first_line(error)) from error
    pipe.set_progress_bar_config(disable=not sys.stderr.isatty())
    return pipe


def check_output(path: Path, suffixes: tuple[str, ...] | None = None) -> None:
    """Raises an [`InputError`] unless a file (with one of the suffixes) can be written at `path`."""
    if suffixes is not None and path.suffix.lower() not in suffixes:
        raise InputError(f"{path}: the suffix is {path.suffix!r}, but must be one of {', '.join(suffixes)}.")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; make it first.")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"{path} cannot be written there; name a file in a folder that you may write to.")


def read_picture(name: str):
    """The given picture `[3, H, W]` in [0, 1], as the pipeline reads it."""
    from .image_processor import load_image_tensor

    if not name.startswith(("http://", "https://")) and not Path(name).is_file():
        raise InputError(f"{name}: there is no such picture.")
    with checking_input(f"{name} cannot be read as a picture: "):
        return load_image_tensor(name)


def read_strokes(args: argparse.Namespace, height: int, width: int):
    """
    All strokes of the command line as one sheet, in pixels of the given picture.

    Its number of frames is the sheet's, else `--num-frames`, else the least there is, to be replaced by the model's.
    """
    from .strokes import Stroke, StrokeSheet

    if args.strokes is None and not args.stroke and not args.hold:
        raise InputError("no strokes are given: draw some with --stroke, --hold or --strokes FILE.")
    with checking_input("--stroke and --hold: "):
        typed = [Stroke(line) for line in args.stroke] + [Stroke(point, kind="hold") for point in args.hold]
        typed = StrokeSheet(typed, width, height, args.num_frames or 2)
    if args.strokes is None:
        return typed
    if not args.strokes.is_file():
        raise InputError(f"{args.strokes}: there is no such stroke sheet.")
    with checking_input():
        sheet = StrokeSheet.load(args.strokes)
    if abs(math.log(sheet.width / sheet.height * height / width)) > 0.02:
        print(
            f"mcdiff: warning: {args.strokes} was drawn on {sheet.width} x {sheet.height} pixels, but the picture has "
            f"{width} x {height}; its strokes are stretched to fit.",
            file=sys.stderr,
        )
    sheet = sheet.scaled(width, height)
    return replace(sheet, strokes=sheet.strokes + typed.strokes)


def working_picture(pipe, picture, wanted: int | tuple[int, int] | None):
    """
    The given picture at the working size, as 8-bit RGB: what frame 0 shows and what a clip carries.

    Args:
        pipe (`MCDiffPipeline`): Knows its default size.
        picture (`torch.Tensor`): `[3, H, W]` in [0, 1].
        wanted (`int` or `tuple[int, int]`, *optional*): The shorter side, or (width, height).

    Returns:
        `PIL.Image.Image`: The picture.
    """
    height = width = None
    if isinstance(wanted, tuple):
        width, height = wanted
    elif wanted is not None and picture.shape[1] <= picture.shape[2]:
        height = wanted
    elif wanted is not None:
        width = wanted
    with checking_input():
        pictures, _ = pipe.prepare_images(picture, height, width)
        pipe.check_inputs(2, *pictures.shape[2:], 1, 1)
    return to_image(pictures[0])


def to_image(picture):
    """A tensor `[3, H, W]` in [0, 1] as a PIL picture, rounded to 8 bits."""
    from PIL import Image

    return Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy())


@contextlib.contextmanager
def stopping_once():
    """Lets only the first Ctrl-C through: a second one must not tear the file that is being finished."""

    def stop(*_):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def read_clip(path: Path) -> tuple[dict, "StrokeSheet", "torch.Tensor"]:  # noqa: F821
    """
    What a clip of `mcdiff generate` carries.

    Returns:
        `tuple[dict, StrokeSheet, torch.Tensor]`: Its metadata, strokes, and working picture `[3, H, W]` in [0, 1].
    """
    from PIL import Image

    from .image_processor import load_image_tensor
    from .strokes import StrokeSheet
    from .video import VideoReader

    if not path.is_file():
        raise InputError(f"{path}: there is no such clip.")
    with checking_input(), VideoReader(path) as video:
        metadata = video.metadata
    if metadata.get("format") != CLIP_FORMAT:
        raise InputError(f"{path} carries no settings to replay; only a video that `mcdiff generate` wrote does.")
    if metadata.get("version") != CLIP_VERSION:
        raise InputError(
            f"{path} carries settings of version {metadata.get('version')}; this program reads version {CLIP_VERSION}."
        )
    try:
        settings = metadata["settings"]
        metadata["settings"] = {
            "num_frames": int(settings["num_frames"]),
            "num_inference_steps": int(settings["num_inference_steps"]),
            "guidance_scale": float(settings["guidance_scale"]),
            "seed": int(settings["seed"]),
            "fps": float(settings["fps"]),
            "dtype": DTYPES[DTYPES.index(settings["dtype"])],
        }
        metadata["model"] = {key: str(metadata["model"][key]) for key in ("name", "fingerprint")}
        sheet = StrokeSheet.from_dict(metadata["strokes"])
        content = base64.b64decode(metadata["picture"].removeprefix("data:image/png;base64,"), validate=True)
        return metadata, sheet, load_image_tensor(Image.open(io.BytesIO(content), formats=["PNG"]))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
        raise InputError(f"the settings that {path} carries are damaged: {first_line(error)}") from None


def generate(args: argparse.Namespace) -> int:
    """`mcdiff generate`: returns the exit code."""
    if args.replay is not None:
        for name in ("image", "strokes", "stroke", "hold", "size"):
            if getattr(args, name):
                option = "IMAGE" if name == "image" else f"--{name}"
                raise InputError(
                    f"{option} is given beside --replay, which takes picture, strokes and size from the clip."
                )
        output = args.output or args.replay.with_stem(f"{args.replay.stem}-replay")
    elif args.image is None:
        raise InputError("no picture is given: name one, or --replay a clip.")
    elif args.output is None:
        raise InputError("no --output is given: name the video to write, for example --output clip.mp4.")
    else:
        output = args.output

    import torch

    from . import __version__
    from .drawing import contact_sheet, save_picture
    from .flow import flow_magnitude, resize_flow
    from .flow_visualization import flow_to_image
    from .hub.fingerprint import model_fingerprint
    from .video import VideoWriter

    targets = [path for path in (output, args.flow_video, args.contact_sheet) if path is not None]
    for path in targets:
        check_output(path, PICTURE_SUFFIXES if path == args.contact_sheet else None)
    if len(set(targets)) < len(targets):
        raise InputError("two of --output, --flow-video and --contact-sheet name the same file; give each its own.")

    settings = {
        "num_frames": None,
        "num_inference_steps": None,
        "guidance_scale": None,
        "seed": 0,
        "fps": None,
        "dtype": "float32",
    }
    clip = None
    if args.replay is not None:
        clip, sheet, given = read_clip(args.replay)
        settings |= clip["settings"]
    else:
        given = read_picture(args.image)
        sheet = read_strokes(args, *given.shape[1:])
        if args.strokes is not None:
            settings |= {"num_frames": sheet.num_frames, "fps": sheet.fps}
    asked = {
        "num_frames": args.num_frames,
        "num_inference_steps": args.steps,
        "guidance_scale": args.guidance_scale,
        "seed": args.seed,
        "fps": args.fps,
        "dtype": args.dtype,
    }
    settings |= {name: value for name, value in asked.items() if value is not None}
    if settings["fps"] is None:
        settings["fps"] = sheet.fps
    with checking_input():
        for path in (output, args.flow_video):
            if path is not None:
                VideoWriter(path, settings["fps"])  # opens no file yet, but checks suffix and frame rate
    model_path, model_name = resolve_model(args.model or (clip and clip["model"]["name"]))

    pipe = load_model(model_path, settings["dtype"], args.device)
    if args.flow_video is not None and pipe.flow_completion is None:
        raise InputError(f"--flow-video: {model_path} has no flow completion and shows no flow; leave it out.")
    defaults = {
        "num_frames": pipe.config.default_num_frames,
        "num_inference_steps": pipe.config.default_num_inference_steps,
        "guidance_scale": pipe.config.default_guidance_scale,
    }
    settings |= {name: value for name, value in defaults.items() if settings[name] is None}
    if clip is None and args.strokes is None:
        sheet = replace(sheet, num_frames=settings["num_frames"], fps=settings["fps"])
    fingerprint = model_fingerprint(pipe)
    if (
        clip is not None
        and clip["model"]["fingerprint"] != fingerprint
        and settings["dtype"] == clip["settings"]["dtype"]
    ):
        print(
            f"mcdiff: warning: {model_path} is not the model that made {args.replay}; the video will differ.",
            file=sys.stderr,
        )

    # From here on only this 8-bit picture counts: frame 0 shows no more of the given one, and a replay starts from it.
    size = (given.shape[2], given.shape[1]) if clip is not None else args.size
    picture = working_picture(pipe, given, size)
    encoded = io.BytesIO()
    picture.save(encoded, format="PNG", optimize=True)
    metadata = {
        "format": CLIP_FORMAT,
        "version": CLIP_VERSION,
        "program": f"mcdiff-pipeline {__version__}",
        "model": {"name": model_name, "fingerprint": fingerprint},
        "settings": settings,
        "strokes": sheet.to_dict(),
        "picture": "data:image/png;base64," + base64.b64encode(encoded.getvalue()).decode(),
    }

    num_frames = settings["num_frames"]
    dense_flows = []

    def keep_flow(pipe, step, timestep, tensors):
        if step % len(pipe.scheduler.timesteps) == 0:
            dense_flows.append(tensors["dense_flow"].float().cpu())
        return {}

    with checking_input():
        frames = pipe.stream(
            picture,
            sheet,
            num_frames=num_frames,
            height=picture.height,
            width=picture.width,
            num_inference_steps=settings["num_inference_steps"],
            guidance_scale=settings["guidance_scale"],
            generator=torch.Generator().manual_seed(settings["seed"]),
            callback_on_step_end=keep_flow if args.flow_video is not None else None,
            callback_on_step_end_tensor_inputs=["dense_flow"],
        )

    shown = {round(k * (num_frames - 1) / 6) for k in range(7)}  # with the strokes, two rows of four
    tiles = {}
    stopped = False
    with stopping_once():
        try:
            with VideoWriter(output, settings["fps"], metadata) as video:
                for frame in frames:
                    video.write(frame)
                    if video.num_frames - 1 in shown:
                        tiles[video.num_frames - 1] = frame
        except KeyboardInterrupt:
            stopped = True
        if args.flow_video is not None and video.num_frames > 1:
            fastest = max(flow_magnitude(flow).max().item() for flow in dense_flows)
            with VideoWriter(args.flow_video, settings["fps"]) as flow_video:
                for dense_flow in dense_flows[: video.num_frames - 1]:
                    # resizing would count in cells of the new grid, but this flow is in pixels already
                    dense_flow = resize_flow(dense_flow, (picture.height, picture.width)) / pipe.vae_scale_factor
                    colors = flow_to_image(dense_flow, max_magnitude=max(fastest, 1e-6))[0]  # one scale for all
                    flow_video.write(colors.permute(1, 2, 0).numpy())
        if args.contact_sheet is not None and video.num_frames > 0:
            save_picture(contact_sheet(picture, sheet, tiles), args.contact_sheet)

    if stopped:
        kept = (
            f"{video.num_frames} of {num_frames} frames are in {output}" if video.num_frames else "no frame was made"
        )
        print(f"mcdiff generate: stopped; {kept}.", file=sys.stderr)
        return 130
    print(f"{output}: {num_frames} frames of {picture.width} x {picture.height} at {settings['fps']:g} a second")
    for path in targets[1:]:
        print(path)
    return 0


def flow(args: argparse.Namespace) -> int:
    """`mcdiff flow`: returns the exit code."""
    import torch
    from PIL import Image

    from .drawing import draw_strokes, save_picture
    from .flow import flow_magnitude, resize_flow
    from .flow_visualization import flow_to_image

    check_output(args.output, PICTURE_SUFFIXES)
    given = read_picture(args.image)
    sheet = read_strokes(args, *given.shape[1:])
    model_path, _ = resolve_model(args.model)

    pipe = load_model(model_path, args.dtype or "float32", args.device)
    num_frames = args.num_frames or (sheet.num_frames if args.strokes is not None else pipe.config.default_num_frames)
    if args.strokes is None:
        sheet = replace(sheet, num_frames=num_frames)
    picture = working_picture(pipe, given, args.size)
    with checking_input(), torch.no_grad():
        dense_flow = pipe.predict_flow(
            picture, sheet, frame=args.frame, num_frames=num_frames, height=picture.height, width=picture.width
        )

    image = to_image(given)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    colors = flow_to_image(resize_flow(dense_flow.float().cpu(), (image.height, image.width)))
    page = Image.new("RGB", (2 * image.width, image.height))
    page.paste(draw_strokes(image, sheet), (0, 0))
    page.paste(Image.fromarray(colors[0].permute(1, 2, 0).numpy()), (image.width, 0))
    save_picture(page, args.output)
    speed = flow_magnitude(dense_flow)
    print(
        f"{args.output}: step {args.frame} to {args.frame + 1}; the flow moves {speed.mean():.2f} pixels on average, "
        f"{speed.max():.2f} at most, on a picture of {picture.width} x {picture.height}"
    )
    return 0


def info(args: argparse.Namespace) -> int:
    """`mcdiff info`: returns the exit code."""
    model_path, _ = resolve_model(args.model)

    import torch

    try:
        pipe = load_model(model_path, "float32", "cpu")
    except Exception as error:  # whatever keeps a model from loading is the answer to the question
        print(f"model         {model_path}\nloads         no: {type(error).__name__}: {first_line(error)}")
        return 1

    rows = [
        ("model", model_path),
        ("loads", "yes"),
        ("conditioning", ", ".join(pipe.conditioning)),
        ("working size", f"{pipe.config.default_width} x {pipe.config.default_height} pixels, in the picture's shape"),
        ("other sizes", f"multiples of {pipe.size_multiple} pixels"),
        (
            "latent grid",
            f"{pipe.latent_channels} channels, a cell of {pipe.vae_scale_factor} x {pipe.vae_scale_factor}",
        ),
        ("frames", pipe.config.default_num_frames),
        ("steps", pipe.config.default_num_inference_steps),
        ("guidance", pipe.config.default_guidance_scale),
        ("prediction", pipe.scheduler.config.prediction_type),
    ]
    for name, value in rows:
        print(f"{name:13} {value}")
    print(f"\n{'component':17} {'class':27} {'parameters':>12} {'in float32':>11}")
    total = 0
    for name, component in pipe.components.items():
        line = f"{name:17} {type(component).__name__ if component is not None else 'none':27}"
        if isinstance(component, torch.nn.Module):
            count = sum(parameter.numel() for parameter in component.parameters())
            total += count
            line += f" {count:>12,} {count * 4 / 1e6:>8.1f} MB"
        print(line.rstrip())
    print(f"{'together':45} {total:>12,} {total * 4 / 1e6:>8.1f} MB")
    return 0


def export(args: argparse.Namespace) -> int:
    """`mcdiff export`: returns the exit code."""
    from .hub_arguments import run_export

    model_path, name = resolve_model(args.model)
    with checking_input():
        return run_export(args, model_path, is_embedded=name == EMBEDDED_MODEL.name)


def push(args: argparse.Namespace) -> int:
    """`mcdiff push`: returns the exit code."""
    from .hub_arguments import run_push

    with checking_input():
        return run_push(args)


def annotate(args: argparse.Namespace) -> int:
    """`mcdiff annotate`: returns the exit code."""
    from .annotation.arguments import run_annotation

    try:
        return run_annotation(args)
    except (ValueError, FileNotFoundError, ImportError) as error:  # other OSErrors, such as a full disk, are failures
        raise InputError(first_line(error)) from error


def evaluate(args: argparse.Namespace) -> int:
    """`mcdiff evaluate`: returns the exit code."""
    from .dataset import ClipDataset
    from .evaluation.arguments import check_evaluation_packages, evaluation_settings, find_pose_model_if_any

    with checking_input():
        settings = evaluation_settings(args)
        dataset = ClipDataset(args.data, args.split)
        check_evaluation_packages()
        pose_model = find_pose_model_if_any(args.pose_model)
    model_path, model_name = resolve_model(args.model)
    others = {name: resolve_model(model)[0] for name, model in args.other}
    args.output.mkdir(parents=True, exist_ok=True)

    from .evaluation import evaluate

    dtype = args.dtype or "float32"
    pipe = load_model(model_path, dtype, args.device)
    pipes = {name: load_model(path, dtype, args.device) for name, path in others.items()}
    for loaded in (pipe, *pipes.values()):
        loaded.set_progress_bar_config(disable=True)
    try:
        evaluate(
            pipe,
            dataset,
            args.output,
            settings,
            model_name=model_name,
            data_name=f"{args.data.name}, {args.split}",
            others=pipes,
            pose_model=pose_model,
            i3d=args.i3d,
            batch_size=args.batch_size,
        )
    except ValueError as error:
        raise InputError(first_line(error)) from error
    print(f"Report: {args.output / 'report.md'}")
    return 0


def show_clip(args: argparse.Namespace) -> int:
    """`mcdiff dataset show`: returns the exit code."""
    from .dataset import ClipDataset
    from .dataset.clip_image import draw_clip, draw_samples
    from .drawing import save_picture

    check_output(args.output, PICTURE_SUFFIXES)
    with checking_input():
        dataset = ClipDataset(args.shard)
    if args.clip in dataset.keys:
        index = dataset.keys.index(args.clip)
    elif args.clip.isdecimal() and int(args.clip) < len(dataset):
        index = int(args.clip)
    else:
        raise InputError(
            f"--clip {args.clip}: {args.shard} has no such clip; give a key, such as {dataset.keys[0]}, or a number "
            f"from 0 to {len(dataset) - 1}."
        )
    with checking_input():
        clip = dataset[index]
    if len(clip.flow) == 0:
        raise InputError(f"clip {clip.key} has one frame and no flow, so there is nothing to draw.")
    if args.samples is None:
        picture = draw_clip(clip, seed=args.seed)
    else:
        picture = draw_samples(clip, args.samples, seed=args.seed)
    save_picture(picture, args.output)
    time, height, width = clip.frames.shape[:3]
    print(f"{args.output}: clip {clip.key}, {time} frames of {width} x {height}, {clip.keypoints.shape[1]} people")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Runs the command with the given arguments (those of the process where None) and returns its exit code."""
    args = build_parser().parse_args(argv)
    try:
        return args.run(args)
    except InputError as error:
        code, message = 2, str(error)
    except KeyboardInterrupt as error:
        code, message = 130, str(error) or "stopped."
    except (OSError, RuntimeError, ValueError, MemoryError) as error:
        code, message = 1, f"failed: {type(error).__name__}: {first_line(error)}"
    print(f"mcdiff {args.command}: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
