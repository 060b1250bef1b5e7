"""From Python and from an installed wheel, as a user has it: in a process and a folder of its own."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, made_up_annihilations, made_up_events, run, write_events

import jaxhep
from jaxhep.alpha_g import production
from jaxhep.errors import BadInput


def in_clean_interpreter(code, folder, **environment):
    """Run code in a new process in this folder, and return what it prints."""
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_importing_is_light_and_verbs_are_functions_however_they_are_imported(tmp_path):
    code = """
import sys, jaxhep
heavy = ("jax", "uproot", "matplotlib", "ml_collections", "numpy")
assert not [name for name in heavy if name in sys.modules]
import jaxhep.evaluate
from jaxhep import prepare, simulate, train
assert all(map(callable, (jaxhep.evaluate, jaxhep.train, prepare, simulate, train)))
assert "jax" not in sys.modules
files = jaxhep.simulate("mlp:smoke", "mc", quiet=True)
print(sorted(files))
"""
    assert in_clean_interpreter(code, tmp_path) == "['electron', 'proton']\n"
    assert len(list((tmp_path / "mc").glob("*.root"))) == 2


def test_three_lines_train_score_and_show_the_metrics(tmp_path, simulated):
    code = f"""
import jaxhep, numpy
config = jaxhep.load_config("mlp:smoke")
config.simulation.folder, config.data.folder = {simulated["simulation"]!r}, {simulated["prepared"]!r}
run = jaxhep.train(config, "runs/mine", quiet=True)
scores = run.score(cells=numpy.ones((3, 18, 72)))
print(sorted(run.metrics["ranges"]), scores["logit"].shape, scores["logit"].dtype, jaxhep.open_run("runs/mine").workdir.name)
"""
    assert in_clean_interpreter(code, tmp_path).splitlines()[-1] == "['0.2-1 TeV', '1-2 TeV'] (3,) float32 mine"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, simulated, samples):
    """A run of the MLP on made-up events."""
    workdir = tmp_path_factory.mktemp("trained") / "mlp"
    files = (f"data.electrons={samples}/el.root", f"data.protons={samples}/pr.root", "train.epochs=1")
    assert run("mlp", workdir, simulated, *files) == 0
    return workdir


def test_arrays_and_files_get_the_scores_of_the_evaluation(trained, tmp_path):
    opened, events = jaxhep.open_run(trained), made_up_events(40, 5)
    path = write_events(tmp_path / "some.root", events)
    arrays = opened.score(cells=events["edep_cell"])
    np.testing.assert_array_equal(arrays["logit"], opened.score(cells=events["edep_cell"].reshape(-1, 18, 72))["logit"])
    files = opened.score(electrons=str(path))
    order = np.argsort(files["event"])
    np.testing.assert_array_equal(files["event"][order], events["event"])
    np.testing.assert_allclose(files["logit"][order], arrays["logit"], atol=1e-5)
    one = opened.score(cells=events["edep_cell"][:1])["logit"]
    np.testing.assert_allclose(one, arrays["logit"][:1], atol=1e-5)
    assert not list(tmp_path.glob("*.npz"))


def test_what_cannot_be_scored_is_said(trained, tmp_path):
    opened = jaxhep.open_run(trained)
    for inputs, message in (
        ({"cells": np.ones((2, 72, 18))}, r"cells have shape \(2, 72, 18\), wanted \(N, 18, 72\)"),
        ({"cells": np.full((1, 1296), np.nan)}, "cells: edep_cell is nan in cell 0 near entry 0"),
        (
            {"cell": np.ones((1, 1296))},
            r"score\(cell\): wanted arrays \(cells, track\) or files \(electrons, protons, files\) .nearest: 'cells'",
        ),
        ({"track": np.zeros((2, 5))}, r"score\(track\): wanted arrays \(cells, track\) or files"),
        ({"cells": np.zeros((0, 18, 72)), "track": None}, r"score\(cells\): no events to score"),
        ({}, r"score\(\): wanted arrays"),
        (
            {"cells": np.ones((1, 1296)), "track": np.zeros((1, 5))},
            "track is given, but this network takes whole layers",
        ),
        ({"electrons": str(tmp_path / "none.root")}, "none.root: no such file"),
    ):
        with pytest.raises(BadInput, match=message):
            opened.score(**inputs)
    with pytest.raises(BadInput, match=r"not a run folder, no config\.json .nearest: 'mlp'"):
        jaxhep.open_run(trained.parent / "mpl")
    damaged = shutil.copytree(trained, tmp_path / "damaged")
    (damaged / "task.json").unlink()
    with pytest.raises(
        BadInput, match=r"not trained, or by an earlier version whose runs cannot be read, no readable task\.json"
    ):
        jaxhep.open_run(damaged)


def test_spacepoints_are_scored_as_their_files_are(tmp_path, simulated, spacepoints):
    workdir = tmp_path / "pointnet"
    assert run("pointnet", workdir, simulated, f"data.files={spacepoints}", "train.epochs=1") == 0
    opened, events = jaxhep.open_run(workdir), made_up_annihilations(30, 9)
    production.write_parquet(tmp_path / "some.parquet", iter([events]))
    parts = np.split(np.arange(len(events["points"])), np.cumsum(events["count"])[:-1])
    arrays = opened.score(
        points=[events["points"][part] for part in parts], amplitude=[events["amplitude"][part] for part in parts]
    )
    files = opened.score(files=tmp_path / "some.parquet")
    np.testing.assert_allclose(files["prediction"][np.argsort(files["event"])], arrays["prediction"], atol=1e-3)
    with pytest.raises(BadInput, match="points of event 1: none within the cuts in radius and z"):
        opened.score(points=[events["points"][parts[0]], np.full((3, 3), [120, 0, 2000])])
    with pytest.raises(BadInput, match=r"points of event 0 have shape \(3,\), wanted \(points, 3\)"):
        opened.score(points=[np.zeros(3)])


def test_the_notebook_runs(tmp_path, simulated):
    nbformat = pytest.importorskip("nbformat", reason="the notebook needs nbformat and nbclient")
    nbclient = pytest.importorskip("nbclient", reason="the notebook needs nbformat and nbclient")
    notebook = nbformat.read(ROOT / "docs" / "first_steps.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # as it is committed
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    texts = [output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("AUC" in text for text in texts)
    assert (tmp_path / "runs" / "mlp-smoke" / "task.json").exists()


@pytest.mark.slow
def test_a_wheel_works_in_an_empty_folder(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)], check=True
    )
    (wheel,) = tmp_path.glob("jaxhep-*.whl")
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True)
    assert (site / "jaxhep" / "py.typed").exists()
    assert (site / "jaxhep" / "alpha_g" / "simulation" / "drift_table.npz").exists()
    found = subprocess.run(
        [str(site / "bin" / "jaxhep"), "train", "--config", "cvt:smoke"],
        cwd=empty,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(site)},
    )
    assert found.returncode == 0, found.stderr
    assert (
        json.loads((empty / "runs" / "cvt-smoke" / "evaluation" / "metrics.json").read_text())["scored"]["events"] == 64
    )
    record = json.loads((empty / "runs" / "cvt-smoke" / "provenance.json").read_text())
    assert record["commit"] is None  # no checkout of its own
