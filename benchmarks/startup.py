"""How long a person waits before anything happens: cold starts, beside the bare interpreter.

Measures, in one run and interleaved so that other load affects all of them alike:
``python -c pass``; ``runspec validate`` of the quickstart; ``runspec run`` with nothing to do, of a small
spec that has run once before (needs the extra ``train``; left out without it). Medians of
several processes.

    $ python benchmarks/startup.py
    $ python benchmarks/startup.py --json          # rows {name, value, unit, bar, peer}

Exit code 1 if a bar is missed. ``peer`` is the figure of the nearest other tool with nothing to do
(``dvc repro``, 0.53 s on the two-core machine of the bars).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from parts.table import Fact, report

REPOSITORY = Path(__file__).resolve().parents[1]
VALIDATE_BAR, NOTHING_BAR, NOTHING_PEER = 0.25, 0.30, 0.53

# The whole chain, as small as it gets: the second run of it is what is measured.
SMALL = (
    "dataset.num_rows=40", "smoke.kill=false", "smoke.num_items=1",
    "train.num_train_steps=2", "train.warmup_steps=0",
    "train.eval_rows=0", "train.save_every_steps=2", "predict.max_new_tokens=2",
)  # fmt: skip


def command(*words: str) -> list[str]:
    """The `runspec` of this interpreter: its script, or the module where it is not installed."""
    script = Path(sys.executable).with_name("runspec")
    return [str(script), *words] if script.exists() else [sys.executable, "-m", "engine.cli", *words]


def seconds(words: list[str], cwd: Path) -> float:
    """One cold process from start to exit."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    started = time.perf_counter()
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    took = time.perf_counter() - started
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return took


def project(folder: Path) -> Path:
    """A project of its own, so that nothing is left in the checkout."""
    for name in ("runspecs", "evalsets", "schemas"):
        shutil.copytree(REPOSITORY / name, folder / name)
    return folder


def measure(folder: Path, rounds: int, with_run: bool) -> dict[str, list[float]]:
    """Name -> one figure for each round."""
    spec = "runspecs/quickstart.yaml"
    cases = {"python -c pass": [sys.executable, "-c", "pass"], "runspec validate": command("validate", spec)}
    if with_run:
        nothing = command("run", spec, *SMALL)
        print("running the small spec once …", file=sys.stderr)
        seconds(nothing, folder)
        cases["runspec run, nothing to do"] = nothing
    for words in cases.values():
        seconds(words, folder)  # byte code and file cache: "cold" is the process, not the disk
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, words in cases.items():
            found[name].append(seconds(words, folder))
    return found


def facts(found: dict[str, list[float]]) -> list[Fact]:
    """Medians beside bars."""
    bars = {"runspec validate": VALIDATE_BAR, "runspec run, nothing to do": NOTHING_BAR}
    processes = {"runspec run, nothing to do": NOTHING_PEER}
    return [
        Fact(name, statistics.median(figures), "s", peer=processes.get(name), most=bars.get(name))
        for name, figures in found.items()
    ]


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    parser.add_argument("--rounds", type=int, default=9, help="processes for each figure (default 9)")
    parser.add_argument("--no-run", action="store_true", help="leave out the run with nothing to do")
    options = parser.parse_args()
    with_run = not options.no_run and importlib.util.find_spec("jax") is not None
    with tempfile.TemporaryDirectory() as folder:
        return report(facts(measure(project(Path(folder)), options.rounds, with_run)), as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
