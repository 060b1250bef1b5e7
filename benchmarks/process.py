"""Timed processes: programs set up in processes of their own and timed in turn, round after round.

A process is `python -m benchmarks.process MODULE:FUNCTION`; the function turns the cell of a request into a Program.
Requests are JSON lines on stdin, `{"set_up": cell}` and `{"run": index, "amount": how much}`, replies JSON lines on
stdout. So peak memory belongs to one process, and the thread pools of JAX and PyTorch do not fight.
"""

import contextlib
import importlib
import json
import os
import resource
import selectors
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from benchmarks.machine import available_bytes, resident_bytes
from jaxhep.errors import one_line

# One timing takes about this long, or one dispatch where that is longer. On a CPU caches and memory are cold after the
# others' turns: there the first dispatch of each turn is not timed either, and a turn is longer.
BURST_S = {"cpu": 1.5, "elsewhere": 0.4}
WARM_UP_BELOW_S = 20.0  # on a CPU; beyond, a dispatch warms itself
SHARE = 0.8  # of the memory that is free when a process starts; it may take no more
ENOUGH = 5  # rounds; what the deadline left with fewer is measured again by the next call
NO_ANSWER, SLOWER = "no answer", "slower than others of its framework"  # reasons that a longer budget may mend
NO_TURN = "the budget ended before its turn"


class Program(NamedTuple):
    """What a process has set up: `run(amount)` replies with seconds, events and whatever else is to be known."""

    facts: dict[str, Any]  # what the row says of it: device, versions, compile_s
    run: Callable[[float], dict[str, Any]]


def dispatched(
    facts: dict,
    run: Callable[[int], None],
    events: int,
    on_cpu: bool,
    peak_bytes: Callable[[], int] = lambda: 0,
    release: Callable[[], Any] = lambda: None,
) -> Program:
    """Return the program of `run(dispatches)`, which waits for their end, with so many events in one dispatch.

    peak_bytes: of the device's memory, 0 where the process's own counts; release: gives back memory that others may
    need between two timings.
    """

    def seconds_of(dispatches: int) -> float:
        start = time.perf_counter()
        run(dispatches)
        return time.perf_counter() - start

    run(1)
    dispatch_s = seconds_of(1)
    release()

    def answer(dispatches: float) -> dict[str, Any]:
        if not on_cpu or dispatch_s < WARM_UP_BELOW_S:
            run(1)  # memory taken, caches filled and clocks raised before the timing starts
        seconds = seconds_of(int(dispatches))
        # On Linux the high-water mark of resident memory is in KiB.
        peak = peak_bytes() or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        release()
        return {"seconds": seconds, "events": int(dispatches) * events, "peak_bytes": peak}

    return Program({**facts, "dispatch_s": dispatch_s}, answer)


def serve(set_up: Callable[[dict], Program]) -> None:
    """Answer requests until stdin closes; a failure is an answer too."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to stderr, not between the replies
    programs: list[Program] = []
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "set_up" in request:
                programs.append(set_up(request["set_up"]))
                answer = {"index": len(programs) - 1, **programs[-1].facts}
            else:
                answer = programs[request["run"]].run(request["amount"])
        except Exception as error:  # any failure is a result: the row is skipped with this reason
            # A compiler's message can be a whole log; what matters stands first, or last.
            text = " ".join(str(error).split())
            text = text if len(text) <= 300 else f"{text[:200]} ... {text[-90:]}"
            answer = {"failed": f"{type(error).__name__}: {text}"}
        print(json.dumps(answer), file=replies, flush=True)


class Worker:
    """A process seen from outside; `failed` says why it ended, or is empty."""

    def __init__(self, target: str, environment: dict[str, str], memory_bytes: float = 0):
        self.failed = ""
        self.asked = time.monotonic()
        self.memory_bytes = memory_bytes or SHARE * available_bytes()
        # Compiled kernels of its own: the time of compiling is then true, and no half-written one of a stopped process
        # is found by the next. What a process dies of is the last line that it prints.
        self.kernels = tempfile.TemporaryDirectory(prefix="benchmark_", ignore_cleanup_errors=True)
        self.errors = tempfile.TemporaryFile()
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors}
        given = {**environment, "TORCHINDUCTOR_CACHE_DIR": self.kernels.name}
        command = [sys.executable, "-m", "benchmarks.process", target]
        self.process: Any = subprocess.Popen(command, **pipes, text=True, env=given, start_new_session=True)

    def send(self, request: dict) -> None:
        """Ask without waiting."""
        self.asked = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ValueError):  # it has ended; reading says why
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()

    def reply(self, limit_s: float) -> dict[str, Any]:
        """Return the next reply, or {"failed": reason} after ending a process that gave none in time or took too much."""
        problem = self.failed or self.wait(limit_s)
        if not problem:
            line = self.process.stdout.readline()
            if line:
                return json.loads(line)
            status = self.process.wait()
            killed = " (out of memory, if by the system)" if status == -9 else ""
            self.errors.seek(0)
            said = self.errors.read().decode(errors="replace").strip().splitlines()
            problem = f"process ended with {status}{killed}: {said[-1][-200:] if said else ''}"
        self.stop(problem)
        return {"failed": self.failed}

    def wait(self, limit_s: float) -> str:
        """Return nothing once there is something to read, or the reason to give up."""
        deadline = time.monotonic() + limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not selector.select(timeout=0.1):
                if time.monotonic() > deadline:
                    return f"{NO_ANSWER} within {time.monotonic() - self.asked:.3g} s"
                if self.memory_bytes and resident_bytes(self.process.pid) > self.memory_bytes:
                    return f"needs more than {self.memory_bytes / 2**30:.3g} GiB of memory"
        return ""

    def stop(self, reason: str = "") -> None:
        """End the process, with the compilers that it started; the first reason given stays."""
        self.failed = self.failed or reason or "stopped"
        if self.errors.closed:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self.errors.close()
        self.kernels.cleanup()


@contextlib.contextmanager
def workers() -> Iterator[Callable[..., Worker]]:
    """Give `start(target, environment)`, whose processes all end with the block.

    Ctrl-C and SIGTERM wait while a process is being started, so that none is forgotten.
    """
    started: list[Worker] = []

    def start(*arguments: Any) -> Worker:
        held: list[int] = []
        numbers = (signal.SIGINT, signal.SIGTERM)
        former = {number: signal.signal(number, lambda number, frame: held.append(number)) for number in numbers}
        try:
            started.append(Worker(*arguments))
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])
        return started[-1]

    try:
        yield start
    finally:
        for worker in started:
            worker.stop()


class Timed:
    """One program of a process, and its timings.

    `failed` says why it gave up, or is empty; `cut`: the deadline and no fault of its own ended it early; `sole`: it has
    the process for itself, which ends when it fails.
    """

    def __init__(self, cell: dict, worker: Any = None, sole: bool = False):
        self.cell, self.worker, self.sole, self.failed, self.cut = cell, worker, sole, "", False
        self.facts: dict[str, Any] = {}
        self.answers: list[dict[str, Any]] = []
        self.index, self.amount, self.dispatch_s = 0, 1.0, 0.0
        if worker is not None:
            worker.send({"set_up": cell})

    def _reply(self, limit_s: float) -> dict[str, Any]:
        answer = self.worker.reply(limit_s)
        if "failed" in answer:
            self.failed = answer["failed"]
            if self.sole:
                self.worker.stop(self.failed)
        return answer

    def run(self, amount: float, limit_s: float) -> dict[str, Any]:
        """Run so many dispatches, or so many seconds, and return the answer."""
        self.worker.send({"run": self.index, "amount": amount})
        return self._reply(limit_s)

    def set_up(self, limit_s: float, cut: bool = False) -> None:
        """Wait for the set-up, and choose how many dispatches make one timing; cut: the limit is that of the deadline."""
        answer = self._reply(limit_s)
        if self.failed:
            self.cut = cut and self.failed.startswith(NO_ANSWER)
            return
        self.index = answer.pop("index")
        self.facts = answer
        self.choose(answer.get("dispatch_s", 0.0))

    def choose(self, dispatch_s: float) -> None:
        """Choose how many dispatches make one timing, from the seconds that one takes."""
        self.dispatch_s = dispatch_s
        burst = BURST_S.get(self.cell.get("platform", ""), BURST_S["elsewhere"])
        self.amount = max(1, round(burst / max(dispatch_s, 1e-6)))

    def measure(self, limit_s: float) -> None:
        """Take one timing."""
        answer = self.run(self.amount, limit_s)
        if not self.failed:
            self.answers.append(answer)

    def next_s(self) -> float:
        """Return the seconds that the next timing will take, as far as is known."""
        if not self.answers:
            return self.amount * self.dispatch_s
        return statistics.median(answer["seconds"] for answer in self.answers)

    def row(self, **about: Any) -> dict[str, Any]:
        """Return the row: cell, facts, median, extremes and each rate in events/s, or the reason why there are none."""
        row = {**self.cell, **about, **self.facts}
        if not self.answers:
            return row | {"skipped": self.failed or NO_TURN}
        rates = [answer["events"] / answer["seconds"] for answer in self.answers]
        row |= {"events_per_s": statistics.median(rates), "min": min(rates), "max": max(rates)}
        return row | {"rates": rates, "repeats": len(rates)}


def rounds(
    programs: list[Timed],
    repeats: int,
    budget_s: float,
    deadline: float = float("inf"),
    keep: Callable[[list[Timed], int, float], list[Timed]] = lambda racing, rounds_left, left_s: racing,
) -> None:
    """Time all that are set up in turn: A B A B ... `keep(racing, rounds left, seconds left)`: those a round is for."""
    until = min(time.monotonic() + budget_s, deadline)
    starting = [program for program in programs if not program.failed]
    racing = list(starting)
    for number in range(repeats):
        racing = list(keep(racing, repeats - number, until - time.monotonic()))
        for program in list(racing):
            left = until - time.monotonic()
            # Who misses a round is out, so that the rounds of any two stay pairs.
            if program.failed or left <= 0 or (number and program.next_s() > left):
                racing.remove(program)
                continue
            # One that hangs, or is held up, must not take the time of all others.
            program.measure(min(left, max(budget_s / 3, 10 * program.next_s())))
    if until == deadline:
        for program in starting:
            own_fault = program.failed and not program.failed.startswith((NO_ANSWER, SLOWER))
            program.cut = len(program.answers) < min(ENOUGH, repeats) and not own_fault


def command(main: Callable[[], int | None]) -> None:
    """Run a benchmark and leave the program: bad input is one line, and SIGTERM ends it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(one_line(main))


if __name__ == "__main__":
    module, _, function = sys.argv[1].partition(":")
    serve(getattr(importlib.import_module(module), function))
