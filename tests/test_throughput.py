"""The throughput benchmark end to end on a tiny cell, and how it goes on after an interruption."""

import json

import pytest

from benchmarks import throughput


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def arguments(out, *more):
    return [
        "--models",
        "mlp",
        "--batch",
        "16",
        "--modes",
        "infer",
        "--frameworks",
        "jax",
        "--out",
        str(out),
        *more,
    ]


def test_a_cell_is_measured_once(tmp_path, capsys):
    out = tmp_path / "results" / "throughput.jsonl"
    throughput.main(arguments(out, "--budget", "60", "--repeats", "2"))
    (row, ratio) = rows_of(out)
    assert row["events_per_s"] > 0
    assert row["min"] <= row["events_per_s"] <= row["max"]
    assert row["repeats"] == 2
    assert row["peak_bytes"] > 1e7
    assert row["jax"]
    assert row["flax"]
    assert row["date"]
    assert row["device"]
    assert ratio["kind"] == "ratio"
    assert "ratio" not in ratio
    throughput.main(arguments(out))
    assert len(rows_of(out)) == 2
    assert "| mlp | 16 | infer | jax | float32, 1 step per dispatch |" in capsys.readouterr().out


def test_a_budget_too_small_is_recorded_as_skipped(tmp_path):
    out = tmp_path / "throughput.jsonl"
    throughput.main(arguments(out, "--budget", "0.2"))
    (row, _) = rows_of(out)
    assert row["skipped"] == "no answer within 0.2 s, what was left of the budget"
    assert "skipped" in throughput.table(rows_of(out))


def test_a_process_that_needs_too_much_memory_is_stopped(tmp_path):
    out = tmp_path / "throughput.jsonl"
    throughput.main(arguments(out, "--memory", "0.01"))
    assert "of memory" in rows_of(out)[0]["skipped"]


def test_an_unfinished_last_line_is_an_error_with_its_place(tmp_path):
    out = tmp_path / "throughput.jsonl"
    out.write_text('{"kind": "row"')
    with pytest.raises(SystemExit, match="line 1"):
        throughput.main(arguments(out))


@pytest.mark.slow
def test_both_frameworks_are_paired(tmp_path):
    pytest.importorskip("torch", reason="the PyTorch baseline needs torch")
    out = tmp_path / "throughput.jsonl"
    options = ["--models", "mlp", "--batch", "16", "--modes", "train", "--out", str(out)]
    throughput.main([*options, "--budget", "60", "--repeats", "2"])
    ratio = rows_of(out)[-1]
    assert ratio["pairs"] == 2
    assert ratio["min"] <= ratio["ratio"] <= ratio["max"]
    assert {row["framework"] for row in rows_of(out) if "rates" in row} == {"jax", "torch"}
