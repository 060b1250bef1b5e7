"""Plots are drawn without pyplot: what a user has set and opened stays, and empty ones are drawn too."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from jaxhep import plots
from jaxhep.ams_ecal import plots as ams_plots
from jaxhep.ams_ecal import rejection

pytestmark = pytest.mark.draws

UNTOUCHED = """
import sys
import matplotlib
import matplotlib.pyplot as plt
if sys.argv[2] != "none":
    matplotlib.use(sys.argv[2])
matplotlib.rcParams["font.size"] = 7
before = dict.__getitem__(matplotlib.rcParams, "backend"), matplotlib.rcParams.copy()
import numpy as np
from pathlib import Path
import jaxhep.plots, jaxhep.ams_ecal.plots, jaxhep.alpha_g.plots, jaxhep.alpha_g.display
out = Path(sys.argv[1])
lines = [{"epoch": 1, "train_loss": 1.0, "validation_loss": 2.0, "train_a": 0.5, "validation_a": 0.4}]
written = jaxhep.plots.training_curves(lines, "", "a", "A", out / "training")
labels = np.arange(9) % 2
written += jaxhep.ams_ecal.plots.score_distributions(np.arange(9.0), labels, 3.0, 0.9, "cnn", "", "", out / "scores")
z = np.linspace(-900, 900, 50)
written += jaxhep.alpha_g.plots.predicted_against_true(z, z + 1, "PointNet", "", "", out / "z")
written += jaxhep.alpha_g.display.draw_event(np.full((3, 3), 120.0), np.full((1, 6), np.nan), {}, out / "event")
assert all(path.stat().st_size > 5000 for path in written), written
after = dict.__getitem__(matplotlib.rcParams, "backend"), matplotlib.rcParams.copy()
assert after == before, [name for name in before[1] if before[1][name] != after[1][name]]
assert plt.get_fignums() == []
"""


@pytest.mark.parametrize("backend", ["svg", "template", "none"])
def test_backend_settings_and_open_figures_stay_as_they_are(backend, tmp_path):
    # "none": not chosen yet, which is told from the stored value; reading it would choose one.
    command = [sys.executable, "-c", UNTOUCHED, str(tmp_path), backend]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_training_curves_draw_the_log(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: kept.append(figure) or [path])
    lines = [
        {"step": 1, "loss": 9.0},
        {"epoch": 1, "train_loss": 2.0, "validation_loss": 3.0, "train_accuracy": 0.5, "validation_accuracy": 0.4},
        {"epoch": 2, "train_loss": 1.0, "validation_loss": 2.0, "train_accuracy": 0.7, "validation_accuracy": 0.6},
    ]
    plots.training_curves(lines, "cnn", "accuracy", "Accuracy", tmp_path / "training")
    loss, accuracy = kept[0].axes
    assert [line.get_ydata().tolist() for line in loss.lines] == [[2, 1], [3, 2]]
    assert [line.get_ydata().tolist() for line in accuracy.lines] == [[0.5, 0.7], [0.4, 0.6]]
    assert accuracy.lines[0].get_xdata().tolist() == [1, 2]


def classified(electrons: int, protons: int, trained=None):
    generator = np.random.default_rng(0)
    scores = np.concatenate([generator.normal(2, 1, electrons), generator.normal(-2, 1, protons)])
    labels = np.concatenate([np.ones(electrons, int), np.zeros(protons, int)])
    energies = generator.uniform(200, 2000, electrons + protons)
    weights = np.ones(electrons + protons)
    edges = (200.0, 600.0, 2000.0)
    return rejection.classification(scores, labels, energies, weights, edges, 0.9, 0.95, trained=trained)


@pytest.mark.parametrize(("electrons", "protons"), [(500, 900), (500, 0), (0, 900), (1, 1)])
def test_rejection_is_drawn_of_what_there_is(electrons, protons, tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(ams_plots, "save_figure", lambda figure, path: kept.append(figure) or [path])
    method = classified(electrons, protons, classified(500, 900))
    ams_plots.rejection_against_efficiency({"cnn": method}, "", "", tmp_path / "efficiency")
    ranges = {"all": {"methods": {"cnn": method}}}
    ams_plots.rejection_against_energy(ranges, 0.9, "", "", tmp_path / "energy")
    for figure in kept:
        figure.draw_without_rendering()
    names = [text.get_text() for text in kept[0].axes[0].texts]
    assert ("no electrons, or no protons" in names) == (protons == 0)
    if electrons and protons > 1:
        points = [point for point in method["rejection"] if point["threshold_source"] == "test"]
        wanted = [point["proton_rejection"] for point in points if point["proton_rejection"]]
        np.testing.assert_array_equal(kept[0].axes[0].containers[0].lines[0].get_ydata(), wanted)
