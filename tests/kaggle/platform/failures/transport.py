"""Failures of the way there and back, and of who may ask."""

from __future__ import annotations

import time
from datetime import timedelta

from tests.kaggle.platform.api.calls import Call
from tests.kaggle.platform.failures.table import ANYTHING, Collection
from tests.kaggle.platform.web.messages import ApiError, Go, Reply, html_reply, json_reply
from tests.kaggle.platform.world.clock import http_date

TRANSPORT = Collection()
LOOK_SECONDS = 0.05


@TRANSPORT.add(ANYTHING, fact="with 401 it is a traceback, exit 1")
def unauthorized(call: Call, go: Go) -> Reply:
    """401."""
    raise ApiError(401, "Unauthenticated")


@TRANSPORT.add(ANYTHING, fact="403 as silent next credential")
def forbidden(call: Call, go: Go) -> Reply:
    """403."""
    raise ApiError(403, "Permission 'kernels.get' was denied")


@TRANSPORT.add("IntrospectToken", fact="A token refused with 400/403/404 falls silently to the next kind")
def token_refused(call: Call, go: Go, *, status: int = 403) -> Reply:
    """The question whose token it is gets 403, or another status."""
    raise ApiError(status, "Token refused")


@TRANSPORT.add("IntrospectToken", fact="Token: Bearer, one IntrospectToken per process")
def token_inactive(call: Call, go: Go) -> Reply:
    """The token is known and not active."""
    return json_reply({"active": False})


@TRANSPORT.add(ANYTHING, fact="a token that expired 10 minutes ago is used as it is (seen) -> 401 mid-run")
def token_expired(call: Call, go: Go) -> Reply:
    """401: what the server says to a token that is past its time."""
    raise ApiError(401, "The access token expired", {"WWW-Authenticate": 'Bearer error="invalid_token"'})


@TRANSPORT.add(ANYTHING, fact="SaveKernel is not retried on 429 (exit 1 at once)")
def rate_limited(call: Call, go: Go, *, seconds: int = 1) -> Reply:
    """429 with seconds to wait."""
    raise ApiError(429, "Too many requests", {"Retry-After": str(seconds)})


@TRANSPORT.add(ANYTHING, fact="429 with and without Retry-After")
def rate_limited_until(call: Call, go: Go, *, seconds: int = 1) -> Reply:
    """429 with a date to wait for."""
    until = call.world.clock.shown() + timedelta(seconds=seconds)
    raise ApiError(429, "Too many requests", {"Retry-After": http_date(until)})


@TRANSPORT.add(ANYTHING, fact="429 with and without Retry-After")
def rate_limited_bare(call: Call, go: Go) -> Reply:
    """429 without a word on how long."""
    raise ApiError(429, "Too many requests")


@TRANSPORT.add(ANYTHING, fact="401 403 429 5xx, no credentials 1")
def server_error(call: Call, go: Go, *, status: int = 500) -> Reply:
    """500, or another status, as JSON."""
    raise ApiError(status, "Internal error encountered.")


@TRANSPORT.add(ANYTHING, fact="401 403 429 5xx, no credentials 1")
def bad_gateway(call: Call, go: Go) -> Reply:
    """502 with a page of HTML."""
    return html_reply(502, "502 Bad Gateway")


@TRANSPORT.add(ANYTHING, fact="(server that never answers: `status` hung until killed, seen)")
def never_answers(call: Call, go: Go) -> Reply:
    """The request is taken and nothing ever comes back."""
    call.world.closing.wait()
    return Reply(cut=0)


@TRANSPORT.add(ANYTHING, fact="**No timeout on any call**")
def slow_answer(call: Call, go: Go, *, seconds: float = 0.2) -> Reply:
    """The answer comes in pieces, with a pause after each."""
    answer = go()
    answer.drip = seconds
    return answer


@TRANSPORT.add(ANYTHING, fact="cut connection")
def connection_cut(call: Call, go: Go) -> Reply:
    """Closed without an answer; nothing was done."""
    return Reply(cut=0)


@TRANSPORT.add(ANYTHING, fact="cut connection")
def answer_cut(call: Call, go: Go) -> Reply:
    """Closed in the middle of the answer; its length said more."""
    answer = go()
    answer.cut = max(len(answer.body) // 2, 1)
    return answer


@TRANSPORT.add(ANYTHING, fact="answers truncated mid JSON")
def truncated_json(call: Call, go: Go) -> Reply:
    """Half of the JSON, with a length that fits."""
    answer = go()
    answer.body = answer.body[: max(len(answer.body) // 2, 1)]
    return answer


@TRANSPORT.add(ANYTHING, fact="HTML with 200")
def html_with_200(call: Call, go: Go) -> Reply:
    """A page of HTML in the place of JSON."""
    return html_reply(200, "Sign in")


@TRANSPORT.add(ANYTHING, fact="HTTP 200 without a body")
def empty_answer(call: Call, go: Go) -> Reply:
    """A body of no bytes."""
    return Reply(200, b"")


@TRANSPORT.add(ANYTHING, fact="redirect loops")
def redirect_loop(call: Call, go: Go) -> Reply:
    """307 to the same address: the client comes back with the same request."""
    return Reply(307, headers={"Location": f"{call.incoming.origin}{call.incoming.path}"}, content_type="text/html")


@TRANSPORT.add(ANYTHING, fact="Error = HTTP >= 400 **or** body `code >= 400` with `message`")
def error_with_200(
    call: Call, go: Go, *, code: int = 403, message: str = "Permission 'kernels.get' was denied"
) -> Reply:
    """An error in the body alone."""
    return json_reply({"code": code, "message": message})


@TRANSPORT.add(ANYTHING, fact="Unknown answer fields ignored (seen)")
def unknown_fields(call: Call, go: Go) -> Reply:
    """The answer has more than the client knows."""
    return json_reply(go().json | {"someNewField": {"deep": [1, "ü", None]}, "anotherOne": True})


@TRANSPORT.add(ANYTHING, fact="clock skew")
def clock_skew(call: Call, go: Go, *, hours: float = -5.0) -> Reply:
    """Every time in answers is wrong by hours."""
    call.world.clock.skew = timedelta(hours=hours)
    return go()


@TRANSPORT.add(ANYTHING, fact="**No timeout on any call**")
def late_answer(call: Call, go: Go, *, seconds: float = 1.0) -> Reply:
    """The answer comes after some seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not call.world.closing.wait(LOOK_SECONDS):
        pass
    return go()
