"""Prepared data sets: files -> columns on disk with a manifest, read once, shuffled, split by rule.

A killed run continues; a finished one is found again by what went into it (files, cuts, labels) and reused.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from jaxhep import columns, simulated
from jaxhep.detector import Reader, describe_fields
from jaxhep.detectors import detector_of
from jaxhep.errors import BadInput
from jaxhep.files import write_json
from jaxhep.manifest import Source, fingerprint
from jaxhep.records import SPLITS, Chunk

FORMAT = 1  # of the prepared folder; raised when what is stored changes
SCALE_EVENTS = 16_384  # training events from which the input's scale is computed


def prepare_data(config: ConfigDict, quiet: bool = False) -> Path:
    """Return the folder with the prepared columns of `config.data`, making it first where it does not exist.

    Raises BadInput for anything that cannot be read or leaves a class or split empty.
    """
    reader = detector_of(config).reader
    selection = reader.selection(config)
    if config.data.prepared:
        folder = Path(config.data.prepared)
        reader.check_prepared(folder, config)
        return folder
    sources = reader.sources(config, lambda: simulated.simulated_files(config, quiet))
    folder = prepare_files(sources, config, selection, quiet)
    reader.check_splits(folder, config)
    return folder


def prepare_for_scoring(config: ConfigDict, quiet: bool = False) -> Path:
    """Return columns of the files that `config.data` names, with every event in the test split.

    Raises BadInput where it names none, and for files that cannot be read.
    """
    detector = detector_of(config)
    reader = detector.reader
    if not any(config.data[name] for name in detector.files):
        raise BadInput(f"no files named, wanted {describe_fields(detector.files)}")
    if reader.scoring_sources is not None and reader.scoring_selection is not None:
        return prepare_files(reader.scoring_sources(config), config, reader.scoring_selection(config), quiet)

    def in_test(*arguments: Any) -> Iterator[Chunk]:
        for chunk in reader.read_records(*arguments):
            yield chunk._replace(split=np.full(len(chunk.records), SPLITS.index("test"), np.int8))

    sources = reader.sources(config, dict)  # no simulation: files are named
    everything = reader._replace(
        read_records=in_test, identity=lambda *chosen: reader.identity(*chosen) | {"split": "test"}
    )
    return prepare_files(sources, config, reader.selection(config), quiet, everything)


def prepare_files(
    sources: list[Source], config: ConfigDict, selection: Any, quiet: bool = False, reader: Reader | None = None
) -> Path:
    """Turn (file, label) pairs into `<config.data.folder>/<name>-<hash>/`; one that is whole is returned as it is."""
    parent, skip_bad = Path(config.data.folder), config.data.skip_bad
    reader = reader or detector_of(config).reader
    identity = {
        "format": FORMAT,
        "skip_bad": skip_bad,
        "files": [(*fingerprint(path), label) for path, label in sources],
    } | reader.identity(config, selection)
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    name = f"{reader.name(config)}-{digest[:12]}"
    folder = parent / name
    if (folder / "manifest.json").exists():
        return folder
    files, skipped = _open_all(sources, selection, reader, skip_bad)
    selection = reader.describe(selection, list(files.values()))
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
            columns.check_disk(
                parent,
                1.7 * reader.expected_bytes(selection, labelled, reader.record_dtype(selection)),
                "prepared columns",
                quiet,
            )
        began = time.perf_counter()
        selection = reader.complete(selection, list(files.values()))
        progress = _fill_buckets(partial, selection, reader, files, sources, skipped, skip_bad, identity, quiet)
        _write_splits(partial, selection, reader, entries, progress)
        manifest = {
            "format": FORMAT,
            "experiment": config.experiment,
            **reader.facts(config, selection),
            "simulation": simulated.settings_of(path for path, _ in sources),
            "files": [
                {"path": str(p), "label": n, "entries": files[p].entries}
                for p, n in sources
                if str(p) in progress["counts"]
            ],
            "content_hash": hashlib.sha256(json.dumps(progress["splits"], sort_keys=True).encode()).hexdigest(),
        } | {name: progress[name] for name in ("skipped", "dropped", "splits", "scaling")}
        write_json(partial / "manifest.json", manifest)
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


def _open_all(
    sources: list[Source], selection: Any, reader: Reader, skip_bad: bool
) -> tuple[dict[Any, Any], dict[str, str]]:
    """Check every file; return them, closed, by path and, where that was asked for, why others are skipped."""
    files, skipped = {}, {}
    for path, _ in sources:
        try:
            file = reader.open_file(path, selection)
            reader.describe(selection, [file])
            files[path] = file._replace(handle=None)  # closed: there may be more files than a process may open
        except BadInput as error:
            if not skip_bad:
                raise
            skipped[str(path)] = str(error)
    if not files:
        raise BadInput(f"no readable file among {len(sources)}: {next(iter(skipped.values()))}")
    return files, skipped


def _fill_buckets(
    partial: Path,
    selection: Any,
    reader: Reader,
    files: dict[Any, Any],
    sources: list[Source],
    skipped: dict[str, str],
    skip_bad: bool,
    identity: dict[str, Any],
    quiet: bool,
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
    buckets = columns.Buckets(partial, reader.record_dtype(selection), SPLITS, entries)
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
            for chunk in reader.read_records(reader.open_file(path, selection), label, selection, entry):
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
                    write_json(note, progress)
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
        write_json(note, progress)
    bar.close()
    return progress


def _write_splits(partial: Path, selection: Any, reader: Reader, entries: int, progress: dict) -> None:
    """Turn the buckets into columns split by split, noting each; a split's buckets go when it is noted."""
    buckets = columns.Buckets(partial, reader.record_dtype(selection), SPLITS, entries)
    buckets.sizes = progress["sizes"]
    for split in SPLITS:
        if split not in progress["splits"]:
            summary, first = columns.write_columns(buckets, partial / split, split, SCALE_EVENTS)
            progress["splits"][split] = summary
            # The scale of the network's input comes from training events alone; a set only scored takes its run's.
            if split == "train" and len(first):
                progress["scaling"] = reader.scaling(first)
            write_json(partial / "progress.json", progress)
        for path in partial.glob(f"{split}-*.records"):
            path.unlink()
