"""Learning-rate schedules over a budget of steps or of time."""

import math


# The names of diffusers' training scripts.
LR_SCHEDULERS = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")


def learning_rate_factor(
    scheduler: str, step: int, warmup_steps: int, progress: float, num_cycles: int = 1, power: float = 1.0
) -> float:
    """Factor on the learning rate at a step.

    The same as `diffusers.optimization.get_scheduler`, but as a function of the spent part of the budget, since a
    budget of minutes has no number of steps.

    Args:
        scheduler (`str`): one of `LR_SCHEDULERS`.
        step (`int`): optimizer steps done before this one.
        warmup_steps (`int`): steps of linear warm-up, for all schedulers except `constant`.
        progress (`float`): part of the budget that is spent, in [0, 1].
        num_cycles (`int`): for `cosine_with_restarts`.
        power (`float`): for `polynomial`.
    """
    if scheduler == "constant":
        return 1.0
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps > 0 else 1.0
    progress = min(progress, 1.0)
    if scheduler == "constant_with_warmup":
        return warmup
    if scheduler == "linear":
        return warmup * (1.0 - progress)
    if scheduler == "polynomial":
        return warmup * (1.0 - progress) ** power
    if scheduler == "cosine_with_restarts" and progress < 1.0:
        progress = num_cycles * progress % 1.0
    return warmup * 0.5 * (1.0 + math.cos(math.pi * progress))
