"""The tables of what fits where, in Markdown, and the page of the documents that carries them.

In: cases and the compilers' answers (parts.fitting). Out: rows, tables, the page with its generated part made anew.

    tables(CASES, recorded())
    page(old_text, recorded())
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine.model_config.shapes import DTYPE_BYTES, published_bytes
from engine.preflight.disks import checkpoint_bytes_on_disk, model_bytes_on_disk
from engine.preflight.shards import Mesh, leaves
from engine.protocol.machines import MACHINES
from parts.fitting import CASES, QUESTIONS, SHORT, Case, Found, Shape, asking

GIB, GB = 1 << 30, 1e9
KAGGLE_OUTPUT = 20 * GB  # /kaggle/working (engine.preflight.targets)
BEGIN, END = "<!-- printed by benchmarks/what_fits.py: begin -->", "<!-- end -->"
NAMES = {
    "gemma-3-270m": "Gemma 3 270M", "gemma-3-1b-pt": "Gemma 3 1B", "gemma-2b": "Gemma 2B", "gemma-2-2b": "Gemma 2 2B",
    "gemma-3-4b-pt": "Gemma 3 4B", "gemma-7b": "Gemma 7B", "gemma-2-9b": "Gemma 2 9B", "gemma-3-12b-pt": "Gemma 3 12B",
}  # fmt: skip
METHOD_NAMES = {"full": "full", "in_backward": "full, update in backward", "lora": "LoRA"}


def rows(cases: Iterable[Case], answers: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One mapping a case: each question's :class:`~parts.fitting.Found` as JSON, and the modelled seconds of a train step."""
    found = []
    for case in cases:
        row: dict[str, Any] = {"machine": case.machine, "model": case.model, "method": case.method}
        for question in QUESTIONS:
            largest = case.find(question, asking(case, answers))
            row[question] = largest._asdict() | {"shape": largest.shape and largest.shape._asdict()}
            if largest.shape is not None:
                row[question]["modelled_seconds"] = modelled_seconds(answers.get(case.name(largest.shape)))
        found.append(row)
    return found


def modelled_seconds(answer: Mapping[str, Any] | None) -> float | None:
    """Of one train step, from the compiled program (engine.trainer.cost.modelled); None where it was not compiled, or does not fit."""
    work = None if answer is None else answer["work"]
    return None if work is None else work["modelled_seconds"]


def tables(cases: Sequence[Case], answers: Mapping[str, Mapping[str, Any]]) -> str:
    """A table for each machine, and one of what a run needs beside the device."""
    parts = []
    for machine in dict.fromkeys(case.machine for case in cases):
        own = [case for case in cases if case.machine == machine]
        parts += [f"## {_title(machine)}", _machine_table(own, answers)]
    models = dict.fromkeys((case.model, case.method) for case in cases if case.method != "in_backward")  # as "full"
    parts += ["## What else a run needs", needs_table(list(models))]
    return "\n\n".join(parts)


def _title(machine: str) -> str:
    """`Two NVIDIA T4 (16 GB): t4x2`, as a heading."""
    about = MACHINES[machine].about
    return f"{about[0].upper()}{about[1:]}"


def _machine_table(cases: Iterable[Case], answers: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        "| model | method | longest sequence, tokens | GiB | modelled s a step | most rows of 512 a device | GiB | modelled s a step |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        cells = [NAMES[case.model], METHOD_NAMES[case.method]]
        for question in QUESTIONS:
            found = case.find(question, asking(case, answers))
            answer = None if found.shape is None else answers.get(case.name(found.shape))
            cells += _cells(found, "seq_len" if question == "longest sequence" else "rows", modelled_seconds(answer))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(found: Found, field: str, seconds: float | None) -> list[str]:
    """The largest, its GiB, its seconds. ~, * and † are explained in the page."""
    about = "~" if found.source == "estimate" else ""
    gib = f"{about}{found.needed / GIB:.2f}"
    if found.shape is None:
        return ["does not fit", gib, "–"]
    mark = {None: " *", "estimate": " †", "compiler": ""}[found.next_source]
    return [f"{about}{getattr(found.shape, field):,}{mark}", gib, _seconds(seconds)]


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.1f}"


def needs_table(models: Sequence[tuple[str, str]]) -> str:
    """Disk and host memory of each model and method, whatever the machine; GB are 10^9 bytes."""
    lines = [
        "| model | method | download, GB | one checkpoint, GB | export, GB | both in Kaggle's 20 GB of output | host memory while loading, GB |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, method in models:
        case = Case("t4x2", model, method)
        args = case.train_args(Shape(SHORT, 1))
        checkpoint, export = checkpoint_bytes_on_disk(case.config, args), model_bytes_on_disk(case.config, args)
        kept = "yes" if checkpoint + export <= KAGGLE_OUTPUT else "no: scratch"
        sizes = published_bytes(f"google/{model}", case.config), checkpoint, export
        gigabytes = [f"{size / GB:.1f}" if size >= GB / 10 else f"{size / GB:.2f}" for size in sizes]
        host = host_bytes(case.config, str(args["dtype"]))
        lines.append(
            f"| {NAMES[model]} | {METHOD_NAMES[method]} | {' | '.join(gigabytes)} | {kept} | {host / GB:.1f} |"
        )
    return "\n".join(lines)


def host_bytes(config: Mapping[str, Any], dtype: str) -> int:
    """The two largest arrays, all layers stacked: the most that loading holds on the host (docs/explanation/weights.md)."""
    sizes = sorted(math.prod(leaf.shape) * leaf.copies for leaf in leaves(config, Mesh()))
    return DTYPE_BYTES[dtype] * sum(sizes[-2:])


def page(text: str, answers: Mapping[str, Mapping[str, Any]]) -> str:
    """The page with what stands between the two markers printed anew."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{facts(answers)}\n\n{tables(CASES, answers)}\n\n{END}{tail}"


def facts(answers: Mapping[str, Mapping[str, Any]]) -> str:
    """When and by what the figures were made, and how many of them are the compilers'."""
    days = sorted({str(answer["asked"]) for answer in answers.values()})
    versions = sorted({version for answer in answers.values() for version in answer["versions"]})
    found = [case.find(question, asking(case, answers)) for case in CASES for question in QUESTIONS]
    compiled = sum(one.source == "compiler" for one in found)
    when = f"{days[0]} to {days[-1]}" if len(days) > 1 else "".join(days)
    return (
        f"Compiled {when}, {', '.join(versions)}: {len(answers)} programs. Of the {len(found)} figures of both questions "
        f"{compiled} are the compilers' own; those with a ~ are the engine's estimate."
    )
