"""Compiled programs kept on disk between runs: the second start of the same network takes no compile time."""

import os
from pathlib import Path


def keep() -> None:
    """Use XLA's persistent cache in $JAX_COMPILATION_CACHE_DIR, or ~/.cache/jaxhep/xla; "off" there turns it off."""
    import jax

    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR", "")
    if folder == "off":
        jax.config.update("jax_compilation_cache_dir", None)
        return
    if not folder:
        folder = str(Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jaxhep" / "xla")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update(
        "jax_persistent_cache_min_compile_time_secs",
        float(os.environ.get("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", 1)),
    )
