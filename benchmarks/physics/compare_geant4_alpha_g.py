"""Compare the built-in ALPHA-g simulation with a Geant4 sample of the same chamber: a plot and a table of numbers.

    python -m benchmarks.physics.compare_geant4_alpha_g --geant4 PATH.npz --out docs/alpha_g_simulation

writes OUT.png and OUT.json. The settings are the defaults, vertices are drawn anew as the sample has them (uniform in
the trap and along the chamber), tracks and vertices are found in both samples by the same Helix Fit.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.spatial import cKDTree

from benchmarks.physics import Events, canvas, compared, differs, write
from benchmarks.physics.geant4_spacepoints import read_sample
from jaxhep.alpha_g.geometry import INNER_RADIUS_MM, WIRE_RADIUS_MM
from jaxhep.alpha_g.helix_fit import reconstruct
from jaxhep.alpha_g.simulation import DEFAULT, simulate
from jaxhep.alpha_g.simulation.annihilation import MOST_CHARGED, final_states
from jaxhep.random_numbers import salt_of

RADII_MM = np.array([108.0, 115, 125, 135, 145, 155, 165, 174, 183])
COLOURS = ("#5790fc", "#f89c20", "#e42536")
FITTED = 1000  # events of each sample that the Helix Fit reconstructs
NEIGHBOUR_POINTS = 20  # of each event whose nearest neighbours are looked for
QUANTILES = (5, 25, 50, 75, 95)


def geant4_events(path: Path) -> Events:
    """Return count (N,), points (P, 3) and vertex (N, 3) in mm, charged_pions (N,), pions (K, 3) in MeV/c."""
    columns = read_sample(path)
    with np.load(path) as sample:
        return {**columns, "pions": sample["pions"][:, 2:]}


def simulated_events(events: int, seed: int) -> Events:
    """Return the same of the simulation; pions are as many more of its annihilations."""
    columns = simulate("annihilation", events, seed)
    compiled = jax.jit(final_states, static_argnums=(1, 2))
    final = compiled(salt_of(seed, 999), events, DEFAULT.annihilation_on)
    charged = np.asarray(final.present)[:, :MOST_CHARGED]
    return {**columns, "pions": np.asarray(final.momentum)[:, :MOST_CHARGED][charged]}


def per_event(sample: Events) -> Events:
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


def fitted(sample: Events) -> Events:
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


def numbers(events: Events, sample: Events) -> dict[str, float]:
    """Return the numbers compared, by name."""
    result, pions = {}, sample["pions"]

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


def draw(samples: list[Events], events: list[Events], path: Path) -> None:
    """Draw the comparison, one panel per quantity: Geant4 as points with errors, the simulation as steps."""
    axes, save = canvas((21, 18), {"font.size": 16})
    finite = [
        {name: v[np.isfinite(v)] for name, v in some.items() if v.ndim < 3 and name != "radii"} for some in events
    ]

    def panel(place: tuple[int, int], values, bins, xlabel: str, of: str, totals=(None, None), **more: Any) -> None:
        """Each sample is normalised to all its values, or to a total."""
        axis = axes[place]
        (points, steps), each = (np.histogram(some, bins)[0] for some in values), zip(values, totals, strict=True)
        first, second = (len(some) if total is None else total for some, total in each)
        error = np.where(points > 0, np.sqrt(points), np.nan) / first
        shown = np.where(points > 0, points / first, np.nan)
        axis.errorbar((bins[1:] + bins[:-1]) / 2, shown, error, fmt="o", color="black", ms=5)
        axis.stairs(steps / second, bins, color=COLOURS[0], linewidth=2)
        axis.set(xlabel=xlabel, ylabel=f"Fraction of {of}", **more)

    def column(name: str) -> list[np.ndarray]:
        return [some[name] for some in finite]

    transverse = [np.hypot(*sample["pions"][:, :2].T) for sample in samples]
    radius = [np.hypot(*sample["points"][:, :2].T) for sample in samples]
    tracks = [len(some["tracks"]) for some in events]
    of, log = "events per bin", {"yscale": "log"}
    panel((0, 0), column("charged"), np.arange(-0.5, 7.5), "Charged pions at the vertex", "events")
    panel((0, 1), transverse, np.linspace(0, 900, 37), "Pion transverse momentum [MeV/c]", "pions per bin")
    # The last bin holds the events that were cut at 1,500 points.
    panel((0, 2), column("count"), np.linspace(0, 1550, 32), "Spacepoints per event", of, **log)
    panel((1, 0), column("shift"), np.linspace(-700, 700, 57), "Median z - vertex z [mm]", of, **log)
    bins = np.linspace(108, 183, 26)
    panel((1, 1), radius, bins, "Radius of spacepoints [mm]", "points per bin", ylim=(0, None))
    panel((1, 2), column("resultant"), np.linspace(0, 1, 26), "Mean resultant length of azimuths", of)
    panel((2, 1), column("residual"), np.linspace(-50, 50, 51), "Helix Fit z - vertex z [mm]", of, tracks)
    bins = np.linspace(0, 60, 31)
    panel((2, 2), column("approach"), bins, "Track to vertex, across the axis [mm]", "tracks per bin")

    axis, bins = axes[2, 0], np.linspace(0, 12, 61)
    for name, colour, text, place in (
        ("neighbour", COLOURS[0], "nearest", (1.8, 0.12)),
        ("fifth", COLOURS[2], "fifth nearest", (6.0, 0.045)),
    ):
        number = [np.histogram(v, bins)[0] / len(v) for v in column(name)]
        axis.plot((bins[1:] + bins[:-1]) / 2, np.where(number[0] > 0, number[0], np.nan), "o", color="black", ms=4)
        axis.stairs(number[1], bins, color=colour, linewidth=2)
        axis.text(*place, text, color=colour)
    axis.set(xlabel="Distance to other points, event median [mm]", ylabel="Fraction of events per bin")
    save(path, COLOURS[0], 55)


def main() -> None:
    """Compare, write OUT.png and OUT.json, print the table and mark the numbers that differ by more than 20 %."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--geant4", type=Path, required=True, help="the Geant4 sample, .npz")
    parser.add_argument("--out", type=Path, required=True, help="path of the outputs, without ending")
    parser.add_argument("--events", type=int, default=12000, help="events simulated")
    arguments = parser.parse_args()
    samples = [geant4_events(arguments.geant4), simulated_events(arguments.events, seed=1)]
    events = [per_event(sample) for sample in samples]
    reference, simulation = zip(events, [{"pions": sample["pions"]} for sample in samples], strict=True)
    rows = compared(numbers, reference, simulation, samples=40)
    counts = {"geant4": len(samples[0]["count"]), "simulation": len(samples[1]["count"]), "helix_fit": FITTED}
    gas = [INNER_RADIUS_MM, WIRE_RADIUS_MM]
    write(arguments.out, events=counts, gas_mm=gas, settings=DEFAULT._asdict(), numbers=rows)
    draw(samples, events, arguments.out.with_suffix(".png"))
    for name, row in rows.items():
        values = f"{row['geant4']:10.4g} +- {row['geant4_error']:8.2g} {row['simulation']:10.4g}  {row['ratio']}"
        print(f"{name:70s} {values}{'   <--' * differs(row)}")


if __name__ == "__main__":
    main()
