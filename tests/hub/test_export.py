# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""An export holds everything that a Hub repository needs, and nothing else."""

import ast
import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers.utils.dynamic_modules_utils import get_relative_imports
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file

import mcdiff_pipeline
from mcdiff_pipeline import MCDiffPipeline, Stroke, StrokeSheet
from mcdiff_pipeline.hub import check_export, export_model, push_export
from mcdiff_pipeline.video import read_video
from support.tiny_models import make_pipeline


SOURCES = Path(mcdiff_pipeline.__file__).parent
NETWORKS = ("vae", "flow_completion", "unet")
MODULES = (
    "call_inputs",
    "color_matching",
    "conditioning",
    "denoising",
    "detail",
    "flow",
    "flow_completion_unet",
    "frame_decoder",
    "image_processor",
    "input_checks",
    "latent_codec",
    "layer_colors",
    "inpainting",
    "layers",
    "modular_blocks",
    "model_files",
    "model_names",
    "model_weights",
    "motion_completion",
    "pipeline_mcdiff",
    "regions",
    "rollout",
    "semantic_features",
    "short_repr",
    "similarity",
    "stroke_controls",
    "stroke_problems",
    "strokes",
)
# Paths in an export, with the sources of the package that they are copies of.
CODE = {f"{name}.py": f"{name}.py" for name in MODULES} | {
    "pipeline.py": "pipeline_mcdiff.py",
    "flow_completion/mcdiff_pipeline.flow_completion_unet.py": "flow_completion_unet.py",
}


@pytest.fixture
def example(image, tmp_path) -> Path:
    """An image with a stroke sheet beside it."""
    image.save(tmp_path / "dot.png")
    sheet = StrokeSheet([Stroke([(10, 10), (20, 12)])], 48, 40, num_frames=3, fps=5)
    sheet.save(tmp_path / "dot.json")
    return tmp_path / "dot.png"


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """Where the first test that needs an export keeps it for the others: making its video takes longest."""
    return tmp_path_factory.mktemp("kept") / "exported"


@pytest.fixture
def exported(kept, tiny_model_dir, example, tmp_path) -> Path:
    """An export of `tiny_model_dir`, which tests may change."""
    if not kept.exists():
        export_model(tiny_model_dir, kept, example=example)
    return shutil.copytree(kept, tmp_path / "exported")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# The folder


def test_export_is_the_saved_pipeline_with_code_card_license_and_example(exported, tiny_model_dir):
    added = {
        *CODE,
        "modular_config.json",
        "modular_model_index.json",
        "README.md",
        "LICENSE",
        "stroke_sheet.schema.json",
        "dot.jpg",
        "dot.json",
        "dot.mp4",
    }
    assert files(exported) == files(tiny_model_dir) | added
    assert "Apache License" in (exported / "LICENSE").read_text()
    for name in files(tiny_model_dir):
        if name.endswith(".json"):
            assert json.loads((exported / name).read_text()) == json.loads((tiny_model_dir / name).read_text()), name
        else:
            found, expected = load_file(exported / name), load_file(tiny_model_dir / name)
            assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)


def test_code_is_copied(exported):
    for copy, source in CODE.items():
        found, expected = (exported / copy).read_bytes(), (SOURCES / source).read_bytes()
        if get_relative_imports(exported / copy):
            assert found == expected, copy
        else:  # imports may have another space
            assert ast.dump(ast.parse(found)) == ast.dump(ast.parse(expected)), copy


def test_diffusers_finds_all_modules_in_the_first_file_and_no_others_in_them(exported):
    modules = {path.stem for path in exported.glob("*.py")} - {"pipeline", "modular_blocks"}
    assert set(get_relative_imports(exported / "modular_blocks.py")) == modules
    assert set(get_relative_imports(exported / "pipeline.py")) == modules - {"pipeline_mcdiff"}
    for name in modules:
        assert get_relative_imports(exported / f"{name}.py") == []


def test_example_holds_the_video_that_the_model_makes_from_the_strokes(exported, tiny_pipeline, example):
    assert Image.open(exported / "dot.jpg").size == (48, 40)
    assert StrokeSheet.load(exported / "dot.json") == StrokeSheet.load(example.with_suffix(".json"))
    video = read_video(exported / "dot.mp4")
    assert (len(video.frames), video.fps) == (3, 5)
    height, width = tiny_pipeline.image_processor.fitting_size((40, 48))  # in the shape of the image
    assert video.frames[0].shape == (height, width, 3)


def test_export_of_a_model_without_flow_completion_has_no_module_for_it(tmp_path):
    pipe = make_pipeline(("previous_frame", "sparse_flow"), flow_completion=None)
    pipe.save_pretrained(tmp_path / "model")
    export_model(tmp_path / "model", tmp_path / "exported")
    assert not (tmp_path / "exported" / "flow_completion").exists()
    check_export(tmp_path / "exported")


def test_weights_keep_their_dtype_and_a_variant_is_written_beside_them(tiny_pipeline, tmp_path):
    tiny_pipeline.to(torch.bfloat16).save_pretrained(tmp_path / "model")
    export_model(tmp_path / "model", tmp_path / "exported", variant="fp16")
    for variant, dtype in ((None, torch.bfloat16), ("fp16", torch.float16)):
        for name in NETWORKS:
            suffix = f"{variant}.safetensors" if variant else "safetensors"
            weights = load_file(tmp_path / "exported" / name / f"diffusion_pytorch_model.{suffix}")
            assert {tensor.dtype for tensor in weights.values()} == {dtype}
        MCDiffPipeline.from_pretrained(tmp_path / "exported", variant=variant)
    assert 'variant="fp16"' in (tmp_path / "exported" / "README.md").read_text()


def test_weights_are_split_into_shards_of_the_given_size(tiny_model_dir, tmp_path):
    export_model(tiny_model_dir, tmp_path / "exported", variant="fp16", max_shard_size="50KB")
    for name in NETWORKS:
        shards = list((tmp_path / "exported" / name).glob("*.safetensors"))
        assert len(shards) > 2 and all(path.stat().st_size < 100_000 for path in shards)
    for variant in (None, "fp16"):
        MCDiffPipeline.from_pretrained(tmp_path / "exported", variant=variant)


def test_export_holds_no_path_of_the_machine(exported, tmp_path):
    for path in exported.rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes(), path


def test_export_can_be_exported_again(exported, example, tmp_path):
    export_model(exported, tmp_path / "again", example=example)
    assert files(tmp_path / "again") == files(exported)
    assert (tmp_path / "again" / "README.md").read_bytes() == (exported / "README.md").read_bytes()


def test_only_a_new_or_empty_folder_is_written(tiny_model_dir, tmp_path):
    folder = tmp_path / "exported"
    folder.mkdir()
    export_model(tiny_model_dir, folder)
    before = files(folder)
    with pytest.raises(ValueError, match="exists and is not empty"):
        export_model(tiny_model_dir, folder)
    assert files(folder) == before


def test_failed_export_leaves_nothing_behind(tiny_model_dir, example, tmp_path):
    example.write_bytes(b"not an image")
    before = files(tmp_path)
    with pytest.raises(OSError):
        export_model(tiny_model_dir, tmp_path / "exported", example=example)
    assert files(tmp_path) == before and not (tmp_path / "exported").exists()


# The card


def test_blank_card_has_the_metadata_of_the_hub_and_names_what_is_unknown(exported):
    card = ModelCard.load(exported / "README.md")
    assert card.data.library_name == "diffusers"
    assert card.data.pipeline_tag == "image-to-video"
    assert "mcdiff" in card.data.tags
    assert "| `flow_completion` | `FlowCompletionUNet` |" in card.text
    assert "![The image](dot.jpg)" in card.text
    assert "Not stated" in card.text and "Not measured" in card.text


def test_card_of_the_author_keeps_all_but_the_marked_parts(tiny_model_dir, tmp_path):
    tiny_model_dir.joinpath("README.md").write_text(
        "---\nlicense: mit\ntags:\n- mine\n---\n"
        "# Mine\n<!-- components -->\nold\n<!-- /components -->\nLimits: many.\n"
    )
    export_model(tiny_model_dir, tmp_path / "exported")
    card = ModelCard.load(tmp_path / "exported" / "README.md")
    assert card.data.license == "mit" and card.data.tags[0] == "mine"
    assert "# Mine" in card.text and "Limits: many." in card.text and "old" not in card.text


def test_metrics_come_from_the_evaluation(tiny_model_dir, tmp_path):
    estimate = {"value": 21.123456, "low": 20.0, "high": 22.5, "clips": 9}
    rows = [
        {"row": "ours", "strokes": 5, "frames": "all", "psnr": estimate, "ssim": None},
        {"row": "ours", "strokes": 5, "frames": "last", "psnr": estimate, "ssim": None},
        {"row": "still", "strokes": None, "frames": "all", "psnr": estimate, "ssim": estimate},
    ]
    metrics = tmp_path / "metrics.json"
    metrics.write_text(json.dumps({"model": "tiny", "data": "people, test", "rows": rows}))
    export_model(tiny_model_dir, tmp_path / "exported", metrics=metrics)
    card = ModelCard.load(tmp_path / "exported" / "README.md")
    assert card.data.metrics == ["psnr", "ssim"]
    assert "Measured on people, test, " in card.text and "Not measured" not in card.text
    assert [line for line in card.text.splitlines() if line.startswith(("| ours", "| still"))] == [
        "| ours | 5 | 21.12 (20 to 22.5) |  |",
        "| still |  | 21.12 (20 to 22.5) | 21.12 (20 to 22.5) |",
    ]


@pytest.mark.parametrize("content", ["not json", "[]", '{"rows": []}', '{"rows": [{"frames": "all"}]}'])
def test_metrics_of_another_structure_are_refused(tiny_model_dir, tmp_path, content):
    tmp_path.joinpath("metrics.json").write_text(content)
    with pytest.raises(ValueError, match="evaluation"):
        export_model(tiny_model_dir, tmp_path / "exported", metrics=tmp_path / "metrics.json")
    assert not (tmp_path / "exported").exists()


# Checks before the upload


STRAY = {
    "setup.py": b"import os",
    "__init__.py": b"",
    "flow_completion/pipeline.py": b"",
    "unet/diffusion_pytorch_model.bin": b"\x80\x04.",
    "notes.ipynb": b"{}",
    ".env": b"TOKEN=1",
}


@pytest.mark.parametrize("name", STRAY)
def test_stray_file_is_refused(exported, name):
    exported.joinpath(name).write_bytes(STRAY[name])
    with pytest.raises(ValueError, match="is not part of an export"):
        check_export(exported)


@pytest.mark.parametrize("name", CODE)
def test_changed_code_is_refused(exported, name):
    with exported.joinpath(name).open("a") as file:
        file.write("print('hello')\n")
    with pytest.raises(ValueError, match="differs from the file of this version"):
        check_export(exported)


@pytest.mark.parametrize("name", ["README.md", "pipeline.py", "model_index.json"])
def test_folder_that_lacks_a_part_is_refused(exported, name):
    exported.joinpath(name).unlink()
    with pytest.raises(ValueError, match=f"holds no {name}"):
        push_export(exported, "owner/name")


@pytest.mark.parametrize("name", ["name", "a/b/c", "owner/na me", "owner/"])
def test_impossible_name_of_a_repository_is_refused(exported, name):
    with pytest.raises(ValueError):
        push_export(exported, name)
