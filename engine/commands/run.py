"""``run``: the steps, then evidence, package, verification and, with ``--commit``, the commit."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from engine.artifacts.store import Artifact, Store
from engine.canonical import JsonMapping, JsonObject
from engine.commands import Reply
from engine.commands.commit import check_commit, commit_evidence, git_commands
from engine.commands.follow import follow, follower_of, training_steps_ahead
from engine.commands.loading import load, refuse_evidence
from engine.commands.parsing import Command
from engine.display.log import RunLog
from engine.display.plain import Console, Tee, make_console
from engine.errors import Diagnostic, InputInvalid, render
from engine.evidence.levels import LEVEL_CHECK, headline, judge
from engine.extras import extras_of, missing_modules, require
from engine.kaggle.session.platform import name_of
from engine.pipeline.plan import Selection, make_plan, relative
from engine.pipeline.runner import Outcome, execute
from engine.pipeline.session.limits import session_options
from engine.protocol.deadline import process_began, steady_seconds
from engine.protocol.hub_token import LABEL
from engine.runspec.model import Spec, needs_token
from engine.steps import Handler

# Imported only when it is typed, as every command is.
ON_PLATFORM = Command("run --on", "", "kaggle.driver:run_on")


def run(arguments: Namespace) -> Reply:
    """load -> plan -> execute (which renders, packages and verifies) -> the reply."""
    if arguments.on is not None:
        return _elsewhere(arguments)
    began = (
        process_began() if sys.argv[1:2] == ["run"] else steady_seconds()
    )  # a process that is not this command alone
    spec, handlers = load(arguments.spec, arguments.overrides)
    force = frozenset(arguments.force or ())
    selection = Selection(arguments.start, arguments.to, arguments.only, force)
    _refuse_nothing(spec, selection)
    options = session_options(spec, began, arguments.session_limit, arguments.session_out, arguments.continue_from)
    if options.out is not None:
        refuse_evidence(options.out, "run --session-out DIR")
    follower = follower_of(spec)
    if follower is not None:
        console = make_console(quiet=arguments.quiet, plain=arguments.plain or arguments.json)
        return follow(spec, *follower, training_steps_ahead(spec, handlers, selection), console.note)
    _require_extras(spec, handlers, selection)
    _take_token(spec)
    if arguments.commit and not selection.partial:
        check_commit(spec)  # before the training run, not after it
    started = time.monotonic()
    with _console(arguments, spec) as console:
        outcome = execute(
            spec, handlers, console=console, command=arguments.typed, selection=selection, options=options
        )
        selected = [step_id for step_id in outcome.skipped if selection.covers(spec, step_id)]
        # Where nothing ran, what was asked for is done; of the other steps nobody has said so.
        console.finished(outcome.ran, outcome.skipped if outcome.ran else selected, time.monotonic() - started)
    made = [artifact for step_id, artifact in outcome.made.items() if selection.covers(spec, step_id)]
    return _end_of_run(arguments, spec, outcome, _model_folder(made, spec))


def _elsewhere(arguments: Namespace) -> Reply:
    """``--on``: the whole run on a platform. Raises InputInvalid U103 for options that are about this machine alone."""
    own = {"--from": arguments.start, "--to": arguments.to, "--only": arguments.only, "--force": arguments.force,
           "--session-out": arguments.session_out, "--continue-from": arguments.continue_from}  # fmt: skip
    given = [option for option, value in own.items() if value]
    if given:
        raise InputInvalid("U103", f"runspec run: {given[0]} is for this machine, and --on {arguments.on} runs all steps there",
                           hint=f"leave out {given[0]}, or --on")  # fmt: skip
    if not arguments.commit:
        return ON_PLATFORM.function()(arguments)
    spec, _ = load(arguments.spec, arguments.overrides)
    check_commit(spec)  # before the sessions there, not after them
    reply = ON_PLATFORM.function()(arguments)
    return replace(reply, document={**reply.document, "committed": commit_evidence(spec)})


def _refuse_nothing(spec: Spec, selection: Selection) -> None:
    """Raises InputInvalid U103 for a selection that contradicts itself: "nothing to do" would be taken for done."""
    selection.check(spec)
    said = "runspec run: "
    if selection.only and (selection.start or selection.stop):
        other = "--from" if selection.start else "--to"
        raise InputInvalid(
            "U103", f"{said}--only {selection.only} runs one step alone", hint=f"leave out {other}, or --only"
        )
    order = [step.id for step in spec.steps]
    if selection.start and selection.stop and order.index(selection.start) > order.index(selection.stop):
        raise InputInvalid("U103", f"{said}--from {selection.start} comes after --to {selection.stop}, so that no step is left",
                           hint=f"the steps in order: {', '.join(order)}")  # fmt: skip
    left_out = sorted(step for step in selection.force - {"all"} if not selection.covers(spec, step))
    if left_out:
        raise InputInvalid("U103", f"{said}--force {left_out[0]} is not among the steps that are selected",
                           hint="select it too, or leave out --force for it")  # fmt: skip


@contextlib.contextmanager
def _console(arguments: Namespace, spec: Spec) -> Iterator[Console]:
    """The display and the log of this run; both are closed however the run ends."""
    display = make_console(quiet=arguments.quiet, plain=arguments.plain or arguments.json)
    path = spec.root / ".runspec" / "logs" / f"{spec.run_version}.jsonl"
    log = RunLog(path, run_version=spec.run_version, command=arguments.typed)
    console = Tee(display, log)
    try:
        yield console
    finally:
        console.close()


def _require_extras(spec: Spec, handlers: Mapping[str, Handler], selection: Selection) -> None:
    """X101 before the first step runs, not after an hour. The plan is made only if an extra is missing."""
    needed = {
        step.id: [extra for extra in (handler.needs_extra, *extras_of(step.args, handler.schema)) if extra]
        for step in spec.steps
        for handler in [handlers[step.uses]]
    }
    if not any(missing_modules(extra) for extras in needed.values() for extra in extras):
        return
    findings: list[Diagnostic] = []
    for entry in make_plan(spec, handlers, Store(spec.root), selection).steps:
        for extra in needed[entry.step.id] if entry.action == "run" else ():
            try:
                require(extra, f'step "{entry.step.id}" ({entry.step.uses})')
            except InputInvalid as error:
                findings += error.diagnostics
    if findings:
        raise InputInvalid.of(findings)


def _take_token(spec: Spec) -> None:
    """On Kaggle the hub's token is a secret that a service has: asked for once, before the first step, for the processes of this run.

    The module is imported there alone: it brings an HTTP client, and a run with nothing to do is to end at once.
    """
    if name_of(os.environ) == "kaggle" and needs_token(spec) and not os.environ.get(LABEL):
        secrets = importlib.import_module("engine.kaggle.session.secrets")
        token = secrets.find_token(os.environ, in_kernel=False)
        if token.problem is not None:
            sys.stderr.write(f"{render(token.problem)}\n")
        elif token.value is not None:
            os.environ[LABEL] = token.value


def _end_of_run(arguments: Namespace, spec: Spec, outcome: Outcome, model: str | None) -> Reply:
    document: JsonObject = {
        "ok": True,
        "run_version": spec.run_version,
        "ran": list(outcome.ran),
        "skipped": list(outcome.skipped),
        "summary": None,
        "model": model,
        "evidence": None,
        "replaced": None,
        "package": None,
        "trust_level": None,
        "checks": [],
        "committed": None,
    }
    if outcome.record is None or outcome.finish is None:
        if arguments.commit:
            return Reply(
                document, "nothing is committed: --to and --only run a part of the steps, which makes no evidence"
            )
        text = f"ran: {', '.join(outcome.ran) or 'nothing'}; a part of the steps makes no evidence"
        return Reply(document, "\n".join([text, *_model_line(document)]))
    finish = outcome.finish
    summary = outcome.record.step_of("result_summary")
    document |= {
        "summary": dict(summary.artifact.facts) if summary else None,
        "evidence": relative(finish.evidence_dir, spec.root),
        "replaced": finish.replaced and finish.replaced.as_json(),
        "package": relative(finish.package, spec.root),
        "trust_level": finish.trust_level,
        "checks": [dict(check) for check in finish.checks],
    }
    block = outcome.record.read(summary, "summary.txt").decode("utf-8").rstrip("\n") if summary else ""
    lines = [block] * bool(block) + _model_line(document)
    lines += [
        f"evidence  {document['evidence']}/",
        f"package   {document['package']}",
        *_proved(finish.checks),
    ]
    lines += finish.replaced.text().splitlines() if finish.replaced else []
    if arguments.commit:
        document["committed"] = commit_evidence(spec)
        lines.append(f"committed {document['committed']}")
    else:
        lines += ["", "commit the evidence:", *(f"  {command}" for command in git_commands(spec))]
    return Reply(document, "\n".join(lines))


def _model_line(document: JsonMapping) -> list[str]:
    return [f"model     {document['model']}/"] if document["model"] else []


def _model_folder(made: Iterable[Artifact], spec: Spec) -> str | None:
    """The folder that ``from_pretrained`` takes: the model that the last training step exported."""
    exported = [
        artifact.path / folder
        for artifact in made
        for folder in ("model", "merged")
        if f"{folder}/config.json" in artifact.files
    ]
    return relative(exported[-1], spec.root) if exported else None


def _proved(checks: tuple[JsonMapping, ...]) -> list[str]:
    """What is proved, as the last check computed it, and what the next level takes."""
    found = {str(check["id"]): (check["status"], str(check["detail"])) for check in checks}
    trust = judge(ok=all(status != "fail" for status, _ in found.values()), found=found)
    lines = [f"verified  {found[LEVEL_CHECK][1] if LEVEL_CHECK in found else headline(trust)}"]
    return lines + ([f"next      {trust.next.name}: {trust.next.takes}"] if trust.next is not None else [])
