"""Draws layers of a photograph that move by homographies, with exact flow (NumPy and Numba only)."""

import numpy as np
from numba import njit


@njit(cache=True)
def draw_layer(image, layers, number, texture, inverse, box, is_endless):
    """Draw a layer over `image` `[H, W, 3]`, and write its number into `layers` `[H, W]` where it is visible.

    Color and coverage of a pixel are means over 3 x 3 samples, bilinear in the texture. A pixel belongs to the layer
    if the layer covers more than half of it.

    Args:
        texture: float32 `[h, w, 4]`, premultiplied RGBA; colors 0 to 255, alpha 0 to 1.
        inverse: float64 `[3, 3]`, from points of the frame to points of the texture, in its pixels.
        box: (left, top, right, bottom) in pixels of the frame, outside of which the layer is transparent.
        is_endless: whether the rim of the texture continues outside of it; otherwise it is transparent there.
    """
    height, width = layers.shape
    texture_height, texture_width = texture.shape[:2]
    for row in range(max(0, box[1]), min(height, box[3])):
        for column in range(max(0, box[0]), min(width, box[2])):
            red, green, blue, alpha = 0.0, 0.0, 0.0, 0.0
            for sample in range(9):
                u, v = column + (sample % 3 + 0.5) / 3, row + (sample // 3 + 0.5) / 3
                z = inverse[2, 0] * u + inverse[2, 1] * v + inverse[2, 2]
                x = (inverse[0, 0] * u + inverse[0, 1] * v + inverse[0, 2]) / z - 0.5
                y = (inverse[1, 0] * u + inverse[1, 1] * v + inverse[1, 2]) / z - 0.5
                if is_endless:
                    x = min(max(x, 0.0), texture_width - 1.001)
                    y = min(max(y, 0.0), texture_height - 1.001)
                elif x < 0 or y < 0 or x >= texture_width - 1 or y >= texture_height - 1:
                    continue
                i, j = int(x), int(y)
                f, g = x - i, y - j
                for di, dj, weight in (
                    (0, 0, (1 - f) * (1 - g)),
                    (1, 0, f * (1 - g)),
                    (0, 1, (1 - f) * g),
                    (1, 1, f * g),
                ):
                    texel = texture[j + dj, i + di]
                    red += weight * texel[0]
                    green += weight * texel[1]
                    blue += weight * texel[2]
                    alpha += weight * texel[3]
            if alpha > 0:
                through = 1 - alpha / 9
                image[row, column, 0] = through * image[row, column, 0] + red / 9
                image[row, column, 1] = through * image[row, column, 1] + green / 9
                image[row, column, 2] = through * image[row, column, 2] + blue / 9
                if alpha > 4.5:
                    layers[row, column] = number


@njit(cache=True)
def flow_of_layers(layers, motions):
    """Flow float32 `[2, H, W]` in pixels: each pixel moves by the homography of its layer, `motions` `[L, 3, 3]`."""
    height, width = layers.shape
    flow = np.empty((2, height, width), np.float32)
    for row in range(height):
        for column in range(width):
            motion = motions[layers[row, column]]
            u, v = column + 0.5, row + 0.5
            z = motion[2, 0] * u + motion[2, 1] * v + motion[2, 2]
            flow[0, row, column] = (motion[0, 0] * u + motion[0, 1] * v + motion[0, 2]) / z - u
            flow[1, row, column] = (motion[1, 0] * u + motion[1, 1] * v + motion[1, 2]) / z - v
    return flow
