"""A big rows.jsonl -> token tables, part by part: in this process, or on all cores.

In: the file's parts (about a megabyte of complete lines each) and a tokenizer. Out: one :class:`Encoded` a part, in
order, whichever process made it. The tokenizer's own threads speed up its half of the work; the other half (JSON, lists,
arrays) is Python's, so that from some size on processes pay off. They are started afresh (JAX's threads do not survive a
fork) and end when their pipe to this process closes, however it ends.

    parts, digest = survey(path)
    for encoded in encode_parts(path, parts, tokenizer, workers=4): ...
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from engine.errors import Diagnostic, InputInvalid, RunFailed
from engine.temporary import working_folder
from engine.trainer.input_pipeline.rows import RowFindings, token_rows
from engine.trainer.input_pipeline.token_table import TokenTable
from engine.trainer.text.tokenizer import Tokenizer

PART_BYTES = 1 << 20
POOL_BYTES = 8 << 20  # from this size on processes save more than their start costs (half a second)
MOST_WORKERS = 8  # 80 MB each
WORKER = "import sys; from engine.trainer.input_pipeline.tokenizing import work; work(*sys.argv[1:])"
AHEAD = 2  # parts queued at each worker


@dataclass(frozen=True, slots=True)
class FilePart:
    """Complete lines of a file: offset and size, the number of the first, how many there are."""

    offset: int
    size: int
    first_line: int
    n_lines: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """A part's rows, and what is wrong with it: the first findings and the number of all."""

    table: TokenTable
    shown: Sequence[Diagnostic]
    total: int


def survey(path: Path, part_bytes: int = PART_BYTES) -> tuple[list[FilePart], str]:
    """(parts, SHA-256) of a file, read once."""
    parts: list[FilePart] = []
    hasher = hashlib.sha256()
    offset, line = 0, 1
    with path.open("rb") as stream:
        while data := stream.read(part_bytes) + stream.readline():
            hasher.update(data)
            n_lines = data.count(b"\n") + (not data.endswith(b"\n"))
            parts.append(FilePart(offset, len(data), line, n_lines))
            offset, line = offset + len(data), line + n_lines
    return parts, hasher.hexdigest()


def worker_count(parts: Sequence[FilePart]) -> int:
    """How many worker processes pay off; 0: none."""
    available = getattr(os, "sched_getaffinity", None)
    cores = len(available(0)) if available else os.cpu_count() or 1
    size = sum(part.size for part in parts)
    return min(cores, MOST_WORKERS) if size >= POOL_BYTES and cores > 1 else 0


def encode_part(path: Path, part: FilePart, tokenizer: Tokenizer) -> Encoded:
    """Read, parse, tokenise. Raises InputInvalid M304 to M308."""
    with path.open("rb") as stream:
        stream.seek(part.offset)
        data = stream.read(part.size)
    findings = RowFindings(str(path))
    rows = token_rows(data.removesuffix(b"\n"), part.first_line, tokenizer, findings)
    return Encoded(TokenTable.of(rows), findings.shown, findings.total)


def encode_parts(
    path: Path, parts: Sequence[FilePart], tokenizer: Tokenizer, workers: int
) -> Generator[Encoded, None, None]:
    """Every part, in order. Raises InputInvalid M304 to M308, RunFailed T119 if a worker dies."""
    if not workers:
        yield from (encode_part(path, part, tokenizer) for part in parts)
        return
    with ExitStack() as stack:
        folder = stack.enter_context(working_folder("runspec-tokenizer-"))
        tokenizer.save(folder)
        pool = [_Worker(path, folder) for _ in range(min(workers, len(parts)))]
        for worker in pool:
            stack.callback(worker.close)
        for number, part in enumerate(parts[: AHEAD * len(pool)]):
            pool[number % len(pool)].send(part)
        for number in range(len(parts)):
            worker = pool[number % len(pool)]
            encoded = worker.receive()
            if (following := number + AHEAD * len(pool)) < len(parts):
                worker.send(parts[following])
            yield encoded


class _Worker:
    """A process that encodes the parts it is sent, one after the other."""

    def __init__(self, path: Path, tokenizer_folder: Path) -> None:
        # A new interpreter, not multiprocessing.Process, which would run the caller's script once more.
        self._connection, worker_end = multiprocessing.Pipe()
        descriptor = worker_end.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(descriptor), str(path), str(tokenizer_folder)],
            stdin=subprocess.DEVNULL,
            stdout=2,
            pass_fds=(descriptor,),
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "PYTHONSAFEPATH": "1",  # the working folder is the project, and its files are no libraries
                "TOKENIZERS_PARALLELISM": "false",
            },
        )
        worker_end.close()  # the worker has the only other copy: when it ends, reading here ends

    def send(self, part: FilePart) -> None:
        try:
            self._connection.send(part)
        except OSError as error:
            raise _died(self._process.pid) from error

    def receive(self) -> Encoded:
        """The oldest part sent. Raises InputInvalid, RunFailed T119."""
        try:
            answer: Encoded | tuple[Diagnostic, ...] = self._connection.recv()
        except (EOFError, OSError) as error:
            raise _died(self._process.pid) from error
        if isinstance(answer, Encoded):
            return answer
        raise InputInvalid.of(answer)

    def close(self) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.wait()


def _died(pid: int) -> RunFailed:
    return RunFailed(
        "T119",
        f"a worker process that tokenised the rows (process {pid}) ended too early",
        hint="it was killed, or the memory is full; run again: the parts that are tokenised are kept",
    )


def work(descriptor: str, path: str, tokenizer_folder: str) -> None:
    """A worker's main loop, until its pipe, this file descriptor, closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    connection: Connection[Encoded | tuple[Diagnostic, ...], FilePart] = Connection(int(descriptor))
    tokenizer = Tokenizer.load(tokenizer_folder)
    while True:
        try:
            part = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer: Encoded | tuple[Diagnostic, ...] = encode_part(Path(path), part, tokenizer)
        except InputInvalid as error:
            answer = error.diagnostics
        try:
            connection.send(answer)
        except OSError:  # the parent is gone
            return
