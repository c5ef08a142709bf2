"""The figures of README.md: runs the benchmarks that have a peer, keeps what they print by kind of processor, writes the table.

In: the environments with the peers. Out: the benchmarks' own tables; with ``--write`` their rows in parts/figures.json, with
command, processor and date, and from that file the table in benchmarks/README.md, a column for each kind of processor.

    $ make bench-peers [ARGS='--only raw_speed --write --tunix .venv-tunix/bin/python']
    $ python benchmarks/figures.py --table          # the table alone, from the file
    $ python benchmarks/figures.py --enter FILE     # records that another machine has written with --write

The others are transformers and its Trainer in PyTorch (`make parity` makes their environment) and google-tunix (``--tunix``, the
Python of an environment with it). What has no environment is named and left out. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from parts.gemma import REPOSITORY

from engine.canonical import pretty_json, write_atomic
from engine.protocol.processor import BFLOAT16, CPUINFO, flags

FIGURES = Path(__file__).parent / "parts" / "figures.json"
README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- figures: written by figures.py -->", "<!-- end of figures -->"
WITH_TORCH = REPOSITORY / ".venv-parity" / "bin" / "python"
LOWER_BARS = {"x", "times", "tokens/s", "Gflop/s"}  # a bar of such a figure is its lower limit; of others the upper one
Row = dict[str, Any]


class Benchmark(NamedTuple):
    """A script with its options; ``python``: which environment it needs, "parity", "tunix" or "own"."""

    script: str
    options: tuple[str, ...] = ()
    python: str = "own"
    peer: bool = True

    @property
    def command(self) -> str:
        """As it is typed in the project's folder."""
        python = ".venv-parity/bin/python" if self.python == "parity" else ".venv/bin/python"
        tunix = ("--tunix", "PYTHON") if self.python == "tunix" else ()
        return " ".join([python, f"benchmarks/{self.script}.py", *tunix, *self.options])


BENCHMARKS = (
    Benchmark("raw_speed", ("--rounds", "7"), "parity"),
    Benchmark("train_speed", ("--rounds", "2", "--steps", "6"), "parity"),
    Benchmark("tunix_speed", ("--rounds", "2", "--steps", "6"), "tunix"),
    Benchmark("forward", (), "parity"),
    Benchmark("generate", (), "parity"),
    Benchmark("generate", ("--dtype", "bfloat16"), "parity"),
    Benchmark("matmul", peer=False),
    Benchmark("startup", ("--rounds", "3"), peer=False),
    Benchmark("verify", ("--rounds", "5"), peer=False),
)


def main() -> int:
    """Run, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", metavar="TEXT", default="", help="benchmarks whose command has this text")
    parser.add_argument("--all", action="store_true", help="also those without a peer that differ by processor")
    parser.add_argument("--tunix", metavar="PYTHON", help="the Python of an environment with google-tunix")
    parser.add_argument("--write", action="store_true", help="keep the figures, and write README's table")
    parser.add_argument("--note", default="", help="what else is to be known of this machine's figures")
    parser.add_argument("--table", action="store_true", help="run nothing: print the table of what is kept")
    parser.add_argument("--enter", type=Path, metavar="FILE", help="run nothing: keep another machine's records, too")
    options = parser.parse_args()
    kept = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.is_file() else []
    if options.table:
        print(table(kept))
        return 0
    if options.enter:
        keep([*kept, *json.loads(options.enter.read_text(encoding="utf-8"))])
        return 0
    missed = False
    for benchmark in BENCHMARKS:
        if options.only not in benchmark.command or not (benchmark.peer or options.all or options.only):
            continue
        rows = run(benchmark, options.tunix)
        if rows is None:
            continue
        missed |= any(is_missed(row) for row in rows)
        show(benchmark, rows)
        if options.write:  # after each: a run takes half an hour, and may be stopped
            kept = keep([*kept, record(benchmark, rows, options.note)])
    return int(missed)


def run(benchmark: Benchmark, tunix: str | None) -> list[Row] | None:
    """Its rows; None, with a line that says why, where its environment is not there or it failed."""
    python = str(WITH_TORCH) if benchmark.python == "parity" else sys.executable
    more = ["--tunix", tunix] if benchmark.python == "tunix" and tunix else []
    if benchmark.python == "parity" and not WITH_TORCH.is_file():
        print(f"left out, no .venv-parity (make parity): {benchmark.command}", file=sys.stderr)
        return None
    if benchmark.python == "tunix" and not tunix:
        print(f"left out, no --tunix: {benchmark.command}", file=sys.stderr)
        return None
    script = str(REPOSITORY / "benchmarks" / f"{benchmark.script}.py")
    done = subprocess.run(
        [python, script, *more, *benchmark.options, "--json"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    try:
        rows: list[Row] = json.loads(done.stdout)
    except ValueError:
        print(f"left out, it ended with {done.returncode} and no figures: {benchmark.command}", file=sys.stderr)
        return None
    return rows


def record(benchmark: Benchmark, rows: Sequence[Row], note: str) -> Row:
    """One run as it is kept."""
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    return {"command": benchmark.command, "processor": processor(), "date": today, "note": note, "rows": list(rows)}


def processor(cpuinfo: Path = CPUINFO) -> str:
    """The kind of this machine's processor: its maker's name, what multiplies bfloat16, how many cores."""
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.is_file() else ""
    found = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    name = re.sub(r"\((R|TM)\)|@.*|\b(CPU|Processor)\b|\d+-Core", "", found[1] if found else "unknown processor")
    units = sorted(BFLOAT16 & flags(cpuinfo))
    return ", ".join([" ".join(name.split()), *units[:1], f"{os.cpu_count()} cores"])


def keep(records: Iterable[Row]) -> list[Row]:
    """Writes the file, of each command and processor the newest record, and README's table; gives the records."""
    newest: dict[tuple[str, str], Row] = {}
    for one in sorted(records, key=lambda one: str(one["date"])):
        newest[one["command"], one["processor"]] = one
    order = {benchmark.command: number for number, benchmark in enumerate(BENCHMARKS)}
    kept = sorted(newest.values(), key=lambda one: (order.get(one["command"], len(order)), one["processor"]))
    write_atomic(FIGURES, pretty_json(kept))
    write_atomic(README, with_table(README.read_text(encoding="utf-8"), table(kept)))
    return kept


def with_table(page: str, lines: str) -> str:
    """README with this table between its two marks. Raises ValueError without them."""
    before, after = page.index(BEGIN) + len(BEGIN), page.index(END)
    return f"{page[:before]}\n\n{lines}\n\n{page[after:]}"


def table(records: Sequence[Row]) -> str:
    """One Markdown table: a column a processor; of each command its dates, then its figures, a peer's in brackets."""
    processors = sorted({one["processor"] for one in records})
    lines = ["| | bar | " + " | ".join(processors) + " |", "|---|---|" + "---|" * len(processors)]
    for command in dict.fromkeys(one["command"] for one in records):
        here = {one["processor"]: one for one in records if one["command"] == command}
        dates = [_date(here.get(name)) for name in processors]
        lines.append(f"| **`{command}`** | | " + " | ".join(dates) + " |")
        names = dict.fromkeys(row["name"] for one in here.values() for row in one["rows"])
        for name in names:
            rows = [_row(here.get(processor), name) for processor in processors]
            bar = next((row["bar"] for row in rows if row and row["bar"] is not None), None)
            cells = " | ".join("–" if row is None else cell(row) for row in rows)
            lines.append(f"| {name} | {'' if bar is None else f'{bar:g}'} | {cells} |")
    return "\n".join(lines)


def cell(row: Row) -> str:
    """One figure.

    >>> cell({"name": "ratio", "value": 0.894, "unit": "x", "bar": 1.05, "peer": None})
    '0.894 x (missed)'
    >>> cell({"name": "one batch", "value": 1683.9, "unit": "tokens/s", "bar": None, "peer": 574.3})
    '1,684 tokens/s [574.3]'
    """
    peer = "" if row["peer"] is None else f" [{_number(row['peer'])}]"
    return f"{_number(row['value'])} {row['unit']}".rstrip() + peer + (" (missed)" if is_missed(row) else "")


def is_missed(row: Row) -> bool:
    """Whether the figure is beyond its bar."""
    if row["bar"] is None:
        return False
    return bool(row["value"] < row["bar"] if row["unit"] in LOWER_BARS else row["value"] > row["bar"])


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _date(one: Row | None) -> str:
    if one is None:
        return "not measured"
    return f"{one['date']}{', ' + one['note'] if one['note'] else ''}"


def _row(one: Row | None, name: str) -> Row | None:
    return next((row for row in one["rows"] if row["name"] == name), None) if one else None


def show(benchmark: Benchmark, rows: Sequence[Row]) -> None:
    """The figures of one benchmark as lines."""
    print(benchmark.command)
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        bar = "" if row["bar"] is None else f"  bar {row['bar']:g}"
        print(f"  {row['name']:<{width}}  {cell(row)}{bar}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
