"""The things of a clip over their background: draws frames, and computes flow and keypoints."""

import numpy as np

from rendering.labeled_photographs.drawing import draw_layer, flow_of_layers
from rendering.labeled_photographs.layers import Layer
from rendering.labeled_photographs.paths import apply, inside


# As many as the clips of objects have.
KEYPOINTS_PER_THING = 8
CANDIDATES = 64


class Scene:
    """A background and things in front of it.

    Args:
        rng: chooses the keypoints.
        layers: the background, number 0, and the things in the order of drawing.
        size: (H, W) of the frames.
    """

    def __init__(self, rng: np.random.Generator, layers: list[Layer], size: tuple[int, int]) -> None:
        self.layers, self.size = layers, size
        things = sorted(layers[1:], key=lambda layer: layer.number)
        self._things = [(layer, spread(layer.points(rng, CANDIDATES))) for layer in things]
        self._motion_of = {layer.number: layer.matrices for layer in layers}

    def draw(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Frame t, float32 `[H, W, 3]` from 0 to 255, and the number of the thing at each pixel, int64 `[H, W]`."""
        image, numbers = np.zeros((*self.size, 3), np.float32), np.zeros(self.size, np.int64)
        for layer in self.layers:
            is_background = layer.number == 0
            box = np.array([0, 0, *self.size[::-1]]) if is_background else layer.box(t)
            draw_layer(image, numbers, layer.number, layer.texture, layer.inverse(t), box, is_background)
        return image, numbers

    def flow(self, t: int, numbers: np.ndarray) -> np.ndarray:
        """Flow from frame t, whose things are given, to frame t + 1 in pixels: float32 `[2, H, W]`."""
        paths = [self._motion_of[number] for number in range(len(self.layers))]
        return flow_of_layers(numbers, np.stack([path[t + 1] @ np.linalg.inv(path[t]) for path in paths]))

    def keypoints(self, t: int, numbers: np.ndarray) -> np.ndarray:
        """Float32 `[things, K, 3]`: x, y in pixels; 0 outside the frame, 1 hidden, 2 visible."""
        keypoints = np.zeros((len(self._things), KEYPOINTS_PER_THING, 3), np.float32)
        for row, (layer, points) in zip(keypoints, self._things):
            places = apply(layer.matrices[t], points)
            for entry, place, is_inside in zip(row, places, inside(places, self.size)):
                if is_inside:
                    entry[:] = *place, 2 if numbers[int(place[1]), int(place[0])] == layer.number else 1
        return keypoints


def spread(points: np.ndarray) -> np.ndarray:
    """`KEYPOINTS_PER_THING` of the points (x, y), far from each other (farthest point sampling)."""
    chosen = [0]
    for _ in range(KEYPOINTS_PER_THING - 1):
        distance = np.linalg.norm(points[:, None] - points[chosen], axis=-1).min(1)
        chosen.append(int(distance.argmax()))
    return points[chosen]
