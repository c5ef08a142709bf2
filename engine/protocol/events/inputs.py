"""Events of a job's inputs: rows being tokenized, files from the hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.protocol.events.base import Bar, Event, joined
from engine.protocol.figures import duration, number, size


@dataclass(frozen=True, slots=True)
class Tokenizing(Event):
    """Rows are being tokenized; sent every second."""

    name: ClassVar[str] = "tokenizing"
    bar: ClassVar[Bar | None] = Bar("tokenized", "done", "total")
    done: int
    total: int

    def _line(self) -> str:
        return f"tokenized {number(self.done)}/{number(self.total)} rows"


@dataclass(frozen=True, slots=True)
class TokensDamaged(Event):
    """Cached tokens or a cached packing plan cannot be used; they are made again."""

    name: ClassVar[str] = "tokens_damaged"
    reason: str

    def _line(self) -> str:
        return f"the tokenized rows in the cache are unusable ({self.reason}); they are made again"


@dataclass(frozen=True, slots=True)
class HubResolved(Event):
    """A revision on the hub is resolved to this commit; with the size of what is still to download."""

    name: ClassVar[str] = "resolved"
    id: str
    revision: str | None
    commit: str
    n_files: int
    total_bytes: int
    missing_bytes: int

    def _line(self) -> str:
        there = f"{size(self.missing_bytes)} of {size(self.total_bytes)} to fetch"
        files = f"{self.n_files} files, {there if self.missing_bytes else 'all in the cache'}"
        return f"{_at(self.id, self.revision)} is commit {self.commit[:12]}: {files}"


@dataclass(frozen=True, slots=True)
class Download(Event):
    """Bytes received of all files; ``file`` is the current one. No pace in the first second."""

    name: ClassVar[str] = "download"
    bar: ClassVar[Bar | None] = Bar("fetching", "done_bytes", "total_bytes")
    file: str
    done_bytes: int
    total_bytes: int
    bytes_per_second: int | None = None
    seconds_left: float | None = None

    def _line(self) -> str:
        pace = None if self.bytes_per_second is None else f"{size(self.bytes_per_second)}/s"
        left = f"{duration(self.seconds_left)} left" if self.seconds_left else None
        return joined(f"fetched {size(self.done_bytes)} of {size(self.total_bytes)}", self.file, pace, left)


@dataclass(frozen=True, slots=True)
class HubRetry(Event):
    """A request to the hub failed for what may be a temporary reason; it is repeated."""

    name: ClassVar[str] = "hub_retry"
    reason: str
    wait_seconds: float

    def _line(self) -> str:
        return f"{self.reason}; trying again in {duration(self.wait_seconds)}"


@dataclass(frozen=True, slots=True)
class HubOffline(Event):
    """The hub cannot be reached; an earlier download is used."""

    name: ClassVar[str] = "hub_offline"
    id: str
    revision: str | None
    commit: str

    def _line(self) -> str:
        at = _at(self.id, self.revision)
        return f"the hub cannot be reached: using the earlier download of {at}, commit {self.commit[:12]}"


@dataclass(frozen=True, slots=True)
class HubBadFile(Event):
    """A file in the cache is damaged; it is fetched again."""

    name: ClassVar[str] = "hub_bad_file"
    file: str

    def _line(self) -> str:
        return f"{self.file} in the cache is damaged; it is removed and fetched again"


def _at(name: str, revision: str | None) -> str:
    return f"{name} at {revision or 'its default revision'}"
