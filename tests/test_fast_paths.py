"""Every fast path gives what the plain one gives: outputs and gradients (test_models, test_pointnet), and here ten steps."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import QUICK, run

from jaxhep import compiled, data, device_data, huge_pages, losses, parallel, profile, steps
from jaxhep.errors import BadInput
from jaxhep.kernels import Kernels, choose
from jaxhep.models import MODELS

NARROW = {
    "mlp": {"hidden": (8,)},
    "cnn": {"filters": (2, 3, 4), "hidden": 5},
    "resnet10": {"width": 4, "stage_sizes": (1, 1)},
    "cvt": {
        "widths": (4, 8),
        "heads": (1, 2),
        "blocks": (0, 1),
        "kernel_sizes": ((2, 6), (3, 4)),
        "strides": ((1, 2), (1, 2)),
        "paddings": ((2, 2), (1, 1)),
    },
}
EVENTS, BATCH = 40, 8  # of 18 x 24 cells: quicker than whole layers


def inputs(batch):
    return batch["cells"][..., None]


def loss(logits, batch):
    return losses.binary_cross_entropy(logits, batch["label"], 2.0)


def columns():
    generator = np.random.default_rng(0)
    label = generator.integers(0, 2, EVENTS).astype(np.uint8)
    cells = (generator.normal(size=(EVENTS, 18, 24)) + label[:, None, None]).astype(np.float32)
    return {"cells": cells, "label": label}


ORDERS = np.random.default_rng(1).integers(0, EVENTS, (10, BATCH)).astype(np.int32)


def build(name, flat=False, **options):
    model, chain = (
        MODELS[name](**NARROW[name], **{"kernels": choose("cpu", 2)} | options),
        steps.build_optimiser(flat=flat, clip_norm=1.0),
    )
    first = {name: values[:1] for name, values in columns().items()}
    state = jax.jit(lambda: steps.init_state(model, chain, inputs, first, 0), compiler_options=QUICK)()
    return state, steps.make_train_step(model, chain, inputs, loss, lambda step: jnp.float32(1e-3))


def ten_steps(state, step):
    """Losses of ten steps, each dispatched alone, and the parameters after them."""
    step, found = jax.jit(step, compiler_options=QUICK), []
    for order in ORDERS:
        state, metrics = step(state, {name: values[order] for name, values in columns().items()})
        found.append(float(metrics["loss"]))
    return np.array(found), state


def same(one, two, tolerance):
    np.testing.assert_allclose(one[0], two[0], rtol=tolerance, atol=tolerance)
    for first, second in zip(*(jax.tree.leaves(found[1].params) for found in (one, two)), strict=True):
        np.testing.assert_allclose(first, second, atol=10 * tolerance)


@pytest.mark.parametrize("name", ["cnn", "resnet10", "cvt"])
def test_ten_steps_in_fast_kernels_equal_those_in_plain_ones(name, monkeypatch):
    monkeypatch.setattr("jaxhep.kernels.windows.CHUNK_POSITIONS", 400)  # several chunks in a batch of 8
    monkeypatch.setattr("jaxhep.kernels.pooled_convolutions.EVENTS_AT_A_TIME", 3)  # three, the last not full
    # Float64 leaves rounding no room: Adam divides small gradients by themselves and makes rounding large.
    with jax.enable_x64(True):
        options = {"dtype": jnp.float64, "param_dtype": jnp.float64}
        wanted = ten_steps(*build(name, kernels=Kernels(), **options))
        for kernels in (choose("cpu", 2), choose("tpu")) if name == "cvt" else (choose("cpu", 2), choose("cpu")):
            same(wanted, ten_steps(*build(name, kernels=kernels, **options)), 1e-6)


@pytest.mark.parametrize("name", ["mlp", "resnet10", "cvt"])
def test_ten_steps_with_rounded_operands_follow_those_of_float32(name, monkeypatch):
    monkeypatch.setattr("jaxhep.kernels.product.LEAST", 1)  # such narrow networks would not be rounded
    monkeypatch.setattr("jaxhep.kernels.windows.CHUNK_POSITIONS", 400)
    wanted, found = (ten_steps(*build(name, dtype=dtype))[0] for dtype in (jnp.float32, jnp.bfloat16))
    # Rounding takes some 2^-9 of each operand.
    assert 1e-5 < np.abs(found / wanted - 1).max() < 0.03


@pytest.mark.parametrize("name", ["cnn", "resnet10"])
def test_kernels_without_loops_score_alike(name):
    x, state = jnp.asarray(columns()["cells"][:4, ..., None]), build(name)[0]
    variables = {"params": state.params, "batch_stats": state.batch_stats}

    def scores(kernels):
        model = MODELS[name](**NARROW[name], kernels=kernels)
        return jax.jit(lambda x: model.apply(variables, x, train=False), compiler_options=QUICK)(x)

    np.testing.assert_allclose(scores(choose("cpu")), scores(choose("cpu", 2)), atol=2e-5)


def test_one_vector_of_parameters_is_updated_as_the_arrays_are():
    same(ten_steps(*build("cnn")), ten_steps(*build("cnn", flat=True)), 1e-6)


@pytest.mark.parametrize("count", [1, 5])
def test_steps_gathered_on_the_device_are_those_fed_from_the_host(count):
    state, step = build("mlp")
    wanted, kept = ten_steps(state, step), {name: jnp.asarray(values) for name, values in columns().items()}
    many, found = jax.jit(steps.gather_steps(step)), []
    for orders in ORDERS.reshape(-1, count, BATCH):
        state, metrics = many(state, kept, orders)
        assert metrics["loss"].shape == (count,)
        found += [float(value) for value in metrics["loss"]]
    same(wanted, (np.array(found), state), 1e-6)


def test_a_single_step_is_compiled_without_a_loop():
    state, step = build("mlp")

    def program(count):
        batches = {name: np.stack([values[:BATCH]] * count) for name, values in columns().items()}
        return jax.jit(steps.scan_steps(step)).lower(state, batches).as_text()

    assert "stablehlo.while" not in program(1)
    assert "stablehlo.while" in program(2)


@pytest.mark.parametrize("name", ["mlp", "pointnet"])
def test_a_run_with_its_data_on_the_device_equals_one_with_them_on_the_host(name, tmp_path, simulated, spacepoints):
    settings = ("train.epochs=1", "train.steps_per_dispatch=2")
    settings += (f"data.files={spacepoints}",) if name == "pointnet" else ()
    found = []
    for place in ("host", "device"):
        assert run(name, tmp_path / place, simulated, *settings, f"parallel.data={place}") == 0
        assert json.loads((tmp_path / place / "provenance.json").read_text())["data_on_device"] == (place == "device")
        step = max((tmp_path / place / "checkpoints").glob("step_*"))
        found.append((step / "digests" / "metadata").read_text())
    assert found[0] == found[1]


class Events:
    """A split of made-up columns."""

    def __init__(self, events):
        self.columns, self.events = columns(), events

    def __len__(self):
        return len(self.events)


def test_columns_are_placed_whole_and_in_the_order_of_the_split():
    split = Events(np.array([3, 5, 30]))
    run_on = parallel.build_parallel("jit", jax.devices()[:1], lambda s, b: (s, {}), lambda s, b: {}, keep=True)
    placed = device_data.place(split, ("cells", "label"), run_on.kept)
    np.testing.assert_array_equal(placed["cells"], columns()["cells"][[3, 5, 30]])
    assert device_data.bytes_of(split, ("cells", "label")) == sum(array.nbytes for array in placed.values())


def test_which_data_are_kept_on_the_device(config):
    cpu = jax.devices()[0]
    assert not device_data.wanted(config, 1000, cpu)
    config.parallel.update({"data": "device", "data_gb": 1e-6})
    assert device_data.wanted(config, 1000, cpu)
    with pytest.raises(BadInput, match=r"take 2e-06 GB, config.parallel.data_gb allows 1e-06"):
        device_data.wanted(config, 2000, cpu)

    class Accelerator:
        platform = "gpu"

        def __init__(self, free):
            self.free = free

        def memory_stats(self):
            return {"bytes_limit": self.free + 50, "bytes_in_use": 50}

    config.parallel.data = "auto"
    assert [device_data.wanted(config, size, Accelerator(10_000)) for size in (1000, 2000)] == [True, False]
    assert [device_data.wanted(config, 1000, Accelerator(free)) for free in (2000, 1999)] == [True, False]
    config.parallel.data = "devise"
    with pytest.raises(BadInput, match="nearest: 'device'"):
        device_data.check(config)


def test_orders_are_those_of_the_batches():
    split = Events(np.arange(EVENTS))
    each = [data.Batches(split, BATCH, seed, ("label",)) for seed in (0, 1)]
    order = data.Orders(data.Members(each))[3]["order"]
    assert (order.shape, order.dtype) == ((2, BATCH), np.int32)
    np.testing.assert_array_equal(order[1], data.Orders(each[1])[3]["order"])


def test_huge_pages_are_asked_for_once_and_a_refusal_is_kept():
    assert huge_pages.environment({"A": "b"}) == {"A": "b", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    assert huge_pages.environment({"GLIBC_TUNABLES": "x=1"})["GLIBC_TUNABLES"] == "x=1:glibc.malloc.hugetlb=1"
    refused = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}
    assert huge_pages.environment(refused) == refused


@pytest.mark.parametrize(("setting", "given", "again"), [("madvise", "", 1), ("madvise", "0", 0), ("always", "", 0)])
def test_a_command_starts_again_only_where_huge_pages_are_on_request(setting, given, again, tmp_path, monkeypatch):
    calls = []
    (tmp_path / "enabled").write_text("always madvise never".replace(setting, f"[{setting}]"))
    monkeypatch.setattr(huge_pages, "SETTING", tmp_path / "enabled")
    monkeypatch.setattr("os.execve", lambda *arguments: calls.append(arguments))
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if given:
        monkeypatch.setenv("GLIBC_TUNABLES", f"glibc.malloc.hugetlb={given}")
    huge_pages.restart_with_huge_pages()
    assert len(calls) == again
    if again:
        program, command, environ = calls[0]
        assert (program, command[1:]) == (sys.executable, sys.orig_argv[1:])
        assert environ["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"


def test_a_run_too_short_for_a_profile_says_so(tmp_path, capsys):
    trace = profile.Trace(tmp_path, 2)
    for _ in range(2):
        trace.before_dispatch(jnp.zeros(3))
    trace.stop(jnp.zeros(3))
    assert "no profile: 2 dispatches" in capsys.readouterr().out


def test_a_profile_holds_the_dispatches_asked_for(tmp_path, capsys):
    trace, state = profile.Trace(tmp_path, 2), jnp.zeros(3)
    double = jax.jit(lambda values: optax.tree.scale(2, values))
    for _ in range(7):
        trace.before_dispatch(state)
        state = double(state)
    trace.stop(state)
    assert capsys.readouterr().out.count("profile of 2 dispatches") == 1
    assert len(list(tmp_path.rglob("perfetto_trace.json.gz"))) == 1


def test_steps_on_a_cpu_are_compiled_for_little_memory(monkeypatch):
    state, step = build("cvt")
    batches = {name: values[None, :BATCH] for name, values in columns().items()}
    used = parallel.build_parallel("jit", jax.devices()[:1], step, step).train.lower(state, batches)
    usual = jax.jit(steps.scan_steps(step), donate_argnums=0).lower(state, batches)
    little, much = (
        program.compile(compiler_options=QUICK).memory_analysis().temp_size_in_bytes for program in (used, usual)
    )
    assert little < 0.9 * much, (little, much)
    monkeypatch.setattr(compiled, "LITTLE_MEMORY", {"no_such_option": "x"})
    compiled.xla_knows_schedules.cache_clear()
    assert compiled.options("cpu") == {} == compiled.options("gpu")
    compiled.xla_knows_schedules.cache_clear()
