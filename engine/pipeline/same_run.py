"""Whether the evidence in a folder is that of a run-spec as it is now, before it is packed under the run-spec's name.

In: the run-spec with its overrides, and its evidence folder, whose record has what each step was given. Out: what differs,
``train.seed: 43 -> 42``, or nothing. Neither store nor journal is asked: a new clone packs the evidence that it carries.
What no person declares (versions of steps and libraries) may have changed since.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence

from engine.artifacts.store import Store
from engine.canonical import JsonMapping, JsonObject
from engine.errors import EvidenceIncomplete
from engine.pipeline.plan import without_tracking
from engine.pipeline.replaced import earlier_record, listed, step_differences
from engine.pipeline.section_digests import section_digest
from engine.runspec.model import Spec
from engine.steps import Handler


def refuse_another_run(spec: Spec, handlers: Mapping[str, Handler], words: Sequence[str]) -> None:
    """Raises EvidenceIncomplete U135 where the folder has the evidence of other arguments, data, model or steps.

    ``words``: the run-spec and the overrides as they were typed. Evidence without a sound record is not judged here.
    """
    record = earlier_record(spec)
    differs = _differs(spec, handlers, record) if record is not None else ()
    if record is None or not differs:
        return
    overrides = record.get("overrides")
    own = [f"{key}={json.dumps(value)}" for key, value in overrides.items()] if isinstance(overrides, Mapping) else []
    there = shlex.join(["runspec", "package", words[0], *own])
    raise EvidenceIncomplete(
        "U135",
        f"the evidence in {spec.evidence.dir}/ is of another run than this run-spec declares now\n{listed(differs)}",
        hint=f"{shlex.join(['runspec', 'run', *words])} makes it\n"
        f"what is there is packed with the run-spec as it was then: {there}",
    )


def _differs(spec: Spec, handlers: Mapping[str, Handler], record: JsonMapping) -> tuple[str, ...]:
    """From the record to the run-spec. An evidence file that the run-spec names and the folder lacks is a difference too."""
    store = Store(spec.root)
    coming: JsonObject = {"run": {"notes": spec.notes, "model": spec.model.id, "eval_set": spec.eval_set}}
    earlier: JsonObject = {"run": {"notes": record.get("notes"), "model": record.get("model_id"),
                                   "eval_set": record.get("eval_set")}}  # fmt: skip
    for step in spec.steps:
        handler = handlers[step.uses]
        sections = {section: section_digest(spec, section, store) for section in handler.reads}
        coming[step.id] = _given(without_tracking(step.args, handler.schema), sections)
    for was in record["steps"]:
        known = handlers.get(str(was.get("uses")))
        args = without_tracking(was.get("with", {}), known.schema if known else {})
        earlier[str(was.get("id"))] = _given(args, was.get("ingredients", {}).get("spec", {}))
    folder = spec.resolve(spec.evidence.dir)
    absent = [
        f"evidence.files: {name} is not in the folder" for name in spec.evidence.files if not (folder / name).is_file()
    ]
    differs = [line.removeprefix("run.") for line in step_differences(earlier, json.loads(json.dumps(coming)))]
    return (*differs, *absent)


def _given(args: JsonMapping, sections: JsonMapping) -> JsonObject:
    """What a person declared for a step: its arguments, and the sections that it reads, without a builder's own version."""
    plain = {
        name: {key: value for key, value in section.items() if key != "builder"}
        if isinstance(section, Mapping)
        else section
        for name, section in sections.items()
    }
    return {"with": dict(args), "spec": plain}
