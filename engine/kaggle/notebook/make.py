"""Spec -> notebook: the one function, and what it is asked for.

In: the Spec, a :class:`NotebookRequest`. Out: a :class:`Notebook`. A pure function of the two, of the files that the spec names and of the engine.
Raises InputInvalid: G101 (too large), G102 (a request that contradicts itself), G103 to G105 (:mod:`engine.kaggle.notebook.project_files`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from engine import __version__
from engine.errors import InputInvalid, Where
from engine.kaggle.notebook.cells import cells, digest_of, document
from engine.kaggle.notebook.embed import DOCUMENTS, PackedFiles, pack, packed_engine
from engine.kaggle.notebook.first_cell import MESSAGES
from engine.kaggle.notebook.project_files import project_files
from engine.kaggle.session.devices import Expected
from engine.kaggle.session.mounts import n_parts
from engine.preflight.targets import target_named
from engine.protocol.deadline import seconds_of
from engine.runspec.model import Spec, comes_from_hub, needs_token

MOST_BYTES = 950_000  # Kaggle refuses a source of 1 MB


@dataclass(frozen=True, slots=True)
class NotebookRequest:
    """What the spec does not say.

    ``nonce``: printed early in the session's log; ``earlier``: ``owner/slug/version`` whose output the run continues from;
    ``wheel_dataset``: ``owner/slug`` that has the engine's wheel, instead of the engine in the notebook; ``offline``: packages come from
    a wheelhouse there, too; ``target``: the machine whose devices are asserted; ``data_files``: (path in the project, name in ``data_dataset``, SHA-256) of
    files that the session copies from that dataset, which are left out of the notebook.
    """

    nonce: str | None = None
    session_limit: str | None = None
    earlier: str | None = None
    overrides: tuple[str, ...] = ()
    wheel_dataset: str | None = None
    offline: bool = False
    target: str | None = None
    data_dataset: str | None = None
    data_files: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Notebook:
    """``text``: the .ipynb; ``cells_sha256``: what its outcome says where nobody has changed a cell."""

    text: str
    sha256: str
    n_bytes: int
    engine_sha256: str
    cells_sha256: str


def make_notebook(
    spec: Spec, request: NotebookRequest, is_built_in: Callable[[str], bool] = lambda _: True
) -> Notebook:
    """The notebook of a run-spec, the same bytes for the same engine, spec and request."""
    _check_request(request)
    elsewhere = {path for path, _, _ in request.data_files}
    files = {path: data for path, data in project_files(spec, is_built_in).items() if path not in elsewhere}
    engine, project = packed_engine(), pack(files)
    made = cells(_values(spec, request, engine, project))
    text = document(made)
    data = text.encode()
    if len(data) > MOST_BYTES:
        raise _too_large(spec, request, len(data), {name: len(content) for name, content in files.items()})
    return Notebook(text, hashlib.sha256(data).hexdigest(), len(data), engine.sha256, digest_of(made))


def _check_request(request: NotebookRequest) -> None:
    if request.offline and request.wheel_dataset is None:
        raise InputInvalid("G102", "--offline needs the dataset that has the engine's wheel and those of its packages",
                           hint="--offline --wheel-dataset OWNER/SLUG")  # fmt: skip
    if request.wheel_dataset is not None and n_parts(request.wheel_dataset) != 2:
        raise InputInvalid(
            "G102", f'"{request.wheel_dataset}" is not the name of a dataset', hint="--wheel-dataset OWNER/SLUG"
        )
    if request.earlier is not None and n_parts(request.earlier) not in (2, 3):
        raise InputInvalid(
            "G102", f'"{request.earlier}" is not the name of a notebook', hint="--continue-from OWNER/NAME"
        )
    try:
        seconds_of(request.session_limit or "1s")
    except ValueError as error:
        raise InputInvalid("G102", f"--session-limit: {error}", hint="--session-limit 8h30m") from error


def _values(spec: Spec, request: NotebookRequest, engine: PackedFiles, project: PackedFiles) -> dict[str, object]:
    return {
        "version": __version__,
        "run_version": spec.run_version,
        "notes": spec.notes,
        "spec_path": spec_path(spec),
        "spec_text": spec.data.decode("utf-8-sig"),
        "overrides": list(request.overrides) or [override.text for override in spec.overrides],
        "session_limit": request.session_limit or spec.session.limit,
        "engine": engine,
        "project": project,
        "wheel_dataset": request.wheel_dataset,
        "documents": DOCUMENTS,
        "messages": MESSAGES,
        "wheelhouse": request.wheel_dataset if request.offline else None,
        "needs_token": needs_token(spec),
        "hub_model": spec.model.id if comes_from_hub(spec.model) else None,
        "expected": expected_devices(spec, request.target),
        "nonce": request.nonce,
        "earlier": request.earlier,
        "data_dataset": request.data_dataset,
        "data_files": list(request.data_files),
    }


def spec_path(spec: Spec) -> str:
    """Where the spec lies in the project of the session."""
    return spec.path.relative_to(spec.root).as_posix() if spec.path.is_relative_to(spec.root) else spec.path.name


def expected_devices(spec: Spec, target: str | None) -> dict[str, object] | None:
    """The devices that the plan was made for. Raises InputInvalid U116 for an unknown target, G106 for one that nobody gets."""
    if target is None:
        return None if spec.device == "auto" else Expected("", spec.device).as_json()
    machine = target_named(target)
    if machine.retired is not None:
        raise InputInvalid(
            "G106",
            f"nobody gets {target} any more: {machine.retired.fact.says}",
            hint=f"--target {machine.retired.instead}",
        )
    if machine.is_here:
        return Expected(target, machine.machine.platform).as_json()
    return Expected(target, machine.machine.platform, machine.machine.kind, machine.devices).as_json()


def _too_large(spec: Spec, request: NotebookRequest, n_bytes: int, sizes: dict[str, int]) -> InputInvalid:
    largest = ", ".join(f"{name} ({size:,} bytes)" for name, size in sorted(sizes.items(), key=lambda row: -row[1])[:3])
    ways = [] if request.wheel_dataset else ["--wheel-dataset OWNER/SLUG takes the engine out of the notebook"]
    ways.append(
        f"of the project the largest are {largest}: `runspec kaggle run {spec_path(spec)} --upload-data` puts them into a private dataset\n"
        "or upload large rows as a dataset of the hub, and name it: dataset: {hub: owner/name}"
    )
    return InputInvalid("G101", f"the notebook would have {n_bytes:,} bytes; Kaggle takes less than 1,000,000, and {MOST_BYTES:,} is the limit here",
                        where=Where(spec_path(spec)), hint="\n".join(ways))  # fmt: skip
