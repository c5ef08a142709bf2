"""``evidence``, ``package``, ``verify`` and ``score``: the last phases, each by itself."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.commands import Reply, columns
from engine.commands.loading import is_spec, load
from engine.errors import EvidenceIncomplete, InputInvalid

if TYPE_CHECKING:
    from engine.artifacts.journal import RunRecord
    from engine.runspec.model import Spec


def _record(arguments: Namespace) -> tuple[Spec, RunRecord]:
    """The record of a run whose steps are all done. Raises EvidenceIncomplete (U131) otherwise."""
    from engine.artifacts.journal import Journal, journal_path
    from engine.artifacts.store import Store
    from engine.pipeline.plan import make_plan
    from engine.pipeline.record import make_record

    spec, handlers = load(arguments.spec, arguments.overrides)
    store = Store(spec.root)
    planned = make_plan(spec, handlers, store).steps
    missing = [entry.step.id for entry in planned if entry.action == "run"]
    if missing:
        raise EvidenceIncomplete(
            "U131",
            f"steps that have not been run yet: {', '.join(missing)}",
            hint=f"runspec run {' '.join([arguments.spec, *(arguments.overrides or ())])}",
        )
    made = {entry.step.id: entry.artifact for entry in planned if entry.artifact is not None}
    journal = Journal(journal_path(store.root, spec.run_version))
    if not any(event["event"] == "run_started" for event in journal.events):
        raise EvidenceIncomplete(
            "U131",
            f"the steps are done, but under another run_version than {spec.run_version}",
            hint=f"runspec run {arguments.spec} takes them over; nothing is computed again",
        )
    return spec, make_record(spec, made, journal)


def evidence(arguments: Namespace) -> Reply:
    """Render the evidence files again."""
    from engine.artifacts.store import Store
    from engine.pipeline.finish import check_folder, write_evidence
    from engine.pipeline.plan import relative

    spec, record = _record(arguments)
    with Store(spec.root).lock(f"run-{spec.run_version}"):
        folder = write_evidence(spec, record)
        check_folder(folder)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    where = relative(folder, spec.root)
    return Reply({"ok": True, "evidence": where, "files": files}, f"{where}/\n" + columns((name,) for name in files))


def package(arguments: Namespace) -> Reply:
    """Pack the evidence folder."""
    from engine.canonical import digest_file
    from engine.evidence import package as pack
    from engine.pipeline.plan import relative

    spec, _ = load(arguments.spec, arguments.overrides)
    folder = spec.resolve(spec.evidence.dir)
    if not folder.is_dir():
        raise EvidenceIncomplete("U131", f"there is no evidence folder {spec.evidence.dir}/ yet",
                                 hint=f"runspec run {arguments.spec}")  # fmt: skip
    archive = pack(folder, spec.resolve(spec.package.dir), spec.package.name)
    where = relative(archive, spec.root)
    return Reply({"ok": True, "package": where, "sha256": digest_file(archive)}, where)


def verify(arguments: Namespace) -> Reply:
    """Check a folder or a zip; of a run-spec, its evidence folder."""
    from engine.evidence import verify as check

    path = Path(arguments.path)
    if is_spec(arguments.path) and path.suffix in (".yaml", ".yml"):
        spec, _ = load(arguments.path)
        path = spec.resolve(spec.evidence.dir)
    if not path.exists():
        raise InputInvalid("U114", f"there is nothing at {path}", hint="name an evidence folder, a zip or a run-spec")
    verification = check(path)
    rows = [
        {"id": row.id, "title": row.title, "status": row.status, "detail": row.detail} for row in verification.checks
    ]
    document = {"ok": verification.ok, "trust_level": verification.trust_level, "checks": rows}
    verdict = (
        f"{path}: {'verified' if verification.ok else 'NOT verified'}, trust level {verification.trust_level or 'none'}"
    )
    table = columns((row["id"], row["status"], f"{row['title']}: {row['detail']}".rstrip(": ")) for row in rows)
    return Reply(document, f"{table}\n{verdict}", 0 if verification.ok else 5)


def score(arguments: Namespace) -> Reply:
    """The scorer alone."""
    from engine.scoring import METRICS, score_files

    metric = arguments.metric or next(iter(METRICS))
    rows, card = score_files(Path(arguments.predictions), Path(arguments.eval_set), metric)
    scorecard = card.as_json()
    document: dict[str, Any] = {"ok": True, "scorecard": scorecard, "items": [row.as_json() for row in rows]}
    lines: list[tuple[str, str]] = []
    for key, value in scorecard.items():
        group = value if isinstance(value, dict) else {"": value}
        for name, number in group.items():
            label = f"{key.removesuffix('_scores')}: {name}" if name else key
            lines.append((label, f"{number:.4f}" if isinstance(number, float) else str(number)))
    return Reply(document, columns(lines, indent=""))
