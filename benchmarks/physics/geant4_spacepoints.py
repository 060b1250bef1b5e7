"""python -m benchmarks.physics.geant4_spacepoints: a Geant4 sample of annihilations -> Parquet in the collaboration's layout.

    python -m benchmarks.physics.geant4_spacepoints --geant4 SAMPLE.npz --out geant4.parquet
    python -m jaxhep.evaluate --workdir runs/pointnet --files geant4.parquet --out runs/pointnet/geant4

The sample holds spacepoints as compressed rows (`indptr`, `xyz_tenth_mm`), vertices in mm, and the charged pions at
the vertex. It has no amplitudes: points keep its order.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from jaxhep.alpha_g.production import write_parquet
from jaxhep.errors import BadInput, one_line


def read_sample(path: Path) -> dict[str, np.ndarray]:
    """Return the columns that the built-in simulation would give. Raises BadInput where the file is not such a sample."""
    try:
        with np.load(path) as sample:
            starts, points = sample["indptr"], sample["xyz_tenth_mm"].astype(np.float32) / 10
            vertex, pions = sample["vertex_mm"].astype(np.float32), sample["pions"][:, 0].astype(int)
    except (OSError, KeyError, ValueError) as error:
        raise BadInput(f"{path}: not a Geant4 sample of spacepoints ({type(error).__name__}: {error})") from None
    events = len(vertex)
    return {
        "count": np.diff(starts).astype(np.int32),
        "points": points,
        "amplitude": np.ones(len(points), np.float32),
        "vertex": vertex,
        "charged_pions": np.bincount(pions, minlength=events).astype(np.int8),
        "run": np.zeros(events, np.uint32),
        "event": np.arange(events, dtype=np.uint32),
    }


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.physics.geant4_spacepoints",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--geant4", type=Path, required=True, help="the sample, .npz")
    parser.add_argument("--out", type=Path, required=True, help="Parquet file to write")
    arguments = parser.parse_args(argv)
    columns = read_sample(arguments.geant4)
    write_parquet(arguments.out, iter([columns]))
    print(f"{arguments.out}: {len(columns['count'])} events, {len(columns['points'])} spacepoints")
    return 0


if __name__ == "__main__":
    sys.exit(one_line(main))
