"""The one exception a user meets, and how a verb shows it."""

import difflib
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any


class BadInput(ValueError):
    """Input that cannot be used: the message says what was got, what was wanted, and where."""


class Interrupted(KeyboardInterrupt):
    """A signal ended the command, with `status` 128 + its number."""

    def __init__(self, number: int):
        name = "interrupted" if number == signal.SIGINT else signal.Signals(number).name
        super().__init__(f"{name}: the same command goes on where it stopped")
        self.status = 128 + number


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` (nearest: 'x')` for the known name closest to `name`, or nothing where none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (nearest: {close[0]!r})" if close else ""


def one_of(value: str, known: Iterable[str], name: str) -> str:
    """Return the value of the setting `name`. Raises BadInput where it is not among the `known` ones."""
    choices = list(known)
    if value in choices:
        return value
    raise BadInput(f"{name} is {value!r}, wanted one of {', '.join(choices)}{nearest(str(value), choices)}")


def first_line(error: Exception) -> str:
    """Return kind and first line of a library's error, at most 120 characters of it, to be put into a message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__


def one_line(function: Callable[..., int | None], *arguments: Any) -> int:
    """Run a verb; bad input, file errors and signals become one line on stderr, with exit status 2, 2 and 128 + number."""
    try:
        return function(*arguments) or 0
    except BrokenPipeError:  # whoever reads our output, as `head`, has enough
        sys.stdout = None  # type: ignore[assignment]
        return 0
    except KeyboardInterrupt as error:
        signalled = error if isinstance(error, Interrupted) else Interrupted(signal.SIGINT)
        print(signalled, file=sys.stderr)
        return signalled.status
    except (BadInput, FloatingPointError, OSError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"error: {text}", file=sys.stderr)
        return 2
