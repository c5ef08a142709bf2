"""Ctrl-C, SIGTERM and SIGHUP outside of a run: one KeyboardInterrupt, which is not lost and not taken for a fault.

In: signals. Out: a KeyboardInterrupt in the main thread, and :func:`requested`, which stays true. Python turns an
interruption in the middle of an import into other errors (RuntimeError in ``__set_name__``, SyntaxError in a literal), and
drops one that arrives in a callback: the first are recognised by ``requested``, the second is sent again.

    handle()
    try: …
    except KeyboardInterrupt: …
    except Exception: interrupted = requested()
"""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

SENT_AGAIN_AFTER_SECONDS = 0.02

_received: list[int] = []


def handle() -> None:
    """Install the handlers, until a run installs its own. A signal that is ignored (``nohup``) stays ignored."""
    _received.clear()
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _interrupt)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable


def requested() -> bool:
    """Whether a signal has come since :func:`handle`."""
    return bool(_received)


def received(number: int) -> None:
    """A handler of a run's own is about to raise KeyboardInterrupt for this signal."""
    _received.append(number)


def _interrupt(number: int, _: FrameType | None) -> None:
    received(number)
    raise KeyboardInterrupt


def _unraisable(dropped: sys.UnraisableHookArgs) -> None:
    """Python could not raise the interruption where it came (in a callback of the import system, say)."""
    if not issubclass(dropped.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(dropped)
        return
    again = threading.Timer(SENT_AGAIN_AFTER_SECONDS, signal.raise_signal, [signal.SIGINT])
    again.daemon = True
    again.start()
