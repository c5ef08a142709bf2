"""The log stream: server-sent events while the session runs, the stored array afterwards.

A connection that has had nothing to send for ``stream_idle_seconds`` (real time) is cut, as a load balancer does; a client
that comes back gets everything from the beginning again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from tests.kaggle.platform.api.calls import Call, Handlers
from tests.kaggle.platform.web.messages import Reply
from tests.kaggle.platform.world.kernels import KernelVersion
from tests.kaggle.platform.world.sessions import Session
from tests.kaggle.platform.world.world import World

LOOK_SECONDS = 0.05
END = b"data: END_OF_LOG\n\n"


def event(entry: object) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(entry, separators=(",", ":")).encode() + b"\n\n"


def _events(world: World, session: Session) -> Iterator[bytes]:
    sent, idle_since = 0, time.monotonic()
    while time.monotonic() - idle_since < world.stream_idle_seconds:
        with world.lock:
            over, entries = session.is_over, list(session.log())
        for entry in entries[sent:]:
            yield event(entry.json)
        idle_since = time.monotonic() if len(entries) > sent else idle_since
        sent = max(sent, len(entries))
        if over:
            yield END
            return
        world.clock.wait(LOOK_SECONDS)
        if world.closing.is_set():
            return


def log_stream(call: Call) -> Reply:
    """``GET …/logs/stream/OWNER/SLUG?versionLabel=vN``."""
    owner, slug = call.incoming.arguments
    version: KernelVersion = call.world.visible(call.user, owner, slug).version(call.incoming.query.get("versionLabel"))
    session = version.session
    if session is None or session.is_over:
        return Reply(body=json.dumps([entry.json for entry in session.log()] if session else []).encode())
    return Reply(content_type="text/event-stream", chunks=_events(call.world, session))


HANDLERS: Handlers = {"LogStream": log_stream}
