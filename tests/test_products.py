"""Products with rounded operands: what is rounded, and where activations stay in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhep.models.products import kept_dtype, product, rounded_product


def numbers(*shape):
    """Return normal random numbers."""
    return jnp.asarray(np.random.default_rng(len(shape)).standard_normal(shape), jnp.float32)


def rounded(x):
    """Return x rounded to bfloat16, in float64."""
    return np.asarray(x.astype(jnp.bfloat16), np.float64)


# The gradient of the second matrix is written the other way round.
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("inputs", "features"), [(40, 24), (192, 200)])
def test_operands_are_rounded_and_sums_are_not(inputs, features, transposed):
    x, gradient = numbers(3, 7, inputs), numbers(3, 7, features)
    matrix = numbers(features, inputs) if transposed else numbers(inputs, features)

    @jax.jit
    def found(x, matrix):
        y, back = jax.vjp(lambda x, matrix: product(x, matrix, jnp.bfloat16, transposed), x, matrix)
        return y, *back(gradient)

    y, of_x, of_matrix = found(x, matrix)
    assert {array.dtype for array in (y, of_x, of_matrix)} == {jnp.dtype("float32")}
    upright = matrix.T if transposed else matrix
    np.testing.assert_allclose(y, rounded(x) @ rounded(upright), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(of_x, rounded(gradient) @ rounded(upright).T, rtol=1e-4, atol=1e-4)
    wanted = np.einsum("bpc,bpf->cf", np.asarray(x, np.float64), np.asarray(gradient, np.float64))
    np.testing.assert_allclose(of_matrix, wanted.T if transposed else wanted, rtol=1e-4, atol=1e-4)


def test_members_of_an_ensemble_are_multiplied_alike():
    x, matrix = numbers(2, 32, 40), numbers(2, 40, 24)
    together = jax.jit(jax.vmap(lambda x, matrix: product(x, matrix, jnp.bfloat16)))(x, matrix)
    np.testing.assert_allclose(together, rounded(x) @ rounded(matrix), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("rows", "inputs", "features"), [(1, 64, 64), (64, 3, 64), (64, 64, 1)])
def test_small_products_are_not_rounded(rows, inputs, features):
    x, matrix = numbers(rows, inputs), numbers(inputs, features)
    wanted = np.asarray(x, np.float64) @ np.asarray(matrix, np.float64)
    np.testing.assert_allclose(product(x, matrix, jnp.bfloat16), wanted, rtol=1e-5, atol=1e-5)
    assert np.abs(rounded_product(x, matrix, 0) - wanted).max() > 1e-4


def test_what_is_asked_for_is_multiplied_in_its_own_type():
    x, matrix = numbers(32, 64), numbers(64, 32)
    np.testing.assert_array_equal(product(x, matrix, jnp.float32), x @ matrix)
    assert product(x.astype(jnp.bfloat16), matrix, jnp.bfloat16).dtype == jnp.bfloat16


@pytest.mark.parametrize("formulation", ["auto", "one step", "cpu", "gram"])
def test_a_cpu_keeps_activations_in_float32(formulation):
    assert kept_dtype(jnp.bfloat16, formulation) == jnp.float32
    assert kept_dtype(jnp.float64, formulation) == jnp.float64


@pytest.mark.parametrize("formulation", ["accelerator", "direct", "plain"])
def test_other_formulations_keep_what_was_asked_for(formulation):
    assert kept_dtype(jnp.bfloat16, formulation) == jnp.bfloat16


def test_an_accelerator_keeps_what_was_asked_for(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert kept_dtype(jnp.bfloat16, "auto") == jnp.bfloat16
