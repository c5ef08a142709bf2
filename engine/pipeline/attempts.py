"""Journal -> what the running (or last) attempt has done, and apart from it the last complete run.

In: the events of a journal. Out: a :class:`Story`. An attempt begins with ``run_started``; a run is complete with ``verified``. A
step that an attempt skipped has no event of its own: it stands before the last step that the attempt has reached, and what it
published earlier counts for the attempt. A step after it is not reached yet, whatever an earlier run published.

    story = story_of(read_journal(path))
    [(row["id"], row["state"]) for row in story.steps]      # [("dataset", "finished"), ("train", "started"), ("score", "waiting")]
    story.complete                                          # the steps of the verified run before it, or None
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.artifacts.journal import journal_path
from engine.canonical import JsonMapping, JsonObject

WAITING = "waiting"
_PUBLISHED_KEYS = ("uses", "fingerprint", "type", "path")

Rows = dict[str, JsonObject]


@dataclass(frozen=True, slots=True)
class Story:
    """``steps``: rows {id, uses, state, time} of the last attempt, with type, fingerprint, path where it published.

    ``complete``: the rows of the last verified run and when it was verified, where the last attempt is another one.
    """

    steps: tuple[JsonObject, ...]
    complete: tuple[JsonObject, ...] | None = None
    verified_at: str | None = None


def replaced_folder(root: Path, run_version: str) -> Path:
    """Where the evidence is kept that later runs of this run_version have replaced (:mod:`engine.pipeline.replaced`)."""
    return journal_path(root / ".runspec", run_version).parent / "replaced"


def story_of(events: Sequence[JsonMapping]) -> Story:
    """The last attempt and the last complete run."""
    verified = _last(events, "verified")
    attempt = events[verified + 1 :]
    begun = _last(attempt, "run_started")
    attempt = attempt[max(begun, 0) :]
    published = _published(events)
    if not any(_is_of_step(event) for event in attempt):
        return Story(tuple(_complete(events[: verified + 1], published)))
    if verified < 0:
        return Story(tuple(_of_attempt(attempt, events, published)))
    complete = _complete(events[: verified + 1], _published(events[: verified + 1]))
    steps = tuple(_of_attempt(attempt, events, published))
    return Story(steps, tuple(complete), str(events[verified].get("time")))


def _last(events: Sequence[JsonMapping], name: str) -> int:
    """The index of the last event of this name; -1 where there is none."""
    return max((index for index, event in enumerate(events) if event["event"] == name), default=-1)


def _is_of_step(event: JsonMapping) -> bool:
    return str(event["event"]).startswith("step_") and "id" in event


def _row(event: JsonMapping) -> JsonObject:
    """An event as a row; a published artifact is named."""
    row = {"id": event["id"], "uses": event.get("uses"), "state": str(event["event"]).removeprefix("step_")}
    published = {key: event[key] for key in _PUBLISHED_KEYS if key in event} if "type" in event else {}
    return {**row, "time": event.get("time"), **published}


def _published(events: Sequence[JsonMapping]) -> Rows:
    """Step id -> the row of what it published last."""
    return {str(event["id"]): _row(event) for event in events if _is_of_step(event) and "type" in event}


def _complete(events: Sequence[JsonMapping], published: Mapping[str, JsonObject]) -> list[JsonObject]:
    """Verified evidence rests on what each step has published, so that supersedes an attempt that failed in between."""
    return [published[name] for name in _order(events) if name in published]


def _order(events: Sequence[JsonMapping]) -> dict[str, str | None]:
    """Step id -> kind: the order of the last run-spec that was started, else that of the first events."""
    begun = _last(events, "run_started")
    declared = events[begun].get("steps") if begun >= 0 else None
    if isinstance(declared, dict):
        return {str(name): str(uses) for name, uses in declared.items()}
    return {str(event["id"]): event.get("uses") for event in events if _is_of_step(event)}


def _of_attempt(
    attempt: Sequence[JsonMapping], events: Sequence[JsonMapping], published: Mapping[str, JsonObject]
) -> list[JsonObject]:
    reached: Rows = {}
    for event in attempt:
        if _is_of_step(event):
            row = _row(event)
            before = reached.get(str(event["id"]), {})
            reached[str(event["id"])] = {**row, "uses": row["uses"] or before.get("uses")}
    order = _order(events)
    order.update({name: row["uses"] for name, row in reached.items() if name not in order})
    names = list(order)
    last = max(names.index(name) for name in reached)
    rows = []
    for index, name in enumerate(names):
        waiting = {"id": name, "uses": order[name], "state": WAITING, "time": None}
        skipped = published.get(name, waiting) if index < last else waiting
        rows.append(reached.get(name) or skipped)
    return rows
