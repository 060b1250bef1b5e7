"""The variants of the throughput benchmark: each runs, and what each is fed."""

import numpy as np
import pytest

from benchmarks import throughput_jax, throughput_machine, throughput_variants
from benchmarks.throughput_process import Worker
from benchmarks.throughput_variants import GROUPS, MAIN, groups_of, variants

CELL = {"model": "mlp", "batch": 8, "mode": "train", "platform": "cpu", "devices": 0, "points": 0}
JAX = {mode: variants("jax", "mlp", mode, 8, "cpu") for mode in ("train", "infer")}


@pytest.mark.parametrize("option", JAX["train"], ids=lambda option: option["variant"])
def test_every_variant_of_jax_trains(option):
    setup, run, peak_bytes, release = throughput_jax.prepare({**CELL, **option})
    run(2)
    assert setup["compile_s"] > 0
    assert setup["devices"] == 1
    assert peak_bytes() == 0  # on a CPU that of the process counts
    assert release() is None


@pytest.mark.parametrize("option", JAX["infer"], ids=lambda option: option["variant"])
def test_every_variant_of_jax_infers(option):
    throughput_jax.prepare({**CELL, **option, "mode": "infer"}).run(2)


@pytest.mark.parametrize("mode", ["train", "infer"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_eager_pytorch_runs(mode, dtype):
    pytest.importorskip("torch", reason="the PyTorch baseline needs torch")
    from benchmarks import throughput_torch

    # Compiling takes long, and how threads wait is a matter of the environment.
    options = [row for row in variants("torch", "mlp", mode, 8, "cpu") if row["dtype"] == dtype]
    option = next(row for row in options if not row["compile_mode"])
    setup, run, _, release = throughput_torch.prepare({**CELL, **option, "mode": mode})
    run(2)
    release()
    assert setup["compile_s"] == 0.0


def test_variants_have_names_of_their_own_and_known_groups():
    for framework in ("jax", "torch"):
        for model in ("mlp", "cnn", "cvt", "pointnet"):
            for mode in ("train", "infer"):
                for platform in ("cpu", "gpu", "tpu"):
                    found = variants(framework, model, mode, 128, platform)
                    names = [row["variant"] for row in found]
                    assert len(set(names)) == len(names)
                    assert {row["group"] for row in found} <= set(GROUPS)
                    assert found[0]["group"] == "base"


def test_the_variants_that_are_asked_for_exist():
    names = {row["variant"]: row for row in variants("jax", "cvt", "train", 128, "gpu", devices=1)}
    assert {row["attention"] for row in names.values()} == {"auto", "explicit", "by_head", "fused"}
    assert {row["members"] for row in names.values()} == {1, 4, 16}
    assert {row["data"] for row in names.values()} == {"device", "host", "gathered"}
    assert {row["parallel"] for row in names.values()} == {"jit", "pmap"}
    assert {row["steps_per_dispatch"] for row in names.values()} == {1, 20}
    assert {row["dtype"] for row in names.values()} == {"float32", "bfloat16"}
    assert any(row["flat"] for row in names.values())
    assert {row["parts"] for row in variants("jax", "cnn", "train", 128, "cpu", devices=1)} == {1, 4}
    theirs = variants("torch", "cvt", "train", 128, "gpu")
    assert {row["compile_mode"] for row in theirs} == {"", "default", "reduce-overhead", "max-autotune"}
    assert any(row.get("captured") for row in theirs)
    assert {row["variant"] for row in theirs if row["channels_last"]} > {"bfloat16, channels last, eager"}
    waiting = [row["passive"] for row in variants("torch", "cvt", "train", 128, "cpu")]
    assert {True, False} == set(waiting)
    assert groups_of("main") == MAIN
    assert groups_of("all") == GROUPS
    several = variants("jax", "resnet18", "train", 128, "gpu", devices=8)
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
        data, found = throughput_jax.lay_out(usual | changes, devices=2 if "parallel" in changes else 1)
        assert data["image"].shape == shape
        assert found == axis
    with pytest.raises(ValueError, match="8 does not divide among 3 devices"):
        throughput_jax.lay_out(usual, devices=3)
    (columns, orders), axis = throughput_jax.lay_out(usual | {"data": "gathered", "steps_per_dispatch": 3}, devices=1)
    assert columns["image"].shape == (8192, 18, 72, 1)
    assert orders.shape == (3, 8)
    assert orders.dtype == np.int32
    assert all(len(set(order)) == 8 for order in orders)
    assert orders.max() < 8192
    assert len(np.unique(orders)) > 12  # another order each step


def test_events_of_all_steps_and_members_count():
    worker = Worker({"steps_per_dispatch": 3, "batch": 10, "members": 4}, start=False)
    worker.dispatches, worker.seconds = 2, [1.0, 0.5]
    assert worker.rates() == [240.0, 480.0]


def test_what_a_process_starts_with():
    given = {"XLA_FLAGS": "--xla_flag", "HOME": "here"}
    cpu = throughput_machine.environment(given, "cpu", 2, alone=False, passive=True)
    assert cpu["XLA_FLAGS"] == "--xla_flag --xla_force_host_platform_device_count=2"
    assert (cpu["JAX_PLATFORMS"], cpu["OMP_WAIT_POLICY"], cpu["HOME"]) == ("cpu", "PASSIVE", "here")
    assert cpu["THP_MEM_ALLOC_ENABLE"] == "1"
    assert "hugetlb=1" in cpu["GLIBC_TUNABLES"]
    shared, alone = (throughput_machine.environment(given, "gpu", 0, alone, passive=False) for alone in (False, True))
    assert (shared["XLA_PYTHON_CLIENT_PREALLOCATE"], alone["XLA_PYTHON_CLIENT_PREALLOCATE"]) == ("false", "true")
    assert shared["JAX_PLATFORMS"] == "cuda"
    assert "OMP_WAIT_POLICY" not in shared
    assert throughput_machine.environment(given, "tpu", 0, True, False)["JAX_PLATFORMS"] == "tpu"


def test_unknown_devices_bring_pmap_along():
    assert throughput_machine.count_devices("cpu", 0) == 1
    assert throughput_machine.count_devices("tpu", 0) == 0
    rows = throughput_variants.jax_variants("mlp", "train", 128, "tpu", devices=0, half=True)
    assert "pmap" in {row["parallel"] for row in rows if row["group"] == "base"}
