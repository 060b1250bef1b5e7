"""What a compiled program launches: each kernel with its kind, bytes and floating-point operations.

Bytes are those that a kernel must read and write in the device's memory: operands and results, each once; of an operand
that is only cut, gathered or updated in place, the part that is touched; nothing of what a TPU holds on the chip. What runs
in a loop counts as often as the loop.
"""

import math
import re
from collections import Counter
from typing import NamedTuple

from benchmarks.hlo import BYTES, Computation, Instruction, arrays, computations, shape_of, size_anywhere, size_of, walk

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
# Operations that launch nothing: names of values, ends of what began before, and bodies that are walked instead.
NOTHING = {"parameter", "get-tuple-element", "bitcast", "constant", "tuple", "after-all", "partition-id", "replica-id"}
NOTHING |= {"while", "call", "conditional", "opt-barrier", "add-dependency", "async-start", "domain"}
OWN = {"tpu_custom_call", "mosaic_gpu_v2", "mosaic_gpu", "__gpu$xla.gpu.triton"}  # kernels written in Pallas
OURS = "our own (Pallas)"
LIBRARIES = {"conv": "convolution (cuDNN)", "fmha": "attention (cuDNN)", "cublas": "product (cuBLAS)"}
PARTS = {"dynamic-slice", "slice", "gather"}
KINDS = (
    *("product (XLA)", "product (cuBLAS)", "convolution (cuDNN)", "attention (cuDNN)", OURS),
    *("reduction", "elementwise", "copy", "scatter", "gather", "sort", "select-and-scatter", *COLLECTIVES),
)


class Launch(NamedTuple):
    """One kernel, launched `times` in a run of the program; all other numbers are of one launch."""

    name: str
    kind: str
    layer: str  # where in the network it comes from, as JAX names it
    type: str
    times: float
    bytes: float
    flops: dict[str, float]  # by the type of the operands of products
    cycles: float  # XLA's estimate for a TPU, 0 where there is none
    sent: float  # bytes of a collective


def launches(text: str, declared: dict[str, float] | None = None) -> list[Launch]:
    """Return all that a program launches.

    `declared` are the floating-point operations of kernels of our own by name, which no text tells.
    """
    known, entry = computations(text)
    found = []
    for times, home, one in walk(known, entry):
        if one.operation in NOTHING or one.operation.endswith(("-done", "-update")):
            continue
        around = known[home]
        body = next((known[name] for name in one.called("calls") if name in known), {})
        cycles = re.search(r'"estimated_cycles":"(\d+)"', one.rest)
        layer = layer_of(one, body)
        flops = flops_of(one, body, around, known)
        for name, count in (declared or {}).items():
            if one.target in OWN and f"/{name}/" in f"/{layer}/":
                flops = Counter({operand_type(one, around): count})
        sent = sum(size_anywhere(around[name].type) for name in one.operands if name in around)  # on the chip or off it
        is_sum = one.operation.removesuffix("-start") in COLLECTIVES
        found.append(
            Launch(
                one.name,
                kind_of(one, body),
                layer,
                one.type[:80],
                times,
                bytes_of(one, body, around),
                dict(flops),
                float(cycles[1]) if cycles else 0.0,
                sent if is_sum else 0.0,
            )
        )
    return found


def layer_of(one: Instruction, body: Computation) -> str:
    """Return the name that JAX gave to an operation, or else to the last named one of a fusion."""
    for line in (one, *reversed(body.values())):
        if path := re.search(r'op_name="([^"]*)"', line.rest):
            return path[1]
    return ""


def operand_type(one: Instruction, around: Computation) -> str:
    """Return the element type of the first operand."""
    return next((shape_of(around[name].type)[0] for name in one.operands if name in around), "")


def kind_of(one: Instruction, body: Computation) -> str:
    """Return the kind of kernel, one of KINDS or the name of a call."""
    operation, inside = one.operation.removesuffix("-start"), {other.operation for other in body.values()}
    if operation in COLLECTIVES:
        return operation
    if one.target in OWN:
        return OURS
    for word, kind in LIBRARIES.items():
        if word in one.target:
            return kind
    if one.target:
        return f"call of {one.target}"
    if {"dot", "convolution"} & (inside | {operation}) or "gemm" in one.rest.partition("backend_config=")[2]:
        return "product (XLA)"
    for special in ("scatter", "gather", "sort", "select-and-scatter"):
        if special in inside or operation == special:
            return special
    moved = {"parameter", "bitcast", "transpose", "copy", "constant"}
    if operation in ("copy", "transpose", "slice", "dynamic-slice") or (inside and inside <= moved):
        return "copy"
    if {"reduce", "reduce-window"} & (inside | {operation}) or '"__triton"' in one.rest:
        return "reduction"
    return "elementwise"


def bytes_of(one: Instruction, body: Computation, around: Computation) -> float:
    """Return the bytes that a kernel reads and writes."""
    types = [around[name].type for name in dict.fromkeys(one.operands) if name in around]
    if one.operation in ("copy-start", "slice-start", "dynamic-slice-start"):
        # The first array of the result moves to or from a TPU's chip: once, as one end of it lies there.
        return max((BYTES[kind] * math.prod(shape) for kind, shape, _ in list(arrays(one.type))[:1]), default=0.0)
    if one.operation.endswith("-start"):
        return 2 * sum(map(size_of, types))
    if one.operation in PARTS:
        return 2 * size_of(one.type)
    if one.operation == "dynamic-update-slice":
        return 2 * sum(size_of(around[name].type) for name in one.operands[1:2] if name in around)
    written, read = size_of(one.type), 0.0
    parts = touched(body)
    for update in body.values():
        if update.operation == "dynamic-update-slice":
            # In place: of the whole array only the part is written.
            written -= size_of(update.type) - sum(size_of(body[name].type) for name in update.operands[1:2])
    parameters = {int(other.arguments): other.name for other in body.values() if other.operation == "parameter"}
    for place, name in enumerate(one.operands):
        if name in around and name not in one.operands[:place]:
            whole = size_of(around[name].type)
            read += min(whole, parts.get(parameters.get(place, ""), whole))
    if one.target and one.target not in OWN:
        # Results of libraries hold their workspace too, an array of bytes.
        written -= sum(
            math.prod(shape) for kind, shape, _ in arrays(one.type) if kind in ("s8", "u8") and len(shape) == 1
        )
    return max(written, 0.0) + read


def touched(body: Computation) -> dict[str, float]:
    """Return the bytes that a fusion reads of those parameters of which it needs parts alone."""
    uses: dict[str, list[tuple[Instruction, int]]] = {}
    for one in body.values():
        for place, name in enumerate(one.operands):
            uses.setdefault(name, []).append((one, place))

    def part(name: str) -> float | None:
        total = 0.0
        for user, place in uses.get(name, []):
            if user.operation in PARTS and place == 0:
                total += size_of(user.type)
            elif user.operation in ("bitcast", "copy"):
                inner = part(user.name)
                if inner is None:
                    return None
                total += inner
            elif user.operation == "dynamic-update-slice" and place == 0:
                total += 0.0  # what is not written is not read
            else:
                return None
        return total

    parameters = (one.name for one in body.values() if one.operation == "parameter")
    return {name: found for name in parameters if name in uses and (found := part(name)) is not None}


def flops_of(one: Instruction, body: Computation, around: Computation, known: dict[str, Computation]) -> Counter:
    """Return the floating-point operations of products in a kernel, by the type of their operands."""
    found: Counter = Counter()
    if one.operation in ("dot", "convolution") or one.target:
        kind = operand_type(one, around)
        count = 0.0
        operands = [shape_of(around[name].type)[1] for name in one.operands if name in around]
        if one.operation == "dot":
            count = 2.0 * math.prod(shape_of(one.type)[1]) * contracted(operands, one.numbers("lhs_contracting_dims"))
        elif one.operation == "convolution" or "conv" in one.target:
            count = convolution_flops(one, operands)
        elif "cublas" in one.target:
            axes = [int(axis) for axis in re.findall(r'"lhs_contracting_dimensions":\["?(\d+)', one.rest)]
            count = 2 * math.prod(shape_of(one.type)[1]) * contracted(operands, axes)
        elif "fmha" in one.target:
            # (B, T, heads, D) and (B, S, heads, D). Forward scores and their sum over values; backward the scores
            # again, and the gradients of scores, queries, keys and values.
            (batch, tokens, heads, width), others = operands[0], operands[1][1]
            count = (10 if "Backward" in one.target else 4) * batch * tokens * heads * width * others
        if count:
            found.update({kind: count})
    for inner in body.values():
        deeper = next((known[name] for name in inner.called("calls") if name in known), {})
        found += flops_of(inner, deeper, body, known)
    return found


def contracted(operands: list[list[int]], axes: list[int]) -> int:
    """Return the number of products that each result of a matrix product sums."""
    return math.prod(operands[0][axis] for axis in axes) if operands else 0


def convolution_flops(one: Instruction, operands: list[list[int]]) -> float:
    """Return the operations of a convolution or one of its gradients.

    A TPU writes every product as a convolution, with holes and paddings as it needs them: there only what meets data
    counts. Of cuDNN's convolutions those with the zeros of paddings count too, as is usual.
    """
    result = shape_of(one.type)[1]
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", one.rest)
    if not labels or len(operands) < 2:
        return 0.0
    if one.operation == "convolution":
        return windowed_flops(one, operands, result, labels.groups())
    if "BackwardFilter" in one.target:  # from input and gradient of the output to the kernel
        outputs, kernel, features = operands[1], result, labels[2]
    elif "BackwardInput" in one.target:
        outputs, kernel, features = operands[0], operands[1], labels[2]
    else:
        outputs, kernel, features = result, operands[1], labels[2]
    return 2 * math.prod(outputs) * math.prod(kernel) / max(kernel[features.index("o")], 1)


def windowed_flops(one: Instruction, operands: list[list[int]], result: list[int], labels: tuple[str, ...]) -> float:
    """Return the operations of XLA's convolution that meet data: neither padding nor the holes between cells."""
    (image, kernel), (of_image, of_kernel, of_result) = operands[:2], labels
    window = dict(re.findall(r"(\w+)=([\w\-x]+)", one.rest.partition("window={")[2].partition("}")[0]))
    pairs = 1
    for axis in filter(str.isdigit, of_result):
        place, cells, size = int(axis), image[of_image.index(axis)], kernel[of_kernel.index(axis)]

        def of_axis(name: str, usual: str, place: int = place) -> str:
            return window[name].split("x")[place] if name in window else usual

        stride, holes, kernel_holes = (int(of_axis(name, "1")) for name in ("stride", "lhs_dilate", "rhs_dilate"))
        before = int(re.match(r"-?\d+", of_axis("pad", "0_0"))[0])  # type: ignore[index]
        reach = range(result[of_result.index(axis)])
        met = ((out * stride + tap * kernel_holes - before) for out in reach for tap in range(size))
        pairs *= sum(0 <= cell <= (cells - 1) * holes and cell % holes == 0 for cell in met)
    outputs = result[of_result.index("b")] * result[of_result.index("f")]
    return 2.0 * outputs * pairs * kernel[of_kernel.index("i")]
