"""Cell 2: the machine of a session, its packages and its devices, all of it before anything long.

In: what the notebook was made with, the place. Out: the interpreter that runs the engine. Raises RunFailed G150 to G157, InputInvalid G170.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from engine.errors import RunFailed
from engine.kaggle.session.devices import Expected, check_look, look
from engine.kaggle.session.mounts import find_dataset
from engine.kaggle.session.platform import Place
from engine.kaggle.session.python import session_python
from engine.protocol.device_memory import machine_memory_bytes

LOW_DISK_BYTES = 2 << 30
GIB = 1 << 30
Show = Callable[[str], None]


def expected_of(values: Mapping[str, object] | None) -> Expected | None:
    """The devices of the plan, as the notebook's cell has them."""
    return Expected(**values) if values else None  # type: ignore[arg-type]


def set_up(engine: Path, place: Place, expected: Expected | None, wheelhouse: str | None, show: Show) -> Path:
    """Look at the machine, install what is missing; returns the interpreter."""
    show(f"python    {sys.version.split()[0]} ({sys.executable})")
    show_machine(place, show)
    kind, names = look()
    show(f"looking   {', '.join(names) or kind}")
    check_look(expected, kind, names)
    wheels = find_dataset(place.inputs, wheelhouse, holds="*.whl") if wheelhouse else None
    constraints = engine / "engine" / "_assets" / "templates" / "kaggle" / "constraints.txt"
    python, lines = session_python(kind, constraints, place.scratch, wheelhouse=wheels)
    for line in lines:
        show(line)
    return python


def show_machine(place: Place, show: Show) -> None:
    """Memory and disk. Raises RunFailed G157."""
    for folder in (place.scratch, place.output):
        folder.mkdir(parents=True, exist_ok=True)
    memory, free = machine_memory_bytes(), shutil.disk_usage(place.scratch).free
    show(
        f"machine   {os.cpu_count()} cores, {(memory or 0) / GIB:.1f} GiB of memory, {free / GIB:.1f} GiB free on scratch"
    )
    if free < LOW_DISK_BYTES:
        raise RunFailed("G157", f"{place.scratch} has {free / GIB:.1f} GiB of free disk space; a run needs more than 2",
                        hint="free some disk space, or set RUNSPEC_SCRATCH to a folder on a larger disk")  # fmt: skip
