"""models.ModelApiService: what a client outside a session needs to fetch a model's files."""

from __future__ import annotations

import io
import tarfile

from tests.kaggle.platform.api.calls import Call, Handlers
from tests.kaggle.platform.api.kernels import redirect
from tests.kaggle.platform.api.paging import page
from tests.kaggle.platform.web.messages import ApiError, Reply, json_reply
from tests.kaggle.platform.world.clock import stamp
from tests.kaggle.platform.world.files import StoredFile, stored
from tests.kaggle.platform.world.sources import Model, framework_word


def _model(call: Call) -> Model:
    body = call.body
    framework = framework_word(body.get("framework", ""))
    names = body.get("ownerSlug", ""), body.get("modelSlug", ""), framework, body.get("instanceSlug", "")
    model = call.world.model(*names, body.get("versionNumber"))
    if model is None:
        raise ApiError(404, "Not found")
    return model


def get_model_instance(call: Call) -> Reply:
    """The variation, with the number of its newest version."""
    model = _model(call)
    total = sum(file.size for file in model.files)
    shown = {"id": 1, "slug": model.variation, "framework": f"MODEL_FRAMEWORK_{model.framework.upper()}"}
    return json_reply(shown | {"versionNumber": model.version, "versionId": 1, "totalUncompressedBytes": total})


def list_model_instance_version_files(call: Call) -> Reply:
    """Names and sizes of one version."""
    files, after = page(_model(call).files, call.body)
    rows = [{"name": one.name, "size": one.size, "creationDate": stamp(one.modified)} for one in files]
    return json_reply({"files": rows, "nextPageToken": after})


def download_model_instance_version(call: Call) -> Reply:
    """302 to one file or to an archive; 403 before the user has consented."""
    model = _model(call)
    if not model.is_open_to(call.user):
        raise ApiError(403, "Permission 'models.get' was denied: consent on the model's page first")
    path = call.body.get("path")
    found = [file for file in model.files if file.name == path] if path else [_archive(model)]
    if not found:
        raise ApiError(404, "Not found")
    return redirect(call, found[0])


def _archive(model: Model) -> StoredFile:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as packed:
        for file in model.files:
            member = tarfile.TarInfo(file.name)
            member.size = file.size
            packed.addfile(member, io.BytesIO(file.read()))
    return stored("archive.tar.gz", whole.getvalue())


HANDLERS: Handlers = {
    "GetModelInstance": get_model_instance,
    "ListModelInstanceVersionFiles": list_model_instance_version_files,
    "DownloadModelInstanceVersion": download_model_instance_version,
}
