"""A small interface to huggingface_hub, which is imported on the first request.

In: a :class:`Repository`. Out: plain values; the library's exceptions pass through and are explained by
:mod:`engine.trainer.hub.errors`. Its session (proxies, certificates, offline mode), its token and its endpoint are used
as the user configured them: HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, HF_HUB_DOWNLOAD_TIMEOUT.

Why not its ``hf_hub_download``: since version 2 it keeps no partial file, so that a killed process starts 5 GB over, and
it does not check the received bytes against the digest. Bytes come by plain HTTPS from the ``resolve`` address, which
every repository has: neither hf_xet nor hf_transfer is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

COMMIT = re.compile(r"[0-9a-f]{40}")
Kind = Literal["model", "dataset"]


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
    def id_key(self) -> str:
        """The run-spec key that names it."""
        return "model.id" if self.kind == "model" else "dataset.hub"

    @property
    def revision_key(self) -> str:
        """The run-spec key that names the revision."""
        return f"{self.kind}.revision"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """``size`` in bytes; ``etag`` is the digest: SHA-256 of a large file's bytes, git's blob id of a small one."""

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
    """The bytes of a file from ``start`` on: the requested offset, or 0 if the server sends the full file."""

    start: int
    chunks: Iterator[bytes]


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


class HubClient:
    """:class:`Client` on huggingface_hub. ``endpoint`` None: HF_ENDPOINT, or the public hub."""

    def __init__(self, endpoint: str | None = None) -> None:
        self._endpoint = endpoint

    def info(self, repository: Repository) -> Listing:
        """See :class:`Client`."""
        from huggingface_hub import HfApi, constants

        info = HfApi(endpoint=self._endpoint).repo_info(
            repository.id,
            revision=repository.revision,
            repo_type=repository.kind,
            files_metadata=True,
            timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        )
        siblings = getattr(info, "siblings", None) or []
        files = {sibling.rfilename: _remote_file(sibling) for sibling in siblings}
        if not COMMIT.fullmatch(str(info.sha)):
            raise ValueError("the hub names no commit")
        return Listing(str(info.sha), files)

    def stat(self, repository: Repository, commit: str, name: str) -> RemoteFile:
        """See :class:`Client`."""
        from huggingface_hub import get_hf_file_metadata

        metadata = get_hf_file_metadata(self._address_of(repository, commit, name), endpoint=self._endpoint)
        if metadata.etag is None or metadata.size is None:
            raise ValueError("the hub does not list size and digest")
        return RemoteFile(name, metadata.size, metadata.etag)

    @contextmanager
    def open(self, repository: Repository, commit: str, name: str, start: int) -> Iterator[Body]:
        """See :class:`Client`. The session drops the token on a redirect to another host."""
        from huggingface_hub import constants
        from huggingface_hub.utils import (  # type: ignore[attr-defined]  # exported lazily, which mypy cannot see
            build_hf_headers,
            get_session,
            hf_raise_for_status,
        )

        # With compression, offsets and sizes would be those of the compressed bytes.
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        address, timeout = self._address_of(repository, commit, name), constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", address, headers=headers, timeout=timeout) as response:
            hf_raise_for_status(response)
            is_part = response.status_code == 206
            if is_part and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise RangeRefused
            yield Body(start if is_part else 0, response.iter_bytes())

    def branches(self, repository: Repository) -> list[str]:
        """See :class:`Client`."""
        from huggingface_hub import HfApi

        refs = HfApi(endpoint=self._endpoint).list_repo_refs(repository.id, repo_type=repository.kind)
        return [ref.name for ref in (*refs.branches, *refs.tags)]

    def cache_root(self) -> Path:
        """See :class:`Client`."""
        from huggingface_hub import constants

        return Path(constants.HF_HUB_CACHE)

    def address(self) -> str:
        """See :class:`Client`."""
        from urllib.parse import urlsplit

        from huggingface_hub import constants

        parts = urlsplit(self._endpoint or constants.ENDPOINT)
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"

    def has_token(self) -> bool:
        """See :class:`Client`."""
        from huggingface_hub import get_token

        try:
            return bool(get_token())
        except OSError:  # the token file cannot be read: HF_HOME is not a folder, or another user's
            return False

    def _address_of(self, repository: Repository, commit: str, name: str) -> str:
        from huggingface_hub import hf_hub_url

        return hf_hub_url(repository.id, name, repo_type=repository.kind, revision=commit, endpoint=self._endpoint)


def _remote_file(sibling: Any) -> RemoteFile | None:
    """Size and digest as listed: those of a large file itself, not of its pointer in git."""
    size, etag = (sibling.size, sibling.blob_id) if sibling.lfs is None else (sibling.lfs.size, sibling.lfs.sha256)
    return RemoteFile(sibling.rfilename, size, etag) if size is not None and etag else None
