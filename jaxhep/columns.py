"""Columns on disk: events shuffled in bounded memory into plain .npy files, and opened as memory maps.

Events arrive as records in the order of their files. They are appended to buckets by the leading bits of a random
key, and each bucket, small enough for memory, is then sorted by that key: the columns hold the events in the order
of their keys, whatever the order, number and size of the input files.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from jaxhep.errors import BadInput

BUCKET_BYTES = 128 << 20  # a bucket and one sorted block of it are in memory at a time
BUFFER_BYTES = 48 << 20  # records held back, so that many buckets are still written in long runs
BLOCK = 4_096  # events sorted and written at once


class Buckets:
    """Append-only files of records, one per split and range of keys; `sizes` counts the records in each."""

    def __init__(self, folder: Path, dtype: np.dtype, splits: tuple[str, ...], expected_events: int):
        self.folder, self.dtype, self.splits = folder, dtype, splits
        self.count = max(1, -(-expected_events * dtype.itemsize // BUCKET_BYTES))
        self.sizes: dict[str, int] = {}
        # One buffer for the whole run: fresh memory costs more than copying into memory already mapped.
        self._held = np.zeros(max(BUFFER_BYTES // dtype.itemsize, 1), dtype)
        self._split = np.zeros(len(self._held), np.int64)
        self._count = 0

    def append(self, records: np.ndarray, split: np.ndarray) -> bool:
        """Take records and the index of each one's split; return whether everything so far is on disk."""
        start = 0
        while start < len(records):
            stop = min(start + len(self._held) - self._count, len(records))
            self._held[self._count : self._count + stop - start] = records[start:stop]
            self._split[self._count : self._count + stop - start] = split[start:stop]
            self._count += stop - start
            start = stop
            if self._count == len(self._held):
                self.flush()
        return self._count == 0

    def flush(self) -> None:
        """Write what is held back."""
        records, split = self._held[: self._count], self._split[: self._count]
        place = split * self.count + ((records["key"] >> np.uint64(32)).astype(np.int64) * self.count >> 32)
        order = np.argsort(place, kind="stable")
        ends = np.cumsum(np.bincount(place, minlength=len(self.splits) * self.count))
        for index in np.unique(place):
            chosen = order[ends[index - 1] if index else 0 : ends[index]]
            name = f"{self.splits[index // self.count]}-{index % self.count:05d}"
            with open(self.folder / f"{name}.records", "ab") as file:
                for begin in range(0, len(chosen), BLOCK):
                    records[chosen[begin : begin + BLOCK]].tofile(file)
            self.sizes[name] = self.sizes.get(name, 0) + len(chosen)
        self._count = 0

    def rewind(self, sizes: dict[str, int]) -> None:
        """Forget everything after the moment when `sizes` was the state: after a kill, or a file given up."""
        self._count = 0
        for path in self.folder.glob("*.records"):
            os.truncate(path, sizes.get(path.stem, 0) * self.dtype.itemsize)
        self.sizes = dict(sizes)


def write_columns(buckets: Buckets, folder: Path, split: str, sample: int) -> tuple[dict, np.ndarray]:
    """Sort the split's buckets into `folder/<column>.npy`; return its summary and first records.

    The summary has `events`, `labels` (label -> events) and `sha256` (column -> digest of the values); the first
    `sample` records are returned so that scalings can be computed. Column `key` is not written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in buckets.dtype.names or () if name != "key"]
    files = sorted(path for path in buckets.folder.glob(f"{split}-*.records"))
    events = sum(buckets.sizes.get(path.stem, 0) for path in files)
    digests = {name: hashlib.sha256() for name in names}
    labels: dict[str, int] = {}
    first: list[np.ndarray] = []
    columns = {name: open(folder / f"{name}.npy", "wb") for name in names}
    try:
        for name, column in columns.items():
            base, shape = buckets.dtype[name].base, buckets.dtype[name].shape
            header = {
                "descr": np.lib.format.dtype_to_descr(base),
                "fortran_order": False,
                "shape": (events, *shape),
            }
            np.lib.format.write_array_header_1_0(column, header)
        for path in files:
            # The bucket stays in the page cache; only the blocks gathered from it take memory of our own.
            records = np.memmap(path, buckets.dtype, mode="r")
            order = np.argsort(records["key"], kind="stable")
            for label, count in zip(*np.unique(records["label"], return_counts=True), strict=True):
                labels[str(label)] = labels.get(str(label), 0) + int(count)
            for start in range(0, len(order), BLOCK):
                block = order[start : start + BLOCK]
                if sum(map(len, first)) < sample:
                    first.append(records[block])
                for name, column in columns.items():
                    values = records[name][block]
                    digests[name].update(np.ascontiguousarray(values).data)
                    values.tofile(column)
    finally:
        for column in columns.values():
            column.close()
    summary = {
        "events": events,
        "labels": labels,
        "sha256": {name: digest.hexdigest() for name, digest in digests.items()},
    }
    return summary, np.concatenate(first)[:sample] if first else np.zeros(0, buckets.dtype)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file, waiting for another process that holds it: two jobs started at once prepare one data set."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process: {path}", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield  # the file stays: were it removed, a third process could lock another one of its name


def check_disk(folder: Path, wanted: float, what: str, quiet: bool) -> None:
    """Say how many bytes will be written to the folder, and raise BadInput where they are not free."""
    free = shutil.disk_usage(folder).free
    if not quiet:
        print(f"{what} will take about {wanted / 1e9:.2g} GB in {folder} ({free / 1e9:.3g} GB free)")
    if wanted > free:
        sizes = f"{wanted / 1e9:.3g} GB needed for {what}, {free / 1e9:.3g} GB free"
        raise BadInput(f"{folder}: {sizes}; name another folder with --config.data.folder")


def open_columns(folder: Path, split: str) -> dict[str, np.ndarray]:
    """Return the columns of a split as read-only memory maps, by name."""
    paths = sorted((folder / split).glob("*.npy"))
    return {path.stem: np.load(path, mmap_mode="r") if path.stat().st_size > 0 else np.zeros(0) for path in paths}
