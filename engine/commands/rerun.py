"""``verify --rerun``: what was asked for, the display while it works, and the differences as text and JSON."""

from __future__ import annotations

import secrets
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.canonical import JsonObject
from engine.commands.loading import is_spec, load
from engine.display.plain import make_console
from engine.errors import InputInvalid
from engine.evidence.bundle import read_bundle
from engine.evidence.checks.again import Difference, differing_answers, differing_steps
from engine.evidence.checks.rerun import Again, Rerun
from engine.evidence.contents import Evidence, Reader
from engine.evidence.verify import Verification, verify_bundle
from engine.pipeline.rerun.request import Request
from engine.printable import one_line
from engine.runspec import marked_root
from engine.steps.registry import handlers

SEEDS = 1 << 32  # whoever made the evidence could not have prepared for each


@dataclass(frozen=True, slots=True)
class Compared:
    """What was run again, and every difference."""

    rerun: Rerun
    answers: Sequence[Difference]
    losses: Sequence[Difference]


def asked(arguments: Namespace) -> Request | None:
    """The re-run that the command line asks for. Raises InputInvalid U158."""
    n_items, n_steps, seed = arguments.rerun, arguments.rerun_steps, arguments.seed
    for name, number, least in (("--rerun", n_items, 1), ("--rerun-steps", n_steps, 1), ("--seed", seed, 0)):
        if number is not None and number < least:
            raise InputInvalid("U158", f"{name} is {number}, and must be {least} or more", hint=f"{name} 5")
    for name, value in (("--seed", seed), ("--checkpoint", arguments.checkpoint)):
        if value is not None and n_items is None:
            raise InputInvalid("U158", f"{name} is for the items of --rerun K", hint=f"--rerun 5 {name} {value}")
    if n_items is None and n_steps is None:
        return None
    checkpoint = Path(arguments.checkpoint).expanduser() if arguments.checkpoint is not None else None
    return Request(secrets.randbelow(SEEDS) if seed is None else seed, n_items, n_steps, checkpoint)


def judged_again(path: Path, reader: Reader, request: Request, arguments: Namespace) -> tuple[Verification, Compared]:
    """The verification with what came out when a part was run again."""
    from engine.pipeline.rerun.again import run_again  # with the runner and the steps: only a re-run pays for them

    bundle = read_bundle(path)
    archive = path if bundle.kind == "zip" else None
    evidence = Evidence(bundle, archive, reader)
    console = make_console(quiet=arguments.quiet, plain=arguments.plain or arguments.json)
    try:
        rerun = run_again(evidence, request, projects_of(arguments.path, path), handlers(), console)
    finally:
        console.close()
    compared = Compared(
        rerun,
        differing_answers(evidence, rerun.answers) if rerun.answers else (),
        differing_steps(evidence, rerun.losses) if rerun.losses else (),
    )
    return verify_bundle(bundle, archive, replace(reader, rerun=rerun)), compared


def projects_of(word: str, path: Path) -> list[Path]:
    """The projects whose stores may have the model: that of the run-spec or of the evidence, and that of the current folder."""
    if is_spec(word) and Path(word).suffix in (".yaml", ".yml"):
        spec, _ = load(word)
        return [spec.root]
    roots = [marked_root(path), marked_root(Path.cwd())]
    return list(dict.fromkeys(root for root in roots if root is not None and (root / ".runspec").is_dir()))


def differences_text(compared: Compared | None) -> list[str]:
    """Each item and train step that is another one, a line each."""
    if compared is None:
        return ["not run again: a check failed"]
    other = [*compared.answers, *compared.losses]
    return ["another result when run again (recorded -> again):"] * bool(other) + [
        f"  {one_line(found.text())}" for found in other
    ]


def rerun_document(compared: Compared | None) -> JsonObject | None:
    """For ``--json``."""
    if compared is None:
        return None
    rerun = compared.rerun
    return {
        "seed": rerun.seed,
        "platform": rerun.platform,
        "items": _part(rerun.answers, compared.answers, "id"),
        "train_steps": _part(rerun.losses, compared.losses, "train_step"),
    }


def _part(again: Again | None, other: Sequence[Difference], key: str) -> JsonObject | None:
    if again is None:
        return None
    return {
        "run_again": [row[key] for row in again.rows],
        "n_equal": len(again.rows) - len({found.of for found in other}),
        "elsewhere": list(again.elsewhere),
        "differences": [found._asdict() for found in other],
    }
