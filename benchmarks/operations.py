"""Floating-point operations of one event in each network, counted from the layers' shapes and by XLA.

python -m benchmarks.operations --models mlp,cnn,resnet10,resnet18,cvt,pointnet --points 800

The hand count is two operations per multiply-add of dense layers, convolutions and attention, forward. XLA's is its
cost analysis in plain kernels: the same and activations, norms and softmax. Training counts three forward
passes: forward, and the gradients of inputs and of parameters. Multiplications with the zeros of a convolution's padding
need not be done, and XLA does not count them; the usual count does, and on the small maps of a ResNet they are most.
"""

import argparse
import json
from itertools import pairwise
from typing import Any

ROWS, COLUMNS, POINTS = 18, 72, 800
MODELS = ("mlp", "cnn", "resnet10", "resnet18", "cvt", "pointnet")
TRAINING = 3  # forward passes' worth of operations in a training step


def positions(size: int, window: int, stride: int, padding: tuple[int, int]) -> int:
    """Number of window positions along one axis."""
    return (size + sum(padding) - window) // stride + 1


def taps(size: int, window: int, stride: int, padding: tuple[int, int], padded: bool) -> int:
    """Pairs of a window position and a cell of the window along one axis, `padded` or only those that meet data."""
    count = positions(size, window, stride, padding)
    if padded:
        return count * window
    return sum(0 <= place * stride - padding[0] + cell < size for place in range(count) for cell in range(window))


def convolution(shape, features: int, window, stride, padding, padded: bool) -> tuple[int, tuple[int, int, int]]:
    """Multiply-adds of a convolution on a map of shape (rows, columns, channels), and the shape that it gives.

    window, stride: (rows, columns); padding: ((above, below), (left, right)).
    """
    rows, columns, channels = shape
    pairs = taps(rows, window[0], stride[0], padding[0], padded) * taps(
        columns, window[1], stride[1], padding[1], padded
    )
    size = (positions(rows, window[0], stride[0], padding[0]), positions(columns, window[1], stride[1], padding[1]))
    return pairs * channels * features, (*size, features)


def dense(*widths: int) -> int:
    """Multiply-adds of dense layers from widths[0] inputs to widths[-1] outputs."""
    return sum(inputs * outputs for inputs, outputs in pairwise(widths))


def mlp(padded: bool, points: int) -> int:
    """Multiply-adds of the MLP."""
    return dense(ROWS * COLUMNS, 120, 120, 120, 60, 1)


def cnn(padded: bool, points: int) -> int:
    """Multiply-adds of the CNN: three convolutions that keep the map, each with a 2 x 2 pool, then two dense layers."""
    total, shape = 0, (ROWS, COLUMNS, 1)
    for features, window in ((12, 2), (24, 2), (48, 4)):
        around = ((window - 1) // 2, window // 2)
        count, (rows, columns, _) = convolution(shape, features, (window, window), (1, 1), (around, around), padded)
        total, shape = total + count, (rows // 2, columns // 2, features)
    rows, columns, features = shape
    return total + dense(rows * columns * features, 100, 1)


def resnet(blocks: int, padded: bool) -> int:
    """Multiply-adds of a ResNet with four stages of that many basic blocks."""

    def square(shape, features, window, stride):
        around = (window // 2, window // 2)
        return convolution(shape, features, (window, window), (stride, stride), (around, around), padded)

    total, (rows, columns, features) = square((ROWS, COLUMNS, 1), 64, 7, 2)
    shape = (positions(rows, 3, 2, (1, 1)), positions(columns, 3, 2, (1, 1)), features)
    for stage in range(4):
        for block in range(blocks):
            features, stride = 64 * 2**stage, 2 if stage and not block else 1
            first, inside = square(shape, features, 3, stride)
            second, outside = square(inside, features, 3, 1)
            shortcut = square(shape, features, 1, stride)[0] if shape != outside else 0
            total, shape = total + first + second + shortcut, outside
    return total + dense(shape[2], 1)


def cvt(padded: bool, points: int) -> int:
    """Multiply-adds of the CvT: three stages of 1, 1 and 2 blocks, a class token in the last."""
    total, shape = 0, (ROWS, COLUMNS, 1)
    stages = ((64, 1, (2, 6), (1, 2), 2), (192, 1, (3, 4), (1, 2), 1), (384, 2, (3, 3), (1, 1), 1))
    for number, (width, blocks, window, stride, around) in enumerate(stages, 1):
        embedding, shape = convolution(shape, width, window, stride, ((around, around), (around, around)), padded)
        rows, columns, _ = shape
        cells = rows * columns
        tokens = cells + (number == len(stages))
        depthwise = taps(rows, 3, 1, (1, 1), padded) * taps(columns, 3, 1, (1, 1), padded) * width
        projections = 3 * (depthwise + cells * dense(width, width))  # queries, keys, values
        attention = 2 * tokens * tokens * width  # scores, and their sum over values
        perceptron = tokens * dense(width, width, 4 * width, width)  # with the attention's output layer
        total += embedding + blocks * (projections + attention + perceptron)
    return total + dense(stages[-1][0], 1)


def pointnet(padded: bool, points: int) -> int:
    """Multiply-adds of the PointNet with its feature transform, for this many points an event."""
    each = dense(3, 64) + dense(64, 64, 128, 1024) + dense(64, 64) + dense(64, 128, 1024)
    return points * each + dense(1024, 512, 256, 64 * 64) + dense(1024, 512, 256, 1)


COUNTS = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet10": lambda padded, points: resnet(1, padded),
    "resnet18": lambda padded, points: resnet(2, padded),
    "cvt": cvt,
    "pointnet": pointnet,
}


def by_hand(model: str, points: int = POINTS, padded: bool = True) -> int:
    """Return the forward operations of one event; `padded` counts multiplications with the zeros of paddings too."""
    return 2 * COUNTS[model](padded, points)


def by_xla(model: str, points: int = POINTS) -> float:
    """Return XLA's count of the forward operations of one event, in plain kernels."""
    import jax
    import jax.numpy as jnp

    from benchmarks.cells import build_network

    cell = {"model": model, "dtype": "float32", "formulation": "plain"}
    network = build_network(cell, "cpu")
    # One event: of a loop over events XLA's analysis counts the body once.
    shape = (1, points, 3) if model == "pointnet" else (1, ROWS, COLUMNS, 1)
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(lambda key, x: network.init(key, x, train=False), jax.random.key(0), x)
    lowered = jax.jit(lambda variables, x: network.apply(variables, x, train=False)).lower(variables, x)
    found: Any = lowered.cost_analysis()
    return float((found[0] if isinstance(found, list) else found)["flops"])


def count_rows(models: list[str], points: int = POINTS) -> list[dict]:
    """Return a row of kind "operations" for each network: forward operations of one event, by hand and by XLA."""
    return [
        {
            "kind": "operations",
            "model": model,
            "points": points if model == "pointnet" else 0,
            "by_hand": by_hand(model, points),
            "by_hand_unpadded": by_hand(model, points, padded=False),
            "by_xla": by_xla(model, points),
        }
        for model in models
    ]


def main(arguments: list[str] | None = None) -> None:
    """Print the counts, as a table or as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--points", type=int, default=POINTS)
    parser.add_argument("--json", action="store_true", help="JSON lines, as the throughput benchmark reads them")
    options = parser.parse_args(arguments)
    rows = count_rows(options.models.split(","), options.points)
    if options.json:
        print("\n".join(map(json.dumps, rows)))
        return
    print(
        "| network | forward, by hand | without padding's zeros | XLA | XLA / without padding |\n|---|---|---|---|---|"
    )
    for row in rows:
        hand, unpadded, xla = (row[name] / 1e6 for name in ("by_hand", "by_hand_unpadded", "by_xla"))
        print(f"| {row['model']} | {hand:,.2f} | {unpadded:,.2f} | {xla:,.2f} MFLOP | {xla / unpadded:.3f} |")


if __name__ == "__main__":
    main()
