"""Disk space for checkpoints, checked before it is needed.

In: bytes (engine.protocol.disk_space, as the plan counts them), the folder. Out: nothing, or RunFailed T143 at a moment when no train
step is lost: at the start of a training run, and right after a checkpoint, for the next one.

    require(3 * checkpoint_bytes(state), Path("work"), what="3 checkpoints", saved="nothing has been saved yet")
"""

from __future__ import annotations

import shutil
from pathlib import Path

import jax

from engine.errors import RunFailed, Where
from engine.protocol.disk_space import checkpoint_file_bytes
from engine.trainer.distributed.placement import PyTree


def checkpoint_bytes(state: PyTree) -> int:
    """Upper bound of a checkpoint's size on disk."""
    return checkpoint_file_bytes(sum(int(leaf.nbytes) for leaf in jax.tree.leaves(state)))


def free_bytes(folder: Path) -> int:
    """What this user may still write there. It does not know the user's quota."""
    return shutil.disk_usage(folder).free


def require(needed: int, folder: Path, *, what: str, saved: str, also: int = 0) -> None:
    """Raises RunFailed T143 if ``needed`` bytes for ``what``, in words, do not fit.

    ``also``: bytes that will be freed before they are written; ``saved``: what is saved so far, in words.
    """
    free = free_bytes(folder) + also
    if free >= needed:
        return
    raise RunFailed(
        "T143",
        f"not enough disk space for {what}: {_size(needed)} needed, {_size(free)} free; {saved}",
        where=Where(file=str(folder)),
        hint="free some disk space there and run again: it resumes where it stopped; "
        "or keep fewer (keep_checkpoints, keep_every_steps, keep_best)",
    )


def _size(count: int) -> str:
    """
    >>> _size(25_900_000_000), _size(3 << 20), _size(3_000)
    ('24.12 GiB', '3.00 MiB', '3 KiB')
    """
    for unit, bytes_each in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if count >= bytes_each:
            return f"{count / bytes_each:.2f} {unit}"
    return f"{count / 1024:.0f} KiB"
