"""Downloads a model or a data file from the Hugging Face hub, and resolves its commit.

In: a repository's id and a revision (branch, tag or commit; None: the hub's default branch). Out: the local folder (or
file) and the 40-hex commit that the revision resolved to.

    folder, commit = fetch("google/gemma-2b", "flax")

Files are stored in the hub's own cache (HF_HOME, HF_HUB_CACHE), in the layout of huggingface_hub, and shared with other
programs both ways. Only what :mod:`engine.trainer.weights` reads is fetched: configuration, tokenizer, and the weights in
one format, safetensors if the revision has them, else Flax msgpack; of sharded weights the shards that the index names. A
download that was cut, or whose process was killed, resumes where it stopped; each file is checked against the hub's own
digest before it becomes visible. If the hub cannot be reached, an earlier, complete download of the same revision is
used, and an event says so.

Events: ``resolved`` {id, revision, commit, n_files, total_bytes, missing_bytes}, ``download`` {file, done_bytes,
total_bytes, bytes_per_second, seconds_left} (bytes of all files that had to be fetched), ``hub_retry`` {reason,
wait_seconds}, ``hub_offline`` {id, revision, commit}, ``hub_bad_file`` {file}.

Errors never contain a header, a token, an address with a query, or the client's own exception: a caller may print them,
their causes included.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from engine.errors import InputInvalid, RunspecError
from engine.model_config import CONFIG_FILE
from engine.protocol.events.inputs import HubBadFile, HubOffline, HubResolved
from engine.trainer.hub.cache import CommitFiles, HubCache, is_path_outside
from engine.trainer.hub.choice import INDEX, TOKENIZERS, choose_weights, index_shards, no_file, no_weights, small_files
from engine.trainer.hub.client import Body, Client, Listing, RemoteFile, Repository
from engine.trainer.hub.download import FileDownload
from engine.trainer.hub.errors import (
    branches,
    damaged_in_cache,
    explain,
    is_temporary,
    is_unreachable,
    unknown_revision,
)
from engine.trainer.hub.progress import DownloadProgress, ignore, never
from engine.trainer.hub.retry_policy import RetryPolicy
from engine.trainer.hub.secrecy import without_cause
from engine.trainer.process import Emit, Stopping

__all__ = ["Repository", "fetch", "fetch_file"]


def fetch(
    model_id: str,
    revision: str | None,
    cache: str | Path | None = None,
    *,
    emit: Emit = ignore,
    stopping: Stopping = never,
    client: Client | None = None,
    judge: Callable[[Path], object] | None = None,
) -> tuple[Path, str]:
    """A model's folder and its commit. ``cache`` None: the hub's own.

    ``judge`` is given a folder with config.json before the gigabytes of weights are fetched, and raises where they could not
    be used. Raises what it raises; InputInvalid M402 (no such model or revision), M404 (no readable weights); RemoteRefused M401 (no access), M403
    (not reachable, not in the cache), M405 (failed), M406 (wrong digest of a downloaded or a cached file); RunFailed M407
    (disk full); Interrupted M408 (``stopping`` returned True).
    """
    repository = Repository(model_id, revision, "model")
    job = _Fetch(repository, client or _default_client(), cache, emit, stopping)
    return without_cause(lambda: job.model(judge), job.explained)


def fetch_file(
    repository: Repository,
    any_of: Sequence[str],
    cache: str | Path | None = None,
    *,
    emit: Emit = ignore,
    stopping: Stopping = never,
    client: Client | None = None,
) -> tuple[Path, str]:
    """The first of the named files that the repository has, and the commit. Raises as :func:`fetch` does."""
    job = _Fetch(repository, client or _default_client(), cache, emit, stopping)
    return without_cause(lambda: job.one_file(any_of), job.explained)


def _default_client() -> Client:
    from engine.trainer.hub.hub_client import HubClient  # with huggingface_hub, which nothing else here needs

    return HubClient()


class _Fetch:
    """One fetch: its repository, client, cache and retries."""

    def __init__(
        self, repository: Repository, client: Client, cache: str | Path | None, emit: Emit, stopping: Stopping
    ) -> None:
        self.repository, self.client, self.emit = repository, client, emit
        self.cache = HubCache(Path(cache) if cache is not None else client.cache_root(), repository)
        self.retry = RetryPolicy(emit, stopping, repository)
        self.stopping = stopping

    def model(self, judge: Callable[[Path], object] | None) -> tuple[Path, str]:
        """See :func:`fetch`."""
        listing = self._listing(self._is_complete_model)
        if isinstance(listing, str):
            names = self._names(listing)
            return self._checked(listing, [*small_files(names), *self._weights(listing, names)]), listing
        weights = choose_weights(listing.files)
        if weights is None:
            raise no_weights(self.repository, listing.files, branches(self.repository, self.client))
        wanted = [*small_files(listing.files), weights]
        if weights.endswith(INDEX):
            index = self._download(listing, [weights], silent=True) / weights
            wanted += index_shards(index, listing.files, self.repository)
        if judge is not None and CONFIG_FILE in listing.files:
            judge(self._download(listing, [CONFIG_FILE], silent=True))
        return self._download(listing, wanted), listing.commit

    def one_file(self, any_of: Sequence[str]) -> tuple[Path, str]:
        """See :func:`fetch_file`."""
        listing = self._listing(lambda commit: any((self.cache.snapshot(commit) / name).is_file() for name in any_of))
        if isinstance(listing, str):
            folder = self.cache.snapshot(listing)
            name = next(name for name in any_of if (folder / name).is_file())
            return self._checked(listing, [name]) / name, listing
        for name in any_of:
            if name in listing.files:
                return self._download(listing, [name]) / name, listing.commit
        raise no_file(self.repository, any_of, listing.files)

    def _listing(self, is_complete: Callable[[str], bool]) -> Listing | str:
        """The hub's listing of the revision; the commit of an earlier download if the hub does not answer."""
        if is_path_outside(self.repository.revision):
            raise unknown_revision(self.repository, ())

        def earlier() -> str | None:
            commit = self.cache.commit_of(self.repository.revision)
            return commit if commit is not None and is_complete(commit) else None

        def is_hopeless(error: Exception) -> bool:
            """With an earlier download there is no need to retry without a network."""
            return is_unreachable(error) and earlier() is not None

        try:
            return self.retry.call(lambda: self.client.info(self.repository), is_hopeless)
        except Exception as error:
            commit = earlier() if is_unreachable(error) or is_temporary(error) else None
            if commit is None:
                raise
        self.emit(HubOffline(self.repository.id, self.repository.revision, commit))
        return commit

    def _is_complete_model(self, commit: str) -> bool:
        """Whether an earlier download is complete: configuration, tokenizer, all weights."""
        names = self._names(commit)
        try:
            has_tokenizer = not names.isdisjoint(TOKENIZERS)
            return "config.json" in names and has_tokenizer and bool(self._weights(commit, names))
        except InputInvalid:
            return False

    def _names(self, commit: str) -> set[str]:
        """The files of an earlier download."""
        folder = self.cache.snapshot(commit)
        return {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set()

    def _weights(self, commit: str, names: Collection[str]) -> list[str]:
        """The weight files of an earlier download, maybe none. Raises InputInvalid M404."""
        weights = choose_weights(names)
        if weights is None or not weights.endswith(INDEX):
            return [] if weights is None else [weights]
        return [weights, *index_shards(self.cache.snapshot(commit) / weights, names, self.repository)]

    def _checked(self, commit: str, names: Sequence[str]) -> Path:
        """The folder of an earlier download, its files checked. Raises RemoteRefused M406."""
        folder = self.cache.snapshot(commit)
        if damaged := self.cache.damaged(commit, names):
            raise damaged_in_cache(self.repository, damaged, str(folder))
        return folder

    def _download(self, listing: Listing, names: Sequence[str], *, silent: bool = False) -> Path:
        """Fetch the missing ones of these files; returns the snapshot's folder."""
        files = [self._with_size(listing, name) for name in names]
        missing = [file for file in files if not self.cache.has(listing.commit, file, self._bad_file)]
        progress = DownloadProgress(self.emit, missing)
        if not silent:
            self.emit(
                HubResolved(
                    id=self.repository.id,
                    revision=self.repository.revision,
                    commit=listing.commit,
                    n_files=len(files),
                    total_bytes=sum(file.size for file in files),
                    missing_bytes=progress.total,
                )
            )
        self.cache.check_space(missing)

        def open_file(name: str, start: int) -> AbstractContextManager[Body]:
            return self.client.open(self.repository, listing.commit, name, start)

        files_of_commit = CommitFiles(self.cache, listing.commit)
        for file in missing:
            FileDownload(self.repository, open_file, files_of_commit, self.retry, progress).run(file)
        self.cache.note_revision(self.repository.revision, listing.commit)
        return self.cache.snapshot(listing.commit)

    def _with_size(self, listing: Listing, name: str) -> RemoteFile:
        """The file with its size and digest, requested by itself if the listing lacks them."""
        return listing.files[name] or self.retry.call(lambda: self.client.stat(self.repository, listing.commit, name))

    def _bad_file(self, file: RemoteFile) -> None:
        self.emit(HubBadFile(file.name))

    def explained(self, error: Exception) -> RunspecError:
        """The client's error as one of ours; for an unknown revision with the existing ones."""
        return explain(error, self.repository, self.client)
