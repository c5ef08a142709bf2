"""``report`` and ``items``: evidence as a page and as lines in the terminal, for whoever wants to read it."""

from __future__ import annotations

import webbrowser
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from engine.canonical import digest_bytes, write_atomic
from engine.commands import Reply, pick
from engine.commands.loading import is_spec, load, refuse_evidence, run_of
from engine.errors import Diagnostic, EvidenceIncomplete, InputInvalid, RunFailed, VerificationFailed
from engine.evidence import Verification, evidence_names, verify
from engine.evidence.bundle import Bundle, read_bundle
from engine.evidence.contents import NOBODY, Evidence, Reader
from engine.evidence.report import MARKER, ReportItem, read_items, report_page
from engine.evidence.report.items import Frame, common_frame
from engine.evidence.report.page import part
from engine.evidence.signing.trust import read_trusted_keys
from engine.evidence.witness import read_witness
from engine.os_errors import hint_for
from engine.printable import one_line, printable

MOST_CATEGORIES, LONGEST_CATEGORY = 12, 40  # that a hint lists
HEAD_BYTES = 512  # of a file that is there already: its marker is in its second line


def report(arguments: Namespace) -> Reply:
    """Write the page, and open it where asked. Exit code 5 where a check failed: the page says which."""
    source = evidence_of(arguments.run)
    out = Path(arguments.out or f"{source.resolve().name.removesuffix('.zip')}.report.html")
    _require_own_place(out)
    bundle, verification = opened(source, reader_of(arguments))
    page = report_page(bundle, verification)
    try:
        write_atomic(out, page)
    except OSError as error:
        raise RunFailed("U115", f"cannot write {error.filename or out}: {error.strerror or error}",
                        hint=hint_for(error.errno) or "choose a folder where this user may write: --out FILE") from error  # fmt: skip
    problems = not_verified(source, verification)
    shown = webbrowser.open(out.resolve().as_uri()) if arguments.open else None
    text = f"{out}: {len(page)} bytes, trust level {verification.trust_level or 'none'}"
    text += "\nno browser could be opened here; open the file yourself" if shown is False else ""
    document = {"ok": verification.ok, "trust_level": verification.trust_level, "report": str(out), "bytes": len(page),
                "sha256": digest_bytes(page), "opened": shown}  # fmt: skip
    return Reply(document, text, VerificationFailed.exit_code if problems else 0, problems)


def items(arguments: Namespace) -> Reply:
    """Every item with its question, what was expected and what came; the verdicts are judged again."""
    source = evidence_of(arguments.run)
    bundle, verification = opened(source)
    found = part(lambda: read_items(Evidence(bundle)))
    if found.value is None:
        raise VerificationFailed("U149", f"the items of {source} cannot be shown: {one_line(found.reason)}",
                                 hint=f"runspec verify {source}")  # fmt: skip
    category, chosen = arguments.category, found.value
    if category is not None:
        known = {item.category for item in chosen if item.category is not None}
        many = len(known) > MOST_CATEGORIES or any(len(name) > LONGEST_CATEGORY for name in known)
        pick(
            "category",
            category,
            known,
            "U147",
            or_else=f"`runspec items {source}` shows each item's category" if many else "",
        )
        chosen = [item for item in chosen if item.category == category]
    shown = [item for item in chosen if item.is_wrong] if arguments.wrong else chosen
    n_wrong = sum(item.is_wrong for item in found.value)
    level = f"trust level {verification.trust_level or 'none'}"
    counts = f"{len(shown)} of {len(found.value)} items shown, {n_wrong} wrong in all; {level}"
    problems = not_verified(source, verification)
    document = {"ok": verification.ok, "trust_level": verification.trust_level, "n_items": len(found.value),
                "n_wrong": n_wrong, "items": [item.as_json() for item in shown]}  # fmt: skip
    frame = common_frame(found.value)
    asked = [] if frame is None or not f"{frame.before}{frame.after}".strip() else [_asked_in(frame)]
    text = "\n\n".join([*(_in_lines(item, with_asked=frame is None) for item in shown), *asked, counts])
    return Reply(document, text, VerificationFailed.exit_code if problems else 0, problems)


def evidence_of(word: str) -> Path:
    """The folder or the zip that a word names: a path, a run-spec, or a run_version. Raises U112, U114, U145, U157."""
    path = Path(word)
    if path.suffix in (".yaml", ".yml") and is_spec(word):
        spec, _ = load(word)
        folder, again = spec.resolve(spec.evidence.dir), word
    elif path.exists():
        _require_whole(path)
        return path
    elif path.suffix == ".zip" or len(path.parts) > 1:
        raise InputInvalid("U114", f"{path} does not exist", hint="name an evidence folder, a zip or a run-spec")
    else:
        root, run_version = run_of(word)
        folder, again = root / "submission_runs" / run_version, "SPEC"
    if not folder.is_dir():
        raise EvidenceIncomplete("U145", f"there is no evidence in {folder} yet",
                                 hint=f"runspec run {again} makes it; evidence elsewhere is named by its path")  # fmt: skip
    return folder


def _require_whole(path: Path) -> None:
    """U157 for one file of an evidence folder: its folder is meant."""
    if path.is_file() and path.name in evidence_names(path.parent):
        raise InputInvalid(
            "U157", f"{path} is one file of the evidence in its folder", hint=f"name the folder: {path.parent}"
        )


def reader_of(arguments: Namespace) -> Reader:
    """What the reader brings: keys to trust, and a downloaded output."""
    trust, witness = arguments.trust, arguments.witness
    return Reader(
        read_trusted_keys(Path(trust)) if trust is not None else None,
        read_witness(Path(witness)) if witness is not None else None,
    )


def opened(source: Path, reader: Reader = NOBODY) -> tuple[Bundle, Verification]:
    """The files and what the checks say. Raises VerificationFailed U149 where a zip gives no file at all."""
    verification = verify(source, reader)  # V00 and X322 where there is no evidence
    bundle = read_bundle(source)
    if not bundle.files:
        raise VerificationFailed("U149", f"{source} cannot be shown: {one_line('; '.join(bundle.problems))}",
                                 hint=f"runspec verify {source}")  # fmt: skip
    return bundle, verification


def _require_own_place(out: Path) -> None:
    """U146: a page never replaces a file of other origin, and never lies among evidence, which it would make invalid."""
    refuse_evidence(out.parent, f"report … --out {Path('..') / out.name}")
    if out.exists() and not _is_report(out):
        raise InputInvalid("U146", f"{out} is there already and is not a report", hint="name another file: --out FILE")


def _is_report(path: Path) -> bool:
    """Whether it is a page that this command wrote; what cannot be read is not."""
    try:
        if not path.is_file():  # opening a pipe would wait for its writer
            return False
        with path.open("rb") as stream:
            return MARKER in stream.read(HEAD_BYTES)
    except OSError:
        return False


def not_verified(source: Path, verification: Verification) -> tuple[Diagnostic, ...]:
    """U148 where a check failed: the first one, and how many more."""
    if verification.ok:
        return ()
    first, *more = verification.failed
    also = f", and {len(more)} more checks failed" if more else ""
    return (
        Diagnostic(
            "U148",
            f"{source} is NOT verified: {first.id} {first.title}: {one_line(first.detail)}{also}",
            hint=f"do not rely on what it shows; all checks: runspec verify {source}",
        ),
    )


def _asked_in(frame: Frame) -> str:
    """The text around every question, on a line."""
    return one_line(f"each question was asked as: {frame.before}⟨question⟩{frame.after}")


def _in_lines(item: ReportItem, *, with_asked: bool) -> str:
    """One item for a terminal: no character of a stranger's text acts on it. Where all share a frame, that is said once."""
    groups = [name for name in (item.section, item.category, item.difficulty) if name is not None]
    rows: Sequence[tuple[str, str | None]] = (
        ("question", item.question),
        ("asked as", item.asked if with_asked else None),
        ("expected", item.expected),
        ("answered", item.answered),
        ("raw text", item.text),
    )
    lines = [one_line("  ".join([item.id, item.verdict, " · ".join(groups)]).rstrip())]
    for label, text in rows:
        if text is not None:
            first, *others = text.split("\n")
            lines += [f"  {label}  {printable(first)}".rstrip(), *(f"            {printable(line)}" for line in others)]
    return "\n".join(lines)
