"""One file of a version's output: fetched in pieces that survive a cut or a kill, checked by size, digested, named last.

In: an output file and its folder. Out: its SHA-256. What has arrived lies in ``.parts/``, with the server's mark of the file beside it;
the next try asks for the rest, and only if the file there is still the same. An error page is not a file: what has another size than the
platform lists is refused.

    >>> safe_name("evidence/run_record.json"), safe_name("../../.bashrc"), safe_name("/etc/passwd")
    ('evidence/run_record.json', None, None)
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from engine.canonical import CHUNK_BYTES, digest_file, digest_text, write_atomic
from engine.errors import RunFailed
from engine.kaggle.driver.api.answers import OutputFile, Refusal
from engine.kaggle.driver.api.wire import FileBody, Wire
from engine.printable import printable
from engine.protocol.figures import size
from engine.temporary import fsync_dir

PARTS = ".parts"
LONGEST_NAME = 240
FREE_BYTES = 256 << 20  # that stay free beside what is fetched


def safe_name(name: str) -> str | None:
    """The name, where it is a path inside the folder that any system can have; None for one that leaves it or hides in it."""
    path = PurePosixPath(name)
    parts = name.split("/")
    if not name or path.is_absolute() or "\\" in name or ":" in name or printable(name) != name or "\n" in name:
        return None
    if any(part in ("", ".", "..", PARTS) or len(part.encode()) > LONGEST_NAME for part in parts) or len(name) > 1024:
        return None
    return name


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """Where the files of one version go."""

    folder: Path

    def file(self, name: str) -> Path:
        """The finished file."""
        return self.folder / name

    def part(self, name: str) -> Path:
        """What has arrived of it so far."""
        return self.folder / PARTS / digest_text(name)[:32]

    def mark(self, name: str) -> Path:
        """The server's mark of the file that the part is of."""
        return self.part(name).with_suffix(".mark")

    def done(self, name: str) -> Path:
        """The digest of the finished file."""
        return self.part(name).with_suffix(".done")


def check_space(place: OutputFolder, needed: int) -> None:
    """Raises RunFailed G255 where the disk has not the space, before the first byte."""
    folder = next(path for path in (place.folder, *place.folder.parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    if needed + FREE_BYTES > free:
        raise RunFailed("G255", f"the output takes {size(needed)}, and the disk of {place.folder} has {size(free)} free",
                        hint="free some disk space, then type the same command again")  # fmt: skip


def finished(place: OutputFolder, name: str) -> str | None:
    """The digest of a file that an earlier try has finished, where it is still the one that came; else None."""
    try:
        recorded = json.loads(place.done(name).read_bytes())["sha256"]
        return recorded if digest_file(place.file(name)) == recorded else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fetch_file(wire: Wire, output: OutputFile, place: OutputFolder, expected: int | None) -> str:
    """The digest of the finished file. Raises Refusal where it does not come whole; what came of it stays for the next try.

    ``expected``: its size, where the platform lists one.
    """
    part = place.part(output.name)
    part.parent.mkdir(parents=True, exist_ok=True)
    offset, validator = _begun(place, output.name)
    if expected is not None and offset == expected:
        return _publish(place, output.name)
    try:
        with wire.open_file(output.url, offset, validator) as body:
            if body.start not in (0, offset):
                raise Refusal("unreadable", 206, "the server sends another part of the file than was asked for")
            _receive(place, output.name, body)
    except Refusal as refusal:
        if refusal.status == 416:
            _forget(place, output.name)
        raise
    length, wanted = part.stat().st_size, body.total if expected is None else expected
    if wanted is not None and length != wanted:
        _forget(place, output.name)
        raise Refusal("unreadable", 200, f"{output.name} has {length:,} bytes, and the platform lists {wanted:,}")
    if body.md5 is not None and body.md5 != _md5(part):
        _forget(place, output.name)
        raise Refusal("unreadable", 200, f"{output.name} has other bytes than the server says")
    return _publish(place, output.name)


def _md5(path: Path) -> str:
    """As object stores write it: against bytes that the way has changed, not against a person."""
    hasher = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            hasher.update(chunk)
    return base64.b64encode(hasher.digest()).decode()


def _begun(place: OutputFolder, name: str) -> tuple[int, str | None]:
    """How much is here, and of which file; nothing where the mark is missing."""
    try:
        validator = json.loads(place.mark(name).read_bytes())["validator"]
        length = place.part(name).stat().st_size
    except (OSError, ValueError, KeyError, TypeError):
        return 0, None
    return (length, str(validator)) if validator and length else (0, None)


def _receive(place: OutputFolder, name: str, body: FileBody) -> None:
    if body.start == 0:
        _forget(place, name)
        write_atomic(place.mark(name), json.dumps({"validator": body.validator}))
    with place.part(name).open("r+b" if body.start else "wb") as stream:
        stream.seek(body.start)
        for chunk in body.chunks:
            stream.write(chunk)
        stream.truncate()
        stream.flush()
        os.fsync(stream.fileno())


def _publish(place: OutputFolder, name: str) -> str:
    part, file = place.part(name), place.file(name)
    digest = digest_file(part)
    file.parent.mkdir(parents=True, exist_ok=True)
    os.replace(part, file)
    fsync_dir(file.parent)
    write_atomic(place.done(name), json.dumps({"sha256": digest}))
    place.mark(name).unlink(missing_ok=True)
    return digest


def _forget(place: OutputFolder, name: str) -> None:
    for path in (place.part(name), place.mark(name)):
        path.unlink(missing_ok=True)
