"""A secret service on loopback that speaks Kaggle's protocol, and a real kernel that runs a notebook."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from engine.commands.loading import load
from engine.kaggle.notebook import Notebook, NotebookRequest, make_notebook

SESSION_TOKEN = "session-token-of-the-stand-in"
ABSENT = {
    "errors": ["No user secrets exist for kernel id 1 and label HF_TOKEN."],
    "error": {"code": 5},
    "wasSuccessful": False,
}


class SecretService:
    """``answers``: what it says next, each (status, body); the last one is repeated. ``requests``: what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, object]] = [(200, ABSENT)]
        self.requests: list[tuple[str, str | None, Any]] = []
        self.pages: dict[str, object] = {}  # of a hub, by path: what is not there is HTTP 404
        self.delay = 0.0
        self.url = ""

    def holds(self, secret: str) -> None:
        """From now on it gives this secret."""
        self.answers = [(200, {"wasSuccessful": True, "result": {"secret": secret}})]

    def next(self) -> tuple[int, object]:
        """The answer to this request."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    @property
    def environ(self) -> dict[str, str]:
        """The variables of a session of Kaggle's that lead here."""
        return {
            "KAGGLE_KERNEL_RUN_TYPE": "Batch", "KAGGLE_URL_BASE": self.url, "KAGGLE_USER_SECRETS_TOKEN": SESSION_TOKEN
        }  # fmt: skip


@contextmanager
def _serving(service: SecretService) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            service.requests.append((self.path, self.headers["X-Kaggle-Authorization"], body))
            time.sleep(service.delay)
            self._send(*service.next())

        def do_GET(self) -> None:
            self._send(200 if self.path in service.pages else 404, service.pages.get(self.path, b""))

        def _send(self, status: int, answer: object) -> None:
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            with suppress(ConnectionError):  # who asked has given up
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def secret_service() -> Iterator[SecretService]:
    """It holds nothing, and says so as Kaggle's does."""
    service = SecretService()
    with _serving(service):
        yield service


# In a process of its own: nbclient and its kernel bring an event loop and warnings of their own.
EXECUTE = """
import sys
import nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbformat.validate(notebook)
client = nbclient.NotebookClient(
    notebook, timeout=900, kernel_name="python3", allow_errors=True, coalesce_streams=True, resources={"metadata": {"path": sys.argv[2]}}
)
client.execute()
nbformat.write(notebook, sys.argv[1])
"""


@dataclass(frozen=True)
class Executed:
    """A notebook that a real kernel ran: ``texts`` are the outputs of its code cells, in order; an error is its traceback."""

    texts: list[str]
    errors: list[str]

    @property
    def text(self) -> str:
        """All of them."""
        return "\n".join(self.texts)


def _text_of(output: Mapping[str, Any]) -> str:
    if output["output_type"] == "error":
        return "\n".join(output["traceback"])
    text = output.get("text", output.get("data", {}).get("text/plain", ""))
    return "".join(text)  # nbformat writes lists of lines


@pytest.fixture
def execute(tmp_path: Path) -> Callable[..., Executed]:
    """Run the cells with these variables, in a folder that is Kaggle's stand-in's root too."""

    def run(notebook: Mapping[str, Any], environ: Mapping[str, str], folder: Path = tmp_path) -> Executed:
        path, root = folder / "running.ipynb", folder / "kaggle"
        for name in ("working", "input"):
            (root / name).mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(notebook), encoding="utf-8")
        clean = {
            name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
        }
        # PIP_NO_INDEX: the packages of the tests are the pinned ones; where they are not, nothing is downloaded.
        ours = {"RUNSPEC_KAGGLE_ROOT": str(root), "RUNSPEC_SCRATCH": str(folder / "scratch"), "PIP_NO_INDEX": "1"}
        done = subprocess.run(
            [sys.executable, "-c", EXECUTE, str(path), str(folder)],
            env={**clean, **ours, **environ}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
        outputs = [cell["outputs"] for cell in cells]
        errors = [output["ename"] for rows in outputs for output in rows if output["output_type"] == "error"]
        return Executed(["".join(_text_of(output) for output in rows) for rows in outputs], errors)

    return run


@pytest.fixture
def notebook_of(repository: Path, tmp_path: Path) -> Callable[..., tuple[Notebook, dict[str, Any]]]:
    """``notebook_of(spec text, request)``: a project with this run-spec and the quickstart's eval set -> its notebook, and that as JSON."""

    def make(text: str, request: NotebookRequest | None = None, *overrides: str) -> tuple[Notebook, dict[str, Any]]:
        project = tmp_path / "project"
        for folder in ("runspecs", "evalsets", ".runspec"):
            (project / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / "evalsets" / "quickstart.jsonl", project / "evalsets")
        (project / "runspecs" / "tiny.yaml").write_text(text, encoding="utf-8")
        spec, _ = load(str(project / "runspecs" / "tiny.yaml"), overrides)
        made = make_notebook(spec, request or NotebookRequest())
        return made, json.loads(made.text)

    return make


TINY = """\
version: 1
run_version: tiny_v1
notes: A Gemma of some thousand weights
device: cpu
model:
  id: runspec/gemma-tiny
  init: random
  tokenizer: chars
  config: {model_type: gemma, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 2,
           num_key_value_heads: 1, head_dim: 16, max_position_embeddings: 128}
dataset: quickstart-reasoning
eval_set: evalsets/quickstart.jsonl
steps:
  - {id: dataset, uses: build_dataset, with: {num_rows: 200}}
  - {id: train, uses: train_sft, with: {num_train_steps: 3, per_device_batch_size: 2, seq_len: 128}}
  - {id: predict, uses: generate, with: {max_new_tokens: 4, batch_size: 100}}
  - {id: score, uses: score}
  - {id: summary, uses: result_summary}
"""


@pytest.fixture
def tiny() -> str:
    """A run-spec that is done in seconds: no smoke run, three train steps."""
    return TINY
