"""Plots of vertex reconstruction, PNG and PDF; what is drawn is what metrics.json holds (see `residuals`)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxhep.plots import STYLE, legend_height, make_headroom, new_figure, plain_numbers, save_figure, write_note

RESIDUAL = "Reconstructed z - true z [mm]"
TRUE_Z = "True z [mm]"
NOTHING = "nothing to draw: too few events"


def _number(value: float | None, unit: str = " mm") -> str:
    return "-" if value is None else f"{value:#.3g}".rstrip(".") + unit


def _say_nothing(axes: Axes) -> None:
    axes.text(0.5, 0.5, NOTHING, transform=axes.transAxes, ha="center")


def _stairs(axes: Axes, histogram: dict[str, Any], scale: float, color: str, label: str) -> None:
    axes.stairs(np.array(histogram["counts"]) * scale, histogram["edges"], color=color, label=label, lw=1.8)


def _normal(axes: Axes, residual: dict[str, Any], reach: float, scale: float, color: str) -> None:
    """Draw the fitted Gaussian, solid over the range of the fit and dashed outside."""
    if residual["gauss_sigma"] is None:
        return
    x = np.linspace(-reach, reach, 1001)
    y = scale * residual["gauss_amplitude"]
    y = y * np.exp(-0.5 * ((x - residual["gauss_mean"]) / residual["gauss_sigma"]) ** 2)
    fitted = (x >= residual["gauss_low"]) & (x <= residual["gauss_high"])
    axes.plot(x, y, color=color, ls=":", lw=1.2)
    axes.plot(x[fitted], y[fitted], color=color, ls="-", lw=1.0)


def _quality(name: str, method: dict[str, Any]) -> str:
    residual = method["residual"]
    if residual["fwhm"] is None:
        text = f"{name}\n  FWHM: too few events"
    else:
        text = f"{name}\n  FWHM {_number(residual['fwhm'])}"
        text += f" ({_number(residual['fwhm_low'], '')} to {_number(residual['fwhm_high'], '')})"
    if residual["gauss_sigma"] is not None:
        text += f"\n  Gaussian fit $\\sigma$ {_number(residual['gauss_sigma'])}"
    if residual["trimmed_std"] is not None:
        text += f"\n  trimmed s.d. {_number(residual['trimmed_std'])}"
    return text


def _overlay(
    methods: dict[str, dict[str, Any]],
    title: str,
    note: str,
    path: Path,
    density: bool,
    extra: Callable[[dict[str, Any]], str],
) -> list[Path]:
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(note, title)
        highest, lines, beside = 0.0, 0, 0.0
        drawn = {name: method for name, method in methods.items() if method["reconstructed"]}
        for index, (name, method) in enumerate(drawn.items()):
            histogram = method["histogram"]
            edges = histogram["edges"]
            scale = 1 / (method["reconstructed"] * (edges[1] - edges[0])) if density else 1.0
            label = _quality(name, method) + extra(method)
            _stairs(axes, histogram, scale, f"C{index}", label)
            lines += label.count("\n") + 1
            left = [
                count for edge, count in zip(edges[1:], histogram["counts"], strict=True) if edge < -0.1 * edges[-1]
            ]
            beside = max(beside, max(left) * scale)
            _normal(axes, method["residual"], edges[-1], scale, f"C{index}")
            highest = max(highest, max(histogram["counts"]) * scale)
            axes.set_xlim(edges[0], edges[-1])
            width = f"{edges[1] - edges[0]:g} mm"
            axes.set_ylabel("Fraction of reconstructed events per mm" if density else f"Events / {width}")
        axes.set_xlabel(RESIDUAL)
        # The legend stands left of the peak; what lies under it stays below it.
        axes.set_ylim(0, max(1.12 * highest, beside / (1 - legend_height(lines, 0.034))) or 1)
        if drawn:
            axes.legend(loc="upper left", fontsize=11)
        else:
            _say_nothing(axes)
        return save_figure(figure, path)


def residual_histograms(
    methods: dict[str, dict[str, Any]], title: str, note: str, path: Path, density: bool = False
) -> list[Path]:
    """Overlay the residuals of several methods over +-50 mm with their Gaussian fits.

    Events per bin, so that heights also show how many events a method reconstructs; `density` normalises each
    method to the events that it reconstructs.
    """

    def outside(method: dict[str, Any]) -> str:
        beyond = method["histogram"]["below"] + method["histogram"]["above"]
        return f"\n  {beyond} of {method['reconstructed']} events outside the frame" if beyond else ""

    return _overlay(methods, title, note, path, density, outside)


def failures(methods: dict[str, dict[str, Any]], title: str, note: str, path: Path) -> list[Path]:
    """Draw the residuals on events where the standard method finds no vertex, of the methods that find one."""

    def outside(method: dict[str, Any]) -> str:
        inside = f"{100 * method['residual']['within_50_mm']:.3g} % within 50 mm"
        return f"\n  {method['reconstructed']} of {method['events']} events\n  {inside}"

    return _overlay(methods, title, note, path, False, outside)


def predicted_against_true(
    prediction: np.ndarray,
    truth: np.ndarray,
    name: str,
    title: str,
    note: str,
    path: Path,
    correlation: float | None = None,
    limit: float = 1152.0,
) -> list[Path]:
    """Draw reconstructed against true z, arrays (N,) in mm, 96 x 96 bins of +-limit; NaN is left out.

    Events outside the frame are counted in the legend.
    """
    seen = np.isfinite(prediction) & np.isfinite(truth)
    counts, edges, _ = np.histogram2d(
        np.asarray(truth)[seen], np.asarray(prediction)[seen], bins=96, range=[[-limit, limit]] * 2
    )
    outside = int(seen.sum() - counts.sum())
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(note, title)
        label = "reconstructed = true" + (f"\ncorrelation {correlation:.4f}" if correlation is not None else "")
        label += f"\n{int(seen.sum())} events" + (f", {outside} outside the frame" if outside else "")
        axes.plot([-limit, limit], [-limit, limit], color="C3", ls="--", lw=0.8, label=label)
        if counts.any():
            mesh = axes.pcolormesh(
                edges, edges, np.where(counts > 0, counts, np.nan).T, norm="log", cmap="viridis", rasterized=True
            )
            figure.colorbar(mesh, ax=axes, label="Events / bin", pad=0.02)
        axes.set(xlabel=TRUE_Z, ylabel=f"Reconstructed z, {name} [mm]", xlim=(-limit, limit), ylim=(-limit, limit))
        axes.set_aspect("equal")
        axes.legend(loc="upper left", fontsize=11)
        return save_figure(figure, path)


def bias_against_z(methods: dict[str, dict[str, Any]], title: str, note: str, path: Path) -> list[Path]:
    """Draw the 5 %-trimmed mean residual with its error in slices of true z; slices without two events are left out."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(note, title)
        axes.axhline(0, color="0.4", lw=1.0)
        drawn = False
        for index, (name, method) in enumerate(methods.items()):
            slices = [part for part in method["bias_vs_z"] if part["trimmed_mean_error"] is not None]
            if not slices:
                continue
            drawn = True
            low, high = (np.array([part[key] for part in slices]) for key in ("z_low", "z_high"))
            # A little apart, so that errors do not hide each other.
            centre = (low + high) / 2 + (high - low) * 0.12 * (index - (len(methods) - 1) / 2)
            axes.errorbar(
                centre,
                [part["trimmed_mean"] for part in slices],
                [part["trimmed_mean_error"] for part in slices],
                fmt="osD^v"[index % 5],
                ms=5,
                capsize=2,
                color=f"C{index}",
                label=f"{name}, sliced bias {_number(method['sliced_bias'])}",
            )
        axes.set(xlabel=TRUE_Z, ylabel="Mean residual, 5 % trimmed [mm]")
        if drawn:
            make_headroom(axes)
            axes.legend(loc="upper left")
        else:
            _say_nothing(axes)
        return save_figure(figure, path)


def resolution_against(
    methods: dict[str, dict[str, Any]], key: str, xlabel: str, title: str, note: str, path: Path
) -> list[Path]:
    """Draw the resolution against a variable: `key` is `resolution_vs_points` or `resolution_vs_multiplicity`.

    The full width at half maximum with its interval; where too few events give none, the trimmed standard
    deviation with an open marker. Horizontal bars are the bins, points stand at the bin's median.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(note, title)
        highest, lowest, several = 0.0, np.inf, len(methods)
        for index, (name, method) in enumerate(methods.items()):
            for quantity, face, what in (("fwhm", f"C{index}", "FWHM"), ("trimmed_std", "white", "trimmed s.d.")):
                bins = [
                    part
                    for part in method[key]
                    if part[f"{quantity}_low"] is not None and (quantity == "fwhm" or part["fwhm"] is None)
                ]
                if not bins:
                    continue
                centre, low, y, below, above = (
                    np.array([part[name] for part in bins], float)
                    for name in ("centre", "low", quantity, f"{quantity}_low", f"{quantity}_high")
                )
                high = np.array([part["centre"] if part["high"] is None else part["high"] for part in bins], float)
                shift = 0.08 * np.minimum(high - low, 50) * (index - (several - 1) / 2)
                across = np.maximum([centre + shift - low, high - centre - shift], 0)
                style: dict[str, Any] = {
                    "fmt": "osD^v"[index % 5],
                    "ms": 6,
                    "capsize": 2,
                    "color": f"C{index}",
                    "mfc": face,
                }
                axes.errorbar(centre + shift, y, [y - below, above - y], across, label=f"{name}, {what}", **style)
                highest, lowest = max(highest, above.max()), min(lowest, y.min())
        axes.set(xlabel=xlabel, ylabel="Resolution in z [mm]")
        if highest:
            if highest > 20 * lowest > 0:
                axes.set_yscale("log")
            else:
                axes.set_ylim(0, 1.05 * highest)
            make_headroom(axes)
            axes.legend(loc="upper right")
            if axes.get_yscale() == "log":
                plain_numbers(axes.yaxis)
        else:
            _say_nothing(axes)
        return save_figure(figure, path)


def pull_distribution(
    methods: dict[str, dict[str, Any]], title: str, note: str, path: Path, key: str = "pull"
) -> list[Path]:
    """Draw the pulls with the distribution that they should follow, and the coverage against the nominal one.

    `key` is `pull` (predicted widths) or `pull_spread` (spread of an ensemble); methods without one are left out.
    """
    drawn = {name: method[key] for name, method in methods.items() if method.get(key) and method[key]["events"]}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(14.0, 6.0))
        left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.22})
        left.set_title(title, loc="left", fontsize=15)
        write_note(left, note)
        highest = 0.4
        for index, (name, pull) in enumerate(drawn.items()):
            edges = pull["histogram"]["edges"]
            scale = 1 / (pull["events"] * (edges[1] - edges[0]))
            label = f"{name}\n  mean {_number(pull['mean'], '')}, s.d. {_number(pull['std'], '')}"
            label += (
                f"\n  trimmed s.d. {_number(pull['trimmed_std'], '')} (expected {pull['trimmed_std_expected']:.3g})"
            )
            _stairs(left, pull["histogram"], scale, f"C{index}", label)
            highest = max(highest, max(pull["histogram"]["counts"]) * scale)
            parts = [part for part in pull["coverage"] if part["coverage"] is not None]
            y, low, high = (np.array([part[name] for part in parts]) for name in ("coverage", "low", "high"))
            right.errorbar(
                [part["nominal"] + 0.006 * (index - (len(drawn) - 1) / 2) for part in parts],
                y,
                np.maximum([y - low, high - y], 0),
                fmt="osD^v"[index % 5],
                ms=6,
                capsize=3,
                color=f"C{index}",
                label=name,
            )
        x = np.linspace(-5, 5, 501)
        shapes = {
            "gaussian": ("unit Gaussian", np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)),
            "laplace": ("Laplace of unit s.d.", np.exp(-np.sqrt(2) * np.abs(x)) / np.sqrt(2)),
        }
        for ls, kind in zip(("--", ":"), sorted({pull["distribution"] for pull in drawn.values()}), strict=False):
            left.plot(x, shapes[kind][1], color="0.3", ls=ls, lw=1.5, label=shapes[kind][0])
            highest = max(highest, shapes[kind][1].max())
        what = "spread between members" if key == "pull_spread" else "predicted standard deviation"
        left.set(xlabel=f"Residual / {what}", ylabel="Density", xlim=(-5, 5))
        right.plot([0, 1], [0, 1], color="0.4", lw=1.0, ls="--", label="nominal")
        right.set(xlabel="Nominal coverage", ylabel="Measured coverage", xlim=(0.4, 1), ylim=(0, 1.02))
        if drawn:
            left.set_ylim(0, 1.03 * highest / (1 - legend_height(3 * len(drawn) + 2, 0.042)))
            left.legend(loc="upper left", fontsize=11)
            right.legend(loc="lower right", fontsize=12)
        else:
            _say_nothing(left)
        return save_figure(figure, path)
