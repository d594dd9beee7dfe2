"""Programs that write a video and get Ctrl-C meanwhile. Each fails if the file has other frames than were written."""

import inspect
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np

from mcdiff_pipeline.video import VideoWriter, read_video
from support.moving_square import mean_error


VIDEO_WRITER = inspect.getfile(VideoWriter)


def while_frames_are_written(folder: Path, suffix: str) -> None:
    path = folder / f"clip{suffix}"
    writer = VideoWriter(path, fps=8, metadata={"seed": 1})
    try:
        with writer:
            while True:
                writer.write(np.full((48, 64, 3), writer.num_frames % 256, np.uint8))
                if writer.num_frames == 5:
                    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    except KeyboardInterrupt:
        pass
    video = read_video(path)
    assert len(video.frames) == writer.num_frames
    assert mean_error(video.frames[:5], [np.full((48, 64, 3), value) for value in range(5)]) < 2
    assert video.metadata == {"seed": 1}
    assert [file.name for file in folder.iterdir()] == [path.name]


def at_any_line_of_write(folder: Path) -> None:
    frame = np.zeros((48, 64, 3), np.uint8)

    def lines_until_ctrl_c(name: str, line: int | None) -> tuple[int, int]:
        """Writes frames with Ctrl-C before the given line of the third `write`; returns the lines of that call."""
        lines = 0

        def trace(code, event, _):
            nonlocal lines
            if event == "line":
                if lines == line:
                    signal.raise_signal(signal.SIGINT)
                lines += 1
            return trace

        writer = VideoWriter(folder / name, fps=8)
        try:
            with writer:
                writer.write(frame)
                writer.write(frame)
                sys.settrace(lambda code, *_: trace if code.f_code.co_filename == VIDEO_WRITER else None)
                try:
                    writer.write(frame)
                finally:
                    sys.settrace(None)
        except KeyboardInterrupt:
            pass
        assert len(read_video(folder / name).frames) == writer.num_frames
        return lines, writer.num_frames

    lines, _ = lines_until_ctrl_c("whole.mp4", None)
    kept = {lines_until_ctrl_c(f"{line}.mp4", line)[1] for line in range(lines)}
    assert kept == {2, 3}


def while_the_file_is_finished(folder: Path) -> None:
    """H.264 looks ahead, so all of these frames are encoded when the file is finished."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    for delay in (0.0, 0.005, 0.02, 0.05):
        path = folder / f"{delay}.mp4"
        timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
        try:
            with VideoWriter(path, fps=8) as writer:
                for _ in range(8):
                    writer.write(noise)
                timer.start()
            timer.join()  # if the file was finished first, Ctrl-C comes here
            time.sleep(1)
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError("Ctrl-C was lost")
        assert len(read_video(path).frames) == 8
