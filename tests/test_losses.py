"""Losses against their formulas written out, values and gradients, also where numbers are extreme."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhep import losses

LOGITS = [-1e4, -100.0, -30.0, -1.0, -1e-6, 0.0, 1e-6, 1.0, 30.0, 100.0, 1e4]


def values_and_gradients(function, values):
    return function(values), jax.vmap(jax.grad(lambda value: function(value[None])[0]))(values)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_binary_cross_entropy_is_that_of_the_textbook_to_both_tails(label, weight):
    logits = jnp.array(LOGITS)
    labels = jnp.full(len(LOGITS), label, jnp.uint8)
    value, gradient = values_and_gradients(
        lambda part: losses.binary_cross_entropy(part, labels[: len(part)], weight), logits
    )
    x = np.array(LOGITS, np.float64)
    factor, sign = (weight, -1) if label else (1.0, 1)
    np.testing.assert_allclose(value, factor * np.logaddexp(0, sign * x), rtol=1e-6, atol=1e-37)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(gradient, factor * sign / (1 + np.exp(-sign * x)), rtol=1e-5, atol=1e-37)


def test_binary_cross_entropy_equals_the_weighted_sum_of_both_softplus():
    logits = jnp.array([*LOGITS, *LOGITS])
    labels = jnp.repeat(jnp.array([0, 1], jnp.int8), len(LOGITS))

    def written_out(logits, labels):
        return 3.0 * labels * jax.nn.softplus(-logits) + (1 - labels) * jax.nn.softplus(logits)

    found, wanted = (
        jax.value_and_grad(lambda x, function=function: jnp.sum(function(x) * jnp.arange(1.0, len(logits) + 1)))(logits)
        for function in (
            lambda x: losses.binary_cross_entropy(x, labels, 3.0),
            lambda x: written_out(x, labels.astype(jnp.float32)),
        )
    )
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-6)


def test_weight_of_positives_leaves_the_type_of_the_logits():
    logits = jnp.zeros(2, jnp.bfloat16)
    assert losses.binary_cross_entropy(logits, jnp.array([0, 1]), 2.0).dtype == jnp.bfloat16


@pytest.mark.parametrize("delta", [0.5, 1.0, 20.0])
def test_huber_is_quadratic_up_to_delta_and_linear_beyond(delta):
    sizes = np.array([0, 1e-3, 0.5 * delta, np.nextafter(np.float32(delta), np.float32(0)), delta, 1.5 * delta, 1e4])
    residual = np.concatenate([sizes, -sizes]).astype(np.float32)
    value, gradient = values_and_gradients(lambda part: losses.huber(part[:, None], delta), jnp.array(residual))
    size = np.abs(residual.astype(np.float64))
    np.testing.assert_allclose(value, np.where(size <= delta, size**2 / 2, delta * (size - delta / 2)), rtol=1e-6)
    # At the joint both parts have the slope delta.
    np.testing.assert_allclose(gradient, np.clip(residual, -delta, delta), rtol=1e-6)


def test_huber_is_the_mean_over_coordinates():
    assert losses.huber(jnp.array([[1.0, -4.0, 0.0]]), 2.0)[0] == pytest.approx((0.5 + 6) / 3)


def test_cross_entropy_of_three_classes_by_hand():
    logits = jnp.log(jnp.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])) + jnp.array([[5.0], [-3.0], [0.0]])
    found = losses.cross_entropy(logits, jnp.array([0, 2, 2], jnp.uint8))
    np.testing.assert_allclose(found, -np.log([0.7, 0.1, 0.8]), rtol=1e-5)
    gradient = jax.grad(lambda x: jnp.sum(losses.cross_entropy(x, jnp.array([1, 1, 1]))))(logits)
    np.testing.assert_allclose(gradient, [[0.7, -0.8, 0.1], [0.7, -0.8, 0.1], [0.1, -0.9, 0.8]], rtol=1e-5)


def test_cross_entropy_of_extreme_logits_and_of_two_classes():
    extreme = jnp.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])
    np.testing.assert_array_equal(losses.cross_entropy(extreme, jnp.array([0, 0])), [0, 2e4])
    logits = jnp.array(LOGITS)
    both = jnp.stack([jnp.zeros_like(logits), logits], axis=-1)
    ones = jnp.ones(len(LOGITS), jnp.int32)
    np.testing.assert_allclose(
        losses.cross_entropy(both, ones), losses.binary_cross_entropy(logits, ones), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("label", [-1, 3, 255])
def test_a_label_that_is_no_class_stops_training(label):
    found = losses.cross_entropy(jnp.zeros((2, 3)), jnp.array([label, 0]))
    np.testing.assert_allclose(found, [np.nan, np.log(3)], rtol=1e-6)


def test_the_largest_logit_says_the_class():
    logits = jnp.array([[0.0, 2.0, 1.0], [0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    assert losses.is_correct_class(logits, {"label": jnp.array([1, 2, 0], jnp.uint8)}).tolist() == [True, False, True]
    assert losses.is_correct(jnp.array([2.0, -2.0]), {"label": jnp.array([1, 1])}).tolist() == [True, False]
