"""V25: manifest, summary, log and every templated file, rendered again from the record and compared byte for byte.

In: the evidence. Out: the check's answer. The view is a function of run_record.json and the attachments; a project's own
templates are among the files, and the record has the digest of every template. A template of a project may write what it
likes, so of files that it rendered the values are compared too: with those that the engine's own template writes.
Records of version 1 have no templates: there only values are compared, and the answer says which lines nobody looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from engine.artifacts.journal import RunRecord
from engine.assets import asset
from engine.canonical import JsonMapping, digest_text, pretty_json
from engine.evidence.about import ABOUT, ABOUT_NAMES, Inputs, make_about
from engine.evidence.checks.recorded import published_file, recorded_run
from engine.evidence.contents import Answer, Broken, Evidence, NeedsEngine, answer
from engine.evidence.folder import ATTACHED, ATTACHMENTS, MANIFEST, PLATFORM, digests_of
from engine.evidence.render import render_text
from engine.evidence.shipped import shipped_template
from engine.evidence.view import RECORD_VERSION, Templates, make_view, record_dump
from engine.redact import redact

ALWAYS = ("run_manifest.json", "eval_summary.json", "kaggle_output_log.txt")
OF_VERSION_1 = (".json", ".txt", ".md", ".csv", ".jsonl", ".html")
_SAMPLE = re.compile(r"train step (\d+)/\d+ +loss ([0-9.]+)")


def templates_of(evidence: Evidence) -> Templates | None:
    """Rendered file -> template -> digest; None in a record of version 1. Raises Broken for a version to come."""
    version = evidence.record["schema_version"]
    if version == 1:
        return None
    if version not in (2, RECORD_VERSION) or isinstance(version, bool | float):
        raise Broken(f"run_record.json has schema_version {version!r}; this engine knows 1 to {RECORD_VERSION}")
    templates: Templates = evidence.record["templates"]
    return templates


def rendered_names(evidence: Evidence) -> list[str]:
    """The files of the first stage that templates made."""
    templates = templates_of(evidence)
    if templates is not None:
        return sorted(set(templates) - ABOUT_NAMES)
    return sorted(set(evidence.bundle.files) - {*ATTACHED, MANIFEST})


def first_stage(evidence: Evidence) -> set[str]:
    """The files that the run made: what the record names, without those that are about them."""
    kinds = {step["uses"] for step in evidence.record["steps"]}
    attached = {name for name, (kind, _) in ATTACHMENTS.items() if kind in kinds}
    rendered, templates = rendered_names(evidence), templates_of(evidence)
    later: set[str] = set()
    if templates is None:  # version 1 did not name what was rendered: text and JSON of any name
        own: set[str] = set()
        rendered = [name for name in rendered if name.endswith(OF_VERSION_1) and name not in ABOUT_NAMES]
    else:
        used = {template for name in rendered for template in templates[name]}
        own = {name for name in used if name in evidence.bundle.files}
        if evidence.record["environment"].get("kaggle"):
            later = {PLATFORM} & set(evidence.bundle.files)
    return {"run_record.json", "runspec.yaml", "eval_set.jsonl", *attached, *rendered, *own, *later}


def files_are_rendered(evidence: Evidence) -> Answer:
    """V25."""
    record, templates = recorded_run(evidence), templates_of(evidence)
    problems = [f"{name} is missing" for name in ALWAYS if name not in evidence.bundle.files]
    problems += _differs(
        "run_record.json", evidence.text("run_record.json"), pretty_json(record_dump(record, templates))
    )
    view = make_view(record, lambda step, name: published_file(evidence, step, name))
    apart: list[str] = []
    for name in rendered_names(evidence):
        problems += _compare(evidence, record, view, name, apart)
    names = rendered_names(evidence)
    if templates is not None:
        problems += _about(evidence, Inputs(record, view, _attested(evidence)), templates)
        names = sorted(templates)
    if apart and not problems:
        return (
            "n/a",
            f"not rendered again, which needs the engine (runspec verify): {', '.join(apart)}; nothing else differs",
        )
    if templates is None:
        return answer(problems, _of_version_1(evidence, view) if not problems else "")
    worded = evidence.worded_by_author
    whose = f"; the sentences of {', '.join(worded)} are those of the author's own template" if worded else ""
    return answer(problems, f"{', '.join(names)}: the bytes that record, attachments and templates give{whose}")


def _of_version_1(evidence: Evidence, view: JsonMapping) -> str:
    """What was looked at in evidence whose record does not name templates, and what was not."""
    looked = "version 1 names no templates, so no bytes are compared: the values of run_manifest.json and eval_summary.json follow"
    log = "kaggle_output_log.txt"
    if evidence.text(log) != render_text(log, view, [asset("templates")]):
        looked += f"; of {log} RESULT SUMMARY, losses, devices and versions alone were compared, and any other line may have been changed"
    others = [name for name in rendered_names(evidence) if name not in ALWAYS]
    return looked + (f"; nothing in {', '.join(others)} was looked at" if others else "")


def _attested(evidence: Evidence) -> dict[str, bytes]:
    return {name: evidence.data(name) for name in sorted(first_stage(evidence))}


def _about(evidence: Evidence, inputs: Inputs, templates: Templates) -> list[str]:
    """The files of the second stage, made again from those of the first by the engine's own templates."""
    texts: dict[str, str] = {}
    for file in ABOUT:
        listed = templates.get(file.name, {})
        text = shipped_template(file.source, listed.get(file.source, "")) if listed.keys() == {file.source} else None
        if text is None:
            return [f"{file.name} is not made by a template of this engine, as run_record.json lists it"]
        texts[file.name] = text
    made = make_about(inputs, texts)
    return [problem for name in made for problem in _differs(name, evidence.text(name), made[name].decode())]


def _compare(evidence: Evidence, record: RunRecord, view: JsonMapping, name: str, apart: list[str]) -> list[str]:
    """What differs; ``apart`` gets a file that verify.py cannot render, of which the values alone are compared."""
    text, templates = evidence.text(name), templates_of(evidence)
    if templates is None:
        if shipped_template(f"{name}.j2") is None:
            return [f"{name} was rendered by a template that did not travel with it"] if name in ALWAYS else []
        return _values(record, view, name, text)
    used: dict[str, str] = {}
    sources = sources_of(evidence, name, templates[name])
    try:
        problems = _differs(name, text, render_text(name, view, [sources], used))
        if digests_of({name: used})[name] != templates[name]:
            problems.append(f"{name} is not made from the templates that run_record.json lists for it")
    except NeedsEngine as error:
        apart.append(f"{name} (its template has {error})")
        problems = []
    own = any(template in evidence.bundle.files for template in templates[name])
    return problems + (_values(record, view, name, text) if own else [])


def sources_of(evidence: Evidence, name: str, templates: Mapping[str, str]) -> dict[str, str]:
    """The texts of the templates of a file, each of the recorded digest: the project's own are in the evidence, the others the engine's. Raises Broken."""
    texts = {}
    for template, digest in templates.items():
        own = template in evidence.bundle.files
        text = evidence.text(template) if own else shipped_template(template, digest)
        if text is None or digest_text(text) != digest:
            where = "has been changed" if own else "is neither among the files nor this engine's"
            raise Broken(f"the template {template} of {name} {where}")
        texts[template] = text
    return texts


def _values(record: RunRecord, view: JsonMapping, name: str, text: str) -> list[str]:
    """What a file says, where another template than this engine's rendered it."""
    if name not in ALWAYS:
        return []
    if name.endswith(".json"):
        expected, value = json.loads(render_text(name, view, [asset("templates")])), json.loads(text)
        return [
            f"{key} is {value.get(key)!r:.80} in {name}, and follows as {expected[key]!r:.80}"
            for key in expected
            if key not in value or value[key] != expected[key]
        ]
    return _log(record, view, text)


def _log(record: RunRecord, view: JsonMapping, text: str) -> list[str]:
    problems = []
    if view["result_summary"] not in text or text.count("RESULT SUMMARY") != 1:
        problems.append("the RESULT SUMMARY in the log differs from eval_summary.json")
    losses = {str(row["train_step"]): f"{row['loss']:.4f}" for row in view["log"]["samples"] if row["loss"] is not None}
    samples = dict(_SAMPLE.findall(text))
    problems += [
        f"the log's loss of train step {step} is not in metrics.jsonl"
        for step, loss in samples.items()
        if losses.get(step) != loss
    ]
    if set(losses) - set(samples):
        problems.append(f"the log has {len(samples)} of {len(losses)} loss samples")
    names = [f"jax {view['train']['libraries']['jax']}", *view["train"]["devices"], record.run_version]
    return problems + [f"the log does not name {name}" for name in names if name not in text]


def _differs(name: str, text: str, expected: str) -> list[str]:
    """The first line that is another one; [] where every byte is equal."""
    if text == expected:
        return []
    found, wanted = text.split("\n"), expected.split("\n")
    number = next(
        (n for n, pair in enumerate(zip(found, wanted, strict=False)) if pair[0] != pair[1]),
        min(len(found), len(wanted)),
    )
    return [
        f"{name}, line {number + 1}: {_line(found, number)}, and what follows from the record is {_line(wanted, number)}"
    ]


def _line(lines: Sequence[str], number: int) -> str:
    """As it is quoted: a secret that a forger put there is masked before the line is cut."""
    return repr(redact(lines[number], {}).strip()[:70]) if number < len(lines) else "nothing"
