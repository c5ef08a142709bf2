"""What a re-run needs, by the digests that the evidence records: the trained model, the rows, the base.

In: the record, and the projects whose stores may have them. Out: artifacts, as a step takes them. What is not here, or is another one, is
an InputInvalid that says so and what to do: U159 the trained model, U160 the rows or the base.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from engine.artifacts.journal import RunRecord, StepRecord
from engine.artifacts.refusals import explained_reading
from engine.artifacts.store import Artifact, Store
from engine.canonical import JsonMapping, digest_file, digest_json, digest_tree
from engine.errors import InputInvalid
from engine.runspec.model import Spec

ROWS = "rows.jsonl"


def maker_of(record: RunRecord, step: StepRecord, type_: str) -> StepRecord:
    """The step whose artifact of this type the step took; V26 has checked that there is one."""
    taken = step.artifact.ingredients["inputs"][type_]["fingerprint"]
    return next(maker for maker in record.steps if maker.artifact.fingerprint == taken)


def checkpoint(
    record: RunRecord, step: StepRecord, projects: Sequence[Path], named: Path | None, folder: Path
) -> Artifact:
    """The model that ``step`` generated from: ``named``, or from a store. ``folder``: for a link to a named one."""
    maker, wanted = maker_of(record, step, "checkpoint"), str(step.artifact.facts["model_sha256"])
    facts = {**maker.artifact.facts, "model_sha256": wanted}
    if named is not None:
        _check_named(named, wanted)
        home = folder / "checkpoint"
        home.mkdir()
        (home / "model").symlink_to(named.absolute(), target_is_directory=True)
        return replace(maker.artifact, path=home, facts=facts)
    damaged: list[Path] = []
    for home in _homes(maker, projects, wanted):
        if _model_digest(home / "model") == wanted:
            return replace(maker.artifact, path=home, facts=facts)
        damaged.append(home)
    raise _no_model(wanted, projects, damaged)


def _homes(maker: StepRecord, projects: Sequence[Path], wanted: str) -> Iterator[Path]:
    """Folders of artifacts that say they have the model: the recorded artifact first."""
    type_ = maker.artifact.type
    stores = [Store(project) for project in projects]
    recorded = [store.find(type_, maker.artifact.fingerprint) for store in stores]
    others = [found for store in stores for found in store.published(type_)]
    homes = [
        found.path for found in [*recorded, *others] if found is not None and found.facts.get("model_sha256") == wanted
    ]
    yield from dict.fromkeys(homes)


def _check_named(named: Path, wanted: str) -> None:
    if not named.is_dir():
        raise InputInvalid(
            "U159", f"{named} is not a folder", hint="--checkpoint FOLDER: the folder with config.json and the weights"
        )
    found = _model_digest(named)
    if found != wanted:
        raise InputInvalid(
            "U159",
            f"{named} is not the model of this evidence: it has the digest {found[:12]}…, the evidence says {wanted[:12]}…",
            hint="name the folder that the run exported (model/ of its checkpoint), with these files and no others",
        )


def _model_digest(folder: Path) -> str:
    with explained_reading(folder):
        return digest_json(digest_tree(folder))


def _no_model(wanted: str, projects: Sequence[Path], damaged: Sequence[Path]) -> InputInvalid:
    hint = "name its folder: --checkpoint FOLDER; or make it: run the evidence's runspec.yaml here, on the machine and libraries that it names"
    if damaged:
        return InputInvalid("U159", f"the model in {damaged[0]} was changed since it was exported", hint=hint)
    where = " or ".join(str(project / ".runspec" / "store") for project in projects)
    place = f"{where} has none of its digest, {wanted[:12]}…" if where else "this folder belongs to no project"
    return InputInvalid("U159", f"the model of this evidence is not here: {place}", hint=hint)


def stored_rows(maker: StepRecord, projects: Sequence[Path]) -> Artifact | None:
    """The data set from a store, where its rows are the recorded ones."""
    for project in projects:
        found = Store(project).find(maker.artifact.type, maker.artifact.fingerprint)
        if found is not None and _has_rows(maker, found.path):
            return replace(maker.artifact, path=found.path)
    return None


def check_builder(maker: StepRecord) -> None:
    """U160 for rows that another package's step made: it would need what it was made from in turn."""
    if maker.uses != "build_dataset":
        raise InputInvalid(
            "U160",
            f'the rows that step "{maker.id}" ({maker.uses}) made are not here, and only build_dataset is run again',
            hint="verify it in the project that made them; or leave --rerun-steps out",
        )


def rebuilt_rows(maker: StepRecord, out: Path) -> Artifact:
    """The data set that was built again into ``out``. Raises U160 where it is another one."""
    if not _has_rows(maker, out):
        raise InputInvalid(
            "U160",
            f'step "{maker.id}" ({maker.uses}) builds other rows here than the evidence records',
            hint="give the project the file that the run-spec names, as it was then; or leave --rerun-steps out",
        )
    return replace(maker.artifact, path=out)


def _has_rows(maker: StepRecord, folder: Path) -> bool:
    with explained_reading(folder):
        return (folder / ROWS).is_file() and digest_file(folder / ROWS) == maker.artifact.files[ROWS]


def check_base(record: RunRecord, step: StepRecord, spec: Spec) -> None:
    """U160 where the base in the project's folder is another one; the hub's is named by its commit, Kaggle's is :func:`check_kaggle_base`."""
    recorded = step.artifact.ingredients["spec"]["model"]["content"]
    if spec.model.path is None or recorded is None:
        return
    path = spec.resolve(spec.model.path)
    with explained_reading(path):
        if path.is_dir() and digest_json(digest_tree(path)) == recorded:
            return
    raise InputInvalid(
        "U160",
        f"{spec.model.path} is not the base that {record.run_version} was trained from: {'it is another one' if path.is_dir() else 'it is not here'}",
        hint="put it there; or leave --rerun-steps out",
    )


def check_kaggle_base(record: RunRecord, step: StepRecord, facts: JsonMapping) -> None:
    """U160 where the base that was trained from here, as ``facts`` has it, is of other files than recorded: a version's name is not its bytes."""
    recorded, found = (reported.get("model_kaggle") or {} for reported in (step.artifact.facts, facts))
    before, here = (dict(model.get("files") or {}) for model in (recorded, found))
    others = sorted(name for name in before.keys() | here.keys() if before.get(name) != here.get(name))
    if others:
        raise InputInvalid(
            "U160",
            f"the base that {record.run_version} was trained from has other files here than the evidence records: {', '.join(others[:5])}",
            hint="remove the model from kagglehub's cache, so that it is fetched again; or leave --rerun-steps out",
        )
