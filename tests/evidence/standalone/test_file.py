"""verify.py is one deterministic file of the standard library that runs nothing of what it checks, on every Python from 3.9."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.evidence import package, verify
from engine.evidence.standalone import FILE, RELEASED, strange, verify_py
from engine.evidence.standalone.made import made
from tests.evidence import forger
from tests.evidence.hostile_inputs import CASES, Files
from tests.evidence.standalone.conftest import disagreements, python_of
from tests.fixtures import version_1
from tests.fixtures.measured import measured

REPOSITORY = Path(__file__).parents[3]
MOST_BYTES = 800_000
MOST_SECONDS, MOST_KIB = 5.0, 300 << 10
IN_A_PROCESS = ("cut at 50 %", "60,000 entries", "run_record.json: a number of 401 digits", "a pipe", "a bomb",
                "a member named b'toy_v1/\\x1b[2J.txt'")  # fmt: skip


def run(words: list[str], cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """A process of its own."""
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False, **options)


def _texts() -> dict[str, str]:
    """Module in the file -> its text, and the file itself."""
    values: dict[str, dict[str, str]] = {"SOURCES": {}, "ASSETS": {}}
    for node in ast.parse(verify_py()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            target = node.targets[0]
            values[ast.unparse(target.value)][ast.literal_eval(target.slice)] = ast.literal_eval(node.value)
    return {**values["SOURCES"], FILE: verify_py().decode()}


def test_nothing_but_the_standard_library_is_imported() -> None:
    """Every import, inside functions too, is of a module in the file or of the standard library of 3.9."""
    texts, strangers = _texts(), set()
    for text in texts.values():
        for node in ast.walk(ast.parse(text)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            strangers |= {
                name for name in modules if name not in texts and name.split(".")[0] not in sys.stdlib_module_names
            }
    assert strangers == set()
    assert "tomllib" not in " ".join(texts.values())


def test_every_module_is_grammar_of_python_3_9() -> None:
    """What came later is written in another way, or a module does not use it."""
    for name, text in _texts().items():
        ast.parse(text, name, feature_version=(3, 9))
        assert "slots=True" not in text


NEWER_THAN_2_7 = (ast.AnnAssign, ast.JoinedStr, ast.AsyncFunctionDef, ast.Await, ast.NamedExpr, ast.Nonlocal, ast.Starred, ast.YieldFrom,
                  ast.Match, ast.TryStar)  # fmt: skip


def test_an_older_python_can_read_it_up_to_the_sentence_that_it_is_too_old() -> None:
    """One line and exit code 2 on 3.8, no traceback; the grammar is that of 2.7, outside the texts of modules."""
    text = verify_py().decode()
    assert "coding: utf-8" in text.splitlines()[1]
    for node in ast.walk(ast.parse(text)):
        assert not isinstance(node, NEWER_THAN_2_7) or isinstance(getattr(node, "ctx", None), ast.Load), ast.dump(node)[
            :200
        ]
        if isinstance(node, ast.arguments):
            assert not node.kwonlyargs + node.posonlyargs
            assert not any(argument.annotation for argument in [*node.args, node.vararg, node.kwarg] if argument)
        if isinstance(node, ast.FunctionDef):
            assert node.returns is None
        if isinstance(node, ast.ImportFrom):
            assert node.module != "__future__"
        if isinstance(node, ast.Raise):
            assert node.cause is None


@pytest.mark.parametrize("version", ["2, 7", "3, 8"])
def test_an_older_python_is_told_so(version: str, tmp_path: Path) -> None:
    """Before anything is imported that it may not have."""
    (tmp_path / FILE).write_bytes(verify_py())
    code = f"import runpy, sys; sys.version_info = ({version}, 1, 'final', 0); runpy.run_path({FILE!r}, run_name='__main__')"
    done = run([sys.executable, "-c", code], tmp_path)
    said = f"verify.py needs Python 3.9 or later, and this is Python {version.replace(', ', '.')}\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    """The advice is what verify.py takes: a folder or a zip, and no run-spec."""
    (tmp_path / FILE).write_bytes(verify_py())
    done = run([sys.executable, FILE, "nosuch"], tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "error[U114]: nosuch does not exist\n   = help: name an evidence folder or a zip\n",
    )


def test_it_is_readable_and_small() -> None:
    """The checks stand in it with their docstrings, word for word; it says first what it is and what to type."""
    text = verify_py().decode()
    assert text.splitlines()[2].startswith('"""verify.py: checks the evidence')
    for file in ("checklist.py", "checks/chain.py", "checks/members.py"):
        source = (REPOSITORY / "engine" / "evidence" / file).read_text(encoding="utf-8")
        functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
        assert functions
        for function in functions:
            own = ast.get_source_segment(source, function) or ""
            assert own in text or "isinstance" in own, function.name
    assert len(text.encode()) < MOST_BYTES


@pytest.mark.parametrize("version", ["", pytest.param("3.12", marks=pytest.mark.slow), "3.13"])
def test_the_bytes_depend_on_the_sources_alone(version: str, tmp_path: Path) -> None:
    """Another hash seed, locale, place of the sources and Python: the same file."""
    python = python_of(version) if version else sys.executable
    for name in ("engine", "schemas", "templates"):
        shutil.copytree(
            REPOSITORY / name, tmp_path / "elsewhere ü" / name, ignore=shutil.ignore_patterns("__pycache__", "_assets")
        )
    code = "import sys; from engine.evidence.standalone.made import made; sys.stdout.buffer.write(made()[0])"
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path / "elsewhere ü"),
        "LC_ALL": "C",
        "PYTHONHASHSEED": "7",
        "PYTHONUTF8": "1",
    }
    done = subprocess.run([python, "-S", "-c", code], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.stdout == verify_py() == made()[0], done.stderr.decode()[-2000:]


def test_it_agrees_under_python_3_9(folder: Path, alone: Any, tmp_path: Path) -> None:
    """Good evidence, a zip, version 1 and forgeries of every file: the same checks with the same outcome."""
    python, files = python_of("3.9"), forger.files_of(folder)
    paths = [folder, package(folder, tmp_path / "out", "toy"), version_1.EVIDENCE]
    for number, (_, variant) in enumerate(list(forger.alone(files))[::79]):
        (tmp_path / f"{number}").mkdir()
        for name, data in variant.items():
            (tmp_path / f"{number}" / name).write_bytes(data)
        paths.append(tmp_path / f"{number}")
    said = alone(paths, python)
    assert [one.code for one in said[:3]] == [0, 0, 0]
    assert disagreements(paths, said, details=False) == []


def test_inside_the_folder_it_checks_the_folder_and_writes_nothing(folder: Path) -> None:
    """`python verify.py`, as README.txt says; the folder has the same files after it."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = run([sys.executable, FILE], folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"V28 +pass", done.stdout)
    assert "next, L1: a signature" in done.stdout
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "name", ["json.py", "re.py", "zipfile.py", "typing.py", "engine.py", "ruamel.py", "jsonschema.py"]
)
def test_no_module_beside_it_is_run(folder: Path, name: str) -> None:
    """A stranger's json.py in the folder is a finding of V28, and not a program."""
    (folder / name).write_text("raise SystemExit('this was run')\n")
    done = run([sys.executable, FILE, "--json"], folder)
    assert "this was run" not in done.stdout + done.stderr
    rows = {row["id"]: row for row in json.loads(done.stdout)["checks"]}
    assert (done.returncode, rows["V28"]["status"]) == (5, "fail")
    assert f"'{name}' is not named by the record" in rows["V28"]["detail"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["-h"], 0, "usage: python verify.py"),
        (["--help"], 0, "Exit code 0"),
        (["--nothing"], 2, "error[U102]: there is no option --nothing"),
        (["a", "b"], 2, "error[U103]: one path can be checked, and 2 are named"),
        (["no/such"], 2, "error[U114]: no/such does not exist"),
        (["\x1b[2J"], 2, "error[U114]: <U+001B>[2J does not exist"),
        (["."], 2, "error[X322]: no evidence here"),
    ],
)
def test_the_command_line(verify_file: Path, tmp_path: Path, words: list[str], code: int, said: str) -> None:
    """What is wrong with it is said in one finding, and never as a traceback."""
    (tmp_path / "here").mkdir()
    done = run([sys.executable, str(verify_file), *words], tmp_path / "here")
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert said in done.stdout + done.stderr


def test_an_ascii_terminal_gets_escapes_and_valid_json(folder: Path, tmp_path: Path) -> None:
    """No encoding of the terminal stops it."""
    target = tmp_path / "naïve"
    shutil.copytree(folder, target)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = run([sys.executable, FILE], target, env=environment)
    assert done.returncode == 0, done.stderr
    done = run([sys.executable, FILE, "--json"], target, env=environment)
    assert json.loads(done.stdout)["ok"]


def test_explain_prints_what_nobody_checks(folder: Path) -> None:
    """The list that `runspec verify --explain` prints."""
    done = run([sys.executable, FILE, "--explain"], folder)
    assert "stated by the run, checked by nobody:" in done.stdout


def test_another_verify_py_is_not_to_be_run(folder: Path, tmp_path: Path) -> None:
    """V28 of the engine tells it from the known ones, with digests redone; evidence without one is incomplete."""
    assert strange(verify_py()) == []
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in RELEASED)
    files = forger.files_of(folder)
    for number, data in enumerate((files[FILE] + b"print('all is well')\n", None)):
        changed = {name: content for name, content in {**files, FILE: data}.items() if content is not None}
        target = tmp_path / str(number)
        target.mkdir()
        for name, content in forger.sealed(changed).items():
            (target / name).write_bytes(content)
        [check] = [check for check in verify(target).checks if check.id == "V28"]
        assert check.status == "fail"
        assert ("do not run it" in check.detail) if data else check.detail == "verify.py is missing"


MADE: Files = {}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case.name in IN_A_PROCESS else pytest.mark.slow, id=case.name) for case in CASES],
)
def test_a_hostile_input_is_refused_in_time_and_memory(
    case: Any, request: pytest.FixtureRequest, verify_file: Path, tmp_path: Path
) -> None:
    """Law: exit code, finding, 5 s, 300 MB, measured by the system; no traceback and no character that acts."""
    if not MADE:
        MADE.update(forger.files_of(request.getfixturevalue("folder")))
    path = case.make(dict(MADE), tmp_path)
    done = measured([sys.executable, "-I", "-S", str(verify_file), str(path)], tmp_path)
    assert (done.exit_code, "Traceback" in done.text) == (case.exit_code, False), done.text[:3000]
    assert re.search(case.finding, done.text), done.text[:3000]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", done.text)
    assert done.seconds <= MOST_SECONDS
    assert done.kib <= MOST_KIB
