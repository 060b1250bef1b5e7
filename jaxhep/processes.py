"""Several processes that train one network: how they join, who writes, and how they agree.

Process 0 prepares data and writes what people read. All processes train, score and save checkpoints. What they tell
each other outside of steps goes through the coordination service of `jax.distributed`, which process 0 runs.
"""

import itertools
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxhep.clusters import Launch
from jaxhep.errors import BadInput, first_line, one_line

LOST = 134  # status where another process was lost, as of JAX's own abort
WAIT = 7 * 24 * 3_600_000  # ms that processes wait for one that prepares data; a dead one is noticed by its heartbeat
END_WAIT = 10_000  # ms that a failed process waits for others to fail likewise
SEEN_WAIT = 60.0  # s until a network file system must show what another process wrote
LOSSES = ("Gloo", "UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED", "onnection", "eartbeat", "NCCL")
_rounds = itertools.count()


def start(launch: Launch | None) -> None:
    """Join the other processes; does nothing for None. Raises BadInput where the coordinator cannot be reached."""
    if launch is None or count() > 1:
        return
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from the loop
    try:
        jax.distributed.initialize(
            launch.coordinator,
            launch.processes,
            launch.process,
            launch.devices,
            cluster_detection_method="deactivate",
            heartbeat_timeout_seconds=int(os.environ.get("JAXHEP_HEARTBEAT_SECONDS", "100")),
        )
    except RuntimeError as error:
        raise BadInput(f"--coordinator {launch.coordinator}: {first_line(error)}") from None


def _state() -> Any:
    if "jax" not in sys.modules:
        return None  # no process has joined others without it
    from jax._src import distributed

    return distributed.global_state


def count() -> int:
    """Return how many processes train together; asks no device."""
    state = _state()
    return 1 if state is None or state.client is None else state.num_processes


def index() -> int:
    """Return the number of this process, from 0."""
    return _state().process_id if count() > 1 else 0


def is_first() -> bool:
    """Return whether this process writes what people read."""
    return index() == 0


def exchange(text: str) -> list[str]:
    """Return the texts that all processes give, by process: every one waits for the last."""
    if count() == 1:
        return [text]
    client, name = _state().client, f"jaxhep/{next(_rounds)}"
    client.key_value_set(f"{name}/{index():08d}", f"={text}")
    client.wait_at_barrier(name, WAIT)
    return [value[1:] for _, value in sorted(client.key_value_dir_get(f"{name}/"))]


@contextmanager
def together() -> Iterator[None]:
    """Run a block and wait for all processes; BadInput is raised in each where it failed in one.

    A block that only some processes run may hold no step and no checkpoint, which all must reach.
    """
    problem = None
    try:
        yield
    except Exception as error:
        problem = error
    texts = exchange("" if problem is None else " ".join(str(problem).split()) or type(problem).__name__)
    if problem is not None:
        raise problem
    for number, text in enumerate(texts):
        if text:
            raise BadInput(f"process {number}: {text}")


def check_same(what: str, value: str) -> None:
    """Raise BadInput where processes have different values."""
    for number, other in enumerate(exchange(value)):
        if other != value:
            raise BadInput(f"process {number} has another {what} than process {index()}")


def check_seen(path: Path) -> None:
    """Raise BadInput where this process does not see a file that process 0 wrote, within a minute."""
    end = time.monotonic() + SEEN_WAIT
    while not path.exists():
        if time.monotonic() > end:
            raise BadInput(f"{path}: written by process 0, not seen by process {index()}: all need one file system")
        time.sleep(0.5)


def whole(array: Any) -> np.ndarray:
    """Return an array on the host, also one whose parts are on devices of several processes: all must ask then."""
    import jax

    if isinstance(array, jax.Array) and not array.is_fully_addressable and not array.is_fully_replicated:
        from jax.experimental.multihost_utils import process_allgather

        return np.asarray(process_allgather(array, tiled=True))
    return np.asarray(array)


class Agreement:
    """What all processes do after a dispatch: the largest signal that reached one, and whether process 0 wants a save.

    A reduction of two integers over the devices, read a dispatch late so that no process waits for it; at the end of
    an epoch it is read at once. A process alone decides itself, at no cost.
    """

    def __init__(self, devices: list[Any]):
        self.count, self.pending = count(), None
        if self.count == 1:
            return
        import jax
        from jax.sharding import Mesh, NamedSharding, PartitionSpec

        mesh = Mesh(np.array(devices), ("all",))
        self.sharding = NamedSharding(mesh, PartitionSpec("all"))
        self.largest = jax.jit(lambda wishes: wishes.max(0), out_shardings=NamedSharding(mesh, PartitionSpec()))
        self.rows = len(devices) // self.count
        self.nothing = self._placed(0, 0)

    def _placed(self, *wishes: int) -> Any:
        import jax

        return jax.make_array_from_process_local_data(self.sharding, np.full((self.rows, 2), wishes, np.int32))

    def __call__(self, signal: int, save: bool, now: bool) -> tuple[int, bool]:
        """Return the signal (0: none) and whether to save; `now`, the same in all processes, waits for the answer."""
        if self.count == 1:
            return signal, save
        save = save and is_first()  # clocks differ
        wishes = self._placed(signal, int(save)) if signal or save else self.nothing
        answers: list[Any] = [self.pending] if self.pending is not None else []
        self.pending = self.largest(wishes)
        if now:
            answers.append(self.pending)
            self.pending = None
        found = np.array([[0, 0], *(np.asarray(answer) for answer in answers)]).max(0)
        return int(found[0]), bool(found[1])


@contextmanager
def ending() -> Iterator[None]:
    """Let a process that fails alone end at once, so that the others notice; where all fail, each says so as usual."""
    try:
        yield
    except BaseException as error:
        if count() == 1 or _all_end(error):
            raise
        status = _say(error)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # the usual end would wait for the others


def _all_end(error: BaseException) -> bool:
    if _is_loss(error):
        return False
    try:
        _state().client.wait_at_barrier("jaxhep/end", END_WAIT)
    except RuntimeError:
        return False
    return True


def _is_loss(error: BaseException) -> bool:
    return type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError") and any(w in str(error) for w in LOSSES)


def _say(error: BaseException) -> int:
    def again() -> int:
        raise error

    if _is_loss(error):
        lost = f"another process was lost ({first_line(Exception(str(error)))})"
        print(f"error: process {index()} of {count()}: {lost}; the same command continues", file=sys.stderr)
        return LOST
    try:
        return one_line(again)
    except BaseException:
        traceback.print_exc()
        return 1
