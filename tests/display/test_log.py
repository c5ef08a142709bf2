"""Secrets are taken out of text; the log of a run is JSONL."""

from __future__ import annotations

import base64
import json
import urllib.parse
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.display.log import MASK, RunLog, jsonl_logger, redact, redact_value, secrets_of, write_traceback

SECRET = 'p/w+d "x"\\ü-9876543210'
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
long_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=40).filter(
    lambda text: len(text.strip()) >= 8 and text == text.strip()
)


@given(before=texts, secret=long_texts, after=texts)
def test_no_secret_survives_in_any_text(before, secret, after):
    """Whatever stands around it, the secret itself is gone, and so are its quoted and base64 forms."""
    environ = {"SOME_TOKEN": secret}
    for form in (secret, urllib.parse.quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1]):
        assert secret not in redact(before + form + after, environ)
    encoded = base64.b64encode((before + secret + after).encode()).decode()
    cleaned = redact(encoded, environ)
    assert MASK in cleaned


@given(text=texts)
def test_text_without_secrets_is_left_alone(text):
    """Where there is no secret nothing changes."""
    assert redact(text, {"HOME": "/somewhere/long", "TOKEN": "short"}) == text


@given(before=st.binary(max_size=8), after=st.binary(max_size=8))
def test_base64_is_found_at_every_alignment(before, after):
    """The secret inside a longer base64 text cannot be read back."""
    encoded = base64.b64encode(before + SECRET.encode() + after).decode()
    cleaned = redact(encoded, {"API_KEY": SECRET})
    middle = base64.b64encode(SECRET.encode()).decode()[8:-8]
    assert middle not in cleaned
    assert MASK in cleaned


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        urllib.parse.quote(SECRET, safe=""),
        urllib.parse.quote(SECRET, safe="").lower(),
        urllib.parse.quote_plus(SECRET),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
    ],
)
def test_each_form_is_masked(form):
    """Raw, URL-quoted (both cases), form-quoted, JSON-escaped and base64 forms all become the mask."""
    environ = {"MY_PASSWORD": SECRET}
    assert redact(f"say {form} loud", environ).startswith(f"say {MASK}")


@pytest.mark.parametrize("token", ["hf_" + "aB3" * 11, "KGAT_" + "0123456789abcdef"])
def test_well_known_token_shapes_are_masked_without_being_in_the_environment(token):
    """A Hugging Face or Kaggle token is masked wherever it comes from."""
    assert redact(f"Bearer {token}, ok", {}) == f"Bearer {MASK}, ok"


def test_which_variables_hold_secrets():
    """Names that say token, secret, key or password count, from 8 characters on; each line by itself too."""
    environ = {"HF_TOKEN": "a" * 8, "my_secret": "b" * 9, "KEY": "short", "PATH": "/usr/bin:/bin",
               "PEM_KEY": "first-line-of-it\nsecond-line-of-it"}  # fmt: skip
    assert secrets_of(environ) == tuple(
        sorted(["a" * 8, "b" * 9, "first-line-of-it\nsecond-line-of-it", "first-line-of-it", "second-line-of-it"])
    )


def test_the_longer_of_two_secrets_goes_whole():
    """A secret that begins with another one leaves no tail behind."""
    environ = {"A_TOKEN": "abcdefgh", "B_TOKEN": "abcdefghijkl"}
    assert redact("x abcdefghijkl y", environ) == f"x {MASK} y"


def test_a_mask_cannot_join_two_halves_into_a_secret():
    """Cutting one secret out may bring another one together; that one goes too."""
    environ = {"A_TOKEN": "********", "B_TOKEN": "12345678"}
    assert "********" not in redact("****12345678****", environ)


def test_values_are_masked_deeply():
    """Strings inside lists and mappings, keys included, are masked; numbers stay numbers."""
    environ = {"A_KEY": "abcdefgh"}
    value = {"abcdefgh": ["x abcdefgh", 3, None, {"k": ("abcdefgh",)}]}
    assert redact_value(value, environ) == {MASK: [f"x {MASK}", 3, None, {"k": [MASK]}]}


def _planned(step_id: str) -> SimpleNamespace:
    step = SimpleNamespace(id=step_id, uses="toy")
    return SimpleNamespace(step=step, reason="not made yet", handler=SimpleNamespace(title="plays"))


def test_the_run_log_is_jsonl_without_secrets(tmp_path, monkeypatch):
    """Every call becomes one JSON object with time, level, event and run_version; secrets are masked."""
    monkeypatch.setenv("HF_TOKEN", SECRET)
    path = tmp_path / "logs" / "v1.jsonl"
    log = RunLog(path, run_version="v1", command="runspec run x.yaml")
    log.step_skipped("a", "nothing changed")
    log.step_started(_planned("b"), 2, 2)
    log.event({"event": "train_step", "train_step": 1, "loss": 0.5})
    log.note(f"logged in with {SECRET}")
    log.step_finished("b", 1.23456, {"n_rows": 3})
    log.finished(["b"], ["a"], 2.0)
    log.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["event"] for row in rows] == [
        "run_started", "step_skipped", "step_started", "train_step", "note", "step_finished", "run_finished",
    ]  # fmt: skip
    assert all(row["run_version"] == "v1" and row["level"] == "info" and row["time"].endswith("Z") for row in rows)
    assert rows[4]["text"] == f"logged in with {MASK}"
    assert SECRET not in path.read_text()


def test_a_run_with_nothing_to_do_leaves_no_log(tmp_path):
    """Skipped steps alone neither create nor extend the log."""
    log = RunLog(tmp_path / "v1.jsonl", run_version="v1", command="c")
    log.step_skipped("a", "nothing changed")
    log.finished([], ["a"], 0.1)
    log.close()
    assert not (tmp_path / "v1.jsonl").exists()


def test_a_second_run_appends(tmp_path):
    """The log of a resumed run goes on in the same file."""
    for _ in range(2):
        log = RunLog(tmp_path / "v1.jsonl", run_version="v1", command="c")
        log.note("hello")
        log.close()
    assert len((tmp_path / "v1.jsonl").read_text().splitlines()) == 4


def test_a_log_that_cannot_be_written_costs_no_run(tmp_path, capsys):
    """One warning, then silence: the run goes on."""
    (tmp_path / "logs").write_text("a file where a folder should be")
    log = RunLog(tmp_path / "logs" / "v1.jsonl", run_version="v1", command="c")
    log.note("one")
    log.note("two")
    log.close()
    assert capsys.readouterr().err.count("warning: no log is kept") == 1


@pytest.mark.skipif("not __import__('os').path.exists('/dev/full')", reason="needs /dev/full")
def test_a_full_disk_costs_no_run(capsys):
    """Where the disk is full the log is given up with one warning."""
    from pathlib import Path

    log = RunLog(Path("/dev/full"), run_version="v1", command="c")
    log.note("one")
    log.note("two")
    log.close()
    assert capsys.readouterr().err.count("warning: no log is kept") == 1


def test_exceptions_are_logged_without_local_variables(tmp_path):
    """A traceback file has the frames and never the values in them."""

    def fails() -> None:
        local_value = "only-a-local-variable-holds-this"
        raise ValueError(len(local_value))

    try:
        fails()
    except ValueError as error:
        path = write_traceback(error, "runspec x", tmp_path)
    text = path.read_text()
    assert "in fails" in text
    assert "local_value = 'only" not in text


def test_unknown_objects_are_written_as_text(tmp_path):
    """A value JSON has no form for cannot break the log."""
    with (tmp_path / "x.jsonl").open("w") as stream:
        jsonl_logger(stream).info("event", path=tmp_path)
    assert json.loads((tmp_path / "x.jsonl").read_text())["path"] == str(tmp_path)
