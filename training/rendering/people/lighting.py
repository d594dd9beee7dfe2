"""Light on the people that fits the photograph behind them."""

import numpy as np


def random_light(rng: np.random.Generator, pose: np.ndarray, photograph: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Light for `shading.shade` `[12]`, and the direction to the sun in the world `[3]`.

    Args:
        pose: `[3, 4]` from the world to camera space.
        photograph: `[h, w, 3]`, 0 to 255; its brightness and color cast set the brightness and color of the light.
    """
    azimuth, height = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(20, 75))
    sun = np.array([np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)])
    warmth = rng.normal(0, 0.06)
    # Darker photographs get darker people.
    exposure = np.clip(1.0 + 0.5 * (photograph.mean() / 255 - 0.5) + rng.normal(0, 0.1), 0.6, 1.25)
    direct = rng.uniform(0.25, 0.75)
    cast = photograph.mean((0, 1)) / max(photograph.mean(), 1)
    color = exposure * direct * np.array([1 + warmth, 1, 1 - warmth])
    sky = exposure * (1.15 - 0.75 * direct) * (0.7 + 0.3 * cast)
    # Light from behind leaves faces in the dark, so most of it is turned to the front.
    to_camera = pose[:, :3]
    if (to_camera @ sun)[2] > 0.3 and rng.random() < 0.7:
        sun[:2] *= -1
    return np.concatenate([to_camera @ sun, color, sky, to_camera @ [0, 0, 1]]), sun
