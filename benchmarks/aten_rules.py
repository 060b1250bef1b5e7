"""The CUDA kernels behind each aten operation, with what they read, write and multiply: RULES is the table.

Each kernel reads its operands once and writes its results once. Numbers of kernels are those of ATen's CUDA sources
(aten/src/ATen/native/cuda and cudnn) for Hopper and CUDA 13; what depends on the size of a problem (split sums of a
product, workspaces, copies inside cuDNN) is not known here and left out.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten
PRODUCT, CONVOLUTION, ATTENTION = "product (cuBLAS)", "convolution (cuDNN)", "attention (fused)"
REDUCTION, ELEMENTWISE, COPY, NORM, POOL, ADAM = "reduction", "elementwise", "copy", "norm", "pool", "Adam (fused)"
# Tensors, and chunks of 65,536 elements, that one launch over lists takes: MultiTensorApply.cuh, as of CUDA 13.
LISTS, CHUNK, CHUNKS = {1: 770, 4: 252}, 65_536, 2_240
# What perfect fusion makes of a kernel of an operation that is not pointwise itself.
JOINS, VANISHES = "joins its producer", "is what its producer writes"
VIEWS = {"_unsafe_view", "_reshape_alias"}  # though their schema does not say so
NOTHING = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "lift_fresh"}
# Elementwise, though torch does not tag them so. What moves or fills parts takes the size of what it reads.
MOVES = {"cat", "constant_pad_nd", "select_backward", "slice_backward"}
FILLS = {"ones_like", "zeros_like", "zeros", "ones", "full", "full_like", "fill_", "zero_", "eye"}
UNTAGGED = MOVES | FILLS | {"_to_copy", "copy_", "huber_loss_backward"}


class Plan(NamedTuple):
    """A kernel as a rule gives it: on tensors."""

    kind: str
    reads: Iterable[Any]
    writes: Iterable[Any]
    flops: float = 0.0
    scratch: int = 0
    fused: str = ""


Rule = Callable[[str, tuple, tuple], list[Plan]]


def tensors(tree: Any) -> list[torch.Tensor]:
    """Return all tensors of nested arguments."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def operations(name: str, args: tuple, out: Any) -> float:
    """Return the floating-point operations of an operation, by torch's formulas."""
    return float(flop_registry[getattr(aten, name)](*args, out_val=out))


def product(name: str, args: tuple, out: tuple) -> list[Plan]:
    """One kernel; a bias is added as it ends (cublasLt)."""
    numbers = [arg for arg in args if isinstance(arg, torch.Tensor)]
    return [Plan(PRODUCT, numbers, out, operations(name, tuple(numbers), out[0]))]


def one(kind: str) -> Rule:
    """A rule: one kernel of that kind."""
    return lambda name, args, out: [Plan(kind, tensors(args), out)]


def several(*kinds: str) -> Rule:
    """A rule: a chain of passes over the largest operand, as a composite operation launches them."""

    def rule(name: str, args: tuple, out: tuple) -> list[Plan]:
        given = tensors(args)
        whole = max(given, key=torch.Tensor.numel)
        middle = [Plan(kind, [whole], [], scratch=size(whole)) for kind in kinds[1:-1]]
        return [Plan(kinds[0], given, [], scratch=size(whole)), *middle, Plan(kinds[-1], [whole], out)]

    return rule


def filled(name: str, args: tuple, out: tuple) -> list[Plan]:
    """Zeros everywhere, then a copy of the part that is not: two kernels."""
    return [Plan(COPY, [], out), Plan(COPY, tensors(args), [], scratch=sum(map(size, tensors(args))))]


def zeroed(kind: str, *places: int) -> Rule:
    """A rule: zeros everywhere, then one kernel that writes the result; places: of the arguments that it reads."""

    def rule(name: str, args: tuple, out: tuple) -> list[Plan]:
        given = [args[place] for place in places] if places else tensors(args)
        return [Plan(COPY, [], out), Plan(kind, given, out)]

    return rule


def size(tensor: torch.Tensor) -> int:
    """Bytes of a tensor's different elements."""
    return tensor.element_size() * elements(tensor)


def elements(tensor: torch.Tensor) -> int:
    """Number of different elements: those of a broadcast axis count once."""
    return math.prod(n for n, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or n == 0)


def dense(tensor: torch.Tensor) -> bool:
    """Whether a map has channels last in memory, or any tensor the usual order."""
    return tensor.is_contiguous() or (tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last))


def arranged(tensor: torch.Tensor, like: torch.Tensor) -> list[Plan]:
    """The copy that libraries make of a tensor whose memory is not in the order of another's."""
    last = like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last)
    good = tensor.is_contiguous(memory_format=torch.channels_last) if last else tensor.is_contiguous()
    return [] if good else [Plan(COPY, [tensor], [], scratch=tensor.element_size() * tensor.numel(), fused=VANISHES)]


def convolution(name: str, args: tuple, out: tuple) -> list[Plan]:
    """cuDNN's, then the bias as a kernel of its own (Convolution.cpp)."""
    x, weight, bias = args[:3]
    found = [*arranged(x, out[0]), Plan(CONVOLUTION, [x, weight], out, convolved(x, weight, out[0]))]
    return found if bias is None else [*found, Plan(ELEMENTWISE, [bias, out[0]], out, fused=JOINS)]


def convolved(x: torch.Tensor, weight: torch.Tensor, y: torch.Tensor) -> float:
    """Operations of a convolution from x to y; each of its two gradients takes as many."""
    return 2.0 * y.numel() * weight[0].numel()


def convolution_backward(name: str, args: tuple, out: tuple) -> list[Plan]:
    """Gradients of input and kernel are cuDNN's, that of the bias is a sum: three kernels."""
    grad, x, weight, wanted = *args[:3], args[-1]
    flops = convolved(x, weight, grad)
    found = arranged(grad, x)
    for need, result, reads in zip(wanted[:2], args_out(out, wanted), ([grad, weight], [grad, x]), strict=False):
        found += [Plan(CONVOLUTION, reads, [result], flops)] if need else []
    return found + ([Plan(REDUCTION, [grad], [args_out(out, wanted)[2]])] if wanted[2] else [])


def args_out(out: tuple, wanted: list[bool]) -> list[Any]:
    """Results at their places, None where nothing was wanted."""
    left = iter(out)
    return [next(left) if need else None for need in wanted]


def by_cudnn(x: torch.Tensor) -> bool:
    """Whether BatchNorm is cuDNN's: of float32 maps (Normalization.cpp)."""
    return x.ndim >= 3 and x.dtype == torch.float32


def batch_norm(name: str, args: tuple, out: tuple) -> list[Plan]:
    """cuDNN: one kernel. Else sums, running averages, result: three. In evaluation: 1 / sigma, result."""
    x, weight, bias, mean, variance, training = args[:6]
    if by_cudnn(x):
        return [Plan(NORM, [x, weight, bias, mean, variance], [*out, *([mean, variance] if training else [])])]
    y, sums = out[0], out[1:]
    if not training:
        return [Plan(ELEMENTWISE, [variance], [], scratch=size(variance)), Plan(ELEMENTWISE, args[:5], [y])]
    update = Plan(ELEMENTWISE, [*sums, mean, variance], [mean, variance])
    return [Plan(NORM, [x], sums), update, Plan(NORM, [x, weight, bias, *sums], [y])]


def batch_norm_backward(name: str, args: tuple, out: tuple) -> list[Plan]:
    """cuDNN: one kernel. Else sums over the batch, then the gradient of the input: two."""
    grad, x = args[:2]
    if by_cudnn(x):
        return [Plan(NORM, tensors(args), out)]
    sums = [tensor for tensor in tensors(args) if tensor.numel() < x.numel()]
    return [*arranged(grad, x), Plan(NORM, [grad, x, *sums], out[1:]), Plan(NORM, [grad, x, *sums, *out[1:]], out[:1])]


def layer_norm(name: str, args: tuple, out: tuple) -> list[Plan]:
    """One kernel for widths that are multiples of 4."""
    return [*([] if dense(args[0]) else arranged(args[0], out[0])), Plan(NORM, tensors(args), out)]


def layer_norm_backward(name: str, args: tuple, out: tuple) -> list[Plan]:
    """The input's gradient, then those of scale and shift in one, of more than 65,536 rows with two sums after it."""
    copies = arranged(args[0], out[0]) + arranged(args[1], out[0])
    rows, width = out[0].numel() // out[0].shape[-1], out[0].shape[-1]
    sums = 2 * [Plan(REDUCTION, [], [], scratch=4 * width * -(-rows // 32))] if rows > 65_536 and width < 2_112 else []
    partial = sum(plan.scratch for plan in sums)
    return [*copies, Plan(NORM, tensors(args), out[:1]), Plan(NORM, tensors(args), out[1:], scratch=partial), *sums]


def attention(name: str, args: tuple, out: tuple) -> list[Plan]:
    """FlashAttention (bfloat16) or CUTLASS's (float32): one kernel, which writes the result and its log-sum-exp."""
    return [Plan(ATTENTION, args[:3], out[:2], operations(name, args, out))]


def attention_backward(name: str, args: tuple, out: tuple) -> list[Plan]:
    """Row sums of result and gradient, the gradients with that of queries in float32, its cast: three kernels."""
    grad, query, key, value = args[:4]
    # The result comes first of the saved in one operation, and after a bias in the other.
    result, sums = args[4:6] if "flash" in name else args[5:7]
    wide = 4 * query.numel()
    rows = 4 * query.numel() // query.shape[-1]
    flops = operations(name, args, out)
    if "flash" not in name:
        prepare = [Plan(ELEMENTWISE, [grad, result], [], scratch=wide), Plan(REDUCTION, [], [], scratch=wide + rows)]
        return [*prepare, Plan(ATTENTION, [grad, query, key, value, result, sums], out[:3], flops, rows)]
    return [
        Plan(ATTENTION, [grad, result], [], scratch=rows + wide),
        Plan(ATTENTION, [grad, query, key, value, sums], out[1:3], flops, rows + 2 * wide),
        Plan(COPY, [], out[:1], scratch=wide),
    ]


def launched(sizes: list[int], most: int) -> list[list[int]]:
    """Return the places of the tensors that each launch over lists takes: a new one where either limit is reached."""
    found: list[list[int]] = [[]]
    chunks = 0
    for place, count in enumerate(sizes):
        left = -(-count // CHUNK)
        if len(found[-1]) == most or chunks + left > CHUNKS:
            found.append([])
            chunks = 0
        found[-1].append(place)
        chunks += left
    return found


def adam(name: str, args: tuple, out: tuple) -> list[Plan]:
    """Parameters, gradients and two moments are read, all but gradients written: a kernel for each 252 tensors."""
    params, grads, first, second, _, steps = args[:6]
    plans = []
    for places in launched([one.numel() for one in params], LISTS[4]):
        kept = [group[place] for group in (params, first, second) for place in places]
        plans.append(Plan(ADAM, kept + [group[place] for group in (grads, steps) for place in places], kept))
    return plans


def counters(name: str, args: tuple, out: tuple) -> list[Plan]:
    """An addition to a list of tensors in place: a kernel for each 770."""
    given = list(args[0])
    parts = launched([one.numel() for one in given], LISTS[1])
    return [Plan(ELEMENTWISE, [given[i] for i in part], [given[i] for i in part]) for part in parts]


RULES: dict[str, Rule] = {
    **dict.fromkeys(("mm", "bmm", "addmm"), product),
    **dict.fromkeys(("sum", "mean", "amax"), one(REDUCTION)),  # one kernel, however many blocks it takes
    "convolution": convolution,
    "convolution_backward": convolution_backward,
    "native_batch_norm": batch_norm,
    "native_batch_norm_backward": batch_norm_backward,
    "native_layer_norm": layer_norm,
    "native_layer_norm_backward": layer_norm_backward,
    "_scaled_dot_product_flash_attention": attention,
    "_scaled_dot_product_efficient_attention": attention,
    "_scaled_dot_product_flash_attention_backward": attention_backward,
    "_scaled_dot_product_efficient_attention_backward": attention_backward,
    "max_pool2d_with_indices": one(POOL),  # places are 8 bytes each
    "max_pool2d_with_indices_backward": zeroed(POOL, 0, -1),
    # 1 - y, its product with x, log sigmoid, difference, mean.
    "binary_cross_entropy_with_logits": several(*4 * (ELEMENTWISE,), REDUCTION),
    "huber_loss": several(ELEMENTWISE, REDUCTION),
    "_fused_adam_": adam,
    "_foreach_add_": counters,
    **dict.fromkeys(("constant_pad_nd", "select_backward", "slice_backward"), filled),
    **dict.fromkeys(("huber_loss_backward", "eye"), zeroed(ELEMENTWISE)),
    **dict.fromkeys(("_to_copy", "clone", "copy_", "cat"), one(COPY)),
}
