"""Charged particles on helices in the field: closed-form crossing of cylinders, and arcs in the gas.

A particle of transverse momentum pT moves on a circle of radius pT / (0.2998 B). With d the distance of the circle's
centre from the axis and R its radius, the circle is at distance rho from the axis where the angle at the centre between
the directions to the particle and away from the axis has cosine (rho^2 - d^2 - R^2) / (2 d R): nothing is stepped.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxhep.alpha_g.geometry import HALF_LENGTH_MM, INNER_RADIUS_MM, MEV_PER_TESLA_MM, PAD_RADIUS_MM
from jaxhep.alpha_g.simulation.settings import Settings

ELECTRON_MEV = 0.511
MUON_MEV = 105.658


class Particles(NamedTuple):
    """Particles, arrays of one shape: position in mm, momentum in MeV/c (..., 3); charge, mass in MeV, `alive`, and
    `delay` in ns (of positrons from muons at rest)."""

    position: jax.Array
    momentum: jax.Array
    charge: jax.Array
    mass: jax.Array
    alive: jax.Array
    delay: jax.Array


class Arcs(NamedTuple):
    """Arcs of helices in the gas, arrays of one shape: centre (..., 2) and radius of the circle in mm, `start` azimuth
    in rad seen from the centre, `turn` in rad (negative for positive charge; 0 where there is no arc), height at the
    start and rise per radian in mm, `clusters` expected, `delay` in ns."""

    centre: jax.Array
    radius: jax.Array
    start: jax.Array
    turn: jax.Array
    z: jax.Array
    rise: jax.Array
    clusters: jax.Array
    delay: jax.Array


class Circle(NamedTuple):
    """Circles of particles: centre (..., 2), distance of the centre from the axis, radius, direction of turning
    (-1 for positive charge), azimuth of the particle seen from the centre, and the angle at the centre from the
    direction away from the axis, counted along the flight."""

    centre: jax.Array
    distance: jax.Array
    radius: jax.Array
    sign: jax.Array
    azimuth: jax.Array
    angle: jax.Array


def circle(particles: Particles, field_tesla: float) -> Circle:
    """Return the circles on which particles move, seen along the field."""
    px, py = particles.momentum[..., 0], particles.momentum[..., 1]
    scale = 1.0 / (MEV_PER_TESLA_MM * field_tesla)
    sign = -particles.charge
    away_x, away_y = sign * py * scale, -sign * px * scale  # from the centre to the particle
    x, y = particles.position[..., 0] - away_x, particles.position[..., 1] - away_y
    azimuth = jnp.arctan2(away_y, away_x)
    angle = sign * jnp.arctan2(x * away_y - y * away_x, x * away_x + y * away_y)
    radius = jnp.maximum(scale * jnp.hypot(px, py), 1e-3)
    return Circle(jnp.stack([x, y], -1), jnp.maximum(jnp.hypot(x, y), 1e-3), radius, sign, azimuth, angle)


def turn_to(path: Circle, rho: jax.typing.ArrayLike, outwards: bool = True) -> tuple[jax.Array, jax.Array]:
    """Return the angle in rad (0 to 2 pi) by which particles turn until they next cross the cylinder of radius rho in
    that direction, and whether they ever do."""
    cosine = (rho**2 - path.distance**2 - path.radius**2) / (2 * path.distance * path.radius)
    crossing = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))
    crossing = -crossing if outwards else crossing
    return jnp.mod(crossing - path.angle, 2 * np.pi), jnp.abs(cosine) < 1.0


def advance(particles: Particles, path: Circle, turn: jax.Array) -> Particles:
    """Return the particles after turning by `turn` rad."""
    azimuth = path.azimuth + path.sign * turn
    px, py, pz = (particles.momentum[..., i] for i in range(3))
    transverse = jnp.hypot(px, py)
    rise = path.radius * pz / jnp.maximum(transverse, 1e-3)
    cosine, sine = jnp.cos(azimuth), jnp.sin(azimuth)
    position = jnp.stack(
        [
            path.centre[..., 0] + path.radius * cosine,
            path.centre[..., 1] + path.radius * sine,
            particles.position[..., 2] + rise * turn,
        ],
        -1,
    )
    momentum = jnp.stack([-path.sign * transverse * sine, path.sign * transverse * cosine, pz], -1)
    return particles._replace(position=position, momentum=momentum)


def to_cylinder(particles: Particles, rho: jax.typing.ArrayLike, field_tesla: float) -> Particles:
    """Return particles where they first cross the cylinder outwards; those that never do are no longer alive."""
    path = circle(particles, field_tesla)
    turn, reaches = turn_to(path, rho)
    return advance(particles, path, turn)._replace(alive=particles.alive & reaches)


def gas_arcs(particles: Particles, settings: Settings) -> Arcs:
    """Return the arcs (N, 2 S) in the gas of particles (N, S) that enter it: until they reach an end, its inner or its
    outer wall; and, of circles that stay within the return radius, from where they come back through the outer wall."""
    path = circle(particles, settings.field_tesla)
    whole = 2 * np.pi
    outward, leaves = turn_to(path, PAD_RADIUS_MM)
    back, _ = turn_to(path, PAD_RADIUS_MM, outwards=False)
    inward, returns = turn_to(path, INNER_RADIUS_MM, outwards=False)
    outward, inward = jnp.where(leaves, outward, whole), jnp.where(returns, inward, whole)
    outside = jnp.hypot(particles.position[..., 0], particles.position[..., 1]) > PAD_RADIUS_MM
    stays = leaves & (path.distance + path.radius < settings.return_radius_mm)
    returning = stays & (outside | (outward < inward))
    last = jnp.where(outside, jnp.minimum(outward, inward), inward)
    begins = jnp.concatenate([jnp.where(outside, whole, 0.0), jnp.where(returning, back, whole)], 1)
    ends = jnp.concatenate([jnp.minimum(outward, inward), jnp.where(returning, last, 0.0)], 1)
    both = jax.tree.map(lambda values: jnp.concatenate([values, values], 1), (particles, path))
    return _arcs_between(both[0], both[1], begins, ends, settings)


def _arcs_between(particles: Particles, path: Circle, begin: jax.Array, end: jax.Array, settings: Settings) -> Arcs:
    """Return the arcs of particles from one turn to another, in rad, as far as they are between the chamber's ends."""
    momentum2 = (particles.momentum**2).sum(-1)
    transverse = jnp.maximum(jnp.hypot(particles.momentum[..., 0], particles.momentum[..., 1]), 1e-3)
    slope = particles.momentum[..., 2] / transverse
    rise = path.radius * slope
    height = particles.position[..., 2]
    steep = jnp.maximum(jnp.abs(rise), 1e-6)
    along = jnp.where(rise < 0, -height, height)  # towards the end that the particle moves to
    begin = jnp.maximum(begin, (-HALF_LENGTH_MM - along) / steep)
    turn = jnp.minimum(end, (HALF_LENGTH_MM - along) / steep) - begin
    turn = jnp.where(particles.alive & (turn > 0), turn, 0.0)
    length_cm = 0.1 * turn * path.radius * jnp.sqrt(1 + slope**2)
    velocity2 = momentum2 / (momentum2 + particles.mass**2 + 1e-6)
    heavy = settings.clusters_per_cm * jnp.maximum(velocity2, 0.02) ** -settings.velocity_power
    density = jnp.where(particles.mass < 1.0, settings.electron_clusters_per_cm, heavy)
    begin = jnp.where(turn > 0, begin, 0.0)
    return Arcs(
        path.centre,
        path.radius,
        path.azimuth + path.sign * begin,
        path.sign * turn,
        height + rise * begin,
        path.sign * rise,
        density * length_cm,
        particles.delay,
    )


def select(chosen: jax.Array, one: Particles, other: Particles) -> Particles:
    """Return `one` where chosen (...) and `other` elsewhere."""
    return jax.tree.map(lambda a, b: jnp.where(chosen[..., None] if a.ndim > chosen.ndim else chosen, a, b), one, other)
