"""The last three phases of a run: evidence, package, verification.

In: the run record. Out: a :class:`Finish` that names the evidence files, the zip and the
checks. Nothing is written where the journal says that this very record was rendered, packaged and verified, and the
files on disk have not changed since.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.artifacts.journal import Journal, RunRecord
from engine.artifacts.refusals import explained_reading
from engine.assets import asset
from engine.canonical import digest_file, digest_json, digest_tree, pretty_json
from engine.errors import Diagnostic, InputInvalid, VerificationFailed
from engine.evidence import (
    Verification,
    check_owner,
    check_templates,
    check_writable,
    package,
    record_dump,
    render_evidence,
    verify,
)
from engine.evidence.archive import is_package_of
from engine.evidence.secrets import refuse_secrets
from engine.pipeline.own_secrets import HINT
from engine.pipeline.plan import relative
from engine.pipeline.replaced import Replaced, keep_replaced
from engine.runspec.model import Spec
from engine.temporary import remove_leftovers

RENDERED_AGAIN = "moved away, it is made again by the next run; nothing is computed again"


@dataclass(frozen=True, slots=True)
class Finish:
    """``checks`` are rows {id, title, status, detail}; ``fresh`` is False where nothing had to be done.

    ``replaced``: the evidence of another record that was in the folder before.
    """

    evidence_dir: Path
    package: Path
    trust_level: str | None
    checks: tuple[Mapping[str, Any], ...]
    fresh: bool
    replaced: Replaced | None = None


def template_dirs(root: Path) -> tuple[Path, ...]:
    """The folders with templates: the project's own first, then the shipped one."""
    return (root / "templates", asset("templates"))


def finish_run(spec: Spec, record: RunRecord, journal: Journal, note: Callable[[str], None]) -> Finish:
    """Render, package and verify, unless all this is done already. Raises exit 4 and exit 5 errors."""
    identity = evidence_identity(spec, record)
    done = _already_done(spec, journal, identity)
    if done is not None:
        _confirm_verified(journal)
        return done
    evidence_dir, replaced = replace_evidence(spec, record, journal)
    note(f"evidence in {relative(evidence_dir, spec.root)}/")
    journal.append("evidence_rendered", identity=identity, files=digest_tree(evidence_dir))
    archive = package(evidence_dir, spec.resolve(spec.package.dir), spec.package.name)
    note(f"package {relative(archive, spec.root)}")
    verification = verify(archive)
    checks = check_rows(verification)
    if not verification.ok:
        raise verification_failed(archive, verification)
    journal.append(
        "verified",
        identity=identity,
        package=relative(archive, spec.root),
        sha256=digest_file(archive),
        trust_level=verification.trust_level,
        checks=list(checks),
    )
    return Finish(evidence_dir, archive, verification.trust_level, checks, fresh=True, replaced=replaced)


def check_targets(spec: Spec) -> None:
    """Before the first step: the evidence folder must not be another run's (E108), which hours later would be too late."""
    check_owner(spec.run_version, spec.resolve(spec.evidence.dir))


def sweep_targets(spec: Spec) -> None:
    """Remove what killed runs left beside evidence and package: temporary files without a writer. Holds the run's lock."""
    remove_leftovers(spec.resolve(spec.evidence.dir))
    remove_leftovers(spec.resolve(spec.package.dir), is_package_of(spec.package.name))


def check_targets_writable(spec: Spec) -> None:
    """Before the first step that runs: evidence (E110) and package (P103) can be written, as far as permissions say."""
    check_writable(spec.resolve(spec.evidence.dir), spec.resolve(spec.package.dir))


def check_templates_of(spec: Spec) -> None:
    """Before the first step that runs: every evidence file has a template (E104, E106), and each can be read (R112)."""
    _template_digests(spec)
    check_templates(spec.evidence.files, template_dirs(spec.root))


def check_secrets(spec: Spec) -> None:
    """Before the first step that runs, and before evidence is rendered: what goes into it as it is holds no secret (X341)."""
    files = {relative(spec.path, spec.root): spec.data}
    overrides = {override.path: override.value for override in spec.overrides}
    if overrides:
        files["the overrides"] = pretty_json(overrides).encode()
    with contextlib.suppress(OSError):  # the step that reads the eval set says what is wrong with it
        files[spec.eval_set] = spec.resolve(spec.eval_set).read_bytes()
    refuse_secrets(files, InputInvalid, "X341", HINT)


def replace_evidence(spec: Spec, record: RunRecord, journal: Journal) -> tuple[Path, Replaced | None]:
    """Render the evidence files of the spec into its evidence folder; what another record left there is kept elsewhere."""
    check_secrets(spec)  # where no step runs, nobody has looked yet
    evidence_dir = spec.resolve(spec.evidence.dir)
    replaced = keep_replaced(spec, record, journal)
    render_evidence(record, spec.evidence.files, evidence_dir, template_dirs=template_dirs(spec.root))
    return evidence_dir, replaced


def check_folder(folder: Path) -> None:
    """Raises VerificationFailed (exit 5) where a rendered evidence folder does not verify."""
    verification = verify(folder)
    if not verification.ok:
        raise verification_failed(folder, verification)


def check_rows(verification: Verification) -> tuple[Mapping[str, Any], ...]:
    """The checks as plain rows."""
    return tuple(
        {"id": check.id, "title": check.title, "status": check.status, "detail": check.detail}
        for check in verification.checks
    )


def verification_failed(path: Path, verification: Verification) -> VerificationFailed:
    """One exception for all failed checks."""
    return VerificationFailed.of(  # type: ignore[return-value]
        Diagnostic(check.id, f"{check.title}: {check.detail}", hint=f"in {path.name}") for check in verification.failed
    )


def evidence_identity(spec: Spec, record: RunRecord) -> str:
    """Changes whenever rendering, packaging or verifying again could give another result."""
    templates = _template_digests(spec)
    targets = [spec.evidence.dir, list(spec.evidence.files), spec.package.dir, spec.package.name]
    return digest_json({"record": record_dump(record), "templates": templates, "targets": targets})


def _template_digests(spec: Spec) -> dict[str, dict[str, str]]:
    """Raises RunFailed R112 where a template, or the folder, cannot be read."""
    with explained_reading(spec.root):
        return {str(index): digest_tree(folder) for index, folder in enumerate(template_dirs(spec.root))}


def _confirm_verified(journal: Journal) -> None:
    """Repeat the event ``verified`` where a failed or stopped attempt came after it: the evidence is still verified."""
    verified = journal.last("verified")
    if verified is not None and journal.events[-1] is not verified:
        journal.append("verified", **{key: verified[key] for key in verified.keys() - {"seq", "time", "event"}})


def _already_done(spec: Spec, journal: Journal, identity: str) -> Finish | None:
    rendered = journal.last("evidence_rendered")
    verified = journal.last("verified")
    if rendered is None or verified is None or not rendered["identity"] == verified["identity"] == identity:
        return None
    evidence_dir = spec.resolve(spec.evidence.dir)
    archive = spec.root / verified["package"]
    with explained_reading(evidence_dir, RENDERED_AGAIN):
        if not evidence_dir.is_dir() or digest_tree(evidence_dir) != rendered["files"]:
            return None
        if not archive.is_file() or digest_file(archive) != verified["sha256"]:
            return None
    return Finish(evidence_dir, archive, verified["trust_level"], tuple(verified["checks"]), fresh=False)
