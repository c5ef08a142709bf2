"""``validate``, ``plan`` and ``run``."""

from __future__ import annotations

import contextlib
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.commands import Reply, columns
from engine.commands.loading import known_kinds, load, plugin_warnings
from engine.errors import Diagnostic, InputInvalid

if TYPE_CHECKING:
    from engine.display.plain import Console
    from engine.pipeline.plan import Plan
    from engine.pipeline.runner import Outcome
    from engine.runspec.model import Spec
    from engine.steps import Handler


def validate(arguments: Namespace) -> Reply:
    """All errors of all the files, then one exit code."""
    from engine.runspec import check_spec

    kinds = known_kinds()
    found = {path: check_spec(Path(path), arguments.overrides, **kinds) for path in dict.fromkeys(arguments.spec)}
    every = [diagnostic for diagnostics in found.values() for diagnostic in diagnostics] + plugin_warnings()
    ok = not any(diagnostic.severity == "error" for diagnostic in every)
    lines = [f"{path}: {_verdict(diagnostics)}" for path, diagnostics in found.items()]
    document = {"ok": ok, "diagnostics": [diagnostic.as_json() for diagnostic in every]}
    return Reply(document, "\n".join(lines), 0 if ok else 2, tuple(every))


def _verdict(diagnostics: list[Diagnostic]) -> str:
    errors = sum(diagnostic.severity == "error" for diagnostic in diagnostics)
    warnings = len(diagnostics) - errors
    words = [f"{errors} error{'s' * (errors != 1)}"] * bool(errors)
    words += [f"{warnings} warning{'s' * (warnings != 1)}"] * bool(warnings)
    return ", ".join(words if errors else ["ok", *words])


def plan(arguments: Namespace) -> Reply:
    """Steps with their reasons, and the price."""
    from engine.artifacts.store import Store
    from engine.display.plain import make_console
    from engine.pipeline.plan import make_plan
    from engine.preflight import price, shardings
    from engine.preflight.shardings import shardings_text

    spec, handlers = load(arguments.spec, arguments.overrides)
    planned = make_plan(spec, handlers, Store(spec.root))
    console = make_console(quiet=arguments.quiet, plain=True)
    cost = price(spec, handlers, arguments.target, exact=console.note if arguments.exact else None)
    steps = [
        {
            "id": entry.step.id,
            "uses": entry.step.uses,
            "action": entry.action,
            "reason": entry.reason,
            "fingerprint": entry.fingerprint,
        }
        for entry in planned.steps
    ]
    text = f"{spec.run_version}: {_count(planned)}\n{_step_table(steps)}\n\n{price_text(cost)}"
    document = {"steps": steps, **cost}
    if arguments.shardings:
        document["shardings"] = shardings(spec, handlers, arguments.target)
        text += "".join(f"\n\n{shardings_text(name, found)}" for name, found in document["shardings"].items())
    return Reply(document, text)


def _count(planned: Plan) -> str:
    to_run = sum(entry.action == "run" for entry in planned.steps)
    if not to_run:
        return "nothing to run, every step is done"
    return f"{to_run} of {len(planned.steps)} steps to run"


def _step_table(steps: list[dict[str, Any]]) -> str:
    return columns((str(step["id"]), str(step["uses"]), str(step["action"]), str(step["reason"])) for step in steps)


def price_text(cost: Mapping[str, Any]) -> str:
    """The price as a person reads it: three lines, estimates called estimates."""
    memory, time_, disk = cost["memory"], cost["time"], cost["disk"]
    where = f"{memory['target']}, {memory['devices']} device{'s' * (memory['devices'] != 1)}"
    if memory["peak_bytes_per_device"] is None:
        first = f"memory  unknown on {where}: {memory['reason']}"
    else:
        verdict = "fits" if memory["fits"] else "does NOT fit"
        limit = _gib(memory["limit_bytes_per_device"])
        peak = _gib(memory["peak_bytes_per_device"])
        source = memory["source"]
        estimate = source == "analytic"
        how = "an estimate; runspec plan --exact asks the compiler" if estimate else f"says the {source}"
        first = f"memory  {verdict}: {'about ' * estimate}{peak} of {limit} per device on {where} ({how})"
    seconds = time_["seconds"]
    second = f"time    {time_['reason']}" if seconds is None else f"time    about {seconds:.0f} s"
    third = (
        f"disk    unknown: {disk.get('reason')}"
        if disk["needed_bytes"] is None
        else (
            f"disk    {'fits' if disk['fits'] else 'does NOT fit'}: about {_gib(disk['needed_bytes'])} of "
            f"{_gib(disk['limit_bytes'])}"
        )
    )
    return "\n".join([first, second, third])


def _gib(count: int) -> str:
    if count < 1 << 30:
        return f"{count / (1 << 20):.1f} MiB"
    return f"{count / (1 << 30):.2f} GiB"


def run(arguments: Namespace) -> Reply:
    """load -> plan -> execute (which renders, packages and verifies) -> what to do with it."""
    from engine.commands.follow import follow, place_in_cluster, trainings_ahead
    from engine.display.plain import make_console
    from engine.pipeline.plan import Selection
    from engine.pipeline.runner import execute

    spec, handlers = load(arguments.spec, arguments.overrides)
    force = frozenset(arguments.force or ())
    selection = Selection(arguments.start, arguments.to, arguments.only, force)
    place = place_in_cluster(spec)
    if place is not None:
        console = make_console(quiet=arguments.quiet, plain=arguments.json)
        return follow(spec, *place, trainings_ahead(spec, handlers, selection), console.note)
    _require_extras(spec, handlers, selection)
    started = time.monotonic()
    with _console(arguments, spec) as console:
        outcome = execute(spec, handlers, console=console, command=arguments.typed, selection=selection)
        console.finished(outcome.ran, outcome.skipped, time.monotonic() - started)
    return _end_of_run(arguments, spec, outcome)


@contextlib.contextmanager
def _console(arguments: Namespace, spec: Spec) -> Iterator[Console]:
    """The display and the log of this run; both let go of what they hold however the run ends."""
    from engine.display.log import RunLog
    from engine.display.plain import Tee, make_console

    display = make_console(quiet=arguments.quiet, plain=arguments.json)
    path = spec.root / ".runspec" / "logs" / f"{spec.run_version}.jsonl"
    log = RunLog(path, run_version=spec.run_version, command=arguments.typed)
    console = Tee(display, log)
    try:
        yield console
    finally:
        console.close()


def _require_extras(spec: Spec, handlers: Mapping[str, Handler], selection: Any) -> None:
    """X101 before the first step runs, not after an hour. A plan is made only where something is missing."""
    from engine.extras import extras_of, missing_modules, require

    needed = {
        step.id: [extra for extra in (handler.needs_extra, *extras_of(step.args, handler.schema)) if extra]
        for step in spec.steps
        for handler in [handlers[step.uses]]
    }
    if not any(missing_modules(extra) for extras in needed.values() for extra in extras):
        return
    from engine.artifacts.store import Store
    from engine.pipeline.plan import make_plan

    findings: list[Diagnostic] = []
    for entry in make_plan(spec, handlers, Store(spec.root), selection).steps:
        for extra in needed[entry.step.id] if entry.action == "run" else ():
            try:
                require(extra, f'step "{entry.step.id}" ({entry.step.uses})')
            except InputInvalid as error:
                findings += error.diagnostics
    if findings:
        raise InputInvalid.of(findings)


def _end_of_run(arguments: Namespace, spec: Spec, outcome: Outcome) -> Reply:
    document: dict[str, Any] = {
        "ok": True,
        "run_version": spec.run_version,
        "ran": list(outcome.ran),
        "skipped": list(outcome.skipped),
        "summary": None,
        "evidence": None,
        "package": None,
        "trust_level": None,
        "checks": [],
        "committed": None,
    }
    if outcome.record is None or outcome.finish is None:
        if arguments.commit:
            words = "nothing is committed: a part of the steps (--to, --only) makes no evidence"
            return Reply(document, words)
        return Reply(document, f"ran: {', '.join(outcome.ran) or 'nothing'}; a part of the steps makes no evidence")
    from engine.commands.commit import commit_evidence, git_commands
    from engine.pipeline.plan import relative

    finish = outcome.finish
    summary = outcome.record.step_of("result_summary")
    document |= {
        "summary": dict(summary.artifact.facts) if summary else None,
        "evidence": relative(finish.evidence_dir, spec.root),
        "package": relative(finish.package, spec.root),
        "trust_level": finish.trust_level,
        "checks": [dict(check) for check in finish.checks],
    }
    block = summary.artifact.file("summary.txt").read_text(encoding="utf-8").rstrip("\n") if summary else ""
    lines = [block] * bool(block) + [
        f"evidence  {document['evidence']}/",
        f"package   {document['package']}",
        f"verified  {_passed(finish.checks)}; trust level {finish.trust_level}",
    ]
    if arguments.commit:
        document["committed"] = commit_evidence(spec)
        lines.append(f"committed {document['committed']}")
    else:
        lines += ["", "commit the evidence:", *(f"  {command}" for command in git_commands(spec))]
    return Reply(document, "\n".join(lines))


def _passed(checks: tuple[Mapping[str, Any], ...]) -> str:
    passed = [str(check["id"]) for check in checks if check["status"] == "pass"]
    other = [check for check in checks if check["status"] != "pass"]
    words = f"{len(passed)} checks passed ({' '.join(passed)})"
    return words + (f", {len(other)} did not apply" if other else "")
