# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""`mcdiff generate`: make a video from an image and strokes."""

import contextlib
import math
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import InputError, checking_input
from .images import (
    OutputSizeOption,
    SizeOption,
    read_image,
    shown_image,
    shown_size,
    shown_size_reason,
    working_size,
    working_size_reason,
)
from .jobs import Job
from .many import (
    BatchSizeOption,
    JobsOption,
    RayOption,
    Running,
    WorkersOption,
    generate_all,
)
from .memory import check_memory
from .model import (
    DeviceOption,
    DtypeOption,
    EngineOption,
    ModelOption,
    default_dtype,
    find_model,
    load_model,
    long_dtype,
    tell_model,
)
from .motion import (
    AtFrameOption,
    CameraOption,
    ClosedLoopOption,
    ContinueOption,
    FlowEstimatorOption,
    FlowWeightsOption,
    ForeignVideo,
    GivenMotion,
    GivenReference,
    MatchColorOption,
    MotionAlign,
    MotionAlignOption,
    MotionAs,
    MotionAsOption,
    MotionFromOption,
    MotionPointOption,
    MotionRegionOption,
    MotionSpeedOption,
    PhysicsOption,
    lead_frames,
)
from .option_values import MAX_FRAMES, OutputSize, Size, given, number
from .outputs import IMAGE_SUFFIXES, ReplaceOption, check_output, check_outputs, reserved
from .regions import RegionsOption, SegmenterOption, find_regions
from .strokes import GivenStrokes, HoldOption, StrokeOption, StrokesOption
from .telling import Teller, told


if TYPE_CHECKING:
    import PIL.Image
    import torch

    from mcdiff_pipeline import MCDiffPipeline, StrokeSheet
    from mcdiff_pipeline.rollout import RolloutState
    from mcdiff_pipeline.stroke_verdicts import StrokeFollower
    from mcdiff_pipeline.video.clip_metadata import ClipMetadata, LeadIn


EPILOG = 'Example: mcdiff generate cat.jpg --stroke "206,238 160,230" --hold "20,285" --output cat.mp4'

# With the strokes, the contact sheet has two rows of four tiles.
CONTACT_SHEET_FRAMES = 7

# Options that say something about another one, which has to be given.
_ABOUT_OTHERS = {
    "--jobs": ("batch_size", "num_workers", "ray_address"),
    "--motion-from": (
        *("motion_align", "motion_point", "motion_speed", "motion_region", "motion_as"),
        *("flow_estimator", "flow_weights"),
    ),
    "--continue": ("at_frame", "match_color"),
}


@told
def generate(
    context: typer.Context,
    teller: Teller,
    image: Annotated[
        str | None, typer.Argument(metavar="IMAGE", help="The image: a file or an http(s) address.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The video; the suffix decides: .mp4, .webm, .gif, or .mkv (lossless). A folder with --jobs.",
        ),
    ] = None,
    jobs: JobsOption = None,
    replay: Annotated[
        Path | None,
        typer.Option(
            metavar="CLIP",
            help="Make a video again. CLIP is a video that this command wrote; it contains its image, strokes and "
            "settings. Other options replace its settings (default output: CLIP-replay).",
        ),
    ] = None,
    num_frames: Annotated[
        int | None,
        typer.Option(
            parser=number(int, 2, MAX_FRAMES),
            metavar="N",
            help="Frames, including the image (default: from the sheet).",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(parser=number(int, 1), metavar="N", help="Denoising steps per frame (default: the model's)."),
    ] = None,
    guidance_scale: Annotated[
        float | None,
        typer.Option(parser=number(float, 0), metavar="G", help="Guidance on motion (default: the model's)."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(parser=number(int, 0, 2**64 - 1), metavar="N", help="Seed of the noise (default: 0)."),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            parser=number(float, 0, exclusive=True),
            metavar="FPS",
            help="Frames per second (default: from the sheet, else 8).",
        ),
    ] = None,
    size: SizeOption = None,
    output_size: OutputSizeOption = None,
    flow_video: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the dense flow of every step as a video.")
    ] = None,
    contact_sheet: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write one image (.png, .jpg) with the strokes and frames from the whole clip.",
        ),
    ] = None,
    show_regions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the image with its regions and strokes (.png, .jpg)."),
    ] = None,
    strokes: StrokesOption = None,
    stroke: StrokeOption = [],  # noqa: B006
    hold: HoldOption = [],  # noqa: B006
    regions: RegionsOption = None,
    segmenter: SegmenterOption = None,
    camera: CameraOption = None,
    physics: PhysicsOption = [],  # noqa: B006
    motion_from: MotionFromOption = None,
    motion_align: MotionAlignOption = MotionAlign.COVER,
    motion_point: MotionPointOption = [],  # noqa: B006
    motion_speed: MotionSpeedOption = None,
    motion_region: MotionRegionOption = None,
    motion_as: MotionAsOption = MotionAs.FLOW,
    flow_estimator: FlowEstimatorOption = "dis",
    flow_weights: FlowWeightsOption = None,
    closed_loop: ClosedLoopOption = False,
    continued: ContinueOption = None,
    at_frame: AtFrameOption = None,
    match_color: MatchColorOption = True,
    model: ModelOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    engine: EngineOption = "pytorch",
    batch_size: BatchSizeOption = 4,
    num_workers: WorkersOption = None,
    ray_address: RayOption = None,
    replace_existing: ReplaceOption = None,
) -> None:
    """Make a video from an image and strokes.

    Ctrl-C keeps the frames made so far as a complete file. With --jobs, finished videos are kept, and the same command
    continues.
    """
    _refuse_without_effect(context, {"--jobs": jobs, "--motion-from": motion_from, "--continue": continued})
    if jobs is not None:
        of_one: dict[str, Any] = {"IMAGE": image, "--replay": replay, "--strokes": strokes, "--stroke": stroke}
        of_one |= {"--hold": hold, "--regions": regions, "--segmenter": segmenter, "--flow-video": flow_video}
        of_one |= {"--contact-sheet": contact_sheet, "--show-regions": show_regions, "--camera": camera}
        of_one |= {"--continue": continued, "--motion-from": motion_from, "--physics": physics}
        of_one |= {"--closed-loop": closed_loop}
        _refuse_beside("--jobs", of_one, "whose lines name images and strokes; leave it out")
        if output is None:
            raise InputError("no --output is given: name the folder for the videos, for example --output videos.")
        defaults = given(
            num_frames=num_frames,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            seed=seed,
            fps=fps,
            size=size,
            output_size=output_size,
        )
        how = Running(model, device, long_dtype(dtype), engine, batch_size, num_workers, ray_address)
        generate_all(teller, jobs, output, defaults, how, plan_job, replace=replace_existing)
        return
    reference = None
    if motion_from is not None:
        settings = (motion_align, motion_point, motion_speed, motion_region, motion_as, flow_estimator, flow_weights)
        reference = GivenReference(motion_from, *settings)
    motion = GivenMotion(camera, reference, physics, closed_loop)
    motion.check()
    drawn = GivenStrokes(strokes, stroke, hold, teller)
    if replay is not None:
        options: dict[str, Any] = {
            "IMAGE": image,
            "--strokes": strokes,
            "--stroke": stroke,
            "--hold": hold,
            "--size": size,
        }
        options |= {"--regions": regions, "--segmenter": segmenter, "--camera": camera, "--continue": continued}
        options |= {"--motion-from": motion_from, "--physics": physics, "--closed-loop": closed_loop}
        _refuse_beside("--replay", options, "which has its own image, strokes, regions, motion and size")
        output = output or replay.with_stem(f"{replay.stem}-replay")
        outputs = Outputs(output, flow_video, contact_sheet, show_regions)
        outputs.check([replay], replace_existing, context)
        _import_library(teller)
        source = Source.from_clip(replay, output_size)
    elif continued is not None:
        _refuse_beside("--continue", {"IMAGE": image, "--size": size}, "which has its own image and size")
        output = output or continued.with_stem(f"{continued.stem}-continued")
        outputs = Outputs(output, flow_video, contact_sheet, show_regions)
        outputs.check([continued, strokes, regions], replace_existing, context)
        source = Source.from_video(continued, at_frame, drawn, motion, num_frames, output_size, match_color)
        if source.clip is None:
            source = source.with_regions(regions, segmenter, teller)
        else:
            _refuse_beside("--continue", {"--regions": regions, "--segmenter": segmenter}, "which has its own regions")
            num_frames = None  # of the new part, which is planned
    elif image is None:
        raise InputError("no image is given: name one, or --replay a clip.")
    elif output is None:
        raise InputError("no --output is given: name the video to write, for example --output clip.mp4.")
    else:
        outputs = Outputs(output, flow_video, contact_sheet, show_regions)
        outputs.check([image, strokes, regions], replace_existing, context)
        _import_library(teller)
        source = Source.from_image(image, drawn, motion, num_frames, size, output_size)
        source = source.with_regions(regions, segmenter, teller)
    chosen: dict[str, Any] = {"seed": 0, "fps": source.sheet.fps, "dtype": default_dtype(device)}
    chosen |= source.settings
    chosen |= given(
        num_frames=num_frames,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        seed=seed,
        fps=fps,
        dtype=long_dtype(dtype),
    )
    outputs.check_videos(chosen["fps"])
    location = find_model(model or (source.clip.model_name if source.clip is not None else None))
    image_size = (source.image.shape[1], source.image.shape[2])
    check_memory(location.path, size, image_size, chosen["dtype"], device)

    with teller.doing("Loading the model"):
        pipe = load_model(location.path, chosen["dtype"], device, engine)
    if flow_video is not None and pipe.flow_completion is None:
        raise InputError(f"--flow-video: {location.path} has no flow completion and shows no flow; leave it out.")
    clip = source.plan(pipe, location.name, chosen)
    if not source.is_made_by(clip):
        teller.warn(f"{location.path} is not the model that made {replay or continued}; the video will differ.")
    _tell_plan(teller, pipe, source, clip)
    write(pipe, clip, outputs, teller, source.video)


def _import_library(teller: Teller) -> None:
    """Imports PyTorch and diffusers, which takes longer than loading the embedded model."""
    with teller.doing("Loading PyTorch"):
        from mcdiff_pipeline import public_names  # noqa: F401


def _refuse_without_effect(context: typer.Context, others: Mapping[str, Any]) -> None:
    """Raises an [`InputError`] if an option is given that says something about one that is not given."""
    for other, names in _ABOUT_OTHERS.items():
        if others[other] is not None:
            continue
        for parameter in context.command.params:
            source = context.get_parameter_source(parameter.name or "")
            if parameter.name in names and source is not None and source.name == "COMMANDLINE":
                written = "/".join([*parameter.opts[:1], *parameter.secondary_opts[:1]])
                raise InputError(f"{written} is given without {other}, which it is about; leave it out.")


def _refuse_beside(option: str, others: dict[str, Any], reason: str) -> None:
    for name, value in others.items():
        if value:
            raise InputError(f"{name} is given together with {option}, {reason}.")


@dataclass(frozen=True)
class Outputs:
    """The files to write.

    Args:
        video (`Path`): the video.
        flow_video (`Path`, *optional*): the dense flow of every step as a video.
        contact_sheet (`Path`, *optional*): an image with the strokes and some frames.
        regions (`Path`, *optional*): the image with its regions and strokes.

    Raises:
        InputError: if a file cannot be written.
    """

    video: Path
    flow_video: Path | None
    contact_sheet: Path | None
    regions: Path | None = None

    @property
    def paths(self) -> list[Path]:
        paths = (self.video, self.flow_video, self.contact_sheet, self.regions)
        return [path for path in paths if path is not None]

    def __post_init__(self) -> None:
        for path in self.paths:
            check_output(path, IMAGE_SUFFIXES if path in (self.contact_sheet, self.regions) else None)

    def check(
        self, inputs: Sequence[str | Path | None], replace_existing: bool | None, context: typer.Context
    ) -> None:
        """See [`check_outputs`]. The files are [`reserved`] until the command of `context` ends."""
        context.with_resource(reserved(self.paths))
        outputs = {
            "--output": self.video,
            "--flow-video": self.flow_video,
            "--contact-sheet": self.contact_sheet,
            "--show-regions": self.regions,
        }
        check_outputs(outputs, inputs, replace=replace_existing)

    def check_videos(self, fps: float) -> None:
        """Raises an [`InputError`] if a suffix does not name a video format, or the format cannot have this rate."""
        from mcdiff_pipeline.video import VideoWriter

        with checking_input():
            for path in (self.video, self.flow_video):
                if path is not None:
                    VideoWriter(path, fps)  # opens no file until the first frame


@dataclass(frozen=True)
class Source:
    """What the video is made from.

    Args:
        image (`torch.Tensor`): the given image, `[3, H, W]` in [0, 1].
        sheet (`StrokeSheet`): all strokes.
        size (`Size`, *optional*): working size; None takes the model's.
        output_size (`OutputSize`, *optional*): size of the frames; None takes that of the image, within limits.
        settings (`dict`): fields of `ClipSettings` that the stroke sheet or the replayed clip decides.
        clip (`ClipMetadata`, *optional*): metadata of the clip that is replayed or continued.
        motion (`GivenMotion`): further motion from the command line; that of a clip is in its metadata.
        lead (`LeadIn`, *optional*): the frames of another video that is continued.
        video (`Path`, *optional*): the file that contains them.
    """

    image: "torch.Tensor"
    sheet: "StrokeSheet"
    size: Size | None
    output_size: OutputSize | None
    settings: dict[str, Any] = field(default_factory=dict)
    clip: "ClipMetadata | None" = None
    motion: GivenMotion = GivenMotion()
    lead: "LeadIn | None" = None
    video: Path | None = None

    @classmethod
    def from_image(
        cls,
        image: str,
        strokes: GivenStrokes,
        motion: GivenMotion,
        num_frames: int | None,
        size: Size | None,
        output_size: OutputSize | None,
    ) -> "Source":
        """An image and strokes from the command line."""
        given_image = read_image(image)
        height, width = given_image.shape[1:]
        motion, sheet = motion.with_camera_of(strokes.sheet(height, width, num_frames, needs_strokes=not motion))
        settings = {} if strokes.file is None else {"num_frames": sheet.num_frames, "fps": sheet.fps}
        return cls(given_image, sheet, size, output_size, settings, motion=motion)

    @classmethod
    def from_video(
        cls,
        path: Path,
        at_frame: int | None,
        strokes: GivenStrokes,
        motion: GivenMotion,
        num_frames: int | None,
        output_size: OutputSize | None,
        match_color: bool,
    ) -> "Source":
        """A video that is continued: a clip of this program from its metadata, another one from a frame."""
        from mcdiff_pipeline.motion.clip_streams import continued_clip
        from mcdiff_pipeline.video.clip_metadata import ClipMetadata

        if not path.is_file():
            raise InputError(f"{path}: there is no such video.")
        with checking_input():
            clip = ClipMetadata.read_if_clip(path)
        frame = at_frame
        if clip is not None and clip.lead is not None and at_frame is not None:
            frame = at_frame - clip.lead.frames
        if clip is not None and (frame is None or frame >= 0):
            drawn = clip.strokes
            sheet = strokes.sheet(drawn.height, drawn.width, num_frames, needs_strokes=not motion)
            motion, sheet = motion.with_camera_of(sheet)
            if strokes.file is None and num_frames is None:
                raise InputError(
                    "--continue needs the length of the new part: give --num-frames N, counted from the frame that is "
                    "continued, or a stroke sheet."
                )
            with checking_input():
                first = clip.settings.num_frames - 1 if frame is None else frame
                length = num_frames or sheet.num_frames
                following = motion.describe(drawn.height, drawn.width, length, clip.settings.fps, first)
                sheet = replace(sheet, num_frames=length, fps=clip.settings.fps)
                if motion.gives_strokes:
                    raise InputError(
                        "--motion-from gives strokes for an image here, but a clip is continued: give the flow of the "
                        "video (--motion-as flow)."
                    )
                clip = continued_clip(clip, sheet, frame, following)
            return cls._of_clip(clip, path, output_size)
        video = ForeignVideo.read(path, at_frame, match_color=match_color)
        height, width = video.frame.shape[1:]
        motion, sheet = motion.with_camera_of(strokes.sheet(height, width, num_frames, needs_strokes=not motion))
        settings = {"fps": video.fps} | ({} if strokes.file is None else {"num_frames": sheet.num_frames})
        size = output_size or OutputSize(name="image")
        return cls(video.frame, sheet, None, size, settings, motion=motion, lead=video.lead, video=path)

    def with_regions(self, option: str | None, segmenter: Path | None, teller: Teller) -> "Source":
        """The same with the regions that the options give."""
        regions = find_regions(option, self.image, self.sheet, segmenter, teller)
        with checking_input():
            return replace(self, sheet=replace(self.sheet, regions=regions))

    @classmethod
    def from_clip(cls, path: Path, output_size: OutputSize | None) -> "Source":
        """A clip that `mcdiff generate` wrote."""
        from mcdiff_pipeline.video.clip_metadata import ClipMetadata

        if not path.is_file():
            raise InputError(f"{path}: there is no such clip.")
        with checking_input():
            clip = ClipMetadata.read(path)
        return cls._of_clip(clip, path, output_size)

    @classmethod
    def _of_clip(cls, clip: "ClipMetadata", path: Path, output_size: OutputSize | None) -> "Source":
        from mcdiff_pipeline.image_processor import load_image_tensor

        size = Size((clip.settings.width, clip.settings.height))
        output_size = output_size or OutputSize(name="image")
        image, settings = load_image_tensor(clip.image), vars(clip.settings)
        return cls(image, clip.strokes, size, output_size, settings, clip, lead=clip.lead, video=path)

    def plan(self, pipe: "MCDiffPipeline", model_name: str, chosen: dict[str, Any]) -> "ClipMetadata":
        """What will be made, with the model's defaults for settings that are not given.

        From here on, the 8-bit image at the size of the frames replaces the given image: frame 0 shows it, and a
        replay starts from it.
        """
        from mcdiff_pipeline.hub.fingerprint import model_fingerprint
        from mcdiff_pipeline.image_processor import load_image_tensor
        from mcdiff_pipeline.video.clip_metadata import ClipMetadata, ClipSettings

        defaults = {
            "num_frames": pipe.config.default_num_frames,
            "num_inference_steps": pipe.config.default_num_inference_steps,
            "guidance_scale": pipe.config.default_guidance_scale,
        }
        working = working_size(pipe, self.image, self.size)
        image = shown_image(self.image, shown_size(pipe, self.image, working, self.output_size))
        settings = ClipSettings(**(defaults | chosen | {"height": working[0], "width": working[1]}))
        sheet = self.sheet
        if sheet.regions:  # their masks are as large as the image
            sheet = sheet.scaled(image.width, image.height)
        if "num_frames" not in self.settings:  # strokes from the command line last as long as the clip
            sheet = replace(sheet, num_frames=settings.num_frames, fps=settings.fps)
        sheet = self.motion.add_strokes(sheet, load_image_tensor(image), settings.num_frames)
        fingerprint = model_fingerprint(pipe)
        if self.clip is not None:
            return replace(
                self.clip,
                model_name=model_name,
                model_fingerprint=fingerprint,
                settings=settings,
                strokes=sheet,
                image=image,
            )
        motion = self.motion.describe(self.sheet.height, self.sheet.width, settings.num_frames, settings.fps)
        return ClipMetadata(model_name, fingerprint, settings, sheet, image, motion, lead=self.lead)

    def is_made_by(self, plan: "ClipMetadata") -> bool:
        """Whether the plan's model made the replayed clip. The fingerprint depends on the dtype, too."""
        return (
            self.clip is None
            or self.clip.model_fingerprint == plan.model_fingerprint
            or self.clip.settings.dtype != plan.settings.dtype
        )


def plan_job(pipe: "MCDiffPipeline", job: Job, model_name: str, dtype: str) -> "ClipMetadata":
    """What one of many jobs makes."""
    strokes = GivenStrokes(job.strokes, [], [], Teller(quiet=True))
    source = Source.from_image(str(job.image), strokes, GivenMotion(), None, job.size, job.output_size)
    chosen = {"seed": 0, "fps": source.sheet.fps, "dtype": dtype} | source.settings | dict(job.settings)
    return source.plan(pipe, model_name, chosen)


def _tell_plan(teller: Teller, pipe: "MCDiffPipeline", source: "Source", clip: "ClipMetadata") -> None:
    """Tells what will be made and how, and which parts of the strokes will be ignored."""
    settings, image = clip.settings, clip.image
    tell_model(teller, pipe, clip.model_name)
    why_working = working_size_reason(pipe, source.size, is_replay=source.clip is not None)
    why_shown = shown_size_reason(pipe, source.image, source.output_size)
    teller.say(
        f"Motion at {settings.width} x {settings.height} pixels ({why_working}); frames of {image.width} x "
        f"{image.height} ({why_shown})",
        working_width=settings.width,
        working_height=settings.height,
        width=image.width,
        height=image.height,
    )
    teller.detail(
        f"{settings.num_frames} frames at {settings.fps:g} a second, {settings.num_inference_steps} steps a frame, "
        f"guidance {settings.guidance_scale:g}, seed {settings.seed}",
        num_inference_steps=settings.num_inference_steps,
        guidance_scale=settings.guidance_scale,
        seed=settings.seed,
        fps=settings.fps,
    )
    last = settings.num_frames - 1
    for index, stroke in enumerate(clip.strokes.strokes):
        start, end = stroke.span(settings.num_frames)
        if start > last - 1:
            teller.warn(
                f"stroke {index + 1} begins at frame {start:g} and is ignored: the video ends at frame {last}."
            )
        elif end > last:
            teller.warn(
                f"stroke {index + 1} ends at frame {end:g}, but the video at frame {last}; the rest of it is ignored."
            )


def write(
    pipe: "MCDiffPipeline", clip: "ClipMetadata", outputs: Outputs, teller: Teller, video: Path | None = None
) -> None:
    """Makes the frames and writes all files. After Ctrl-C, all files hold the frames made so far.

    `video` is the file with the frames of another video that the clip continues.

    Raises:
        InputError: if the pipeline refuses the strokes or the settings.
        KeyboardInterrupt: after Ctrl-C, with a message that says how many frames are kept.
    """
    from mcdiff_pipeline.drawing import contact_sheet, draw_strokes, save_image
    from mcdiff_pipeline.motion.clip_streams import shown_frames, stream_clip

    settings, image = clip.settings, clip.image
    total = settings.num_frames + (0 if clip.lead is None else clip.lead.frames)
    begun = time.monotonic()
    with checking_input():
        frames = shown_frames(stream_clip(pipe, clip), clip.lead)
    if outputs.regions is not None:
        save_image(draw_strokes(image, clip.strokes), outputs.regions)
    with stopping_once():
        recording = Recording.of(frames, clip, outputs, video)
        if outputs.flow_video is not None and len(recording.flows) > 0:
            _write_flow_video(recording.flows, outputs.flow_video, settings.fps, image, pipe.vae_scale_factor)
        if outputs.contact_sheet is not None and recording.num_frames > 0:
            save_image(contact_sheet(image, clip.strokes, recording.tiles), outputs.contact_sheet)

    if recording.is_stopped:
        kept = f"{recording.num_frames} of {total} frames are in {outputs.video}"
        raise KeyboardInterrupt(f"stopped; {kept if recording.num_frames else 'no frame was made'}.")
    _tell_verdicts(teller, recording.follower)
    size = f"{image.width} x {image.height}"
    worked_out = f"; motion at {settings.width} x {settings.height}"
    if (image.height, image.width) == (settings.height, settings.width):
        worked_out = ""
    seconds = time.monotonic() - begun
    per_frame = recording.seconds / max(recording.num_frames - 1, 1)
    teller.say(
        f"{outputs.video}: {total} frames of {size} at {settings.fps:g} a second{worked_out}",
        video=str(outputs.video),
        num_frames=recording.num_frames,
    )
    files = {"flow_video": outputs.flow_video, "contact_sheet": outputs.contact_sheet, "show_regions": outputs.regions}
    for name, path in files.items():
        if path is not None:
            teller.say(str(path), **{name: str(path)})
    teller.say(
        f"{per_frame:.2g} s a frame, {seconds:.3g} s in total",
        seconds_per_frame=round(per_frame, 3),
        seconds=round(seconds, 3),
    )


def _tell_verdicts(teller: Teller, follower: "StrokeFollower") -> None:
    """Tells how far the flow carried the strokes: each that it does not follow, and how many it follows."""
    verdicts = follower.verdicts()
    for verdict in verdicts:
        (teller.detail if verdict.followed else teller.say)(verdict.message)
    facts = [
        {
            "stroke": one.stroke + 1,
            "kind": one.kind,
            "asked": round(one.asked, 1),
            "carried": round(one.carried, 1),
            "error": round(one.error, 1),
            "followed": one.followed,
        }
        for one in verdicts
    ]
    followed = sum(one.followed for one in verdicts)
    teller.facts["strokes"] = facts
    if verdicts:
        teller.say(f"The flow follows {followed} of {len(verdicts)} strokes.")


@dataclass
class Recording:
    """What was made until the end of the clip, or until Ctrl-C.

    Args:
        num_frames (`int`): frames in the video.
        tiles (`dict[int, PIL.Image.Image]`): frames for the contact sheet, by their index.
        follower (`StrokeFollower`): how far the flow carried the strokes.
        seconds (`float`): time of all frames, in seconds; frame 0 takes none.
        flows (`StoredFlows`): dense flow of each step in latent cells; kept only for a video of the flow.
        is_stopped (`bool`): whether Ctrl-C ended it.
    """

    follower: "StrokeFollower"
    seconds: float = 0.0
    num_frames: int = 0
    tiles: dict[int, "PIL.Image.Image"] = field(default_factory=dict)
    flows: "StoredFlows" = field(default_factory=lambda: StoredFlows())
    is_stopped: bool = False

    @classmethod
    def of(
        cls,
        frames: "Iterator[tuple[PIL.Image.Image, RolloutState]]",
        clip: "ClipMetadata",
        outputs: Outputs,
        other_video: Path | None = None,
    ) -> "Recording":
        """Writes the video, and keeps what the other outputs need."""
        from mcdiff_pipeline.progress import progress_bar
        from mcdiff_pipeline.stroke_verdicts import StrokeFollower
        from mcdiff_pipeline.video import VideoWriter
        from mcdiff_pipeline.video.writer import interrupt_postponed

        last = clip.settings.num_frames - 1
        in_tiles = {round(k * last / (CONTACT_SHEET_FRAMES - 1)) for k in range(CONTACT_SHEET_FRAMES)}
        recording = cls(StrokeFollower(clip.strokes, clip.settings.num_frames))
        video = VideoWriter(outputs.video, clip.settings.fps, clip.to_dict())
        try:
            with video, progress_bar("Frames", last, unit="frame") as bar:
                if other_video is not None and clip.lead is not None:
                    for given_frame in lead_frames(other_video, clip.lead, clip.image.size):
                        video.write(given_frame)
                for frame, state in frames:
                    if state.frame == 0:
                        begun = time.monotonic()
                    with interrupt_postponed():  # all outputs end with the same frame
                        if state.frame > 0 or clip.lead is None:  # else it is the last one of the other video
                            video.write(frame)
                        if state.frame in in_tiles:
                            recording.tiles[state.frame] = frame
                        if outputs.flow_video is not None and state.dense_flow is not None:
                            recording.flows.append(state.dense_flow)
                        recording.follower.follow(state)
                        recording.seconds = time.monotonic() - begun
                    bar.update(state.frame > 0)
        except KeyboardInterrupt:
            recording.is_stopped = True
        recording.num_frames = video.num_frames
        return recording


class StoredFlows:
    """Flows of one shape, in a temporary file, so that memory does not grow with the length of a video."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()
        self._shape: tuple[int, ...] = ()
        self._number = 0

    def append(self, flow: "torch.Tensor") -> None:
        """Adds a flow, `[1, 2, h, w]` on any device."""
        content = flow.float().cpu().numpy()
        self._shape = content.shape
        self._file.write(content.tobytes())
        self._number += 1

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> "Iterator[torch.Tensor]":
        """Yields the flows in their order, float32 `[1, 2, h, w]` on the CPU."""
        import numpy as np
        import torch

        self._file.seek(0)
        for _ in range(self._number):
            content = self._file.read(4 * math.prod(self._shape))
            yield torch.from_numpy(np.frombuffer(content, np.float32).reshape(self._shape).copy())
        self._file.seek(0, os.SEEK_END)


def _write_flow_video(flows: StoredFlows, path: Path, fps: float, image: "PIL.Image.Image", cell: int) -> None:
    """Writes flows in latent cells of `cell` pixels as colors, at the size of the image. All share one scale."""
    from mcdiff_pipeline.flow import flow_magnitude, resize_flow, to_pixels
    from mcdiff_pipeline.flow_visualization import flow_to_image
    from mcdiff_pipeline.video import VideoWriter

    fastest = max(max(flow_magnitude(to_pixels(flow, cell)).max().item() for flow in flows), 1e-6)
    with VideoWriter(path, fps) as video:
        for flow in flows:
            flow = resize_flow(flow, (image.height, image.width))
            video.write(flow_to_image(flow, max_magnitude=fastest)[0].permute(1, 2, 0).numpy())


@contextlib.contextmanager
def stopping_once() -> Iterator[None]:
    """Lets only the first Ctrl-C or SIGTERM through: a second one would damage the file that is being finished."""
    signals = (signal.SIGINT, signal.SIGTERM)

    def stop(*_: object) -> None:
        for one in signals:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = [signal.getsignal(one) for one in signals]
    signal.signal(signal.SIGINT, stop)  # the handler of SIGTERM calls that of SIGINT
    try:
        yield
    finally:
        for one, handler in zip(signals, before, strict=True):
            signal.signal(one, handler)
