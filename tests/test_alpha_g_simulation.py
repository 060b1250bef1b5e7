"""Built-in ALPHA-g simulation: reproducible, as its settings say, and in agreement with Geant4."""

import jax
import numpy as np
import pytest

from jaxhep.alpha_g import geometry, simulation
from jaxhep.alpha_g.simulation import CHUNK, Settings, drift, readout
from jaxhep.alpha_g.simulation.events import _final_states
from jaxhep.alpha_g.simulation.ionisation import drifted
from jaxhep.alpha_g.simulation.tracks import Arcs
from jaxhep.errors import BadInput
from jaxhep.random_numbers import salt_of


@pytest.fixture(scope="module")
def columns() -> dict[str, dict[str, np.ndarray]]:
    return {species: simulation.simulate(species, 2 * CHUNK, 5) for species in simulation.SPECIES}


def of_events(columns, values) -> list[np.ndarray]:
    return np.split(values, np.cumsum(columns["count"])[:-1])


def test_an_event_is_the_same_however_it_is_asked_for(columns) -> None:
    whole = columns["annihilation"]
    part = simulation.simulate("annihilation", 40, 5, first_event=CHUNK - 20)
    chosen = slice(CHUNK - 20, CHUNK + 20)
    for name in ("count", "vertex", "charged_pions", "run", "event"):
        np.testing.assert_array_equal(part[name], whole[name][chosen])
    for name in ("points", "amplitude"):
        np.testing.assert_array_equal(part[name], np.concatenate(of_events(whole, whole[name])[chosen]))
    other = simulation.simulate("annihilation", 40, 6, first_event=CHUNK - 20)
    assert not np.array_equal(other["vertex"], part["vertex"])
    assert part["run"][0] == 10 and columns["cosmic"]["run"][0] == 11


def test_columns_have_the_promised_types(columns) -> None:
    for found in columns.values():
        total = found["count"].sum()
        types = {name: (values.dtype.name, values.shape) for name, values in found.items()}
        assert types == {
            "count": ("int32", (2 * CHUNK,)),
            "points": ("float32", (total, 3)),
            "amplitude": ("float32", (total,)),
            "vertex": ("float32", (2 * CHUNK, 3)),
            "charged_pions": ("int8", (2 * CHUNK,)),
            "run": ("uint32", (2 * CHUNK,)),
            "event": ("uint32", (2 * CHUNK,)),
        }
        inside = np.concatenate([np.full(len(v), len(v) > 0) for v in of_events(found, found["amplitude"])])
        first = np.zeros(total, bool)
        first[(np.cumsum(found["count"]) - found["count"])[found["count"] > 0]] = True
        assert inside.all() and (np.diff(found["amplitude"]) <= 0)[~first[1:]].all()
        assert found["amplitude"].min() > 0


def test_points_lie_on_wires_within_the_gas(columns) -> None:
    for found in columns.values():
        points = found["points"].astype(float)
        radius = np.hypot(points[:, 0], points[:, 1])
        assert radius.min() > 108.7 and radius.max() < 182.2 and abs(points[:, 2]).max() <= 1152
        # Undo radius -> time bin -> Lorentz angle: what remains is the azimuth of a wire.
        table, row = drift.drift_table(), drift.region(points[:, 2])
        bins = np.array(
            [np.abs(table.radius[r] - value).argmin() for r, value in zip(row[:3000], radius[:3000], strict=True)]
        )
        lorentz = table.lorentz[row[:3000], bins]
        wires = (np.arctan2(points[:3000, 1], points[:3000, 0]) + lorentz) / geometry.WIRE_PITCH_RAD - 0.5
        np.testing.assert_allclose(wires, np.round(wires), atol=0.01)
        np.testing.assert_allclose(geometry.wire_azimuth(0), np.pi / 256)


def arrived(radius: np.ndarray, z: np.ndarray, azimuth: float) -> tuple[np.ndarray, np.ndarray]:
    """Return wires and time bins of electrons that drift from these places, with neither diffusion nor spread."""
    zero = np.zeros(radius.size, np.float32)
    places = Arcs(np.zeros((radius.size, 2), np.float32), radius.ravel(), zero + azimuth, zero, z.ravel(), *[zero] * 3)
    number = np.arange(radius.size, dtype=np.int32)
    still = Settings(diffusion_mm=0.0, time_spread_ns=0.0)
    cell, height, _ = jax.jit(drifted, static_argnums=4)(
        salt_of(1), Arcs(*map(np.float32, places)), number, number, still
    )
    np.testing.assert_array_equal(height, z.ravel().astype(np.float32))
    return np.asarray(cell).reshape(radius.shape) // 512, np.asarray(cell).reshape(radius.shape) % 512


def test_drift_table_round_trip() -> None:
    radius, z = np.meshgrid(np.linspace(109.5, 181.5, 60), np.array([0.0, 500, 700, 900, 1000, 1050, 1150]))
    times = np.array([np.interp(radius[0], drift.RADIUS_GRID_MM, row) for row in drift.drift_table().times_by_radius])
    time = times[drift.region(z[:, 0])]
    assert (np.diff(time, axis=1) < 0).all() and time.min() >= 0 and 3900 < time.max() < 4300
    found, lorentz = drift.radius_and_lorentz(np.round(time / 16).astype(int), z)
    assert np.abs(found - radius)[:, :50].max() < 0.17  # half a bin of 0.3 mm
    assert np.abs(found - radius).max() < 0.55  # faster near the wires
    assert (lorentz >= 0).all() and lorentz[0, 0] == pytest.approx(0.152, abs=0.002)
    # What the simulation makes of the table: the same times, and the wire that the Lorentz angle leads to.
    wire, time_bin = arrived(radius, z, 0.3)
    assert np.abs(time_bin + 0.5 - time / 16).max() < 0.51
    found, lorentz = drift.radius_and_lorentz(time_bin, z)
    assert np.abs(found - radius)[:, :50].max() < 0.34
    assert np.abs(geometry.wire_azimuth(wire) - lorentz - 0.3).max() < 0.6 * geometry.WIRE_PITCH_RAD
    # Electrons from beyond the wires drift inwards, as long as from the same distance within.
    beyond, within = (arrived(np.full((1, 1), at), np.zeros((1, 1)), 0.3)[1] for at in (186.0, 178.0))
    assert beyond == within
    assert (drift.region(np.array([0, 697.4, 697.6, -702.6, 5000])) == [0, 0, 1, 2, 91]).all()


def test_vertex_settings_are_respected(columns) -> None:
    vertex = columns["annihilation"]["vertex"].astype(float)
    radius = np.hypot(vertex[:, 0], vertex[:, 1])
    assert radius.max() <= geometry.WALL_RADIUS_MM + 1e-3
    assert ((radius / geometry.WALL_RADIUS_MM) ** 2).mean() == pytest.approx(0.5, abs=0.03)
    assert abs(vertex[:, 2]).max() <= 1152 and vertex[:, 2].std() == pytest.approx(2304 / np.sqrt(12), rel=0.03)
    settings = Settings(annihilation_on="wall", vertex="wall", z_range_mm=(-50.0, 150.0))
    on_wall = simulation.simulate("annihilation", 500, 1, settings)
    np.testing.assert_allclose(np.hypot(*on_wall["vertex"][:, :2].T), geometry.WALL_RADIUS_MM, rtol=1e-4)
    assert -50 <= on_wall["vertex"][:, 2].min() < -40 and 140 < on_wall["vertex"][:, 2].max() <= 150
    assert {1, 3} <= set(on_wall["charged_pions"].tolist())  # absorption leaves odd numbers


def test_cosmics_cross_the_detector(columns) -> None:
    cosmic = columns["cosmic"]
    assert np.isnan(cosmic["vertex"]).all() and (cosmic["charged_pions"] == -1).all()
    assert (cosmic["count"] == 0).mean() < 0.01 and 40 < np.median(cosmic["count"]) < 150
    # Nearly straight: across the axis, points of a muon scatter little about one line.
    scatter = []
    for cloud in of_events(cosmic, cosmic["points"].astype(float)):
        if len(cloud) > 30:
            scatter.append(np.linalg.svd(cloud - cloud.mean(0), compute_uv=False) / np.sqrt(len(cloud)))
    scatter = np.median(scatter, axis=0)
    assert scatter[0] > 100 and scatter[1] < 8


def test_noise_ghosts_and_inefficiency_change_counts_as_asked() -> None:
    generator = np.random.default_rng(2)
    events = 400
    event = np.repeat(np.arange(events), 50)
    cell = generator.integers(0, 256, len(event)) * 512 + generator.integers(0, 20, len(event))
    hits = readout.Hits(event, cell, generator.uniform(-500, 500, len(event)), generator.exponential(size=len(event)))

    def after(**chosen) -> readout.Hits:
        return readout.with_noise(np.random.default_rng(3), hits, events, Settings(**chosen))

    assert len(after().event) == len(event)
    assert len(after(inefficiency=0.2).event) == pytest.approx(0.8 * len(event), rel=0.03)
    noisy = after(noise_points=7.0)
    assert len(noisy.event) - len(event) == pytest.approx(7 * events, rel=0.06)
    assert abs(noisy.z[len(event) :]).max() > 1100
    ghosts = after(ghost_fraction=0.1)
    added = slice(len(event), None)
    assert len(ghosts.event[added]) == pytest.approx(0.1 * len(event), rel=0.1)
    known = {(e, c) for e, c in zip(event, cell, strict=True)}
    heights = {(e, c % 512, z) for e, c, z in zip(event, cell, hits.z, strict=True)}
    for e, c, z in list(zip(ghosts.event[added], ghosts.cell[added], ghosts.z[added], strict=True))[:50]:
        assert (e, c) in known and (e, c % 512, z) in heights  # a wire and a height that exist, at one time


def test_noisy_differs_as_said() -> None:
    worse = Settings(inefficiency=0.05, noise_points=5.0, ghost_fraction=0.03, z_resolution_mm=1.5, field_tesla=2.0)
    assert simulation.noisy(Settings(field_tesla=2.0)) == worse


def test_close_hits_are_merged_and_the_strongest_kept() -> None:
    event, cell = np.array([0, 0, 0, 0, 1]), np.array([5, 5, 5, 6, 5])
    hits = readout.Hits(event, cell, np.array([1.0, 3.0, 30.0, 1.0, 1.0]), np.array([1.0, 3.0, 1.0, 1.0, 2.0]))
    merged = readout.merge(hits, 12.0)
    found = sorted(zip(merged.event, merged.cell, merged.z, merged.amplitude, strict=True))
    assert found == [(0, 5, 2.5, 4.0), (0, 5, 30.0, 1.0), (0, 6, 1.0, 1.0), (1, 5, 1.0, 2.0)]
    count, points, amplitude = readout.spacepoints(
        np.random.default_rng(0), merged, 3, Settings(most_points=2, z_resolution_mm=0.0)
    )
    assert count.tolist() == [2, 1, 0] and amplitude.tolist() == [4.0, 1.0, 2.0] and points[0, 2] == 2.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: simulation.simulate("anihilation", 1, 0), "nearest: 'annihilation'"),
        (lambda: simulation.simulate("cosmic", 0, 0), "wanted at least 1"),
        (lambda: simulation.simulate("cosmic", 1, -1), "seed"),
        (lambda: simulation.simulate("cosmic", 1, 0, Settings(annihilation_on="hydrogn")), "nearest: 'hydrogen'"),
        (lambda: simulation.simulate("cosmic", 1, 0, Settings(vertex="somewhere")), "vertex is 'somewhere'"),
        (lambda: simulation.simulate("cosmic", 1, 0, Settings(z_range_mm=(5.0, -5.0))), "low <= high"),
        (lambda: simulation.simulate("cosmic", 1, 0, Settings(inefficiency=1.5)), "between 0 and 1"),
        (lambda: simulation.simulate("cosmic", 1, 0, Settings(field_tesla=0.0)), "positive"),
        (lambda: simulation.simulate("cosmic", 1, 0, Settings(noise_points=-1.0)), "0 or more"),
        (lambda: simulation.simulate("cosmic", 1, 0, Settings(diffusion_mm=float("nan"))), "0 or more"),
        (lambda: simulation.simulate("cosmic", 1, 0, Settings(material_shares=(0.5, 0.6))), "add up to 1"),
    ],
)
def test_bad_input_is_one_clear_line(call, message: str) -> None:
    with pytest.raises(BadInput, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_spacepoints_agree_with_geant4(columns, shared) -> None:
    simulated = columns["annihilation"]
    with np.load(shared / "geant4_alpha_g.npz") as sample:
        count, points = np.diff(sample["indptr"]), sample["xyz_tenth_mm"] / 10.0
        geant4 = {"count": count, "points": points, "vertex": sample["vertex_mm"]}
        momentum = np.linalg.norm(sample["pions"][:, 2:], axis=1)
    for quantile, tolerance in ((0.05, 0.25), (0.25, 0.2), (0.5, 0.15), (0.75, 0.15), (0.95, 0.25)):
        first, second = (np.quantile(found["count"], quantile) for found in (geant4, simulated))
        assert second == pytest.approx(first, rel=tolerance)
    assert (simulated["count"] == 0).mean() < 0.012
    shifts, shares = [], []
    for found in (geant4, simulated):
        clouds = of_events(found, found["points"])
        medians = [np.median(c[:, 2]) - v[2] for c, v in zip(clouds, found["vertex"], strict=True) if len(c)]
        shifts.append(np.quantile(np.abs(medians), [0.25, 0.5, 0.75]))
        radius = np.hypot(*found["points"][:, :2].T)
        shares.append(np.histogram(radius, [108, 120, 140, 160, 174, 183])[0] / len(radius))
    np.testing.assert_allclose(shifts[1], shifts[0], rtol=0.2)
    np.testing.assert_allclose(shares[1], shares[0], rtol=0.2)
    final = _final_states(salt_of(3), CHUNK, "hydrogen")
    ours = np.linalg.norm(np.asarray(final.momentum)[:, :6][np.asarray(final.present)[:, :6]], axis=1)
    for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert np.quantile(ours, quantile) == pytest.approx(np.quantile(momentum, quantile), rel=0.2)
