"""The project's files as a private dataset, where they are too large for a notebook: named by their own digest, so uploaded once.

In: a run-spec whose rows or eval set are files here. Out: the dataset's ``owner/slug`` and (path, name there, SHA-256) of each file. The session
copies them from its mount and refuses other bytes. The dataset is made once: after a cut, a kill or a doubtful answer it is looked up first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.artifacts.refusals import explained_reading
from engine.canonical import digest_file, digest_json
from engine.errors import InputInvalid, RemoteRefused
from engine.kaggle.driver.api.answers import Refusal, short, text_of
from engine.kaggle.driver.api.connection import Kaggle
from engine.kaggle.driver.api.pacing import CALLS, RECONCILE
from engine.kaggle.driver.api.refusals import explained, explaining
from engine.protocol.figures import size
from engine.runspec.model import Spec

TRIES = 4
MOST_LOOKS = 60  # half an hour for the platform to make a dataset ready
LICENSE = "unknown"  # private: nobody is given anything


@dataclass(frozen=True, slots=True)
class ProjectData:
    """``files``: (path in the project, name in the dataset, SHA-256)."""

    dataset: str
    files: tuple[tuple[str, str, str], ...]


def upload_data(kaggle: Kaggle, spec: Spec) -> ProjectData:
    """Raises InputInvalid G228 where the run-spec names no file, RemoteRefused G227 and what a refused call is, RunFailed R112."""
    paths = list(dict.fromkeys(_named(spec)))
    if not paths:
        raise InputInvalid("G228", "--upload-data: the run-spec names no file of this machine", hint="leave it out")
    with explained_reading(spec.root):
        files = tuple((path, path.replace("/", "__"), digest_file(spec.resolve(path))) for path in paths)
    slug = f"runspec-data-{digest_json(files)[:16]}"
    data = ProjectData(f"{kaggle.user}/{slug}", files)
    with explaining(f"the dataset {data.dataset}", kaggle.login):
        if _status(kaggle, slug) is None:
            _make(kaggle, spec, slug, files)
        _wait_until_ready(kaggle, data.dataset, slug)
    return data


def _named(spec: Spec) -> Iterator[str]:
    yield spec.eval_set
    if spec.dataset.path is not None and spec.dataset.hub is None:
        yield spec.dataset.path


def _status(kaggle: Kaggle, slug: str) -> str | None:
    """The platform's word for it; None where there is no such dataset."""
    try:
        answer = kaggle.ask("dataset_status", owner_slug=kaggle.user, dataset_slug=slug)
    except Refusal as refusal:
        if refusal.kind == "missing":
            return None
        raise
    return text_of(answer, "status") or "unknown"


def _make(kaggle: Kaggle, spec: Spec, slug: str, files: Sequence[tuple[str, str, str]]) -> None:
    paths = [spec.resolve(path) for path, _, _ in files]
    kaggle.note(
        f"uploading {len(files)} files, {size(sum(path.stat().st_size for path in paths))}, as the private dataset {slug}"
    )
    tokens = [_uploaded(kaggle, path, name) for path, (_, name, _) in zip(paths, files, strict=True)]
    for number in range(TRIES):
        try:
            answer = kaggle.ask("create_dataset", owner_slug=kaggle.user, slug=slug, title=slug.replace("-", " "), license_name=LICENSE,
                                is_private=True, files=tokens)  # fmt: skip
        except Refusal as refusal:
            if not refusal.is_passing or number == TRIES - 1:
                raise
            kaggle.clock.sleep(max(RECONCILE.seconds(number, kaggle.clock.jitter()), refusal.wait or 0.0))
            if _status(kaggle, slug) is not None:  # it was made, and the answer was lost
                return
            continue
        error = text_of(answer, "error")
        if error or answer.get("hasError"):
            raise RemoteRefused("G227", f"Kaggle does not make the dataset {slug}: {short(error) or 'no reason is given'}",
                                hint="nothing was pushed; look at kaggle.com/datasets, Your Work")  # fmt: skip
        return


def _uploaded(kaggle: Kaggle, path: Path, name: str) -> str:
    """The token of a file that has arrived; a broken upload begins anew, with an address of its own."""
    about = path.stat()
    for number in range(TRIES):
        try:
            answer = kaggle.ask("start_upload", type="DATASET", name=name, content_length=about.st_size,
                                last_modified_epoch_seconds=int(about.st_mtime))  # fmt: skip
            kaggle.wire.put_file(text_of(answer, "createUrl"), path)
            return text_of(answer, "token")
        except Refusal as refusal:
            problem = refusal
        kaggle.clock.sleep(max(CALLS.seconds(number, kaggle.clock.jitter()), problem.wait or 0.0))
    raise explained(problem, f"the upload of {name}", kaggle.login)


def _wait_until_ready(kaggle: Kaggle, dataset: str, slug: str) -> None:
    """A push before that would run without it."""
    for _ in range(MOST_LOOKS):
        if (_status(kaggle, slug) or "").lower() == "ready":
            return
        kaggle.clock.sleep(RECONCILE.most)
    raise RemoteRefused("G227", f"Kaggle has not made the dataset {dataset} ready in half an hour",
                        hint="look at its page; the same command looks again, and uploads nothing twice")  # fmt: skip
