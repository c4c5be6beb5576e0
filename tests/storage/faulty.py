"""A proxy in front of an object store that does to requests what networks and stores do to them.

Seeded: the n-th request meets the same fault in every run with the same requests. It runs in a
thread of the process that starts it and serves any number of clients.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_WRITES = ("PUT", "POST")


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong; rates are shares of all requests that the fault fits, [0, 1]."""

    seed: int = 0
    fail: float = 0.0
    """503 SlowDown instead of an answer; nothing is done."""
    reset: float = 0.0
    """The connection is closed instead of an answer; nothing is done."""
    delay: float = 0.0
    delay_seconds: float = 0.05
    cut: float = 0.0
    """Of reads: half of the body, then the connection is closed."""
    drop: float = 0.0
    """Of writes: they are done, then the connection is closed instead of an answer."""
    full_after_bytes: int | None = None
    """Writes beyond so many bytes, counted from here, are refused."""
    full_as: str = "507"
    """``507``, or ``quota`` for 403 QuotaExceeded."""
    forget: str = ""
    """Writes to a path with this in it are answered 200, and nothing is kept."""
    deny: bool = False
    """403 AccessDenied to everything."""


NOTHING = Faults()
TWENTY_PERCENT = Faults(seed=6, fail=0.10, reset=0.05, delay=0.05, cut=0.08, drop=0.08)
"""About a fifth of all requests ends badly."""


class FaultyProxy:
    """Forwards to a server; a context manager. `faults` may be exchanged at any time."""

    def __init__(self, upstream: str, faults: Faults = NOTHING, store: str = "s3") -> None:
        """``store`` says in whose form refusals are told: ``s3``, ``gs`` or ``az``."""
        self.store = store
        parts = urlsplit(upstream)
        assert parts.hostname is not None
        assert parts.port is not None
        self.upstream = (parts.hostname, parts.port)
        self.met: Counter[str] = Counter()
        """Faults that happened, and ``requests``."""
        self._lock = threading.Lock()
        self.faults = faults
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def faults(self) -> Faults:
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        with self._lock:
            self._faults = faults
            self._random = random.Random(faults.seed)
            self._written = 0

    def __enter__(self) -> FaultyProxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def choose(self, method: str, size: int) -> str:
        """The fault that a request meets, "" for none."""
        with self._lock:
            faults = self._faults
            # always as many draws, so that one rate does not shift the others
            draws = {
                name: self._random.random() < getattr(faults, name)
                for name in ("fail", "reset", "delay", "cut", "drop")
            }
            self.met["requests"] += 1
            chosen = ""
            if faults.deny:
                chosen = "deny"
            elif method in _WRITES and faults.full_after_bytes is not None:
                if self._written + size > faults.full_after_bytes:
                    chosen = "full"
                else:
                    self._written += size
            if not chosen:
                fitting = {"cut": method == "GET", "drop": method in (*_WRITES, "DELETE")}
                found = [n for n, hit in draws.items() if hit and fitting.get(n, True)]
                chosen = found[0] if found else ""
            if chosen:
                self.met[chosen] += 1
            return chosen

    def forgets(self, path: str) -> bool:
        """Whether what is written there is lost."""
        lost = bool(self.faults.forget) and self.faults.forget in path
        if lost:
            self.met["forget"] += 1
        return lost


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address) -> None:
        """Clients that were killed are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    owner: FaultyProxy

    def log_message(self, format, *arguments) -> None:
        pass

    def _serve(self) -> None:
        body = self._body()
        fault = self.owner.choose(self.command, len(body))
        if fault == "fail":
            return self._error(503, "SlowDown", "Please reduce your request rate.")
        if fault == "deny":
            return self._error(403, "AccessDenied", "Access Denied")
        if fault == "full" and self.owner.faults.full_as == "quota":
            return self._error(403, "QuotaExceeded", "The quota of the bucket is used up.")
        if fault == "full":
            return self._error(507, "InsufficientStorage", "There is no space left.")
        if fault == "reset":
            return self._hang_up()
        if fault == "delay":
            time.sleep(self.owner.faults.delay_seconds)
        if self.command == "PUT" and self.owner.forgets(self.path):
            digest = hashlib.md5(body).hexdigest()
            return self._answer(200, [("ETag", f'"{digest}"')], b"", cut=False)
        status, headers, content = self._forward(body)
        if fault == "drop":
            return self._hang_up()
        self._answer(status, headers, content, cut=fault == "cut")

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        skipped = ("connection", "transfer-encoding", "content-length", "expect")
        headers = {name: v for name, v in self.headers.items() if name.lower() not in skipped}
        connection = http.client.HTTPConnection(*self.owner.upstream, timeout=60)
        try:
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def _answer(self, status, headers, content, *, cut: bool) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        length = len(content)
        if self.command == "HEAD":
            length = next((v for n, v in headers if n.lower() == "content-length"), 0)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self._hang_up()

    def _error(self, status: int, code: str, message: str) -> None:
        if self.owner.store == "gs":
            told = {"code": status, "message": message, "errors": [{"reason": code}]}
            headers = [("Content-Type", "application/json")]
            return self._answer(status, headers, json.dumps({"error": told}).encode(), cut=False)
        text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        headers = [("Content-Type", "application/xml")]
        if self.owner.store == "az":
            headers.append(("x-ms-error-code", code))
        self._answer(status, headers, text, cut=False)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
