"""Datasets: the bytes first, then the name; and a model's files for a client outside a session."""

from __future__ import annotations

import io
import tarfile
import zipfile

import pytest

from tests.kaggle.platform.plain import Answer, Plain
from tests.kaggle.platform.platform import Platform


def _started(api: Plain, name: str, length: int) -> tuple[str, str]:
    answer = api.call("StartBlobUpload", type="DATASET", name=name, contentLength=length).json
    return answer["token"], answer["createUrl"]


def _uploaded(api: Plain, name: str, content: bytes) -> str:
    token, address = _started(api, name, len(content))
    assert api.send("PUT", address, content).status == 200
    return token


def _create(api: Plain, *tokens: str, slug: str = "my-data") -> Answer:
    files = [{"token": token} for token in tokens]
    return api.call(
        "CreateDataset", ownerSlug="someone", slug=slug, title="my data", licenseName="CC0-1.0", files=files
    )


def _files(api: Plain) -> dict[str, int]:
    rows = api.call("ListDatasetFiles", ownerSlug="someone", datasetSlug="my-data").json["datasetFiles"]
    return {row["name"]: row["totalBytes"] for row in rows}


def test_a_dataset_is_made_of_uploads(kaggle: Platform, api: Plain) -> None:
    """404 is a free slug; then it is processed for a while; then it is ready."""
    kaggle.world.dataset_seconds = 60
    about = {"ownerSlug": "someone", "datasetSlug": "my-data"}
    assert api.call("GetDatasetStatus", **about).json == {"code": 404, "message": "Not found"}
    assert _create(api, _uploaded(api, "a.whl", b"hi\n")).json == {
        "ref": "someone/my-data", "url": "https://www.kaggle.com/datasets/someone/my-data", "status": "ok", "hasError": False,
    }  # fmt: skip
    assert api.call("GetDatasetStatus", **about).json == {"status": "BLOBS_RECEIVED"}
    kaggle.clock.advance(61)
    assert api.call("GetDatasetStatus", **about).json == {"status": "READY"}
    assert _files(api) == {"a.whl": 3}


def test_a_slug_is_taken_once(api: Plain) -> None:
    """The refusal is an answer with HTTP 200; the files stay those of the first."""
    _create(api, _uploaded(api, "a.whl", b"hi\n"))
    answer = _create(api, _uploaded(api, "b.whl", b"hello\n"))
    assert (answer.status, answer.json["status"]) == (200, "error")
    assert "already in use" in answer.json["error"]
    assert _files(api) == {"a.whl": 3}


def test_a_version_replaces_the_files(kaggle: Platform, api: Plain) -> None:
    """The number goes up, the files are those of the new version."""
    _create(api, _uploaded(api, "a.whl", b"hi\n"))
    body = {"versionNotes": "v2", "files": [{"token": _uploaded(api, "b.whl", b"hello\n")}]}
    assert (
        api.call("CreateDatasetVersion", ownerSlug="someone", datasetSlug="my-data", body=body).json["status"] == "ok"
    )
    assert _files(api) == {"b.whl": 6}
    assert api.call("GetDataset", ownerSlug="someone", datasetSlug="my-data").json["currentVersionNumber"] == 2
    assert kaggle.world.datasets["someone/my-data"].notes == ["v2"]


def test_an_upload_is_resumed(api: Plain) -> None:
    """308 says how much has arrived; the rest completes it. Half an upload is not a file of a dataset."""
    token, address = _started(api, "a.whl", 10)
    assert api.send("PUT", address, b"01234").status == 308
    asked = api.send("PUT", address, headers={"Content-Range": "bytes */10"})
    assert (asked.status, asked.headers["range"]) == (308, "bytes=0-4")
    assert _create(api, token).status == 400
    assert api.send("PUT", address, b"56789", {"Content-Range": "bytes 5-9/10"}).status == 200
    assert _create(api, token).status == 200
    assert api.send("PUT", "/upload/77", b"x").status == 404


def test_archives_become_folders(api: Plain) -> None:
    """A .zip and a .tar are unpacked below their name; a wheel, which is a zip too, stays as it is."""
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("x/one.txt", "1")
    with tarfile.open(fileobj=tarred, mode="w") as bundle:
        member = tarfile.TarInfo("two.txt")
        member.size = 2
        bundle.addfile(member, io.BytesIO(b"22"))
    names = {"a.zip": zipped.getvalue(), "b.tar": tarred.getvalue(), "c.whl": zipped.getvalue()}
    _create(api, *(_uploaded(api, name, content) for name, content in names.items()))
    assert _files(api) == {"a/x/one.txt": 1, "b/two.txt": 2, "c.whl": len(zipped.getvalue())}


MODEL = {"ownerSlug": "google", "modelSlug": "gemma", "framework": "MODEL_FRAMEWORK_TRANSFORMERS", "instanceSlug": "2b"}


def test_a_model_is_listed_and_fetched(kaggle: Platform, api: Plain) -> None:
    """The newest version's number, names with sizes, a file by a redirect, all of them as an archive."""
    kaggle.add_model("google/gemma/transformers/2b/2", {"old.json": "{}"})
    kaggle.add_model("google/gemma/transformers/2b/3", {"config.json": "{}", "x/model.safetensors": b"weights"})
    assert api.call("GetModelInstance", **MODEL).json["versionNumber"] == 3
    rows = api.call("ListModelInstanceVersionFiles", **MODEL, versionNumber=3).json["files"]
    assert {row["name"]: row["size"] for row in rows} == {"config.json": 2, "x/model.safetensors": 7}
    one = api.call("DownloadModelInstanceVersion", **MODEL, versionNumber=3, path="x/model.safetensors")
    assert (one.status, api.get(one.headers["location"]).body) == (302, b"weights")
    whole = api.call("DownloadModelInstanceVersion", **MODEL, versionNumber=3)
    with tarfile.open(fileobj=io.BytesIO(api.get(whole.headers["location"]).body)) as archive:
        assert archive.getnames() == ["config.json", "x/model.safetensors"]
    assert api.call("DownloadModelInstanceVersion", **MODEL, versionNumber=9).status == 404


@pytest.mark.parametrize(("consents", "status"), [((), 403), (("someone",), 302)])
def test_a_gated_model_wants_consent(kaggle: Platform, api: Plain, consents: tuple[str, ...], status: int) -> None:
    """Before it 403, and the model is no valid source; after it both work."""
    kaggle.add_model("google/gemma/transformers/2b/3", {"config.json": "{}"}, gated=True, consents=consents)
    assert api.call("DownloadModelInstanceVersion", **MODEL, path="config.json").status == status
    answer = api.push(modelDataSources=["google/gemma/transformers/2b/3"]).json
    assert ("invalidModelSources" in answer) == (status == 403)
