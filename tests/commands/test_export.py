# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""`mcdiff export` and `mcdiff push`; tests/hub/test_loading.py pushes to a Hub."""

import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from mcdiff_pipeline import Stroke, StrokeSheet
from mcdiff_pipeline.hub import check_export


@pytest.fixture
def example(image, tmp_path) -> Path:
    """An image with a stroke sheet beside it."""
    image.save(tmp_path / "dot.png")
    sheet = StrokeSheet([Stroke([(10, 10), (20, 12)])], 48, 40, num_frames=3, fps=5)
    sheet.save(tmp_path / "dot.json")
    return tmp_path / "dot.png"


def test_export_takes_card_example_and_variant(tiny_model_dir, mcdiff, example, tmp_path):
    tmp_path.joinpath("card.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    arguments = ("--card", tmp_path / "card.md", "--example", example, "--variant", "fp16", "--max-shard-size", "1GB")
    code, out, err = mcdiff("export", tiny_model_dir, tmp_path / "exported", *arguments)
    assert (code, err) == (0, "") and str(tmp_path / "exported") in out
    assert "# Mine" in (tmp_path / "exported" / "README.md").read_text()
    assert (tmp_path / "exported" / "dot.mp4").is_file()
    check_export(tmp_path / "exported")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("export", "nowhere/at/all", "out"), "neither a folder nor the name"),
        (("export", "owner/name", "out"), "download the repository first"),
        (("export", "MODEL", "no/such/out"), "there is no folder"),
        (("export", "MODEL", "MODEL"), "exists and is not empty"),
        (("export", "MODEL", "out", "--card", "none.md"), "there is no such file"),
        (("export", "MODEL", "out", "--example", "none.jpg"), "there is no such file"),
        (("export", "MODEL", "out", "--metrics", "none.json"), "there is no such file"),
        (("export", "MODEL", "out", "--variant", "fp8"), "'fp8' is not one of 'fp16', 'bf16'"),
        (("export", "MODEL", "out", "--max-shard-size", "big"), "'big' is not a size; write 500MB or 5GB"),
        (("push", "MODEL", "owner/name"), "is not an export"),
        (("push", "MODEL", "name"), "write owner/name"),
    ],
)
def test_wrong_input_is_reported_in_one_sentence(tiny_model_dir, mcdiff, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = mcdiff(*(tiny_model_dir if argument == "MODEL" else argument for argument in arguments))
    assert (code, out) == (2, "")
    assert message in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.weights
def test_embedded_model_is_exported_with_its_card(mcdiff, tmp_path):
    assert mcdiff("export", "mcdiff-small-128", tmp_path / "exported")[0] == 0
    card = ModelCard.load(tmp_path / "exported" / "README.md")
    data = card.data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "diffusers", "image-to-video")
    assert "mcdiff-small-128" in card.text and "checkpoints/mcdiff-small-128" not in card.text
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", card.text) if "://" not in link]
    assert {"cat.mp4", "cat.jpg", "LICENSE", "stroke_sheet.schema.json"} <= set(links)
    assert [link for link in links if not (tmp_path / "exported" / link).is_file()] == []
    assert "PSNR on moving pixels" in card.text  # without --metrics the card keeps the metrics that it states
