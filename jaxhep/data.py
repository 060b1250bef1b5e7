"""Columns -> batches. A batch is a pure function of (seed, step), so the step is the only cursor.

No loader state exists to be saved or to disagree: a restart begins at the state's step, on any number of devices.
Grain runs over dispatches, and one element gathers all batches of one, which is 20 to 30 times the events per second
of one record per event; one thread prefetches, and there are no worker processes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxhep.columns import open_columns
from jaxhep.errors import BadInput, one_of

BLOCK = 256  # events read together in block order; the columns themselves are shuffled
ORDERS = ("random", "block")
Columns = dict[str, np.ndarray]


class Part(NamedTuple):
    """What one of several processes reads of a batch: part `own` of `parts` equal ones of its events, or members."""

    own: int = 0
    parts: int = 1
    members: bool = False  # whole batches of some members, rather than some events of each

    def of(self, order: np.ndarray) -> np.ndarray:
        """Return the part of an order (..., B), or of orders (..., N, B)."""
        axis = order.ndim - (2 if self.members else 1)
        return np.split(order, self.parts, axis)[self.own]


WHOLE = Part()


class Split:
    """The columns of one split and the events of it that are used, at most `limit` per class (0: all).

    The first events of each class are taken; as columns are shuffled by a hash, more input files or a larger limit
    keep them where they are.
    """

    def __init__(self, folder: Path, name: str, limit: int = 0):
        self.name, self.columns = name, open_columns(folder, name)
        labels = self.columns["label"]
        self.events = np.arange(len(labels))
        if limit:
            chosen = [np.flatnonzero(labels == label)[:limit] for label in np.unique(labels)]
            self.events = np.sort(np.concatenate(chosen))

    def __len__(self) -> int:
        return len(self.events)

    def column(self, name: str) -> np.ndarray:
        """Return one column of the events used, in memory."""
        return np.asarray(self.columns[name][self.events])

    def gather(self, positions: np.ndarray, names: tuple[str, ...]) -> Columns:
        """Return the named columns of the events at these positions (...), each (..., *shape of the column)."""
        events = self.events[positions]
        # Straight into an array of its own: sorting the reads first costs two copies more than it saves.
        return {name: np.asarray(np.take(self.columns[name], events, axis=0)) for name in names}


class Batches:
    """A sequence without end: element `step` is the training batch of that step, a dict of arrays (B, ...).

    Each epoch is another permutation of the split; the events that do not fill a last batch wait for the next epoch.
    """

    def __init__(self, split: Split, batch_size: int, seed: int, names: tuple[str, ...], order: str = "random"):
        one_of(order, ORDERS, "config.train.order")
        if len(split) < batch_size:
            raise BadInput(
                f"the training split has {len(split)} events, fewer than one batch of {batch_size} (config.train.batch_size)"
            )
        self.split, self.batch_size, self.seed, self.names, self.order = split, batch_size, seed, names, order
        self.steps_per_epoch = len(split) // batch_size
        self.part = WHOLE  # that is read, of several processes
        self._epoch, self._permutation = -1, np.zeros(0, np.int64)

    def __repr__(self) -> str:
        return f"Batches({len(self.split)} events, batch {self.batch_size}, seed {self.seed}, {self.order})"

    def __getitem__(self, step: int) -> Columns:
        return {name: values[0] for name, values in self.dispatch(step, 1).items()}

    def dispatch(self, step: int, count: int) -> Columns:
        """Return the batches of `count` steps from this one, stacked (K, B, ...)."""
        order = np.stack([self.order_of(step + number) for number in range(count)])
        return self.split.gather(self.part.of(order), self.names)

    def order_of(self, step: int) -> np.ndarray:
        """Return the positions (B,) in the split of the events of this step."""
        epoch, position = divmod(int(step), self.steps_per_epoch)
        # Taken once into a local: another thread may be at the next epoch already.
        permutation = self._permutation if epoch == self._epoch else self._permute(epoch)
        return permutation[position * self.batch_size : (position + 1) * self.batch_size]

    def _permute(self, epoch: int) -> np.ndarray:
        events = len(self.split)
        generator = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        if self.order == "block":
            blocks = generator.permutation(-(-events // BLOCK))
            permutation = (blocks[:, None] * BLOCK + np.arange(BLOCK)).reshape(-1)
            permutation = permutation[permutation < events]
        else:
            permutation = generator.permutation(events)
        self._epoch, self._permutation = epoch, permutation
        return permutation


class Members:
    """The batches of N ensemble members on one split: element `step` is those of each member, stacked (N, B, ...)."""

    def __init__(self, members: list[Batches]):
        self.members = members
        self.steps_per_epoch, self.part = members[0].steps_per_epoch, WHOLE

    def __repr__(self) -> str:
        return f"Members({self.members})"

    def __getitem__(self, step: int) -> Columns:
        return {name: values[0] for name, values in self.dispatch(step, 1).items()}

    def dispatch(self, step: int, count: int) -> Columns:
        """Return the batches of `count` steps from this one, stacked (K, N, B, ...)."""
        first = self.members[0]
        order = np.stack([self.order_of(step + number) for number in range(count)])
        return first.split.gather(self.part.of(order), first.names)

    def order_of(self, step: int) -> np.ndarray:
        """Return the positions (N, B) in the split of the events of this step."""
        return np.stack([batches.order_of(step) for batches in self.members])


class Orders:
    """{"order": positions in the split} of those batches, for columns that are on the device."""

    def __init__(self, batches: Batches | Members):
        self.batches, self.steps_per_epoch = batches, batches.steps_per_epoch

    def __repr__(self) -> str:
        return f"Orders({self.batches})"

    def __getitem__(self, step: int) -> Columns:
        return {name: values[0] for name, values in self.dispatch(step, 1).items()}

    def dispatch(self, step: int, count: int) -> Columns:
        """Return the orders (K, B), or (K, N, B) of members, of `count` steps from this one."""
        order = np.stack([self.batches.order_of(step + number) for number in range(count)])
        return {"order": self.batches.part.of(order).astype(np.int32)}


class Dispatches:
    """The dispatches from step `start` to step `stop`: `most` steps each, fewer where an epoch or the run ends."""

    def __init__(self, batches: Batches | Members | Orders, start: int, stop: int, most: int):
        self.batches, self.start, self.stop, self.most = batches, start, stop, most
        self.epoch = batches.steps_per_epoch
        self.first_end = min((start // self.epoch + 1) * self.epoch, stop)  # of the epoch that the start is in
        self.in_first, self.in_epoch = -(-(self.first_end - start) // most), -(-self.epoch // most)

    def __len__(self) -> int:
        epochs, rest = divmod(max(self.stop - self.first_end, 0), self.epoch)
        return max(self.in_first, 0) + epochs * self.in_epoch + -(-rest // self.most)

    def __repr__(self) -> str:
        return f"Dispatches({self.batches}, {self.start} to {self.stop} by {self.most})"

    def steps(self, number: int) -> tuple[int, int]:
        """Return the first step of dispatch `number` and how many steps it has."""
        if number < self.in_first:
            begin, end = self.start + number * self.most, self.first_end
        else:
            epoch, place = divmod(number - self.in_first, self.in_epoch)
            begin, end = (self.first_end + epoch * self.epoch + steps for steps in (place * self.most, self.epoch))
        return begin, min(self.most, end - begin, self.stop - begin)

    def __getitem__(self, number: int) -> Columns:
        return self.batches.dispatch(*self.steps(int(number)))


def load(batches: Batches | Members | Orders, start: int, stop: int, most: int = 1) -> Iterator[Columns]:
    """Yield what each dispatch from step `start` to `stop` takes, stacked (K, ...) with K up to `most`, one ahead."""
    import grain  # imports JAX: late, so that preparing data does not

    dispatches = Dispatches(batches, start, stop, most)
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    iterator = iter(grain.MapDataset.source(dispatches).to_iter_dataset(options)) if len(dispatches) else iter(())  # type: ignore[arg-type]
    try:
        yield from iterator
    finally:
        if hasattr(iterator, "close"):
            iterator.close()


def in_order(split: Split, batch_size: int, names: tuple[str, ...], part: Part = WHOLE) -> Iterator[Columns]:
    """Yield every event once, in batches of one size: the last is padded with its first event at `weight` 0.

    Only the `part` of this process is read.
    """
    for start in range(0, len(split), batch_size):
        positions = np.arange(start, min(start + batch_size, len(split)))
        weight = np.zeros(batch_size, np.float32)
        weight[: len(positions)] = 1
        positions = np.concatenate([positions, np.full(batch_size - len(positions), start)])
        yield split.gather(part.of(positions), names) | {"weight": part.of(weight)}


def array_batches(columns: Columns, batch_size: int, part: Part = WHOLE) -> Iterator[Columns]:
    """Yield arrays (N, ...) in batches of one size, the last padded with its first event; of each, this `part`."""
    events = len(next(iter(columns.values())))
    for start in range(0, events, batch_size):
        positions = np.arange(start, start + batch_size)
        positions[positions >= events] = start
        yield {name: values[part.of(positions)] for name, values in columns.items()}
