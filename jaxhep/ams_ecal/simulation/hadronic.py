"""Protons in the calorimeter: a cascade of fixed size, made of lines, electromagnetic showers and soft halos.

The first interaction comes after an exponentially distributed depth; before it the proton is a minimum-ionising
track. At each interaction a leading hadron carries on (up to three in a row), the rest is shared between secondaries:
neutral pions start electromagnetic showers, charged hadrons are tracks that interact once more, with a fluctuating
electromagnetic fraction. Nuclear fragments and slow tracks are halos. Constants are tuned to Geant4 (FTFP_BERT) on the
same geometry; arrays have fixed shapes, so a chunk of protons compiles once.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxhep.ams_ecal.geometry import (
    CELL_EDGES_MM,
    LAYER_CENTRES_MM,
    LAYER_EDGES_MM,
    LAYER_MM,
    LAYERS,
    THICKNESS_MM,
)
from jaxhep.ams_ecal.simulation.electromagnetic import Blobs, Lines, join
from jaxhep.ams_ecal.simulation.settings import Settings
from jaxhep.random_numbers import event_normal, event_uniform

INTERACTION_LENGTH_X0 = 17.0 / 0.66  # in radiation lengths: tuned to the share of protons that cross
LEADING_INTERACTIONS = 3
SECONDARIES = 12  # slots per interaction
SHOWERS = 16  # electromagnetic sub-showers kept per proton, the most energetic
TRACKS = 14  # charged secondaries kept as tracks
REINTERACTIONS = 9  # interactions of charged secondaries that keep a halo of their own
LEADING_BETA = 1.8  # of 500 GeV: leading energy fraction x / 0.95 ~ Beta(1, this x (E / 500 GeV)^-0.2)
SHARE_SHAPE = 1.3  # Dirichlet parameter of the shares of the secondaries
NEUTRAL_PION_SHARE, NEUTRAL_PION_RISE = 0.33, 0.020  # at 100 GeV, and per ln E of the interaction
TRANSVERSE_MOMENTUM_GEV = 0.50  # per axis
PHOTON_LENGTH_X0 = 0.35 * 9.0 / 7.0
SLOW_GEV = 0.12  # times (energy in GeV)^0.55, in slow tracks at an interaction
FRAGMENT_GEV = 0.40
HIGHEST_ELECTROMAGNETIC_PART = 0.72  # of a charged secondary that interacts; uniform below
BACKSPLASH_GEV = 1.0  # times (electromagnetic energy in GeV)^0.25


class Cascade(NamedTuple):
    """What a proton leaves: showers (energy in GeV, axis), tracks (axis, where they end in mm) and halos."""

    shower_energy: jax.Array
    showers: Lines
    tracks: Lines
    track_ends: jax.Array
    halos: Blobs


def _start(lines: Lines, z: jax.Array) -> Lines:
    """Return the same lines with their point moved to depth z."""
    along = z - lines.z
    return lines._replace(x=lines.x + lines.slope_x * along, y=lines.y + lines.slope_y * along, z=z)


def _take(lines: Lines, index: jax.Array) -> Lines:
    picked = jnp.take_along_axis(jnp.stack(lines, -1), index[..., None], 1)
    return Lines(*(picked[..., column] for column in range(len(lines))))


def _together(first: Lines, second: Lines) -> Lines:
    return Lines(*(jnp.concatenate(pair, 1) for pair in zip(first, second, strict=True)))


def _leading(
    key: jax.Array, energy_gev: jax.Array, primary: Lines, settings: Settings
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return (energy before, fraction kept, depth in mm, whether it ended by charge exchange), (N, 3) each, of the
    interactions of the leading hadron; energy 0 after a charge exchange."""
    free, share, exchange = jnp.moveaxis(event_uniform(key, energy_gev.shape[0], 3, LEADING_INTERACTIONS), 1, 0)
    length_mm = INTERACTION_LENGTH_X0 * THICKNESS_MM / settings.radiation_lengths
    depth = jnp.cumsum(-jnp.log(free), 1) * length_mm / primary.path_factor()
    depth = depth - settings.extra_radiation_lengths * THICKNESS_MM / settings.radiation_lengths
    beta = jnp.clip(LEADING_BETA * (energy_gev[:, None] / 500.0) ** -0.2, 1.2, 2.6)
    kept = 1.0 - 0.95 * share ** (1.0 / beta)
    exchanged = exchange < settings.charge_exchange
    alive = jnp.cumsum(exchanged, 1) - exchanged == 0  # the chain ends where the leading hadron became a pi0
    before = energy_gev[:, None] * jnp.concatenate([jnp.ones_like(kept[:, :1]), jnp.cumprod(kept, 1)[:, :-1]], 1)
    return before * alive, kept, depth, exchanged & alive


def _shares(released_gev: jax.Array, count_normal: jax.Array, cube_normal: jax.Array, boost: jax.Array) -> jax.Array:
    """Return the energies (N, 3, 12) in GeV of the secondaries that share the released energy (N, 3)."""
    mean = 2.0 + 2.2 * jnp.log1p(released_gev)
    count = 2.0 + jnp.maximum(jnp.round(mean + jnp.sqrt(mean) * count_normal), 0.0)
    # Shares of a Dirichlet distribution are Gamma variables over their sum; Gamma as in response.cell_gamma.
    raised = SHARE_SHAPE + 1.0
    width = np.float32(1.0 / np.sqrt(9.0 * raised))
    cube_root = jnp.maximum(1.0 - width**2 + width * cube_normal, 0.0)
    weight = cube_root**3 * jnp.exp(jnp.log(boost) / SHARE_SHAPE)
    # The slots hold the first secondaries; what more there would be is in their energies.
    weight = weight * (jnp.arange(SECONDARIES) < count[..., None])
    return released_gev[..., None] * weight / jnp.maximum(weight.sum(-1, keepdims=True), 1e-9)


def _flat(axis: Lines) -> jax.Array:
    return jnp.zeros(axis.z.shape[1])


def _local_halo(energy_gev: jax.Array, axis: Lines, forward_mm: float, radius_mm: float, widening: float) -> Blobs:
    """Return soft energy (N, S) around the point of each axis: exponential along it, 8 mm long backwards."""
    edges = LAYER_EDGES_MM.astype(np.float32) - axis.z[..., None]
    below = jnp.where(
        edges < 0,
        8.0 / (8.0 + forward_mm) * jnp.exp(jnp.minimum(edges, 0.0) / 8.0),
        1.0 - forward_mm / (8.0 + forward_mm) * jnp.exp(-jnp.maximum(edges, 0.0) / forward_mm),
    )
    centre, _ = axis.measured()
    beyond = jnp.maximum(LAYER_CENTRES_MM.astype(np.float32) - axis.z[..., None], 0.0)
    return Blobs(
        energy_gev[..., None] * (below[..., 1:] - below[..., :-1]),
        centre,
        radius_mm + widening * beyond,
        _flat(axis),
    )


def backsplash(energy_gev: jax.Array, axis: Lines, length_mm: float, widening: float) -> Blobs:
    """Return energy (N, 1, 18), of (N, 1) GeV in all, around 60 mm behind the point of the axis: exponential with the
    given length, narrow behind that depth and the wider the further in front of it (scattered back by the shower)."""
    before = axis.z[..., None] + 60.0 - LAYER_CENTRES_MM.astype(np.float32)
    centre, _ = axis.measured()
    energy = energy_gev[..., None] * jnp.exp(-jnp.abs(before) / length_mm) * (LAYER_MM / (2 * length_mm))
    return Blobs(energy, centre, 6.0 + widening * jnp.maximum(before, 0.0), _flat(axis))


def cascade(key: jax.Array, energy_gev: jax.Array, primary: Lines, settings: Settings) -> Cascade:
    """Draw the cascades of protons of (N,) GeV on their primary lines (N, 1)."""
    leading_key, normal_key, slot_key, vertex_key, event_key = jax.random.split(key, 5)
    events = energy_gev.shape[0]
    before, kept, depth, exchanged = _leading(leading_key, energy_gev, primary, settings)
    slots = (events, LEADING_INTERACTIONS, SECONDARIES)
    normal = jnp.moveaxis(lax.optimization_barrier(event_normal(normal_key, events, 4, *slots[1:])), 1, 0)
    boost, kind, free, share, conversion = jnp.moveaxis(
        lax.optimization_barrier(event_uniform(slot_key, events, 5, *slots[1:])), 1, 0
    )
    energies = _shares(before * (1.0 - kept), normal[0, ..., 0], normal[1], boost)
    # Secondaries: direction by transverse momentum, kind, where they shower or interact.
    kick = jnp.clip(TRANSVERSE_MOMENTUM_GEV * normal[2:] / jnp.maximum(energies, 0.1), -1.5, 1.5)
    vertices = Lines(*(jnp.broadcast_to(values, depth.shape) for values in _start(primary, depth)))
    lines = Lines(*(jnp.broadcast_to(values[..., None], slots) for values in vertices))
    lines = lines._replace(slope_x=lines.slope_x + kick[0], slope_y=lines.slope_y + kick[1])
    neutral = kind < NEUTRAL_PION_SHARE + NEUTRAL_PION_RISE * jnp.log(jnp.maximum(before, 1.0) / 100.0)[..., None]
    flat = (events, LEADING_INTERACTIONS * SECONDARIES)
    lines = Lines(*(values.reshape(flat) for values in lines))
    energies, neutral, free, share, conversion = (
        values.reshape(flat) for values in (energies, neutral, free, share, conversion)
    )
    x0_mm = THICKNESS_MM / settings.radiation_lengths
    secondary_x0_mm = x0_mm / lines.path_factor()
    travelled = jnp.where(neutral, 0.0, -1.15 * INTERACTION_LENGTH_X0 * secondary_x0_mm * jnp.log(free))
    ends = lines.z + travelled
    shower_energy = energies * jnp.where(neutral, 1.0, HIGHEST_ELECTROMAGNETIC_PART * share)
    showers = _start(lines, ends - PHOTON_LENGTH_X0 * secondary_x0_mm * jnp.log(conversion))
    # The barrier keeps XLA from computing all of the above again in each of the selections below.
    energies, lines, ends, showers, shower_energy = lax.optimization_barrier(
        (energies, lines, ends, showers, shower_energy)
    )
    rank_energy, chosen = lax.top_k(shower_energy * (showers.z < THICKNESS_MM), SHOWERS - 1)
    # Charge exchange of the leading hadron: one shower, of most of its energy, along the primary's direction.
    part, photon, scatter = jnp.moveaxis(event_uniform(event_key, events, 3, 1), 1, 0)
    exchange_energy = jnp.sqrt(part) * (before * kept * exchanged).sum(1, keepdims=True)
    exchange_depth = (depth * exchanged).sum(1, keepdims=True)
    exchange = _start(primary, exchange_depth - PHOTON_LENGTH_X0 * x0_mm / primary.path_factor() * jnp.log(photon))
    shower_lines = _together(exchange, _take(showers, chosen))
    shower_energy = jnp.concatenate([exchange_energy, rank_energy], 1)
    # Tracks: the primary (with the leading hadrons after it), then charged secondaries by energy, which go on for a
    # while where they interact.
    rank, chosen = lax.top_k(jnp.where(neutral, 0.0, energies) * (lines.z < THICKNESS_MM), TRACKS)
    secondaries = _take(lines, chosen)
    secondary_ends = jnp.where(rank > 0.1, jnp.take_along_axis(ends + 40.0, chosen, 1), secondaries.z)
    primary_end = jnp.where(exchanged.any(1, keepdims=True), exchange_depth, THICKNESS_MM)
    # Halos: fragments and slow tracks at the leading interactions and at the strongest of the others.
    again, chosen = lax.top_k(jnp.where(neutral | (ends > THICKNESS_MM), 0.0, energies), REINTERACTIONS)
    points = _together(vertices, _take(_start(lines, ends), chosen))
    interacting = jnp.concatenate([before, again], 1)
    fragments, slow = jnp.moveaxis(-jnp.log(event_uniform(vertex_key, events, 2, interacting.shape[1])), 1, 0)
    active = (interacting > 0.1) & (points.z < THICKNESS_MM)
    fragments = (0.02 + FRAGMENT_GEV * fragments) * active
    slow = SLOW_GEV * jnp.maximum(interacting, 0.1) ** 0.55 * slow * active
    total = shower_energy.sum(1, keepdims=True)
    scattered = -BACKSPLASH_GEV * total**0.25 * jnp.log(scatter) * (depth[:, :1] < THICKNESS_MM)
    halos = join(
        _local_halo(fragments, points, 15.0, 6.0, 0.3),
        _local_halo(slow, points, 60.0, 5.0, 0.4),
        backsplash(scattered, _start(primary, depth[:, :1]), 60.0, 0.8),
    )
    return Cascade(
        shower_energy,
        shower_lines,
        _together(primary, secondaries),
        jnp.concatenate([primary_end, secondary_ends], 1),
        halos,
    )


def track_deposits(key: jax.Array, tracks: Lines, ends: jax.Array) -> jax.Array:
    """Return the energy (N, 18, 72) in GeV that minimum-ionising tracks (N, S) leave between their point and their
    end depth (N, S) in mm.

    Per layer 7.4 MeV (log-normal, 7 %) + an exponential of 1.4 MeV, and with a probability of 6 % rising by 1 % per
    layer (knock-on electrons and photons gathered on the way) a second exponential of 14 MeV: quantiles of Geant4.
    """
    normal_key, uniform_key = jax.random.split(key)
    shape = (*ends.shape, LAYERS)
    spread, knocked = jnp.moveaxis(event_uniform(uniform_key, shape[0], 2, *shape[1:]), 1, 0)
    deposit = 7.4 * jnp.exp(0.07 * event_normal(normal_key, *shape)) - 1.4 * jnp.log(spread)
    # One uniform number decides and, where it is below the chance, gives the exponential.
    chance = 0.06 + 0.01 * jnp.arange(LAYERS)
    deposit = deposit - 14.0 * jnp.minimum(jnp.log(knocked / chance), 0.0)
    top = jnp.maximum(LAYER_EDGES_MM[:-1].astype(np.float32), tracks.z[..., None])
    bottom = jnp.minimum(LAYER_EDGES_MM[1:].astype(np.float32), ends[..., None])
    path = jnp.maximum(bottom - top, 0.0) / LAYER_MM * tracks.path_factor()[..., None]
    centre, slope = tracks.measured()
    middle = centre + slope * ((top + bottom) / 2 - LAYER_CENTRES_MM.astype(np.float32))
    half = jnp.abs(slope) * jnp.maximum(bottom - top, 0.0) / 2 + 0.3
    edges = CELL_EDGES_MM.astype(np.float32)
    energy = 1e-3 * deposit * path

    def add(below: jax.Array, track: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        energy, middle, half = (values[..., None] for values in track)
        return below + 0.5 * energy * jnp.clip((edges - middle) / half, -1.0, 1.0), None

    by_track = tuple(jnp.moveaxis(values, 1, 0) for values in (energy, middle, half))
    below, _ = lax.scan(add, jnp.zeros((shape[0], LAYERS, len(edges)), jnp.float32), by_track)
    return jnp.maximum(below[..., 1:] - below[..., :-1], 0.0)
