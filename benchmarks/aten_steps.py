"""A step of a network in plain PyTorch on tensors without memory: what `cells_torch.py` times, seen operation by operation.

Tensors are on torch's `meta` device, which knows shapes alone. It has no autocast and no fused attention: both are done
here as a GPU's would be, before the operation is dispatched.
"""

from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss
from torch.optim.adam import adam
from torch.overrides import TorchFunctionMode

from benchmarks.aten_kernels import Counter
from benchmarks.operations import COLUMNS, ROWS
from benchmarks.pytorch_baseline import MODELS

# From https://docs.pytorch.org/docs/stable/amp.html#cuda-op-specific-behavior
TO_BFLOAT16 = {"addmm", "baddbmm", "bmm", "chain_matmul", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "linear"}
TO_BFLOAT16 |= {"conv_transpose2d", "conv_transpose3d", "matmul", "__matmul__", "mm", "mv", "prelu"}
TO_BFLOAT16 |= {"scaled_dot_product_attention"}
TO_FLOAT32 = {"acos", "asin", "cosh", "cumprod", "cumsum", "dist", "erfinv", "exp", "expm1", "group_norm", "layer_norm"}
TO_FLOAT32 |= {"log", "log10", "log1p", "log2", "log_softmax", "logsumexp", "norm", "normalize", "pow", "prod", "rsqrt"}
TO_FLOAT32 |= {"reciprocal", "sinh", "softmax", "softplus", "sum", "tan"}


class AsOnGPU(TorchFunctionMode):
    """Autocast's casts, and attention in one operation.

    Autocast keeps the cast of a weight for later uses; here each weight has one use in a step, and is cast there.
    """

    def __init__(self, half: bool) -> None:
        super().__init__()
        self.half = half

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        """Cast the arguments as autocast would."""
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        wanted = torch.bfloat16 if name in TO_BFLOAT16 else torch.float32 if name in TO_FLOAT32 else None
        if self.half and wanted:
            args = tuple(cast(arg, wanted) for arg in args)
            kwargs = {key: cast(value, wanted) for key, value in kwargs.items()}
        if name == "scaled_dot_product_attention":
            return attention(*args, **kwargs)
        return func(*args, **kwargs)


def cast(value: Any, wanted: torch.dtype) -> Any:
    """Return a floating-point tensor in a type, anything else as it is."""
    return value.to(wanted) if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def attention(query: Any, key: Any, value: Any, *, scale: float | None = None) -> torch.Tensor:
    """Attention by the operation that CUDA chooses: FlashAttention, and of float32 CUTLASS's."""
    if query.dtype == torch.float32:
        saved = torch.is_grad_enabled()
        return torch.ops.aten._scaled_dot_product_efficient_attention(query, key, value, None, saved, scale=scale)[0]
    return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, scale=scale)[0]


def counted_step(cell: dict) -> tuple[Counter, set[int]]:
    """Return the counter that saw one step of a cell, and the values that remain after it: results and state.

    cell: model, mode ("train" or "infer"), batch, dtype ("float32" or "bfloat16"), points.
    """
    of_points, batch, training = cell["model"] == "pointnet", cell["batch"], cell["mode"] == "train"
    build: Any = MODELS[cell["model"]]
    with torch.device("meta"):
        model = build(**({"rows": True} if of_points else {})).train(training)
        x = torch.empty((batch, cell["points"], 3) if of_points else (batch, 1, ROWS, COLUMNS))
        y = torch.empty((batch, 1) if of_points else (batch,))
    if not of_points:
        model, x = model.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    loss = huber_loss if of_points else binary_cross_entropy_with_logits
    return seen(model, x, y, loss if training else None, cell["dtype"] == "bfloat16")


def seen(model: torch.nn.Module, x: torch.Tensor, y: Any, loss: Any, half: bool) -> tuple[Counter, set[int]]:
    """Return the counter that saw a training step, or without `loss` an inference, and the values that remain."""
    params = list(model.parameters())
    moments = [[torch.empty_like(p) for p in params] for _ in range(2)]
    steps = [torch.empty((), device=x.device) for _ in params]
    with Counter() as counter, torch.set_grad_enabled(loss is not None):
        with AsOnGPU(half):
            outputs = model(x)
        kept = [outputs, *model.state_dict().values()]
        if loss is not None:
            lost = loss(outputs.float(), y)
            counter.phase = "backward"
            lost.backward()
            counter.phase = "optimiser"
            update(params, moments[0], moments[1], steps)
            kept += [lost, *moments[0], *moments[1], *steps]
    return counter, {counter.span(tensor).value for tensor in kept}


def update(params: list[Any], first: list[Any], second: list[Any], steps: list[Any]) -> None:
    """Adam as `torch.optim.Adam(fused=True)` calls it; the class itself refuses tensors that are on no GPU."""
    options: dict[str, Any] = {
        "amsgrad": False,
        "beta1": 0.9,
        "beta2": 0.999,
        "lr": 1e-4,
        "weight_decay": 0.0,
        "eps": 1e-8,
    }
    switches: dict[str, Any] = {
        "fused": True,
        "foreach": False,
        "maximize": False,
        "capturable": False,
        "differentiable": False,
    }
    with torch.no_grad():
        adam(params, [p.grad for p in params], first, second, [], steps, **options, **switches)
