"""What a run leaves to be read: log.jsonl, TensorBoard, provenance.json."""

import json
import os
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxhep import processes
from jaxhep.files import aside

PACKAGES = ("jaxhep", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "uproot")


class Log:
    """Numbers by step, to `log.jsonl` and TensorBoard; lines beyond the step that a run continues from are removed."""

    def __init__(self, workdir: Path, step: int, writes: bool = True):
        self.writes = writes
        if not writes:  # of several processes, one does
            return
        from tensorboardX import SummaryWriter

        self.path = workdir / "log.jsonl"
        kept = [line for line in read_log(workdir) if line["step"] <= step]
        with aside(self.path) as partial:
            partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._file = open(self.path, "a")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, step: int, **numbers: Any) -> None:
        """Add a line of JSON values; those that are numbers go to TensorBoard too."""
        if not self.writes:
            return
        self._file.write(json.dumps({"step": step, **numbers}) + "\n")
        self._file.flush()
        for name, value in numbers.items():
            if isinstance(value, (int, float)):
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close both."""
        if not self.writes:
            return
        self._file.close()
        self._board.close()


def read_log(workdir: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log, without a last one that a kill cut short."""
    path = workdir / "log.jsonl"
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def provenance(**facts: Any) -> dict[str, Any]:
    """Return what made this run: command, commit, versions, devices, time, and the facts given."""
    import jax

    versions: dict[str, str | None] = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "commit": commit(),
        "versions": versions,
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "processes": processes.count(),
        "processors": os.cpu_count(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **facts,
    }


def commit() -> str | None:
    """Return the commit of the code, with `-dirty` where it was changed since; None outside its own repository."""
    own = Path(__file__).resolve().parents[1]
    # Installed inside the checkout of something else, jaxhep must not take that one's commit for its own.
    if _git(own, "rev-parse", "--show-toplevel") != str(own):
        return None
    return _git(own, "describe", "--always", "--dirty", "--abbrev=12")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        found = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
