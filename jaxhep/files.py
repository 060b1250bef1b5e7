"""Files that are whole or not there: written aside, and renamed when they are complete."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jaxhep.errors import BadInput

_UNFINISHED: set[Path] = set()  # files that `aside` writes at this moment


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Give a hidden name beside `path` to write a file to; it takes the place of `path` when the block ends well.

    Where the block fails, that file is removed and an older one at `path` stays. The name holds the process id, so
    that two processes do not write into each other's file. Raises OSError where it cannot be renamed, as when the
    block wrote nothing.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    _UNFINISHED.add(partial)
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):  # what went wrong first is what counts: a read-only folder refuses the removal too
            partial.unlink()
        raise
    finally:
        _UNFINISHED.discard(partial)


def remove_unfinished() -> None:
    """Remove what is being written aside: the process ends at once, and no block will."""
    for partial in list(_UNFINISHED):
        with suppress(OSError):
            partial.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file, aside."""
    with aside(path) as partial:
        partial.write_text(text)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, aside. Raises ValueError for NaN and infinity, which JSON does not have."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_text(path, text)


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Return the content of a JSON file. Raises BadInput, saying `what` its folder is, where it is not readable."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"{path.parent}: {what}, no readable {path.name} ({type(error).__name__})") from None
