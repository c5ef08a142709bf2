"""Evidence folder -> ``<name>_<date>_<sha>.zip``: the same bytes for the same evidence, wherever and whenever.

Members are sorted, stamped 1980-01-01, of mode 0644, stored (compressed bytes would depend on the machine's zlib), in
one folder named after the run. Before anything is written the evidence is verified and every byte is searched for secrets.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

from engine.artifacts.refusals import explained_reading
from engine.canonical import write_atomic
from engine.errors import Diagnostic, EvidenceIncomplete, RunFailed
from engine.evidence.bundle import Bundle, read_bundle
from engine.evidence.secrets import find_secrets
from engine.evidence.verify import verify_bundle
from engine.os_errors import hint_for
from engine.temporary import remove_leftovers

STAMP = (1980, 1, 1, 0, 0, 0)
MODE = 0o100644


def package(evidence_dir: Path, package_dir: Path, name: str) -> Path:
    """Verify, search, pack. Raises EvidenceIncomplete P102, RunFailed P101 (a secret), P103 (disk) and R112 (not readable)."""
    remove_leftovers(evidence_dir)
    remove_leftovers(package_dir, is_package_of(name))
    with explained_reading(evidence_dir):
        bundle = read_bundle(evidence_dir)
    _refuse_secrets(bundle)
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
    data = zip_bytes(bundle, manifest["run_version"])
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


def zip_bytes(bundle: Bundle, folder: str) -> bytes:
    """The archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(bundle.files):
            info = zipfile.ZipInfo(f"{folder}/{name}", STAMP)
            info.external_attr = MODE << 16
            info.create_system = 3
            archive.writestr(info, bundle.files[name], zipfile.ZIP_STORED)
    return buffer.getvalue()


def _refuse_secrets(bundle: Bundle) -> None:
    """Raises RunFailed P101 naming every one."""
    secrets = find_secrets(bundle.files)
    if secrets:
        raise RunFailed.of(
            [
                Diagnostic(
                    "P101",
                    f"{position} looks like a secret ({kind})",
                    hint="nothing was packed; revoke the secret if it is real, remove it from the run-spec or the data, "
                    "and run again",
                )
                for position, kind in secrets
            ]
        )
