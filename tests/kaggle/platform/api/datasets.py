"""datasets.DatasetApiService and blobs.BlobApiService: upload the files, then name them in a dataset or a version of it."""

from __future__ import annotations

import re

from tests.kaggle.platform.api.calls import Call, Handlers
from tests.kaggle.platform.api.paging import page
from tests.kaggle.platform.web.messages import ApiError, Json, Reply, json_reply
from tests.kaggle.platform.world.clock import stamp
from tests.kaggle.platform.world.files import StoredFile
from tests.kaggle.platform.world.sources import Dataset, unpacked
from tests.kaggle.platform.world.world import Blob


def start_blob_upload(call: Call) -> Reply:
    """A token for the file and the address that its bytes go to."""
    call.identity.required()
    token = call.world.accounts.secret("blob-token")
    number = str(len(call.world.blobs) + 1)
    call.world.blobs[number] = Blob(token, call.body.get("name", ""), int(call.body.get("contentLength", 0)))
    return json_reply({"token": token, "createUrl": f"{call.incoming.origin}/upload/{number}"})


def upload(call: Call) -> Reply:
    """PUT of the bytes, whole or a range; ``bytes */N`` asks how many have arrived (308 with `Range`)."""
    blob = call.world.blobs.get(call.incoming.arguments[0])
    if blob is None:
        raise ApiError(404, "Not found")
    where = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/\d+", call.incoming.headers.get("content-range", ""))
    if where is None or where[1] is not None:
        start = int(where[1]) if where else 0
        blob.content = blob.content[:start] + call.incoming.body
    if blob.is_whole:
        return Reply(200, content_type="")
    arrived = {"Range": f"bytes=0-{len(blob.content) - 1}"} if blob.content else {}
    return Reply(308, headers=arrived, content_type="")


def _files(call: Call, body: Json) -> list[StoredFile]:
    files = []
    blobs = {blob.token: blob for blob in call.world.blobs.values()}
    for entry in body.get("files", []):
        blob = blobs.get(entry.get("token", ""))
        if blob is None or not blob.is_whole:
            raise ApiError(400, "Invalid file token")
        files += unpacked(blob.name, blob.content, call.world.clock.now())
    return sorted(files, key=lambda file: file.name)


def _own(call: Call, owner: str, slug: str) -> Dataset:
    dataset = call.world.datasets.get(f"{owner}/{slug}")
    if dataset is None or (dataset.is_private and dataset.owner != call.user):
        raise ApiError(404, "Not found")
    return dataset


def _answer(dataset: Dataset) -> Reply:
    url = f"https://www.kaggle.com/datasets/{dataset.ref}"
    return json_reply({"ref": dataset.ref, "url": url, "status": "ok", "hasError": False})


def create_dataset(call: Call) -> Reply:
    """A new dataset; a taken slug is an answer with ``status: error`` and HTTP 200."""
    body, world = call.body, call.world
    user = call.identity.required()
    owner, slug = str(body.get("ownerSlug") or user), str(body.get("slug", ""))
    if owner != user:
        raise ApiError(403, "Permission 'datasets.create' was denied")
    if f"{owner}/{slug}" in world.datasets:
        said = f'The requested slug "{slug}" is already in use by a dataset. Please choose another slug.'
        return json_reply({"status": "error", "error": said, "hasError": True})
    dataset = Dataset(owner, slug, body.get("title", slug), body.get("isPrivate", True), [], world.clock.now())
    dataset.add(_files(call, body), world.clock.now(), world.dataset_seconds)
    world.datasets[dataset.ref] = dataset
    return _answer(dataset)


def create_dataset_version(call: Call) -> Reply:
    """The next version; its files replace those of the one before."""
    body = call.body
    dataset = _own(call, body.get("ownerSlug", ""), body.get("datasetSlug", ""))
    if dataset.owner != call.identity.required():
        raise ApiError(403, "Permission 'datasets.update' was denied")
    inner = body.get("body", {})
    dataset.add(_files(call, inner), call.world.clock.now(), call.world.dataset_seconds)
    dataset.notes.append(inner.get("versionNotes", ""))
    return _answer(dataset)


def get_dataset_status(call: Call) -> Reply:
    """404 is a free slug."""
    dataset = _own(call, call.body.get("ownerSlug", ""), call.body.get("datasetSlug", ""))
    return json_reply({"status": dataset.status(call.world.clock.now())})


def get_dataset(call: Call) -> Reply:
    """The number of the newest version."""
    dataset = _own(call, call.body.get("ownerSlug", ""), call.body.get("datasetSlug", ""))
    shown = {"ref": dataset.ref, "title": dataset.title, "isPrivate": dataset.is_private}
    return json_reply(shown | {"currentVersionNumber": len(dataset.versions)})


def list_dataset_files(call: Call) -> Reply:
    """Names and sizes of the newest version."""
    dataset = _own(call, call.body.get("ownerSlug", ""), call.body.get("datasetSlug", ""))
    files, after = page(dataset.files, call.body)
    rows = [{"name": one.name, "totalBytes": one.size, "creationDate": stamp(one.modified)} for one in files]
    return json_reply({"datasetFiles": rows, "nextPageToken": after})


HANDLERS: Handlers = {
    "StartBlobUpload": start_blob_upload,
    "Upload": upload,
    "CreateDataset": create_dataset,
    "CreateDatasetVersion": create_dataset_version,
    "GetDatasetStatus": get_dataset_status,
    "GetDataset": get_dataset,
    "ListDatasetFiles": list_dataset_files,
}
