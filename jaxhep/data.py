"""Columns -> batches. A batch is a pure function of (seed, step), so the step is the only cursor.

No loader state exists to be saved or to disagree: a restart begins at the state's step, on any number of devices.
Grain runs over step numbers, and one element gathers a whole batch, which is 20 to 30 times the events per second
of one record per event; one thread prefetches, and there are no worker processes.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxhep.columns import open_columns
from jaxhep.errors import BadInput, nearest

BLOCK = 256  # events read together in block order; the columns themselves are shuffled
ORDERS = ("random", "block")
Columns = dict[str, np.ndarray]


class Split:
    """The columns of one split and the events of it that are used, at most `limit` per class (0: all).

    The first events of each class are taken; as columns are shuffled by a hash, more input files or a larger limit
    keep them where they are.
    """

    def __init__(self, folder: Path, name: str, limit: int = 0):
        self.columns = open_columns(folder, name)
        labels = self.columns["label"]
        self.events = np.arange(len(labels))
        if limit:
            chosen = [np.flatnonzero(labels == label)[:limit] for label in (0, 1)]
            self.events = np.sort(np.concatenate(chosen))

    def __len__(self) -> int:
        return len(self.events)

    def column(self, name: str) -> np.ndarray:
        """Return one column of the events used, in memory."""
        return np.asarray(self.columns[name][self.events])

    def gather(self, positions: np.ndarray, names: tuple[str, ...]) -> Columns:
        """Return the named columns of the events at these positions, in their order."""
        events = self.events[positions]
        # Ascending reads are kinder to a disk; for a batch in memory they cost nothing.
        order = np.argsort(events, kind="stable")
        back = np.argsort(order, kind="stable")
        return {name: self.columns[name][events[order]][back] for name in names}


class Batches:
    """A sequence without end: element `step` is the training batch of that step, a dict of arrays (B, ...).

    Each epoch is another permutation of the split; the events that do not fill a last batch wait for the next epoch.
    """

    def __init__(self, split: Split, batch_size: int, seed: int, names: tuple[str, ...], order: str = "random"):
        if order not in ORDERS:
            raise BadInput(
                f"config.train.order is {order!r}, wanted one of {', '.join(ORDERS)}{nearest(order, ORDERS)}"
            )
        if len(split) < batch_size:
            raise BadInput(
                f"the training split has {len(split)} events, fewer than one batch of {batch_size} (config.train.batch_size)"
            )
        self.split, self.batch_size, self.seed, self.names, self.order = split, batch_size, seed, names, order
        self.steps_per_epoch = len(split) // batch_size
        self._epoch, self._permutation = -1, np.zeros(0, np.int64)

    def __len__(self) -> int:
        return 2**40

    def __repr__(self) -> str:
        return f"Batches({len(self.split)} events, batch {self.batch_size}, seed {self.seed}, {self.order})"

    def __getitem__(self, step: int) -> Columns:
        epoch, position = divmod(int(step), self.steps_per_epoch)
        # Taken once into a local: another thread may be at the next epoch already.
        permutation = self._permutation if epoch == self._epoch else self._permute(epoch)
        return self.split.gather(permutation[position * self.batch_size : (position + 1) * self.batch_size], self.names)

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


def load(batches: Batches, start: int, counts: Iterator[int]) -> Iterator[Columns]:
    """Yield batches from step `start` on, stacked (K, B, ...) for each K of `counts`, gathered one dispatch ahead."""
    import grain  # imports JAX: late, so that preparing data does not

    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    iterator = iter(grain.MapDataset.source(batches)[start:].to_iter_dataset(options))  # type: ignore[arg-type]
    try:
        for count in counts:
            parts = [next(iterator) for _ in range(count)]
            yield {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    finally:
        if hasattr(iterator, "close"):
            iterator.close()


def in_order(split: Split, batch_size: int, names: tuple[str, ...]) -> Iterator[Columns]:
    """Yield every event once, in batches of one size: the last is padded with its first event at `weight` 0."""
    for start in range(0, len(split), batch_size):
        positions = np.arange(start, min(start + batch_size, len(split)))
        weight = np.zeros(batch_size, np.float32)
        weight[: len(positions)] = 1
        positions = np.concatenate([positions, np.full(batch_size - len(positions), start)])
        yield split.gather(positions, names) | {"weight": weight}
