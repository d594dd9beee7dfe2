"""A z-buffer rasterizer for moving triangle meshes with exact flow, occlusion and masks (NumPy and Numba only).

Images are drawn on a grid of samples half a pixel apart: sample (row i, column j) is at the point (j / 2, i / 2) in
pixels. So an image of `[H, W]` pixels has `[2H + 1, 2W + 1]` samples, and the center of pixel (r, c) is sample
(2r + 1, 2c + 1). Colors are averaged over 3 x 3 samples. Flow, masks and occlusion are taken at the center alone, so
nothing mixes across the edge of an object.

Camera space: x right, y down, z forward, in meters. A *view* is an array `[9]`: focal length and principal point x, y
in pixels, then a b c d e f of an affine map of the finished image, x' = a x + b y + c and y' = d x + e y + f. The map
is the identity for a camera at rest, and describes pan, zoom and roll otherwise.
"""

import numpy as np
from numba import njit


# Weights of the three samples along each axis of a pixel. At the image's Nyquist frequency they pass 0.67 of the
# contrast; averaging over the area of a pixel passes 0.64.
FILTER = (1.0 / 6.0, 4.0 / 6.0, 1.0 / 6.0)


@njit(cache=True, fastmath=False)
def skin(rest, part_indices, part_weights, transforms, out):
    """Linear blend skinning: `rest` `[V, 3]` by `transforms` `[P, 3, 4]` with four parts per vertex, into `out`."""
    for v in range(rest.shape[0]):
        x, y, z = rest[v, 0], rest[v, 1], rest[v, 2]
        a = b = c = 0.0
        for k in range(part_indices.shape[1]):
            w = part_weights[v, k]
            if w > 0.0:
                m = transforms[part_indices[v, k]]
                a += w * (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3])
                b += w * (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3])
                c += w * (m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3])
        out[v, 0], out[v, 1], out[v, 2] = a, b, c


@njit(cache=True, fastmath=False)
def vertex_normals(vertices, triangles):
    """Area-weighted unit normals `[V, 3]` of a mesh with vertices `[V, 3]` and triangles `[F, 3]`."""
    normals = np.zeros(vertices.shape, np.float32)
    for t in range(triangles.shape[0]):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax = vertices[j, 0] - vertices[i, 0]
        ay = vertices[j, 1] - vertices[i, 1]
        az = vertices[j, 2] - vertices[i, 2]
        bx = vertices[k, 0] - vertices[i, 0]
        by = vertices[k, 1] - vertices[i, 1]
        bz = vertices[k, 2] - vertices[i, 2]
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for v in (i, j, k):
            normals[v, 0] += nx
            normals[v, 1] += ny
            normals[v, 2] += nz
    for v in range(normals.shape[0]):
        length = np.sqrt(normals[v, 0] ** 2 + normals[v, 1] ** 2 + normals[v, 2] ** 2) + 1e-20
        normals[v, 0] /= length
        normals[v, 1] /= length
        normals[v, 2] /= length
    return normals


@njit(cache=True, fastmath=False)
def project(x, y, z, view):
    """Pixel position (x, y) of a camera-space point in `view`."""
    px = view[0] * x / z + view[1]
    py = view[0] * y / z + view[2]
    return view[3] * px + view[4] * py + view[5], view[6] * px + view[7] * py + view[8]


@njit(cache=True, fastmath=False)
def project_all(camera, view, out):
    """Project `camera` `[V, 3]`: write sample column, row and 1 / z (0 closer than 10 cm) into `out` `[V, 3]`."""
    for v in range(camera.shape[0]):
        z = camera[v, 2]
        if z < 0.1:
            out[v, 2] = 0.0
            continue
        x, y = project(camera[v, 0], camera[v, 1], z, view)
        out[v, 0] = 2.0 * x
        out[v, 1] = 2.0 * y
        out[v, 2] = 1.0 / z


@njit(cache=True, fastmath=False)
def rasterize(screen, triangles, two_sided, nearness, triangle_of):
    """Draw triangles into the z-buffer.

    Args:
        screen: `[V, 3]` from `project_all`.
        triangles: `[F, 3]` int, counter-clockwise seen from outside in a right-handed space with z up.
        two_sided: `[F]` bool; other triangles are drawn only when they face the camera.
        nearness: `[2H + 1, 2W + 1]` 1 / z of the nearest surface, 0 where there is none; updated in place.
        triangle_of: same shape, int32, the triangle visible at a sample, -1 where there is none; updated in place.
    """
    rows, columns = nearness.shape
    for t in range(triangles.shape[0]):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        za, zb, zc = screen[i, 2], screen[j, 2], screen[k, 2]
        if za == 0.0 or zb == 0.0 or zc == 0.0:
            continue
        xa, ya, xb, yb, xc, yc = screen[i, 0], screen[i, 1], screen[j, 0], screen[j, 1], screen[k, 0], screen[k, 1]
        area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
        if area == 0.0 or (area > 0.0 and not two_sided[t]):
            continue
        left = max(0, int(np.ceil(min(xa, xb, xc))))
        right = min(columns - 1, int(np.floor(max(xa, xb, xc))))
        top = max(0, int(np.ceil(min(ya, yb, yc))))
        bottom = min(rows - 1, int(np.floor(max(ya, yb, yc))))
        if left > right or top > bottom:
            continue
        scale = 1.0 / area
        for r in range(top, bottom + 1):
            for c in range(left, right + 1):
                wb = ((c - xa) * (yc - ya) - (xc - xa) * (r - ya)) * scale
                wc = ((xb - xa) * (r - ya) - (c - xa) * (yb - ya)) * scale
                wa = 1.0 - wb - wc
                if wa < 0.0 or wb < 0.0 or wc < 0.0:
                    continue
                near = wa * za + wb * zb + wc * zc
                if near > nearness[r, c]:
                    nearness[r, c] = near
                    triangle_of[r, c] = t


@njit(cache=True, fastmath=False)
def barycentric(screen, triangles, t, column, row):
    """Perspective-correct weights of triangle `t`'s corners at a sample position (Heckbert & Moreton 1991)."""
    i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
    xa, ya, xb, yb, xc, yc = screen[i, 0], screen[i, 1], screen[j, 0], screen[j, 1], screen[k, 0], screen[k, 1]
    area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
    wb = ((column - xa) * (yc - ya) - (xc - xa) * (row - ya)) / area
    wc = ((xb - xa) * (row - ya) - (column - xa) * (yb - ya)) / area
    wa = (1.0 - wb - wc) * screen[i, 2]
    wb *= screen[j, 2]
    wc *= screen[k, 2]
    total = wa + wb + wc
    return wa / total, wb / total, wc / total


@njit(cache=True, fastmath=False)
def flow_and_occlusion(
    screen,
    triangles,
    two_sided,
    owner,
    triangle_of,
    next_camera,
    next_screen,
    next_view,
    next_nearness,
    next_triangle_of,
    background,
    flow,
    occlusion,
    mask,
    tolerance,
):
    """Exact forward flow of every pixel, whether its point is hidden in the next frame, and the object it shows.

    Args:
        screen, triangles, two_sided, triangle_of: this frame as given to and made by `rasterize`.
        owner: `[F]` number of the object (from 1) of each triangle.
        next_camera, next_screen, next_view, next_nearness, next_triangle_of: the next frame.
        background: `[2, 3]` affine map in pixels that takes points of the background to the next frame.
        flow: `[2, H, W]`, occlusion: `[H, W]` bool, mask: `[H, W]` uint8; written in place.
        tolerance: a point is visible if the surface of the next frame is at most this many meters in front of it.
    """
    height, width = mask.shape
    rows, columns = next_nearness.shape
    for r in range(height):
        for c in range(width):
            x, y = c + 0.5, r + 0.5
            t = triangle_of[2 * r + 1, 2 * c + 1]
            if t < 0:
                mask[r, c] = 0
                nx = background[0, 0] * x + background[0, 1] * y + background[0, 2]
                ny = background[1, 0] * x + background[1, 1] * y + background[1, 2]
                depth = np.inf
                facing = True
            else:
                mask[r, c] = owner[t]
                wa, wb, wc = barycentric(screen, triangles, t, 2 * c + 1, 2 * r + 1)
                i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                px = wa * next_camera[i, 0] + wb * next_camera[j, 0] + wc * next_camera[k, 0]
                py = wa * next_camera[i, 1] + wb * next_camera[j, 1] + wc * next_camera[k, 1]
                depth = wa * next_camera[i, 2] + wb * next_camera[j, 2] + wc * next_camera[k, 2]
                nx, ny = project(px, py, max(depth, 0.1), next_view)
                facing = True
                if not two_sided[t]:
                    xa, ya = next_screen[i, 0], next_screen[i, 1]
                    area = (next_screen[j, 0] - xa) * (next_screen[k, 1] - ya)
                    area -= (next_screen[k, 0] - xa) * (next_screen[j, 1] - ya)
                    facing = area < 0.0
            flow[0, r, c] = nx - x
            flow[1, r, c] = ny - y
            if not (0.0 <= nx < width and 0.0 <= ny < height) or not facing:
                occlusion[r, c] = True
                continue
            column, row = min(int(2.0 * nx), columns - 2), min(int(2.0 * ny), rows - 2)
            fx, fy = 2.0 * nx - column, 2.0 * ny - row
            if t < 0:
                covered = 0.0
                for dr in range(2):
                    for dc in range(2):
                        if next_triangle_of[row + dr, column + dc] >= 0:
                            covered += (fx if dc else 1.0 - fx) * (fy if dr else 1.0 - fy)
                occlusion[r, c] = covered >= 0.5
            else:
                seen = False
                for dr in range(2):
                    for dc in range(2):
                        near = next_nearness[row + dr, column + dc]
                        if near == 0.0 or 1.0 / near > depth - tolerance:
                            seen = True
                occlusion[r, c] = not seen


@njit(cache=True, fastmath=False)
def sample_photograph(photograph, row, column):
    """Bilinear sample of `[H, W, 3]` float32, mirrored outside. The center of the first pixel is at (0, 0)."""
    height, width = photograph.shape[0], photograph.shape[1]
    row = row % (2.0 * height - 2.0)
    if row > height - 1.0:
        row = 2.0 * height - 2.0 - row
    column = column % (2.0 * width - 2.0)
    if column > width - 1.0:
        column = 2.0 * width - 2.0 - column
    i, j = min(int(row), height - 2), min(int(column), width - 2)
    fy, fx = row - i, column - j
    a, b, c, d = (1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx
    return (
        a * photograph[i, j, 0]
        + b * photograph[i, j + 1, 0]
        + c * photograph[i + 1, j, 0]
        + d * photograph[i + 1, j + 1, 0],
        a * photograph[i, j, 1]
        + b * photograph[i, j + 1, 1]
        + c * photograph[i + 1, j, 1]
        + d * photograph[i + 1, j + 1, 1],
        a * photograph[i, j, 2]
        + b * photograph[i, j + 1, 2]
        + c * photograph[i + 1, j, 2]
        + d * photograph[i + 1, j + 1, 2],
    )


@njit(cache=True, fastmath=False)
def draw_background(photograph, to_photograph, shade, strength, out):
    """Fill the samples `out` `[2H + 1, 2W + 1, 3]` with a photograph and a shadow.

    Args:
        photograph: `[H', W', 3]` float32.
        to_photograph: `[2, 3]` affine map from points of the image to points of the photograph, both in pixels.
        shade: `[h, w]` float32 shadow from 0 to 1, stretched over the image.
        strength: how dark the shadow is, from 0 to 1.
    """
    rows, columns = out.shape[0], out.shape[1]
    shade_rows, shade_columns = shade.shape
    m = to_photograph
    for r in range(rows):
        sy = min(max((r + 0.5) / rows * shade_rows - 0.5, 0.0), shade_rows - 1.001)
        i = int(sy)
        fy = sy - i
        for c in range(columns):
            x, y = 0.5 * c, 0.5 * r
            red, green, blue = sample_photograph(
                photograph, m[1, 0] * x + m[1, 1] * y + m[1, 2] - 0.5, m[0, 0] * x + m[0, 1] * y + m[0, 2] - 0.5
            )
            sx = min(max((c + 0.5) / columns * shade_columns - 0.5, 0.0), shade_columns - 1.001)
            j = int(sx)
            fx = sx - j
            dark = (1 - fy) * ((1 - fx) * shade[i, j] + fx * shade[i, j + 1])
            dark += fy * ((1 - fx) * shade[i + 1, j] + fx * shade[i + 1, j + 1])
            light = 1.0 - strength * dark
            out[r, c, 0] = red * light
            out[r, c, 1] = green * light
            out[r, c, 2] = blue * light


@njit(cache=True, fastmath=False)
def to_pixels(samples, out):
    """Average samples `[2H + 1, 2W + 1, 3]` into pixels `out` `[H, W, 3]`, both float32."""
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            for channel in range(3):
                total = 0.0
                for i in range(3):
                    for j in range(3):
                        total += FILTER[i] * FILTER[j] * samples[2 * r + i, 2 * c + j, channel]
                out[r, c, channel] = total
