"""A secret service on loopback that speaks Kaggle's protocol, and a real kernel that runs a notebook."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

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
            status, answer = service.next()
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
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
