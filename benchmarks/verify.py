"""How long a reviewer waits: `runspec verify` and verify.py on evidence of 100 and of 20,000 items, in seconds and megabytes.

Makes evidence with as many items (one in five answered wrongly, one train step for each 50), packs it, and checks the zip in
a cold process of its own each time, interleaved, so that other load affects both alike. Medians; memory is the most
that the system saw.

    $ python benchmarks/verify.py
    $ python benchmarks/verify.py --json          # rows {name, value, unit, bar, peer}

Exit code 1 if a bar is missed. ``peer`` is the bare start of the interpreter.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from parts.table import Fact, report

REPOSITORY = Path(__file__).resolve().parents[1]
SIZES = {100: (0.5, 200), 20_000: (3.0, 200)}  # items -> seconds, megabytes


class Used(NamedTuple):
    """What one process took."""

    seconds: float
    cpu_seconds: float
    megabytes: float


def make(n_items: int, folder: Path) -> None:
    """A package of a made run with so many items."""
    sys.path.insert(0, str(REPOSITORY))
    from engine.evidence import package, render_evidence
    from tests.evidence import conftest

    conftest.ITEMS[:] = [
        {"id": f"q{n}", "prompt": f"What is {n} plus {n % 97}, if you count on from there {'and on ' * (n % 9)}?",
         "expected_answer": str(n + n % 97), "section": ("core", "edge")[n % 2], "category": f"group {n % 7}",
         "difficulty": ("easy", "hard")[n % 3 == 0]} for n in range(n_items)
    ]  # fmt: skip
    record = conftest.build(folder)
    out = folder / "submission_runs" / "toy_v1"
    render_evidence(record, conftest.FILES, out, template_dirs=[REPOSITORY / "templates"])
    package(out, folder / "packages", "toy")


def packed(n_items: int, folder: Path) -> str:
    """The same, in a process of its own: a child is charged with the memory of the one that starts it."""
    folder.mkdir(exist_ok=True)
    words = [sys.executable, __file__, "--make", str(n_items), "--keep", str(folder)]
    subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    [path] = (folder / "packages").glob("*.zip")
    return str(path)


def used(words: list[str], folder: Path) -> Used:
    """One cold process."""
    started = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    child = subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.PIPE)
    said = child.stdout.read() if child.stdout else b""
    _, status, spent = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{' '.join(words)} ended with {child.returncode}\n{said.decode()}")
    return Used(time.perf_counter() - started, spent.ru_utime + spent.ru_stime, spent.ru_maxrss / 1024)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="a folder for the packages, to look at")
    parser.add_argument("--make", type=int, help="only make the package of so many items, in the folder")
    arguments = parser.parse_args()
    if arguments.make:
        make(arguments.make, arguments.keep)
        return 0
    facts: list[Fact] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        for n_items, (most_seconds, most_megabytes) in SIZES.items():
            place = folder / str(n_items)
            archive, file = packed(n_items, place), place / "submission_runs" / "toy_v1" / "verify.py"
            cases = {"runspec verify": [sys.executable, "-m", "engine", "verify", archive],
                     "verify.py": [sys.executable, str(file), archive], "python -c pass": [sys.executable, "-c", "pass"]}  # fmt: skip
            found: dict[str, list[Used]] = {name: [] for name in cases}
            for words in cases.values():
                used(words, place)  # byte code and file cache
            for _ in range(arguments.rounds):
                for name, words in cases.items():
                    found[name].append(used(words, place))
            peer = statistics.median(one.seconds for one in found.pop("python -c pass"))
            for name, rows in found.items():
                label = f"{name}, {n_items:,} items"
                facts.append(
                    Fact(label, statistics.median(one.seconds for one in rows), "s", peer=peer, most=most_seconds)
                )
                facts.append(Fact(f"{label}, CPU", statistics.median(one.cpu_seconds for one in rows), "s"))
                facts.append(Fact(f"{label}, memory", max(one.megabytes for one in rows), "MB", most=most_megabytes))
    return report(facts, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
