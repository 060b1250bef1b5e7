"""The throughput benchmark end to end on tiny cells: rows, how it goes on, interruptions, the script for a GPU."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from benchmarks import limits, process, throughput
from benchmarks.report import table
from benchmarks.variants import groups_of, variants

COMMITTED = ROOT / "benchmarks/results/throughput_cpu_2core.jsonl"
OPERATIONS = {"kind": "operations", "model": "mlp", "points": 0, "by_hand": 383160, "by_xla": 384001.0}


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def arguments(out, *more, batch="16", modes="infer", frameworks="jax", limits="0"):
    return ["--models", "mlp", "--batch", batch, "--modes", modes, "--frameworks", frameworks, "--platform", "cpu",
            "--limits", limits, "--out", str(out), *more]  # fmt: skip


@pytest.fixture
def out(tmp_path, monkeypatch):
    """A file that already has the counts of operations, which take a process of their own; timings are short."""
    monkeypatch.setitem(process.BURST_S, "cpu", 0.03)
    path = tmp_path / "throughput.jsonl"
    path.write_text(json.dumps(OPERATIONS) + "\n")
    return path


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A file of one cell of both frameworks, where PyTorch is there, with the limits of the machine."""
    path = tmp_path_factory.mktemp("results") / "throughput.jsonl"
    path.write_text(json.dumps(OPERATIONS) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(throughput, "variants", few)
        patch.setattr(throughput, "printed_rows", limits_here)
        patch.setitem(process.BURST_S, "cpu", 0.03)
        more = ("--repeats", "2", "--budget", "240", "--together", "3")  # other tests may keep the cores busy
        throughput.main(arguments(path, *more, modes="train", frameworks="jax,torch", limits="0.001"))
    return path


def limits_here(module, given, platform):
    """What another process would print, without starting one."""
    assert (module, given, platform) == ("limits", ["--framework", given[1], "--seconds", "0.001"], "cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(limits.COPIED, "cpu", 2**22)
        return limits.limit_rows("jax", 0.001) if given[1] == "jax" else []


def few(framework, *given, **named):
    """Two variants of JAX and one of PyTorch that needs no compiler, and no idle machine as threads that spin do."""
    found = variants(framework, *given, **named)
    if framework == "jax":
        return found[:2]
    return [row for row in found if row["variant"] == "float32, eager, passive waiting"]


def test_a_row_says_what_was_measured_where(measured):
    rows = [row for row in rows_of(measured) if row["kind"] == "row"]
    ours = [row["variant"] for row in rows if row["framework"] == "jax"]
    assert ours == ["float32, 1 step per dispatch", "float32, 20 steps per dispatch"]
    for row in rows:
        assert row["min"] <= row["events_per_s"] <= row["max"]
        assert len(row["rates"]) == row["repeats"] == 2
        assert row["peak_bytes"] > 1e7
        assert row["batch"] == row["asked_batch"] == 16
        versions = ("jax", "jaxlib", "flax", "optax") if row["framework"] == "jax" else ("torch",)
        for name in (*versions, "python", "date", "device", "cpu", "cores", "cell_began"):
            assert row[name], name
        assert row["load"] >= 0
        assert (row["compile_s"] > 0) == (row["framework"] == "jax")
        assert row["driver"] == "" or row["driver"][0].isdigit()


def test_new_rows_have_the_fields_of_the_committed_ones(measured):
    committed = rows_of(COMMITTED)
    for new in rows_of(measured)[1:]:
        names = ("kind", "framework", "limit", "dtype")
        same = [
            old for old in committed if all(old.get(name) == new.get(name) for name in names) and "skipped" not in old
        ]
        known = set(same[-1]) - {"fraction_of_limit", "ratio", "pairs", "min", "max", "torch_variant"}
        assert known <= set(new), known - set(new)


def test_a_row_has_its_operations_and_its_fraction_of_the_measured_limit(measured):
    rows = rows_of(measured)
    found = [row for row in rows if row["kind"] == "limit"]
    assert [(row["limit"], row.get("dtype")) for row in found] == [
        ("product", "float32"), ("product", "bfloat16"), ("copy", None)
    ]  # fmt: skip
    assert all(1e8 < row["min"] <= row["per_s"] <= row["max"] < 1e14 and row["repeats"] == 5 for row in found)
    assert found[0]["float32_products"] == "float32"
    row = next(row for row in rows if row["kind"] == "row" and row["dtype"] == "float32")
    assert row["flop_per_event"] == pytest.approx(row["flop_by_hand"], rel=0.01)
    assert row["fraction_of_limit"] == pytest.approx(row["events_per_s"] * row["flop_per_event"] / found[0]["per_s"])


def test_the_frameworks_are_compared_round_by_round(measured):
    pytest.importorskip("torch", reason="the PyTorch baseline needs torch")
    rows = rows_of(measured)
    assert (rows[-1]["kind"], rows[-1]["pairs"]) == ("ratio", 2)
    best = {name: next(r for r in rows if r.get("variant") == rows[-1][f"{name}_variant"]) for name in ("jax", "torch")}
    ratios = [ours / theirs for ours, theirs in zip(best["jax"]["rates"], best["torch"]["rates"], strict=True)]
    assert (rows[-1]["min"], rows[-1]["max"]) == (min(ratios), max(ratios))
    assert min(ratios) <= rows[-1]["ratio"] <= max(ratios)


def test_what_the_file_holds_is_not_measured_again(measured, capsys, monkeypatch):
    monkeypatch.setattr(throughput, "variants", few)
    before = measured.read_text()
    throughput.main(arguments(measured, modes="train", frameworks="jax,torch"))
    assert measured.read_text() == before
    assert "| mlp | 16 | train | jax | float32, 1 step per dispatch |" in capsys.readouterr().out


def test_a_budget_too_small_is_recorded_as_skipped(out):
    throughput.main(arguments(out, "--budget", "0.2", "--variants", "optimiser", modes="train"))
    _, row, ratio = rows_of(out)
    assert row["skipped"].startswith("no answer within 0.")
    assert "skipped" in table(rows_of(out))
    assert "ratio" not in ratio


def test_a_process_that_needs_too_much_memory_is_stopped_and_its_batch_halved_down_to_the_floor(out, monkeypatch):
    monkeypatch.setattr(process, "available_bytes", lambda: 0.01 * 2**30)
    throughput.main(arguments(out, "--floor", "8", "--variants", "optimiser", modes="train", batch="32"))
    row = rows_of(out)[1]
    assert "of memory" in row["skipped"]
    assert (row["batch"], row["asked_batch"]) == (8, 32)


def test_two_devices_by_jit_and_by_pmap_stand_while_a_variant_fails(out, monkeypatch):
    def some(*given):
        rows = variants(*given)
        wrong = rows[0] | {"variant": "broken", "dtype": "float33"}
        return [wrong, *(next(row for row in rows if row["parallel"] == kind) for kind in ("jit", "pmap"))]

    monkeypatch.setattr(throughput, "variants", some)
    throughput.main(arguments(out, "--repeats", "1", "--devices", "2", modes="train"))
    broken, *rows = [row for row in rows_of(out) if row["kind"] == "row"]
    assert "float33" in broken["skipped"]
    assert [(row["parallel"], row["devices"], row["group"]) for row in rows] == [
        ("jit", 2, "base"),
        ("pmap", 2, "base"),
    ]
    assert all(row["events_per_s"] > 0 for row in rows)


def test_an_unfinished_last_line_and_unknown_groups_are_errors_with_their_place(tmp_path):
    out = tmp_path / "throughput.jsonl"
    out.write_text('{"kind": "row"')
    with pytest.raises(ValueError, match=r"line 1 of .* is not JSON"):
        throughput.main(arguments(out))
    with pytest.raises(ValueError, match=r"'bose', wanted main, all.*nearest: 'base'"):
        throughput.main(arguments(out, "--variants", "base,bose"))


def children_of(number):
    return Path(f"/proc/{number}/task/{number}/children").read_text().split()


def command_of(number):
    try:
        return Path(f"/proc/{number}/cmdline").read_text()
    except OSError:
        return ""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_a_whole_file_and_no_process(out, number):
    # A shell has its background jobs ignore the signal, which their children inherit.
    code = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('benchmarks.throughput', run_name='__main__')"
    )
    command = [sys.executable, "-u", "-c", code, *arguments(out, "--variants", "base")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as found:
        assert found.stdout.readline().startswith("mlp, batch 16, infer")
        workers = []
        while found.poll() is None and not workers:
            workers = [child for child in children_of(found.pid) if "benchmarks.process" in command_of(child)]
        found.send_signal(number)
        assert found.wait(20) == 130
        assert "interrupted" in found.stderr.read()
    assert rows_of(out) == [OPERATIONS]
    assert workers
    assert not any(command_of(child) for child in workers)


def test_it_needs_no_more_than_jax_flax_optax_and_numpy():
    code = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("grain", "uproot", "awkward", "orbax", "ml_collections", "tensorboardX", "h5py",
                                      "pyarrow", "matplotlib", "scipy", "tqdm", "mplhep", "torch"):
            raise ImportError(name)
# JAX and Flax have optional imports of their own, of SciPy above all.
import jax, flax, flax.linen, optax
for name in [name for name in sys.modules if name.partition(".")[0] in ("orbax", "tensorboardX", "matplotlib", "h5py")]:
    del sys.modules[name]
sys.meta_path.insert(0, Missing())
import benchmarks.throughput, benchmarks.cells, benchmarks.limits, benchmarks.scaling, benchmarks.operations
print(benchmarks.operations.by_xla("mlp"))
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) > 3e5


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
    assert calls[-1] == f"-m benchmarks.report {folder}/throughput_gpu.jsonl"


def test_without_time_nothing_is_begun(called):
    output, calls = called(SECONDS_IN_ALL="5")
    assert not [call for call in calls if "--models" in call]
    assert "loading: left out" in output


@pytest.mark.slow
def test_on_a_tiny_setting_it_measures_what_is_missing_alone(tmp_path):
    given = {"LARGE": "mlp", "SMALL": "mlp", "BATCHES": "8", "SMALL_BATCH": "8", "FRAMEWORKS": "jax", "REPEATS": "1"}
    given |= {"LIMITS": "0", "OTHERS": "", "KEPT": "0", "SECONDS_IN_ALL": "60", "NAME": "here", "TOGETHER": "2"}
    like = next(row for row in rows_of(COMMITTED) if (row.get("model"), row.get("framework")) == ("mlp", "jax"))
    known = [OPERATIONS]
    for mode in ("train", "infer"):
        for option in variants("jax", "mlp", mode, 8, "cpu"):
            rate = 9e9 if option["variant"] == "float32, 1 step per dispatch" else 2345
            rates = dict.fromkeys(("events_per_s", "min", "max"), rate) | {"rates": [rate], "cut_short": False}
            known.append(like | option | {"mode": mode, "batch": 8, "asked_batch": 8} | rates)
    del known[2]
    out = tmp_path / "throughput_here.jsonl"
    out.write_text("".join(json.dumps(row) + "\n" for row in known))
    command = ["bash", "benchmarks/run_gpu.sh", str(tmp_path)]
    found = subprocess.run(command, cwd=ROOT, env={**os.environ, **given}, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "| mlp | 8 | train | jax | bfloat16, 1 step per dispatch | 2,345 (2,345-2,345) |" in found.stdout
    # The best of before is measured beside what is missing.
    new = [row["variant"] for row in rows_of(out)[len(known) :] if row["kind"] == "row"]
    assert new == ["float32, 1 step per dispatch", "float32, 20 steps per dispatch"]
    assert not (tmp_path / "last_call.log").exists()
