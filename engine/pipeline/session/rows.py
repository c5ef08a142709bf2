"""The sessions of a run: for its record, and for ``status`` and ``show``.

In: the journal, the published artifacts. Out: rows. The record has the sessions that something of the result came from: those that trained, in the order of the
chain that the training report has, and those that published a step. What a session did that was lost with it is in the journal only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.artifacts.store import Artifact
from engine.canonical import JsonMapping, JsonObject

CHAIN = "sessions"  # the fact of a training step's artifact
_TRAINED = (
    "first_train_step",
    "last_train_step",
    "checkpoint_sha256",
    "parent_sha256",
    "platform",
    "device_kind",
    "devices",
)


def record_sessions(events: Sequence[JsonMapping], made: Mapping[str, Artifact]) -> tuple[JsonObject, ...]:
    """The rows of the run record, numbered from 1."""
    chain = chain_of(made)
    published = _published(events, made)
    trained = {row["session"]: row for row in chain}
    begun = {str(event["session"]): event for event in events if event["event"] == "run_started"}
    # What the journal does not know came before it: it was moved away, or another run_version trained. No clock decides the order.
    order = [row["session"] for row in chain if row["session"] not in begun]
    order += [name for name in begun if name in trained or name in published]
    rows = [_row(name, trained.get(name), begun.get(str(name)), published.get(str(name), {})) for name in order]
    return tuple({"number": number, **row} for number, row in enumerate(rows, start=1))


def chain_of(made: Mapping[str, Artifact]) -> tuple[JsonObject, ...]:
    """The chain of the last training step."""
    chains = [artifact.facts[CHAIN] for artifact in made.values() if artifact.facts.get(CHAIN)]
    return tuple(dict(row) for row in chains[-1]) if chains else ()


def _published(events: Sequence[JsonMapping], made: Mapping[str, Artifact]) -> dict[str, dict[str, str]]:
    """Session -> the steps whose artifact it was the last to publish or reuse -> when."""
    last = {
        str(event["id"]): event
        for event in events
        if event["event"] in ("step_finished", "step_reused")
        and str(event["id"]) in made
        and event["fingerprint"] == made[str(event["id"])].fingerprint
    }
    found: dict[str, dict[str, str]] = {}
    for name, event in last.items():
        found.setdefault(str(event["session"]), {})[name] = str(event["time"])
    return found


def _row(
    name: str | None, trained: JsonMapping | None, begun: JsonMapping | None, steps: Mapping[str, str]
) -> JsonObject:
    ends = [*steps.values(), *([str(trained["finished_at"])] if trained else [])]
    started = trained["started_at"] if trained else begun["time"] if begun else ""
    values = {key: trained[key] if trained else None for key in _TRAINED}
    return {
        "session": name,
        "started_at": started,
        "finished_at": max(ends, default=""),
        **values,
        "published": list(steps),
    }


def story_of_sessions(events: Sequence[JsonMapping]) -> list[JsonObject]:
    """Every session that the journal knows: when it began, what it published, how it ended."""
    rows: list[JsonObject] = []
    for event in events:
        if event["event"] == "run_started":
            rows.append({"number": len(rows) + 1, "session": event["session"], "started_at": event["time"], "ended": None,
                         "published": [], "said": None, "continued_from": event.get("continued_from")})  # fmt: skip
        elif rows:
            _tell(rows[-1], event)
    return rows


def _tell(row: JsonObject, event: JsonMapping) -> None:
    match event["event"]:
        case "step_finished" | "step_reused":
            row["published"].append(event["id"])
        case "run_interrupted":
            row["ended"] = "session limit" if event.get("reason") == "deadline" else "interrupted"
            row["said"] = event.get("said")
        case "step_failed":
            row["ended"] = "failed"
        case "verified":
            row["ended"] = "verified"
