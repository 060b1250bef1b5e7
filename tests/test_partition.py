"""Kernels of our own on several devices: each works on its own events, and the numbers are those of one device."""

import os
import subprocess
import sys

from conftest import ROOT


def test_four_devices_share_a_batch_without_gathering_it():
    flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    result = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "four_kernels.py")],
        capture_output=True,
        text=True,
        env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
