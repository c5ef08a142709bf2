"""``init``, ``presets``, ``steps``, ``schema`` and ``doctor``: the commands to start with."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from engine import project
from engine.canonical import JsonObject, pretty_json
from engine.commands import Reply, columns, pick
from engine.commands.loading import known_kinds, plugin_warnings, project_root, refuse_evidence
from engine.gallery import GROUPS, kaggle_target, shipped


def init(arguments: Namespace) -> Reply:
    """Write a project to begin with."""
    from engine.steps.registry import handlers

    found = shipped()
    name = pick("preset or example", arguments.name or "quickstart", found)
    refuse_evidence(Path(arguments.dir or "."), "init … --dir DIR")
    made = project.init(found[name].path, Path(arguments.dir or "."), kinds=handlers(), force=arguments.force)
    steps = [*made.first, *(f"runspec {verb} {made.spec}" for verb in ("validate", "plan", "run"))]
    if arguments.dir:
        steps.insert(0, f"cd {arguments.dir}")
    lines = [f"wrote {made.root / name}" for name in made.written]
    lines += [f"kept  {made.root / name}" for name in made.kept]
    target = kaggle_target(found[name].path)
    elsewhere = f"runspec kaggle notebook {made.spec} --target {target}" if target else None
    on_kaggle = ["", "or on Kaggle, with a notebook:", f"  {elsewhere}"] * bool(target)
    text = "\n".join([*lines, "", "next:", *(f"  {step}" for step in steps), *on_kaggle])
    document = {"ok": True, "root": str(made.root.resolve()), "spec": made.spec, "notebook": elsewhere}
    return Reply({**document, "written": list(made.written), "kept": list(made.kept), "next": steps}, text)


def presets(_: Namespace) -> Reply:
    """The shipped run-specs, by group."""

    found = list(shipped().values())
    width = max(len(spec.name) for spec in found)
    blocks = []
    for group in GROUPS:
        lines = [f"  {spec.name:<{width}}  {spec.about}" for spec in found if spec.group == group]
        blocks.append("\n".join([group, *lines]))
    text = "\n\n".join([*blocks, "runspec init NAME writes one here, with the files that it names"])
    rows = [{"name": spec.name, "group": spec.group, "about": spec.about} for spec in found]
    return Reply({"ok": True, "presets": rows}, text)


def steps(_: Namespace) -> Reply:
    """What ``uses:`` can name."""
    from engine.steps.registry import HANDLERS, handlers

    rows: list[JsonObject] = []
    for kind, handler in handlers().items():
        rows.append(
            {
                "uses": kind,
                "version": handler.version,
                "title": handler.title,
                "takes": list(handler.takes),
                "makes": handler.makes,
                "needs_extra": handler.needs_extra,
                "built_in": kind in HANDLERS,
            }
        )
    table = columns(
        (str(row["uses"]), f"{', '.join(row['takes']) or '-'} -> {row['makes']}",
         str(row["title"]) + ("" if row["built_in"] else " (plug-in)")) for row in rows
    )  # fmt: skip
    problems = plugin_warnings()
    document = {"ok": True, "steps": rows, "warnings": [problem.as_json() for problem in problems]}
    return Reply(document, f"{table}\n\nrunspec schema STEP prints its arguments", 0, tuple(problems))


def schema(arguments: Namespace) -> Reply:
    """The JSON schema; the document and the text are the same."""
    from engine.runspec import schema_document

    kinds = known_kinds()["kinds"]
    if arguments.step is not None:
        pick("kind of step", arguments.step, kinds)
    document = schema_document(kinds, arguments.step)
    return Reply(document, pretty_json(document).rstrip("\n"))


def doctor(arguments: Namespace) -> Reply:
    """What this machine has."""
    from engine.doctor import examine

    findings = examine(project_root(), devices=not arguments.no_devices)
    warnings = plugin_warnings()
    signs = {"ok": "ok", "missing": "--", "warning": "! "}
    lines = []
    for finding in findings:
        lines.append(f"{signs[finding.state]}  {finding.says}")
        if finding.fix:
            lines.append(f"      {finding.fix}")
    document = {"ok": True, "findings": [finding.as_json() for finding in findings],
                "warnings": [warning.as_json() for warning in warnings]}  # fmt: skip
    return Reply(document, "\n".join(lines), 0, tuple(warnings))
