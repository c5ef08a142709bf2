"""Failures that a notebook meets inside its session, and of a model's files."""

from __future__ import annotations

from tests.kaggle.platform.api.calls import Call
from tests.kaggle.platform.failures.table import Collection
from tests.kaggle.platform.web.messages import ApiError, Go, Reply, html_reply, json_reply

IN_SESSION = Collection()
SECRET, ATTACH, MODEL = "GetUserSecretByLabel", "AttachDatasource", "DownloadModelInstanceVersion"


@IN_SESSION.add(
    SECRET, fact="every API push detaches secrets: `No user secrets exist for kernel id N and label HF_TOKEN`"
)
def secret_detached(call: Call, go: Go) -> Reply:
    version = call.world.passes.get(call.incoming.headers.get("x-kaggle-authorization", "").removeprefix("Bearer "))
    if version is not None:
        version.kernel.attached_secrets.discard(call.body.get("Label", ""))
    return go()


@IN_SESSION.add(SECRET, fact="HTTP 401, 403 and 500 all arrive as ConnectionError")
def secret_service_down(call: Call, go: Go, *, status: int = 500) -> Reply:
    return html_reply(status, "Service unavailable")


@IN_SESSION.add(SECRET, fact="answer `{wasSuccessful: true, result: {secret}}`: one without `result`")
def secret_answer_odd(call: Call, go: Go) -> Reply:
    return json_reply({"wasSuccessful": True})


@IN_SESSION.add(ATTACH, fact="then waits for ever for `/kaggle/input/{mountSlug}`")
def never_mounted(call: Call, go: Go) -> Reply:
    return json_reply({"wasSuccessful": True, "result": {"mountSlug": "models/never/mounted"}})


@IN_SESSION.add(ATTACH, fact="answer `result.mountSlug`: the field is missing")
def mount_slug_missing(call: Call, go: Go) -> Reply:
    return json_reply({"wasSuccessful": True, "result": {}})


@IN_SESSION.add(MODEL, ATTACH, fact="one consent on the model's page: without it 403")
def consent_missing(call: Call, go: Go) -> Reply:
    raise ApiError(403, "Permission 'models.get' was denied: consent on the model's page first")
