"""An evidence folder or zip as names and bytes, read without trusting either.

A zip is never extracted: members are read in memory under limits on number, size and ratio; names that could leave the
folder, names that hide another one, and links are refused and reported by check V01.
"""

from __future__ import annotations

import errno
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MAX_MEMBERS = 200
MAX_MEMBER_BYTES = 256 << 20
MAX_TOTAL_BYTES = 1 << 30
MAX_RATIO = 200  # deflate reaches about 1000 on zeros, and about 20 on our JSON


@dataclass(frozen=True, slots=True)
class Bundle:
    """``files`` are names without folders -> bytes; ``problems`` are those that V01 reports."""

    kind: str  # "folder" or "zip"
    files: Mapping[str, bytes]
    problems: tuple[str, ...] = field(default=())


def read_bundle(path: Path) -> Bundle:
    """Never raises for what is inside; OSError where the path itself cannot be read."""
    if path.is_dir():
        return _read_folder(path)
    if path.exists() and not path.is_file():  # opening a pipe would wait for its writer
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file")
    return _read_zip(path)


def _read_folder(path: Path) -> Bundle:
    files: dict[str, bytes] = {}
    problems: list[str] = []
    total = 0
    for entry in sorted(path.iterdir()):
        if entry.is_symlink():
            problems.append(f"{entry.name} is a link")
        elif not entry.is_file():
            problems.append(f"{entry.name} is not a file")
        elif entry.stat().st_size > MAX_MEMBER_BYTES or total + entry.stat().st_size > MAX_TOTAL_BYTES:
            problems.append(f"{entry.name} is too large")
        else:
            files[entry.name] = entry.read_bytes()
            total += len(files[entry.name])
    return Bundle("folder", files, tuple(problems))


def _read_zip(path: Path) -> Bundle:
    try:
        with zipfile.ZipFile(path) as archive:
            return _members(archive)
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        EOFError,
        RuntimeError,
        ValueError,
        OverflowError,
    ) as error:
        return Bundle("zip", {}, (f"this is not a complete zip: {error}",))


def _members(archive: zipfile.ZipFile) -> Bundle:
    infos = [info for info in archive.infolist() if not info.is_dir() or info.filename.count("/") > 1]
    if len(infos) > MAX_MEMBERS:
        return Bundle("zip", {}, (f"{len(infos)} members, more than {MAX_MEMBERS}",))
    problems = [problem for info in infos if (problem := _unsafe(info))]
    tops = {info.filename.split("/")[0] for info in infos}
    if len(tops) > 1:
        problems.append("the members do not share one folder")
    names = [info.filename.rsplit("/", 1)[-1] for info in infos]
    folded = [name.casefold() for name in names]
    problems += [
        f"{name} appears twice" for name in sorted({name for name in names if folded.count(name.casefold()) > 1})
    ]
    if problems:
        return Bundle("zip", {}, tuple(problems))
    files: dict[str, bytes] = {}
    total = 0
    for info, name in zip(infos, names, strict=True):
        data, problem = _read_member(archive, info, MAX_TOTAL_BYTES - total)
        if problem:
            return Bundle("zip", files, (f"{name}: {problem}",))
        files[name] = data
        total += len(data)
    return Bundle("zip", files)


def _unsafe(info: zipfile.ZipInfo) -> str | None:
    """Why a member is not safe, or None."""
    name = info.filename
    printed = name.encode("unicode_escape").decode()[:80]
    parts = name.split("/")
    if name != info.orig_filename or "\0" in name or "\\" in name or ":" in name:
        return f"{printed} has a character that names must not have"
    if name.startswith("/") or ".." in parts or "." in parts or "" in parts:
        return f"{printed} is not a plain name"
    if len(parts) != 2:
        return f"{printed} is not in the one folder"
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        return f"{printed} is not a plain file"
    if info.file_size > MAX_MEMBER_BYTES:
        return f"{printed} is too large"
    if info.file_size > MAX_RATIO * max(info.compress_size, 1) and info.file_size > 1 << 20:
        return f"{printed} expands {info.file_size // max(info.compress_size, 1)} times"
    return None


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most_bytes: int) -> tuple[bytes, str | None]:
    """The bytes, counted while they are read: the size in the header is only a claim."""
    limit = min(info.file_size, MAX_MEMBER_BYTES, most_bytes)
    try:
        with archive.open(info) as stream:
            data = stream.read(limit + 1)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        OSError,
    ) as error:
        return b"", f"cannot be read: {error}"
    return (b"", "is larger than its header says") if len(data) > limit else (data, None)
