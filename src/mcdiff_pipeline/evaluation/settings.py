# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What is evaluated, apart from the model and the data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EvaluationSettings:
    """What is evaluated, apart from the model and the data.

    Args:
        strokes (`tuple[int, ...]`, defaults to `(1, 5, 9)`): numbers of strokes, stored in ascending order; the
            strokes of a smaller number are among those of a larger one. A clip with fewer handles has as many strokes
            as it has handles.
        num_frames (`int`, defaults to 7): frames of a video, the given picture included.
        num_clips (`int`, *optional*): the first so many clips that can be used; None takes all.
        num_inference_steps (`int`, *optional*): denoising steps of a frame; None takes the model's default.
        seed (`int`, defaults to 0): of handles and noise.
        anywhere (`bool`, defaults to `False`): handles are any pixels that move, instead of keypoints.
        drift_frames (`int`, defaults to 64): length of the long roll-outs.
        drift_clips (`int`, defaults to 16): how many of these there are, at most; 0 leaves them out.
        num_samples (`int`, defaults to 8): clips of which pictures and videos are kept, at most.

    Raises:
        ValueError: if a number is out of its range.
    """

    strokes: tuple[int, ...] = (1, 5, 9)
    num_frames: int = 7
    num_clips: int | None = None
    num_inference_steps: int | None = None
    seed: int = 0
    anywhere: bool = False
    drift_frames: int = 64
    drift_clips: int = 16
    num_samples: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "strokes", tuple(sorted(set(self.strokes))))
        if not self.strokes or self.strokes[0] < 1:
            raise ValueError(f"`strokes` is {list(self.strokes)}; give one number or more, each from 1 up.")
        least = {"num_frames": 2, "num_clips": 1, "num_inference_steps": 1, "seed": 0}
        least |= {"drift_frames": 2, "drift_clips": 0, "num_samples": 0}
        for name, minimum in least.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ValueError(f"`{name}` is {value}; it must be {minimum} or more.")

    @property
    def usual_strokes(self) -> int:
        """How many strokes there are in pictures and long roll-outs, which is the middle one of `strokes`."""
        return self.strokes[len(self.strokes) // 2]
