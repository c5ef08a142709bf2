"""Every command with its arguments, options, JSON answer and exit codes: Markdown for ``docs/reference/commands.md``.

In: ``engine.commands.table.COMMANDS``, and what only a person can say of each (:data:`ANSWERS`, here).
Out: one section a group, one heading a command.

    commands()      # "## Start here\\n\\n### init\\n\\nWrites a run-spec …"
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import NamedTuple

from engine.commands.parsing import Argument, Command
from engine.commands.table import COMMANDS


class Answer(NamedTuple):
    """What ``--json`` prints (test_answers.py asks the commands), and the exit codes beside those of all commands.

    ``other``: what it prints with the argument ``when``.
    """

    json: str
    exits: tuple[int, ...] = ()
    when: str = ""
    other: str = ""


# Where a run on Kaggle stands, of all commands that are about one.
STANDING = (
    "{ok, run_version, state, owner, slug, version, url, evidence, package, trust_level, next, model_sources, "
    "attempts: [{number, state, version, target, earlier, progress, notes, …}]}"
)
ANSWERS: Mapping[str, Answer] = {
    "init": Answer("{ok, root, spec, notebook, written, kept, next}", (1,)),
    "presets": Answer("{ok, presets: [{name, about}]}"),
    "steps": Answer("{ok, steps: [{uses, version, title, takes, makes, needs_extra, built_in}], warnings}"),
    "schema": Answer("the schema itself"),
    "doctor": Answer("{ok, findings: [{what, state, says, fix, …}], warnings}"),
    "docs": Answer("{ok, topics: [{topic, part, title, about, path}]}", when="TOPIC", other="{ok, topic, path, text}"),
    "validate": Answer("{ok, diagnostics}"),
    "plan": Answer(
        "{steps: [{id, uses, action, reason, fingerprint}], target, memory, time, disk}",
        (1,),
        "--shardings",
        "{steps, target, memory, time, disk, shardings: {id: {mesh, batch, rows}}}",
    ),
    "run": Answer(
        "{ok, run_version, ran, skipped, summary, model, evidence, replaced, package, trust_level, checks, committed}",
        (1, 4, 5, 6, 7, 8),
    ),
    "launch": Answer("{ok, scheduler, name, submit, text}"),
    "status": Answer(
        "{ok, runs: [{run_version, state, time}], store_bytes, diagnostics}",
        (1,),
        "RUN",
        "{ok, run_version, state, steps, complete, replaced, sessions, model}",
    ),
    "show": Answer(
        "{ok, run_version, steps: [{id, uses, state, time, type, path, fingerprint, digest, facts, files}], complete, sessions}",
        (1,),
    ),
    "explain": Answer("{ok, steps: [{id, action, because}]}", (1,)),
    "logs": Answer("{ok, run_version, file, events}", (1,)),
    "evidence": Answer("{ok, evidence, files, notes, replaced}", (1, 4, 5, 6)),
    "package": Answer("{ok, package, sha256}", (1, 4)),
    "verify": Answer(
        "{ok, trust_level, trust: {level, proves, levels: [{level, title, shown, found, proves, takes}]}, "
        "checks: [{id, title, status, detail}], stated, rerun: {seed, platform, items: {run_again, n_equal, elsewhere, "
        "differences: [{of, field, recorded, again}]}, train_steps}}",
        (1, 5, 8),
    ),
    "sign": Answer(
        "{ok, evidence, package, fresh, key, fingerprint, signers, identity, replaced}",
        (1, 4, 5, 8),
        "--weights",
        "{ok, signatures: [{folder, signature}]}",
    ),
    "score": Answer(
        "{ok, scorecard, items, recorded, differences, trust_level}", (1, 4, 5), "EVAL_SET", "{ok, scorecard, items}"
    ),
    "report": Answer("{ok, trust_level, report, bytes, sha256, opened}", (1, 4, 5)),
    "items": Answer(
        "{ok, trust_level, n_items, n_wrong, items: [{id, question, asked, expected, answered, text, score, section, category, "
        "difficulty, finish_reason, verdict}]}",
        (1, 4, 5),
    ),
    "dataset check": Answer(
        "{ok, path, format, render, rendered_by, unit, n_rows, n_duplicates, lengths, trained_lengths, longest_id, unused_fields, "
        "sample, diagnostics, n_overlap, tokenizer, n_boundary_merges}",
        (1,),
    ),
    "dataset build": Answer("{ok, out, facts}", (1,)),
    "evalset check": Answer(
        "{ok, path, n_items, n_duplicates, sections, categories, difficulties, table, diagnostics}"
    ),
    "kaggle notebook": Answer("{ok, notebook, wheel, sha256, bytes, engine_sha256, cells_sha256}", (1,)),
    "kaggle push": Answer(STANDING, (1, 6, 8)),
    "kaggle run": Answer(STANDING, (1, 4, 5, 6, 8)),
    "kaggle status": Answer(
        "{ok, runs: [the answer of `kaggle push`]}",
        (1, 8),
        "RUN",
        f"{STANDING[:-1]}, platform: {{phase, word, message}}, quota: {{gpu, tpu}}, quota_until}}",
    ),
    "kaggle logs": Answer("{ok, run_version, version, lines}", (1, 8)),
    "kaggle fetch": Answer(
        STANDING, (1, 4, 5, 6, 7, 8), "OWNER/NAME/VERSION", "{ok, folder, owner, slug, version, files}"
    ),
}
# Of every command: done, the words or the input are wrong, a fault of ours, interrupted.
OF_ALL = (0, 2, 3, 130)


def commands() -> str:
    """All commands, group by group, as ``runspec --help`` lists them."""
    parts = []
    for group in dict.fromkeys(command.group for command in COMMANDS):
        parts.append(f"## {group[0].upper()}{group[1:]}")
        parts += [_command(command) for command in COMMANDS if command.group == group]
    return "\n\n".join(parts)


def _command(command: Command) -> str:
    usage = " ".join(["runspec", command.name, *map(_in_usage, command.arguments)])
    parts = [f"### {command.name}", f"{command.does[0].upper()}{command.does[1:]}.", f"    {usage}"]
    if command.more:
        parts.append(" ".join(textwrap.dedent(command.more).split()))
    if command.arguments:
        rows = [f"| `{argument.usage}` | {argument.help} |" for argument in command.arguments]
        parts.append("\n".join(["| argument | meaning |", "|---|---|", *rows]))
    answer = ANSWERS[command.name]
    shape = f"`{answer.json}`" if answer.json.startswith("{") else answer.json
    shape += f"; with `{answer.when}`: `{answer.other}`" if answer.when else ""
    exits = ", ".join(map(str, sorted({*OF_ALL, *answer.exits})))
    return "\n\n".join([*parts, f"`--json`: {shape}. Exit codes: {exits}."])


def _in_usage(argument: Argument) -> str:
    if not argument.is_option or argument.required:
        return argument.usage
    return f"[{argument.usage}]" + "…" * argument.repeat
