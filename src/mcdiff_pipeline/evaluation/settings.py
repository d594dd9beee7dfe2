# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The settings of an evaluation."""

from dataclasses import dataclass


# The smallest allowed value of each number.
MINIMA = {
    "num_frames": 2,
    "num_clips": 1,
    "num_inference_steps": 1,
    "seed": 0,
    "drift_frames": 2,
    "drift_clips": 0,
    "num_samples": 0,
}


@dataclass(frozen=True)
class EvaluationSettings:
    """What an evaluation measures, apart from the model and the data.

    Args:
        strokes (`tuple[int, ...]`, defaults to `(1, 5, 9)`): numbers of strokes, stored in ascending order. A larger
            set of strokes contains the smaller ones. A clip with fewer handles gets one stroke per handle.
        num_frames (`int`, defaults to 7): frames per video, including the given image.
        num_clips (`int`, *optional*): how many usable clips are evaluated, from the start of the dataset; None
            evaluates all of them.
        num_inference_steps (`int`, *optional*): denoising steps per frame; None takes the model's default.
        seed (`int`, defaults to 0): seed of the handles and of the noise.
        anywhere (`bool`, defaults to `False`): draws handles from all moving pixels instead of body keypoints.
        drift_frames (`int`, defaults to 64): frames per long rollout, including the given image.
        drift_clips (`int`, defaults to 16): maximum number of long rollouts; 0 turns them off.
        num_samples (`int`, defaults to 8): maximum number of clips whose sample images and videos are kept.

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
        for name, minimum in MINIMA.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ValueError(f"`{name}` is {value}; it must be {minimum} or more.")

    @property
    def middle_strokes(self) -> int:
        """The middle number of `strokes`: image tables, samples and long rollouts use it."""
        return self.strokes[len(self.strokes) // 2]
