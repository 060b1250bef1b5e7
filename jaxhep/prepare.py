"""python -m jaxhep.prepare: ROOT, HDF5 or Parquet files -> columns on disk with a manifest, read once, shuffled, split by rule.

    python -m jaxhep.prepare --config configs/cvt.py --electrons 'mc/el/*.root' --protons 'mc/pr/*.root'
    python -m jaxhep.prepare --config configs/pointnet.py --files 'mc/*.parquet'

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

from jaxhep import columns, simulate
from jaxhep.config import assign, load_config, set_field
from jaxhep.errors import BadInput, one_line
from jaxhep.experiments import part_of
from jaxhep.manifest import Source, fingerprint
from jaxhep.records import SPLITS

FORMAT = 1  # of the prepared folder; raised when what is stored changes
SCALE_EVENTS = 16_384  # training events from which the input's scale is computed


def prepare(config: Any, quiet: bool = False) -> Path:
    """Return the folder with the prepared columns of `config.data`, making it first where it does not exist.

    Raises BadInput for anything that cannot be read or leaves a class or split empty.
    """
    samples = part_of(config, "samples")
    selection = samples.build_selection(config)
    if config.data.prepared:
        return samples.check_prepared(Path(config.data.prepared), config)
    sources = samples.find_sources(config, lambda: simulate.simulated_files(config, quiet))
    folder = prepare_files(sources, config, selection, Path(config.data.folder), quiet)
    samples.check_splits(folder, config)
    return folder


def prepare_for_scoring(config: Any, named: dict[str, str], parent: Path, quiet: bool = False) -> Path:
    """Return columns of other files, by the patterns in `named`, with every event in the test split."""
    samples = part_of(config, "samples")
    sources = samples.scoring_sources(config, named)
    return prepare_files(sources, config, samples.scoring_selection(config, named), parent, quiet)


def prepare_files(sources: list[Source], config: Any, selection: Any, parent: Path, quiet: bool = False) -> Path:
    """Turn (file, label) pairs into `parent/<name>-<hash>/`; a folder of that name is finished, and returned."""
    samples, features = part_of(config, "samples"), part_of(config, "features")
    skip_bad = config.data.skip_bad
    identity = {
        "format": FORMAT,
        "skip_bad": skip_bad,
        "files": [(*fingerprint(path), label) for path, label in sources],
    } | samples.identity_of(config, selection)
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    name = f"{samples.name_of(config)}-{digest[:12]}"
    folder = parent / name
    if (folder / "manifest.json").exists():
        return folder
    files, skipped = _open_all(sources, selection, features, skip_bad)
    selection = features.describe(selection, list(files.values()))
    entries = sum(file.entries for file in files.values())
    if entries == 0:
        raise BadInput(f"{sources[0][0]}: no events in this and {len(sources) - 1} more files")
    parent.mkdir(parents=True, exist_ok=True)
    with columns.exclusive(parent / f".{name}.lock"):
        if (folder / "manifest.json").exists():  # made by another process while this one waited
            return folder
        partial = parent / f"{name}.partial"
        if not partial.exists():
            labelled = [(files[path], label) for path, label in sources if path in files]
            # While a split is sorted, its records and its columns are both there.
            columns.check_disk(parent, 1.7 * features.expected_bytes(selection, labelled), "prepared columns", quiet)
        began = time.perf_counter()
        selection = features.complete(selection, list(files.values()))
        progress = _fill_buckets(partial, selection, features, files, sources, skipped, skip_bad, identity, quiet)
        _write_splits(partial, selection, features, entries, progress)
        manifest = {
            "format": FORMAT,
            "experiment": config.experiment,
            **samples.manifest_facts(config, selection),
            "simulation": simulate.settings_of(path for path, _ in sources),
            "files": [
                {"path": str(p), "label": n, "entries": files[p].entries}
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


def _open_all(sources: list[Source], selection, features, skip_bad: bool) -> tuple[dict[Any, Any], dict[str, str]]:
    """Check every file; return them, closed, by path and, where that was asked for, why others are skipped."""
    files, skipped = {}, {}
    for path, _ in sources:
        try:
            file = features.open_file(path, selection)
            features.describe(selection, [file])
            files[path] = file._replace(handle=None)  # closed: there may be more files than a process may open
        except BadInput as error:
            if not skip_bad:
                raise
            skipped[str(path)] = str(error)
    if not files:
        raise BadInput(f"no readable file among {len(sources)}: {next(iter(skipped.values()))}")
    return files, skipped


def _fill_buckets(
    partial: Path, selection, features, files, sources, skipped: dict, skip_bad: bool, identity: dict, quiet: bool
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
    entries = sum(file.entries for file in files.values())
    buckets = columns.Buckets(partial, features.record_dtype(selection), SPLITS, entries)
    buckets.rewind(progress["sizes"])
    bar = tqdm(total=entries, unit=" events", unit_scale=True, desc="prepare", disable=True if quiet else None)
    bar.update(sum(progress["counts"].values()) + progress["entry"])
    for index, (path, label) in enumerate(sources):
        if index < progress["file"] or path not in files:
            continue
        entry = progress["entry"] if index == progress["file"] else 0
        dropped = dict(progress["dropped"])
        buckets.flush()
        before = (dict(buckets.sizes), dict(dropped))
        try:
            for chunk in features.read_records(features.open_file(path, selection), label, selection, entry):
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
            progress["counts"] = progress["counts"] | {str(path): files[path].entries}
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


def _write_splits(partial: Path, selection, features, entries: int, progress: dict) -> None:
    """Turn the buckets into columns split by split, noting each; a split's buckets go when it is noted."""
    buckets = columns.Buckets(partial, features.record_dtype(selection), SPLITS, entries)
    buckets.sizes = progress["sizes"]
    for split in SPLITS:
        if split not in progress["splits"]:
            summary, first = columns.write_columns(buckets, partial / split, split, SCALE_EVENTS)
            progress["splits"][split] = summary
            # The scale of the network's input comes from training events alone; a set only scored takes its run's.
            if split == "train" and len(first):
                progress["scaling"] = features.scaling(first)
            columns.write_json(partial / "progress.json", progress)
        for path in partial.glob(f"{split}-*.records"):
            path.unlink()


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
        "files": "files of spacepoints; of the calorimeter, flight data for the recipe labelled by the TRD",
        "recipe": "calorimeter data set to make",
        "tree": "name of the tree in ROOT files",
        "cell_unit": "unit of edep_cell: keV, MeV, GeV",
        "folder": "where prepared data sets are kept",
    }.items():
        parser.add_argument(f"--{name.replace('_', '-')}", help=text)
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out files that cannot be read, and name them in the manifest",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any field of config.data, as unit=m"
    )
    arguments = vars(parser.parse_args(argv))
    config = load_config(arguments.pop("config"))
    for assignment in arguments.pop("set"):
        assign(config, assignment, "data")
    for name, value in arguments.items():
        if value not in (None, False):
            set_field(config, f"data.{name}", value)
    print(prepare(config))
    return 0


if __name__ == "__main__":
    sys.exit(one_line(main))
