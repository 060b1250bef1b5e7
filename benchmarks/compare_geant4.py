"""Compare the built-in AMS ECAL simulation with a Geant4 sample of the same geometry: a plot and a table of numbers.

    python -m benchmarks.compare_geant4 --geant4 PATH.npz --out docs/ams_ecal_simulation

writes OUT.png and OUT.json. The simulation gets the very particles of the Geant4 sample (energy, entry point,
direction), several times over; ideal deposits are compared, and hit cells after one same readout response.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.compare_geant4_plot import ELECTRON_BINS, PROTON_BINS, cut, draw, interacting
from jaxhep.ams_ecal.simulation import (
    CHUNK,
    SPECIES,
    Primaries,
    Settings,
    deposits,
    draw_primaries,
    read_out,
    simulate,
)

REPEATS = 4


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


def per_event(cells: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
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
        "near": np.stack([(cells * (far <= k)).sum((1, 2)) for k in (0, 1, 2, 3, 5, 8, 15)], 1),
        "centroid": (layers * np.arange(18)).sum(1) / layers.sum(1),
        "hits": np.concatenate(hits),
        "hits_ideal": (cells > 0.004).sum((1, 2)),
    }


def electron_numbers(events: dict[str, np.ndarray]) -> dict[str, float]:
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
        for column, cells in ((1, 1), (2, 2), (4, 5)):
            share = some["near"][:, column].sum() / some["visible"].sum()
            numbers[f"energy within {cells} cells of a layer's maximum, {at}"] = share
        for layer in (0, 1, 2, 4, 8, 12, 17):
            share = 100 * (some["layers"][:, layer] / some["energy"]).mean()
            numbers[f"energy in layer {layer}, {at}: mean, % of E"] = share
        numbers[f"hit cells after readout, {at}: mean"] = some["hits"].mean()
        numbers[f"hit cells after readout, {at}: standard deviation"] = some["hits"].std()
    return numbers


def proton_numbers(events: dict[str, np.ndarray]) -> dict[str, float]:
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
        for column, cells in ((1, 1), (2, 2), (4, 5)):
            share = some["near"][:, column].sum() / some["visible"].sum()
            numbers[f"energy within {cells} cells of a layer's maximum, {at}"] = share
        numbers[f"hit cells after readout, {at}: mean"] = some["hits"].mean()
    crossing = events["visible"] < 1
    numbers["crossing protons: median visible energy, MeV"] = 1e3 * np.median(events["visible"][crossing])
    numbers["crossing protons: median energy of layer 9, MeV"] = 1e3 * np.median(events["layers"][crossing, 9])
    return numbers


def table(
    numbers, reference: dict[str, np.ndarray], simulation: dict[str, np.ndarray]
) -> dict[str, dict[str, float | None]]:
    """Return each number of both samples, Geant4's statistical error (30 bootstrap samples), and their ratio."""
    random = np.random.default_rng(0)
    size = len(reference["energy"])
    samples = []
    for _ in range(30):
        chosen = random.integers(0, size, size)
        samples.append(numbers({name: values[chosen] for name, values in reference.items()}))
    first, second = numbers(reference), numbers(simulation)
    return {
        name: {
            "geant4": round(float(value), 5),
            "geant4_error": round(float(np.std([sample[name] for sample in samples])), 5),
            "simulation": round(float(second[name]), 5),
            "ratio": round(float(second[name] / value), 3) if value else None,
        }
        for name, value in first.items()
    }


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
    for low, high in (
        (50, 100),
        (100, 200),
        (200, 400),
        (400, 1000),
        (1000, 1500),
        (1500, 2000),
        (2000, 2500),
    ):
        ratio = (columns["en3d"] / columns["mom"])[(columns["mom"] >= low) & (columns["mom"] < high)]
        bias[f"{low}-{high} GeV"] = round(float(ratio.mean()) - 1, 4)
        spread[f"{low}-{high} GeV"] = round(float(ratio.std()), 4)
    return {
        "contained fraction of 1 TeV electrons by radiation lengths": contained,
        "protons of 1 TeV that leave over 600 GeV, by charge exchange": ceiling,
        "electron en3d / E - 1": bias,
        "electron en3d / E: standard deviation": spread,
    }


def main() -> None:
    """Compare, write OUT.png and OUT.json, print the numbers that differ by more than 20 %."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--geant4", type=Path, required=True, help="the Geant4 sample, .npz")
    parser.add_argument("--out", type=Path, required=True, help="path of the outputs, without ending")
    arguments = parser.parse_args()
    sample = np.load(arguments.geant4)
    reference, simulation = {}, {}
    numbers: dict[str, dict] = {}
    for species, compared in zip(SPECIES, (electron_numbers, proton_numbers), strict=True):
        cells, truth = geant4_cells(sample, species)
        reference[species] = per_event(cells, truth)
        repeats = [per_event(simulated_cells(species, truth, Settings(), seed), truth) for seed in range(REPEATS)]
        simulation[species] = {name: np.concatenate([some[name] for some in repeats]) for name in repeats[0]}
        numbers[species] = table(compared, reference[species], simulation[species])
    document = {
        "reference": "Geant4 with approximate low-energy tables",
        "bins": "true energy of the particle",
        **numbers,
        "settings": settings_numbers(),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    draw(reference, simulation, arguments.out.with_suffix(".png"))
    for species in SPECIES:
        for name, row in numbers[species].items():
            if row["ratio"] is None or abs(row["ratio"] - 1) > 0.2:
                print(species, name, row)


if __name__ == "__main__":
    main()
