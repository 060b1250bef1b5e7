"""The particles that come to the calorimeter: energies, weights to the cosmic-ray spectrum, points and directions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxhep.ams_ecal.geometry import THICKNESS_MM
from jaxhep.ams_ecal.simulation.settings import Settings

PHYSICAL_INDEX = {"electron": 3.2, "proton": 2.7}
"""Spectral index of the cosmic-ray flux E^-index to which `weight` brings the generated spectrum."""


class Primaries(NamedTuple):
    """Particles at the front face, (N,) each: GeV, weight to the physical spectrum, mm, slopes dx/dz and dy/dz."""

    energy: jax.Array
    weight: jax.Array
    x: jax.Array
    y: jax.Array
    slope_x: jax.Array
    slope_y: jax.Array


def _power_norm(index: float, low: float, high: float) -> float:
    """Return the integral of E^-index from low to high."""
    return float(
        np.log(high / low) if abs(index - 1) < 1e-6 else (high ** (1 - index) - low ** (1 - index)) / (1 - index)
    )


def draw_primaries(key: jax.Array, species: str, events: int, settings: Settings) -> Primaries:
    """Draw energies, weights, entry points and directions. Weights bring the generated spectrum to E^-3.2 (electrons)
    or E^-2.7 (protons) over the same range, with mean 1."""
    energy_key, direction_key, position_key = jax.random.split(key, 3)
    low, high = settings.electron_energy_gev if species == "electron" else settings.proton_energy_gev
    index = 1.0 if settings.spectrum == "log_flat" else settings.spectral_index
    uniform = jax.random.uniform(energy_key, (events,))
    if abs(index - 1) < 1e-6:
        energy = low * jnp.exp(uniform * np.log(high / low))
    else:
        power = 1.0 - index
        energy = low * (1.0 + uniform * ((high / low) ** power - 1.0)) ** (1.0 / power)
    energy = jnp.clip(energy, low, high)
    physical = PHYSICAL_INDEX[species]
    norm = _power_norm(index, low, high) / _power_norm(physical, low, high)
    weight = norm * low ** (index - physical) * (energy / low) ** (index - physical)
    # Directions and entry points together, the first of eight tries that crosses (each does with 0.9 or so).
    tries = (events, 8)
    cosine, turn = jax.random.uniform(direction_key, (2, *tries))
    cosine = 1.0 - cosine * (1.0 - np.cos(np.radians(settings.cone_angle_deg)))
    slope = jnp.sqrt(1.0 - cosine**2) / cosine
    slope_x, slope_y = slope * jnp.cos(2 * np.pi * turn), slope * jnp.sin(2 * np.pi * turn)
    x, y = settings.acceptance_mm * jax.random.uniform(position_key, (2, *tries), minval=-1.0)
    leaves = jnp.maximum(jnp.abs(x + THICKNESS_MM * slope_x), jnp.abs(y + THICKNESS_MM * slope_y))
    first = jnp.argmax(leaves < settings.acceptance_mm, axis=1)[:, None]
    chosen = (jnp.take_along_axis(values, first, 1)[:, 0] for values in (x, y, slope_x, slope_y))
    return Primaries(energy, weight, *chosen)
