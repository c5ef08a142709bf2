"""The generate job: order, resume after any interruption, stopping, bad prompt files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.canonical import digest_json, digest_text, digest_tree
from engine.errors import InputInvalid
from engine.protocol.events.base import Event
from engine.protocol.events.generation import Generated
from engine.trainer.generation.generate import end_reasons, run_generate
from engine.trainer.generation.prompts import read_prompts
from engine.trainer.models import config_from_hf
from engine.trainer.models.gemma import Gemma
from engine.trainer.text.tokenizer import build_chars
from engine.trainer.weights import save_folder
from tests.fixtures.events import generate_job, log_into

Row = dict[str, Any]
GREEDY = {"max_new_tokens": 5, "batch_size": 2, "seed": 0, "temperature": 0.0, "top_k": None, "top_p": 1.0, "stop": []}
SAMPLED = {"temperature": 1.0, "top_k": 40, "top_p": 0.95, "stop": ["a", "\n"]}
DIES_AFTER_ITS_FIRST_ROWS = """
import os, signal, sys
from engine.trainer import __main__ as trainer, process
opened = process.open_events
def open_events():
    emit = opened()
    def say(event):
        emit(event)
        if event.name == "generated":
            os.kill(os.getpid(), signal.SIGKILL)
    return say
process.open_events = open_events
trainer.main(["generate", sys.argv[1]])
"""
LENGTHS = (20, 1, 7, 25, 3, 14, 18, 5, 2)  # input order mixes the buckets


class Killed(Exception):
    """Instead of a SIGKILL: raised where the process would have died."""


@pytest.fixture(scope="session")
def model_dir(make_model: Callable[..., Gemma], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny model."""
    folder = tmp_path_factory.mktemp("job") / "model"
    model = make_model()
    save_folder(folder, model, model.config, build_chars(), dtype="float32")
    return folder


@pytest.fixture
def make_job(model_dir: Path, tmp_path: Path) -> Callable[..., Row]:
    """make_job(name): a job whose outputs are in a folder of that name."""
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"id": f"item-{i}", "prompt": "é" + "q" * length} for i, length in enumerate(LENGTHS)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def make(name: str = "one", **args: Any) -> Row:
        folder = tmp_path / name
        return {
            "model_dir": str(model_dir),
            "prompts": str(prompts),
            "out": str(folder / "out" / "predictions_raw.jsonl"),
            "report": str(folder / "out" / "generate_report.json"),
            "work": str(folder / "work"),
            "device": "auto",
            "cache": None,
            "args": GREEDY | args,
        }

    return make


def never() -> bool:
    return False


def output(job: Row) -> list[Row]:
    """The predictions without their times."""
    rows = [json.loads(line) for line in Path(job["out"]).read_text(encoding="utf-8").splitlines()]
    assert all(row.pop("milliseconds") > 0 for row in rows)
    return rows


def test_rows_come_in_the_order_of_the_prompts(make_job: Callable[..., Row]) -> None:
    """Whatever the batches, line i answers prompt i, with the digest of its text and its token counts."""
    job, events = make_job(), []
    report = run_generate(generate_job(job), log_into(events), never)
    rows = output(job)
    assert [row["id"] for row in rows] == [f"item-{i}" for i in range(len(LENGTHS))]
    assert [row["prompt_tokens"] for row in rows] == [length + 3 for length in LENGTHS]  # BOS, é = 2 bytes
    assert rows[0]["prompt"] == "é" + "q" * 20
    assert rows[0]["prompt_sha256"] == digest_text(rows[0]["prompt"])
    assert {event["event"] for event in events[1:-1]} == {"generated"}
    assert [events[0]["event"], events[-1]["event"]] == ["generation_started", "finished"]
    assert events[-2] | {"tokens_per_second": 0} == {
        "event": "generated",
        "done": 9,
        "total": 9,
        "tokens_per_second": 0,
    }
    assert report == events[-1]["report"] == json.loads(Path(job["report"]).read_text())
    assert report["n_items"] == 9
    assert report["new_tokens"] == sum(row["new_tokens"] for row in rows)
    assert report["finish_reasons"] == dict(Counter(row["finish_reason"] for row in rows))
    assert report["model_sha256"] == digest_json(digest_tree(Path(job["model_dir"])))


@pytest.mark.parametrize("args", [{}, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("done", [1, 5])
def test_a_killed_job_resumes_and_ends_the_same(make_job: Callable[..., Row], done: int, args: Row) -> None:
    """Killed after some rows, the next call generates only the rest, and the output equals an uninterrupted one's."""
    whole, broken = make_job("whole", **args), make_job("broken", **args)
    run_generate(generate_job(whole), lambda event: None, never)

    def die(event: Event) -> None:
        if isinstance(event, Generated) and event.done >= done:
            raise Killed

    with pytest.raises(Killed):
        run_generate(generate_job(broken), die, never)
    assert not Path(broken["out"]).exists()
    events: list[Row] = []
    run_generate(generate_job(broken), log_into(events), never)
    assert done <= events[0]["n_done"] < 9
    assert output(broken) == output(whole)


def test_a_killed_process_resumes_and_ends_the_same(make_job: Callable[..., Row], tmp_path: Path) -> None:
    """SIGKILL of the trainer's process after its first rows; drawn answers, stop strings; the second process resumes."""
    job = make_job("killed", **SAMPLED)
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")

    def run(*command: str) -> tuple[int, list[Row]]:
        done = subprocess.run([sys.executable, *command, str(path)], stdin=hold, capture_output=True, check=False)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as open_pipe:
        hold = open_pipe.stdout
        code, events = run("-c", DIES_AFTER_ITS_FIRST_ROWS)
        assert (code, events[-1]["event"]) == (-signal.SIGKILL, "generated")
        assert not Path(job["out"]).exists()
        code, events = run("-m", "engine.trainer", "generate")
        assert (code, events[-1]["event"]) == (0, "finished")
    assert 0 < events[0]["n_done"] < 9
    whole = make_job("whole", **SAMPLED)
    run_generate(generate_job(whole), lambda event: None, never)
    assert output(job) == output(whole)


def test_stop_strings_cut_the_text(make_job: Callable[..., Row]) -> None:
    """A greedy answer with one of its letters as the stop string ends before it, and has the reason "stop"."""
    job = make_job("free", max_new_tokens=20)
    run_generate(generate_job(job), lambda event: None, never)
    free = output(job)
    letter = next(char for row in free for char in row["text"][1:] if char.isprintable())
    job = make_job("stopped", max_new_tokens=20, stop=[letter])
    report = run_generate(generate_job(job), lambda event: None, never)
    rows = output(job)
    for row, full in zip(rows, free, strict=True):
        assert row["text"] == full["text"].partition(letter)[0]
        assert (row["finish_reason"] == "stop") == (letter in full["text"])
    assert report["finish_reasons"]["stop"] == sum(letter in row["text"] for row in free) > 0


def test_ends_of_an_answer_have_their_reasons(tiny_mapping: Row) -> None:
    """The model's EOS ids are "eos"; the end of a turn has its own reason, also where the config names it as an EOS."""
    config = config_from_hf({**tiny_mapping, "eos_token_id": [1, 106, 50]})
    chat = SimpleNamespace(eos_id=1, turn_end_ids=frozenset([1, 106]))
    assert end_reasons(config, (1, 60, 106), chat) == {1: "eos", 50: "eos", 60: "eos", 106: "end_of_turn"}
    assert end_reasons(config, (1,), build_chars()) == {1: "eos", 50: "eos", 106: "eos"}


def test_a_torn_last_line_is_generated_again(make_job: Callable[..., Row]) -> None:
    """Half a line at the end of the work file, from a kill while writing, is dropped and generated again."""
    job = make_job()
    run_generate(generate_job(job), lambda event: None, never)
    expected, progress = output(job), Path(job["work"]) / "generated.jsonl"
    lines = progress.read_bytes().splitlines(keepends=True)
    progress.write_bytes(b"".join(lines[:4]) + lines[4][:30])
    run_generate(generate_job(job), lambda event: None, never)
    assert output(job) == expected


@pytest.mark.parametrize("change", [(b'"new_tokens": ', b'"new_tokens": 9'), (b'"item-', b'"itom-'), (b"{", b"[")])
def test_a_changed_answer_is_generated_again(make_job: Callable[..., Row], change: tuple[bytes, bytes]) -> None:
    """One byte of a kept row: nobody's answer, and no fault of the engine; the other rows are kept."""
    job = make_job()
    run_generate(generate_job(job), lambda event: None, never)
    expected, progress = output(job), Path(job["work"]) / "generated.jsonl"
    lines = progress.read_bytes().splitlines(keepends=True)
    progress.write_bytes(b"".join([*lines[:2], lines[2].replace(*change, 1), *lines[3:]]))
    events: list[Row] = []
    run_generate(generate_job(job), log_into(events), never)
    assert events[0]["n_done"] == len(lines) - 2
    assert output(job) == expected


@pytest.mark.parametrize("change", ["args", "prompts", "garbage"])
def test_work_of_another_job_is_not_used(make_job: Callable[..., Row], change: str) -> None:
    """Rows made with other arguments or prompts, or an unreadable work file, are discarded."""
    job = make_job()
    run_generate(generate_job(job), lambda event: None, never)
    if change == "args":
        job["args"]["max_new_tokens"] = 3
    elif change == "prompts":
        Path(job["prompts"]).write_text('{"id": "item-0", "prompt": "other"}\n')
    else:
        (Path(job["work"]) / "generated.jsonl").write_bytes(b"\xff\x00garbage")
    events: list[Row] = []
    run_generate(generate_job(job), log_into(events), never)
    assert events[0]["n_done"] == 0


@pytest.mark.parametrize("after", [0, 2])
def test_stopping_keeps_what_is_done(make_job: Callable[..., Row], after: int) -> None:
    """On a stop request the job reports its progress and writes no output; the next call finishes it."""
    job, events = make_job(), []
    answer = run_generate(
        generate_job(job), log_into(events), lambda: sum(e["event"] == "generated" for e in events) >= after
    )
    done = answer["done"]
    assert done == 0 if after == 0 else after <= done < 9
    assert answer == {"stopped": True, "done": done, "total": 9}
    stopped = {"event": "generation_stopped", "done": done, "total": 9, "reason": "request"}
    assert stopped.items() <= events[-1].items()
    assert not Path(job["out"]).exists()
    assert run_generate(generate_job(job), log_into(events), never)["n_items"] == 9


def test_a_prompt_too_long_names_its_item(make_job: Callable[..., Row]) -> None:
    """M501 names the items by id, before anything is generated."""
    with pytest.raises(InputInvalid, match=r'M501.*item "item-0"') as caught:
        run_generate(generate_job(make_job(max_new_tokens=45)), lambda event: None, never)
    assert len(caught.value.diagnostics) == 3


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", [0]),
        (b"\n\n", [0]),
        (b"\xff\xfe", [0]),
        (b'{"id": "a", "prompt": "x"}\nnonsense\n[1]\n', [2, 3]),
        (b'{"id": "a"}\n{"id": 1, "prompt": "x"}\n{"id": "b", "prompt": null}\n', [1, 2, 3]),
        (b'{"id": "a", "prompt": "x"}\n{"id": "a", "prompt": "y"}\n', [2]),
    ],
)
def test_bad_prompt_lines_are_all_named(tmp_path: Path, content: bytes, lines: list[int]) -> None:
    """M502 with the line number of each bad line."""
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputInvalid) as caught:
        read_prompts(path)
    assert [(one.code, one.where.line) for one in caught.value.diagnostics if one.where] == [
        ("M502", line) for line in lines
    ]


def test_a_missing_prompt_file_is_named(tmp_path: Path) -> None:
    """M502, not a traceback."""
    with pytest.raises(InputInvalid, match="M502"):
        read_prompts(tmp_path / "gone.jsonl")
