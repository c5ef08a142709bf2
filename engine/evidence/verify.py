"""Evidence folder or zip -> which checks pass, and the level of trust that follows.

    verification = verify(Path("submission/quickstart_20260102_1a2b3c4.zip"))
    verification.ok, verification.trust_level

Trust is computed, never claimed (:mod:`engine.evidence.levels`). What the reader brings counts: the keys that he trusts, a platform's output
that he downloaded, what came out when he ran a part again. No digest alone proves that a run happened.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.errors import InputInvalid
from engine.evidence.bundle import Bundle, read_bundle
from engine.evidence.checklist import CHECKS, RERUN_CHECKS, WEIGHTS_CHECKS, Evidence, run_check
from engine.evidence.checks.vouched import signed
from engine.evidence.contents import NOBODY, Reader, Status
from engine.evidence.folder import MANIFEST, OWNERS
from engine.evidence.levels import LEVEL_CHECK, Trust, headline, judge
from engine.evidence.line_ends import changed_line_ends
from engine.evidence.unfinished import refuse_unfinished

OF_EVIDENCE = frozenset({MANIFEST, *OWNERS})
NOTHING_PROVED = judge(ok=False, found={})
LONGEST_DETAIL = 2000  # characters: a detail can quote a value of megabytes


@dataclass(frozen=True, slots=True)
class Check:
    """One named check and its outcome."""

    id: str
    title: str
    status: Status
    detail: str


@dataclass(frozen=True, slots=True)
class Verification:
    """``ok`` where no check failed."""

    ok: bool
    trust_level: str | None  # the highest that is shown; None where a check failed
    checks: Sequence[Check]
    trust: Trust = NOTHING_PROVED
    worded_by_author: Sequence[str] = ()  # files whose sentences are those of a project's own template

    @property
    def failed(self) -> list[Check]:
        """The checks that failed, without V24, which only summarises them."""
        return [check for check in self.checks if check.status == "fail" and check.id != LEVEL_CHECK]


def verify(path: Path, reader: Reader = NOBODY) -> Verification:
    """Check a folder or a zip; never raises for its content.

    Raises InputInvalid V00 where it cannot be opened; EvidenceIncomplete E112 where its run is not finished."""
    try:
        bundle = read_bundle(path)
    except OSError as error:
        raise InputInvalid(
            "V00",
            f"{error.filename or path} cannot be read: {error.strerror or error}",
            hint="name an evidence folder or a package",
        ) from error
    refuse_unfinished(path, bundle)
    _require_evidence(path, bundle)
    return verify_bundle(bundle, path if bundle.kind == "zip" else None, reader)


def _require_evidence(path: Path, bundle: Bundle) -> None:
    """X322 where there is no evidence that could be checked, and where it may be."""
    if bundle.kind == "zip" and bundle.problems and not _claims_to_be_zip(path):
        inside = path.parent if (path.parent / MANIFEST).is_file() else None
        hint = (
            f"verify the folder that it is in: runspec verify {inside}"
            if inside
            else "name an evidence folder or a package"
        )
        raise InputInvalid("X322", f"no evidence here: {path} is a file and no package", hint=hint)
    if not OF_EVIDENCE.isdisjoint(bundle.files) or (bundle.problems and bundle.kind == "zip"):
        return
    below = sorted({found.parent for name in OF_EVIDENCE for found in path.glob(f"*/{name}")} if path.is_dir() else ())
    if below:
        hint = f"it is in a folder below: runspec verify {below[0]}"
    else:
        hint = "name an evidence folder or a package; `runspec run SPEC` makes evidence"
    what = "is empty" if not bundle.files and not bundle.problems else f"has no {MANIFEST} and no {OWNERS[0]}"
    raise InputInvalid("X322", f"no evidence here: {path} {what}", hint=hint)


def _claims_to_be_zip(path: Path) -> bool:
    """By its name or its first bytes: then what is wrong with it is a finding, however little of it is left."""
    with path.open("rb") as stream:
        return path.suffix.lower() == ".zip" or stream.read(2) == b"PK"


def verify_bundle(bundle: Bundle, archive: Path | None = None, reader: Reader = NOBODY) -> Verification:
    """All checks, in order. Where the names are not safe, or line ends were changed, no further check runs."""
    with _without_collector():
        return _verify(bundle, archive, reader)


@contextmanager
def _without_collector() -> Iterator[None]:
    """20,000 items are a million objects and no circle: the collector would go through all of them again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _verify(bundle: Bundle, archive: Path | None, reader: Reader) -> Verification:
    evidence = Evidence(bundle, archive, reader)
    turned = changed_line_ends(bundle.files, MANIFEST)
    checks: list[Check] = []
    asked = (*(RERUN_CHECKS if reader.rerun else ()), *(WEIGHTS_CHECKS if reader.weights else ()))
    for id_, title, function in (*CHECKS, *asked):
        if checks and checks[0].status == "fail" and bundle.kind == "zip":
            checks.append(Check(id_, title, "n/a", "not checked: see V01"))
            continue
        if turned and id_ not in ("V01", "V02"):
            checks.append(Check(id_, title, "n/a", "not checked: line ends were changed, see V02"))
            continue
        status, detail = run_check(function, evidence)
        checks.append(Check(id_, title, status, detail[:LONGEST_DETAIL]))
    ok = all(check.status != "fail" for check in checks)
    found = {check.id: (check.status, check.detail) for check in checks}
    trust = judge(ok=ok, found=found, signers=signed(evidence).by if ok else ())
    level = Check(LEVEL_CHECK, "trust level, computed", "pass" if ok else "fail", headline(trust))
    return Verification(ok, trust.level, [*checks, level], trust, evidence.worded_by_author if ok else ())
