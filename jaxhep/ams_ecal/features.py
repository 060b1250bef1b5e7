"""ROOT branches of the calorimeter -> records: selection, labels, splits, cells in 16 bits. NumPy only.

Cells are stored as round(4096 log(1 + E / MeV)) in unsigned 16 bits: zero stays zero, energies up to 8.9 TeV per
cell fit, and the step is 1/4096, so that the relative error is below 0.013 % (plus 0.12 keV near zero). float16 of
the same logarithm would lose up to 0.4 % in the same two bytes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxhep import root
from jaxhep.ams_ecal.recipes import Recipe
from jaxhep.errors import BadInput, one_of
from jaxhep.records import Chunk, choose_split, keys_of, shuffling

CELL_BRANCH = "edep_cell"
SHAPE = (18, 72)
CODES_PER_UNIT = 4096  # steps per unit of log(1 + E / MeV)
MEV = {"keV": 1e-3, "MeV": 1.0, "GeV": 1e3}
TRACK_BRANCHES = (
    "Trk_Ecal_Inci_X",
    "Trk_Ecal_Inci_Y",
    "Trk_Ecal_Inci_Z",
    "Trk_Ecal_Inci_Zenith",
    "Trk_Ecal_Inci_Azimutal",
)
OBSERVERS = (
    "ecal3dbdt",
    "EcalEMlhd",
    "weight",
)  # kept where every file has them: reference scores, event weights
ENCODING = f"round({CODES_PER_UNIT} log(1 + E / MeV)), uint16"


class Labelling(NamedTuple):
    """How flight data are labelled: by two cuts on one branch; events between the cuts are left out."""

    branch: str = "trd_lik"
    electron_below: float = 0.6
    proton_above: float = 0.8


class Selection(NamedTuple):
    """All that turns branches into records."""

    recipe: Recipe
    cell_unit: str = "MeV"
    tree: str = "t1"
    labelling: Labelling = Labelling()
    observers: tuple[str, ...] = ()  # those of OBSERVERS that every file has
    identified: bool = True  # files have `run` and `event`
    generated: bool = True  # files have `mom`


def open_file(path: Path | str, selection: Selection) -> root.Tree:
    """Open the tree of a file. Raises BadInput where it is not there or not readable."""
    return root.open_tree(path, selection.tree)


def describe(selection: Selection, trees: list[root.Tree]) -> Selection:
    """Check the branches of every file and return the selection with what they all have.

    Raises BadInput naming the file for a missing branch, a wrong cell count, a wrong type.
    """
    one_of(selection.cell_unit, MEV, "config.data.cell_unit")
    for tree in trees:
        root.require(tree, required_branches(selection))
        root.require_cells(tree, CELL_BRANCH, SHAPE[0] * SHAPE[1])
    common = set.intersection(*(set(tree.branches) for tree in trees))
    return selection._replace(
        observers=tuple(name for name in OBSERVERS if name in common),
        identified={"run", "event"} <= common,
        generated="mom" in common,
    )


def required_branches(selection: Selection) -> list[str]:
    """Return the branches without which the recipe cannot be made."""
    recipe = selection.recipe
    names = [CELL_BRANCH, "en3d"]
    names += ["mom"] if recipe.energy == "mom" else []
    names += [selection.labelling.branch] if recipe.label == "trd" else []
    return names + (list(TRACK_BRANCHES) if recipe.track else [])


def record_dtype(selection: Selection) -> np.dtype:
    """Return the dtype of one stored event; every field but `key` becomes a column."""
    fields: list[Any] = [("key", "u8"), ("cells", "u2", SHAPE), ("label", "u1"), ("en3d", "f4")]
    fields += [("mom", "f4")] if selection.generated else []
    fields += [("run", "i8"), ("event", "i8")] if selection.identified else []
    fields += [("track", "f4", (len(TRACK_BRANCHES),))] if selection.recipe.track else []
    return np.dtype(fields + [(name, "f4") for name in selection.observers])


def read_records(tree: root.Tree, label: int | None, selection: Selection, start: int = 0) -> Iterator[Chunk]:
    """Yield the records of a file from entry `start` on, in chunks of bounded size.

    `label` is 1 for electrons, 0 for protons, None where the labelling rule decides. Raises BadInput for NaN or
    negative energies and for cells whose sum does not fit `en3d` in the stated unit.
    """
    # The identity of an event comes from its own file alone: what other files hold must not move it between splits.
    identity = tuple(name for name in ("run", "event") if {"run", "event"} <= set(tree.branches))
    identity = identity or tuple(name for name in ("en3d", "mom") if name in tree.branches)
    names = list(dict.fromkeys([*_scalar_branches(selection), *identity]))
    checked_unit = False
    for first in range(start, tree.entries, root.SUPERCHUNK):
        last = min(first + root.SUPERCHUNK, tree.entries)
        scalars = root.read_scalars(tree, names, first, last)
        for name in {"en3d", selection.recipe.energy}:
            _check_energies(tree, name, scalars[name], first)
        kept, labels, split, dropped = _select(selection, scalars, label)
        keys = keys_of(labels, *(scalars[name] for name in identity))
        split = _split(selection.recipe, split, keys)
        for begin, cells in root.read_cells(tree, CELL_BRANCH, SHAPE[0] * SHAPE[1], first, last):
            inside = slice(begin - first, begin - first + len(cells))
            rows = np.flatnonzero(kept[inside])
            records = np.zeros(len(rows), record_dtype(selection))
            if len(rows):
                chosen = cells if len(rows) == len(cells) else cells[rows]
                codes = encode_cells(chosen, MEV[selection.cell_unit], tree.path, begin)
                at = rows + inside.start
                if not checked_unit:
                    _check_unit(tree.path, codes, scalars["en3d"][at], selection.cell_unit)
                    checked_unit = True
                _fill(records, selection, scalars, at, labels, keys, codes)
            following = begin + len(cells)
            yield Chunk(records, split[inside][rows], len(cells), dropped, following, following == last)
            dropped = {}


def expected_bytes(selection: Selection, labelled: list[tuple[root.Tree, int | None]], record: np.dtype) -> float:
    """Return the size of the columns; what is selected is judged by the first entries of each label's first file."""
    events, fraction = 0.0, {}
    names = list(dict.fromkeys(_scalar_branches(selection)))
    for tree, label in labelled:
        if label not in fraction and tree.entries:
            opened = open_file(tree.path, selection)
            scalars = root.read_scalars(opened, names, 0, min(tree.entries, root.SUPERCHUNK))
            fraction[label] = float(np.mean(_select(selection, scalars, label)[0]))
        events += tree.entries * fraction.get(label, 0.0)
    return events * record.itemsize


def encode_cells(values: np.ndarray, unit_mev: float, path: Path | str = "", first: int = 0) -> np.ndarray:
    """Return 16-bit codes (n, 18, 72) of energies (n, 1296) in units of `unit_mev` MeV, any byte order.

    Logarithms are taken of non-zero cells only. Raises BadInput for NaN, infinite or negative energies.
    """
    codes = np.zeros(values.shape, np.uint16)
    bits = np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}").ravel()
    hit = np.flatnonzero(bits != 0)
    energies = values.reshape(-1)[hit].astype(np.float32)
    # One pass finds NaN, infinities and negative values alike: none of them lies in [0, limit].
    lowest, highest = (energies.min(), energies.max()) if len(energies) else (0.0, 0.0)
    limit = np.expm1(65535 / CODES_PER_UNIT) / unit_mev
    if not (lowest >= 0 and highest < limit):
        wrong = hit[~((energies >= 0) & (energies < limit))][0]
        event, cell = divmod(int(wrong), values.shape[1])
        value = values.reshape(-1)[wrong]
        wanted = "a finite energy of at least 0"
        if value >= limit and np.isfinite(value):
            wanted = f"less than {limit:.3g} of the unit of config.data.cell_unit: is that unit right?"
        raise BadInput(f"{path}: {CELL_BRANCH} is {value} in cell {cell} near entry {first + event}, wanted {wanted}")
    if unit_mev != 1.0:
        energies *= np.float32(unit_mev)
    np.log1p(energies, out=energies)
    energies *= CODES_PER_UNIT
    codes.reshape(-1)[hit] = np.rint(energies, out=energies).astype(np.uint16)
    return codes.reshape(-1, *SHAPE)


def decode_cells(codes: np.ndarray) -> np.ndarray:
    """Return cell energies in MeV, float32, of stored codes of any shape."""
    return np.expm1(codes.astype(np.float32) / CODES_PER_UNIT)


def scaling(records: np.ndarray) -> dict[str, float]:
    """Return the scale of the network's input from training records: the mean of log(1 + E / MeV) over hit cells."""
    codes = records["cells"]
    hits = np.count_nonzero(codes)
    return {"log_cell_mean": float(codes.sum(dtype=np.float64) / CODES_PER_UNIT / hits) if hits else 1.0}


def _scalar_branches(selection: Selection) -> list[str]:
    names = [name for name in required_branches(selection) if name != CELL_BRANCH] + list(selection.observers)
    names += ["mom"] if selection.generated else []
    return names + (["run", "event"] if selection.identified else [])


def _select(selection: Selection, scalars: dict[str, np.ndarray], label: int | None):
    """Return kept (n,) bool, labels (n,), band (n,) and the count left out by reason."""
    recipe = selection.recipe
    energy = scalars[recipe.energy]
    band = np.full(len(energy), -1)
    for index, (low, high, _) in enumerate(recipe.bands):
        top = energy <= high if index == len(recipe.bands) - 1 and recipe.energy == "en3d" else energy < high
        band[(energy >= low) & top] = index
    kept = band >= 0
    dropped = {f"{recipe.energy} outside the recipe's range": int(np.sum(~kept))}
    if label is None:
        value = scalars[selection.labelling.branch]
        electron, proton = (
            value < selection.labelling.electron_below,
            value > selection.labelling.proton_above,
        )
        labels = electron.astype(np.uint8)
        dropped["no label: between the cuts or NaN"] = int(np.sum(kept & ~(electron | proton)))
        kept &= electron | proton
    else:
        labels = np.full(len(energy), label, np.uint8)
    if recipe.track:
        tracked = has_track(np.array([scalars[name] for name in TRACK_BRANCHES]))
        dropped["no track"] = int(np.sum(kept & ~tracked))
        kept &= tracked
    return kept, labels, band, {reason: count for reason, count in dropped.items() if count}


def has_track(values: np.ndarray) -> np.ndarray:
    """Return which events (n,) have a track of these values (5, n): x, y in cm first."""
    # Beyond two metres lies no calorimeter, but the numbers that stand for "none" (-999, -9999).
    return np.isfinite(values).all(axis=0) & (np.abs(values[:2]) < 200).all(axis=0)


def _split(recipe: Recipe, band: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return the index into SPLITS of each event (0 where it belongs to no band)."""
    split = np.zeros(len(band), np.int8)
    for index, (_, _, fractions) in enumerate(recipe.bands):
        split = np.where(band == index, choose_split(keys, fractions), split)
    return split


def _fill(records, selection: Selection, scalars, at: np.ndarray, labels, keys, codes) -> None:
    records["cells"] = codes
    records["label"] = labels[at]
    records["key"] = shuffling(keys[at])
    for name in ("en3d", *(["mom"] if selection.generated else []), *selection.observers):
        records[name] = scalars[name][at]
    if selection.identified:
        records["run"], records["event"] = scalars["run"][at], scalars["event"][at]
    if selection.recipe.track:
        records["track"] = np.stack([scalars[name][at] for name in TRACK_BRANCHES], axis=1)


def _check_energies(tree: root.Tree, name: str, values: np.ndarray, first: int) -> None:
    wrong = np.flatnonzero(~((values >= 0) & np.isfinite(values)))
    if len(wrong):
        raise BadInput(
            f"{tree.path}: {name} is {values[wrong[0]]} GeV at entry {first + wrong[0]}, wanted a finite energy of at least 0 ({len(wrong)} such entries)"
        )


def _check_unit(path: Path | str, codes: np.ndarray, en3d: np.ndarray, unit: str) -> None:
    """Raise BadInput where the summed cells and the reconstructed energy differ by more than a factor of three."""
    wanted = en3d > 1.0
    if not wanted.any():
        return
    ratio = float(np.median(decode_cells(codes[wanted]).sum(axis=(1, 2)) / 1e3 / en3d[wanted]))
    if not 1 / 3 < ratio < 3:
        fitting = [name for name, mev in MEV.items() if 1 / 3 < ratio * mev / MEV[unit] < 3]
        advice = f"; --config.data.cell_unit={fitting[0]} would fit, unless en3d is not in GeV" if fitting else ""
        raise BadInput(f"{path}: summed cells are {ratio:.3g} times en3d with cell_unit={unit}, wanted about 1{advice}")
