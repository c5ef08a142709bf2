"""The token store: the same rows however it is built, never partial, never damaged, found again."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import InputInvalid, RunFailed
from engine.trainer.input_pipeline import token_store, tokenizing
from engine.trainer.input_pipeline.array_store import HEADER, NOTE, ArrayWriter, open_arrays
from engine.trainer.input_pipeline.rows import RowFindings, token_rows
from engine.trainer.input_pipeline.token_store import Stopped, TokenStore, open_store
from engine.trainer.text.tokenizer import build_chars
from tests.fixtures.events import log_into

CHARS = build_chars()
Open = Callable[..., TokenStore]
Event = Mapping[str, Any]


def write_rows(path: Path, count: int = 60) -> Path:
    """Rows of many lengths, some blank lines, some letters of several bytes."""
    draw = random.Random(3)
    lines = []
    for index in range(count):
        answer = "né" * draw.randint(1, 30)
        segments = [{"text": f"{index}?", "train": False}, {"text": answer, "train": True}]
        lines.append(json.dumps({"id": f"row-{index}-ß", "segments": segments}, ensure_ascii=False))
        lines += [""] * (index % 7 == 0)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file of sixty rows."""
    return write_rows(tmp_path / "rows.jsonl")


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a few rows each, with an event and a note after every part."""
    small = lambda path: tokenizing.survey(path, 700)  # noqa: E731
    monkeypatch.setattr(token_store, "survey", small)
    monkeypatch.setattr(token_store, "EVENT_SECONDS", 0.0)
    monkeypatch.setattr(token_store, "REMEMBER_SECONDS", 0.0)


@pytest.fixture
def store_of(tmp_path: Path) -> Open:
    """Open or build the store of a file in this test's cache."""

    def run(
        path: Path, *, tokenizer: Any = CHARS, render: str = "reasoning@v1", cache: str = "cache", **more: Any
    ) -> Any:
        return open_store(path, tokenizer, tmp_path / cache, render=render, **more)

    return run


def folders(tmp_path: Path, cache: str = "cache") -> list[Path]:
    return sorted(path for path in (tmp_path / cache / "tokens").iterdir() if path.is_dir())


def test_a_store_has_the_rows_of_the_file(rows: Path, store_of: Open, small_parts: None) -> None:
    """Row by row, the store is what tokenising the file in one go gives, when it is built and when it is found."""
    expected = token_rows(rows.read_bytes(), 1, CHARS, RowFindings(""))
    for was_cached in (False, True):
        store = store_of(rows)
        assert [store.table.row(index) for index in range(store.table.n_rows)] == expected
        assert store.table.trained.tolist() == [sum(row.loss_mask) for row in expected]
        assert store.was_cached is was_cached


def test_parts_add_up_to_the_file(rows: Path) -> None:
    """Of any size, parts are complete lines, end to end, and their lines are numbered as those of the file."""
    data = rows.read_bytes()
    for size in (1, 50, 700, 10**6):
        parts, _ = tokenizing.survey(rows, size)
        assert b"".join(data[part.offset : part.offset + part.size] for part in parts) == data
        for part in parts:
            assert part.first_line == data[: part.offset].count(b"\n") + 1
        assert sum(part.n_lines for part in parts) == len(data.split(b"\n"))


def test_processes_make_the_same_store(rows: Path, store_of: Open, small_parts: None) -> None:
    """Two workers, more parts than they queue at once: the same digest as in this process."""
    assert store_of(rows, workers=2).digest == store_of(rows, cache="other", workers=0).digest


def test_memory_is_mapped(rows: Path, store_of: Open) -> None:
    """The tokens are pages of the file, read-only, in two bytes each where the vocabulary is small."""
    table = store_of(rows).table
    assert isinstance(table.tokens.base, np.memmap)
    assert table.tokens.dtype == np.uint16
    with pytest.raises(ValueError, match="read-only"):
        table.tokens[0] = 0


def test_the_store_is_keyed_by_what_it_is_made_from(
    rows: Path, store_of: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other rows, another rendering, another tokenizer file or other code build another store; nothing else does."""

    class Other:
        def __getattr__(self, name: str) -> Any:
            return getattr(CHARS, name)

        def digest(self) -> str:
            return "other"

    store_of(rows)
    shutil.copy(rows, tmp_path / "copy.jsonl")
    os.utime(tmp_path / "copy.jsonl", (0, 0))
    assert store_of(tmp_path / "copy.jsonl").was_cached
    assert not store_of(rows, render="plain@v1").was_cached
    assert not store_of(rows, tokenizer=Other()).was_cached
    assert not store_of(write_rows(tmp_path / "fewer.jsonl", 59)).was_cached
    monkeypatch.setattr(token_store, "code_digest", lambda *_: "changed")
    assert not store_of(rows).was_cached


def test_equal_tokens_have_one_digest(rows: Path, store_of: Open, tmp_path: Path) -> None:
    """A checkpoint is bound to the content: blank lines make another file and the same tokens."""
    spaced = tmp_path / "spaced.jsonl"
    spaced.write_bytes(rows.read_bytes().replace(b"\n", b"\n\n"))
    assert store_of(spaced).digest == store_of(rows).digest
    assert store_of(spaced).rows_digest != store_of(rows).rows_digest


def test_progress_is_reported(rows: Path, store_of: Open, small_parts: None) -> None:
    """Rows done of all, rising, all at the end; an existing store emits no event."""
    events: list[Event] = []
    store_of(rows, emit=log_into(events))
    assert {event["event"] for event in events} == {"tokenizing"}
    done = [event["done"] for event in events]
    assert done == sorted(set(done))
    assert done[-1] == events[-1]["total"] == len(rows.read_bytes().split(b"\n"))
    store_of(rows, emit=log_into(events))
    assert len(events) == len(done)


def test_quick_work_emits_no_event(rows: Path, store_of: Open) -> None:
    """Work of less than a second needs no progress bar."""
    store_of(rows, emit=lambda event: pytest.fail(str(event)))


@pytest.mark.parametrize("workers", [0, 2])
def test_findings_of_all_parts_come_together(rows: Path, store_of: Open, small_parts: None, workers: int) -> None:
    """Broken lines anywhere in the file are named with their numbers all at once, and nothing is published."""
    lines = rows.read_text(encoding="utf-8").split("\n")
    lines[4], lines[40] = "{", '{"id": "empty", "segments": [{"text": "a", "train": false}]}'
    rows.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(InputInvalid) as caught:
        store_of(rows, workers=workers)
    diagnostics = caught.value.diagnostics
    assert [(finding.code, finding.where and (finding.where.file, finding.where.line)) for finding in diagnostics] == [
        ("T110", (str(rows), 5)),
        ("T111", (str(rows), 41)),
    ]
    with pytest.raises(InputInvalid):
        store_of(rows, workers=workers)


def test_an_empty_file_is_refused(tmp_path: Path, store_of: Open) -> None:
    """Nothing to train on is an error."""
    (tmp_path / "rows.jsonl").write_text("\n\n")
    with pytest.raises(InputInvalid, match="no row to train on") as caught:
        store_of(tmp_path / "rows.jsonl")
    assert caught.value.code == "T112"


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "name", ["tokens", "loss_mask", "offsets", "trained", "boundary_merges", "ids", "id_offsets", "header"]
)
@pytest.mark.parametrize("harm", [_flip, Path.unlink, lambda path: os.truncate(path, 7)])
def test_a_damaged_store_is_built_again(
    rows: Path, store_of: Open, tmp_path: Path, name: str, harm: Callable[[Path], None]
) -> None:
    """One bit, a missing file, a short file: reported, and the store is what it was."""
    digest = store_of(rows).digest
    (folder,) = folders(tmp_path)
    harm(folder / (HEADER if name == "header" else f"{name}.bin"))
    events: list[Event] = []
    store = store_of(rows, emit=log_into(events))
    assert (store.was_cached, store.digest) == (False, digest)
    assert [event["event"] for event in events] == ["tokens_damaged"]
    assert store_of(rows).was_cached


def test_a_big_store_is_checked_in_full_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above a size a flipped bit is found with ``verify``, and sizes are always checked."""
    folder = tmp_path / "numbers"
    with ArrayWriter(folder, {"numbers": "<i4"}) as writer:
        writer.append("numbers", np.arange(1000))
        writer.publish({})
    monkeypatch.setattr("engine.trainer.input_pipeline.array_store.CHECKED_BYTES", 100)
    _flip(folder / "numbers.bin")
    assert not isinstance(open_arrays(folder), str)
    assert open_arrays(folder, verify=True) == "numbers.bin: not the bytes that were written"
    os.truncate(folder / "numbers.bin", 3999)
    assert open_arrays(folder) == "numbers.bin is missing or has another size"


def test_a_value_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """An id beyond the file's two bytes is never truncated."""
    with ArrayWriter(tmp_path / "a", {"tokens": "<u2"}) as writer, pytest.raises(ValueError, match="does not fit"):
        writer.append("tokens", np.array([70_000]))


class Dying:
    """The character tokenizer, which fails in the middle of the file."""

    def __init__(self, calls: int, end: Callable[[], None]) -> None:
        self.calls, self.end = calls, end

    def __getattr__(self, name: str) -> Any:
        return getattr(CHARS, name)

    def encode_many(self, texts: list[str], **kind: Any) -> list[list[int]]:
        self.calls -= bool(texts)  # one call a part has any
        if self.calls < 0:
            self.end()
        return CHARS.encode_many(texts, **kind)


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_an_interrupted_store_is_continued(rows: Path, store_of: Open, tmp_path: Path, small_parts: None) -> None:
    """A partial store is not visible; the next start tokenises only the remaining parts, with the same result."""
    expected = store_of(rows, cache="expected").digest
    parts = len(tokenizing.survey(rows, 700)[0])
    with pytest.raises(KeyboardInterrupt):
        store_of(rows, tokenizer=Dying(parts - 2, _interrupt))
    (partial,) = folders(tmp_path)
    assert partial.suffix == ".partial"
    assert store_of(rows, tokenizer=Dying(2, lambda: pytest.fail("a part is tokenised twice"))).digest == expected
    assert [folder.suffix for folder in folders(tmp_path)] == [""]


@pytest.mark.parametrize("harmed", ["tokens.bin", NOTE])
def test_a_damaged_partial_store_is_discarded(
    rows: Path, store_of: Open, tmp_path: Path, small_parts: None, harmed: str
) -> None:
    """What an interrupted build left is continued only if every byte is right."""
    expected = store_of(rows, cache="expected").digest
    with pytest.raises(KeyboardInterrupt):
        store_of(rows, tokenizer=Dying(5, _interrupt))
    _flip(folders(tmp_path)[0] / harmed)
    assert store_of(rows).digest == expected


def test_a_note_of_another_part_is_not_continued(rows: Path, store_of: Open, tmp_path: Path, small_parts: None) -> None:
    """The arrays are whole, and one digit of how far they go is not: without its digest it would skip rows, or repeat them."""
    expected = store_of(rows, cache="expected").digest
    with pytest.raises(KeyboardInterrupt):
        store_of(rows, tokenizer=Dying(5, _interrupt))
    note = folders(tmp_path)[0] / NOTE
    text = note.read_text()
    parts = json.loads(text)["note"]["parts"]
    note.write_text(text.replace(f'"parts": {parts}', f'"parts": {parts + 1}'))
    assert note.read_text() != text
    assert store_of(rows).digest == expected


def test_a_stop_request_is_followed(rows: Path, store_of: Open, tmp_path: Path, small_parts: None) -> None:
    """Asked to stop while tokenising, it stops after the current part, and continues from there later."""
    asked = iter([False, False, True])
    with pytest.raises(Stopped):
        store_of(rows, stopping=lambda: next(asked))
    note = json.loads((folders(tmp_path)[0] / NOTE).read_text())
    assert note["note"] == {"parts": 3}
    assert store_of(rows).digest == store_of(rows, cache="expected").digest


def test_a_killed_store_is_never_partial(rows: Path, store_of: Open, tmp_path: Path) -> None:
    """SIGKILL in the middle: no store is found, and the next start builds it, even with parts of another size."""
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from engine.trainer.input_pipeline import token_store, tokenizing\nfrom engine.trainer.text.tokenizer import build_chars\n"
        "token_store.survey = lambda path: tokenizing.survey(path, 700)\ntoken_store.REMEMBER_SECONDS = 0\n"
        "asked = iter([False] * 4)\n"
        "stopping = lambda: next(asked, None) is None and os.kill(os.getpid(), 9)\n"
        "token_store.open_store(Path(sys.argv[1]), build_chars(), Path(sys.argv[2]), render='reasoning@v1',\n"
        "                       stopping=stopping)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(rows), str(tmp_path / "cache")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [folder.suffix for folder in folders(tmp_path)] == [".partial"]
    assert store_of(rows).digest == store_of(rows, cache="expected").digest


def test_a_full_disk_leaves_nothing(
    rows: Path, store_of: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_parts: None
) -> None:
    """When the disk is full, the partial store is deleted, which frees its space."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ArrayWriter, "remember", full)
    with pytest.raises(OSError, match="No space"):
        store_of(rows)
    assert folders(tmp_path) == []


def test_a_worker_that_dies_is_an_error(rows: Path, tmp_path: Path) -> None:
    """A worker killed from outside is an error with advice, not an endless wait."""
    CHARS.save(tmp_path / "tokenizer")
    worker = tokenizing._Worker(rows, tmp_path / "tokenizer")
    worker._process.kill()
    with pytest.raises(RunFailed, match=r"a worker process that tokenised the rows \(process [0-9]+\) ended") as caught:
        worker.receive()
    assert caught.value.code == "T119"
    worker.close()


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_workers_die_with_their_parent(rows: Path, tmp_path: Path) -> None:
    """SIGKILL the process that tokenises: none of its workers outlives it."""
    CHARS.save(tmp_path / "tokenizer")
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom engine.trainer.input_pipeline.tokenizing import FilePart, _Worker\n"
        "rows, folder = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "workers = [_Worker(rows, folder) for _ in range(2)]\n"
        "[worker.send(FilePart(0, rows.stat().st_size, 1, 1)) for worker in workers]\n"
        "[worker.receive() for worker in workers]\n"
        "print(*[worker._process.pid for worker in workers], flush=True)\ntime.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(rows), str(tmp_path / "tokenizer")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        pids = [int(word) for word in run.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(_is_alive, pids))
        run.kill()
    deadline = time.monotonic() + 10
    while any(map(_is_alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_builders_build_one_store(rows: Path, tmp_path: Path) -> None:
    """Started together, the second waits for the first and finds what it built."""
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from engine.trainer.input_pipeline.token_store import open_store\nfrom engine.trainer.text.tokenizer import build_chars\n"
        "store = open_store(Path(sys.argv[1]), build_chars(), Path(sys.argv[2]), render='reasoning@v1',\n"
        "                   stopping=lambda: time.sleep(0.5))\n"
        "print(store.was_cached)\n"
    )
    command = [sys.executable, "-c", code, str(rows), str(tmp_path / "cache")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(run.communicate()[0] for run in started) == ["False\n", "True\n"]
