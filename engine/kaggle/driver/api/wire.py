"""What the driver needs of a connection to the platform: the calls by name, a stream of log lines, a file, an upload.

In and out: the protocol that :mod:`engine.kaggle.driver.api.client` keeps, the one module that knows kagglesdk. Whoever holds a
:class:`Wire` needs no library, so that all decisions of the driver are tested without one.

    >>> sorted(REPEATABLE)[:3]
    ['dataset_status', 'get_kernel', 'introspect']
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from engine.canonical import JsonMapping
from engine.protocol.kaggle_api import ApiAddress
from engine.protocol.kaggle_logins import KaggleLogin

Method = Literal[
    "introspect",
    "mint_token",
    "quota",
    "list_kernels",
    "get_kernel",
    "session_status",
    "session_output",
    "list_files",
    "save_kernel",
    "dataset_status",
    "start_upload",
    "create_dataset",
]
# Asking twice changes nothing. The others are asked once, and what came of it is looked up.
REPEATABLE: frozenset[Method] = frozenset(
    {
        "introspect",
        "mint_token",
        "quota",
        "list_kernels",
        "get_kernel",
        "session_status",
        "session_output",
        "list_files",
        "dataset_status",
        "start_upload",
    }
)


@dataclass(frozen=True, slots=True)
class FileBody:
    """A file on its way: ``start`` is the offset of the first byte that comes, ``total`` the size of the whole where it is known."""

    start: int
    total: int | None
    validator: str | None  # an ETag or Last-Modified, for If-Range
    chunks: Iterator[bytes]
    md5: str | None = None  # of the whole, in base64, where the object store says it


class Wire(Protocol):
    """Every method raises :class:`engine.kaggle.driver.api.answers.Refusal` where there is no usable answer."""

    address: ApiAddress

    def ask(self, method: Method, fields: Mapping[str, object], login: KaggleLogin | None) -> JsonMapping:
        """One call, one answer. Names of fields are those of kagglesdk's requests."""

    def log_stream(
        self, path: str, version: str, login: KaggleLogin, idle_seconds: float
    ) -> AbstractContextManager[Iterator[str]]:
        """The payloads of the log stream as they come; each is one JSON event, or one array of all of them."""

    def open_file(self, url: str, offset: int, validator: str | None) -> AbstractContextManager[FileBody]:
        """A signed address, from ``offset`` on where the file is still the one of ``validator``, else from its beginning."""

    def put_file(self, url: str, path: Path) -> None:
        """Upload one file to the address that ``start_upload`` answered."""
