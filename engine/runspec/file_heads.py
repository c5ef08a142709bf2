"""What lies in the place of a file that a run will read, told by its first bytes: nothing is read further.

In: a path. Out: what it is instead and what to do; None for what may be the file. Found here, it costs a second; the step that
reads the file finds it, too, hours later.

    stand_in(Path("models/gemma/model.safetensors"))    # ("is a Git LFS pointer, not the file itself", "run `git lfs pull` …")
"""

from __future__ import annotations

import os
from pathlib import Path

HEAD_BYTES = 64
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype html", b"<html")


def stand_in(path: Path) -> tuple[str, str] | None:
    """(what it is, what to do). A pipe or a device is not opened: it could be waited for."""
    try:
        if not path.is_file():
            return "is not a file", "put the file there"
        descriptor = os.open(path, os.O_RDONLY)
        try:
            head = os.read(descriptor, HEAD_BYTES)
        finally:
            os.close(descriptor)
    except PermissionError:
        return "cannot be read: no permission", f"give this user the right to read it: chmod u+r {path.name}"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}", "look at the file and at the disk it is on"
    return kind_of_head(head)


def kind_of_head(head: bytes) -> tuple[str, str] | None:
    """The same for the first bytes.

    >>> kind_of_head(b"<!DOCTYPE html>")[0], kind_of_head(b"{}")
    ('is a web page, not the file itself', None)
    """
    if not head:
        return "is empty", "fetch or copy it again"
    if head.startswith(LFS_POINTER):
        return (
            "is a Git LFS pointer, not the file itself",
            "the clone was made without git-lfs: run `git lfs pull` in it",
        )
    if head.lstrip().lower().startswith(_PAGES):
        return "is a web page, not the file itself", "download the file itself, not the page that shows it"
    return None
