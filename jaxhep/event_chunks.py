"""Events by number, computed in chunks of one size: which chunks a range of events needs, and what of each.

Both simulations number their events so: event n of a seed is number n % size of chunk n // size, so that it is the
same however it is asked for.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

from jaxhep.errors import BadInput

T = TypeVar("T")


def check_range(events: int, first_event: int, seed: int) -> None:
    """Raise BadInput for a negative count or seed, and for numbers that 32 bits do not hold."""
    if events < 0 or first_event < 0 or first_event + events >= 2**32 or not 0 <= seed < 2**31:
        raise BadInput(
            f"events {events}, first_event {first_event}, seed {seed}: wanted events from 0 on, seed 0 to 2^31 - 1"
        )


def chunks_of(first_event: int, events: int, size: int) -> Iterator[tuple[int, slice]]:
    """Yield the number of each chunk that holds events of the range, and which of its rows they are."""
    last = first_event + events
    if not events:
        return  # else a range that begins within a chunk would have that chunk computed, for none of its rows
    for start in range(first_event - first_event % size, last, size):
        yield start // size, slice(max(first_event - start, 0), min(last - start, size))


def one_ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield the items, each after the next one was asked for: what that begins goes on while this one is used."""
    waiting: list[T] = []
    for item in items:
        if waiting:
            yield waiting.pop()
        waiting.append(item)
    yield from waiting


def numbered(number: int, rows: slice, size: int, run: int) -> dict[str, np.ndarray]:
    """Return the columns `run` and `event` (n,) uint32 of some rows of a chunk."""
    event = np.arange(number * size, (number + 1) * size, dtype=np.uint32)[rows]
    return {"run": np.full(len(event), run, np.uint32), "event": event}


def whole(events: int, chunks: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the columns of all chunks, joined. Raises BadInput where no events are wanted."""
    if events < 1:
        raise BadInput(f"events is {events}: wanted at least 1")
    parts = list(chunks)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def in_baskets(
    chunks: Iterable[dict[str, np.ndarray]], events: int, least: int, progress: Callable[[int], object]
) -> Iterator[dict[str, np.ndarray]]:
    """Yield chunks of `events` events joined to at least `least` each, worth a basket of a file; tell `progress`."""
    waiting: list[dict[str, np.ndarray]] = []
    done = 0
    for chunk in chunks:
        waiting.append(chunk)
        done += len(chunk["event"])
        progress(len(chunk["event"]))
        if sum(len(part["event"]) for part in waiting) >= least or done == events:
            yield {name: np.concatenate([part[name] for part in waiting]) for name in waiting[0]}
            waiting = []
