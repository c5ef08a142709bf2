"""doctor: rows with stable names, a fix for each lack, no secret, no accelerator touched in this process."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from engine import doctor, extras
from engine.errors import InputInvalid
from engine.extras import COMPILERS, compilers_command
from engine.trainer_process import process

TOKEN = "hf_" + "q" * 30


def _rows(root: Any, **options: Any) -> dict[str, doctor.Finding]:
    return {finding.what: finding for finding in doctor.examine(root, **options)}


def test_what_it_looks_at(tmp_path):
    """Python, machine, memory, disk, git, token and extras are always there, each with a sentence."""
    rows = _rows(tmp_path, devices=False)
    assert list(rows) == [
        "python",
        "machine",
        "memory",
        "disk",
        "git",
        "hf_token",
        "extra.train",
        "extra.sign",  # optional ones only where they are installed, and dev has these
        "extra.kaggle",
        "gpu_memory",
        "compilers",
    ]
    assert all(row.says for row in rows.values())
    assert rows["memory"].facts["bytes"] > 0
    assert rows["disk"].facts["free_bytes"] > 0


def test_a_token_is_reported_and_never_shown(tmp_path, monkeypatch):
    """HF_TOKEN is `set` or `not set`."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    row = _rows(tmp_path, devices=False)["hf_token"]
    assert row.state == "ok"
    assert TOKEN not in str(row.as_json())
    monkeypatch.delenv("HF_TOKEN")
    assert _rows(tmp_path, devices=False)["hf_token"].state == "warning"


def test_a_token_kept_by_hf_auth_login_counts(tmp_path, monkeypatch):
    """Where HF_TOKEN is not set, the client's own token file serves; its content is not shown."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "token").write_text(TOKEN)
    row = _rows(tmp_path, devices=False)["hf_token"]
    assert (row.state, row.fix) == ("ok", None)
    assert TOKEN not in str(row.as_json())


def test_a_missing_extra_comes_with_the_command(tmp_path, monkeypatch):
    """What is not installed is named, with the pip line that installs it; devices are then not asked for."""
    monkeypatch.setitem(extras.EXTRAS, "train", ("json", "surely_not_installed"))
    rows = _rows(tmp_path)
    assert rows["extra.train"].state == "missing"
    assert "surely_not_installed" in rows["extra.train"].says
    assert rows["extra.train"].fix == "pip install 'runspec-engine[train]'"
    assert "devices" not in rows


def test_the_compilers_are_named_by_their_versions(tmp_path, monkeypatch):
    """Absent: what to type. There: what pip wrote down beside them."""
    monkeypatch.delenv("RUNSPEC_COMPILERS", raising=False)
    absent = _rows(tmp_path, devices=False)["compilers"]
    assert absent.state == "missing"
    assert absent.fix == f"{compilers_command(tmp_path)}   (1.3 GB; training works without)"
    (tmp_path / ".compilers" / "libtpu-0.0.42.1.dist-info").mkdir(parents=True)
    there = _rows(tmp_path, devices=False)["compilers"]
    assert (there.state, there.facts) == ("ok", {"versions": ["libtpu-0.0.42.1"]})


def test_the_command_for_the_compilers_exists_where_it_is_told(repository, tmp_path):
    """`make compilers` in a checkout, whose Makefile has it; elsewhere pip, with the versions that the installed jax wants."""
    from importlib.metadata import requires, version

    makefile = (repository / "Makefile").read_text()
    assert compilers_command(repository) == "make compilers"
    assert f"COMPILERS := {' '.join(COMPILERS)}\n" in makefile
    (tmp_path / "Makefile").write_text("all:\n")
    command = compilers_command(tmp_path)
    jax, libtpu = version("jax"), next(need for need in requires("jax") if need.startswith("libtpu=="))
    assert command == (
        f"pip install --no-deps --target .compilers '{libtpu.split(';')[0].strip()}' 'jax-cuda12-plugin=={jax}' "
        f"'jax-cuda12-pjrt=={jax}' nvidia-cuda-nvcc-cu12"
    )


def test_the_share_of_a_gpu_s_memory_is_said(tmp_path, monkeypatch):
    """What a run takes by default; a variable of JAX that changes it is a warning, since plan does not count with it."""
    for name in ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        monkeypatch.delenv(name, raising=False)
    row = _rows(tmp_path, devices=False)["gpu_memory"]
    assert (row.state, row.says) == (
        "ok",
        "a run takes 90% of a GPU's memory (JAX alone would take 75%); allocator: {fraction: …} in the run-spec changes it",
    )
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", ".5")
    row = _rows(tmp_path, devices=False)["gpu_memory"]
    assert (row.state, row.fix) == (
        "warning",
        "unset XLA_PYTHON_CLIENT_MEM_FRACTION, or write allocator: {fraction: .5} so that plan counts with it",
    )
    assert row.as_json()["variable"] == "XLA_PYTHON_CLIENT_MEM_FRACTION"


def test_a_missing_git_is_a_finding(tmp_path, monkeypatch):
    """Without git the evidence cannot name a commit."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _rows(tmp_path, devices=False)["git"].state == "missing"


@pytest.mark.parametrize(
    ("program", "state", "says"),
    [
        ('print(\'{"event": "finished", "report": {"platform": "tpu", "devices": ["t0"], "device_kind": "x"}}\')',
         "ok", "tpu: t0"),
        ("print('what')", "warning", "cannot be listed (R202)"),
        ('print(\'{"event": "melted"}\')', "warning", "cannot be listed (R207)"),
        ("pass", "warning", "cannot be listed (R202)"),
        ("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)", "warning", "(R201)"),
    ],
    ids=["answers", "nonsense", "unknown", "silent", "hangs"],
)  # fmt: skip
def test_the_probe_may_answer_or_fail(tmp_path, monkeypatch, program, state, says):
    """Whatever the child does, doctor has one row for it and ends."""
    monkeypatch.setattr(process, "trainer_command", lambda *_: [sys.executable, "-c", program])
    monkeypatch.setattr(doctor, "PROBE_SECONDS", 20.0 if "sleep" not in program else 0.5)
    monkeypatch.setattr(doctor, "IMPORTED", ())
    monkeypatch.setitem(extras.EXTRAS, "train", ("json",))
    monkeypatch.chdir(tmp_path)
    row = _rows(tmp_path)["devices"]
    assert (row.state, says in row.says) == (state, True)


def test_libraries_are_imported_for_real(tmp_path, monkeypatch):
    """One that is on the path and fails when it is imported is named with its error; one that works is not."""
    (tmp_path / "halfbroken").mkdir()
    (tmp_path / "halfbroken" / "__init__.py").write_text("import json\njson.no_such_name\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(doctor, "IMPORTED", ("json", "halfbroken"))
    row = doctor._imports()
    reason = "AttributeError: module 'json' has no attribute 'no_such_name'"
    assert (row.state, row.facts) == ("missing", {"failing": {"halfbroken": reason}})
    assert row.says == f"halfbroken cannot be imported ({reason})"
    assert row.fix == "pip install 'runspec-engine[train]' --upgrade"
    monkeypatch.setattr(doctor, "IMPORTED", ("json", "email.message"))
    assert (doctor._imports().state, doctor._imports().says) == ("ok", "importable: json, email.message")


def test_flax_nnx_is_among_them():
    """It subclasses internals of jax: the pair that pip chose may not fit, and only an import shows it."""
    assert {"jax", "flax.nnx", "transformers"} <= set(doctor.IMPORTED)


def test_require_names_the_extra_and_the_fix(monkeypatch):
    """A command without its extra is exit 2 with the line to type."""
    monkeypatch.setitem(extras.EXTRAS, "train", ("surely_not_installed",))
    with pytest.raises(InputInvalid) as caught:
        extras.require("train", 'step "train" (train_sft)')
    [diagnostic] = caught.value.diagnostics
    assert diagnostic.code == "X101"
    assert diagnostic.message.startswith('step "train" (train_sft) needs the extra "train"')
    assert diagnostic.hint.startswith("pip install 'runspec-engine[train]'")


def test_looking_for_an_extra_imports_nothing():
    """find_spec looks; it does not load."""
    import subprocess

    script = "import sys, engine.extras as e; e.missing_modules('train'); print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_an_unknown_extra_of_a_plugin_is_not_our_business():
    """A plug-in may name an extra of its own package."""
    extras.require("somebody-elses", "x")
    assert extras.missing_modules("somebody-elses") == []


def test_git_is_asked_about_this_checkout(tmp_path, monkeypatch):
    """No checkout, no commit yet, a commit: each is said, with what to type."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    row = _rows(tmp_path, devices=False)["git"]
    assert (row.state, row.says) == (
        "ok",
        "git is installed; this project is not a checkout, so evidence will name no commit",
    )
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    row = _rows(tmp_path, devices=False)["git"]
    assert (row.state, row.says) == ("warning", "the evidence cannot name a commit: the git checkout has no commit yet")
    assert row.fix == "git add . && git commit -m 'first commit'"
    subprocess.run(["git", "commit", "-qm", "first", "--allow-empty"], cwd=tmp_path, check=True)
    row = _rows(tmp_path, devices=False)["git"]
    assert (row.state, row.says[:39]) == ("ok", "git is installed; this checkout is at c")
