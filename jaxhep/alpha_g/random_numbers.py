"""Counter-based random numbers that compile and run fast on every device, the same on each of them.

The 32-bit mixer "lowbias32" of C. Wellons, twice, of the number's place and 64 bits of salt: quicker by far than
JAX's own generator where a function draws many times, and good enough for a simulation.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax


def _mix(bits):
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)
    return bits ^ (bits >> 16)


def salt_of(*numbers: int) -> np.ndarray:
    """Return 64 bits, (2,) uint32, that stand for some integers from 0 on."""
    return np.random.SeedSequence(numbers).generate_state(2)


def fold(salt, number):
    """Return another salt (2,) for each number from 0 on (Python integer or traced)."""
    step = jnp.asarray(number).astype(jnp.uint32) * jnp.uint32(0x9E3779B9) + jnp.array(
        [0x3C6EF372, 0xDAA66D2B], np.uint32
    )
    return _mix(_mix(salt + step) ^ salt[::-1])


def uniform(salt, *shape: int):
    """Return float32 of this shape, uniform strictly between 0 and 1 (odd multiples of 2^-24)."""
    return uniform_of(salt, lax.iota(jnp.uint32, int(np.prod(shape))).reshape(shape))


def uniform_of(salt, counter):
    """Return float32 of the shape of `counter`, uniform as those of `uniform`: equal ones for equal integers."""
    bits = _mix(_mix(counter.astype(jnp.uint32) * jnp.uint32(0x9E3779B9) + salt[0]) ^ salt[1])
    return ((bits >> 9).astype(jnp.float32) + 0.5) * np.float32(2.0**-23)


def normal(salt, *shape: int):
    """Return float32 of this shape, standard normal (inverse error function, to 5 standard deviations)."""
    return lax.erf_inv(2.0 * uniform(salt, *shape) - 1.0) * np.float32(np.sqrt(2.0))
