"""Material between trap and gas: scattering, loss of energy, decay, absorption, and conversion of photons.

Two thin cylinders stand for trap electrodes and for magnet, cryostat and inner wall; photons convert in the outer wall
too. Multiple scattering: V. L. Highland's formula (PDG, "Passage of particles through matter"); radiation: W. Heitler's
law of energy loss, approximated; ionisation: 5/3 power of velocity.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxhep.alpha_g.geometry import INNER_RADIUS_MM, PAD_RADIUS_MM
from jaxhep.alpha_g.simulation.annihilation import CHARGED_PION_MEV, PROTON_MEV
from jaxhep.alpha_g.simulation.settings import Settings
from jaxhep.alpha_g.simulation.tracks import ELECTRON_MEV, Particles, advance, circle, select, to_cylinder, turn_to
from jaxhep.random_numbers import Salt, fold, normal, uniform

PION_DECAY_MM = 7804.5  # c tau
MUON_LIFETIME_NS = 2197.0
MATERIAL_RADII_MM = (33.0, 96.0)  # trap electrodes; magnet, cryostat and inner wall of the chamber
OUTER_WALL_MM = PAD_RADIUS_MM + 1.0  # photons convert there too, and soft electrons curl back
STOPPING_MEV_CM2_G = 1.55  # least ionising particle in the materials between
INTERACTION_G_CM2 = 75.0  # of pions: absorption and wide scattering near the Delta resonance


def obliquity(position: jax.Array, momentum: jax.Array) -> jax.Array:
    """Return path per thickness, 1 or more, of straight lines through a thin cylinder (at most 10)."""
    radial = (position[..., :2] * momentum[..., :2]).sum(-1) / jnp.hypot(position[..., 0], position[..., 1])
    return 1.0 / jnp.maximum(jnp.abs(radial) / jnp.sqrt((momentum**2).sum(-1) + 1e-9), 0.1)


def _frame(momentum: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return two unit vectors across the momentum."""
    size = jnp.sqrt((momentum**2).sum(-1, keepdims=True) + 1e-9)
    unit = momentum / size
    transverse = jnp.hypot(unit[..., 0], unit[..., 1]) + 1e-6
    across = jnp.stack([-unit[..., 1] / transverse, unit[..., 0] / transverse, jnp.zeros_like(transverse)], -1)
    return size, unit, across, jnp.cross(unit, across)


def through_material(salt: Salt, particles: Particles, share: jax.typing.ArrayLike, settings: Settings) -> Particles:
    """Return particles behind `share` of the material (a number or an array): scattered, slower, or stopped."""
    electron = particles.mass < 1.0
    path = share * obliquity(particles.position, particles.momentum)
    lengths, grams = settings.radiation_lengths * path, settings.material_g_cm2 * path
    size, unit, first, second = _frame(particles.momentum)
    size = size[..., 0]
    energy = jnp.sqrt(size**2 + particles.mass**2)
    kinetic = energy - particles.mass
    # Ionisation in two steps; radiation of electrons, whose logarithm follows a Gamma law of shape x / ln 2.
    radiated, depth, survival = uniform(fold(salt, 0), 3, *size.shape)
    for _ in range(2):
        velocity2 = 1 - (particles.mass / (kinetic + particles.mass)) ** 2
        kinetic = kinetic - 0.5 * grams * STOPPING_MEV_CM2_G / jnp.maximum(velocity2, 0.02) ** (5 / 6)
        kinetic = jnp.maximum(kinetic, 0.0)
    logarithm = -jnp.log(depth) * radiated ** (np.log(2.0) / lengths)
    kinetic = jnp.where(electron, kinetic * jnp.exp(-logarithm), kinetic)
    moving = kinetic > 0.05
    after = jnp.sqrt(kinetic * (kinetic + 2 * particles.mass))
    mean = jnp.sqrt(jnp.maximum(size * after, 1.0))
    velocity = mean / jnp.sqrt(mean**2 + particles.mass**2)
    spread = 13.6 / (velocity * mean) * jnp.sqrt(lengths) * (1 + 0.038 * jnp.log(lengths))
    deviation = jnp.clip(spread * normal(fold(salt, 1), 2, *size.shape), -3.0, 3.0)[..., None]
    bent = unit + deviation[0] * first + deviation[1] * second
    bent = bent / jnp.sqrt((bent**2).sum(-1, keepdims=True) + 1e-12)
    pion = jnp.abs(particles.mass - CHARGED_PION_MEV) < 1.0
    lost = pion & (survival > jnp.exp(-grams / INTERACTION_G_CM2))
    return particles._replace(momentum=after[..., None] * bent, alive=particles.alive & moving & ~lost)


def _isotropic(cosine: jax.Array, turn: jax.Array, size: jax.Array) -> jax.Array:
    """Return vectors of this size, for two uniform numbers each."""
    cosine, turn = 2 * cosine - 1, 2 * np.pi * turn
    sine = jnp.sqrt(1 - cosine**2)
    return size[..., None] * jnp.stack([sine * jnp.cos(turn), sine * jnp.sin(turn), cosine], -1)


def after_pions(salt: Salt, before: Particles, after: Particles, settings: Settings) -> Particles:
    """Return `after` with pions that ended in the material replaced by what they leave, isotropic.

    Positive pions at rest: the positron of the muon, delayed, its spectrum x^2 (3 - 2 x) (L. Michel, Proc. Phys. Soc.
    A 63 (1950) 514). Others, absorbed by a nucleus: often a proton (exponential spectrum).
    """
    pion = jnp.abs(before.mass - CHARGED_PION_MEV) < 1.0
    ended = before.alive & ~after.alive & pion
    at_rest = (after.momentum**2).sum(-1) < 1.0
    positron = ended & at_rest & (before.charge > 0)
    share, cosine, turn, wait, chance = uniform(salt, 5, *ended.shape)
    proton = ended & ~positron & (chance < settings.proton_chance)
    x = np.linspace(0, 1, 65)
    kinetic = -settings.proton_energy_mev * jnp.log(share)
    size = jnp.where(
        positron, 52.8 * jnp.interp(share, 2 * x**3 - x**4, x), jnp.sqrt(kinetic * (kinetic + 2 * PROTON_MEV))
    )
    mass = jnp.where(positron, ELECTRON_MEV, PROTON_MEV)
    new = positron | proton
    return after._replace(
        momentum=jnp.where(new[..., None], _isotropic(cosine, turn, size), after.momentum),
        charge=jnp.where(new, 1.0, after.charge),
        mass=jnp.where(new, mass, after.mass),
        alive=after.alive | new,
        delay=jnp.where(positron, -MUON_LIFETIME_NS * jnp.log(wait), after.delay),
    )


def in_flight_decays(salt: Salt, pions: Particles) -> Particles:
    """Return pions without those that decay before the gas: their muons are bent off and lost."""
    momentum = jnp.sqrt((pions.momentum**2).sum(-1) + 1e-6)
    path = INNER_RADIUS_MM * momentum / jnp.hypot(pions.momentum[..., 0], pions.momentum[..., 1]).clip(1.0)
    chance = 1 - jnp.exp(-path * CHARGED_PION_MEV / (momentum * PION_DECAY_MM))
    return pions._replace(alive=pions.alive & (uniform(salt, *momentum.shape) > chance))


def converted(salt: Salt, vertex: jax.Array, photons: jax.Array, settings: Settings) -> tuple[Particles, jax.Array]:
    """Return electrons and positrons (N, 2 K) where photons (N, K, 3) from the vertex (N, 3) convert, alive where they
    do, and the layer (N, 2 K) of the material (index in MATERIAL_RADII_MM, or 2: the outer wall) they start in."""
    energy = jnp.sqrt((photons**2).sum(-1) + 1e-9)
    unit = photons / energy[..., None]
    transverse2 = (unit[..., :2] ** 2).sum(-1) + 1e-9
    along = (vertex[:, None, :2] * unit[..., :2]).sum(-1)
    distance2 = (vertex[:, :2] ** 2).sum(-1)[:, None]
    # Fewer pairs at low energies than the 7/9 per radiation length of high ones.
    *draws, share = uniform(salt, 4, *energy.shape)
    rate = 7 / 9 * energy / (energy + settings.pair_threshold_mev)
    lengths = [settings.radiation_lengths * part for part in settings.material_shares]
    layers = [*zip(MATERIAL_RADII_MM, lengths, strict=True), (OUTER_WALL_MM, settings.outer_radiation_lengths)]
    hit, place = [], []
    for (radius, material), draw in zip(layers, draws, strict=True):
        step = (jnp.sqrt(along**2 + transverse2 * (radius**2 - distance2)) - along) / transverse2
        place.append(vertex[:, None] + step[..., None] * unit)
        hit.append((energy > 5.0) & (draw < 1 - jnp.exp(-material * rate * obliquity(place[-1], photons))))
    kinetic = jnp.maximum(energy - 2 * ELECTRON_MEV, 0.0)[..., None] * jnp.stack([share, 1 - share], -1)
    shape = (len(energy), 2 * energy.shape[1])
    size = jnp.sqrt(kinetic * (kinetic + 2 * ELECTRON_MEV)).reshape(shape)

    def twice(values: jax.Array) -> jax.Array:
        return jnp.repeat(values, 2, axis=1)

    electrons = Particles(
        twice(jnp.where(hit[0][..., None], place[0], jnp.where(hit[1][..., None], place[1], place[2]))),
        twice(unit) * size[..., None],
        jnp.broadcast_to(jnp.tile(jnp.array([-1.0, 1.0]), energy.shape[1]), shape),
        jnp.full(shape, ELECTRON_MEV),
        twice(hit[0] | hit[1] | hit[2]),
        jnp.zeros(shape),
    )
    return electrons, twice(jnp.where(hit[0], 0, jnp.where(hit[1], 1, 2)))


def through_layer(
    salt: Salt, particles: Particles, born: jax.Array, layer: jax.typing.ArrayLike, settings: Settings
) -> Particles:
    """Return particles behind one layer of material; those born in it cross half, those born further out wait.

    born: layer of birth (N, S), -1 for the vertex; layer: index in MATERIAL_RADII_MM (may be traced).
    """
    radius, share = (jnp.asarray(values)[layer] for values in (MATERIAL_RADII_MM, settings.material_shares))
    here, waits = born == layer, born > layer
    arrived = select(here, particles, to_cylinder(particles, radius, settings.field_tesla))
    behind = through_material(fold(salt, 0), arrived, jnp.where(here, 0.5, 1.0) * share, settings)
    behind = after_pions(fold(salt, 1), arrived, behind, settings)
    return select(waits, particles, behind)


def once_more(salt: Salt, particles: Particles, settings: Settings) -> Particles:
    """Return particles that came back to the inner cathode where they leave it again on the other side, having crossed
    the outer layer of the material twice; all others are no longer alive."""
    path = circle(particles, settings.field_tesla)
    outward, leaves = turn_to(path, PAD_RADIUS_MM)
    inward, returns = turn_to(path, INNER_RADIUS_MM, outwards=False)
    outside = leaves & (outward < inward)
    lost = outside & (path.distance + path.radius > settings.return_radius_mm)
    inside = advance(particles, path, inward)._replace(alive=particles.alive & returns & ~lost)
    deep = jnp.abs(path.distance - path.radius) < MATERIAL_RADII_MM[1]
    behind = through_material(salt, inside, jnp.where(deep, 2 * settings.material_shares[1], 0.01), settings)
    return to_cylinder(behind, INNER_RADIUS_MM, settings.field_tesla)
