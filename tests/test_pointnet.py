"""PointNet: counts, that order and padding of the points do not matter, and that all kernels agree."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import QUICK

from jaxhep.kernels import Kernels, choose
from jaxhep.models import MODELS, summary, trainable_parameters
from jaxhep.models.pointnet import PointNet

NARROW = {"point_widths": (4, 9), "transform_widths": (5, 7), "head_widths": (6,)}
EVENTS, POINTS = 6, 11
COUNTS = np.array([11, 3, 8, 1, 7, 5])


KERNELS = {"cpu": choose("cpu"), "tpu": choose("tpu"), "plain": Kernels()}


def model(kernels="cpu", **options) -> PointNet:
    return PointNet(**NARROW, z_shift=True, outputs=2, z_output=1, kernels=KERNELS[kernels], **options)


def variables():
    """Variables without zeros or ones: any mix-up must show."""
    shapes = jax.eval_shape(lambda: model().init(jax.random.key(0), jnp.zeros((2, 4, 3))))
    random = np.random.default_rng(1)

    def value(path, leaf):
        if leaf.ndim == 2:
            return random.normal(0, leaf.shape[0] ** -0.5, leaf.shape).astype(np.float32)
        centre = 1.0 if path[-1].key in ("norm_scale", "var") else 0.0
        return random.normal(centre, 0.2, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(value, shapes)


def points_and_mask():
    """Points (6, 11, 3) in mm and a mask of 11, 3, 8, 1, 7, 5 real points, in no order."""
    random = np.random.default_rng(2)
    points = random.normal(0, [100, 100, 300], (EVENTS, POINTS, 3)).astype(np.float32)
    mask = np.arange(POINTS) < COUNTS[:, None]
    return points, random.permuted(mask, axis=1)


TARGET = np.random.default_rng(3).normal(0, 1, (EVENTS, 2)).astype(np.float32)


def step(network, variables, x, target):
    """((loss, (values, batch_stats)), gradients) of one training step."""

    def loss(params):
        values, changed = network.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
        return jnp.mean((values - target) ** 2), (values, changed["batch_stats"])

    return jax.value_and_grad(loss, has_aux=True)(variables["params"])


@cache
def compiled_step(kernels="cpu"):
    return jax.jit(partial(step, model(kernels)), compiler_options=QUICK)


@cache
def compiled_inference():
    return jax.jit(model().apply, compiler_options=QUICK)


def assert_same(ours, theirs, tolerance: float = 1e-5):
    """Trees equal to `tolerance` of the largest number in them."""
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(theirs))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=tolerance * max(1.0, largest))


def test_parameter_counts_are_the_published_ones():
    shape = (2, 800, 3)
    assert summary(PointNet(), shape).splitlines()[-1] == "trainable parameters: 2658369"
    assert summary(PointNet(z_shift=True), shape).splitlines()[-1] == "trainable parameters: 3459394"
    example = (jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(shape[:2], bool))
    assert summary(MODELS["pointnet"](outputs=3), example).splitlines()[-1] == "trainable parameters: 2658883"
    params = variables()["params"]
    assert trainable_parameters(params["shift"]) == 5 * 3 + 7 * 5 + 6 * 7 + 6 + 3 * (5 + 7 + 6) + 1


def test_order_of_the_points_does_not_matter():
    points, mask = points_and_mask()
    order = np.random.default_rng(4).permuted(np.tile(np.arange(POINTS), (EVENTS, 1)), axis=1)
    moved = np.take_along_axis(points, order[..., None], 1), np.take_along_axis(mask, order, 1)
    run = compiled_step()
    assert_same(run(variables(), moved, TARGET), run(variables(), (points, mask), TARGET))


@pytest.mark.parametrize("kernels", ["cpu", "plain"])
def test_what_padded_points_hold_does_not_matter(kernels):
    points, mask = points_and_mask()
    run, padding = compiled_step(kernels), ~mask[..., None]
    expected = run(variables(), (points, mask), TARGET)
    for value in (1e6, np.nan):
        filled = np.where(padding, np.float32(value), points)
        assert jax.tree.all(jax.tree.map(np.array_equal, run(variables(), (filled, mask), TARGET), expected))


def test_padding_equals_no_padding():
    points, _ = points_and_mask()
    mask = np.arange(POINTS) >= np.full((EVENTS, 1), 3)
    padded = compiled_step()(variables(), (points, mask), TARGET)
    assert_same(padded, compiled_step()(variables(), points[:, 3:], TARGET))


def test_statistics_are_those_of_the_real_points():
    points, mask = points_and_mask()
    start = variables()
    start["params"]["shift"]["values"] = {"kernel": np.zeros((6, 1), np.float32), "bias": np.zeros(1, np.float32)}
    (_, (_, statistics)), _ = compiled_step()(start, (points, mask), TARGET)
    layer, before = start["params"]["points_1"], start["batch_stats"]["points_1"]
    y = points[mask].astype(np.float64) @ layer["kernel"] + layer["bias"]
    assert len(y) == COUNTS.sum()
    np.testing.assert_allclose(statistics["points_1"]["mean"], 0.9 * before["mean"] + 0.1 * y.mean(0), rtol=1e-4)
    np.testing.assert_allclose(statistics["points_1"]["var"], 0.9 * before["var"] + 0.1 * y.var(0), rtol=1e-4)


def test_all_kernels_agree_through_ten_adam_steps():
    points, mask = points_and_mask()
    found, first = {}, {}
    for kernels in KERNELS:
        run, state, losses = compiled_step(kernels), variables(), []
        first[kernels] = run(state, (points, mask), TARGET)
        params, tree = jax.tree.flatten(state["params"])
        mean, square = [0.0] * len(params), [0.0] * len(params)
        for number in range(1, 11):
            state["params"] = jax.tree.unflatten(tree, params)
            (loss, (_, state["batch_stats"])), gradients = run(state, (points, mask), TARGET)
            losses.append(float(loss))
            for place, gradient in enumerate(map(np.asarray, jax.tree.leaves(gradients))):
                mean[place] = 0.9 * mean[place] + 0.1 * gradient
                square[place] = 0.999 * square[place] + 0.001 * gradient**2
                # The large epsilon holds still what only rounding moves, such as biases ahead of a BatchNorm.
                size = np.sqrt(square[place] / (1 - 0.999**number)) + 1e-4
                params[place] = params[place] - 0.003 * mean[place] / (1 - 0.9**number) / size
        found[kernels] = (np.array(losses), state["batch_stats"])
        assert losses[-1] < 0.98 * losses[0]
    for kernels in ("cpu", "tpu"):
        assert_same(first[kernels], first["plain"])
        assert_same(found[kernels], found["plain"], 1e-4)


def test_shift_moves_the_points_and_the_output_that_is_z():
    points, mask = points_and_mask()
    distance, along_y, along_z = np.float32(40), np.eye(3, dtype=np.float32)[1], np.eye(3, dtype=np.float32)[2]

    def values(shift, points):
        start = variables()
        start["params"]["shift"]["values"] = {"kernel": np.zeros((6, 1), np.float32), "bias": np.array([shift])}
        return compiled_inference()(start, (points, mask))

    at_rest = values(0 * distance, points)
    moved = values(distance, points + distance * along_z)
    np.testing.assert_allclose(moved - at_rest, np.tile([0, distance], (EVENTS, 1)), atol=1e-3)
    for direction in (along_y, along_z):
        assert np.abs(values(0 * distance, points + distance * direction) - at_rest).max() > 1


def test_an_ensemble_equals_its_members():
    points, mask = points_and_mask()
    one = variables()
    two = jax.tree.map(lambda a: np.flip(a, -1) if a.ndim == 1 else -a, one)
    members = [(one, (points, mask)), (two, (points[::-1] + 1, mask))]
    together = jax.jit(jax.vmap(partial(step, model()), (0, 0, None)), compiler_options=QUICK)(
        *jax.tree.map(lambda a, b: np.stack([a, b]), *members), TARGET
    )
    for number, (start, inputs) in enumerate(members):
        member = jax.tree.map(lambda a, n=number: a[n], together)
        assert_same(member, compiled_step()(start, inputs, TARGET))


@pytest.mark.parametrize("kernels", ["cpu", "plain"])
def test_devices_share_their_statistics(kernels):
    points, mask = points_and_mask()
    network = model(kernels, axis_name="devices")

    def per_device(points, mask, target):
        return jax.lax.pmean(step(network, variables(), (points, mask), target), "devices")

    split = [array.reshape(2, EVENTS // 2, *array.shape[1:]) for array in (points, mask, TARGET)]
    shared = jax.jit(jax.vmap(per_device, axis_name="devices"), compiler_options=QUICK)(*split)
    (loss, (_, statistics)), gradients = jax.tree.map(lambda a: a[0], shared)
    (expected, (_, whole)), whole_gradients = compiled_step(kernels)(variables(), (points, mask), TARGET)
    assert_same((loss, statistics, gradients), (expected, whole, whole_gradients))


def test_inference_ignores_padding_and_the_rest_of_the_batch():
    points, mask = points_and_mask()
    run = compiled_inference()
    values = run(variables(), (points, mask))
    assert values.shape == (EVENTS, 2)
    assert values.dtype == jnp.float32
    for event in (1, 4):
        alone = run(variables(), points[event, mask[event]][None])
        np.testing.assert_allclose(alone[0], values[event], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(run(variables(), (points[:, ::-1], mask[:, ::-1])), values, rtol=1e-4, atol=1e-4)
    half = jax.jit(model(dtype=jnp.bfloat16).apply, compiler_options=QUICK)(variables(), (points, mask))
    assert half.dtype == jnp.float32
    # The shift is of the order of 10: in half precision good to a hundredth of that.
    np.testing.assert_allclose(half, values, atol=0.05 * float(np.abs(values).max()))


def test_wrong_choices_are_refused():
    x = jnp.zeros((1, 4, 3))
    with pytest.raises(ValueError, match="z_output is 2"):
        jax.eval_shape(lambda: PointNet(outputs=2, z_output=2).init(jax.random.key(0), x))
