"""PointNet equals the PyTorch baseline: values, gradients and running statistics, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import QUICK

torch = pytest.importorskip("torch", reason="the PyTorch baseline needs torch")

import benchmarks.pytorch_baseline as baseline  # noqa: E402
from benchmarks.pytorch_baseline.weights import state_dict  # noqa: E402
from jaxhep.kernels import Kernels, choose  # noqa: E402
from jaxhep.models import MODELS, trainable_parameters  # noqa: E402

NARROW = {"point_widths": (6, 9, 14), "transform_widths": (5, 8, 12), "head_widths": (10, 7)}
SHIFTED = {**NARROW, "z_shift": True, "outputs": 3, "z_output": 2}
TWO_LAYERS = {**NARROW, "point_widths": (4, 11), "outputs": 2, "z_output": 1}


@pytest.fixture(autouse=True)
def float64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def pair(options: dict, **torch_options):
    """The Flax network, variables without zeros or ones, and the PyTorch network with the same weights."""
    model = MODELS["pointnet"](dtype=jnp.float64, param_dtype=jnp.float64, kernels=choose("cpu"), **options)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((2, 4, 3))))
    random = np.random.default_rng(1)

    def value(path, leaf):
        if leaf.ndim == 2:
            return random.normal(0, leaf.shape[0] ** -0.5, leaf.shape)
        return random.normal(1.0 if path[-1].key in ("norm_scale", "var") else 0.0, 0.2, leaf.shape)

    variables = jax.tree_util.tree_map_with_path(value, shapes)
    reference = baseline.MODELS["pointnet"](**options, **torch_options).double()
    missing, unexpected = reference.load_state_dict(state_dict(variables, "pointnet"), strict=False)
    assert not unexpected
    assert all(path.endswith("num_batches_tracked") for path in missing)
    return model, variables, reference


def events(batch: int, points: int):
    """Points (B, P, 3) without equal values, of the order of one."""
    return np.random.default_rng(3).normal(0, 1.5, (batch, points, 3))


def assert_close(ours, theirs, scale: float = 1.0):
    assert np.max(np.abs(np.asarray(ours) - np.asarray(theirs))) <= 1e-9 * scale


CASES = {"cpu with shift": (SHIFTED, True, choose("cpu")), "plain, two shared layers": (TWO_LAYERS, False, Kernels())}


@pytest.mark.parametrize("case", CASES)
def test_training_step_equals_pytorch(case):
    options, rows, kernels = CASES[case]
    model, variables, reference = pair(options, rows=rows)
    model = model.clone(kernels=kernels)
    batch, number = 5, 7
    x = events(batch, number)
    target = np.random.default_rng(4).normal(0, 2, (batch, model.outputs))

    def loss(params, x):
        values, changed = model.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
        off = jnp.abs(values - target)
        return jnp.mean(jnp.where(off < 1, off**2 / 2, off - 0.5)), (values, changed)

    run = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True), compiler_options=QUICK)
    (_, (values, changed)), (gradients, by_points) = run(variables["params"], x)

    reference.train()
    points = torch.from_numpy(x).requires_grad_()
    expected = reference(points)
    torch.nn.functional.huber_loss(expected, torch.from_numpy(target)).backward()
    assert values.dtype == jnp.float64
    assert_close(values, expected.detach())
    assert_close(by_points, points.grad)
    assert np.abs(by_points).max() > 1e-4
    translated = state_dict({"params": gradients}, "pointnet")
    wanted = {path: parameter.grad for path, parameter in reference.named_parameters()}
    assert translated.keys() == wanted.keys()
    for path, gradient in translated.items():
        assert_close(gradient, wanted[path])

    # PyTorch keeps the unbiased variance: n / (n - 1) of ours, n being rows of points, or events after the maximum.
    before, after = (state_dict({"params": {}, **each}, "pointnet") for each in (variables, changed))
    for path, value in after.items():
        if path.endswith("running_var"):
            n = batch if ".dense." in path else batch * number
            value = 0.9 * before[path] + (value - 0.9 * before[path]) * n / (n - 1)
        assert_close(value, reference.state_dict()[path])


def test_inference_equals_pytorch_at_full_size():
    model, variables, reference = pair({"z_shift": True})
    assert sum(value.numel() for value in reference.parameters()) == trainable_parameters(variables["params"])
    x = events(2, 20)
    values = jax.jit(model.apply, compiler_options=QUICK)(variables, x)
    reference.eval()
    with torch.no_grad():
        expected = reference(torch.from_numpy(x))
    assert_close(values, expected, float(expected.abs().max()))
