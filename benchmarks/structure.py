"""How the house is built, in figures beside their bars: can a newcomer walk to the right file, and is it readable there?

Reads the checkout and runs every `>>>` example (that needs the extra ``train``); measures no time. What breaks a bar is
named under the table, one a line.

    $ python benchmarks/structure.py
    $ python benchmarks/structure.py --json        # rows {name, value, unit, bar, peer}

Exit code 1 where a bar is missed. Of the peers the project was measured beside (pre-commit, nox, structlog, equinox,
bonsai, gemma, kauldron, nanochat, levanter) the fullest folder has 24 files, the shortest p90 of functions is 27 lines.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from parts import structure
from parts.examples import run_examples, written_examples
from parts.source import Module, project_files, read_modules
from parts.table import Fact, report

REPOSITORY = Path(__file__).resolve().parents[1]


def folder_facts(files: Sequence[Path]) -> list[Fact]:
    """The fullest folder below each top folder."""
    most = {top: max(structure.files_by_folder(files, REPOSITORY, top).values()) for top in structure.FOLDERS}
    return [
        Fact(f"most files in one folder of {top}", count, "files", peer=24, most=structure.MOST_FILES_IN_A_FOLDER)
        for top, count in most.items()
    ]


def import_facts(modules: Mapping[str, Module]) -> list[Fact]:
    """Arrows, circles, imports inside functions, and what is typed `Any`."""
    return [
        Fact("parts without a floor", len(structure.without_a_floor(modules)), "parts", most=0),
        Fact("imports from a higher floor", len(structure.arrows_up(modules)), "imports", most=0),
        Fact("import circles, typing-only included", len(structure.circles(modules)), "circles", most=0),
        Fact("imports inside functions", len(structure.local_imports(modules)), "", most=structure.MOST_LOCAL_IMPORTS),
        Fact("Any in 1,000 lines", structure.any_in_1000_lines(modules), "", most=structure.MOST_ANY_IN_1000_LINES),
    ]


def size_facts(modules: Mapping[str, Module]) -> list[Fact]:
    """Lines of files and of functions."""
    files, functions = structure.lines_of_files(modules), structure.lines_of_functions(modules)
    nine_in_ten = structure.MOST_LINES_OF_NINE_FUNCTIONS_IN_TEN
    return [
        Fact("median file", statistics.median(files), "lines", most=structure.MOST_LINES_OF_THE_MEDIAN_FILE),
        Fact("largest file", max(files), "lines", most=structure.MOST_LINES_OF_A_FILE),
        Fact("functions, p90", structure.p90(functions), "lines", peer=27, most=nine_in_ten),
    ]


def example_facts(modules: Mapping[str, Module]) -> list[Fact]:
    """Examples, and how many of them are not run or do not hold."""
    written = written_examples(modules)
    done = {name: run_examples(name) for name in written}
    bad = sum(count - done[name].n_run + done[name].n_failed for name, count in written.items())
    return [
        Fact(">>> examples", sum(written.values()), "examples"),
        Fact(">>> examples that are not run or lie", bad, "examples", most=0),
    ]


def offenders(modules: Mapping[str, Module], files: Sequence[Path]) -> list[str]:
    """What is to be mended where a bar of places is missed, each with its place."""
    counts = {top: structure.files_by_folder(files, REPOSITORY, top) for top in structure.FOLDERS}
    return [
        *(f"{name}: {count} files" for found in counts.values() for name, count in found.items()
          if count > structure.MOST_FILES_IN_A_FOLDER),
        *(f"no floor: {part}" for part in sorted(structure.without_a_floor(modules))),
        *structure.arrows_up(modules),
        *(" <-> ".join(circle) for circle in structure.circles(modules)),
    ]  # fmt: skip


def main() -> int:
    """Read, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    options = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # read when an example imports JAX
    modules, files = read_modules(REPOSITORY), project_files(REPOSITORY)
    facts = [*folder_facts(files), *import_facts(modules), *size_facts(modules), *example_facts(modules)]
    code = report(facts, as_json=options.json)
    if not options.json:
        print(*offenders(modules, files), sep="\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
