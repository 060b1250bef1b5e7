"""The variants of the throughput benchmark: each runs, and what each is fed and starts with."""

import json

import numpy as np
import pytest
from conftest import ROOT

from benchmarks import cells, machine, process
from benchmarks.variants import GROUPS, MAIN, groups_of, variants

CELL = {"model": "mlp", "batch": 8, "mode": "train", "platform": "cpu", "devices": 0, "points": 0}
# One of each code path: larger ensembles and, in scoring, other sources of data run the same code.
RUN = [("train", row) for row in variants("jax", "mlp", "train", 8, "cpu") if row["members"] < 16]
RUN += [
    ("infer", row)
    for row in variants("jax", "mlp", "infer", 8, "cpu")
    if row["group"] == "base" or row["members"] == 4 or row["parallel"] == "pmap"
]


@pytest.mark.parametrize(
    ("mode", "option"), RUN, ids=lambda given: given["variant"] if isinstance(given, dict) else given
)
def test_every_variant_of_jax_runs(mode, option, monkeypatch):
    monkeypatch.setattr(process, "WARM_UP_BELOW_S", 0)
    facts, run = cells.set_up({**CELL, **option, "mode": mode})
    answer = run(2)
    assert facts["compile_s"] > 0
    assert facts["devices"] == 1
    assert answer["events"] == 2 * 8 * option["steps_per_dispatch"] * option["members"]
    assert answer["peak_bytes"] > 1e7  # on a CPU that of the process counts


@pytest.mark.parametrize(("mode", "dtype"), [("train", "float32"), ("infer", "bfloat16")])
def test_eager_pytorch_runs(mode, dtype):
    pytest.importorskip("torch", reason="the PyTorch baseline needs torch")
    from benchmarks import cells_torch

    # Compiling takes long, and how threads wait is a matter of the environment.
    options = [row for row in variants("torch", "mlp", mode, 8, "cpu") if row["dtype"] == dtype]
    option = next(row for row in options if not row["compile_mode"])
    facts, run = cells_torch.set_up({**CELL, **option, "mode": mode})
    assert run(2)["events"] == 16
    assert facts["compile_s"] == 0.0


def test_variants_have_names_of_their_own_and_known_groups():
    for framework in ("jax", "torch"):
        for model in ("mlp", "cnn", "cvt", "pointnet"):
            for mode in ("train", "infer"):
                for platform in ("cpu", "gpu", "tpu"):
                    found = variants(framework, model, mode, 128, platform)
                    assert len({row["variant"] for row in found}) == len(found)
                    assert {row["group"] for row in found} <= set(GROUPS)
                    assert found[0]["group"] == "base"


def test_the_variants_of_committed_rows_still_exist():
    for old in map(json.loads, (ROOT / "benchmarks/results/throughput_cpu_2core.jsonl").read_text().splitlines()):
        if old["kind"] == "row":
            found = variants(old["framework"], old["model"], old["mode"], old["asked_batch"], "cpu")
            same = [row for row in found if row["variant"] == old["variant"]]
            assert [row["group"] for row in same] == [old["group"]], old["variant"]


def test_the_variants_that_are_asked_for_exist():
    found = variants("jax", "cvt", "train", 128, "gpu", devices=1)
    for name, values in {
        "attention": {"auto", "explicit", "by_head", "fused"},
        "members": {1, 4, 16},
        "data": {"device", "host", "gathered"},
        "parallel": {"jit", "pmap"},
        "steps_per_dispatch": {1, 20},
        "dtype": {"float32", "bfloat16"},
        "flat": {False, True},
        "formulation": {"auto", "one step", "plain"},
    }.items():
        assert {row[name] for row in found} == values
    assert {row["parts"] for row in variants("jax", "cnn", "train", 128, "cpu", devices=1)} == {1, 4}
    theirs = variants("torch", "cvt", "train", 128, "gpu")
    assert {row["compile_mode"] for row in theirs} == {"", "default", "reduce-overhead", "max-autotune"}
    assert any(row.get("captured") for row in theirs)
    assert {row["variant"] for row in theirs if row["channels_last"]} > {"bfloat16, channels last, eager"}
    assert {row["passive"] for row in variants("torch", "cvt", "train", 128, "cpu")} == {True, False}
    assert (groups_of("main"), groups_of("all")) == (MAIN, GROUPS)
    # On several devices, or where only JAX can count them, pmap may be the fastest.
    for several in (
        variants("jax", "mlp", "train", 128, "gpu", 8),
        variants("jax", "mlp", "train", 8, "tpu", 0),
    ):
        assert "pmap" in {row["parallel"] for row in several if row["group"] == "base"}


def test_each_step_is_fed_its_batch():
    usual = {**CELL, "members": 1, "steps_per_dispatch": 1, "data": "device", "parallel": "jit"}
    for changes, shape, axis in (
        ({}, (8, 18, 72, 1), 0),
        ({"steps_per_dispatch": 3}, (3, 8, 18, 72, 1), 1),
        ({"members": 4}, (4, 8, 18, 72, 1), 1),
        ({"steps_per_dispatch": 3, "members": 4}, (3, 4, 8, 18, 72, 1), 2),
        ({"parallel": "pmap"}, (2, 4, 18, 72, 1), 0),
    ):
        data, found = cells.lay_out(usual | changes, devices=2 if "parallel" in changes else 1)
        assert data["image"].shape == shape
        assert found == axis
    with pytest.raises(ValueError, match="8 does not divide among 3 devices"):
        cells.lay_out(usual, devices=3)
    (columns, orders), axis = cells.lay_out(usual | {"data": "gathered", "steps_per_dispatch": 3}, devices=1)
    assert columns["image"].shape == (8192, 18, 72, 1)
    assert orders.shape == (3, 8)
    assert orders.dtype == np.int32
    assert all(len(set(order)) == 8 for order in orders)
    assert orders.max() < 8192
    assert len(np.unique(orders)) > 12  # another order each step


def test_what_a_process_starts_with():
    given = {"XLA_FLAGS": "--xla_flag", "HOME": "here"}
    cpu = machine.environment(given, "cpu", 2, alone=False, passive=True)
    assert cpu["XLA_FLAGS"] == "--xla_flag --xla_force_host_platform_device_count=2"
    assert (cpu["JAX_PLATFORMS"], cpu["OMP_WAIT_POLICY"], cpu["HOME"]) == ("cpu", "PASSIVE", "here")
    assert cpu["THP_MEM_ALLOC_ENABLE"] == "1"
    assert "hugetlb=1" in cpu["GLIBC_TUNABLES"]
    shared, alone = (machine.environment(given, "gpu", 0, alone, passive=False) for alone in (False, True))
    assert (shared["XLA_PYTHON_CLIENT_PREALLOCATE"], alone["XLA_PYTHON_CLIENT_PREALLOCATE"]) == ("false", "true")
    assert shared["JAX_PLATFORMS"] == "cuda"
    assert "OMP_WAIT_POLICY" not in shared
    assert machine.environment(given, "tpu", 0, True, False)["JAX_PLATFORMS"] == "tpu"
    assert (machine.count_devices("cpu", 0), machine.count_devices("tpu", 0)) == (1, 0)
