"""A model on Kaggle: its folder on this machine, fetched if need be, and the digests of the files that are read.

In: a :class:`~engine.protocol.kaggle_models.KaggleModel`. Out: the folder, and what the run records of it: the five parts of the name, whether the
folder is a mount or of the cache, and the SHA-256 of each file.

    fetched = fetch_kaggle(parse_kaggle_model("google/gemma/transformers/2b/3"))
    fetched.folder, fetched.facts["files"]["config.json"]

In this order: the mount of a session (both layouts), kagglehub's cache, a mount that the session is asked to make, a download into that cache. Only files that are read are fetched and
digested, so that the record is the same whichever it was.

``files``        which files of a folder, or of Kaggle's list, are read
``cache``        the layout of kagglehub's cache, with digests of ours
``archive``      the archive of a version with many files
``rest``         the requests to Kaggle; ``transport``: one HTTP request
``attaching``    a session attaches a model to itself
``errors``       what a person reads; ``source``: its words
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from engine.canonical import digest_file, digest_json
from engine.errors import RunspecError
from engine.model_config import CONFIG_FILE
from engine.protocol.events.base import Note
from engine.protocol.events.inputs import HubBadFile
from engine.protocol.figures import size
from engine.protocol.kaggle_api import ApiAddress, api_address
from engine.protocol.kaggle_logins import KaggleLogin, check_same_user, find_logins
from engine.protocol.kaggle_models import KaggleModel, Place, cached_folder, found_model, in_session
from engine.trainer.hub.cache import check_space
from engine.trainer.hub.client import RemoteFile
from engine.trainer.hub.download import FileCache, FileDownload
from engine.trainer.hub.errors import is_temporary, is_unreachable
from engine.trainer.hub.kaggle.archive import take_out
from engine.trainer.hub.kaggle.attaching import attach
from engine.trainer.hub.kaggle.cache import ArchivePlace, KaggleCache
from engine.trainer.hub.kaggle.errors import bad_archive, damaged, explain, not_mounted
from engine.trainer.hub.kaggle.files import names_below, wanted_files
from engine.trainer.hub.kaggle.rest import KaggleApi
from engine.trainer.hub.kaggle.source import KaggleSource
from engine.trainer.hub.progress import DownloadProgress, ignore, never
from engine.trainer.hub.retry_policy import RetryPolicy
from engine.trainer.hub.secrecy import without_cause
from engine.trainer.process import Emit, Stopping

__all__ = ["FetchedModel", "fetch_kaggle"]

MOST_FILES_ONE_BY_ONE = 25  # of more the archive is fetched, as kagglehub does
Judge = Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class FetchedModel:
    """The folder; ``place``: whose it is; ``files``: name -> SHA-256 of those that are read."""

    model: KaggleModel
    folder: Path
    place: Place
    files: Mapping[str, str]

    @property
    def facts(self) -> dict[str, Any]:
        """For the record."""
        return {**self.model.parts(), "place": self.place, "files": dict(self.files)}

    @property
    def digest(self) -> str:
        """One for all files: of the JSON of name -> digest."""
        return digest_json(self.files)


def fetch_kaggle(
    model: KaggleModel,
    *,
    emit: Emit = ignore,
    stopping: Stopping = never,
    judge: Judge | None = None,
    environ: Mapping[str, str] | None = None,
) -> FetchedModel:
    """The model's folder. ``judge`` is given a folder with config.json before gigabytes of weights are fetched, and raises where they cannot be used.

    Raises what it raises; InputInvalid M404 (no weights that are read), M410 (a session without the mount), M413 (no such model or version), M415 (credentials
    that cannot be used), M416; RemoteRefused M403 (not reachable), M405 (failed), M406 (other bytes than Kaggle lists), M411 (credentials refused, or
    none), M412 (licence not accepted), M414 (archive); RunFailed M407 (disk full); Interrupted M408.
    """
    job = _Fetch(KaggleSource(model), emit, stopping)
    return without_cause(partial(job.find, judge, environ), job.explained)


def _present(source: KaggleSource, folder: Path, place: Place) -> FetchedModel:
    """A folder that is there, its files digested."""
    names = wanted_files(names_below(folder), lambda name: folder / name, source)
    return FetchedModel(source.model, folder, place, {name: digest_file(folder / name) for name in names})


def _again(model: KaggleModel, folder: Path, noted: Mapping[str, str]) -> FetchedModel:
    """What the engine has fetched before, digested again; files that are gone are left out."""
    present = [name for name in noted if (folder / name).is_file()]
    return FetchedModel(model, folder, "cache", {name: digest_file(folder / name) for name in present})


def _changed(fetched: FetchedModel, noted: Mapping[str, str]) -> list[str]:
    return [name for name, digest in noted.items() if fetched.files.get(name) != digest]


def _amount(fetched: FetchedModel) -> str:
    total = sum((fetched.folder / name).stat().st_size for name in fetched.files)
    return f"{len(fetched.files)} file{'s' * (len(fetched.files) != 1)}, {size(total)}"


class _Fetch:
    """One model: its source, and for a download the requests, the cache and the retries."""

    def __init__(self, source: KaggleSource, emit: Emit, stopping: Stopping) -> None:
        self.source, self.emit = source, emit
        self.retry = RetryPolicy(emit, stopping, source)
        self.api = KaggleApi(ApiAddress(), None)

    def find(self, judge: Judge | None, environ: Mapping[str, str] | None) -> FetchedModel:
        """See :func:`fetch_kaggle`. The environment has secrets, and no frame of an error that gets out has it."""
        environ = os.environ if environ is None else environ
        source, found = self.source, found_model(self.source.model, environ)
        if found is not None and found.place == "mount":
            return self._mounted(found.folder)
        self.cache, changed = KaggleCache(cached_folder(source.model, environ)), list[str]()
        if found is not None:
            noted = self.cache.noted()
            fetched = (
                _present(source, found.folder, "cache") if noted is None else _again(source.model, found.folder, noted)
            )
            changed = [] if noted is None else _changed(fetched, noted)
            if not changed:
                self.emit(Note(f"{source.id} is in the cache: {_amount(fetched)}"))
                return fetched
        logins = find_logins(environ)
        if not logins and in_session(environ):
            self.emit(Note(f"{source.id} is not mounted in this session: Kaggle is asked to attach it"))
            found = found_model(source.model, environ) if attach(source, environ, self.retry) else None
            if found is None:
                raise not_mounted(source)
            return self._mounted(found.folder)
        self.api = KaggleApi(api_address(environ), logins[0] if logins else None)
        self._check_user(logins)
        return self.again(changed, judge) if changed else self.model(judge)

    def _check_user(self, logins: Sequence[KaggleLogin]) -> None:
        """Raises UnusableLogin where other credentials here are another user's, who may have another licence."""
        if not any(login.user for login in logins[1:]):
            return
        user = self.retry.call(self.api.user) if logins[0].kind == "token" else logins[0].user
        if user is not None:
            check_same_user(logins, user)

    def _mounted(self, folder: Path) -> FetchedModel:
        fetched = _present(self.source, folder, "mount")
        self.emit(Note(f"{self.source.id} is mounted in this session: {_amount(fetched)}"))
        return fetched

    def explained(self, error: Exception) -> RunspecError:
        """An error as one of ours."""
        return explain(error, self.source, self.api)

    def again(self, names: list[str], judge: Judge | None) -> FetchedModel:
        """Fetch files again that have changed in the cache. Raises RemoteRefused M406 where Kaggle does not give them."""
        try:
            listing = self._listing()
        except Exception as error:
            if not is_unreachable(error) and not is_temporary(error):
                raise
            raise damaged(self.source, names, str(self.cache.folder)) from None
        for name in names:
            self.emit(HubBadFile(name))
        self.cache.remove(names)
        return self._fetched(listing, judge)

    def model(self, judge: Judge | None) -> FetchedModel:
        """Fetch what is not there yet."""
        return self._fetched(self._listing(), judge)

    def _listing(self) -> dict[str, int]:
        """Name -> bytes. Raises ValueError for a name that leads out of the folder."""
        listing = self.retry.call(lambda: self.api.files(self.source.model))
        if not all(map(_is_inside, listing)):
            raise ValueError("a file that leads out of its folder is listed")
        return listing

    def _fetched(self, listing: Mapping[str, int], judge: Judge | None) -> FetchedModel:
        wanted = wanted_files(listing, lambda name: self._single(listing, name), self.source)
        if judge is not None and CONFIG_FILE in wanted:
            judge(self._single(listing, CONFIG_FILE).parent)
        missing = [name for name in wanted if not self.cache.has(name)]
        if len(missing) > MOST_FILES_ONE_BY_ONE:
            self._by_archive(missing)
        else:
            self._download([self._remote(listing, name) for name in missing], self.cache, by_name=True)
        self.cache.note_digests(wanted, are_all=set(wanted) == set(listing))
        fetched = FetchedModel(self.source.model, self.cache.folder, "cache", self.cache.noted() or {})
        self.emit(Note(f"{self.source.id} is fetched: {_amount(fetched)}"))
        return fetched

    def _single(self, listing: Mapping[str, int], name: str) -> Path:
        """A small file that decides on the others, fetched before them."""
        if not self.cache.has(name):
            self._download([self._remote(listing, name)], self.cache, by_name=True)
        return self.cache.folder / name

    def _remote(self, listing: Mapping[str, int], name: str | None) -> RemoteFile:
        """With the size that Kaggle lists, where it lists one."""
        file = self.retry.call(lambda: self.api.stat(self.source.model, name))
        return replace(file, size=(listing.get(name) if name else None) or file.size)

    def _by_archive(self, missing: list[str]) -> None:
        """Fetch the archive of all files, and take out those that are missing. Raises RemoteRefused M414."""
        self._download([self._remote({}, None)], ArchivePlace(self.cache), by_name=False)
        none = partial(RemoteFile, size=0, etag="")
        problem = take_out(
            self.cache.archive,
            missing,
            lambda name: self.cache.partial(none(name)),
            lambda name: self.cache.publish(none(name)),
        )
        self.cache.archive.unlink(missing_ok=True)
        if problem is not None:
            raise bad_archive(self.source, problem)

    def _download(self, files: list[RemoteFile], place: FileCache, *, by_name: bool) -> None:
        check_space(self.source, self.cache.folder, files, place.partial)
        progress = DownloadProgress(self.emit, files)
        for file in files:
            opener = partial(self._open, by_name=by_name)
            FileDownload(self.source, opener, place, self.retry, progress).run(file)

    def _open(self, name: str, start: int, *, by_name: bool) -> Any:
        return self.api.open(self.source.model, name if by_name else None, start)


def _is_inside(name: str) -> bool:
    """Whether a listed name is a path inside the folder.

    >>> _is_inside("2b/d/0a"), _is_inside("../x"), _is_inside("/etc/passwd")
    (True, False, False)
    """
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\\" not in name and str(path) == name
