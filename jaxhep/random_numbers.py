"""Counter-based random numbers that compile and run fast on every device, the same on each of them.

The 32-bit mixer "lowbias32" of C. Wellons, twice, of the number's place and 64 bits of salt: quicker by far than
JAX's own generator where a function draws many times, and good enough for a simulation.

Two ways to salt: `uniform` and `normal` take one salt for all numbers; `event_uniform` and `event_normal` draw one for
each event from a key of JAX, and count the numbers within an event.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Salt = jax.Array | np.ndarray
"""64 random bits as two uint32 along the first axis: of `salt_of`, or `fold`ed within a compiled function."""


def _mix(bits: jax.Array) -> jax.Array:
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)
    return bits ^ (bits >> 16)


def _counter(*shape: int) -> jax.Array:
    return lax.iota(jnp.uint32, int(np.prod(shape))).reshape(shape)


def _to_normal(uniform: jax.Array) -> jax.Array:
    """Return standard normal float32 by the inverse error function, to 5 standard deviations."""
    return lax.erf_inv(2.0 * uniform - 1.0) * np.float32(np.sqrt(2.0))


def salt_of(*numbers: int) -> np.ndarray:
    """Return 64 bits, (2,) uint32, that stand for some integers from 0 on."""
    return np.random.SeedSequence(numbers).generate_state(2)


def fold(salt: Salt, number: jax.typing.ArrayLike) -> jax.Array:
    """Return another salt (2,) for each number from 0 on (Python integer or traced)."""
    step = jnp.asarray(number).astype(jnp.uint32) * jnp.uint32(0x9E3779B9) + jnp.array(
        [0x3C6EF372, 0xDAA66D2B], np.uint32
    )
    return _mix(_mix(salt + step) ^ salt[::-1])


def uniform_of(salt: Salt, counter: jax.Array) -> jax.Array:
    """Return float32, uniform strictly between 0 and 1 (odd multiples of 2^-24), equal ones for equal integers.

    salt: (2,), or (2, ...) of a shape that goes with that of the integers in `counter`; the result has both.
    """
    bits = _mix(_mix(counter.astype(jnp.uint32) * jnp.uint32(0x9E3779B9) + salt[0]) ^ salt[1])
    return ((bits >> 9).astype(jnp.float32) + 0.5) * np.float32(2.0**-23)


def uniform(salt: Salt, *shape: int) -> jax.Array:
    """Return float32 of this shape, uniform strictly between 0 and 1; salt: (2,)."""
    return uniform_of(salt, _counter(*shape))


def normal(salt: Salt, *shape: int) -> jax.Array:
    """Return float32 of this shape, standard normal; salt: (2,)."""
    return _to_normal(uniform(salt, *shape))


def event_uniform(key: jax.Array, events: int, *shape: int) -> jax.Array:
    """Return (events, *shape) float32, uniform strictly between 0 and 1; key: one of JAX's."""
    salts = jax.random.bits(key, (2, events, *(1 for _ in shape)))
    return uniform_of(salts, _counter(1, *shape))


def event_normal(key: jax.Array, events: int, *shape: int) -> jax.Array:
    """Return (events, *shape) float32, standard normal; key: one of JAX's."""
    return _to_normal(event_uniform(key, events, *shape))
