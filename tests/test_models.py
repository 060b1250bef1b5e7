"""Networks on images: counts, shapes, precision, initial values, outputs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import QUICK, SMALL_KERNELS

from jaxhep.kernels import Kernels, choose
from jaxhep.models import IMAGES, MODELS, summary, trainable_parameters
from jaxhep.models.cvt import CvT

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


@pytest.mark.parametrize("kernels", [choose("cpu", 2), choose("tpu"), Kernels()], ids=["cpu", "tpu", "plain"])
@pytest.mark.parametrize("name", COUNTS)
def test_bfloat16_is_near_float32_and_one_event_is_enough(name, kernels):
    shape = (1, 18, 24, 1)
    variables = numbers_for(shapes_of(MODELS[name](**NARROW[name]), shape))
    x = np.random.default_rng(1).exponential(1.0, (4, *shape[1:])).astype(np.float32)

    def run(x, dtype=jnp.float32):
        network = MODELS[name](**NARROW[name], dtype=dtype, kernels=kernels)
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


@pytest.mark.parametrize("name", IMAGES)
def test_several_outputs_are_logits_of_as_many_classes(name):
    shapes = shapes_of(MODELS[name](**NARROW[name], outputs=10), (2, 18, 24, 1))
    one = shapes_of(MODELS[name](**NARROW[name]), (2, 18, 24, 1))
    assert shapes["params"]["logit"]["bias"].shape == (10,)
    assert one["params"]["logit"]["bias"].shape == (1,)
    model, x = MODELS[name](**NARROW[name], outputs=10), jnp.zeros((2, 18, 24, 1))
    assert jax.eval_shape(lambda: model.apply(numbers_for(shapes), x)).shape == (2, 10)


def test_wrong_choices_are_refused():
    x = jnp.zeros((1, 18, 72, 1))
    with pytest.raises(ValueError, match="platform is 'quantum', wanted one of cpu, gpu, tpu"):
        choose("quantum")
    with pytest.raises(ValueError, match="attention_scale is"):
        shapes_of(CvT(attention_scale="token"), x.shape)
    with pytest.raises(ValueError, match="cannot be shared by 5 heads"):
        shapes_of(CvT(heads=(1, 5, 6)), x.shape)
    with pytest.raises(ValueError, match="does not fit"):
        shapes_of(CvT(paddings=((0, 0), (0, 0), (0, 0)), kernel_sizes=((20, 6), (3, 4), (3, 3))), x.shape)


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
