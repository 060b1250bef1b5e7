"""The Helix Fit from spacepoints to vertices, events in chunks, over one process or several."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np

from jaxhep.alpha_g.geometry import INNER_RADIUS_MM
from jaxhep.alpha_g.helix_fit.helix import as_circles, fit_helices, moved_along
from jaxhep.alpha_g.helix_fit.track_finding import find_tracks
from jaxhep.alpha_g.helix_fit.vertex_fit import fit_vertices, to_beam_line, vertex_group
from jaxhep.errors import BadInput
from jaxhep.stop import held, leave_to_parent

MAX_TRACKS = 24
"""Tracks kept per event, the first found (those with the most points)."""

CHUNK = 64  # events fitted at a time; fixed, so that results do not depend on the number of processes


class FitSettings(NamedTuple):
    """The constants of the method, as the collaboration's reconstruction has them."""

    rho_bins: int = 250  # of the Hough transform, from 0 to 1 / inner_radius
    theta_bins: int = 230  # over a full turn
    inner_radius: float = INNER_RADIUS_MM  # mm: of the inner cathode
    step: float = 30.0  # mm: points of a track are connected by steps of at most this
    minimum_points: int = 13  # of a track
    minimum_length: float = 35.0  # mm: a track of the vertex is longer, along the helix from first to last point
    beam_distance: float = 53.0  # mm: its circle passes the beam line closer than this
    beam_gap: float = 34.0  # mm: tracks of a group follow each other in z by less than this


DEFAULT = FitSettings()


class Reconstruction(NamedTuple):
    """What `reconstruct` finds in N events, float64 with NaN where there is nothing."""

    vertex: np.ndarray
    """(N, 3) x, y, z in mm; NaN where fewer than two tracks make a vertex."""
    tracks: np.ndarray
    """(N,) int64: number of tracks found."""
    used: np.ndarray
    """(N,) int64: number of tracks in the vertex, 0 or at least 2."""
    helices: np.ndarray
    """(N, MAX_TRACKS, 6) x0, y0, radius, phi0, z0, pitch h: x = radius cos(t + phi0) + x0, y = radius sin(t + phi0) +
    y0, z = h t / (2 pi) + z0, in mm and rad, t from -pi to pi. radius > 0; h has either sign; t = 0 is the middle of
    the track's points. Straight tracks have a radius of 1e9 mm."""
    in_vertex: np.ndarray
    """(N, MAX_TRACKS) bool: the track is one of the vertex."""


def reconstruct(
    points: np.ndarray, count: np.ndarray, settings: FitSettings = DEFAULT, processes: int = 1
) -> Reconstruction:
    """Return tracks and vertex of every event.

    points: (N, P, 3) x, y, z in mm, of which the first `count` (N,) rows of each event are real. Events are spread
    over `processes`; the results are the same for any number of them. With more than one, a script that calls this
    wants the usual `if __name__ == "__main__":`, as processes are spawned.

    Raises BadInput for arrays of other shapes, counts beyond P, points that are not finite, or settings out of range.
    """
    points, count = np.asarray(points), np.asarray(count)
    _check(points, count, settings)
    chunks = [(points[i : i + CHUNK], count[i : i + CHUNK], settings, i) for i in range(0, len(points), CHUNK)]
    if processes > 1 and len(chunks) > 1:
        workers = min(processes, len(chunks))
        with ProcessPoolExecutor(workers, get_context("spawn"), initializer=leave_to_parent) as pool:
            with held():  # until they leave signals to this process
                results = pool.map(_reconstruct_chunk, *zip(*chunks, strict=True))
            parts = list(results)
    else:
        parts = [_reconstruct_chunk(*chunk) for chunk in chunks]
    empty = _empty(0)
    return Reconstruction(*(np.concatenate(columns) for columns in zip(empty, *parts, strict=True)))


def _check(points: np.ndarray, count: np.ndarray, settings: FitSettings) -> None:
    if points.ndim != 3 or points.shape[2] != 3 or count.shape != points.shape[:1]:
        raise BadInput(f"points {points.shape} and count {count.shape}: wanted (N, P, 3) in mm and (N,)")
    if len(count) and not 0 <= count.min() <= count.max() <= points.shape[1]:
        raise BadInput(
            f"count goes from {count.min()} to {count.max()}: wanted 0 to {points.shape[1]}, the rows of points"
        )
    for name in settings._fields:
        if not getattr(settings, name) > 0:
            raise BadInput(f"{name} is {getattr(settings, name)}: wanted a positive number")
    if settings.minimum_points < 3:
        raise BadInput(f"minimum_points is {settings.minimum_points}: a helix wants at least 3")


def _empty(events: int) -> Reconstruction:
    return Reconstruction(
        np.full((events, 3), np.nan),
        np.zeros(events, np.int64),
        np.zeros(events, np.int64),
        np.full((events, MAX_TRACKS, 6), np.nan),
        np.zeros((events, MAX_TRACKS), bool),
    )


def _reconstruct_chunk(points: np.ndarray, count: np.ndarray, settings: FitSettings, first: int) -> Reconstruction:
    result = _empty(len(points))
    clouds: list[np.ndarray] = []
    event: list[int] = []
    number: list[int] = []
    for index in range(len(points)):
        cloud = points[index, : count[index]].astype(np.float64)
        if not np.isfinite(cloud).all():
            raise BadInput(f"event {first + index} has a point that is not finite: wanted mm")
        found = find_tracks(
            cloud,
            settings.rho_bins,
            settings.theta_bins,
            1 / settings.inner_radius,
            settings.step,
            settings.minimum_points,
            MAX_TRACKS,
        )
        result.tracks[index] = len(found)
        clouds += [cloud[track] for track in found]
        event += [index] * len(found)
        number += range(len(found))
    if not clouds:
        return result
    sizes = np.array([len(cloud) for cloud in clouds])
    starts = np.cumsum(sizes) - sizes
    flat = np.concatenate(clouds)
    helices, s, _ = fit_helices(flat, starts)
    lowest, highest = np.minimum.reduceat(s, starts), np.maximum.reduceat(s, starts)
    length = (highest - lowest) * np.sqrt(1 + helices.slope**2)
    helices = moved_along(helices, (lowest + highest) / 2)
    circles = as_circles(helices)
    result.helices[event, number] = circles
    distance, z = to_beam_line(helices)
    good = (length > settings.minimum_length) & (distance < settings.beam_distance)
    events, numbers, chosen, members = np.array(event), np.array(number), [], []
    for index in np.flatnonzero(np.bincount(events[good], minlength=len(points)) > 1).tolist():
        candidates = np.flatnonzero((events == index) & good)
        group = candidates[vertex_group(z[candidates], circles[candidates, 2], settings.beam_gap)]
        if len(group):
            chosen.append(index)
            members.append(group)
            result.in_vertex[index, numbers[group]] = True
    if chosen:
        sizes = np.array([len(group) for group in members])
        result.used[chosen] = sizes
        result.vertex[chosen] = fit_vertices(helices.take(np.concatenate(members)), np.cumsum(sizes) - sizes)
    return result
