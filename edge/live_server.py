"""The live page's server: HTTP and server-sent events from the standard library.

One thread per connection, so a slow reader delays nobody and nothing here ever waits
inside the scan. Bounded in connections, streams and what a request may send.
"""

import json
import logging
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qsl

from bifocus.edge.live_answers import Answer, LivePage, answer_problem, compose_json
from bifocus.edge.live_guard import PAGE_HEADERS, Guard, is_loopback, new_token
from bifocus.errors import ConfigError, SlideFileError

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
MAX_STREAMS = 16
MAX_BODY_BYTES = 1024
# A connection that sends or takes nothing for so long is closed.
IDLE_S = 30.0
# A silent stream says that it lives, which also finds out who has gone.
HEARTBEAT_S = 10.0
# Changes that come together travel together.
BATCH_S = 0.05


class LiveServer(ThreadingHTTPServer):
    """Serves one page until it is closed."""

    daemon_threads = False
    request_queue_size = MAX_CONNECTIONS
    allow_reuse_port = False  # two programs must not share a port without knowing

    def __init__(self, page: LivePage, host: str, port: int, token: str | None) -> None:
        """Bind; nothing is answered before `run`.

        Raises
        ------
        ConfigError
            If the address or the port cannot be had.
        """
        self.page = page
        self.closing = threading.Event()
        self.streams = threading.BoundedSemaphore(MAX_STREAMS)
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Exchange)
        except OSError as error:
            msg = (
                f"live page: cannot listen on port {port} of {host}: {error.strerror}; "
                "choose another port, or 0 for any free one"
            )
            raise ConfigError(msg) from error
        self.guard = Guard(
            host=host,
            cookie=f"bifocus-{self.server_port}",
            token=token or new_token(),
        )

    def server_bind(self) -> None:
        """Bind without asking a name server who we are, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name = str(self.server_address[0])
        self.server_port = int(self.server_address[1])

    @property
    def url(self) -> str:
        """The address to open, with the token that lets the browser act."""
        host = str(self.server_address[0])
        if host in ("0.0.0.0", "::"):
            host = socket.gethostname()
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self.server_port}/?token={self.guard.token}"

    def run(self) -> None:
        """Answer until `close`; for a thread of its own."""
        self.serve_forever(poll_interval=0.1)

    def close(self) -> None:
        """Stop answering, end every connection, and wait for their threads."""
        self.closing.set()
        self.page.state.close()
        self.shutdown()
        with self._lock:
            for connection in self._connections:
                _hang_up(connection)
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a thread, or turn it away when all are taken."""
        if not self._places.acquire(blocking=False):
            logger.warning("live page: more than %d connections", MAX_CONNECTIONS)
            self.shutdown_request(request)
            return
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection, then free its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._connections.discard(request)
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what a connection died of; browsers hang up whenever they like."""
        error = sys.exc_info()[1]
        is_usual = isinstance(error, ConnectionError | TimeoutError)
        level = logging.DEBUG if is_usual else logging.ERROR
        logger.log(level, "live page: %s", client_address, exc_info=error)


class _Exchange(BaseHTTPRequestHandler):
    """One connection."""

    server: LiveServer
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    # Without these two, each answer waits for the other side's acknowledgement.
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        """Answer, or begin a stream."""
        if not self._is_allowed("GET"):
            return
        path, _, rest = self.path.partition("?")
        try:
            query = dict(parse_qsl(rest, max_num_fields=8))
        except ValueError as error:
            self.send_error(400, f"this address cannot be read: {error}")
            return
        if path == "/" and "token" in query:
            self._let_in(query["token"])
        elif path == "/events":
            self._stream(self.headers.get("Last-Event-ID", query.get("after", "")))
        else:
            self._send(self._answer(path, query))

    def do_POST(self) -> None:
        """Answer a button."""
        body = self._read_body()
        if body is None:
            return
        if self.path == "/session":
            refusal = self.server.guard.check_session(self.headers)
            if refusal is not None:
                self._send(answer_problem(refusal.status, refusal.reason))
            else:
                self._open_session(body)
        elif self._is_allowed("POST"):
            self._send(self.server.page.act(self.path))

    def version_string(self) -> str:
        """Name the program, not the version that somebody might know a hole of."""
        return "bifocus"

    def log_message(self, format: str, *args: Any) -> None:
        """Log requests for those who look for them; never an address with its token."""
        if logger.isEnabledFor(logging.DEBUG):
            text = (format % args).partition("token=")[0]
            logger.debug("live page: %s %s", self.address_string(), text)

    def send_error(
        self, code: int, message: str | None = None, explain: str | None = None
    ) -> None:
        """Answer what the standard library refuses in the same form as our refusals."""
        self.close_connection = True
        self._send(answer_problem(int(code), message or explain or "refused"))

    def _answer(self, path: str, query: Mapping[str, str]) -> Answer:
        may_act = self.server.guard.knows(self.headers)
        try:
            return self.server.page.get(path, query, may_act=may_act)
        except SlideFileError as error:
            return answer_problem(503, str(error))

    def _is_allowed(self, method: str) -> bool:
        if not self.path.startswith("/"):
            self.send_error(400, "this is no proxy")
            return False
        # A link with the token is how a browser gets in; its token is checked there.
        refusal = self.server.guard.check(method, self.headers)
        if refusal is None:
            return True
        is_entry = refusal.status == 401 and self.path.startswith("/?token=")
        if is_entry:
            return True
        self._send(answer_problem(refusal.status, refusal.reason))
        return False

    def _let_in(self, token: str) -> None:
        """Keep the token as a cookie, and take it out of the address bar."""
        if not self.server.guard.is_token(token):
            self._send(answer_problem(401, "this token is wrong"))
            return
        cookie = self.server.guard.compose_cookie()
        self._send(
            Answer(body=b"", status=303, media_type="text/plain"),
            {"Location": "/", "Set-Cookie": cookie},
        )

    def _open_session(self, body: bytes) -> None:
        try:
            token = json.loads(body)["token"]
        except (ValueError, KeyError, TypeError):
            token = None
        if not isinstance(token, str) or not self.server.guard.is_token(token):
            self._send(answer_problem(401, "this token is wrong"))
            return
        cookie = {"Set-Cookie": self.server.guard.compose_cookie()}
        self._send(Answer(body=b"{}"), cookie)

    def _read_body(self) -> bytes | None:
        """Return the request's body, or answer why not; also one that is refused."""
        declared = self.headers.get("Content-Length", "0")
        is_number = declared.isascii() and declared.isdigit()
        if "Transfer-Encoding" in self.headers or not is_number:
            self.send_error(411, "the length of the body must be given")
            return None
        if int(declared) > MAX_BODY_BYTES:
            self.send_error(413, f"a body has at most {MAX_BODY_BYTES} bytes")
            return None
        return self.rfile.read(int(declared))

    def _send(self, answer: Answer, extra: Mapping[str, str] | None = None) -> None:
        is_known = bool(answer.etag) and answer.etag == self.headers.get(
            "If-None-Match", ""
        )
        self.send_response(304 if is_known else answer.status)
        headers = {"Cache-Control": answer.cache, **PAGE_HEADERS, **(extra or {})}
        if answer.etag:
            headers["ETag"] = answer.etag
        if self.close_connection:
            headers["Connection"] = "close"
        if not is_known:
            headers["Content-Type"] = answer.media_type
            headers["Content-Length"] = str(len(answer.body))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if not is_known:
            self.wfile.write(answer.body)
        self.wfile.flush()

    def _stream(self, last_seen: str) -> None:
        if not self.server.streams.acquire(blocking=False):
            reason = f"more than {MAX_STREAMS} pages are open; close one"
            self._send(answer_problem(503, reason), {"Retry-After": "5"})
            return
        try:
            self.close_connection = True
            self.send_response(200)
            for name, value in PAGE_HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Cache-Control", "no-store")
            self.send_header("Connection", "close")
            self.end_headers()
            for message in self._messages(last_seen):
                self.wfile.write(message)
                self.wfile.flush()
        finally:
            self.server.streams.release()

    def _messages(self, last_seen: str) -> Iterator[bytes]:
        """Yield what changed since the event that this reader saw last, for ever.

        A newcomer is told every cell, but no slide tiles: whatever it fetches from now
        on is fresh.
        """
        page, state = self.server.page, self.server.page.state
        run, _, number = last_seen.partition("-")
        is_known = run == page.run and number.isdigit()
        after = int(number) if is_known else 0
        tiles_after = after if is_known else state.number
        yield b"retry: 1000\n\n"
        while True:
            changes = state.changes(after, tiles_after)
            document = {
                "begins": after == 0,
                "progress": changes.progress,
                "cells": changes.cells,
                "tiles": changes.tiles,
            }
            after = tiles_after = changes.number
            identity = f"id: {page.run}-{after}\n".encode()
            yield identity + b"data: " + compose_json(document) + b"\n\n"
            while state.number == after:
                if not state.wait(after, HEARTBEAT_S):
                    return
                if state.number == after:
                    yield b": still here\n\n"
            self.server.closing.wait(BATCH_S)


@contextmanager
def serve(
    page: LivePage, *, host: str, port: int, token: str | None = None
) -> Iterator[LiveServer]:
    """Serve a page while the block runs.

    Parameters
    ----------
    page
        What is shown.
    host
        Address to listen on. Other than on loopback, the token opens the page too.
    port
        TCP port, 0 for any free one.
    token
        What lets a browser act; by default a new random one.

    Yields
    ------
    LiveServer
        Already answering; its `url` is what a person opens.

    Raises
    ------
    ConfigError
        If the port is taken, or the address is not one of this machine.
    """
    server = LiveServer(page, host, port, token)
    if not is_loopback(host):
        logger.warning(
            "live page: reachable from other machines at %s, unencrypted", host
        )
    thread = threading.Thread(target=server.run, name="live-page")
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        logger.debug("live page: a connection was closed already")
