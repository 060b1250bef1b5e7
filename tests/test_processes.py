"""Two real processes that train one network on a CPU, against one process; how processes are found."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, run

from jaxhep import clusters, train
from jaxhep.errors import BadInput, one_line

CLOSE = {"rtol": 2e-4, "atol": 2e-5}  # losses and scores after 16 steps: sums in another order


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def begin(workdir, simulated, *overrides, name="mlp"):
    """Start two processes of two devices each."""
    fields = (f"simulation.folder={simulated['simulation']}", f"data.folder={simulated['prepared']}", *overrides)
    command = [sys.executable, "-m", "jaxhep.train", f"--config={ROOT}/configs/{name}.py:smoke", f"--workdir={workdir}"]
    command += [f"--config.{field}" for field in fields]
    command += [f"--coordinator=127.0.0.1:{free_port()}", "--processes=2"]
    own = {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0",
        "JAXHEP_HEARTBEAT_SECONDS": "10",
    }
    options = {"cwd": ROOT, "env": os.environ | own, "text": True}
    return [
        subprocess.Popen([*command, f"--process={p}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        for p in range(2)
    ]


def ended(pair, seconds=60):
    """Return the statuses of both, and what they said."""
    try:
        said = [each.communicate(timeout=seconds) for each in pair]
    finally:
        for each in pair:
            each.kill()
    return [each.returncode for each in pair], said


def two(*arguments, **named):
    statuses, said = ended(begin(*arguments, **named))
    assert statuses == [0, 0], said
    assert not [line for line in said[1][0].splitlines() if not line.startswith("[Gloo]")]  # one writes
    return said


def results(workdir):
    lines = [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
    numbers = [line[name] for line in lines for name in ("train_loss", "validation_loss", "gradient_norm")]
    with np.load(workdir / "evaluation" / "scores.npz") as scores:
        outputs = [scores[name].ravel() for name in scores.files if "score" in name or "logit" in name or name == "mlp"]
    assert outputs
    return np.concatenate([numbers, *outputs])


@pytest.mark.parametrize(
    "settings",
    [
        ("parallel.kind=jit", "train.steps_per_dispatch=3"),
        ("parallel.kind=pmap", "parallel.data=device"),
        ("parallel.data=device", "ensemble.members=2"),
        ("ensemble.members=4",),
    ],
    ids=["jit", "pmap", "members", "members_shared_out"],
)
def test_two_processes_equal_one(settings, tmp_path, simulated):
    assert run("mlp", tmp_path / "one", simulated, *settings) == 0
    two(tmp_path / "two", simulated, *settings)
    np.testing.assert_allclose(results(tmp_path / "two"), results(tmp_path / "one"), **CLOSE)
    assert json.loads((tmp_path / "two" / "provenance.json").read_text())["processes"] == 2


def test_a_signal_to_one_stops_both_and_one_process_continues(tmp_path, simulated):
    settings = ("train.epochs=400",)
    assert run("mlp", tmp_path / "one", simulated, "train.epochs=2") == 0
    pair = begin(tmp_path / "two", simulated, *settings)
    log = tmp_path / "two" / "log.jsonl"
    end = time.monotonic() + 40
    while not (log.exists() and log.read_text()) and time.monotonic() < end and pair[1].poll() is None:
        time.sleep(0.02)
    pair[1].send_signal(signal.SIGTERM)
    statuses, said = ended(pair)
    assert statuses == [143, 143], said
    assert "SIGTERM: saved at step" in said[0][0]
    saved = max(int(path.name[5:]) for path in (tmp_path / "two" / "checkpoints").glob("step_*"))
    assert run("mlp", tmp_path / "two", simulated, f"train.epochs={saved // 8 + 2}") == 0
    assert run("mlp", tmp_path / "whole", simulated, f"train.epochs={saved // 8 + 2}") == 0
    np.testing.assert_allclose(results(tmp_path / "two"), results(tmp_path / "whole"), rtol=2e-3, atol=2e-4)
    # What one process saved, two continue.
    two(tmp_path / "one", simulated, "train.epochs=3")
    assert json.loads((tmp_path / "one" / "provenance.json").read_text())["continued_from"] == 16


def test_a_process_that_dies_ends_the_other(tmp_path, simulated):
    pair = begin(tmp_path, simulated, "train.epochs=100000")
    end = time.monotonic() + 40
    while not (tmp_path / "log.jsonl").exists() and time.monotonic() < end and pair[1].poll() is None:
        time.sleep(0.02)
    pair[1].kill()
    statuses, said = ended(pair, 30)
    assert statuses[0] in (134, -signal.SIGABRT), said  # our own end, or JAX's abort: 134 in a shell
    assert statuses[1] == -9


def test_bad_input_is_one_line_in_each(tmp_path, simulated):
    statuses, said = ended(begin(tmp_path, simulated, "train.batch_size=6"))
    assert statuses == [2, 2], said
    assert all("does not divide among 4 devices" in errors for _, errors in said)
    assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--coordinator=a:1",), "--coordinator without --processes (or JAXHEP_PROCESSES)"),
        (("--coordinator=a:1", "--processes=2", "--process=2"), "--process is 2, wanted 0 to 1"),
        (("--coordinator=a", "--processes=2", "--process=0"), "--coordinator is 'a', wanted HOST:PORT"),
        (("--coordinator=a:1", "--processes=0", "--process=0"), "--processes is 0, wanted at least 1"),
        (("--distributed=on",), "--distributed is 'on', wanted one of auto, off"),
        (("--distributed=off", "--processes=2"), "--distributed is off, and --processes is given"),
    ],
)
def test_flags_are_refused_in_one_line(flags, text, capsys):
    assert one_line(train.main, ["--config=mlp:smoke", *flags]) == 2
    errors = capsys.readouterr().err
    assert text in errors
    assert errors.count("\n") == 1


SLURM = {
    "SLURM_JOB_ID": "5",
    "SLURM_STEP_NODELIST": "node[3-4]",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}
MPI = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
OWN = {"JAXHEP_COORDINATOR": "h:1", "JAXHEP_PROCESSES": "2", "JAXHEP_PROCESS": "1"}


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, None),
        (OWN, ("h:1", 2, 1, None)),
        (OWN | {"JAXHEP_PROCESSES": "1", "JAXHEP_PROCESS": "0"}, None),
        (SLURM, ("node3:61445", 4, 3, (1,))),
        (SLURM | {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, ("node3:61445", 4, 3, (2, 3))),
        (SLURM | {"CUDA_VISIBLE_DEVICES": "0"}, ("node3:61445", 4, 3, None)),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "1(x4)", "SLURM_LOCALID": "0"}, ("node3:61445", 4, 3, None)),
        (SLURM | {"JAX_COORDINATOR_PORT": "77", "JAX_LOCAL_DEVICE_IDS": "0"}, ("node3:77", 4, 3, None)),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "1"}, None),  # the shell of an allocation
        ({name: value for name, value in SLURM.items() if "STEP" not in name}, None),  # outside srun
        (MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "2", "JAX_COORDINATOR_PORT": "77"}, ("127.0.0.1:77", 2, 1, (1,))),
    ],
)
def test_processes_are_found(environ, found, monkeypatch):
    for name, value in environ.items():  # JAX reads the process's own
        monkeypatch.setenv(name, value)
    launch = clusters.find(environ=environ)
    assert (launch and tuple(launch)) == found
    assert clusters.find("off", environ=environ) is None


def test_what_cannot_be_found_is_refused():
    with pytest.raises(BadInput, match="Open MPI 5 on several hosts"):
        clusters.find(environ=MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "1"})
    with pytest.raises(BadInput, match="indexed Job of Kubernetes"):
        clusters.find(environ={"KUBERNETES_SERVICE_HOST": "a", "JOB_COMPLETION_INDEX": "0"})
