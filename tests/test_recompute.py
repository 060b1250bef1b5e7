"""Recomputation changes memory, not numbers."""

import jax
import jax.numpy as jnp
import pytest
from conftest import QUICK
from test_fast_paths import NARROW, columns, inputs, loss, same, ten_steps

from jaxhep import steps
from jaxhep.models import MODELS
from jaxhep.recompute import RECOMPUTE, recomputed


@pytest.mark.parametrize("what", RECOMPUTE[1:])
def test_ten_steps_are_the_same_whatever_is_computed_again(what):
    def build(recompute):
        model, chain = MODELS["cnn"](**NARROW["cnn"]), steps.build_optimiser()
        first = {column: values[:1] for column, values in columns().items()}
        state = jax.jit(lambda: steps.init_state(model, chain, inputs, first, 0), compiler_options=QUICK)()
        rate = lambda step: jnp.float32(1e-3)  # noqa: E731
        return state, steps.make_train_step(model, chain, inputs, loss, rate, recompute=recompute)

    same(ten_steps(*build("nothing")), ten_steps(*build(what)), 1e-4)


def test_what_is_kept():
    def function(x):
        return jnp.sum(jnp.sin(jnp.sin(x @ x)))

    def kept(what):
        text = str(jax.make_jaxpr(jax.grad(recomputed(function, what)))(jnp.ones((4, 4))))
        return text.count("dot_general"), text.count("= sin ")

    assert kept("nothing") == (3, 2)
    assert kept("elementwise") == (3, 3)  # the product is kept, the first sine made again
    assert kept("all") == (4, 3)
