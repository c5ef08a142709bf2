"""What a reader asks to be run again. A module of its own: ``verify`` without a re-run pays for nothing else here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Request:
    """``n_items`` answers, ``n_steps`` train steps; None: none. ``checkpoint``: the model folder, where the store has it not."""

    seed: int
    n_items: int | None = None
    n_steps: int | None = None
    checkpoint: Path | None = None
