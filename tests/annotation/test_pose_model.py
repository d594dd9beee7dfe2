import http.server
import threading
from pathlib import Path

import pytest

from mcdiff_pipeline.annotation.pose_model import cached_pose_model, download_pose_model, find_pose_model
from support.pose_model import write_bundle


@pytest.fixture
def bundle(tmp_path) -> Path:
    return write_bundle(tmp_path / "model.task")


def test_model_is_searched_in_three_places(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.prefix", str(tmp_path / "environment"))
    monkeypatch.delenv("MCDIFF_POSE_MODEL", raising=False)
    cached = tmp_path / "cache" / "mcdiff-pipeline" / "pose_landmarker_full.task"
    assert cached_pose_model() == cached
    with pytest.raises(FileNotFoundError, match=f"{cached}.*MCDIFF_POSE_MODEL.*https://.*build_pose_model.py"):
        find_pose_model()
    cached.parent.mkdir(parents=True)
    cached.write_bytes(bundle.read_bytes())
    assert find_pose_model() == cached
    monkeypatch.setenv("MCDIFF_POSE_MODEL", str(bundle))
    assert find_pose_model() == bundle
    assert find_pose_model(cached) == cached
    monkeypatch.setenv("MCDIFF_POSE_MODEL", str(tmp_path / "missing.task"))
    with pytest.raises(FileNotFoundError, match="missing.task, which MCDIFF_POSE_MODEL names"):
        find_pose_model()
    with pytest.raises(FileNotFoundError, match="no pose model .*nowhere.task"):
        find_pose_model(tmp_path / "nowhere.task")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The address of a server on this machine, and the folder that it serves."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()
        thread.join()


def test_model_downloaded_to_the_cache_is_found(bundle, server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.prefix", str(tmp_path / "environment"))
    monkeypatch.delenv("MCDIFF_POSE_MODEL", raising=False)
    address, folder = server
    (folder / "model.task").write_bytes(bundle.read_bytes())
    model = cached_pose_model()
    download_pose_model(model, f"{address}/model.task")
    assert model.read_bytes() == bundle.read_bytes()
    assert find_pose_model() == model
    assert [path.name for path in model.parent.iterdir()] == [model.name]


def test_failed_download_keeps_the_old_file(bundle, server, tmp_path):
    address, folder = server
    (folder / "half.task").write_bytes(bundle.read_bytes()[:100])
    target = tmp_path / "models" / "pose.task"
    target.parent.mkdir()
    target.write_bytes(bundle.read_bytes())
    with pytest.raises(OSError, match=f"cannot be downloaded from {address}/none.task .*404.*build_pose_model.py"):
        download_pose_model(target, f"{address}/none.task")
    with pytest.raises(ValueError, match=f"{address}/half.task is not a pose model"):
        download_pose_model(target, f"{address}/half.task")
    assert target.read_bytes() == bundle.read_bytes()
    assert list(target.parent.iterdir()) == [target]
