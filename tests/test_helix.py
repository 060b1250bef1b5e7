"""The steps of the standard ALPHA-g reconstruction, each by itself: connected points, helix fit, grouping in z."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import minimize

from jaxhep.alpha_g.helix_fit import helix, track_finding, vertex_fit


def test_groups_in_z_and_the_tie_by_radius() -> None:
    z = np.array([0.0, 500.0, 33.9, 466.1, -34.1, 900.0])
    radius = np.array([100.0, 300.0, 200.0, 400.0, 9e9, 9e9])
    np.testing.assert_array_equal(vertex_fit.vertex_group(z, radius, 34.0), [1, 3])
    np.testing.assert_array_equal(vertex_fit.vertex_group(z, radius[::-1], 34.0), [0, 2])
    np.testing.assert_array_equal(vertex_fit.vertex_group(z, radius, 34.2), [0, 2, 4])
    assert len(vertex_fit.vertex_group(z[[0, 1]], radius[:2], 34.0)) == 0
    # A gap of exactly the limit separates.
    assert len(vertex_fit.vertex_group(np.array([0.0, 34.0]), radius[:2], 34.0)) == 0


def test_largest_connected_takes_the_larger_part_and_the_wider_of_equal_ones() -> None:
    line = np.column_stack([np.arange(110.0, 180.0, 10.0), np.zeros(7), np.zeros(7)])
    far = line[:5] + np.array([0, 0, 500.0])
    np.testing.assert_array_equal(track_finding.largest_connected(np.concatenate([far, line]), 10.0), np.arange(5, 12))
    np.testing.assert_array_equal(track_finding.largest_connected(line, 9.0), [0])
    short = line[:5] * [0.5, 1, 1] + [60, 0, -500.0]
    for order in (np.arange(10), np.arange(10)[::-1]):
        cloud = np.concatenate([far, short])[order]
        chosen = track_finding.largest_connected(cloud, 12.0)
        assert (cloud[chosen, 2] == 500).all()


def test_equal_candidates_come_in_the_same_order_for_any_order_of_points() -> None:
    radius = np.arange(110.0, 180.0, 2.0)
    one = np.stack([radius * np.cos(0.5), radius * np.sin(0.5), 0.1 * radius - 300], 1)
    cloud = np.concatenate([one + np.array([0, 0, 200.0 * copy]) for copy in range(4)])
    generator = np.random.default_rng(6)
    heights = []
    for _ in range(5):
        shuffled = cloud[generator.permutation(len(cloud))]
        found = track_finding.find_tracks(shuffled, 250, 230, 1 / 109.2, 30.0, 13, 24)
        assert [len(chosen) for chosen in found] == [len(one)] * 4
        heights.append([shuffled[chosen, 2].mean() for chosen in found])
    np.testing.assert_allclose(heights, heights[:1] * 5, atol=1e-9)


def test_derivatives_are_those_of_the_distance() -> None:
    """Half the slope of the summed square along each of the five parameters, for bent and for nearly straight tracks."""
    generator = np.random.default_rng(8)
    for kappa in (0.01, -0.004, 1e-5, 0.0):
        own = helix.Helices(*(np.array([value]) for value in (140.0, 10.0, 50.0, 0.3, kappa, -0.6)))
        s = np.linspace(-40, 40, 30)
        along, across, *_ = helix.arc(np.full(30, kappa), s)
        cosine, sine = np.cos(0.3), np.sin(0.3)
        x, y = 140 + cosine * along - sine * across, 10 + sine * along + cosine * across
        cloud = np.stack([x, y, 50 - 0.6 * s], 1) + generator.normal(0, 1, (30, 3))
        track_of, start = np.zeros(30, int), np.zeros(1, int)
        for _ in range(3):
            _, matrix, descent, s = helix._linearise(own, s, cloud, track_of, start)
        assert np.linalg.eigvalsh(matrix[0]).min() > 0
        for place, step in enumerate((1e-4, 1e-6, 1e-8, 1e-4, 1e-6)):
            ends = [
                helix._linearise(helix._moved(own, sign * step * np.eye(5)[[place]]), s, cloud, track_of, start)[0][0]
                for sign in (1, -1)
            ]
            assert -descent[0, place] == pytest.approx((ends[0] - ends[1]) / (4 * step), rel=1e-4, abs=1e-3)


def test_the_fits_are_minima(shared) -> None:
    """Nelder and Mead's simplex, started at the result, finds nothing lower."""
    with np.load(shared / "geant4_alpha_g.npz") as sample:
        starts, flat = sample["indptr"][:13], sample["xyz_tenth_mm"] / 10
    clouds = [
        flat[first:last][chosen]
        for first, last in pairwise(starts)
        for chosen in track_finding.find_tracks(flat[first:last], 250, 230, 1 / 109.2, 30.0, 13, 3)
    ]
    sizes = np.array([len(cloud) for cloud in clouds])
    starts = np.cumsum(sizes) - sizes
    fitted, s, rms = helix.fit_helices(np.concatenate(clouds), starts)
    assert np.median(rms) < 2.0

    def mean_square(values, cloud, s):
        one = helix.Helices(*(np.full(len(cloud), value) for value in values))
        _, e, *_ = helix.closest(one.kappa, one.slope, s, helix.local(one, cloud), rounds=20)
        return (e[0] ** 2 + e[1] ** 2 + e[2] ** 2).mean()

    scale = np.array([0.1, 0.1, 0.1, 0.01, 1e-4, 0.01])
    for index in range(0, len(clouds), 5):
        own = np.array([values[index] for values in fitted])
        part = s[starts[index] : starts[index] + sizes[index]]
        simplex = own + np.concatenate([np.zeros((1, 6)), np.diag(scale)])
        options = {"initial_simplex": simplex, "maxiter": 600}
        best = minimize(mean_square, own, (clouds[index], part), "Nelder-Mead", options=options)
        assert rms[index] ** 2 <= best.fun * 1.0005
        assert rms[index] ** 2 == pytest.approx(mean_square(own, clouds[index], part), rel=1e-6)
