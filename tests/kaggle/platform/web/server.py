"""HTTP on loopback: `http.server` with threads, in both styles: for itself, and as the proxy of a client that asks for localhost.

In: a function that answers :class:`Incoming`. Out: a server with an address. A request for any other host than this machine is
refused and remembered: nothing a client sends here reaches the internet.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.kaggle.platform.web.messages import Incoming, Reply, StreamCut
from tests.kaggle.platform.web.routes import operation_of
from tests.kaggle.platform.world.clock import Clock, http_date

OURS = ("localhost", "127.0.0.1")
# An answer that comes in a trickle comes in pieces of so many bytes, or in so many pieces.
DRIP_BYTES, DRIP_PIECES = 8, 20


class HostRefused(Exception):
    """A client asked this proxy for another host."""


class LoopbackServer(ThreadingHTTPServer):
    """Threads, one a connection; all connections are closed with it. ``crashes``: errors of the platform itself."""

    daemon_threads = False
    block_on_close = True
    request_queue_size = 64

    def __init__(self, answer: Callable[[Incoming], Reply], clock: Clock) -> None:
        self.answer = answer
        self.clock = clock
        self.closing = threading.Event()
        self.crashes: list[BaseException] = []
        self.strangers: list[str] = []
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), Handler)

    def server_bind(self) -> None:
        """Without the look-up of a name that the base class does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection."""
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget it."""
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Called inside an except clause; what a client does to its connection is no crash of ours."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            self.crashes.append(error)

    def stop(self) -> None:
        """Close every connection, wait for the threads."""
        self.closing.set()
        self.shutdown()
        for request in list(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: LoopbackServer

    def setup(self) -> None:
        """Answers leave at once."""
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal."""

    def version_string(self) -> str:
        """The `Server` header."""
        return "loopback"

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The `Date` header is the platform's clock, with its skew."""
        return http_date(self.server.clock.shown())

    def do_GET(self) -> None:
        """Every method has one way."""
        self._serve()

    do_POST = do_PUT = do_HEAD = do_GET  # noqa: N815 - the names that http.server looks for

    def do_CONNECT(self) -> None:
        """A client that wants another host over TLS."""
        self._refuse(self.path)

    def _serve(self) -> None:
        try:
            incoming = self._incoming()
        except HostRefused as refused:
            self._refuse(str(refused))
            return
        try:
            reply = self.server.answer(incoming)
        except Exception as error:  # noqa: BLE001 - kept, and raised in the test when the platform closes
            self.server.crashes.append(error)
            reply = Reply(500, b"the loopback platform itself failed", "text/plain")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._send(reply)

    def _incoming(self) -> Incoming:
        address = urllib.parse.urlsplit(self.path)
        if address.scheme and (address.hostname not in OURS or address.port not in (None, self.server.server_port)):
            raise HostRefused(self.path)
        query = dict(urllib.parse.parse_qsl(address.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = urllib.parse.unquote(address.path)
        operation, arguments = operation_of(self.command, path)
        return Incoming(self.command, path, query, headers, self._body(), operation, arguments)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return b"".join(self._chunks())
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _refuse(self, host: str) -> None:
        self.server.strangers.append(host)
        self.close_connection = True
        self.send_error(403, "This proxy knows this machine only")

    def _send(self, reply: Reply) -> None:
        if reply.cut == 0:
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.content_type:
            self.send_header("Content-Type", reply.content_type)
        if reply.chunks is None:
            self.send_header("Content-Length", str(len(reply.body)))
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(reply)

    def _send_chunks(self, chunks: Iterator[bytes]) -> None:
        try:
            for chunk in chunks:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                self.wfile.flush()
        except StreamCut:
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")

    def _send_body(self, reply: Reply) -> None:
        if reply.chunks is not None:
            self._send_chunks(reply.chunks)
            return
        whole = reply.body if reply.cut is None else reply.body[: reply.cut]
        self.close_connection = self.close_connection or reply.cut is not None
        step = max(len(whole) // DRIP_PIECES, DRIP_BYTES) if reply.drip else max(len(whole), 1)
        for start in range(0, len(whole), step):
            self.wfile.write(whole[start : start + step])
            self.wfile.flush()
            if reply.drip and not self.server.closing.is_set():
                time.sleep(reply.drip)
