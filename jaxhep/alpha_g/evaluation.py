"""What an ALPHA-g evaluation measures: network, ensemble and standard method on the same events."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxhep.alpha_g import helix_fit
from jaxhep.alpha_g.config import TARGETS
from jaxhep.alpha_g.features import decode_points
from jaxhep.alpha_g.methods import STANDARD, methods_of
from jaxhep.alpha_g.report import compare, draw, report
from jaxhep.alpha_g.residuals import vertex_method
from jaxhep.alpha_g.vertex_csv import read_vertex_csv
from jaxhep.errors import BadInput, one_of
from jaxhep.files import aside

__all__ = ["HEAVY", "add_references", "check", "compare", "draw", "measure", "report", "score_columns"]

HEAVY = ("points",)  # columns that metrics do not need
SOURCES = ("fit", "file", "none")
DISTRIBUTIONS = {"gaussian_nll": "gaussian", "laplace_nll": "laplace"}
CHUNK = 512  # events fitted at a time
FORMAT = 1  # raised when the method changes, so that results kept beside the data are made anew


def check(config: ConfigDict) -> None:
    """Raise BadInput where the source of the standard method does not exist, or its vertices are not readable."""
    one_of(config.evaluate.helix_fit, SOURCES, "config.evaluate.helix_fit")
    if config.evaluate.vertex_csv:
        read_vertex_csv(Path(config.evaluate.vertex_csv))


def other_files(config: ConfigDict) -> None:
    """Clear the vertex CSV: its serial numbers are those of the run's own files."""
    config.evaluate.vertex_csv = ""


def score_columns(config: ConfigDict, outputs: np.ndarray) -> dict[str, np.ndarray]:
    """Return `prediction` (n, 3) mm, NaN where a coordinate is not predicted, and what the config has beside it.

    `outputs` are (n, D) or (n, 2 D) with widths, of N members (N, n, ...). `width` (n, 3) is the predicted scale, for
    an ensemble the root of the mean variance plus the spread's; `spread` (n, 3) is the standard deviation between
    members and `members` (n, N, 3) are their predictions.
    """
    coordinates = TARGETS[config.target]
    several = outputs.ndim == 3
    values = outputs if several else outputs[None]
    value, width = values[..., : len(coordinates)], values[..., len(coordinates) :]
    columns = {"prediction": value.mean(axis=0)}
    if several:
        columns["spread"] = value.std(axis=0)
    if width.shape[-1]:
        # The scale b of a Laplace distribution stands for a variance of 2 b^2.
        variance = 2.0 if config.loss.kind == "laplace_nll" else 1.0
        between = columns["spread"] ** 2 / variance if several else 0.0
        columns["width"] = np.sqrt((width**2).mean(axis=0) + between)
    placed = {}
    for name, found in columns.items():
        placed[name] = np.full((values.shape[1], 3), np.nan, np.float32)
        placed[name][:, coordinates] = found
    if several:
        placed["members"] = np.full((values.shape[1], len(values), 3), np.nan, np.float32)
        placed["members"][..., coordinates] = value.swapaxes(0, 1)
    return placed


def add_references(config: ConfigDict, columns: dict[str, np.ndarray], split: Any, folder: Path, quiet: bool) -> None:
    """Add the standard method's vertices to the columns: `helix_fit` (n, 3) mm, NaN where it finds none.

    They are fitted here and kept beside the prepared data, taken from the files, or read from the collaboration's
    vertex CSV by serial number. Raises BadInput where the source is not there.
    """
    source = config.evaluate.helix_fit
    from_file = columns.pop("helix_fit", None)
    if from_file is not None and np.isfinite(from_file[:, 2]).any():
        columns["file_helix_fit"] = from_file
    if config.evaluate.vertex_csv:
        columns["helix_fit"] = _from_csv(Path(config.evaluate.vertex_csv), columns)
    elif source == "fit":
        columns |= _fitted(split, folder, quiet)
    elif source == "file":
        if "file_helix_fit" not in columns:
            raise BadInput(f"{folder}: these data hold no Helix Fit; use config.evaluate.helix_fit=fit or none")
        columns["helix_fit"] = columns.pop("file_helix_fit")


def _from_csv(path: Path, columns: dict[str, np.ndarray]) -> np.ndarray:
    if "event" not in columns:
        raise BadInput(f"{path}: vertices are found by serial number, but the data hold no event numbers")
    found = read_vertex_csv(path)
    vertex = dict(zip(found["serial_number"].tolist(), found["vertex"], strict=True))
    missing = [number for number in columns["event"].tolist() if number not in vertex]
    if missing:
        raise BadInput(f"{path}: no serial number {missing[0]} ({len(missing)} events of the data are not in it)")
    return np.array([vertex[number] for number in columns["event"].tolist()], np.float32)


def _fitted(split: Any, folder: Path, quiet: bool) -> dict[str, np.ndarray]:
    """Return the Helix Fit of a split, from the file beside the data where it was made before."""
    settings = helix_fit.FitSettings()
    chosen = hashlib.sha256(repr((FORMAT, settings)).encode() + split.events.tobytes()).hexdigest()[:12]
    kept = folder / f"helix_fit-{chosen}.npz"
    try:
        with np.load(kept) as content:
            return dict(content)
    except (OSError, ValueError, zipfile.BadZipFile):
        pass  # not there, or not whole: made anew
    if not quiet:
        print(f"{STANDARD} of {len(split)} events, once for these data", flush=True)
    vertex, tracks = [], []
    for start in range(0, len(split), CHUNK):
        rows = split.gather(np.arange(start, min(start + CHUNK, len(split))), ("points", "count"))
        found = helix_fit.reconstruct(decode_points(rows["points"]), rows["count"].astype(int))
        vertex.append(found.vertex.astype(np.float32))
        tracks.append(found.tracks)
    columns = {"helix_fit": np.concatenate(vertex), "helix_tracks": np.concatenate(tracks)}
    try:
        with aside(kept) as partial, open(partial, "wb") as file:
            np.savez(file, **columns)  # type: ignore[arg-type]
    except OSError as error:  # prepared data may lie where one may only read
        print(f"{kept}: not kept ({error.strerror})")
    return columns


def measure(
    columns: dict[str, np.ndarray], config: ConfigDict, facts: dict, manifest: dict, trained: dict | None
) -> dict[str, Any]:
    """Return metrics.json: every method on all events, and on those where the standard method finds a vertex or not."""
    ranges = {"all": np.ones(len(columns["vertex"]), bool)}
    if "helix_fit" in columns:
        found = np.isfinite(columns["helix_fit"][:, 2])
        ranges |= {f"{STANDARD} vertex": found, f"no {STANDARD} vertex": ~found}
    result: dict[str, Any] = {
        "task": "vertex",
        "experiment": "alpha_g",
        "unit": "mm",
        "confidence": config.evaluate.confidence,
        "simulation": manifest["simulation"],
        "ranges": {},
    }
    points, pions = columns["points_found"], columns.get("charged_pions")
    for name, inside in ranges.items():
        methods = {}
        for method, values in methods_of(config, columns).items():
            prediction, truth = values["prediction"][inside], columns["vertex"][inside]
            # z alone where x and y are not predicted, or not known.
            whole = np.isfinite(truth).all() and np.isfinite(prediction).all(axis=1).any()
            pick = slice(None) if whole else 2
            methods[method] = vertex_method(
                prediction[:, pick],
                truth[:, pick],
                points[inside],
                None if pions is None else pions[inside],
                config.evaluate.confidence,
                width=values["width"][inside][:, pick] if "width" in values else None,
                spread=values["spread"][inside][:, pick] if "spread" in values else None,
                distribution=DISTRIBUTIONS.get(config.loss.kind),
            )
        result["ranges"][name] = {"events": int(inside.sum()), "methods": methods}
    return result
