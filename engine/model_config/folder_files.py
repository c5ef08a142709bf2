"""The files of a model folder, found by name: a name that is there and is no file is never "absent".

In: a folder and a name. Out: the path, None where nothing has that name, or an error that names the file: a link that
leads nowhere (a blob removed from the hub's cache, a disk that is not mounted) would otherwise count as a folder without
a chat template, and the model would be trained with another. The same for a file that is not what its name says: a
pointer of Git LFS, or a web page that a download was answered with.

    file_in(folder, "tokenizer_config.json")     # the path, or None; M112 where it is a dead link
    stand_in(head)                               # None, or (what the file is, what to do)

Trainer and validation ask here. Git LFS pointers: spec.md of its documents.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from engine.errors import Diagnostic, InputInvalid, Where

# Every name that is looked for: a test compares it with the names of those who look.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "flax_model.msgpack", "flax_model.msgpack.index.json")
NAMES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", *WEIGHTS,
)  # fmt: skip
# Files by which orbax's folders are known, whichever of its versions wrote them.
ORBAX_FILES = ("_METADATA", "_CHECKPOINT_METADATA", "checkpoint", "manifest.ocdbt")
LFS_LINE = b"version https://git-lfs.github.com/spec/"
HEAD_BYTES = 64
LENGTH_BYTES = 8  # of the header's length, at the beginning of safetensors
NO_FILE, ANOTHER_FILE, SEVERAL = "M112", "M113", "M208"
FETCH = "fetch or copy the file again"
POINTER = (
    "this is a Git LFS pointer, not the file itself",
    "the clone was made without git-lfs: run `git lfs pull` in it, or name the model by its id, to download it",
)
PAGE = (
    "this is a web page, not the file itself",
    "the download was answered with a page, say to log in: fetch the file again",
)


def file_in(folder: Path, name: str, code: str = NO_FILE) -> Path | None:
    """The file of that name, None where there is none. Raises InputInvalid M112 (or ``code``) for anything else there."""
    path = folder / name
    problem = what_else(path)
    if problem is not None:
        raise InputInvalid(code, f"{name} is {problem}, not a file", where=Where(file=str(path)), hint=_hint(path))
    return path if path.is_file() else None


def read_in(folder: Path, name: str, code: str = NO_FILE) -> bytes | None:
    """The file's bytes, None where there is none. Raises as :func:`file_in`, also where it cannot be read."""
    path = file_in(folder, name, code)
    try:
        return path.read_bytes() if path is not None else None
    except OSError as error:
        reason = f"{name} cannot be read: {error.strerror or error}"
        raise InputInvalid(code, reason, where=Where(file=str(path)), hint=FETCH) from error


def orbax_folders(names: Iterable[str]) -> list[str]:
    """The folders below a folder that orbax has written, by the names of its files: a Flax variation of a Gemma has one.

    >>> orbax_folders(["2b/_METADATA", "2b/d/0a", "tokenizer.model", "images/a.png"])
    ['2b']
    """
    return sorted(
        {folder for folder, slash, file in (name.partition("/") for name in names) if slash and file in ORBAX_FILES}
    )


def orbax_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of a Flax variation: a folder of orbax's below one that has no weights of its own. Raises InputInvalid M208 for several."""
    if any(file_in(folder, name) is not None for name in WEIGHTS):
        return None
    found = orbax_folders([f"{path.parent.name}/{path.name}" for path in folder.glob("*/*")])
    if len(found) > 1:
        raise InputInvalid(
            SEVERAL,
            f"the folder has several checkpoints: {', '.join(found)}",
            where=Where(file=str(folder)),
            hint="leave one of them there, or name a folder that has one",
        )
    return folder / found[0] if found else None


def what_else(path: Path) -> str | None:
    """What is at the path where something is and it is no file; None for a file and for nothing."""
    if path.is_file() or not os.path.lexists(path):
        return None
    if path.is_dir():
        return "a folder"
    if path.exists():
        return "a pipe, a socket or a device"
    return f"a link that leads nowhere ({path.readlink()})" if path.is_symlink() else "nothing that can be read"


def _hint(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return (
            "let the link lead to the file again (is a disk not mounted, a cache emptied?), or fetch the folder again"
        )
    return "move it away, then fetch or copy the file again"


def stand_in(head: bytes) -> tuple[str, str] | None:
    """What a file is that begins with ``head`` and stands for another, and what to do.

    >>> stand_in(b"version https://git-lfs.github.com/spec/v1\\noid sha256:9fa1")[0]
    'this is a Git LFS pointer, not the file itself'
    >>> stand_in(b"<!DOCTYPE html>")[0]
    'this is a web page, not the file itself'
    """
    if head.startswith(LFS_LINE):
        return POINTER
    return PAGE if head.lstrip().lower().startswith((b"<!doctype", b"<html")) else None


def folder_findings(folder: Path) -> Iterator[Diagnostic]:
    """Every name of the folder that is no file, a stand-in, or weights that end before they begin; heads alone are read."""
    for name in NAMES:
        if name == "config.json":  # its reader says it
            continue
        try:
            path = file_in(folder, name)
            finding = _of_content(path) if path is not None else None
        except InputInvalid as error:
            yield from error.diagnostics
            continue
        if finding is not None:
            yield finding
    try:
        orbax_checkpoint(folder)
    except InputInvalid as error:
        if error.code == SEVERAL:  # the others have been said
            yield from error.diagnostics


def _of_content(path: Path) -> Diagnostic | None:
    where = Where(file=str(path))
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        return Diagnostic(NO_FILE, f"{path.name} cannot be read: {error.strerror or error}", where, FETCH)
    stands_for = stand_in(head)
    if stands_for is not None:
        return Diagnostic(ANOTHER_FILE, f"{path.name}: {stands_for[0]}", where, stands_for[1])
    if path.name in WEIGHTS and not size:
        return Diagnostic(ANOTHER_FILE, f"{path.name} is empty", where, FETCH)
    length = int.from_bytes(head[:LENGTH_BYTES], "little")
    if path.suffix == ".safetensors" and length > size - LENGTH_BYTES:
        return Diagnostic(
            ANOTHER_FILE,
            f"{path.name} is damaged or truncated: its header does not fit into {size} bytes",
            where,
            FETCH,
        )
    return None
