"""Signals end every verb with one line and status 128 + number, early and midway; the same command then completes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from jaxhep import stop
from jaxhep.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
# A shell has its background jobs ignore Ctrl-C, and they hand that on.
HEARD = "import runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
ENVIRONMENT = os.environ | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0", "JAX_PLATFORMS": "cpu"}


def started(code: str, *arguments: str, **options) -> subprocess.Popen:
    command = [sys.executable, "-c", HEARD + code, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, **{"env": ENVIRONMENT, **pipes, **options})


def verb(name: str, *arguments: str) -> subprocess.Popen:
    return started(f"sys.argv[0] = 'x'; runpy.run_module('jaxhep.{name}', run_name='__main__')", *arguments)


def wait_for(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def catches(process: subprocess.Popen) -> bool:
    """Whether the process has a handler for SIGUSR1: its first lines have run."""
    (mask,) = [
        line.split()[1] for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "SigCgt" in line
    ]
    return bool(int(mask, 16) >> (signal.SIGUSR1 - 1) & 1)


def children_of(pid: int) -> list[int]:
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ended(process: subprocess.Popen, number: signal.Signals, within: float = 15) -> str:
    """Send the signal; return the one line with which the process ended, with its status and no traceback."""
    process.send_signal(number)
    output, errors = process.communicate(timeout=within)
    assert process.returncode == 128 + number, (output, errors)
    assert "Traceback" not in errors and "Exception" not in errors
    (line,) = [line for line in (output + errors).splitlines() if "same command" in line]
    return line


def said(number: signal.Signals) -> str:
    return str(Interrupted(number))


def hidden_files(folder: Path) -> list[Path]:
    """Half-written files, as `aside` names them."""
    return [path for path in folder.rglob(".*.partial") if path.is_file()]


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("signals")
    fields = {"simulation.folder": f"{folder}/simulation", "data.folder": f"{folder}/prepared"}
    return ["--config=mlp:smoke", *(f"--config.{name}={value}" for name, value in fields.items())]


def own_arguments(name: str, folder: Path) -> list[str]:
    return {"simulate": [f"--out={folder}/out"], "train": [f"--workdir={folder}/run"]}.get(name, [])


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name", ["simulate", "prepare", "train", "evaluate"])
def test_a_signal_during_the_imports_ends_in_one_line(name, number, tmp_path):
    process = verb(name, "--config=mlp:smoke", *own_arguments(name, tmp_path))
    wait_for(lambda: catches(process), process)
    assert ended(process, number) == said(number)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("number", SIGNALS)
def test_the_console_command_is_watched_and_signals_survive_its_new_start(number, tmp_path):
    """With huge pages the command starts anew: a signal that falls in between is held back until it is heard."""
    code = """
from jaxhep import cli, huge_pages, stop
def restart():
    import os
    from jaxhep.huge_pages import TUNABLE
    if os.environ.get("AGAIN"): return
    os.kill(os.getpid(), NUMBER)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "AGAIN": "1"})
cli.restart_with_huge_pages = restart
sys.argv[:] = ["jaxhep", "train", "--config=mlp:smoke", sys.argv[1]]
sys.exit(cli.main())
""".replace("NUMBER", str(int(number)))
    process = started(code, f"--workdir={tmp_path}/run")
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (128 + number, f"{said(number)}\n"), output
    assert not (tmp_path / "run").exists()


def test_simulate_and_prepare_stop_midway_and_complete(tmp_path):
    files = tmp_path / "mc"
    simulate = ["--config=mlp:smoke", f"--out={files}"]
    for number in SIGNALS:
        process = verb("simulate", *simulate)
        wait_for(lambda: hidden_files(tmp_path), process)
        assert ended(process, number) == said(number)
        assert not hidden_files(tmp_path) and not list(files.glob("*.root"))
    done = verb("simulate", *simulate)
    done.communicate(timeout=300)
    assert done.returncode == 0 and len(list(files.glob("*.root"))) == 2

    prepare = ["--config=mlp:smoke", f"--config.data.folder={tmp_path}/prepared"]
    prepare += [f"--config.data.electrons={files}/electron*.root", f"--config.data.protons={files}/proton*.root"]
    slowly = "import time; from jaxhep import columns; flush = columns.Buckets.flush; "
    slowly += "columns.Buckets.flush = lambda self: (print('reading', flush=True), time.sleep(1), flush(self))[2]; sys.argv[0] = 'x'; "
    slowly += "runpy.run_module('jaxhep.prepare', run_name='__main__')"
    for number in SIGNALS:
        process = started(slowly, *prepare)
        while process.stdout.readline() != "reading\n":
            assert process.poll() is None
        assert ended(process, number) == said(number)
        assert not hidden_files(tmp_path)
    done = verb("prepare", *prepare)
    output, errors = done.communicate(timeout=60)
    assert done.returncode == 0, errors
    assert (Path(output.split()[-1]) / "manifest.json").exists() and not list(tmp_path.glob("prepared/*.partial"))


@pytest.mark.slow
def test_train_saves_and_evaluate_stops_and_both_complete(places, tmp_path):
    train = [*places, f"--workdir={tmp_path}/run", "--config.train.patience=0", "--config.train.epochs=100000"]
    for number in (signal.SIGUSR1, signal.SIGTERM):
        process = verb("train", *train)
        log = tmp_path / "run" / "log.jsonl"
        seen = len(log.read_text().splitlines()) if log.exists() else 0
        wait_for(lambda log=log, seen=seen: log.exists() and len(log.read_text().splitlines()) > seen, process)
        line = ended(process, number)
        assert line.startswith(f"{number.name}: saved at step ")
        step = int(line.split("step ")[1].split(";")[0])
        assert (tmp_path / "run" / "checkpoints" / f"step_{step}").is_dir()
    done = verb("train", *train, f"--config.train.max_steps={step + 1}")
    output, errors = done.communicate(timeout=120)
    assert done.returncode == 0 and f"continuing at step {step}" in output, errors

    evaluate = [f"--workdir={tmp_path}/run", f"--out={tmp_path}/scored"]
    for number in SIGNALS:
        process = verb("evaluate", *evaluate)
        wait_for(lambda: (tmp_path / "scored").exists(), process)  # before scores, metrics and plots
        assert ended(process, number) == said(number)
        assert not hidden_files(tmp_path)
        subprocess.run(["rm", "-r", str(tmp_path / "scored")], check=True)
    done = verb("evaluate", *evaluate)
    output, errors = done.communicate(timeout=120)
    assert done.returncode == 0, errors
    first, again = (
        json.loads((tmp_path / place / "metrics.json").read_text()) for place in ("run/evaluation", "scored")
    )
    assert first["ranges"] == again["ranges"]


STUCK = """
import threading
from pathlib import Path
from jaxhep import cli, files, stop
stop.GRACE = 1.0
def main():
    with files.aside(Path(sys.argv[1]) / "half") as partial:
        partial.write_text("half")
        print("ready", flush=True)
        LOOP
"""
# As a compile in C++, during which no handler in Python runs: a lock that is taken twice.
FOR_EVER = "import ctypes; lock, c = ctypes.create_string_buffer(64), ctypes.CDLL(None); "
FOR_EVER += "c.pthread_mutex_lock(lock); c.pthread_mutex_lock(lock)"


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("loop", ["", "flag = stop.StopFlag(); "])
def test_what_never_returns_from_c_is_ended_and_leaves_nothing(number, loop, tmp_path):
    code = STUCK.replace("LOOP", loop + FOR_EVER)
    process = started(f"{code}\nsys.exit(cli.run_main(main))", str(tmp_path))
    assert process.stdout.readline() == "ready\n"
    time.sleep(1)  # until it is stuck
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(10) == 128 + number
    assert 0.9 < time.monotonic() - began < 5
    assert process.stderr.read() == f"{said(number)}\n"
    assert not list(tmp_path.iterdir())


def test_a_loop_that_saves_is_waited_for_and_a_second_ctrl_c_ends_it_even_in_c(tmp_path):
    loop = "flag = stop.StopFlag(); flag.wanted; import time; time.sleep(3); print(flag.wanted.name, flush=True); "
    loop += "flag.restore(); return 143"
    process = started(STUCK.replace("LOOP", loop) + "\nsys.exit(cli.run_main(main))", str(tmp_path))
    process.stdout.readline()
    time.sleep(1)  # until it is in the loop
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=10) == ("SIGTERM\n", "") and process.returncode == 143

    loop = f"flag = stop.StopFlag(); flag.wanted; {FOR_EVER}"
    process = started(STUCK.replace("LOOP", loop) + "\nsys.exit(cli.run_main(main))", str(tmp_path))
    process.stdout.readline()
    time.sleep(1)  # until it is in the loop
    process.send_signal(signal.SIGINT)
    time.sleep(2)
    assert process.poll() is None  # it may save yet
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130


@pytest.mark.parametrize("number", SIGNALS)
def test_worker_processes_end_with_their_command(number, tmp_path):
    script = tmp_path / "fit.py"
    script.write_text("""
import signal, sys
import numpy as np
from jaxhep import cli
from jaxhep.alpha_g.helix_fit import reconstruction
def main():
    points = np.random.default_rng(1).uniform(100, 180, (200_000, 100, 3))
    print("ready", flush=True)
    reconstruction.reconstruct(points, np.full(len(points), 100), processes=2)
    return 0
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(cli.run_main(main))
""")
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
    process = started("runpy.run_path(sys.argv.pop(), run_name='__main__')", str(script), env=environment)
    wait_for(lambda: len(children_of(process.pid)) >= 3, process)  # two workers and multiprocessing's tracker
    time.sleep(2)
    children = children_of(process.pid)
    assert ended(process, number, 30) == said(number)
    deadline = time.monotonic() + 5
    while any(map(alive, children)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_from_python_signals_are_given_back_and_an_unheard_one_is_raised_again(monkeypatch):
    heard = []
    before = {number: signal.signal(number, lambda number, _: heard.append(number)) for number in SIGNALS}
    mine = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number in SIGNALS:
            flag = stop.StopFlag()
            assert flag.wanted is None
            signal.raise_signal(number)
            assert flag.wanted is number and not heard
            flag.restore()
            assert not heard and {name: signal.getsignal(name) for name in SIGNALS} == mine
        flag = stop.StopFlag()
        signal.raise_signal(signal.SIGUSR1)  # after the loop's last question
        flag.restore()
        assert heard == [signal.SIGUSR1]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
