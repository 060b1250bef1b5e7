"""Annihilation of antiprotons at rest: vertices, final states of pions, and their momenta by phase space.

Final states and their shares: C. Ghesquiere (CERN 74-18, 1974), as reviewed by E. Klempt, C. Batty and J.-M. Richard
(hep-ex/0501020); charged multiplicities as ALPHA-g simulates them (arXiv 2412.00961). Resonances, etas and kaons are
left out: momenta are those of phase space. Phase space is RAMBO (R. Kleiss, W. J. Stirling, S. D. Ellis, Comput. Phys.
Commun. 40 (1986) 359) with rejection, so that every event has weight 1.
"""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxhep.alpha_g.geometry import HALF_LENGTH_MM, WALL_RADIUS_MM
from jaxhep.random_numbers import Salt, fold, uniform

PROTON_MEV = 938.272
CHARGED_PION_MEV = 139.570
NEUTRAL_PION_MEV = 134.977
MOST_CHARGED, MOST_NEUTRAL = 6, 4
MASSES = np.array([CHARGED_PION_MEV] * MOST_CHARGED + [NEUTRAL_PION_MEV] * MOST_NEUTRAL, np.float32)
CHARGES = np.array([1, -1] * (MOST_CHARGED // 2), np.float32)
ENERGY_MEV = 2 * PROTON_MEV

MULTIPLICITY = {
    "hydrogen": {0: 0.039, 2: 0.436, 4: 0.484, 6: 0.041},
    "wall": {0: 0.013, 1: 0.100, 2: 0.230, 3: 0.350, 4: 0.200, 5: 0.090, 6: 0.013},
}
"""Fractions of events by number of charged pions that leave the atom, normalised where they are used."""

NEUTRAL_SHARES = {
    0: {3: 0.5, 4: 0.5},
    2: {0: 0.37, 1: 6.9, 2: 9.3, 3: 23.3, 4: 2.8},
    4: {0: 6.9, 1: 19.6, 2: 16.6, 3: 4.2},
    6: {0: 2.1, 1: 1.85, 2: 0.3},
}
"""Relative frequency of neutral pions by number of charged ones (per cent of annihilations on hydrogen)."""

ABSORBED = 0.13  # chance that a nucleus of the wall absorbs a pion; neutral pions are absorbed likewise


class FinalState(NamedTuple):
    """Pions of N events: momenta (N, 10, 3) in MeV/c, six charged (+ - + - + -) and then four neutral; `produced` and
    `present` (N, 10) bool: present are those that no nucleus absorbed. Absent ones have momentum 0."""

    momentum: jax.Array
    produced: jax.Array
    present: jax.Array


class _Channels(NamedTuple):
    charged: np.ndarray
    neutral: np.ndarray
    remaining: np.ndarray  # charged pions after absorption
    cumulative: np.ndarray
    bound: np.ndarray  # of the weight of RAMBO


@cache
def _channels(annihilation_on: str) -> _Channels:
    """Return the final states with their cumulative probability."""
    rows = []
    fractions = MULTIPLICITY[annihilation_on]
    hydrogen = MULTIPLICITY["hydrogen"]
    total = sum(fractions.values())
    for remaining, fraction in fractions.items():
        if annihilation_on == "hydrogen":
            before = {remaining: 1.0}
        else:
            # Which annihilation left that many: Bayes, each pion being absorbed independently.
            before = {
                n: h * float(_binomial(n, remaining)) * ABSORBED ** (n - remaining) * (1 - ABSORBED) ** remaining
                for n, h in hydrogen.items()
                if n >= remaining
            }
        norm = sum(before.values())
        for charged, chance in before.items():
            shares = NEUTRAL_SHARES[charged]
            for neutral, share in shares.items():
                probability = fraction / total * chance / norm * share / sum(shares.values())
                rows.append((charged, neutral, remaining, probability))
    columns = [np.array([row[i] for row in rows], np.int32) for i in range(3)]
    weights = np.array([row[3] for row in rows])
    # Energies enter the weight through sums and products of velocities, which are largest where all are equal
    # (concavity, Minkowski): an upper bound in closed form.
    number = columns[0] + columns[1]
    mass = columns[0] * CHARGED_PION_MEV + columns[1] * NEUTRAL_PION_MEV
    velocity = np.sqrt(1 - (mass / ENERGY_MEV) ** 2)
    lightest = np.where(columns[1] > 0, NEUTRAL_PION_MEV, CHARGED_PION_MEV)
    light_velocity = np.sqrt(1 - (number * lightest / ENERGY_MEV) ** 2)
    bound = np.where(number > 2, velocity ** (2 * number - 5) * light_velocity**number, 1.0)
    cumulative = np.cumsum(weights) / weights.sum()
    return _Channels(columns[0], columns[1], columns[2], cumulative.astype(np.float32), bound.astype(np.float32))


def _binomial(n: int, k: int) -> int:
    return int(np.prod(np.arange(n - k + 1, n + 1)) / np.prod(np.arange(1, k + 1)))


def _rambo(salt: Salt, produced: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return momenta (N, 10, 3) of flat phase space at ENERGY_MEV of the produced (N, 10) pions, and weights (N,)."""
    cosine, turn, first, second = uniform(salt, 4, *produced.shape)
    cosine, turn = 2 * cosine - 1, 2 * np.pi * turn
    energy = jnp.where(produced, -jnp.log(first * second), 0.0)
    sine = jnp.sqrt(1 - cosine**2)
    direction = jnp.stack([sine * jnp.cos(turn), sine * jnp.sin(turn), cosine], -1)
    momentum = energy[..., None] * direction
    # To the rest frame of the sum, scaled to the energy wanted: massless phase space.
    sums, total = momentum.sum(1, keepdims=True), energy.sum(1, keepdims=True)
    mass = jnp.sqrt(total**2 - (sums**2).sum(-1))
    boost, gamma = -sums / mass[..., None], total / mass
    along = (boost * momentum).sum(-1)
    scale = ENERGY_MEV / mass
    momentum = momentum + boost * (energy + along / (1 + gamma))[..., None]
    momentum = scale[..., None] * momentum
    energy = scale * (gamma * energy + along)
    # Momenta shrink by one factor until the energies with masses add up.
    masses = jnp.where(produced, MASSES, 0.0)
    factor = jnp.sqrt(1 - (masses.sum(1, keepdims=True) / ENERGY_MEV) ** 2)
    for _ in range(5):
        massive = jnp.sqrt(masses**2 + (factor * energy) ** 2)
        excess = massive.sum(1, keepdims=True) - ENERGY_MEV
        slope = jnp.where(produced, factor * energy**2 / jnp.maximum(massive, 1e-6), 0.0).sum(1, keepdims=True)
        factor = factor - excess / slope
    size = factor * energy
    massive = jnp.sqrt(masses**2 + size**2)
    number = produced.sum(1)
    velocity = jnp.where(produced, size / jnp.maximum(massive, 1e-6), 1.0)
    ratio = size.sum(1) / ENERGY_MEV
    weight = jnp.prod(velocity, 1) * ratio ** (2 * number - 3) * ENERGY_MEV / (velocity * size).sum(1)
    return factor[..., None] * momentum, jnp.where(number > 2, weight, 1.0)


def final_states(salt: Salt, events: int, annihilation_on: str) -> FinalState:
    """Draw pions of annihilations at rest on "hydrogen" or on the nuclei of the "wall" (pions are then absorbed).

    Energy and momentum of the produced pions are those of proton and antiproton at rest, whatever is absorbed.
    """
    channels = _channels(annihilation_on)
    channel = jnp.searchsorted(jnp.asarray(channels.cumulative), uniform(fold(salt, 0), events))
    channel = jnp.minimum(channel, len(channels.cumulative) - 1)
    charged, neutral, remaining, bound = (
        jnp.asarray(values)[channel][:, None]
        for values in (channels.charged, channels.neutral, channels.remaining, channels.bound)
    )
    slot = jnp.arange(MOST_CHARGED + MOST_NEUTRAL)
    produced = jnp.where(slot < MOST_CHARGED, slot < charged, slot - MOST_CHARGED < neutral)

    def unfinished(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        _, done, trial = state
        return (~done).any() & (trial < 1000)

    def attempt(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        # Every row tries for an event without momenta yet, several rows for one when few are left; first come wins.
        momentum, done, trial = state
        waiting = jnp.argsort(done, stable=True)
        event = waiting[jnp.arange(events) % jnp.maximum((~done).sum(), 1)]
        drawn, weight = _rambo(fold(salt, 2 * trial + 2), produced[event])
        accepted = uniform(fold(salt, 2 * trial + 3), events) * bound[event, 0] < weight
        row = jnp.where(accepted, jnp.arange(events), events)
        winner = jnp.full(events, events).at[event].min(row)
        won = ~done & (winner < events)
        return jnp.where(won[:, None, None], drawn[jnp.minimum(winner, events - 1)], momentum), done | won, trial + 1

    start = (jnp.zeros((events, len(MASSES), 3)), jnp.zeros(events, bool), jnp.int32(0))
    momentum, _, _ = jax.lax.while_loop(unfinished, attempt, start)
    momentum = jnp.where(produced[..., None], momentum, 0.0)
    present = produced
    if annihilation_on == "wall":
        order = uniform(fold(salt, 1), *produced.shape)
        rank_of = jnp.where(produced & (slot < MOST_CHARGED), order, 2.0)
        rank = (rank_of[:, :, None] > rank_of[:, None, :]).sum(2)
        present = produced & jnp.where(slot < MOST_CHARGED, rank < remaining, order > ABSORBED)
    return FinalState(momentum, produced, present)


def photons(salt: Salt, final: FinalState) -> jax.Array:
    """Return the photons (N, 8, 3) in MeV/c, two of each neutral pion, isotropic in its rest frame; absent ones 0."""
    pion = final.momentum[:, MOST_CHARGED:]
    cosine, turn = uniform(salt, 2, *pion.shape[:2])
    cosine, turn = 2 * cosine - 1, 2 * np.pi * turn
    sine = jnp.sqrt(1 - cosine**2)
    half = NEUTRAL_PION_MEV / 2
    inside = half * jnp.stack([sine * jnp.cos(turn), sine * jnp.sin(turn), cosine], -1)
    energy = jnp.sqrt(NEUTRAL_PION_MEV**2 + (pion**2).sum(-1))
    along = (inside * pion).sum(-1) / (NEUTRAL_PION_MEV * (energy + NEUTRAL_PION_MEV))
    first = inside + pion * (along + half / NEUTRAL_PION_MEV)[..., None]
    both = jnp.concatenate([first, pion - first], 1)
    present = jnp.tile(final.present[:, MOST_CHARGED:], (1, 2))
    return jnp.where(present[..., None], both, 0.0)


def vertices(salt: Salt, events: int, distribution: str, z_range: tuple[float, float]) -> jax.Array:
    """Draw vertices (N, 3) in mm: "wall" on the trap's inner wall, "disc" uniform inside it; z uniform in z_range."""
    radius, turn, height = uniform(salt, 3, events)
    turn = 2 * np.pi * turn
    radius = WALL_RADIUS_MM * (jnp.ones_like(radius) if distribution == "wall" else jnp.sqrt(radius))
    z = z_range[0] + (z_range[1] - z_range[0]) * height
    z = jnp.clip(z, -HALF_LENGTH_MM, HALF_LENGTH_MM)
    return jnp.stack([radius * jnp.cos(turn), radius * jnp.sin(turn), z], -1)
