"""Colors, patterns and textures of skin, hair and clothes.

A person has one row of `LOOK_COLUMNS` numbers for each material: color A and color B (RGB, 0 to 1), the pattern, its
frequency per meter, its direction x y z, the share of color B, the strength of the cloth's unevenness, and the gloss.
"""

import numpy as np


SKIN, HAIR, SHIRT, JACKET, BOTTOM, SHOES, SOCKS, HAT, LIPS, EYE_WHITE, IRIS, BROWS = range(12)
NUM_MATERIALS = 12
PATTERN, FREQUENCY, DIRECTION, DUTY, UNEVEN, GLOSS = 6, 7, 8, 11, 12, 13
LOOK_COLUMNS = 14
PLAIN, STRIPES, CHECKS, DOTS, TEXTURE, PRINT = range(6)

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
IRIS_TONES = np.array([[0.1, 0.07, 0.05], [0.2, 0.3, 0.42], [0.22, 0.28, 0.16]])
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


def random_color(rng: np.random.Generator) -> np.ndarray:
    """A random color of cloth `[3]`, 0 to 1: neutral in 40 % of cases, otherwise of any hue."""
    if rng.random() < 0.4:
        return np.clip(NEUTRALS[rng.integers(len(NEUTRALS))] + rng.normal(0, 0.03, 3), 0.03, 0.97)
    hue, saturation, value = rng.random() * 6, rng.uniform(0.25, 0.95), rng.uniform(0.25, 0.95)
    wheel = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return value * (1 - saturation + saturation * wheel)


def material(
    rng: np.random.Generator, color: np.ndarray, *, patterned: float = 0.0, uneven: float = 0.06, gloss: float = 0.0
) -> np.ndarray:
    """A row of looks `[LOOK_COLUMNS]`; `patterned` is the probability of a pattern."""
    look = np.zeros(LOOK_COLUMNS)
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


def choose_complexion(rng: np.random.Generator) -> tuple[float, np.ndarray, np.ndarray]:
    """A place on the scale of skin tones (0 lightest to 9 darkest), and the colors of skin and hair, `[3]` each."""
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
    return tone, complexion, hair


def choose_materials(
    rng: np.random.Generator, complexion: np.ndarray, hair: np.ndarray, *, female: bool, dress: bool
) -> np.ndarray:
    """Looks of all materials of a person, float64 `[NUM_MATERIALS, LOOK_COLUMNS]`."""
    looks = np.zeros((NUM_MATERIALS, LOOK_COLUMNS))
    looks[SKIN] = material(rng, complexion, uneven=0.035, gloss=0.06)
    looks[HAIR] = material(rng, hair, uneven=0.2, gloss=0.1)
    looks[SHIRT] = material(rng, random_color(rng), patterned=0.62, uneven=rng.uniform(0.03, 0.12))
    looks[JACKET] = material(rng, random_color(rng), patterned=0.25, uneven=rng.uniform(0.03, 0.12), gloss=0.02)
    looks[BOTTOM] = material(rng, random_color(rng), patterned=0.22, uneven=rng.uniform(0.03, 0.14))
    if dress:
        looks[BOTTOM] = looks[SHIRT]
    if looks[BOTTOM, PATTERN] == PRINT:
        looks[BOTTOM, PATTERN] = PLAIN
    looks[SHOES] = material(rng, random_color(rng), gloss=0.15)
    looks[SOCKS] = material(rng, random_color(rng), patterned=0.3)
    looks[HAT] = material(rng, random_color(rng), patterned=0.2)
    lips = np.clip(complexion * [0.88, 0.62, 0.6], 0, 1)
    if female and rng.random() < 0.4:
        lips = np.array([0.62, 0.13, 0.18]) * rng.uniform(0.7, 1.1)
    looks[LIPS] = material(rng, lips, uneven=0, gloss=0.1)
    looks[EYE_WHITE] = material(rng, np.array([0.9, 0.89, 0.87]), uneven=0, gloss=0.2)
    iris = IRIS_TONES[rng.choice(3, p=[0.7, 0.2, 0.1])]
    looks[IRIS] = material(rng, iris, uneven=0, gloss=0.3)
    looks[BROWS] = material(rng, 0.5 * (0.7 * hair + 0.3 * complexion) + 0.5 * complexion * 0.5, uneven=0)
    return looks


def choose_textures(rng: np.random.Generator, photograph: np.ndarray) -> np.ndarray:
    """Two printed cloths, float32 `[2, 64, 64, 3]`, 0 to 1: crops of a photograph `[H, W, 3]`, or random checks."""
    textures = np.zeros((2, 64, 64, 3), np.float32)
    for i in range(2):
        if rng.random() < 0.6:
            height, width = photograph.shape[:2]
            # One repeat of the cloth shows a quarter to a half of the photograph.
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
    return textures
