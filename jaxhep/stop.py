"""SIGTERM and Ctrl-C as a flag that the training loop reads between two steps."""

import signal
from contextlib import suppress
from types import FrameType
from typing import Any


class Stopped(Exception):
    """Training was told to stop, and has saved: the same command continues. `status` is that of the process."""

    def __init__(self, text: str, status: int):
        super().__init__(text)
        self.status = status


class StopFlag:
    """Set by SIGTERM or Ctrl-C, so that the loop can save between two steps; a second Ctrl-C ends at once."""

    def __init__(self) -> None:
        self.wanted: signal.Signals | None = None
        self._before: dict[int, Any] = {}
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is signal.SIG_IGN:  # as shells have it of jobs in the background
                continue
            with suppress(ValueError):  # not the main thread, as in a notebook's worker
                self._before[number] = signal.signal(number, self._stop)

    def _stop(self, number: int, _: FrameType | None) -> None:
        if self.wanted is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.wanted = signal.Signals(number)

    def restore(self) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
