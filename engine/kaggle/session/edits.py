"""Whether the cells of a notebook are those that were generated: by the digest of each, taken while it runs.

In: the text of the running cell, which IPython keeps, and the digests that the first cell has. Out: the names of the cells that
somebody has changed, and one digest over all of them. Nothing is refused: the outcome records it.

    >>> digest_of_cell("x = 1\\n") == digest_of_cell("x = 1")
    True
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping

# The code cells, in the notebook's order, each with the title that is its first line (Colab shows it as a heading).
TITLES: Mapping[str, str] = {
    "engine": "1. Get the engine",
    "setup": "2. Set up",
    "configuration": "3. Configuration",
    "dataset": "4. Dataset",
    "smoke": "5. Smoke run",
    "train": "6. Full training",
    "predict": "7. Predictions",
    "score": "8. Score",
    "summary": "9. Summary",
}
TITLE = "#@title "
TABLE = "CELLS = "  # the line of the first cell that has the digests; it is left out of the first cell's own


def digest_of_cell(source: str) -> str:
    """The SHA-256 of a cell, without the line of digests and without line ends that editors add or take away."""
    lines = [line.rstrip() for line in source.strip().splitlines() if not line.startswith(TABLE)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def digest_of_cells(digests: Mapping[str, str]) -> str:
    """One digest for a notebook: of its code cells' digests, by name."""
    text = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def running_cell(name: str) -> str | None:
    """The text of the cell that runs now; None where nobody keeps it, or where it is another cell."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    history = getattr(getattr(shell, "history_manager", None), "input_hist_raw", None)
    source = str(history[-1]) if history else ""
    return source if source.lstrip().startswith(f"{TITLE}{TITLES[name]}") else None


class Edits:
    """The digests as generated, and as seen."""

    def __init__(self, generated: Mapping[str, str]) -> None:
        self._generated = dict(generated)
        self._seen: dict[str, str] = {}

    def saw(self, name: str, source: str | None) -> bool:
        """Note a cell that runs; False where it is not the generated one. Without its text nothing is noted."""
        if source is None:
            return True
        self._seen[name] = digest_of_cell(source)
        return self._seen[name] == self._generated.get(name)

    @property
    def edited(self) -> list[str]:
        """The cells that ran and were changed, in the notebook's order."""
        return [name for name, digest in self._generated.items() if self._seen.get(name, digest) != digest]

    @property
    def digest(self) -> str:
        """Of the cells as they ran; those that have not run count as generated."""
        return digest_of_cells({**self._generated, **self._seen})
