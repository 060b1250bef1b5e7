"""Sums over the events of a batch are made in at least float32, whatever a network computes in."""

import re

import jax
import jax.numpy as jnp
import pytest

from benchmarks import programs
from jaxhep.config import load_config
from jaxhep.kernels import PLATFORMS
from jaxhep.kernels.bias import add_bias

# A reduction in bfloat16, in one line or with a computation of its own, as StableHLO writes both.
NARROW_SUM = r'"?stablehlo\.reduce"?\(.*?applies stablehlo\.add .*?->\s*tensor<[\dx]*bf16>'


def text_of(function, arguments, platform):
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), arguments)
    traced = jax.jit(function).trace(*shapes)
    return traced.lower(lowering_platforms=(programs.PLATFORMS[platform],)).as_text()


def narrow_sums(text):
    return [line.strip() for line in text.splitlines() if re.search(NARROW_SUM, line)]


def test_a_sum_in_bfloat16_is_seen():
    def gradient(add):
        return jax.grad(lambda bias, x: jnp.sum(add(x, bias), dtype=jnp.float32))

    arrays = (jnp.zeros(3), jnp.zeros((8, 3), jnp.bfloat16))
    assert narrow_sums(text_of(gradient(lambda x, bias: x + bias.astype(x.dtype)), arrays, "gpu"))
    assert not narrow_sums(text_of(gradient(add_bias), arrays, "gpu"))


def test_the_gradient_of_a_bias_counts_every_event():
    ones = jnp.ones((4096, 3), jnp.bfloat16)
    found = jax.grad(lambda bias: jnp.sum(add_bias(ones, bias), dtype=jnp.float32))(jnp.zeros(3))
    assert found.tolist() == [4096.0] * 3


NETWORKS = ("mlp", "cnn", "resnet10", "resnet18", "cvt", "pointnet")


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_training_in_bfloat16_sums_in_float32(name, platform):
    config = load_config(f"{name}:smoke")
    config.model.dtype = "bfloat16"
    train, _, arguments, _ = programs.programs(config, platform, filled=False)
    assert narrow_sums(text_of(train, arguments, platform)) == []
