"""Columns of a split kept on the devices: read once, then batches are gathered there, and only their order travels."""

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from jaxhep.data import Split
from jaxhep.ensemble import free_bytes
from jaxhep.errors import BadInput, one_of

CHOICES = ("auto", "device", "host")


def check(config: ConfigDict) -> None:
    """Raise BadInput where config.parallel.data is none of the choices."""
    one_of(config.parallel.data, CHOICES, "config.parallel.data")


def bytes_of(split: Split, names: tuple[str, ...]) -> int:
    """Return the size of the named columns of the events used."""
    columns = (split.columns[name] for name in names)
    return sum(len(split) * column.dtype.itemsize * math.prod(column.shape[1:]) for column in columns)


def wanted(config: ConfigDict, size: int, device: jax.Device) -> bool:
    """Return whether columns of `size` bytes are to be kept on the devices.

    "auto" keeps them on accelerators where they take at most config.parallel.data_gb and half of what one device has
    free; in a CPU's memory, where they are mapped anyway, nothing is gained. Raises BadInput for "device" with more
    than config.parallel.data_gb.
    """
    chosen, limit = config.parallel.data, config.parallel.data_gb * 1e9
    if chosen == "device" and size > limit:
        raise BadInput(
            f"the training columns take {size / 1e9:.3g} GB, config.parallel.data_gb allows {limit / 1e9:.3g}: raise it, "
            "or say --config.parallel.data=host"
        )
    if chosen != "auto" or device.platform == "cpu":
        return chosen == "device"
    free = free_bytes(device)
    return size <= limit and (free is None or size <= free / 2)


def events_placed(split: Split, sharding: NamedSharding) -> int:
    """Return the events of placed columns: of those that are shared among devices, as many as divide."""
    shards = len(sharding.device_set) if sharding.spec else 1
    return -(-len(split) // shards) * shards


def shapes_of(split: Split, names: tuple[str, ...], sharding: NamedSharding) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes of what `place` gives."""
    events, columns = events_placed(split, sharding), split.columns
    return {
        n: jax.ShapeDtypeStruct((events, *columns[n].shape[1:]), columns[n].dtype, sharding=sharding) for n in names
    }


def place(split: Split, names: tuple[str, ...], sharding: NamedSharding) -> dict[str, jax.Array]:
    """Return the named columns of the events used as arrays on the devices.

    Where the sharding shares events among devices, events of zeros are added until they divide; no order names them.
    """
    events = events_placed(split, sharding)

    def column(name: str) -> jax.Array:
        values = split.columns[name]

        def part(index: Any) -> np.ndarray:
            chosen = split.events[index[0]]
            missing = len(range(*index[0].indices(events))) - len(chosen)
            found = np.asarray(values[chosen])
            return np.concatenate([found, np.zeros((missing, *found.shape[1:]), found.dtype)]) if missing else found

        return jax.make_array_from_callback((events, *values.shape[1:]), sharding, part)

    return {name: column(name) for name in names}
