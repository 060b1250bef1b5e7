"""Compare the built-in AMS ECAL simulation with a Geant4 sample of the same geometry: a plot and a table of numbers.

    python -m benchmarks.physics.compare_geant4 --geant4 PATH.npz --out docs/ams_ecal_simulation

writes OUT.png and OUT.json. The simulation gets the very particles of the Geant4 sample (energy, entry point,
direction), several times over; ideal deposits are compared, and hit cells after one same readout response.
"""

import argparse
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.physics import Events, canvas, compared, differs, write
from jaxhep.ams_ecal.simulation import CHUNK, SPECIES, Primaries, Settings, deposits, draw_primaries, read_out, simulate

REPEATS = 4
ELECTRON_BINS = ((50, 100), (100, 300), (300, 700))
PROTON_BINS = ((100, 300), (300, 1000), (1000, 2000))
COLOURS = ("#3f90da", "#ffa90e", "#bd1f01")
WITHIN = (0, 1, 2, 3, 5, 8, 15)  # cells either side of a layer's maximum


def geant4_cells(sample, species: str) -> tuple[np.ndarray, np.ndarray]:
    """Return Geant4's deposits (N, 18, 72) in GeV and the true (N, 5) energy, entry point in mm, slopes."""
    starts = sample[f"{species}_indptr"]
    cells = np.zeros((len(starts) - 1, 18 * 72), np.float32)
    cells[np.repeat(np.arange(len(cells)), np.diff(starts)), sample[f"{species}_cell"]] = (
        1e-6 * sample[f"{species}_keV"]
    )
    return cells.reshape(-1, 18, 72), sample[f"{species}_truth"]


def simulated_cells(species: str, truth: np.ndarray, settings: Settings, seed: int = 0) -> np.ndarray:
    """Return simulated deposits (N, 18, 72) in GeV of the same particles."""
    compiled = jax.jit(partial(deposits, species=species, settings=settings))
    chunks = []
    for index, start in enumerate(range(0, len(truth), CHUNK)):
        energy, x, y, slope_x, slope_y = np.resize(truth[start : start + CHUNK], (CHUNK, 5)).T
        primaries = Primaries(*(jnp.asarray(v) for v in (energy, np.ones_like(energy), x, y, slope_x, slope_y)))
        cells = compiled(jax.random.fold_in(jax.random.key(seed), index), primaries=primaries)
        chunks.append(np.asarray(cells)[: len(truth) - start])
    return np.concatenate(chunks)


def per_event(cells: np.ndarray, truth: np.ndarray) -> Events:
    """Return what the comparison needs of each event."""
    layers = cells.sum(2)
    far = np.abs(np.arange(72) - cells.argmax(2)[..., None])
    read = jax.jit(partial(read_out, settings=Settings()))
    hits = []
    for index, start in enumerate(range(0, len(cells), CHUNK)):
        part = cells[start : start + CHUNK]
        padded = np.zeros((CHUNK, 18, 72), np.float32)
        padded[: len(part)] = part
        signal = read(jax.random.fold_in(jax.random.key(7), index), deposits_gev=jnp.asarray(padded))
        hits.append((np.asarray(signal)[: len(part)] > 0).sum((1, 2)))
    return {
        "energy": truth[:, 0],
        "visible": layers.sum(1),
        "layers": layers,
        "near": np.stack([(cells * (far <= k)).sum((1, 2)) for k in WITHIN], 1),
        "centroid": (layers * np.arange(18)).sum(1) / layers.sum(1),
        "hits": np.concatenate(hits),
        "hits_ideal": (cells > 0.004).sum((1, 2)),
    }


def cut(events: Events, low: float, high: float) -> Events:
    """Return the events of true energy low to high."""
    chosen = (events["energy"] >= low) & (events["energy"] < high)
    return {name: values[chosen] for name, values in events.items()}


def interacting(events: Events) -> Events:
    """Return the events that leave more than 1 GeV."""
    chosen = events["visible"] > 1
    return {name: values[chosen] for name, values in events.items()}


def electron_numbers(events: Events) -> dict[str, float]:
    """Return the numbers compared for electrons, by name."""
    numbers = {}
    for low, high in ELECTRON_BINS:
        some = cut(events, low, high)
        at = f"{low}-{high} GeV"
        fraction = some["visible"] / some["energy"]
        numbers[f"visible energy fraction, {at}: mean"] = fraction.mean()
        numbers[f"visible energy fraction, {at}: standard deviation"] = fraction.std()
        for quantile in (5, 50, 95):
            numbers[f"visible energy fraction, {at}: {quantile} % quantile"] = np.quantile(fraction, quantile / 100)
        numbers[f"centroid layer, {at}: mean"] = some["centroid"].mean()
        numbers[f"centroid layer, {at}: standard deviation"] = some["centroid"].std()
        for column in (1, 2, 4):
            share = some["near"][:, column].sum() / some["visible"].sum()
            numbers[f"energy within {WITHIN[column]} cells of a layer's maximum, {at}"] = share
        for layer in (0, 1, 2, 4, 8, 12, 17):
            share = 100 * (some["layers"][:, layer] / some["energy"]).mean()
            numbers[f"energy in layer {layer}, {at}: mean, % of E"] = share
        numbers[f"hit cells after readout, {at}: mean"] = some["hits"].mean()
        numbers[f"hit cells after readout, {at}: standard deviation"] = some["hits"].std()
    return numbers


def proton_numbers(events: Events) -> dict[str, float]:
    """Return the numbers compared for protons, by name."""
    numbers = {}
    for low, high in (*PROTON_BINS, (100, 2000)):
        everyone = cut(events, low, high)
        some = interacting(everyone)
        at = f"{low}-{high} GeV"
        numbers[f"leave under 1 GeV, {at}: fraction"] = 1 - len(some["energy"]) / len(everyone["energy"])
        for quantile in (5, 25, 50, 75, 95, 99):
            value = np.quantile(some["visible"] / some["energy"], quantile / 100)
            numbers[f"visible / E above 1 GeV, {at}: {quantile} % quantile"] = value
        for part in (0.3, 0.5, 0.6, 0.7, 0.8):
            fraction = (everyone["visible"] / everyone["energy"] > part).mean()
            numbers[f"visible / E > {part}, {at}: fraction of all"] = fraction
        numbers[f"centroid layer, {at}: mean"] = some["centroid"].mean()
        numbers[f"centroid layer, {at}: standard deviation"] = some["centroid"].std()
        shares = some["layers"] / some["visible"][:, None]
        numbers[f"last two layers, {at}: mean share"] = shares[:, -2:].sum(1).mean()
        numbers[f"first four layers, {at}: mean share"] = shares[:, :4].sum(1).mean()
        numbers[f"layer 0 over 60 MeV, {at}: fraction of all"] = (everyone["layers"][:, 0] > 0.06).mean()
        for column in (1, 2, 4):
            share = some["near"][:, column].sum() / some["visible"].sum()
            numbers[f"energy within {WITHIN[column]} cells of a layer's maximum, {at}"] = share
        numbers[f"hit cells after readout, {at}: mean"] = some["hits"].mean()
    crossing = events["visible"] < 1
    numbers["crossing protons: median visible energy, MeV"] = 1e3 * np.median(events["visible"][crossing])
    numbers["crossing protons: median energy of layer 9, MeV"] = 1e3 * np.median(events["layers"][crossing, 9])
    return numbers


def settings_numbers() -> dict[str, dict[str, float]]:
    """Return what the depth, the charge exchange and the response do, from the simulation alone."""
    directions = draw_primaries(jax.random.key(3), "electron", 2 * CHUNK, Settings())
    tev = np.stack([np.full(2 * CHUNK, 1000.0), *(np.asarray(values) for values in directions[2:])], 1)
    contained, ceiling, bias, spread = {}, {}, {}, {}
    for depth in (13.0, 14.0, 15.0, 16.0, 17.0, 18.0):
        cells = simulated_cells("electron", tev, Settings(radiation_lengths=depth))
        contained[str(depth)] = round(float(cells.sum((1, 2)).mean() / 1000), 4)
    protons = np.repeat(tev, 10, 0)
    for chance in (0.0, 0.03, 0.1):
        cells = simulated_cells("proton", protons, Settings(charge_exchange=chance))
        ceiling[str(chance)] = round(float((cells.sum((1, 2)) > 600).mean()), 5)
    columns = simulate("electron", 20 * CHUNK, 1, Settings(electron_energy_gev=(50.0, 2500.0)))
    for low, high in pairwise((50, 100, 200, 400, 1000, 1500, 2000, 2500)):
        ratio = (columns["en3d"] / columns["mom"])[(columns["mom"] >= low) & (columns["mom"] < high)]
        bias[f"{low}-{high} GeV"] = round(float(ratio.mean()) - 1, 4)
        spread[f"{low}-{high} GeV"] = round(float(ratio.std()), 4)
    return {
        "contained fraction of 1 TeV electrons by radiation lengths": contained,
        "protons of 1 TeV that leave over 600 GeV, by charge exchange": ceiling,
        "electron en3d / E - 1": bias,
        "electron en3d / E: standard deviation": spread,
    }


def draw(reference: dict[str, Events], simulation: dict[str, Events], path: Path) -> None:
    """Draw the comparison, one panel per quantity: Geant4 as points, the simulation as lines."""
    style = {"font.size": 15, "axes.labelsize": 16, "legend.fontsize": 12, "lines.linewidth": 2}
    axes, save = canvas((20, 17), style)
    electrons, protons = ((reference[name], simulation[name]) for name in ("electron", "proton"))

    def both(pair):
        return zip(pair, ("o", "-"), strict=True)

    def label(axis, title: str, xlabel: str, ylabel: str, **more) -> None:
        axis.set(xlabel=xlabel, ylabel=ylabel, **more)
        axis.set_title(title, fontsize=16)

    def profile(axis, title: str, pair, bins, select) -> None:
        for (low, high), colour in zip(bins, COLOURS, strict=True):
            for events, line in both(pair):
                some = select(cut(events, low, high))
                mean = 100 * (some["layers"] / some["energy"][:, None]).mean(0)
                axis.plot(np.arange(18), mean, line, color=colour, label=f"{low}-{high} GeV" if line == "-" else None)
        label(axis, title, "Layer", "Mean energy per layer [% of E]")
        axis.legend()

    def spectrum(axis, values, bins, colour: str, text: str) -> None:
        for sample, line in both(values):
            number, _ = np.histogram(sample, bins)
            if line == "o":
                error = np.where(number > 0, np.sqrt(number), np.nan) / len(sample)
                axis.errorbar((bins[1:] + bins[:-1]) / 2, number / len(sample), error, fmt="o", color=colour)
            else:
                axis.stairs(number / len(sample), bins, color=colour, label=text, linewidth=2)

    profile(axes[0, 0], "Electrons: layer profile", electrons, ELECTRON_BINS, lambda events: events)
    for (low, high), colour in zip(ELECTRON_BINS, COLOURS, strict=True):
        for events, line in both(electrons):
            some = cut(events, low, high)
            axes[0, 1].plot(WITHIN, 1 - some["near"].sum(0) / some["visible"].sum(), line, color=colour)
    where = "Cells either side of the layer's maximum"
    label(axes[0, 1], "Electrons: transverse containment", where, "Energy outside", yscale="log")

    edges = np.geomspace(50, 700, 8)
    centre = np.sqrt(edges[1:] * edges[:-1])
    for events, line in both(electrons):
        parts = [cut(events, low, high) for low, high in pairwise(edges)]
        fractions = [some["visible"] / some["energy"] for some in parts]
        axes[0, 2].plot(centre, [f.mean() for f in fractions], line, color=COLOURS[0])
        axes[0, 2].plot(centre, [10 * f.std() for f in fractions], line, color=COLOURS[2])
        axes[1, 0].plot(centre, [some["hits"].mean() for some in parts], line, color=COLOURS[0])
    axes[0, 2].text(60, 0.8, "mean", color=COLOURS[0])
    axes[0, 2].text(60, 0.5, "standard deviation x 10", color=COLOURS[2])
    label(axes[0, 2], "Electrons: visible energy", "E [GeV]", "Visible energy / E", xscale="log", ylim=(0.2, 1.05))

    edges = np.geomspace(1, 1000, 13)
    centre = np.sqrt(edges[1:] * edges[:-1])
    for events, line in both(protons):
        hits = [events["hits"][(events["visible"] >= a) & (events["visible"] < b)] for a, b in pairwise(edges)]
        axes[1, 0].plot(centre, [h.mean() if len(h) > 9 else np.nan for h in hits], line, color=COLOURS[2])
    axes[1, 0].text(100, 150, "electrons, against E", color=COLOURS[0])
    axes[1, 0].text(100, 115, "protons, against visible energy", color=COLOURS[2], ha="center")
    label(axes[1, 0], "Hit cells", "Energy [GeV]", "Mean hit cells after readout", xscale="log")

    for (low, high), colour in zip(PROTON_BINS, COLOURS, strict=True):
        values = [interacting(cut(events, low, high)) for events in protons]
        shares = [some["visible"] / some["energy"] for some in values]
        spectrum(axes[1, 1], shares, np.linspace(0, 0.9, 19), colour, f"{low}-{high} GeV")
    label(axes[1, 1], "Protons above 1 GeV: visible energy", "Visible energy / E", "Fraction per bin", yscale="log")
    axes[1, 1].legend()
    edges = np.geomspace(100, 2000, 7)
    centre = np.sqrt(edges[1:] * edges[:-1])
    for events, line in both(protons):
        crossing = [cut(events, low, high)["visible"] < 1 for low, high in pairwise(edges)]
        error = [np.sqrt(p.mean() * (1 - p.mean()) / len(p)) if line == "o" else 0 for p in crossing]
        axes[1, 2].errorbar(centre, [p.mean() for p in crossing], error, fmt=line, color=COLOURS[0])
    label(axes[1, 2], "Protons that leave under 1 GeV", "E [GeV]", "Fraction", xscale="log", ylim=(0.3, 0.7))

    profile(axes[2, 0], "Protons above 1 GeV: layer profile", protons, PROTON_BINS, interacting)
    for pair, colour, text in ((protons, COLOURS[2], "protons"), (electrons, COLOURS[0], "electrons")):
        logarithm = [np.log10(1e3 * np.maximum(events["layers"][:, 0], 1e-6)) for events in pair]
        spectrum(axes[2, 1], logarithm, np.linspace(0.5, 4, 29), colour, text)
    where = r"$\log_{10}$(energy in layer 0 / MeV)"
    label(axes[2, 1], "First layer", where, "Fraction per bin", yscale="log")
    axes[2, 1].legend()
    values = [interacting(events) for events in protons]
    for column, colour in zip((1, 2, 4), COLOURS, strict=True):
        shares = [some["near"][:, column] / some["visible"] for some in values]
        spectrum(axes[2, 2], shares, np.linspace(0.3, 1, 29), colour, rf"$\pm${WITHIN[column]} cells")
    where = "Energy within, / visible energy"
    label(axes[2, 2], "Protons above 1 GeV: transverse containment", where, "Fraction per bin", yscale="log")
    axes[2, 2].legend(loc="upper left")
    save(path, "black", 60)


def main() -> None:
    """Compare, write OUT.png and OUT.json, print the numbers that differ by more than 20 %."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--geant4", type=Path, required=True, help="the Geant4 sample, .npz")
    parser.add_argument("--out", type=Path, required=True, help="path of the outputs, without ending")
    arguments = parser.parse_args()
    sample = np.load(arguments.geant4)
    reference, simulation = {}, {}
    numbers: dict[str, Any] = {}
    for species, named in zip(SPECIES, (electron_numbers, proton_numbers), strict=True):
        cells, truth = geant4_cells(sample, species)
        reference[species] = per_event(cells, truth)
        repeats = [per_event(simulated_cells(species, truth, Settings(), seed), truth) for seed in range(REPEATS)]
        simulation[species] = {name: np.concatenate([some[name] for some in repeats]) for name in repeats[0]}
        numbers[species] = compared(named, (reference[species],), (simulation[species],), samples=30)
    write(arguments.out, bins="true energy of the particle", **numbers, settings=settings_numbers())
    draw(reference, simulation, arguments.out.with_suffix(".png"))
    for species in SPECIES:
        for name, row in numbers[species].items():
            if differs(row):
                print(species, name, row)


if __name__ == "__main__":
    main()
