"""The scaling benchmark on two fake devices, how it goes on, and the arithmetic of its rows."""

import json

import numpy as np
import pytest

from benchmarks import events, process, scaling


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def arguments(out, *more):
    return ["--models", "mlp", "--batch", "16", "--devices", "2", "--repeats", "2", "--out", str(out), *more]


def test_two_fake_devices_give_the_loss_of_one_and_a_finished_cell_is_not_repeated(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(process, "BURST_S", {"elsewhere": 0.03})
    out = tmp_path / "results" / "scaling.jsonl"
    scaling.main(arguments(out, "--kind", "jit"))
    one, strong, weak = rows_of(out)
    assert [(row["devices"], row["scaling"]) for row in (one, strong, weak)] == [(1, "one"), (2, "strong"), (2, "weak")]
    assert [row["whole_batch"] for row in (one, strong, weak)] == [16, 16, 32]
    for row in (one, strong, weak):
        assert row["fake"] is True
        assert row["devices_used"] == row["devices"]
        assert row["repeats"] == len(row["rates"]) == 2
        assert row["memory_per_device"] > 1e5
        assert len(row["losses"]) == 3
        assert len(set(row["losses"])) == 3
    assert (one["collectives"], list(strong["collectives"])) == ({}, ["all-reduce"])
    assert strong["same_loss"] is True
    assert strong["loss_difference"] < 1e-5
    # Other events, or steps left out, would have been noticed.
    assert max(abs(a / b - 1) for a, b in zip(weak["losses"], one["losses"], strict=True)) > 1e-4
    assert abs(one["losses"][2] / one["losses"][1] - 1) > 1e-3
    assert "same_loss" not in weak
    # A device of two holds half the batch of one.
    assert strong["memory_per_device"] < weak["memory_per_device"]
    scaling.main(arguments(out, "--kind", "jit"))
    assert len(rows_of(out)) == 3
    assert capsys.readouterr().out.count("| mlp | 16 | jit | 2 fake | strong |") == 2


def test_pmap_with_all_counts_in_one_process_as_on_a_tpu(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_force_host_platform_device_count=2")
    monkeypatch.setattr(process, "BURST_S", {"elsewhere": 0.03})
    started = []
    monkeypatch.setattr(scaling.machine, "environment", lambda given, *about: started.append(about) or given)
    shared = {"model": "mlp", "batch": 8, "parallel": "pmap", "dtype": "float32", "steps_per_dispatch": 2}
    found = {"platform": "tpu", "device_kind": "made up", "available": 2}
    one, strong, weak = scaling.measure(scaling.cells_of(shared, [1, 2], found), 2, 100)
    assert len(started) == 1
    assert [row["devices_used"] for row in (one, strong, weak)] == [1, 2, 2]
    assert all(len(row["rates"]) == 2 and row["data"] == "host" for row in (one, strong, weak))
    assert strong["loss_difference"] < 1e-5  # the MLP has no BatchNorm, whose statistics would differ
    assert "same_loss" not in strong


def test_collectives_are_counted_in_the_compiled_program():
    text = (
        "%a = f32[2] all-reduce(%b), x\n%c = (f32[2]) all-gather-start(%all-gather-done.1), y\n%d = all-reduce-done(%a)"
    )
    assert scaling.collectives(text) == {"all-reduce": 1, "all-gather": 1}


def test_a_budget_too_small_is_recorded_and_counts_beyond_the_devices_are_skipped(tmp_path, monkeypatch):
    found = {"platform": "gpu", "device_kind": "a GPU", "available": 2}
    monkeypatch.setattr(scaling, "probe", lambda: found)
    out = tmp_path / "scaling.jsonl"
    options = ["--kind", "jit", "--devices", "2,4", "--batch", "15", "--budget", "0.3"]
    scaling.main(arguments(out, *options))
    reasons = {(row["devices"], row["scaling"]): row["skipped"] for row in rows_of(out)}
    assert not any(row["fake"] for row in rows_of(out))
    assert "no answer within 0." in reasons[1, "one"]
    assert reasons[2, "strong"] == "a batch of 15 does not divide among 2 devices"
    assert reasons[2, "weak"] == "the budget ended before its turn"
    assert reasons[4, "weak"] == reasons[4, "strong"] == "this host has 2 a GPU"


def row(devices, which, rates, loss, **more):
    return {"devices": devices, "scaling": which, "rates": rates, "losses": [1.0, loss], "parallel": "jit"} | {
        "dtype": "float32",
        **more,
    }


def test_efficiency_is_taken_round_by_round():
    one = row(1, "one", [100.0, 50.0, 100.0], 0.5)
    weak = scaling.compare(row(4, "weak", [400.0, 100.0, 300.0], 0.7), one)
    assert weak["speed_up"] == 3.0
    assert (weak["efficiency_min"], weak["efficiency"], weak["efficiency_max"]) == (0.5, 0.75, 1.0)
    assert "loss_difference" not in weak
    assert scaling.compare(row(4, "weak", [], 0.7), one) == {}


@pytest.mark.parametrize(("loss", "same"), [(0.5, True), (0.50004, True), (0.50006, False), (0.49994, False)])
def test_losses_are_the_same_within_one_part_in_ten_thousand(loss, same):
    one = row(1, "one", [1.0], 0.5)
    found = scaling.compare(row(2, "strong", [1.0], loss), one)
    assert found["same_loss"] is same
    assert "same_loss" not in scaling.compare(row(2, "strong", [1.0], loss, parallel="pmap"), one)
    assert "same_loss" not in scaling.compare(row(2, "strong", [1.0], loss, dtype="bfloat16"), one)


def test_a_cell_is_known_by_its_machine_too():
    cell = {"model": "mlp", "batch": 16, "parallel": "jit", "dtype": "float32", "steps_per_dispatch": 1}
    cpu, gpu = ({"platform": name, "device_kind": name, "available": 8} for name in ("cpu", "gpu"))
    assert scaling.identity(cell | cpu) != scaling.identity(cell | gpu)
    (one,) = scaling.cells_of(cell, [1], gpu)
    assert scaling.identity(one) == scaling.identity(cell | gpu)


def test_made_up_events_differ_from_one_to_the_next():
    for model, shape in (("mlp", (18, 72, 1)), ("pointnet", (800, 3))):
        batch = events.events_of({"model": model, "points": 800}, 6)
        assert batch["image"].shape == (6, *shape)
        assert len(np.unique(batch["image"].reshape(6, -1).std(1))) == 6


def test_an_unfinished_last_line_and_wrong_arguments_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "probe", lambda: {"platform": "cpu", "device_kind": "cpu", "available": 1})
    out = tmp_path / "scaling.jsonl"
    out.write_text('{"kind": "scaling"')
    with pytest.raises(ValueError, match=r"line 1 of .* is not JSON"):
        scaling.main(arguments(out))
    with pytest.raises(ValueError, match="--kind is 'jitt', wanted one of jit, pmap"):
        scaling.main(arguments(out, "--kind", "jitt"))
    with pytest.raises(ValueError, match="at least 1"):
        scaling.main(arguments(out, "--devices", "0"))
