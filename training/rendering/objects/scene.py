"""The objects of a clip over its background: draws frames, and computes flow, occlusion and keypoints."""

import numpy as np

from rendering.affine import inverse_affine
from rendering.objects.background import Background
from rendering.objects.drawing import bend, draw_piece, flow_of_pieces
from rendering.objects.keypoints import KEYPOINTS_PER_OBJECT, spread_points
from rendering.objects.pieces import Piece


class Scene:
    """The background and all pieces of all objects, as arrays over frames and pieces.

    Attributes:
        matrices, inverses: float64 `[T, P, 2, 3]`, from points of each bent texture to points of frame t, and back.
        controls: float64 `[T, P, 2, CONTROL_POINTS]`, the bending of each piece.
        extents: float64 `[P, 2]`, (w, h) of each texture.
        owner: uint8 `[P + 1]`, the object of each layer; layer 0 is the background, layer i + 1 shows piece i.
    """

    def __init__(self, rng: np.random.Generator, background: Background, objects: list[list[Piece]]) -> None:
        pieces = [piece for of_object in objects for piece in of_object]
        self.background, self.textures = background, [piece.texture for piece in pieces]
        self.owner = np.array([0, *(piece.object_number for piece in pieces)], dtype=np.uint8)
        self.controls = np.stack([piece.controls for piece in pieces], axis=1)
        self.matrices = np.stack([piece.matrices for piece in pieces], axis=1)
        self.inverses = np.stack([[inverse_affine(matrix) for matrix in of_frame] for of_frame in self.matrices])
        self.extents = np.array([texture.shape[1::-1] for texture in self.textures], dtype=np.float64)
        self._points = [spread_points(rng, of_object) for of_object in objects]
        self._first_piece = np.cumsum([0, *(len(of_object) for of_object in objects)])

    def draw(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Frame t, float32 `[H, W, 3]` from 0 to 255, and its layers, int64 `[H, W]`."""
        image = self.background.frame(t).astype(np.float32)
        layers = np.zeros(self.background.size, np.int64)
        for i, texture in enumerate(self.textures):
            draw_piece(image, layers, i + 1, texture, self.matrices[t, i], self.inverses[t, i], self.controls[t, i])
        return image, layers

    def flow(self, t: int, layers: np.ndarray) -> np.ndarray:
        """Flow from frame t, whose layers are given, to frame t + 1 in pixels: float32 `[2, H, W]`."""
        flow = self.background.flow(t)
        flow_of_pieces(
            flow,
            layers,
            self.inverses[t],
            self.controls[t],
            self.matrices[t + 1],
            self.controls[t + 1],
            self.extents,
        )
        return flow

    def keypoints(self, t: int, layers: np.ndarray) -> np.ndarray:
        """float32 `[objects, KEYPOINTS_PER_OBJECT, 3]`: x, y in pixels; 0 outside the frame, 1 hidden, 2 visible."""
        height, width = layers.shape
        keypoints = np.zeros((len(self._points), KEYPOINTS_PER_OBJECT, 3), np.float32)
        for k, (part, places) in enumerate(self._points):
            for j in range(KEYPOINTS_PER_OBJECT):
                i = self._first_piece[k] + part[j]
                x, y = self.matrices[t, i] @ [*bend(*places[j], self.controls[t, i], *self.extents[i]), 1]
                if 0 <= x < width and 0 <= y < height:
                    keypoints[k, j] = x, y, 2 if layers[int(y), int(x)] == i + 1 else 1
        return keypoints
