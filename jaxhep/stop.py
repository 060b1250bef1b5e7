"""Signals that end a command: SIGTERM, SIGINT (Ctrl-C) and SIGUSR1, each with status 128 + its number.

A training loop that has taken a step saves first. Everything else is ended by an exception, which lets go of files
and worker processes on its way. A handler in Python waits for what the main thread does in C++, and a compile takes
minutes: so a thread hears of the signal too, and ends the process where nothing came of it in time.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from jaxhep import files
from jaxhep.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
GRACE = 20.0  # seconds: job systems kill 30 s after they ask
HURRY = 2.0  # seconds after a second Ctrl-C, or for the last words after a save
LOOK = 0.2  # seconds between two looks of the thread


class Stopped(Exception):
    """Training was told to stop, and has saved: the same command continues. `status` is that of the process."""

    def __init__(self, text: str, status: int):
        super().__init__(text)
        self.status = status


class StopFlag:
    """Set by SIGTERM, SIGUSR1 or Ctrl-C, so that a loop can save between two steps; a second Ctrl-C ends at once."""

    def __init__(self) -> None:
        global _saving
        self.stepped = False  # the loop has asked: a step is done, and it will save at the next one's end
        self._wanted: signal.Signals | None = None
        self._answered = False
        self._before = _handle(self._stop)
        _saving = self

    @property
    def wanted(self) -> signal.Signals | None:
        """The signal that came, or None. Ask at the end of a step alone: before the first, there is nothing to save."""
        self.stepped = True
        self._answered = self._wanted is not None
        return self._wanted

    def _stop(self, number: int, _: FrameType | None) -> None:
        if self._wanted is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._wanted = self._wanted or signal.Signals(number)

    def restore(self) -> None:
        """Give the signals back. One that came after the last question is raised again, for whoever has them now."""
        global _saving
        _saving = None
        _give_back(self._before)
        if _command is not None:
            _command.deadline = max(_command.deadline, time.monotonic() + HURRY)
        if self._wanted is not None and not self._answered:
            signal.raise_signal(self._wanted)


class _Command:
    """The signals of a whole command, from its first line to its last."""

    def __init__(self) -> None:
        self.raising = False  # there is something to clean up, and somebody who says the one line
        self.said = False
        self.first: signal.Signals | None = None
        self.deadline = 0.0
        self.raised: Interrupted | None = None
        self._swallowed = False
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._before = _handle(self.handler)
        self._former_hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        self._former_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, name="signals", daemon=True).start()

    def handler(self, number: int, _: FrameType | None) -> None:
        if not self.raising:
            self._end(signal.Signals(number))
        if self.raised is None or number == signal.SIGINT:  # another one would only disturb the cleaning up
            self.raised = self.raised or Interrupted(number)
            raise self.raised
        if self._swallowed:
            self._swallowed = False
            raise self.raised

    def _unraisable(self, lost: Any) -> None:
        """Have what was raised within a finalizer or a callback of the garbage collector, as JAX has one, raised again."""
        if lost.exc_value is not None and lost.exc_value is self.raised:
            self._swallowed = True
        else:
            self._former_hook(lost)

    def _listen(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # so that they interrupt what the main thread waits for
        hurried = False
        while True:
            ready, _, _ = select.select([self._read], [], [], None if self.first is None else LOOK)
            for number in os.read(self._read, 64) if ready else b"":
                if number in SIGNALS and self.first is None:
                    self.first, self.deadline = signal.Signals(number), time.monotonic() + GRACE
                elif number == signal.SIGINT:
                    hurried, self.deadline = True, min(self.deadline, time.monotonic() + HURRY)
                elif number == 0 and self.first is None:  # the command is over
                    os.close(self._read)
                    return
            if self._swallowed and self.first is not None:
                another = [number for number in self._before if number != signal.SIGINT] or [self.first]
                signal.pthread_kill(threading.main_thread().ident or 0, another[0])
            saves = _saving is not None and _saving.stepped and not hurried
            if self.first is not None and time.monotonic() > self.deadline and not saves:
                self._end(self.first)

    def _end(self, number: signal.Signals) -> None:
        """End the process here and now, from any thread, leaving neither worker processes nor half-written files."""
        multiprocessing = sys.modules.get("multiprocessing")
        for child in multiprocessing.active_children() if multiprocessing else ():
            with suppress(Exception):
                child.kill()
        files.remove_unfinished()
        if not self.said:
            with suppress(OSError):
                os.write(2, f"{Interrupted(number)}\n".encode())
        os._exit(128 + number)

    def over(self) -> None:
        """Give the signals back; after a signal the thread still sees to it that the process ends."""
        self.said = True
        _give_back(self._before)
        sys.unraisablehook = self._former_hook
        signal.set_wakeup_fd(self._former_fd)
        with suppress(OSError):
            os.write(self._write, b"\0")


_command: _Command | None = None
_saving: StopFlag | None = None


def watch() -> None:
    """Let signals end this process with one line and its status, from now on. Costs no import worth mentioning.

    Whoever takes the signals away in between, as `jax.distributed.initialize` does, is followed by another call.
    """
    global _command
    if threading.current_thread() is not threading.main_thread():
        return
    if _command is None:
        _command = _Command()
    elif _saving is None:
        _handle(_command.handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # held back while the command started anew


@contextmanager
def ending() -> Iterator[None]:
    """Let a signal raise Interrupted inside the block, which ends the watch: files and processes are let go of."""
    global _command
    watch()
    command = _command
    if command is not None:
        command.raising = True
    try:
        yield
    except Exception:
        if command is None or command.raised is None:
            raise
        print(command.raised, file=sys.stderr)  # a library has made another error of it
        raise SystemExit(command.raised.status) from None
    finally:
        if command is not None:
            command.raising = False
            command.over()
            _command = None


@contextmanager
def held() -> Iterator[None]:
    """Hold signals back inside the block; what is started in it begins with them held back."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def leave_to_parent() -> None:
    """Let a worker process go on at Ctrl-C and SIGUSR1, which reach a whole group: its parent decides, and ends it."""
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _give_back(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: it was not of Python


def _handle(handler: Any) -> dict[int, Any]:
    """Set the handler; return those before it. A signal that is ignored stays so, as shells have it of background jobs."""
    before: dict[int, Any] = {}
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            with suppress(ValueError):  # not the main thread, as in a notebook's worker
                before[number] = signal.signal(number, handler)
    return before
