"""The color of every point of a dressed person (NumPy and Numba only).

A color depends on the position of the surface point on the body at rest. So patterns move with the body, and they can
be evaluated at any resolution.
"""

import numpy as np
from numba import njit

from rendering.people.bodies import ARM, FOOT, HAND, HEAD, LEG, NECK, TORSO
from rendering.people.extra_meshes import BRIM, LONG_HAIR, SKIRT
from rendering.people.materials import (
    BOTTOM,
    BROWS,
    CHECKS,
    DIRECTION,
    DOTS,
    DUTY,
    EYE_WHITE,
    FREQUENCY,
    GLOSS,
    HAIR,
    HAT,
    IRIS,
    JACKET,
    LIPS,
    PATTERN,
    PRINT,
    SHIRT,
    SHOES,
    SKIN,
    SOCKS,
    STRIPES,
    TEXTURE,
    UNEVEN,
)
from rendering.people.measures import (
    BEARD,
    CENTER_Y,
    COLLAR,
    EAR_Y,
    EYE_X,
    EYE_Y,
    EYE_Z,
    GLOVES,
    HAT_LINE,
    HEM,
    NECKLINE_DEPTH,
    NECKLINE_WIDTH,
    NOSE_Z,
    OPENING,
    PRINT_SIZE,
    PRINT_TOP,
    SHOE_TOP,
    SLEEVE,
    SOCK_TOP,
    TOP_Z,
    TROUSER_LEG,
    TURTLENECK,
    hair_line,
)
from rendering.people.rasterizer import barycentric


@njit(cache=True)
def hash_of_cell(x, y, z):
    """A number between 0 and 1 that follows from whole numbers x, y, z."""
    h = (x * 374761393 + y * 668265263 + z * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1103515245) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFF) / 65535.0


@njit(cache=True)
def unevenness(x, y, z):
    """Smooth value noise between -1 and 1 on a grid of spacing 1."""
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    fx, fy, fz = x - i, y - j, z - k
    fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
    total = 0.0
    for a in range(2):
        wa = fx if a else 1 - fx
        for b in range(2):
            wb = fy if b else 1 - fy
            for c in range(2):
                total += wa * wb * (fz if c else 1 - fz) * hash_of_cell(i + a, j + b, k + c)
    return 2.0 * total - 1.0


@njit(cache=True)
def head_material(x, y, z, m):
    """The material at a point of the head."""
    head = m[TOP_Z] - m[EYE_Z]
    h = (z - m[EYE_Z]) / head
    f = (m[EAR_Y] - y) / (m[EAR_Y] - m[EYE_Y])
    if h > m[HAT_LINE] + 0.1 * (f - 0.5):
        return HAT
    if h > hair_line(f, m):
        return HAIR
    if f > 0.55:
        dx, dz = abs(x) - m[EYE_X], z - m[EYE_Z]
        inside = (dx / (0.135 * head)) ** 2 + (dz / (0.06 * head)) ** 2
        if inside < 1.0:
            return IRIS if dx * dx + dz * dz < (0.06 * head) ** 2 else EYE_WHITE
        if abs(dx) < 0.17 * head and 0.13 * head < dz < 0.21 * head:
            return BROWS
        below = (z - (m[NOSE_Z] - 0.3 * head)) / (0.06 * head)
        if abs(x) < 0.2 * head and abs(below) < 1.0 - 0.4 * abs(x) / (0.2 * head):
            return LIPS
    if h < -m[BEARD] and f > 0.1 and z < m[NOSE_Z] - 0.1 * head:
        return HAIR
    return SKIN


@njit(cache=True)
def torso_material(x, y, z, m):
    """The material at a point of the torso."""
    if z < m[HEM]:
        return BOTTOM
    front = y < m[CENTER_Y]
    collar = m[COLLAR]
    if front:
        collar -= m[NECKLINE_DEPTH] * max(0.0, 1.0 - abs(x) / m[NECKLINE_WIDTH])
    if z > collar and z > m[TURTLENECK]:
        return SKIN
    if m[OPENING] >= 0.0 and not (front and abs(x) < m[OPENING] * (0.4 + 0.6 * (collar - z) / 0.3)):
        return JACKET
    return SHIRT


@njit(cache=True)
def leg_material(z, along, m):
    """The material at a point of a leg."""
    if z > m[HEM]:
        return JACKET if m[OPENING] >= 0.0 else SHIRT
    if along > m[SHOE_TOP]:
        return SHOES
    if along < m[TROUSER_LEG]:
        return BOTTOM
    return SOCKS if along > m[SOCK_TOP] else SKIN


@njit(cache=True)
def material_at(kind, x, y, z, along, m):
    """The material at a point of a person's surface, given its position at rest and the person's measures."""
    if kind == SKIRT:
        return BOTTOM
    if kind == LONG_HAIR:
        return HAIR
    if kind == BRIM:
        return HAT
    if kind == HEAD:
        return head_material(x, y, z, m)
    if kind == NECK:
        return SHIRT if z < m[TURTLENECK] else SKIN
    if kind == HAND:
        return JACKET if m[GLOVES] > 0.0 else SKIN
    if kind == FOOT:
        return SHOES if m[SHOE_TOP] < 1.5 else SKIN
    if kind == ARM:
        if along > m[SLEEVE]:
            return SKIN
        return JACKET if m[OPENING] >= 0.0 else SHIRT
    if kind == LEG:
        return leg_material(z, along, m)
    return torso_material(x, y, z, m)


@njit(cache=True)
def share_of_second_color(look, x, y, z):
    """How much of color B a point shows, from 0 to 1."""
    pattern = int(look[PATTERN])
    frequency = look[FREQUENCY]
    across = x + 0.6 * y
    if pattern == STRIPES:
        u = look[DIRECTION] * x + look[DIRECTION + 1] * y + look[DIRECTION + 2] * z
        return 1.0 if u * frequency - np.floor(u * frequency) < look[DUTY] else 0.0
    if pattern == CHECKS:
        a = 1.0 if across * frequency - np.floor(across * frequency) < look[DUTY] else 0.0
        b = 1.0 if z * frequency - np.floor(z * frequency) < look[DUTY] else 0.0
        return 0.5 * (a + b)
    if pattern == DOTS:
        row = np.floor(z * frequency)
        a = across * frequency + 0.5 * (row % 2.0)
        da, db = a - np.floor(a) - 0.5, z * frequency - row - 0.5
        return 1.0 if da * da + db * db < 0.3 * look[DUTY] else 0.0
    return 0.0


@njit(cache=True)
def sample_cloth(cloth, a, b):
    """Bilinear sample of a texture `[64, 64, 3]` at (a, b), in units of its size; mirrored repeats have no seams."""
    a, b = abs((a % 2.0) - 1.0) * 62.99, abs((b % 2.0) - 1.0) * 62.99
    p, q = int(b), int(a)
    fp, fq = b - p, a - q
    red = (1 - fp) * ((1 - fq) * cloth[p, q, 0] + fq * cloth[p, q + 1, 0])
    red += fp * ((1 - fq) * cloth[p + 1, q, 0] + fq * cloth[p + 1, q + 1, 0])
    green = (1 - fp) * ((1 - fq) * cloth[p, q, 1] + fq * cloth[p, q + 1, 1])
    green += fp * ((1 - fq) * cloth[p + 1, q, 1] + fq * cloth[p + 1, q + 1, 1])
    blue = (1 - fp) * ((1 - fq) * cloth[p, q, 2] + fq * cloth[p, q + 1, 2])
    blue += fp * ((1 - fq) * cloth[p + 1, q, 2] + fq * cloth[p + 1, q + 1, 2])
    return red, green, blue


@njit(cache=True)
def cloth_color(material, look, kind, x, y, z, m, textures):
    """Color (red, green, blue) from 0 to 1 of a point under even light."""
    red, green, blue = look[0], look[1], look[2]
    pattern = int(look[PATTERN])
    if pattern == TEXTURE or pattern == PRINT:
        a, b = (x + 0.6 * y) * look[FREQUENCY], -z * look[FREQUENCY]
        shown = True
        if pattern == PRINT:
            a, b = x / m[PRINT_SIZE] + 0.5, (m[PRINT_TOP] - z) / m[PRINT_SIZE]
            shown = y < m[CENTER_Y] and 0.0 <= a < 1.0 and 0.0 <= b < 1.0 and kind == TORSO
        if shown:
            red, green, blue = sample_cloth(textures[0 if material == SHIRT else 1], a, b)
    share = share_of_second_color(look, x, y, z)
    red += share * (look[3] - red)
    green += share * (look[4] - green)
    blue += share * (look[5] - blue)
    return red, green, blue


@njit(cache=True)
def roughness(material, look, x, y, z):
    """Factor on the brightness of a point, around 1, that makes cloth and hair uneven."""
    rough = 1.0
    if look[UNEVEN] > 0.0:
        stretch = 1.0
        if material == HAIR:
            stretch = 0.25  # strands run down
        n = unevenness(14.0 * x + 3.0, 14.0 * y, 14.0 * z * stretch)
        n += 0.6 * unevenness(45.0 * x, 45.0 * y + 7.0, 45.0 * z * stretch)
        rough += look[UNEVEN] * n
    return rough


@njit(cache=True)
def shade(
    samples,
    screen,
    triangles,
    kinds,
    two_sided,
    owner,
    triangle_of,
    paint,
    normals,
    measures,
    materials,
    textures,
    light,
):
    """Color every sample that shows a person.

    Args:
        samples: `[2H + 1, 2W + 1, 3]` float32, written in place, 0 to 255.
        screen, triangles, two_sided, owner, triangle_of: as for `rasterizer.flow_and_occlusion`.
        kinds: `[F]`; paint: `[V, 4]`; normals: `[V, 3]` in camera space.
        measures, materials, textures: those of `Actor`, stacked over the people.
        light: `[12]` direction to the light (camera space), its RGB, the sky's RGB, the direction up (camera space).
    """
    rows, columns = triangle_of.shape
    for r in range(rows):
        for c in range(columns):
            t = triangle_of[r, c]
            if t < 0:
                continue
            wa, wb, wc = barycentric(screen, triangles, t, c, r)
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            x = wa * paint[i, 0] + wb * paint[j, 0] + wc * paint[k, 0]
            y = wa * paint[i, 1] + wb * paint[j, 1] + wc * paint[k, 1]
            z = wa * paint[i, 2] + wb * paint[j, 2] + wc * paint[k, 2]
            along = wa * paint[i, 3] + wb * paint[j, 3] + wc * paint[k, 3]
            nx = wa * normals[i, 0] + wb * normals[j, 0] + wc * normals[k, 0]
            ny = wa * normals[i, 1] + wb * normals[j, 1] + wc * normals[k, 1]
            nz = wa * normals[i, 2] + wb * normals[j, 2] + wc * normals[k, 2]
            length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
            if two_sided[t]:
                area = (screen[j, 0] - screen[i, 0]) * (screen[k, 1] - screen[i, 1])
                area -= (screen[k, 0] - screen[i, 0]) * (screen[j, 1] - screen[i, 1])
                if area > 0.0:
                    length = -length
            nx, ny, nz = nx / length, ny / length, nz / length

            person = owner[t] - 1
            material = material_at(kinds[t], x, y, z, along, measures[person])
            look = materials[person, material]
            red, green, blue = cloth_color(material, look, kinds[t], x, y, z, measures[person], textures[person])
            rough = roughness(material, look, x, y, z)

            direct = max(0.0, nx * light[0] + ny * light[1] + nz * light[2])
            sky = 0.62 + 0.38 * (nx * light[9] + ny * light[10] + nz * light[11])
            # Blinn-Phong: the half vector lies between the light and the camera, which is at (0, 0, -1).
            hz = light[2] - 1.0
            half = np.sqrt(light[0] ** 2 + light[1] ** 2 + hz * hz) + 1e-9
            shine = max(0.0, (nx * light[0] + ny * light[1] + nz * hz) / half) ** 24 * look[GLOSS]
            samples[r, c, 0] = 255.0 * (red * rough * (light[6] * sky + light[3] * direct) + shine * light[3])
            samples[r, c, 1] = 255.0 * (green * rough * (light[7] * sky + light[4] * direct) + shine * light[4])
            samples[r, c, 2] = 255.0 * (blue * rough * (light[8] * sky + light[5] * direct) + shine * light[5])
