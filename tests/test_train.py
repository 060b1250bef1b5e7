"""Every config end to end at smoke size, exact restart, and what a user can get wrong."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, made_up_events, run, write_events

from jaxhep import train
from jaxhep.errors import one_line
from jaxhep.manifest import read_manifest
from jaxhep.stop import StopFlag

CONFIGS = ("mlp", "cnn", "resnet10", "resnet18", "cvt", "cvt_2ch", "phys_cvt", "phys_cvt_small")


def stop_after(monkeypatch, steps):
    """Let the loop see SIGTERM after this many steps."""

    class Stop:
        checks = 0

        @property
        def wanted(self):
            self.checks += 1
            return signal.SIGTERM if self.checks >= steps else None

        def restore(self):
            pass

    monkeypatch.setattr(train, "StopFlag", Stop)


def digests_of(workdir, step):
    path = workdir / "checkpoints" / f"step_{step}" / "digests" / "metadata"
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.draws if name == "mlp" else ()) for name in CONFIGS]
)
def test_every_config_trains_resumes_and_evaluates(name, tmp_path, simulated, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert run(name, tmp_path, simulated) == 143
    assert sorted(path.name for path in (tmp_path / "checkpoints").glob("step_*")) == ["step_5"]
    assert run(name, tmp_path, simulated) == 0
    output = capsys.readouterr().out
    assert "continuing at step 5" in output
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["step"]) for line in lines] == [(1, 8), (2, 16)]
    assert all(np.isfinite(value) for line in lines for value in line.values())
    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert metrics["task"] == "classification"
    network = "cvt" if "cvt" in name else name
    assert sum(content["events"] for content in metrics["ranges"].values()) == 64 == metrics["scored"]["events"]
    for content in metrics["ranges"].values():
        assert 0 <= content["methods"][network]["accuracy"] <= 1
    for suffix in ("png", "pdf"):
        found = {path.stem for path in (tmp_path / "evaluation").glob(f"*.{suffix}")}
        assert {
            "training",
            "rejection_vs_energy",
            "rejection_vs_efficiency_0.2-1_TeV",
            "scores_1-2_TeV",
        } <= found
    facts = json.loads((tmp_path / "provenance.json").read_text())
    assert {
        "command",
        "commit",
        "versions",
        "devices",
        "data_hash",
        "trainable_parameters",
        "events_per_second",
    } <= facts.keys()
    assert facts["continued_from"] == 5
    assert list((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize("name", ["cnn", "pointnet"])
def test_twenty_steps_equal_ten_and_restart_and_ten_bit_for_bit(name, tmp_path, simulated, spacepoints, monkeypatch):
    """The second one has BatchNorm and random augmentation."""
    settings = ("train.max_steps=20", "train.epochs=9", "train.schedule=cosine", "train.average_decay=0.9")
    settings += (f"data.files={spacepoints}", "augment.choose=True") if name == "pointnet" else ()
    assert run(name, tmp_path / "straight", simulated, *settings) == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 10)
        assert run(name, tmp_path / "parted", simulated, *settings) == 143
    assert run(name, tmp_path / "parted", simulated, *settings) == 0
    one, two = (digests_of(tmp_path / folder, 20) for folder in ("straight", "parted"))
    assert len(one) > 20
    assert one == two
    logs = [(tmp_path / folder / "log.jsonl").read_text() for folder in ("straight", "parted")]
    assert logs[0] == logs[1]


def test_a_damaged_newest_checkpoint_is_stepped_over(tmp_path, simulated, capsys):
    assert run("mlp", tmp_path, simulated) == 0
    wanted = digests_of(tmp_path, 16)
    for path in (tmp_path / "checkpoints" / "step_16" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    capsys.readouterr()
    assert run("mlp", tmp_path, simulated) == 0
    output = capsys.readouterr().out
    assert "checkpoint damaged, trying the one before: step 16" in output
    assert "continuing at step 8" in output
    assert digests_of(tmp_path, 16) == wanted


def test_a_network_learns_what_can_be_learnt(tmp_path, simulated, samples):
    """The made-up classes differ at a glance: an AUC far from one half, and the trivial accuracy beaten."""
    files = (f"data.electrons={samples}/el.root", f"data.protons={samples}/pr.root")
    assert (
        run(
            "mlp",
            tmp_path,
            simulated,
            *files,
            "train.learning_rate=0.01",
            "train.epochs=6",
            "data.limit.train=128",
            "data.limit.test=128",
        )
        == 0
    )
    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    for content in metrics["ranges"].values():
        assert content["methods"]["mlp"]["auc"] > 0.95
        assert content["methods"]["mlp"]["accuracy"] > content["methods"]["mlp"]["trivial_accuracy"] + 0.2


def test_training_stops_early_without_improvement(tmp_path, simulated):
    assert run("mlp", tmp_path, simulated, "train.epochs=30", "train.patience=2", "train.learning_rate=0.0") == 0
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert len(lines) == 3
    facts = (tmp_path / "provenance.json").read_text()
    assert run("mlp", tmp_path, simulated, "train.epochs=30", "train.patience=2", "train.learning_rate=0.0") == 0
    assert (tmp_path / "log.jsonl").read_text().splitlines() == lines  # stopped is stopped
    assert (tmp_path / "provenance.json").read_text() == facts


def test_nan_stops_at_its_step_and_keeps_the_last_good_checkpoint(tmp_path, simulated, capsys):
    status = one_line(run, "mlp", tmp_path, simulated, "train.learning_rate=1e38", "train.epochs=4")
    error = capsys.readouterr().err
    assert status == 2
    assert error.startswith("error: loss ")
    assert "training stopped" in error
    assert not list((tmp_path / "checkpoints").glob("step_*[!0-9]*"))


def lines_of(workdir):
    return [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]


def test_pmap_trains_to_the_numbers_of_jit(tmp_path, simulated):
    for kind in ("jit", "pmap"):
        assert run("mlp", tmp_path / kind, simulated, f"parallel.kind={kind}", "train.epochs=1") == 0
    (wanted,), (found,) = (lines_of(tmp_path / kind) for kind in ("jit", "pmap"))
    assert found == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    "overrides",
    [
        ("train.order=block", "train.steps_per_dispatch=3"),
        ("train.schedule=plateau", "model.dtype=bfloat16"),
        ("evaluate.weighted=True",),
    ],
)
def test_other_settings(tmp_path, simulated, overrides):
    assert run("cnn", tmp_path, simulated, "train.epochs=1", *overrides) == 0
    (line,) = lines_of(tmp_path)
    assert (line["epoch"], line["step"]) == (1, 8)
    assert all(np.isfinite(value) for value in line.values())
    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert metrics["weighted"] == ("evaluate.weighted=True" in overrides)
    assert metrics["scored"]["checkpoint_step"] == 8


def test_prepared_columns_are_enough(tmp_path, simulated, samples):
    files = (f"data.electrons={samples}/el.root", f"data.protons={samples}/pr.root", "train.epochs=1")
    assert run("mlp", tmp_path / "one", simulated, *files) == 0
    folder = json.loads((tmp_path / "one" / "provenance.json").read_text())["data_folder"]
    assert run("mlp", tmp_path / "two", simulated, f"data.prepared={folder}", "train.epochs=1") == 0
    assert digests_of(tmp_path / "one", 8) == digests_of(tmp_path / "two", 8)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["mc_200_600", "flight_50_70"])
def test_every_recipe_can_be_simulated(recipe, tmp_path, simulated):
    sizes = ("simulation.electrons=512", "simulation.protons=3072", f"data.recipe={recipe}", "train.epochs=1")
    assert run("mlp", tmp_path / "run", simulated, *sizes, "data.limit.train=10", "data.limit.test=0") == 0
    metrics = json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text())
    (content,) = metrics["ranges"].values()
    assert content["events"] > 50
    assert content["methods"]["mlp"]["rejection_vs_energy"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_save_and_exit(number, tmp_path, simulated):
    arguments = ["--config=mlp:smoke", f"--workdir={tmp_path}/run", "--config.train.epochs=100000"]
    arguments += [f"--config.data.folder={simulated['prepared']}", "--config.train.patience=0"]
    arguments += [f"--config.simulation.folder={simulated['simulation']}"]
    # A shell has its background jobs ignore Ctrl-C, and they hand that on.
    code = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from jaxhep import train
from jaxhep.errors import one_line
sys.exit(one_line(train.main, {arguments!r}))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 180
    while not (tmp_path / "run" / "log.jsonl").exists() or not (tmp_path / "run" / "log.jsonl").read_text():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output
    assert "Traceback" not in output
    step = int(output.split(f"{number.name}: saved at step ")[1].split(";")[0])
    assert (tmp_path / "run" / "checkpoints" / f"step_{step}").is_dir()


def test_a_second_ctrl_c_ends_at_once():
    before, flag = signal.getsignal(signal.SIGINT), None
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        flag = StopFlag()
        signal.raise_signal(signal.SIGINT)
        assert flag.wanted == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        flag.restore()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_files_of_the_analyst_are_one_change_away(tmp_path, simulated):
    """Several globs, several files: the command of the README."""
    for index in range(2):
        write_events(tmp_path / f"el{index}.root", made_up_events(400, index, "electron", run=index))
        write_events(tmp_path / f"pr{index}.root", made_up_events(400, 9 + index, "proton", run=index))
    files = (
        f"data.electrons={tmp_path}/el0.root,{tmp_path}/el[1-9].root",
        f"data.protons={tmp_path}/pr*.root",
    )
    assert run("cnn", tmp_path / "run", simulated, *files, "train.epochs=1") == 0
    folder = json.loads((tmp_path / "run" / "task.json").read_text())["data_folder"]
    found = {Path(file["path"]).name: file["entries"] for file in read_manifest(folder)["files"]}
    assert found == {"el0.root": 400, "el1.root": 400, "pr0.root": 400, "pr1.root": 400}
