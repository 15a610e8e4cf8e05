"""A voice platform that answers as it is told, on a real port of this machine."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from django.test import override_settings

CREDENTIAL = {
    "token": "platform-token-that-must-stay-here",
    "webrtc_token": "eyJ.webrtc.token",
    "url": "ws://127.0.0.1:7880",
    "room": "call-1",
    "identity": "caller-1",
}
AGENTS = {"agents": [{"id": "5a1c0e5e-0000-4000-8000-000000000001", "name": "Concierge", "status": "ready"}]}


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Platform:
    """`requests`: what it was asked so far. `calls`: what it answers of each call, as (status, JSON); any
    other is unknown then. `lists`: how often it was asked for its agents, and `agents` its answer, as
    (status, body). All of it may be changed while it runs."""

    status: int = 200
    body: bytes = json.dumps(CREDENTIAL).encode()
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    agents: tuple[int, Any] = (200, AGENTS)
    lists: int = 0
    calls: dict[str, tuple[int, Any]] = field(default_factory=dict)
    url: str = ""


def as_bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


@contextmanager
def platform(status: int = 200, body: Any = CREDENTIAL, **headers: str) -> Iterator[Platform]:
    """The site's platform for a while. `body`: bytes as they are, anything else as JSON."""
    state = Platform(status, as_bytes(body), headers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            state.requests.append(Request(self.path, dict(self.headers), json.loads(self.rfile.read(length))))
            self.answer(state.status, state.body)

        def do_GET(self) -> None:
            if self.path == "/v1/agents":
                state.lists += 1
                self.answer(state.agents[0], as_bytes(state.agents[1]))
                return
            state.requests.append(Request(self.path, dict(self.headers), None))
            known = state.calls.get(self.path.removeprefix("/v1/calls/"))
            if known is None and state.calls:
                known = 404, {"error": "there is no such call"}
            if known is None:
                self.answer(state.status, state.body)
            else:
                self.answer(known[0], as_bytes(known[1]))

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **state.headers}.items():
                self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}"
        try:
            with override_settings(VATEL_BASE_URL=state.url):
                yield state
        finally:
            server.shutdown()
            thread.join()
