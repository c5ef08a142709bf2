"""The trainer as a process: events out, exit with the parent, SIGTERM as the stop signal, one writer per work folder.

Whatever a library prints to standard output goes to standard error instead, so that standard output carries only
events, one JSON object a line.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import LockBusy
from engine.locks import take
from engine.protocol.events.base import Event
from engine.protocol.events.table import LAST_EVENTS, to_line

Emit = Callable[[Event], None]
Stopping = Callable[[], bool]

LOCK_WAIT_SECONDS = 30.0  # an orphan notices within a moment that its parent has died
ORPHANED_EXIT_CODE = 9


def open_events() -> Emit:
    """Keep the real standard output for events and point file descriptor 1 at standard error."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    lock = threading.Lock()

    def emit(event: Event) -> None:
        line = to_line(event)
        try:
            with lock:
                stream.write(line + "\n")
                stream.flush()
        except BrokenPipeError:  # the parent no longer reads
            os._exit(ORPHANED_EXIT_CODE)

    return emit


def silent(emit: Emit) -> Emit:
    """For processes other than the first: only the last event is emitted."""
    return lambda event: emit(event) if isinstance(event, LAST_EVENTS) else None


def die_with_parent() -> Callable[[], object]:
    """Exit at once when standard input ends: the parent process has died (even by SIGKILL).

    The answer waits until the parent has written something there: its sign to begin, for a process that was started early.
    """
    told = threading.Event()

    def watch() -> None:
        # The raw descriptor: a thread that waits inside sys.stdin would hold its lock at interpreter exit.
        with suppress(OSError):  # without a standard input it has ended, too
            while os.read(0, 4096):
                told.set()
        os._exit(ORPHANED_EXIT_CODE)

    threading.Thread(target=watch, daemon=True).start()
    return told.wait


def stop_on_sigterm() -> Stopping:
    """A flag that SIGTERM sets; the parent handles Ctrl-C."""
    requested = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: requested.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return requested.is_set


@contextmanager
def only_writer(work: Path) -> Iterator[None]:
    """Hold the work folder's kernel lock. Raises LockBusy T102 where another trainer holds it."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / "trainer.lock"
    with path.open("ab", buffering=0) as stream:
        deadline = time.monotonic() + LOCK_WAIT_SECONDS
        while not take(stream, path):
            if time.monotonic() > deadline:
                raise LockBusy(
                    "T102", f"another trainer is still writing into {work}", hint="wait for it to end, or stop it"
                )
            time.sleep(0.1)
        yield


@contextmanager
def importing() -> Iterator[None]:
    """Import without the garbage collector, which then leaves alone what was imported: those objects stay to the end.

    The libraries make some hundred thousand objects. Looking for garbage among them again and again takes a fifth of the
    time of their import, and some of the time of all that follows.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def leave(code: int) -> None:
    """Exit without waiting for library threads, once all results are on disk. A full standard error does not change the exit code."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def say_traceback() -> None:
    """The traceback of the exception that is handled, for the end of the parent's message; dropped where standard error is full."""
    with suppress(OSError):
        traceback.print_exc()
