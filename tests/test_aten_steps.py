"""A step of each network in PyTorch, seen on tensors without memory: its operations, attention, autocast, scaling."""

from collections import Counter
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch", reason="the PyTorch baseline needs torch")

from torch.nn import functional  # noqa: E402

from benchmarks import aten, aten_kernels, aten_steps  # noqa: E402
from benchmarks.operations import COLUMNS, MODELS, ROWS, by_hand  # noqa: E402
from benchmarks.pytorch_baseline import MODELS as NETWORKS  # noqa: E402

POINTS = 16
# Multiply-adds an event of the first layer, whose input needs no gradient.
FIRST = {
    "mlp": 1296 * 120,
    "cnn": 1296 * 12 * 4,
    "resnet10": 9 * 36 * 64 * 49,
    "resnet18": 9 * 36 * 64 * 49,
    "cvt": 21 * 36 * 64 * 12,
    "pointnet": POINTS * 3 * 64,
}


class Listed(aten_kernels.TorchDispatchMode):
    """The names of all aten operations."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func._schema.name.split("::")[1])
        return func(*args, **(kwargs or {}))


def total(kernels):
    return sum(kernel.bytes for kernel in kernels)


def flops(kernels):
    return sum(sum(kernel.flops.values()) for kernel in kernels)


def step(model, mode="train", batch=2, dtype="bfloat16"):
    return aten_steps.counted_step(
        {"model": model, "mode": mode, "batch": batch, "dtype": dtype, "points": POINTS if model == "pointnet" else 0}
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("model", MODELS)
def test_operations_are_those_counted_by_hand(model, dtype):
    forward = flops(step(model, "infer", dtype=dtype)[0].eager)
    assert forward == pytest.approx(2 * by_hand(model, POINTS), rel=0.03)
    counter, _ = step(model, dtype=dtype)
    trained = 2 * (3 * by_hand(model, POINTS) - 2 * FIRST[model])
    # Fused attention computes its scores again in the backward pass: 2.6 % of the CvT.
    assert flops(counter.eager) == pytest.approx(trained, rel=0.03)
    assert {kind for kernel in counter.eager for kind in kernel.flops} == {"bf16" if dtype == "bfloat16" else "f32"}


def launching(names):
    """How often each operation is there, without views of the same array, attention (each device has its own) and Adam."""
    apart = ("detach", "alias", "_scaled_dot", "_fused_adam_", "_foreach_add_", "_record_function")
    return Counter(name for name in names if not name.startswith(apart))


@pytest.mark.parametrize("mode", ["train", "infer"])
@pytest.mark.parametrize("model", MODELS)
def test_operations_are_those_that_a_processor_runs(model, mode):
    of_points, batch = model == "pointnet", 2
    network = NETWORKS[model](**({"rows": True} if of_points else {})).train(mode == "train")
    x = torch.rand((batch, POINTS, 3) if of_points else (batch, 1, ROWS, COLUMNS))
    y = torch.rand((batch, 1) if of_points else (batch,))
    loss = functional.huber_loss if of_points else functional.binary_cross_entropy_with_logits
    if not of_points:
        network, x = network.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    seen = Listed()
    with seen, torch.set_grad_enabled(mode == "train"):
        outputs = network(x)
        if mode == "train":
            loss(outputs, y).backward()
    counted = step(model, mode, dtype="float32")[0].operations
    assert launching(seen.names) == launching(counted)


@pytest.mark.parametrize("model", MODELS)
def test_bytes_grow_with_the_batch_and_kernels_do_not(model):
    sizes, counts = [], set()
    for batch in (8, 16, 24):
        counter, kept = step(model, batch=batch)
        fused = aten.fuse(counter.fusible, kept)
        sizes.append((total(counter.eager), total(fused)))
        counts.add((len(counter.eager), len(fused)))
    assert len(counts) == 1
    for form in zip(*sizes, strict=True):
        first, second = (after - before for before, after in pairwise(form))
        assert first == pytest.approx(second, rel=1e-3) and first > 0
    assert all(fused < eager for eager, fused in sizes)
