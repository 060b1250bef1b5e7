"""manifest.json of a prepared data set: what went in, what was left out, what is there."""

from pathlib import Path

from jaxhep.files import read_json

Source = tuple[Path | str, int | None]  # a file and its label, None where the reader decides


def read_manifest(folder: Path) -> dict:
    """Return the manifest of a prepared folder. Raises BadInput where there is none."""
    return read_json(Path(folder) / "manifest.json", "not a prepared data set")


def origin_of(manifest: dict) -> str:
    """Return, for a message, the files that a data set came from and why entries were left out."""
    reasons = "; ".join(f"{count} entries left out: {reason}" for reason, count in manifest["dropped"].items())
    if not manifest["files"]:
        return f"as no file could be read: {next(iter(manifest['skipped'].values()))}"
    return f"of {manifest['files'][0]['path']} and {len(manifest['files']) - 1} more files; {reasons}"


def fingerprint(path: Path | str) -> tuple[str, int, int]:
    """Return path, size and modification time: what tells that a file has changed (of a remote file, its name)."""
    if isinstance(path, str):
        return path, 0, 0
    found = path.stat()
    return str(path.resolve()), found.st_size, found.st_mtime_ns
