# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Easing, strength, turns and handles of stroke sheets: kept, rendered as by the library, and given back."""

import numpy as np
import pytest
import torch

from mcdiff_pipeline import StrokeSheet
from mcdiff_pipeline.motion.clip_streams import stream_clip
from mcdiff_pipeline.video.clip_metadata import ClipMetadata
from support.studio import pixels, tiny_pipeline


pytest.importorskip("fastapi", reason="needs the extra `studio`")

SHEET = {
    "version": 3,
    "width": 48,
    "height": 40,
    "num_frames": 6,
    "fps": 8.0,
    "regions": [{"polygon": [[4, 4], [24, 4], [24, 30], [4, 30]], "name": "box"}],
    "strokes": [
        {
            "kind": "move",
            "points": [[10.5, 10.5], [20, 14]],
            "region": "box",
            "rotate": 25.0,
            "scale": 1.1,
            "radius": 5.0,
        },
        {
            "kind": "move",
            "points": [[30.5, 12], [38, 20], [30, 28]],
            "end_frame": 4,
            "easing": "ease-in-out",
            "strength": 0.7,
        },
        {
            "kind": "hold",
            "points": [[40, 34]],
            "rotate": -20.0,
            "handles": [[36, 30], [42.5, 30]],
            "easing": "ease-in",
        },
    ],
}


def test_sheet_of_version_3_is_rendered_as_by_the_library_and_given_back(kept_server, kept_session, image, tmp_path):
    client, url = kept_server.client, f"/api/sessions/{kept_session}"
    found = client.post(f"{url}/import", json=SHEET).json()["sheet"]
    key = client.put(f"{url}/regions", json={"regions": found["regions"]}).json()["regions"]
    fields = {"strokes": found["strokes"], "num_frames": 6, "regions": key}
    sheet = StrokeSheet.from_dict(SHEET)
    with kept_server.page(kept_session) as page:
        page.send("flow", **fields, size=32)
        header, payload = page.until("flow", "refused")
        assert header["type"] == "flow", header
        node = page.rendered(**fields, settings={"size": 32, "output": "image"}, preview=False)
        branch = page.rendered(**fields, parent=node, at=2, preview=False)
        page.send("flow", **(fields | {"strokes": [*found["strokes"], found["strokes"][0] | {"region": "cup"}]}))
        page.render(**(fields | {"strokes": [*found["strokes"], found["strokes"][0] | {"region": "cup"}]}))
        refused = page.until("refused")[0]
        refused = refused if refused["of"] == "render" else page.until("refused")[0]
        assert refused["stroke"] == 3 and "box" in refused["why"]  # the stroke that is drawn, not one of its handles
    size = {"height": header["height"], "width": header["width"]}
    expected = tiny_pipeline().predict_flow(image, sheet, **size)[0].numpy()
    flow = np.frombuffer(payload, "<f2").reshape(2, header["h"], header["w"])
    assert np.abs(flow - expected).max() < 0.01
    # One frame at a time, as the page makes them: frames that are decoded together may differ in the last bit.
    options = {"num_frames": 6, "generator": torch.Generator().manual_seed(0), "output_size": "image"}
    made = list(tiny_pipeline().stream(image, sheet, **options, **size))
    for one in (node, branch):
        for frame in range(1, 6):
            content = client.get(kept_server.url(kept_session, one, f"frames/{frame}.webp?size=output")).content
            assert np.array_equal(pixels(content), np.asarray(made[frame])), frame

    clip = client.get(kept_server.url(kept_session, node, "clip.mp4"))
    (tmp_path / "clip.mp4").write_bytes(clip.content)
    replayed = [
        np.asarray(frame) for frame, _ in stream_clip(tiny_pipeline(), ClipMetadata.read(tmp_path / "clip.mp4"))
    ]
    assert all(np.array_equal(one, np.asarray(frame)) for one, frame in zip(replayed, made, strict=True))
    opened = client.post("/api/sessions", content=clip.content).json()["sheet"]
    assert [one["strokes"] for one in (opened, found)] == [SHEET["strokes"]] * 2


def test_exported_sheet_is_the_one_that_was_opened(kept_server, kept_session):
    client, url = kept_server.client, f"/api/sessions/{kept_session}"
    found = client.post(f"{url}/import", json=SHEET).json()["sheet"]
    key = client.put(f"{url}/regions", json={"regions": found["regions"]}).json()["regions"]
    with kept_server.page(kept_session) as page:
        node = page.rendered(strokes=found["strokes"], num_frames=6, regions=key)
    exported = client.get(kept_server.url(kept_session, node, "sheet.json")).json()
    assert StrokeSheet.from_dict(exported) == StrokeSheet.from_dict(SHEET)
    tracks = client.get(kept_server.url(kept_session, node, "tracks.json")).json()
    # the first of the points that move together stands for all
    assert [one["from"][0] for one in tracks["strokes"]] == [5.5, 30.5, 36]
