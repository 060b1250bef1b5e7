"""Read branches of ROOT files in bounded chunks, write trees: uproot behind checks that name the file.

uproot reads what it finds: files that differ in a branch's type or length are passed through in silence, and a
damaged basket is noticed only when it is reached. So every file is checked when it is opened, and every failure
becomes one line with the file, the branch and the entries.
"""

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import uproot

from jaxhep.errors import BadInput, first_line, nearest
from jaxhep.files import aside

SUPERCHUNK = 65_536  # entries whose scalar branches are read at once: a few MB
CHUNK = 2_048  # entries whose cells are read at once: 10 MB, small enough for the allocator to reuse


class Tree(NamedTuple):
    """An open tree or RNTuple, checked for the branches that will be read."""

    path: Path | str
    name: str
    entries: int
    branches: tuple[str, ...]
    handle: Any  # None of a file that was checked and closed


def expand(patterns: str, what: str, endings: Sequence[str] = (".root",)) -> list[Path | str]:
    """Return the files that comma-separated paths, globs or folders name, sorted within each, none twice.

    A remote file (`root://...`) stays the text that it is.

    Of a folder, the files with one of the `endings` are taken. Raises BadInput for a pattern that matches nothing and
    for a folder without such files; `what` says in the message what the files were wanted for.
    """
    files: list[Path | str] = []
    for pattern in (part.strip() for part in patterns.split(",") if part.strip()):
        if "://" in pattern:  # a remote file is opened as it is named
            files.append(pattern)
            continue
        pattern = os.path.expanduser(pattern)
        if os.path.isdir(pattern):
            found = sorted(path for path in Path(pattern).iterdir() if path.suffix.lower() in endings)
            if not found:
                kinds = " or ".join(f"*{ending}" for ending in endings)
                raise BadInput(f"{pattern}: folder without files {kinds}, wanted {what}")
        else:
            found = sorted(map(Path, glob.glob(pattern, recursive=True)))
            if not found:
                near = (
                    nearest(os.path.basename(pattern), os.listdir(os.path.dirname(pattern) or "."))
                    if os.path.isdir(os.path.dirname(pattern) or ".")
                    else ""
                )
                raise BadInput(f"{pattern}: no such file, wanted {what}{near}")
        files += found
    if not files:
        raise BadInput(f"no file named, wanted {what}")
    return list({str(path.resolve()) if isinstance(path, Path) else path: path for path in files}.values())


def open_tree(path: Path | str, name: str) -> Tree:
    """Open a tree. Raises BadInput where the file is missing, truncated, not ROOT, or has no such tree."""
    try:
        file = uproot.open(path)  # type: ignore[attr-defined]
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except Exception as error:
        raise BadInput(f"{path}: not a readable ROOT file, truncated or damaged ({first_line(error)})") from None
    if isinstance(path, Path) and path.stat().st_size < file.file.fEND:
        raise BadInput(f"{path}: truncated, {path.stat().st_size} of {file.file.fEND} bytes are there")
    try:
        keys = file.keys(cycle=False)
        if name not in keys:
            raise BadInput(f"{path}: no tree {name!r} in this file, it holds {_listing(keys)}{nearest(name, keys)}")
        handle = file[name]
        if not hasattr(handle, "num_entries"):
            raise BadInput(f"{path}: {name!r} is a {type(handle).__name__}, wanted a TTree or RNTuple")
        return Tree(path, name, int(handle.num_entries), tuple(handle.keys()), handle)
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(
            f"{path}: tree {name!r} cannot be read, file truncated or damaged ({first_line(error)})"
        ) from None


def require(tree: Tree, branches: Iterable[str]) -> None:
    """Raise BadInput for the first branch that is not in the tree, with the nearest name there is."""
    for branch in branches:
        if branch not in tree.branches:
            raise BadInput(
                f"{tree.path}: no branch {branch!r} in tree {tree.name!r}{nearest(branch, tree.branches)}, it holds {_listing(tree.branches)}"
            )


def require_cells(tree: Tree, branch: str, cells: int) -> None:
    """Raise BadInput unless the branch holds `cells` floats per event, as far as its type tells."""
    if tree.handle is None:
        return  # closed again: it was checked when it was open
    dtype = _fixed_dtype(tree, branch)
    if dtype is None:
        return  # jagged or RNTuple: checked chunk by chunk as it is read
    base, shape = dtype.base, dtype.shape
    if base.kind != "f":
        raise BadInput(f"{tree.path}: branch {branch!r} holds {base.name}, wanted float32 or float64")
    if int(np.prod(shape)) != cells:
        raise BadInput(f"{tree.path}: branch {branch!r} holds {int(np.prod(shape))} values per event, wanted {cells}")


def read_scalars(tree: Tree, branches: Sequence[str], start: int, stop: int) -> dict[str, np.ndarray]:
    """Return one float64 or integer value per event and branch, shape (stop - start,).

    Arrays (fixed or jagged) give their element 0; an event whose array is empty gives NaN.
    """
    arrays = {}
    for branch in branches:
        values = _read(tree, branch, start, stop)
        if isinstance(values, ak.Array):
            values = ak.to_numpy(ak.fill_none(ak.firsts(values, axis=1), np.nan))
        if values.ndim > 1:
            values = values.reshape(len(values), -1)[:, 0]
        if values.dtype.kind not in "fiub":
            raise BadInput(f"{tree.path}: branch {branch!r} holds {values.dtype}, wanted numbers")
        arrays[branch] = values
    return arrays


def read_jagged(tree: Tree, branches: Sequence[str], start: int, stop: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the number of values per event (stop - start,) and, by branch, all values one after the other, float32.

    Raises BadInput where branches differ in length or hold no numbers.
    """
    counts, flat = None, {}
    for branch in branches:
        values = _read(tree, branch, start, stop)
        if values.ndim != 2:
            raise BadInput(f"{tree.path}: branch {branch!r} has one value per event, wanted a list of numbers")
        found = np.asarray(ak.num(values, axis=1))
        if counts is not None and not np.array_equal(found, counts):
            raise BadInput(f"{tree.path}: branches {branches[0]!r} and {branch!r} differ in length near entry {start}")
        counts, content = found, ak.to_numpy(ak.flatten(values, axis=1))
        if content.dtype.kind not in "fiu":
            raise BadInput(f"{tree.path}: branch {branch!r} holds {content.dtype}, wanted numbers")
        flat[branch] = content.astype(np.float32)
    assert counts is not None
    return counts, flat


def read_cells(tree: Tree, branch: str, cells: int, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first entry, values (n, cells) float32 or float64, maybe big-endian) for the entries wanted.

    Values stay in the byte order of the file: most cells are empty, and swapping the others alone is cheaper.
    A range that is one basket is taken as decompressed, without a copy.
    """
    dtype = _fixed_dtype(tree, branch)
    if dtype is None:
        for first in range(start, stop, CHUNK):
            last = min(first + CHUNK, stop)
            values = _read(tree, branch, first, last)
            if isinstance(values, ak.Array):
                counts = np.unique(ak.to_numpy(ak.num(values, axis=1)))
                if list(counts) != [cells]:
                    raise BadInput(
                        f"{tree.path}: branch {branch!r} holds {counts[0]} to {counts[-1]} values per event, wanted {cells}"
                    )
                values = ak.to_numpy(values)
            if values.dtype.kind != "f" or int(np.prod(values.shape[1:])) != cells:
                raise BadInput(
                    f"{tree.path}: branch {branch!r} holds {values.shape[1:]} {values.dtype}, wanted {cells} float32"
                )
            yield first, values.reshape(len(values), cells)
        return
    raw = np.dtype((dtype.base.newbyteorder(">"), dtype.shape))
    interpretation = uproot.AsDtype(raw, raw)  # type: ignore[attr-defined]
    handle = tree.handle[branch]
    offsets = list(handle.entry_offsets)
    baskets = {begin: (number, end) for number, (begin, end) in enumerate(pairwise(offsets))}
    first = start
    while first < stop:
        number, end = baskets.get(first, (-1, 0))
        try:
            if CHUNK // 8 <= end - first <= 4 * CHUNK and end <= stop:
                last = end
                values = handle.basket(number).data.view(raw.base)
            else:
                # Many small baskets: end at a basket's end where one lies near, so that none is decompressed twice.
                last = min(
                    max((near for near in offsets if first < near <= first + 2 * CHUNK), default=first + CHUNK), stop
                )
                values = handle.array(interpretation, entry_start=first, entry_stop=last, library="np")
            values = values.reshape(-1, cells)
        except Exception as error:
            raise _damaged(tree, branch, first, min(first + CHUNK, stop), error) from None
        if len(values) != last - first:
            raise BadInput(
                f"{tree.path}: branch {branch!r} gave {len(values)} of {last - first} entries from {first}, file damaged"
            )
        yield first, values
        first = last


def write_tree(path: Path, name: str, types: Mapping[str, Any], chunks: Iterable[dict[str, np.ndarray]]) -> int:
    """Write a TTree, one basket per chunk, aside and renamed when whole; return its number of entries.

    mktree, as plain assignment writes an RNTuple; lz4, as it reads fastest.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = 0
    lz4 = uproot.LZ4(1)  # type: ignore[attr-defined]
    with aside(path) as partial, uproot.recreate(partial, compression=lz4) as file:  # type: ignore[attr-defined]
        tree = file.mktree(name, dict(types))
        for chunk in chunks:
            tree.extend(chunk)
            entries += len(next(iter(chunk.values())))
    return entries


def _fixed_dtype(tree: Tree, branch: str) -> np.dtype | None:
    """Return the dtype (with shape) of one event of a fixed-size TTree branch, None for any other kind."""
    interpretation = getattr(tree.handle[branch], "interpretation", None)
    if isinstance(interpretation, uproot.AsDtype):  # type: ignore[attr-defined]
        return interpretation.from_dtype
    return None


def _read(tree: Tree, branch: str, start: int, stop: int) -> np.ndarray | ak.Array:
    """Return a branch's entries as a NumPy array, or as an Awkward array where they are jagged."""
    try:
        array = tree.handle[branch].array(entry_start=start, entry_stop=stop, library="ak")
        if len(array) != stop - start:
            raise BadInput(f"only {len(array)} entries there")
        return array if array.ndim > 1 and "var" in str(array.type) else ak.to_numpy(array)
    except Exception as error:
        raise _damaged(tree, branch, start, stop, error) from None


def _damaged(tree: Tree, branch: str, start: int, stop: int, error: Exception) -> BadInput:
    return BadInput(
        f"{tree.path}: branch {branch!r} cannot be read at entries {start} to {stop}, file truncated or damaged ({first_line(error)})"
    )


def _listing(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "") if names else "nothing"
