# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Frames to a video file and back, with metadata inside the file.

The suffix decides the format: `.mp4` (H.264, plays everywhere), `.webm` (VP9), `.gif` (256 colors per frame) or
`.mkv` (FFV1, lossless). The metadata is one JSON object in the container's comment, which any tool for video files
shows. A file appears under its name only when it is complete. If the program is stopped, the file holds the frames
made so far.
"""

from .reader import TimedFrame, Video, VideoReader, read_video
from .writer import VideoWriter, write_video


__all__ = ["TimedFrame", "Video", "VideoReader", "VideoWriter", "read_video", "write_video"]
