"""The people of a clip in camera space: draws frames, and computes flow, occlusion, masks and keypoints."""

import numpy as np
from scipy.ndimage import gaussian_filter

from rendering.people.outfit import Actor
from rendering.people.rasterizer import flow_and_occlusion, project_all, rasterize, vertex_normals
from rendering.people.shading import shade


# How far in meters the surface in front of a COCO keypoint (which lies inside the body) may be for the keypoint to
# count as visible: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles.
KEYPOINT_DEPTH = np.array(
    [0.03, 0.03, 0.03, 0.05, 0.05, 0.13, 0.13, 0.09, 0.09, 0.07, 0.07, 0.2, 0.2, 0.12, 0.12, 0.1, 0.1]
)

# A surface of the next frame that is this much nearer than a point hides it (meters).
OCCLUSION_TOLERANCE = 0.025


class Scene:
    """The people of a clip. Vertices and triangles of all people are concatenated.

    Attributes:
        size: (H, W) of the frames.
        owner: `[F]` uint8, the person (from 1) of each triangle.
    """

    def __init__(
        self,
        actors: list[Actor],
        transforms: list[np.ndarray],
        pose: np.ndarray,
        views: np.ndarray,
        size: tuple[int, int],
    ) -> None:
        """Set up a scene of `actors` with the part transforms `[T, P, 3, 4]` of each.

        Args:
            pose: `[3, 4]` from the world to camera space.
            views: `[T, 9]`, a view for each frame (see `rasterizer.py`).
        """
        self.size, self._actors, self._transforms, self._pose, self._views = size, actors, transforms, pose, views
        self._offsets = np.cumsum([0] + [len(actor.rest) for actor in actors])
        self._triangles = np.concatenate([a.triangles + o for a, o in zip(actors, self._offsets)]).astype(np.int32)
        self._kinds = np.concatenate([a.kinds for a in actors])
        self._two_sided = np.concatenate([a.two_sided for a in actors])
        self.owner = np.concatenate([np.full(len(a.triangles), i + 1, np.uint8) for i, a in enumerate(actors)])
        self._paint = np.concatenate([a.paint for a in actors])
        self._measures = np.stack([a.measures for a in actors])
        self._materials = np.stack([a.materials for a in actors])
        self._textures = np.stack([a.textures for a in actors])
        # Frame t is needed for itself and for the flow of frame t - 1.
        self._world_of: dict[int, np.ndarray] = {}
        self._screen_of: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._drawn: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def _world(self, t: int) -> np.ndarray:
        """Vertices in the world, `[V, 3]`."""
        if t not in self._world_of:
            posed = [a.posed(m[t]) for a, m in zip(self._actors, self._transforms)]
            self._world_of[t] = np.concatenate(posed)
        return self._world_of[t]

    def _screen(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Vertices in camera space `[V, 3]`, and projected to samples `[V, 3]`."""
        if t not in self._screen_of:
            camera = self._world(t) @ self._pose[:, :3].T.astype(np.float32) + self._pose[:, 3].astype(np.float32)
            screen = np.empty(camera.shape, np.float64)
            project_all(camera, self._views[t], screen)
            self._screen_of[t] = camera, screen
        return self._screen_of[t]

    def drawn(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Nearness and triangle of every sample of frame t (see `rasterizer.rasterize`)."""
        if t not in self._drawn:
            shape = tuple(2 * side + 1 for side in self.size)
            nearness, triangle_of = np.zeros(shape), np.full(shape, -1, np.int32)
            rasterize(self._screen(t)[1], self._triangles, self._two_sided, nearness, triangle_of)
            self._drawn[t] = nearness, triangle_of
        return self._drawn[t]

    def shade(self, t: int, samples: np.ndarray, light: np.ndarray) -> None:
        """Draw the people of frame t over `samples` `[2H + 1, 2W + 1, 3]`."""
        camera, screen = self._screen(t)
        shade(
            samples,
            screen,
            self._triangles,
            self._kinds,
            self._two_sided,
            self.owner,
            self.drawn(t)[1],
            self._paint,
            vertex_normals(camera, self._triangles),
            self._measures,
            self._materials,
            self._textures,
            light,
        )

    def shadow(self, t: int, sun: np.ndarray) -> np.ndarray:
        """Soft shadow of the people on the ground, `[H // 2, W // 2]` from 0 to 1, stretched over the frame."""
        (height, width), rows, columns = self.size, self.size[0] // 2, self.size[1] // 2
        points = self._world(t)[::3]
        heights = np.maximum(points[:, 2:], 0)
        # Long shadows look wrong on photographs without a ground plane, so they are at most 0.8 times the height.
        slope = sun[:2] / sun[2]
        slope *= min(1.0, 0.8 / (np.linalg.norm(slope) + 1e-9))
        ground = np.concatenate([points[:, :2] - slope * heights, np.zeros_like(heights)], 1)
        camera = ground @ self._pose[:, :3].T + self._pose[:, 3]
        screen = np.empty(camera.shape)
        project_all(camera, self._views[t], screen)
        screen[screen[:, 2] <= 0] = -1  # behind the camera
        cells = np.floor(screen[:, :2] * [columns / (2.0 * width), rows / (2.0 * height)]).astype(int)
        inside = (cells >= 0).all(1) & (cells < [columns, rows]).all(1)
        # Points near the ground have a sharper shadow.
        shadow = np.zeros((rows, columns), np.float32)
        for low, high, softness in ((0.0, 0.25, 0.012), (0.25, 1.0, 0.02), (1.0, 9.0, 0.035)):
            layer = np.zeros((rows, columns), np.float32)
            chosen = inside & (heights[:, 0] >= low) & (heights[:, 0] < high)
            layer[cells[chosen, 1], cells[chosen, 0]] = 1
            shadow = np.maximum(shadow, np.minimum(1.5 * gaussian_filter(layer, softness * min(rows, columns)), 1.0))
        return shadow

    def mask(self, t: int) -> np.ndarray:
        """The person (from 1) at each pixel of frame t, 0 for none: `[H, W]` uint8."""
        centers = self.drawn(t)[1][1::2, 1::2]
        return np.where(centers >= 0, self.owner[np.maximum(centers, 0)], 0)

    def flow(self, t: int, background: np.ndarray, flow: np.ndarray, occlusion: np.ndarray, mask: np.ndarray) -> None:
        """Write flow to the next frame, occlusion and mask of frame `t` in place.

        `background` is the affine map `[2, 3]` that takes points of the backdrop to the next frame.
        """
        next_camera, next_screen = self._screen(t + 1)
        next_nearness, next_triangle_of = self.drawn(t + 1)
        flow_and_occlusion(
            self._screen(t)[1],
            self._triangles,
            self._two_sided,
            self.owner,
            self.drawn(t)[1],
            next_camera,
            next_screen,
            self._views[t + 1],
            next_nearness,
            next_triangle_of,
            background,
            flow,
            occlusion,
            mask,
            OCCLUSION_TOLERANCE,
        )

    def keypoints(self, t: int) -> np.ndarray:
        """COCO keypoints `[people, 17, 3]`: x, y in pixels; 0 outside the frame, 1 hidden, 2 visible."""
        camera, _ = self._screen(t)
        nearness, triangle_of = self.drawn(t)
        result = np.zeros((len(self._actors), 17, 3), np.float32)
        for i, actor in enumerate(self._actors):
            own = camera[self._offsets[i] : self._offsets[i + 1]]
            points = (own[actor.keypoint_vertices] * actor.keypoint_weights[..., None]).sum(1).astype(np.float64)
            screen = np.empty(points.shape)
            project_all(points, self._views[t], screen)
            for k in range(17):
                x, y = screen[k, :2] / 2
                if screen[k, 2] == 0 or not (0 <= x < self.size[1] and 0 <= y < self.size[0]):
                    continue
                row, column = 2 * int(y) + 1, 2 * int(x) + 1
                seen = triangle_of[row, column]
                depth = 1 / max(nearness[row, column], 1e-9)
                visible = seen < 0 or (self.owner[seen] == i + 1 and points[k, 2] - depth < KEYPOINT_DEPTH[k])
                result[i, k] = x, y, 2 if visible else 1
        return result
