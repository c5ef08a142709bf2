"""An evidence folder or zip as names and bytes, read without trusting either.

A zip is never extracted: members are read in memory under limits on number, size and ratio, after its form was checked
(:mod:`engine.evidence.zipped.zip_form`). Names that could leave the folder, names that hide another one, links, and contents that
no check should have to read (:mod:`engine.evidence.screen`) are refused and reported by check V01.
"""

from __future__ import annotations

import errno
import os
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

from engine.evidence.screen import MAX_TOTAL_BYTES, budget_of, refusal
from engine.evidence.zipped.zip_form import NotPlain, require_plain, shown

MAX_MEMBERS = 200
MAX_RATIO = 200  # deflate reaches about 1000 on zeros, and about 20 on our JSON
# verify.py runs on Windows too, which has no pipes in folders and reads text unless told otherwise.
_AS_IT_IS: int = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_NO_LINK: int = getattr(os, "O_NOFOLLOW", 0)
NOT_A_FILE = "it is a pipe or a device, not a file"


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
    with _open_file(path) as stream:
        try:
            require_plain(stream, MAX_MEMBERS)
            with zipfile.ZipFile(stream) as archive:
                return _members(archive)
        except NotPlain as error:
            return Bundle("zip", {}, (str(error),))
        except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError, OverflowError) as error:
            return Bundle("zip", {}, (f"this is not a complete zip: {error}",))


def _open_file(path: Path, *flags: int) -> BinaryIO:
    """A regular file, looked at after it was opened. A pipe is not waited for; raises OSError for it and for a device."""
    descriptor = os.open(path, os.O_RDONLY | _AS_IT_IS | sum(flags))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, NOT_A_FILE, str(path))
    return cast("BinaryIO", os.fdopen(descriptor, "rb"))


def _read_folder(path: Path) -> Bundle:
    with os.scandir(path) as entries:  # not sorted before it is counted: a folder can have millions
        names = sorted(entry.name for entry in islice(entries, MAX_MEMBERS + 1))
    if len(names) > MAX_MEMBERS:
        return Bundle("folder", {}, (f"more than {MAX_MEMBERS} files",))
    files: dict[str, bytes] = {}
    problems: list[str] = []
    total = 0
    for name in names:
        data, problem = _read_entry(path / name, MAX_TOTAL_BYTES - total)
        problem = problem or refusal(name, data)
        if problem:
            problems.append(problem)
        else:
            files[name] = data
            total += len(data)
    return Bundle("folder", files, tuple(problems))


def _read_entry(path: Path, most_bytes: int) -> tuple[bytes, str | None]:
    """The bytes of a file of the folder, counted while they are read."""
    name = path.name
    if path.is_symlink():
        return b"", f"{name} is a link"
    if not path.is_file():
        return b"", f"{name} is not a file"
    if not name.isprintable():
        return b"", f"{shown(name)} has a character that names must not have"
    limit = min(budget_of(name).most_bytes, most_bytes)
    with _open_file(path, _NO_LINK) as stream:
        data = stream.read(limit + 1)
    return (b"", f"{name} is too large") if len(data) > limit else (data, None)


def _members(archive: zipfile.ZipFile) -> Bundle:
    infos = [info for info in archive.infolist() if not info.is_dir() or info.filename.count("/") > 1]
    problems = [problem for info in infos if (problem := _unsafe(info))]
    tops = {info.filename.split("/")[0] for info in infos}
    if len(tops) > 1:
        problems.append("the members do not share one folder")
    names = [info.filename.rsplit("/", 1)[-1] for info in infos]
    folded = [name.casefold() for name in names]
    twice = sorted({name for name in names if folded.count(name.casefold()) > 1})
    problems += [f"{shown(name)} appears twice" for name in twice]
    total = sum(info.file_size for info in infos)
    if total > MAX_TOTAL_BYTES:
        problems.append(f"{total} bytes in all, more than {MAX_TOTAL_BYTES}")
    if problems:
        return Bundle("zip", {}, tuple(problems))
    files: dict[str, bytes] = {}
    for info, name in zip(infos, names, strict=True):
        data, problem = _read_member(archive, info)
        problem = f"{name}: {problem}" if problem else refusal(name, data)
        if problem:
            return Bundle("zip", files, (problem,))
        files[name] = data
    return Bundle("zip", files)


def _unsafe(info: zipfile.ZipInfo) -> str | None:
    """Why a member is not safe, or None."""
    name = info.filename
    printed = shown(name)
    parts = name.split("/")
    if name != info.orig_filename or not name.isprintable() or "\\" in name or ":" in name:
        return f"{printed} has a character that names must not have"
    if name.startswith("/") or ".." in parts or "." in parts or "" in parts:
        return f"{printed} is not a plain name"
    if len(parts) != 2:
        return f"{printed} is not in the one folder"
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        return f"{printed} is not a plain file"
    if info.file_size > budget_of(name).most_bytes:
        return f"{printed} is too large: {info.file_size} bytes, more than {budget_of(name).most_bytes}"
    if info.file_size > MAX_RATIO * max(info.compress_size, 1) and info.file_size > 1 << 20:
        return f"{printed} expands {info.file_size // max(info.compress_size, 1)} times"
    return None


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[bytes, str | None]:
    """The bytes, counted while they are read: the size in the header is only a claim."""
    try:
        with archive.open(info) as stream:
            data = stream.read(info.file_size + 1)
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
    if len(data) > info.file_size:
        return b"", "is larger than its header says"
    return (data, None) if len(data) == info.file_size else (b"", "is shorter than its header says")
