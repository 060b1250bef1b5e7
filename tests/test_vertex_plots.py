"""Vertex plots: files are written, also of few and no events, and they draw the numbers of the JSON."""

from pathlib import Path

import numpy as np
import pytest

from jaxhep.alpha_g import plots, residuals

pytestmark = pytest.mark.draws


def methods(events: int):
    generator = np.random.default_rng(0)
    truth = generator.uniform(-1152, 1152, events)
    points, pions = generator.integers(10, 1500, events), generator.choice([0, 2, 4], events)
    network, fit = truth + generator.normal(0, 3, events), truth + generator.standard_t(2, events) * 6
    fit[pions == 0] = np.nan
    result = {
        "PointNet": residuals.vertex_method(network, truth, points, pions, 0.683, width=np.full(events, 3.0)),
        "Helix fit": residuals.vertex_method(fit, truth, points, pions, 0.683),
    }
    return network, truth, result


def draw_all(events: int, out: Path) -> None:
    prediction, truth, both = methods(events)
    note = "68.3 % intervals"
    plots.residual_histograms(both, "Test", note, out / "residuals")
    plots.failures({"PointNet": both["PointNet"]}, "No vertex", note, out / "failures")
    plots.predicted_against_true(prediction, truth, "PointNet", "", note, out / "truth", 0.9997)
    plots.bias_against_z(both, "", note, out / "bias")
    plots.resolution_against(both, "resolution_vs_points", "Spacepoints per event", "", note, out / "points")
    plots.pull_distribution(both, "", note, out / "pulls")


def test_plots_are_written_as_png_and_pdf(tmp_path):
    prediction, truth, both = methods(500)
    paths = plots.predicted_against_true(prediction, truth, "PointNet", "", "", tmp_path / "truth", 0.9997)
    paths += plots.pull_distribution(both, "Test", "68.3 % intervals", tmp_path / "pulls")
    assert [path.name for path in paths] == ["truth.png", "truth.pdf", "pulls.png", "pulls.pdf"]
    assert all(path.stat().st_size > 5000 for path in paths)


@pytest.mark.parametrize("events", [0, 3])
def test_few_and_no_events_can_be_drawn(events, tmp_path, monkeypatch):
    # Drawing once, without a file, is enough to meet a null: writing PNG and PDF takes most of the time.
    figures = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: figures.append(figure) or [])
    draw_all(events, tmp_path)
    assert len(figures) == 6
    for figure in figures:
        figure.draw_without_rendering()
    texts = {text.get_text() for figure in figures for axes in figure.axes for text in axes.texts}
    assert plots.NOTHING in texts  # three events have no resolution in bins


def drawn(monkeypatch, call, *arguments):
    kept = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: kept.append(figure) or [])
    call(*arguments, "", "", Path("unused"))
    return kept[0]


def test_what_is_drawn_is_what_the_json_holds(monkeypatch):
    *_, both = methods(2000)
    axes = drawn(monkeypatch, plots.residual_histograms, both).axes[0]
    for steps, method in zip(axes.patches, both.values(), strict=True):
        np.testing.assert_array_equal(steps.get_data().values, method["histogram"]["counts"])
    residual = both["PointNet"]["residual"]
    assert max(axes.lines[0].get_ydata()) == pytest.approx(residual["gauss_amplitude"], rel=1e-3)
    assert f"FWHM {residual['fwhm']:.2f} mm" in axes.get_legend().get_texts()[0].get_text()
    axes = drawn(monkeypatch, plots.bias_against_z, both).axes[0]
    wanted = [part["trimmed_mean"] for part in both["PointNet"]["bias_vs_z"]]
    np.testing.assert_array_equal(axes.containers[0].lines[0].get_ydata(), wanted)
    figure = drawn(monkeypatch, plots.resolution_against, both, "resolution_vs_multiplicity", "Charged pions")
    wanted = [part["fwhm"] for part in both["PointNet"]["resolution_vs_multiplicity"] if part["events"]]
    np.testing.assert_array_equal(figure.axes[0].containers[0].lines[0].get_ydata(), wanted)
