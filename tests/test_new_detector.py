"""docs/new_detector.md as it stands: a third detector with ten classes, through every verb, the package untouched."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

import jaxhep
from jaxhep import evaluate, prepare, train
from jaxhep.errors import BadInput, one_line
from jaxhep.manifest import read_manifest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page's two files, and events."""
    folder = tmp_path_factory.mktemp("rings")
    page = (ROOT / "docs/new_detector.md").read_text()
    for name in ("make_rings.py", "rings.py", "rings_config.py"):
        (code,) = re.findall(rf"## [^\n]*: {re.escape(name)}\n\n```python\n(.*?)```", page, flags=re.S)
        (folder / name).write_text(code)
    subprocess.run([sys.executable, "make_rings.py"], cwd=folder, check=True)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in ("rings", "make_rings"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def arguments(folder):
    fields = {"files": folder / "rings.npz", "folder": folder / "prepared"}
    return [f"--config={folder}/rings_config.py", *(f"--config.data.{name}={value}" for name, value in fields.items())]


@pytest.fixture(scope="module")
def trained(folder, arguments):
    assert train.main([*arguments, f"--workdir={folder}/run"]) == 0
    return folder / "run"


def test_it_is_prepared(folder, arguments, capsys):
    assert prepare.main(arguments) == 0
    manifest = read_manifest(folder / "prepared" / capsys.readouterr().out.splitlines()[-1].rpartition("/")[2])
    assert manifest["experiment"] == "rings:RINGS"
    assert sum(split["events"] for split in manifest["splits"].values()) == 1500
    assert len(manifest["splits"]["train"]["labels"]) == 10


def test_it_is_trained_and_evaluated_as_a_classification_into_its_classes(trained):
    metrics = json.loads((trained / "evaluation" / "metrics.json").read_text())
    (method,) = metrics["ranges"]["all"]["methods"].values()
    assert metrics["classes"] == [f"ring {number}" for number in range(10)]
    assert method["accuracy"] > 0.5 > 3 * method["trivial_accuracy"]
    assert np.shape(method["confusion"]["counts"]) == (10, 10)
    assert np.sum(method["confusion"]["counts"]) == metrics["scored"]["events"]
    assert all(one["auc"] > 0.8 for one in method["one_against_rest"].values())
    assert len(list((trained / "evaluation").glob("*.png"))) >= 3  # curves, matrix, one against the rest


def test_other_files_are_scored_and_runs_compared(trained, folder):
    out = folder / "other"
    assert evaluate.main([f"--workdir={trained}", f"--config.data.files={folder}/other.npz", f"--out={out}"]) == 0
    assert json.loads((out / "metrics.json").read_text())["scored"]["events"] == 200
    assert evaluate.main(["--compare", str(trained), str(out), "--out", str(folder / "compared")]) == 0


def test_arrays_are_scored_as_files_are(trained, folder):
    run, events = jaxhep.open_run(trained), np.load(folder / "other.npz")
    from_files = run.score(files=folder / "other.npz")
    from_arrays = run.score(points=events["points"])["logits"]
    order = np.argsort(from_files["number"])
    np.testing.assert_allclose(from_files["logits"][order], from_arrays, atol=1e-5)
    assert np.mean(from_arrays.argmax(1) == events["ring"]) > 0.5


def test_a_limit_holds_for_each_of_the_ten_classes(folder, arguments):
    from jaxhep.config import load_config
    from jaxhep.data import Split

    config = load_config(f"{folder}/rings_config.py")
    config.data.update({"files": f"{folder}/rings.npz", "folder": f"{folder}/prepared"})
    labels = Split(prepare.prepare(config, quiet=True), "train", limit=7).column("label")
    assert np.bincount(labels).tolist() == [7] * 10


def test_without_files_or_where_the_detector_is_not_there_it_is_said_in_one_line(folder, arguments, capsys):
    assert one_line(prepare.main, [arguments[0]]) == 2
    assert capsys.readouterr().err == "error: config.data.files is empty, wanted npz files of rings\n"
    for name, message in {
        "rings:RING": "config.experiment is 'rings:RING': module 'rings' has no attribute 'RING'",
        "no_such_module:X": "No module named 'no_such_module'",
        "rings:POINTS": "config.experiment is 'rings:POINTS', a int, wanted a jaxhep.detector.Detector",
        "alphag": r"wanted one of ams_ecal, alpha_g, or module:NAME of your own (nearest: 'alpha_g')",
    }.items():
        with pytest.raises(BadInput) as error:
            jaxhep.prepare(override(folder, name))
        assert message in str(error.value)


def override(folder, experiment):
    config = jaxhep.load_config(f"{folder}/rings_config.py")
    config.experiment = experiment
    return config
