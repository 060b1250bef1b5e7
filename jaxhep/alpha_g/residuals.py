"""Metrics of vertex reconstruction, all in mm: NumPy and SciPy only.

A residual is prediction minus truth; NaN in a prediction means that no vertex was reconstructed. Whatever cannot be
computed from the events at hand is None, so that results go into JSON without NaN or infinity.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from jaxhep.alpha_g.peak import GAUSSIAN, WINDOW_MM, finite, fwhm, fwhm_interval, gaussian_core
from jaxhep.errors import BadInput, one_of
from jaxhep.statistics import clopper_pearson

__all__ = [
    "bias_vs_z",
    "correlation",
    "fwhm",
    "fwhm_interval",
    "gaussian_core",
    "pulls",
    "residual_metrics",
    "resolution_in_bins",
    "sliced_bias",
    "trimmed",
    "vertex_method",
]

Z_EDGES = np.linspace(-1152, 1152, 25)
"""24 equal slices of the active length, mm, for the bias against z."""
SLICED_EDGES = np.linspace(-1200, 1200, 25)
"""Slices of 100 mm for the sliced bias, which leaves out two on each side: it covers -1000 to 1000 mm."""
POINT_EDGES = (0, 50, 100, 150, 200, 300, 400, 600, 800, 1200, np.inf)
PION_EDGES = np.arange(9) - 0.5  # 0 to 7 charged pions, one bin each
NOMINAL = (0.5, 0.683, 0.9, 0.95)
_REACH = {
    "gaussian": lambda nominal: stats.norm.ppf((1 + nominal) / 2),
    "laplace": lambda nominal: -np.log1p(-nominal) / np.sqrt(2),
}  # half the central interval, in standard deviations
_TRIMMED_UNIT = {"gaussian": 0.78931, "laplace": 0.67053}  # of 5 % trimmed off each side, by integration


class Trimmed(NamedTuple):
    """Mean and standard deviation of what trimming leaves, with their errors; None where too few events are left."""

    mean: float | None
    std: float | None
    mean_error: float | None
    std_error: float | None


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def trimmed(residuals: np.ndarray, fraction: float = 0.05) -> Trimmed:
    """Return mean and standard deviation without the lowest and the highest `fraction` of the residuals (N,).

    The fraction is cut on each side, so 5 % leaves nine tenths; a Gaussian's standard deviation becomes 0.789 of
    itself. Errors from the Winsorised values (Tukey and McLaughlin, Sankhya A 25, 331, 1963), and for the standard
    deviation from those of the squared distances.
    """
    values = np.sort(finite(residuals))
    cut = int(fraction * len(values))
    kept = values[cut : len(values) - cut]
    if not len(kept):
        return Trimmed(None, None, None, None)
    mean = float(kept.mean())
    if len(kept) < 2:
        return Trimmed(mean, None, None, None)
    std = float(kept.std(ddof=1))
    clipped = np.clip(values, kept[0], kept[-1])
    scale = 1 / ((1 - 2 * fraction) * np.sqrt(len(values)))
    squares = (clipped - mean) ** 2
    std_error = float(squares.std(ddof=1) * scale / (2 * std)) if std > 0 else 0.0
    return Trimmed(mean, std, float(clipped.std(ddof=1) * scale), std_error)


def _slices(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the slice of each value (N,), -1 outside; edges belong to the slice above, the last to the last."""
    index = np.searchsorted(edges, values, side="right") - 1
    index[values == edges[-1]] = len(edges) - 2
    return np.where(index < len(edges) - 1, index, -1)


def bias_vs_z(residual: np.ndarray, true_z: np.ndarray, edges: np.ndarray = Z_EDGES) -> list[dict[str, Any]]:
    """Return events, trimmed mean with its error and trimmed standard deviation of residuals (N,) in slices of z."""
    place, result = _slices(true_z, edges), []
    for index in range(len(edges) - 1):
        inside = finite(residual[place == index])
        cut = trimmed(inside)
        result.append(
            {
                "z_low": float(edges[index]),
                "z_high": float(edges[index + 1]),
                "events": len(inside),
                "trimmed_mean": cut.mean,
                "trimmed_mean_error": cut.mean_error,
                "trimmed_std": cut.std,
            }
        )
    return result


def sliced_bias(residual: np.ndarray, true_z: np.ndarray) -> float | None:
    """Return the sum over slices of z of the absolute 5 %-trimmed mean residual, mm: the metric to choose models by.

    Slices are 100 mm wide, 24 of them from -1200 to 1200 mm, the outermost two on each side left out: 20 slices from
    -1000 to 1000 mm. An empty slice adds nothing; None where all are empty.
    """
    means = [part["trimmed_mean"] for part in bias_vs_z(residual, true_z, SLICED_EDGES[2:-2])]
    seen = [abs(mean) for mean in means if mean is not None]
    return float(sum(seen)) if seen else None


def resolution_in_bins(
    residual: np.ndarray, variable: np.ndarray, edges: Any, confidence: float = 0.683
) -> list[dict[str, Any]]:
    """Return efficiency, width, trimmed mean and standard deviation in bins of a variable (points, charged pions).

    `residual` (N,) is NaN where nothing was reconstructed, `variable` (N,); the last edge may be infinite (`high` is
    then None). Widths and standard deviations carry intervals at `confidence`; `centre` is the variable's median.
    """
    edges = np.asarray(edges, np.float64)
    place, quantile, result = _slices(np.asarray(variable, np.float64), edges), stats.norm.ppf((1 + confidence) / 2), []
    for index in range(len(edges) - 1):
        chosen = place == index
        inside = finite(residual[chosen])
        cut, (width, low, high) = trimmed(inside), fwhm_interval(inside, confidence)
        spread = float(np.exp(quantile * cut.std_error / cut.std)) if cut.std and cut.std_error is not None else None
        result.append(
            {
                "low": float(edges[index]),
                "high": _finite(edges[index + 1]),
                "centre": float(np.median(variable[chosen])) if chosen.any() else None,
                "events": int(chosen.sum()),
                "reconstructed": len(inside),
                **_efficiency(len(inside), int(chosen.sum()), confidence),
                "fwhm": width,
                "fwhm_low": low,
                "fwhm_high": high,
                "trimmed_mean": cut.mean,
                "trimmed_mean_error": cut.mean_error,
                "trimmed_std": cut.std,
                "trimmed_std_low": cut.std / spread if spread and cut.std else None,
                "trimmed_std_high": cut.std * spread if spread and cut.std else None,
            }
        )
    return result


def _efficiency(passed: int, total: int, confidence: float) -> dict[str, float | None]:
    low, high = clopper_pearson(passed, total, confidence)
    return {"efficiency": passed / total if total else None, "efficiency_low": low, "efficiency_high": high}


def correlation(prediction: np.ndarray, truth: np.ndarray) -> float | None:
    """Return Pearson's correlation of predictions and truths (N,) where both are finite, None where undefined."""
    both = np.isfinite(prediction) & np.isfinite(truth)
    first, second = (np.asarray(values, np.float64)[both] for values in (prediction, truth))
    if len(first) < 2 or not np.ptp(first) > 0 or not np.ptp(second) > 0:
        return None
    return _finite(np.corrcoef(first, second)[0, 1])


def pulls(
    residual: np.ndarray, width: np.ndarray, distribution: str = "gaussian", confidence: float = 0.683
) -> dict[str, Any]:
    """Return moments, histogram and coverage of the pulls, residual (N,) over predicted standard deviation.

    `width` (N,) is the distribution's own scale, mm: sigma of a Gaussian, b of a Laplace (standard deviation
    sqrt(2) b), so that an honest width gives pulls of standard deviation 1 for both. `trimmed_std_expected` is what
    trimming leaves of that 1. Events with a residual but no positive width are counted in `without_width`. Coverage is
    the fraction of residuals inside the central interval of nominal content, with its Clopper-Pearson interval.
    """
    one_of(distribution, _REACH, "distribution of residuals")
    known = np.isfinite(residual)
    valid = known & np.isfinite(width) & (width > 0)
    scale = np.sqrt(2) if distribution == "laplace" else 1.0
    pull = np.asarray(residual, np.float64)[valid] / (scale * np.asarray(width, np.float64)[valid])
    cut, edges, coverage = trimmed(pull), np.linspace(-5, 5, 51), []
    for nominal in NOMINAL:
        inside = int((np.abs(pull) <= _REACH[distribution](nominal)).sum())
        low, high = clopper_pearson(inside, len(pull), confidence)
        coverage.append(
            {"nominal": nominal, "coverage": inside / len(pull) if len(pull) else None, "low": low, "high": high}
        )
    return {
        "distribution": distribution,
        "events": len(pull),
        "without_width": int((known & ~valid).sum()),
        "mean": _finite(pull.mean()) if len(pull) else None,
        "std": _finite(pull.std(ddof=1)) if len(pull) > 1 else None,
        "trimmed_mean": cut.mean,
        "trimmed_std": cut.std,
        "trimmed_std_expected": _TRIMMED_UNIT[distribution],
        "coverage": coverage,
        "histogram": {
            "edges": edges.tolist(),
            "counts": np.histogram(pull, edges)[0].tolist(),
            "below": int((pull < edges[0]).sum()),
            "above": int((pull > edges[-1]).sum()),
        },
    }


def residual_metrics(residual: np.ndarray, confidence: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the metrics of finite residuals (N,) and their histogram over +-50 mm (edges, counts, below, above)."""
    residual, cut = finite(residual), trimmed(residual)
    width, low, high = fwhm_interval(residual, confidence)
    core = gaussian_core(residual)
    some = len(residual) > 0
    metrics = {"fwhm": width, "fwhm_low": low, "fwhm_high": high}
    metrics |= {f"gauss_{name}": core.pop(name) for name in GAUSSIAN}
    metrics |= {
        "trimmed_mean": cut.mean,
        "trimmed_mean_error": cut.mean_error,
        "trimmed_std": cut.std,
        "rms": _finite(np.sqrt(np.mean(residual**2))) if some else None,
        "median_absolute": float(np.median(np.abs(residual))) if some else None,
        "within_50_mm": float(np.mean(np.abs(residual) <= WINDOW_MM)) if some else None,
    }
    return metrics, core


def vertex_method(
    prediction: np.ndarray,
    truth: np.ndarray,
    points: np.ndarray | None,
    pions: np.ndarray | None,
    confidence: float,
    width: np.ndarray | None = None,
    spread: np.ndarray | None = None,
    distribution: str | None = None,
    coordinates: tuple[str, ...] = ("x", "y", "z"),
) -> dict[str, Any]:
    """Return all metrics of one method on one set of events, ready for JSON.

    `prediction` is (N,) for z or (N, 3), mm, NaN where nothing was reconstructed; `truth` (N,) or (N, 3) is finite;
    `points` (N,) spacepoints and `pions` (N,) charged pions per event may be None, the metrics against them are then
    empty. z, the last coordinate, carries all metrics; three coordinates add `coordinates` and `distance`. `width`
    ((N,) or (N, 3), the scale that the network predicts, see `pulls`; Gaussian where no distribution is named) gives
    `pull`, `spread` (likewise, standard deviation between the members of an ensemble) gives `pull_spread`.

    Raises BadInput where shapes do not fit, or a truth is not finite.
    """
    prediction, truth = np.asarray(prediction, np.float64), np.asarray(truth, np.float64)
    if prediction.ndim == 1 and truth.ndim == 2:
        truth = truth[:, -1]
    if prediction.shape != truth.shape or (truth.ndim == 2 and truth.shape[1] != len(coordinates)) or truth.ndim > 2:
        raise BadInput(
            f"predictions {prediction.shape} and truths {truth.shape}: wanted (N,) or (N, {len(coordinates)}) of both"
        )
    for name, values in (("points", points), ("pions", pions), ("width", width), ("spread", spread)):
        if values is not None and len(values) != len(truth):
            raise BadInput(f"{len(values)} {name} for {len(truth)} events: wanted one per event")
    if not np.isfinite(truth).all():
        raise BadInput(f"{int((~np.isfinite(truth)).sum())} true coordinates are not finite: wanted mm for each event")
    seen = np.isfinite(prediction) if prediction.ndim == 1 else np.isfinite(prediction).all(1)
    offset = np.where(seen if prediction.ndim == 1 else seen[:, None], prediction - truth, np.nan)
    z, true_z = _last(offset), _last(truth)
    metrics, histogram = residual_metrics(z, confidence)
    bias = bias_vs_z(z, true_z)
    result = {
        "events": len(truth),
        "reconstructed": int(seen.sum()),
        **_efficiency(int(seen.sum()), len(truth), confidence),
        "residual": metrics,
        "histogram": histogram,
        "correlation": correlation(np.where(seen, _last(prediction), np.nan), true_z),
        "bias_vs_z": bias,
        "sliced_bias": sliced_bias(z, true_z),
        "resolution_vs_points": [] if points is None else resolution_in_bins(z, points, POINT_EDGES, confidence),
        "resolution_vs_multiplicity": [] if pions is None else resolution_in_bins(z, pions, PION_EDGES, confidence),
        "pull": None if width is None else pulls(z, _last(width), distribution or "gaussian", confidence),
        "pull_spread": None if spread is None else pulls(z, _last(spread), "gaussian", confidence),
    }
    if offset.ndim == 2:
        result["coordinates"] = {
            name: {"residual": residual_metrics(offset[:, index], confidence)[0]}
            for index, name in enumerate(coordinates[:-1])
        }
        distance = np.linalg.norm(offset[seen], axis=1)
        result["distance"] = {
            "median": float(np.median(distance)) if len(distance) else None,
            "68%": float(np.quantile(distance, 0.68)) if len(distance) else None,
        }
    return result


def _last(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    return values if values.ndim == 1 else values[:, -1]
