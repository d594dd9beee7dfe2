"""A program whose types have to be accepted; `test_types.py` checks it, and it is not run."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mcdiff_pipeline import MCDiffPipeline, Region, RolloutState, Stroke, StrokeSheet
from mcdiff_pipeline.drawing import draw_strokes
from mcdiff_pipeline.stroke_verdicts import judge_strokes
from mcdiff_pipeline.video import write_video


pipe = MCDiffPipeline.from_pretrained("mcdiff-small-128")
pipe = MCDiffPipeline.from_pretrained(Path("checkpoints") / "mcdiff-small-128", dtype=torch.float16)
pipe.set_progress_bar_config(nested=True)

nose = Stroke([(206, 238), (160, 230)])
eye = Stroke(((112.5, 115), (82, 119)), end_frame=8)
shoulder = Stroke([(287, 280)], kind="hold")
walk = Stroke(np.array([[1.0, 2.0], [3.0, 4.0]]).tolist(), frames=[0, 2.5])
sheet = StrokeSheet([nose, eye, shoulder, walk], width=300, height=300, num_frames=16, fps=8)
sheet.save("cat.json")

output = pipe(
    Path("examples") / "cat.jpg", [nose, shoulder], num_frames=16, generator=torch.Generator().manual_seed(0)
)
write_video(output.frames[0], "cat.mp4", fps=8)
print(len(output.frames[0]), output.frames[0][0].width)
assert output.dense_flow is not None
print(output.dense_flow.norm(dim=2).max())
for verdict in judge_strokes(sheet, output.dense_flow[0], cell=4):
    print(verdict.message)

mask = np.zeros((300, 300), bool)
region = Region(mask=mask, rigid=True, name="head")
outline = Region(polygon=[(10, 10), (50, 10), (50, 50)])
pipe(Image.open("cat.jpg"), sheet, regions=[region, outline], output_size="image")
pipe(np.zeros((8, 8, 3)), "cat.json", output_size=(480, 640), output_type="pt")
pipe([torch.zeros(3, 8, 8), "cat.jpg"], [[nose], [eye]], regions=[[region], [outline]])
frames, flow = pipe("cat.jpg", sheet, return_dict=False)

for problem in pipe.check_strokes("cat.jpg", sheet):
    print(problem.kind, problem.message)
predicted: torch.Tensor = pipe.predict_flow("cat.jpg", [nose])
for frame in pipe.stream("cat.jpg", sheet, num_frames=4):
    frame.save("frame.png")
state: RolloutState | None = pipe.start("cat.jpg", regions=[region])
assert state is not None
state = pipe.step(state, [nose], num_frames=4)
draw_strokes(Image.open("cat.jpg"), sheet).save("strokes.png")
