"""Run by test_partition in a process of its own, as the number of devices is fixed when JAX starts."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxhep.kernels.partition import over_batch, pallas, sharing


def body(x_ref, matrix_ref, y_ref, sum_ref):
    y_ref[0] = jnp.dot(x_ref[0], matrix_ref[...])
    sum_ref[0] = jnp.sum(y_ref[0], 0, keepdims=True)


def products(x, matrix):
    """x (B, P, C) times matrix (C, F), and the sum (F,) over events and points."""
    (events, points, inputs), features = x.shape, matrix.shape[1]

    def call(interpret):
        one = lambda rows, columns: pl.BlockSpec((1, rows, columns), lambda event: (event, 0, 0))  # noqa: E731
        return pl.pallas_call(
            body,
            grid=(events,),
            in_specs=[one(points, inputs), pl.BlockSpec((inputs, features), lambda event: (0, 0))],
            out_specs=[one(points, features), one(1, features)],
            out_shape=[jax.ShapeDtypeStruct((events, rows, features), jnp.float32) for rows in (points, 1)],
            interpret=interpret,
        )

    y, sums = pallas(call, x, matrix)
    return y, jnp.sum(sums, (0, 1))


shared = over_batch(products, ("events", "whole"), ("events", "summed"))
mesh = Mesh(np.array(jax.devices()), ("data",))
split, several, everywhere = (NamedSharding(mesh, PartitionSpec(*spec)) for spec in (("data",), (None, "data"), ()))


def check(name, function, shardings, arrays, expected, gathers=False):
    """The same numbers as on one device, and no device ever has the events of others."""
    placed = [jax.device_put(array, sharding) for array, sharding in zip(arrays, shardings, strict=True)]
    compiled = jax.jit(function, in_shardings=shardings).lower(*placed).compile()
    text = compiled.as_text()
    found = set(re.findall(r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(", text))
    print(name, found)
    assert found == {"all-gather"} if gathers else found <= {"all-reduce"}, (name, found)
    for ours, theirs in zip(jax.tree.leaves(compiled(*placed)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4, err_msg=name)


assert len(jax.devices()) == 4
random = np.random.default_rng(0)
x, matrix = (random.normal(size=shape).astype(np.float32) for shape in ((4, 8, 6, 3), (4, 3, 5)))
each = [products(*pair) for pair in zip(x, matrix, strict=True)]
members = [np.stack(values) for values in zip(*each, strict=True)]

check("without the mesh", shared, (split, everywhere), (x[0], matrix[0]), each[0], gathers=True)
check("jit", sharing(mesh, shared), (split, everywhere), (x[0], matrix[0]), each[0])
check("members", sharing(mesh, jax.vmap(shared)), (several, everywhere), (x, matrix), members)


def steps(x, matrix):
    return jax.lax.scan(lambda sums, x: (sums + shared(x, matrix)[1], None), jnp.zeros(5), x)[0]


alone = sum(products(values, matrix[0])[1] for values in x)
check("scan", sharing(mesh, steps), (several, everywhere), (x, matrix[0]), alone)
check(
    "seven events",
    sharing(mesh, lambda x, m: shared(x[:7], m)[1]),
    (everywhere,) * 2,
    (x[0], matrix[0]),
    products(x[0, :7], matrix[0])[1],
)


def on_each(x, matrix):
    y, sums = shared(x, matrix)
    return y, jax.lax.psum(sums, "data")


y, sums = jax.pmap(on_each, "data", in_axes=(0, None))(x[0].reshape(4, 2, 6, 3), matrix[0])
np.testing.assert_allclose(y.reshape(8, 6, 5), each[0][0], rtol=1e-5, atol=1e-5)
np.testing.assert_allclose(sums[3], each[0][1], rtol=1e-4, atol=1e-4)
by_shard_map = jax.shard_map(
    jax.vmap(shared), mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec("data"), check_vma=False
)
check("members shared out by shard_map", by_shard_map, (split, split), (x, matrix), members)
