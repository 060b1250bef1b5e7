"""The step: learning rate, averages, stopping, weights; one device equals four, by jit and by pmap."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import ROOT

from jaxhep import losses, steps
from jaxhep.models import MLP

WEIGHTS = 3.0


def inputs(batch):
    return batch["cells"][..., None]


def loss(logits, batch):
    return losses.binary_cross_entropy(logits, batch["label"], WEIGHTS)


def batch_of(step, events=16):
    generator = np.random.default_rng(step)
    label = generator.integers(0, 2, events).astype(np.uint8)
    return {
        "cells": (generator.normal(size=(events, 18, 72)) + label[:, None, None]).astype(np.float32),
        "label": label,
    }


def build(average_decay=0.0, schedule=None, **optimiser):
    model, chain = MLP(hidden=(8,)), steps.build_optimiser(**optimiser)
    state = steps.init_state(model, chain, inputs, batch_of(0, 1), 0, average_decay > 0)
    rate = schedule or steps.build_schedule("constant", 1e-2, 0, 100)
    step = steps.make_train_step(model, chain, inputs, loss, rate, average_decay=average_decay)
    return state, jax.jit(step), jax.jit(steps.make_eval_step(model, inputs, loss))


def test_loss_is_the_textbook_formula():
    logits, labels = jnp.array([-30.0, -1.0, 0.5, 40.0]), jnp.array([1, 0, 1, 0])
    probability = jax.nn.sigmoid(logits.astype(jnp.float32))
    wanted = jnp.array([2 * 30.0, -jnp.log(1 - probability[1]), -2 * jnp.log(probability[2]), 40.0])
    np.testing.assert_allclose(losses.binary_cross_entropy(logits, labels, 2.0), wanted, rtol=1e-6)


def test_a_step_is_adam_on_the_mean_loss():
    state, step, _ = build()
    chain = optax.adam(1e-2)
    params, opt_state = state.params, chain.init(state.params)
    model = MLP(hidden=(8,))
    for number in range(5):
        batch = batch_of(number)
        state, _ = step(state, batch)
        gradients = jax.grad(lambda p, b=batch: jnp.mean(loss(model.apply({"params": p}, inputs(b), train=True), b)))(
            params
        )
        updates, opt_state = chain.update(gradients, opt_state)
        params = optax.apply_updates(params, updates)
    assert int(state.step) == 5
    for one, two in zip(jax.tree.leaves(state.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(one, two, atol=2e-6)


def test_several_steps_in_one_dispatch_are_the_same_steps():
    state, step, _ = build()
    batches = [batch_of(number) for number in range(4)]
    many, metrics = jax.jit(steps.scan_steps(step))(state, {n: np.stack([b[n] for b in batches]) for n in batches[0]})
    for batch in batches:
        state, last = step(state, batch)
    np.testing.assert_allclose(metrics["loss"][-1], last["loss"], rtol=1e-5)
    for one, two in zip(jax.tree.leaves(state), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_padding_counts_for_nothing():
    state, _, evaluate = build()
    batch = batch_of(1) | {"weight": np.r_[np.ones(10), np.zeros(6)].astype(np.float32)}
    sums = evaluate(state, batch)
    short = evaluate(state, {name: value[:10] for name, value in batch.items()})
    for name in ("loss", "metric", "weight"):
        np.testing.assert_allclose(sums[name], short[name], rtol=1e-6)


def test_the_average_follows_and_is_what_is_scored():
    state, step, evaluate = build(average_decay=0.9)
    first = state.params["dense_1"]["kernel"]
    state, _ = step(state, batch_of(0))
    np.testing.assert_allclose(
        state.average["dense_1"]["kernel"],
        0.9 * first + 0.1 * state.params["dense_1"]["kernel"],
        rtol=1e-5,
        atol=1e-7,
    )
    scored = evaluate(state, batch_of(1) | {"weight": np.ones(16, np.float32)})["outputs"]
    wanted = MLP(hidden=(8,)).apply({"params": state.average}, inputs(batch_of(1)), train=False)
    np.testing.assert_allclose(scored, wanted, rtol=1e-5)


def test_clipping_and_weight_decay():
    state, step, _ = build(clip_norm=1e-12)
    moved, _ = step(state, batch_of(0))
    # Adam would divide the tiny gradient out again, but for its epsilon of 1e-8.
    assert optax.tree.norm(jax.tree.map(jnp.subtract, moved.params, state.params)) < 1e-3
    decayed, _ = build(clip_norm=1e-12, weight_decay=0.5)[1](
        state._replace(opt_state=steps.build_optimiser(0.5, 1e-12).init(state.params)), batch_of(0)
    )
    kernel = state.params["dense_1"]["kernel"]
    np.testing.assert_allclose(decayed.params["dense_1"]["kernel"], kernel * (1 - 1e-2 * 0.5), atol=1e-4)


def test_schedules():
    cosine = steps.build_schedule("cosine", 1.0, 10, 110)
    assert [float(cosine(step)) for step in (0, 10, 60, 110)] == pytest.approx([0.1, 1.0, 0.5, 0.0], abs=0.02)
    assert float(steps.build_schedule("constant", 0.3, 0, 10)(5)) == pytest.approx(0.3)
    with pytest.raises(ValueError, match=r"'cosin', wanted one of constant, cosine, plateau"):
        steps.build_schedule("cosin", 1.0, 0, 10)


def test_early_stopping_and_plateau_count_epochs():
    schedule = steps.fresh_schedule()
    history = []
    for value in (1.0, 0.9, 0.9 - 5e-6, 0.95, float("nan"), 0.8):
        schedule = steps.end_epoch(schedule, value, 1e-5, plateau_patience=2, plateau_factor=0.5)
        history.append((int(schedule.stale_epochs), float(schedule.plateau_scale)))
    assert history == [(0, 1.0), (0, 1.0), (1, 1.0), (2, 0.5), (3, 0.5), (0, 0.5)]
    assert float(schedule.best) == pytest.approx(0.8)


def test_the_plateau_factor_is_applied_to_the_step():
    state, step, _ = build()
    slow = state._replace(schedule=state.schedule._replace(plateau_scale=jnp.float32(0.5)))
    full, half = step(state, batch_of(0))[0], step(slow, batch_of(0))[0]
    moved, moved_half = (jax.tree.map(jnp.subtract, s.params, state.params) for s in (full, half))
    np.testing.assert_allclose(moved_half["dense_1"]["kernel"], 0.5 * moved["dense_1"]["kernel"], rtol=1e-3, atol=1e-7)


@pytest.mark.slow
def test_four_devices_equal_one_by_jit_and_by_pmap():
    """Ten steps of a narrow ResNet (BatchNorm included): one device = four by jit = four by pmap."""
    result = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "four_devices.py")],
        capture_output=True,
        text=True,
        env=os.environ
        | {
            "XLA_FLAGS": "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0",
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
        },
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
