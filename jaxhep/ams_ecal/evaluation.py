"""What an AMS evaluation measures: scores of the network and of reference classifiers on the same events."""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxhep.ams_ecal.rejection import classification
from jaxhep.ams_ecal.report import compare, draw, report
from jaxhep.config import method_name
from jaxhep.errors import BadInput

__all__ = ["HEAVY", "add_references", "check", "compare", "draw", "measure", "report", "score_columns"]

HEAVY = ("cells", "track")  # columns that metrics do not need
# Reference classifiers whose scores the experiment's files may hold: column, name, sign that makes electrons high,
# and the published cut on the signed score where there is one.
REFERENCES = (("ecal3dbdt", "AMS BDT", 1.0, None), ("EcalEMlhd", "AMS likelihood", -1.0, -4.0))


def check(config: ConfigDict) -> None:
    """Raise BadInput where what is to be evaluated makes no sense."""
    if not 0 < config.evaluate.efficiency <= 1:
        raise BadInput(f"config.evaluate.efficiency is {config.evaluate.efficiency}, wanted above 0, up to 1")


def score_columns(config: ConfigDict, outputs: np.ndarray) -> dict[str, np.ndarray]:
    """Return `logit` (n,) of outputs (n,), or the mean over members of (N, n) with their spread `logit_spread`."""
    if outputs.ndim == 1:
        return {"logit": outputs}
    return {"logit": outputs.mean(axis=0), "logit_spread": outputs.std(axis=0)}


def add_references(config: ConfigDict, columns: dict[str, np.ndarray], split: Any, folder: Path, quiet: bool) -> None:
    """Add what reference methods say of the same events: it is in the files already."""


def measure(
    scores: dict[str, np.ndarray], config: ConfigDict, facts: dict, manifest: dict, trained: dict | None
) -> dict[str, Any]:
    """Return metrics.json: every method on every range of energies, on the same events."""
    chosen = config.evaluate
    ranges = {name: tuple(energies) for name, energies in facts["ranges"].items()}
    energy = scores[manifest["energy"]]
    methods: list[tuple[str, np.ndarray, float | None]] = [(method_name(config), scores["logit"], 0.0)]
    for column, name, sign, cut in REFERENCES:
        if column in scores:
            value = sign * scores[column].astype(np.float64)
            # An event without a reference score cannot be selected by it: it ranks below every other.
            lowest = value[np.isfinite(value)].min(initial=0.0)
            methods.append((name, np.where(np.isfinite(value), value, lowest - 1), cut))
    weights = scores["weight"] if chosen.weighted and "weight" in scores else np.ones(len(energy))
    result: dict[str, Any] = {
        "task": "classification",
        "experiment": "ams_ecal",
        "confidence": chosen.confidence,
        "efficiency": chosen.efficiency,
        "weighted": bool(chosen.weighted and "weight" in scores),
        "simulation": manifest["simulation"],
        "energy": manifest["energy"],
        "ranges": {},
    }
    counted = np.zeros(len(energy), bool)
    last = max(high for _, high in ranges.values())
    for name, (low, high) in ranges.items():
        inside = (energy >= low) & ((energy < high) | ((energy == high) & (high == last)))
        counted |= inside
        edges = tuple(sorted({low, high} | {edge for edge in chosen.energy_edges if low < edge < high}))
        content: dict[str, Any] = {"energy_gev": [low, high], "events": int(inside.sum()), "methods": {}}
        for method, values, cut in methods:
            known = trained["ranges"].get(name, {"methods": {}})["methods"].get(method) if trained else None
            content["methods"][method] = classification(
                values[inside],
                scores["label"][inside],
                scores["en3d"][inside],
                weights[inside],
                edges,
                chosen.efficiency,
                chosen.confidence,
                cut,
                known,
            )
        result["ranges"][name] = content
    result["events_outside_ranges"] = int(np.sum(~counted))
    return result
