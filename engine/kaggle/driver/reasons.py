"""Why a session failed, as far as its log says it: a class, the engine's own last error, and what helps.

>>> reason_of("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 2147483648 bytes.")
'oom'
>>> reason_of("error[G174]: google/gemma-2b is gated on the hub, and there is no token: the run would end at its download")
'secret'
>>> last_error("error[R114]: the session limit of 48s is too short\\nerror[G166]: runspec run ended with exit code 2: the lines above say why")
'R114: the session limit of 48s is too short'
>>> last_error("x\\nerror[M401]: the model needs a token\\nmore")
'M401: the model needs a token'
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from engine.printable import one_line
from engine.redact import redact

ERROR_LINE = re.compile(r"error\[([A-Z]\d{2,3})\]: (.+)")
POINTERS = ("G166",)  # of a cell: that the run failed, for which the lines above it say why
# Class of a failure -> what its log has; the first that matches counts.
REASONS: Mapping[str, re.Pattern[str]] = {
    "limit": re.compile(r"error\[R114\]"),
    "oom": re.compile(r"RESOURCE_EXHAUSTED|out of memory|\bOOM\b|Killed\b.*memory", re.IGNORECASE),
    "secret": re.compile(r"No user secrets exist|error\[(M401|G16[0-2]|G174)\]", re.IGNORECASE),
    "device": re.compile(
        r"error\[G1[5-9]\d\].*device|No (TPU|GPU|accelerator)|Unable to initialize backend", re.IGNORECASE
    ),
    "data-missing": re.compile(
        r"error\[(D1\d\d|Y001|G1[5-9]\d)\].*(not there|missing|no file|not attached)|FileNotFoundError", re.IGNORECASE
    ),
    "disk": re.compile(r"No space left on device|error\[R101\]", re.IGNORECASE),
    "timeout": re.compile(r"timed? ?out|Timeout", re.IGNORECASE),
}
HINTS: Mapping[str, str] = {
    "limit": "a longer --session-limit: one train step and one save must fit into what is left of it after setting up; then add --again",
    "oom": "a smaller per_device_batch_size or seq_len: `runspec plan SPEC --target T` says what fits",
    "secret": "name the model as model: {kaggle: …}, which needs no secret; a push detaches secrets that were attached",
    "device": "the session had other devices than were asked for; type the command again with --again",
    "data-missing": "attach what is missing as a dataset: --upload-data",
    "disk": "keep fewer checkpoints (keep_checkpoints), or a smaller model",
    "timeout": "a shorter --session-limit: the run then stops by itself, and the next session resumes",
}


def reason_of(log: str) -> str:
    """The class of a failure; ``code`` where nothing in the log says more."""
    return next((name for name, pattern in REASONS.items() if pattern.search(log)), "code")


def last_error(log: str) -> str | None:
    """The last error of the engine in a log."""
    found = ERROR_LINE.findall(log)
    found = [row for row in found if row[0] not in POINTERS] or found
    return f"{found[-1][0]}: {one_line(redact(found[-1][1]))[:300]}" if found else None


def last_line(log: str) -> str:
    """The last line that is not blank."""
    lines = [line for line in log.splitlines() if line.strip()]
    return one_line(redact(lines[-1]))[:300] if lines else ""
