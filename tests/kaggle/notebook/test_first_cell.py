"""The first cell by itself: what it unpacks, what it refuses, and the wheel in a dataset in the place of the engine in the cell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.kaggle.notebook import NotebookRequest
from engine.kaggle.notebook.embed import digest_of_files, engine_files, travels
from engine.kaggle.notebook.wheel import wheel

# Python shows a traceback where IPython shows our lines: this shows what IPython would.
SHOW = """
import sys
source = open(sys.argv[1], encoding="utf-8").read()
{before}
try:
    exec(compile(source, "cell", "exec"), {{"__name__": "__main__"}})
except Exception as error:
    if not hasattr(error, "_render_traceback_"):
        raise
    print("\\n".join(error._render_traceback_()))
    sys.exit(1)
"""
FROM_DATASET = NotebookRequest(wheel_dataset="acme/wheels")

Cell = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def first_cell(tmp_path: Path) -> Cell:
    """Run the first cell in a Python of its own, in a stand-in for Kaggle's folders."""

    def run(
        document: dict[str, Any], change: Callable[[str], str] = str, before: str = ""
    ) -> subprocess.CompletedProcess[str]:
        source = next("".join(cell["source"]) for cell in document["cells"] if cell["id"] == "engine")
        (tmp_path / "cell.py").write_text(change(source), encoding="utf-8")
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environ |= {"KAGGLE_KERNEL_RUN_TYPE": "Batch", "RUNSPEC_KAGGLE_ROOT": str(tmp_path / "kaggle"),
                    "RUNSPEC_SCRATCH": str(tmp_path / "scratch")}  # fmt: skip
        code = SHOW.format(before=before)
        return subprocess.run(
            [sys.executable, "-I", "-S", "-c", code, str(tmp_path / "cell.py")], env=environ, cwd=tmp_path, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip

    return run


def test_it_needs_the_standard_library_alone(
    notebook_of: Callable[..., Any], tiny: str, first_cell: Cell, tmp_path: Path
) -> None:
    """Law: without any installed package (-I -S) the engine is unpacked, whole, and says where it is."""
    made, document = notebook_of(tiny, NotebookRequest(nonce="00c0ffee"))
    done = first_cell(document)
    assert (done.returncode, done.stderr) == (0, "")
    assert "runspec nonce: 00c0ffee" in done.stdout.splitlines()
    assert f"results in {tmp_path / 'kaggle' / 'working'}" in done.stdout
    folder = tmp_path / "scratch" / f"engine-{made.engine_sha256[:12]}"
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.suffix != ".pyc" and path.is_file()
    }
    assert digest_of_files(files) == made.engine_sha256
    assert (tmp_path / "scratch" / "project-tiny_v1" / "evalsets" / "quickstart.jsonl").is_file()


def test_a_file_that_was_damaged_on_scratch_is_mended(
    notebook_of: Callable[..., Any], tiny: str, first_cell: Cell, tmp_path: Path
) -> None:
    """Law: run again, the cell leaves the engine that it carries."""
    made, document = notebook_of(tiny)
    first_cell(document)
    cli = tmp_path / "scratch" / f"engine-{made.engine_sha256[:12]}" / "engine" / "cli.py"
    whole = cli.read_bytes()
    cli.write_bytes(b"half")
    assert first_cell(document).returncode == 0
    assert cli.read_bytes() == whole


def test_an_image_that_is_too_old_is_named(
    notebook_of: Callable[..., Any], tiny: str, first_cell: Cell, tmp_path: Path
) -> None:
    """G150, and nothing is unpacked."""
    _, document = notebook_of(tiny)
    done = first_cell(document, before="sys.version_info = (3, 10, 12, 'final', 0)")
    assert done.stdout.startswith("error[G150]: this image has Python 3.10; the engine needs 3.11 or later\n")
    assert "latest environment" in done.stdout
    assert not (tmp_path / "scratch").exists()


def _damaged(source: str) -> str:
    at = source.index("ENGINE = embedded") + 3000
    return source[:at] + ("a" if source[at] != "a" else "b") + source[at + 1 :]


DAMAGE = {
    "one character": _damaged,
    "cut off": lambda source: source[: source.index("ENGINE = embedded") + 9000] + source[source.rindex('\n""", ') :],
    "another digest": lambda source: source[: source.rindex('\n""", ')] + '\n""", "' + "0" * 64 + '", "the engine")\n'
    + source[source.rindex("session = begin") :],
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_never_unpacked(
    notebook_of: Callable[..., Any], tiny: str, first_cell: Cell, tmp_path: Path, damage: str
) -> None:
    """G168 in one sentence, whatever is wrong with the text."""
    _, document = notebook_of(tiny)
    done = first_cell(document, DAMAGE[damage])
    assert done.stdout.startswith("error[G168]: the engine of this notebook is damaged"), done.stderr
    assert (done.returncode, done.stderr) == (1, "")
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("layout", ["datasets/acme/wheels", "wheels"])
def test_the_engine_can_come_as_a_wheel_in_a_dataset(
    notebook_of: Callable[..., Any], tiny: str, first_cell: Cell, tmp_path: Path, layout: str
) -> None:
    """Law: in Kaggle's layout of 2026 and in the one before; the notebook is then small, and checks the same digest."""
    made, document = notebook_of(tiny, FROM_DATASET)
    assert made.n_bytes < 40_000
    mounted = tmp_path / "kaggle" / "input" / layout
    mounted.mkdir(parents=True)
    name, data = wheel(engine_files())
    (mounted / name).write_bytes(data)
    done = first_cell(document)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "scratch" / f"engine-{made.engine_sha256[:12]}" / "engine" / "cli.py").is_file()


def test_another_wheel_or_none_is_refused(
    notebook_of: Callable[..., Any], tiny: str, first_cell: Cell, tmp_path: Path
) -> None:
    """G170 where nothing is mounted, G169 where it is another engine's."""
    _, document = notebook_of(tiny, FROM_DATASET)
    assert first_cell(document).stdout.startswith(
        "error[G170]: the dataset acme/wheels, with runspec_engine-*.whl in it, is not mounted"
    )
    mounted = tmp_path / "kaggle" / "input" / "wheels"
    mounted.mkdir(parents=True)
    name, data = wheel({**engine_files(), "engine/cli.py": b"other"})
    (mounted / name).write_bytes(data)
    assert first_cell(document).stdout.startswith("error[G169]: the wheel in the dataset acme/wheels is not the engine")


def test_a_wheel_has_a_record_of_all_its_files(tmp_path: Path) -> None:
    """Law: what is written is a wheel that pip can read; the same files give the same bytes."""
    name, data = wheel({"engine/a.py": b"x = 1\n"})
    assert (name, data) == wheel({"engine/a.py": b"x = 1\n"})
    (tmp_path / name).write_bytes(data)
    with zipfile.ZipFile(tmp_path / name) as archive:
        names = archive.namelist()
        record = archive.read(next(entry for entry in names if entry.endswith("RECORD"))).decode()
    assert [line.split(",")[0] for line in record.splitlines()] == sorted(
        names, key=lambda entry: (entry.endswith("RECORD"), entry)
    )
    assert [entry for entry in names if travels(entry)] == ["engine/a.py"]
    into = tmp_path / "installed"
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(into), str(tmp_path / name)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (into / "engine" / "a.py").read_text() == "x = 1\n"


def test_the_command_writes_notebook_and_wheel(
    capsys: pytest.CaptureFixture[str], notebook_of: Callable[..., Any], tiny: str, tmp_path: Path
) -> None:
    """The notebook where it is told, and the wheel beside it where it needs one."""
    notebook_of(tiny)
    out, spec = tmp_path / "out" / "run.ipynb", str(tmp_path / "project" / "runspecs" / "tiny.yaml")
    words = ["kaggle", "notebook", spec, "train.seed=7", "--out", str(out), "--wheel-dataset", "acme/wheels", "--json"]
    assert main(words) == 0
    written = json.loads(capsys.readouterr().out)
    assert json.loads(out.read_text())["nbformat_minor"] == 5
    assert Path(written["wheel"]).parent == out.parent
    assert written["bytes"] == out.stat().st_size
    assert main(["kaggle", "notebook", spec, "--out", str(tmp_path / "run.py")]) == 2
    assert "--out" in capsys.readouterr().err
