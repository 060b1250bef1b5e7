"""What a training step keeps for its gradients, and what it computes again.

Kept arrays cost memory and its traffic, computing again costs operations: where memory bounds a step, the second can be
faster. `python -m benchmarks.compiled --search` compares them for a device.
"""

from collections.abc import Callable

import jax

RECOMPUTE = ("nothing", "elementwise", "all")
PRODUCTS = ("dot_general", "conv_general_dilated")


def recomputed(function: Callable, what: str) -> Callable:
    """Return `function` with gradients that compute parts of it again.

    "nothing": all that a gradient needs is kept; "elementwise": products and convolutions are kept, activations and
    norms made again from them; "all": nothing is kept but the arguments. The numbers are the same to rounding.
    """
    if what == "nothing":
        return function
    if what == "all":
        return jax.checkpoint(function)
    return jax.checkpoint(function, policy=lambda primitive, *_, **__: primitive.name in PRODUCTS)
