"""Track finding in the ALPHA-g radial TPC: conformal map, Hough transform, connected sets of spacepoints.

In u = x / r^2, v = y / r^2 a circle through the beam line is a straight line u cos(theta) + v sin(theta) = rho (M.
Hansroul et al., Nucl. Instrum. Meth. A 270, 498, 1988), which a Hough transform finds (P. V. C. Hough, US patent
3069654, 1962). The grid of theta starts at the mean direction of the event's points, not at the x axis, so that a
rotation of the event about the beam line rotates what is found and changes nothing else.
"""

import numpy as np


def find_tracks(
    points: np.ndarray, rho_bins: int, theta_bins: int, rho_max: float, step: float, minimum: int, most: int
) -> list[np.ndarray]:
    """Return the track candidates of one event, each as indices into its points, in the order found.

    points: (n, 3) in mm. rho_max in 1/mm: rho is binned from 0 to it. A point votes for every bin that its curve
    crosses. Of the points of the fullest bin the largest set connected by steps of at most `step` mm is a candidate
    and is taken away; this is repeated until that set has fewer than `minimum` points, or for `most` candidates.
    Of equally full bins the one of smallest rho, then of smallest angle to the mean direction, is taken. Candidates
    are the same for any order of the points, and index the points as given.
    """
    if len(points) < minimum:
        return []
    order, turn = _canonical(points)
    points = points[order]
    low, high = _bins(points, turn, rho_bins, theta_bins, rho_max)
    # Votes are kept as steps up and down along rho, one row per rho bin and one more for the last step down.
    columns = np.arange(theta_bins, dtype=np.int32)
    up, down = low * theta_bins + columns, (high + 1) * theta_bins + columns
    steps = np.zeros((rho_bins + 1, theta_bins), np.int16)
    flat = steps.reshape(-1)
    work = np.empty_like(steps), np.empty_like(steps)

    def vote(chosen: np.ndarray, sign: int) -> None:
        np.add.at(flat, up[chosen].ravel(), np.int16(sign))
        np.add.at(flat, down[chosen].ravel(), np.int16(-sign))

    left = np.arange(len(points))
    vote(left, 1)
    found: list[np.ndarray] = []
    while len(found) < most and len(left) >= minimum:
        rho, theta = divmod(int(np.argmax(_cumulated(steps, *work))), theta_bins)
        inside = left[(low[left, theta] <= rho) & (rho <= high[left, theta])]
        if len(inside) < minimum:
            break
        track = inside[largest_connected(points[inside], step)]
        if len(track) < minimum:
            break
        found.append(order[track])
        vote(track, -1)
        left = np.setdiff1d(left, track, assume_unique=True)
    return found


def _canonical(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Return an order of the points that depends neither on the order given nor on the event's rotation, and the
    direction in rad from which angles are counted."""
    radius = np.hypot(points[:, 0], points[:, 1])
    total = np.sort(points[:, 0]).sum(), np.sort(points[:, 1]).sum()
    if np.hypot(*total) > 1e-6 * radius.sum():
        turn = float(np.arctan2(total[1], total[0]))
    else:  # no mean direction: the highest of the points with the largest radius gives one
        first = np.lexsort((points[:, 2], np.round(radius, 6)))[-1]
        turn = float(np.arctan2(points[first, 1], points[first, 0])) + 0.1
    angle = np.mod(np.arctan2(points[:, 1], points[:, 0]) - turn, 2 * np.pi)
    # Radius and z come in steps of the readout, so equal ones are common, and a rotation changes the last digits.
    return np.lexsort((np.round(angle, 9), np.round(radius, 6), points[:, 2])), turn


def _bins(
    points: np.ndarray, turn: float, rho_bins: int, theta_bins: int, rho_max: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last rho bin (n, theta_bins) that each point's curve crosses within each theta bin;
    the last is the one before the first where rho is negative throughout: another bin's line seen from behind."""
    edges = turn + np.arange(theta_bins + 1) * (2 * np.pi / theta_bins)
    scale = rho_bins / (rho_max * (points[:, 0] ** 2 + points[:, 1] ** 2))
    rho = np.outer(points[:, 0] * scale, np.cos(edges))
    rho += np.outer(points[:, 1] * scale, np.sin(edges))
    bins = np.floor(np.clip(rho, -1, rho_bins - 0.5, out=rho), out=rho).astype(np.int32)
    low, high = np.minimum(bins[:, :-1], bins[:, 1:]), np.maximum(bins[:, :-1], bins[:, 1:])
    return np.maximum(low, 0, out=low), high


def _cumulated(steps: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the cumulative sum of small integers down the rows; `one` and `other` are overwritten.

    By doubling, as whole rows are added several at a time: a fifth of the time of np.cumsum.
    """
    source, shift = steps, 1
    while shift < len(steps):
        target = other if source is one else one
        np.add(source[shift:], source[:-shift], out=target[shift:])
        target[:shift] = source[:shift]
        source, shift = target, 2 * shift
    return source


def largest_connected(points: np.ndarray, step: float) -> np.ndarray:
    """Return the indices (ascending) of the largest set of points (n, 3) connected by steps of at most `step`.

    Of sets of equal size the one that spreads over the larger range of radius.
    """
    square = np.zeros((len(points), len(points)))
    for values in points.T:
        square += (values[:, None] - values) ** 2
    near = square <= step**2
    left = np.ones(len(points), bool)
    best: list[np.ndarray] = []
    first = int(np.argmax(near.sum(0)))  # in the largest set as a rule, so that the others need not be walked through
    remaining, size = len(points), 0
    while remaining and remaining >= size:
        reached = new = near[first]
        while new.any():
            new = near[new].any(0) & ~reached
            reached = reached | new
        count = int(reached.sum())
        if count >= size:
            best = [*best, np.flatnonzero(reached)] if count == size else [np.flatnonzero(reached)]
            size = count
        left &= ~reached
        remaining -= count
        first = int(np.argmax(left))
    if len(best) == 1:
        return best[0]
    radius = np.hypot(points[:, 0], points[:, 1])
    return max(best, key=lambda chosen: round(float(np.ptp(radius[chosen])), 6))
