"""The engine's own templates by name and digest, the present ones and those of earlier versions.

In: a template's name and, of evidence that is there already, its digest. Out: the text. A shipped template that changes is
kept, under its digest, in ``templates/former/``, so that evidence that it made can be rendered again.

    >>> shipped_template("run_manifest.json.j2").splitlines()[1]
    '{'
    >>> former_name("README.txt.j2", "ab" * 32)
    'README.txt.abababababababab.j2'
"""

from __future__ import annotations

from engine.assets import asset
from engine.canonical import digest_text

FORMER = "former"


def shipped_template(name: str, digest: str | None = None) -> str | None:
    """The text of the engine's own template; with a digest, of that version of it. None where there is none."""
    if "/" in name:
        return None
    present = _read(name)
    if digest is None or (present is not None and digest_text(present) == digest):
        return present
    former = _read(FORMER, former_name(name, digest))
    return former if former is not None and digest_text(former) == digest else None


def former_name(name: str, digest: str) -> str:
    """The file in ``templates/former/`` that has an earlier text of a template."""
    stem, dot, ending = name.rpartition(".")
    return f"{stem}.{digest[:16]}{dot}{ending}"


def _read(*parts: str) -> str | None:
    path = asset("templates", *parts)
    return path.read_text(encoding="utf-8") if path.is_file() else None
