"""How programs are compiled: kept on disk, so that a second start takes no compile time, and on a CPU for little memory."""

import os
from functools import cache
from pathlib import Path

# XLA's usual schedule on a CPU starts whatever could run side by side as early as it can, and holds its results: twice
# the memory for a training step of the CvT, and a tenth more time for the larger networks (benchmarks/NOTES.md).
LITTLE_MEMORY: dict[str, str | bool] = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


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


def options(platform: str) -> dict[str, str | bool]:
    """Return XLA's options for training and scoring on a platform: what `jax.jit` takes as `compiler_options`."""
    return dict(LITTLE_MEMORY) if platform == "cpu" and xla_knows_schedules() else {}


@cache
def xla_knows_schedules() -> bool:
    """Return whether this version of XLA has the option: others refuse to compile."""
    import jax

    try:
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            jax.jit(lambda x: x).lower(0.0).compile(compiler_options=LITTLE_MEMORY)
    except jax.errors.JaxRuntimeError:
        return False
    return True
