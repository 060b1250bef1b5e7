"""What an AMS evaluation shows: the plots it draws, the figures it prints, the comparison of several runs."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxhep.columns import write_json
from jaxhep.config import method_name
from jaxhep.metrics import at_efficiency, ratio


def note_of(metrics: dict[str, Any]) -> str:
    """Return what stands under every plot: intervals, and the settings that bound the curves."""
    text = f"{100 * metrics['confidence']:g} % Clopper-Pearson intervals; arrows: lower limits, no proton passes."
    simulation = metrics.get("simulation")
    if simulation:
        text += f" Built-in simulation: charge exchange {100 * simulation['charge_exchange']:g} %, depth {simulation['radiation_lengths']:g} $X_0$."
    return text


def draw(metrics: dict[str, Any], scores: dict[str, np.ndarray], config: Any, out: Path) -> None:
    """Draw the plots of one evaluation."""
    from jaxhep import plots

    name = method_name(config)
    note, energy = note_of(metrics), scores[metrics["energy"]]
    for range_name, content in metrics["ranges"].items():
        slug = range_name.replace(" ", "_")
        title = f"{range_name}, {content['events']} events"
        methods = {method: values for method, values in content["methods"].items() if values["rejection"]}
        if not methods:
            continue
        plots.rejection_against_efficiency(methods, title, note, out / f"rejection_vs_efficiency_{slug}")
        low, high = content["energy_gev"]
        inside = (energy >= low) & (energy <= high)
        point = at_efficiency(content["methods"][name], metrics["efficiency"])
        plots.score_distributions(
            scores["logit"][inside],
            scores["label"][inside],
            point["threshold"] if point else None,
            name,
            title,
            note,
            out / f"scores_{slug}",
        )
    plots.rejection_against_energy(metrics["ranges"], metrics["efficiency"], "", note, out / "rejection_vs_energy")


def report(metrics: dict[str, Any], out: Path) -> None:
    """Print the figures that are quoted."""

    for name, content in metrics["ranges"].items():
        for method, values in content["methods"].items():
            if not content["events"]:
                print(f"{name}: no events")
                continue
            accuracy = (
                ""
                if values["accuracy"] is None
                else f"accuracy {values['accuracy']:.4f} (trivial classifier {values['trivial_accuracy']:.4f}), "
            )
            print(
                f"{name}, {method}: {content['events']} events, {accuracy}AUC {values['auc'] if values['auc'] is None else format(values['auc'], '.5f')}"
            )
            point = at_efficiency(values, metrics["efficiency"])
            if point and 0 < point["protons"] < 10_000:
                print(
                    f"  note: so few protons bound the rejection: {point['protons']} tested show none above about {point['protons'] // 3}"
                )
            for source in ("test", "training"):
                point = at_efficiency(values, metrics["efficiency"], source)
                if point:
                    print(f"  threshold from {source}: {describe(point)}")
    if metrics["events_outside_ranges"]:
        print(f"{metrics['events_outside_ranges']} events scored outside the ranges")
    if metrics["simulation"]:
        print(
            f"built-in simulation: charge exchange {metrics['simulation']['charge_exchange']:g}, which bounds every rejection; depth {metrics['simulation']['radiation_lengths']:g} X0"
        )
    print(f"metrics and plots: {out}")


def describe(point: dict[str, Any]) -> str:
    """Return one working point in words."""
    if not point["protons"]:
        return f"no protons to reject at electron efficiency {point['electron_efficiency']:.4f}"
    if point["proton_rejection"] is None:
        text = f"rejection > {point['low']:.0f}"
    else:
        text = f"rejection {point['proton_rejection']:.0f} ({point['low']:.0f} to {point['high']:.0f})"
    return f"{text} at electron efficiency {point['electron_efficiency']:.4f}, {point['misidentified']} of {point['protons']} protons pass"


def compare(found: dict[str, dict[str, Any]], folders: dict[str, Path], same_events: bool, out: Path) -> dict[str, Any]:
    """Draw several evaluations, metrics by name, on one plot and return the ratios to the first one's rejection."""
    from jaxhep import plots

    reference, first = next(iter(found.items()))
    merged: dict[str, Any] = {
        "task": "classification",
        "experiment": "ams_ecal",
        "confidence": first["confidence"],
        "reference": reference,
        "same_events": same_events,
        "ranges": {},
    }
    lines = [
        f"| range | run | rejection at {100 * first['efficiency']:g} % | ratio {reference} / run |",
        "|---|---|---|---|",
    ]
    for range_name in first["ranges"]:
        methods = {
            name: next(iter(metrics["ranges"][range_name]["methods"].values())) for name, metrics in found.items()
        }
        points = {name: at_efficiency(method, first["efficiency"]) for name, method in methods.items()}
        first_point = points[reference]
        ratios = {name: ratio(first_point, point) if first_point and point else None for name, point in points.items()}
        merged["ranges"][range_name] = {
            "methods": methods,
            "ratio_to_reference": ratios,
            "events": first["ranges"][range_name]["events"],
        }
        plots.rejection_against_efficiency(
            methods,
            range_name,
            note_of(first),
            out / f"rejection_vs_efficiency_{range_name.replace(' ', '_')}",
        )
        for name, point in points.items():
            value = ratios[name]
            text = (
                f"{value['ratio']:.2f} ({value['low']:.2f} to {value['high']:.2f})"
                if value and value["ratio"]
                else "limit only"
            )
            lines.append(f"| {range_name} | {name} | {describe(point) if point else 'no electrons'} | {text} |")
    title, energy_plot = "threshold set in each bin", out / "rejection_vs_energy"
    plots.rejection_against_energy(merged["ranges"], first["efficiency"], title, note_of(first), energy_plot, False)
    write_json(out / "comparison.json", merged)
    (out / "comparison.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return merged
