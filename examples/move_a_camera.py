"""Move a camera into a photograph whose regions lie at different depths, while a stroke moves one of them.

python examples/move_a_camera.py
"""

from pathlib import Path

import torch

from mcdiff_pipeline import MCDiffPipeline, StrokeSheet
from mcdiff_pipeline.motion.camera import Camera, CameraKeyframe
from mcdiff_pipeline.video import write_video


repository = Path(__file__).resolve().parents[1]
pipe = MCDiffPipeline.from_pretrained(repository / "checkpoints" / "mcdiff-small-128")
photograph, sheet = (repository / "examples" / f"citrus.{suffix}" for suffix in ("jpg", "json"))
strokes = StrokeSheet.load(sheet)

# The camera goes sideways and closer until frame 6, and stays. Slices whose region has a larger `order` are nearer.
camera = Camera(
    [CameraKeyframe(6, truck=(80, 0), dolly=0.15, easing="ease-in-out")],
    width=strokes.width,
    height=strokes.height,
    parallax=0.5,
)

output = pipe(
    photograph,
    strokes,
    num_frames=8,
    motion=camera,
    output_size=(444, 640),
    generator=torch.Generator().manual_seed(0),
)

write_video(output.frames[0], "truck.mp4", fps=strokes.fps)
print(f"truck.mp4: {len(output.frames[0])} frames; the camera shows layer 0 {1 / (1 - 0.15):.2f} times as large")
