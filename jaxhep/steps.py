"""Optimiser, state, training and evaluation step: pure functions over a NamedTuple of arrays.

Nothing here knows about files, devices, configurations or experiments, so the step can be benchmarked where grain,
uproot and orbax are missing. A batch is a dict of arrays (B, ...) that the experiment's functions read:
`inputs(batch)` gives the network's input, `loss(outputs, batch)` one value per event, `metric(outputs, batch)` the
value per event that is followed beside the loss, `augment(key, batch)` a changed training batch, `decode(outputs,
batch)` what is stored as a result.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxhep.accumulation import in_parts
from jaxhep.errors import one_of
from jaxhep.losses import is_correct, weighted_sums
from jaxhep.recompute import recomputed

Batch = dict[str, Any]  # of arrays, NumPy's or JAX's
Inputs = Callable[[Batch], Any]
Loss = Callable[[jax.Array, Batch], jax.Array]
Augment = Callable[[jax.Array, Batch], Batch]


class ScheduleState(NamedTuple):
    """What decides rate and end of training from one epoch to the next; saved, so that a restart changes nothing."""

    plateau_scale: jax.Array  # factor on the learning rate, lowered when the validation loss stands still
    plateau_epochs: jax.Array  # epochs without improvement as the plateau schedule counts them
    best: jax.Array  # lowest validation loss so far
    stale_epochs: jax.Array  # epochs without improvement as early stopping counts them
    loss: jax.Array  # sum over the steps of this epoch
    metric: jax.Array  # sum over the steps of this epoch
    steps: jax.Array  # steps summed


class State(NamedTuple):
    """Everything that changes during training; `step` is the only cursor into the data."""

    step: jax.Array
    seed: jax.Array  # of initial values, dropout and augmentation
    params: Any
    batch_stats: Any
    opt_state: Any
    average: Any  # exponential moving average of params, or () where none is kept
    schedule: ScheduleState


def unchanged(outputs: jax.Array, batch: Batch) -> jax.Array:
    """Return the outputs as they are: results that need no decoding."""
    return outputs


def fresh_schedule() -> ScheduleState:
    """Return the schedule state of a run that has not begun."""
    # Arrays of their own, none shared: a donated state must not hold one buffer twice.
    values = {"plateau_scale": 1.0, "best": float("inf")}
    counts = ("plateau_epochs", "stale_epochs")
    return ScheduleState(
        *(
            jnp.full((), values.get(name, 0), jnp.int32 if name in counts else jnp.float32)
            for name in ScheduleState._fields
        )
    )


def build_optimiser(
    weight_decay: float = 0.0, clip_norm: float = 0.0, flat: bool = False
) -> optax.GradientTransformation:
    """Return Adam without its learning rate, which the step applies, as it may depend on the state.

    `clip_norm` > 0 clips the global gradient norm first; `weight_decay` > 0 is decoupled (AdamW). `flat` updates all
    parameters as one vector: one kernel instead of one per array, the same numbers, another layout of the state.
    """
    parts = [optax.clip_by_global_norm(clip_norm)] if clip_norm > 0 else []
    parts.append(optax.scale_by_adam())
    if weight_decay > 0:
        parts.append(optax.add_decayed_weights(weight_decay))
    chain = optax.chain(*parts)
    return optax.flatten(chain) if flat else chain


def init_state(
    model: nn.Module,
    optimiser: optax.GradientTransformation,
    inputs: Inputs,
    batch: Batch,
    seed: int | jax.Array,
    average: bool = False,
) -> State:
    """Return the state before the first step; `batch` gives shapes only, `seed` may be traced."""
    variables = model.init(jax.random.key(seed), inputs(batch), train=False)
    params = variables["params"]
    return State(
        step=jnp.zeros((), jnp.int32),
        seed=jnp.asarray(seed, jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimiser.init(params),
        average=jax.tree.map(jnp.copy, params) if average else (),
        schedule=fresh_schedule(),
    )


def make_train_step(
    model: nn.Module,
    optimiser: optax.GradientTransformation,
    inputs: Inputs,
    loss: Loss,
    learning_rate: Callable[[jax.Array], jax.Array],
    average_decay: float = 0.0,
    axis_name: str | None = None,
    metric: Loss = is_correct,
    augment: Augment | None = None,
    parts: int = 1,
    recompute: str = "nothing",
) -> Callable[[State, Batch], tuple[State, dict[str, jax.Array]]]:
    """Return the pure step (state, batch) -> (state, metrics), all metrics scalars.

    `learning_rate(step)` is the rate before the plateau's factor. With `axis_name` (pmap) gradients and metrics are
    averaged over devices; under jit over a mesh the same mean follows from the shardings. Randomness (dropout,
    augmentation) is fold_in(key(state.seed), step): a restart repeats it. `parts` > 1 takes the batch in so many parts,
    see `accumulation.in_parts`; `recompute` is one of `recompute.RECOMPUTE`.
    """

    def objective(params, batch_stats, batch: Batch, key):
        outputs, updated = model.apply(
            {"params": params, "batch_stats": batch_stats},
            inputs(batch),
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        followed = jnp.mean(metric(outputs, batch))
        return jnp.mean(loss(outputs, batch)), (followed, updated.get("batch_stats", {}))

    gradient_of = in_parts(jax.value_and_grad(recomputed(objective, recompute), has_aux=True), parts)

    def train_step(state: State, batch: Batch):
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        if augment is not None:
            batch = augment(jax.random.fold_in(key, 1), batch)

        (value, (followed, batch_stats)), gradients = gradient_of(state.params, state.batch_stats, batch, key)
        if axis_name is not None:
            gradients, value, followed, batch_stats = jax.lax.pmean(
                (gradients, value, followed, batch_stats), axis_name
            )
        updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
        rate = learning_rate(state.step) * state.schedule.plateau_scale
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
        average = state.average
        if average_decay > 0:
            average = optax.incremental_update(params, state.average, 1 - average_decay)
        sums = state.schedule
        schedule = sums._replace(loss=sums.loss + value, metric=sums.metric + followed, steps=sums.steps + 1)
        metrics = {
            "loss": value,
            "metric": followed,
            "gradient_norm": _norm(gradients),
            "learning_rate": rate,
        }
        return State(state.step + 1, state.seed, params, batch_stats, opt_state, average, schedule), metrics

    return train_step


def _norm(tree: Any) -> jax.Array:
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))


def scan_steps(train_step: Callable) -> Callable[[State, Any], tuple[State, dict[str, jax.Array]]]:
    """Return a step over K batches stacked on a leading axis: one dispatch, metrics of shape (K,)."""

    def train_steps(state: State, batches: Any):
        if jax.tree.leaves(batches)[0].shape[0] > 1:
            return jax.lax.scan(train_step, state, batches)
        # One step needs no loop, and XLA's CPU convolution is several times slower inside one.
        state, metrics = train_step(state, jax.tree.map(lambda array: array[0], batches))
        return state, jax.tree.map(lambda value: value[None], metrics)

    return train_steps


def take_rows(column: jax.Array, order: jax.Array) -> jax.Array:
    """Return the rows (B, ...) of a column (N, ...) in this order (B,), or (M, B, ...) for (M, B)."""
    return column[order]


def gather_steps(train_step: Callable, take: Callable = take_rows) -> Callable:
    """Return a step (state, columns, orders) over K batches gathered on the device from columns that are kept there.

    columns: name -> (N, ...), orders: (K, B) or, with members, (K, M, B) of int32, the events of each batch. `take`
    gives the rows of one column.
    """

    def train_steps(state: State, columns: Batch, orders: jax.Array):
        def step(state: State, order: jax.Array):
            return train_step(state, {name: take(column, order) for name, column in columns.items()})

        return scan_steps(step)(state, orders)

    return train_steps


def make_eval_step(
    model: nn.Module,
    inputs: Inputs,
    loss: Loss,
    metric: Loss = is_correct,
    decode: Callable[[jax.Array, Batch], jax.Array] = unchanged,
) -> Callable[[State, Batch], dict[str, jax.Array]]:
    """Return (state, batch) -> decoded `outputs` (B, ...) and, of a batch with weights, sums over its events.

    The sums are of loss, metric and weight; `batch["weight"]` is 0 for padded events. A batch without it needs no truth.
    The averaged parameters are scored where an average is kept.
    """

    def eval_step(state: State, batch: Batch):
        params = state.average if state.average != () else state.params
        variables = {"params": params, "batch_stats": state.batch_stats}
        outputs: Any = model.apply(variables, inputs(batch), train=False)
        sums = {}
        if "weight" in batch:
            sums = weighted_sums(batch["weight"], loss=loss(outputs, batch), metric=metric(outputs, batch))
        return sums | {"outputs": decode(outputs, batch)}

    return eval_step


def end_epoch(
    schedule: ScheduleState, validation_loss: Any, tolerance: float, plateau_patience: int, plateau_factor: float
) -> ScheduleState:
    """Return the schedule state after an epoch's validation: counters moved, plateau factor lowered, sums cleared.

    An epoch improves when the validation loss falls by more than `tolerance` below the best so far. With
    `plateau_patience` > 0 the learning rate is multiplied by `plateau_factor` after that many epochs without one.
    Members of an ensemble, arrays (N,) here, each follow their own loss.
    """
    validation_loss = np.asarray(validation_loss, np.float32)
    best = np.asarray(schedule.best)
    improved = validation_loss < best - tolerance
    stale = np.where(improved, 0, np.asarray(schedule.stale_epochs) + 1)
    plateau = np.where(improved, 0, np.asarray(schedule.plateau_epochs) + 1)
    scale = np.asarray(schedule.plateau_scale)
    lowered = (plateau >= plateau_patience) & (plateau_patience > 0)
    scale, plateau = np.where(lowered, scale * plateau_factor, scale), np.where(lowered, 0, plateau)
    zeros = np.zeros_like(best)
    values = (scale, plateau, np.where(improved, validation_loss, best), stale, zeros, zeros, zeros)
    return ScheduleState(*(jnp.array(v, old.dtype) for v, old in zip(values, schedule, strict=True)))


def step_of(state: State) -> int:
    """Return the step that a state, or every member of a stacked one, is at."""
    # Of members shared among processes, each process sees its own.
    step = state.step.addressable_data(0) if isinstance(state.step, jax.Array) else state.step
    return int(np.asarray(step).reshape(-1)[0])


def build_schedule(
    kind: str, learning_rate: float, warmup_steps: int, total_steps: int
) -> Callable[[jax.Array], jax.Array]:
    """Return step -> learning rate: "constant", "cosine" or "plateau" (constant here, lowered by the schedule state).

    All three rise linearly over `warmup_steps`. Raises BadInput for another name.
    """
    if one_of(kind, ("constant", "cosine", "plateau"), "config.train.schedule") == "cosine":
        after = optax.cosine_decay_schedule(learning_rate, max(total_steps - warmup_steps, 1))
    else:
        after = optax.constant_schedule(learning_rate)
    if warmup_steps == 0:
        return after
    # The first step already learns: the ramp starts at one part in warmup_steps, not at zero.
    ramp = optax.linear_schedule(learning_rate / warmup_steps, learning_rate, warmup_steps)
    return optax.join_schedules([ramp, after], [warmup_steps])
