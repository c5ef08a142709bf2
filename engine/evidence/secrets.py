"""Secrets never get into a folder that is made to be committed: what would hold one is refused, not masked.

In: the files that are about to be written. Out: nothing, or one error that names every place and kind, never the value.
A masked file would no longer be the one whose digest the record has. Writing looks for this process's own secrets and for
the shapes of anybody's; :func:`find_secrets` without an environment, as ``verify`` calls it, for the shapes alone: its
answer depends on the package only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from engine.errors import Diagnostic, RunspecError
from engine.redact import find_secrets

MOST_SHOWN = 20


def refuse_secrets(files: Mapping[str, bytes], error: type[RunspecError], code: str, hint: str) -> None:
    """Raises the error with the code where a file, or its name, holds a secret."""
    found = find_secrets(files, os.environ)
    rows = [Diagnostic(code, f"{place} looks like a secret ({kind})", hint=hint) for place, kind in found[:MOST_SHOWN]]
    if len(found) > MOST_SHOWN:
        rows.append(Diagnostic(code, f"and {len(found) - MOST_SHOWN} more", hint=hint))
    if rows:
        raise error.of(rows)


__all__ = ["find_secrets", "refuse_secrets"]
