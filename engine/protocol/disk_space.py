"""How much disk space a training run takes: one arithmetic for the plan and for the trainer's own check.

In: bytes of arrays, and what is declared of checkpoints. Out: bytes on the disk at the worst moment.

    >>> kept = Kept(last=2)
    >>> training_disk_bytes(checkpoint=100, model=60, saves=4, last_train_step=100, kept=kept)
    300
    >>> training_disk_bytes(checkpoint=100, model=160, saves=4, last_train_step=100, kept=kept)
    360

A checkpoint is written beside those that are kept; the model is exported when the last one has been written and the
surplus is deleted. The two moments never coincide, so the larger one counts.
"""

from __future__ import annotations

from dataclasses import dataclass

# What the files hold beside the arrays: chunk tables and names (measured: under 1 % from 100 MB on, 60 kB for 200 kB).
SHARE, FIXED_BYTES = 0.02, 1 << 20


@dataclass(frozen=True, slots=True)
class Kept:
    """Which checkpoints stay: the newest ``last``, those whose train step ``every`` divides, the ``best`` by eval loss."""

    last: int
    every: int | None = None
    best: int | None = None

    def most(self, saves: int, last_train_step: int) -> int:
        """How many stay, of ``saves`` up to a train step.

        >>> Kept(last=2, every=100).most(20, 1000), Kept(last=2).most(1, 30)
        (12, 1)
        """
        return min(saves, self.last + (self.best or 0) + (last_train_step // self.every if self.every else 0))

    def most_at_once(self, saves: int, last_train_step: int) -> int:
        """How many exist at the same time: those that stay, and one that is being written.

        >>> Kept(last=2, every=100).most_at_once(20, 1000), Kept(last=2).most_at_once(1, 30)
        (13, 1)
        """
        return min(saves, self.most(saves, last_train_step) + 1)


def saves_between(done: int, last: int, every: int) -> int:
    """How many checkpoints are saved after train step ``done`` up to ``last``, each ``every`` steps and at the end.

    >>> saves_between(0, 100, 25), saves_between(0, 30, 25), saves_between(25, 100, 25), saves_between(30, 30, 25)
    (4, 2, 3, 0)
    """
    return 0 if done >= last else last // every - done // every + (last % every > 0)


def checkpoint_file_bytes(array_bytes: int) -> int:
    """Upper bound of a checkpoint's size on disk (repeated values take less: the files are compressed)."""
    return int(array_bytes * (1 + SHARE)) + FIXED_BYTES


def model_file_bytes(*, weights: int, adapters: int | None, formats: int, merge: bool) -> int:
    """The exported model: all weights in each format; or the adapters (not None) and, merged, all weights.

    >>> model_file_bytes(weights=100, adapters=None, formats=2, merge=False)
    200
    >>> model_file_bytes(weights=100, adapters=3, formats=1, merge=False)
    3
    """
    complete = weights * formats
    return complete if adapters is None else adapters + complete * merge


def training_disk_bytes(*, checkpoint: int, model: int, saves: int, last_train_step: int, kept: Kept) -> int:
    """The larger of: checkpoints that stay with one being written; those that stay with the exported model."""
    writing = kept.most_at_once(saves, last_train_step) * checkpoint
    return max(writing, kept.most(saves, last_train_step) * checkpoint + model)
