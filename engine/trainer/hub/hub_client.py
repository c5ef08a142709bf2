"""The requests to the hub by huggingface_hub. Imported on the first request: it takes a moment.

In: a :class:`~engine.trainer.hub.client.Repository`. Out: plain values; the library's exceptions pass through and are
explained by :mod:`engine.trainer.hub.errors`. Its session (proxies, certificates, offline mode), its token and its
endpoint are used as the user configured them: HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, HF_HUB_DOWNLOAD_TIMEOUT.

Why not its ``hf_hub_download``: since version 2 it keeps no partial file, so that a killed process starts 5 GB over, and
it does not check the received bytes against the digest. Bytes come by plain HTTPS from the ``resolve`` address, which
every repository has: neither hf_xet nor hf_transfer is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, get_hf_file_metadata, get_token, hf_hub_url
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # exported lazily, which mypy cannot see
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from engine.trainer.hub.client import COMMIT, Body, Listing, RangeRefused, RemoteFile, Repository


class HubClient:
    """:class:`Client` on huggingface_hub. ``endpoint`` None: HF_ENDPOINT, or the public hub."""

    def __init__(self, endpoint: str | None = None) -> None:
        self._endpoint = endpoint

    def info(self, repository: Repository) -> Listing:
        """See :class:`Client`."""
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
        metadata = get_hf_file_metadata(self._address_of(repository, commit, name), endpoint=self._endpoint)
        if metadata.etag is None or metadata.size is None:
            raise ValueError("the hub does not list size and digest")
        return RemoteFile(name, metadata.size, metadata.etag)

    @contextmanager
    def open(self, repository: Repository, commit: str, name: str, start: int) -> Iterator[Body]:
        """See :class:`Client`. The session drops the token on a redirect to another host."""
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
        refs = HfApi(endpoint=self._endpoint).list_repo_refs(repository.id, repo_type=repository.kind)
        return [ref.name for ref in (*refs.branches, *refs.tags)]

    def cache_root(self) -> Path:
        """See :class:`Client`."""
        return Path(constants.HF_HUB_CACHE)

    def address(self) -> str:
        """See :class:`Client`."""
        parts = urlsplit(self._endpoint or constants.ENDPOINT)
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"

    def has_token(self) -> bool:
        """See :class:`Client`."""
        try:
            return bool(get_token())
        except OSError:  # the token file cannot be read: HF_HOME is not a folder, or another user's
            return False

    def _address_of(self, repository: Repository, commit: str, name: str) -> str:
        return hf_hub_url(repository.id, name, repo_type=repository.kind, revision=commit, endpoint=self._endpoint)


def _remote_file(sibling: RepoSibling) -> RemoteFile | None:
    """Size and digest as listed: those of a large file itself, not of its pointer in git."""
    size, etag = (sibling.size, sibling.blob_id) if sibling.lfs is None else (sibling.lfs.size, sibling.lfs.sha256)
    return RemoteFile(sibling.rfilename, size, etag) if size is not None and etag else None
