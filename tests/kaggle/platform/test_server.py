"""The server itself: two styles of request, no other host, no hidden crash, no secret in the record."""

from __future__ import annotations

import http.client
import json
import os
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.kaggle.platform import platform as module
from tests.kaggle.platform.plain import Plain
from tests.kaggle.platform.platform import Platform, PlatformBroke
from tests.kaggle.platform.session.scripted import Script


def _raw(kaggle: Platform, method: str, target: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", urllib.parse.urlsplit(kaggle.url).port, timeout=10)
    try:
        connection.request(method, target)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", "http://www.kaggle.com/"), ("CONNECT", "api.kaggle.com:443"), ("POST", "http://localhost:9/api/v1/x.Y/Z")],
)
def test_no_other_host_is_reached(tmp_path: Path, method: str, target: str) -> None:
    """As a proxy it refuses everything but this machine and this port, and the test that let it happen fails."""
    with pytest.raises(PlatformBroke, match="other hosts"), Platform(tmp_path / "kaggle") as kaggle:
        assert _raw(kaggle, method, target) == 403


def test_paths_of_production_and_of_localhost(kaggle: Platform, api: Plain) -> None:
    """`/v1/…` and `/api/v1/…` are the same; what is not there is 404 with the API's shape."""
    body, headers = b"{}", {"Authorization": f"Bearer {kaggle.token}"}
    for prefix in ("", "/api"):
        path = f"{prefix}/v1/kernels.KernelsApiService/GetAcceleratorQuotaStatistics"
        assert api.send("POST", path, body, headers).status == 200
    for method, path in [("GET", "/"), ("POST", "/v1/kernels.KernelsApiService/NoSuchMethod"), ("DELETE", "/upload/1")]:
        answer = api.send(method, path, body, headers)
        assert answer.status in (404, 501), path
    assert api.send("POST", "/nowhere").json == {"code": 404, "message": "Not found"}


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff"])
def test_a_body_that_is_not_an_object_is_400(kaggle: Platform, api: Plain, body: bytes) -> None:
    """The client's fault, not a crash of ours."""
    path = "/api/v1/kernels.KernelsApiService/GetKernel"
    assert api.send("POST", path, body, {"Authorization": f"Bearer {kaggle.token}"}).status == 400


def test_an_upload_in_chunks(api: Plain, kaggle: Platform) -> None:
    """A client that does not say the length beforehand."""
    address = api.call("StartBlobUpload", name="a.whl", contentLength=6).json["createUrl"]
    connection = http.client.HTTPConnection("127.0.0.1", urllib.parse.urlsplit(kaggle.url).port, timeout=10)
    connection.request(
        "PUT",
        urllib.parse.urlsplit(address).path,
        iter([b"abc", b"def"]),
        encode_chunked=True,
        headers={"Transfer-Encoding": "chunked"},
    )
    assert connection.getresponse().status == 200
    connection.close()
    assert kaggle.world.blobs["1"].content == b"abcdef"


def test_a_crash_of_the_platform_fails_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client sees HTTP 500; the test does not pass by taking it for the platform's answer."""

    def broken(call: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(module, "HANDLERS", {**module.HANDLERS, "GetKernel": broken})
    with pytest.raises(PlatformBroke, match="ZeroDivisionError"), Platform(tmp_path / "kaggle") as kaggle:
        assert Plain(kaggle).about("GetKernel").status == 500


def test_many_at_once(kaggle: Platform, api: Plain) -> None:
    """Fifty pushes from ten threads are fifty versions, each number once."""
    with ThreadPoolExecutor(10) as pool:
        numbers = list(pool.map(lambda _: api.push().json["versionNumber"], range(50)))
    assert sorted(numbers) == list(range(1, 51))
    assert len(kaggle.requests) == 50


def test_the_record_has_no_secret(kaggle: Platform, api: Plain, tmp_path: Path) -> None:
    """Whatever was given out by then: tokens, keys, signatures, upload tokens, secrets of users."""
    kaggle.script(Script(files={"a.txt": "a"}))
    api.call("IntrospectToken", token=kaggle.token)
    api.call("GenerateAccessToken", refreshToken=kaggle.oauth()["refresh_token"])
    api.push()
    kaggle.add_secret("HF_TOKEN", "made-up-secret-value", attach_to="someone/my-run")
    api.get(api.about("ListKernelSessionOutput").json["files"][0]["url"])
    started = api.call("StartBlobUpload", name="a.whl", contentLength=1).json
    api.send("PUT", started["createUrl"], b"x")
    api.call("CreateDataset", slug="my-data", files=[{"token": started["token"]}])
    token = kaggle.world.pass_for(kaggle.version("someone/my-run"))
    path, headers = "/requests/GetUserSecretByLabelRequest", {"X-Kaggle-Authorization": f"Bearer {token}"}
    given = api.send("POST", path, b'{"Label": "HF_TOKEN"}', headers)
    assert given.json == {"wasSuccessful": True, "result": {"secret": "made-up-secret-value"}}
    shown = repr(kaggle.requests)
    assert len(kaggle.issued_secrets) >= 8
    assert [secret for secret in kaggle.issued_secrets if secret in shown] == []
    assert {"<redacted:Bearer>", "<redacted:X-Kaggle-Authorization>", "none"} == {one.auth for one in kaggle.requests}


def test_what_the_record_has(kaggle: Platform, api: Plain) -> None:
    """Method, path, body or its length, the headers by which a client is known, the status, the failures."""
    address = api.call("StartBlobUpload", name="a.whl", contentLength=3).json["createUrl"]
    api.send("PUT", address, b"abc", {"Content-Range": "bytes 0-2/3", "User-Agent": "plain"})
    kaggle.fail("server_error", on="GetKernel")
    api.send("POST", "/v1/kernels.KernelsApiService/GetKernel", b"{")
    upload, asked = kaggle.requests[-2:]
    assert (upload.method, upload.path, upload.body, upload.status) == ("PUT", "/upload/1", "3 bytes", 200)
    assert upload.headers == {"content-range": "bytes 0-2/3", "user-agent": "plain"}
    assert (asked.operation, asked.auth, asked.body) == ("GetKernel", "none", "1 bytes that are not JSON")
    assert (asked.status, asked.failures) == (500, ("server_error",))
    assert kaggle.requests[0].headers["content-type"] == "application/json"


def test_a_secret_that_is_not_attached(kaggle: Platform, api: Plain) -> None:
    """One sentence for "never made" and for "made and not attached"; 401 without a session's token."""
    api.push()
    kaggle.add_secret("MADE", "value")
    token = kaggle.world.pass_for(kaggle.version("someone/my-run"))
    number = kaggle.kernels["someone/my-run"].number
    for label in ("MADE", "NEVER"):
        body = json.dumps({"Label": label}).encode()
        headers = {"X-Kaggle-Authorization": f"Bearer {token}"}
        answer = api.send("POST", "/requests/GetUserSecretByLabelRequest", body, headers).json
        said = f"No user secrets exist for kernel id {number} and label {label}"
        assert answer == {"wasSuccessful": False, "errors": [said]}
    assert api.send("POST", "/requests/GetUserSecretByLabelRequest", b"{}").status == 401


def test_the_environment_of_the_real_client(kaggle: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the test's own but the path and the language; every proxy is the platform."""
    monkeypatch.setenv("KAGGLE_KEY", "mine")
    monkeypatch.setenv("NO_PROXY", "localhost")
    found = kaggle.client_env(tmp_path, KAGGLE_USERNAME="someone", KAGGLE_API_TOKEN="")
    assert "KAGGLE_KEY" not in found
    assert "KAGGLE_API_TOKEN" not in found
    assert {found[name] for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")} == {kaggle.url}
    assert (found["NO_PROXY"], found["KAGGLE_API_ENVIRONMENT"], found["PATH"]) == ("", "LOCALHOST", os.environ["PATH"])
