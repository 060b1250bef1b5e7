"""The vertices that the ALPHA collaboration's reconstruction writes as CSV."""

import csv
from pathlib import Path

import numpy as np

from jaxhep.errors import BadInput, nearest

COLUMNS = ("serial_number", "trg_time", "reconstructed_x", "reconstructed_y", "reconstructed_z")
LARGEST_M = 10.0  # the detector is 2.3 m long: a larger coordinate is not in metres


def read_vertex_csv(path: str | Path) -> dict[str, np.ndarray]:
    """Return `serial_number` (n,) int64, `trg_time` (n,) float64 in s and `vertex` (n, 3) float64 x, y, z in mm.

    The file has lines that begin with # (two, as written), the header
    `serial_number,trg_time,reconstructed_x,reconstructed_y,reconstructed_z`, and one line per event, lengths in
    metres. Blank coordinates (no vertex) and a blank time become NaN; further columns are passed over.

    Raises BadInput, naming the file: none there, a column missing, what is not a number (with its line), or
    coordinates beyond 10, which cannot be metres.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read as a CSV of vertices ({type(error).__name__})") from None
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if not numbered:
        raise BadInput(f"{path}: no header, wanted {','.join(COLUMNS)}")
    header = [name.strip() for name in next(csv.reader([numbered[0][1]]))]
    for name in COLUMNS:
        if name not in header:
            raise BadInput(f"{path}: no column {name!r}{nearest(name, header)}, only {', '.join(header)}")
    places = [header.index(name) for name in COLUMNS]
    serial, rest = [], np.full((len(numbered) - 1, 4), np.nan)
    for row, (number, line) in enumerate(numbered[1:]):
        fields = next(csv.reader([line]))
        if len(fields) != len(header):
            raise BadInput(f"{path}: line {number} has {len(fields)} fields, wanted {len(header)}")
        values = [fields[place].strip() for place in places]
        try:
            serial.append(int(values[0]))
            rest[row] = [float(value) if value else np.nan for value in values[1:]]
        except ValueError:
            raise BadInput(f"{path}: line {number} has something that is not a number: {line.strip()!r}") from None
        largest = max(rest[row, 1:], key=lambda value: abs(value) if np.isfinite(value) else 0.0)
        if np.isinf(rest[row]).any() or abs(largest) > LARGEST_M:
            raise BadInput(f"{path}: line {number} has a coordinate of {largest:g}: wanted metres, are these mm?")
        missing = np.isnan(rest[row, 1:])
        if missing.any() and not missing.all():
            raise BadInput(f"{path}: line {number} has some coordinates but not all three: {line.strip()!r}")
    return {"serial_number": np.array(serial, np.int64), "trg_time": rest[:, 0], "vertex": 1000 * rest[:, 1:]}
