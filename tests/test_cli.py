"""The one command line: how configs are named, fields set and explained, and what an evaluation may overwrite."""

import json
import os
import shutil

import numpy as np
import pytest
from conftest import ROOT, run

from jaxhep import cli, evaluate, prepare, simulate, train
from jaxhep.config import assign, check_same, config_name, load_config, plain, shipped
from jaxhep.detectors import DETECTORS
from jaxhep.errors import BadInput, one_line
from jaxhep.fields import COMMON, DATA, check_ranges
from jaxhep.manifest import read_manifest


def test_a_config_is_found_by_name_by_path_with_colons_and_spaces_and_in_a_run(tmp_path, monkeypatch):
    odd = tmp_path / "my configs: 2" / "a b:c.py"
    odd.parent.mkdir()
    shutil.copy(ROOT / "configs" / "mlp.py", odd)
    assert load_config(str(odd)).model.name == "mlp"
    assert load_config(f"{odd}:smoke").model.settings.hidden == (16, 8)
    assert load_config("mlp:smoke") == load_config(f"{ROOT}/configs/mlp.py:smoke")
    assert config_name("mlp:smoke") == "mlp-smoke"
    kept = tmp_path / "runs" / "kept" / "config.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps(plain(load_config("phys_cvt_small:smoke"))))
    for name in (str(kept), str(kept.parent)):
        assert load_config(name) == load_config("phys_cvt_small:smoke")
        assert config_name(name) == "kept"
    check_same(kept.parent, load_config("phys_cvt_small:smoke"))
    monkeypatch.chdir(kept.parent)
    assert config_name("config.json") == "kept"
    with pytest.raises(BadInput, match="has no variant 'paper'"):
        load_config(f"{kept}:paper")
    with pytest.raises(BadInput, match=r"mpl: no such config file .nearest: 'mlp'.; shipped: cnn, cvt"):
        load_config("mpl")
    assert set(shipped()) == {path.stem for path in (ROOT / "configs").glob("*.py")}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_package", "cannot be run as a config .ModuleNotFoundError"),
        ("def get_config(variant=''):\n    return wrong", "cannot be run as a config .NameError"),
        ("def get_config(): return {}", "get_config gives a dict, wanted a ConfigDict"),
        ("a = 1", "no function get_config in this file"),
        ("def get_config(:", "cannot be run as a config .SyntaxError"),
    ],
)
def test_a_config_that_is_none_is_one_line(tmp_path, code, message):
    (tmp_path / "mine.py").write_text(code)
    with pytest.raises(BadInput, match=rf"mine\.py(, line \d)?: {message}"):
        load_config(str(tmp_path / "mine.py"))


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("train.epochs=7", 7),
        ("train.learning_rate=1", 1.0),
        ("train.learning_rate=3e-4", 3e-4),
        ("data.skip_bad", True),
        ("data.skip_bad=false", False),
        ("data.skip_bad=1", True),
        ("data.electrons=a,b c/*.root", "a,b c/*.root"),
        ("data.tree=1", "1"),
        ("evaluate.energy_edges=(1,2,3)", (1.0, 2.0, 3.0)),
        ("evaluate.energy_edges=1, 2.5", (1.0, 2.5)),
        ("model.settings.hidden=[8,4]", (8, 4)),
    ],
)
def test_fields_take_text_as_their_type_wants_it(assignment, value):
    config = load_config("mlp:smoke")
    assign(config, assignment)
    found = config
    for part in assignment.partition("=")[0].split("."):
        found = found[part]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.epochs=2.5", "config.train.epochs is '2.5', wanted int"),
        ("train.epochs", "'train.epochs': wanted NAME=VALUE"),
        ("data.skip_bad=maybe", "config.data.skip_bad is 'maybe', wanted true or false"),
        ("evaluate.energy_edges=a,b", "wanted a tuple of float"),
        ("train=3", "config.train is a section, wanted one of its fields: accumulate"),
    ],
)
def test_text_of_another_type_is_refused(assignment, message):
    with pytest.raises(BadInput, match=message):
        assign(load_config("mlp:smoke"), assignment)


def test_values_may_follow_as_the_next_argument():
    argv = ["--config.train.epochs", "3", "--config.data.skip_bad", "--noconfig.evaluate.weighted", "--workdir", "x"]
    rest, assignments = cli.split_fields(argv)
    assert rest == ["--workdir", "x"]
    assert assignments == ["train.epochs=3", "data.skip_bad", "evaluate.weighted=false"]


@pytest.mark.parametrize("verb", [train, prepare, simulate, evaluate])
@pytest.mark.parametrize("name", ["mlp", "pointnet"])
def test_help_explains_every_field(verb, name, capsys):
    assert verb.main(["--config", name, "--help"]) == 0
    text = capsys.readouterr().out
    fields = COMMON | DATA | DETECTORS[load_config(name).experiment].fields
    for field, meaning in fields.items():
        if verb is evaluate and not field.startswith(("evaluate.", "data.", "parallel.")):
            assert f"  {field} " not in text
        elif field != "model.settings":
            (line,) = [line for line in text.splitlines() if line.split()[:1] == [field]]
            assert line.endswith(meaning.meaning)


@pytest.mark.parametrize("name", shipped())
def test_every_field_of_a_shipped_config_has_a_meaning_and_is_in_its_range(name):
    for variant in ("", ":smoke", ":paper"):
        config = load_config(f"{name}{variant}")
        fields = DETECTORS[config.experiment].fields
        check_ranges(config, fields)
        for field in (COMMON | DATA | fields).values():
            assert field.meaning


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("parallel.devices=-1", "config.parallel.devices is -1, wanted at least 0"),
        ("evaluate.batch_size=0", "config.evaluate.batch_size is 0, wanted at least 1"),
        ("evaluate.confidence=95", "config.evaluate.confidence is 95, wanted 0.01 to 0.9999"),
        ("train.learning_rate=NaN", "config.train.learning_rate is nan, wanted at least 0"),
        ("train.max_steps=-5", "config.train.max_steps is -5"),
        ("data.limit.train=-5", "config.data.limit.train is -5"),
        ("train.average_decay=2", "config.train.average_decay is 2, wanted 0 to 1"),
        ("train.order=blocks", "config.train.order is 'blocks', wanted one of random, block .nearest: 'block'"),
        ("train.kernels=xlaa", "config.train.kernels is 'xlaa', wanted one of auto, xla .nearest: 'xla'"),
        ("inputs.window=3", "config.model.settings of cnn"),
        ("model.settings.outputs=2", "config.model.settings.outputs: no such argument of cnn"),
        ("model.settings.filters=8", "config.model.settings.filters is 8, wanted tuple"),
    ],
)
def test_what_makes_no_sense_is_found_before_anything_runs(assignment, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=message):
        train.main(["--config=cnn:smoke", f"--config.{assignment}", "--config.simulation.folder=never"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["mlp", "pointnet"])
@pytest.mark.parametrize(
    "field", ["train.batch_size", "train.epochs", "evaluate.batch_size", "train.steps_per_dispatch"]
)
def test_what_a_detector_sets_otherwise_keeps_its_range(name, field):
    config = load_config(f"{name}:smoke")
    assign(config, f"{field}=0")
    with pytest.raises(BadInput, match=rf"config\.{field} is 0, wanted at least 1"):
        check_ranges(config, DETECTORS[config.experiment].fields)


def test_a_field_that_is_missing_is_said():
    config = load_config("mlp:smoke").unlock()
    del config.train.order
    with pytest.raises(BadInput, match=r"config\.train\.order is missing: this config was made by another version"):
        check_ranges(config, {})


@pytest.fixture(scope="module")
def trained(tmp_path_factory, simulated, samples):
    """A run of the MLP on made-up events, trained from a folder of its own with a relative path to the columns."""
    home = tmp_path_factory.mktemp("home")
    before = os.getcwd()
    os.chdir(home)
    try:
        files = (f"data.electrons={samples}/el.root", f"data.protons={samples}/pr.root", "train.epochs=1")
        assert run("mlp", "run", simulated | {"prepared": "prepared"}, *files) == 0
    finally:
        os.chdir(before)
    return home / "run"


def test_a_run_is_evaluated_on_its_own_data_from_any_folder(trained, tmp_path, monkeypatch):
    wanted = json.loads((trained / "evaluation" / "metrics.json").read_text())
    monkeypatch.chdir(tmp_path)
    assert evaluate.main(["--config", str(trained / "config.json")]) == 0
    assert not list(tmp_path.iterdir())
    found = json.loads((trained / "evaluation" / "metrics.json").read_text())
    assert found["ranges"] == wanted["ranges"]
    assert (
        evaluate.main([f"--workdir={trained}", "--config.evaluate.batch_size=7", "--config.data.folder=elsewhere"]) == 0
    )
    assert not list(tmp_path.iterdir())
    facts = json.loads((trained / "task.json").read_text())
    assert read_manifest(facts["data_folder"])["content_hash"] == facts["data_hash"]


def test_provenance_is_a_record_that_nothing_reads(trained, tmp_path):
    copied = shutil.copytree(trained, tmp_path / "run")
    (copied / "provenance.json").unlink()
    assert evaluate.main([f"--workdir={copied}"]) == 0


def test_a_try_with_other_settings_leaves_the_run_s_own_evaluation(trained, tmp_path, capsys):
    before = (trained / "evaluation" / "metrics.json").read_text()
    for arguments in ([], [f"--out={trained}/evaluation"]):
        assert one_line(evaluate.main, [f"--workdir={trained}", "--config.evaluate.confidence=0.5", *arguments]) == 2
        assert "config.evaluate.confidence is not as in the run: name another folder" in capsys.readouterr().err
    assert (trained / "evaluation" / "metrics.json").read_text() == before
    assert evaluate.main([f"--workdir={trained}", "--config.evaluate.confidence=0.95"]) == 0  # as it was
    out = tmp_path / "out"
    assert evaluate.main([f"--workdir={trained}", "--config.evaluate.confidence=0.5", f"--out={out}"]) == 0
    assert json.loads((out / "metrics.json").read_text())["confidence"] == 0.5
    assert evaluate.main([f"--workdir={trained}", "--config.data.limit.test=4", f"--out={out}"]) == 0
    assert len(np.load(out / "scores.npz")["logit"]) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=cnn"], "not both"),
        (["--config.model.name=cnn"], "evaluate takes fields of evaluate, data and parallel"),
        (["--compare", "a", "--out=b"], "--compare takes --out alone"),
        (["--electron=x"], "unknown argument '--electron'"),
    ],
)
def test_what_evaluate_would_not_heed_is_refused(trained, arguments, message, capsys):
    assert one_line(evaluate.main, [f"--workdir={trained}", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_a_run_is_said(tmp_path, capsys):
    for verb in (prepare, evaluate, simulate):
        assert one_line(verb.main, [f"--workdir={tmp_path}", "--config.data.tree=x"]) == 2
        assert f"{tmp_path}: not a run folder, no config.json" in capsys.readouterr().err


def test_a_run_of_other_data_or_of_an_earlier_version_is_not_continued(trained, tmp_path, simulated, samples):
    copied = shutil.copytree(trained, tmp_path / "run")
    (copied / "task.json").unlink()
    folder = json.loads((trained / "task.json").read_text())["data_folder"]
    files = (f"data.electrons={samples}/el.root", f"data.protons={samples}/pr.root", "train.epochs=1")
    with pytest.raises(BadInput, match=r"holds checkpoints but no task\.json, of an earlier version"):
        run("mlp", copied, simulated | {"prepared": os.path.dirname(folder)}, *files)


def test_the_console_command_lists_its_verbs(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["jaxhep", "--help"])
    assert cli.main() == 0
    text = capsys.readouterr().out
    assert all(f"  {verb} " in text for verb in cli.VERBS)
    monkeypatch.setattr("sys.argv", ["jaxhep", "trian"])
    assert cli.main() == 2
    assert capsys.readouterr().err == (
        "error: no verb 'trian', wanted one of simulate, prepare, train, evaluate (nearest: 'train')\n"
    )
    monkeypatch.setattr("sys.argv", ["jaxhep", "train", "--config", "mlp", "--print_config"])
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    assert cli.main() == 0
    assert json.loads(capsys.readouterr().out)["model"]["name"] == "mlp"


def test_a_typo_in_the_file_of_a_config_is_said(tmp_path):
    text = (ROOT / "configs" / "mlp.py").read_text().replace('"epochs": 20', '"epoch": 2')
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(
        BadInput, match=r"mine\.py, line \d+: cannot be run as a config .KeyError: Key .epoch. does not exist"
    ):
        load_config(str(tmp_path / "mine.py"))
