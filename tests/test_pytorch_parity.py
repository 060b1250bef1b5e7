"""The calorimeter networks equal the PyTorch baseline: logits, gradients and running statistics, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import QUICK, SMALL_KERNELS

torch = pytest.importorskip("torch", reason="the PyTorch baseline needs torch")

import benchmarks.pytorch_baseline as baseline  # noqa: E402
from benchmarks.pytorch_baseline.weights import state_dict  # noqa: E402
from jaxhep.kernels import Kernels, choose  # noqa: E402
from jaxhep.models import MODELS, trainable_parameters  # noqa: E402

NARROW_CVT = {"widths": (8, 24, 48), "heads": (1, 3, 6)}
WINDOW_CVT = {**NARROW_CVT, **SMALL_KERNELS, "attention_scale": "embedding"}
TORCH_WINDOW = {name.replace("kernel_sizes", "kernels"): value for name, value in WINDOW_CVT.items()}
CASES = {
    "mlp": ("mlp", {}, {}, (18, 72, 1)),
    "mlp two channels": ("mlp", {}, {}, (18, 72, 2)),
    "cnn": ("cnn", {}, {}, (18, 72, 1)),
    "cnn two channels on a window": ("cnn", {}, {}, (18, 11, 2)),
    "resnet10": ("resnet10", {}, {}, (18, 72, 1)),
    "narrow resnet18": ("resnet18", {"width": 8}, {"width": 8}, (18, 72, 1)),
    "narrow resnet10 plain": ("resnet10", {"kernels": Kernels(), "width": 4}, {"width": 4}, (18, 72, 1)),
    "narrow cvt plain": ("cvt", {"kernels": Kernels(), **NARROW_CVT}, NARROW_CVT, (18, 72, 1)),
    "narrow cvt": ("cvt", NARROW_CVT, NARROW_CVT, (18, 72, 1)),
    "small kernels on a window": ("cvt", WINDOW_CVT, TORCH_WINDOW, (18, 9, 2)),
}


@pytest.fixture
def float64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def pair(name: str, options: dict, torch_options: dict, shape: tuple[int, int, int]):
    """The Flax network with its variables, and the PyTorch one with the same weights, both in float64."""
    model = MODELS[name](**{"dtype": jnp.float64, "param_dtype": jnp.float64, "kernels": choose("cpu"), **options})
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False))
    random = np.random.default_rng(1)

    def value(path, leaf):
        # No initial value of zero or one anywhere: any mix-up of two arrays must show.
        inputs = leaf.size // leaf.shape[-1]
        offset = 1.0 if path[-1].key in ("scale", "norm_scale", "var") else 0.0
        return offset + random.normal(0, 1 / np.sqrt(inputs) if inputs > 1 else 0.05, leaf.shape)

    variables = jax.tree_util.tree_map_with_path(value, shapes)
    reference = baseline.MODELS[name](shape=(shape[2], *shape[:2]), **torch_options).double()
    missing, unexpected = reference.load_state_dict(state_dict(variables, name, shape), strict=False)
    assert not unexpected
    assert all(path.endswith("num_batches_tracked") for path in missing)
    return model, variables, reference


def events(batch: int, shape: tuple[int, int, int]):
    """Dense positive energies (B, H, W, C) without equal values, and labels (B,)."""
    random = np.random.default_rng(3)
    return random.uniform(0.1, 2.0, (batch, *shape)), np.arange(batch) % 2.0


def assert_close(ours, theirs, scale: float):
    error = np.max(np.abs(np.asarray(ours) - np.asarray(theirs)))
    assert error <= 1e-6 * scale


@pytest.mark.parametrize("case", CASES)
def test_training_step_equals_pytorch(case, float64):
    name, options, torch_options, shape = CASES[case]
    model, variables, reference = pair(name, options, torch_options, shape)
    x, labels = events(3, shape)

    def loss(params, x):  # x is an argument: XLA would spend seconds folding it as a constant
        logits, changed = model.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
        wrong_by = jnp.logaddexp(0.0, logits) - labels * logits
        return wrong_by.mean(), (logits, changed)

    (_, (logits, changed)), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=QUICK)(
        variables["params"], x
    )

    reference.train()
    images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    output = reference(images)
    torch.nn.functional.binary_cross_entropy_with_logits(output, torch.from_numpy(labels)).backward()
    assert logits.dtype == jnp.float64
    expected = output.detach()
    assert_close(logits, expected, max(1.0, float(expected.abs().max())))

    translated = state_dict({"params": gradients}, name, shape)
    expected_gradients = {path: parameter.grad for path, parameter in reference.named_parameters()}
    assert translated.keys() == expected_gradients.keys()
    norm = float(torch.sqrt(sum((gradient**2).sum() for gradient in expected_gradients.values())))
    for path, gradient in translated.items():
        assert_close(gradient.numpy(), expected_gradients[path], norm)

    # The running variance moved to 0.9 * before + 0.1 * variance, PyTorch's variance being n/(n-1) of ours.
    before = state_dict({**variables, "params": {}}, name, shape)
    counts = values_per_channel(reference, images)
    for path, value in state_dict({"params": {}, **changed}, name, shape).items():
        expected_value = reference.state_dict()[path]
        if path.endswith("running_var"):
            n = counts[path.removesuffix(".running_var")]
            value = 0.9 * before[path] + (value - 0.9 * before[path]) * n / (n - 1)
        assert_close(value.numpy(), expected_value, max(1.0, float(expected_value.abs().max())))


def values_per_channel(reference, images) -> dict[str, int]:
    """Number of values that each BatchNorm averages for one channel."""
    counts, hooks = {}, []
    for path, module in reference.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):

            def count(module, inputs, output, path=path):
                counts[path] = inputs[0].numel() // inputs[0].shape[1]

            hooks.append(module.register_forward_hook(count))
    statistics = {path: value.clone() for path, value in reference.state_dict().items()}
    with torch.no_grad():
        reference(images)
    reference.load_state_dict(statistics)
    for hook in hooks:
        hook.remove()
    return counts


@pytest.mark.parametrize("name", [name for name in MODELS if name != "pointnet"])  # test_pointnet_parity has that
def test_inference_equals_pytorch_at_full_size(name, float64):
    shape = (18, 72, 1)
    model, variables, reference = pair(name, {}, {}, shape)
    count = sum(parameter.numel() for parameter in reference.parameters())
    assert count == trainable_parameters(variables["params"])
    x, _ = events(2, shape)
    logits = jax.jit(lambda variables, x: model.apply(variables, x, train=False), compiler_options=QUICK)(variables, x)
    reference.eval()
    with torch.no_grad():
        expected = reference(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    assert_close(logits, expected, max(1.0, float(expected.abs().max())))
