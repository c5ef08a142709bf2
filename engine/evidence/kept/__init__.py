"""What is made once for the sources that there are, as Python compiles a module once: kept beside the compiled modules.

In: a name, the digest of everything that it was made from, the function that makes it. Out: the bytes. Where nothing can be kept (a
folder that cannot be written, ``PYTHONDONTWRITEBYTECODE``) or a file is damaged, they are made again.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

from engine.canonical import JsonObject, digest_bytes, write_atomic

_FOLDER = Path(__file__).parent / "__pycache__"


def kept_or_made(
    name: str, is_current: Callable[[JsonObject], bool], make: Callable[[], tuple[bytes, JsonObject]]
) -> bytes:
    """The bytes. ``make`` gives them with a head, by which ``is_current`` tells later whether they still are what would be made."""
    kept = _read(name, is_current)
    if kept is not None:
        return kept
    data, head = make()
    if not sys.dont_write_bytecode:
        line = json.dumps({**head, "sha256": digest_bytes(data)}).encode()
        with contextlib.suppress(OSError):
            _FOLDER.mkdir(exist_ok=True)
            write_atomic(_FOLDER / f"{name}.kept", line + b"\n" + data)
    return data


def _read(name: str, is_current: Callable[[JsonObject], bool]) -> bytes | None:
    try:
        line, _, data = (_FOLDER / f"{name}.kept").read_bytes().partition(b"\n")
        head = json.loads(line)
        return data if head["sha256"] == digest_bytes(data) and is_current(head) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
