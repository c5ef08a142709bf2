"""``validate``: every error of the run-specs, all at once."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from engine.commands import Reply
from engine.commands.loading import known_kinds, plugin_warnings
from engine.errors import Diagnostic
from engine.runspec import check_spec


def validate(arguments: Namespace) -> Reply:
    """All errors of all the files, then one exit code."""
    kinds = known_kinds()
    findings = {path: check_spec(Path(path), arguments.overrides, **kinds) for path in dict.fromkeys(arguments.spec)}
    everything = [finding for of_file in findings.values() for finding in of_file] + plugin_warnings()
    ok = not any(finding.severity == "error" for finding in everything)
    lines = [f"{path}: {_verdict(of_file)}" for path, of_file in findings.items()]
    document = {"ok": ok, "diagnostics": [finding.as_json() for finding in everything]}
    return Reply(document, "\n".join(lines), 0 if ok else 2, tuple(everything))


def _verdict(diagnostics: list[Diagnostic]) -> str:
    errors = sum(diagnostic.severity == "error" for diagnostic in diagnostics)
    warnings = len(diagnostics) - errors
    words = [f"{errors} error{'s' * (errors != 1)}"] * bool(errors)
    words += [f"{warnings} warning{'s' * (warnings != 1)}"] * bool(warnings)
    return ", ".join(words if errors else ["ok", *words])
