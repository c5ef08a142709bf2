"""Each tool with its real library, if it is installed; TensorBoard's files are also read without it."""

from __future__ import annotations

import importlib.util
import os
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.trainer.tracking.loggers import RunFacts, event_file, open_logger
from engine.trainer.tracking.loggers.event_file import crc32c, steps_of

Facts = Callable[[str], RunFacts]
REPOSITORY = Path(__file__).parents[4]
# Warnings of a tool's own libraries do not count.
THEIR_WARNINGS = pytest.mark.filterwarnings("ignore")


def needs(module: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"{module} is not installed: pip install 'runspec-engine[{module}]'")


def two_processes(name: str, facts: Facts) -> list[Any]:
    """Train steps 1 to 3, the end of a process, and 4 to 6; the second logger must know the last step of the first."""
    opened = []
    for first in (1, 4):
        logger = open_logger(name, facts(name))
        assert logger.last_step == first - 1
        for step in range(first, first + 3):
            logger.row(step, {"loss": 1.0 / step, "seconds": 0.25})
        logger.close()
        opened.append(logger)
    return opened


def test_checksums_are_castagnoli_s() -> None:
    """The vectors of RFC 3720, appendix B.4."""
    vectors = {bytes(32): 0x8A9136AA, b"\xff" * 32: 0x62A8AB43, bytes(range(32)): 0x46DD794E}
    assert {data: crc32c(data) for data in vectors} == vectors


def test_event_files_hold_each_train_step_once(facts: Facts) -> None:
    """Two processes, two files, one curve; and no library is imported for it."""
    two_processes("tensorboard", facts)
    files = sorted(facts("tensorboard").folder.glob(event_file.PATTERN))
    assert sorted(step for path in files for step in steps_of(path)) == [1, 2, 3, 4, 5, 6]
    assert len(files) == 2
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_record_torn_by_a_kill_is_ignored(facts: Facts, cut: int) -> None:
    """A file that ends inside a record counts up to the record before, and the next process continues from there."""
    logger = open_logger("tensorboard", facts("tensorboard"))
    for step in (1, 2, 3):
        logger.row(step, {"loss": 1.0, "seconds": 0.25})
    logger.close()
    (path,) = facts("tensorboard").folder.glob(event_file.PATTERN)
    path.write_bytes(path.read_bytes()[:-cut])
    again = open_logger("tensorboard", facts("tensorboard"))
    assert again.last_step == 2
    again.close()


def test_the_message_follows_protocol_buffers(facts: Facts) -> None:
    """Byte for byte: step 300 as a varint, a tag and a float in a value in a summary."""
    logger = open_logger("tensorboard", facts("tensorboard"))
    logger.row(300, {"loss": 2.5})
    logger.close()
    (path,) = facts("tensorboard").folder.glob(event_file.PATTERN)
    data = path.read_bytes()
    value = b"\x0a\x04loss\x15" + struct.pack("<f", 2.5)
    summary = b"\x0a" + bytes([len(value)]) + value
    message = b"\x10\xac\x02\x2a" + bytes([len(summary)]) + summary
    assert data[-4 - len(message) : -4] == message
    (length,) = struct.unpack("<Q", data[-4 - len(message) - 9 - 12 :][:8])
    assert length == 9 + len(message)  # the time comes first: a key and a double


@needs("tensorboard")
@THEIR_WARNINGS
def test_tensorboard_reads_the_files(facts: Facts) -> None:
    """TensorBoard's own reader shows both processes as one curve with each train step once."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    two_processes("tensorboard", facts)
    accumulator = EventAccumulator(str(facts("tensorboard").folder), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    tags = accumulator.Tags()
    assert sorted(tags["tensors"] or tags["scalars"]) == ["loss", "seconds"]
    events = accumulator.Tensors("loss") if tags["tensors"] else accumulator.Scalars("loss")
    assert [event.step for event in events] == [1, 2, 3, 4, 5, 6]
    values = [event.tensor_proto.float_val[0] if tags["tensors"] else event.value for event in events]
    assert values == pytest.approx([1.0 / step for step in range(1, 7)])


@needs("wandb")
@THEIR_WARNINGS
def test_wandb_offline_continues_one_run(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two offline folders of one run id; the key of the environment is in none of their files."""
    secret = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", secret)
    two_processes("wandb", facts)
    runs = sorted(facts("wandb").folder.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(runs) == 2
    assert len({path.stem for path in runs}) == 1
    deadline = time.monotonic() + 20
    while len(steps_of_wandb(runs)) < 6 and time.monotonic() < deadline:
        time.sleep(0.1)  # a process of wandb's closes the file just after it has reported that the run is finished
    assert steps_of_wandb(runs) == [1, 2, 3, 4, 5, 6]
    files = [path for path in facts("wandb").folder.rglob("*") if path.is_file()]
    assert [path for path in files if secret.encode() in path.read_bytes()] == []


def steps_of_wandb(paths: list[Path]) -> list[int]:
    """The steps of the history in transaction logs: records of LevelDB's log format behind a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    steps = []
    for path in paths:
        data, offset = path.read_bytes(), 7
        while offset + 7 <= len(data):
            length, kind = struct.unpack_from("<HB", data, offset + 4)
            assert kind == 1, "a complete record; these are far smaller than a block"
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data[offset + 7 : offset + 7 + length])
            offset += 7 + length
            if record.WhichOneof("record_type") == "history":
                steps.append(record.history.step.num)
    return sorted(steps)


@needs("mlflow")
@THEIR_WARNINGS
def test_mlflow_continues_one_run(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run in a local database, with each train step once, the arguments, and the state it ended in."""
    pytest.importorskip("sqlalchemy", reason="the local store is a database")
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    two_processes("mlflow", facts)
    client = MlflowClient(tracking_uri=f"sqlite:///{facts('mlflow').folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("runspec")
    (run,) = client.search_runs([experiment.experiment_id])
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")] == [1, 2, 3, 4, 5, 6]
    assert run.data.params["learning_rate"] == "1e-05"
    assert (run.info.run_name, run.info.status) == ("m36_v1", "FINISHED")


@needs("trackio")
@THEIR_WARNINGS
def test_trackio_continues_one_run(facts: Facts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One run in its local database, with each train step once."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio_db"))
    two_processes("trackio", facts)
    with sqlite3.connect(tmp_path / "trackio_db" / "runspec.db") as database:
        rows = database.execute("select run_name, step from metrics order by step").fetchall()
    assert [step for _, step in rows] == [1, 2, 3, 4, 5, 6]
    assert len({name for name, _ in rows}) == 1


@needs("trackio")
@THEIR_WARNINGS
def test_rows_that_trackio_lost_in_a_kill_are_sent_again(facts: Facts, tmp_path: Path) -> None:
    """Rows that waited in memory do not count as written: the next process adds them."""
    folder = facts("trackio").folder
    code = f"""
import os
from pathlib import Path
from engine.trainer.tracking.loggers import RunFacts, open_logger
writer = open_logger("trackio", RunFacts("m36_v1", "0123456789ab", {{}}, Path({str(folder)!r})))
for step in range(1, 200):
    writer.row(step, {{"loss": 1.0 / step, "seconds": 0.25}})
os._exit(9)
"""
    environment = {**os.environ, "TRACKIO_DIR": str(folder), "PYTHONPATH": str(REPOSITORY)}
    again = code.replace("range(1, 200)", "range(writer.last_step + 1, 200)").replace("os._exit(9)", "writer.close()")
    for script in (code, again):
        subprocess.run([sys.executable, "-c", script], env=environment, check=False, capture_output=True, timeout=120)
    with sqlite3.connect(folder / "runspec.db") as database:
        steps = [step for (step,) in database.execute("select step from metrics order by step")]
    assert steps == list(range(1, 200))
