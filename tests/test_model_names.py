import shutil

import pytest

from mcdiff_pipeline import model_names
from mcdiff_pipeline.model_names import ModelLocation, find_model


@pytest.fixture
def embedded(tiny_model_dir, monkeypatch) -> ModelLocation:
    """A tiny model in the place of the embedded one."""
    monkeypatch.delenv("MCDIFF_MODEL", raising=False)
    monkeypatch.setattr(model_names, "EMBEDDED_MODEL", tiny_model_dir)
    return ModelLocation(str(tiny_model_dir), "tiny-model", is_embedded=True)


def test_embedded_model_is_the_default(embedded):
    assert find_model(None) == embedded
    assert find_model("tiny-model") == embedded  # a clip carries this name
    assert find_model(embedded.path) == embedded


def test_environment_overrides_the_embedded_model(embedded, tmp_path, monkeypatch):
    shutil.copytree(embedded.path, tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MCDIFF_MODEL", "mine")
    assert find_model(None) == ModelLocation("mine", "mine")
    assert find_model("owner/repository") == ModelLocation("owner/repository", "owner/repository")


def test_name_that_means_no_model_is_refused(embedded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty is not a model: it has no model_index.json"):
        find_model("empty")
    with pytest.raises(ValueError, match="gone is neither a folder nor the name of a Hub repository"):
        find_model("gone")


def test_without_a_default_the_error_says_how_to_name_a_model(tmp_path, monkeypatch):
    monkeypatch.setenv("MCDIFF_MODEL", "")  # the same as unset
    monkeypatch.setattr(model_names, "EMBEDDED_MODEL", tmp_path / "nothing")
    with pytest.raises(ValueError, match="no model is named: give --model .* set MCDIFF_MODEL"):
        find_model(None)


def test_embedded_model_is_in_the_checkout():
    assert model_names.EMBEDDED_MODEL.parts[-2:] == ("checkpoints", "mcdiff-small-128")
    assert (model_names.EMBEDDED_MODEL.parents[1] / "src" / "mcdiff_pipeline").is_dir()
    assert model_names.EMBEDDED_MODEL_CARD.is_file() and model_names.default_example().is_file()
