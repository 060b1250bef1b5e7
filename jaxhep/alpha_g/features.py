"""Spacepoints -> records: radius cut, order, selection, splits, coordinates in 16 bits. NumPy only.

Coordinates are stored as round(28 x / mm) in signed 16 bits: +-1170 mm fit, with an error of 0.018 mm, a tenth of the
best resolution of a spacepoint. float16 would lose half a millimetre at the ends of the detector.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxhep.alpha_g import layouts
from jaxhep.alpha_g.geometry import HALF_LENGTH_MM, PAD_PITCH_MM
from jaxhep.alpha_g.layouts import Events, File
from jaxhep.errors import BadInput, one_of
from jaxhep.records import Chunk, choose_split, keys_of, mix, shuffling, uniform

CODES_PER_MM = 28
LARGEST_MM = 32767 / CODES_PER_MM
ENCODING = f"round({CODES_PER_MM} x / mm), int16"
MM = {"mm": 1.0, "m": 1000.0}
ORDERS = ("amplitude", "radius")
ENTRIES = 256  # read at a time: HDF5 files have rows for thousands of points each
Z_BINS = 100  # of flattening


class Selection(NamedTuple):
    """All that turns spacepoints into records."""

    stored_points: int = 800  # of an event, the first by `order`
    order: str = "amplitude"  # "amplitude", descending (the file's order where it has none), or "radius", ascending
    radius_mm: tuple[float, float] = (109.0, 190.0)
    unit: str = "mm"  # of the files
    tree: str = "spacepoints"
    fractions: tuple[tuple[str, float], ...] = (("train", 0.8), ("validation", 0.1), ("test", 0.1))
    z_range_mm: tuple[float, float] = (-HALF_LENGTH_MM, HALF_LENGTH_MM)  # of the true vertex
    flatten_z: bool = False
    # What every file has: set by `describe` and `complete`.
    has: frozenset[str] = frozenset()
    keep: tuple[float, ...] = ()  # fraction kept of each of the Z_BINS, where the distribution is flattened


def open_file(path: Path | str, selection: Selection) -> File:
    """Open a file of any layout. Raises BadInput where it is not there or not readable."""
    return layouts.open_file(path, selection.tree)


def check(selection: Selection) -> None:
    """Raise BadInput where the selection makes no sense."""
    one_of(selection.unit, MM, "config.data.unit")
    one_of(selection.order, ORDERS, "config.data.order")
    if not 1 <= selection.stored_points < 65536:
        raise BadInput(f"config.data.stored_points is {selection.stored_points}, wanted 1 to 65535")
    for name in ("radius_mm", "z_range_mm"):
        limits = getattr(selection, name)
        if len(limits) != 2 or not limits[0] < limits[1]:
            raise BadInput(f"config.data.{name} is {limits}, wanted low < high, in mm")
    if selection.radius_mm[0] < 0 or selection.radius_mm[1] > LARGEST_MM:
        raise BadInput(f"config.data.radius_mm is {selection.radius_mm}, wanted 0 to {LARGEST_MM:.0f} mm")


def describe(selection: Selection, files: list[File]) -> Selection:
    """Return the selection with what all files have. Raises BadInput for a file that lacks what is needed."""
    check(selection)
    return selection._replace(has=frozenset.intersection(*(file.has for file in files)))


def complete(selection: Selection, files: list[File]) -> Selection:
    """Return the selection with what all files decide together: which fraction of each of the Z_BINS of true z is kept.

    Where the distribution is flattened, every bin keeps as many events as the emptiest has. Reads the vertices of all
    files. Raises BadInput where less than a tenth of the events would be left.
    """
    if not selection.flatten_z:
        return selection
    edges = np.linspace(*selection.z_range_mm, Z_BINS + 1)
    counts = np.zeros(Z_BINS)
    for file in files:
        try:
            counts += _true_z(open_file(file.path, selection), selection, edges)
        except BadInput:
            continue  # a bad file is named, or skipped and recorded, when its records are read
    if not counts.any():
        return selection
    least = counts.min()
    if least * Z_BINS < 0.1 * counts.sum():
        low = edges[int(counts.argmin())]
        raise BadInput(
            f"config.data.flatten_z would keep {int(least * Z_BINS)} of {int(counts.sum())} events, as only {int(least)} lie at {low:.0f} to {low + edges[1] - edges[0]:.0f} mm; narrow config.data.z_range_mm or do without"
        )
    return selection._replace(keep=tuple(float(least / count) for count in counts))


def _true_z(file: File, selection: Selection, edges: np.ndarray) -> np.ndarray:
    """Return the histogram of true z of a file's events that have a spacepoint to be kept."""
    counts = np.zeros(len(edges) - 1)
    for start in range(0, file.entries, ENTRIES):
        events = layouts.read_events(file, start, min(start + ENTRIES, file.entries))
        events = _in_mm(file, events, selection.unit, start)
        event = np.repeat(np.arange(len(events.counts)), events.counts)
        found = np.bincount(event[_inside(events.points, selection)], minlength=len(events.counts))
        counts += np.histogram(events.vertex[found > 0, 2], edges)[0]
    return counts


def record_dtype(selection: Selection) -> np.dtype:
    """Return the dtype of one stored event; every field but `key` becomes a column."""
    fields: list[Any] = [("key", "u8"), ("points", "i2", (selection.stored_points, 3)), ("count", "u2")]
    fields += [("points_found", "u4"), ("label", "u1"), ("vertex", "f4", (3,))]
    fields += [("helix_fit", "f4", (3,))] if "helix_fit" in selection.has else []
    fields += [("run", "i8"), ("event", "i8")] if {"run", "event"} <= selection.has else []
    return np.dtype(fields + ([("charged_pions", "i1")] if "charged_pions" in selection.has else []))


def read_records(file: File, label: int | None, selection: Selection, start: int = 0) -> Iterator[Chunk]:
    """Yield the records of a file from entry `start` on, in chunks of bounded size; `label` 1 annihilation, 0 cosmic.

    Raises BadInput, naming the file and entry, for coordinates that are NaN, infinite or in another unit.
    """
    for first in range(start, file.entries, ENTRIES):
        last = min(first + ENTRIES, file.entries)
        events = _in_mm(file, layouts.read_events(file, first, last), selection.unit, first)
        yield _records(file, events, 1 if label is None else label, selection, last)


def decode_points(codes: np.ndarray) -> np.ndarray:
    """Return coordinates in mm, float32, of stored ones of any shape."""
    return codes.astype(np.float32) / np.float32(CODES_PER_MM)


def _in_mm(file: File, events: Events, unit: str, first: int) -> Events:
    wrong = np.flatnonzero(~np.isfinite(events.points).all(axis=1))
    if len(wrong):
        entry = first + int(np.searchsorted(np.cumsum(events.counts), wrong[0], side="right"))
        raise BadInput(f"{file.path}: spacepoint {events.points[wrong[0]]} at entry {entry}, wanted finite coordinates")
    factor = np.float32(MM[unit])
    events = events._replace(
        points=events.points * factor, vertex=events.vertex * factor, helix_fit=events.helix_fit * factor
    )
    if len(events.points):
        radius = float(np.median(np.hypot(events.points[:, 0], events.points[:, 1])))
        fitting = [name for name, mm in MM.items() if 50 < radius * mm / MM[unit] < 400]
        if not 50 < radius < 400:
            advice = f"; --config.data.unit={fitting[0]} would fit" if fitting else ""
            raise BadInput(
                f"{file.path}: the median radius of spacepoints is {radius:.3g} mm near entry {first} with unit={unit}, wanted 109 to 190 mm{advice}"
            )
    return events


def _records(file: File, events: Events, label: int, selection: Selection, last: int) -> Chunk:
    """Return the records of a range of events, whose last entry is `last` - 1."""
    entries = len(events.counts)
    event = np.repeat(np.arange(entries), events.counts)
    labels = np.full(entries, label, np.uint8)
    keys = _keys(file, events, event, labels)
    event, points, found = _ordered(events, event, selection)
    kept, dropped = _select(events, found, keys, selection)
    rows = np.flatnonzero(kept)
    records = np.zeros(len(rows), record_dtype(selection))
    place = np.full(entries, -1)
    place[rows] = np.arange(len(rows))
    records["points"] = _stored(event, points, found, place, len(rows), selection)
    records["count"] = np.minimum(found[rows], selection.stored_points)
    records["points_found"], records["label"], records["vertex"] = found[rows], labels[rows], events.vertex[rows]
    records["key"] = shuffling(keys[rows])
    if "helix_fit" in selection.has:
        records["helix_fit"] = events.helix_fit[rows]
    for name in {"run", "event", "charged_pions"} & set(records.dtype.names or ()):
        records[name] = events.extra[name][rows]
    split = choose_split(keys[rows], dict(selection.fractions))
    return Chunk(records, split, entries, dropped, last, True)


def _ordered(events: Events, event: np.ndarray, selection: Selection) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return event and coordinates of the points within the cuts, in the order of storing, and their number (n,)."""
    inside = _inside(events.points, selection)
    event, points = event[inside], events.points[inside]
    found = np.bincount(event, minlength=len(events.counts))
    if selection.order == "radius":
        event, points = _sorted(event, np.hypot(points[:, 0], points[:, 1]), points)
    elif events.amplitude is not None:
        event, points = _sorted(event, -events.amplitude[inside], points)
    return event, points, found


def _stored(event, points, found: np.ndarray, place: np.ndarray, rows: int, selection: Selection) -> np.ndarray:
    """Return the codes (rows, stored points, 3) of the first points of each event that has a place among the rows."""
    codes = np.zeros((rows, selection.stored_points, 3), np.int16)
    rank = np.arange(len(event)) - np.repeat(np.cumsum(found) - found, found)
    stored = (place[event] >= 0) & (rank < selection.stored_points)
    codes[place[event[stored]], rank[stored]] = np.rint(points[stored] * CODES_PER_MM).astype(np.int16)
    return codes


def encode_points(
    points: list[np.ndarray], amplitude: list[np.ndarray] | None, selection: Selection
) -> dict[str, np.ndarray]:
    """Return `points` and `count` as they are stored of N events, each (n, 3) in the selection's unit.

    Raises BadInput for coordinates that are not finite or in another unit, and for an event without any point left.
    """
    if not points:
        return {"points": np.zeros((0, selection.stored_points, 3), np.int16), "count": np.zeros(0, np.uint16)}
    counts, unknown = np.array([len(event) for event in points]), np.full((len(points), 3), np.nan, np.float32)
    strength = None if amplitude is None else np.concatenate(amplitude)
    events = Events(counts, np.concatenate(points), strength, unknown, unknown, {})
    events = _in_mm(File("points", "arrays", len(points), frozenset(), None), events, selection.unit, 0)
    event, kept, found = _ordered(events, np.repeat(np.arange(len(points)), counts), selection)
    if not found.all():
        raise BadInput(f"points of event {int(np.argmin(found > 0))}: none within the cuts in radius and z")
    codes = _stored(event, kept, found, np.arange(len(points)), len(points), selection)
    return {"points": codes, "count": np.minimum(found, selection.stored_points).astype(np.uint16)}


def _keys(file: File, events: Events, event: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the key of each event: of run and event number, else of the bits of its vertex and first spacepoint.

    The identity comes from the event's own file alone: what other files hold must not move it between splits.
    """
    if {"run", "event"} <= file.has:
        return keys_of(labels, events.extra["run"], events.extra["event"])
    starts = np.cumsum(events.counts) - events.counts
    first = np.zeros((len(labels), 3), np.float32)
    some = events.counts > 0
    first[some] = events.points[starts[some]]
    known = np.nan_to_num(events.vertex)
    return keys_of(labels, *(known[:, axis] for axis in range(3)), *(first[:, axis] for axis in range(3)))


def _inside(points: np.ndarray, selection: Selection) -> np.ndarray:
    """Return which points (n, 3) lie within the radius cut and, to a pad, over the pads in z."""
    radius = np.hypot(points[:, 0], points[:, 1])
    low, high = selection.radius_mm
    return (radius >= low) & (radius <= high) & (np.abs(points[:, 2]) <= HALF_LENGTH_MM + PAD_PITCH_MM)


def _sorted(event: np.ndarray, value: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((value, event))
    return event[order], points[order]


def _select(events: Events, found: np.ndarray, keys: np.ndarray, selection: Selection):
    """Return kept (n,) bool and the count left out by reason."""
    dropped = {"no spacepoint within the cut in radius and z": int(np.sum(found == 0))}
    kept = found > 0
    z, (low, high) = events.vertex[:, 2], selection.z_range_mm
    dropped["no true vertex"] = int(np.sum(kept & ~np.isfinite(z)))
    kept &= np.isfinite(z)
    dropped["true z outside config.data.z_range_mm"] = int(np.sum(kept & ((z < low) | (z > high))))
    kept &= (z >= low) & (z <= high)
    if selection.keep:
        bins = np.clip(np.floor((z - low) / (high - low) * Z_BINS), 0, Z_BINS - 1)
        fraction = np.array(selection.keep)[np.nan_to_num(bins).astype(int)]
        chosen = uniform(mix(keys ^ np.uint64(0xA0761D6478BD642F))) < fraction
        dropped["flattened in z"] = int(np.sum(kept & ~chosen))
        kept &= chosen
    return kept, {reason: count for reason, count in dropped.items() if count}
