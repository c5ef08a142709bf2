"""The recorded exchange of the real client (`exchange.json`), asked again: the platform answers what was answered then.

Recorded from kaggle 2.2.5 with made-up values. Every field of a recorded answer is in ours, of the same type and with the same
value; fields whose values the recording's server made up by itself may differ in value.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.kaggle.platform.plain import Answer, Plain
from tests.kaggle.platform.platform import Platform
from tests.kaggle.platform.session.scripted import LogLine, Script
from tests.kaggle.platform.world.clock import Clock
from tests.kaggle.platform.world.files import Files

EXCHANGE: list[dict[str, Any]] = json.loads(Path(__file__).with_name("exchange.json").read_text(encoding="utf-8"))
NOW = datetime(2026, 11, 28, 20, tzinfo=UTC)
# Addresses, secrets, and what the recording's server had instead of the pushed source and of real pages.
MADE_UP = {"url", "token", "createUrl", "source", "nextPageToken"}
# Two pages of 20, where the recording's server made two of one file each.
FILES: Files = {
    "evidence/run_manifest.json": "{}",
    "package.zip": b"twelve bytes",
    **{f"f{n:02}.txt": "" for n in range(19)},
}
LOG: list[LogLine] = [(1.0, "hello\n"), (2.0, "warn\n", "stderr")]


@pytest.fixture(params=["direct", "proxied"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Plain]:
    """The world of the recording, asked in either style."""
    with Platform(tmp_path / "kaggle", clock=Clock(NOW, ticking=False)) as kaggle:
        plain = Plain(kaggle, proxied=request.param == "proxied")
        kaggle.add_dataset("someone/engine-wheel", {"engine.whl": b""})
        kaggle.add_model("google/gemma/flax/2b/2", {"tokenizer.model": b""})
        plain.push("earlier-run")
        plain.push()
        plain.push()
        kaggle.kernels["someone/my-run"].number = 77
        kaggle.quota.used["GPU"] = 36000.0
        kaggle.quota.refreshes_at = datetime(2026, 12, 5, tzinfo=UTC)
        kaggle.script(Script(files=FILES, log=LOG, queued_polls=1, running_polls=1))
        yield plain


def _missing(recorded: Any, ours: Any, where: str) -> Iterator[str]:
    """What of a recorded value is not in ours."""
    if isinstance(recorded, dict):
        if not isinstance(ours, dict):
            yield f"{where}: {ours!r} is not an object"
            return
        for key, value in recorded.items():
            if key not in ours:
                yield from [f"{where}.{key} is missing"] if value not in ("", None) else []
            elif key in MADE_UP:
                yield from [f"{where}.{key}: another type"] if type(value) is not type(ours[key]) else []
            else:
                yield from _missing(value, ours[key], f"{where}.{key}")
    elif isinstance(recorded, list) and isinstance(ours, list) and recorded and isinstance(recorded[0], dict):
        for index, value in enumerate(recorded):
            if not any(list(_missing(value, one, "")) == [] for one in ours):
                yield f"{where}[{index}]: {value!r} is not in {ours!r}"
    elif recorded != ours:
        yield f"{where}: recorded {recorded!r}, here {ours!r}"


def _asked(api: Plain, entry: dict[str, Any], known: dict[str, str]) -> Answer:
    """One request of the recording; signed addresses and upload tokens are today's."""
    path, body = entry["path"], entry["request"]
    if path.startswith("/dl/"):
        return api.get(known[urllib.parse.urlsplit(path).path.rsplit("/", 1)[-1]])
    if entry["method"] == "PUT":
        return api.send("PUT", known["createUrl"], body.encode())
    if path.endswith("ListKernelFiles"):
        body = body | {"pageToken": "p20"}  # where package.zip is
    now = {
        "blob-token": known.get("token", ""),
        "<redacted>": api.platform.token,
        '"p2"': f'"{known.get("nextPageToken")}"',
    }
    sent = json.dumps(body)
    for then, today in now.items():
        sent = sent.replace(then, today)
    headers = {"Authorization": str(api.authorization), "Content-Type": "application/json"}
    return api.send(entry["method"], path, sent.encode() if body is not None else b"", headers)


def test_the_recorded_exchange(api: Plain) -> None:
    """Status, type of content and every recorded field, in the order in which it happened."""
    known: dict[str, str] = {}
    differences: list[str] = []
    for entry in EXCHANGE:
        answer = _asked(api, entry, known)
        if entry["path"].startswith("/api/v1/kernels/logs/stream"):
            # Recorded as events after the end; the platform has the stored array then (test_outputs has both).
            assert answer.json[0] == {"stream_name": "stdout", "time": 1.0, "data": "hello\n"}
            continue
        kind = answer.headers.get("content-type", "").split(";")[0]
        assert (answer.status, kind) == (entry["status"], entry["content_type"]), entry["path"]
        if kind == "application/json":
            differences += _missing(entry["answer"] or {}, answer.json, entry["path"].rsplit("/", 1)[-1])
            known |= {
                key: str(answer.json[key]) for key in ("token", "createUrl", "nextPageToken") if key in answer.json
            }
            known |= {
                file["fileName"].rsplit("/", 1)[-1]: file["url"]
                for file in answer.json.get("files", [])
                if "fileName" in file
            }
    assert differences == []


def test_a_difference_is_found() -> None:
    """A field that is missing, of another type, or of another value."""
    recorded = {"a": 1, "files": [{"name": "x"}], "token": "t", "note": ""}
    assert list(_missing(recorded, {"a": 1, "files": [{"name": "x", "size": 1}], "token": "u"}, "r")) == []
    assert list(_missing(recorded, {"a": 2, "files": [{"name": "y"}], "token": 1}, "r")) == [
        "r.a: recorded 1, here 2",
        "r.files[0]: {'name': 'x'} is not in [{'name': 'y'}]",
        "r.token: another type",
    ]
    assert next(_missing(recorded, {}, "r")) == "r.a is missing"
