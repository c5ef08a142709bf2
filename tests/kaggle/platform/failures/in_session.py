"""Failures that a notebook meets inside its session, and of a model's files."""

from __future__ import annotations

from tests.kaggle.platform.api.calls import Call
from tests.kaggle.platform.failures.table import Collection
from tests.kaggle.platform.web.messages import ApiError, Go, Reply, html_reply, json_reply

IN_SESSION = Collection()
SECRET, ATTACH, MODEL = "GetUserSecretByLabel", "AttachDatasource", "DownloadModelInstanceVersion"


@IN_SESSION.add(SECRET, fact="report that every API push **detaches** secrets")
def secret_detached(call: Call, go: Go) -> Reply:
    """The push has detached the secret."""
    version = call.world.passes.get(call.incoming.headers.get("x-kaggle-authorization", "").removeprefix("Bearer "))
    if version is not None:
        version.kernel.attached_secrets.discard(call.body.get("Label", ""))
    return go()


@IN_SESSION.add(SECRET, fact="HTTP 401, 403 and 500 all arrive as **ConnectionError**")
def secret_service_down(call: Call, go: Go, *, status: int = 500) -> Reply:
    """500, or another status, as a page."""
    return html_reply(status, "Service unavailable")


@IN_SESSION.add(SECRET, fact="answer `{wasSuccessful: true, result: {secret}}`")
def secret_answer_odd(call: Call, go: Go) -> Reply:
    """The answer says that it was successful and has no result."""
    return json_reply({"wasSuccessful": True})


@IN_SESSION.add(ATTACH, fact="then waits **for ever** for `/kaggle/input/{mountSlug}`")
def never_mounted(call: Call, go: Go) -> Reply:
    """The answer names a folder that never comes."""
    return json_reply({"wasSuccessful": True, "result": {"mountSlug": "models/never/mounted"}})


@IN_SESSION.add(ATTACH, fact="answer `result.mountSlug`")
def mount_slug_missing(call: Call, go: Go) -> Reply:
    """The answer does not say where."""
    return json_reply({"wasSuccessful": True, "result": {}})


@IN_SESSION.add(MODEL, ATTACH, fact="(one consent on the model's page; reported to work where HF access was pending")
def consent_missing(call: Call, go: Go) -> Reply:
    """403: the user has not consented."""
    raise ApiError(403, "Permission 'models.get' was denied: consent on the model's page first")
