import numpy as np
import pytest


pytest.importorskip("numba")

from rendering.people.rasterizer import flow_and_occlusion, project_all, rasterize  # noqa: E402


def test_flow_of_a_known_translation_is_exact():
    # A square 2 meters away moves by (0.1, -0.05) meters, and 0.2 meters nearer.
    square = np.array([[-0.5, -0.5, 2], [0.5, -0.5, 2], [0.5, 0.5, 2], [-0.5, 0.5, 2]])
    triangles = np.array([[0, 2, 1], [0, 3, 2]], np.int32)
    view = np.array([60.0, 32, 32, 1, 0, 0, 0, 1, 0])
    two_sided, owner = np.zeros(2, bool), np.ones(2, np.uint8)
    cameras = [square, square + [0.1, -0.05, -0.2]]
    screens, drawn = [], []
    for camera in cameras:
        screen = np.zeros((4, 3))
        project_all(camera, view, screen)
        nearness, triangle_of = np.zeros((129, 129)), np.full((129, 129), -1, np.int32)
        rasterize(screen, triangles, two_sided, nearness, triangle_of)
        screens.append(screen)
        drawn.append((nearness, triangle_of))
    flow, occlusion = np.zeros((2, 64, 64), np.float32), np.zeros((64, 64), bool)
    mask = np.zeros((64, 64), np.uint8)
    flow_and_occlusion(
        screens[0], triangles, two_sided, owner, drawn[0][1], cameras[1], screens[1], view, *drawn[1],
        np.array([[1.0, 0, 0.5], [0, 1, 0.25]]), flow, occlusion, mask, 0.02,
    )  # fmt: skip
    y, x = np.mgrid[:64, :64] + 0.5
    inside = mask == 1
    assert inside.sum() == 30 * 30
    expected_x = 60 * ((x - 32) * 2 / 60 + 0.1) / 1.8 + 32 - x
    expected_y = 60 * ((y - 32) * 2 / 60 - 0.05) / 1.8 + 32 - y
    np.testing.assert_allclose(flow[0][inside], expected_x[inside], atol=1e-4)
    np.testing.assert_allclose(flow[1][inside], expected_y[inside], atol=1e-4)
    np.testing.assert_allclose(flow[:, ~inside].T, np.tile([0.5, 0.25], (np.sum(~inside), 1)), atol=1e-5)
    assert not occlusion[inside].any()
