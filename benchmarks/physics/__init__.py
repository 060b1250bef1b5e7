"""Comparisons of the built-in simulations with Geant4, and the standard reconstruction: what they share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REFERENCE = "Geant4 with approximate low-energy tables"

Events = dict[str, np.ndarray]
Numbers = dict[str, dict[str, float | None]]


def compared(numbers: Callable, reference: tuple[Events, ...], simulation: tuple[Events, ...], samples: int) -> Numbers:
    """Return each number of both samples, Geant4's statistical error from so many bootstrap samples, and the ratio.

    `numbers(*tables)` gives the numbers by name; columns of one table that have the same length are of the same events.
    """
    random = np.random.default_rng(0)
    drawn: dict[str, list[float]] = {}
    for _ in range(samples):
        chosen = []
        for table in reference:
            draws = {size: random.integers(0, size, size) for size in {len(values) for values in table.values()}}
            chosen.append({name: values[draws[len(values)]] for name, values in table.items()})
        for name, value in numbers(*chosen).items():
            drawn.setdefault(name, []).append(value)
    second = numbers(*simulation)
    return {
        name: {
            "geant4": round(float(value), 5),
            "geant4_error": round(float(np.std(drawn[name])), 5),
            "simulation": round(float(second[name]), 5),
            "ratio": round(float(second[name] / value), 3) if value else None,
        }
        for name, value in numbers(*reference).items()
    }


def differs(row: dict[str, float | None]) -> bool:
    """Return whether simulation and Geant4 differ by more than 20 %."""
    ratio = row["ratio"]
    return ratio is None or abs(ratio - 1) > 0.2


def write(out: Path, **document: Any) -> None:
    """Write OUT.json."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps({"reference": REFERENCE, **document}, indent=1) + "\n")


def canvas(size: tuple[float, float], style: dict[Any, Any]) -> tuple[Any, Callable[[Path, str, int], None]]:
    """Return three by three axes, and save(path, colour of the simulation, dpi), which adds the legend."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import mplhep

    plt.style.use(mplhep.style.CMS)
    plt.rcParams.update(style)
    figure, axes = plt.subplots(3, 3, figsize=size, layout="constrained")

    def save(path: Path, colour: str, dpi: int) -> None:
        handles = [
            plt.Line2D([], [], marker="o", linestyle="", color="black"),
            plt.Line2D([], [], color=colour, linewidth=2),
        ]
        labels = ["Geant4 (approx. low-energy tables)", "jaxhep simulation"]
        figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=18)
        figure.savefig(path, dpi=dpi)
        plt.close(figure)

    return axes, save
