"""benchmarks/run_gpu.sh: what it calls, in which order, and that a failing call does not end it."""

import os
import subprocess
import time

import pytest
from conftest import ROOT

from benchmarks import throughput
from benchmarks.throughput_variants import groups_of

STUB = """#!/usr/bin/env bash
echo "$*" >>"$CALLS"
case "$*" in
    *"import benchmarks.scaling"*) exit 1 ;;
    *"--variants base"*) echo "mlp, batch 8, train: 3 variants"; exit 1 ;;
esac
"""


@pytest.fixture
def called(tmp_path):
    """A function that runs the script with Python replaced by a record of calls: output, and the calls."""

    def run(**environment):
        stub, calls = tmp_path / "python", tmp_path / "calls"
        stub.write_text(STUB)
        stub.chmod(0o755)
        given = {**os.environ, "PYTHON": str(stub), "CALLS": str(calls), **environment}
        command = ["bash", "benchmarks/run_gpu.sh", str(tmp_path / "new" / "folder")]
        found = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        return found.stdout, calls.read_text().splitlines()

    return run


def options_of(call):
    return throughput.parser().parse_args(call.split()[2:])


def test_training_of_the_large_networks_comes_first_and_a_failure_does_not_end_it(called, tmp_path):
    output, calls = called()
    measured = [options_of(call) for call in calls if call.startswith("-m benchmarks.throughput --")]
    assert (measured[0].models, measured[0].batch, measured[0].modes) == ("cvt,pointnet,resnet18", "128,8192", "train")
    assert {"attention", "ensemble"} <= set(groups_of(measured[1].variants))
    assert measured[1].frameworks == "jax"
    assert "infer" in measured[2].modes
    assert {model for given in measured for model in given.models.split(",")} >= {"mlp", "cnn", "resnet10"}
    assert {group for given in measured for group in groups_of(given.variants)} >= {"base", "autotune", "precision"}
    assert all(420 < given.deadline <= 430 for given in measured)
    assert len({given.out for given in measured}) == 1
    assert "stopped: --models cvt" in output
    assert "mlp, batch 8, train: 3 variants" in output
    assert "scaling: left out" in output
    folder = tmp_path / "new" / "folder"
    assert f"-m benchmarks.loading --out {folder}/loading_gpu.jsonl --seconds 40" in calls
    assert calls[-1] == f"-m benchmarks.throughput_table {folder}/throughput_gpu.jsonl"


def test_without_time_nothing_is_begun(called):
    output, calls = called(SECONDS_IN_ALL="5")
    assert not [call for call in calls if "--models" in call]
    assert "loading: left out" in output


@pytest.mark.slow
def test_it_runs_on_a_tiny_setting(tmp_path):
    given = {"LARGE": "mlp", "SMALL": "mlp", "BATCHES": "8", "SMALL_BATCH": "8", "FRAMEWORKS": "jax", "REPEATS": "1"}
    given |= {"LIMITS": "0", "OTHERS": "", "KEPT": "0", "SECONDS_IN_ALL": "20", "NAME": "here", "TOGETHER": "2"}
    began = time.monotonic()
    command = ["bash", "benchmarks/run_gpu.sh", str(tmp_path)]
    found = subprocess.run(command, cwd=ROOT, env={**os.environ, **given}, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "| mlp | 8 | train | jax | float32, 1 step per dispatch |" in found.stdout
    assert time.monotonic() - began < 40
    assert (tmp_path / "throughput_here.jsonl").exists()
    assert not (tmp_path / "last_call.log").exists()
