"""Cosmic muons through the radial TPC, whose axis is vertical: intensity as the squared cosine of the zenith angle."""

import jax.numpy as jnp
import numpy as np

from jaxhep.alpha_g.geometry import HALF_LENGTH_MM, INNER_RADIUS_MM, PAD_RADIUS_MM
from jaxhep.alpha_g.simulation.settings import Settings
from jaxhep.alpha_g.simulation.tracks import MUON_MEV, Particles
from jaxhep.random_numbers import Salt, fold, uniform

TRIES = 12
SPECTRUM_MEV = 3000.0  # spectrum (p + this)^-2.7: mean 4.3 GeV/c, falling as cosmic muons do (PDG, Cosmic rays)
LEAST_MEV = 250.0  # muons below are stopped by roof and magnet
CHARGE_RATIO = 1.27  # positive to negative muons (CMS, arXiv 1005.5332)


def _zenith_table() -> tuple[np.ndarray, np.ndarray]:
    """Return zenith angles and their cumulative probability: cos^2, solid angle, and the area that a cylinder shows."""
    zenith = np.linspace(0, np.pi / 2, 512)
    area = HALF_LENGTH_MM * np.sin(zenith) + PAD_RADIUS_MM * np.cos(zenith)
    cumulative = np.cumsum(np.cos(zenith) ** 2 * np.sin(zenith) * area)
    return zenith, cumulative / cumulative[-1]


def cosmic_muons(salt: Salt, events: int, settings: Settings) -> Particles:
    """Return muons that cross the gas as two particles each, (N, 2): both start where the muon is closest to
    the axis, one going on, the other back along the way it came (with charge and momentum reversed)."""
    angle, turn, across, along = uniform(fold(salt, 0), 4, events, TRIES)
    across, along = 2 * across - 1, 2 * along - 1
    angles, cumulative = _zenith_table()
    zenith = jnp.interp(angle, cumulative, angles)
    turn = 2 * np.pi * turn
    sine, cosine = jnp.sin(zenith), jnp.cos(zenith)
    direction = jnp.stack([sine * jnp.cos(turn), sine * jnp.sin(turn), -cosine], -1)
    # A point on the plane through the middle of the chamber across the direction, within the shadow of the cylinder,
    # moved along the flight to where it is closest to the axis.
    shadow = HALF_LENGTH_MM * sine + PAD_RADIUS_MM * cosine
    impact, rise = PAD_RADIUS_MM * across, along * shadow
    height = rise / jnp.maximum(sine, 1e-3)
    point = jnp.stack([-impact * jnp.sin(turn), impact * jnp.cos(turn), height], -1)
    # Half the way through the gas must lie between the ends, at least.
    inner = jnp.sqrt(jnp.maximum(INNER_RADIUS_MM**2 - impact**2, 0.0))
    outer = jnp.sqrt(jnp.maximum(PAD_RADIUS_MM**2 - impact**2, 0.0))
    middle = (inner + outer) / 2 * cosine / jnp.maximum(sine, 1e-3)
    crosses = (jnp.minimum(jnp.abs(height - middle), jnp.abs(height + middle)) < HALF_LENGTH_MM) & (outer - inner > 5.0)
    first = jnp.argmax(crosses, axis=1)[:, None, None]
    point, direction = (jnp.take_along_axis(values, first, 1)[:, 0] for values in (point, direction))
    energy_draw, charge_draw = uniform(fold(salt, 1), 2, events)
    size = (SPECTRUM_MEV + LEAST_MEV) * energy_draw ** (-1 / 1.7) - SPECTRUM_MEV
    charge = jnp.where(charge_draw * (1 + CHARGE_RATIO) < CHARGE_RATIO, 1.0, -1.0)
    signs = jnp.array([1.0, -1.0])
    return Particles(
        jnp.repeat(point[:, None], 2, 1),
        signs[:, None] * (size[:, None] * direction)[:, None],
        signs * charge[:, None],
        jnp.full((events, 2), MUON_MEV),
        jnp.repeat(crosses.any(1)[:, None], 2, 1),
        jnp.zeros((events, 2)),
    )
