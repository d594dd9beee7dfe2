# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
def test_output_state_and_motion_are_one_short_line(tiny_pipeline, image):
    output = tiny_pipeline(image, [], num_frames=3)
    assert repr(output) == (
        "MCDiffPipelineOutput(frames=1 x 3 x image of 48 x 40, dense_flow=float32[1, 2, 2, 10, 12])"
    )
    state = tiny_pipeline.start(image)
    assert repr(state).startswith("RolloutState(frame=0, latents=float32[1, 4, 10, 12], ") and len(repr(state)) < 500
