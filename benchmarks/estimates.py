"""The estimate of a train step's memory beside what the machine's own compiler answers, over models, methods, policies, meshes.

In: nothing; the compilers' answers are those on file (benchmarks/parts/compiled_memory.json), or with ``--fresh`` asked now,
which needs ``make compilers`` and takes half a minute to two for each. Out: a table, or with ``--json`` rows {name, value,
unit, bar, peer}: the difference in percent, its bar of 15, and the compiler's GiB per device.

    $ python benchmarks/estimates.py [--only lora] [--json]
    $ python benchmarks/estimates.py --fresh --only "t4 gemma-2b"

Exit code 1 if a difference is beyond the bar, or a step has no answer on file.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any

from parts.priced_steps import RECORD, STEPS, PricedStep, recorded

from engine.canonical import pretty_json, write_atomic
from engine.errors import RunspecError
from engine.preflight.estimate import Estimate, estimate
from engine.preflight.exact import LIBRARIES, ask, compiler_versions, compilers_folder, job_for
from engine.protocol.machines import MACHINES
from engine.steps import installed_version

ROOT = Path(__file__).resolve().parent.parent
GIB = 1 << 30
BAR_PERCENT = 15.0


def main() -> int:
    """Estimate, compare, print."""
    options = _options()
    chosen = [step for step in STEPS if options.only.lower() in step.name.lower()]
    if options.fresh:
        try:
            _ask_again(chosen)
        except RunspecError as error:
            print("\n".join(str(diagnostic) for diagnostic in error.diagnostics), file=sys.stderr)
            return error.exit_code
    rows = [row(step, recorded().get(step.name)) for step in chosen]
    if options.json:
        print(
            json.dumps(
                [{key: entry[key] for key in ("name", "value", "unit", "bar", "peer")} for entry in rows], indent=2
            )
        )
    else:
        _print_table(rows)
    return int(any(entry["value"] is None or abs(entry["value"]) > BAR_PERCENT for entry in rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    parser.add_argument("--only", default="", metavar="TEXT", help="steps whose name has this text")
    parser.add_argument("--fresh", action="store_true", help="ask the compilers, and put their answers on file")
    return parser.parse_args()


def row(step: PricedStep, answer: dict[str, Any] | None) -> dict[str, Any]:
    """One step: the difference in percent, and both figures; ``value`` is None without an answer of the compiler."""
    found = {
        "name": step.name,
        "value": None,
        "unit": "%",
        "bar": BAR_PERCENT,
        "peer": None,
        "estimate": None,
        "remat": None,
    }
    if answer is None:
        return found
    ours = estimate_of(step, answer["remat"])
    compiled = answer["needed_bytes"]
    percent = round(100 * (ours.needed_bytes / compiled - 1), 1)
    return found | {
        "value": percent,
        "peer": round(compiled / GIB, 3),
        "estimate": round(ours.needed_bytes / GIB, 3),
        "remat": answer["remat"],
    }


def estimate_of(step: PricedStep, remat: str) -> Estimate:
    """The estimate for one policy, whether it fits or not."""
    return estimate(step.config, step.train_args | {"remat": remat}, MACHINES[step.machine], None)


def _ask_again(steps: list[PricedStep]) -> None:
    """Ask the compilers, one answer on file after the other."""
    folder = compilers_folder(ROOT)
    versions = [f"{name}-{installed_version(name)}" for name in LIBRARIES] + compiler_versions(folder)
    for step in steps:
        report = ask(ROOT, job_for(step.machine, step.config, step.train_args, folder))
        answer = {
            "needed_bytes": report["needed_bytes"],
            "remat": report["how"]["remat"],
            "source": report["source"],
            "asked": dt.datetime.now(tz=dt.UTC).date().isoformat(),
            "versions": versions,
        }
        write_atomic(RECORD, pretty_json(recorded() | {step.name: answer}))
        print(
            f"  {step.name}: {report['needed_bytes'] / GIB:.3f} GiB ({report['compile_seconds']:.0f} s)",
            file=sys.stderr,
        )


def _print_table(rows: list[dict[str, Any]]) -> None:
    width = max(len(entry["name"]) for entry in rows)
    print(f"{'GiB per device':<{width}}{'policy':>9}{'estimate':>10}{'compiler':>10}{'%':>8}")
    for entry in rows:
        if entry["value"] is None:
            print(f"{entry['name']:<{width}}  no answer on file: --fresh")
            continue
        missed = "" if abs(entry["value"]) <= BAR_PERCENT else "  missed"
        figures = f"{entry['estimate']:>10.2f}{entry['peer']:>10.2f}{entry['value']:>+8.1f}"
        print(f"{entry['name']:<{width}}{entry['remat']:>9}{figures}{missed}")


if __name__ == "__main__":
    sys.exit(main())
