"""``evidence`` and ``package``: the evidence of a finished run, rendered and packed again."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping

from engine.artifacts.journal import Journal, RunRecord, journal_path
from engine.artifacts.store import Store
from engine.canonical import digest_file
from engine.commands import Reply, columns
from engine.commands.loading import load
from engine.errors import EvidenceIncomplete
from engine.evidence import package as pack
from engine.pipeline.finish import check_folder, check_targets, replace_evidence
from engine.pipeline.older_artifacts import take_over
from engine.pipeline.plan import make_plan, relative
from engine.pipeline.record import make_record
from engine.pipeline.same_run import refuse_another_run
from engine.runspec.model import Spec
from engine.steps import Handler


def _record(arguments: Namespace, spec: Spec, handlers: Mapping[str, Handler]) -> tuple[RunRecord, Journal, list[str]]:
    """The record of a run whose steps are all done, and what a person should know of it. Raises EvidenceIncomplete (U131)."""
    store = Store(spec.root)
    planned = make_plan(spec, handlers, store).steps
    missing = [
        f"{entry.step.id} ({entry.reason})" if entry.flaw else entry.step.id
        for entry in planned
        if entry.action == "run"
    ]
    if missing:
        raise EvidenceIncomplete(
            "U131",
            f"these steps have not run yet: {', '.join(missing)}",
            hint=f"runspec run {' '.join([arguments.spec, *(arguments.overrides or ())])}",
        )
    artifacts = {entry.step.id: entry.artifact for entry in planned if entry.artifact is not None}
    journal = Journal(journal_path(store.root, spec.run_version))
    if not any(event["event"] == "run_started" for event in journal.events):
        raise EvidenceIncomplete(
            "U131",
            f"the steps are done, but under another run_version than {spec.run_version}",
            hint=f"runspec run {arguments.spec} reuses them; nothing is computed again",
        )
    said = [take_over(store, spec, step_id, artifact) for step_id, artifact in artifacts.items()]
    return make_record(spec, artifacts, journal), journal, [sentence for sentence in said if sentence is not None]


def evidence(arguments: Namespace) -> Reply:
    """Render the evidence files again."""
    spec, handlers = load(arguments.spec, arguments.overrides)
    with Store(spec.root).lock(f"run-{spec.run_version}"):
        record, journal, said = _record(arguments, spec, handlers)
        folder, replaced = replace_evidence(spec, record, journal)
        check_folder(folder)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    where = relative(folder, spec.root)
    text = "\n".join([*said, f"{where}/", columns((name,) for name in files), *([replaced.text()] if replaced else [])])
    document = {"ok": True, "evidence": where, "files": files, "notes": said,
                "replaced": replaced and replaced.as_json()}  # fmt: skip
    return Reply(document, text)


def package(arguments: Namespace) -> Reply:
    """Pack the evidence folder, where its evidence is that of the run-spec as it is now."""
    spec, handlers = load(arguments.spec, arguments.overrides)
    folder = spec.resolve(spec.evidence.dir)
    if not folder.is_dir() or not any(folder.iterdir()):
        raise EvidenceIncomplete("U131", f"there is no evidence folder {spec.evidence.dir}/ yet",
                                 hint=f"runspec run {arguments.spec}")  # fmt: skip
    check_targets(spec)
    refuse_another_run(spec, handlers, [arguments.spec, *(arguments.overrides or ())])
    archive = pack(folder, spec.resolve(spec.package.dir), spec.package.name)
    where = relative(archive, spec.root)
    return Reply({"ok": True, "package": where, "sha256": digest_file(archive)}, where)
