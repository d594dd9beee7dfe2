# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The nodes of ComfyUI: their interface, and that they make what the pipeline makes."""

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mcdiff_pipeline import Region, Stroke, StrokeSheet
from mcdiff_pipeline.video import read_video
from support.comfyui import (
    NODES,
    WORKFLOWS,
    CreateVideo,
    InterruptProcessingException,
    LoadImage,
    Machine,
    PreviewImage,
    SaveVideo,
    execute,
    inputs_of,
    load_nodes,
    problems_of,
    prompt_of,
)
from support.paths import EXAMPLES, REPOSITORY
from support.pipeline_runs import seeded
from support.tiny_models import make_pipeline


SIZE = {"height": 40, "width": 48}
SHEET = StrokeSheet([Stroke([(8, 8), (16, 12)]), Stroke([(40, 30)], kind="hold")], 48, 40, num_frames=3, fps=5)
# Frames that are decoded one at a time are equal bit for bit.
AS_STREAMED = {"decode_chunk_size": 1, "output_type": "np"}
CORE = {"LoadImage": LoadImage, "PreviewImage": PreviewImage, "CreateVideo": CreateVideo, "SaveVideo": SaveVideo}


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path / "comfyui")


@pytest.fixture
def nodes(machine, monkeypatch) -> dict[str, type]:
    return load_nodes(machine, monkeypatch).NODE_CLASS_MAPPINGS


@pytest.fixture
def pixels(tiny_pipeline, image) -> torch.Tensor:
    """The image as IMAGE."""
    return tiny_pipeline.image_processor.load(image)[0].permute(1, 2, 0)[None]


def generate(nodes, pipe, pixels, sheet, **arguments):
    settings = {"seed": 0, "steps": 0, "guidance": 0.0, "output_size": "working size", **SIZE}
    return nodes["MCDiffGenerate"]().generate(pipe, pixels, sheet, **settings | arguments)


# The interface of ComfyUI


def test_every_node_is_described_and_takes_what_it_declares(nodes, machine, monkeypatch):
    assert nodes.keys() == load_nodes(machine, monkeypatch).NODE_DISPLAY_NAME_MAPPINGS.keys()
    for name, node in nodes.items():
        assert node.CATEGORY == "MCDiff" and node.DESCRIPTION, name
        assert len(node.RETURN_TYPES) == len(node.RETURN_NAMES) == len(node.OUTPUT_TOOLTIPS), name
        parameters = inspect.signature(getattr(node, node.FUNCTION)).parameters
        assert list(parameters)[1:] == list(inputs_of(node)), name
        for key, (_, options, required) in inputs_of(node).items():
            assert options.get("tooltip"), (name, key)
            assert required == (parameters[key].default is inspect.Parameter.empty), (name, key)


def workflow_of(path: Path, model: str, frames: int) -> dict:
    """An example workflow with another model, and shorter clips."""
    text = (
        path.read_text()
        .replace("mcdiff-small-128", model)
        .replace('\\"num_frames\\": 16', f'\\"num_frames\\": {frames}')
    )
    return json.loads(text)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_example_workflow_makes_the_video_of_the_pipeline(path, nodes, machine, tiny_pipeline):
    tiny_pipeline.save_pretrained(machine.folder / "models" / "mcdiff" / "tiny")
    shutil.copy(EXAMPLES / "cat.jpg", machine.folder / "input")
    mappings = CORE | nodes
    prompt = prompt_of(workflow_of(path, "tiny", 3), mappings)
    assert problems_of(prompt, mappings) == []
    results = execute(prompt, mappings)

    by_type = {node["class_type"]: results[number] for number, node in prompt.items()}
    pipe = by_type["MCDiffLoadModel"][0]
    sheets = [
        StrokeSheet.from_dict(json.loads(node["inputs"]["sheet"]))
        for node in prompt.values()
        if "sheet" in node["inputs"]
    ]
    expected = pipe(EXAMPLES / "cat.jpg", sheets[0], generator=seeded(), output_size="image", **AS_STREAMED)
    frames = by_type["MCDiffGenerate"][0]
    assert torch.equal(frames, torch.from_numpy(expected.frames[0]))
    assert frames.dtype == torch.float32 and 0 <= frames.min() and frames.max() <= 1
    whole, fps = by_type["CreateVideo"][0]
    assert torch.equal(whole[:3], frames) and len(whole) == 5 and fps == 8
    flow, drawn = by_type["MCDiffFlowPreview"]
    assert flow.shape == drawn.shape == frames[:1].shape and (flow < 1).any()
    steps = pipe.config.default_num_inference_steps
    assert (2 * steps, 2 * steps) in machine.progress and len(machine.previews) == 5


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_example_workflow_runs_in_comfyui(path, tiny_pipeline, tmp_path):
    checkout = os.environ.get("MCDIFF_COMFYUI")
    if checkout is None:
        pytest.skip("needs ComfyUI, which is in no registry: set MCDIFF_COMFYUI to a checkout of it")
    for name in ("custom_nodes", "input", "models/mcdiff", "user"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "custom_nodes" / "mcdiff").symlink_to(NODES)
    tiny_pipeline.save_pretrained(tmp_path / "models" / "mcdiff" / "tiny")
    shutil.copy(EXAMPLES / "cat.jpg", tmp_path / "input")
    (tmp_path / "workflow.json").write_text(json.dumps(workflow_of(path, "tiny", 3)))
    program = REPOSITORY / "tests" / "support" / "real_comfyui.py"
    python = os.environ.get("MCDIFF_COMFYUI_PYTHON", sys.executable)
    command = [python, program, checkout, tmp_path, tmp_path / "workflow.json"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    answer = json.loads(finished.stdout.splitlines()[-1])
    assert answer["problems"] == [] and len(answer["nodes"]) == 8
    assert answer["messages"][-1] == "execution_success", finished.stderr
    (saved,) = [one for output in answer["outputs"].values() for one in output["images"] if one["type"] == "output"]
    video = read_video(tmp_path / "output" / saved["subfolder"] / saved["filename"])
    assert len(video.frames) == 5
    steps = tiny_pipeline.config.default_num_inference_steps
    assert answer["progress"].count([2 * steps, 2 * steps]) >= 2


# Strokes and regions


def convert(nodes, splines, **arguments):
    return nodes["MCDiffStrokesFromSplines"]().convert(torch.zeros(1, 40, 48, 3), splines, 5, **arguments)[0]


def test_splines_are_sampled_at_equal_times_and_a_point_holds(nodes):
    spline = [{"x": 8, "y": 8}, {"x": 16, "y": 12}, {"x": 16, "y": 20}]
    found = convert(nodes, json.dumps(spline))
    assert found == StrokeSheet([Stroke([(8, 8), (16, 12), (16, 20)], frames=[0, 2, 4])], 48, 40, num_frames=5)
    assert convert(nodes, json.dumps(spline).replace('"', "'")) == found
    several = convert(nodes, json.dumps([spline, [{"x": 40, "y": 30}] * 3]), holds='[{"x": 2, "y": 3}]')
    holds = [Stroke([(40, 30)], kind="hold"), Stroke([(2, 3)], kind="hold")]
    assert several.strokes == (*found.strokes, *holds)


def test_splines_scale_from_the_editor_and_are_added_to_other_strokes(nodes):
    found = convert(
        nodes, '[{"x": 80, "y": 80}, {"x": 160, "y": 120}]', editor_width=480, editor_height=400, strokes=SHEET
    )
    assert found.strokes == (*SHEET.strokes, Stroke([(8, 8), (16, 12)], frames=[0, 4]))
    assert (found.width, found.height, found.num_frames) == (48, 40, 5)


@pytest.mark.parametrize("splines", ["not json", "[1, 2]", '[{"x": 1}]', '{"x": 1, "y": "left"}', "[[[1, 2]]]"])
def test_text_that_is_not_of_an_editor_is_refused(nodes, splines):
    with pytest.raises(ValueError, match="`splines`"):
        convert(nodes, splines)


def test_stroke_sheet_is_read_as_text_or_from_the_input_folder(nodes, machine):
    node = nodes["MCDiffStrokesFromJSON"]
    text = json.dumps(SHEET.to_dict())
    assert node().read(text) == (SHEET, 3, 5.0)
    SHEET.save(machine.folder / "input" / "mine.json")
    SHEET.save(machine.folder / "outside.json")
    assert node().read("mine.json") == (SHEET, 3, 5.0)
    before = node.IS_CHANGED("mine.json")
    os.utime(machine.folder / "input" / "mine.json", (1, 1))
    assert node.IS_CHANGED("mine.json") != before
    assert node.VALIDATE_INPUTS("mine.json") is True and node.VALIDATE_INPUTS(text) is True
    for wrong in ("../outside.json", "none.json", "", '{"version": 1', '{"version": 1}'):
        assert isinstance(node.VALIDATE_INPUTS(wrong), str), wrong


def test_each_mask_is_a_region(nodes, tiny_pipeline, pixels, image):
    masks = torch.zeros(2, 40, 48)
    masks[0, 4:20, 4:24], masks[1, 24:38, 30:46] = 1, 1
    (first,) = nodes["MCDiffRegion"]().make(masks[:1], rigid=True, order=2)
    (both,) = nodes["MCDiffRegion"]().make(masks[1:], rigid=False, order=0, regions=first)
    assert [(one.rigid, one.order) for one in both] == [(True, 2), (False, None)]
    frames, _, _ = generate(nodes, tiny_pipeline, pixels, SHEET, regions=both)
    regions = [Region(masks[0], rigid=True, order=2), Region(masks[1])]
    expected = tiny_pipeline(image, SHEET, regions=regions, generator=seeded(), **AS_STREAMED, **SIZE).frames[0]
    assert torch.equal(frames, torch.from_numpy(expected))


# Videos


def test_continued_video_is_the_video_made_at_once(nodes, tiny_pipeline, pixels):
    whole = StrokeSheet([Stroke([(8, 8), (24, 16)])], 48, 40, num_frames=5)
    halves = [
        StrokeSheet([Stroke(points)], 48, 40, num_frames=3) for points in ([(8, 8), (16, 12)], [(16, 12), (24, 16)])
    ]
    frames, state, last = generate(nodes, tiny_pipeline, pixels, halves[0])
    assert torch.equal(last, frames[-1:])
    found, state, last = nodes["MCDiffContinue"]().go_on(tiny_pipeline, frames, state, halves[1], 0, 0.0)
    expected, expected_state, _ = generate(nodes, tiny_pipeline, pixels, whole)
    assert torch.equal(found, expected) and torch.equal(last, expected[-1:])
    assert torch.equal(state.latents, expected_state.latents) and state.frame == 4


def test_video_of_another_program_goes_on_without_a_jump(nodes, tiny_pipeline, pixels):
    drifted = torch.cat([pixels, 0.96 * pixels + 0.02, 0.92 * pixels + 0.04])  # colors that drift
    node = nodes["MCDiffContinueVideo"]()
    found, state, last = node.go_on(tiny_pipeline, drifted, SHEET, 0, 0, 0.0, **SIZE)
    assert len(found) == 5 and torch.equal(found[:3], drifted) and torch.equal(last, found[-1:]) and state.frame == 2
    started = tiny_pipeline.start(
        frames=[one.permute(2, 0, 1) for one in drifted], **SIZE, output_size="image", generator=seeded()
    )
    matched = torch.stack(list(tiny_pipeline.stream(started, SHEET, 3, output_type="pt"))).permute(0, 2, 3, 1)
    goal, before = pixels.mean((0, 1, 2)), drifted[-1].mean((0, 1))
    for number, frame in enumerate(found[3:], start=1):
        missing = matched[number - 1].mean((0, 1)) - frame.mean((0, 1))
        # an eighth of the match with each frame
        assert torch.allclose(missing, (1 - number / 8) * (goal - before), atol=0.01)
    region = Region(polygon=[(4, 4), (24, 4), (24, 20)])
    assert node.go_on(tiny_pipeline, drifted, SHEET, 0, 0, 0.0, regions=(region,))[1].layers is not None


def test_canceling_ends_the_video_and_the_model_stays_usable(nodes, machine, tiny_pipeline, pixels):
    machine.cancel_at = 3
    with pytest.raises(InterruptProcessingException):
        generate(nodes, tiny_pipeline, pixels, SHEET)
    assert machine.progress[-1] == (2, 4)  # denoising steps
    machine.cancel_at = None
    assert len(generate(nodes, tiny_pipeline, pixels, SHEET)[0]) == 3


def test_inputs_that_do_not_fit_are_refused(nodes, tiny_pipeline, pixels):
    with pytest.raises(ValueError, match="There are 2 images.*ImageFromBatch"):
        generate(nodes, tiny_pipeline, pixels.repeat(2, 1, 1, 1), SHEET)
    frames, state, _ = generate(nodes, tiny_pipeline, pixels, SHEET)
    go_on = nodes["MCDiffContinue"]().go_on
    with pytest.raises(ValueError, match="connect frames and state of the same node"):
        go_on(tiny_pipeline, frames[:, :20], state, SHEET, 0, 0.0)
    region = StrokeSheet(SHEET.strokes, 48, 40, 3, regions=[Region(polygon=[(4, 4), (24, 4), (24, 20)])])
    with pytest.raises(ValueError, match="keeps those that it began with"):
        go_on(tiny_pipeline, frames, state, region, 0, 0.0)


def test_model_is_a_folder_of_comfyui_or_a_repository(nodes, machine):
    node = nodes["MCDiffLoadModel"]
    make_pipeline().save_pretrained(machine.folder / "models" / "mcdiff" / "mine")
    assert "mine" in node.INPUT_TYPES()["required"]["model"][0]
    assert node.VALIDATE_INPUTS("mine") is True and node.VALIDATE_INPUTS("other", "owner/name") is True
    assert "no model 'other' in models/mcdiff" in node.VALIDATE_INPUTS("other")
    before = node.IS_CHANGED("mine", "float32")
    assert node.IS_CHANGED("mine", "float32") == before != node.IS_CHANGED("mine", "bfloat16")
    (pipe,) = node().load("mine", "bfloat16")
    assert pipe.unet.dtype == torch.bfloat16
