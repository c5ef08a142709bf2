"""Which door a request knocks at: the name of the operation and what the path says besides.

>>> operation_of("POST", "/v1/kernels.KernelsApiService/SaveKernel")
('SaveKernel', ())
>>> operation_of("GET", "/api/v1/kernels/logs/stream/someone/my-run")
('LogStream', ('someone', 'my-run'))
"""

from __future__ import annotations

import re

# (method, pattern of the path, name of the operation or None: the last group is the name)
ROUTES: tuple[tuple[str, re.Pattern[str], str | None], ...] = (
    ("POST", re.compile(r"(?:/api)?/v1/(?:[a-z]+\.\w+)/(\w+)"), None),
    ("GET", re.compile(r"(?:/api)?/v1/kernels/logs/stream/([^/]+)/([^/]+)"), "LogStream"),
    ("GET", re.compile(r"/dl/(.+)"), "Download"),
    ("HEAD", re.compile(r"/dl/(.+)"), "Download"),
    ("PUT", re.compile(r"/upload/([^/]+)"), "Upload"),
    ("POST", re.compile(r"/requests/GetUserSecretByLabelRequest"), "GetUserSecretByLabel"),
    ("POST", re.compile(r"/kaggle-jwt-handler/AttachDatasourceUsingJwtRequest"), "AttachDatasource"),
)
NOWHERE = "Nowhere"


def operation_of(method: str, path: str) -> tuple[str, tuple[str, ...]]:
    """The operation and its arguments; ``Nowhere`` for a path that the platform does not have."""
    for wanted, pattern, name in ROUTES:
        match = pattern.fullmatch(path) if wanted == method else None
        if match:
            return (match[1], ()) if name is None else (name, match.groups())
    return NOWHERE, ()
