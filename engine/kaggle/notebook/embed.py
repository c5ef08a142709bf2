"""Files as text in a cell: the engine itself, and what a run-spec names.

In: path -> bytes. Out: :class:`PackedFiles`: a zip without compression, compressed as a whole (lzma) and written in base85, the same text
for the same files. The digest is over paths and contents, so that a wheel of the same engine has it, too.

    >>> packed = pack({"a.txt": b"hello"})
    >>> unpack(packed.text) == {"a.txt": b"hello"}, packed.sha256 == digest_of_files(unpack(packed.text))
    (True, True)
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import lzma
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.assets import FOLDERS, asset

PACKAGE = Path(__file__).resolve().parents[2]
ASSETS = "engine/_assets"
# Of the documents only what the engine itself reads: what an error code means.
DOCUMENTS = ("index.md", "reference/errors.md")
LINE_CHARS = 4000
SMALLEST, LARGEST = 1 << 12, 1 << 26  # bytes of a dictionary: what lzma takes, and what preset 9 has
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say


@dataclass(frozen=True, slots=True)
class PackedFiles:
    """``text`` has lines of base85; ``n_files`` and ``sha256`` are of the files in it."""

    text: str
    sha256: str
    n_files: int


def engine_files() -> dict[str, bytes]:
    """What the wheel has, by its paths there: the package, and schemas, templates, presets and eval sets below ``engine/_assets``."""
    return {name: path.read_bytes() for name, path in sorted(_paths())}


def _paths() -> Iterator[tuple[str, Path]]:
    for path in PACKAGE.rglob("*.py"):
        if "_assets" not in path.relative_to(PACKAGE).parts:
            yield f"engine/{path.relative_to(PACKAGE).as_posix()}", path
    for folder in FOLDERS:
        top = asset(folder)
        for path in top.rglob("*"):
            name = path.relative_to(top).as_posix()
            if path.is_file() and "__pycache__" not in path.parts and (folder != "docs" or name in DOCUMENTS):
                yield f"{ASSETS}/{folder}/{name}", path


def travels(name: str) -> bool:
    """Whether a file of a wheel is one of :func:`engine_files`: not its metadata, and of the documents only some.

    >>> travels("engine/cli.py"), travels("runspec_engine-0.1.0.dist-info/RECORD"), travels("engine/_assets/docs/index.md")
    (True, False, True)
    """
    documents = f"{ASSETS}/docs/"
    return name.startswith("engine/") and (not name.startswith(documents) or name.removeprefix(documents) in DOCUMENTS)


def digest_of_files(files: Mapping[str, bytes]) -> str:
    """SHA-256 over paths and contents, in the order of the paths."""
    lines = [f"{name} {hashlib.sha256(data).hexdigest()}\n" for name, data in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def pack(files: Mapping[str, bytes]) -> PackedFiles:
    """Files -> text. The same files give the same text, whatever their times and modes on this machine."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _FIRST_DAY), data)
    compressed = _compressed(buffer.getvalue())
    text = base64.b85encode(compressed).decode("ascii")
    lines = [text[start : start + LINE_CHARS] for start in range(0, len(text), LINE_CHARS)]
    return PackedFiles("\n".join(lines), digest_of_files(files), len(files))


def _compressed(data: bytes) -> bytes:
    """As small as lzma makes it, with a dictionary that holds all of ``data``.

    The preset's dictionary of 64 MiB makes nothing smaller that is less than that, and takes a quarter of the time.
    """
    size = min(max(SMALLEST, 1 << (len(data) - 1).bit_length()), LARGEST)
    return lzma.compress(
        data, filters=[{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": size}]
    )


@functools.cache
def packed_engine() -> PackedFiles:
    """The engine of this process, packed once: it takes a second and a half."""
    return pack(engine_files())


def unpack(text: str) -> dict[str, bytes]:
    """Text -> files, as the notebook's first cell does it."""
    data = lzma.decompress(base64.b85decode("".join(text.split())))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
