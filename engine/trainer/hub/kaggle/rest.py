"""The requests to Kaggle: its files of a model's version, and the bytes of each, by its signed addresses.

In: a model. Out: plain values. A refusal is an :class:`Answered` with the HTTP status, which :mod:`engine.trainer.hub.retry_policy` reads as it reads
the hub's; no answer at all is a ConnectionError.

    api = KaggleApi(api_address(os.environ), login)
    api.files(model)                                   # {"config.json": 627, …}
    with api.open(model, "config.json", 0) as body: …

Credentials go to the API's address alone. A file's bytes come from the address that the API answers with, which carries its own signature;
it is followed by https only, and by a loopback API to this machine only.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

from engine.protocol.kaggle_api import ApiAddress
from engine.protocol.kaggle_logins import KaggleLogin
from engine.protocol.kaggle_models import KaggleModel
from engine.trainer.hub.client import Body, RangeRefused, RemoteFile
from engine.trainer.hub.kaggle.transport import Answered, Response, ResponseHead, opened, request

LARGEST_ANSWER = 16 << 20
PAGE, MOST_PAGES = 200, 500
REDIRECTS = (301, 302, 303, 307, 308)
# A framework's word in a name -> in the API; every other one is its capitals.
FRAMEWORKS = {"pytorch": "PY_TORCH", "tensorflow1": "TENSOR_FLOW_1", "tensorflow2": "TENSOR_FLOW_2", "tflite": "TF_LITE",
              "tfjs": "TF_JS", "maxtext": "MAX_TEXT", "gemmacpp": "GEMMA_CPP", "scikitlearn": "SCIKIT_LEARN"}  # fmt: skip


class KaggleApi:
    """The calls, for one login (None: nobody's)."""

    def __init__(self, address: ApiAddress, login: KaggleLogin | None) -> None:
        self.address, self.login = address, login

    def user(self) -> str:
        """Whose token the login is: Kaggle alone knows it."""
        token = self.login.secret if self.login is not None else ""
        answer = self._call("security.OAuthService/IntrospectToken", {"token": token})
        if answer.get("active") is False:
            raise Answered(ResponseHead(401, {}))
        return str(answer["username"])

    def files(self, model: KaggleModel) -> dict[str, int]:
        """Name -> bytes of every file of the version."""
        files: dict[str, int] = {}
        token, seen = "", set[str]()
        for _ in range(MOST_PAGES):
            page = self._of_models(
                "ListModelInstanceVersionFiles", {**_fields(model), "pageSize": PAGE, "pageToken": token}
            )
            files |= {str(row["name"]): int(row.get("size", 0)) for row in page.get("files", ())}
            token = str(page.get("nextPageToken") or "")
            if not token:
                return files
            if token in seen:
                break
            seen.add(token)
        raise ValueError("the list of files does not end")

    def newest(self, model: KaggleModel) -> int:
        """The number of the variation's newest version."""
        fields = {key: value for key, value in _fields(model).items() if key != "versionNumber"}
        return int(self._of_models("GetModelInstance", fields)["versionNumber"])

    def stat(self, model: KaggleModel, name: str | None) -> RemoteFile:
        """Size and MD5 (of the object store; "" where it gives none) of one file, or (None) of the archive of all."""
        with self._get(self._signed(model, name), "bytes=0-0") as response:
            return RemoteFile(
                name or "archive", _total(response.head), _md5(response.head.headers.get("x-goog-hash", ""))
            )

    @contextmanager
    def open(self, model: KaggleModel, name: str | None, start: int) -> Iterator[Body]:
        """The bytes from ``start`` on, or all where the server ignores that. None: of the archive."""
        with self._get(self._signed(model, name), f"bytes={start}-" if start else None) as response:
            is_part = response.head.status_code == 206
            if is_part and not response.head.headers.get("content-range", "").startswith(f"bytes {start}-"):
                raise RangeRefused
            yield Body(start if is_part else 0, response.chunks(), _total(response.head))

    def _signed(self, model: KaggleModel, name: str | None) -> str:
        """The address of a file's bytes."""
        try:
            self._of_models("DownloadModelInstanceVersion", {**_fields(model), **({"path": name} if name else {})})
        except Answered as answer:
            if answer.response.status_code not in REDIRECTS:
                raise
            address = answer.response.headers.get("location", "")
            if self.address.allows(address):
                return address
        raise ValueError("no address of a file")

    def _of_models(self, method: str, fields: Mapping[str, object]) -> Mapping[str, Any]:
        return self._call(f"models.ModelApiService/{method}", fields)

    def _call(self, method: str, fields: Mapping[str, object]) -> Mapping[str, Any]:
        headers = {}
        if self.login is not None:
            self.login = self._fresh(self.login)
            headers["Authorization"] = self.login.header()
        return self._post(method, fields, headers)

    def _fresh(self, login: KaggleLogin) -> KaggleLogin:
        """The login with an access token, made of its refresh token where it has none that lasts."""
        now = time.time()
        if not login.has_expired(now):
            return login
        fields = {"refreshToken": login.refresh, "apiVersion": "API_VERSION_V1"}
        answer = self._post("users.AccountService/GenerateAccessToken", fields, {})
        return replace(login, secret=str(answer["token"]), expires_at=now + float(answer["expiresIn"]))

    def _post(self, method: str, fields: Mapping[str, object], headers: Mapping[str, str]) -> Mapping[str, Any]:
        """The answer's JSON. An error may come with HTTP 200, its status inside."""
        as_json = {"Content-Type": "application/json", "Accept": "application/json"}
        with opened(
            request(f"{self.address.base}/{method}", {**as_json, **headers}, json.dumps(fields).encode())
        ) as response:
            answer = json.loads(response.read(LARGEST_ANSWER) or b"{}")
        if not isinstance(answer, dict):
            raise TypeError("not an object")
        if isinstance(answer.get("code"), int) and answer["code"] >= 400:
            raise Answered(ResponseHead(answer["code"], response.head.headers))
        return answer

    @staticmethod
    def _get(address: str, byte_range: str | None) -> AbstractContextManager[Response]:
        # With compression, offsets and sizes would be those of the compressed bytes.
        return opened(
            request(address, {"Accept-Encoding": "identity", **({"Range": byte_range} if byte_range else {})})
        )


def _fields(model: KaggleModel) -> dict[str, object]:
    framework = FRAMEWORKS.get(model.framework, model.framework.upper())
    return {"ownerSlug": model.owner, "modelSlug": model.model, "framework": f"MODEL_FRAMEWORK_{framework}",
            "instanceSlug": model.variation, "versionNumber": model.version}  # fmt: skip


def _total(head: ResponseHead) -> int:
    """The size of the whole file. Raises ValueError where the server does not tell it."""
    if head.status_code == 206:
        return int(head.headers.get("content-range", "").rpartition("/")[2])
    return int(head.headers.get("content-length", ""))


def _md5(header: str) -> str:
    """In hex, from the object store's list of digests; "" where it is not among them.

    >>> _md5("crc32c=n03x6A==, md5=Ojk9c3dhfxgoKVVHYwFbHQ==")
    '3a393d7377617f182829554763015b1d'
    """
    digests = dict(digest.strip().partition("=")[::2] for digest in header.split(","))
    try:
        return base64.b64decode(digests.get("md5", ""), validate=True).hex()
    except binascii.Error:
        return ""
