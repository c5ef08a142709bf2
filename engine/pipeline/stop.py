"""The stop request: the first Ctrl-C, SIGTERM or SIGHUP is one, which a step may ask for; a later one stops at once.

with stop_on_signals(note) as stop:
    if stop(): …
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from engine import interrupt

REPEATED_SIGNAL_SECONDS = 1.0
STOPPING = "stopping: the step saves its work first (a second signal or Ctrl-C stops at once)"


class Stop:
    """The stop request: set by the first Ctrl-C, SIGTERM or SIGHUP; a later one raises KeyboardInterrupt at once.

    Some senders signal twice: ``timeout`` signals its child and then the child's group. Within REPEATED_SIGNAL_SECONDS
    that counts as one request, and the checkpoint is saved.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._requested, self._note, self._since = threading.Event(), note, 0.0
        self._unsaid = [STOPPING]

    def __call__(self) -> bool:
        """True after a stop request; the first to ask says so on the screen."""
        if not self._requested.is_set():
            return False
        with suppress(IndexError):
            self._note(self._unsaid.pop())
        return True

    def ask(self, number: int, _: object) -> None:
        """The signal handler. It writes nothing: it may run in the middle of a line of the display or of the log."""
        if self._requested.is_set():
            if time.monotonic() - self._since < REPEATED_SIGNAL_SECONDS:
                return
            interrupt.received(number)
            raise KeyboardInterrupt
        self._since = time.monotonic()
        self._requested.set()


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that request a stop. SIGHUP (the terminal closes) is ignored in a run that was started with ``nohup``."""
    is_nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM, *(() if is_nohup else (signal.SIGHUP,)))


@contextmanager
def stop_on_signals(note: Callable[[str], None]) -> Iterator[Stop]:
    """Handle SIGINT, SIGTERM and SIGHUP during a run (in the main thread; elsewhere only a flag)."""
    stop = Stop(note)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.ask) for number in stop_signals()}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
