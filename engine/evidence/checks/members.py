"""V28: only the files that the record names, and a zip that is the one which ``package`` writes from them.

In: the evidence. Out: the check's answer. Named are the files of a rendering: the record itself, the attachments of the
steps that ran, what templates rendered, the project's own templates, and the list of digests. Nothing else belongs to the
evidence, whoever listed it: no script, no pickle, no look-alike of a file that is read. A zip must be what ``package``
would write, byte for byte: what is beside the members, before or after them, is no evidence of anything.
"""

from __future__ import annotations

import unicodedata
import zipfile

from engine.evidence.checks.rendered import rendered_names, templates_of
from engine.evidence.contents import Answer, Evidence, answer
from engine.evidence.folder import ATTACHMENTS, MANIFEST
from engine.evidence.packed import zip_bytes
from engine.evidence.standalone import FILE as VERIFY_PY
from engine.evidence.standalone import strange

ALWAYS = (MANIFEST, "run_record.json", "runspec.yaml", "eval_set.jsonl")


def only_named_files(evidence: Evidence) -> Answer:
    """V28."""
    named, present = _named(evidence), set(evidence.bundle.files)
    problems = [f"{_twin(name, named)}" for name in sorted(present - named)]
    problems += [f"{name} is missing" for name in sorted(named - present)]
    problems += strange(evidence.bundle.files.get(VERIFY_PY))
    problems += _not_as_packed(evidence)
    return answer(problems, f"{len(named)} files, each named by the record")


def _not_as_packed(evidence: Evidence) -> list[str]:
    """Why a zip is not the one that ``package`` writes from these files; [] for that one and for a folder."""
    path = evidence.archive
    if path is None:
        return []
    expected = zip_bytes(evidence.bundle.files, str(evidence.record["run_version"]))
    if path.stat().st_size == len(expected) and path.read_bytes() == expected:
        return []
    with zipfile.ZipFile(path) as archive:
        compressed = any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist())
    how = "was compressed again by another program" if compressed else "has other bytes than its members"
    return [f"the zip is not what `runspec package` writes from these files: it {how}"]


def _named(evidence: Evidence) -> set[str]:
    kinds = {step["uses"] for step in evidence.record["steps"]}
    attached = {name for name, (kind, _) in ATTACHMENTS.items() if kind in kinds}
    rendered, templates = rendered_names(evidence), templates_of(evidence)
    if templates is None:  # version 1 did not name what was rendered: text and JSON of any name
        rendered = [name for name in rendered if name.endswith((".json", ".txt", ".md", ".csv", ".jsonl", ".html"))]
        own: set[str] = set()
    else:
        own = {name for used in templates.values() for name in used if name in evidence.bundle.files} | {VERIFY_PY}
    return {*ALWAYS, *attached, *rendered, *own}


def _twin(name: str, named: set[str]) -> str:
    """Why a file does not belong here, with the file that it looks like."""
    folded = {_folded(other): other for other in named}
    twin = folded.get(_folded(name))
    return f"{name!a:.90} is not named by the record" + (f", and looks like {twin}" if twin else "")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
