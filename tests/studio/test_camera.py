# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""A camera that goes with the regions of a tree: in flow, frames, branches and exported clips."""

import json

import numpy as np
import pytest
import torch

from mcdiff_pipeline.motion.camera import Camera
from mcdiff_pipeline.video.clip_metadata import ClipMetadata
from support.studio import MOVE, pixels, tiny_pipeline


pytest.importorskip("fastapi", reason="needs the extra `studio`")

PAN = {"version": 1, "width": 48, "height": 40, "keyframes": [{"frame": 3, "pan": [12, 0], "zoom": 1.2}]}


def put(server, session, camera, regions=()):
    body = json.dumps({"regions": list(regions), "camera": camera})
    headers = {"content-type": "application/json"}
    return server.client.put(f"/api/sessions/{session}/regions", content=body, headers=headers)


def test_camera_moves_flow_and_frames_as_the_library_does(kept_server, kept_session, image, tmp_path):
    key = put(kept_server, kept_session, PAN).json()["regions"]
    with kept_server.page(kept_session) as page:
        page.send("flow", strokes=[], num_frames=4, regions=key)
        header, payload = page.until("flow", "refused")
        assert header["type"] == "flow", header
        flow = np.frombuffer(payload, "<f2").reshape(2, header["h"], header["w"])
        node = page.rendered(strokes=[], num_frames=4, regions=key, settings={"output": "working"})
        # the state that the branch goes on from is read from its file
        kept_server.studio.model.engine.forget(kept_server.studio.registry.get(kept_session))
        branch = page.rendered(strokes=[MOVE], num_frames=4, parent=node, at=2)
    camera, pipe = Camera.from_dict(PAN), tiny_pipeline()
    size = {"height": header["height"], "width": header["width"]}
    expected = pipe.predict_flow(image, [], num_frames=4, motion=camera, **size)[0].numpy()
    assert np.abs(flow - expected).max() < 0.01 and np.abs(flow[0]).max() > 1
    frames = pipe(image, [], num_frames=4, motion=camera, generator=torch.Generator().manual_seed(0), **size).frames[0]
    made = pixels(kept_server.client.get(kept_server.url(kept_session, node, "frames/3.webp")).content)
    assert np.abs(made.astype(int) - np.asarray(frames[3]).astype(int)).max() <= 1

    clip = kept_server.client.get(kept_server.url(kept_session, branch, "clip.mp4?size=working"))
    (tmp_path / "clip.mp4").write_bytes(clip.content)
    assert [one["source"] for one in ClipMetadata.read(tmp_path / "clip.mp4").motion] == ["camera"]
    tracks = kept_server.client.get(kept_server.url(kept_session, node, "tracks.json"))
    assert tracks.status_code == 409 and "The camera moves" in tracks.json()["why"]


@pytest.mark.parametrize(
    ("camera", "words"),
    [
        ({"version": 1}, "width is missing"),
        (PAN | {"keyframes": [{"frame": 3, "zoom": 99}]}, r"keyframes[0].zoom is 99"),
        (PAN | {"keyframes": [{"frame": 3, "pan": [1e300, 0]}]}, "it goes 1e+300 pixels away"),
        (PAN | {"keyframes": [{"frame": k + 1, "zoom": 1} for k in range(300)]}, "at most 256"),
    ],
)
def test_wrong_camera_is_refused_in_a_sentence(kept_server, kept_session, camera, words):
    key = put(kept_server, kept_session, camera).json()["regions"]
    with kept_server.page(kept_session) as page:
        page.send("flow", strokes=[MOVE], num_frames=4, regions=key)
        why = page.until("refused")[0]["why"]
        assert words in why and why.endswith(".") and ".." not in why
