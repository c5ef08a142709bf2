"""V26: the chain of steps, from the files that each one read to those that the next one read.

In: the evidence. Out: the check's answer. The inputs of a step are the outputs of the steps that the run-spec names for it,
fingerprint and content; a fingerprint follows from the ingredients, the content digest of an artifact from the digests of
its files, the digest of a file from its bytes where they are attached or follow from what is; and every step that read the
eval set read the one that is attached.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.artifacts.journal import RunRecord, StepRecord
from engine.canonical import digest_bytes, digest_json
from engine.evidence.checks.declared import kinds_of, typed_overrides
from engine.evidence.checks.recorded import digest_of_result, known_file, recorded_run
from engine.evidence.contents import Answer, Evidence, answer, changes
from engine.pipeline.plan import sources
from engine.runspec import load_recorded
from engine.steps import Handler

# Without one of these there is no evidence of a trained and scored model.
NEEDED = ("build_dataset", "train_sft", "generate", "score", "result_summary")


def steps_are_a_chain(evidence: Evidence) -> Answer:
    """V26."""
    record, kinds = recorded_run(evidence), kinds_of(evidence.record)
    problems = [f"there is no {kind} step" for kind in NEEDED if record.step_of(kind) is None]
    if problems:
        return answer(problems, "")
    spec = load_recorded(record.spec_bytes, "runspec.yaml", typed_overrides(record.command), kinds=kinds)
    made = {step.id: step for step in record.steps}
    for declared, step in zip(spec.steps, record.steps, strict=True):
        makers = {type_: made[maker.id] for type_, maker in sources(spec, declared, kinds).items()}
        problems += [f"step {step.id}: {problem}" for problem in _step(evidence, step, makers, kinds[step.uses])]
    problems += _one_eval_set(record)
    return answer(problems, f"{len(record.steps)} steps, each made from what the ones before it published")


def _step(evidence: Evidence, step: StepRecord, makers: Mapping[str, StepRecord], handler: Handler) -> Iterator[str]:
    artifact = step.artifact
    inputs = {
        type_: {"fingerprint": maker.artifact.fingerprint, "content": maker.artifact.digest}
        for type_, maker in makers.items()
    }
    yield from changes(inputs, artifact.ingredients["inputs"], "inputs")
    if artifact.fingerprint != digest_json(artifact.ingredients):
        yield "its fingerprint is not that of its ingredients"
    missing = sorted(set(handler.files) - set(artifact.files))
    if missing:
        yield f"its artifact has no {', '.join(missing)}"
    yield from (
        f"{name!a:.60} is not the name of a file of an artifact" for name in artifact.files if not _is_below(name)
    )
    content: dict[str, Any] = dict(artifact.files)
    for name, digest in artifact.files.items():
        data = known_file(evidence, step, name)
        if data is None:
            continue
        if digest_bytes(data) != digest:
            yield f"{name} is not the file that it published"
        if name in handler.measured:
            content[name] = digest_of_result(evidence, step, name, data)
    if artifact.digest != digest_json(content):
        yield "content_sha256 does not follow from its files"
    if step.uses == "train_sft" and artifact.facts["model_sha256"] != model_digest(artifact.files):
        yield "model_sha256 does not follow from the files of model/"


def _is_below(name: str) -> bool:
    """Whether a name is of a file in the artifact's folder: a reader who has the artifact opens it by this name.

    >>> _is_below("model/config.json"), _is_below("../config.json"), _is_below("/etc/passwd")
    (True, False, False)
    """
    return name.isprintable() and "\\" not in name and not {"", ".", ".."} & set(name.split("/"))


def model_digest(files: Mapping[str, str]) -> str:
    """The digest of the exported model: of the names and digests below ``model/``."""
    return digest_json({name.removeprefix("model/"): files[name] for name in files if name.startswith("model/")})


def _one_eval_set(record: RunRecord) -> Iterator[str]:
    digest = digest_bytes(record.eval_set_bytes)
    for step in record.steps:
        recorded = step.artifact.ingredients["spec"].get("eval_set", digest)
        if (recorded if isinstance(recorded, str) else recorded["content"]) != digest:
            yield f"eval_set.jsonl is not the one that step {step.id} read"
