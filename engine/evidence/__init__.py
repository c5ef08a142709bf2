"""Run record -> evidence files -> package -> verification: the public functions.

    render_evidence(record, spec.evidence.files, folder, template_dirs=[…])
    archive = package(folder, package_dir, name)
    assert verify(archive).ok

Imports the record, the data's renders and the scoring; never the trainer. jinja2 and jsonschema are imported when
something is rendered or checked.
"""

from engine.evidence.archive import package
from engine.evidence.folder import check_owner, check_writable, evidence_names, names_to_come, render_evidence
from engine.evidence.render import check_templates
from engine.evidence.verify import Check, Verification, verify
from engine.evidence.view import make_view, record_dump

__all__ = [
    "Check",
    "Verification",
    "check_owner",
    "check_templates",
    "check_writable",
    "evidence_names",
    "make_view",
    "names_to_come",
    "package",
    "record_dump",
    "render_evidence",
    "verify",
]
