import os
import signal
import subprocess
import sys
import threading

import pytest

from mcdiff_pipeline.folder_lock import FolderInUse, folder_lock


def test_folder_is_used_once_at_a_time(tmp_path):
    refusals = []

    def enter():
        try:
            with folder_lock(tmp_path / "output", used_by="evaluation"):
                pass
        except FolderInUse as refusal:
            refusals.append(str(refusal))

    with folder_lock(tmp_path / "output"):
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        with pytest.raises(ValueError, match=f"Another run works in '{tmp_path}/output': wait until it has ended"):
            folder_lock(tmp_path / "output").__enter__()
    assert len(refusals) == 1 and refusals[0].startswith("Another evaluation works in")
    enter()
    assert len(refusals) == 1


def test_lock_ends_with_a_process_that_is_killed(tmp_path):
    code = "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print('locked'); input()"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code, str(tmp_path / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "locked\n"
    with pytest.raises(FolderInUse):
        folder_lock(tmp_path).__enter__()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with folder_lock(tmp_path):
        pass
