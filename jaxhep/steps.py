"""Optimiser, state, training and evaluation step: pure functions over a NamedTuple of arrays.

Nothing here knows about files, devices or configurations, so the step can be benchmarked where grain, uproot and
orbax are missing. A batch is a dict with `label` (B,) and whatever the experiment's `inputs` function reads.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxhep.errors import BadInput
from jaxhep.losses import weighted_sums

Batch = dict[str, Any]  # of arrays, NumPy's or JAX's
Inputs = Callable[[Batch], jax.Array]
Loss = Callable[[jax.Array, Batch], jax.Array]


class Steering(NamedTuple):
    """What steers training from one epoch to the next; saved with the state, so a restart changes nothing."""

    plateau_scale: jax.Array  # factor on the learning rate, lowered when the validation loss stands still
    plateau_epochs: jax.Array  # epochs without improvement as the plateau schedule counts them
    best: jax.Array  # lowest validation loss so far
    stale_epochs: jax.Array  # epochs without improvement as early stopping counts them
    loss: jax.Array  # sum over the steps of this epoch
    accuracy: jax.Array  # sum over the steps of this epoch
    steps: jax.Array  # steps summed


class State(NamedTuple):
    """Everything that changes during training; `step` is the only cursor into the data."""

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    average: Any  # exponential moving average of params, or () where none is kept
    steering: Steering


def fresh_steering() -> Steering:
    """Return the steering of a run that has not begun."""
    # Arrays of their own, none shared: a donated state must not hold one buffer twice.
    values = {"plateau_scale": 1.0, "best": float("inf")}
    counts = ("plateau_epochs", "stale_epochs")
    return Steering(
        *(jnp.full((), values.get(name, 0), jnp.int32 if name in counts else jnp.float32) for name in Steering._fields)
    )


def build_optimiser(weight_decay: float = 0.0, clip_norm: float = 0.0) -> optax.GradientTransformation:
    """Return Adam without its learning rate, which the step applies, as it may depend on the state.

    `clip_norm` > 0 clips the global gradient norm first; `weight_decay` > 0 is decoupled (AdamW).
    """
    parts = [optax.clip_by_global_norm(clip_norm)] if clip_norm > 0 else []
    parts.append(optax.scale_by_adam())
    if weight_decay > 0:
        parts.append(optax.add_decayed_weights(weight_decay))
    return optax.chain(*parts)


def init_state(
    model,
    optimiser: optax.GradientTransformation,
    inputs: Inputs,
    batch: Batch,
    seed: int,
    average: bool = False,
) -> State:
    """Return the state before the first step; `batch` gives shapes only."""
    variables = model.init(jax.random.key(seed), inputs(batch), train=False)
    params = variables["params"]
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimiser.init(params),
        average=jax.tree.map(jnp.copy, params) if average else (),
        steering=fresh_steering(),
    )


def make_train_step(
    model,
    optimiser: optax.GradientTransformation,
    inputs: Inputs,
    loss: Loss,
    learning_rate: Callable[[jax.Array], jax.Array],
    seed: int = 0,
    average_decay: float = 0.0,
    axis_name: str | None = None,
) -> Callable[[State, Batch], tuple[State, dict[str, jax.Array]]]:
    """Return the pure step (state, batch) -> (state, metrics), all metrics scalars.

    `loss(logits, batch)` gives one value per event; `learning_rate(step)` the rate before the plateau's factor.
    With `axis_name` (pmap) gradients and metrics are averaged over devices; under jit over a mesh the same mean
    follows from the shardings. Randomness (dropout) is fold_in(key(seed), step): a restart repeats it.
    """

    def train_step(state: State, batch: Batch):
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))

        def objective(params):
            logits, updated = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                inputs(batch),
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
            return jnp.mean(loss(logits, batch)), (logits, updated.get("batch_stats", {}))

        (value, (logits, batch_stats)), gradients = jax.value_and_grad(objective, has_aux=True)(state.params)
        accuracy = jnp.mean((logits > 0) == (batch["label"] > 0))
        if axis_name is not None:
            gradients, value, accuracy, batch_stats = jax.lax.pmean(
                (gradients, value, accuracy, batch_stats), axis_name
            )
        updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
        rate = learning_rate(state.step) * state.steering.plateau_scale
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
        average = state.average
        if average_decay > 0:
            average = optax.incremental_update(params, state.average, 1 - average_decay)
        steering = state.steering._replace(
            loss=state.steering.loss + value,
            accuracy=state.steering.accuracy + accuracy,
            steps=state.steering.steps + 1,
        )
        metrics = {
            "loss": value,
            "accuracy": accuracy,
            "gradient_norm": _norm(gradients),
            "learning_rate": rate,
        }
        return State(state.step + 1, params, batch_stats, opt_state, average, steering), metrics

    return train_step


def _norm(tree: Any) -> jax.Array:
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))


def scan_steps(train_step: Callable) -> Callable[[State, Batch], tuple[State, dict[str, jax.Array]]]:
    """Return a step over K batches stacked on a leading axis: one dispatch, metrics of shape (K,)."""

    def train_steps(state: State, batches: Batch):
        return jax.lax.scan(train_step, state, batches)

    return train_steps


def make_eval_step(model, inputs: Inputs, loss: Loss) -> Callable[[State, Batch], dict[str, jax.Array]]:
    """Return (state, batch) -> sums of loss, correct, weight over events, and `logits` (B,).

    `batch["weight"]` is 0 for padded events. The averaged parameters are scored where an average is kept.
    """

    def eval_step(state: State, batch: Batch):
        params = state.average if state.average != () else state.params
        logits = model.apply({"params": params, "batch_stats": state.batch_stats}, inputs(batch), train=False)
        correct = (logits > 0) == (batch["label"] > 0)
        return weighted_sums(batch["weight"], loss=loss(logits, batch), correct=correct) | {"logits": logits}

    return eval_step


def end_epoch(
    steering: Steering, validation_loss: float, tolerance: float, plateau_patience: int, plateau_factor: float
) -> Steering:
    """Return the steering after an epoch's validation: counters moved, plateau factor lowered, sums cleared.

    An epoch improves when the validation loss falls by more than `tolerance` below the best so far. With
    `plateau_patience` > 0 the learning rate is multiplied by `plateau_factor` after that many epochs without one.
    """
    improved = validation_loss < float(steering.best) - tolerance
    stale = 0 if improved else int(steering.stale_epochs) + 1
    plateau = 0 if improved else int(steering.plateau_epochs) + 1
    scale = float(steering.plateau_scale)
    if 0 < plateau_patience <= plateau:
        scale, plateau = scale * plateau_factor, 0
    values = (scale, plateau, validation_loss if improved else float(steering.best), stale, 0.0, 0.0, 0.0)
    return Steering(*(jnp.asarray(v, old.dtype) for v, old in zip(values, steering, strict=True)))


def build_schedule(
    kind: str, learning_rate: float, warmup_steps: int, total_steps: int
) -> Callable[[jax.Array], jax.Array]:
    """Return step -> learning rate: "constant", "cosine" or "plateau" (constant here, lowered by the steering).

    All three rise linearly over `warmup_steps`. Raises BadInput for another name.
    """
    if kind in ("constant", "plateau"):
        after = optax.constant_schedule(learning_rate)
    elif kind == "cosine":
        after = optax.cosine_decay_schedule(learning_rate, max(total_steps - warmup_steps, 1))
    else:
        raise BadInput(f"config.train.schedule is {kind!r}; it can be 'constant', 'cosine' or 'plateau'")
    if warmup_steps == 0:
        return after
    # The first step already learns: the ramp starts at one part in warmup_steps, not at zero.
    ramp = optax.linear_schedule(learning_rate / warmup_steps, learning_rate, warmup_steps)
    return optax.join_schedules([ramp, after], [warmup_steps])
