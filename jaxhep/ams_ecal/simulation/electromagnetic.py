"""Electromagnetic showers in the calorimeter: the GFLASH parametrisation, with the radial form integrated in each cell.

G. Grindhammer and S. Peters, "The parameterized simulation of electromagnetic showers in homogeneous and sampling
calorimeters", hep-ex/0001020: homogeneous form, with the calorimeter's mean atomic number, critical energy and Moliere
radius. Correlated fluctuations are widened to those of Geant4 on the same geometry.
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
    MEASURES_X,
    THICKNESS_MM,
)
from jaxhep.ams_ecal.simulation.settings import Settings
from jaxhep.random_numbers import event_normal

ATOMIC_NUMBER = 65.0
CRITICAL_ENERGY_GEV = 0.0076
LOWEST_SHAPE_ENERGY_GEV = 0.3  # below it the parametrised shape is that of this energy: its logarithms run out
# Fitted to the layer energies of Geant4 electrons of 50-700 GeV on the same geometry, relative to hep-ex/0001020:
DEPTH_SHIFT, A_SHIFT, A_RISE = 0.017, 0.027, 0.033  # of the means of ln T and ln a (rise per ln E, from 150 GeV)
DEPTH_SPREAD, A_SPREAD = 1.065, 0.912  # factors on the spreads
CORRELATION = 0.575  # of ln T and ln a
SKEWNESS = (0.03, 0.63)  # of their common and their opposite fluctuation
CONTAINED = 0.9675  # what is left in the layers by an endless shower of this form
CORE_SCALE, TAIL_SCALE = 0.88, 1.76  # radii relative to the parametrisation, the second for its steeper tail here
CORE_SHARE_RISE = 0.012  # relative, per ln E from 75 GeV: Geant4 showers grow slimmer with energy
PHOTONS_SCALE = 1.15  # radii of a shower that several photons start together
TAIL_SPREAD = 0.07  # relative, of the tail radius from shower to shower
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(3)


class Lines(NamedTuple):
    """Straight lines, arrays of one shape (N, S): x and y in mm at depth z in mm, and slopes dx/dz, dy/dz."""

    x: jax.Array
    y: jax.Array
    z: jax.Array
    slope_x: jax.Array
    slope_y: jax.Array

    def path_factor(self) -> jax.Array:
        """Return path length per depth, 1 / cos(angle to the z axis)."""
        return jnp.sqrt(1.0 + self.slope_x**2 + self.slope_y**2)

    def measured(self) -> tuple[jax.Array, jax.Array]:
        """Return (position at layer centres in mm, slope), each (N, S, 18), in each layer's measured coordinate."""
        along = LAYER_CENTRES_MM.astype(np.float32) - self.z[..., None]
        slope = jnp.where(MEASURES_X, self.slope_x[..., None], self.slope_y[..., None])
        return jnp.where(MEASURES_X, self.x[..., None], self.y[..., None]) + slope * along, slope


class Blobs(NamedTuple):
    """Energy spread smoothly over the cells of a layer, arrays (N, S, 18): energy in GeV, centre and radius in mm.

    steep, (S,): 0 for the radial form 2 r R^2 / (r^2 + R^2)^2, 1 for 4 r R^4 / (r^2 + R^2)^3.
    """

    energy: jax.Array
    centre: jax.Array
    radius: jax.Array
    steep: jax.Array


def join(*blobs: Blobs) -> Blobs:
    """Return the blobs of all arguments as one."""
    energy, centre, radius = (jnp.concatenate(parts, 1) for parts in zip(*(some[:3] for some in blobs), strict=True))
    return Blobs(energy, centre, radius, jnp.concatenate([some.steep for some in blobs]))


def longitudinal_shape(normal: jax.Array, energy_gev: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the Gamma profile of showers: (T, a, exp of the mean of ln a), each of the shape of energy_gev.

    normal: (2, *shape of energy_gev) standard normal numbers, which make the fluctuations.
    T is the depth of the maximum in radiation lengths; dE/dt is proportional to (bt)^(a-1) exp(-bt), b = (a-1)/T.
    """
    log_y = jnp.log(jnp.maximum(energy_gev, LOWEST_SHAPE_ENERGY_GEV) / CRITICAL_ENERGY_GEV)
    mean_depth = jnp.log(log_y - 0.812) + DEPTH_SHIFT
    mean_a = jnp.log(0.81 + (0.458 + 2.26 / ATOMIC_NUMBER) * log_y)
    mean_a = mean_a + A_SHIFT + A_RISE * jnp.log(jnp.maximum(energy_gev, LOWEST_SHAPE_ENERGY_GEV) / 150.0)
    normal = jnp.clip(normal, -3.5, 3.5)
    skewed = [(z + s * (z**2 - 1.0)) / np.sqrt(1.0 + 2.0 * s**2) for z, s in zip(normal, SKEWNESS, strict=True)]
    together, apart = np.sqrt((1 + CORRELATION) / 2) * skewed[0], np.sqrt((1 - CORRELATION) / 2) * skewed[1]
    log_depth = mean_depth + DEPTH_SPREAD / (-1.4 + 1.26 * log_y) * (together + apart)
    log_a = mean_a + A_SPREAD / (-0.58 + 0.86 * log_y) * (together - apart)
    return jnp.exp(log_depth), jnp.maximum(jnp.exp(log_a), 1.1), jnp.exp(mean_a)


def shower_blobs(key: jax.Array, energy_gev: jax.Array, lines: Lines, settings: Settings, photons: int = 1) -> Blobs:
    """Return the core and tail of each shower in each layer: Blobs of (N, 2 S, 18).

    energy_gev: (N, S), 0 for no shower; lines: axis of each shower, with the start of the shower as its point;
    photons: number of equal photons each shower's shape is that of. Energy in a layer is the integral of the profile
    by Gauss and Legendre, which keeps what leaks out at the back.
    """
    # Two numbers for the profile, one for the tail, one for the axis in each layer, all of one draw.
    normal = event_normal(key, *energy_gev.shape, LAYERS + 3)
    profile = longitudinal_shape(jnp.moveaxis(normal[..., :2], -1, 0), energy_gev / photons)
    depth_of_maximum, a, mean_a = (values[..., None] for values in profile)
    per_mm = (settings.radiation_lengths / THICKNESS_MM * lines.path_factor())[..., None]
    edges = jnp.maximum((LAYER_EDGES_MM.astype(np.float32) - lines.z[..., None]) * per_mm, 0.0)
    half = (edges[..., 1:] - edges[..., :-1]) / 2
    middle = (edges[..., 1:] + edges[..., :-1]) / 2
    b = (a - 1.0) / depth_of_maximum
    norm = jnp.log(b) - lax.lgamma(a)
    fraction = jnp.zeros_like(middle)
    for node, weight in zip(NODES, NODE_WEIGHTS, strict=True):
        scaled = b * jnp.maximum(middle + node * half, 1e-6)
        fraction = fraction + weight * half * jnp.exp(norm + (a - 1.0) * jnp.log(scaled) - scaled)
    energy = CONTAINED * energy_gev[..., None] * fraction
    tau = middle / depth_of_maximum * (a - 1.0) / a * mean_a / (mean_a - 1.0)
    core, tail, core_share = radial_shape(energy_gev[..., None], jnp.minimum(tau, 4.0))
    centre, slope = lines.measured()
    # Early on, few particles make the shower: its axis in a layer is that of the branches that happen to be there.
    wander = 4.0 / jnp.maximum(middle, 1.1)
    centre = centre + wander * normal[..., 3:]
    # A cut across an inclined shower is wider; within a layer the axis moves, smeared in quadrature (half of a
    # uniform density lies within a quarter of its width, half of the radial form within 0.577 radii).
    stretch = settings.moliere_radius_mm * jnp.sqrt(1.0 + slope**2) * (1.0 if photons == 1 else PHOTONS_SCALE)
    moved = 0.43 * LAYER_MM * slope
    core = jnp.sqrt((CORE_SCALE * stretch * core) ** 2 + moved**2)
    tail = tail * jnp.exp(TAIL_SPREAD * normal[..., 2:3])
    flat, steep = jnp.zeros(energy_gev.shape[1]), jnp.ones(energy_gev.shape[1])
    return join(
        Blobs(energy * core_share, centre, core, flat),
        Blobs(energy * (1.0 - core_share), centre, TAIL_SCALE * stretch * tail, steep),
    )


def radial_shape(energy_gev: jax.Array, tau: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return core radius, tail radius (Moliere radii) and share of the core, at shower age tau = t / T (corrected)."""
    log_energy = jnp.log(jnp.maximum(energy_gev, LOWEST_SHAPE_ENERGY_GEV))
    core = 0.0251 + 0.00319 * log_energy + (0.1162 - 0.000381 * ATOMIC_NUMBER) * tau
    rise = jnp.exp(-2.59 * (tau - 0.645)) + jnp.exp((0.3585 + 0.0412 * log_energy) * (tau - 0.645))
    tail = (0.659 - 0.00309 * ATOMIC_NUMBER) * rise
    age = (0.401 + 0.00187 * ATOMIC_NUMBER - tau) / (1.313 - 0.0686 * log_energy)
    share = (
        (1.0 + CORE_SHARE_RISE * (log_energy - np.log(75.0)))
        * (2.632 - 0.00094 * ATOMIC_NUMBER)
        * jnp.exp(age - jnp.exp(age))
    )
    return core, tail, jnp.clip(share, 0.0, 1.0)


def spread_over_cells(blobs: Blobs) -> jax.Array:
    """Return the energy (N, 18, 72) in GeV in the cells of each layer, summed over the blobs.

    Seen along one axis, 2 r R^2 / (r^2 + R^2)^2 has the cumulative distribution (1 + s) / 2 with
    s = u / sqrt(u^2 + R^2), and the steeper 4 r R^4 / (r^2 + R^2)^3 has (1 + s (3 - s^2) / 2) / 2: the energy between
    two cell edges is a difference, with nothing cut at any radius.
    """
    edges = CELL_EDGES_MM.astype(np.float32)
    events = blobs.energy.shape[0]

    def add(below: jax.Array, blob: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        energy, centre, radius, steep = (values[..., None] for values in blob)
        distance = edges - centre
        step = distance * lax.rsqrt(distance**2 + radius**2)
        return below + 0.5 * energy * step * (1.0 + 0.5 * steep * (1.0 - step**2)), None

    # A scan, not one fused sum: ten times faster on a CPU.
    by_blob = (jnp.moveaxis(values, 1, 0) for values in blobs[:3])
    below, _ = lax.scan(add, jnp.zeros((events, LAYERS, len(edges)), jnp.float32), (*by_blob, blobs.steep))
    return jnp.maximum(below[..., 1:] - below[..., :-1], 0.0)
