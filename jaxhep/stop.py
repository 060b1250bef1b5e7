"""SIGTERM as a flag that the training loop reads between two steps."""

import signal
from typing import Any


class Stopped(Exception):
    """Training was told to stop, and has saved: the same command continues."""


class StopFlag:
    """Set by SIGTERM, so that the loop can save between two steps."""

    def __init__(self) -> None:
        self.wanted = False
        try:
            self._before = signal.signal(signal.SIGTERM, self._stop)
        except ValueError:  # not the main thread, as in a notebook's worker
            self._before = None

    def _stop(self, *_: Any) -> None:
        self.wanted = True

    def restore(self) -> None:
        """Give the signal back."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
