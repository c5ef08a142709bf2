"""A file -> its text, or one finding that says why it cannot be read (codes Y001 to Y009).

    data, text, source = read_source(Path("runspecs/quickstart.yaml"))

Digests are of the bytes, which are read once. In the text line ends become ``\\n`` and a byte order mark is dropped, so that every line and column below counts what
the person sees in the editor.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from engine.errors import InputInvalid, Where, did_you_mean
from engine.runspec.nodes import SpecSource

MAX_BYTES = 1 << 20
SUFFIXES = (".yaml", ".yml")

# What YAML 1.2 does not allow in a text, and what shifts columns invisibly: line and paragraph
# separators, and a byte order mark in the middle.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x85\x86-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_source(path: Path) -> tuple[bytes, str, SpecSource]:
    """The bytes, their text and its lines. Raises InputInvalid (Y001 to Y009)."""
    return source_of(_read_bytes(path), str(path))


def source_of(data: bytes, name: str) -> tuple[bytes, str, SpecSource]:
    """The same for bytes that have been read; ``name`` is what findings call the file."""
    if len(data) > MAX_BYTES:
        raise InputInvalid(
            "Y007", "the file is larger than 1 MiB; no run-spec is", where=Where(name), hint="is this the right file?"
        )
    text = _decode(data, name)
    lines = tuple(text.split("\n"))
    source = SpecSource(name, lines)
    invisible = _INVISIBLE.search(text)
    if invisible:
        raise _invisible(text, invisible.start(), source)
    if not text.strip():
        raise InputInvalid(
            "Y004", "the file is empty", where=Where(name), hint="start from a preset: runspec init quickstart"
        )
    return data, text, source


def _read_bytes(path: Path) -> bytes:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - Path.stat() is the same; this one also takes odd names
        if stat.S_ISDIR(mode):
            raise _is_folder(path)
        if not stat.S_ISREG(mode):
            raise InputInvalid(
                "Y003", "this is a pipe or a device, not a file", where=Where(str(path)),
                hint="save the run-spec into a file ending in .yaml",
            )  # fmt: skip
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputInvalid("Y001", "there is no such file", where=Where(str(path)), hint=_near(path)) from None
    except PermissionError:
        raise InputInvalid(
            "Y003", "no permission to read this file", where=Where(str(path)), hint=f"chmod u+r {path}"
        ) from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else str(error)) or str(error)
        raise InputInvalid("Y003", f"the file cannot be read: {reason}", where=Where(str(path))) from None


def _is_folder(path: Path) -> InputInvalid:
    specs = _specs_in(path)
    hint = "name one of the files in it: " + ", ".join(str(path / spec) for spec in specs[:5]) if specs else None
    return InputInvalid(
        "Y002", "this is a folder, not a run-spec", where=Where(str(path)), hint=hint or "name a file ending in .yaml"
    )


def _specs_in(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(SUFFIXES))
    except OSError:
        return []  # they only serve a suggestion


def _near(path: Path) -> str:
    """The file that was probably meant: a neighbour, or the one of that name under runspecs/."""
    neighbours = _specs_in(path.parent)
    near = did_you_mean(path.name, neighbours) or did_you_mean(path.stem, [Path(name).stem for name in neighbours])
    if near:
        full = next(name for name in neighbours if near in (name, Path(name).stem))
        return f'did you mean "{path.parent / full}"?'
    for candidate in (Path("runspecs") / path.name, Path("runspecs") / f"{path.name}.yaml"):
        if candidate.is_file():
            return f'did you mean "{candidate}"?'
    if neighbours:
        return f"{path.parent} has: {', '.join(neighbours[:5])}"
    if not path.parent.is_dir():
        return f'there is no folder "{path.parent}" either'
    return "`runspec init` writes one to start from"


def _decode(data: bytes, name: str) -> str:
    if data.startswith(_UTF16_MARKS):
        raise InputInvalid(
            "Y006", "the file is UTF-16, not UTF-8", where=Where(name),
            hint="save it as UTF-8 (PowerShell: Set-Content -Encoding utf8)",
        )  # fmt: skip
    if b"\0" in data:
        raise InputInvalid(
            "Y005", "this is a binary file, not YAML text", where=Where(name), hint="is this the right file?"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _bad_byte(data, error.start, name) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _bad_byte(data: bytes, offset: int, name: str) -> InputInvalid:
    """With the byte's position in characters, as an editor counts them."""
    before = data[:offset].removeprefix(b"\xef\xbb\xbf").decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    rest = re.split(rb"[\r\n]", data[offset:], maxsplit=1)[0].decode("utf-8", errors="replace")
    line = before.rsplit("\n", 1)[-1]
    where = Where(name, before.count("\n") + 1, len(line) + 1, line + rest, 1)
    return InputInvalid(
        "Y006", f"the byte 0x{data[offset]:02x} is not UTF-8 text", where=where,
        hint="save the file as UTF-8 (it looks like Latin-1 or Windows-1252)",
    )  # fmt: skip


def _invisible(text: str, offset: int, source: SpecSource) -> InputInvalid:
    line = text.count("\n", 0, offset) + 1
    column = offset - (text.rfind("\n", 0, offset) + 1) + 1
    visible = _INVISIBLE.sub("\N{REPLACEMENT CHARACTER}", source.line(line) or "")
    return InputInvalid(
        "Y009", f"an invisible character (U+{ord(text[offset]):04X}) is here",
        where=Where(source.name, line, column, visible), hint="delete it; it was probably pasted in",
    )  # fmt: skip
