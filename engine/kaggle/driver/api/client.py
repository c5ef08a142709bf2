"""The one module that imports ``kagglesdk`` and ``requests`` (extra ``kaggle``); nothing imports it before a command needs the platform.

In: the name of a call and its fields. Out: the answer's JSON as it came, or :class:`Refusal`. kagglesdk gives the requests and their places;
its own http client has no time-out, retries nothing and dies of a status that it does not know, so its services are given this one.

    client = ApiClient(api_address(os.environ))
    client.ask("get_kernel", {"user_name": "someone", "kernel_slug": "my-run"}, login)
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import requests
from kagglesdk.blobs.services.blob_api_service import BlobApiClient
from kagglesdk.blobs.types.blob_api_service import ApiBlobType, ApiStartBlobUploadRequest
from kagglesdk.datasets.services.dataset_api_service import DatasetApiClient
from kagglesdk.datasets.types.dataset_api_service import (
    ApiCreateDatasetRequest,
    ApiDatasetNewFile,
    ApiGetDatasetStatusRequest,
)
from kagglesdk.kernels.services.kernels_api_service import KernelsApiClient
from kagglesdk.kernels.types.kernels_api_service import (
    ApiGetAcceleratorQuotaStatisticsRequest,
    ApiGetKernelRequest,
    ApiGetKernelSessionStatusRequest,
    ApiListKernelFilesRequest,
    ApiListKernelSessionOutputRequest,
    ApiListKernelsRequest,
    ApiSaveKernelRequest,
)
from kagglesdk.kernels.types.kernels_enums import KernelsListSortType, KernelsListViewType
from kagglesdk.security.services.oauth_service import OAuthClient
from kagglesdk.security.types.oauth_service import IntrospectTokenRequest
from kagglesdk.users.services.account_service import AccountClient
from kagglesdk.users.types.account_service import ApiVersion, GenerateAccessTokenRequest
from urllib3.exceptions import HTTPError as TransferError

from engine import __version__
from engine.canonical import CHUNK_BYTES, JsonMapping, JsonObject
from engine.kaggle.driver.api.answers import Refusal, kind_of
from engine.kaggle.driver.api.pacing import retry_after
from engine.kaggle.driver.api.wire import FileBody, Method
from engine.protocol.kaggle_api import ApiAddress
from engine.protocol.kaggle_logins import KaggleLogin

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
PUSH_SECONDS = 180.0  # a megabyte of source over a slow line, and the platform's own work on it
ANSWER_SECONDS = 300.0  # a server that sends a byte a minute is no answer
LARGEST_ANSWER = 64 << 20  # the whole log of a session is one string of an answer
MOST_REDIRECTS = 3
SDK: Mapping[Method, tuple[Any, str, type]] = {
    "introspect": (OAuthClient, "introspect_token", IntrospectTokenRequest),
    "mint_token": (AccountClient, "generate_access_token", GenerateAccessTokenRequest),
    "quota": (KernelsApiClient, "get_accelerator_quota_statistics", ApiGetAcceleratorQuotaStatisticsRequest),
    "list_kernels": (KernelsApiClient, "list_kernels", ApiListKernelsRequest),
    "get_kernel": (KernelsApiClient, "get_kernel", ApiGetKernelRequest),
    "session_status": (KernelsApiClient, "get_kernel_session_status", ApiGetKernelSessionStatusRequest),
    "session_output": (KernelsApiClient, "list_kernel_session_output", ApiListKernelSessionOutputRequest),
    "list_files": (KernelsApiClient, "list_kernel_files", ApiListKernelFilesRequest),
    "save_kernel": (KernelsApiClient, "save_kernel", ApiSaveKernelRequest),
    "dataset_status": (DatasetApiClient, "get_dataset_status", ApiGetDatasetStatusRequest),
    "start_upload": (BlobApiClient, "start_blob_upload", ApiStartBlobUploadRequest),
    "create_dataset": (DatasetApiClient, "create_dataset", ApiCreateDatasetRequest),
}
# Fields that are more than text, numbers and lists: the word for each becomes what kagglesdk wants.
VALUES: Mapping[str, Callable[[Any], Any]] = {
    "api_version": lambda word: ApiVersion[word],
    "type": lambda word: ApiBlobType[word],
    "group": lambda word: KernelsListViewType[word],
    "sort_by": lambda word: KernelsListSortType[word],
    "files": lambda tokens: [_filled(ApiDatasetNewFile, {"token": token}) for token in tokens],
}


class _NoPassword(requests.auth.AuthBase):  # type: ignore[misc]
    """Neither credentials nor what a ~/.netrc has: for signed addresses, which are not the platform's own."""

    def __call__(self, request: Any) -> Any:
        return request


class _Login(requests.auth.AuthBase):  # type: ignore[misc]
    def __init__(self, login: KaggleLogin) -> None:
        self._login = login

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = self._login.header()
        return request


class ApiClient:
    """A :class:`engine.kaggle.driver.api.wire.Wire` over HTTP."""

    def __init__(self, address: ApiAddress) -> None:
        self.address = address
        self._session = requests.Session()
        self._session.trust_env = address.is_kaggle  # no proxy for a server on this machine
        self._session.headers.update({"User-Agent": f"runspec-engine/{__version__}"})

    def ask(self, method: Method, fields: Mapping[str, object], login: KaggleLogin | None) -> JsonMapping:
        """See :class:`engine.kaggle.driver.api.wire.Wire`."""
        service, function, kind = SDK[method]
        seconds = PUSH_SECONDS if method == "save_kernel" else READ_SECONDS
        sender = _Sender(self._post, _auth(login), seconds)
        return cast(JsonMapping, getattr(service(sender), function)(_filled(kind, fields)))

    def _post(self, path: str, body: JsonMapping, auth: object, seconds: float) -> JsonObject:
        with (
            _explained(),
            self._session.post(
                f"{self.address.base}/{path}",
                json=body,
                auth=auth,
                timeout=(CONNECT_SECONDS, seconds),
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            return _answer(response)

    @contextmanager
    def log_stream(self, path: str, version: str, login: KaggleLogin, idle_seconds: float) -> Iterator[Iterator[str]]:
        """See :class:`engine.kaggle.driver.api.wire.Wire`."""
        with (
            _explained(),
            self._session.get(
                f"{self.address.base}/kernels/logs/stream/{path}",
                params={"versionLabel": version},
                headers={"Accept": "text/event-stream, */*"},
                auth=_auth(login),
                timeout=(CONNECT_SECONDS, idle_seconds),
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            _refuse_status(response, b"" if response.status_code < 400 else _body(response))
            if response.headers.get("Content-Type", "").lower().startswith("text/event-stream"):
                yield _events(response)
            else:
                yield iter([_body(response).decode("utf-8", "replace")])

    @contextmanager
    def open_file(self, url: str, offset: int, validator: str | None) -> Iterator[FileBody]:
        """See :class:`engine.kaggle.driver.api.wire.Wire`."""
        headers = {"Accept-Encoding": "identity"}
        if offset and validator:
            headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
        with _explained(), self._followed(url, headers) as response:
            if response.status_code == 416:  # the part that is here is longer than the file
                raise Refusal("unreadable", 416, "the file is not the one that was begun")
            _refuse_status(response, b"" if response.status_code < 400 else _body(response))
            yield _file_body(response)

    def _followed(self, url: str, headers: Mapping[str, str]) -> Any:
        for _ in range(MOST_REDIRECTS + 1):
            if not self.address.allows(url):
                raise Refusal("rejected", 0, "the answer names a file at an address that is not https")
            response = self._session.get(url, headers=headers, auth=_NoPassword(), timeout=(CONNECT_SECONDS, READ_SECONDS),
                                         allow_redirects=False, stream=True)  # fmt: skip
            if not response.is_redirect:
                return response
            url = requests.compat.urljoin(url, response.headers["Location"])
            response.close()
        raise Refusal("unreadable", 0, "the address of a file redirects for ever")

    def put_file(self, url: str, path: Path) -> None:
        """See :class:`engine.kaggle.driver.api.wire.Wire`."""
        if not self.address.allows(url):
            raise Refusal("rejected", 0, "the answer names an address for the upload that is not https")
        with path.open("rb") as stream, _explained():
            body = stream if path.stat().st_size else b""
            with self._session.put(url, data=body, auth=_NoPassword(), timeout=(CONNECT_SECONDS, PUSH_SECONDS),
                                   allow_redirects=False, stream=True) as response:  # fmt: skip
                _refuse_status(response, _body(response))


class _Sender:
    """The http client that kagglesdk's services call; its answers are ours to read."""

    def __init__(
        self, post: Callable[[str, JsonMapping, object, float], JsonObject], auth: object, seconds: float
    ) -> None:
        self._post, self._auth, self._seconds = post, auth, seconds

    def call(self, service: str, method: str, request: Any, _: object) -> JsonObject:
        """The name and the arguments are kagglesdk's."""
        return self._post(f"{service}/{method}", request.to_dict(), self._auth, self._seconds)


def _filled(kind: Callable[[], Any], fields: Mapping[str, object]) -> Any:
    """A request of kagglesdk, which refuses a field that it does not have and a value of another type."""
    request = kind()
    for name, value in fields.items():
        setattr(request, name, VALUES[name](value) if name in VALUES else value)
    return request


def _auth(login: KaggleLogin | None) -> object:
    return _NoPassword() if login is None else _Login(login)


@contextmanager
def _explained() -> Iterator[None]:
    """No sentence of the library's goes on: it would show an address, which may be signed."""
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise Refusal("unreachable", 0, "no safe connection: the server's certificate is not accepted") from error
    except requests.exceptions.Timeout as error:
        raise Refusal("unreachable", 0, "no answer in time") from error
    except (requests.exceptions.RequestException, TransferError) as error:
        what = (
            "the connection was cut" if "Chunked" in type(error).__name__ else f"no connection ({type(error).__name__})"
        )
        raise Refusal("unreachable", 0, what) from error


def _answer(response: Any) -> JsonObject:
    """The JSON of an answer. An error is HTTP 400 and above, or a body with such a ``code``."""
    data = _body(response)
    _refuse_status(response, data)
    try:
        value = json.loads(data.decode("utf-8", "replace"))  # a log is part of an answer, and may be anything
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or response.status_code >= 300:
        raise Refusal("unreadable", response.status_code, f"the answer is not JSON but {_what(data)}")
    code = value.get("code")
    if isinstance(code, int) and code >= 400:
        raise Refusal(kind_of(code), code, str(value.get("message") or "no reason is given"), _wait(response))
    return value


def _refuse_status(response: Any, data: bytes) -> None:
    status = response.status_code
    if status < 400:
        return
    message = None
    with suppress(ValueError, RecursionError):
        value = json.loads(data)
        message = value.get("message") if isinstance(value, dict) else None
    raise Refusal(kind_of(status), status, str(message or _what(data)), _wait(response))


def _wait(response: Any) -> float | None:
    headers = response.headers
    return retry_after(headers.get("Retry-After"), headers.get("Date"), now=time.time())


def _what(data: bytes) -> str:
    """What a body is that should be JSON. Nothing of it is shown: half an answer has signed addresses in it."""
    if not data.strip():
        return "empty"
    return "a page of HTML" if data.lstrip()[:1] == b"<" else f"{len(data):,} bytes of something else"


def _body(response: Any) -> bytes:
    """All of it, within a time and a size, whatever the server sends."""
    end, parts, size = time.monotonic() + ANSWER_SECONDS, [], 0
    for chunk in response.iter_content(CHUNK_BYTES):
        parts.append(chunk)
        size += len(chunk)
        if size > LARGEST_ANSWER:
            raise Refusal("unreadable", response.status_code, "the answer is larger than 64 MiB")
        if time.monotonic() > end:
            raise Refusal("unreachable", 0, "the answer did not end in time")
    return b"".join(parts)


def _events(response: Any) -> Iterator[str]:
    """The ``data:`` lines of server-sent events, as they come: no reading ahead, which would hold the last lines back."""
    rest = b""
    with _explained():
        while chunk := response.raw.read1(1 << 16, decode_content=True):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > LARGEST_ANSWER:
                raise Refusal("unreadable", response.status_code, "a line of the log is larger than 64 MiB")
            for line in lines:
                if line.startswith(b"data:"):
                    yield line[5:].strip().decode("utf-8", "replace")


def _file_body(response: Any) -> FileBody:
    headers, start = response.headers, 0
    length = int(headers["Content-Length"]) if headers.get("Content-Length", "").isdigit() else None
    total = length
    if response.status_code == 206:
        span, _, whole = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        first = span.partition("-")[0]
        if not first.isdigit():
            raise Refusal("unreadable", 206, "the server does not say which part of the file it sends")
        start = int(first)
        total = int(whole) if whole.isdigit() else None if length is None else start + length
    tag = headers.get("ETag", "")
    validator = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")
    md5 = re.search(r"md5=([A-Za-z0-9+/]{22}==)", headers.get("x-goog-hash", ""))
    return FileBody(start, total, validator, _chunks(response), md5[1] if md5 else None)


def _chunks(response: Any) -> Iterator[bytes]:
    """What has arrived, at once: a larger piece would be lost with the cut that comes in its middle."""
    with _explained():
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=True):
            yield chunk
