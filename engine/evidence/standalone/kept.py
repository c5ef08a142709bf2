"""verify.py is made once for the sources that there are, which takes half a second, and is made again where one of them has changed.

In: nothing. Out: the bytes. What is kept has the digest of every text that it was made from.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.canonical import JsonObject, digest_json
from engine.evidence.kept import kept_or_made
from engine.evidence.standalone.parts import LOADER, assets, read_module

MAKERS = tuple(
    f"engine.evidence.standalone.{name}" for name in ("made", "older_python", "parts", "slices", "statements")
)


def kept_verify_py() -> bytes:
    """The bytes of verify.py."""
    return kept_or_made("verify.py", lambda head: bool(head["key"] == _key(head["modules"])), _made)


def _made() -> tuple[bytes, JsonObject]:
    from engine.evidence.standalone.made import made

    data, modules = made()
    return data, {"modules": modules, "key": _key(modules)}


def _key(modules: Sequence[str]) -> str:
    """The digest of everything that the file is made from."""
    return digest_json([{name: read_module(name) for name in (*modules, *MAKERS, LOADER)}, assets()])
