"""Evidence folder -> ``<name>_<date>_<sha>.zip``: the same bytes for the same evidence, wherever and whenever.

Members are sorted, stamped 1980-01-01, of mode 0644, stored (compressed bytes would depend on the machine's zlib), in
one folder named after the run. Before anything is written the evidence is verified and every byte is searched for secrets.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from engine.artifacts.refusals import explained_reading
from engine.canonical import write_atomic
from engine.errors import Diagnostic, EvidenceIncomplete, RunFailed
from engine.evidence.bundle import read_bundle
from engine.evidence.secrets import refuse_secrets
from engine.evidence.verify import verify_bundle
from engine.evidence.zipped.packed import zip_bytes
from engine.os_errors import hint_for
from engine.temporary import remove_leftovers

NOT_PACKED = (
    "nothing was packed; revoke the secret if it is real, remove it from the run-spec or the data, and run again"
)


def package(evidence_dir: Path, package_dir: Path, name: str) -> Path:
    """Verify, search, pack. Raises EvidenceIncomplete P102, RunFailed P101 (a secret), P103 (disk) and R112 (not readable)."""
    remove_leftovers(evidence_dir)
    remove_leftovers(package_dir, is_package_of(name))
    with explained_reading(evidence_dir):
        bundle = read_bundle(evidence_dir)
    refuse_secrets(bundle.files, RunFailed, "P101", NOT_PACKED)
    failed = verify_bundle(bundle).failed
    if failed:
        raise EvidenceIncomplete.of(
            [
                Diagnostic(
                    "P102",
                    f"the evidence is not complete: {check.id} {check.title}: {check.detail}",
                    hint="remove files that do not belong to the evidence, then render it again: runspec evidence SPEC",
                )
                for check in failed
            ]
        )
    manifest = json.loads(bundle.files["run_manifest.json"])
    summary = json.loads(bundle.files["eval_summary.json"])
    date = summary["evaluated_at"][:10].replace("-", "")
    commit = (manifest["commit_sha"] or "nogit")[:7]
    path = package_dir / f"{name}_{date}_{commit}.zip"
    data = zip_bytes(bundle.files, manifest["run_version"])
    try:
        if not path.is_file() or path.read_bytes() != data:
            write_atomic(path, data)
    except OSError as error:
        raise RunFailed(
            "P103",
            f"the package cannot be written: {error.filename or path}: {error.strerror}",
            hint=f"{hint_for(error.errno) or 'free some disk space or give this user write permission there'}\n"
            "then: runspec package SPEC",
        ) from error
    return path


def is_package_of(name: str) -> Callable[[str], bool]:
    """Whether a file is a package of this name, for :func:`engine.temporary.remove_leftovers`."""
    return lambda file: file.startswith(f"{name}_") and file.endswith(".zip")
