"""The lines of a journal: each vouches for its own bytes, and their numbers for their order.

In: an event; or the bytes of a journal. Out: its line; or the events, how much of the file is whole, and which lines are not
what was written.

    {"line_sha256": …, "seq": 1, "time": "2026-01-02T03:04:05Z", "event": "run_started", …}

``line_sha256`` is the digest of all other keys (engine.canonical.sealed). What follows the last newline was torn by a kill, and
is no event, unless it is whole without its newline. Engines before the seal wrote lines that begin with ``seq``, and went
on after a torn one; such lines are read where no sealed line comes before them.

    >>> parse_lines(line_of({"seq": 1, "time": "t", "event": "packaged"}) + b'{"line_sha').events
    [{'seq': 1, 'time': 't', 'event': 'packaged'}]
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.canonical import JsonMapping, JsonObject, digest_json, jsonl_bytes, unsealed

SEAL = "line_sha256"
OLDER = b'{"seq": '  # how a line without a seal begins; one flipped bit does not make it of a sealed one
# The keys of an event that somebody reads, and their types.
COMMON: Mapping[str, type] = {"seq": int, "time": str, "event": str}
_PUBLISHED: Mapping[str, type] = {
    "session": str, "id": str, "uses": str, "fingerprint": str, "type": str, "path": str, "ingredients": dict,
}  # fmt: skip
NEEDED: Mapping[str, Mapping[str, type]] = {
    "run_started": {"session": str, "command": str, "environment": dict},
    "step_started": {"id": str, "uses": str, "fingerprint": str},
    "step_failed": {"id": str},
    "step_finished": _PUBLISHED,
    "step_reused": _PUBLISHED,
    "evidence_rendered": {"identity": str, "files": dict},
    "verified": {"identity": str, "package": str, "sha256": str, "checks": list},
}


@dataclass(slots=True)
class Lines:
    """``end``: bytes up to the end of the last event; ``is_open``: its newline is missing; ``damaged``: numbers of lines."""

    events: list[JsonObject] = field(default_factory=list)
    end: int = 0
    is_open: bool = False
    damaged: list[int] = field(default_factory=list)
    _is_sealed: bool = False
    _next: int = 1
    _torn: list[int] = field(default_factory=list)

    def add(self, number: int, line: bytes) -> None:
        """One complete line."""
        row = unsealed(line + b"\n", SEAL)
        older = _older(line) if row is None and not self._is_sealed else None
        event = older if row is None else row
        if event is None or not _has_shape(event):
            self._unreadable(number, is_torn=event is None and not self._is_sealed)
            return
        if row is not None or event["seq"] != self._next:
            self.damaged += self._torn  # only the older engine went on after a torn line, which then has no number
        if event["seq"] != self._next and not self._torn:
            self.damaged.append(number)  # a line before it is missing
        self._is_sealed |= row is not None
        self._torn.clear()
        self._next = event["seq"] + 1
        self.events.append(event)

    def _unreadable(self, number: int, *, is_torn: bool) -> None:
        """Damaged; or torn by a kill, as it turns out if an older engine has gone on after it."""
        if is_torn:
            self._torn.append(number)
            return
        self.damaged.append(number)
        self._next += 1

    def close(self) -> None:
        """After the last line."""
        self.damaged += self._torn


def line_of(event: JsonMapping) -> bytes:
    """The line, with its newline."""
    return jsonl_bytes([{SEAL: digest_json(event), **event}])


def parse_lines(data: bytes) -> Lines:
    """All events, oldest first."""
    lines = Lines()
    *complete, tail = data.split(b"\n")
    for number, line in enumerate(complete, start=1):
        lines.add(number, line)
    lines.close()
    lines.end = len(data) - len(tail)
    before = len(lines.events)
    for whole in (tail, tail[:-1]):  # the newline is missing, or is another byte now
        if whole and len(lines.events) == before and (unsealed(whole + b"\n", SEAL) or _older(whole)):
            lines.add(len(complete) + 1, whole)
            lines.end, lines.is_open = lines.end + len(whole), True
    return lines


def _older(line: bytes) -> JsonObject | None:
    if not line.startswith(OLDER):
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _has_shape(event: JsonMapping) -> bool:
    needed = {**COMMON, **NEEDED.get(str(event.get("event")), {})}
    return all(isinstance(event.get(key), kind) for key, kind in needed.items())
