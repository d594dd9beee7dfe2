"""Signals that ask a run to stop: SIGINT (Ctrl-C) and SIGTERM."""

import signal
from types import FrameType
from typing import Self


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Records stop signals while its block runs, so that the run can end with a checkpoint.

    `received` holds the numbers of the signals, in their order. The handlers from before the block come back after it.
    """

    def __init__(self):
        self.received: list[int] = []

    def __enter__(self) -> Self:
        self._handlers = {number: signal.signal(number, self._record) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)

    @property
    def exit_status(self) -> int:
        """0, or 128 + the number of the first signal, as in a shell."""
        return 128 + self.received[0] if self.received else 0
