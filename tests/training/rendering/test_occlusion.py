import numpy as np

from rendering.occlusion import occlusion_from_layers


def test_pixel_is_occluded_if_it_leaves_the_frame_or_another_layer_covers_it():
    layers = np.zeros((6, 8), dtype=int)
    layers[2:4, 1:3] = 1
    following = np.zeros((6, 8), dtype=int)
    following[2:4, 4:6] = 1
    flow = np.zeros((2, 6, 8), dtype=np.float32)
    flow[0, 2:4, 1:3] = 3
    occlusion = occlusion_from_layers(flow, layers, following)
    expected = np.zeros((6, 8), dtype=bool)
    expected[2:4, 4:6] = True  # the background where the object arrives
    np.testing.assert_array_equal(occlusion, expected)
    flow[0, 2:4, 1:3] = 7
    assert occlusion_from_layers(flow, layers, following)[layers == 1].all()
