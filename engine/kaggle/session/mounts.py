"""What Kaggle has mounted: a dataset or the output of another notebook, in both layouts, found by what lies in it.

In: the input folder, ``owner/slug``. Out: the folder, or an error that lists what is mounted. Since 2026 Kaggle mounts
``input/datasets/OWNER/SLUG`` and ``input/notebooks/OWNER/SLUG``, before it was ``input/SLUG`` for both.

    find_dataset(Path("/kaggle/input"), "owner/wheels", holds="*.whl")
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from engine.canonical import digest_file
from engine.errors import InputInvalid, listed

MOST_LISTED = 20


def n_parts(name: str) -> int:
    """How many parts a name of Kaggle's has; 0 where one of them is empty.

    >>> n_parts("owner/slug"), n_parts("owner/slug/3"), n_parts("owner/")
    (2, 3, 0)
    """
    parts = name.split("/")
    return len(parts) if all(part.strip() == part != "" for part in parts) else 0


def find_dataset(inputs: Path, name: str, *, holds: str) -> Path:
    """The dataset's folder, with a file of that pattern somewhere in it. Raises InputInvalid (G170)."""
    return _find(inputs, "datasets", name, holds)


def find_output(inputs: Path, name: str, *, holds: str) -> Path:
    """The output of a notebook (``owner/slug`` or ``owner/slug/version``). Raises InputInvalid (G170)."""
    return _find(inputs, "notebooks", name, holds)


def find_file(inputs: Path, dataset: str, name: str, sha256: str) -> Path:
    """A file of a dataset, by its digest. Raises InputInvalid: G170 where it is not mounted, G173 where its bytes are others."""
    folder = _find(inputs, "datasets", dataset, name)
    found = sorted(folder.rglob(name))
    for path in found:
        if path.is_file() and digest_file(path) == sha256:
            return path
    raise InputInvalid("G173", f"{name} of the dataset {dataset} is not what the notebook was made with (sha256 {sha256[:12]}…)",
                       hint="upload the project's files again, or generate the notebook again")  # fmt: skip


def _find(inputs: Path, kind: str, name: str, holds: str) -> Path:
    owner, slug = name.split("/")[:2]
    for folder in (inputs / kind / owner / slug, inputs / slug):
        if folder.is_dir() and next(folder.rglob(holds), None) is not None:
            return folder
    there = listed(islice(_mounted(inputs), MOST_LISTED)) or "nothing"
    what = "dataset" if kind == "datasets" else "output of the notebook"
    raise InputInvalid(
        "G170", f"the {what} {owner}/{slug}, with {holds} in it, is not mounted",
        hint=f"attach it: Add input, in the notebook's editor. Mounted are: {there}",
    )  # fmt: skip


def _mounted(inputs: Path) -> Iterator[str]:
    """The folders that somebody can have meant."""
    for pattern in ("datasets/*/*", "notebooks/*/*", "*"):
        yield from (path.relative_to(inputs).as_posix() for path in sorted(inputs.glob(pattern)) if path.is_dir())
