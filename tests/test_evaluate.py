"""What a trained run is tested on: other files, reference classifiers beside it, other runs."""

import json

import numpy as np
import pytest
from conftest import made_up_events, run, write_events

from jaxhep import evaluate


@pytest.mark.draws
def test_real_input_from_another_simulation(tmp_path, simulated, shared):
    """Geant4 showers in the AMS layout, scored by a network that was trained on the built-in simulation."""
    assert (
        run(
            "mlp",
            tmp_path / "run",
            simulated,
            "train.epochs=4",
            "train.learning_rate=3e-3",
            "data.limit.train=256",
            "data.limit.test=128",
        )
        == 0
    )
    out = tmp_path / "geant4"
    arguments = [
        "--workdir",
        str(tmp_path / "run"),
        "--electrons",
        str(shared / "geant4_t1_electron.root"),
        "--protons",
        str(shared / "geant4_t1_proton.root"),
        "--out",
        str(out),
    ]
    assert evaluate.main(arguments) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    scores = np.load(out / "scores.npz")
    assert len(scores["logit"]) == 7100 == metrics["scored"]["events"]
    assert len(set(zip(scores["label"].tolist(), scores["event"].tolist(), strict=True))) == 7100
    low, high = metrics["ranges"]["0.2-1 TeV"], metrics["ranges"]["1-2 TeV"]
    assert low["events"] + high["events"] + metrics["events_outside_ranges"] == 7100
    sources = {point["threshold_source"] for point in low["methods"]["mlp"]["rejection"]}
    assert sources == {"test", "training"}
    # A few protons are reconstructed above 1 TeV and no electron: reported, not an error.
    method = high["methods"]["mlp"]
    assert (method["auc"], method["rejection_vs_energy"]) == (None, [])
    assert {point["threshold_source"] for point in method["rejection"]} == {"training"}
    assert all(point["electrons"] == 0 and point["protons"] == high["events"] for point in method["rejection"])
    assert (out / "rejection_vs_efficiency_0.2-1_TeV.pdf").stat().st_size > 5000


def test_reference_scores_in_the_files_are_methods_beside_the_network(tmp_path, simulated):
    for species, sign in (("electron", 1), ("proton", -1)):
        events = made_up_events(400, 3, species)
        generator = np.random.default_rng(0)
        events["ecal3dbdt"] = generator.normal(sign, 1, 400).astype(np.float32)
        events["EcalEMlhd"] = generator.normal(4 - sign, 1, (400, 1)).astype(np.float32)
        events["EcalEMlhd"][:5] = np.nan  # no likelihood: cannot be selected by it
        write_events(tmp_path / f"{species}.root", events)
    files = (f"data.electrons={tmp_path}/electron.root", f"data.protons={tmp_path}/proton.root", "train.epochs=1")
    assert run("mlp", tmp_path / "run", simulated, *files, "data.limit.test=0") == 0
    metrics = json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text())
    methods = metrics["ranges"]["0.2-1 TeV"]["methods"]
    assert list(methods) == ["mlp", "AMS BDT", "AMS likelihood"]
    assert methods["AMS BDT"]["auc"] == pytest.approx(0.92, abs=0.05)
    assert methods["AMS likelihood"]["auc"] == pytest.approx(0.92, abs=0.05)


def test_runs_are_compared(tmp_path, simulated, capsys):
    for name in ("mlp", "cnn"):
        assert run(name, tmp_path / name, simulated, "train.epochs=1") == 0
    assert (
        evaluate.main(["--compare", str(tmp_path / "mlp"), str(tmp_path / "cnn"), "--out", str(tmp_path / "cmp")]) == 0
    )
    comparison = json.loads((tmp_path / "cmp" / "comparison.json").read_text())
    assert comparison["same_events"]
    for content in comparison["ranges"].values():
        assert content["ratio_to_reference"]["mlp"]["ratio"] in (1.0, None)
    assert "| 0.2-1 TeV | cnn |" in (tmp_path / "cmp" / "comparison.md").read_text()
    assert (tmp_path / "cmp" / "rejection_vs_energy.png").exists()
