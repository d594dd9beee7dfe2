"""Whether a validation is better or worse than the one before, and than the best one."""

import json
from collections.abc import Mapping
from pathlib import Path


# Parts of the names of values that are better if they are larger; all other values are errors.
LARGER_IS_BETTER = ("psnr", "ssim", "gain")


class ValidationHistory:
    """The values of the validations of a run, also of those before it was resumed.

    Args:
        log (`Path`): the `log.jsonl` of the run; it may be missing.
    """

    def __init__(self, log: Path):
        self.values: dict[str, list[tuple[int, float]]] = {}
        lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
        for line in lines:
            try:
                values = json.loads(line)
                self._add(values.pop("step"), values)
            except (ValueError, KeyError, AttributeError, TypeError):
                continue  # the last line of a run that was killed

    def _add(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.values.setdefault(name, []).append((step, value))

    def take(self, step: int, values: Mapping[str, float]) -> str:
        """Adds the values of a validation, and returns a sentence that compares each with those of earlier steps."""
        told = [self._told(step, name, value) for name, value in values.items()]
        self._add(step, values)
        return f"step {step}: " + ", ".join(told)

    def _told(self, step: int, name: str, value: float) -> str:
        earlier = [(at, found) for at, found in self.values.get(name, []) if at < step]
        if not earlier:
            return f"{name} {value:.4f}"
        sign = -1 if any(part in name for part in LARGER_IS_BETTER) else 1
        last_step, last = earlier[-1]
        best_step, best = min(earlier, key=lambda entry: sign * entry[1])
        if value == last:
            said = f"as at step {last_step}"
        else:
            verdict = "better" if sign * value < sign * last else "worse"
            said = f"{verdict} than {last:.4f} at step {last_step}"
        if sign * value < sign * best:
            said += ", best so far"
        elif best_step != last_step:
            said += f", best {best:.4f} at step {best_step}"
        return f"{name} {value:.4f} ({said})"
