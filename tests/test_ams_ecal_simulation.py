"""The built-in AMS ECAL simulation: the same numbers from the same seed, columns, response, agreement with Geant4."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhep.ams_ecal import simulation
from jaxhep.ams_ecal.simulation import CHUNK, Primaries, Settings, response
from jaxhep.ams_ecal.simulation.events import _compiled_deposits
from jaxhep.errors import BadInput
from jaxhep.random_numbers import event_normal

GEANT4 = Path(__file__).parents[1].parent / "shared" / "data" / "geant4_ecal.npz"
GEOMETRY_COLUMNS = [f"Trk_Ecal_Inci_{name}" for name in ("X", "Y", "Z", "Zenith", "Azimutal")]
READ = jax.jit(simulation.read_out, static_argnums=(2, 3))


@pytest.fixture(scope="module")
def columns() -> dict[str, dict[str, np.ndarray]]:
    """Return 10 chunks of each species with the default settings."""
    return {species: simulation.simulate(species, 10 * CHUNK, seed=5) for species in simulation.SPECIES}


def simulated_deposits_of(species: str, truth: np.ndarray) -> np.ndarray:
    chunks = []
    for index, start in enumerate(range(0, len(truth), CHUNK)):
        energy, x, y, slope_x, slope_y = jnp.asarray(np.resize(truth[start : start + CHUNK], (CHUNK, 5)).T)
        primaries = Primaries(energy, jnp.ones_like(energy), x, y, slope_x, slope_y)
        key = jax.random.fold_in(jax.random.key(11), index)
        chunks.append(np.asarray(_compiled_deposits(key, species, primaries, Settings())))
    return np.concatenate(chunks)[: len(truth)]


@pytest.fixture(scope="module")
def pairs() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    if not GEANT4.exists():
        pytest.skip(f"no Geant4 sample at {GEANT4}")
    sample, result = np.load(GEANT4), {}
    for species in simulation.SPECIES:
        starts, truth = sample[f"{species}_indptr"], sample[f"{species}_truth"]
        cells = np.zeros((len(truth), 18 * 72), np.float32)
        events = np.repeat(np.arange(len(truth)), np.diff(starts))
        cells[events, sample[f"{species}_cell"]] = 1e-6 * sample[f"{species}_keV"]
        result[species] = (truth[:, 0], cells.reshape(-1, 18, 72), simulated_deposits_of(species, truth))
    return result


def test_columns_have_the_names_shapes_and_types_of_the_tree(columns) -> None:
    for kind, species in enumerate(simulation.SPECIES):
        some, n = columns[species], 10 * CHUNK
        assert some["edep_cell"].shape == (n, 1296)
        for name in GEOMETRY_COLUMNS:
            assert some[name].shape == (n, 1), name
        for name in (
            "en3d",
            "mom",
            "weight",
            "trd_lik",
            "TRD_e_likelihood",
            "TRD_p_likelihood",
            "run",
            "event",
        ):
            assert some[name].shape == (n,), name
        for name, values in some.items():
            assert values.dtype == (np.uint32 if name in ("run", "event") else np.float32), name
            assert np.isfinite(values).all(), name
        assert len(np.unique(some["event"])) == n
        assert set(some["run"]) == {2 * 5 + kind}
        assert np.abs(some["Trk_Ecal_Inci_X"]).max() < 30.3
        assert 0.3 < some["Trk_Ecal_Inci_Zenith"].max() < np.radians(25.3)


def test_an_event_depends_on_seed_and_number_alone(columns) -> None:
    part = simulation.simulate("electron", 700, seed=5, first_event=CHUNK - 100)
    for name, values in part.items():
        np.testing.assert_array_equal(values, columns["electron"][name][CHUNK - 100 : CHUNK + 600], err_msg=name)
    sizes = [len(chunk["event"]) for chunk in simulation.iterate("electron", 700, 5, first_event=CHUNK - 100)]
    assert sizes == [100, 600]
    assert not np.array_equal(simulation.simulate("electron", 9, seed=6)["mom"], columns["electron"]["mom"][:9])


def test_energies_and_weights(columns) -> None:
    for species, index in simulation.PHYSICAL_INDEX.items():
        low, high = getattr(Settings(), f"{species}_energy_gev")
        energy, weight = columns[species]["mom"], columns[species]["weight"].astype(np.float64)
        assert low <= energy.min() < 1.05 * low
        assert 0.95 * high < energy.max() <= high
        # log-flat as generated: the median is the geometric mean; weight x E^(index - 1) is one constant
        assert np.median(np.log(energy)) == pytest.approx(np.log(low * high) / 2, abs=0.1)
        constant = weight * (energy / low) ** (index - 1)
        assert constant.std() / constant.mean() < 1e-4
        assert weight.mean() == pytest.approx(1, abs=4 * weight.std() / np.sqrt(len(weight)))
        expected = (2 ** (1 - index) - (high / low) ** (1 - index)) / (1 - (high / low) ** (1 - index))
        assert weight[energy > 2 * low].sum() / weight.sum() == pytest.approx(expected, rel=0.1)


def test_power_law_spectrum() -> None:
    settings = Settings(spectrum="power_law", spectral_index=2.7, proton_energy_gev=(100.0, 1000.0))
    drawn = simulation.draw_primaries(jax.random.key(0), "proton", 4000, settings)
    assert float((drawn.energy > 200).mean()) == pytest.approx((2**-1.7 - 10**-1.7) / (1 - 10**-1.7), abs=0.03)
    np.testing.assert_allclose(drawn.weight, 1.0, rtol=1e-4)
    assert np.abs(drawn.x + 166.5 * drawn.slope_x).max() <= 300
    assert np.abs(drawn.x).max() <= 300
    steepest = float(jnp.hypot(drawn.slope_x, drawn.slope_y).max())
    assert np.tan(np.radians(24)) < steepest <= np.tan(np.radians(25.001))


def test_reconstructed_energy_of_electrons(columns) -> None:
    energy = columns["electron"]["mom"]
    ratio = columns["electron"]["en3d"] / energy
    for low, high in ((100, 200), (200, 400), (400, 700), (700, 1000)):
        some = ratio[(energy >= low) & (energy < high)]
        assert abs(some.mean() - 1) < 0.02, (low, high)
        # 10.6 %/sqrt(E), 1.25 %, what the leakage correction leaves (2 %, 1.6 % in its core) and 2 % gain spread
        expected = np.sqrt(0.106**2 / np.sqrt(low * high) + 0.0125**2 + 0.02**2)
        assert some.std() == pytest.approx(expected, rel=0.2), (low, high)
    # Above 1 TeV cells saturate; what is left of it is corrected.
    assert abs(ratio[energy >= 1000].mean() - 1) < 0.03


def test_every_range_of_reconstructed_energy_gets_protons(columns) -> None:
    energy = columns["proton"]["en3d"]
    for low, high in ((200, 400), (400, 600), (600, 1000), (1000, 2000)):
        assert ((energy >= low) & (energy < high)).sum() > 100, (low, high)


def test_empty_response_is_noise_over_threshold_and_the_same_dead_cells() -> None:
    settings = Settings(dead_fraction=0.01)
    noise = np.asarray(READ(jax.random.key(1), jnp.zeros((CHUNK, 18, 72)), settings, 3))
    assert (noise > 0).mean() == pytest.approx(0.02275 * 0.99, rel=0.03)  # over 2 standard deviations
    assert noise[noise > 0].min() >= settings.threshold_mev
    bright = np.asarray(READ(jax.random.key(2), jnp.full((CHUNK, 18, 72), 80.0), settings, 3))
    assert bright.max() == settings.saturation_mev
    dead = (bright == 0).all(0)
    assert 5 <= dead.sum() <= 25
    assert not (noise[:, dead] > 0).any()
    assert not np.array_equal(response.gains_and_dead(settings, 4)[1], dead)


def test_sampling_and_gain_are_those_asked_for() -> None:
    settings = Settings(noise_mev=0.0, constant_term=0.0, dead_fraction=0.0)
    cells = np.asarray(READ(jax.random.key(1), jnp.full((CHUNK, 18, 72), 1.0), settings, 3)) / 1e3
    assert cells.mean() == pytest.approx(1.0, abs=0.003)
    assert cells.std(0).mean() == pytest.approx(0.106, rel=0.02)  # 10.6 % at 1 GeV
    assert cells.mean(0).std() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("shape", [0.03, 0.3, 1.0, 10.0, 1000.0])
def test_cell_fluctuations_are_gamma_distributed(shape: float) -> None:
    gamma = pytest.importorskip("scipy.stats").gamma
    values = np.asarray(jax.jit(response.cell_gamma)(jax.random.key(0), jnp.full((256, 18, 72), shape), 1.0)).ravel()
    assert values.mean() == pytest.approx(shape, rel=0.02)
    assert values.var() == pytest.approx(shape, rel=0.03)
    for quantile in (0.5, 0.9, 0.99):
        assert (values < gamma.ppf(quantile, shape)).mean() == pytest.approx(quantile, abs=0.01)


def test_cells_are_independent_of_each_other() -> None:
    values = np.asarray(event_normal(jax.random.key(3), 512, 18, 72)).reshape(512, -1)
    assert values.std() == pytest.approx(1, abs=0.004)
    correlation = np.corrcoef(values.T)[np.triu_indices(1296, 1)] * np.sqrt(512)
    assert correlation.std() == pytest.approx(1, abs=0.02)


def test_flight_like_differs_as_said() -> None:
    detector = Settings(gain_spread=0.05, dead_fraction=0.01, noise_mev=4.0)
    assert simulation.flight_like() == detector._replace(extra_radiation_lengths=0.3, moliere_radius_mm=1.03 * 24.5)


def test_toy_trd_separates(columns) -> None:
    electrons, protons = (columns[species] for species in simulation.SPECIES)
    assert (electrons["TRD_e_likelihood"] > electrons["TRD_p_likelihood"]).mean() > 0.97
    assert (protons["TRD_e_likelihood"] < protons["TRD_p_likelihood"]).mean() > 0.97


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: simulation.simulate("elektron", 1, 0), "nearest: 'electron'"),
        (lambda: simulation.simulate("proton", 0, 0), "wanted at least 1"),
        (lambda: simulation.simulate("proton", 1, -1), "seed"),
        (lambda: simulation.simulate("proton", 1, 0, Settings(proton_energy_gev=(9.0, 3.0))), "low < high"),
        (lambda: simulation.simulate("proton", 1, 0, Settings(dead_fraction=2.0)), "between 0 and 1"),
        (lambda: simulation.simulate("proton", 1, 0, Settings(radiation_lengths=0.0)), "positive"),
    ],
)
def test_bad_input_is_one_clear_line(call, message: str) -> None:
    with pytest.raises(BadInput, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_electrons_agree_with_geant4(pairs) -> None:
    energy, geant4, simulated = pairs["electron"]
    for low, high in ((50, 100), (100, 300), (300, 700), (700, 1000)):
        chosen = (energy >= low) & (energy < high)
        if not chosen.any():
            assert low >= 700  # none in the sample
            continue
        fractions = [cells[chosen].sum((1, 2)) / energy[chosen] for cells in (geant4, simulated)]
        assert fractions[1].mean() == pytest.approx(fractions[0].mean(), abs=0.01)
        assert fractions[1].std() == pytest.approx(fractions[0].std(), rel=0.25)
        for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
            assert np.quantile(fractions[1], quantile) == pytest.approx(np.quantile(fractions[0], quantile), abs=0.025)
        profiles = [(cells[chosen].sum(2) / energy[chosen, None]).mean(0) for cells in (geant4, simulated)]
        assert np.abs(profiles[1] - profiles[0]).max() < 0.005  # of the beam's energy, per layer
        np.testing.assert_allclose(profiles[1][4:], profiles[0][4:], rtol=0.10)
        np.testing.assert_allclose(profiles[1][:4], profiles[0][:4], rtol=0.25)
        for distance, tolerance in ((1, 0.015), (2, 0.012), (5, 0.004)):
            first, second = (share_near_the_maximum(cells[chosen], distance) for cells in (geant4, simulated))
            assert second == pytest.approx(first, abs=tolerance)
        hits = [hit_cells(cells[chosen]) for cells in (geant4, simulated)]
        assert hits[1].mean() == pytest.approx(hits[0].mean(), rel=0.1)
        assert hits[1].std() == pytest.approx(hits[0].std(), rel=0.25)


def test_protons_agree_with_geant4(pairs) -> None:
    energy, geant4, simulated = pairs["proton"]
    visible = [cells.sum((1, 2)) for cells in (geant4, simulated)]
    for low, high, quantile_tolerance in (
        (100, 300, 0.035),
        (300, 1000, 0.025),
        (1000, 2000, 0.03),
        (2000, 9999, 0.0),
    ):
        chosen = (energy >= low) & (energy < high)
        if not chosen.any():
            assert low >= 2000  # none in the sample
            continue
        crossing = [(values[chosen] < 1).mean() for values in visible]
        assert crossing[1] == pytest.approx(crossing[0], abs=0.05)
        inside = [chosen & (values > 1) for values in visible]
        shares = [values[cut] / energy[cut] for values, cut in zip(visible, inside, strict=True)]
        for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
            first, second = (np.quantile(values, quantile) for values in shares)
            assert second == pytest.approx(first, abs=quantile_tolerance)
        layers = [cells[cut].sum(2) for cells, cut in zip((geant4, simulated), inside, strict=True)]
        centroids = [(some * np.arange(18)).sum(1) / some.sum(1) for some in layers]
        assert centroids[1].mean() == pytest.approx(centroids[0].mean(), abs=0.4)
        assert centroids[1].std() == pytest.approx(centroids[0].std(), rel=0.12)
        for distance, tolerance in ((1, 0.03), (2, 0.02), (5, 0.012)):
            first, second = (
                share_near_the_maximum(c[cut], distance) for c, cut in zip((geant4, simulated), inside, strict=True)
            )
            assert second == pytest.approx(first, abs=tolerance)
    # Tails that pass for electrons, first layer, crossing protons, over all energies.
    for part, least, most in ((0.3, 0.7, 1.3), (0.5, 0.6, 1.6)):
        first, second = ((values > part * energy).mean() for values in visible)
        assert least < second / first < most
    assert (visible[1] > 0.7 * energy).mean() < 0.003
    first, second = ((cells[:, 0].sum(1) > 0.06).mean() for cells in (geant4, simulated))
    assert second == pytest.approx(first, rel=0.25)
    medians = [
        np.median(cells[values < 1].sum(2), axis=0) for cells, values in zip((geant4, simulated), visible, strict=True)
    ]
    np.testing.assert_allclose(medians[1], medians[0], rtol=0.08)


def test_hit_cells_do_not_mark_a_species(pairs) -> None:
    for low, high in ((100, 200), (200, 400)):
        means = {}
        for species, (_, *both) in pairs.items():
            for name, cells in zip(("geant4", "simulation"), both, strict=True):
                visible = cells.sum((1, 2))
                means[species, name] = hit_cells(cells[(visible > low) & (visible < high)]).mean()
        for species in simulation.SPECIES:
            assert means[species, "simulation"] == pytest.approx(means[species, "geant4"], rel=0.2)


def share_near_the_maximum(cells: np.ndarray, distance: int) -> float:
    far = np.abs(np.arange(72) - cells.argmax(2)[..., None])
    return float((cells * (far <= distance)).sum() / cells.sum())


def hit_cells(cells: np.ndarray) -> np.ndarray:
    """Return the cells over threshold of each event, after the default readout."""
    counts = []
    for index, start in enumerate(range(0, len(cells), CHUNK)):
        part = cells[start : start + CHUNK]
        padded = np.concatenate([part, np.zeros((CHUNK - len(part), 18, 72), np.float32)])
        signal = READ(jax.random.fold_in(jax.random.key(9), index), jnp.asarray(padded), Settings(), 0)
        counts.append((np.asarray(signal)[: len(part)] > 0).sum((1, 2)))
    return np.concatenate(counts)
