"""V06: runspec.yaml read by the engine's own loader, and all that it declares compared with what the record says was run.

In: the evidence. Out: the check's answer. The overrides are those of the recorded command, so an override can neither be
hidden nor made up; the file is the one that was read. Every step is there, in order, with the arguments that file, overrides
and defaults give, and its ingredients have the same arguments, sections and arguments of later steps.

A default that a kind of step did not have in its recorded version is no difference (:mod:`engine.evidence.checks.versions`); what
was declared always counts.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from engine.canonical import JsonMapping, JsonObject, digest_bytes
from engine.errors import InputInvalid
from engine.evidence.checks.versions import impossible_versions, may_be_missing, traces_of_version_2
from engine.evidence.contents import Answer, Evidence, answer, changes
from engine.pipeline.plan import arguments_ahead, without_tracking
from engine.pipeline.run_words import OVERRIDE, unread_words
from engine.pipeline.section_digests import declared_dataset, declared_model
from engine.runspec import load_recorded
from engine.runspec.model import Spec, StepSpec
from engine.steps import FunctionHandler, Handler
from engine.steps.registry import handlers

_ABSENT = object()


def spec_is_the_one(evidence: Evidence) -> Answer:
    """V06."""
    record = evidence.record
    digest, recorded = digest_bytes(evidence.data("runspec.yaml")), record["spec_digest"]
    problems = []
    if recorded != digest:
        problems.append(f"runspec.yaml has SHA-256 {digest[:12]}…, run_record.json says {str(recorded)[:12]}…")
    kinds = kinds_of(record)
    try:
        spec = load_recorded(
            evidence.data("runspec.yaml"), "runspec.yaml", typed_overrides(record["command"]), kinds=kinds
        )
    except InputInvalid as error:
        return answer(
            [*problems, f"runspec.yaml and the recorded command are no run-spec: {error.diagnostics[0].message}"], ""
        )
    applied = {override.path: override.value for override in spec.overrides}
    problems += [f"overrides: {change} (typed -> recorded)" for change in changes(applied, record["overrides"])]
    problems += [*traces_of_version_2(record), *impossible_versions(record, kinds)]
    problems += _top_level(spec, record)
    problems += _steps(spec, record, kinds)
    return answer(problems, f"{len(spec.steps)} steps as declared, overrides listed: {len(applied)}")


def typed_overrides(command: str) -> list[str]:
    """The overrides in a command line.

    >>> typed_overrides("runspec run a.yaml train.seed=1 --force all 'notes=two words'")
    ['train.seed=1', 'notes=two words']
    """
    return [word for word in shlex.split(command) if OVERRIDE.match(word)]


def kinds_of(record: JsonObject) -> Mapping[str, Handler]:
    """The kinds of steps of this engine; for one that is not installed, what the record says of it."""
    known = dict(handlers())
    for step in record["steps"]:
        if step["uses"] not in known:
            known[step["uses"]] = FunctionHandler(
                kind=step["uses"], version=step["ingredients"]["version"], title=step["uses"],
                takes=tuple(step["ingredients"]["inputs"]), makes=step["artifact"], files=(),
                reads=tuple(step["ingredients"]["spec"]), schema={"type": "object"}, function=_never,
            )  # fmt: skip
    return known


def _never(_: object) -> Any:
    raise AssertionError("a step of a stranger's record is never run")


def _top_level(spec: Spec, record: JsonObject) -> list[str]:
    """Keys outside the steps, and the file's name in the command."""
    declared = {
        "run_version": spec.run_version,
        "notes": spec.notes,
        "device": spec.device,
        "model_id": spec.model.id,
        "model_revision_declared": spec.model.revision,
        "dataset": spec.dataset.label,
        "eval_set": spec.eval_set,
    }
    said = {name: record[name] for name in declared}
    problems = [f"{change} (declared -> recorded)" for change in changes(declared, said)]
    file = PurePosixPath(record["spec_path"]).name
    problems += _command_problems(record["command"], file, [step.id for step in spec.steps])
    if file not in set(_file_names(record["command"])):
        problems.append(f"the command does not name {file}")
    return problems


def _command_problems(command: str, file: str, ids: Sequence[str]) -> Iterator[str]:
    """It is shown wherever evidence is read: `runspec`, then words that this engine's own command table takes.

    >>> list(_command_problems("ssh gpu runspec run a.yaml", "a.yaml", []))
    ["the command begins with 'ssh', and a run is started by runspec"]
    >>> list(_command_problems("runspec run a.yaml --on 8xH100", "a.yaml", []))[0]
    'no evidence is of a run with --on'
    """
    words = shlex.split(command.replace("$'", "'"))
    if words[:1] != ["runspec"]:
        yield f"the command begins with {words[0] if words else ''!r:.40}, and a run is started by runspec"
        return
    yield from unread_words(words[1:], ids)
    for word in words:
        is_plain = word.isprintable() and not any(character.isspace() for character in word)
        if not (is_plain or OVERRIDE.match(word) or PurePosixPath(word).name == file):
            yield f"{word!r:.60} in the command is neither an option, an override nor the run-spec"


def _file_names(command: str) -> Iterator[str]:
    """The last part of each word, as POSIX and as Windows divide it. ``$'…'`` is how a name is quoted that is not UTF-8.

    >>> sorted(set(_file_names("runspec run $'runspecs/lat\\\\xe9.yaml'")))
    ['lat\\\\xe9.yaml', 'run', 'runspec', 'xe9.yaml']
    """
    for word in shlex.split(command.replace("$'", "'")):
        yield PurePosixPath(word).name
        yield PurePosixPath(word.replace("\\", "/")).name


def _steps(spec: Spec, record: JsonObject, kinds: Mapping[str, Handler]) -> list[str]:
    declared = [(step.id, step.uses, kinds[step.uses].makes) for step in spec.steps]
    recorded = [(step["id"], step["uses"], step["artifact"]) for step in record["steps"]]
    if declared != recorded:
        return [f"the run-spec declares the steps {_ids(declared)}, the record has {_ids(recorded)}"]
    problems = []
    for step, values in zip(spec.steps, record["steps"], strict=True):
        problems += [f"{step.id}.{change}" for change in _step(spec, step, values, record, kinds)]
    return problems


def _ids(steps: list[tuple[str, str, str]]) -> str:
    return ", ".join(f"{id_} ({uses})" for id_, uses, _ in steps)


def _step(
    spec: Spec, step: StepSpec, values: JsonObject, record: JsonObject, kinds: Mapping[str, Handler]
) -> Iterator[str]:
    """What differs between a declared step and the recorded one."""
    ingredients, handler = values["ingredients"], kinds[step.uses]
    evidence_version = record["schema_version"]
    if ingredients["kind"] != step.uses:
        yield f"ingredients: kind {ingredients['kind']!r}"
    yield from changes(step.declared, values["declared"], "declared")
    bound = {key for key in step.args if key in step.declared or _is_overridden(spec, step, key)}
    older = _Older(step.uses, ingredients["version"], evidence_version)
    yield from _arguments(step.args, values["with"], bound, older, "with")
    yield from changes(without_tracking(values["with"], handler.schema), ingredients["with"], "ingredients.with")
    ahead = arguments_ahead(spec, step, kinds)
    if ahead.keys() != ingredients["ahead"].keys():
        yield f"ingredients.ahead: {sorted(ahead)} -> {sorted(ingredients['ahead'])}"
    else:
        versions = {later["uses"]: later["ingredients"]["version"] for later in record["steps"]}
        for kind, args in ahead.items():
            older = _Older(kind, versions[kind], evidence_version)
            yield from _arguments(args, ingredients["ahead"][kind], set(), older, f"ingredients.ahead.{kind}")
    if set(handler.reads) != ingredients["spec"].keys():
        yield f"ingredients.spec: {sorted(handler.reads)} -> {sorted(ingredients['spec'])}"
        return
    for section, recorded in ingredients["spec"].items():
        yield from _section(spec, section, recorded, evidence_version)


class _Older(NamedTuple):
    """The versions by which an argument may be missing."""

    kind: str
    step_version: int
    evidence_version: int

    def may_be_without(self, name: str) -> bool:
        """Whether the kind had no such argument then."""
        return may_be_missing(self.kind, name, step_version=self.step_version, evidence_version=self.evidence_version)


def _is_overridden(spec: Spec, step: StepSpec, key: str) -> bool:
    name = f"{step.id}.{key}"
    return any(override.path == name or override.path.startswith(f"{name}.") for override in spec.overrides)


def _arguments(
    expected: JsonMapping, recorded: JsonMapping, bound: set[str], older: _Older, path: str
) -> Iterator[str]:
    """Arguments that are other ones. One that an older kind of step did not know may be missing, unless it was declared."""
    for key in sorted({*expected, *recorded}):
        there = recorded.get(key, _ABSENT)
        if there is _ABSENT:
            if key in bound or not older.may_be_without(key):
                yield f"{path}.{key} is missing"
        elif key not in expected:
            yield f"{path}.{key} is {there!r:.60}, and no step of this kind has it"
        else:
            yield from changes(expected[key], there, f"{path}.{key}")


def _section(spec: Spec, section: str, recorded: Any, evidence_version: int) -> Iterator[str]:
    """A section of the run-spec that entered the fingerprint; the content of its files is V20's."""
    path = f"ingredients.spec.{section}"
    if section == "device":
        yield from changes(spec.device, recorded, path)
    elif section == "eval_set":
        drops = (
            not isinstance(recorded, str)
            and recorded.keys() == {"content", "on_duplicate"}
            and recorded["on_duplicate"]
        )
        if drops != (spec.on_duplicate_item == "drop" and "drop"):
            yield f"{path}: on_duplicate {spec.on_duplicate_item!r} was declared"
    elif section in ("model", "dataset"):
        declared = declared_model(spec) if section == "model" else declared_dataset(spec)
        for key in sorted({*declared, *recorded["declared"]}):
            there = recorded["declared"].get(key, _ABSENT)
            if there is _ABSENT and declared[key] is None and evidence_version == 1:
                continue  # a key that the engine of that time did not have
            if there is _ABSENT or key not in declared:
                yield f"{path}.declared.{key} is {'missing' if there is _ABSENT else 'unknown'}"
            else:
                yield from changes(declared[key], there, f"{path}.declared.{key}")
