"""A plain client of the platform: one request, one answer, nothing hidden. In both styles: direct, and as through a proxy.

>>> SERVICES["SaveKernel"]
'kernels.KernelsApiService'
"""

from __future__ import annotations

import http.client
import json
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.kaggle.platform.platform import Platform

_KERNELS, _DATASETS, _MODELS = "kernels.KernelsApiService", "datasets.DatasetApiService", "models.ModelApiService"
SERVICES: Mapping[str, str] = {
    **dict.fromkeys(("SaveKernel", "GetKernel", "GetKernelSessionStatus", "ListKernelSessionOutput"), _KERNELS),
    **dict.fromkeys(("ListKernelFiles", "DownloadKernelOutput", "ListKernels", "CancelKernelSession"), _KERNELS),
    "GetAcceleratorQuotaStatistics": _KERNELS,
    **dict.fromkeys(("CreateDataset", "CreateDatasetVersion", "GetDatasetStatus", "GetDataset"), _DATASETS),
    "ListDatasetFiles": _DATASETS,
    "StartBlobUpload": "blobs.BlobApiService",
    **dict.fromkeys(("GetModelInstance", "ListModelInstanceVersionFiles", "DownloadModelInstanceVersion"), _MODELS),
    "IntrospectToken": "security.OAuthService",
    "GenerateAccessToken": "users.AccountService",
}


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's JSON."""
        return json.loads(self.body)


class Plain:
    """Asks as the platform's user unless told otherwise. ``proxied``: in the absolute form, for `http://localhost`."""

    def __init__(self, platform: Platform, *, proxied: bool = False) -> None:
        self.platform = platform
        self.authorization: str | None = f"Bearer {platform.token}"
        self._port = urllib.parse.urlsplit(platform.url).port or 0
        self._proxied = proxied

    def call(self, operation: str, **body: Any) -> Answer:
        """One RPC."""
        path = f"/api/v1/{SERVICES[operation]}/{operation}"
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": self.authorization} if self.authorization else {}
        return self.send("POST", path, json.dumps(body).encode(), headers)

    def send(self, method: str, address: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """Any request; the host of an address is left out, since there is only one."""
        parts = urllib.parse.urlsplit(address)
        path = urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))
        host = "localhost" if self._proxied else f"127.0.0.1:{self._port}"
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            where = f"http://{host}{path}" if self._proxied else path
            connection.request(method, where, body or None, {"Host": host, **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, address: str, **headers: str) -> Answer:
        """A file; ``_`` in a header's name stands for ``-``."""
        return self.send("GET", address, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def push(self, slug: str = "my-run", **body: Any) -> Answer:
        """A push of a small notebook."""
        owner = self.platform.user
        title = slug.replace("-", " ").capitalize()
        return self.call("SaveKernel", **{"slug": f"{owner}/{slug}", "newTitle": title, "text": "{}", **body})

    def about(self, operation: str, slug: str = "my-run", version: int | None = None, **body: Any) -> Answer:
        """A question about a kernel or a version of it."""
        label = {"versionLabel": f"v{version}"} if version else {}
        return self.call(operation, **{"userName": self.platform.user, "kernelSlug": slug, **label, **body})

    def status(self, slug: str = "my-run", version: int | None = None) -> str:
        """The word."""
        return str(self.about("GetKernelSessionStatus", slug, version).json["status"])
