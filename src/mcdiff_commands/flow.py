# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""`mcdiff flow`: strokes and dense flow side by side."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .errors import checking_input
from .images import SizeOption, read_image, to_pil, working_size, working_size_reason
from .memory import check_memory
from .model import DeviceOption, DtypeOption, ModelOption, find_model, load_model, long_dtype, tell_model
from .option_values import MAX_FRAMES, number
from .outputs import IMAGE_SUFFIXES, ReplaceOption, check_output, check_outputs
from .regions import RegionsOption, SegmenterOption, find_regions
from .strokes import GivenStrokes, HoldOption, StrokeOption, StrokesOption
from .telling import Teller, told


EPILOG = 'Example: mcdiff flow cat.jpg --stroke "206,238 160,230" --output flow.png'

# The drawn image keeps the size of the given image up to this many pixels on the longer side.
LONGEST_SIDE = 1024


@told
def flow(
    teller: Teller,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The image: a file or an http(s) address.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The image to write.")],
    frame: Annotated[
        int,
        typer.Option(parser=number(int, 0), metavar="N", help="Show the step from frame N to N + 1."),
    ] = 0,
    num_frames: Annotated[
        int | None,
        typer.Option(
            parser=number(int, 2, MAX_FRAMES), metavar="N", help="Frames of the clip (default: from the sheet)."
        ),
    ] = None,
    size: SizeOption = None,
    strokes: StrokesOption = None,
    stroke: StrokeOption = [],  # noqa: B006
    hold: HoldOption = [],  # noqa: B006
    regions: RegionsOption = None,
    segmenter: SegmenterOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    replace_existing: ReplaceOption = None,
) -> None:
    """Show the dense flow that strokes give.

    Writes an image: on the left the strokes drawn over the given image, on the right the dense flow of one step in
    the colors of the Middlebury wheel (white: no motion, red: right, hue: direction, depth: speed).
    """
    import torch
    from PIL import Image

    from mcdiff_pipeline.drawing import draw_strokes, save_image
    from mcdiff_pipeline.flow import flow_magnitude, resize_flow
    from mcdiff_pipeline.flow_visualization import flow_to_image

    check_output(output, IMAGE_SUFFIXES)
    check_outputs({"--output": output}, [image, strokes, regions], replace=replace_existing)
    given_image = read_image(image)
    height, width = given_image.shape[1:]
    sheet = GivenStrokes(strokes, stroke, hold, teller).sheet(height, width, num_frames)
    if sheet.camera is not None:
        teller.warn(f"{strokes} has a camera, which is left out here: this command shows the flow of strokes.")
        sheet = replace(sheet, camera=None)
    with checking_input():
        sheet = replace(sheet, regions=find_regions(regions, given_image, sheet, segmenter, teller))
    location = find_model(model)
    check_memory(location.path, size, (height, width), long_dtype(dtype) or "float32", device)
    pipe = load_model(location.path, long_dtype(dtype) or "float32", device)
    if strokes is None:
        num_frames = num_frames or pipe.config.default_num_frames
        sheet = replace(sheet, num_frames=num_frames)
    working_height, working_width = working_size(pipe, given_image, size)
    length = num_frames or sheet.num_frames
    tell_model(teller, pipe, location.name)
    teller.say(
        f"Motion at {working_width} x {working_height} pixels ({working_size_reason(pipe, size, is_replay=False)})",
        working_width=working_width,
        working_height=working_height,
    )
    with checking_input():
        problems = pipe.check_strokes(given_image, sheet, length, working_height, working_width)
    for problem in problems:
        teller.warn(problem.message)
    with checking_input(), torch.no_grad():
        dense_flow = pipe.predict_flow(
            given_image,
            sheet,
            frame=frame,
            num_frames=length,
            height=working_height,
            width=working_width,
        )

    shown = to_pil(given_image)
    shown.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    colors = flow_to_image(resize_flow(dense_flow.float().cpu(), (shown.height, shown.width)))
    page = Image.new("RGB", (2 * shown.width, shown.height))
    page.paste(draw_strokes(shown, sheet), (0, 0))
    page.paste(Image.fromarray(colors[0].permute(1, 2, 0).numpy()), (shown.width, 0))
    save_image(page, output)
    speed = flow_magnitude(dense_flow)
    average, fastest = speed.mean().item(), speed.max().item()
    teller.say(
        f"{output}: step {frame} to {frame + 1}; the flow moves {average:.2f} pixels on average, "
        f"{fastest:.2f} at most",
        image=str(output),
        frame=frame,
        num_frames=length,
        average=round(average, 3),
        fastest=round(fastest, 3),
    )
    teller.detail(f"{len(sheet.strokes)} strokes, {len(sheet.regions)} regions, {length} frames")
