"""One place turns exceptions into exit codes, text and JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine import errors
from engine.cli import main

REPOSITORY = Path(__file__).parent.parent.parent
SECRET = "s3cr3t-value-0123456789"


def _raise(monkeypatch, error):
    def answer(words):
        raise error

    monkeypatch.setattr("engine.cli.answer", answer)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.RunFailed, 1), (errors.InputInvalid, 2), (errors.EvidenceIncomplete, 4),
        (errors.VerificationFailed, 5), (errors.LockBusy, 6),
        (errors.RemoteRefused, 8), (errors.Interrupted, 130),
    ],
)  # fmt: skip
def test_each_exception_has_its_exit_code(runspec, monkeypatch, kind, code):
    """The exit code is the exception's; its text goes to standard error, nothing to standard output."""
    _raise(monkeypatch, kind("Z999", "it went wrong", hint="do this"))
    done = runspec("run", "x.yaml")
    assert (done.code, done.out) == (code, "")
    assert done.err == "error[Z999]: it went wrong\n   = help: do this\n"


def test_an_error_with_json_is_one_document(runspec, monkeypatch):
    """--json prints all diagnostics as one document and keeps standard error quiet."""
    rows = [errors.Diagnostic("Z001", "one"), errors.Diagnostic("Z002", "two")]
    _raise(monkeypatch, errors.InputInvalid.of(rows))
    done = runspec("run", "x.yaml", "--json")
    assert (done.code, done.err) == (2, "")
    assert done.document == {"ok": False, "diagnostics": [row.as_json() for row in rows]}


def test_an_internal_error_leaves_a_log_and_no_traceback(runspec, monkeypatch, project):
    """An unforeseen exception is exit 3, one sentence, and a file with the traceback but no secret."""
    monkeypatch.setenv("MY_API_KEY", SECRET)
    _raise(monkeypatch, ZeroDivisionError(f"oh no {SECRET}"))
    done = runspec("plan", "x.yaml", "--target", SECRET)
    assert (done.code, done.out) == (3, "")
    assert "error[X301]: internal error: ZeroDivisionError" in done.err
    assert "Traceback" not in done.err
    [log] = (project / ".runspec" / "logs").glob("crash-*.log")
    assert str(log) in done.err
    text = log.read_text()
    assert "ZeroDivisionError: oh no ***" in text
    assert "command: runspec plan x.yaml --target ***" in text
    assert "Traceback (most recent call last)" in text
    assert SECRET not in text + done.err


def test_an_internal_error_with_json_is_one_document(runspec, monkeypatch, project):
    """Even our own mistakes keep the promise of one JSON document."""
    _raise(monkeypatch, ZeroDivisionError("oh no"))
    done = runspec("plan", "x.yaml", "--json")
    assert done.code == 3
    assert done.document["ok"] is False
    assert done.document["diagnostics"][0]["code"] == "X301"


def test_an_internal_error_where_nothing_can_be_written(runspec, monkeypatch, project, tmp_path_factory):
    """Where .runspec cannot be written the log goes to the system's folder for temporary files."""
    import tempfile

    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    (project / ".runspec" / "logs").write_text("a file where a folder should be")
    _raise(monkeypatch, ZeroDivisionError("oh no"))
    done = runspec("plan", "x.yaml")
    assert done.code == 3
    [log] = elsewhere.glob("runspec-crash-*.log")
    assert str(log) in done.err


def test_a_keyboard_interrupt_says_how_to_resume(runspec, monkeypatch):
    """Ctrl-C is 130 and prints the command that resumes, quoted for the shell."""
    _raise(monkeypatch, KeyboardInterrupt())
    done = runspec("run", "my spec.yaml")
    assert done.code == 130
    assert "to resume, type it again: runspec run 'my spec.yaml'" in done.err


def test_a_closed_pipe_is_no_error(tmp_path):
    """`runspec … | head` ends quietly: exit 0 and nothing on standard error."""
    script = "import engine.cli, sys; sys.exit(engine.cli.main(['--help']))"
    command = f'{sys.executable} -c "{script}" | true; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.strip() == "0"


def test_secrets_never_reach_an_error_message(runspec, monkeypatch):
    """An error that quotes a person's line does not print the token in it."""
    monkeypatch.setenv("HF_TOKEN", SECRET)
    where = errors.Where("s.yaml", 1, 1, text=f"token: {SECRET}")
    _raise(monkeypatch, errors.InputInvalid("Z999", "bad", where=where))
    assert SECRET not in runspec("run", "x.yaml").err
    assert SECRET not in runspec("run", "x.yaml", "--json").out


def test_version(runspec):
    """--version prints the version, as text and as JSON."""
    from engine import __version__

    assert runspec("--version").out == f"runspec {__version__}\n"
    assert runspec("--version", "--json").document == {"ok": True, "version": __version__}


def test_json_flag_is_honoured_when_parsing_fails(runspec):
    """A wrong option together with --json still gives one JSON document."""
    done = runspec("run", "--nonsense", "--json")
    assert done.code == 2
    assert done.document["diagnostics"][0]["code"] == "U102"


def test_main_returns_what_the_shell_gets():
    """The entry point's return value is the exit status."""
    assert json.loads("0") == main(["--version"])
