"""The file layouts of ALPHA-g spacepoints, HDF5, Parquet and jagged ROOT, as one: opened, checked, read in chunks.

- HDF5: dataset `data` (events, points, columns): x, y, z of the spacepoint, then true z and Helix Fit z (5 columns) or
  true x, y, z and Helix Fit x, y, z (9 columns), repeated on each row, and the wire amplitude as an optional last
  column (6, 10). Short events are padded with zeros.
- Parquet: `target` (3 floats) and `point_cloud` (a list of 3-float points); `run`, `event` and `charged_pions` where
  they are there.
- ROOT: tree `spacepoints` with the jagged branches `spacepoint_x`, `_y`, `_z` and, optionally, `_amplitude`, and one
  value per event of `vertex_x`, `_y`, `_z` and, optionally, `helix_fit_x`, `_y`, `_z`, `run`, `event`, `charged_pions`.

Lengths are in the file's unit, NaN stands for what is not known. NumPy, h5py, pyarrow and uproot; no JAX.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxhep import root
from jaxhep.errors import BadInput, first_line, nearest

ENDINGS = {".root": "root", ".h5": "hdf5", ".hdf5": "hdf5", ".parquet": "parquet"}
COLUMNS = {5: (1, False), 6: (1, True), 9: (3, False), 10: (3, True)}  # HDF5: coordinates of the vertex, amplitude
POINT = ("spacepoint_x", "spacepoint_y", "spacepoint_z")
VERTEX = ("vertex_x", "vertex_y", "vertex_z")
HELIX_FIT = ("helix_fit_x", "helix_fit_y", "helix_fit_z")
AMPLITUDE = "spacepoint_amplitude"
EXTRA = ("run", "event", "charged_pions")  # of an event, where files have them


class File(NamedTuple):
    """An open file, checked for what will be read."""

    path: Path | str
    kind: str
    entries: int
    has: frozenset[str]  # of "xy" (true x and y), "amplitude", "helix_fit", "run", "event", "charged_pions"
    handle: Any  # None of a file that was checked and closed


class Events(NamedTuple):
    """A range of events: `counts` (n,) spacepoints each, one after the other in `points` (sum(counts), 3)."""

    counts: np.ndarray
    points: np.ndarray
    amplitude: np.ndarray | None  # (sum(counts),)
    vertex: np.ndarray  # (n, 3), NaN where not known
    helix_fit: np.ndarray  # (n, 3)
    extra: dict[str, np.ndarray]  # those of EXTRA that the file has, (n,) each


def open_file(path: Path | str, tree: str) -> File:
    """Open a file by its ending. Raises BadInput where it is missing, damaged or of another layout."""
    kind = ENDINGS.get(Path(str(path)).suffix.lower())
    if kind is None:
        raise BadInput(f"{path}: wanted a file ending in {', '.join(ENDINGS)}")
    if isinstance(path, Path) and not path.is_file():
        raise BadInput(f"{path}: no such file")
    return {"root": _open_root, "hdf5": _open_hdf5, "parquet": _open_parquet}[kind](path, tree)


def read_events(file: File, start: int, stop: int) -> Events:
    """Return the events of a range of entries. Raises BadInput where they cannot be read."""
    return {"root": _read_root, "hdf5": _read_hdf5, "parquet": _read_parquet}[file.kind](file, start, stop)


def _open_hdf5(path, tree: str) -> File:
    import h5py

    try:
        handle = h5py.File(path, "r")
        names = list(handle)
        data = handle["data"] if "data" in names else None
    except Exception as error:
        raise BadInput(f"{path}: not a readable HDF5 file, truncated or damaged ({first_line(error)})") from None
    if not isinstance(data, h5py.Dataset):
        raise BadInput(f"{path}: no dataset 'data', it holds {', '.join(names) or 'nothing'}{nearest('data', names)}")
    if data.ndim != 3 or data.shape[2] not in COLUMNS or data.dtype.kind != "f":
        wanted = " or ".join(map(str, COLUMNS))
        raise BadInput(
            f"{path}: dataset 'data' is {data.shape} {data.dtype}, wanted floats (events, points, {wanted} columns)"
        )
    coordinates, amplitude = COLUMNS[data.shape[2]]
    has = {"helix_fit"} | ({"xy"} if coordinates == 3 else set()) | ({"amplitude"} if amplitude else set())
    return File(path, "hdf5", data.shape[0], frozenset(has), data)


def _read_hdf5(file: File, start: int, stop: int) -> Events:
    try:
        rows = file.handle[start:stop].astype(np.float32)
    except Exception as error:
        raise _damaged(file, start, stop, error) from None
    coordinates, amplitude = COLUMNS[rows.shape[2]]
    real = np.any(rows[:, :, :3] != 0, axis=2)
    truth = np.full((2, len(rows), 3), np.nan, np.float32)  # the vertex and the Helix Fit
    if rows.shape[1]:
        values = rows[:, 0, 3 : 3 + 2 * coordinates].reshape(len(rows), 2, coordinates)
        truth[:, :, 3 - coordinates :] = values.transpose(1, 0, 2)
    return Events(real.sum(axis=1), rows[real][:, :3], rows[real][:, -1] if amplitude else None, truth[0], truth[1], {})


def _open_parquet(path, tree: str) -> File:
    import pyarrow.parquet as parquet

    try:
        handle = parquet.ParquetFile(path)
        names = handle.schema_arrow.names
    except Exception as error:
        raise BadInput(f"{path}: not a readable Parquet file, truncated or damaged ({first_line(error)})") from None
    for name in ("target", "point_cloud"):
        if name not in names:
            raise BadInput(f"{path}: no column {name!r}{nearest(name, names)}, it holds {', '.join(names)}")
    has = {"xy"} | {name for name in (*EXTRA, "amplitude") if name in names}
    for name, depth in (("target", 1), ("point_cloud", 2), ("amplitude", 1), *((name, 0) for name in EXTRA)):
        if name in names and _depth(handle.schema_arrow.field(name).type) != depth:
            wanted = ("whole numbers", "a list of floats", "a list of lists of floats")[depth]
            found = handle.schema_arrow.field(name).type
            raise BadInput(f"{path}: column {name!r} holds {found}, wanted {wanted}")
    return File(path, "parquet", handle.metadata.num_rows, frozenset(has), _Rows(handle))


def _read_parquet(file: File, start: int, stop: int) -> Events:
    import pyarrow.compute as compute

    columns = ["target", "point_cloud", *sorted(file.has - {"xy"})]
    try:
        table = file.handle.rows(start, stop - start, columns)
        target = table["target"].combine_chunks()
        clouds = table["point_cloud"].combine_chunks()
        count = np.asarray(compute.list_value_length(clouds).fill_null(0), np.int64)
        each = [compute.list_value_length(values) for values in (target, clouds.flatten())]
        vertex, points = _flat(target.flatten()), _flat(clouds.flatten().flatten())
        extra = {name: table[name].combine_chunks() for name in EXTRA if name in file.has}
        amplitudes = table["amplitude"].combine_chunks() if "amplitude" in file.has else None
        sizes = count if amplitudes is None else np.asarray(compute.list_value_length(amplitudes).fill_null(0))
        amplitude = None if amplitudes is None else _flat(amplitudes.flatten())
    except Exception as error:
        raise _damaged(file, start, stop, error) from None
    if any(lengths.null_count or compute.any(compute.not_equal(lengths, 3)).as_py() for lengths in each):
        raise BadInput(f"{file.path}: target or point_cloud do not hold 3 floats each near entry {start}")
    if not np.array_equal(sizes, count):
        raise BadInput(f"{file.path}: amplitude and point_cloud differ in length near entry {start}")
    for name, values in extra.items():
        if values.null_count:
            raise BadInput(f"{file.path}: column {name!r} is empty near entry {start}, wanted a number for every event")
    nothing = np.full((len(count), 3), np.nan, np.float32)
    numbers = {name: np.asarray(values) for name, values in extra.items()}
    return Events(count, points.reshape(-1, 3), amplitude, vertex.reshape(-1, 3), nothing, numbers)


def _depth(kind: Any) -> int:
    """Return how many lists are nested around floats, 0 of whole numbers, -1 of anything else."""
    import pyarrow.types as types

    if types.is_integer(kind):
        return 0
    depth = 0
    while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        depth, kind = depth + 1, kind.value_type
    return depth if depth and types.is_floating(kind) else -1


class _Rows:
    """The rows of a Parquet file, read on from where the last range ended: a row group may hold millions."""

    def __init__(self, handle: Any):
        self.handle = handle
        self._at, self._rest = -1, None  # the next row, and what is left of the batch it is in
        self._batches: Any = iter(())

    def rows(self, start: int, wanted: int, columns: list[str]) -> Any:
        import pyarrow as pa

        if start != self._at:
            sizes = [self.handle.metadata.row_group(n).num_rows for n in range(self.handle.num_row_groups)]
            ends = np.cumsum(sizes)
            first = int(np.searchsorted(ends, start, side="right"))
            groups = list(range(first, len(sizes)))
            self._batches = self.handle.iter_batches(batch_size=1024, row_groups=groups, columns=columns)
            self._rest, self._at = None, int(ends[first] - sizes[first])
        parts: list[Any] = []
        while wanted:
            batch: Any = next(self._batches) if self._rest is None else self._rest
            skip = min(max(start - self._at, 0), batch.num_rows)
            taken: Any = batch.slice(skip, wanted)
            used = skip + taken.num_rows
            self._rest = batch.slice(used) if used < batch.num_rows else None
            self._at += used
            wanted -= taken.num_rows
            parts.append(taken)
        return pa.Table.from_batches(parts)


def _flat(values) -> np.ndarray:
    return np.asarray(values.to_numpy(zero_copy_only=False), np.float32)


def _open_root(path, tree: str) -> File:
    found = root.open_tree(path, tree)
    root.require(found, (*POINT, *VERTEX))
    has = {"xy"} | {name for name in EXTRA if name in found.branches}
    has |= {"amplitude"} if AMPLITUDE in found.branches else set()
    has |= {"helix_fit"} if set(HELIX_FIT) <= set(found.branches) else set()
    return File(path, "root", found.entries, frozenset(has), found)


def _read_root(file: File, start: int, stop: int) -> Events:
    tree, jagged = file.handle, [*POINT, *([AMPLITUDE] if "amplitude" in file.has else [])]
    count, points = root.read_jagged(tree, jagged, start, stop)
    names = [*VERTEX, *(HELIX_FIT if "helix_fit" in file.has else ()), *(n for n in EXTRA if n in file.has)]
    scalars = root.read_scalars(tree, names, start, stop)

    def together(columns) -> np.ndarray:
        missing = np.full(stop - start, np.nan)
        return np.stack([scalars.get(name, missing) for name in columns], axis=1).astype(np.float32)

    extra = {name: scalars[name] for name in EXTRA if name in file.has}
    xyz = np.stack([points[name] for name in POINT], axis=1)
    return Events(count, xyz, points.get(AMPLITUDE), together(VERTEX), together(HELIX_FIT), extra)


def _damaged(file: File, start: int, stop: int, error: Exception) -> BadInput:
    return BadInput(
        f"{file.path}: cannot be read at entries {start} to {stop}, file truncated or damaged ({first_line(error)})"
    )
