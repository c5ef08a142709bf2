"""``validate``: every error of the run-specs, all at once, and every secret in them."""

from __future__ import annotations

import contextlib
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from engine.commands import Reply
from engine.commands.loading import known_kinds, plugin_warnings
from engine.errors import Diagnostic
from engine.pipeline.own_secrets import secret_findings
from engine.runspec import check_spec
from engine.runspec.source import MAX_BYTES


def validate(arguments: Namespace) -> Reply:
    """All errors of all the files, then one exit code."""
    kinds = known_kinds()
    findings = {
        path: check_spec(Path(path), arguments.overrides, **kinds) + _secrets(path, arguments.overrides)
        for path in dict.fromkeys(arguments.spec)
    }
    everything = [finding for of_file in findings.values() for finding in of_file] + plugin_warnings()
    ok = not any(finding.severity == "error" for finding in everything)
    lines = [f"{path}: {_verdict(of_file)}" for path, of_file in findings.items()]
    document = {"ok": ok, "diagnostics": [finding.as_json() for finding in everything]}
    return Reply(document, "\n".join(lines), 0 if ok else 2, tuple(everything))


def _secrets(path: str, overrides: Sequence[str]) -> list[Diagnostic]:
    """X341, as `run` would say before its first step; the value is never shown. What cannot be read is a finding already."""
    files = {"the overrides": "\n".join(overrides).encode()}
    with contextlib.suppress(OSError):
        if Path(path).is_file() and Path(path).stat().st_size <= MAX_BYTES:
            files[path] = Path(path).read_bytes()
    return secret_findings(files)


def _verdict(diagnostics: list[Diagnostic]) -> str:
    errors = sum(diagnostic.severity == "error" for diagnostic in diagnostics)
    warnings = len(diagnostics) - errors
    words = [f"{errors} error{'s' * (errors != 1)}"] * bool(errors)
    words += [f"{warnings} warning{'s' * (warnings != 1)}"] * bool(warnings)
    return ", ".join(words if errors else ["ok", *words])
