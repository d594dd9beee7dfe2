# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Where handles were to go and where they are found, in frames whose motion is known."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mcdiff_pipeline.studio.pictures import lossless_webp


pytest.importorskip("fastapi", reason="needs the extra `studio`")

SIDE, SPEED, FRAMES = 128, 4, 4


def textured() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE // 4, SIDE // 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def shifted(picture: Image.Image, right: int) -> Image.Image:
    return Image.fromarray(np.roll(np.asarray(picture), right, axis=1))


def test_tracks_say_where_handles_are(kept_server):
    picture = textured()
    session = kept_server.open(picture)["id"]
    strokes = [
        {"kind": "move", "points": [[40.5, 64.5], [40.5 + SPEED * (FRAMES - 1), 64.5]]},
        {"kind": "hold", "points": [[80.5, 40.5]]},
        {"kind": "move", "points": [[60.5, 90.5], [68.5, 90.5]], "frames": [1, 3]},
    ]
    with kept_server.page(session) as page:
        node = page.rendered(strokes=strokes, num_frames=FRAMES, settings={"size": SIDE})
    files = kept_server.studio.registry.get(session).files
    for index in range(1, FRAMES):  # all that is in it moves to the right
        files.write(files.frame_name(node, index, "webp"), lossless_webp(shifted(picture, SPEED * index)))

    response = kept_server.client.get(kept_server.url(session, node, "tracks.json"))
    assert response.status_code == 200, response.text
    tracks = response.json()
    assert (tracks["node"], tracks["last"], tracks["frames"]) == (node, 3, [1, 2, 3])
    assert tracks["near"] == 3  # pixels of the picture, as the recall of evaluation has it at 128
    move, hold, late = tracks["strokes"]
    assert move["off"] == pytest.approx(0, abs=0.01)
    assert move["found"] == [[pytest.approx(x, abs=0.01), pytest.approx(64.5, abs=0.01)] for x in (44.5, 48.5, 52.5)]
    assert hold["kind"] == "hold" and hold["off"] == pytest.approx((4 + 8 + 12) / 3, abs=0.01)
    assert hold["goals"] == [[80.5, 40.5]] * 3 and hold["found"][2] == [92.5, 40.5]
    # it is compared with the frame in which it begins
    assert late["start"] == 1 and late["goals"][0] == late["from"] and late["found"][0] is None
    assert late["found"][2] == [pytest.approx(68.5, abs=0.01), pytest.approx(90.5, abs=0.01)]
    kept_server.client.delete(f"/api/sessions/{session}")


def test_tracks_lie_on_the_picture_though_motion_is_computed_at_another_shape(kept_server):
    height, right = 96, 4
    picture = textured().crop((0, 0, SIDE, height))
    session = kept_server.open(picture)["id"]
    strokes = [{"kind": "hold", "points": [[40.5, 80.5]]}, {"kind": "hold", "points": [[90.5, 20.5]]}]
    with kept_server.page(session) as page:
        node = page.rendered(strokes=strokes, num_frames=2, settings={"size": 32})
    stored = kept_server.studio.registry.get(session)
    settings = stored.nodes[node].settings
    stretched = replace(settings, width=64, height=64)
    stored.nodes[node] = replace(stored.nodes[node], settings=stretched)
    stored.files.write(stored.files.frame_name(node, 1, "webp"), lossless_webp(shifted(picture, right)))
    tracks = kept_server.client.get(kept_server.url(session, node, "tracks.json")).json()
    for stroke, given in zip(tracks["strokes"], strokes, strict=True):
        (x, y), (found_x, found_y) = given["points"][0], stroke["found"][0]
        assert stroke["from"] == [pytest.approx(x, abs=0.02), pytest.approx(y, abs=0.02)]
        assert found_x == pytest.approx(x + right, abs=1) and found_y == pytest.approx(y, abs=1)
        assert stroke["off"] == pytest.approx(right, abs=1)
    kept_server.client.delete(f"/api/sessions/{session}")


def test_handle_behind_another_region_is_not_searched(kept_server):
    picture = textured()
    session = kept_server.open(picture)["id"]
    regions = [
        {"polygon": [[8, 48], [40, 48], [40, 80], [8, 80]], "name": "ball", "rigid": True, "order": 1},
        {"polygon": [[52, 16], [78, 16], [78, 112], [52, 112]], "name": "post", "rigid": True, "order": 2},
    ]
    strokes = [
        {"kind": "move", "points": [[24.5, 64.5], [104.5, 64.5]], "region": "ball"},
        {"kind": "hold", "points": [[68.5, 64.5]], "region": "post"},
    ]
    url = f"/api/sessions/{session}"
    key = kept_server.client.put(f"{url}/regions", json={"regions": regions}).json()["regions"]
    with kept_server.page(session) as page:
        node = page.rendered(strokes=strokes, num_frames=6, regions=key, settings={"size": 64})
    ball, post = kept_server.client.get(kept_server.url(session, node, "tracks.json")).json()["strokes"]
    goals = [x for x, _ in ball["goals"]]
    assert goals == [pytest.approx(24.5 + 16 * step, abs=0.1) for step in range(1, 6)]
    # the post is from 52 to 78, where the ball is in frames 2 and 3
    assert [place is None for place in ball["found"]] == [False, True, True, False, False]
    assert None not in post["found"]
    kept_server.client.delete(url)


def test_tracks_of_nothing_are_refused(kept_server, kept_session):
    response = kept_server.client.get(kept_server.url(kept_session, "0" * 32, "tracks.json"))
    assert response.status_code == 404 and "no longer there" in response.json()["why"]
