"""Make a video, then go on from its last frame with other strokes, so that both parts are one video.

python examples/continue_a_video.py
"""

from pathlib import Path

import torch

from mcdiff_pipeline import MCDiffPipeline, Stroke
from mcdiff_pipeline.video import write_video


repository = Path(__file__).resolve().parents[1]
pipe = MCDiffPipeline.from_pretrained(repository / "checkpoints" / "mcdiff-small-128")

# A state holds all that the next frame depends on. It can be kept, saved, and continued in several ways.
state = pipe.start(
    repository / "examples" / "cat.jpg", generator=torch.Generator().manual_seed(0), output_size="image"
)
frames = pipe.decode_frame(state)
background = Stroke([(287, 280)], kind="hold")

left = Stroke([(206, 238), (170, 232)], end_frame=5)
for _ in range(5):
    state = pipe.step(state, [left, background], num_frames=11)
    frames += pipe.decode_frame(state)

# Drawn on frame 5, where the nose is now.
back = Stroke([(170, 232), (200, 240)], start_frame=5, end_frame=10)
for _ in range(5):
    state = pipe.step(state, [back, background], num_frames=11)
    frames += pipe.decode_frame(state)

write_video(frames, "longer.mp4", fps=8)

# A video from elsewhere is continued from its last frame, with the colors of its first one.
other = pipe.start(frames=frames, generator=torch.Generator().manual_seed(0))
print(f"longer.mp4: {len(frames)} frames; it can go on from frame {state.frame}, or as a new video from {other.frame}")
