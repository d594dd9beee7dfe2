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
        """Adds the values of a validation, and returns lines that compare them with those of earlier steps.

        Each value that has changed has a line. The last line has those that are always the same, of baselines.
        """
        compared = {name: self._compared(step, name, value) for name, value in values.items()}
        self._add(step, values)
        lines = [f"  {name} {values[name]:.4f} ({said})" for name, said in compared.items() if said]
        constant = [f"{name} {values[name]:.4f}" for name, said in compared.items() if not said]
        if constant:
            lines.append("  " + ", ".join(constant))
        return "\n".join([f"step {step}:", *lines])

    def _compared(self, step: int, name: str, value: float) -> str:
        """Words on a value; none if it has no or only equal ones before."""
        earlier = [(at, found) for at, found in self.values.get(name, []) if at < step]
        if all(found == value for _, found in earlier):  # the first validation, or a baseline
            return ""
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
        return said
