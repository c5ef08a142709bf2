"""kernels.KernelsApiService: push, status, output, files, pull, quota, list, cancel."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

from tests.kaggle.platform.api.calls import Call, Handlers
from tests.kaggle.platform.api.paging import page
from tests.kaggle.platform.web.messages import ApiError, Json, Reply, json_reply
from tests.kaggle.platform.world.clock import stamp
from tests.kaggle.platform.world.files import StoredFile, stored
from tests.kaggle.platform.world.kernels import KernelVersion
from tests.kaggle.platform.world.pushing import push
from tests.kaggle.platform.world.sessions import Session


def _version(call: Call) -> KernelVersion:
    body = call.body
    owner = body.get("userName") or call.user or ""
    return call.world.visible(call.user, owner, body.get("kernelSlug", "")).version(body.get("versionLabel"))


def _over(version: KernelVersion) -> Session | None:
    return version.session if version.session and version.session.is_over else None


def _output(version: KernelVersion) -> list[StoredFile]:
    session = _over(version)
    return list(session.output()) if session else []


def save_kernel(call: Call) -> Reply:
    """A push."""
    return json_reply(push(call.world, call.identity.required(), call.body))


def get_kernel_session_status(call: Call) -> Reply:
    """The word; `NEW_SCRIPT` for a version that was saved and never run."""
    session = _version(call).session
    if session is None:
        return json_reply({"status": "NEW_SCRIPT"})
    answer: Json = {"status": session.poll()}
    return json_reply(answer | ({"failureMessage": session.failure_message} if session.failure_message else {}))


def log_text(session: Session | None) -> str:
    """The stored log: a JSON array in one string; nothing before the end, nothing where it was lost."""
    entries = [entry.json for entry in session.log()] if session else []
    return json.dumps(entries) if entries else ""


def list_kernel_session_output(call: Call) -> Reply:
    """Files with signed addresses, a page of them, and the whole log on every page."""
    version = _version(call)
    files, after = page(_output(version), call.body)
    origin = call.incoming.origin
    shown: dict[str, Any] = {
        "files": [{"url": call.world.link(origin, file), "fileName": file.name} for file in files],
        "log": log_text(_over(version)),
        "nextPageToken": after,
    }
    return json_reply({key: value for key, value in shown.items() if value})


def list_kernel_files(call: Call) -> Reply:
    """Names with sizes: the only place that has them."""
    files, after = page(_output(_version(call)), call.body)
    skew = call.world.clock.skew
    rows = [{"name": one.name, "size": one.size, "creationDate": stamp(one.modified + skew)} for one in files]
    return json_reply({"files": rows, "nextPageToken": after})


def get_kernel(call: Call) -> Reply:
    """Metadata (``currentVersionNumber`` is always the newest) and source of a version."""
    version = _version(call)
    request = version.request
    blob = {
        "source": version.text,
        "language": request.get("language", "python"),
        "kernelType": request.get("kernelType", "notebook"),
        "slug": version.kernel.slug,
    }
    return json_reply({"metadata": version.metadata, "blob": blob})


def download_kernel_output(call: Call) -> Reply:
    """302 to one file, or to an archive of all."""
    body, world = call.body, call.world
    kernel = world.visible(call.user, body.get("ownerSlug", ""), body.get("kernelSlug", ""))
    version = kernel.version(body.get("versionNumber"))
    files = _output(version)
    wanted = body.get("filePath")
    found = [file for file in files if file.name == wanted] if wanted else [archive(kernel.slug, files)]
    if not files or not found:
        raise ApiError(404, "Not found")
    return redirect(call, found[0])


def archive(name: str, files: list[StoredFile]) -> StoredFile:
    """All files in one."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as packed:
        for file in files:
            packed.writestr(file.name, file.read())
    return stored(f"{name}.zip", whole.getvalue())


def redirect(call: Call, file: StoredFile) -> Reply:
    """302 to a signed address."""
    return Reply(302, headers={"Location": call.world.link(call.incoming.origin, file)}, content_type="text/html")


def list_kernels(call: Call) -> Reply:
    """Of one user, newest first: those that the caller may see."""
    owner = call.body.get("user") or call.identity.required()
    search = call.body.get("search", "")
    found = [one for one in call.world.kernels.values() if one.owner == owner and search in f"{one.slug} {one.title}"]
    visible = [one for one in found if not one.is_private or one.owner == call.user]
    kernels, after = page(sorted(visible, key=lambda one: one.latest.pushed_at, reverse=True), call.body)
    return json_reply({"kernels": [one.latest.metadata for one in kernels], "nextPageToken": after})


def get_accelerator_quota_statistics(call: Call) -> Reply:
    """Hours used and allowed, and when the week begins again."""
    return json_reply(call.world.quota.answer(call.world.used(call.identity.required())))


def cancel_kernel_session(call: Call) -> Reply:
    """By the session's number, which no answer ever gives."""
    user = call.identity.required()
    for version in call.world.versions():
        session = version.session
        if session and session.number == call.body.get("kernelSessionId") and version.kernel.owner == user:
            session.cancel()
            return json_reply({})
    raise ApiError(404, "Not found")


HANDLERS: Handlers = {
    "SaveKernel": save_kernel,
    "GetKernelSessionStatus": get_kernel_session_status,
    "ListKernelSessionOutput": list_kernel_session_output,
    "ListKernelFiles": list_kernel_files,
    "GetKernel": get_kernel,
    "DownloadKernelOutput": download_kernel_output,
    "ListKernels": list_kernels,
    "GetAcceleratorQuotaStatistics": get_accelerator_quota_statistics,
    "CancelKernelSession": cancel_kernel_session,
}
