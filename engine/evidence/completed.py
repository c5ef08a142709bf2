"""The platform's names for a run, put into its evidence after it: address and version of the notebook, and the run's id there.

A session cannot know them; who fetched its output does. run_record.json, of which the platform has the digest, stays as it is: the names go
into ``platform.json`` beside it, and every file that says them is rendered again.

    complete_evidence(folder, Named("https://www.kaggle.com/code/ann/toy", "3", "77"))

Out: the paths of all files. The same names again change no byte.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from engine.artifacts.refusals import explained_reading
from engine.canonical import pretty_json
from engine.errors import Diagnostic, EvidenceIncomplete, RunFailed
from engine.evidence.about import ABOUT, Inputs, make_about
from engine.evidence.bundle import read_bundle
from engine.evidence.checks.recorded import published_file, recorded_run
from engine.evidence.checks.rendered import first_stage, rendered_names, sources_of, templates_of
from engine.evidence.contents import Evidence
from engine.evidence.folder import NOT_WRITTEN, PLATFORM, write_all
from engine.evidence.render import render_text
from engine.evidence.secrets import refuse_secrets
from engine.evidence.shipped import shipped_template
from engine.evidence.standalone import FILE as VERIFY_PY
from engine.evidence.verify import verify_bundle
from engine.evidence.view import make_view

VERSION = 1


@dataclass(frozen=True, slots=True)
class Named:
    """What the platform calls the run. ``notebook_url`` is the address without the version."""

    notebook_url: str
    notebook_version: str
    run_id: str


def complete_evidence(folder: Path, named: Named) -> list[Path]:
    """Raises EvidenceIncomplete E130 where the evidence does not verify, or is not that of a run on Kaggle; nothing is written then."""
    with explained_reading(folder):
        evidence = Evidence(read_bundle(folder))
    failed = verify_bundle(evidence.bundle).failed
    if failed:
        raise EvidenceIncomplete.of([_incomplete(f"{check.id} {check.title}: {check.detail}") for check in failed])
    templates = templates_of(evidence)
    if templates is None or not evidence.record["environment"].get("kaggle"):
        raise EvidenceIncomplete.of([_incomplete("it is not that of a run on Kaggle")])
    names = dataclasses.asdict(named)
    record = dataclasses.replace(recorded_run(evidence), platform=names)
    view = make_view(record, lambda step, name: published_file(evidence, step, name))
    rendered = rendered_names(evidence)
    contents = {name: evidence.data(name) for name in first_stage(evidence) - {*rendered, PLATFORM}}
    contents[PLATFORM] = pretty_json({"schema_version": VERSION, "platform": "kaggle", **names}).encode()
    for name in rendered:
        contents[name] = render_text(name, view, [sources_of(evidence, name, templates[name])]).encode()
    about = {file.name: shipped_template(file.source, templates[file.name][file.source]) for file in ABOUT}
    texts = {name: text for name, text in about.items() if text is not None}  # V25 has made each of them again
    contents.update(make_about(Inputs(record, view, dict(contents)), texts))
    refuse_secrets(contents, RunFailed, "X340", NOT_WRITTEN)
    contents[VERIFY_PY] = evidence.data(VERIFY_PY)
    return write_all(folder, contents)


def _incomplete(why: str) -> Diagnostic:
    return Diagnostic("E130", f"the evidence cannot be completed: {why}",
                      hint="fetch the output of a run that came to its end; with another version of runspec: the one that made it")  # fmt: skip
