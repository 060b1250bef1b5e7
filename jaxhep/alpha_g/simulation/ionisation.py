"""Ionisation along arcs in the gas, and the drift of its electrons to wires and time bins."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxhep.alpha_g.geometry import HALF_LENGTH_MM, INNER_RADIUS_MM, TIME_BIN_NS, WIRE_PITCH_RAD, WIRE_RADIUS_MM, WIRES
from jaxhep.alpha_g.simulation.drift import RADIUS_GRID_MM, drift_table
from jaxhep.alpha_g.simulation.settings import Settings
from jaxhep.alpha_g.simulation.tracks import Arcs
from jaxhep.random_numbers import Salt, fold, normal, uniform, uniform_of

TIME_BINS = 512
"""Cells are numbered wire x 512 + time bin."""


def cluster_sizes(random: np.random.Generator, clusters: int, settings: Settings) -> np.ndarray:
    """Draw numbers of electrons of clusters: falling as a power, as measured in argon (H. Fischle, J. Heintze, B.
    Schmidt, Nucl. Instrum. Meth. A 301 (1991) 202)."""
    number = np.arange(1, settings.most_electrons + 1)
    cumulative = np.cumsum(number**-settings.cluster_power)
    return 1 + np.searchsorted(cumulative / cumulative[-1], random.random(clusters).astype(np.float32))


def drifted(
    salt: Salt, arcs: Arcs, owner: jax.Array, cluster: jax.Array, settings: Settings
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return where electrons of ionisation arrive: cell (P,) int32 (wire x 512 + time bin, -1 for those that reach no
    wire in time), z in mm and amplitude (P,), 1 on average.

    arcs: arrays of shape (A,), centre (A, 2); owner (P,) int32: the arc of each electron; cluster (P,) int32: the
    number of its cluster, which lies anywhere along the arc. Electrons of a cluster diffuse each by itself.
    """
    place = uniform_of(fold(salt, 0), cluster)
    spread = normal(fold(salt, 1), 4, *owner.shape)
    table = jnp.stack(
        [arcs.centre[:, 0], arcs.centre[:, 1], arcs.radius, arcs.start, arcs.turn, arcs.z, arcs.rise, arcs.delay], -1
    )
    centre_x, centre_y, radius, start, turn, z, rise, delay = table[owner].T
    azimuth = start + turn * place
    x, y = centre_x + radius * jnp.cos(azimuth), centre_y + radius * jnp.sin(azimuth)
    z = z + rise * turn * place
    rho = jnp.hypot(x, y)
    sigma = settings.diffusion_mm * jnp.sqrt(0.1 * jnp.abs(WIRE_RADIUS_MM - rho))
    drift = drift_table()
    # Regions of |z|: one up to the first bound, then steps of 5 mm.
    row = jnp.ceil((jnp.abs(z) - drift.z[0]) / (drift.z[1] - drift.z[0]) - 1e-4).astype(jnp.int32)
    row = jnp.clip(row, 0, len(drift.z) - 1)
    folded = WIRE_RADIUS_MM - jnp.abs(WIRE_RADIUS_MM - rho - settings.longitudinal_diffusion * sigma * spread[0])
    column = jnp.clip((folded - RADIUS_GRID_MM[0]) / 0.25, 0, len(RADIUS_GRID_MM) - 1.001)
    low = column.astype(jnp.int32)
    times = jnp.asarray(drift.times_by_radius).reshape(-1)
    index = row * len(RADIUS_GRID_MM) + low
    time = times[index] + (column - low) * (times[index + 1] - times[index])
    lorentz_rows = jnp.asarray(drift.lorentz)
    instant = jnp.clip(time / TIME_BIN_NS, 0, drift.lorentz.shape[1] - 1).astype(jnp.int32)
    lorentz = lorentz_rows.reshape(-1)[row * drift.lorentz.shape[1] + instant]
    phi = jnp.arctan2(y, x) + sigma * spread[1] / jnp.maximum(rho, INNER_RADIUS_MM) + lorentz
    wire = jnp.floor(jnp.mod(phi / WIRE_PITCH_RAD, WIRES)).astype(jnp.int32) % WIRES
    time_bin = jnp.floor((jnp.abs(time + settings.time_spread_ns * spread[3]) + delay) / TIME_BIN_NS).astype(jnp.int32)
    z = jnp.clip(z + sigma * spread[2], -HALF_LENGTH_MM, HALF_LENGTH_MM)
    in_time = (time_bin >= 0) & (time_bin * TIME_BIN_NS <= jnp.asarray(drift.last)[row])
    cell = jnp.where(in_time, wire * TIME_BINS + time_bin, -1)
    return cell, z, -jnp.log(uniform(fold(salt, 2), *owner.shape))  # an avalanche is exponential
