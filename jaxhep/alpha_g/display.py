"""python -m jaxhep.alpha_g.display: single events of a run, with spacepoints, fitted helices and vertices.

    python -m jaxhep.alpha_g.display --workdir runs/pointnet --events 0,5,17 --out runs/pointnet/displays

Events are numbered as in the run's test split. Wants the run's evaluation (python -m jaxhep.evaluate).
"""

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from jaxhep.alpha_g.features import decode_points
from jaxhep.alpha_g.geometry import HALF_LENGTH_MM, INNER_RADIUS_MM, PAD_RADIUS_MM, WALL_RADIUS_MM, WIRE_RADIUS_MM
from jaxhep.alpha_g.helix_fit import reconstruct
from jaxhep.config import read_config
from jaxhep.data import Split
from jaxhep.errors import BadInput, one_line
from jaxhep.files import read_json
from jaxhep.manifest import read_manifest
from jaxhep.plots import STYLE, save_figure

TRUE, NETWORK, STANDARD = "True vertex", "Network", "Helix Fit"
METHODS = {TRUE: "vertex", NETWORK: "prediction", STANDARD: "helix_fit"}  # names in the legend, columns of scores.npz
CYLINDERS = (
    (WALL_RADIUS_MM, "trap wall", "-"),
    (INNER_RADIUS_MM, "inner cathode", "-"),
    (WIRE_RADIUS_MM, "wires", ":"),
    (PAD_RADIUS_MM, "pads", "-"),
)
MARKERS = (("*", "black", 17), ("X", "C3", 11), ("P", "C0", 11), ("D", "C2", 9), ("v", "C1", 10))
BEYOND_MM = 25.0  # helices are drawn this far past the point nearest to the beam line
LEAST_SPAN_MM = 200.0  # of the z that is shown


class Event(NamedTuple):
    """One event to draw: number in the test split, points (n, 3) in mm, vertices (3,) in mm by method."""

    number: int
    points: np.ndarray
    vertices: dict[str, np.ndarray]


def helix_points(helix: np.ndarray) -> np.ndarray:
    """Return points (m, 3) in mm of a helix x0, y0, radius, phi0, z0, pitch: from 25 mm beyond the point nearest to
    the beam line, through t = 0, to the pads."""
    x0, y0, radius, phi0, z0, pitch = helix
    to_axis = np.arctan2(-y0, -x0) - phi0
    to_axis = np.arctan2(np.sin(to_axis), np.cos(to_axis))
    inward = -1.0 if to_axis < 0 else 1.0
    reach = min(np.pi, 2.5 * PAD_RADIUS_MM / radius)
    inner = np.linspace(0, min(abs(to_axis) + BEYOND_MM / radius, np.pi), 300)
    outer = np.linspace(0, reach, 1000)
    beyond = np.hypot(radius * np.cos(phi0 - inward * outer) + x0, radius * np.sin(phi0 - inward * outer) + y0)
    stop = np.flatnonzero(beyond > PAD_RADIUS_MM + 1)
    outer = outer[: stop[0] + 1] if len(stop) else outer
    t = inward * np.concatenate([-outer[::-1], inner[1:]])
    return np.stack([radius * np.cos(t + phi0) + x0, radius * np.sin(t + phi0) + y0, pitch * t / (2 * np.pi) + z0], 1)


def draw_event(
    points: np.ndarray,
    helices: np.ndarray,
    vertices: dict[str, np.ndarray],
    path: Path,
    title: str = "",
    in_vertex: np.ndarray | None = None,
) -> list[Path]:
    """Draw one event in x-y and in z-r and write it as `path`.png and `path`.pdf; return both paths.

    points (n, 3) in mm; helices (k, 6) as `helix_fit.Reconstruction` has them, rows of NaN are left out; vertices: x,
    y, z in mm by name. A vertex without x and y is drawn as a line at its z, one without z only named. Helices that
    are not `in_vertex` (k,) are dashed and pale.
    """
    real = np.isfinite(helices).all(axis=1)
    used = np.ones(int(real.sum()), bool) if in_vertex is None else in_vertex[real]
    helices = helices[real]
    with matplotlib.rc_context(STYLE | {"legend.fontsize": 12}):
        figure = Figure(figsize=(16.0, 7.4))
        front, side = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1, 1.15]})
        _draw_detector(front, side)
        front.plot(points[:, 0], points[:, 1], "o", color="0.35", ms=2.5, zorder=2)
        side.plot(points[:, 2], np.hypot(points[:, 0], points[:, 1]), "o", color="0.35", ms=2.5, zorder=2)
        for number, helix in enumerate(helices):
            curve = helix_points(helix)
            style: dict[str, Any] = {"color": f"C{number % 10}", "zorder": 3}
            style |= {"lw": 1.6} if used[number] else {"lw": 1.0, "ls": "--", "alpha": 0.6}
            front.plot(curve[:, 0], curve[:, 1], **style)
            side.plot(curve[:, 2], np.hypot(curve[:, 0], curve[:, 1]), **style)
        _draw_vertices(front, side, vertices)
        front.set(xlim=(-205, 205), ylim=(-205, 205), xlabel="x [mm]", ylabel="y [mm]", box_aspect=1)
        side.set(
            xlim=_range_of_z(points, vertices), ylim=(0, 205), xlabel="z [mm]", ylabel="r [mm]", box_aspect=1 / 1.15
        )
        side.plot([], [], "o", color="0.35", ms=4, label=f"{len(points)} spacepoints")
        side.plot(
            [],
            [],
            color="C0",
            lw=1.5,
            label=f"{int(used.sum())} fitted helices" + " of the vertex" * (in_vertex is not None),
        )
        if not used.all():
            side.plot([], [], color="C0", lw=1.0, ls="--", alpha=0.6, label=f"{int((~used).sum())} others")
        side.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, frameon=False)
        if title:
            front.set_title(title, loc="left", fontsize=15)
        return save_figure(figure, path)


def _draw_detector(front: Axes, side: Axes) -> None:
    for radius, name, line in CYLINDERS:
        front.add_patch(Circle((0, 0), radius, fill=False, color="0.6", ls=line, lw=1.2))
        side.axhline(radius, color="0.6", ls=line, lw=1.2)
        below = name == "wires"  # eight millimetres from the pads
        side.annotate(
            name,
            (1, radius),
            (-4, -6 if below else 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            va="top" if below else "bottom",
            fontsize=10,
            color="0.4",
        )
    for end in (-HALF_LENGTH_MM, HALF_LENGTH_MM):
        side.axvline(end, color="0.6", lw=1.2)


def _draw_vertices(front: Axes, side: Axes, vertices: dict[str, np.ndarray]) -> None:
    for index, (name, vertex) in enumerate(vertices.items()):
        marker, color, size = MARKERS[index % len(MARKERS)]
        x, y, z = (float(value) for value in vertex)
        # Later methods lie below earlier ones: the truth stays in sight.
        style: dict[str, Any] = {"color": color, "marker": marker, "ms": size, "mec": "white", "mew": 0.8, "ls": "none"}
        style["zorder"] = 10 - 0.1 * index
        if np.isfinite([x, y]).all():
            front.plot(x, y, **style)
        if np.isfinite([x, y, z]).all():
            side.plot(z, np.hypot(x, y), label=f"{name}, z = {z:.1f} mm", **style)
        elif np.isfinite(z):
            side.axvline(z, color=color, ls="--", lw=1.8, label=f"{name}, z = {z:.1f} mm")
        else:
            side.plot([], [], label=f"{name}: none", **style)


def _range_of_z(points: np.ndarray, vertices: dict[str, np.ndarray]) -> tuple[float, float]:
    """Return the z to show: all points and vertices, with a margin."""
    values = np.concatenate([points[:, 2], [float(vertex[2]) for vertex in vertices.values()]])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    half = max(0.6 * (high - low), LEAST_SPAN_MM / 2)
    return (low + high) / 2 - half, (low + high) / 2 + half


def load_events(workdir: Path, numbers: list[int]) -> list[Event]:
    """Return events of a run's test split by their numbers, with the vertices of its evaluation.

    Raises BadInput where the folder is no evaluated run, its data are not there, or an event is not in the split.
    """
    try:
        config = read_config(workdir / "config.json")
        facts = read_json(workdir / "task.json", "not a trained run")
        with np.load(workdir / "evaluation" / "scores.npz") as content:
            scores = {name: content[column] for name, column in METHODS.items() if column in content}
    except OSError as error:
        raise BadInput(
            f"{workdir}: not an evaluated run ({type(error).__name__}: {error}); run jaxhep evaluate --workdir on it first"
        ) from None
    folder = Path(facts["data_folder"])
    if read_manifest(folder)["content_hash"] != facts["data_hash"]:
        raise BadInput(f"{folder}: these data are not those that {workdir} was trained on (content hash differs)")
    split = Split(folder, "test", config.data.limit.test)
    if TRUE not in scores or len(scores[TRUE]) != len(split):
        raise BadInput(f"{workdir / 'evaluation'}: not the evaluation of the {len(split)} test events of {folder}")
    for number in numbers:
        if not 0 <= number < len(split):
            raise BadInput(f"event {number} is not in the test split: wanted 0 to {len(split) - 1}")
    rows = split.gather(np.array(numbers, np.int64), ("points", "count"))
    return [
        Event(
            number,
            decode_points(codes[: int(count)]).astype(np.float64),
            {name: vertex[number] for name, vertex in scores.items()},
        )
        for number, codes, count in zip(numbers, rows["points"], rows["count"], strict=True)
    ]


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxhep.alpha_g.display",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workdir", type=Path, required=True, help="folder of an evaluated run")
    parser.add_argument("--events", default="0", help="numbers in the test split, separated by commas")
    parser.add_argument("--out", type=Path, help="folder for the displays (default: evaluation/displays in the run)")
    arguments = parser.parse_args(argv)
    try:
        numbers = [int(number) for number in arguments.events.split(",")]
    except ValueError:
        raise BadInput(f"--events is {arguments.events!r}: wanted numbers separated by commas, as 0,5,17") from None
    out = arguments.out or arguments.workdir / "evaluation" / "displays"
    events = load_events(arguments.workdir, numbers)
    out.mkdir(parents=True, exist_ok=True)
    for event in events:
        found = reconstruct(event.points[None], np.array([len(event.points)]))
        title = f"Test event {event.number}"
        path = out / f"event_{event.number}"
        for written in draw_event(event.points, found.helices[0], event.vertices, path, title, found.in_vertex[0]):
            print(written)
    return 0


if __name__ == "__main__":
    sys.exit(one_line(main))
