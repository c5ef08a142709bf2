"""verify.py: the checks that need no JAX as one file of the standard library, made from the engine's own modules.

    data = verify_py()         # the same bytes whatever the Python, the place and the locale
    strange(data) == []        # whether a verify.py among evidence is this engine's, or that of a release

It travels in every evidence folder and zip, so that a stranger needs nothing but Python 3.9. docs/how-to/verify.md.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from engine.canonical import digest_bytes
from engine.evidence.standalone.kept import kept_verify_py

FILE = "verify.py"
# SHA-256 of the verify.py of a release -> the release. None is released yet.
RELEASED: Mapping[str, str] = {}


@functools.cache
def verify_py() -> bytes:
    """The file."""
    return kept_verify_py()


@functools.cache
def this_digest() -> str:
    """SHA-256 of this engine's verify.py."""
    return digest_bytes(verify_py())


def strange(data: bytes | None) -> list[str]:
    """Why nobody should run a verify.py that is among evidence; [] where there is none, or a known one."""
    digest = None if data is None else digest_bytes(data)
    if digest is None or digest == this_digest() or digest in RELEASED:
        return []
    return [f"verify.py is neither this engine's nor that of a release (SHA-256 {digest[:12]}…): do not run it"]
