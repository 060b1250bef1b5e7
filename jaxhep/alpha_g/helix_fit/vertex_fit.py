"""The annihilation vertex from fitted helices: which tracks belong to it, and the point nearest to all of them."""

import numpy as np

from jaxhep.alpha_g.helix_fit.helix import Helices, arc_to, closest, local


def to_beam_line(helices: Helices) -> tuple[np.ndarray, np.ndarray]:
    """Return distance (T,) of the projected circles from the beam line, and z (T,) there, both in mm."""
    along, across, _ = local(helices, np.zeros((len(helices.x), 3)))
    s = arc_to(helices.kappa, along, across)
    square = np.zeros_like(s)
    _, (ex, ey, _), *_ = closest(helices.kappa, square, s, (along, across, square), rounds=0)
    return np.hypot(ex, ey), helices.z + helices.slope * s


def vertex_group(z: np.ndarray, radius: np.ndarray, gap: float) -> np.ndarray:
    """Return indices (ascending) of the tracks of one event that make its vertex, none where no two belong together.

    z (k,) in mm where each track passes the beam line: tracks whose neighbours in z are nearer than `gap` mm are one
    group. The largest group of two or more is taken; of equal ones the one with the larger sum of `radius` (k,).
    """
    if len(z) < 2:
        return np.zeros(0, np.int64)
    order = np.argsort(z, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(z[order]) >= gap) + 1)
    best = max(groups, key=lambda group: (len(group), float(np.sum(np.sort(radius[group])))))
    return np.sort(best) if len(best) > 1 else np.zeros(0, np.int64)


def fit_vertices(helices: Helices, starts: np.ndarray, iterations: int = 100, tolerance: float = 1e-10) -> np.ndarray:
    """Return the points (E, 3) in mm of least summed squared distance to groups of helices.

    Group i has the helices from starts[i] to starts[i + 1] (the last one to the end). Starts on the beam line, at the
    mean z of the helices' closest approach to it; Levenberg and Marquardt's method, all groups at once, along each
    helix within half a turn of its point.
    """
    counts = np.diff(np.append(starts, len(helices.x)))
    group = np.repeat(np.arange(len(starts)), counts)
    _, z = to_beam_line(helices)
    vertex = np.zeros((len(starts), 3))
    vertex[:, 2] = np.add.reduceat(z, starts) / counts
    cost, matrix, gradient = _linearise(helices, vertex, group, starts)
    damping = np.full(len(starts), 1e-3)
    active = np.ones(len(starts), bool)
    for _ in range(iterations):
        damped = matrix + (damping * counts)[:, None, None] * np.eye(3)
        step = np.where(active[:, None], np.linalg.solve(damped, gradient[:, :, None])[:, :, 0], 0.0)
        active &= ((step * gradient).sum(1) > tolerance * cost + 1e-16) & (damping < 1e10)
        if not active.any():
            break
        trial = vertex + step
        new_cost, new_matrix, new_gradient = _linearise(helices, trial, group, starts)
        better = active & (new_cost <= cost)
        damping = np.where(better, np.maximum(damping * 0.1, 1e-12), damping * 10)
        vertex, gradient = np.where(better[:, None], trial, vertex), np.where(better[:, None], new_gradient, gradient)
        cost, matrix = np.where(better, new_cost, cost), np.where(better[:, None, None], new_matrix, matrix)
    return vertex


def _linearise(
    helices: Helices, vertex: np.ndarray, group: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the summed squared distance (E,), the sum of projections across the helices (E, 3, 3), and the
    descent of half the cost (E, 3)."""
    frame = local(helices, vertex[group])
    s = arc_to(helices.kappa, frame[0], frame[1])
    _, residual, cosine, sine, _, _ = closest(helices.kappa, helices.slope, s, frame, rounds=6)
    turn_cosine, turn_sine = np.cos(helices.psi), np.sin(helices.psi)
    ex, ey, ez = residual
    apart = np.stack([turn_cosine * ex - turn_sine * ey, turn_sine * ex + turn_cosine * ey, ez], 1)
    tangent = np.stack(
        [turn_cosine * cosine - turn_sine * sine, turn_sine * cosine + turn_cosine * sine, helices.slope], 1
    )
    tangent /= np.sqrt(1 + helices.slope**2)[:, None]
    across = np.eye(3) - tangent[:, :, None] * tangent[:, None, :]
    cost = np.add.reduceat((apart**2).sum(1), starts)
    return cost, np.add.reduceat(across, starts), -np.add.reduceat(apart, starts)
