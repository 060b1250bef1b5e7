"""Particles of the built-in ALPHA-g simulation: final states, helices, material, random numbers."""

import jax
import numpy as np
import pytest

from jaxhep.alpha_g.simulation import CHUNK, Settings, annihilation
from jaxhep.alpha_g.simulation.events import _final_states, _through_layer
from jaxhep.alpha_g.simulation.tracks import Particles, advance, circle, to_cylinder, turn_to
from jaxhep.random_numbers import fold, normal, salt_of, uniform


def final_states(chunks: int, target: str = "hydrogen") -> annihilation.FinalState:
    """Return final states of some chunks, compiled as the simulation has them."""
    states = [_final_states(salt_of(3, chunk), CHUNK, target) for chunk in range(chunks)]
    return jax.tree.map(lambda *values: np.concatenate(values), *states)


@pytest.mark.parametrize("target", ["hydrogen", "wall"])
def test_energy_and_momentum_are_conserved(target: str) -> None:
    final = final_states(4, target)
    energy = np.sqrt((final.momentum.astype(float) ** 2).sum(-1) + annihilation.MASSES**2)
    np.testing.assert_allclose(np.where(final.produced, energy, 0).sum(1), 2 * 938.272, atol=0.1)
    np.testing.assert_allclose(final.momentum.sum(1), 0, atol=0.1)
    assert (final.produced | ~final.present).all()
    charge = (final.produced[:, :6] * annihilation.CHARGES).sum(1)
    assert (charge == 0).all()
    # Fractions of remaining charged pions are those of the table, within four standard deviations.
    table = annihilation.MULTIPLICITY[target]
    remaining = final.present[:, :6].sum(1)
    assert set(remaining) <= set(table)
    for number, fraction in table.items():
        fraction /= sum(table.values())
        error = np.sqrt(fraction * (1 - fraction) / len(remaining))
        assert (remaining == number).mean() == pytest.approx(fraction, abs=4 * error)


def phase_space_momenta(masses: list[float], energy: float) -> tuple[np.ndarray, np.ndarray]:
    """Return momenta of the first particle and their cumulative probability in flat phase space, by its recursion."""

    def breakup(mass, one, other):
        return np.sqrt(np.maximum((mass**2 - (one + other) ** 2) * (mass**2 - (one - other) ** 2), 0)) / (2 * mass)

    grid = np.linspace(1.0, energy, 1500)
    volume = breakup(grid, masses[-1], masses[-2]) / grid * (grid > masses[-1] + masses[-2])
    for mass in masses[-3:0:-1]:
        kernel = breakup(grid[:, None], grid[None], mass) * (grid[:, None] > grid[None] + mass) / grid[:, None]
        volume = (kernel * volume * grid).sum(1)
    momentum = breakup(energy, grid, masses[0])
    weight = momentum * volume * grid * (grid < energy - masses[0])
    order = np.argsort(momentum)
    cumulative = np.cumsum(weight[order])
    return momentum[order], cumulative / cumulative[-1]


def test_momenta_are_those_of_phase_space() -> None:
    final = final_states(16)
    number = final.produced[:, :6].sum(1), final.produced[:, 6:].sum(1)
    for charged, neutral in ((2, 1), (2, 3), (4, 2)):
        chosen = (number[0] == charged) & (number[1] == neutral)
        momentum = np.sort(np.linalg.norm(final.momentum[chosen][:, :charged], axis=-1).ravel())
        masses = [139.57] * charged + [134.977] * neutral
        expected = np.interp(momentum, *phase_space_momenta(masses, 2 * 938.272))
        distance = np.abs(expected - (np.arange(len(momentum)) + 0.5) / len(momentum)).max()
        assert distance < 2.0 / np.sqrt(len(momentum)), (charged, neutral, distance)  # Kolmogorov and Smirnov


def test_photons_carry_the_momentum_of_neutral_pions() -> None:
    final = final_states(1)
    photons = np.asarray(annihilation.photons(salt_of(4), final)).astype(float)
    np.testing.assert_allclose(photons[:, :4] + photons[:, 4:], np.asarray(final.momentum)[:, 6:], atol=0.01)
    energy = np.linalg.norm(photons[:, :4], axis=-1) + np.linalg.norm(photons[:, 4:], axis=-1)
    mass2 = energy**2 - (np.asarray(final.momentum)[:, 6:].astype(float) ** 2).sum(-1)
    np.testing.assert_allclose(np.sqrt(mass2[np.asarray(final.present)[:, 6:]]), 134.977, rtol=1e-3)


def test_helices_cross_cylinders_where_they_should() -> None:
    generator = np.random.default_rng(1)
    position = np.concatenate([generator.normal(0, 8, (500, 2)), generator.normal(0, 300, (500, 1))], 1)
    momentum = generator.normal(0, 30, (500, 3))
    charge = generator.choice([-1.0, 1.0], 500)
    numbers = (np.asarray(v, np.float32) for v in (position, momentum, charge, np.full(500, 139.57)))
    particles = Particles(*numbers, np.ones(500, bool), np.zeros(500, np.float32))
    path = circle(particles, 1.0)
    transverse = np.hypot(*momentum[:, :2].T)
    # R = pT / (0.2998 B): mm, MeV/c, T
    np.testing.assert_allclose(circle(particles, 2.0).radius, path.radius / 2, rtol=1e-5)
    np.testing.assert_allclose(path.radius, transverse / 0.299792458, rtol=1e-5)
    there = jax.tree.map(np.asarray, to_cylinder(particles, 109.2, 1.0))
    reached = there.alive
    assert 0.6 < reached.mean() < 0.95
    np.testing.assert_array_equal(reached, np.asarray(path.distance + path.radius) > 109.2)
    np.testing.assert_allclose(np.hypot(*there.position[reached, :2].T), 109.2, rtol=1e-4)
    assert (((there.position * there.momentum)[reached, :2]).sum(1) > 0).all()  # outwards
    np.testing.assert_allclose(np.hypot(*there.momentum[:, :2].T), transverse, rtol=1e-4)
    # Integrated step by step, d(phi)/ds = -charge 0.2998 B / pT, the particle comes to the same place.
    turn, _ = turn_to(path, 109.2)
    steps = 2000
    azimuth = np.arctan2(momentum[:, 1], momentum[:, 0])[:, None] - charge[:, None] * np.asarray(turn)[:, None] * (
        (np.arange(steps) + 0.5) / steps
    )
    length = np.asarray(turn) * transverse / 0.299792458
    x, y = (position[:, i] + length * f(azimuth).mean(1) for i, f in enumerate((np.cos, np.sin)))
    z = position[:, 2] + length * momentum[:, 2] / transverse
    np.testing.assert_allclose(there.position[reached], np.stack([x, y, z], 1)[reached], atol=0.5, rtol=1e-3)
    back = advance(particles, path, np.zeros(500, np.float32))
    np.testing.assert_allclose(back.position, particles.position, atol=0.05)


def test_material_scatters_and_slows_as_highland_and_bethe_say() -> None:
    shape = (CHUNK, 22)
    momentum = np.broadcast_to(np.array([300.0, 0, 0], np.float32), (*shape, 3))
    pions = Particles(
        np.zeros((*shape, 3), np.float32) + np.float32(0.01),
        momentum,
        np.ones(shape, np.float32),
        np.full(shape, 139.57, np.float32),
        np.ones(shape, bool),
        np.zeros(shape, np.float32),
    )
    behind = _through_layer(salt_of(1), pions, np.full(shape, -1), 0, Settings())
    straight = jax.tree.map(np.asarray, to_cylinder(pions, 33.0, 1.0)).momentum.astype(float)
    pion = np.asarray(behind.alive) & (np.abs(np.asarray(behind.mass) - 139.57) < 1)
    assert pion.mean() == pytest.approx(np.exp(-2.55 / 75), abs=0.01)
    after = np.asarray(behind.momentum)[pion].astype(float)
    size = np.linalg.norm(after, axis=1)
    across = after[:, 2] / size
    momentum_lost = 300 - size
    velocity = 300 / np.hypot(300, 139.57)
    highland = 13.6 / (velocity * 300) * np.sqrt(0.18) * (1 + 0.038 * np.log(0.18))
    assert across.std() == pytest.approx(highland, rel=0.05) and across.mean() == pytest.approx(0, abs=0.001)
    turned = (after * straight[pion]).sum(1) / size / 300
    assert np.arccos(np.minimum(turned, 1)).mean() == pytest.approx(highland * np.sqrt(np.pi / 2), rel=0.05)
    assert momentum_lost.mean() == pytest.approx(1.55 * 2.55 / velocity ** (5 / 3) / velocity, rel=0.03)


def test_random_numbers() -> None:
    salt = salt_of(1, 2)
    values = np.asarray(uniform(salt, 300, 400)).ravel()
    assert values.min() > 0 and values.max() < 1
    assert values.mean() == pytest.approx(0.5, abs=0.004) and values.var() == pytest.approx(1 / 12, rel=0.01)
    other = np.asarray(uniform(fold(salt, 1), 300, 400)).ravel()
    assert abs(np.corrcoef(values, other)[0, 1]) < 0.012 and abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 0.012
    assert np.asarray(normal(salt, 300, 400)).std() == pytest.approx(1, abs=0.01)
