"""A batch taken in parts gives the gradients of the whole one, and what BatchNorm sees is stated."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import QUICK, run
from test_fast_paths import NARROW, columns, inputs, loss, same, ten_steps

from jaxhep import accumulation, steps
from jaxhep.errors import BadInput
from jaxhep.kernels import choose
from jaxhep.models import MODELS


def build(name, parts, **options):
    model, chain = MODELS[name](**NARROW[name], kernels=choose("cpu", parts), **options), steps.build_optimiser()
    first = {column: values[:1] for column, values in columns().items()}
    state = jax.jit(lambda: steps.init_state(model, chain, inputs, first, 0), compiler_options=QUICK)()
    return state, steps.make_train_step(model, chain, inputs, loss, lambda step: jnp.float32(1e-3), parts=parts)


@pytest.mark.parametrize("parts", [2, 8])
def test_ten_steps_in_parts_are_those_of_whole_batches(parts):
    with jax.enable_x64(True):
        options = {"dtype": jnp.float64, "param_dtype": jnp.float64}
        same(ten_steps(*build("mlp", 1, **options)), ten_steps(*build("mlp", parts, **options)), 1e-6)


def test_statistics_of_batch_norm_move_on_with_each_part():
    state, step = build("resnet10", 2)
    batch = {name: values[:8] for name, values in columns().items()}
    found, metrics = jax.jit(step, compiler_options=QUICK)(state, batch)
    model, wanted = MODELS["resnet10"](**NARROW["resnet10"], kernels=choose("cpu", 2)), state.batch_stats
    values = []
    for first in (0, 1):
        part = {name: array[first::2] for name, array in batch.items()}
        variables = {"params": state.params, "batch_stats": wanted}
        logits, updated = model.apply(variables, inputs(part), train=True, mutable=["batch_stats"])
        wanted, values = updated["batch_stats"], [*values, float(jnp.mean(loss(logits, part)))]
    assert float(metrics["loss"]) == pytest.approx(np.mean(values), rel=1e-5)
    for one, two in zip(jax.tree.leaves(found.batch_stats), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def test_a_batch_that_does_not_divide_is_refused():
    accumulation.check_parts(4, 64, 8)
    with pytest.raises(BadInput, match=r"config\.train\.batch_size 64 does not divide into 3 parts$"):
        accumulation.check_parts(3, 64, 1)
    with pytest.raises(BadInput, match="64 does not divide into 16 parts on each of 8 devices"):
        accumulation.check_parts(16, 64, 8)
    with pytest.raises(BadInput, match=r"config\.train\.accumulate is 0, wanted at least 1"):
        accumulation.check_parts(0, 64, 1)


def test_a_run_in_parts_or_with_a_flat_optimiser_learns_the_same(tmp_path, simulated):
    found = []
    for number, settings in enumerate(((), ("train.accumulate=4",), ("train.flat_optimiser=true",))):
        workdir = tmp_path / str(number)
        assert run("mlp", workdir, simulated, "train.epochs=1", *settings) == 0
        rows = [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
        found.append([row["validation_loss"] for row in rows if "validation_loss" in row])
    assert found[0]
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-4)


def test_parts_that_do_not_divide_stop_a_run_before_it_begins(tmp_path, simulated):
    with pytest.raises(BadInput, match="batch_size 8 does not divide into 7 parts"):
        run("mlp", tmp_path / "run", simulated, "train.accumulate=7")
    assert not (tmp_path / "run").exists()
