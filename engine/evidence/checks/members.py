"""V28: only the files that the record names, and a zip that is the one which ``package`` writes from them.

In: the evidence. Out: the check's answer. Named are the files of a rendering: the record itself, the attachments of the
steps that ran, what templates rendered, the project's own templates, the files about these, and the list of digests; beside them
only the signatures may be there, which V23 reads. Nothing else belongs to the
evidence, whoever listed it: no script, no pickle, no look-alike of a file that is read. A zip must be what ``package``
would write, byte for byte: what is beside the members, before or after them, is no evidence of anything.
"""

from __future__ import annotations

import unicodedata
import zipfile

from engine.evidence.about import ABOUT_NAMES, SIGNATURE_FILES
from engine.evidence.checks.rendered import first_stage, templates_of
from engine.evidence.contents import Answer, Evidence, answer
from engine.evidence.folder import MANIFEST
from engine.evidence.standalone import FILE as VERIFY_PY
from engine.evidence.standalone import strange
from engine.evidence.zipped.packed import zip_bytes


def only_named_files(evidence: Evidence) -> Answer:
    """V28."""
    named, present = _named(evidence), set(evidence.bundle.files)
    later = _of_a_later_version(evidence)
    if later:
        return answer(later, "")
    present -= set(SIGNATURE_FILES)  # V23 reads them
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
    about = {*ABOUT_NAMES, VERIFY_PY} if templates_of(evidence) is not None else frozenset()
    return {MANIFEST, *first_stage(evidence), *about}


def _of_a_later_version(evidence: Evidence) -> list[str]:
    """Version 1 has no statement, so nothing that is about it: evidence must not be taken back to the weaker rules."""
    if templates_of(evidence) is not None:
        return []
    later = sorted({*ABOUT_NAMES, *SIGNATURE_FILES, VERIFY_PY} & set(evidence.bundle.files))
    return [f"{name} does not belong to version 1, which run_record.json says it is" for name in later]


def _twin(name: str, named: set[str]) -> str:
    """Why a file does not belong here, with the file that it looks like."""
    folded = {_folded(other): other for other in named}
    twin = folded.get(_folded(name))
    return f"{name!a:.90} is not named by the record" + (f", and looks like {twin}" if twin else "")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
