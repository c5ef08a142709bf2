"""The platform's word for a session, read by our own table: the client's own dies of a word that it does not know.

In: what the answer has under ``status``: a word in any case and spelling, a number, nothing. Out: a :data:`Phase`.

    >>> [phase_of(raw) for raw in ("COMPLETE", "cancelAcknowledged", "KernelWorkerStatus.RUNNING", 3, "3", None, "PAUSED")]
    ['complete', 'cancelled', 'running', 'error', 'error', 'queued', 'unknown']
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

Phase = Literal["queued", "running", "cancelling", "complete", "error", "cancelled", "not_run", "unknown"]

# The words of KernelWorkerStatus (kagglesdk 0.1.38) by their numbers.
_BY_NUMBER: tuple[tuple[str, Phase], ...] = (
    ("queued", "queued"),
    ("running", "running"),
    ("complete", "complete"),
    ("error", "error"),
    ("cancelrequested", "cancelling"),
    ("cancelacknowledged", "cancelled"),
    ("newscript", "not_run"),
)
_BY_WORD: Mapping[str, Phase] = {
    **dict(_BY_NUMBER),
    "completed": "complete",
    "failed": "error",
    "canceled": "cancelled",
    "cancelled": "cancelled",
}
OVER: frozenset[Phase] = frozenset({"complete", "error", "cancelled"})


def phase_of(raw: object) -> Phase:
    """Absent is queued: a default value is left out of an answer."""
    if raw is None or raw == "":
        return "queued"
    if isinstance(raw, bool) or not isinstance(raw, str | int):
        return "unknown"
    word = str(raw).strip()
    if word.isdigit():
        return _BY_NUMBER[int(word)][1] if int(word) < len(_BY_NUMBER) else "unknown"
    plain = re.sub(r"[^a-z]", "", word.rpartition(".")[2].lower().removeprefix("kernel_worker_status"))
    return _BY_WORD.get(plain, "unknown")
