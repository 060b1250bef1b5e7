"""Accelerators that need not be there: how JAX compiles for each, and what its data sheet says.

Links of TPUs: https://jax-ml.github.io/scaling-book (two axes, no way round on slices below 16 x 16).
NVIDIA: https://www.nvidia.com/en-us/data-center/h100/ and .../h200/ (SXM, dense rates); 1.83 GHz with tensor cores busy.
Google: https://cloud.google.com/tpu/docs/v5e and .../v6e; clocks from the peak rates and the size of the matrix units.
"""

import os
from collections.abc import MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from jaxhep.errors import BadInput, one_of

GB = 1e9


class Target(NamedTuple):
    """What a device can do; rates in 1/s, sizes in bytes."""

    platform: str  # as JAX's devices call it
    name: str  # of the device, as JAX gives it
    bandwidth: float  # of its memory, bytes/s
    peaks: dict[str, float]  # operations/s of matrix products by the type of their operands
    memory: float
    launch: float  # seconds that a kernel costs at least: an assumption; 0 where one program has no launches
    clock: float  # cycles/s of the matrix units, for estimates by XLA; 0 where XLA makes none
    link: float  # bytes/s that a device sends to its neighbours, one direction
    hosts_of: int  # devices that the fast links join; beyond them `network` counts
    network: float  # bytes/s of each device between hosts, one direction
    latency: float  # seconds of one hop of a collective: an assumption


H100_PEAKS = {
    "bf16": 790e12,
    "f16": 790e12,
    "f32": 395e12,
}  # 989 and 494 at the boost clock, which products do not hold
TARGETS = {
    "h100": Target(
        "gpu", "NVIDIA H100 80GB HBM3", 3352 * GB, H100_PEAKS, 84_942_979_072, 2e-6, 0, 450 * GB, 8, 50 * GB, 2.5e-6
    ),
    "h200": Target(
        "gpu", "NVIDIA H200 141GB HBM3e", 4800 * GB, H100_PEAKS, 151_397_597_184, 2e-6, 0, 450 * GB, 8, 50 * GB, 2.5e-6
    ),
    "v5e": Target("tpu", "TPU v5 lite", 819 * GB, {"bf16": 197e12}, 16 * 2**30, 0, 1.5e9, 90 * GB, 256, 25 * GB, 1e-6),
    "v6e": Target(
        "tpu", "TPU v6 lite", 1640 * GB, {"bf16": 918e12}, 32 * 2**30, 0, 1.75e9, 180 * GB, 256, 25 * GB, 1e-6
    ),
}
TPU_SHAPES = {1: "2x2", 2: "2x2", 4: "2x2", 8: "2x4", 16: "4x4", 64: "8x8", 256: "16x16"}
PACKAGES = {"gpu": ("jax-cuda13-pjrt", "jax[cuda13]"), "tpu": ("libtpu", "jax[tpu]")}


def prepare_environment(name: str, environment: MutableMapping[str, str] = os.environ) -> None:
    """Set what JAX must find before it starts: no device of this machine but its CPU, and no search for a TPU host."""
    environment.update(JAX_PLATFORMS="cpu", TPU_SKIP_MDS_QUERY="1", TPU_WORKER_HOSTNAMES="localhost", TPU_WORKER_ID="0")
    environment.update(ALLOW_MULTIPLE_LIBTPU_LOAD="1", TPU_MIN_LOG_LEVEL="3", TF_CPP_MIN_LOG_LEVEL="3")
    if name == "v5e":
        environment["TPU_ACCELERATOR_TYPE"] = "v5litepod-4"
    elif name == "v6e":
        environment["TPU_ACCELERATOR_TYPE"] = "v6e-4"


def why_not(name: str) -> str:
    """Return why programs cannot be compiled for a target here, or nothing."""
    from benchmarks.machine import version

    package, extra = PACKAGES[TARGETS[name].platform]
    return "" if version(package) else f"{package} is not installed: pip install '{extra}'"


def devices(name: str, count: int) -> list[Any]:
    """Return so many devices of a target, none of which need be there.

    Raises BadInput for an unknown target, a missing package, or a number of TPUs that no slice has.
    """
    from jax.experimental import topologies

    one_of(name, TARGETS, "the target")
    if reason := why_not(name):
        raise BadInput(reason)
    if TARGETS[name].platform == "tpu":
        if count not in TPU_SHAPES:
            raise BadInput(f"no TPU slice of {count} devices; wanted one of {', '.join(map(str, TPU_SHAPES))}")
        found = topologies.get_topology_desc(platform="tpu", topology_name=f"{name}:{TPU_SHAPES[count]}")
    else:
        options = {"topology": f"1x1x{count}", "target_config": gpu_description(TARGETS[name])}
        found = topologies.get_topology_desc(platform="cuda", topology_name=name, **options)
    return list(found.devices[:count])


def context(name: str) -> AbstractContextManager:
    """Return what surrounds the lowering: kernels written in Pallas ask which device they are for."""
    import jax
    from jax.sharding import AbstractMesh

    target = TARGETS[name]
    if target.platform != "gpu":
        return nullcontext()
    try:
        device = jax.sharding.AbstractDevice(target.name, 132, "gpu")
    except TypeError:  # before jax 0.11 it knew no platform
        device = jax.sharding.AbstractDevice(target.name, 132)  # type: ignore[call-arg]
    return jax.sharding.use_abstract_mesh(AbstractMesh((), (), abstract_device=device))


def gpu_description(target: Target) -> str:
    """Return XLA's description of a Hopper GPU, as text of its GpuTargetConfigProto: 132 processors of 4 tensor cores."""

    def rates(unit: str, clock: float, of_types: dict[int, tuple[int, int]]) -> str:
        # Keys are XLA's PrimitiveType.
        each = (
            f"rate_infos {{ key: {key} value {{ clock_rate_ghz: {clock} units_per_core: {units} ops_per_clock: {ops} }} }}"
            for key, (units, ops) in of_types.items()
        )
        return f"{unit} {{ {' '.join(each)} }}"

    scalar = {4: (64, 1), 8: (64, 1), 10: (128, 2), 11: (128, 1), 12: (64, 1), 16: (128, 2)}
    matrix = {2: 1024, 6: 1024, 10: 512, 11: 256, 16: 512, 19: 1024, 20: 1024}
    return f"""gpu_device_info {{
threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
block_dim_limit_z: 65535 memory_bandwidth: {target.bandwidth:.0f} l2_cache_size: 52428800 clock_rate_ghz: 1.98
device_memory_size: {target.memory:.0f} shared_memory_per_block_optin: 232448
cuda_compute_capability {{ major: 9 feature_extension: ACCELERATED_FEATURES }}
registers_per_core_limit: 65536 registers_per_block_limit: 65536
{rates("scalar_unit_description", 1.98, scalar)}
{rates("matrix_unit_description", 1.83, {k: (4, v) for k, v in matrix.items()})}
thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64 device_vendor: "NVIDIA Corporation"
platform_version: "Compute Capability 9.0a" device_address_bits: 64 pcie_bandwidth: 34359738368 ecc_enabled: true
name: "{target.name}" driver_version: "13.0.0" runtime_version: "12.8.0" compile_time_toolkit_version: "12.8.0"
dnn_version: "9.10.0" cub_version: "3.1.2" device_interconnect_info {{ active_links: 18 }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
runtime_version {{ major: 12 minor: 8 patch: 0 }}
device_description_str: "{target.name}"
"""
