"""What is pushed: the notebook's name, its machine, its sources, its time, the notebook itself with a nonce of its own.

In: a run-spec and what the person asked for. Out: the facts of the event ``planned``, after the notebook is on disk: from then on nothing about
the push is decided again, so that a driver that was killed sends the same bytes.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from engine.artifacts.store import explain_os_error
from engine.canonical import JsonObject, digest_text, write_atomic
from engine.errors import InputInvalid
from engine.kaggle.driver.accelerators import HOUR, Accelerator, accelerator_for
from engine.kaggle.driver.api.answers import Quota
from engine.kaggle.driver.api.names import NotebookName, name_for
from engine.kaggle.driver.request import PushRequest
from engine.kaggle.driver.story import Attempt, PushStory
from engine.kaggle.driver.upload import ProjectData
from engine.kaggle.notebook import MOST_BYTES, NotebookRequest, make_notebook
from engine.protocol.deadline import in_words, seconds_of
from engine.runspec.model import Spec

DEFAULT_LIMIT_SECONDS = int(8.5 * HOUR)  # the platform's own limit was 9 hours at its shortest
GRACE_SECONDS = HOUR // 2  # from our own deadline to the platform's: setting up, packaging, a slow save
SHORTEST_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Times:
    """``limit``: when the run stops by itself; ``session``: when the platform may end it. Seconds."""

    limit: int
    session: int


def machine_of(spec: Spec, request: PushRequest) -> Accelerator:
    """Raises InputInvalid G223, G225."""
    return accelerator_for(spec.device, request.target)


def times_of(spec: Spec, request: PushRequest, machine: Accelerator, quota: Quota | None) -> Times:
    """What was declared, or what the platform and the week's quota allow. Raises InputInvalid G226."""
    declared = request.session_limit or spec.session.limit
    if declared is None:
        left = quota.left_seconds if quota else float(DEFAULT_LIMIT_SECONDS)
        limit = int(min(DEFAULT_LIMIT_SECONDS, max(left - GRACE_SECONDS, SHORTEST_SECONDS)))
        return Times(limit, limit + GRACE_SECONDS)
    try:
        limit = int(seconds_of(declared))
    except ValueError as error:
        raise InputInvalid("G226", f"--session-limit: {error}", hint="--session-limit 8h30m") from error
    longest = machine.most_seconds - GRACE_SECONDS
    if not SHORTEST_SECONDS <= limit <= longest:
        raise InputInvalid(
            "G226",
            f"a session limit of {in_words(limit)} does not fit {machine.target}: from {in_words(SHORTEST_SECONDS)} to "
            f"{in_words(longest)}, which leaves time for setting up and packaging before the platform ends it",
            hint=f"--session-limit {in_words(min(max(limit, SHORTEST_SECONDS), longest))}",
        )
    return Times(limit, limit + GRACE_SECONDS)


def plan(
    spec: Spec,
    request: PushRequest,
    story: PushStory,
    *,
    user: str,
    quota: Quota | None,
    is_built_in: Callable[[str], bool],
    data: ProjectData | None = None,
) -> JsonObject:
    """Make the notebook, put it on disk, return the facts. Raises InputInvalid G1xx, G202, G222 to G226, RunFailed R101 to R103."""
    machine, chain = machine_of(spec, request), chain_of(story, spec)
    name = chain[-1].name if chain and not request.notebook else name_for(spec.run_version, request.notebook, user)
    earlier = (
        chain[-1] if chain and chain[-1].name == name else None
    )  # only its own notebook's output is surely what was left
    times, nonce = times_of(spec, request, machine, quota), secrets.token_hex(16)
    notebook = make_notebook(
        spec,
        NotebookRequest(
            nonce=nonce,
            session_limit=f"{times.limit}s",
            earlier=f"{name}/{earlier.version}" if earlier else None,
            overrides=request.typed,
            wheel_dataset=request.wheel_dataset,
            offline=request.offline,
            target=machine.target,
            data_dataset=data.dataset if data else None,
            data_files=data.files if data else (),
        ),
        is_built_in,
    )
    text = pushed_text(notebook.text)
    path = story.notebook(nonce)
    try:
        write_atomic(path, text)
    except OSError as error:
        raise explain_os_error(error, path) from error
    return {
        "number": len(story.attempts) + 1,
        "options": request.options(),
        "nonce": nonce,
        "notebook_sha256": digest_text(text),
        "notebook_sha256_of_cells": notebook.cells_sha256,
        "notebook_bytes": len(text.encode()),
        "engine_sha256": notebook.engine_sha256,
        "spec": spec.path.relative_to(spec.root).as_posix() if spec.path.is_relative_to(spec.root) else str(spec.path),
        "spec_sha256": spec.digest,
        "overrides": [override.text for override in spec.overrides],
        "owner": name.owner,
        "slug": name.slug,
        "title": name.title,
        "target": machine.target,
        "limit_seconds": times.limit,
        "session_seconds": times.session,
        "earlier": earlier.version if earlier else None,
        "request": _fields(spec, request, name, machine=machine, times=times, earlier=earlier, data=data),
    }


def _fields(
    spec: Spec,
    request: PushRequest,
    name: NotebookName,
    *,
    machine: Accelerator,
    times: Times,
    earlier: Attempt | None,
    data: ProjectData | None,
) -> JsonObject:
    """SaveKernel's fields but the text. No image is named: with one, a TPU session runs on the CPU's, without an error."""
    shape = {"machine_shape": machine.machine_shape} if machine.machine_shape else {}
    return {
        "slug": str(name),
        "new_title": name.title,
        "language": "python",
        "kernel_type": "notebook",
        "is_private": not request.is_public,
        "enable_gpu": False,
        "enable_tpu": False,
        "enable_internet": not request.offline,
        "dataset_data_sources": [name for name in (request.wheel_dataset, data and data.dataset) if name],
        "kernel_data_sources": [str(name)] if earlier else [],
        "model_data_sources": model_sources(spec),
        "session_timeout_seconds": times.session,
        **shape,
    }


def model_sources(spec: Spec) -> list[str]:
    """The model that Kaggle mounts without a token."""
    return [spec.model.kaggle] if spec.model.kaggle is not None else []


def pushed_text(notebook: str) -> str:
    """As the server wants it: each cell's source is one text, and no cell has outputs. Raises InputInvalid G222."""
    document = json.loads(notebook)
    for cell in document["cells"]:
        cell["source"] = "".join(cell["source"])
        if cell["cell_type"] == "code":
            cell["outputs"] = []
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) > MOST_BYTES:
        raise InputInvalid("G222", f"the notebook has {len(text.encode()):,} bytes, and Kaggle refuses 1,000,000",
                           hint="put the engine into a dataset: --wheel-dataset OWNER/SLUG")  # fmt: skip
    return text


def chain_of(story: PushStory, spec: Spec) -> list[Attempt]:
    """The unfinished sessions of this very run-spec since its last end, oldest first; the next one begins with the output of the last."""
    found: list[Attempt] = []
    for attempt in reversed(story.attempts):
        if not is_of(attempt, spec) or attempt.state == "done":
            break
        if attempt.state == "continue":
            found.append(attempt)
    return found[::-1]


def is_of(attempt: Attempt, spec: Spec) -> bool:
    """Whether an attempt was planned of this run-spec with these overrides."""
    overrides: Sequence[str] = attempt.facts.get("overrides", ())
    return attempt.facts["spec_sha256"] == spec.digest and list(overrides) == [one.text for one in spec.overrides]


def other_options(request: PushRequest, attempt: Attempt) -> list[str]:
    """What was typed and an attempt was not planned with: it would be ignored without a word."""
    facts = attempt.facts
    planned = {**facts["options"], "target": facts["target"]}
    if request.session_limit is not None and _is_length(request.session_limit, facts["limit_seconds"]):
        planned["session_limit"] = request.session_limit
    name = request.notebook and name_for("", request.notebook, facts["owner"])
    other_name = [f"--notebook {request.notebook}"] if name and str(name) != str(attempt.name) else []
    return [*request.beside(planned), *other_name]


def _is_length(typed: str, seconds: int) -> bool:
    with suppress(ValueError):
        return int(seconds_of(typed)) == seconds
    return False
