"""Event displays of ALPHA-g: what is drawn, and what the command reads and refuses."""

import json

import numpy as np
import pytest
from matplotlib.patches import Circle

from jaxhep import plots
from jaxhep.alpha_g import display
from jaxhep.alpha_g.helix_fit import reconstruct
from jaxhep.errors import BadInput, one_line

pytestmark = pytest.mark.draws

TRUTH = np.array([10.0, -5.0, 300.0])
HELICES = np.array([[10.0, -405.0, 400.0, 1.2, 285.25, 250.0], [10.0, 295.0, 300.0, -1.9, 320.95, -400.0]])


def on_helices(step=0.005) -> np.ndarray:
    """Return points in the gas on both helices, near their t = 0."""
    clouds = []
    for x0, y0, radius, phi0, z0, pitch in HELICES:
        t = np.arange(-0.6, 0.6, step)
        x, y = radius * np.cos(t + phi0) + x0, radius * np.sin(t + phi0) + y0
        cloud = np.stack([x, y, pitch * t / (2 * np.pi) + z0], 1)
        clouds.append(cloud[(np.hypot(x, y) > 110) & (np.hypot(x, y) < 180)])
    return np.concatenate(clouds)


@pytest.fixture
def figures(monkeypatch) -> list:
    """Keep the figures that are drawn, instead of writing them."""
    kept: list = []

    def keep(figure, path):
        kept.append(figure)
        return []

    monkeypatch.setattr(display, "save_figure", keep)
    return kept


def labels(axes) -> list[str]:
    return axes.get_legend_handles_labels()[1]


def test_a_helix_is_drawn_from_the_beam_line_to_the_pads() -> None:
    for helix in (*HELICES, [10.0, 1e9, 1e9, -np.pi / 2 + 1e-7, 0.0, 1e8]):
        curve = display.helix_points(np.array(helix))
        x0, y0, radius, *_ = helix
        np.testing.assert_allclose(np.hypot(curve[:, 0] - x0, curve[:, 1] - y0), radius, rtol=1e-9)
        distance = np.hypot(curve[:, 0], curve[:, 1])
        assert distance[0] == pytest.approx(191, abs=2)
        assert distance.min() == pytest.approx(abs(np.hypot(x0, y0) - radius), abs=0.3)
        after = np.hypot(*np.diff(curve[np.argmin(distance) :, :2], axis=0).T).sum()
        assert after == pytest.approx(25, abs=1)


def test_both_views_show_detector_points_helices_and_vertices(figures, tmp_path) -> None:
    points = on_helices()
    vertices = {
        "True vertex": TRUTH,
        "Network": np.array([np.nan, np.nan, 305.0]),
        "Helix Fit": np.full(3, np.nan),
    }
    padding = np.full((3, 6), np.nan)
    display.draw_event(points, np.concatenate([HELICES, padding]), vertices, tmp_path / "event", "Test event 5")
    front, side = figures[0].axes
    radii = sorted(patch.radius for patch in front.patches if isinstance(patch, Circle))
    assert radii == [22.275, 109.2, 182.0, 190.0]
    assert (front.get_xlabel(), front.get_ylabel()) == ("x [mm]", "y [mm]")
    assert (side.get_xlabel(), side.get_ylabel()) == ("z [mm]", "r [mm]")
    np.testing.assert_array_equal(front.lines[0].get_xydata(), points[:, :2])
    assert sum(line.get_linestyle() == "-" and len(line.get_xdata()) > 100 for line in front.lines) == 2
    stars = [line for line in front.lines if line.get_marker() == "*"]
    assert [tuple(star.get_xydata()[0]) for star in stars] == [(10.0, -5.0)]
    assert "True vertex, z = 300.0 mm" in labels(side)
    assert "Network, z = 305.0 mm" in labels(side)  # a line, as it has no x and y
    assert "Helix Fit: none" in labels(side)
    assert f"{len(points)} spacepoints" in labels(side)
    assert "2 fitted helices" in labels(side)
    low, high = side.get_xlim()
    assert -1152 < low < min(points[:, 2].min(), 300)
    assert max(points[:, 2].max(), 305) < high < 1152


def test_helices_outside_the_vertex_are_dashed(figures, tmp_path) -> None:
    display.draw_event(on_helices(), HELICES, {}, tmp_path / "event", in_vertex=np.array([True, False]))
    front, side = figures[0].axes
    long = [line.get_linestyle() for line in front.lines if len(line.get_xdata()) > 100 and line.get_marker() == "None"]
    assert sorted(long) == ["-", "--"]
    assert {"1 fitted helices of the vertex", "1 others"} <= set(labels(side))


def test_png_and_pdf_are_written_even_for_an_empty_event(tmp_path) -> None:
    written = display.draw_event(np.zeros((0, 3)), np.full((4, 6), np.nan), {"True vertex": TRUTH}, tmp_path / "e1.2")
    assert [path.name for path in written] == ["e1.2.png", "e1.2.pdf"]
    assert all(path.stat().st_size > 5000 for path in written)
    assert display.save_figure is plots.save_figure


@pytest.fixture
def workdir(tmp_path):
    """A folder with what the display reads of an evaluated run, of three test events."""
    data, run = tmp_path / "prepared", tmp_path / "run"
    points = on_helices()
    codes = np.zeros((3, 400, 3), np.int16)
    codes[1, : len(points)] = np.round(28 * points)
    columns = {"points": codes, "count": np.array([0, len(points), 0], np.int16), "label": np.ones(3, np.int8)}
    (data / "test").mkdir(parents=True)
    for name, values in columns.items():
        np.save(data / "test" / f"{name}.npy", values)
    (data / "manifest.json").write_text(json.dumps({"content_hash": "abc"}))
    (run / "evaluation").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"experiment": "alpha_g", "data": {"limit": {"test": 0}}}))
    (run / "task.json").write_text(json.dumps({"data_folder": str(data), "data_hash": "abc"}))
    scores = {
        "vertex": np.stack([TRUTH, TRUTH, TRUTH]),
        "prediction": np.array([[np.nan, np.nan, 1.0], [np.nan, np.nan, 302.0], [np.nan, np.nan, 3.0]]),
        "helix_fit": np.full((3, 3), np.nan),
    }
    np.savez(run / "evaluation" / "scores.npz", **scores)
    return run


def test_events_are_read_by_their_number(workdir) -> None:
    first, second = display.load_events(workdir, [1, 0])
    assert (first.number, second.number) == (1, 0)
    assert second.points.shape == (0, 3)
    np.testing.assert_allclose(first.points, on_helices(), atol=0.5 / 28 + 1e-4)
    np.testing.assert_array_equal(first.vertices["Network"], [np.nan, np.nan, 302.0])
    assert list(first.vertices) == ["True vertex", "Network", "Helix Fit"]


def test_the_command_fits_and_draws(workdir, tmp_path, figures) -> None:
    assert display.main(["--workdir", str(workdir), "--events", "1", "--out", str(tmp_path / "out")]) == 0
    found = reconstruct(on_helices()[None], np.array([len(on_helices())]))
    assert found.tracks[0] == 2
    np.testing.assert_allclose(found.vertex[0], TRUTH, atol=0.5)
    assert "2 fitted helices of the vertex" in labels(figures[0].axes[1])


@pytest.mark.parametrize(
    ("spoil", "events", "match"),
    [
        (None, "1,x", "numbers separated by commas"),
        (None, "3", "0 to 2"),
        ("config.json", "1", "config.json: not a readable config"),
        ("evaluation/scores.npz", "1", "jaxhep evaluate"),
    ],
)
def test_what_cannot_be_shown_is_one_line(workdir, capsys, spoil, events, match) -> None:
    if spoil:
        (workdir / spoil).unlink()
    assert one_line(display.main, ["--workdir", str(workdir), "--events", events]) == 2
    assert match in capsys.readouterr().err


def test_data_of_another_hash_are_refused(workdir) -> None:
    (workdir.parent / "prepared" / "manifest.json").write_text(json.dumps({"content_hash": "other"}))
    with pytest.raises(BadInput, match="hash differs"):
        display.load_events(workdir, [0])
