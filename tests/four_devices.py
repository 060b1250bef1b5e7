"""Run by test_steps in a process of its own, as the number of devices is fixed when JAX starts."""

import jax
import numpy as np

from jaxhep import losses, parallel, steps
from jaxhep.models import ResNet

DIFFERENCE = 2e-5  # of losses and logits after ten steps; raw parameters ahead of a BatchNorm drift by rounding


def inputs(batch):
    return batch["cells"][..., None]


def loss(logits, batch):
    return losses.binary_cross_entropy(logits, batch["label"], 2.0)


def batch_of(step):
    generator = np.random.default_rng(step)
    return {
        "cells": generator.normal(size=(8, 18, 12)).astype(np.float32),
        "label": generator.integers(0, 2, 8).astype(np.uint8),
        "weight": np.r_[np.ones(7), 0].astype(np.float32),
    }


def train(kind, devices):
    narrow = {"stage_sizes": (1, 1), "width": 4}
    chain = steps.build_optimiser()
    state = steps.init_state(ResNet(**narrow), chain, inputs, batch_of(0), 0)
    model = ResNet(**narrow, axis_name=parallel.AXIS if kind == "pmap" else None)
    axis = parallel.AXIS if kind == "pmap" else None
    step = steps.make_train_step(
        model, chain, inputs, loss, steps.build_schedule("constant", 1e-3, 0, 10), axis_name=axis
    )
    run = parallel.build_parallel(kind, devices, step, steps.make_eval_step(model, inputs, loss))
    state, found = run.place(state), []
    for number in range(5):
        batches = [batch_of(2 * number), batch_of(2 * number + 1)]
        state, metrics = run.train(state, {name: np.stack([batch[name] for batch in batches]) for name in batches[0]})
        found += [float(value) for value in metrics["loss"]]
    sums = run.evaluate(state, batch_of(99))
    assert float(sums["weight"]) == 7
    return np.array([*found, float(sums["loss"]), float(state.steering.loss), *np.asarray(sums["logits"])])


assert len(jax.devices()) == 4
one = train("jit", jax.devices()[:1])
for kind in parallel.KINDS:
    four = train(kind, jax.devices())
    difference = np.max(np.abs(four - one))
    print(kind, difference)
    assert difference < DIFFERENCE, (kind, one, four)
