"""What the rendered people wear: skin, hair, clothes and faces, painted on the body at rest.

Everything is a function of a surface point's place on the body in its rest pose, so it moves with the body and can be
evaluated at any resolution. Skirts, long hair and caps are extra meshes bound to the body's parts.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from rendering.bodies import ARM, FOOT, HAND, HEAD, LEG, NECK, TORSO, Body, Skeleton
from rendering.rasterizer import barycentric, skin


# Kinds of surface beyond those of `bodies.py`.
LONG_HAIR, SKIRT, BRIM = range(7, 10)

# Materials, one row per person and material.
SKIN, HAIR, SHIRT, JACKET, BOTTOM, SHOES, SOCKS, HAT, LIPS, EYE_WHITE, IRIS, BROWS = range(12)
NUM_MATERIALS = 12
# Columns of a material: color A, color B (RGB, 0 to 1), pattern, its frequency per metre, its direction x y z, the
# share of color B, the strength of the cloth's unevenness and the gloss.
PATTERN, FREQUENCY, DIRECTION, DUTY, UNEVEN, GLOSS = 6, 7, 8, 11, 12, 13
PLAIN, STRIPES, CHECKS, DOTS, TEXTURE, PRINT = range(6)

# Measures of a person's outfit and head. Heights are z in metres at rest, `along` runs from 0 at the shoulder or hip
# over 0.5 at the elbow or knee to 1 at the wrist or ankle, and the hair lines are in units of the height from the eyes
# to the top of the head.
(
    SLEEVE,
    HEM,
    TROUSER_LEG,
    SOCK_TOP,
    SHOE_TOP,
    COLLAR,
    NECKLINE_DEPTH,
    NECKLINE_WIDTH,
    TURTLENECK,
    OPENING,
    PRINT_TOP,
    PRINT_SIZE,
    CENTRE_Y,
    EYE_X,
    EYE_Y,
    EYE_Z,
    EAR_Y,
    TOP_Z,
    NOSE_Z,
    HAIR_FRONT,
    HAIR_TEMPLE,
    HAIR_SIDE,
    HAIR_NAPE,
    HAT_LINE,
    BEARD,
    GLOVES,
) = range(26)
NUM_MEASURES = 26

SKIN_TONES = (
    np.array(
        [
            [250, 224, 205],
            [241, 204, 178],
            [232, 190, 158],
            [224, 172, 135],
            [205, 150, 112],
            [184, 126, 90],
            [153, 101, 70],
            [121, 78, 54],
            [92, 58, 41],
            [64, 42, 32],
        ]
    )
    / 255.0
)
HAIR_TONES = (
    np.array(
        [
            [24, 20, 19],
            [36, 27, 23],
            [58, 40, 30],
            [84, 57, 38],
            [115, 80, 50],
            [150, 110, 68],
            [196, 160, 105],
            [222, 196, 150],
            [128, 60, 34],
            [140, 138, 136],
            [205, 203, 200],
        ]
    )
    / 255.0
)
NEUTRALS = (
    np.array(
        [
            [28, 28, 31],
            [62, 63, 67],
            [120, 121, 124],
            [205, 205, 203],
            [240, 239, 235],
            [32, 42, 72],
            [58, 84, 122],
            [96, 126, 160],
            [196, 178, 148],
            [112, 86, 62],
            [84, 92, 70],
            [120, 36, 40],
        ]
    )
    / 255.0
)


@dataclass
class Actor:
    """A dressed body, ready to be posed.

    Attributes:
        rest: `[V, 3]` float32 metres at rest; part_indices `[V, 4]`, part_weights `[V, 4]`: skinning.
        paint: `[V, 4]` float32: the place on the undressed body (x, y, z) and `along`, which the paint depends on.
        triangles: `[F, 3]` int32; kinds: `[F]` uint8; two_sided: `[F]` bool.
        measures: `[NUM_MEASURES]`; materials: `[NUM_MATERIALS, 14]`; textures: `[2, 64, 64, 3]`, colors 0 to 1.
        joints, keypoint_vertices, keypoint_weights: of the body.
    """

    rest: np.ndarray
    part_indices: np.ndarray
    part_weights: np.ndarray
    paint: np.ndarray
    triangles: np.ndarray
    kinds: np.ndarray
    two_sided: np.ndarray
    measures: np.ndarray
    materials: np.ndarray
    textures: np.ndarray
    joints: np.ndarray
    keypoint_vertices: np.ndarray
    keypoint_weights: np.ndarray

    def posed(self, transforms: np.ndarray) -> np.ndarray:
        """Vertices `[V, 3]` float32 under part transforms `[P, 3, 4]`."""
        out = np.empty_like(self.rest)
        skin(self.rest, self.part_indices, self.part_weights, transforms, out)
        return out


def measure_head(body: Body, skeleton: Skeleton) -> np.ndarray:
    """Measures `[NUM_MEASURES]` with the places of eyes, ears, nose and the top of the head filled in."""
    nose, left_eye, right_eye, left_ear, right_ear = body.keypoints[:5]
    m = np.zeros(NUM_MEASURES)
    m[EYE_X] = 0.5 * (left_eye[0] - right_eye[0])
    m[EYE_Y] = 0.5 * (left_eye[1] + right_eye[1])
    m[EYE_Z] = 0.5 * (left_eye[2] + right_eye[2])
    m[EAR_Y] = 0.5 * (left_ear[1] + right_ear[1])
    m[NOSE_Z] = nose[2]
    m[TOP_Z] = body.rest[skeleton.vertex_kinds == HEAD, 2].max()
    return m


@njit(cache=True)
def hair_line(f, measures):
    """Height above which hair grows, by place from the face (1) over the ears (0) to the back (below 0)."""
    if f >= 0.85:
        return measures[HAIR_FRONT]
    if f >= 0.5:
        return measures[HAIR_TEMPLE] + (measures[HAIR_FRONT] - measures[HAIR_TEMPLE]) * (f - 0.5) / 0.35
    if f >= 0.1:
        return measures[HAIR_SIDE] + (measures[HAIR_TEMPLE] - measures[HAIR_SIDE]) * (f - 0.1) / 0.4
    if f >= -0.15:
        return measures[HAIR_SIDE]
    if f >= -0.45:
        return measures[HAIR_NAPE] + (measures[HAIR_SIDE] - measures[HAIR_NAPE]) * (f + 0.45) / 0.3
    return measures[HAIR_NAPE]


@njit(cache=True)
def raise_hair(rest, normals, is_head, measures, thickness, out):
    """Give the hair volume: move the head's hairy vertices of `rest` outward by up to `thickness` metres."""
    head = measures[TOP_Z] - measures[EYE_Z]
    for v in range(rest.shape[0]):
        if not is_head[v]:
            continue
        f = (measures[EAR_Y] - rest[v, 1]) / (measures[EAR_Y] - measures[EYE_Y])
        margin = (rest[v, 2] - measures[EYE_Z]) / head - hair_line(f, measures)
        if margin > 0.0:
            lift = thickness * min(1.0, 0.25 + 2.0 * margin)
            for i in range(3):
                out[v, i] = rest[v, i] + lift * normals[v, i]


@njit(cache=True)
def _hash(x, y, z):
    h = (x * 374761393 + y * 668265263 + z * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1103515245) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFF) / 65535.0


@njit(cache=True)
def unevenness(x, y, z):
    """Smooth value noise between -1 and 1 with a period of one."""
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    fx, fy, fz = x - i, y - j, z - k
    fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
    total = 0.0
    for a in range(2):
        wa = fx if a else 1 - fx
        for b in range(2):
            wb = fy if b else 1 - fy
            for c in range(2):
                total += wa * wb * (fz if c else 1 - fz) * _hash(i + a, j + b, k + c)
    return 2.0 * total - 1.0


@njit(cache=True)
def material_at(kind, x, y, z, along, m):
    """The material at a place of a person's surface."""
    if kind == SKIRT:
        return BOTTOM
    if kind == LONG_HAIR:
        return HAIR
    if kind == BRIM:
        return HAT
    if kind == HEAD:
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
        if z > m[HEM]:
            return JACKET if m[OPENING] >= 0.0 else SHIRT
        if along > m[SHOE_TOP]:
            return SHOES
        if along < m[TROUSER_LEG]:
            return BOTTOM
        return SOCKS if along > m[SOCK_TOP] else SKIN
    if z < m[HEM]:
        return BOTTOM
    front = y < m[CENTRE_Y]
    collar = m[COLLAR]
    if front:
        collar -= m[NECKLINE_DEPTH] * max(0.0, 1.0 - abs(x) / m[NECKLINE_WIDTH])
    if z > collar and z > m[TURTLENECK]:
        return SKIN
    if m[OPENING] >= 0.0 and not (front and abs(x) < m[OPENING] * (0.4 + 0.6 * (collar - z) / 0.3)):
        return JACKET
    return SHIRT


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
            m = measures[person]
            material = material_at(kinds[t], x, y, z, along, m)
            look = materials[person, material]
            share = 0.0
            red, green, blue = look[0], look[1], look[2]
            pattern = int(look[PATTERN])
            frequency = look[FREQUENCY]
            u = look[DIRECTION] * x + look[DIRECTION + 1] * y + look[DIRECTION + 2] * z
            across = x + 0.6 * y
            if pattern == STRIPES:
                share = 1.0 if u * frequency - np.floor(u * frequency) < look[DUTY] else 0.0
            elif pattern == CHECKS:
                a = 1.0 if across * frequency - np.floor(across * frequency) < look[DUTY] else 0.0
                b = 1.0 if z * frequency - np.floor(z * frequency) < look[DUTY] else 0.0
                share = 0.5 * (a + b)
            elif pattern == DOTS:
                row = np.floor(z * frequency)
                a = across * frequency + 0.5 * (row % 2.0)
                da, db = a - np.floor(a) - 0.5, z * frequency - row - 0.5
                share = 1.0 if da * da + db * db < 0.3 * look[DUTY] else 0.0
            elif pattern == TEXTURE or pattern == PRINT:
                a, b = across * frequency, -z * frequency
                shown = True
                if pattern == PRINT:
                    a, b = x / m[PRINT_SIZE] + 0.5, (m[PRINT_TOP] - z) / m[PRINT_SIZE]
                    shown = y < m[CENTRE_Y] and 0.0 <= a < 1.0 and 0.0 <= b < 1.0 and kinds[t] == TORSO
                if shown:
                    cell = textures[person, 0 if material == SHIRT else 1]
                    # Mirrored repeats have no seams.
                    a, b = abs((a % 2.0) - 1.0) * 62.99, abs((b % 2.0) - 1.0) * 62.99
                    p, q = int(b), int(a)
                    fp, fq = b - p, a - q
                    red = (1 - fp) * ((1 - fq) * cell[p, q, 0] + fq * cell[p, q + 1, 0])
                    red += fp * ((1 - fq) * cell[p + 1, q, 0] + fq * cell[p + 1, q + 1, 0])
                    green = (1 - fp) * ((1 - fq) * cell[p, q, 1] + fq * cell[p, q + 1, 1])
                    green += fp * ((1 - fq) * cell[p + 1, q, 1] + fq * cell[p + 1, q + 1, 1])
                    blue = (1 - fp) * ((1 - fq) * cell[p, q, 2] + fq * cell[p, q + 1, 2])
                    blue += fp * ((1 - fq) * cell[p + 1, q, 2] + fq * cell[p + 1, q + 1, 2])
            red += share * (look[3] - red)
            green += share * (look[4] - green)
            blue += share * (look[5] - blue)
            rough = 1.0
            if look[UNEVEN] > 0.0:
                stretch = 1.0
                if material == HAIR:
                    stretch = 0.25  # strands run down
                n = unevenness(14.0 * x + 3.0, 14.0 * y, 14.0 * z * stretch)
                n += 0.6 * unevenness(45.0 * x, 45.0 * y + 7.0, 45.0 * z * stretch)
                rough += look[UNEVEN] * n

            facing = nx * light[0] + ny * light[1] + nz * light[2]
            direct = max(0.0, facing)
            sky = 0.62 + 0.38 * (nx * light[9] + ny * light[10] + nz * light[11])
            # The light's reflection half way between light and camera (0, 0, -1).
            hz = light[2] - 1.0
            half = np.sqrt(light[0] ** 2 + light[1] ** 2 + hz * hz) + 1e-9
            shine = max(0.0, (nx * light[0] + ny * light[1] + nz * hz) / half) ** 24 * look[GLOSS]
            samples[r, c, 0] = 255.0 * (red * rough * (light[6] * sky + light[3] * direct) + shine * light[3])
            samples[r, c, 1] = 255.0 * (green * rough * (light[7] * sky + light[4] * direct) + shine * light[4])
            samples[r, c, 2] = 255.0 * (blue * rough * (light[8] * sky + light[5] * direct) + shine * light[5])


def random_color(rng: np.random.Generator) -> np.ndarray:
    """A color of cloth: often neutral, else any hue. `[3]`, 0 to 1."""
    if rng.random() < 0.4:
        return np.clip(NEUTRALS[rng.integers(len(NEUTRALS))] + rng.normal(0, 0.03, 3), 0.03, 0.97)
    hue, saturation, value = rng.random() * 6, rng.uniform(0.25, 0.95), rng.uniform(0.25, 0.95)
    wheel = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return value * (1 - saturation + saturation * wheel)


def _material(rng, color, *, patterned=0.0, uneven=0.06, gloss=0.0) -> np.ndarray:
    look = np.zeros(14)
    look[:3] = color
    look[3:6] = random_color(rng) if rng.random() < 0.6 else np.clip(color * rng.uniform(0.3, 0.7), 0, 1)
    if rng.random() < patterned:
        look[PATTERN] = rng.choice([STRIPES, CHECKS, DOTS, TEXTURE, PRINT], p=[0.28, 0.18, 0.12, 0.22, 0.2])
    look[FREQUENCY] = np.exp(rng.uniform(np.log(6), np.log(24)))
    if look[PATTERN] == TEXTURE:
        look[FREQUENCY] = rng.uniform(1.5, 4)
    look[DIRECTION : DIRECTION + 3] = [[0, 0, 1], [1, 0.3, 0], [0.7, 0, 0.7]][rng.choice(3, p=[0.6, 0.3, 0.1])]
    look[DUTY] = rng.uniform(0.25, 0.6)
    look[UNEVEN], look[GLOSS] = uneven, gloss
    return look


def dress(rng: np.random.Generator, body: Body, skeleton: Skeleton, photograph: np.ndarray) -> Actor:
    """Give a body hair, a face and random clothes.

    Args:
        rng: source of every choice.
        body: the body at rest.
        skeleton: what all bodies share.
        photograph: `[H, W, 3]` uint8, whose patches become printed cloth.
    """
    part, joints = skeleton.part, body.joints
    m = measure_head(body, skeleton)
    size = (body.rest[:, 2].max() - body.rest[:, 2].min()) / 1.7
    chest, neck = joints[part["chest"]], joints[part["neck"]]
    hip_z = joints[part["left_thigh"]][2]
    waist_z = hip_z + 0.35 * (chest[2] - hip_z)
    female, child = body.gender > 0.5, body.age < 0.5
    head = m[TOP_Z] - m[EYE_Z]

    m[SLEEVE] = rng.choice(
        [rng.uniform(0.24, 0.42), rng.uniform(0.9, 1.01), rng.uniform(0.5, 0.8), 0.03], p=[0.42, 0.36, 0.1, 0.12]
    )
    m[HEM] = rng.uniform(hip_z - 0.12 * size, waist_z)
    m[COLLAR] = neck[2] + rng.uniform(-0.03, 0.01) * size
    m[NECKLINE_DEPTH] = rng.choice([0.02, 0.06, 0.14], p=[0.4, 0.35, 0.25]) * size
    m[NECKLINE_WIDTH] = rng.uniform(0.07, 0.13) * size
    m[TURTLENECK] = neck[2] + 0.05 * size if m[SLEEVE] > 0.85 and rng.random() < 0.3 else -9
    m[OPENING] = rng.uniform(0.02, 0.09) * size if m[SLEEVE] > 0.85 and rng.random() < 0.5 else -1
    m[PRINT_SIZE] = rng.uniform(0.16, 0.3) * size
    m[PRINT_TOP] = chest[2] + 0.04 * size
    m[CENTRE_Y] = chest[1] - 0.02 * size
    m[TROUSER_LEG], m[SOCK_TOP], m[SHOE_TOP] = rng.uniform(0.88, 1.01), 9, rng.uniform(0.95, 1.01)
    bottoms = rng.choice(
        ["trousers", "shorts", "skirt", "dress"], p=[0.5, 0.22, 0.18, 0.1] if female else [0.74, 0.26, 0, 0]
    )
    if bottoms != "trousers":
        m[TROUSER_LEG] = rng.uniform(0.2, 0.5)
        if rng.random() < 0.35:
            m[SOCK_TOP] = rng.uniform(0.0, 0.9)
    if bottoms == "dress":
        m[OPENING], m[HEM] = -1, waist_z
    if rng.random() < 0.12:
        m[SHOE_TOP] = rng.uniform(0.7, 0.9)
    if rng.random() < 0.06:
        m[SHOE_TOP] = 9
    m[GLOVES] = 1 if rng.random() < 0.03 else -1

    m[HAIR_FRONT] = rng.uniform(0.45, 0.68)
    m[HAIR_TEMPLE] = rng.uniform(0.25, 0.5)
    m[HAIR_SIDE] = rng.uniform(0.05, 0.3)
    m[HAIR_NAPE] = rng.uniform(-1.1, -0.5)
    if body.age > 0.75 and not female and rng.random() < 0.3:
        m[HAIR_FRONT] = rng.uniform(0.8, 0.95)
    long_hair = rng.random() < (0.6 if female else 0.07)
    m[HAT_LINE] = 9
    hat = rng.choice(["none", "beanie", "cap"], p=[0.86, 0.06, 0.08])
    if hat != "none":
        m[HAT_LINE] = rng.uniform(0.4, 0.55)
    m[BEARD] = rng.uniform(0.6, 0.9) if not female and not child and rng.random() < 0.2 else 9

    tone = (len(SKIN_TONES) - 1) * rng.random() ** 1.35
    low = int(min(tone, len(SKIN_TONES) - 2))
    complexion = SKIN_TONES[low] + (tone - low) * (SKIN_TONES[low + 1] - SKIN_TONES[low])
    complexion = np.clip(complexion + rng.normal(0, 0.012, 3), 0.05, 1)
    hair_odds = np.array([5, 4, 4, 3, 2, 2, 1.5, 1, 1, 1.5, 1.5])
    if tone > 5.5:
        hair_odds[4:9] *= 0.1
    hair = HAIR_TONES[rng.choice(len(HAIR_TONES), p=hair_odds / hair_odds.sum())]
    if rng.random() < 0.03:
        hair = random_color(rng)

    looks = np.zeros((NUM_MATERIALS, 14))
    looks[SKIN] = _material(rng, complexion, uneven=0.035, gloss=0.06)
    looks[HAIR] = _material(rng, hair, uneven=0.2, gloss=0.1)
    looks[SHIRT] = _material(rng, random_color(rng), patterned=0.62, uneven=rng.uniform(0.03, 0.12))
    looks[JACKET] = _material(rng, random_color(rng), patterned=0.25, uneven=rng.uniform(0.03, 0.12), gloss=0.02)
    looks[BOTTOM] = _material(rng, random_color(rng), patterned=0.22, uneven=rng.uniform(0.03, 0.14))
    if bottoms == "dress":
        looks[BOTTOM] = looks[SHIRT]
    if looks[BOTTOM, PATTERN] == PRINT:
        looks[BOTTOM, PATTERN] = PLAIN
    looks[SHOES] = _material(rng, random_color(rng), gloss=0.15)
    looks[SOCKS] = _material(rng, random_color(rng), patterned=0.3)
    looks[HAT] = _material(rng, random_color(rng), patterned=0.2)
    lips = np.clip(complexion * [0.88, 0.62, 0.6], 0, 1)
    if female and rng.random() < 0.4:
        lips = np.array([0.62, 0.13, 0.18]) * rng.uniform(0.7, 1.1)
    looks[LIPS] = _material(rng, lips, uneven=0, gloss=0.1)
    looks[EYE_WHITE] = _material(rng, np.array([0.9, 0.89, 0.87]), uneven=0, gloss=0.2)
    looks[IRIS] = _material(
        rng,
        np.array([[0.1, 0.07, 0.05], [0.2, 0.3, 0.42], [0.22, 0.28, 0.16]])[rng.choice(3, p=[0.7, 0.2, 0.1])],
        uneven=0,
        gloss=0.3,
    )
    looks[BROWS] = _material(rng, 0.5 * (0.7 * hair + 0.3 * complexion) + 0.5 * complexion * 0.5, uneven=0)

    textures = np.zeros((2, 64, 64, 3), np.float32)
    for i in range(2):
        if rng.random() < 0.6:
            height, width = photograph.shape[:2]
            # One cell of cloth shows a quarter to a half of the photograph.
            span = int(min(height, width) * rng.uniform(0.25, 0.5))
            top, left = rng.integers(0, height - span), rng.integers(0, width - span)
            pick = (np.arange(64) * span) // 64
            textures[i] = photograph[top + pick][:, left + pick] / 255.0
        else:
            coarse = np.kron(rng.random((8, 8, 1)), np.ones((8, 8, 1))) + np.kron(
                rng.random((32, 32, 1)), np.ones((2, 2, 1))
            )
            a, b = random_color(rng), random_color(rng)
            textures[i] = a + (b - a) * (coarse / 2)

    rest = body.rest.copy()
    is_head = skeleton.vertex_kinds == HEAD
    thickness = rng.uniform(0.008, 0.035) * size if m[HAT_LINE] > 5 else 0.012 * size
    if rng.random() < 0.08 and tone > 5:
        thickness = rng.uniform(0.05, 0.09) * size
    raise_hair(body.rest, body.normals, is_head, m, thickness, rest)

    # Cloth stands off the body: shirts and trousers hang loose, shoes hide the toes.
    kinds, z = skeleton.vertex_kinds, body.rest[:, 2]
    over_hips = z > m[HEM]
    top = (kinds == TORSO) & over_hips & (z < m[COLLAR] - 0.02 * size) | (kinds == ARM) & (body.along < m[SLEEVE])
    bottom = ((kinds == TORSO) | (kinds == LEG) & (body.along < m[TROUSER_LEG])) & ~over_hips
    top |= (kinds == LEG) & over_hips
    loose = np.zeros(len(rest), np.float32)
    loose[top] = rng.uniform(0.002, 0.03) * size * (1.4 if m[OPENING] >= 0 else 1)
    loose[bottom] = rng.uniform(0.002, 0.025) * size
    loose[kinds == FOOT] = 0.011 * size if m[SHOE_TOP] < 1.5 else 0
    ripple = 1 + 0.22 * np.sin(body.rest @ rng.normal(0, 30, (3, 2)) + rng.uniform(0, 6, 2)).sum(1)
    rest += (loose * ripple.astype(np.float32))[:, None] * body.normals

    meshes = []
    if long_hair:
        meshes.append(_long_hair(rng, m, part, thickness, size))
    if bottoms in ("skirt", "dress"):
        meshes.append(_skirt(rng, body, skeleton, waist_z, size))
        m[TROUSER_LEG] = min(m[TROUSER_LEG], 0.15)
    if hat == "cap":
        meshes.append(_brim(m, part, head))

    paint = np.concatenate([body.rest, body.along[:, None]], 1).astype(np.float32)
    parts = [(rest, skeleton.part_indices, skeleton.part_weights, paint, skeleton.triangles, skeleton.triangle_kinds)]
    offset = len(rest)
    for vertices, indices, weights, triangles, kind in meshes:
        extra_paint = np.concatenate([vertices, np.zeros((len(vertices), 1))], 1)
        parts.append((vertices, indices, weights, extra_paint, triangles + offset, np.full(len(triangles), kind)))
        offset += len(vertices)
    rest, indices, weights, paint, triangles, kinds = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Actor(
        rest=rest.astype(np.float32),
        part_indices=indices.astype(np.uint8),
        part_weights=weights.astype(np.float32),
        paint=paint.astype(np.float32),
        triangles=triangles.astype(np.int32),
        kinds=kinds.astype(np.uint8),
        two_sided=kinds >= LONG_HAIR,
        measures=m,
        materials=looks,
        textures=textures,
        joints=joints,
        keypoint_vertices=skeleton.keypoint_vertices,
        keypoint_weights=skeleton.keypoint_weights,
    )


def _sheet(rows: int, columns: int) -> np.ndarray:
    """Triangles of a grid of `rows` x `columns` vertices."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1].ravel(), index[:-1, 1:].ravel(), index[1:, :-1].ravel(), index[1:, 1:].ravel()
    return np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])


def _bind(count: int, bindings: list[tuple[int, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    indices, weights = np.zeros((count, 4), np.uint8), np.zeros((count, 4), np.float32)
    for slot, (part, weight) in enumerate(bindings):
        indices[:, slot], weights[:, slot] = part, weight
    return indices, weights / weights.sum(1, keepdims=True)


def _long_hair(rng, m, part, thickness, size):
    """A curtain from the sides and the back of the head down to the shoulders or the back."""
    head = m[TOP_Z] - m[EYE_Z]
    angle = np.linspace(-1, 1, 17) * rng.uniform(1.6, 2.1)  # 0 at the back
    down = np.linspace(0, 1, 9)
    length = rng.uniform(0.16, 0.42) * size
    wide = 0.72 * head + thickness
    deep = 0.85 * head + thickness
    flare = 1 + rng.uniform(-0.1, 0.25) * down[:, None]
    x = flare * wide * np.sin(angle)
    y = m[EAR_Y] + 0.05 * head + flare * deep * np.cos(angle)
    z = np.broadcast_to(m[EYE_Z] + 0.3 * head - length * down[:, None], x.shape)
    vertices = np.stack([x, y, z], -1).reshape(-1, 3)
    low = np.repeat(down, 17)
    return (
        vertices,
        *_bind(len(vertices), [(part["head"], 1 - 0.45 * low), (part["chest"], 0.45 * low)]),
        _sheet(9, 17),
        LONG_HAIR,
    )


def _skirt(rng, body, skeleton, waist_z, size):
    """A cone from the waist to the thighs, knees or shins, moved by the pelvis above and the legs below."""
    part, joints = skeleton.part, body.joints
    leg = joints[part["left_thigh"]][2] - joints[part["left_foot"]][2]
    near_waist = np.abs(body.rest[:, 2] - joints[part["left_thigh"]][2]) < 0.06 * size
    near_waist &= (skeleton.vertex_kinds == TORSO) | (skeleton.vertex_kinds == LEG)
    ring = body.rest[near_waist]
    center = 0.5 * (ring.min(0) + ring.max(0))
    radius = 0.5 * (ring.max(0) - ring.min(0)) + 0.012
    top = waist_z - 0.3 * (waist_z - joints[part["left_thigh"]][2])
    bottom = joints[part["left_thigh"]][2] - rng.uniform(0.25, 0.6) * leg
    down = np.linspace(0, 1, 10)[:, None]
    angle = np.linspace(0, 2 * np.pi, 33)
    # Narrow at the waist, as wide as the hips below them, wider still at the hem.
    grow = np.minimum(1, 0.8 + 1.2 * down) + rng.uniform(0.0, 0.35) * np.maximum(0, down - 0.2)
    fold = 1 + 0.05 * down * np.sin(9 * angle)
    x = center[0] + radius[0] * grow * fold * np.cos(angle)
    y = center[1] + radius[1] * grow * fold * np.sin(angle)
    z = np.broadcast_to(top + (bottom - top) * down, x.shape)
    vertices = np.stack([x, y, z], -1).reshape(-1, 3)
    low = np.repeat(np.clip(1.3 * down[:, 0], 0, 0.85), 33)
    left = np.clip(0.5 + 0.5 * vertices[:, 0] / (0.7 * radius[0]), 0, 1)
    bindings = [(part["pelvis"], 1 - low), (part["left_thigh"], low * left), (part["right_thigh"], low * (1 - left))]
    return (vertices, *_bind(len(vertices), bindings), _sheet(10, 33), SKIRT)


def _brim(m, part, head):
    """The peak of a cap."""
    angle = np.linspace(-1.35, 1.35, 11)
    reach = np.linspace(0, 1, 4)[:, None]
    x = (0.66 + 0.06 * reach) * head * np.sin(angle)
    y = m[EAR_Y] - (0.66 + 0.62 * reach) * head * 1.2 * np.cos(angle) * 1.0
    z = m[EYE_Z] + (m[HAT_LINE] + 0.03 - 0.12 * reach * np.cos(angle)) * head
    vertices = np.stack(np.broadcast_arrays(x, y, z), -1).reshape(-1, 3)
    return (vertices, *_bind(len(vertices), [(part["head"], np.ones(len(vertices)))]), _sheet(4, 11), BRIM)
