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
    raise ApiError(401, "Unauthenticated")


@TRANSPORT.add(ANYTHING, fact="A token refused with 400/403/404 falls silently to the next kind")
def forbidden(call: Call, go: Go) -> Reply:
    raise ApiError(403, "Permission 'kernels.get' was denied")


@TRANSPORT.add("IntrospectToken", fact="A token refused with 400/403/404 falls silently to the next kind")
def token_refused(call: Call, go: Go, *, status: int = 403) -> Reply:
    raise ApiError(status, "Token refused")


@TRANSPORT.add(
    "IntrospectToken", fact="Token: Bearer, one IntrospectToken per process: one that is not active is ignored"
)
def token_inactive(call: Call, go: Go) -> Reply:
    return json_reply({"active": False})


@TRANSPORT.add(ANYTHING, fact="a token that expired 10 minutes ago is used as it is -> 401 mid-run")
def token_expired(call: Call, go: Go) -> Reply:
    raise ApiError(401, "The access token expired", {"WWW-Authenticate": 'Bearer error="invalid_token"'})


@TRANSPORT.add(ANYTHING, fact="429 with Retry-After; SaveKernel is not retried on 429 (exit 1 at once)")
def rate_limited(call: Call, go: Go, *, seconds: int = 1) -> Reply:
    raise ApiError(429, "Too many requests", {"Retry-After": str(seconds)})


@TRANSPORT.add(ANYTHING, fact="429 with Retry-After, as a date (the client reads both)")
def rate_limited_until(call: Call, go: Go, *, seconds: int = 1) -> Reply:
    until = call.world.clock.shown() + timedelta(seconds=seconds)
    raise ApiError(429, "Too many requests", {"Retry-After": http_date(until)})


@TRANSPORT.add(ANYTHING, fact="429 without Retry-After")
def rate_limited_bare(call: Call, go: Go) -> Reply:
    raise ApiError(429, "Too many requests")


@TRANSPORT.add(ANYTHING, fact="401 403 429 5xx, no credentials 1; after an oversized source GetKernel answers 500")
def server_error(call: Call, go: Go, *, status: int = 500) -> Reply:
    raise ApiError(status, "Internal error encountered.")


@TRANSPORT.add(ANYTHING, fact="5xx: a gateway's page in the place of JSON")
def bad_gateway(call: Call, go: Go) -> Reply:
    return html_reply(502, "502 Bad Gateway")


@TRANSPORT.add(ANYTHING, fact="No timeout on any call (server that never answers: `status` hung until killed)")
def never_answers(call: Call, go: Go) -> Reply:
    call.world.closing.wait()
    return Reply(cut=0)


@TRANSPORT.add(ANYTHING, fact="No timeout on any call: an answer that comes in a trickle is never too late")
def slow_answer(call: Call, go: Go, *, seconds: float = 0.2) -> Reply:
    answer = go()
    answer.drip = seconds
    return answer


@TRANSPORT.add(ANYTHING, fact="cut connection: closed without an answer, nothing was done")
def connection_cut(call: Call, go: Go) -> Reply:
    return Reply(cut=0)


@TRANSPORT.add(ANYTHING, fact="cut connection: closed in the middle of the answer's JSON, the length says so")
def answer_cut(call: Call, go: Go) -> Reply:
    answer = go()
    answer.cut = max(len(answer.body) // 2, 1)
    return answer


@TRANSPORT.add(ANYTHING, fact="an answer that ends in the middle of its JSON, with a length that fits")
def truncated_json(call: Call, go: Go) -> Reply:
    answer = go()
    answer.body = answer.body[: max(len(answer.body) // 2, 1)]
    return answer


@TRANSPORT.add(ANYTHING, fact="error page: a page for a person with HTTP 200")
def html_with_200(call: Call, go: Go) -> Reply:
    return html_reply(200, "Sign in")


@TRANSPORT.add(ANYTHING, fact="HTTP 200 without a body")
def empty_answer(call: Call, go: Go) -> Reply:
    return Reply(200, b"")


@TRANSPORT.add(ANYTHING, fact="DownloadModelInstanceVersion (302 to a signed url): a redirect that leads to itself")
def redirect_loop(call: Call, go: Go) -> Reply:
    # 307 keeps the method: the client comes back with the same request.
    return Reply(307, headers={"Location": f"{call.incoming.origin}{call.incoming.path}"}, content_type="text/html")


@TRANSPORT.add(ANYTHING, fact="Error = HTTP >= 400 or body `code >= 400` with `message`")
def error_with_200(
    call: Call, go: Go, *, code: int = 403, message: str = "Permission 'kernels.get' was denied"
) -> Reply:
    return json_reply({"code": code, "message": message})


@TRANSPORT.add(ANYTHING, fact="Unknown answer fields ignored (seen)")
def unknown_fields(call: Call, go: Go) -> Reply:
    return json_reply(go().json | {"someNewField": {"deep": [1, "ü", None]}, "anotherOne": True})


@TRANSPORT.add(ANYTHING, fact="clock skew: the platform's clock and the person's differ by hours")
def clock_skew(call: Call, go: Go, *, hours: float = -5.0) -> Reply:
    call.world.clock.skew = timedelta(hours=hours)
    return go()


@TRANSPORT.add(ANYTHING, fact="No timeout on any call: an answer that is a few seconds late")
def late_answer(call: Call, go: Go, *, seconds: float = 1.0) -> Reply:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not call.world.closing.wait(LOOK_SECONDS):
        pass
    return go()
