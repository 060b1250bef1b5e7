"""Electrons against protons, in numbers: efficiency, rejection, accuracy and AUC of a score that is high for electrons.

Proton rejection is all protons over protons misidentified at the threshold that keeps a wanted fraction of the
electrons. Where no proton passes it is given as a lower limit, never as infinity.
"""

from itertools import pairwise
from typing import Any

import numpy as np

from jaxhep import statistics
from jaxhep.statistics import Measured, threshold_at, weighted_fraction

EFFICIENCIES = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99)


def working_point(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray, threshold: float, source: str, confidence: float
) -> dict[str, Any]:
    """Return efficiency and rejection at a threshold, with intervals, of arrays (N,).

    Keys: electron_efficiency with its low and high, threshold, threshold_source, proton_rejection with low and high
    (itself and `high` null where no proton passes), and the numbers of electrons, protons and misidentified protons.
    """
    electron, passed = labels == 1, scores >= threshold
    efficiency = weighted_fraction(passed[electron], weights[electron], confidence)
    leak = weighted_fraction(passed[~electron], weights[~electron], confidence)
    return {
        "electron_efficiency": efficiency.value,
        "electron_efficiency_low": efficiency.low,
        "electron_efficiency_high": efficiency.high,
        "threshold": threshold,
        "threshold_source": source,
        "proton_rejection": 1 / leak.value if leak.value > 0 else None,
        "low": 1 / leak.high,
        "high": 1 / leak.low if leak.low > 0 else None,
        "electrons": int(electron.sum()),
        "protons": int((~electron).sum()),
        "misidentified": int(passed[~electron].sum()),
    }


def none_above(protons: int, confidence: float) -> float:
    """Return the largest lower limit that so many protons can set: that of none passing."""
    return 1 / statistics.clopper_pearson(0, protons, confidence)[1]


def classification(
    scores: np.ndarray,
    labels: np.ndarray,
    energies: np.ndarray,
    weights: np.ndarray,
    edges: tuple[float, ...],
    efficiency: float,
    confidence: float,
    cut: float | None = 0.0,
    trained: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return all metrics of one method on one range of events, arrays (N,).

    `edges` (GeV) are the energy bins, `efficiency` the one at which rejection is given against energy, `cut` the
    score above which an event is called an electron for the accuracy (None: the method has none). `trained` is
    this function's result for the run's own test events: its thresholds are applied as well.
    """
    weights = weights.astype(np.float64)
    electron = labels == 1
    result: dict[str, Any] = {
        "events": len(labels),
        "accuracy": None,
        "trivial_accuracy": None,
        "auc": statistics.auc(scores, electron, weights),
        "efficiency": efficiency,
        "rejection": _rejection(scores, labels, weights, efficiency, confidence, trained),
        "rejection_vs_energy": [],
    }
    if len(labels):
        share = np.average(electron, weights=weights)
        result["trivial_accuracy"] = float(max(share, np.average(~electron, weights=weights)))
        if cut is not None:
            result["accuracy"] = float(np.average((scores > cut) == electron, weights=weights))
    if electron.any():
        result["rejection_vs_energy"] = _rejection_vs_energy(
            scores, labels, energies, weights, edges, efficiency, confidence, trained
        )
    return result


def _rejection(
    scores: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    efficiency: float,
    confidence: float,
    trained: dict[str, Any] | None,
) -> list[dict[str, Any]]:
    """Return the working points at all wanted efficiencies, then those at the thresholds of training."""
    electron, points = labels == 1, []
    for wanted in sorted({*EFFICIENCIES, efficiency}) if electron.any() else ():
        threshold = threshold_at(scores[electron], weights[electron], wanted)
        point = working_point(scores, labels, weights, threshold, "test", confidence)
        points.append({"wanted_efficiency": wanted} | point)
    for known in trained["rejection"] if trained else ():
        if known["threshold_source"] == "test":
            moved = working_point(scores, labels, weights, known["threshold"], "training", confidence)
            points.append({"wanted_efficiency": known["wanted_efficiency"]} | moved)
    return points


def _rejection_vs_energy(
    scores: np.ndarray,
    labels: np.ndarray,
    energies: np.ndarray,
    weights: np.ndarray,
    edges: tuple[float, ...],
    efficiency: float,
    confidence: float,
    trained: dict[str, Any] | None,
) -> list[dict[str, Any]]:
    """Return the working points in bins of energy: threshold of the bin, of the whole range, and that of training."""
    electron, points = labels == 1, []
    overall = threshold_at(scores[electron], weights[electron], efficiency)
    known = {
        point["energy_low"]: point["threshold"]
        for point in (trained["rejection_vs_energy"] if trained else ())
        if point["threshold_source"] == "bin"
    }
    for low, high in pairwise(edges):
        inside = (energies >= low) & (energies < high if high < edges[-1] else energies <= high)
        if not (electron & inside).any() or not (~electron & inside).any():
            continue  # nothing to set a threshold on, or nothing to reject
        own = threshold_at(scores[electron & inside], weights[electron & inside], efficiency)
        thresholds = {"bin": own, "range": overall} | ({"training": known[low]} if low in known else {})
        for source, threshold in thresholds.items():
            point = working_point(scores[inside], labels[inside], weights[inside], threshold, source, confidence)
            points.append({"energy_low": low, "energy_high": high} | point)
    return points


def at_efficiency(method: dict[str, Any], efficiency: float, source: str = "test") -> dict[str, Any] | None:
    """Return the working point of a method at a wanted efficiency, None where it has none."""
    for point in method["rejection"]:
        if point["threshold_source"] == source and abs(point["wanted_efficiency"] - efficiency) < 1e-9:
            return point
    return None


def ratio(reference: dict[str, Any], other: dict[str, Any]) -> dict[str, float | None]:
    """Return how many times the rejection of one working point is that of another; null where one is only a limit."""
    measured = [Measured(point["proton_rejection"], point["low"], point["high"]) for point in (reference, other)]
    if any(None in (point.value, point.high) for point in measured):
        return {"ratio": None, "low": None, "high": None}
    value, low, high = statistics.ratio(*measured)
    return {"ratio": value, "low": low, "high": high}
