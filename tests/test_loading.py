"""The loading benchmark: alternation, rates, the page cache, what is missing; and all of it on tiny files."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import loading, loading_cases, loading_files, loading_timing
from benchmarks.loading_timing import Burst, Case


@pytest.fixture
def columns(tmp_path):
    loading_files.write_columns(tmp_path / "ecal", "ecal", 1500)
    return tmp_path / "ecal"


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_cases_take_turns_and_the_first_round_does_not_count():
    order = []

    def case(name, seconds_per_event):
        def burst(seconds):
            order.append((name, seconds))
            return Burst(10, 10 * seconds_per_event * (5 if len(order) <= 2 else len(order)))

        return Case("kind", name, {"layout": "ecal"}, lambda stack: burst)

    a, b = loading_timing.alternate([case("a", 0.1), case("b", 0.01)], repeats=3, seconds=4.0)
    assert order == [("a", 1.0), ("b", 1.0)] + [("a", 4.0), ("b", 4.0)] * 3
    np.testing.assert_allclose(a["rates"], [10 / 3, 10 / 5, 10 / 7])
    assert (a["events_per_s"], a["min"], a["max"]) == (a["rates"][1], a["rates"][2], a["rates"][0])
    np.testing.assert_allclose(b["events_per_s"], 100 / 6)
    assert {"date", "commit", "cores", "cpu", "versions", "load"} <= set(a)


def test_repeating_ends_with_the_time_or_the_elements():
    assert loading_timing.repeat_for(0, lambda: 7).events == 7
    assert loading_timing.repeat_for(60, lambda: 7, most=3).events == 21
    assert loading_timing.repeat_for(0.02, lambda: 1).seconds >= 0.02


def test_a_case_that_fails_is_skipped_with_its_reason_and_closes_what_it_opened():
    closed = []

    def fails(stack):
        stack.callback(closed.append, True)
        raise ModuleNotFoundError("No module named 'grain'")

    good = Case("kind", "good", {}, lambda stack: lambda seconds: Burst(1, 1.0))
    bad, good_row = loading_timing.alternate([Case("kind", "bad", {}, fails), good], 2, 0.0)
    assert bad["skipped"] == "ModuleNotFoundError: No module named 'grain'"
    assert "rates" not in bad
    assert good_row["rates"] == [1.0, 1.0]
    assert closed == [True]


def test_columns_are_those_that_prepare_writes_and_training_reads(columns):
    batches = loading_cases.batches_of(columns, "ecal", 128)
    batch = batches[3]
    assert (batch["cells"].shape, batch["cells"].dtype) == ((128, 18, 72), np.uint16)
    assert 0.4 < batches.split.column("label").mean() < 0.6
    assert batch["cells"].nbytes + batch["label"].nbytes == 128 * loading_files.event_bytes("ecal")


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system cannot empty its page cache")
def test_dropped_files_leave_the_page_cache(columns):
    file_systems = {line.split()[1]: line.split()[2] for line in Path("/proc/mounts").read_text().splitlines()}
    place = max((mount for mount in file_systems if str(columns).startswith(mount)), key=len)
    if file_systems[place] in ("tmpfs", "ramfs"):
        pytest.skip("the temporary folder is in memory")
    loading_files.warm(columns)
    assert loading_files.resident(columns) == 1
    assert loading_files.drop(columns) < 0.05
    fetched = loading_files.bytes_read()
    loading_files.warm(columns)
    assert loading_files.bytes_read() - fetched >= 1500 * loading_files.event_bytes("ecal")


@pytest.mark.parametrize(
    ("resident", "fetched", "verdict"),
    [
        (0.0, 2593.0, "cold"),
        (0.0, 10.0, "warm:"),
        (0.9, 2593.0, "warm:"),
        (None, 2593.0, "cold"),
        (None, 10.0, "warm:"),
    ],
)
def test_cold_is_what_the_evidence_says(resident, fetched, verdict):
    notes = [
        {"resident": each, "fetched": bytes_, "first": 1.0, "events": 10}
        for each, bytes_ in ((0.0, 2593.0), (resident, fetched))
    ]
    judged = loading_cases.judge_cold(2593, notes)
    assert judged["cache"].startswith(verdict)
    unknown = loading_cases.judge_cold(2593, [notes[0] | {"resident": None, "fetched": None}])
    assert unknown["cache"] == "warm or cold: nothing here tells"


def test_without_grain_and_ml_collections_their_rows_alone_are_skipped(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    monkeypatch.setitem(sys.modules, "ml_collections", None)
    for name in ("jaxhep.config", "benchmarks.prepare"):  # imported anew
        monkeypatch.delitem(sys.modules, name, raising=False)
    loading_files.write_columns(tmp_path / "ecal", "ecal", 1100)
    monkeypatch.setattr(loading_cases, "DISPATCHES", ((128, 1),))
    cases = [case for group in loading_cases.groups(tmp_path, ["ecal"], 1100, 100) for case in group]
    rows = loading_timing.alternate(cases, 1, 0.01)
    skipped = {row["kind"]: row["skipped"] for row in rows if "skipped" in row}
    assert set(skipped) == {"decode", "prepare", "grain", "host path"}
    assert "ml_collections" in skipped["prepare"]
    assert "grain" in skipped["grain"]


def test_a_tiny_run_measures_every_row(tmp_path, capsys):
    out = tmp_path / "results" / "loading.jsonl"
    sizes = ["--events", "2600", "--seconds", "1", "--repeats", "5", "--folder", str(tmp_path / "made")]
    assert loading.main([*sizes, "--out", str(out)]) == 0
    rows = rows_of(out)
    assert not [row["skipped"] for row in rows if "skipped" in row]
    assert {(row["layout"], row["kind"]) for row in rows} == {
        ("ecal", "decode"),
        ("ecal", "prepare"),
        *((layout, kind) for layout in ("ecal", "spacepoints") for kind in ("gather", "grain", "host path")),
        *((layout, kind) for layout in ("ecal", "spacepoints") for kind in ("device_put", "device gather")),
    }
    for row in rows:
        assert len(row["rates"]) == 5
        assert row["min"] <= row["events_per_s"] <= row["max"]
        assert 1e2 < row["events_per_s"] < 1e10
    aimed = [row for row in rows if "aim" in row]
    assert all(row["layout"] == "ecal" and row["order"] == "random" and row["cache"] == "warm" for row in aimed)
    assert {row["kind"] for row in aimed} == {"gather", "grain", "host path"}
    printed = capsys.readouterr().out
    assert printed.count("\n| ") == len(rows)
    assert "Aim of 300,000 events/s" in printed
    assert list((tmp_path / "made").iterdir()) == []


def test_the_aim_is_missed_by_the_rows_that_miss_it():
    row = {"layout": "ecal", "min": 1, "max": 1, "aim": 300_000, "cores": 2}
    slow, fast = ({**row, "what": name, "events_per_s": rate} for name, rate in (("slow", 299_999), ("fast", 300_000)))
    assert loading.table([slow, fast]).endswith("missed by: slow.")
    assert loading.table([fast]).endswith("met by all.")


def test_wrong_arguments_are_one_line():
    with pytest.raises(ValueError, match=r"'ecall', wanted one of ecal, spacepoints \(nearest: 'ecal'\)"):
        loading.main(["--layouts", "ecall"])
    with pytest.raises(ValueError, match="--seconds positive"):
        loading.main(["--seconds", "0"])
