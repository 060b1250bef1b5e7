"""Events on their way from files to columns: what a reader yields, and the hash that shuffles and splits them.

An event's key depends on its identity alone, so that more files move no event from one split to another.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

SPLITS = ("train", "validation", "test")


class Chunk(NamedTuple):
    """Records of one range of entries, ready to be shuffled into columns."""

    records: np.ndarray  # of the experiment's record_dtype, selected events only
    split: np.ndarray  # (n,) index into SPLITS
    read: int  # entries read
    dropped: dict[str, int]  # reason -> entries left out
    next_entry: int
    settled: bool  # everything left out so far has been counted: reading may begin anew at next_entry


def mix(values: np.ndarray) -> np.ndarray:
    """Return the splitmix64 finaliser of 64-bit values (Steele, Lea, Flood 2014): equal in, equal out, else random."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))


def keys_of(label: np.ndarray, *identity: np.ndarray) -> np.ndarray:
    """Return a 64-bit hash per event of its label and the columns (n,) that identify it, floats by their bits."""
    key = label.astype(np.uint64)
    for values in identity:
        exact = np.float64 if values.dtype.kind == "f" else np.int64
        key = mix(key ^ values.astype(exact).view(np.uint64))
    return key


def uniform(keys: np.ndarray) -> np.ndarray:
    """Return a number in [0, 1) for each key (n,), which is uniform over keys."""
    return (keys >> np.uint64(11)).astype(np.float64) / 2.0**53


def choose_split(keys: np.ndarray, fractions: Mapping[str, float]) -> np.ndarray:
    """Return the index into SPLITS (n,) of events that go to the splits named by fractions, which sum to one."""
    edges = np.cumsum(list(fractions.values()))
    chosen = np.searchsorted(edges[:-1], uniform(keys), side="right")
    return np.array([SPLITS.index(name) for name in fractions])[chosen]


def shuffling(keys: np.ndarray) -> np.ndarray:
    """Return the keys by which events are shuffled: within a split those that split are not uniform any more."""
    return mix(keys ^ np.uint64(0x5851F42D4C957F2D))
