"""jaxhep: from detector data to a published-quality plot with pure-functional JAX/Flax networks."""

__version__ = "0.1.0"
