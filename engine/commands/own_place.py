"""Where a command may write what a person asked for: never among evidence, whose files are counted.

In: the folder that a command will write into, and the option that named it. Out: nothing, or U146.

    refuse_evidence(Path("submission_runs/toy_v1"), "dataset build --out DIR")
"""

from __future__ import annotations

from pathlib import Path

from engine.errors import InputInvalid
from engine.evidence import evidence_names


def refuse_evidence(folder: Path, option: str) -> None:
    """Raises InputInvalid U146 where the folder, or one that it is in, holds a run's evidence: the next run would end with 4."""
    place = folder.resolve()
    found = next((path for path in (place, *place.parents) if evidence_names(path)), None)
    if found is not None:
        within = "is" if found == place else "lies in"
        raise InputInvalid("U146", f"{folder} {within} the evidence folder {found.name}/, whose files are counted",
                           hint=f"name a folder of its own: runspec {option}")  # fmt: skip
