"""A trace of some dispatches of training, which TensorBoard and Perfetto open."""

from pathlib import Path
from typing import Any

import jax

WARM_UP = 3  # dispatches before the trace: the first one compiles


class Trace:
    """Traces `dispatches` of them (0: none) into `folder`, once the first few are over."""

    def __init__(self, folder: Path, dispatches: int):
        self.folder, self.dispatches, self.seen, self.running = folder, dispatches, 0, False

    def before_dispatch(self, state: Any) -> None:
        """Start or end the trace, where this dispatch is the first or the one after the last; waits for `state` then."""
        if self.dispatches and self.seen == WARM_UP:
            jax.block_until_ready(state)
            jax.profiler.start_trace(self.folder, create_perfetto_trace=True)
            self.running = True
        elif self.seen == WARM_UP + self.dispatches:
            self.stop(state)
        self.seen += 1

    def stop(self, state: Any) -> None:
        """End the trace if it runs, and say where it is."""
        if self.running:
            jax.block_until_ready(state)
            jax.profiler.stop_trace()
            self.running = False
            print(f"profile of {min(self.dispatches, self.seen - WARM_UP)} dispatches in {self.folder}", flush=True)
        elif self.dispatches and self.seen <= WARM_UP:
            print(f"no profile: {self.seen} dispatches were run, and the first {WARM_UP} are not traced", flush=True)
