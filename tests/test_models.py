"""The calorimeter networks: counts, shapes, precision, initial values, and that all formulations agree."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhep.models import MODELS, summary, trainable_parameters
from jaxhep.models.attention import attention
from jaxhep.models.convolution import convolution, depthwise
from jaxhep.models.cvt import SMALL_KERNELS, CvT
from jaxhep.models.pooling import max_pool

# Networks on images of cells; PointNet has its own tests.
COUNTS = {"mlp": 192_001, "cnn": 106_317, "resnet10": 4_900_033, "resnet18": 11_170_753, "cvt": 4_895_873}
NARROW = {
    "mlp": {"hidden": (8, 4)},
    "cnn": {"filters": (2, 3, 4), "hidden": 5},
    "resnet10": {"width": 4},
    "resnet18": {"width": 4},
    "cvt": {
        "widths": (4, 6, 12),
        "heads": (1, 3, 6),
        "blocks": (1, 1, 1),
        "paddings": ((0, 0), (0, 1), (0, 0)),
    },
}


def shapes_of(model, shape):
    """Shapes of the variables, without compiling anything."""
    return jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(shape), train=False))


# These networks run once: compiling them thoroughly would take longer than running them.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def initial(model):
    """Initial variables; the hardware generator's kernels compile in a fraction of the default's time."""
    init = jax.jit(model.init, compiler_options=QUICK)
    return init(jax.random.key(0, impl="rbg"), jnp.zeros((1, 18, 72, 1)))["params"]


def count(model, shape) -> int:
    return trainable_parameters(shapes_of(model, shape)["params"])


def numbers_for(shapes, seed: int = 0):
    """Variables of the given shapes filled by numpy: much quicker than compiling the network's own initial values."""
    random = np.random.default_rng(seed)

    def fill(path, leaf):
        offset = 1.0 if path[-1].key in ("scale", "norm_scale", "var") else 0.0
        return jnp.asarray(offset + random.normal(0, 0.1, leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def test_parameter_counts_are_those_of_the_publication():
    assert {name: count(MODELS[name](), (1, 18, 72, 1)) for name in COUNTS} == COUNTS
    assert count(CvT(), (1, 18, 72, 2)) == 4_896_641
    assert count(CvT(**SMALL_KERNELS), (1, 18, 72, 2)) == 4_895_489


@pytest.mark.parametrize("cells", [9, 11, 72])
def test_small_kernels_run_on_windows_of_cells(cells):
    model = CvT(**SMALL_KERNELS)
    assert count(model, (1, 18, cells, 2)) == 4_895_489
    assert grids(model, (2, 18, cells, 2)) == [(18, cells), (9, cells), (9, cells)]


def grids(model, shape):
    """Token grids (rows, columns) of a CvT's stages."""

    def run():
        x = jnp.zeros(shape)
        variables = model.init(jax.random.key(0), x)
        return model.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])[1]["intermediates"]

    found = jax.eval_shape(run)
    maps = [found[f"stage_{stage}_norm"]["__call__"][0].shape for stage in (1, 2, 3)]
    tokens = [found[f"stage_{stage}_block_1"]["__call__"][0].shape[1] for stage in (1, 2, 3)]
    assert tokens == [rows * columns + (stage == 2) for stage, (_, rows, columns, _) in enumerate(maps)]
    return [tuple(shape[1:3]) for shape in maps]


def test_token_grids():
    assert grids(CvT(), (2, 18, 72, 1)) == [(21, 36), (21, 18), (21, 18)]


def test_summary_ends_with_the_count():
    lines = summary(MODELS["cnn"](), (1, 18, 72, 1)).splitlines()
    assert lines[-1] == "trainable parameters: 106317"
    assert any(line.startswith("convolution_2") and "1,176" in line for line in lines)
    assert summary(CvT(), (1, 18, 72, 1)).splitlines()[-1] == "trainable parameters: 4895873"


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_logits_and_parameters_are_float32(name, dtype):
    def run():
        model, x = MODELS[name](dtype=dtype), jnp.zeros((3, 18, 72, 1), jnp.float16)
        variables = model.init(jax.random.key(0), x, train=True)
        logits, changed = model.apply(variables, x, train=True, mutable=["batch_stats"])
        return variables, changed, logits

    variables, changed, logits = jax.eval_shape(run)
    assert logits.shape == (3,)
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, changed, logits))} == {jnp.dtype("float32")}


@pytest.mark.parametrize("formulation", ["auto", "direct"])
@pytest.mark.parametrize("name", COUNTS)
def test_bfloat16_is_near_float32_and_one_event_is_enough(name, formulation):
    shape = (1, 18, 24, 1)
    variables = numbers_for(shapes_of(MODELS[name](**NARROW[name]), shape))
    x = np.random.default_rng(1).exponential(1.0, (4, *shape[1:])).astype(np.float32)

    def run(x, dtype=jnp.float32):
        network = MODELS[name](**NARROW[name], dtype=dtype, formulation=formulation)
        return jax.jit(lambda x: network.apply(variables, x, train=False), compiler_options=QUICK)(x)

    logits, low = run(x), run(x, jnp.bfloat16)
    np.testing.assert_allclose(run(x[:1]), logits[:1], atol=1e-5)
    np.testing.assert_allclose(low, logits, atol=0.05 * float(jnp.abs(logits).max()))


def deviation(array) -> float:
    return float(np.std(np.asarray(array)))


def test_initial_values_are_those_of_the_originals():
    cnn = initial(MODELS["cnn"]())
    uniform = {("dense", "kernel"): 864, ("dense", "bias"): 864, ("convolution_3", "kernel"): 4 * 4 * 24}
    for (block, leaf), inputs in uniform.items():
        array = np.asarray(cnn[block][leaf])
        assert np.abs(array).max() <= inputs**-0.5
        assert deviation(array) == pytest.approx((3 * inputs) ** -0.5, rel=0.12)

    resnet = initial(MODELS["resnet10"](width=16))
    kernel = resnet["stage_3_block_1"]["convolution_2"]["kernel"]
    assert deviation(kernel) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)
    assert deviation(resnet["logit"]["kernel"]) == pytest.approx((3 * 128) ** -0.5, rel=0.2)

    cvt = initial(CvT(widths=(16, 32, 64), blocks=(1, 1, 1), heads=(1, 1, 1)))
    block = cvt["stage_3_block_1"]
    assert deviation(block["dense_1"]["kernel"]) == pytest.approx(0.02, rel=0.05)
    assert deviation(block["query"]["kernel"]) == pytest.approx(0.02, rel=0.05)
    assert deviation(cvt["class_token"]) == pytest.approx(0.02, rel=0.3)
    assert deviation(block["query"]["depthwise_kernel"]) == pytest.approx((3 * 9) ** -0.5, rel=0.15)
    assert deviation(cvt["stage_3_embedding"]["kernel"]) == pytest.approx((3 * 9 * 32) ** -0.5, rel=0.05)
    assert not np.any(block["dense_1"]["bias"])


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
def test_convolution_formulations_agree(size, window, strides, padding, monkeypatch):
    monkeypatch.setattr("jaxhep.models.convolution.CHUNK_POSITIONS", 1)  # one event at a time
    x, kernel = normal(2, *size, 3), normal(*window, 3, 4, seed=1)
    sides = ((padding, padding),) * 2 if isinstance(padding, int) else padding
    sides = (sides, sides) if isinstance(sides[0], int) else sides

    def reference(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, strides, sides, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    functions = {"reference": reference}
    for name in ("direct", "patches", "chunks", "by size", "by size, no loop"):
        functions[name] = lambda x, kernel, name=name: convolution(x, kernel, strides, padding, name)
    assert_equal_with_gradients(functions, x, kernel)


@pytest.mark.parametrize("padding", [1, 0, ((1, 0), (0, 2))])
def test_depthwise_formulations_agree(padding):
    names = ("direct", "shifts", "autodiff", "rows")
    functions = {name: lambda x, kernel, name=name: depthwise(x, kernel, padding, name) for name in names}
    assert_equal_with_gradients(functions, normal(2, 5, 7, 6), normal(3, 3, 1, 6, seed=1))


@pytest.mark.parametrize(("window", "strides", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 1)])
def test_max_pool_formulations_agree(window, strides, padding):
    functions = {
        name: lambda x, name=name: max_pool(x, (window, window), (strides, strides), padding, name)
        for name in ("direct", "cpu")
    }
    assert_equal_with_gradients(functions, normal(2, 7, 9, 3))


def test_max_pool_shows_not_a_number():
    x = normal(1, 4, 4, 1).at[0, 1, 1, 0].set(jnp.nan)
    assert np.isnan(max_pool(x, (2, 2), (2, 2), 0, "cpu")[0, 0, 0, 0])


def test_attention_kinds_agree():
    query, key, value = (normal(5, 7, 3, 4, seed=seed) for seed in range(3))
    functions = {
        kind: lambda q, k, v, kind=kind: attention(q, k, v, 0.3, kind) for kind in ("explicit", "by_head", "fused")
    }
    assert_equal_with_gradients(functions, query, key, value)


def test_wrong_choices_are_refused():
    x = jnp.zeros((1, 18, 72, 1))
    with pytest.raises(ValueError, match="formulation is 'fast'"):
        shapes_of(MODELS["cnn"](formulation="fast"), x.shape)
    with pytest.raises(ValueError, match="attention is 'linear'"):
        shapes_of(CvT(attention="linear"), x.shape)
    with pytest.raises(ValueError, match="attention_scale is"):
        shapes_of(CvT(attention_scale="token"), x.shape)
    with pytest.raises(ValueError, match="cannot be shared by 5 heads"):
        shapes_of(CvT(heads=(1, 5, 6)), x.shape)
    with pytest.raises(ValueError, match="does not fit"):
        shapes_of(CvT(paddings=((0, 0), (0, 0), (0, 0)), kernels=((20, 6), (3, 4), (3, 3))), x.shape)


def test_dropout_needs_its_key_and_changes_training_only():
    model = CvT(**NARROW["cvt"], dropout=0.5)
    variables = numbers_for(shapes_of(model, (1, 18, 24, 1)))
    x = np.random.default_rng(1).exponential(1.0, (2, 18, 24, 1)).astype(np.float32)

    @partial(jax.jit, compiler_options=QUICK)
    def run(key):
        return model.apply(variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": key})[0]

    first, second = (jax.random.key(seed, impl="rbg") for seed in (0, 1))
    assert np.array_equal(run(first), run(first))
    assert not np.array_equal(run(first), run(second))
