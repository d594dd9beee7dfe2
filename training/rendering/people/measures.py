"""Measures of a person's head, hair and clothes: one array `[NUM_MEASURES]` per person, indexed by name.

Heights are z in meters at rest. Lengths along a limb run from 0 at the shoulder or hip over 0.5 at the elbow or knee
to 1 at the wrist or ankle. Hair lines are in units of the height from the eyes to the top of the head.
"""

import numpy as np
from numba import njit

from rendering.people.bodies import HEAD, Body, Skeleton


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
    CENTER_Y,
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


def measure_head(body: Body, skeleton: Skeleton) -> np.ndarray:
    """New measures, filled in for the eyes, the ears, the nose and the top of the head."""
    nose, left_eye, right_eye, left_ear, right_ear = body.keypoints[:5]
    m = np.zeros(NUM_MEASURES)
    m[EYE_X] = 0.5 * (left_eye[0] - right_eye[0])
    m[EYE_Y] = 0.5 * (left_eye[1] + right_eye[1])
    m[EYE_Z] = 0.5 * (left_eye[2] + right_eye[2])
    m[EAR_Y] = 0.5 * (left_ear[1] + right_ear[1])
    m[NOSE_Z] = nose[2]
    m[TOP_Z] = body.rest[skeleton.vertex_kinds == HEAD, 2].max()
    return m


def choose_clothes(
    rng: np.random.Generator, m: np.ndarray, body: Body, skeleton: Skeleton, waist_z: float, size: float
) -> str:
    """Fill in the measures of clothes, and return `trousers`, `shorts`, `skirt` or `dress`.

    Args:
        m: measures, written in place.
        waist_z: height of the waist.
        size: height of the body in units of 1.7 m.
    """
    joints, part = body.joints, skeleton.part
    chest, neck = joints[part["chest"]], joints[part["neck"]]
    m[SLEEVE] = rng.choice(
        [rng.uniform(0.24, 0.42), rng.uniform(0.9, 1.01), rng.uniform(0.5, 0.8), 0.03], p=[0.42, 0.36, 0.1, 0.12]
    )
    m[HEM] = rng.uniform(joints[part["left_thigh"]][2] - 0.12 * size, waist_z)
    m[COLLAR] = neck[2] + rng.uniform(-0.03, 0.01) * size
    m[NECKLINE_DEPTH] = rng.choice([0.02, 0.06, 0.14], p=[0.4, 0.35, 0.25]) * size
    m[NECKLINE_WIDTH] = rng.uniform(0.07, 0.13) * size
    m[TURTLENECK] = neck[2] + 0.05 * size if m[SLEEVE] > 0.85 and rng.random() < 0.3 else -9
    m[OPENING] = rng.uniform(0.02, 0.09) * size if m[SLEEVE] > 0.85 and rng.random() < 0.5 else -1
    m[PRINT_SIZE] = rng.uniform(0.16, 0.3) * size
    m[PRINT_TOP] = chest[2] + 0.04 * size
    m[CENTER_Y] = chest[1] - 0.02 * size
    m[TROUSER_LEG], m[SOCK_TOP], m[SHOE_TOP] = rng.uniform(0.88, 1.01), 9, rng.uniform(0.95, 1.01)
    female = body.gender > 0.5
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
    return bottoms


def choose_hair(rng: np.random.Generator, m: np.ndarray, body: Body) -> tuple[bool, str]:
    """Fill in the measures of hair, beard and hat. Returns whether the hair is long, and `none`, `beanie` or `cap`."""
    female, child = body.gender > 0.5, body.age < 0.5
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
    return long_hair, hat


@njit(cache=True)
def hair_line(f, measures):
    """Height above which hair grows. `f` is 1 at the face, 0 at the ears, and below 0 at the back of the head."""
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
