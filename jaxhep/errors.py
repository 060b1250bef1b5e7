"""The one exception a user meets, and how a verb shows it."""

import difflib
import sys
from collections.abc import Callable, Iterable


class BadInput(ValueError):
    """Input that cannot be used: the message says what was got, what was wanted, and where."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` (nearest: 'x')` for the known name closest to `name`, or nothing where none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (nearest: {close[0]!r})" if close else ""


def one_line(function: Callable[..., int | None], *arguments) -> int:
    """Run a verb; bad input and file errors become one line on stderr and exit status 2."""
    try:
        return function(*arguments) or 0
    except (BadInput, FloatingPointError, OSError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"error: {text}", file=sys.stderr)
        return 2
