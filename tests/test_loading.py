"""The loading benchmark: rates, the page cache, what is missing; and all of it on tiny files."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cells_loading, events, loading, machine
from benchmarks.process import Timed, rounds, workers


@pytest.fixture
def columns(tmp_path):
    events.write_columns(tmp_path / "ecal", "ecal", 1500)
    return tmp_path / "ecal"


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class MadeUp:
    """A process whose programs take longer each time."""

    def __init__(self):
        self.order, self.index = [], -1

    def send(self, request):
        self.request = request

    def reply(self, limit_s):
        if "set_up" in self.request:
            self.index += 1
            return {"index": self.index, "device": "made up"}
        self.order.append((self.request["run"], self.request["amount"]))
        return {"seconds": float(len(self.order)), "events": 10}


def test_programs_of_one_process_take_turns():
    worker = MadeUp()
    programs = []
    for name in ("a", "b"):
        programs.append(Timed({"kind": "grain", "what": name}, worker))
        programs[-1].set_up(1.0)
        programs[-1].amount = 4.0
    rounds(programs, 3, 100.0)
    assert worker.order == [(0, 4.0), (1, 4.0)] * 3
    row = programs[0].row(load=1.0)
    np.testing.assert_allclose(row["rates"], [10 / 1, 10 / 3, 10 / 5])
    assert (row["events_per_s"], row["min"], row["max"]) == (row["rates"][1], row["rates"][2], row["rates"][0])
    assert (row["what"], row["device"], row["load"], row["repeats"]) == ("a", "made up", 1.0, 3)


def test_a_process_that_dies_says_its_last_line_and_one_that_hangs_is_ended():
    with workers() as start:
        dead = start("benchmarks.nothing:set_up", {**os.environ})
        assert dead.reply(60.0)["failed"].startswith("process ended with 1: ModuleNotFoundError: No module named")
        silent = start("benchmarks.events:showers", {**os.environ})
        assert silent.reply(0.2)["failed"].startswith("no answer within 0.")
        silent.send({"set_up": {}})
        assert silent.reply(60.0)["failed"].startswith("no answer within 0.")
        assert (dead.process.poll(), silent.process.poll()) == (1, -9)
        waiting = start("benchmarks.events:showers", {**os.environ})
    assert waiting.process.poll() == -9


def test_repeating_ends_with_the_time_or_the_elements():
    assert cells_loading.repeat_for(0, lambda: 7)["events"] == 7
    assert cells_loading.repeat_for(60, lambda: 7, most=3)["events"] == 21
    assert cells_loading.repeat_for(0.02, lambda: 1)["seconds"] >= 0.02


def test_columns_are_those_that_prepare_writes_and_training_reads(columns):
    batches = cells_loading.batches_of({"layout": "ecal", "batch": 128, "order": "random"}, columns)
    batch = batches[3]
    assert (batch["cells"].shape, batch["cells"].dtype) == ((128, 18, 72), np.uint16)
    assert 0.4 < batches.split.column("label").mean() < 0.6
    assert batch["cells"].nbytes + batch["label"].nbytes == 128 * events.event_bytes("ecal")


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system cannot empty its page cache")
def test_dropped_files_leave_the_page_cache(columns):
    file_systems = {line.split()[1]: line.split()[2] for line in Path("/proc/mounts").read_text().splitlines()}
    place = max((mount for mount in file_systems if str(columns).startswith(mount)), key=len)
    if file_systems[place] in ("tmpfs", "ramfs"):
        pytest.skip("the temporary folder is in memory")
    paths = events.columns_of(columns)
    machine.warm(paths)
    assert machine.resident(paths) == 1
    assert machine.drop(paths) < 0.05
    fetched = machine.bytes_read()
    machine.warm(paths)
    assert machine.bytes_read() - fetched >= 1500 * events.event_bytes("ecal")


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
    judged = loading.judge_cold(2593, notes)
    assert judged["cache"].startswith(verdict)
    unknown = loading.judge_cold(2593, [notes[0] | {"resident": None, "fetched": None}])
    assert unknown["cache"] == "warm or cold: nothing here tells"


def test_a_tiny_run_measures_every_row_and_skips_what_needs_a_missing_package(tmp_path, capsys, monkeypatch):
    # Found before the installed ones by the processes that are started.
    for name in ("grain", "ml_collections"):
        (tmp_path / f"{name}.py").write_text(f'raise ModuleNotFoundError("No module named {name!r}")')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    out = tmp_path / "results" / "loading.jsonl"
    sizes = ["--events", "2600", "--seconds", "0.5", "--repeats", "2", "--folder", str(tmp_path / "made")]
    loading.main([*sizes, "--layouts", "ecal", "--out", str(out)])
    rows = rows_of(out)
    skipped = {row["kind"]: row["skipped"] for row in rows if "skipped" in row}
    assert set(skipped) == {"decode", "prepare", "grain", "host path"}
    assert skipped["prepare"].startswith("ModuleNotFoundError: No module named 'ml_collections'")
    assert "grain" in skipped["grain"]
    measured = [row for row in rows if "rates" in row]
    assert {row["kind"] for row in measured} == {"gather", "device_put", "device gather"}
    for row in measured:
        assert len(row["rates"]) == 2
        assert row["min"] <= row["events_per_s"] <= row["max"]
        assert 1e2 < row["events_per_s"] < 1e10
        assert {"date", "commit", "cores", "cpu", "versions", "load", "events", "file"} <= set(row)
        assert "folder" not in row
    aimed = [row for row in rows if "aim" in row]
    assert all(row["layout"] == "ecal" and row["order"] == "random" and row["cache"] == "warm" for row in aimed)
    assert {row["kind"] for row in aimed} == {"gather", "grain", "host path"}
    assert all({"first_batch_events_per_s", "resident_after_drop"} <= set(row) for row in rows if "cold" in row["what"])
    printed = capsys.readouterr().out
    assert printed.count("\n| ") == len(rows)
    assert "Aim of 300,000 events/s" in printed
    assert list((tmp_path / "made").iterdir()) == []


def test_every_cell_of_both_detectors_runs_and_is_named_as_in_the_committed_rows(tmp_path):
    for layout in events.LAYOUTS:
        events.write_columns(tmp_path / layout, layout, 1100)
    every = [cell for group in loading.groups(tmp_path, list(events.LAYOUTS), 200_000) for cell in group]
    committed = rows_of(Path(__file__).parents[1] / "benchmarks/results/loading_cpu_2core.jsonl")
    names = ("kind", "what", "layout", "event_bytes", "batch", "steps_per_dispatch", "order", "aim")
    known = [tuple(row.get(name) for name in names) for row in committed[: len(every)]]
    assert [tuple(cell.get(name) for name in names) for cell in every] == known
    small = [cell for cell in every if cell.get("batch", 0) * cell.get("steps_per_dispatch", 1) <= 1024]
    assert {cell["kind"] for cell in small} == {cell["kind"] for cell in every}
    for cell in small:
        done = cells_loading.set_up(cell | {"file_events": 100}).run(0.0)
        assert done["events"] > 0 < done["seconds"], cell["what"]


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
