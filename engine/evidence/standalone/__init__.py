"""verify.py: the checks that need no JAX as one file of the standard library, made from the engine's own modules.

    data = verify_py()         # the same bytes whatever the Python, the place and the locale
    problem(data) is None      # whether a verify.py among evidence is this engine's, or that of a release

It travels in every evidence folder and zip, so that a stranger needs nothing but Python 3.9. docs/how-to/verify-evidence.md.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources

from engine.canonical import digest_bytes
from engine.evidence.standalone.older_python import for_python_3_9
from engine.evidence.standalone.parts import BEGIN, REPLACED, STAND_INS, assets
from engine.evidence.standalone.slices import Slicer

FILE = "verify.py"
_MARK = "# ---- the engine's modules ----\n"


@functools.cache
def verify_py() -> bytes:
    """The file."""
    slicer = Slicer(_read, REPLACED)
    for module, name in BEGIN:
        slicer.need(module, name)
    head, _, tail = (_read("engine.evidence.standalone.stand_ins.loader") or "").partition(_MARK)
    parts = [head]
    parts += [_entry("ASSETS", name, text) for name, text in assets().items()]
    parts += [_entry("SOURCES", name, for_python_3_9(text)) for name, text in slicer.texts().items()]
    return "".join([*parts, _MARK, tail]).encode()


def _entry(table: str, name: str, text: str) -> str:
    """One text as it is, in a raw string where it can stand in one."""
    plain = "'''" not in text and not text.endswith("'") and text.endswith("\n")
    return f"{table}[{name!r}] = " + (f"r'''{text}'''\n" if plain else f"{text!a}\n" if text else '""\n')


def _read(module: str) -> str | None:
    """The text of a module that goes into the file, or None where it is the standard library's."""
    name = STAND_INS.get(module, module)
    if name.split(".")[0] != "engine":
        return None
    folder, _, last = name.rpartition(".")
    path = resources.files("engine").joinpath(*name.split(".")[1:])
    for file in (path.joinpath("__init__.py"), resources.files("engine").joinpath(*folder.split(".")[1:], f"{last}.py")):
        if file.is_file():
            return file.read_text(encoding="utf-8").replace("\r\n", "\n")
    return None


# Digest of the verify.py of a release -> the release. None is released yet.
RELEASED: Mapping[str, str] = {}


def this_digest() -> str:
    """SHA-256 of this engine's verify.py."""
    return digest_bytes(verify_py())


def problem(data: bytes) -> str | None:
    """Why a verify.py among evidence is not to be run, or None."""
    digest = digest_bytes(data)
    if digest == this_digest() or digest in RELEASED:
        return None
    return f"verify.py is neither this engine's nor that of a release (SHA-256 {digest[:12]}…): do not run it"
