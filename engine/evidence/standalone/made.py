"""The parts of verify.py put together: what its modules need of the engine, its schemas and templates, its loader.

In: the engine's own sources, as they are installed. Out: the bytes of the file, and the names of the modules that it was made from.
"""

from __future__ import annotations

from engine.evidence.standalone.older_python import for_python_3_9
from engine.evidence.standalone.parts import BEGIN, LOADER, REPLACED, assets, read_module
from engine.evidence.standalone.slices import Slicer

_MARK = "# ---- the engine's modules ----\n"


def made() -> tuple[bytes, list[str]]:
    """The file, and the modules that were read."""
    slicer = Slicer(read_module, REPLACED)
    for module, name in BEGIN:
        slicer.need(module, name)
    head, _, tail = (read_module(LOADER) or "").partition(_MARK)
    parts = [head, *(_entry("ASSETS", name, text) for name, text in assets().items())]
    parts += [_entry("SOURCES", name, for_python_3_9(text)) for name, text in slicer.texts().items()]
    return "".join([*parts, _MARK, tail]).encode(), sorted(slicer.modules)


def _entry(table: str, name: str, text: str) -> str:
    """One text as it is, in a raw string where it can stand in one."""
    plain = "'''" not in text and text.endswith("\n")
    return f"{table}[{name!r}] = " + (f"r'''{text}'''\n" if plain else f"{text!a}\n" if text else '""\n')
