"""Every form of an operation gives what the plain one gives, values and gradients; and which is chosen where."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import QUICK

from jaxhep.kernels import (
    PLATFORMS,
    Kernels,
    attention,
    attention_by_mosaic,
    choose,
    convolution,
    depthwise,
    depthwise_by_triton,
    flat,
    max_pool,
    normalised_product,
    perceptron,
    pooled_convolutions,
    product,
)


def assert_equal_with_gradients(functions: dict, *arrays, atol: float = 2e-4):
    """All functions give the same result and the same gradients for all arrays."""

    def result_and_gradients(function):
        def weighted(*arrays):
            y = function(*arrays)
            return jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)), y

        (_, y), gradients = jax.jit(
            jax.value_and_grad(weighted, argnums=tuple(range(len(arrays))), has_aux=True),
            compiler_options=QUICK,
        )(*arrays)
        return y, *gradients

    (_, first), *others = functions.items()
    expected = result_and_gradients(first)
    for name, function in others:
        for ours, theirs in zip(result_and_gradients(function), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=atol * float(jnp.abs(theirs).max()), err_msg=name)


def normal(*shape, seed: int = 0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
    ("size", "window", "strides", "padding"),
    [
        ((6, 9), (3, 3), (1, 1), 1),
        ((5, 8), (2, 6), (1, 2), 2),
        ((6, 7), (4, 4), (1, 1), (1, 2)),
        ((7, 9), (3, 1), (2, 1), ((1, 1), (0, 0))),
        ((1, 3), (3, 3), (1, 1), 1),  # two rows of the kernel only ever see padding
        ((1, 3), (3, 3), (2, 2), 1),
        ((2, 2), (3, 3), (2, 2), 1),
        ((9, 12), (7, 7), (2, 2), 3),
        ((6, 5), (1, 1), (2, 2), 0),
    ],
)
def test_forms_of_convolution_agree(size, window, strides, padding, monkeypatch):
    monkeypatch.setattr("jaxhep.kernels.windows.CHUNK_POSITIONS", 1)  # one event at a time
    x, kernel = normal(2, *size, 3), normal(*window, 3, 4, seed=1)
    sides = ((padding, padding),) * 2 if isinstance(padding, int) else padding
    sides = (sides, sides) if isinstance(sides[0], int) else sides

    def reference(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, strides, sides, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    functions = {"reference": reference}
    forms = (convolution.convolution, convolution.of_live_cells, convolution.by_patches, convolution.by_chunks)
    for number, form in enumerate((*forms, convolution.by_size(own=True), convolution.by_size(own=False))):
        functions[str(number)] = partial(form, strides=strides, padding=padding)
    assert_equal_with_gradients(functions, x, kernel)


@pytest.mark.parametrize("padding", [1, 0, ((1, 0), (0, 2))])
def test_forms_of_depthwise_convolution_agree(padding):
    by_triton = depthwise.by_shifts_with(depthwise_by_triton.kernel_sums)  # interpreted here
    forms = {"plain": depthwise.depthwise, "shifts": depthwise.by_shifts, "triton": by_triton}
    functions = {name: partial(form, padding=padding) for name, form in forms.items()}
    assert_equal_with_gradients(functions, normal(2, 5, 7, 6), normal(3, 3, 1, 6, seed=1))


def test_sums_of_depthwise_kernels_by_triton_take_many_channels_and_members():
    x, gradient, padding = normal(3, 2, 4, 9, 70), normal(3, 2, 4, 9, 70, seed=1), ((1, 1), (1, 1))
    forms = (depthwise.kernel_sums, depthwise_by_triton.kernel_sums)
    plain, ours = (
        jax.jit(jax.vmap(lambda x, y, form=form: form(x, y, (3, 3), padding)))(x, gradient) for form in forms
    )
    assert ours.shape == (3, 9, 70)
    np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-4)
    half = (array.astype(jnp.bfloat16) for array in (x[0], gradient[0]))
    assert depthwise_by_triton.kernel_sums(*half, (3, 3), padding).dtype == jnp.float32


@pytest.mark.parametrize(("window", "strides", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 1)])
def test_forms_of_max_pool_agree(window, strides, padding):
    functions = {
        form.__name__: partial(form, window=(window, window), strides=(strides, strides), padding=padding)
        for form in (max_pool.max_pool, max_pool.by_slices)
    }
    assert_equal_with_gradients(functions, normal(2, 7, 9, 3))


def test_max_pool_shows_not_a_number():
    x = normal(1, 4, 4, 1).at[0, 1, 1, 0].set(jnp.nan)
    assert np.isnan(max_pool.by_slices(x, (2, 2), (2, 2))[0, 0, 0, 0])


def test_forms_of_flat_agree():
    functions = {form.__name__: partial(form, dtype=jnp.float32) for form in (flat.flat, flat.flat_first)}
    assert_equal_with_gradients(functions, normal(3, 4, 5, 2))
    assert flat.flat_first(normal(3, 4, 5, 2), jnp.bfloat16).dtype == jnp.bfloat16


def test_forms_of_attention_agree():
    query, key, value = (normal(5, 7, 3, 4, seed=seed) for seed in range(3))
    forms = (attention.attention, attention.by_head, attention.fused, attention.by_cudnn)
    functions = {form.__name__: partial(form, scale=0.3) for form in forms}
    assert_equal_with_gradients(functions, query, key, value)


def test_forms_of_a_normalised_product_agree():
    x, kernel = normal(2, 3, 4, 6), normal(6, 5, seed=1)
    vectors = [normal(6, seed=seed) for seed in (2, 3, 4)]
    forms = {"plain": normalised_product.normalised_product, "folded": normalised_product.folded(product.product)}
    functions = {name: partial(form, dtype=jnp.float32) for name, form in forms.items()}
    assert_equal_with_gradients(functions, x, *vectors, kernel, normal(5, seed=5))


@pytest.mark.parametrize("events_at_a_time", [3, 32])
def test_forms_of_pooled_convolutions_agree(events_at_a_time, monkeypatch):
    monkeypatch.setattr("jaxhep.kernels.pooled_convolutions.EVENTS_AT_A_TIME", events_at_a_time)
    arrays = [normal(4, 6, 9, 1), normal(2, 2, 1, 3, seed=1), normal(3, seed=2), normal(3, 3, 3, 2, seed=3), normal(2)]

    def of(form):
        return lambda x, *weights: form(x, list(zip(weights[::2], weights[1::2], strict=True)))

    forms = {platform: of(choose(platform).pooled_convolutions) for platform in PLATFORMS}
    assert_equal_with_gradients({"plain": of(pooled_convolutions.pooled_convolutions)} | forms, *arrays)


def test_forms_of_the_perceptron_agree(monkeypatch):
    monkeypatch.setattr("jaxhep.kernels.windows.CHUNK_POSITIONS", 14)  # two of the four events at a time
    shapes = ((4, 7, 6), (6,), (6,), (6, 24), (24,), (24, 6), (6,))
    arrays = [normal(*shape, seed=seed) for seed, shape in enumerate(shapes)]

    def of(form):
        return lambda tokens, a, b, c, d, e, f: form(tokens, (a, b), (c, d), (e, f), jnp.float32)

    one_array = partial(perceptron.perceptron, activated=perceptron.gelu_from_product)
    forms = (perceptron.perceptron, perceptron.by_events, one_array)
    assert_equal_with_gradients({str(form): of(form) for form in forms}, *arrays)


def test_cudnn_is_left_out_where_it_does_not_take_the_shapes():
    def takes(tokens, width, dtype=jnp.bfloat16):
        return attention.cudnn_takes(jax.ShapeDtypeStruct((2, tokens, 3, width), dtype))

    assert takes(378, 64)
    assert takes(379, 64)
    assert not takes(378, 60)
    assert not takes(378, 256)
    assert not takes(378, 64, jnp.float32)


@pytest.mark.parametrize(("queries", "keys"), [(6, 6), (7, 7), (7, 6), (6, 9)])
@pytest.mark.parametrize("together", [False, True])
def test_attention_by_cudnn_gives_odd_numbers_of_tokens_one_more_and_masks_it(queries, keys, together, monkeypatch):
    # cuDNN is not here: XLA's form takes the same arguments, and must be asked for even numbers only.
    asked = []

    def by_xla(query, key, value, implementation, **options):
        asked.append((query.shape[-3], key.shape[-3], implementation))
        return original(query, key, value, implementation="xla", **options)

    original = jax.nn.dot_product_attention
    monkeypatch.setattr(jax.nn, "dot_product_attention", by_xla)
    monkeypatch.setattr(attention, "cudnn_takes", lambda query: True)
    lead = (3,) if together else ()
    arrays = [normal(*lead, 2, tokens, 2, 8, seed=seed) for seed, tokens in enumerate((queries, keys, keys))]

    def of(form):
        def one(*arrays):
            return form(*arrays, 0.3)

        return jax.vmap(one) if together else one

    forms = (attention.attention, attention.by_cudnn)
    assert_equal_with_gradients({form.__name__: of(form) for form in forms}, *arrays)
    assert {(t % 2, s % 2, kind) for t, s, kind in asked} == {(0, 0, "cudnn")}


@pytest.mark.parametrize(("queries", "keys", "heads"), [(7, 7, 3), (8, 8, 1), (7, 12, 2)])
@pytest.mark.parametrize("together", [False, True])
def test_attention_by_mosaic_is_the_attention(queries, keys, heads, together, monkeypatch):
    lead = (3,) if together else ()
    arrays = [normal(*lead, 2, tokens, heads, 16, seed=seed) for seed, tokens in enumerate((queries, keys, keys))]

    def of(form):
        def one(query, key, value):
            return form(*(array.astype(jnp.bfloat16) for array in (query, key, value)), 0.3).astype(jnp.float32)

        return jax.vmap(one) if together else one

    forms = {"plain": of(attention.attention), "ours": of(attention_by_mosaic.by_mosaic)}  # interpreted here
    assert "pallas_call" in str(jax.make_jaxpr(forms["ours"])(*arrays))
    assert_equal_with_gradients(forms, *arrays, atol=0.03)  # of a score's 8 digits
    monkeypatch.setattr(attention_by_mosaic, "MOST_SCORES", 8)
    assert "pallas_call" not in str(jax.make_jaxpr(of(attention_by_mosaic.by_mosaic))(*arrays))


def test_what_is_chosen_follows_the_platform_given_and_what_runs_in_loops():
    found = {platform: choose(platform) for platform in PLATFORMS}
    assert found["cpu"].activation_dtype(jnp.bfloat16) == jnp.float32
    assert found["cpu"].activation_dtype(jnp.float64) == jnp.float64
    for kernels in (found["gpu"], found["tpu"], Kernels()):
        assert kernels.activation_dtype(jnp.bfloat16) == jnp.bfloat16
    assert found["gpu"].attention is attention.by_cudnn
    assert found["tpu"].attention is attention.attention
    assert choose("cpu", 4) == choose("cpu", members=2) != choose("cpu")
    assert choose("gpu", 4, 2) == choose("gpu")


def numbers(*shape):
    """Return normal random numbers."""
    return jnp.asarray(np.random.default_rng(len(shape)).standard_normal(shape), jnp.float32)


def to_bfloat16(x):
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
        y, back = jax.vjp(lambda x, matrix: product.rounded(x, matrix, jnp.bfloat16, transposed), x, matrix)
        return y, *back(gradient)

    y, of_x, of_matrix = found(x, matrix)
    assert {array.dtype for array in (y, of_x, of_matrix)} == {jnp.dtype("float32")}
    upright = matrix.T if transposed else matrix
    np.testing.assert_allclose(y, to_bfloat16(x) @ to_bfloat16(upright), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(of_x, to_bfloat16(gradient) @ to_bfloat16(upright).T, rtol=1e-4, atol=1e-4)
    wanted = np.einsum("bpc,bpf->cf", np.asarray(x, np.float64), np.asarray(gradient, np.float64))
    np.testing.assert_allclose(of_matrix, wanted.T if transposed else wanted, rtol=1e-4, atol=1e-4)


def test_members_of_an_ensemble_are_multiplied_alike():
    x, matrix = numbers(2, 32, 40), numbers(2, 40, 24)
    together = jax.jit(jax.vmap(lambda x, matrix: product.rounded(x, matrix, jnp.bfloat16)))(x, matrix)
    np.testing.assert_allclose(together, to_bfloat16(x) @ to_bfloat16(matrix), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("rows", "inputs", "features"), [(1, 64, 64), (64, 3, 64), (64, 64, 1)])
def test_small_products_are_not_rounded(rows, inputs, features):
    x, matrix = numbers(rows, inputs), numbers(inputs, features)
    wanted = np.asarray(x, np.float64) @ np.asarray(matrix, np.float64)
    np.testing.assert_allclose(product.rounded(x, matrix, jnp.bfloat16), wanted, rtol=1e-5, atol=1e-5)
    assert np.abs(product.rounded_product(x, matrix, 0) - wanted).max() > 1e-4


def test_what_is_asked_for_is_multiplied_in_its_own_type():
    x, matrix = numbers(32, 64), numbers(64, 32)
    np.testing.assert_array_equal(product.rounded(x, matrix, jnp.float32), x @ matrix)
    assert product.rounded(x.astype(jnp.bfloat16), matrix, jnp.bfloat16).dtype == jnp.bfloat16
