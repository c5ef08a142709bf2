"""A Hugging Face hub on loopback: real HTTP, the hub's own paths, headers and errors, and faults on demand.

    with Hub() as hub:
        hub.add("acme/tiny", {"flax": files, "main": other})
        hub.cut["flax_model.msgpack"] = [1000]          # the first answer ends after 1000 bytes
        ... HF_ENDPOINT=hub.url ...
        assert hub.served("flax_model.msgpack") == size

Two servers, as the hub has two: the endpoint with the API and the small files, and a "CDN" on another port, to
which the endpoint redirects for large ones (LFS) by an address that carries a signature. The paths and headers are
those that huggingface_hub 1 and 2 use: /api/{models,datasets}/ID[/revision/REV|/refs|/tree/REV] and
/[datasets/]ID/resolve/REV/FILE with ETag, X-Repo-Commit, X-Linked-ETag, X-Linked-Size, Location, Range.
"""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

LARGE_SUFFIXES = (".safetensors", ".msgpack", ".model", ".bin")
PIECE = 1 << 14


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_blob(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()


def is_large(name: str) -> bool:
    return name.endswith(LARGE_SUFFIXES) or name == "tokenizer.json"


@dataclass
class Repo:
    """``access`` is open, gated (the licence must be accepted) or private; ``members`` are tokens with access."""

    branches: dict[str, dict[str, bytes]]
    access: str = "open"
    members: frozenset[str] = frozenset()

    def commit(self, branch: str) -> str:
        """Different content, different commit."""
        listing = "".join(f"{name} {sha256(data)}\n" for name, data in sorted(self.branches[branch].items()))
        return git_blob(listing.encode())

    def find(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        for branch, files in self.branches.items():
            if revision in (branch, self.commit(branch)):
                return self.commit(branch), files
        return None


@dataclass
class Request:
    """One request and its response."""

    method: str
    path: str
    range: str | None
    token: str | None
    on_cdn: bool
    status: int = 0
    sent: int = 0


@dataclass
class Hub:
    """The state of both servers, the pending faults, and every request so far."""

    repos: dict[str, Repo] = field(default_factory=dict)
    valid_tokens: set[str] = field(default_factory=set)
    requests: list[Request] = field(default_factory=list)
    # Faults. Lists are consumed from the front; what is not listed works.
    cut: dict[str, list[int]] = field(default_factory=dict)  # file -> body bytes after which the connection ends
    reset: bool = False  # a cut is a TCP reset instead of an early end
    damage: dict[str, bytes] = field(default_factory=dict)  # file -> the bytes that come instead
    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # answers to the next requests
    mute_blobs: bool = False  # the listing has names only, as older hubs and some mirrors
    no_ranges: bool = False
    pause: threading.Event | None = None  # a large file stops in its middle until the test sets this

    def __enter__(self) -> Self:
        self._servers = [self._start(on_cdn=False), self._start(on_cdn=True)]
        self.url, self.cdn_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)
        return self

    def _start(self, *, on_cdn: bool) -> ThreadingHTTPServer:
        handler = type("Handler", (_Handler,), {"hub": self, "on_cdn": on_cdn})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def add(self, name: str, branches: Mapping[str, Mapping[str, bytes]], **keys: Any) -> Repo:
        self.repos[name] = Repo({branch: dict(files) for branch, files in branches.items()}, **keys)
        return self.repos[name]

    def served(self, file: str) -> int:
        """Body bytes of a file that went out, over all requests."""
        return sum(
            request.sent for request in self.requests if request.method == "GET" and request.path.endswith(f"/{file}")
        )

    def fetched(self) -> list[str]:
        """Names of the files of which bytes went out, in order, each once."""
        names = [
            request.path.rsplit("/", 1)[1] for request in self.requests if request.sent and "/api/" not in request.path
        ]
        return list(dict.fromkeys(names))

    def forget(self) -> None:
        self.requests.clear()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    on_cdn: bool
    protocol_version = "HTTP/1.1"
    _request: Request

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing."""

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_GET(self) -> None:
        self._answer("GET")

    def _answer(self, method: str) -> None:
        parts = urlsplit(self.path)
        bearer = self.headers.get("Authorization")
        token = bearer.removeprefix("Bearer ") if bearer else None
        self._request = Request(method, unquote(parts.path), self.headers.get("Range"), token, self.on_cdn)
        if self._request.path == "/api/agent-harnesses":  # the client requests it now and then; irrelevant to a test
            self._refuse(404, None, "Not found")
            return
        self.hub.requests.append(self._request)
        if self.hub.statuses:
            status, headers = self.hub.statuses.pop(0)
            if status:
                self._reply(status, b"busy, " + (token or "nobody").encode(), headers)  # a server that quotes the token
                return
        if self.on_cdn:
            self._cdn(parse_qs(parts.query))
        elif token is not None and self.hub.valid_tokens and token not in self.hub.valid_tokens:
            self._refuse(401, None, f"Invalid credentials in Authorization header ({token})")
        elif self._request.path.startswith("/api/"):
            self._api(self._request.path.removeprefix("/api/").partition("/")[2])
        else:
            self._resolve(self._request.path.removeprefix("/datasets").lstrip("/"))

    # --- the API ---

    def _api(self, path: str) -> None:
        owner, name, *rest = path.split("/")
        repo = self._visible(f"{owner}/{name}")
        if repo is None:
            return
        if rest == ["refs"]:
            refs = [
                {"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": repo.commit(branch)}
                for branch in repo.branches
            ]
            self._json({"branches": refs, "converts": [], "tags": []})
            return
        revision = "/".join(rest[1:]) if rest else "main"
        found = repo.find(revision)
        if found is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        commit, files = found
        if rest[:1] == ["tree"]:
            self._json([_tree_entry(file, data) for file, data in files.items()])
            return
        siblings = [
            {"rfilename": file} | ({} if self.hub.mute_blobs else _blob(file, data)) for file, data in files.items()
        ]
        self._json({"_id": "0", "id": f"{owner}/{name}", "sha": commit, "private": repo.access == "private",
                    "gated": "manual" if repo.access == "gated" else False, "siblings": siblings, "tags": []})  # fmt: skip

    def _visible(self, name: str) -> Repo | None:
        """The repository, or a response like the hub's: without access it is not shown to exist."""
        repo = self.hub.repos.get(name)
        hidden = repo is not None and repo.access == "private" and self._request.token not in repo.members
        if repo is None or hidden:
            status = 404 if self._request.token else 401
            self._refuse(
                status, "RepoNotFound", "Repository not found" if status == 404 else "Invalid username or password."
            )
            return None
        return repo

    # --- files ---

    def _resolve(self, path: str) -> None:
        name, _, rest = path.partition("/resolve/")
        repo = self._visible(name)
        if repo is None:
            return
        if repo.access == "gated" and self._request.token not in repo.members:
            status = 403 if self._request.token else 401
            self._refuse(status, "GatedRepo", f"Access to model {name} is restricted. {self._request.token}")
            return
        revision, _, file = rest.partition("/")
        found = repo.find(revision)
        if found is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        commit, files = found
        if file not in files:
            self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
            return
        data = files[file]
        if is_large(file):
            location = f"{self.hub.cdn_url}/{name}/{commit}/{file}?X-Signature=signed-for-one-hour"
            self._reply(302, b"", {"X-Repo-Commit": commit, "X-Linked-ETag": f'"{sha256(data)}"', "Location": location,
                                   "X-Linked-Size": str(len(data)), "X-Xet-Hash": sha256(b"xet" + data),
                                   "Link": f'<{self.hub.url}/api/xet>; rel="xet-auth"'})  # fmt: skip
        else:
            self._send(file, data, {"X-Repo-Commit": commit, "ETag": f'"{git_blob(data)}"'})

    def _cdn(self, query: Mapping[str, list[str]]) -> None:
        owner, name, commit, file = self._request.path.lstrip("/").split("/", 3)
        found = self.hub.repos[f"{owner}/{name}"].find(commit)
        if found is None or "X-Signature" not in query:
            self._reply(403, b"unsigned")
            return
        data = found[1][file]
        self._send(file, data, {"ETag": f'"{sha256(data)}"'})

    def _send(self, file: str, data: bytes, headers: Mapping[str, str]) -> None:
        """The body from the requested offset on, with the next fault of this file."""
        data = self.hub.damage.get(file, data)
        start, status, more = 0, 200, {"Accept-Ranges": "bytes"}
        if self._request.range and not self.hub.no_ranges:
            start = int(self._request.range.removeprefix("bytes=").split("-")[0])
            if start >= len(data):
                self._reply(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            status, more = 206, {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        self._head(status, {**headers, **more, "Content-Length": str(len(data) - start)})
        if self._request.method == "HEAD":
            return
        cuts = self.hub.cut.get(file)
        stop = start + cuts.pop(0) if cuts else len(data)
        self._body(memoryview(data)[start:stop], pause=self.hub.pause if is_large(file) else None)
        if stop < len(data):
            self._break()

    def _body(self, view: memoryview, pause: threading.Event | None) -> None:
        middle = len(view) // 2
        try:
            for at in range(0, len(view), PIECE):
                if pause is not None and at >= middle:
                    pause.wait(30)
                piece = view[at : at + PIECE]
                self.wfile.write(piece)
                self._request.sent += len(piece)
        except OSError:  # the client is gone, which some tests provoke
            self.close_connection = True

    def _break(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        if self.hub.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self.connection.shutdown(socket.SHUT_RDWR)

    # --- answers ---

    def _refuse(self, status: int, code: str | None, message: str, headers: Mapping[str, str] | None = None) -> None:
        named = {"X-Error-Code": code} if code else {}
        body = json.dumps({"error": message}).encode()
        self._reply(
            status, body, {**named, "X-Error-Message": message, "Content-Type": "application/json", **(headers or {})}
        )

    def _json(self, value: Any) -> None:
        self._reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _reply(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self._head(status, {"Content-Length": str(len(body)), **(headers or {})})
        if self._request.method != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self._request.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _blob(file: str, data: bytes) -> dict[str, Any]:
    """A sibling of ``?blobs=true``: of a large file git keeps a pointer, whose id is the blobId."""
    lfs = {"lfs": {"sha256": sha256(data), "size": len(data), "pointerSize": 134}} if is_large(file) else {}
    return {"size": len(data), "blobId": git_blob(b"pointer" if lfs else data), **lfs}


def _tree_entry(file: str, data: bytes) -> dict[str, Any]:
    lfs = {"lfs": {"oid": sha256(data), "size": len(data), "pointerSize": 134}} if is_large(file) else {}
    return {"type": "file", "path": file, "size": len(data), "oid": git_blob(b"pointer" if lfs else data), **lfs}
