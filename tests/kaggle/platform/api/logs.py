"""The log stream: server-sent events while the session runs, the stored array afterwards.

A connection that has had nothing to send for ``stream_idle_seconds`` (real time) is cut, as a load balancer does; a client
that comes back gets everything from the beginning again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from tests.kaggle.platform.api.calls import Call, Handlers
from tests.kaggle.platform.web.messages import Reply, StreamCut, json_reply
from tests.kaggle.platform.world.sessions import LogEntry, Session
from tests.kaggle.platform.world.world import World

LOOK_SECONDS = 0.05
END = b"data: END_OF_LOG\n\n"


def event(entry: LogEntry) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(entry.json, separators=(",", ":")).encode() + b"\n\n"


def stream(chunks: Iterator[bytes]) -> Reply:
    """An answer of events."""
    return Reply(content_type="text/event-stream", chunks=chunks)


def _session(call: Call) -> Session | None:
    kernel = call.world.visible(call.user, *call.incoming.arguments)
    return kernel.version(call.incoming.query.get("versionLabel")).session


def entries_of(call: Call) -> list[LogEntry]:
    """What the session that a request names has logged so far."""
    session = _session(call)
    return list(session.log()) if session else []


def _events(world: World, session: Session) -> Iterator[bytes]:
    sent, idle_since = 0, time.monotonic()
    while time.monotonic() - idle_since < world.stream_idle_seconds and not world.closing.is_set():
        with world.lock:
            over, entries = session.is_over, list(session.log())
        for entry in entries[sent:]:
            yield event(entry)
        idle_since = time.monotonic() if len(entries) > sent else idle_since
        sent = max(sent, len(entries))
        if over:
            yield END
            return
        world.clock.wait(LOOK_SECONDS)
    raise StreamCut


def log_stream(call: Call) -> Reply:
    """``GET …/logs/stream/OWNER/SLUG?versionLabel=vN``."""
    session = _session(call)
    if session is None or session.is_over:
        return json_reply([entry.json for entry in entries_of(call)])
    return stream(_events(call.world, session))


HANDLERS: Handlers = {"LogStream": log_stream}
