"""The machine that the throughput benchmark runs on: its accelerator, what a row says of it, what its processes start with."""

import datetime
import importlib.util
import os
import platform as system
import subprocess
from collections.abc import Mapping
from pathlib import Path

from jaxhep.huge_pages import environment as with_huge_pages

PLATFORMS = ("cpu", "gpu", "tpu")
HALF_FLAGS = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}  # of processors that multiply bfloat16 in hardware


def output_of(*command: str) -> str:
    """What a command prints, or nothing where it is missing or fails."""
    try:
        found = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def find_platform() -> str:
    """The platform that JAX would choose, asked without loading it."""
    if output_of("nvidia-smi", "-L"):
        return "gpu"
    chips = [*Path("/dev").glob("accel*"), *Path("/dev").glob("vfio/[0-9]*")]
    return "tpu" if chips and importlib.util.find_spec("libtpu") else "cpu"


def count_devices(platform: str, asked: int) -> int:
    """How many devices JAX will use; 0 for all chips of a TPU host, which only JAX can count."""
    if platform == "gpu":
        found = len(output_of("nvidia-smi", "-L").splitlines())
        return min(asked, found) if asked else found
    return asked or (1 if platform == "cpu" else 0)


def cpu_field(name: str) -> str:
    """A field of /proc/cpuinfo, or nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def half_in_hardware() -> bool:
    """Whether the processor multiplies bfloat16 in hardware."""
    return bool(HALF_FLAGS & set(f"{cpu_field('flags')} {cpu_field('Features')}".split()))


def stamp() -> dict:
    """Date, commit, machine and its load now."""
    driver = output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").splitlines()
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": output_of("git", "rev-parse", "--short", "HEAD") + "+" * bool(output_of("git", "diff", "--stat")),
        "cpu": cpu_field("model name") or system.processor() or system.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "driver": driver[0] if driver else "",
        "python": system.python_version(),
    }


def environment(given: Mapping[str, str], platform: str, devices: int, alone: bool, passive: bool) -> dict[str, str]:
    """The environment that a process of the benchmark starts with.

    alone: no other process holds memory of the device, so that JAX may take nearly all of it at once;
    passive: threads of PyTorch that wait do not spin.
    """
    chosen = {**given, "JAX_PLATFORMS": {"gpu": "cuda"}.get(platform, platform)}
    if platform == "cpu":
        chosen = {**with_huge_pages(chosen), "THP_MEM_ALLOC_ENABLE": "1", "CUDA_VISIBLE_DEVICES": ""}
        if devices > 1:
            flags = f"{chosen.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
            chosen["XLA_FLAGS"] = flags.strip()
    else:
        # Without alone, memory is taken as it is needed, which leaves room for the others.
        chosen |= {"XLA_PYTHON_CLIENT_PREALLOCATE": str(alone).lower(), "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.94"}
    return chosen | ({"OMP_WAIT_POLICY": "PASSIVE"} if passive else {})


def available_bytes() -> int:
    """Memory of the machine that processes can still take; 0 where the system does not tell."""
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 0


def device_bytes() -> float:
    """Memory of one NVIDIA GPU; 0 where the system does not tell."""
    found = output_of("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits").splitlines()
    return float(found[0]) * 2**20 if found and found[0].strip().isdigit() else 0.0
