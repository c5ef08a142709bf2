"""What the driver has done and is about to do, on disk before it is done: the journal of a run's pushes, and where it stands.

In: ``.runspec/kaggle/<run_version>/journal.jsonl``. Out: a :class:`PushStory` of :class:`Attempt`. An attempt is one push of a notebook, from its
plan to its end; a run of several sessions is several attempts, each of which begins with the output of the one before it. Every event is
a state (:data:`NEXT`), written and fsynced before the driver acts on it, so that a driver that was killed anywhere knows what may have
happened.

    >>> Attempt([{"event": "planned", "nonce": "0a"}, {"event": "pushed", "version": 3}]).state
    'pushed'
    >>> "running" in NEXT["queued"], "queued" in NEXT["done"]
    (True, False)
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from engine.artifacts.journal import DAMAGED, Journal, read_journal
from engine.canonical import JsonMapping, JsonObject
from engine.errors import RunFailed
from engine.kaggle.driver.api.names import NotebookName
from engine.redact import redact_value
from engine.temporary import fsync_dir

State = Literal[
    "planned",
    "preflight",
    "pushing",
    "pushed",
    "refused",
    "queued",
    "running",
    "superseded",
    "complete",
    "error",
    "cancelled",
    "vanished",
    "fetching",
    "fetched",
    "checked",
    "continue",
    "completing",
    "done",
    "failed",
]
_SEEN: tuple[State, ...] = ("queued", "running", "superseded", "complete", "error", "cancelled", "vanished", "refused")
# State -> the states that may follow it.
NEXT: Mapping[State, tuple[State, ...]] = {
    "planned": ("preflight",),
    "preflight": ("preflight", "pushing"),
    "pushing": ("pushing", "pushed", "refused"),
    "refused": (),
    "pushed": _SEEN,
    "queued": _SEEN,
    "running": _SEEN,
    "superseded": ("superseded", "complete", "error", "cancelled", "vanished", "refused"),
    "complete": ("fetching",),
    "error": ("fetching",),
    "cancelled": ("fetching",),
    "vanished": ("failed",),
    "fetching": ("fetching", "fetched", "failed"),
    "fetched": ("checked", "failed"),
    "checked": ("continue", "completing", "failed"),
    "continue": (),
    "completing": ("completing", "done", "failed"),
    "done": (),
    "failed": ("fetching",),
}
WORDS = frozenset({"error", "message", "hint", "failure_message", "last_error", "word"})
# Nothing of such an attempt is on the platform, or everything of it has been judged.
_NOT_LIVE: tuple[State, ...] = ("planned", "preflight", "refused", "continue", "done", "failed")
LIVE: frozenset[State] = frozenset(NEXT.keys() - set(_NOT_LIVE))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One push. ``events`` begin with its plan."""

    events: Sequence[JsonMapping]

    @property
    def state(self) -> State:
        """The last event."""
        state: State = self.events[-1]["event"]
        return state

    @property
    def facts(self) -> JsonObject:
        """What its events say, the later ones over the earlier."""
        return {key: value for event in self.events for key, value in event.items()}

    @property
    def name(self) -> NotebookName:
        """The notebook; where the platform gave it another name than was asked for, that one."""
        facts = self.facts
        return NotebookName(facts["owner"], facts["slug"], facts["title"])

    @property
    def version(self) -> int:
        """The number that the platform gave this push; 0 before."""
        return int(self.facts.get("version") or 0)

    def event(self, state: State) -> JsonMapping | None:
        """The last event of this name."""
        return next((event for event in reversed(self.events) if event["event"] == state), None)

    @property
    def label(self) -> str:
        """``someone/my-run, version 3``."""
        return f"{self.name}, version {self.version}" if self.version else str(self.name)


@dataclass
class PushStory:
    """All attempts of a run. The writer holds the run's lock."""

    folder: Path
    journal: Journal | None = None
    events: list[JsonObject] = field(default_factory=list)
    on_event: Callable[[State], None] = lambda _: None

    @property
    def attempts(self) -> list[Attempt]:
        """Oldest first."""
        found: list[list[JsonObject]] = []
        for event in self.events:
            if event["event"] == "planned":
                found.append([])
            found[-1].append(event)
        return [Attempt(events) for events in found]

    @property
    def last(self) -> Attempt | None:
        """The newest attempt, or None where nothing was ever planned."""
        attempts = self.attempts
        return attempts[-1] if attempts else None

    def append(self, state: State, **facts: object) -> None:
        """Write the event down, secrets masked. Raises RunFailed R101 to R103 where the disk refuses it."""
        last = self.last
        allowed = NEXT[last.state] if last is not None else ("planned",)
        assert state in (*allowed, "planned"), f"{state} after {last.state if last else 'nothing'}"
        assert self.journal is not None, "a story that is only read"
        is_new = not self.journal.events
        row = self.journal.append(state, **_masked(facts))
        if is_new:  # the file's name must outlive a power failure as its bytes do
            fsync_dir(self.folder)
            fsync_dir(self.folder.parent)
        self.events.append(row)
        self.on_event(state)

    def notebook(self, nonce: str) -> Path:
        """Where the notebook of an attempt is, as it was or will be pushed."""
        return self.folder / "notebooks" / f"{nonce}.ipynb"

    def fetched(self, version: int) -> Path:
        """The folder of one version: versions never share one. A reader brings it as a witness (engine.evidence.witness)."""
        return self.folder / f"v{version}"

    def output(self, version: int) -> Path:
        """The output files in it, as they are."""
        return self.fetched(version) / "output"


def _masked(facts: JsonMapping) -> JsonObject:
    """The platform's and a log's own words, without secrets; digests and names stay as they are."""
    return {key: redact_value(value) if key in WORDS else value for key, value in facts.items()}


def story_folder(root: Path, run_version: str) -> Path:
    """Where a run's story is."""
    return root / ".runspec" / "kaggle" / run_version


def read_story(root: Path, run_version: str) -> PushStory:
    """To look at. Raises RunFailed G271 where the journal is damaged, R112 where it cannot be read."""
    folder = story_folder(root, run_version)
    return PushStory(folder, events=_checked(folder, lambda: read_journal(folder / "journal.jsonl")))


def open_story(root: Path, run_version: str) -> PushStory:
    """To write. The caller holds the lock."""
    folder = story_folder(root, run_version)
    journals: list[Journal] = []

    def opened() -> list[JsonObject]:
        journals.append(Journal(folder / "journal.jsonl"))
        return list(journals[0].events)

    events = _checked(folder, opened)
    return PushStory(folder, journals[0], events)


def _checked(folder: Path, read: Callable[[], list[JsonObject]]) -> list[JsonObject]:
    path = folder / "journal.jsonl"
    hint = f"move it away: {shlex.join(['mv', str(path), f'{path}.damaged'])}\nwhat runs on Kaggle goes on; its versions are on its page there"
    try:
        events = read()
    except RunFailed as error:
        if error.code != DAMAGED:
            raise
        raise RunFailed("G271", f"{path} is damaged: what was pushed cannot be told", hint=hint) from error
    known = get_args(State)
    if events and (events[0]["event"] != "planned" or any(event["event"] not in known for event in events)):
        raise RunFailed("G271", f"{path} is damaged: what was pushed cannot be told", hint=hint)
    return events


def stories(root: Path) -> list[str]:
    """The runs of this project that were planned for Kaggle, by name."""
    folder = root / ".runspec" / "kaggle"
    return sorted(path.parent.name for path in folder.glob("*/journal.jsonl")) if folder.is_dir() else []
