"""A strict HTTP server on loopback: it answers what it was told to, and remembers what was asked.

A request that nothing was said about is answered with 418 and fails the test at its end.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Reply:
    """`cut` closes the connection when half of the body is sent; `hang` sends nothing at all."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    hang: bool = False


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes


Answering = Callable[[Request], Reply]


def digest(body: bytes) -> str:
    return "sha256:" + hashlib.sha256(body).hexdigest()


def as_json(content: Any, status: int = 200, **headers: str) -> Reply:
    body = json.dumps(content).encode()
    return Reply(status, body, {"Content-Type": "application/json"} | headers)


def refusal(status: int, code: str, message: str = "", **headers: str) -> Reply:
    return as_json({"errors": [{"code": code, "message": message}]}, status, **headers)


def manifest_reply(content: Any, kind: str = OCI_MANIFEST, **headers: str) -> Reply:
    body = json.dumps(content).encode()
    given = {"Content-Type": kind, "Docker-Content-Digest": digest(body)}
    return Reply(200, body, given | headers)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no failure of the server's; the test sees what it got."""


class FakeRegistry:
    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.unexpected: list[str] = []
        self._replies: dict[tuple[str, str], list[Reply | Answering]] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}"

    def on(self, method: str, path: str, *replies: Reply | Answering) -> None:
        """Answer with the replies in turn; the last one goes on. A function makes its reply."""
        self._replies[method, path] = list(replies)

    def asked(self, method: str | None = None, path: str | None = None) -> list[Request]:
        return [
            one
            for one in self.requests
            if method in (None, one.method) and path in (None, one.path)
        ]

    def close(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _reply(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            replies = self._replies.get((request.method, request.path))
            if not replies:
                self.unexpected.append(f"{request.method} {request.path}")
                return Reply(418)
            reply = replies.pop(0) if len(replies) > 1 else replies[0]
            return reply if isinstance(reply, Reply) else reply(request)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {k.lower(): v for k, v in self.headers.items()}
                request = Request(self.command, parts.path, parse_qs(parts.query), headers, body)
                reply = fake._reply(request)
                if reply.hang:
                    fake._over.wait()
                    self.close_connection = True
                    return
                self.send_response_only(reply.status)
                if "Date" not in reply.headers:
                    self.send_header("Date", self.date_time_string())
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if self.command == "HEAD":
                    return
                if reply.cut:
                    self.wfile.write(reply.body[: len(reply.body) // 2])
                    self.close_connection = True
                    return
                self.wfile.write(reply.body)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        return Handler
