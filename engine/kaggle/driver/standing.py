"""Where a run on Kaggle stands, as a person reads it and as ``--json`` prints it.

In: a story. Out: a :class:`RunStanding`. No secret is in it, and no signed address: neither is in the story.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.canonical import JsonObject
from engine.errors import InputInvalid
from engine.kaggle.driver.api.connection import Kaggle
from engine.kaggle.driver.api.names import url_of
from engine.kaggle.driver.api.refusals import explaining
from engine.kaggle.driver.story import LIVE, Attempt, PushStory
from engine.printable import columns
from engine.protocol.figures import duration
from engine.runspec.model import Spec

DEADLINE_EXIT_CODE = 7
_KEYS = ("number", "state", "owner", "slug", "version", "url", "target", "earlier", "notebook_sha256", "superseded_by", "progress",
         "notes", "how")  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunStanding:
    """``rows``: label and text."""

    document: JsonObject
    rows: tuple[tuple[str, str], ...]
    exit_code: int = 0

    @property
    def row(self) -> tuple[str, ...]:
        """One line of a list of runs."""
        shown = dict(self.rows)
        return (str(self.document["run_version"]), shown.get("state", "nothing pushed"), shown.get("notebook", ""))

    @property
    def text(self) -> str:
        """All of it."""
        return columns(self.rows, indent="")

    def asked(self, kaggle: Kaggle) -> RunStanding:
        """With the platform's word now, and the quota. Raises RemoteRefused."""
        added: JsonObject = {"platform": None}
        rows = list(self.rows)
        if self.document["version"] and self.document["state"] in LIVE:
            with explaining(f"version {self.document['version']}", kaggle.login):
                status = kaggle.status_of(self.document["owner"], self.document["slug"], self.document["version"])
            added["platform"] = {"phase": status.phase, "word": status.word, "message": status.message}
            rows.append(("on Kaggle", " ".join(filter(None, [status.word, status.message]))))
        with explaining("your quota", kaggle.login):
            quota, end = kaggle.quota(), kaggle.quota_end()
        added["quota"] = {
            kind: {"left_seconds": row.left_seconds, "allowed_seconds": row.allowed} for kind, row in quota.items()
        }
        added["quota_until"] = end or None
        left = ", ".join(f"{kind.upper()} {duration(row.left_seconds)}" for kind, row in quota.items())
        rows.append(("quota left", f"{left or 'not told'}{f', until {end}' if end else ''}"))
        return replace(self, document={**self.document, **added}, rows=tuple(rows))


def standing_of(story: PushStory, spec: Spec | None) -> RunStanding:
    """Of the last attempt, with all attempts in the document."""
    last = story.last
    run_version = spec.run_version if spec else story.folder.name
    document: JsonObject = {"ok": True, "run_version": run_version, "state": None, "owner": None, "slug": None, "version": None,
                            "url": None, "evidence": None, "package": None, "trust_level": None, "next": None, "model_sources": [],
                            "attempts": [_attempt(one) for one in story.attempts]}  # fmt: skip
    if last is None:
        return RunStanding(document, (("state", "nothing pushed"),))
    facts = last.facts
    document |= {key: facts.get(key) for key in ("owner", "slug", "evidence", "package", "trust_level")}
    url = (
        url_of(last.name) if last.version else None
    )  # a version that Kaggle took and that was refused here has one, too
    models = list((facts.get("request") or {}).get("model_data_sources") or ())
    document |= {"model_sources": models}
    document |= {"state": last.state, "version": last.version or None, "url": url, "next": _next(last, facts["spec"])}
    rows = [
        ("state", _state(last)),
        ("notebook", f"{url} (version {last.version})" if url else str(last.name)),
        *(("model", f"{name}, attached") for name in models),
        *((name, f"{facts[name]}") for name in ("evidence", "package", "trust_level") if facts.get(name)),
        *(("note", note) for note in facts.get("notes") or ()),
        *([("next", document["next"])] if document["next"] else []),
    ]
    return RunStanding(document, tuple(rows), DEADLINE_EXIT_CODE if last.state == "continue" else 0)


def _attempt(attempt: Attempt) -> JsonObject:
    facts = {**attempt.facts, "state": attempt.state}
    return {key: facts.get(key) for key in _KEYS}


def _state(attempt: Attempt) -> str:
    facts = attempt.facts
    if attempt.state == "failed":
        return f"failed: {facts['code']}: {facts['message']}"
    if attempt.state == "refused":
        return f"refused: {facts['error']}"
    if attempt.state == "continue":
        return f"unfinished, at train step {facts['progress']}"
    return attempt.state


def _next(attempt: Attempt, spec: str) -> str | None:
    """What to type to go on."""
    words = ["runspec", "kaggle", "run", spec, *attempt.facts.get("overrides", ())]
    if attempt.state == "done":
        return None
    return shlex.join([*words, "--again"] if attempt.state == "failed" else words)


def pushed_attempt(story: PushStory, run_version: str) -> Attempt:
    """The newest attempt that Kaggle took. Raises InputInvalid G237 where nothing was ever pushed."""
    found = next((attempt for attempt in reversed(story.attempts) if attempt.event("pushed")), None)
    if found is None:
        raise never_pushed(run_version)
    return found


def never_pushed(run_version: str, known: Sequence[str] = ()) -> InputInvalid:
    """G237. ``known``: the runs that were."""
    hint = f"pushed were: {', '.join(known)}" if known else "push it: runspec kaggle push SPEC"
    return InputInvalid("G237", f"{run_version} was never pushed to Kaggle from this project", hint=hint)
