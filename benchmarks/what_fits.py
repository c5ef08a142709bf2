"""What fits where: the longest sequence and the largest batch of each model and method on machines that people have.

In: the compilers' answers on file (benchmarks/parts/what_fits.json); with ``--fresh`` those that are missing are asked now,
which needs ``make compilers`` and takes half a minute to three for each. Each answer is put on file at once, so that a run that
was killed resumes. Out: tables in Markdown; with ``--page`` they are written into docs/reference/what-fits.md.

    $ python benchmarks/what_fits.py [--only t4x2]
    $ python benchmarks/what_fits.py --fresh --only "t4x2 gemma-2b"
    $ python benchmarks/what_fits.py --page

A figure with a ~ is the engine's estimate, where the compiler's answer is not on file yet. No device is used.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any

from parts import fit_tables
from parts.fitting import CASES, QUESTIONS, RECORD, Case, Shape, asking, recorded

from engine.canonical import pretty_json, write_atomic
from engine.errors import RunspecError
from engine.preflight.exact import LIBRARIES, ask, compiler_versions, compilers_folder, job_for
from engine.steps import installed_version

ROOT = Path(__file__).resolve().parent.parent
WORK = ("flops", "moved_bytes", "collective_bytes", "modelled_seconds", "modelled_by")  # kept of the report's
PAGE = ROOT / "docs" / "reference" / "what-fits.md"


def main() -> int:
    """Ask what is missing, print or write the tables."""
    options = _options()
    chosen = [case for case in CASES if options.only.lower() in f"{case.machine} {case.model} {case.method}"]
    if options.fresh:
        try:
            ask_missing(chosen)
        except RunspecError as error:
            print("\n".join(str(diagnostic) for diagnostic in error.diagnostics), file=sys.stderr)
            return error.exit_code
    answers = recorded()
    if options.page:
        write_atomic(PAGE, fit_tables.page(PAGE.read_text(encoding="utf-8"), answers).encode())
    elif options.json:
        print(json.dumps(fit_tables.rows(chosen, answers), indent=2))
    else:
        print(fit_tables.tables(chosen, answers))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", metavar="TEXT", help='cases with this text: "t4x2 gemma-2b lora"')
    parser.add_argument("--fresh", action="store_true", help="ask the compilers what is not on file yet")
    parser.add_argument("--page", action="store_true", help="write the tables into docs/reference/what-fits.md")
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    return parser.parse_args()


def ask_missing(cases: list[Case]) -> None:
    """Search anew, and ask the compiler about each shape that is not on file; every answer is kept at once."""
    folder = compilers_folder(ROOT)
    versions = [f"{name}-{installed_version(name)}" for name in LIBRARIES] + compiler_versions(folder)
    for question in QUESTIONS:
        for case in cases:

            def compiled(shape: Shape, case: Case = case) -> int:
                on_file = asking(case, recorded())(shape)
                if on_file is not None:
                    return on_file
                report = ask(ROOT, job_for(case.machine, case.config, case.train_args(shape), folder))
                write_atomic(RECORD, pretty_json(recorded() | {case.name(shape): _answer(report, versions)}))
                seconds, gib = report["compile_seconds"], report["needed_bytes"] / (1 << 30)
                print(f"  {case.name(shape)}: {gib:.3f} GiB ({seconds:.0f} s)", file=sys.stderr, flush=True)
                return int(report["needed_bytes"])

            case.find(question, compiled)


def _answer(report: dict[str, Any], versions: list[str]) -> dict[str, Any]:
    """What is kept of the compiler's report."""
    return {
        "needed_bytes": report["needed_bytes"],
        "attention": report["how"]["attention"],
        "work": None if report["work"] is None else {name: report["work"][name] for name in WORK},
        "source": report["source"],
        "asked": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "versions": versions,
    }


if __name__ == "__main__":
    sys.exit(main())
