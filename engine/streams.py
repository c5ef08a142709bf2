"""Standard input, output and error as a command can rely on them, however the process was started.

In: the file descriptors 0, 1 and 2, each of which may be closed, full, a pipe that nobody reads, in any encoding. Out: a
``sys.stdout`` and a ``sys.stderr`` whose writing never raises, and the reason why an answer did not arrive.

    output = prepare()
    sys.stdout.write("the answer …")   # to an ASCII terminal: the answer ...
    output.flush()
    output.error                        # OSError(28, "No space left on device"), or None

A closed descriptor is opened on the null device at once: the next file that the process opened would get its number, and
whatever a library prints there would be written into that file.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import select
import sys
from dataclasses import dataclass, field

from engine.canonical import JsonMapping, pretty_json
from engine.printable import escaped_json, printable

STDIN, STDOUT, STDERR = 0, 1, 2
READABLE = "runspec.readable"  # the error handler's name in Python's registry

# Our own signs in plain letters. Any other character that an encoding lacks is written as \xe9, \u4e2d or \U0001f600.
PLAIN = str.maketrans(
    {"…": "...", "·": "-", "–": "-", "—": "-", "→": "->", "×": "x", "≥": ">=", "≤": "<=", "“": '"', "”": '"', "’": "'"}
)


class _Descriptor(io.RawIOBase):
    """A file descriptor to write to. The first error is kept in ``error``, and what comes after it is dropped."""

    def __init__(self, number: int, error: OSError | None) -> None:
        self._number = number
        self.error = error

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data: object) -> int:
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        while self.error is None:
            try:
                return os.write(self._number, view)
            except BlockingIOError:  # another program has made the pipe non-blocking
                _wait_until_writable(self._number)
            except OSError as error:
                self.error = error
        return len(view)


def _wait_until_writable(number: int) -> None:
    select.select([], [number], [])


@dataclass
class Output:
    """Standard output: ``error`` says why it could not be written, ``is_changed`` that letters were replaced."""

    descriptor: _Descriptor | None = None  # None: a test or a notebook has put a stream of its own there
    lacking: set[str] = field(default_factory=set)

    @property
    def error(self) -> OSError | None:
        """The first error; None also where the reader has closed its pipe (``runspec … | head``), which is no fault."""
        error = self.descriptor.error if self.descriptor else None
        return None if isinstance(error, BrokenPipeError) else error

    def write(self, text: str) -> None:
        """Write all of it; a stream that a test or a notebook has put there gets nothing that acts, either."""
        sys.stdout.write(printable(text))
        sys.stdout.flush()

    def write_styled(self, text: str) -> None:
        """Write a page of ours whose colours ``rich`` has set."""
        write = sys.stdout.write_styled if isinstance(sys.stdout, _Door) else sys.stdout.write
        write(text)
        sys.stdout.flush()

    def write_json(self, document: JsonMapping) -> None:
        """One JSON document; with escapes where the encoding lacks a character, so that its values stay the same."""
        text = escaped_json(pretty_json(document))
        try:
            text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
        except (UnicodeError, LookupError):
            text = pretty_json(document, ascii_only=True)
        self.write(text)


def prepare() -> Output:
    """Make all three streams usable. Streams that are not this process's own (of a test, say) are left alone."""
    closed = [number for number in (STDIN, STDOUT, STDERR) if not _is_open(number)]
    output = Output()
    codecs.register_error(READABLE, lambda error: _readable(error, output.lacking))
    if sys.stdout is sys.__stdout__:
        sys.stdout, output.descriptor = _stream(STDOUT, sys.stdout, STDOUT in closed, READABLE)
    if sys.stderr is sys.__stderr__:
        sys.stderr, _ = _stream(STDERR, sys.stderr, STDERR in closed, "backslashreplace")
    return output


def _is_open(number: int) -> bool:
    """Whether the descriptor is open; a closed one is opened on the null device."""
    try:
        os.fstat(number)
    except OSError:
        with contextlib.suppress(OSError):  # the lowest free number is this one
            os.open(os.devnull, os.O_RDWR)
        return False
    return True


class _Door(io.TextIOWrapper):
    """The one way out to a terminal: whoever writes, a library included, no character of it acts."""

    def write(self, text: str) -> int:
        """Write the text with acting characters named."""
        super().write(printable(text))
        return len(text)

    def write_styled(self, text: str) -> int:
        """Write text whose escape sequences are our own: of ``rich``, whose words went through :func:`printable` before."""
        return super().write(text)


def _stream(number: int, old: io.TextIOBase | None, closed: bool, errors: str) -> tuple[io.TextIOWrapper, _Descriptor]:
    descriptor = _Descriptor(number, OSError("it is closed") if closed else None)
    encoding = getattr(old, "encoding", None) or "utf-8"
    buffered = io.BufferedWriter(descriptor)
    return _Door(buffered, encoding=encoding, errors=errors, line_buffering=number == STDERR), descriptor


def _readable(error: UnicodeError, lacking: set[str]) -> tuple[str, int]:
    """Python's handler for a character that the encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    plain = text.translate(PLAIN)
    if not plain.isascii():
        lacking.update(character for character in plain if not character.isascii())
        plain = plain.encode("ascii", "backslashreplace").decode()
    return plain, error.end
