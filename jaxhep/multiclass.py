"""What an evaluation of a classification into K classes measures and shows, whatever the detector and the classes.

A detector's `evaluation` module takes these functions as they are, or those of them that fit. The data's `label` (n,)
is the number of the true class; the names of the classes are facts["classes"], else "class 0" and so on.
"""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from scipy.special import logsumexp

from jaxhep.config import method_name
from jaxhep.errors import BadInput
from jaxhep.files import write_json, write_text
from jaxhep.statistics import auc, roc_curve, weighted_fraction

HEAVY: tuple[str, ...] = ()  # columns that metrics do not need: a detector says which


def check(config: ConfigDict) -> None:
    """Raise BadInput where what is to be evaluated makes no sense."""
    if not 0 < config.evaluate.confidence < 1:
        raise BadInput(f"config.evaluate.confidence is {config.evaluate.confidence}, wanted between 0 and 1")


def score_columns(config: ConfigDict, outputs: np.ndarray) -> dict[str, np.ndarray]:
    """Return `logits` (n, K) of outputs (n, K).

    Of N members, outputs (N, n, K), `logits` are the mean and `logits_spread` (n, K) is the standard deviation.
    """
    if outputs.ndim == 2:
        return {"logits": outputs}
    return {"logits": outputs.mean(axis=0), "logits_spread": outputs.std(axis=0)}


def add_references(config: ConfigDict, columns: dict[str, np.ndarray], split: Any, folder: Path, quiet: bool) -> None:
    """Add what reference methods say of the same events: a detector knows of some, this module of none."""


def measure(
    columns: dict[str, np.ndarray], config: ConfigDict, facts: dict, manifest: dict, trained: dict | None
) -> dict[str, Any]:
    """Return metrics.json: the network on all events, counted by `weight` where config.evaluate.weighted says so.

    `trained`, the metrics of the run's own test events, is not used: there is no threshold to carry over. Raises
    BadInput where labels are no classes, or the names of the classes do not fit.
    """
    logits, labels = columns["logits"], columns["label"]
    classes = class_names(facts, logits.shape[1])
    wrong = labels[~np.isin(labels, range(len(classes)))]
    if len(wrong):
        raise BadInput(
            f"{len(wrong)} events are of no class, the first has label {wrong[0]}: wanted 0 to {len(classes) - 1}"
        )
    weighted = bool(config.evaluate.get("weighted", False) and "weight" in columns)
    weights = columns["weight"].astype(np.float64) if weighted else np.ones(len(labels))
    found = classification(logits, labels.astype(np.int64), weights, classes, config.evaluate.confidence)
    return {
        "task": "multiclass",
        "experiment": config.experiment,
        "confidence": config.evaluate.confidence,
        "weighted": weighted,
        "simulation": manifest.get("simulation"),
        "classes": classes,
        "ranges": {"all": {"events": len(labels), "methods": {method_name(config): found}}},
    }


def class_names(facts: dict[str, Any], number: int) -> list[str]:
    """Return the names of as many classes. Raises BadInput where there are fewer than two, or the names do not fit."""
    names = [str(name) for name in facts.get("classes") or [f"class {index}" for index in range(number)]]
    if number < 2:
        raise BadInput(f"the network has {number} output: wanted one for each of two or more classes")
    if len(names) != number:
        raise BadInput(f"the network has {number} outputs for {len(names)} classes: {', '.join(names)}")
    if len(set(names)) < number:
        raise BadInput(f"the classes are {', '.join(names)}: wanted a name of its own for each")
    return names


def classification(
    logits: np.ndarray, labels: np.ndarray, weights: np.ndarray, classes: list[str], confidence: float
) -> dict[str, Any]:
    """Return the metrics of one method: logits (n, K), labels (n,) from 0 to K - 1, weights (n,).

    `confusion` holds `counts` of events and, weighted, `rows` that add up to one, of the true class; null for a class
    without events. `one_against_rest` has, by class, its events, `auc` and the ROC curve, efficiencies for the class
    (`signal`) and for all others (`background`), of the probability that softmax gives the class; null without
    events of the class or of any other.
    """
    number = len(classes)
    predicted = logits.argmax(axis=1)
    accuracy = weighted_fraction(predicted == labels, weights, confidence)
    cells = labels * number + predicted
    counts = np.bincount(cells, minlength=number**2).reshape(number, number)
    weight = np.bincount(cells, weights, minlength=number**2).reshape(number, number)
    total = weight.sum(axis=1)
    some = total.sum() > 0
    return {
        "events": len(labels),
        "accuracy": accuracy.value if some else None,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "trivial_accuracy": float(total.max() / total.sum()) if some else None,
        "confusion": {
            "counts": counts.tolist(),
            "rows": [
                (row / row_total).tolist() if row_total > 0 else [None] * number
                for row, row_total in zip(weight, total, strict=True)
            ],
        },
        "one_against_rest": {
            name: _one_against_rest(logits, labels == index, weights, index) for index, name in enumerate(classes)
        },
    }


def _one_against_rest(logits: np.ndarray, is_class: np.ndarray, weights: np.ndarray, index: int) -> dict[str, Any]:
    # log p / (1 - p) orders events as the probability p does, and does not round to 1 for those that are sure.
    others = np.delete(logits, index, axis=1).astype(np.float64)
    scores = logits[:, index] - logsumexp(others, axis=1)
    curve = roc_curve(scores, is_class, weights)
    background, signal = (None, None) if curve is None else (part.tolist() for part in curve)
    return {
        "events": int(is_class.sum()),
        "auc": auc(scores, is_class, weights),
        "background": background,
        "signal": signal,
    }


def note_of(metrics: dict[str, Any]) -> str:
    """Return what stands under every plot: how events are counted, and that they are simulated."""
    text = "Events counted by their weight." if metrics["weighted"] else ""
    return f"{text} Built-in simulation.".strip() if metrics["simulation"] else text


def draw(metrics: dict[str, Any], columns: dict[str, np.ndarray], config: ConfigDict, out: Path) -> None:
    """Draw `confusion` and `roc` of the network."""
    from jaxhep import plots

    content, note = metrics["ranges"]["all"], note_of(metrics)
    (name, method), *_ = content["methods"].items()
    title = f"{name}, {content['events']} events"
    confusion = method["confusion"]
    plots.confusion_matrix(confusion["rows"], confusion["counts"], metrics["classes"], title, note, out / "confusion")
    plots.roc_curves(method["one_against_rest"], title, note, out / "roc")


def report(metrics: dict[str, Any], out: Path) -> None:
    """Print accuracy with its interval, and each class with its AUC and what it is taken for most often."""
    for content in metrics["ranges"].values():
        for name, method in content["methods"].items():
            print(f"{name}: {content['events']} events, {describe(method)}")
            for label, row in zip(metrics["classes"], method["confusion"]["rows"], strict=True):
                one = method["one_against_rest"][label]
                print(f"  {label}: {_describe_class(one, row, metrics['classes'], label)}")
    print(f"metrics and plots: {out}")


def describe(method: dict[str, Any]) -> str:
    """Return accuracy and trivial accuracy in words."""
    if method["accuracy"] is None:
        return "nothing to count"
    interval = f"{method['accuracy_low']:.4f} to {method['accuracy_high']:.4f}"
    return f"accuracy {method['accuracy']:.4f} ({interval}; trivial classifier {method['trivial_accuracy']:.4f})"


def _describe_class(one: dict[str, Any], row: list[float | None], classes: list[str], own: str) -> str:
    if not one["events"]:
        return "no events"
    shares = {name: share for name, share in zip(classes, row, strict=True) if share is not None}
    if not shares:
        return f"{one['events']} events without weight"
    text = f"{one['events']} events, {100 * shares.pop(own):.1f} % recognised"
    if one["auc"] is not None:
        text += f", AUC against the rest {one['auc']:.5f}"
    other = max(shares, key=lambda name: shares[name], default="")
    return f"{text}, {100 * shares[other]:.1f} % taken for {other}" if other and shares[other] > 0 else text


def compare(found: dict[str, dict[str, Any]], folders: dict[str, Path], same_events: bool, out: Path) -> dict[str, Any]:
    """Write the first method of each run, metrics by name, side by side: comparison.md and comparison.json.

    Raises BadInput where the runs' classes differ.
    """
    reference, first = next(iter(found.items()))
    for name, metrics in found.items():
        if metrics["classes"] != first["classes"]:
            own, wanted = (", ".join(one["classes"]) for one in (metrics, first))
            raise BadInput(f"{name}: classes {own}, {reference}: {wanted}: not comparable")
    merged: dict[str, Any] = {key: first[key] for key in ("task", "experiment", "confidence", "classes")}
    merged |= {"reference": reference, "same_events": same_events, "ranges": {}}
    lines = [
        f"| events | run | accuracy ({100 * first['confidence']:g} %) | trivial | mean AUC | lowest AUC |",
        "|---|---|---|---|---|---|",
    ]
    for range_name in first["ranges"]:
        contents = {name: metrics["ranges"][range_name] for name, metrics in found.items()}
        methods = {name: next(iter(content["methods"].values())) for name, content in contents.items()}
        merged["ranges"][range_name] = {"events": contents[reference]["events"], "methods": methods}
        for name, method in methods.items():
            lines.append(f"| {contents[name]['events']} | {name} | {' | '.join(_cells(method))} |")
    write_json(out / "comparison.json", merged)
    write_text(out / "comparison.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
    return merged


def _cells(method: dict[str, Any]) -> list[str]:
    """Return what the comparison's table says of one method."""
    areas = {name: one["auc"] for name, one in method["one_against_rest"].items() if one["auc"] is not None}
    cells = ["-"] * 4
    if method["accuracy"] is not None:
        interval = f"{method['accuracy_low']:.4f} to {method['accuracy_high']:.4f}"
        cells[:2] = [f"{method['accuracy']:.4f} ({interval})", f"{method['trivial_accuracy']:.4f}"]
    if areas:
        lowest = min(areas, key=lambda name: areas[name])
        cells[2:] = [f"{np.mean(list(areas.values())):.5f}", f"{areas[lowest]:.5f} ({lowest})"]
    return cells
