"""Run by test_steps in a process of its own, as the number of devices is fixed when JAX starts."""

import jax
import numpy as np

from benchmarks.scaling import collectives
from jaxhep import device_data, ensemble, losses, parallel, steps
from jaxhep.kernels import choose
from jaxhep.models import CNN, MLP, CvT, PointNet, ResNet

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


class Events:
    """A split of the events of all batches, in their order, and one more."""

    def __init__(self):
        each = [batch_of(number) for number in range(11)]
        self.columns = {name: np.concatenate([batch[name] for batch in each])[:81] for name in each[0]}
        self.events = np.arange(81)

    def __len__(self):
        return 81


def first_loss(devices, statistics_of_all, events=slice(None)):
    """Loss of the first step by pmap, with BatchNorm over the batch of all devices or of each alone."""
    chain, narrow = steps.build_optimiser(), {"stage_sizes": (1, 1), "width": 4, "kernels": choose("cpu", 2)}
    state = steps.init_state(ResNet(**narrow), chain, inputs, batch_of(0), 0)
    model = ResNet(**narrow, axis_name=parallel.AXIS if statistics_of_all else None)
    rate = steps.build_schedule("constant", 1e-3, 0, 10)
    step = steps.make_train_step(model, chain, inputs, loss, rate, axis_name=parallel.AXIS)
    run = parallel.build_parallel("pmap", devices, step, steps.make_eval_step(model, inputs, loss))
    batch = {name: values[None, events] for name, values in batch_of(0).items()}
    return float(run.train(run.place(state), batch)[1]["loss"][0])


def train(kind, devices, keep=False, parts=1):
    narrow = {"stage_sizes": (1, 1), "width": 4}
    chain = steps.build_optimiser()
    narrow["kernels"] = choose("cpu", 2)
    state = steps.init_state(ResNet(**narrow), chain, inputs, batch_of(0), 0)
    model = ResNet(**narrow, axis_name=parallel.AXIS if kind == "pmap" else None)
    axis = parallel.AXIS if kind == "pmap" else None
    rate = steps.build_schedule("constant", 1e-3, 0, 10)
    step = steps.make_train_step(model, chain, inputs, loss, rate, axis_name=axis, parts=parts)
    run = parallel.build_parallel(kind, devices, step, steps.make_eval_step(model, inputs, loss), keep=keep)
    state, found = run.place(state), []
    columns = device_data.place(Events(), ("cells", "label"), run.kept) if keep else {}
    if keep and kind == "jit":  # each device has a share of the 81 events, and three of zeros make them divide
        assert columns["cells"].addressable_shards[0].data.shape[0] == -(-81 // len(devices))
    for number in range(5):
        batches = [batch_of(2 * number), batch_of(2 * number + 1)]
        batch = {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
        if keep:
            batch = {
                "order": np.arange(16 * number, 16 * number + 16, dtype=np.int32).reshape(2, 8),
                "columns": columns,
            }
        state, metrics = run.train(state, batch)
        found += [float(value) for value in metrics["loss"]]
    sums = run.evaluate(state, batch_of(99))
    assert float(sums["weight"]) == 7
    return np.array([*found, float(sums["loss"]), float(state.schedule.loss), *np.asarray(sums["outputs"])])


def train_ensemble(kind, devices, members):
    """Losses (steps, members) and outputs of members that are shared out among devices, or each split over all."""
    chain, model, rate = (
        steps.build_optimiser(),
        MLP(hidden=(8,), kernels=choose("cpu", 2)),
        steps.build_schedule("constant", 1e-3, 0, 10),
    )
    axis = parallel.AXIS if kind == "pmap" else None
    step = ensemble.train_together(steps.make_train_step(model, chain, inputs, loss, rate, axis_name=axis), members, 0)
    score = ensemble.score_together(steps.make_eval_step(model, inputs, loss), members, 0)
    run = parallel.build_parallel(kind, devices, step, score, members)
    make = ensemble.stack(lambda seed: steps.init_state(model, chain, inputs, batch_of(0), seed), np.arange(members))
    state, found = run.place(jax.jit(make)()), []
    parameters = jax.tree.leaves(state.params)[0]
    assert len(parameters.sharding.device_set) == len(devices)
    if kind == "jit" and members % len(devices) == 0:
        assert parameters.addressable_shards[0].data.shape[0] == members // len(devices)
    for number in range(4):
        each = [batch_of(100 * member + number) for member in range(members)]
        state, metrics = run.train(state, {name: np.stack([b[name] for b in each])[None] for name in each[0]})
        found += [*np.asarray(metrics["loss"]).ravel()]
    sums = run.evaluate(state, batch_of(99))
    return np.array([*found, *np.asarray(sums["loss"]), *np.asarray(sums["outputs"]).ravel()])


def compiled_for_accelerators(model, points=False):
    """Text of a training step over all devices, in the kernels of accelerators."""

    def inputs(batch):
        return batch["cells"] if points else batch["cells"][..., None]

    def loss(outputs, batch):
        return losses.binary_cross_entropy(outputs.reshape(-1), batch["label"], 2.0)

    batch = batch_of(0)
    batch |= {"cells": batch["cells"][..., :3]} if points else {}
    chain, rate = steps.build_optimiser(), steps.build_schedule("constant", 1e-3, 0, 10)
    model = model.clone(kernels=choose("tpu"))
    like = jax.eval_shape(lambda: steps.init_state(model, chain, inputs, batch, 0))
    step = steps.make_train_step(model, chain, inputs, loss, rate)
    run = parallel.build_parallel("jit", jax.devices(), step, steps.make_eval_step(model, inputs, loss))
    return run.train.lower(like, {name: values[None] for name, values in batch.items()}).compile().as_text()


assert len(jax.devices()) == 4
narrow = {"point_widths": (4, 8), "transform_widths": (4, 8), "head_widths": (8,)}
for model, points in (
    (CvT(widths=(4, 4, 4), heads=(1, 1, 1), blocks=(1, 1, 1)), False),
    (ResNet(stage_sizes=(1, 1), width=4), False),
    (CNN(), False),
    (MLP(hidden=(8,)), False),
    (PointNet(**narrow), True),
):
    found = collectives(compiled_for_accelerators(model, points))
    print(type(model).__name__, found)
    # Each device works on its own events: only gradients and statistics are summed. PointNet's devices exchange a few
    # flags as well.
    assert found.pop("all-reduce") and set(found) <= ({"all-to-all"} if points else set()), (model, found)

one = train("jit", jax.devices()[:1])
for kind in parallel.KINDS:
    four = train(kind, jax.devices())
    difference = np.max(np.abs(four - one))
    print(kind, difference)
    assert difference < DIFFERENCE, (kind, one, four)
    kept = train(kind, jax.devices(), keep=True)
    print(kind, "data on the devices", np.max(np.abs(kept - four)))
    assert np.max(np.abs(kept - four)) < DIFFERENCE, (kind, four, kept)

one = train("jit", jax.devices()[:1], parts=2)
for kind in parallel.KINDS:
    four = train(kind, jax.devices(), parts=2)
    print(kind, "in two parts", np.max(np.abs(four - one)))
    assert np.max(np.abs(four - one)) < DIFFERENCE, (kind, one, four)

for members, kinds in ((4, ("jit",)), (3, parallel.KINDS)):
    one = train_ensemble("jit", jax.devices()[:1], members)
    for kind in kinds:
        four = train_ensemble(kind, jax.devices(), members)
        difference = np.max(np.abs(four - one))
        print(kind, members, difference)
        assert difference < DIFFERENCE, (kind, members, one, four)

alone = [first_loss(jax.devices()[:1], False, slice(2 * number, 2 * number + 2)) for number in range(4)]
each, together = first_loss(jax.devices(), False), first_loss(jax.devices(), True)
print("BatchNorm of each device", each, "of all", together)
assert abs(each - np.mean(alone)) < DIFFERENCE < abs(each - together), (each, together, alone)
