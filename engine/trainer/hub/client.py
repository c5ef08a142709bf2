"""The requests to the hub, as an interface, and the values they return.

In: a :class:`Repository`. Out: plain values. :class:`engine.trainer.hub.hub_client.HubClient` sends the requests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

COMMIT = re.compile(r"[0-9a-f]{40}")
Kind = Literal["model", "dataset"]


class Source(Protocol):
    """What is fetched, and the words of the messages about it."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def at(self) -> str:
        """Its name and version, in a sentence."""

    @property
    def host(self) -> str:
        """Who has it, in a sentence."""

    @property
    def cache_variable(self) -> str:
        """The variable that moves the cache it is kept in."""

    @property
    def choice(self) -> str:
        """What else can be named where this one does not have what is needed."""


@dataclass(frozen=True, slots=True)
class Repository:
    """Which repository, at which revision (None: the default branch)."""

    id: str
    revision: str | None
    kind: Kind

    @property
    def at(self) -> str:
        """``google/gemma-2b at revision flax``."""
        return f"{self.id} at revision {self.revision}" if self.revision else f"{self.id} at its default revision"

    @property
    def host(self) -> str:
        """See :class:`Source`."""
        return "the hub"

    @property
    def cache_variable(self) -> str:
        """See :class:`Source`."""
        return "HF_HOME"

    @property
    def choice(self) -> str:
        """See :class:`Source`."""
        return "revision"

    @property
    def id_key(self) -> str:
        """The run-spec key that names it."""
        return "model.id" if self.kind == "model" else "dataset.hub"

    @property
    def revision_key(self) -> str:
        """The run-spec key that names the revision."""
        return f"{self.kind}.revision"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """``size`` in bytes; ``etag`` is the digest: SHA-256 of a large file's bytes, git's blob id of a small one; of Kaggle MD5, or "" for none."""

    name: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The commit of a revision and its files; None: the hub did not list size and digest."""

    commit: str
    files: Mapping[str, RemoteFile | None]


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes of a file from ``start`` on: the requested offset, or 0 if the server sends the full file; ``total``: its size, where it is told."""

    start: int
    chunks: Iterator[bytes]
    total: int | None = None


class RangeRefused(Exception):
    """The server has sent another range than the requested one."""


class Client(Protocol):
    """The requests to the hub."""

    def info(self, repository: Repository) -> Listing:
        """The commit and the files of the revision."""

    def stat(self, repository: Repository, commit: str, name: str) -> RemoteFile:
        """Size and digest of one file."""

    def open(self, repository: Repository, commit: str, name: str, start: int) -> AbstractContextManager[Body]:
        """The bytes of one file from ``start`` on."""

    def branches(self, repository: Repository) -> list[str]:
        """The branches and tags that exist."""

    def cache_root(self) -> Path:
        """The folder of the hub's own cache."""

    def address(self) -> str:
        """The hub's address, without anything secret in it."""

    def has_token(self) -> bool:
        """Whether requests carry a token."""
