"""Ensembles: N members of one network as one stacked state, trained and scored in one program.

Every leaf of the state and of a training batch has a leading axis of N members. Member m has the seed of the config
plus m: initial values, order of the data, dropout and augmentation are those of the same network trained alone with
that seed. Training ends early when no member improves any more, and the checkpoint that is scored is that of the lowest
mean validation loss; a network alone would choose its own.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxhep.errors import BadInput

if TYPE_CHECKING:  # training steps run where ml_collections is missing
    from ml_collections import ConfigDict


def seeds(config: "ConfigDict") -> np.ndarray:
    """Return the members' seeds (N,).

    Raises BadInput for fewer than one member, a group that does not fit, or a seed out of range.
    """
    members, group = config.ensemble.members, config.ensemble.group
    if members < 1:
        raise BadInput(f"config.ensemble.members is {members}, wanted at least 1")
    if not 0 <= group <= members:
        raise BadInput(f"config.ensemble.group is {group}, wanted 0 (all members at a time) to {members}")
    if not 0 <= config.seed < 2**31 - members:
        raise BadInput(f"config.seed is {config.seed}, wanted 0 to {2**31 - members - 1}")
    return config.seed + np.arange(members)


def stack(init: Callable, member_seeds: np.ndarray) -> Callable[[], Any]:
    """Return () -> the state of all members, or of the single one unstacked, from seed -> state of one."""
    if len(member_seeds) == 1:
        return lambda: init(int(member_seeds[0]))
    return lambda: jax.vmap(init)(jnp.asarray(member_seeds, jnp.int32))


def train_together(train_step: Callable, members: int, group: int) -> Callable:
    """Return the step (states, batches) of all members, `group` at a time (0: all), one group after the other."""
    if members == 1:
        return train_step

    def step(states, batches):
        if 0 < group < members:
            return jax.lax.map(lambda pair: train_step(*pair), (states, batches), batch_size=group)
        return jax.vmap(train_step)(states, batches)

    return step


def score_together(eval_step: Callable, members: int, group: int) -> Callable:
    """Return the step (states, batch) that scores one batch with every member: sums (N,), outputs (N, B, ...)."""
    if members == 1:
        return eval_step

    def step(states, batch):
        if 0 < group < members:
            return jax.lax.map(lambda state: eval_step(state, batch), states, batch_size=group)
        return jax.vmap(eval_step, in_axes=(0, None))(states, batch)

    return step


def check_memory(train: Any, state: Any, batches: Any, config: "ConfigDict", device: jax.Device) -> None:
    """Raise BadInput, with the size, where a dispatch needs more memory than its device has free.

    `train` is the jitted step; `state` and `batches` have the shapes and shardings of what is not there yet. The
    program compiled here is the one that training then runs.
    """
    found = train.lower(state, batches).compile().memory_analysis()
    free = free_bytes(device)
    if found is None or free is None:
        return
    needed = found.temp_size_in_bytes + found.argument_size_in_bytes
    if needed > free:
        members = config.ensemble.members
        group = (config.ensemble.group or members) // 2
        advice = f"train groups one after the other with --config.ensemble.group={group}, or " if group else ""
        raise BadInput(
            f"an ensemble of {members} needs {needed / 1e9:.3g} GB of memory for a step, {free / 1e9:.3g} GB are free: "
            f"{advice}have fewer members or smaller batches"
        )


def free_bytes(device: jax.Device) -> int | None:
    """Return the free memory of a device, of the machine for a CPU; None where nobody tells."""
    statistics = device.memory_stats() if device.platform != "cpu" else None
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
