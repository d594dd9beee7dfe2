"""What Windows lacks: `fcntl`, `os.pread`, and other ways to start a process than spawn."""

import subprocess
import sys

from support.annotation_runs import write_pans


SCRIPT = """
import importlib, multiprocessing, os, pkgutil, sys

sys.modules["fcntl"] = None  # importing it fails
for name in ("pread", "fork", "sched_getaffinity", "killpg"):
    delattr(os, name)
multiprocessing.get_all_start_methods = lambda: ["spawn"]
get_context = multiprocessing.get_context


def spawn_alone(method=None):
    if method not in (None, "spawn"):
        raise ValueError(f"cannot find context for {method!r}")
    return get_context(method)


multiprocessing.get_context = spawn_alone

from mcdiff_pipeline.annotation.run import annotate_videos
from mcdiff_pipeline.annotation.settings import AnnotationSettings, SelectionSettings
from mcdiff_pipeline.dataset import ClipDataset

if __name__ == "__main__":
    for package in map(importlib.import_module, ("mcdiff_commands", "mcdiff_pipeline")):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    settings = AnnotationSettings(selection=SelectionSettings(resolution=48, num_frames=3), flow="dis")
    annotate_videos([sys.argv[1]], sys.argv[2], settings, num_workers=1, progress=False)
    print(len(ClipDataset(sys.argv[2])), len(ClipDataset(sys.argv[2])[0].frames))
"""


def test_everything_is_imported_and_annotates_where_only_spawn_exists(tmp_path):
    (tmp_path / "videos").mkdir()
    write_pans(tmp_path / "videos", ("cat",))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    arguments = [sys.executable, str(script), str(tmp_path / "videos"), str(tmp_path / "clips")]
    run = subprocess.run(arguments, capture_output=True, text=True)
    assert (run.stdout.split(), run.returncode) == (["8", "3"], 0), run.stderr
