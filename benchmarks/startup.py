"""How long a person waits before anything happens: cold starts, beside the bare interpreter.

Measures, in one run and interleaved so that other load affects all of them alike:
``python -c pass``; ``runspec validate`` of the quickstart; ``runspec run`` with nothing to do, of a small
spec that has run once before; with everything compiled, the quickstart's smoke run (three trainers, one killed) and its
training from the command to its first train step (these need the extra ``train``; left out without it). Medians of
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
SMOKE_BAR, FIRST_STEP_BAR = 12.0, 6.0
SPEC, FIRST_STEP = "runspecs/quickstart.yaml", b"train step 1/"

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


def seconds_to_first_step(words: list[str], cwd: Path) -> float:
    """From the command to the line of its first train step, where it is killed."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    started, said = time.perf_counter(), b""
    with subprocess.Popen(words, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if FIRST_STEP in line:
                took = time.perf_counter() - started
                process.kill()
                return took
    sys.exit(f"{' '.join(words)} ended with {process.returncode} before a train step\n{said.decode()}")


def measure_training(folder: Path, rounds: int) -> dict[str, list[float]]:
    """The quickstart's own smoke run and first train step; the round before the first fills the caches."""
    smoke, train = (command("run", SPEC, "--only", step, "--force", step) for step in ("smoke", "train"))
    seconds(command("run", SPEC, "--to", "smoke"), folder)
    seconds_to_first_step(train, folder)
    found: dict[str, list[float]] = {"smoke run of the quickstart": [], "from `run` to the first train step": []}
    for _ in range(rounds):
        found["smoke run of the quickstart"].append(seconds(smoke, folder))
        found["from `run` to the first train step"].append(seconds_to_first_step(train, folder))
    return found


def project(folder: Path) -> Path:
    """A project of its own, so that nothing is left in the checkout."""
    for name in ("runspecs", "evalsets", "schemas"):
        shutil.copytree(REPOSITORY / name, folder / name)
    return folder


def measure(folder: Path, rounds: int, with_run: bool) -> dict[str, list[float]]:
    """Name -> one figure for each round."""
    cases = {"python -c pass": [sys.executable, "-c", "pass"], "runspec validate": command("validate", SPEC)}
    if with_run:
        nothing = command("run", SPEC, *SMALL)
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
    bars |= {"smoke run of the quickstart": SMOKE_BAR, "from `run` to the first train step": FIRST_STEP_BAR}
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
        found = measure(project(Path(folder)), options.rounds, with_run)
        if with_run:
            (other := Path(folder) / "training").mkdir()
            found |= measure_training(project(other), min(options.rounds, 3))
        return report(facts(found), as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
