"""Draws bent textures over an image, with exact flow (NumPy and Numba only)."""

import numpy as np
from numba import njit


@njit(cache=True)
def spline(controls, position, extent):
    """Uniform cubic B-spline of the control points along [0, extent], constant outside."""
    spans = len(controls) - 3
    s = min(max(position / extent, 0.0), 1.0) * spans
    i = min(int(s), spans - 1)
    f = s - i
    return (
        (1 - f) ** 3 * controls[i]
        + (3 * f**3 - 6 * f**2 + 4) * controls[i + 1]
        + (-3 * f**3 + 3 * f**2 + 3 * f + 1) * controls[i + 2]
        + f**3 * controls[i + 3]
    ) / 6


@njit(cache=True)
def bend(x, y, controls, width, height):
    """The bent position of a point of the texture: two shears."""
    x = x + spline(controls[0], y, height)
    return x, y + spline(controls[1], x, width)


@njit(cache=True)
def unbend(x, y, controls, width, height):
    """The exact inverse of `bend`."""
    y = y - spline(controls[1], x, width)
    return x - spline(controls[0], y, height), y


@njit(cache=True)
def draw_piece(image, layers, number, texture, matrix, inverse, controls):
    """Draw a piece over `image` `[H, W, 3]`, and write its number into `layers` `[H, W]` where it is visible.

    Color and coverage of a pixel are means over 3 x 3 samples. A pixel belongs to the piece if the piece covers more
    than half of it. The other arguments are from a `Piece`: its texture, and for this frame its matrix, the inverse of
    the matrix, and its controls.
    """
    height, width = layers.shape
    texture_height, texture_width = texture.shape[:2]
    reach_x, reach_y = np.abs(controls[0]).max(), np.abs(controls[1]).max()
    left, top, right, bottom = 1e9, 1e9, -1e9, -1e9
    for x in (-reach_x, texture_width + reach_x):
        for y in (-reach_y, texture_height + reach_y):
            u = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
            v = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
            left, right, top, bottom = min(left, u), max(right, u), min(top, v), max(bottom, v)
    for row in range(max(0, int(np.floor(top))), min(height, int(np.ceil(bottom)))):
        for column in range(max(0, int(np.floor(left))), min(width, int(np.ceil(right)))):
            red, green, blue, alpha = 0.0, 0.0, 0.0, 0.0
            for sample in range(9):
                u, v = column + (sample % 3 + 0.5) / 3, row + (sample // 3 + 0.5) / 3
                x = inverse[0, 0] * u + inverse[0, 1] * v + inverse[0, 2]
                y = inverse[1, 0] * u + inverse[1, 1] * v + inverse[1, 2]
                x, y = unbend(x, y, controls, texture_width, texture_height)
                x, y = x - 0.5, y - 0.5
                if x < 0 or y < 0 or x >= texture_width - 1 or y >= texture_height - 1:
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
def flow_of_pieces(flow, layers, inverses, controls, next_matrices, next_controls, extents):
    """Write the flow of all pixels that show a piece: from the frame to the texture, and on to the next frame."""
    height, width = layers.shape
    for row in range(height):
        for column in range(width):
            i = layers[row, column] - 1
            if i < 0:
                continue
            u, v = column + 0.5, row + 0.5
            inverse, matrix = inverses[i], next_matrices[i]
            x = inverse[0, 0] * u + inverse[0, 1] * v + inverse[0, 2]
            y = inverse[1, 0] * u + inverse[1, 1] * v + inverse[1, 2]
            x, y = unbend(x, y, controls[i], extents[i, 0], extents[i, 1])
            x, y = bend(x, y, next_controls[i], extents[i, 0], extents[i, 1])
            flow[0, row, column] = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] - u
            flow[1, row, column] = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] - v
