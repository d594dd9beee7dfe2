"""Animate a photograph along three strokes and write the video: the shortest complete program.

python examples/move_a_photograph.py
"""

from pathlib import Path

import torch

from mcdiff_pipeline import MCDiffPipeline, Stroke
from mcdiff_pipeline.video import write_video


repository = Path(__file__).resolve().parents[1]
pipe = MCDiffPipeline.from_pretrained(repository / "checkpoints" / "mcdiff-small-128")

# Points are (x, y) in pixels of the photograph, x to the right, y down, (0, 0) at the top left corner.
strokes = [
    Stroke([(206, 238), (160, 230)]),  # the nose moves left ...
    Stroke([(112, 115), (82, 119)]),  # ... with the eye
    Stroke([(287, 280)], kind="hold"),  # the background stays
]

output = pipe(
    repository / "examples" / "cat.jpg",
    strokes,
    num_frames=16,
    generator=torch.Generator().manual_seed(0),
)

write_video(output.frames[0], "moved.mp4", fps=8)
print(
    f"moved.mp4: {len(output.frames[0])} frames of {output.frames[0][0].width} x {output.frames[0][0].height} pixels"
)

# The dense flow that the strokes were completed to: right and down, in pixels of the working size, one vector per cell
# of the latent grid.
print(f"Dense flow: {list(output.dense_flow.shape)}, up to {output.dense_flow.norm(dim=2).max():.1f} pixels per frame")
