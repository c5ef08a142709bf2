"""The data of a training run: planned once, found again, bound to checkpoints, and never waited for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.data import build, render_row, trace_rows
from engine.errors import InputInvalid
from engine.trainer.input_pipeline import dataset, token_store
from engine.trainer.input_pipeline.batches import DataOrder, batch_at
from engine.trainer.input_pipeline.dataset import Data, load_data, withhold
from engine.trainer.input_pipeline.long_rows import handle_long_rows
from engine.trainer.input_pipeline.rows import TokenRow
from engine.trainer.input_pipeline.token_table import TokenTable
from engine.trainer.text.tokenizer import build_chars
from tests.fixtures.events import log_into, train_job

Load = Callable[..., Data]


@pytest.fixture
def load(tmp_path: Path, make_args: Callable[..., Any]) -> Load:
    """The data of forty rows of 5 to 43 tokens, two of each length, with changed arguments."""
    path = tmp_path / "rows.jsonl"
    rows = [
        {"id": f"r{n}", "segments": [{"text": "qu", "train": False}, {"text": chr(97 + n % 2) * n, "train": True}]}
        for n in [*range(1, 41, 2)] * 2
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(*, emit: Callable[[Mapping[str, Any]], None] = lambda _: None, **changes: Any) -> Data:
        args = make_args(**changes)
        return load_data(path, build_chars(), args, cache=tmp_path / "cache", render="plain@v1", emit=emit)

    return run


def rows_of(data: Data, packed: Any) -> list[tuple[int, ...]]:
    """The rows of all sequences, sorted."""
    arrays = packed.take(range(packed.n_sequences))
    rows = []
    for tokens, segments in zip(arrays["tokens"], arrays["segment_ids"], strict=True):
        rows += [tuple(tokens[segments == segment].tolist()) for segment in range(1, segments.max() + 1)]
    assert len(rows) == (data.n_rows if packed is data.packed else data.n_withheld)
    return sorted(rows)


def test_every_row_is_trained_on_or_withheld(load: Load) -> None:
    """The training and the eval sequences together hold all rows, each once."""
    data = load(eval_rows=7)
    assert data.withheld is not None
    both = rows_of(data, data.packed) + rows_of(data, data.withheld)
    table = data.packed.table
    assert sorted(both) == sorted(table.row(index).tokens for index in range(table.n_rows))
    assert (data.n_rows, data.n_withheld, data.longest) == (33, 7, 43)


def test_the_plan_is_found_again(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tokenised or planned again when arguments change that shape no sequence."""
    first = load(eval_rows=5)
    monkeypatch.setattr(dataset, "handle_long_rows", lambda *_: pytest.fail("planned again"))
    again = load(eval_rows=5, learning_rate=0.5, per_device_batch_size=8)
    assert again.was_cached
    assert (again.tokens_digest, again.plan_digest) == (first.tokens_digest, first.plan_digest)
    assert rows_of(again, again.packed) == rows_of(first, first.packed)


@pytest.mark.parametrize("change", [{"seq_len": 50}, {"seed": 1}, {"packing": False}, {"eval_rows": 3}])
def test_another_plan_is_another_digest(load: Load, change: dict[str, Any]) -> None:
    """What shapes the sequences is in the plan's digest, to which a checkpoint is bound; the tokens stay the same."""
    plain, changed = load(), load(**change)
    assert plain.plan_digest != changed.plan_digest
    assert plain.tokens_digest == changed.tokens_digest


def test_a_damaged_plan_is_built_again(load: Load, tmp_path: Path) -> None:
    """One flipped bit is found and reported."""
    digest = load().plan_digest
    (path,) = (tmp_path / "cache" / "plans").glob("*/starts.bin")
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    events: list[Mapping[str, Any]] = []
    assert load(emit=log_into(events)).plan_digest == digest
    assert [(event["event"], event["reason"]) for event in events] == [
        ("tokens_damaged", "starts.bin: not the bytes that were written")
    ]


def test_long_rows_are_counted(load: Load) -> None:
    """Of rows with 5 to 43 tokens and seq_len 24, each policy reports what it did with the longer ones."""
    long = 2 * sum(2 + 2 + n > 24 for n in range(1, 41, 2))
    dropped, cut, split = (load(seq_len=24, on_long_row=policy) for policy in ("drop", "truncate", "split"))
    assert (dropped.n_rows, dropped.n_dropped, dropped.n_truncated, dropped.n_split) == (40 - long, long, 0, 0)
    assert (cut.n_rows, cut.n_dropped, cut.n_truncated, cut.n_split) == (40, 0, long, 0)
    assert (split.n_rows, split.n_dropped, split.n_truncated, split.n_split) == (40, 0, 0, long)
    assert split.n_dropped_pieces == 0
    assert (
        int(split.packed.take(range(split.packed.n_sequences))["target_weights"].sum()) == 2 * sum(range(1, 41, 2)) + 40
    )


def test_all_pieces_of_a_row_are_withheld_together() -> None:
    """No piece of a withheld row is trained on, even if rows are split."""
    rows = [TokenRow(str(n), (2, *range(10, 40)), (0,) + (1,) * 30) for n in range(9)]
    withheld, training = withhold(handle_long_rows(TokenTable.of(rows), 8, "split").pieces, 4, seed=1)
    assert len(set(withheld.rows.tolist())) == 4
    assert not set(withheld.rows.tolist()) & set(training.rows.tolist())
    assert len(withheld) + len(training) == 9 * 5


def test_dev_reasoning_is_packed_tightly(tmp_path: Path, make_args: Callable[..., Any]) -> None:
    """At 512 at least 95 % of all token positions of dev-reasoning-v2 are not padding (a character a token)."""
    rows = [render_row(row) for row in trace_rows(build("dev-reasoning-v2", seed=42))]
    path = tmp_path / "rows.jsonl"
    with path.open("w") as stream:
        for row in rows:
            segments = [{"text": segment.text, "train": segment.train} for segment in row.segments]
            stream.write(json.dumps({"id": row.id, "segments": segments}) + "\n")
    args = make_args(seq_len=512)
    data = load_data(path, build_chars(), args, cache=tmp_path / "cache", render="reasoning@v1")
    assert data.n_rows == 550
    assert data.packed.real_token_share >= 0.95


def test_a_batch_is_a_slice_of_all_sequences(load: Load) -> None:
    """A batch is made from the pages it needs: its arrays are those of all sequences, indexed."""
    packed = load().packed
    order = DataOrder(packed.n_sequences, 4, 3)
    everything = packed.take(range(packed.n_sequences))
    for step in (1, 2, 9):
        batch = batch_at(packed, order, step, 2)
        for name, array in everything.items():
            np.testing.assert_array_equal(batch[name].reshape(4, -1), array[order.indices(step)])


def test_eval_rows_must_leave_something(load: Load) -> None:
    """Withholding every row that fits is an error."""
    with pytest.raises(InputInvalid, match="leaves none of 40 rows"):
        load(eval_rows=40)


def test_the_report_counts_split_rows_and_input_waits(
    make_job: Callable[..., Any], train_here: Callable[..., Any]
) -> None:
    """It counts split rows, and sums up how long each step waited for its batch, which every metrics row has."""
    job = make_job(seq_len=8, on_long_row="split", num_train_steps=3, save_every_steps=3)
    report = train_here(job)[-1]["report"]
    assert report["n_split"] > 0
    assert (report["n_rows"], report["n_dropped_pieces"]) == (40, 0)
    rows = [json.loads(line) for line in (Path(job["out"]) / "metrics.jsonl").read_text().splitlines()]
    waited = [row["input_wait_seconds"] for row in rows]
    assert min(waited) >= 0
    assert report["input_wait_share"] == pytest.approx(sum(waited) / sum(row["seconds"] for row in rows), abs=1e-4)


def test_stopped_while_tokenising(
    make_job: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, train_here: Callable[..., Any], tmp_path: Path
) -> None:
    """A stop request during tokenising ends the job as one during training does; the next job finishes."""
    job = {**make_job(), "cache": str(tmp_path / "cache")}
    with monkeypatch.context() as patched:
        patched.setattr(token_store, "encode_parts", _never)
        with pytest.raises(AssertionError, match="tokenised"):  # the cache is this test's own and empty
            train_here(job)
    events: list[Mapping[str, Any]] = []
    from engine.trainer.train import run_train

    assert run_train(train_job(job), log_into(events), lambda: True) == {"stopped": True, "train_step": 0}
    assert [event["event"] for event in events] == ["stopped"]
    assert train_here(job)[-1]["event"] == "finished"


def _never(*_: Any) -> Any:
    raise AssertionError("tokenised")
