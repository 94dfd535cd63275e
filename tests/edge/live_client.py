"""A client of the live page's server: Python's own HTTP, and server-sent events."""

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any

from bifocus.edge.live_server import LiveServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Client:
    server: LiveServer

    def ask(
        self, path: str, headers: dict[str, str] | None = None, method: str = "GET"
    ) -> Reply:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.server.server_port, timeout=10
        )
        try:
            body = b"{}" if method == "POST" else None
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return Reply(
                status=response.status,
                headers={name.lower(): text for name, text in response.getheaders()},
                body=response.read(),
            )
        finally:
            connection.close()

    def raw(self, request: bytes) -> bytes:
        """Send bytes as they are, and return all that comes until the close."""
        address = "127.0.0.1", self.server.server_port
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(request)
            return connection.makefile("rb").read()


class Stream:
    """Server-sent events, read as the HTML standard says: fields, blank line, event."""

    def __init__(self, client: Client, headers: dict[str, str] | None = None) -> None:
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", client.server.server_port, timeout=10
        )
        self._connection.request("GET", "/events", headers=headers or {})
        self.response = self._connection.getresponse()

    def next(self) -> tuple[str, Any]:
        """Return the id and the data of the next event; skips comments."""
        fields: dict[str, str] = {}
        while True:
            line = self.response.readline().decode().rstrip("\n")
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
            elif not line and "data" in fields:
                return fields["id"], json.loads(fields["data"])

    def close(self) -> None:
        self.response.close()
        self._connection.close()
