"""What a vertex network is asked: spacepoints of a batch -> its input, loss and prediction in mm, inside the compiled step.

Axes: B batch, S stored points, P points that the network sees, D predicted coordinates (1: z; 3: x, y, z).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxhep.alpha_g import features
from jaxhep.alpha_g.config import TARGETS
from jaxhep.alpha_g.features import CODES_PER_MM
from jaxhep.alpha_g.geometry import HALF_LENGTH_MM
from jaxhep.alpha_g.samples import build_selection
from jaxhep.errors import BadInput, one_of
from jaxhep.losses import LOG_WIDTH_RANGE, RESIDUAL_LOSSES, WIDTH_LOSSES
from jaxhep.models import POINTS
from jaxhep.steps import Augment, Batch, Loss
from jaxhep.task import Task

PADDINGS = ("repeat", "mask")
CENTRES = ("mean", "none")


def build(config: ConfigDict) -> Task:
    """Return the task of a config. Raises BadInput where inputs, augmentation, target or loss make no sense."""
    check(config)
    coordinates = len(TARGETS[config.target])
    widths = coordinates if config.loss.kind in WIDTH_LOSSES else 0
    return Task(
        networks=POINTS,
        columns=("points", "count"),
        targets=("vertex", "label"),
        input_shape=(config.inputs.points, 3),
        example=partial(example, config),
        inputs=lambda scaling: build_inputs(config),
        loss=partial(build_loss, config),
        metric=build_metric(config),
        metric_name="absolute_error",
        metric_label="Mean |residual| [mm]",
        decode=build_decode(config),
        augment=build_augment(config),
        arguments={"outputs": coordinates + widths, "z_output": coordinates - 1},
        check_columns=partial(check_columns, config),
        encode=partial(encode, config),
    )


def check(config: ConfigDict) -> None:
    """Raise BadInput where inputs, augmentation, target or loss make no sense."""
    chosen = config.inputs
    one_of(config.target, TARGETS, "config.target")
    one_of(chosen.padding, PADDINGS, "config.inputs.padding")
    one_of(chosen.centre, CENTRES, "config.inputs.centre")
    one_of(config.loss.kind, (*RESIDUAL_LOSSES, *WIDTH_LOSSES), "config.loss.kind")
    if not 1 <= chosen.points <= config.data.stored_points:
        raise BadInput(
            f"config.inputs.points is {chosen.points}, wanted 1 to the {config.data.stored_points} of config.data.stored_points"
        )
    for name, value in (
        ("inputs.unit_mm", chosen.unit_mm),
        ("loss.delta_mm", config.loss.delta_mm),
        ("loss.width_mm", config.loss.width_mm),
    ):
        if not value > 0:
            raise BadInput(f"config.{name} is {value}, wanted a positive length in mm")
    if not 0 <= config.augment.shift_z_mm <= 2 * HALF_LENGTH_MM:
        raise BadInput(f"config.augment.shift_z_mm is {config.augment.shift_z_mm}, wanted 0 to {2 * HALF_LENGTH_MM:g}")


def check_columns(config: ConfigDict, columns: Mapping[str, np.ndarray]) -> None:
    """Raise BadInput where the prepared columns lack what the network is to predict or has too few points."""
    if columns["points"].shape[1] < config.inputs.points:
        raise BadInput(
            f"config.inputs.points is {config.inputs.points}, the prepared data hold {columns['points'].shape[1]} of an event"
        )
    if len(columns["vertex"]) and not np.isfinite(columns["vertex"][:1024][:, np.array(TARGETS[config.target])]).all():
        raise BadInput(f"config.target is {config.target!r}, but the data hold the true z alone; use config.target=z")


def example(config: ConfigDict, events: int) -> Batch:
    """Return an empty batch of the right shapes, for initialising and compiling."""
    points = jnp.zeros((events, config.data.stored_points, 3), jnp.int16)
    vertex, one = jnp.zeros((events, 3), jnp.float32), jnp.ones(events, jnp.uint16)
    return {"points": points, "count": one, "vertex": vertex, "label": one.astype(jnp.uint8)}


def encode(config: ConfigDict, points: Sequence[np.ndarray], amplitude: Sequence[np.ndarray] | None = None) -> Batch:
    """Return columns of N events: points, each (n, 3) in config.data.unit, and the amplitudes (n,) that order them.

    The cuts and the order are those of the files that the network was trained on. Raises BadInput for other shapes, for
    coordinates that are not finite or in another unit, and for an event without any point in the gas.
    """
    events = [np.asarray(event, np.float32) for event in points]
    for number, event in enumerate(events):
        if event.ndim != 2 or event.shape[1] != 3:
            raise BadInput(f"points of event {number} have shape {event.shape}, wanted (points, 3)")
    if amplitude is not None and [len(values) for values in amplitude] != [len(event) for event in events]:
        raise BadInput("amplitude has other lengths than points, wanted one value for each point")
    strength = None if amplitude is None else [np.asarray(values, np.float32) for values in amplitude]
    return features.encode_points(events, strength, build_selection(config))


def in_mm(batch: Batch) -> jax.Array:
    """Return the points (B, S, 3) in mm, float32, of a batch as stored or as augmented."""
    points = batch["points"]
    return points / jnp.float32(CODES_PER_MM) if points.dtype == jnp.int16 else points


def choose_points(config: ConfigDict, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Return P points (B, P, 3) in mm and which of them are real (B, P); the others repeat real ones.

    The first P; or, of a network that was trained on random choices, P spread evenly over all.
    """
    wanted = config.inputs.points
    number, points = jnp.arange(wanted), in_mm(batch)
    stored = batch["count"].astype(jnp.int32)[:, None]
    count = jnp.clip(stored, 1, wanted)
    taken = number % count
    if config.augment.choose and points.shape[1] > wanted:  # not chosen yet
        taken = jnp.where(stored > wanted, number * stored // wanted, taken)
    return jnp.take_along_axis(points, taken[..., None], axis=1), number < count


def centre_of(config: ConfigDict, points: jax.Array, real: jax.Array) -> jax.Array:
    """Return the z (B,) in mm that is subtracted from points and target: the mean of the real points, or zero."""
    if config.inputs.centre == "none":
        return jnp.zeros(len(points))
    return jnp.sum(jnp.where(real, points[..., 2], 0), axis=1) / jnp.sum(real, axis=1)


def build_inputs(config: ConfigDict) -> Callable[[Batch], Any]:
    """Return batch -> points (B, P, 3) over `unit_mm`, with the mask of real ones (B, P) where padding is masked."""

    def inputs(batch: Batch):
        points, real = choose_points(config, batch)
        centred = points.at[..., 2].add(-centre_of(config, points, real)[:, None]) / config.inputs.unit_mm
        return (centred, real) if config.inputs.padding == "mask" else centred

    return inputs


def build_augment(config: ConfigDict) -> Augment | None:
    """Return (key, batch) -> batch changed as nature might have made it, truth included; None where nothing is asked.

    Rotation about z and reflections are symmetries of detector and annihilation (a mirror turns the two charges into
    each other, of which there are as many); the shift along z keeps all points between the detector's ends; the
    random choice of points takes others than the first P.
    """
    chosen = config.augment
    if not (chosen.rotate or chosen.reflect or chosen.shift_z_mm or chosen.choose):
        return None

    def augment(key: jax.Array, batch: Batch) -> Batch:
        points, vertex = in_mm(batch), batch["vertex"]
        events, stored = points.shape[:2]
        turn_key, mirror_key, shift_key, choose_key = jax.random.split(key, 4)
        if chosen.rotate:
            angle = jax.random.uniform(turn_key, (events,), maxval=2 * np.pi)
            points, vertex = rotated(points, angle[:, None]), rotated(vertex, angle)
        if chosen.reflect:  # x and z each with probability one half; y follows by rotation
            sign = jnp.where(jax.random.bernoulli(mirror_key, shape=(events, 3)), 1.0, -1.0).at[:, 1].set(1.0)
            points, vertex = points * sign[:, None], vertex * sign
        real = jnp.arange(stored) < batch["count"].astype(jnp.int32)[:, None]
        if chosen.shift_z_mm:
            z = points[..., 2]
            down = jnp.min(jnp.where(real, z, jnp.inf), axis=1) + HALF_LENGTH_MM
            up = HALF_LENGTH_MM - jnp.max(jnp.where(real, z, -jnp.inf), axis=1)
            limit = jnp.clip(jnp.stack([down, up]), 0, chosen.shift_z_mm)
            shift = jax.random.uniform(shift_key, (events,)) * (limit[0] + limit[1]) - limit[0]
            points, vertex = points.at[..., 2].add(shift[:, None]), vertex.at[:, 2].add(shift)
        if chosen.choose:
            order = jnp.argsort(jnp.where(real, jax.random.uniform(choose_key, (events, stored)), 2.0), axis=1)
            points = jnp.take_along_axis(points, order[:, : config.inputs.points, None], axis=1)
        return batch | {"points": points, "vertex": vertex}

    return augment


def rotated(xyz: jax.Array, angle: jax.Array) -> jax.Array:
    """Return coordinates (..., 3) turned about z by an angle (...) in rad."""
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    x, y, z = xyz[..., 0], xyz[..., 1], xyz[..., 2]
    return jnp.stack([cosine * x - sine * y, sine * x + cosine * y, z], axis=-1)


def build_decode(config: ConfigDict) -> Callable[[jax.Array, Batch], jax.Array]:
    """Return (outputs (B, D or 2 D), batch) -> predicted coordinates and, where there are any, widths, all in mm."""
    coordinates = len(TARGETS[config.target])

    def predict(outputs: jax.Array, batch: Batch) -> jax.Array:
        value = outputs[:, :coordinates] * config.inputs.unit_mm
        value = value.at[:, -1].add(centre_of(config, *choose_points(config, batch)))
        if outputs.shape[1] == coordinates:
            return value
        return jnp.concatenate(
            [value, jnp.exp(jnp.clip(_log_width(config, outputs[:, coordinates:]), *LOG_WIDTH_RANGE))], axis=1
        )

    return predict


def _log_width(config: ConfigDict, outputs: jax.Array) -> jax.Array:
    """Return the logarithm of the width in mm: a network that says nothing yet gives `config.loss.width_mm`."""
    return outputs + np.log(config.loss.width_mm)


def _residual(config: ConfigDict, outputs: jax.Array, batch: Batch) -> jax.Array:
    """Return prediction minus truth (B, D) in mm."""
    columns = TARGETS[config.target]
    return build_decode(config)(outputs, batch)[:, : len(columns)] - batch["vertex"][:, np.array(columns)]


def build_loss(config: ConfigDict, facts: dict[str, Any]) -> Loss:
    """Return (outputs, batch) -> loss per event (B,), of residuals in mm."""
    kind, coordinates = config.loss.kind, len(TARGETS[config.target])

    def loss(outputs: jax.Array, batch: Batch) -> jax.Array:
        residual = _residual(config, outputs, batch)
        if kind in WIDTH_LOSSES:
            return WIDTH_LOSSES[kind](residual, _log_width(config, outputs[:, coordinates:]))
        if kind == "huber":
            return RESIDUAL_LOSSES[kind](residual, config.loss.delta_mm)
        return RESIDUAL_LOSSES[kind](residual)

    return loss


def build_metric(config: ConfigDict) -> Loss:
    """Return (outputs, batch) -> mean absolute residual of each event (B,) in mm."""
    return lambda outputs, batch: jnp.mean(jnp.abs(_residual(config, outputs, batch)), axis=1)
