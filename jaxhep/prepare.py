"""python -m jaxhep.prepare: ROOT files -> columns on disk with a manifest, read once, shuffled, split by rule.

    python -m jaxhep.prepare --config configs/cvt.py --electrons 'mc/el/*.root' --protons 'mc/pr/*.root'

`train` does the same by itself; run it alone where there is no accelerator, and train with config.data.prepared.
A killed run continues; a finished one is found again by what went into it (files, cuts, labels) and reused.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jaxhep import columns, root, simulate
from jaxhep.ams_ecal import features
from jaxhep.ams_ecal.recipes import Recipe, all_to_test, find_recipe
from jaxhep.config import load_config, set_field
from jaxhep.errors import BadInput, one_line
from jaxhep.manifest import check_apart, check_recipe, check_splits, fingerprint

FORMAT = 1  # of the prepared folder; raised when what is stored changes
Source = tuple[Path | str, int | None]  # a file and its label, None where the labelling rule decides
LABELS = {"electron": 1, "proton": 0}
SCALE_EVENTS = 16_384  # training events from which the input's scale is computed


def prepare(config: Any, quiet: bool = False) -> Path:
    """Return the folder with the prepared columns of `config.data`, making it first where it does not exist.

    Raises BadInput for anything that cannot be read or leaves a class or split empty.
    """
    recipe = find_recipe(config.data.recipe)
    if config.data.prepared:
        return check_recipe(Path(config.data.prepared), config.data.recipe)
    sources = find_sources(config, recipe, quiet)
    folder = prepare_files(sources, config, recipe, Path(config.data.folder), quiet)
    check_splits(folder, recipe)
    return folder


def find_sources(config: Any, recipe: Recipe, quiet: bool = False) -> list[Source]:
    """Return (file, label) pairs: the user's files, or the built-in simulation's where none are named."""
    data = config.data
    if recipe.label == "trd":
        if data.electrons or data.protons:
            raise BadInput(f"recipe {data.recipe!r} labels one sample itself: use config.data.files, not two samples")
        if data.files:
            return [(path, None) for path in root.expand(data.files, "flight data")]
        return [(path, None) for paths in simulate.simulated_files(config, quiet).values() for path in paths]
    if data.files:
        raise BadInput(
            f"recipe {data.recipe!r} takes its labels from files: use --config.data.electrons and --config.data.protons, not files"
        )
    if bool(data.electrons) != bool(data.protons):
        missing = "protons" if data.electrons else "electrons"
        raise BadInput(f"config.data.{missing} is empty: a class is missing, name both or neither (simulation)")
    if data.electrons:
        named = {species: root.expand(data[f"{species}s"], f"{species} files") for species in ("electron", "proton")}
        check_apart(named["electron"], named["proton"])
        return [(path, label) for species, label in LABELS.items() for path in named[species]]
    files = simulate.simulated_files(config, quiet)
    return [(path, label) for species, label in LABELS.items() for path in files[species]]


def prepare_files(sources, config: Any, recipe: Recipe, parent: Path, quiet: bool = False) -> Path:
    """Turn (file, label) pairs into `parent/<recipe>-<hash>/`; a folder of that name is finished, and returned."""
    data = config.data
    labelling = features.Labelling(data.label_branch, data.electron_below, data.proton_above)
    selection = features.Selection(recipe, data.cell_unit, labelling)
    identity = {
        "format": FORMAT,
        "recipe": recipe._asdict(),
        "labelling": labelling._asdict() if recipe.label == "trd" else None,
        "cell_unit": data.cell_unit,
        "tree": data.tree,
        "skip_bad": data.skip_bad,
        "files": [(*fingerprint(path), label) for path, label in sources],
    }
    name = f"{data.recipe}-{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]}"
    folder = parent / name
    if (folder / "manifest.json").exists():
        return folder
    trees, skipped = _open_all(sources, selection, data.tree, data.skip_bad)
    selection = features.describe(selection, list(trees.values()))
    entries = sum(tree.entries for tree in trees.values())
    if entries == 0:
        raise BadInput(f"{sources[0][0]}: no events in tree {data.tree!r} of this and {len(sources) - 1} more files")
    parent.mkdir(parents=True, exist_ok=True)
    with columns.exclusive(parent / f".{name}.lock"):
        if (folder / "manifest.json").exists():  # made by another process while this one waited
            return folder
        partial = parent / f"{name}.partial"
        if not partial.exists():
            labelled = [(trees[path], label) for path, label in sources if path in trees]
            # While a split is sorted, its records and its columns are both there.
            columns.check_disk(parent, 1.7 * features.expected_bytes(selection, labelled), "prepared columns", quiet)
        began = time.perf_counter()
        progress = _fill_buckets(partial, selection, trees, sources, skipped, data.skip_bad, identity, quiet)
        _write_splits(partial, selection, entries, progress)
        manifest = {
            "format": FORMAT,
            "experiment": config.experiment,
            "recipe": data.recipe,
            "description": recipe.description,
            "energy": recipe.energy,
            "ranges": recipe.ranges,
            "labelling": identity["labelling"],
            "simulation": simulate.settings_of([path for path, _ in sources]),
            "cell_unit": data.cell_unit,
            "cell_encoding": features.ENCODING,
            "observers": list(selection.observers),
            "files": [
                {"path": str(p), "label": n, "entries": trees[p].entries}
                for p, n in sources
                if str(p) in progress["counts"]
            ],
            "content_hash": hashlib.sha256(json.dumps(progress["splits"], sort_keys=True).encode()).hexdigest(),
        } | {name: progress[name] for name in ("skipped", "dropped", "splits", "scaling")}
        columns.write_json(partial / "manifest.json", manifest)
        (partial / "progress.json").unlink()
        os.replace(partial, folder)
    if not quiet:
        kept = sum(split["events"] for split in manifest["splits"].values())
        print(f"prepared {kept} of {entries} events in {time.perf_counter() - began:.1f} s: {folder}")
        for reason, count in manifest["dropped"].items():
            print(f"  left out {count}: {reason}")
        for path, reason in manifest["skipped"].items():
            print(f"  skipped {path}: {reason}")
    return folder


def _open_all(sources, selection, tree_name: str, skip_bad: bool) -> tuple[dict[Path | str, root.Tree], dict[str, str]]:
    """Open and check every file; return the trees by path and, where that was asked for, why others are skipped."""
    trees, skipped = {}, {}
    for path, _ in sources:
        try:
            tree = root.open_tree(path, tree_name)
            features.describe(selection, [tree])
            trees[path] = tree
        except BadInput as error:
            if not skip_bad:
                raise
            skipped[str(path)] = str(error)
    if not trees:
        raise BadInput(f"no readable file among {len(sources)}: {next(iter(skipped.values()))}")
    return trees, skipped


def _fill_buckets(
    partial: Path, selection, trees, sources, skipped: dict, skip_bad: bool, identity: dict, quiet: bool
) -> dict:
    """Read every file into buckets, noting progress on disk; return the last note."""
    partial.mkdir(parents=True, exist_ok=True)
    note = partial / "progress.json"
    start = {
        "identity": json.loads(json.dumps(identity)),
        "file": 0,
        "entry": 0,
        "sizes": {},
        "dropped": {},
        "counts": {},
        "skipped": {},
        "splits": {},
        "scaling": None,
    }
    if note.exists():
        found = json.loads(note.read_text())
        start = found if found["identity"] == start["identity"] else start
    progress = start
    skipped.update(progress["skipped"])
    entries = sum(tree.entries for tree in trees.values())
    buckets = columns.Buckets(partial, features.record_dtype(selection), features.SPLITS, entries)
    buckets.rewind(progress["sizes"])
    bar = tqdm(total=entries, unit=" events", unit_scale=True, desc="prepare", disable=True if quiet else None)
    bar.update(sum(progress["counts"].values()) + progress["entry"])
    for index, (path, label) in enumerate(sources):
        if index < progress["file"] or path not in trees:
            continue
        entry = progress["entry"] if index == progress["file"] else 0
        dropped = dict(progress["dropped"])
        buckets.flush()
        before = (dict(buckets.sizes), dict(dropped))
        try:
            for chunk in features.read_records(trees[path], label, selection, entry):
                for reason, count in chunk.dropped.items():
                    dropped[reason] = dropped.get(reason, 0) + count
                bar.update(chunk.read)
                # A file that may be skipped is all or nothing, so its middle is never a place to continue from.
                buckets.append(chunk.records, chunk.split)
                if chunk.settled and not skip_bad:
                    buckets.flush()
                    progress |= {
                        "file": index,
                        "entry": chunk.next_entry,
                        "sizes": dict(buckets.sizes),
                        "dropped": dict(dropped),
                    }
                    columns.write_json(note, progress)
        except BadInput as error:
            if not skip_bad:
                shutil.rmtree(partial)
                raise
            skipped[str(path)] = str(error)
            buckets.rewind(before[0])
            dropped = before[1]
        else:
            progress["counts"] = progress["counts"] | {str(path): trees[path].entries}
        buckets.flush()
        progress |= {
            "file": index + 1,
            "entry": 0,
            "sizes": dict(buckets.sizes),
            "dropped": dropped,
            "skipped": dict(skipped),
        }
        columns.write_json(note, progress)
    bar.close()
    return progress


def _write_splits(partial: Path, selection, entries: int, progress: dict) -> None:
    """Turn the buckets into columns split by split, noting each; a split's buckets go when it is noted."""
    buckets = columns.Buckets(partial, features.record_dtype(selection), features.SPLITS, entries)
    buckets.sizes = progress["sizes"]
    for split in features.SPLITS:
        if split not in progress["splits"]:
            summary, first = columns.write_columns(buckets, partial / split, split, SCALE_EVENTS)
            progress["splits"][split] = summary
            # The scale of the network's input comes from training events alone; a set only scored takes its run's.
            if split == "train" and len(first):
                progress["scaling"] = features.scaling(first)
            columns.write_json(partial / "progress.json", progress)
        for path in partial.glob(f"{split}-*.records"):
            path.unlink()


def prepare_for_scoring(config: Any, named: dict[str, str], parent: Path, quiet: bool = False) -> Path:
    """Return columns of other files with every event in the test split, whatever its energy.

    `named` has the patterns of `electrons` and `protons`, or of `files` labelled by the config's cuts.
    """
    recipe = all_to_test(find_recipe(config.data.recipe), "trd" if named["files"] else "file")
    if named["files"]:
        sources: list[Source] = [(path, None) for path in root.expand(named["files"], "flight data")]
    else:
        found = {}
        for species in LABELS:
            found[species] = root.expand(named[f"{species}s"], f"{species} files") if named[f"{species}s"] else []
        check_apart(found["electron"], found["proton"])
        sources = [(path, label) for species, label in LABELS.items() for path in found[species]]
    return prepare_files(sources, config, recipe, parent, quiet)


def main(argv: list[str] | None = None) -> int:
    """Command line of the verb."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxhep.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        default="configs/cvt.py",
        help="config file, with :variant if wanted (default %(default)s)",
    )
    for name, text in {
        "electrons": "electron files: paths, globs or folders, separated by commas (none: simulation)",
        "protons": "proton files",
        "files": "flight data files, for the recipe labelled by the TRD",
        "recipe": "data set to make",
        "tree": "name of the tree",
        "cell_unit": "unit of edep_cell: keV, MeV, GeV",
        "folder": "where prepared data sets are kept",
    }.items():
        parser.add_argument(f"--{name.replace('_', '-')}", help=text)
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out files that cannot be read, and name them in the manifest",
    )
    arguments = vars(parser.parse_args(argv))
    config = load_config(arguments.pop("config"))
    for name, value in arguments.items():
        if value not in (None, False):
            set_field(config, f"data.{name}", value)
    print(prepare(config))
    return 0


if __name__ == "__main__":
    sys.exit(one_line(main))
