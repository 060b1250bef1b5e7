"""Figures of merit of electron / proton separation: NumPy and SciPy only.

Scores are higher for electrons. Proton rejection is all protons over protons misidentified at the threshold that
keeps a wanted fraction of the electrons. Intervals are Clopper and Pearson's (Biometrika 26, 404, 1934); with event
weights the same formula is used with the effective number of events (sum w)^2 / sum w^2. Where no proton passes,
the rejection is given as a lower limit, never as infinity.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from scipy import stats

EFFICIENCIES = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99)


def clopper_pearson(passed: float, total: float, confidence: float) -> tuple[float, float]:
    """Return the central interval of an efficiency, of which `passed` of `total` were seen (may be effective numbers).

    At the borders 0 and 1 the interval is one-sided, with all of the confidence on its open side.
    """
    if total <= 0:
        return 0.0, 1.0
    tail = (1 - confidence) / (1 if passed <= 0 or passed >= total else 2)
    low = 0.0 if passed <= 0 else float(stats.beta.ppf(tail, passed, total - passed + 1))
    high = 1.0 if passed >= total else float(stats.beta.ppf(1 - tail, passed + 1, total - passed))
    return low, high


def threshold_at(scores: np.ndarray, weights: np.ndarray, efficiency: float) -> float:
    """Return the highest threshold that at least `efficiency` of the electrons' weight reaches (score >= threshold)."""
    order = np.argsort(scores)[::-1]
    kept = np.cumsum(weights[order])
    index = int(np.searchsorted(kept, efficiency * kept[-1] * (1 - 1e-12)))
    return float(scores[order][min(index, len(order) - 1)])


def working_point(scores, labels, weights, threshold: float, source: str, confidence: float) -> dict[str, Any]:
    """Return efficiency and rejection at a threshold, with intervals; `high` is null where no proton passes.

    Keys: electron_efficiency with its low and high, threshold, threshold_source, proton_rejection (null where no
    proton passes), low, high, and the numbers of electrons, protons and misidentified protons.
    """
    electron, passed = labels == 1, scores >= threshold
    efficiency, *efficiency_range = _fraction(passed[electron], weights[electron], confidence)
    leak, leak_low, leak_high = _fraction(passed[~electron], weights[~electron], confidence)
    return {
        "electron_efficiency": efficiency,
        "electron_efficiency_low": efficiency_range[0],
        "electron_efficiency_high": efficiency_range[1],
        "threshold": threshold,
        "threshold_source": source,
        "proton_rejection": 1 / leak if leak > 0 else None,
        "low": 1 / leak_high,
        "high": 1 / leak_low if leak_low > 0 else None,
        "electrons": int(electron.sum()),
        "protons": int((~electron).sum()),
        "misidentified": int(passed[~electron].sum()),
    }


def _fraction(passed: np.ndarray, weights: np.ndarray, confidence: float) -> tuple[float, float, float]:
    total, squares = weights.sum(), (weights**2).sum()
    if total <= 0:
        return 0.0, 0.0, 1.0
    value = float(weights[passed].sum() / total)
    effective = total**2 / squares
    return value, *clopper_pearson(value * effective, effective, confidence)


def auc(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float | None:
    """Return the area under the ROC curve: the chance that an electron scores above a proton, ties counting half."""
    values, place = np.unique(scores, return_inverse=True)
    electrons, protons = (np.bincount(place, weights * (labels == label), minlength=len(values)) for label in (1, 0))
    if not electrons.sum() > 0 or not protons.sum() > 0:
        return None
    below = np.cumsum(protons) - protons / 2
    return float((electrons * below).sum() / (electrons.sum() * protons.sum()))


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
    """Return all figures of one method on one range of events, arrays (N,).

    `edges` (GeV) are the energy bins, `efficiency` the one at which rejection is given against energy, `cut` the
    score above which an event is called an electron for the accuracy (None: the method has none). `trained` is
    this function's result for the run's own test events: its thresholds are applied as well.
    """
    weights = weights.astype(np.float64)
    electron = labels == 1
    result: dict[str, Any] = {
        "events": len(labels),
        "accuracy": float(np.average((scores > cut) == electron, weights=weights))
        if cut is not None and len(labels)
        else None,
        "trivial_accuracy": float(max(np.average(electron, weights=weights), np.average(~electron, weights=weights)))
        if len(labels)
        else None,
        "auc": auc(scores, labels, weights),
        "efficiency": efficiency,
        "rejection": [],
        "rejection_vs_energy": [],
    }
    wanted = sorted({*EFFICIENCIES, efficiency})
    for value in wanted if electron.any() else ():
        threshold = threshold_at(scores[electron], weights[electron], value)
        result["rejection"].append(
            {"wanted_efficiency": value} | working_point(scores, labels, weights, threshold, "test", confidence)
        )
    for point in trained["rejection"] if trained else []:
        if point["threshold_source"] == "test":
            moved = working_point(scores, labels, weights, point["threshold"], "training", confidence)
            result["rejection"].append({"wanted_efficiency": point["wanted_efficiency"]} | moved)
    if not electron.any():
        return result
    overall = threshold_at(scores[electron], weights[electron], efficiency)
    known = (
        {
            (point["energy_low"], point["threshold_source"]): point["threshold"]
            for point in trained["rejection_vs_energy"]
        }
        if trained
        else {}
    )
    for low, high in pairwise(edges):
        inside = (energies >= low) & (energies < high if high < edges[-1] else energies <= high)
        if not (electron & inside).any() or not (~electron & inside).any():
            continue  # nothing to set a threshold on, or nothing to reject
        thresholds = {
            "bin": threshold_at(scores[electron & inside], weights[electron & inside], efficiency),
            "range": overall,
        }
        if (low, "bin") in known:
            thresholds["training"] = known[(low, "bin")]
        for source, threshold in thresholds.items():
            point = working_point(scores[inside], labels[inside], weights[inside], threshold, source, confidence)
            result["rejection_vs_energy"].append({"energy_low": low, "energy_high": high} | point)
    return result


def at_efficiency(method: dict[str, Any], efficiency: float, source: str = "test") -> dict[str, Any] | None:
    """Return the working point of a method at a wanted efficiency, None where it has none."""
    for point in method["rejection"]:
        if point["threshold_source"] == source and abs(point["wanted_efficiency"] - efficiency) < 1e-9:
            return point
    return None


def ratio(reference: dict[str, Any], other: dict[str, Any]) -> dict[str, float | None]:
    """Return how many times the rejection of `reference` is that of `other`, with an interval by adding the
    relative errors of both logarithms in squares; null where either of them is only a limit."""
    values = (reference["proton_rejection"], other["proton_rejection"])
    if None in values or None in (reference["high"], other["high"]):
        return {"ratio": None, "low": None, "high": None}
    value = values[0] / values[1]
    below = np.hypot(np.log(values[0] / reference["low"]), np.log(other["high"] / values[1]))
    above = np.hypot(np.log(reference["high"] / values[0]), np.log(values[1] / other["low"]))
    return {"ratio": float(value), "low": float(value * np.exp(-below)), "high": float(value * np.exp(above))}
