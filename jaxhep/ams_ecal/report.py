"""What an AMS evaluation shows: the plots it draws, the metrics it prints, the comparison of several runs."""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxhep.ams_ecal.rejection import at_efficiency, none_above, ratio
from jaxhep.config import method_name
from jaxhep.files import write_json, write_text

FEW_PROTONS = 10_000  # below so many it is said how large a rejection they can show


def note_of(metrics: dict[str, Any]) -> str:
    """Return what stands under plots with intervals: theirs, and the settings that bound the curves."""
    text = f"{100 * metrics['confidence']:g} % Clopper-Pearson intervals; arrows: lower limits, no proton passes."
    return f"{text} {sample_of(metrics)}".rstrip()


def sample_of(metrics: dict[str, Any]) -> str:
    """Return what is said of the sample under every plot: the settings of the simulation that bound the curves."""
    simulation = metrics.get("simulation")
    if not simulation:
        return ""
    text = f"Built-in simulation: charge exchange {100 * simulation['charge_exchange']:g} %,"
    return f"{text} depth {simulation['radiation_lengths']:g} $X_0$."


def draw(metrics: dict[str, Any], scores: dict[str, np.ndarray], config: ConfigDict, out: Path) -> None:
    """Draw rejection against efficiency and the scores for each range, and rejection against energy for all of them."""
    from jaxhep.ams_ecal import plots

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
            metrics["efficiency"],
            name,
            title,
            sample_of(metrics),
            out / f"scores_{slug}",
        )
    plots.rejection_against_energy(metrics["ranges"], metrics["efficiency"], "", note, out / "rejection_vs_energy")


def report(metrics: dict[str, Any], out: Path) -> None:
    """Print the metrics that are quoted."""
    for name, content in metrics["ranges"].items():
        if not content["events"]:
            print(f"{name}: no events")
            continue
        for method, values in content["methods"].items():
            print(f"{name}, {method}: {content['events']} events, {_quality(values)}")
            point = at_efficiency(values, metrics["efficiency"])
            if point and 0 < point["protons"] < FEW_PROTONS:
                most = none_above(point["protons"], metrics["confidence"])
                print(f"  note: with {point['protons']} test protons no rejection above about {most:.0f} can be shown")
            for source in ("test", "training"):
                point = at_efficiency(values, metrics["efficiency"], source)
                if point:
                    print(f"  threshold from {source}: {describe(point)}")
    if metrics["events_outside_ranges"]:
        print(f"{metrics['events_outside_ranges']} events scored outside the ranges")
    simulation = metrics["simulation"]
    if simulation:
        bound = f"charge exchange {simulation['charge_exchange']:g}, which bounds every rejection"
        print(f"built-in simulation: {bound}; depth {simulation['radiation_lengths']:g} X0")
    print(f"metrics and plots: {out}")


def _quality(values: dict[str, Any]) -> str:
    """Return accuracy and AUC in words."""
    area = "AUC None" if values["auc"] is None else f"AUC {values['auc']:.5f}"
    if values["accuracy"] is None:
        return area
    return f"accuracy {values['accuracy']:.4f} (trivial classifier {values['trivial_accuracy']:.4f}), {area}"


def describe(point: dict[str, Any]) -> str:
    """Return one working point in words."""
    if not point["protons"]:
        return f"no protons to reject at electron efficiency {point['electron_efficiency']:.4f}"
    if point["proton_rejection"] is None:
        text = f"rejection > {int(point['low'])}"  # a limit is never rounded up
    else:
        text = f"rejection {point['proton_rejection']:.0f} ({point['low']:.0f} to {point['high']:.0f})"
    text += f" at electron efficiency {point['electron_efficiency']:.4f}"
    return f"{text}, {point['misidentified']} of {point['protons']} protons pass"


def compare(found: dict[str, dict[str, Any]], folders: dict[str, Path], same_events: bool, out: Path) -> dict[str, Any]:
    """Draw several evaluations, metrics by name, on one plot and return the ratios to the first one's rejection."""
    from jaxhep.ams_ecal import plots

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
    for range_name, content in first["ranges"].items():
        methods = {
            name: next(iter(metrics["ranges"][range_name]["methods"].values())) for name, metrics in found.items()
        }
        points = {name: at_efficiency(method, first["efficiency"]) for name, method in methods.items()}
        first_point = points[reference]
        ratios = {name: ratio(first_point, point) if first_point and point else None for name, point in points.items()}
        merged["ranges"][range_name] = {
            "methods": methods,
            "ratio_to_reference": ratios,
            "events": content["events"],
        }
        plot = out / f"rejection_vs_efficiency_{range_name.replace(' ', '_')}"
        plots.rejection_against_efficiency(methods, range_name, note_of(first), plot)
        for name, point in points.items():
            words = describe(point) if point else "no electrons"
            lines.append(
                f"| {range_name} | {name} | {words} | {'reference' if name == reference else _describe_ratio(ratios[name])} |"
            )
    title, energy_plot = "threshold set in each bin", out / "rejection_vs_energy"
    plots.rejection_against_energy(merged["ranges"], first["efficiency"], title, note_of(first), energy_plot, False)
    write_json(out / "comparison.json", merged)
    write_text(out / "comparison.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
    return merged


def _describe_ratio(value: dict[str, float | None] | None) -> str:
    if not value or not value["ratio"]:
        return "limit only"
    return f"{value['ratio']:.2f} ({value['low']:.2f} to {value['high']:.2f})"
