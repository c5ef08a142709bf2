"""The table of benchmarks/README.md is what its script writes from the figures on file, and every command in it can be typed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

CPUINFO = """\
processor\t: 0
model name\t: {name}
flags\t\t: fpu sse2 {flags}
"""


@pytest.fixture
def figures(repository: Path) -> ModuleType:
    """``benchmarks/figures.py``; ``parts`` beside it is on the path of all tests."""
    spec = importlib.util.spec_from_file_location("figures", repository / "benchmarks" / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(
    name: str, value: float, unit: str = "x", bar: float | None = None, peer: float | None = None
) -> dict[str, object]:
    """One row of a benchmark's ``--json``."""
    return {"name": name, "value": value, "unit": unit, "bar": bar, "peer": peer}


def test_the_table_of_the_page_is_that_of_the_figures(figures: ModuleType) -> None:
    """Nobody has typed a number: the page is what ``figures.py`` would write."""
    page, kept = figures.README.read_text(encoding="utf-8"), json.loads(figures.FIGURES.read_text(encoding="utf-8"))
    assert figures.with_table(page, figures.table(kept)) == page


def test_each_command_of_the_table_is_a_benchmark(figures: ModuleType, repository: Path) -> None:
    """Its script is there, takes ``--json``, and the record says where and when it ran."""
    known = {benchmark.command: benchmark.script for benchmark in figures.BENCHMARKS}
    for one in json.loads(figures.FIGURES.read_text(encoding="utf-8")):
        script = repository / "benchmarks" / f"{known[one['command']]}.py"
        assert '"--json"' in script.read_text(encoding="utf-8")
        assert one["processor"]
        assert one["date"] > "2026"
        assert one["rows"]


def test_a_processor_is_a_column_and_a_newer_run_takes_the_place_of_an_older_one(
    figures: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines side by side; what one has not measured is said; a missed bar is marked, lower bars and upper ones."""
    page = tmp_path / "README.md"
    page.write_text(f"before\n{figures.BEGIN}\nold\n{figures.END}\nafter\n", encoding="utf-8")
    monkeypatch.setattr(figures, "README", page)
    monkeypatch.setattr(figures, "FIGURES", tmp_path / "figures.json")
    raw, startup = figures.BENCHMARKS[0].command, next(b for b in figures.BENCHMARKS if b.script == "startup").command
    made = [
        {"command": raw, "processor": "A", "date": "2026-01-02", "note": "", "rows": [row("ratio", 1.1, bar=1.05)]},
        {"command": raw, "processor": "A", "date": "2026-01-01", "note": "", "rows": [row("ratio", 9.0, bar=1.05)]},
        {
            "command": raw,
            "processor": "B",
            "date": "2026-01-01",
            "note": "loaded",
            "rows": [row("ratio", 1.0, bar=1.05)],
        },
        {
            "command": startup,
            "processor": "B",
            "date": "2026-01-01",
            "note": "",
            "rows": [row("validate", 0.31, "s", 0.25, 0.5)],
        },
    ]
    kept = figures.keep(made)
    assert len(json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))) == len(kept) == 3
    assert page.read_text(encoding="utf-8").splitlines()[3:-3] == [
        "| | bar | A | B |",
        "|---|---|---|---|",
        f"| **`{raw}`** | | 2026-01-02 | 2026-01-01, loaded |",
        "| ratio | 1.05 | 1.1 x | 1 x (missed) |",
        f"| **`{startup}`** | | not measured | 2026-01-01 |",
        "| validate | 0.25 | – | 0.31 s [0.5] (missed) |",
    ]


@pytest.mark.parametrize(
    ("name", "flags", "said"),
    [
        ("AMD EPYC 9B14 96-Core Processor", "avx512_bf16", "AMD EPYC 9B14, avx512_bf16"),
        ("Intel(R) Xeon(R) Processor @ 2.10GHz", "avx512_bf16 amx_bf16", "Intel Xeon, amx_bf16"),
        ("Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz", "avx2", "Intel Core i7-8700"),
    ],
)
def test_the_kind_of_a_processor(figures: ModuleType, tmp_path: Path, name: str, flags: str, said: str) -> None:
    """Maker and model, what multiplies bfloat16 there, how many cores: machines of one kind share a column."""
    (tmp_path / "cpuinfo").write_text(CPUINFO.format(name=name, flags=flags), encoding="utf-8")
    assert figures.processor(tmp_path / "cpuinfo").rpartition(", ")[0] == said
