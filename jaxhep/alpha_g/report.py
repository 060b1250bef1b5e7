"""What an ALPHA-g evaluation shows: the plots it draws, the metrics it prints, the comparison of several runs."""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxhep.alpha_g.methods import methods_of
from jaxhep.files import write_json, write_text


def note_of(metrics: dict[str, Any]) -> str:
    """Return what stands under plots with intervals: theirs, and the sample."""
    return f"{100 * metrics['confidence']:g} % intervals. {sample_of(metrics)}".rstrip()


def sample_of(metrics: dict[str, Any]) -> str:
    """Return what is said of the sample under every plot."""
    simulation = metrics.get("simulation")
    return f"Built-in simulation, annihilation on {simulation['annihilation_on']}." if simulation else ""


def draw(metrics: dict[str, Any], columns: dict[str, np.ndarray], config: ConfigDict, out: Path) -> None:
    """Draw residuals, bias and resolution of all methods, each one's z against the true z, and pulls where it has them."""
    from jaxhep.alpha_g import plots

    note, (everything, *parts) = note_of(metrics), metrics["ranges"].items()
    methods, title = everything[1]["methods"], f"{everything[1]['events']} events"
    plots.residual_histograms(methods, title, note, out / "residual_z")
    plots.bias_against_z(methods, title, note, out / "bias_vs_z")
    plots.resolution_against(
        methods, "resolution_vs_points", "Spacepoints in the event", title, note, out / "resolution_vs_points"
    )
    if any(method["resolution_vs_multiplicity"] for method in methods.values()):
        label = "Charged pions at the vertex"
        plots.resolution_against(
            methods, "resolution_vs_multiplicity", label, title, note, out / "resolution_vs_multiplicity"
        )
    for name, values in methods_of(config, columns).items():
        path = out / f"predicted_vs_true_{slug(name)}"
        z, true_z = values["prediction"][:, 2], columns["vertex"][:, 2]
        plots.predicted_against_true(z, true_z, name, title, sample_of(metrics), path, methods[name]["correlation"])
    for key in ("pull", "pull_spread"):
        if any(method[key] and method[key]["events"] for method in methods.values()):
            plots.pull_distribution(methods, title, note, out / key, key)
    for name, content in parts:
        if content["events"]:
            drawing = plots.failures if name.startswith("no ") else plots.residual_histograms
            drawing(content["methods"], f"{content['events']} events, {name}", note, out / f"residual_z_{slug(name)}")


def slug(name: str) -> str:
    """Return a name as part of a file's."""
    return "".join(letter if letter.isalnum() else "_" for letter in name).strip("_").replace("__", "_")


def report(metrics: dict[str, Any], out: Path) -> None:
    """Print the metrics that are quoted."""
    for range_name, content in metrics["ranges"].items():
        print(f"{range_name}: {content['events']} events")
        for name, method in content["methods"].items():
            print(f"  {name}: {describe(method)}")
    print(f"metrics and plots: {out}")


def describe(method: dict[str, Any]) -> str:
    """Return one method's metrics in words."""
    residual = method["residual"]
    text = f"efficiency {method['efficiency']:.4f}" if method["efficiency"] is not None else "no events"
    if residual["fwhm"] is not None:
        text += f", FWHM {residual['fwhm']:.3g} mm ({residual['fwhm_low']:.3g} to {residual['fwhm_high']:.3g})"
    if residual["gauss_sigma"] is not None:
        text += f", Gaussian sigma {residual['gauss_sigma']:.3g} mm"
    if residual["trimmed_std"] is not None:
        text += f", trimmed mean {residual['trimmed_mean']:.2g} mm, s.d. {residual['trimmed_std']:.3g} mm"
    if method["pull"] and method["pull"]["std"] is not None:
        text += f", pull s.d. {method['pull']['std']:.3g}"
    return text


def compare(found: dict[str, dict[str, Any]], folders: dict[str, Path], same_events: bool, out: Path) -> dict[str, Any]:
    """Draw several evaluations, metrics by name, on one plot; return their metrics side by side.

    Of each run its first method is taken, and of the first run all others too: those are the same events' references.
    """
    from jaxhep.alpha_g import plots

    reference, first = next(iter(found.items()))
    merged: dict[str, Any] = {key: first[key] for key in ("task", "experiment", "unit", "confidence")}
    merged |= {"reference": reference, "same_events": same_events, "ranges": {}}
    lines = [
        "| events | method | efficiency | FWHM [mm] | Gaussian sigma [mm] | trimmed mean [mm] | sliced bias [mm] |",
        "|---|---|---|---|---|---|---|",
    ]
    for range_name, content in first["ranges"].items():
        methods = {}
        for run, metrics in found.items():
            own = iter(metrics["ranges"][range_name]["methods"].items())
            methods[run] = next(own)[1]
            if run == reference:
                references = dict(own)
        methods |= {name: method for name, method in references.items() if name not in methods}
        merged["ranges"][range_name] = {"events": content["events"], "methods": methods}
        title = f"{range_name}, {content['events']} events"
        plots.residual_histograms(methods, title, note_of(first), out / f"residual_z_{slug(range_name)}")
        for name, method in methods.items():
            residual = method["residual"]
            numbers = (residual["fwhm"], residual["gauss_sigma"], residual["trimmed_mean"], method["sliced_bias"])
            cells = ["-" if number is None else f"{number:.3g}" for number in (method["efficiency"], *numbers)]
            lines.append(f"| {range_name} | {name} | {' | '.join(cells)} |")
    write_json(out / "comparison.json", merged)
    write_text(out / "comparison.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
    return merged
