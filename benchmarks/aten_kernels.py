"""Sees every aten operation of a program in PyTorch and keeps the CUDA kernels that it stands for; nothing is run.

An operation without a rule in `aten_rules.py` counts as one kernel if torch tags it as pointwise, as none if it gives a
view or only memory, and is refused otherwise.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch._prims_common import suggest_memory_format
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import aten_rules as rules
from benchmarks.aten_rules import Plan, elements, size, tensors
from jaxhep.errors import BadInput

TYPES = {torch.bfloat16: "bf16", torch.float16: "f16", torch.float32: "f32", torch.float64: "f64"}


class Span(NamedTuple):
    """A part of a value that a kernel reads or writes. A value is what a storage holds between two writes to it."""

    value: int
    elements: int  # different ones: a broadcast counts once
    bytes: int
    place: tuple  # tells parts of one value apart


class Kernel(NamedTuple):
    """One kernel of an operation."""

    name: str
    phase: str  # of the step: forward, backward, optimiser
    kind: str
    reads: tuple[Span, ...]
    writes: tuple[Span, ...]
    scratch: int  # bytes that it reads and writes beside them
    flops: dict[str, float]
    joins: int  # 0, or the elements that a producer must give for the kernel to be fused with it

    @property
    def bytes(self) -> int:
        """Bytes read and written."""
        return self.scratch + sum(span.bytes for span in (*self.reads, *self.writes))


def as_on_gpu(result: Any, func: Any, args: tuple) -> Any:
    """Return a convolution's result in cuDNN's layout: channels last where input or kernel are, which `meta` forgets."""
    if func is not torch.ops.aten.convolution.default or result.ndim != 4:
        return result
    last = torch.channels_last in map(suggest_memory_format, args[:2])
    return torch.empty_like(result, memory_format=torch.channels_last) if last else result


class Counter(TorchDispatchMode):
    """Keeps the kernels of every aten operation below it, as `eager` and, for fusing, with pointwise ones as one each."""

    def __init__(self) -> None:
        super().__init__()
        self.phase, self.eager, self.fusible = "forward", list[Kernel](), list[Kernel]()
        self.operations = list[str]()
        self.values = dict[int, int]()  # of storages
        self.known = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        """Run the operation and count it."""
        result = as_on_gpu(func(*args, **(kwargs or {})), func, args)
        self.count(func, (*args, *(kwargs or {}).values()), result)
        return result

    def count(self, func: Any, args: tuple, result: Any) -> None:
        """Add the kernels of an operation. Raises BadInput where nothing is known of it."""
        name = func._schema.name.split("::")[1]
        self.operations.append(name)
        aliases = [given.alias_info for given in func._schema.returns if given.alias_info is not None]
        out = tuple(tensors(result))
        if not aliases and name not in rules.VIEWS:
            self.renew(out)
        if name in rules.NOTHING | rules.VIEWS or any(not alias.is_write for alias in aliases):
            return
        pointwise = torch.Tag.pointwise in func.tags or name in rules.UNTAGGED
        if name not in rules.RULES and not pointwise:
            raise BadInput(
                f"nothing is known of the kernels of aten::{name}: wanted one of {', '.join(sorted(rules.RULES))}"
            )
        plans = rules.RULES.get(name, rules.one(rules.ELEMENTWISE))(name, args, out)
        if name in rules.FILLS | {"copy_"}:  # what was there before is not read
            plans = [plan._replace(reads=() if name in rules.FILLS else tensors(args[1:2])) for plan in plans]
        kernels = [self.kernel(name, plan) for plan in plans]
        self.eager += kernels
        if pointwise or (name == "native_batch_norm" and not args[5]):
            reads = tuple(dict.fromkeys(span for kernel in kernels for span in kernel.reads))
            joins = max([span.elements for span in reads] if name in rules.MOVES else [elements(t) for t in out])
            writes = tuple(dict.fromkeys(self.span(tensor) for tensor in out))
            self.fusible.append(Kernel(name, self.phase, rules.ELEMENTWISE, reads, writes, 0, {}, joins))
            return
        for plan, kernel in zip(plans, kernels, strict=True):
            if plan.fused != rules.VANISHES:
                joins = max(span.elements for span in kernel.writes) if plan.fused == rules.JOINS else 0
                self.fusible.append(kernel._replace(joins=joins))

    def kernel(self, name: str, plan: Plan) -> Kernel:
        """Return the kernel of a plan; what it writes are new values."""
        given, results = tensors(list(plan.reads)), tensors(list(plan.writes))
        reads = tuple(dict.fromkeys(map(self.span, given)))
        self.renew(results)
        flops = {TYPES.get(given[0].dtype, "f32"): plan.flops} if plan.flops else {}
        writes = tuple(dict.fromkeys(map(self.span, results)))
        return Kernel(name, self.phase, plan.kind, reads, writes, plan.scratch, flops, 0)

    def span(self, tensor: torch.Tensor) -> Span:
        """Return the part of a value that a tensor is."""
        storage = tensor.untyped_storage()._cdata
        if storage not in self.values:
            self.renew([tensor])
        place = (tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
        return Span(self.values[storage], elements(tensor), size(tensor), place)

    def renew(self, changed: Iterable[torch.Tensor]) -> None:
        """Give these tensors' storages new values.

        No tensor is kept for it: autograd copies gradients that somebody else holds.
        """
        for tensor in changed:
            self.values[tensor.untyped_storage()._cdata] = self.known
            self.known += 1
