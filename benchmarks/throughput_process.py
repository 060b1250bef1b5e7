"""A variant of the throughput benchmark in a process of its own, seen from outside: started, asked, timed, stopped."""

import contextlib
import json
import os
import re
import selectors
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.throughput_machine import available_bytes, environment

# One timing takes about this long, or one dispatch where that is longer. On a CPU caches and memory are cold after the
# others' turns: there the first dispatch of each turn is not timed either, and a turn is longer.
BURST_S = {"cpu": 1.5}
BURST_ELSEWHERE_S = 0.4
NO_ANSWER, SLOWER = "no answer", "slower than others of its framework"  # reasons that a longer budget may mend
SHARE = 0.8  # of the memory that is free when a process starts; it may take no more
TOO_LARGE = re.compile(
    r"out of memory|of memory|resource_exhausted|alloc_failed|bad_alloc|can't allocate|memoryerror|32.?bit|"
    r"invalid configuration argument",
    re.IGNORECASE,
)


@contextlib.contextmanager
def uninterrupted():
    """Hold Ctrl-C and SIGTERM back, so that a process is not started and then forgotten."""
    held: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    former = {number: signal.signal(number, lambda number, frame: held.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


class Worker:
    """One variant in a process of its own.

    `failed` says why it gave up, or is empty; `cut`: the deadline and no fault of its own ended it early;
    `alternated`: it was timed in turn with the others.
    """

    def __init__(self, cell: dict, memory_bytes: float = 0, alone: bool = False, start: bool = True):
        self.cell, self.alone, self.failed, self.peak_bytes = cell, alone, "", 0
        self.cut, self.alternated = False, True
        self.asked = time.monotonic()  # when it was started, or asked last
        self.memory_bytes = memory_bytes or SHARE * available_bytes()
        self.setup: dict = {}
        self.seconds: list[float] = []
        self.dispatches, self.dispatch_s = 1, 0.0
        self.process: Any = None
        if not start:
            return
        command = [sys.executable, "-m", "benchmarks.throughput_worker", json.dumps(cell)]
        given = environment(os.environ, cell["platform"], cell["devices"], alone, cell.get("passive", False))
        # Compiled kernels of its own: the time of compiling is then true, and no half-written one of a stopped process
        # is found by the next.
        self.kernels = tempfile.TemporaryDirectory(prefix="throughput_", ignore_cleanup_errors=True)
        given["TORCHINDUCTOR_CACHE_DIR"] = self.kernels.name
        # What a process dies of is the last line that it prints.
        self.errors = tempfile.TemporaryFile()
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors}
        self.process = subprocess.Popen(command, **pipes, text=True, env=given, start_new_session=True)

    def reply(self, limit_s: float) -> dict | None:
        """The next reply, or None after stopping the process for running past a limit or for failing."""
        problem = self.wait(limit_s)
        if not problem:
            line = self.process.stdout.readline()
            if line:
                answer = json.loads(line)
                if "failed" not in answer:
                    return answer
                problem = answer["failed"]
            else:
                status = self.process.wait()
                killed = " (out of memory, if by the system)" if status == -9 else ""
                problem = f"process ended with {status}{killed}: {self.last_line()}"
        self.stop(problem)
        return None

    def last_line(self) -> str:
        """The last line of what the process said beside its replies."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][-200:] if lines else ""

    def wait(self, limit_s: float) -> str:
        """Wait for something to read; the reason to give up, or nothing."""
        selector = selectors.DefaultSelector()
        selector.register(self.process.stdout, selectors.EVENT_READ)
        deadline = time.monotonic() + limit_s
        while not selector.select(timeout=0.1):
            if time.monotonic() > deadline:
                return f"{NO_ANSWER} within {time.monotonic() - self.asked:.3g} s"
            if self.memory_bytes and resident_bytes(self.process.pid) > self.memory_bytes:
                return f"needs more than {self.memory_bytes / 2**30:.3g} GiB of memory"
        return ""

    def set_up(self, limit_s: float, cut: bool = False) -> None:
        """Wait for the set-up, and choose how many dispatches make one timing; cut: the limit is that of the deadline."""
        answer = self.reply(limit_s)
        self.cut = cut and self.failed.startswith(NO_ANSWER)
        if answer is not None:
            self.setup = answer
            self.choose(answer["dispatch_s"])

    def choose(self, dispatch_s: float) -> None:
        """Choose how many dispatches make one timing, from the seconds that one takes."""
        self.dispatch_s = dispatch_s
        burst = BURST_S.get(self.cell["platform"], BURST_ELSEWHERE_S)
        self.dispatches = max(1, round(burst / max(dispatch_s, 1e-6)))

    def ask(self, dispatches: int, limit_s: float) -> float | None:
        """Run so many dispatches: the seconds that they took, or None where the process failed."""
        self.asked = time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it ended since its last answer; reading says why
            self.process.stdin.write(f"{dispatches}\n")
            self.process.stdin.flush()
        answer = self.reply(limit_s)
        if answer is None:
            return None
        self.peak_bytes = answer["peak_bytes"]
        return answer["seconds"]

    def rehearse(self, limit_s: float) -> None:
        """Time one dispatch anew, where the set-up was disturbed by others."""
        seconds = self.ask(1, limit_s)
        if seconds is not None:
            self.choose(seconds)

    def measure(self, limit_s: float) -> None:
        """Take one timing."""
        seconds = self.ask(self.dispatches, limit_s)
        if seconds is not None:
            self.seconds.append(seconds)

    def next_s(self) -> float:
        """Seconds that the next timing will take, as far as is known."""
        return statistics.median(self.seconds) if self.seconds else self.dispatches * self.dispatch_s

    def stop(self, reason: str = "") -> None:
        """End the process; the first reason given stays."""
        self.failed = self.failed or reason
        if self.process is None or self.errors.closed:
            return
        # With the compilers that it started.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self.errors.close()
        self.kernels.cleanup()

    @property
    def too_large(self) -> bool:
        """Whether it failed because its batch is too large for the memory."""
        return bool(self.failed and not self.seconds and TOO_LARGE.search(self.failed))

    def rates(self) -> list[float]:
        """Events per second of each round; those of an ensemble's members count each."""
        events = self.dispatches * self.cell["steps_per_dispatch"] * self.cell["batch"] * self.cell["members"]
        return [events / seconds for seconds in self.seconds]


def resident_bytes(pid: int) -> int:
    """Resident memory of a process now; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
