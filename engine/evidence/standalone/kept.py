"""verify.py is made once for the sources that there are, as Python compiles a module once: kept beside the compiled modules.

In: nothing. Out: the bytes. What is kept begins with the digest of every text that it was made from; where one has changed, or nothing could be
kept (a folder that cannot be written, ``PYTHONDONTWRITEBYTECODE``), the file is made again, which takes half a second.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.canonical import digest_bytes, digest_json, write_atomic
from engine.evidence.standalone.parts import LOADER, assets, read_module

_FOLDER = Path(__file__).parent / "__pycache__"
_KEPT = "verify.py.kept"
MAKERS = tuple(
    f"engine.evidence.standalone.{name}" for name in ("made", "older_python", "parts", "slices", "statements")
)


def kept_or_made() -> bytes:
    """The bytes of verify.py."""
    kept = _read()
    if kept is not None:
        return kept
    from engine.evidence.standalone.made import made

    data, modules = made()
    if not sys.dont_write_bytecode:
        head = json.dumps({"modules": modules, "key": _key(modules), "sha256": digest_bytes(data)})
        with contextlib.suppress(OSError):
            _FOLDER.mkdir(exist_ok=True)
            write_atomic(_FOLDER / _KEPT, head.encode() + b"\n" + data)
    return data


def _read() -> bytes | None:
    try:
        head, _, data = (_FOLDER / _KEPT).read_bytes().partition(b"\n")
        values = json.loads(head)
        is_current = values["key"] == _key(values["modules"]) and values["sha256"] == digest_bytes(data)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return data if is_current else None


def _key(modules: Sequence[str]) -> str:
    """The digest of everything that the file is made from."""
    return digest_json([{name: read_module(name) for name in (*modules, *MAKERS, LOADER)}, assets()])
