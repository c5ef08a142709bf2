"""How many faults the tests of a module notice: mutants, of which at least 90 % must be killed.

In: modules of the engine and their test files (:data:`TARGETS`). Out: a table, and every mutant that survives as
file:line, before -> after. A mutant (tests/mutations.py says which there are) is written into a copy of the project in a
temporary folder; the tests run against it in a process of its own, up to the first one that fails. One that takes ten
times as long as the tests of the sound module, or five times as much of a processor, counts as killed: it hangs.

No conftest is loaded, so that the tests of what is plain numpy cost no JAX: the named files stand alone. The draws of
hypothesis are the same in every run. The sound module's run says how long each test takes, and the quickest come first:
most mutants cost the start of pytest and little more. What is short of 100 % is for faults that are none (a dtype left
out that numpy takes by itself): each survivor is to be looked at.

    make mutants
    .venv/bin/python tests/mutants.py --module packing --limit 40 --seed 7
    .venv/bin/python tests/mutants.py --module engine.scoring.readers --tests test_scorecard.py
    .venv/bin/python tests/mutants.py --json       # rows {name, value, unit, bar, peer}

Exit code 1 where a module misses the bar. For POSIX: the processes are forks of one in which pytest is loaded already.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import json
import math
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from mutations import Mutant, mutants_of

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when numpy is loaded: a fork must find one thread only

BAR = 90.0
# module -> its test files, wherever they are below tests/
TARGETS: Mapping[str, tuple[str, ...]] = {
    "engine.canonical": ("ground/test_write_atomic.py", "ground/test_canonical.py", "ground/test_readable.py"),
    "engine.temporary": ("ground/test_write_atomic.py", "ground/test_temporary.py"),
    "engine.scoring.scorecard": ("scoring/test_scorecard.py",),
    "engine.scoring.normalise": ("scoring/test_vectors.py", "scoring/test_normalise.py"),
    "engine.scoring.metrics": ("scoring/test_vectors.py", "scoring/test_metrics.py"),
    "engine.trainer.input_pipeline.packing": ("test_packing.py",),
    "engine.trainer.config.batch_shape": ("test_batch_shape.py",),
}
COPIED = ("engine", "tests", "docs", "evalsets", "runspecs", "schemas", "templates", "pyproject.toml")
LEAST_SECONDS, TIMES_THE_SOUND_RUN = 10.0, 10.0
LEAST_CPU_SECONDS, TIMES_THE_SOUND_CPU = 4, 5.0  # what waits for a busy machine uses no processor
MOST_BYTES = 4 << 30  # of one run's memory: a fault can ask for all there is
PASSED, NO_TESTS = 0, 5  # exit codes of pytest


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the tests of one module noticed."""

    module: str
    n_mutants: int
    survivors: tuple[Mutant, ...]

    @property
    def rate(self) -> float:
        """Per cent that are killed."""
        return 100.0 * (1 - len(self.survivors) / self.n_mutants) if self.n_mutants else 100.0

    @property
    def is_missed(self) -> bool:
        """Whether too few are."""
        return self.rate < BAR


@dataclass(frozen=True, slots=True)
class Bench:
    """Copies of a project, one for each run at a time, and the module in them that is changed.

    ``seconds``: what each test took in the run of the sound module; ``most_cpu_seconds``: what a run may use.
    """

    copies: tuple[Path, ...]
    module: str
    file: Path
    tests: tuple[str, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)
    most_cpu_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """One mutant under test."""

    mutant: Mutant
    copy: Path
    process: BaseProcess
    deadline: float


def examine(bench: Bench, limit: int | None, seed: int) -> Verdict:
    """Make the mutants of a module (``limit`` of them, drawn by the seed) and run its tests against each."""
    mutants = mutants_of((bench.copies[0] / bench.file).read_text(encoding="utf-8"))
    if limit is not None and limit < len(mutants):
        mutants = sorted(random.Random(seed).sample(mutants, limit), key=lambda mutant: mutant.line)
    before = _cpu_seconds()
    took = _sound_run(bench)
    if took is None:
        return Verdict(bench.module, len(mutants), tuple(mutants))
    most = max(LEAST_CPU_SECONDS, math.ceil(TIMES_THE_SOUND_CPU * (_cpu_seconds() - before)))
    bench = replace(bench, seconds=json.loads(_seconds(bench.copies[0]).read_text()), most_cpu_seconds=most)
    allowed = max(LEAST_SECONDS, TIMES_THE_SOUND_RUN * took)
    survivors = [mutant for mutant, killed in _judged(bench, mutants, allowed) if not killed]
    return Verdict(bench.module, len(mutants), tuple(sorted(survivors, key=lambda mutant: mutant.line)))


def _cpu_seconds() -> float:
    """Of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _sound_run(bench: Bench) -> float | None:
    """Seconds that the tests of the module take as it is; None where it has none. Ends the script where they fail."""
    if not bench.tests:
        return None
    started = time.monotonic()
    process = _start(bench, bench.copies[0])
    process.join()
    if process.exitcode == NO_TESTS:
        return None
    if process.exitcode != PASSED:
        sys.exit(f"the tests of {bench.module} fail without any fault:\n{_output(bench.copies[0]).read_text()}")
    return time.monotonic() - started


def _judged(bench: Bench, mutants: Sequence[Mutant], allowed: float) -> Iterator[tuple[Mutant, bool]]:
    """(mutant, whether it was killed), as the runs end."""
    waiting, free, running = list(reversed(mutants)), list(bench.copies), list[Trial]()
    while waiting or running:
        while waiting and free:
            mutant, copy = waiting.pop(), free.pop()
            (copy / bench.file).write_text(mutant.text, encoding="utf-8")
            running.append(Trial(mutant, copy, _start(bench, copy), time.monotonic() + allowed))
        wait([trial.process.sentinel for trial in running], min(trial.deadline for trial in running) - time.monotonic())
        for trial in list(running):
            if trial.process.is_alive() and time.monotonic() < trial.deadline:
                continue
            running.remove(trial)
            free.append(trial.copy)
            yield trial.mutant, _is_killed(trial)


def _is_killed(trial: Trial) -> bool:
    """By a test that fails, by a module that cannot be imported any more, by a crash or by the time limit."""
    if trial.process.is_alive():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(trial.process.pid or 0, signal.SIGKILL)
    trial.process.join()
    return trial.process.exitcode != PASSED


def _start(bench: Bench, copy: Path) -> BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=_run_tests, args=(copy, bench))
    process.start()
    return process


def _output(copy: Path) -> Path:
    return copy / "output.txt"


def _seconds(copy: Path) -> Path:
    return copy / "seconds.json"


class QuickestFirst:
    """A plugin of pytest: runs the tests that are known to be quick first, and notes what each takes."""

    def __init__(self, known: Mapping[str, float]) -> None:
        self.known, self.seconds = known, dict[str, float]()

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Those of one time stay in their order."""
        items.sort(key=lambda item: self.known.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report: Any) -> None:
        """With what its fixtures take."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration


def _run_tests(copy: Path, bench: Bench) -> None:
    """In the fork: run the tests of this copy and end with pytest's exit code."""
    import pytest
    from hypothesis import Phase, settings

    os.setsid()  # what the tests start ends with them
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        if bench.most_cpu_seconds is not None:
            resource.setrlimit(resource.RLIMIT_CPU, (bench.most_cpu_seconds, bench.most_cpu_seconds))
    said = os.open(_output(copy), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(said, stream)
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)
    sys.path.insert(0, str(copy))
    sys.dont_write_bytecode = True  # two mutants of one second and one size would share it
    # A failing example is enough; the smallest one is for people.
    settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate], database=None, deadline=None)
    settings.load_profile("mutants")
    plain = ["-x", "-q", "--noconftest", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist"]
    order = QuickestFirst(bench.seconds)
    code = pytest.main([*plain, "--hypothesis-seed=0", *bench.tests], plugins=[order])
    _seconds(copy).write_text(json.dumps(order.seconds))
    os._exit(code)


@contextlib.contextmanager
def bench_of(root: Path, module: str, tests: Sequence[str], jobs: int) -> Iterator[Bench]:
    """Copies of the project below ``root``, gone afterwards."""
    inside = Path(*module.split("."))
    file = inside / "__init__.py" if (root / inside).is_dir() else inside.with_suffix(".py")
    found = [path.relative_to(root).as_posix() for name in tests for path in sorted((root / "tests").rglob(name))]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies = [Path(folder).resolve() / str(number) for number in range(jobs)]
        for copy in copies:
            copy.mkdir()
            for source in (root / name for name in COPIED if (root / name).exists()):
                _copy(source, copy / source.name)
        yield Bench(tuple(copies), module, file, tuple(found))


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _chosen(names: Sequence[str], tests: Sequence[str]) -> dict[str, Sequence[str]]:
    """Module -> test files: those of the table, all or by their last words, or any other module with --tests."""
    if tests:
        return dict.fromkeys(names, tests)
    known = {name: [module for module in TARGETS if f".{module}".endswith(f".{name}")] for name in names}
    unknown = [name for name, modules in known.items() if not modules]
    if unknown:
        sys.exit(f"not in the table: {', '.join(unknown)}; with --tests any module can be named in full")
    return {module: TARGETS[module] for module in TARGETS if not names or any(module in known[name] for name in names)}


def _show(verdict: Verdict, file: Path) -> None:
    killed = verdict.n_mutants - len(verdict.survivors)
    bar = f"bar: at least {BAR:g} %{', missed' if verdict.is_missed else ''}"
    print(f"{verdict.module:<44} {verdict.n_mutants:>7} {killed:>7} {verdict.rate:>6.1f} %  {bar}")
    for mutant in verdict.survivors:
        print(f"  {file}:{mutant.line}  {mutant.before}  ->  {mutant.after}")
    sys.stdout.flush()


def _row(verdict: Verdict) -> dict[str, object]:
    name = f"mutants killed, {verdict.module}"
    return {"name": name, "value": round(verdict.rate, 1), "unit": "%", "bar": BAR, "peer": None}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--module", action="append", default=[], help="this module (several times: these)")
    parser.add_argument("--tests", action="append", default=[], help="its test file, for one that is not in the table")
    parser.add_argument("--limit", type=int, help="so many mutants of each module, drawn by the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default 2)")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the project")
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    return parser.parse_args()


def _load_once() -> None:
    """What every fork needs, pytest's plugins among it, and let no fork's garbage collector look through it again."""
    for name in ("pytest", "hypothesis", "numpy"):
        if importlib.util.find_spec(name):
            importlib.import_module(name)
    for plugin in entry_points(group="pytest11"):
        plugin.load()
    gc.collect()
    gc.freeze()


def main() -> int:
    """Examine, print, judge."""
    options = _options()
    _load_once()
    if not options.json:
        print(f"{'module':<44} {'mutants':>7} {'killed':>7} {'rate':>8}")
    verdicts = []
    for module, tests in _chosen(options.module, options.tests).items():
        with bench_of(options.root.resolve(), module, tests, options.jobs) as bench:
            verdicts.append(examine(bench, options.limit, options.seed))
            if not options.json:
                _show(verdicts[-1], bench.file)
    if options.json:
        print(json.dumps([_row(verdict) for verdict in verdicts], indent=2))
    return int(any(verdict.is_missed for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
