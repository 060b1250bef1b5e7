"""PointNet's layer in half precision: its passes in plain form are the layer's mathematics, and kernels of our own agree."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import QUICK

from benchmarks import compiled, targets
from jaxhep import session
from jaxhep.detectors import detector_of
from jaxhep.kernels import choose, point_layer, point_operations
from jaxhep.kernels.point_layer_by_passes import by_passes
from jaxhep.kernels.point_operations import Passes
from jaxhep.kernels.points_by_mosaic import PASSES as MOSAIC
from jaxhep.kernels.points_by_triton import PASSES as TRITON

HALF = jnp.bfloat16
OWN = [
    pytest.param(passes, name, id=f"{platform} {name}")
    for platform, passes in (("gpu", TRITON), ("tpu", MOSAIC))
    for name in Passes._fields
    if getattr(passes, name) is not getattr(Passes(), name)
]
LAYER = by_passes(Passes(), point_layer.by_covariance(jnp.matmul, point_layer.at_once))


def arrays(events=3, points=70, inputs=20, features=150):
    """What passes take, by name: real points of one event are few, and the second input is nowhere zero."""
    random = np.random.default_rng(events + features)

    def normal(*shape, dtype=np.float32, scale=1.0):
        return jnp.asarray(random.normal(0, scale, shape), dtype)

    x = normal(events, points, inputs, dtype=HALF).at[..., 1].add(3)
    weight = jnp.asarray(
        np.arange(points)[None] < np.array([points, *[points // 2] * (events - 1)])[:, None], jnp.float32
    )
    x = jnp.where(weight[..., None] > 0, x, x[:, :1])  # padding repeats a real point
    kernel = normal(inputs, features, scale=inputs**-0.5)
    vectors = {name: normal(features, scale=0.3) for name in ("offset", "shift", "of_mean", "of_variance")}
    found = {"x": x, "weight": weight, "kernel": kernel, "scale": 1 + normal(features, scale=0.1), **vectors}
    found |= {"matrix": kernel.astype(HALF), "turned": kernel.astype(HALF).T, "number": jnp.sum(weight)}
    found |= {"of_y": normal(events, points, features, dtype=HALF), "of_largest": normal(events, features)}
    found |= {"of_squares": normal(inputs, inputs, dtype=HALF, scale=0.1), "of_sums": normal(inputs)}
    (found["sums"],) = point_operations.moments(x, weight)
    found["mean"], found["variance"] = point_operations.fold(
        *(found[name] for name in ("sums", "number", "kernel", "scale", "shift"))
    )[-2:]
    found["place"] = point_operations.largest(x, found["matrix"])[1]
    (found["given"],) = point_operations.winners_matrix_gradient(x, found["place"], found["of_largest"])
    return found


def taken(name):
    code = getattr(point_operations, name).__code__
    return [argument for argument in code.co_varnames[: code.co_argcount] if argument != "relu"]


@pytest.mark.parametrize("shape", [{}, {"events": 5, "points": 13, "inputs": 16, "features": 24}], ids=["odd", "small"])
@pytest.mark.parametrize(("passes", "name"), OWN)
def test_own_kernels_give_what_the_plain_pass_gives(passes, name, shape):
    given = [arrays(**shape)[each] for each in taken(name)]
    for chosen in (
        ({"relu": True}, {"relu": False}) if name in ("values", "matrix_gradient", "input_gradient") else ({},)
    ):
        plain, own = (partial(getattr(form, name), **chosen) for form in (Passes(), passes))
        for ours, theirs in zip(jax.jit(own)(*given), plain(*given), strict=True):
            assert ours.dtype == theirs.dtype
            largest = float(jnp.abs(theirs.astype(jnp.float32)).max())
            # Half precision has 8 digits, and what adds up to nearly zero has lost some more.
            tolerance = 0.01 if ours.dtype == HALF or name.startswith("winners") else 2e-5
            np.testing.assert_allclose(
                ours.astype(jnp.float32), theirs.astype(jnp.float32), atol=tolerance * max(largest, 1)
            )


@pytest.mark.parametrize("passes", [TRITON, MOSAIC], ids=["gpu", "tpu"])
def test_the_first_of_equal_points_wins_and_what_is_no_number_shows(passes):
    x = jnp.zeros((2, 9, 4), HALF).at[0, 3:7].set(1).at[1, 5].set(jnp.nan)
    most, place = jax.jit(passes.largest)(x, jnp.ones((4, 17), HALF))
    assert (np.asarray(most[0]) == 4).all()
    assert (np.asarray(place[0]) == 3).all()
    assert not np.isfinite(np.asarray(most[1])).any()
    assert ((np.asarray(place[1]) >= 0) & (np.asarray(place[1]) < 9)).all()


def result_and_gradients(layer, given, pool, relu, known, dtype):
    def loss(x, kernel, scale, shift):
        y, mean, variance = layer(x, given["weight"], kernel, scale, shift, known, dtype, pool, None, relu)
        y = y.astype(jnp.float32)
        return jnp.sum(y * (0.5 + jnp.cos(jnp.arange(y.size))).reshape(y.shape)) + jnp.sum(mean - 2 * variance), (
            y,
            mean,
            variance,
        )

    taken = (given[name] for name in ("x", "kernel", "scale", "shift"))
    run = jax.jit(jax.value_and_grad(loss, (0, 1, 2, 3), has_aux=True), compiler_options=QUICK)
    (_, found), gradients = run(*taken)
    return *found, *gradients


@pytest.mark.parametrize("statistics", ["of the batch", "known"])
@pytest.mark.parametrize(("pool", "relu"), [(False, False), (True, False), (True, True)])
def test_the_layer_by_passes_is_the_layer(pool, relu, statistics):
    given = arrays(events=5, points=13, inputs=16, features=23)  # no two points so near that rounding chooses
    known = None if statistics == "of the batch" else (given["offset"], given["scale"])
    ours = result_and_gradients(LAYER, given, pool, relu, known, HALF)
    wide = given | {"x": given["x"].astype(jnp.float32)}
    theirs = result_and_gradients(point_layer.point_layer, wide, pool, relu, known, jnp.float32)
    for a, b in zip(ours, theirs, strict=True):
        a, b = (np.asarray(value, np.float32).ravel() for value in (a, b))
        assert np.linalg.norm(a - b) <= 0.01 * np.linalg.norm(b)


def test_members_have_passes_of_their_own():
    first, second = (
        arrays(events=3, points=13, inputs=16, features=24),
        arrays(events=3, points=13, inputs=16, features=24),
    )
    second = {name: value[..., ::-1] if value.ndim == 2 else value for name, value in second.items()}
    pairs = [jnp.stack([first[name], second[name]]) for name in ("x", "matrix")]
    for passes in (TRITON, MOSAIC):
        together = jax.jit(jax.vmap(passes.largest))(*pairs)
        for member, given in enumerate((first, second)):
            for ours, theirs in zip(together, passes.largest(given["x"], given["matrix"]), strict=True):
                np.testing.assert_array_equal(ours[member], theirs)


def test_own_kernels_are_for_accelerators_and_can_be_left_out():
    for platform in ("gpu", "tpu"):
        assert choose(platform).point_layer is choose(platform, 4, 2).point_layer
        assert choose(platform).point_layer is not choose(platform, own_kernels=False).point_layer
    assert choose("cpu") == choose("cpu", own_kernels=False)


@pytest.mark.parametrize(("kernels", "own"), [("auto", True), ("xla", False)])
def test_a_field_leaves_out_kernels_of_our_own(kernels, own, vertex_config):
    vertex_config.train.kernels, vertex_config.model.dtype = kernels, "bfloat16"
    task = detector_of(vertex_config).task(vertex_config)
    network = session.build_network(vertex_config, task, {"scaling": None}, "gpu")
    state = jax.eval_shape(network.init, 0)
    assert ("pallas_call" in str(jax.make_jaxpr(network.score_step)(state, task.example(2)))) is own


NEEDS = [
    pytest.param(name, marks=pytest.mark.skipif(bool(targets.why_not(name)), reason=targets.why_not(name)))
    for name in ("h100", "v5e")
]


@pytest.mark.compiles
@pytest.mark.slow
@pytest.mark.parametrize("options", [{"members": 2}, {"devices": 4}, {"devices": 4, "parallel": "pmap"}])
@pytest.mark.parametrize("target", NEEDS)
def test_kernels_of_our_own_compile_and_devices_keep_their_events(target, options):
    widths = {
        "point_widths": (16, 24, 136),
        "transform_widths": (16, 24, 136),
        "head_widths": (16, 8),
    }  # no powers of two
    text = ["--models", "pointnet", "--targets", target, "--batch", "8", "--points", "70", "--dtype", "bfloat16"]
    cell = next(compiled.choices(compiled.parser().parse_args([*text, "--modes", "train"]))) | {"settings": widths}
    found = compiled.compile_cell(cell | options, 500)
    assert "failed" not in found, found["failed"]
    assert found["kernels_by_kind"]["our own (Pallas)"] >= 6
    if "devices" in options:
        assert set(found["collectives"]) == {"all-reduce"}
