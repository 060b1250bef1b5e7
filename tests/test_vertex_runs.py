"""ALPHA-g from files or simulation to plots, through the same verbs as the calorimeter."""

import json
import shutil

import numpy as np
import pytest
from conftest import ROOT, made_up_annihilations, run
from test_train import stop_after

from jaxhep import evaluate, simulate
from jaxhep.alpha_g import layouts, production
from jaxhep.config import load_config
from jaxhep.errors import BadInput, one_line

CONFIGS = ("pointnet", "pointnet_zshift", "pointnet_xyz", "pointnet_uncertainty", "pear")
METHOD = {"pear": "pointnet ensemble of 2"}


DRAWN = ("pointnet_uncertainty", "pear")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.draws if name in DRAWN else ()) for name in CONFIGS]
)
def test_every_config_trains_resumes_and_evaluates(name, tmp_path, simulated, spacepoints, monkeypatch, capsys):
    # One config has its events simulated, the others take made-up ones.
    files = () if name == "pointnet" else (f"data.files={spacepoints}",)
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert run(name, tmp_path, simulated, *files) == 143
    assert run(name, tmp_path, simulated, *files) == 0
    assert "continuing at step 5" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["step"]) for line in lines] == [(1, 8), (2, 16)]
    assert all(np.isfinite(value) for line in lines for value in line.values())
    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert metrics["task"] == "vertex"
    assert list(metrics["ranges"]) == ["all", "Helix Fit vertex", "no Helix Fit vertex"]
    everything = metrics["ranges"]["all"]
    assert everything["events"] == 32
    method = everything["methods"][METHOD.get(name, "pointnet")]
    assert method["efficiency"] == 1
    assert {"fwhm", "gauss_sigma", "trimmed_mean", "trimmed_std"} <= method["residual"].keys()
    assert len(method["bias_vs_z"]) == 24
    assert (method["pull"] is not None) == (name == "pointnet_uncertainty")
    assert ("distance" in method) == (name == "pointnet_xyz")
    assert "distance" in everything["methods"]["Helix Fit"]
    found = {path.stem for path in (tmp_path / "evaluation").glob("*.png")}
    assert {"training", "residual_z", "bias_vs_z", "resolution_vs_points", "resolution_vs_multiplicity"} <= found
    assert ("pull" in found) == (name == "pointnet_uncertainty")
    assert ("pull_spread" in found) == (name == "pear")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, simulated, spacepoints):
    """A run of PointNet on made-up annihilations."""
    workdir = tmp_path_factory.mktemp("trained") / "pointnet"
    assert run("pointnet", workdir, simulated, f"data.files={spacepoints}", "train.epochs=1") == 0
    return workdir


def test_other_files_are_scored_and_two_results_compared(trained, tmp_path, capsys):
    production.write_hdf5(tmp_path / "a.h5", iter([made_up_annihilations(50, 8)]))
    arguments = ["--workdir", str(trained), "--files", str(tmp_path / "*.h5"), "--out", str(tmp_path / "out")]
    assert evaluate.main(arguments) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["ranges"]["all"]["events"] == 50 == metrics["scored"]["events"]
    assert evaluate.main(["--compare", str(trained), str(tmp_path / "out"), "--out", str(tmp_path / "cmp")]) == 0
    assert "tested on different events" in capsys.readouterr().out
    merged = json.loads((tmp_path / "cmp" / "comparison.json").read_text())
    assert list(merged["ranges"]["all"]["methods"]) == ["pointnet", "out", "Helix Fit"]
    assert (tmp_path / "cmp" / "residual_z_all.png").exists()
    quiet = [*arguments, "--set", "evaluate.helix_fit=none", "--set", "evaluate.confidence=0.5"]
    assert evaluate.main(quiet) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (list(metrics["ranges"]), metrics["confidence"]) == (["all"], 0.5)
    for wrong, message in {
        "model.name=mlp": "evaluate takes fields of evaluate, data and parallel",
        "evaluate.helixfit=none": "no config field 'evaluate.helixfit' (nearest: 'helix_fit')",
        "evaluate.confidence=much": "config.evaluate.confidence is 'much', wanted float",
    }.items():
        assert one_line(evaluate.main, [*arguments, "--set", wrong]) == 2
        assert message in capsys.readouterr().err
    assert one_line(evaluate.main, [*arguments[:2], "--electrons", "x.root", "--out", str(tmp_path / "o")]) == 2
    assert "unknown argument '--electrons'" in capsys.readouterr().err


def test_the_standard_method_may_come_from_a_vertex_csv(trained, tmp_path, simulated, spacepoints):
    """Metres in the CSV, millimetres in the result; what it did not find is not reconstructed."""
    trained = shutil.copytree(trained, tmp_path / "run")
    fields = ("serial_number", "trg_time", "reconstructed_x", "reconstructed_y", "reconstructed_z")
    lines = ["# one", "# two", ",".join(fields)]
    lines += [
        f"{number},0.5,0.001,0.002,{number / 1000}" if number % 3 else f"{number},0.5,,," for number in range(400)
    ]
    (tmp_path / "vertices.csv").write_text("\n".join(lines) + "\n")
    files = (f"data.files={spacepoints}", "train.epochs=1")
    assert run("pointnet", trained, simulated, *files, f"evaluate.vertex_csv={tmp_path}/vertices.csv") == 0
    scores = np.load(trained / "evaluation" / "scores.npz")
    wanted = np.where(scores["event"] % 3, scores["event"], np.nan)
    np.testing.assert_allclose(scores["helix_fit"][:, 2], wanted, rtol=1e-5)
    (tmp_path / "vertices.csv").write_text("\n".join(lines[:50]) + "\n")
    with pytest.raises(BadInput, match=r"vertices.csv: no serial number \d+ \(\d+ events"):
        run_again(trained, vertex_csv=str(tmp_path / "vertices.csv"))
    with pytest.raises(BadInput, match=r"config.evaluate.helix_fit is 'fits'.*nearest: 'fit'"):
        run_again(trained, vertex_csv="", helix_fit="fits")
    with pytest.raises(BadInput, match="these data hold no Helix Fit"):
        run_again(trained, helix_fit="file")
    assert "Helix Fit" not in run_again(trained, helix_fit="none")["ranges"]["all"]["methods"]


def run_again(workdir, **fields):
    """Evaluate a run with other fields of config.evaluate."""
    path = workdir / "config.json"
    config = json.loads(path.read_text())
    config["evaluate"] |= fields
    path.write_text(json.dumps(config))
    return evaluate.evaluate(workdir, quiet=True)


def test_one_event_can_be_reported(trained, tmp_path, capsys):
    production.write_hdf5(tmp_path / "a.h5", iter([made_up_annihilations(1, 8)]))
    evaluate.evaluate(trained, files=str(tmp_path / "a.h5"), out=tmp_path / "out")
    assert "all: 1 events" in capsys.readouterr().out


def test_a_network_of_the_other_experiment_is_refused(tmp_path, simulated, capsys):
    assert one_line(run, "pointnet", tmp_path, simulated, "model.name=mlp") == 2
    assert "config.model.name is 'mlp', wanted one of pointnet" in capsys.readouterr().err
    assert not (tmp_path / "config.json").exists()


def test_the_files_own_helix_fit_is_a_method(trained, tmp_path):
    import h5py

    production.write_hdf5(tmp_path / "a.h5", iter([made_up_annihilations(40, 8)]))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        rows = file["data"][:]
        real = rows[:, :, :3].any(axis=2)
        rows[..., 6:9] = np.where(real[..., None], rows[..., 3:6] + [0, 0, 4.0], 0)
        rows[:10, :, 6:9] = np.nan
        file["data"][:] = rows
    evaluate.evaluate(trained, files=str(tmp_path / "a.h5"), out=tmp_path / "out", quiet=True)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    method = metrics["ranges"]["all"]["methods"]["Helix Fit (of the files)"]
    with h5py.File(tmp_path / "z.h5", "w") as file:  # the layout that knows z alone
        file["data"] = rows[..., [0, 1, 2, 5, 8]]
    chosen = ("evaluate.helix_fit=file",)
    evaluate.evaluate(trained, files=str(tmp_path / "z.h5"), out=tmp_path / "z", quiet=True, assignments=chosen)
    ranges = json.loads((tmp_path / "z" / "metrics.json").read_text())["ranges"]
    assert [content["events"] for content in ranges.values()] == [40, 30, 10]
    assert method["reconstructed"] == 30
    assert abs(method["residual"]["trimmed_mean"] - 4) < 1e-3


@pytest.mark.parametrize("form", production.FORMATS)
def test_the_simulation_writes_every_layout(form, tmp_path, simulated):
    arguments = ["--config", f"{ROOT}/configs/pointnet.py:smoke", "--out", str(tmp_path), "--annihilations", "60"]
    assert simulate.main([*arguments, "--cosmics", "20", "--set", f"format={form}"]) == 0
    (path,) = tmp_path.glob("annihilation-0000.*")
    file = layouts.open_file(path, "spacepoints")
    assert file.entries == 60
    events = layouts.read_events(file, 0, 60)
    assert 100 < np.median(events.counts) < 500
    assert np.isfinite(events.vertex).all()
    (path,) = tmp_path.glob("cosmic-0000.*")
    assert np.isnan(layouts.read_events(layouts.open_file(path, "spacepoints"), 0, 20).vertex).all()


def test_unknown_formats_and_settings_of_the_simulation_are_refused(tmp_path, capsys):
    arguments = ["--config", f"{ROOT}/configs/pointnet.py:smoke", "--out", str(tmp_path)]
    assert one_line(simulate.main, [*arguments, "--set", "format=hdf"]) == 2
    assert (
        "config.simulation.format is 'hdf', wanted one of root, hdf5, parquet (nearest: 'hdf5')"
        in capsys.readouterr().err
    )
    assert one_line(simulate.main, [*arguments, "--electrons", "5"]) == 2
    assert "unknown argument '--electrons'" in capsys.readouterr().err


def test_annihilations_of_geant4_go_through_the_same_verbs(trained, tmp_path, shared):
    """The standard method on Geant4 events (approximate low-energy tables): published FWHM 14.1 mm."""
    from benchmarks.physics import geant4_spacepoints

    columns = geant4_spacepoints.read_sample(shared / "geant4_alpha_g.npz")
    some = int(columns["count"][:400].sum())
    columns = {name: values[: some if name in ("points", "amplitude") else 400] for name, values in columns.items()}
    production.write_parquet(tmp_path / "geant4.parquet", iter([columns]))
    metrics = evaluate.evaluate(trained, files=str(tmp_path / "geant4.parquet"), out=tmp_path / "out", quiet=True)
    helix_fit = metrics["ranges"]["all"]["methods"]["Helix Fit"]
    assert 380 < helix_fit["events"] <= 400  # a few leave nothing in the gas
    assert 0.2 < helix_fit["efficiency"] < 0.95  # of the first 96 points alone
    assert helix_fit["residual"]["fwhm"] < 20


def test_the_config_states_the_defaults_of_the_simulation():
    from jaxhep.alpha_g import simulation

    assert production.build_settings(load_config(f"{ROOT}/configs/pointnet.py")) == simulation.DEFAULT
