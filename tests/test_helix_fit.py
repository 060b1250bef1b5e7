"""The standard ALPHA-g reconstruction: tracks, helices and vertex against known helices and Geant4."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from jaxhep.alpha_g.helix_fit import MAX_TRACKS, FitSettings, reconstruct
from jaxhep.errors import BadInput


def track(vertex, azimuth, radius, slope, spacing=1.5) -> np.ndarray:
    """Return points (m, 3) in the gas, 1.5 mm apart, of a helix that leaves the vertex: radius in mm with the sign of
    the curvature, slope dz per mm of the projection."""
    s = np.arange(0, min(400, np.pi * abs(radius)), spacing)
    x = vertex[0] + radius * (np.sin(azimuth + s / radius) - np.sin(azimuth))
    y = vertex[1] - radius * (np.cos(azimuth + s / radius) - np.cos(azimuth))
    points = np.stack([x, y, vertex[2] + slope * s], 1)
    r = np.hypot(x, y)
    beyond = np.flatnonzero(r > 182)
    points, r = (values[: beyond[0]] if len(beyond) else values for values in (points, r))
    return points[r > 109.5]


def event(vertex, tracks) -> np.ndarray:
    return np.concatenate([track(vertex, *one) for one in tracks])


def padded(clouds, rows=0, filler=0.0) -> tuple[np.ndarray, np.ndarray]:
    count = np.array([len(cloud) for cloud in clouds])
    points = np.full((len(clouds), max(rows, count.max()), 3), filler)
    for row, cloud in zip(points, clouds, strict=True):
        row[: len(cloud)] = cloud
    return points, count


def turned(points, angle) -> np.ndarray:
    cosine, sine = np.cos(angle), np.sin(angle)
    return points @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])


def assert_same_helices(found, wanted, tolerance) -> None:
    """Compare points on the helices: a straight one has a centre far away, known to few digits."""
    assert (np.isnan(found) == np.isnan(wanted)).all()
    for t in (-0.1, 0.0, 0.1):
        places = []
        for helices in (found, wanted):
            x0, y0, radius, phi0, z0, pitch = np.moveaxis(helices, -1, 0)
            t_here = t * np.minimum(1, 300 / radius)
            x, y = radius * np.cos(t_here + phi0) + x0, radius * np.sin(t_here + phi0) + y0
            places.append(np.stack([x, y, pitch * t_here / (2 * np.pi) + z0], -1))
        np.testing.assert_allclose(*places, atol=tolerance)


VERTICES = np.array([[0.0, 0.0, 0.0], [12.0, -15.0, 640.0], [-20.0, 5.0, -980.0], [3.0, 22.0, 77.7]])
TRACKS = (
    ((0.3, 400.0, 0.2), (2.0, -700.0, -0.5)),
    ((-2.5, -220.0, 0.9), (0.1, 350.0, 0.0), (1.7, 1500.0, -0.4)),
    ((0.5, 130.0, 0.3), (2.2, -300.0, 0.7), (-1.9, 600.0, -1.2), (-0.6, -180.0, 0.1)),
    ((1.0, 250.0, 0.9), (-2.0, 1e7, 0.4)),
)


@pytest.fixture(scope="module")
def noiseless() -> list[np.ndarray]:
    return [event(vertex, tracks) for vertex, tracks in zip(VERTICES, TRACKS, strict=True)]


@pytest.fixture(scope="module")
def geant4(shared):
    """Return points (n, 1500, 3), counts and vertices of 128 events of the sample, all in mm."""
    with np.load(shared / "geant4_alpha_g.npz") as sample:
        starts, flat, vertex = sample["indptr"][:129], sample["xyz_tenth_mm"] / 10, sample["vertex_mm"][:128]
    points, count = padded([flat[first:last] for first, last in pairwise(starts)], 1500)
    return points, count, vertex.astype(np.float64)


@pytest.fixture(scope="module")
def found(geant4):
    return reconstruct(*geant4[:2])


def test_noiseless_helices_from_a_vertex_give_it_exactly(noiseless) -> None:
    result = reconstruct(*padded(noiseless))
    np.testing.assert_array_equal(result.tracks, [2, 3, 4, 2])
    np.testing.assert_array_equal(result.used, [2, 3, 4, 2])
    np.testing.assert_allclose(result.vertex, VERTICES, atol=1e-3)  # a tenth of a millimetre would do
    assert result.helices.shape == (4, MAX_TRACKS, 6)
    assert result.in_vertex.shape == (4, MAX_TRACKS)
    np.testing.assert_array_equal(result.in_vertex.sum(1), result.used)


def test_helices_are_those_the_points_were_made_of(noiseless) -> None:
    result = reconstruct(*padded(noiseless))
    for helices, tracks, vertex in zip(result.helices, TRACKS, VERTICES, strict=True):
        mine = sorted(abs(radius) for _, radius, _ in tracks)
        np.testing.assert_allclose(np.sort(helices[: len(tracks), 2]), mine, rtol=1e-3)
        for azimuth, radius, slope in tracks:
            x0, y0, r, phi0, z0, pitch = helices[np.argmin(np.abs(helices[: len(tracks), 2] - abs(radius)))]
            if r < 1e5:
                assert (x0, y0) == pytest.approx(
                    (vertex[0] - radius * np.sin(azimuth), vertex[1] + radius * np.cos(azimuth)), abs=0.05
                )
            assert pitch == pytest.approx(2 * np.pi * radius * slope, rel=1e-3, abs=0.1)
            # t = 0 lies on the track, in its middle.
            start = np.array([r * np.cos(phi0) + x0, r * np.sin(phi0) + y0, z0])
            own = track(vertex, azimuth, radius, slope)
            assert np.linalg.norm(own - start, axis=1).min() < 1.5 * np.hypot(1, slope)
            assert abs(np.argmin(np.linalg.norm(own - start, axis=1)) - (len(own) - 1) / 2) <= 0.75


def test_points_smeared_by_a_millimetre_give_a_small_residual() -> None:
    generator = np.random.default_rng(3)
    vertices = np.column_stack([generator.uniform(-15, 15, (100, 2)), generator.uniform(-900, 900, 100)])
    clouds = []
    for vertex in vertices:
        azimuths = generator.uniform(0, 0.8) + np.arange(4) * np.pi / 2
        radii = generator.choice([-1, 1], 4) * generator.uniform(250, 1500, 4)
        cloud = event(vertex, zip(azimuths, radii, generator.uniform(-1, 1, 4), strict=True))
        clouds.append(cloud + generator.normal(0, 1, cloud.shape))
    result = reconstruct(*padded(clouds))
    residual = result.vertex - vertices
    assert np.isfinite(residual).all(axis=1).mean() >= 0.97
    half = np.nanquantile(np.abs(residual), 0.68, axis=0)
    # Curvature measured over 73 mm and drawn out by 110 mm makes six of one in the plane.
    assert (half < [8.0, 8.0, 2.2]).all(), half  # seen: 5.8, 5.9, 1.6


@pytest.mark.parametrize("angle", [0.1, np.pi / 230, -3.0])
def test_a_turned_event_gives_the_turned_vertex(geant4, found, angle) -> None:
    points, count, _ = geant4
    result = reconstruct(turned(points, angle), count)
    np.testing.assert_array_equal(result.tracks, found.tracks)
    np.testing.assert_array_equal(result.in_vertex, found.in_vertex)
    np.testing.assert_allclose(result.vertex, turned(found.vertex, angle), atol=1e-3)


def test_the_order_of_points_does_not_matter(geant4, found) -> None:
    points, count, _ = geant4
    generator = np.random.default_rng(5)
    shuffled = points.copy()
    for row, number in zip(shuffled, count, strict=True):
        row[:number] = row[generator.permutation(number)]
    result = reconstruct(shuffled, count)
    np.testing.assert_array_equal(result.in_vertex, found.in_vertex)
    np.testing.assert_allclose(result.vertex, found.vertex, atol=1e-4)
    assert_same_helices(result.helices, found.helices, 1e-2)


def test_an_event_moved_along_z_gives_the_moved_vertex(geant4, found) -> None:
    points, count, _ = geant4
    result = reconstruct(points + np.array([0, 0, 128.0]), count)
    np.testing.assert_array_equal(result.used, found.used)
    np.testing.assert_allclose(result.vertex, found.vertex + np.array([0, 0, 128.0]), atol=1e-3)


def test_padding_type_and_processes_do_not_matter(geant4, found) -> None:
    points, count, _ = geant4
    rubbish = points.copy()
    for row, number in zip(rubbish, count, strict=True):
        row[number:] = [np.nan, 1e9, -150.0]
    for result in (reconstruct(rubbish, count), reconstruct(points, count, processes=2)):
        for name in result._fields:
            np.testing.assert_array_equal(getattr(result, name), getattr(found, name), err_msg=name)


def test_fewer_than_two_tracks_have_no_vertex(noiseless) -> None:
    single = track((0, 0, 100), 1.0, 500.0, 0.3)
    result = reconstruct(*padded([np.zeros((0, 3)), single[:5], single, noiseless[0]]))
    np.testing.assert_array_equal(result.tracks, [0, 0, 1, 2])
    np.testing.assert_array_equal(result.used, [0, 0, 0, 2])
    assert np.isnan(result.vertex[:3]).all()
    assert np.isfinite(result.vertex[3]).all()
    assert not result.in_vertex[:3].any()
    assert reconstruct(np.zeros((0, 10, 3)), np.zeros(0, int)).vertex.shape == (0, 3)


def test_a_track_that_passes_the_beam_line_elsewhere_is_left_out(noiseless) -> None:
    vertex = VERTICES[2]
    displaced = track(vertex + np.array([0, 0, 60.0]), 2.9, 450.0, 0.0)
    result = reconstruct(*padded([np.concatenate([noiseless[2], displaced])]))
    assert (result.tracks[0], result.used[0]) == (5, 4)
    np.testing.assert_allclose(result.vertex[0], vertex, atol=1e-3)
    # With a wide enough gap all are taken, and the vertex is pulled away.
    result = reconstruct(*padded([np.concatenate([noiseless[2], displaced])]), FitSettings(beam_gap=80.0))
    assert result.used[0] == 5
    assert abs(result.vertex[0, 2] - vertex[2]) > 3


def test_every_constant_is_applied(noiseless) -> None:
    points, count = padded([noiseless[1]])

    def found_with(**changes):
        result = reconstruct(points, count, FitSettings(**changes))
        return int(result.tracks[0]), int(result.used[0])

    sizes = sorted(len(track(VERTICES[1], *one)) for one in TRACKS[1])
    assert found_with() == (3, 3)
    assert found_with(minimum_points=sizes[0] + 1) == (2, 2)
    assert found_with(minimum_length=1.5 * sizes[0] * 2)[1] < 3
    assert found_with(step=1.0)[0] == 0
    assert found_with(beam_distance=1.0)[1] < 3
    assert found_with(theta_bins=6, rho_bins=3)[0] > 0
    for name in FitSettings._fields:
        with pytest.raises(BadInput, match=name):
            found_with(**{name: 0})


def test_bad_input_is_named(noiseless) -> None:
    points, count = padded(noiseless)
    for bad, match in (
        ((points[0], count), "wanted"),
        ((points, count[:2]), "wanted"),
        ((points, count + 500), "rows"),
        ((np.where(points == points[2, 5, 1], np.inf, points), count), "event 2"),
    ):
        with pytest.raises(BadInput, match=match):
            reconstruct(*bad)


def test_geant4_events(found, geant4) -> None:
    """Geant4 with approximate low-energy tables, 128 events. Of 3,000 events 86 % have a vertex, with a full width at
    half maximum of 11.4 +- 0.6 mm in z; the collaboration quotes 14.12 mm (arXiv 2412.00961)."""
    vertex = geant4[2]
    seen = np.isfinite(found.vertex).all(axis=1)
    assert 0.78 < seen.mean() < 0.94
    np.testing.assert_array_equal(seen, found.used >= 2)
    residual = (found.vertex - vertex)[seen]
    assert np.median(np.abs(residual[:, 2])) < 7
    assert (np.median(np.abs(residual[:, :2]), axis=0) < 13).all()
    assert abs(np.median(residual[:, 2])) < 2
    assert (np.abs(residual[:, 2]) < 50).mean() > 0.9


def test_no_jax_is_started() -> None:
    code = "import sys, jaxhep.alpha_g.helix_fit; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
