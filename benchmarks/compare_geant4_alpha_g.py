"""Compare the built-in ALPHA-g simulation with a Geant4 sample of the same chamber: a plot and a table of numbers.

    python -m benchmarks.compare_geant4_alpha_g --geant4 PATH.npz --out docs/alpha_g_simulation

writes OUT.png and OUT.json. The settings are the defaults, vertices are drawn anew as the sample has them (uniform in
the trap and along the chamber), tracks and vertices are found in both samples by the same Helix Fit.
"""

import argparse
import json
from pathlib import Path

import jax
import numpy as np
from scipy.spatial import cKDTree

from benchmarks.compare_geant4_alpha_g_plot import draw
from jaxhep.alpha_g.annihilation import MOST_CHARGED, final_states
from jaxhep.alpha_g.geometry import INNER_RADIUS_MM, WIRE_RADIUS_MM
from jaxhep.alpha_g.helix_fit import reconstruct
from jaxhep.alpha_g.random_numbers import salt_of
from jaxhep.alpha_g.simulation import DEFAULT, simulate

RADII_MM = np.array([108.0, 115, 125, 135, 145, 155, 165, 174, 183])
FITTED = 1000  # events of each sample that the Helix Fit reconstructs
NEIGHBOUR_POINTS = 20  # of each event whose nearest neighbours are looked for
QUANTILES = (5, 25, 50, 75, 95)


def geant4_events(path: Path) -> dict[str, np.ndarray]:
    """Return count (N,), points (P, 3) and vertex (N, 3) in mm, charged_pions (N,), pions (K, 3) in MeV/c."""
    with np.load(path) as sample:
        count = np.diff(sample["indptr"])
        event = sample["pions"][:, 0].astype(int)
        return {
            "count": count,
            "points": sample["xyz_tenth_mm"].astype(np.float32) / 10,
            "vertex": sample["vertex_mm"],
            "charged_pions": np.bincount(event, minlength=len(count)),
            "pions": sample["pions"][:, 2:],
        }


def simulated_events(events: int, seed: int) -> dict[str, np.ndarray]:
    """Return the same of the simulation; pions are as many more of its annihilations."""
    columns = simulate("annihilation", events, seed)
    compiled = jax.jit(final_states, static_argnums=(1, 2))
    final = compiled(salt_of(seed, 999), events, DEFAULT.annihilation_on)
    charged = np.asarray(final.present)[:, :MOST_CHARGED]
    return {**columns, "pions": np.asarray(final.momentum)[:, :MOST_CHARGED][charged]}


def per_event(sample: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what the comparison needs of each event, (N,) or (N, more) each; NaN where an event has none."""
    count, points, vertex = sample["count"], sample["points"], sample["vertex"]
    starts = np.cumsum(count) - count
    event = np.repeat(np.arange(len(count)), count)
    radius = np.hypot(points[:, 0], points[:, 1])
    rows = np.histogram2d(event, radius, (np.arange(len(count) + 1) - 0.5, RADII_MM))[0]
    unit = points[:, :2] / radius[:, None]
    result = {
        "count": count.astype(float),
        "charged": sample["charged_pions"].astype(float),
        "radii": rows,
        "resultant": np.hypot(*(np.bincount(event, unit[:, i], len(count)) for i in (0, 1))) / np.maximum(count, 1),
    }
    result["resultant"][count == 0] = np.nan
    for name in ("shift", "spread", "neighbour", "fifth"):
        result[name] = np.full(len(count), np.nan)
    random = np.random.default_rng(0)
    for index in np.flatnonzero(count > 5):
        cloud = points[starts[index] : starts[index] + count[index]]
        result["shift"][index] = np.median(cloud[:, 2]) - vertex[index, 2]
        result["spread"][index] = np.subtract(*np.quantile(cloud[:, 2], [0.75, 0.25]))
        some = cloud[random.integers(0, len(cloud), NEIGHBOUR_POINTS)]
        distance, _ = cKDTree(cloud).query(some, 6)
        result["neighbour"][index], result["fifth"][index] = np.median(distance[:, [1, 5]], axis=0)
    return result | fitted(sample)


def fitted(sample: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return tracks, residual of z and distances of tracks to the true vertex by the Helix Fit, (FITTED, ...)."""
    count, vertex = sample["count"][:FITTED], sample["vertex"][:FITTED]
    most = min(int(count.max()), 800)
    starts = np.cumsum(count) - count
    padded = np.zeros((len(count), most, 3), np.float32)
    for index, start in enumerate(starts):
        some = sample["points"][start : start + min(count[index], most)]
        padded[index, : len(some)] = some
    found = reconstruct(padded, np.minimum(count, most))
    centre, radius = found.helices[..., :2], found.helices[..., 2]
    distance = np.abs(np.hypot(*np.moveaxis(centre - vertex[:, None, :2], -1, 0)) - radius)
    return {
        "tracks": found.tracks.astype(float),
        "residual": found.vertex[:, 2] - vertex[:, 2],
        "approach": np.where(found.in_vertex, distance, np.nan),
    }


def numbers(events: dict[str, np.ndarray], pions: np.ndarray) -> dict[str, float]:
    """Return the numbers compared, by name."""
    result = {}

    def quantiles(name: str, values: np.ndarray, which=QUANTILES) -> None:
        for percent in which:
            result[f"{name}: {percent} % quantile"] = np.nanquantile(values, percent / 100)

    for charged in (0, 2, 4, 6):
        result[f"events with {charged} charged pions: fraction"] = (events["charged"] == charged).mean()
    quantiles("transverse momentum of charged pions, MeV/c", np.hypot(pions[:, 0], pions[:, 1]))
    quantiles("momentum of charged pions, MeV/c", np.linalg.norm(pions, axis=1))
    result["spacepoints per event: mean"] = events["count"].mean()
    quantiles("spacepoints per event", events["count"])
    for charged in (0, 2, 4, 6):
        some = events["count"][events["charged"] == charged]
        result[f"spacepoints per event with {charged} charged pions: 50 % quantile"] = np.median(some)
    result["events without a spacepoint: fraction"] = (events["count"] == 0).mean()
    result["events with 1,500 spacepoints (cut): fraction"] = (events["count"] >= 1500).mean()
    quantiles("abs(median z - vertex z), mm", np.abs(events["shift"]), (25, 50, 75))
    quantiles("interquartile range of z in an event, mm", events["spread"], (25, 50, 75))
    share = events["radii"].sum(0) / events["radii"].sum()
    for low, high, value in zip(RADII_MM[:-1], RADII_MM[1:], share, strict=True):
        result[f"points with r of {low:.0f}-{high:.0f} mm: fraction"] = value
    quantiles("mean resultant length of the azimuths of an event", events["resultant"], (25, 50, 75))
    quantiles("distance to the nearest point, median of an event, mm", events["neighbour"], (5, 25, 50, 75, 95))
    quantiles("distance to the fifth nearest point, median of an event, mm", events["fifth"], (5, 25, 50, 75, 95))
    result["Helix Fit, tracks found per event: mean"] = events["tracks"].mean()
    result["Helix Fit, vertex found: fraction"] = np.isfinite(events["residual"]).mean()
    quantiles("Helix Fit, abs(residual of z), mm", np.abs(events["residual"]), (25, 50, 75))
    quantiles("distance of tracks to the vertex across the axis, mm", events["approach"], (25, 50, 75))
    return result


def table(reference: dict, simulation: dict, pions: tuple) -> dict[str, dict[str, float | None]]:
    """Return each number of both samples, Geant4's statistical error (40 bootstrap samples of events), the ratio."""
    random = np.random.default_rng(0)
    errors: dict[str, list[float]] = {}
    for _ in range(40):
        draws = {size: random.integers(0, size, size) for size in {len(v) for v in reference.values()}}
        chosen = {name: values[draws[len(values)]] for name, values in reference.items()}
        for name, value in numbers(chosen, pions[0][random.integers(0, len(pions[0]), len(pions[0]))]).items():
            errors.setdefault(name, []).append(value)
    first, second = numbers(reference, pions[0]), numbers(simulation, pions[1])
    return {
        name: {
            "geant4": round(float(value), 5),
            "geant4_error": round(float(np.std(errors[name])), 5),
            "simulation": round(float(second[name]), 5),
            "ratio": round(float(second[name] / value), 3) if value else None,
        }
        for name, value in first.items()
    }


def main() -> None:
    """Compare, write OUT.png and OUT.json, print the table and mark the numbers that differ by more than 20 %."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--geant4", type=Path, required=True, help="the Geant4 sample, .npz")
    parser.add_argument("--out", type=Path, required=True, help="path of the outputs, without ending")
    parser.add_argument("--events", type=int, default=12000, help="events simulated")
    arguments = parser.parse_args()
    samples = geant4_events(arguments.geant4), simulated_events(arguments.events, seed=1)
    events = [per_event(sample) for sample in samples]
    rows = table(events[0], events[1], (samples[0]["pions"], samples[1]["pions"]))
    document = {
        "reference": "Geant4 with approximate low-energy tables",
        "events": {"geant4": len(samples[0]["count"]), "simulation": len(samples[1]["count"]), "helix_fit": FITTED},
        "gas_mm": [INNER_RADIUS_MM, WIRE_RADIUS_MM],
        "settings": DEFAULT._asdict(),
        "numbers": rows,
    }
    for name, row in rows.items():
        mark = "   <--" if row["ratio"] is None or abs(row["ratio"] - 1) > 0.2 else ""
        print(
            f"{name:70s} {row['geant4']:10.4g} +- {row['geant4_error']:8.2g} {row['simulation']:10.4g}  {row['ratio']}{mark}"
        )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    draw(samples, events, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
