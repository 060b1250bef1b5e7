"""Helices through spacepoints: distance of closest approach, and the fit that minimises its summed square.

A helix with its axis along z is kept as a point on it (x, y, z in mm), the direction psi of its projection there
(rad), the signed curvature kappa of the projection (1/mm, positive when it turns counterclockwise) and lambda, dz per
mm of the projection: unlike centre and radius these stay finite, and nearly independent, for a straight track (V.
Karimaki, Nucl. Instrum. Meth. A 305, 187, 1991). s is the arc length of the projection from the point, in mm. All
tracks are fitted at once: points lie one after the other, and sums over a track's points are `np.add.reduceat`.
"""

from typing import NamedTuple

import numpy as np

STRAIGHT = 1e-9  # 1/mm: no smaller curvature is told apart from this one, so that radius and pitch stay finite

Triple = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Three arrays (M,) in mm: along the direction of M helices, to its left, and in z."""


class Helices(NamedTuple):
    """T helices, (T,) each: a point in mm, direction there in rad, curvature in 1/mm, dz per mm of the projection."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    psi: np.ndarray
    kappa: np.ndarray
    slope: np.ndarray

    def take(self, chosen: np.ndarray) -> "Helices":
        """Return the chosen ones (indices or mask)."""
        return Helices(*(values[chosen] for values in self))


def arc(kappa: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return along, across (mm), and cosine and sine of the angle turned, for arcs of curvature kappa and length s."""
    turned = kappa * s
    cosine, sine = np.cos(turned), np.sin(turned)
    small = np.abs(turned) < 1e-4
    safe = np.where(small, 1.0, turned)
    along = s * np.where(small, 1 - turned**2 / 6, sine / safe)
    across = s * np.where(small, turned / 2, (1 - cosine) / safe)
    return along, across, cosine, sine


def local(helices: Helices, points: np.ndarray) -> Triple:
    """Return points (M, 3) in the frames of M helices: along the direction, to its left, and in z, from the point."""
    x, y = points[:, 0] - helices.x, points[:, 1] - helices.y
    cosine, sine = np.cos(helices.psi), np.sin(helices.psi)
    return cosine * x + sine * y, cosine * y - sine * x, points[:, 2] - helices.z


def arc_to(kappa: np.ndarray, along: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Return s (within half a turn) at which the projected helix is closest to a point of its frame."""
    angle = np.arctan2(kappa * along, 1 - kappa * across)
    bent = np.abs(kappa) > 1e-8
    return np.where(bent, angle / np.where(bent, kappa, 1.0), along)


def closest(
    kappa: np.ndarray, slope: np.ndarray, s: np.ndarray, frame: Triple, rounds: int = 2
) -> tuple[np.ndarray, Triple, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return s after Newton steps to the closest point of each helix, (M,) each, and the residual there.

    frame: the points, three arrays (M,) of the helices' frames. s stays within half a turn either way. The residual
    is in mm, three arrays: point minus helix; then cosine and sine of the angle turned, and along and across.
    """
    square = 1 + slope**2
    most = np.pi / np.maximum(np.abs(kappa), STRAIGHT)
    for remaining in range(rounds, -1, -1):
        along, across, cosine, sine = arc(kappa, s)
        ex, ey, ez = frame[0] - along, frame[1] - across, frame[2] - slope * s
        if remaining:
            gradient = ex * cosine + ey * sine + ez * slope
            second = np.maximum(square - kappa * (cosine * ey - sine * ex), 0.3 * square)
            s = np.clip(s + gradient / second, -most, most)
    return s, (ex, ey, ez), cosine, sine, along, across


def first_guess(points: np.ndarray, starts: np.ndarray) -> tuple[Helices, np.ndarray]:
    """Return helices through each track's points of smallest, middle and largest radius, and s (M,) of all points.

    Track i has the points (M, 3) from starts[i] to starts[i + 1] (the last one to the end). The middle point is the
    one nearest to the mean of the extreme radii; z is the straight line of least squares in s.
    """
    track = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(points))))
    radius = np.hypot(points[:, 0], points[:, 1])
    inner, outer = (_first(np.round(values, 9), track, starts) for values in (radius, -radius))
    middle = _first(np.round(np.abs(radius - (radius[inner] + radius[outer])[track] / 2), 9), track, starts)
    plane = points[:, 0] + 1j * points[:, 1]
    first, second, whole = (
        plane[middle] - plane[inner],
        plane[outer] - plane[middle],
        plane[outer] - plane[inner],
    )
    direction = first * second * np.conj(whole)  # the tangent at the middle point makes equal angles with the chords
    lengths = np.abs(direction)
    direction = np.where(lengths > 0, direction, np.where(np.abs(whole) > 0, whole, plane[middle]))
    kappa = np.where(lengths > 0, 2 * np.imag(np.conj(first) * second) / np.where(lengths > 0, lengths, 1.0), 0.0)
    psi = np.angle(direction)
    zero = np.zeros(len(starts))
    flat = Helices(points[middle, 0], points[middle, 1], zero, psi, np.clip(kappa, -0.05, 0.05), zero)
    along, across, z = local(flat.take(track), points)
    s = arc_to(flat.kappa[track], along, across)
    counts = np.bincount(track)
    sums = np.add.reduceat(np.stack([s, z, s * s, s * z], 1), starts)
    means = sums / counts[:, None]
    spread = means[:, 2] - means[:, 0] ** 2
    slope = np.where(spread > 1e-9, (means[:, 3] - means[:, 0] * means[:, 1]) / np.maximum(spread, 1e-9), 0.0)
    return flat._replace(z=means[:, 1] - slope * means[:, 0], slope=slope), s


def _first(values: np.ndarray, track: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the index of the first of each track's smallest values."""
    return np.lexsort((values, track))[starts]


def fit_helices(
    points: np.ndarray, starts: np.ndarray, iterations: int = 60, tolerance: float = 1e-10
) -> tuple[Helices, np.ndarray, np.ndarray]:
    """Return the helices (T,) of least summed squared distance of closest approach, s (M,) of every point, and the
    root mean square distance (T,) in mm.

    Points as in `first_guess`. Levenberg and Marquardt's method (J. SIAM 11, 431, 1963) with analytic derivatives:
    at the closest point only the two components of the residual across the helix count. A track is finished when
    the next step promises to lower the mean square by less than `tolerance` of it.
    """
    result, arcs = first_guess(points, starts)
    counts = np.diff(np.append(starts, len(points)))
    square = np.zeros(len(starts))
    active = np.arange(len(starts))
    chosen, begin, some = points, starts, counts
    helices, s = result, arcs
    track = np.repeat(np.arange(len(starts)), counts)
    cost, matrix, gradient, s = _linearise(helices, s, chosen, track, begin)
    damping = np.full(len(starts), 1e-4)
    for _ in range(iterations):
        diagonal = np.einsum("tii->ti", matrix)
        scale = 1 / np.sqrt(np.maximum(diagonal, 1e-12 * diagonal.max(1, initial=0.0, keepdims=True) + 1e-30))
        scaled = matrix * scale[:, :, None] * scale[:, None, :]
        scaled[:, range(5), range(5)] += damping[:, None]
        step = scale * np.linalg.solve(scaled, (scale * gradient)[:, :, None])[:, :, 0]
        promised = (step * gradient).sum(1)
        finished = (promised <= tolerance * cost + 1e-16 * some) | (damping > 1e10)
        if finished.any():
            ended, kept = active[finished], ~finished
            for values, new in zip(result, helices, strict=True):
                values[ended] = new[finished]
            square[ended] = cost[finished] / some[finished]
            arcs[np.isin(np.repeat(np.arange(len(starts)), counts), ended)] = s[finished[track]]
            if not kept.any():
                break
            points_kept = kept[track]
            chosen, s = chosen[points_kept], s[points_kept]
            active, some, step, damping = active[kept], some[kept], step[kept], damping[kept]
            helices, cost = helices.take(kept), cost[kept]
            matrix, gradient = matrix[kept], gradient[kept]
            begin = np.cumsum(some) - some
            track = np.repeat(np.arange(len(active)), some)
        trial = _moved(helices, step)
        new_cost, new_matrix, new_gradient, new_s = _linearise(trial, s, chosen, track, begin)
        better = new_cost <= cost
        damping = np.where(better, np.maximum(damping * 0.1, 1e-12), damping * 10)
        helices = Helices(*(np.where(better, a, b) for a, b in zip(trial, helices, strict=True)))
        cost = np.where(better, new_cost, cost)
        matrix = np.where(better[:, None, None], new_matrix, matrix)
        gradient = np.where(better[:, None], new_gradient, gradient)
        s = np.where(better[track], new_s, s)
    else:
        for values, new in zip(result, helices, strict=True):
            values[active] = new
        square[active] = cost / some
        arcs[np.isin(np.repeat(np.arange(len(starts)), counts), active)] = s
    return result, arcs, np.sqrt(square)


def _moved(helices: Helices, step: np.ndarray) -> Helices:
    """Return the helices after steps (T, 5): to the left in mm, psi, kappa, z, slope."""
    return Helices(
        helices.x - step[:, 0] * np.sin(helices.psi),
        helices.y + step[:, 0] * np.cos(helices.psi),
        helices.z + step[:, 3],
        helices.psi + step[:, 1],
        helices.kappa + step[:, 2],
        helices.slope + step[:, 4],
    )


def _linearise(
    helices: Helices, s: np.ndarray, points: np.ndarray, track: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the summed squared distance (T,), J^T J (T, 5, 5), J^T residual (T, 5) and the new s (M,)."""
    mine = helices.take(track)
    kappa, slope = mine.kappa, mine.slope
    s, (ex, ey, ez), cosine, sine, along, across = closest(kappa, slope, s, local(mine, points))
    # d(along)/d(kappa) and d(across)/d(kappa), their series where the closed form loses its digits.
    turned = kappa * s
    small = np.abs(turned) < 1e-2
    safe = np.where(small, 1.0, kappa)
    by_along = np.where(small, s * s * turned * (turned**2 / 30 - 1 / 3), (s * cosine - along) / safe)
    by_across = np.where(small, s * s * (0.5 - turned**2 / 8), (s * sine - across) / safe)
    width = np.sqrt(1 + slope**2)
    lean = slope / width
    # Derivatives and residual along the two directions across the helix: in the plane, and out of it.
    flat = (cosine, along * cosine + across * sine, by_across * cosine - by_along * sine)
    tilted = (
        -lean * sine,
        -lean * (along * sine - across * cosine),
        -lean * (by_along * cosine + by_across * sine),
        1 / width,
        s / width,
    )
    in_plane = cosine * ey - sine * ex
    out = ez / width - lean * (cosine * ex + sine * ey)
    terms = np.empty((21, len(s)))
    terms[0] = ex * ex + ey * ey + ez * ez
    for i in range(5):
        terms[1 + i] = tilted[i] * out
        if i < 3:
            terms[1 + i] += flat[i] * in_plane
    place = 6
    for i in range(5):
        for j in range(i, 5):
            terms[place] = tilted[i] * tilted[j]
            if j < 3:
                terms[place] += flat[i] * flat[j]
            place += 1
    sums = np.add.reduceat(terms, starts, axis=1)
    matrix = np.empty((len(starts), 5, 5))
    rows, columns = np.triu_indices(5)
    matrix[:, rows, columns] = matrix[:, columns, rows] = sums[6:].T
    return sums[0], matrix, sums[1:6].T, s


def moved_along(helices: Helices, s: np.ndarray) -> Helices:
    """Return the same helices, with their points moved by arcs s (T,) in mm."""
    along, across, _, _ = arc(helices.kappa, s)
    cosine, sine = np.cos(helices.psi), np.sin(helices.psi)
    return helices._replace(
        x=helices.x + cosine * along - sine * across,
        y=helices.y + sine * along + cosine * across,
        z=helices.z + helices.slope * s,
        psi=helices.psi + helices.kappa * s,
    )


def as_circles(helices: Helices) -> np.ndarray:
    """Return (T, 6): x0, y0, radius, phi0, z0, pitch of x = r cos(t + phi0) + x0, y = r sin(t + phi0) + y0, z = h t /
    (2 pi) + z0, in mm and rad, with phi0 in (-pi, pi] and t = 0 at the helices' points."""
    kappa = np.where(np.abs(helices.kappa) < STRAIGHT, np.copysign(STRAIGHT, helices.kappa), helices.kappa)
    outward = helices.psi - np.copysign(np.pi / 2, kappa)
    radius = 1 / np.abs(kappa)
    x0, y0 = helices.x - radius * np.cos(outward), helices.y - radius * np.sin(outward)
    phi0 = np.arctan2(np.sin(outward), np.cos(outward))
    return np.stack([x0, y0, radius, phi0, helices.z, 2 * np.pi * helices.slope / kappa], 1)
