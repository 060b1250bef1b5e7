"""The throughput benchmark end to end on tiny cells, and how it goes on after an interruption."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from benchmarks import throughput, throughput_variants
from benchmarks.throughput_table import table

OPERATIONS = {"kind": "operations", "model": "mlp", "points": 0, "by_hand": 383160, "by_xla": 384001.0}


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def arguments(out, *more, batch="16", modes="infer", frameworks="jax", limits="0"):
    return ["--models", "mlp", "--batch", batch, "--modes", modes, "--frameworks", frameworks, "--platform", "cpu",
            "--limits", limits, "--out", str(out), *more]  # fmt: skip


@pytest.fixture
def out(tmp_path):
    """A file that already has the counts of operations, which take a process of their own."""
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
        more = ("--repeats", "2", "--budget", "240")  # other tests may keep the cores busy
        throughput.main(arguments(path, *more, modes="train", frameworks="jax,torch", limits="0.005"))
    return path


def few(framework, *given, **named):
    """Two variants of JAX and one of PyTorch that needs no compiler, and no idle machine as threads that spin do."""
    found = throughput_variants.variants(framework, *given, **named)
    return (
        found[:2]
        if framework == "jax"
        else [row for row in found if row["variant"] == "float32, eager, passive waiting"]
    )


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


def test_a_row_has_its_operations_and_its_fraction_of_the_measured_limit(measured):
    rows = rows_of(measured)
    limits = [row for row in rows if row["kind"] == "limit"]
    assert {(row["limit"], row.get("dtype")) for row in limits} == {
        ("product", "float32"), ("product", "bfloat16"), ("copy", None)
    }  # fmt: skip
    assert all(0 < row["min"] <= row["per_s"] <= row["max"] and row["repeats"] == 5 for row in limits)
    row = next(row for row in rows if row["kind"] == "row" and row["dtype"] == "float32")
    assert row["flop_per_event"] == pytest.approx(row["flop_by_hand"], rel=0.01)
    limit = max(row["per_s"] for row in limits if row.get("dtype") == "float32")
    assert row["fraction_of_limit"] == pytest.approx(row["events_per_s"] * row["flop_per_event"] / limit)


def test_the_frameworks_are_compared_round_by_round(measured):
    pytest.importorskip("torch", reason="the PyTorch baseline needs torch")
    rows = rows_of(measured)
    assert rows[-1]["kind"] == "ratio"
    assert rows[-1]["pairs"] == 2
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


def test_a_batch_that_needs_too_much_memory_is_halved_down_to_the_floor(out):
    more = ("--memory", "0.01", "--floor", "8", "--variants", "optimiser")
    throughput.main(arguments(out, *more, modes="train", batch="32"))
    row = rows_of(out)[1]
    assert "of memory" in row["skipped"]
    assert (row["batch"], row["asked_batch"]) == (8, 32)


def test_a_variant_that_fails_leaves_the_others_standing(out, monkeypatch):
    def wrong(*arguments):
        rows = throughput_variants.jax_variants(*arguments[1:], devices=1, half=False)[:1]
        return [rows[0] | {"variant": "broken", "dtype": "float33"}, *rows]

    monkeypatch.setattr(throughput, "variants", lambda *given: wrong(*given[:5]))
    throughput.main(arguments(out, "--repeats", "1"))
    broken, good = rows_of(out)[1:3]
    assert "float33" in broken["skipped"]
    assert good["events_per_s"] > 0


def test_an_unfinished_last_line_is_an_error_with_its_place(tmp_path):
    out = tmp_path / "throughput.jsonl"
    out.write_text('{"kind": "row"')
    with pytest.raises(SystemExit, match="line 1"):
        throughput.main(arguments(out))


def test_unknown_groups_of_variants_are_an_error(out):
    with pytest.raises(SystemExit, match="'bose', wanted main, all"):
        throughput.main(arguments(out, "--variants", "base,bose"))


def children_of(process):
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def command_of(process):
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
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
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("mlp, batch 16, infer")
        workers = []
        while process.poll() is None and not workers:
            workers = [child for child in children_of(process.pid) if "throughput_worker" in command_of(child)]
        process.send_signal(number)
        assert process.wait(20) == 130
        assert "interrupted" in process.stderr.read()
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
import benchmarks.throughput, benchmarks.throughput_worker, benchmarks.throughput_jax, benchmarks.limits, benchmarks.operations
print(benchmarks.operations.by_xla("mlp"))
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) > 3e5


def test_on_two_devices_by_jit_and_by_pmap(out, monkeypatch):
    def two(*given):
        rows = throughput_variants.variants(*given)
        return [next(row for row in rows if row["parallel"] == kind) for kind in ("jit", "pmap")]

    monkeypatch.setattr(throughput, "variants", two)
    throughput.main(arguments(out, "--repeats", "1", "--devices", "2", modes="train"))
    rows = [row for row in rows_of(out) if "rates" in row]
    assert [(row["parallel"], row["devices"], row["group"]) for row in rows] == [
        ("jit", 2, "base"),
        ("pmap", 2, "base"),
    ]
