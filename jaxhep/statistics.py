"""Intervals, thresholds and curves for any measurement: a leaf, NumPy and SciPy only."""

from typing import NamedTuple

import numpy as np
from scipy import stats


class Measured(NamedTuple):
    """A value with the limits of its central interval."""

    value: float
    low: float
    high: float


def clopper_pearson(passed: float, total: float, confidence: float) -> tuple[float, float]:
    """Return the central interval of a probability, of which `passed` of `total` were seen.

    Clopper and Pearson (Biometrika 26, 404, 1934): (1 - confidence) / 2 lies beyond each limit, also where none or all
    passed, so that it covers at least `confidence` whatever the probability. Effective numbers (see
    `weighted_fraction`) need not be whole. Nothing tried (`total` 0) gives 0 to 1.
    """
    if total <= 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    low = float(stats.beta.ppf(tail, passed, total - passed + 1)) if passed > 0 else 0.0
    high = float(stats.beta.isf(tail, passed + 1, total - passed)) if passed < total else 1.0
    return low, high


def weighted_fraction(passed: np.ndarray, weights: np.ndarray, confidence: float) -> Measured:
    """Return the fraction of the weight (N,) that `passed` (N,) holds, with its interval.

    Clopper and Pearson's formula with the effective number of events, (sum w)^2 / sum w^2; for weights of one it is
    theirs. Without any weight the fraction is 0, the interval 0 to 1.
    """
    total = weights.sum()
    if total <= 0:
        return Measured(0.0, 0.0, 1.0)
    value = float(weights[passed].sum() / total)
    effective = float(total**2 / (weights**2).sum())
    return Measured(value, *clopper_pearson(value * effective, effective, confidence))


def ratio(numerator: Measured, denominator: Measured) -> Measured:
    """Return the ratio of two positive values that were measured apart, errors of the logarithms added in squares."""
    value = numerator.value / denominator.value
    below = np.hypot(np.log(numerator.value / numerator.low), np.log(denominator.high / denominator.value))
    above = np.hypot(np.log(numerator.high / numerator.value), np.log(denominator.value / denominator.low))
    return Measured(float(value), float(value * np.exp(-below)), float(value * np.exp(above)))


def threshold_at(scores: np.ndarray, weights: np.ndarray, efficiency: float) -> float:
    """Return the highest threshold that at least `efficiency` of the weight reaches (score >= threshold), (N,) both."""
    order = np.argsort(scores)[::-1]
    kept = np.cumsum(weights[order])
    index = int(np.searchsorted(kept, efficiency * kept[-1] * (1 - 1e-12)))
    return float(scores[order][min(index, len(order) - 1)])


def auc(scores: np.ndarray, is_signal: np.ndarray, weights: np.ndarray) -> float | None:
    """Return the area under the ROC curve: the chance that signal scores above background, ties counting half.

    Arrays (N,). None where signal or background has no weight.
    """
    values, place = np.unique(scores, return_inverse=True)
    signal = np.bincount(place, weights * is_signal, minlength=len(values))
    background = np.bincount(place, weights * ~is_signal, minlength=len(values))
    if not signal.sum() > 0 or not background.sum() > 0:
        return None
    below = np.cumsum(background) - background / 2
    return float((signal * below).sum() / (signal.sum() * background.sum()))


def roc_curve(
    scores: np.ndarray, is_signal: np.ndarray, weights: np.ndarray, points: int = 100
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the efficiencies for background and for signal above falling thresholds, both (M,), from 0 to 1.

    Arrays (N,). M is at most 2 `points`: thresholds evenly spaced in the efficiency for the one and for the other, so
    that steep and flat parts are both followed. None where signal or background has no weight.
    """
    values, place = np.unique(-scores, return_inverse=True)
    curves = []
    for chosen in (~is_signal, is_signal):
        above = np.cumsum(np.bincount(place, weights * chosen, minlength=len(values)))
        if not len(above) or not above[-1] > 0:
            return None
        curves.append(np.concatenate([[0.0], above / above[-1]]))
    if len(values) >= 2 * points:
        wanted = np.linspace(0, 1, points)
        kept = np.unique(np.concatenate([np.searchsorted(curve, wanted) for curve in curves]))
        curves = [curve[kept] for curve in curves]
    return curves[0], curves[1]
