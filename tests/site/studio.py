"""A platform that has recordings, on a real port of this machine, with the habits of different platforms."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from django.test import override_settings


@dataclass
class Studio:
    """`sound`: what it has of every call. All of it may be changed while it runs."""

    sound: bytes
    status: int = 200
    """Any other is answered to everything, with `error`."""
    error: str = "because"
    knows_ranges: bool = True
    knows_length: bool = True
    kind: str | None = "audio/wav"
    content_range: str | None = None
    """In the place of the right one."""
    breaks_at: int | None = None
    """It hangs up behind so many bytes of an answer."""
    stops_at: int | None = None
    """It says no more behind so many bytes, until `go_on`."""
    record: dict[str, Any] | None = None
    """Of every call."""
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    """(path, Range, Authorization)"""
    go_on: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    """Somebody did not wait for the end of an answer."""

    def part(self, wanted: str | None) -> tuple[int, bytes, str]:
        """(status, body, Content-Range)"""
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted or "")
        total = len(self.sound)
        if not self.knows_ranges or found is None:
            return 200, self.sound, ""
        if found[1]:
            first, last = int(found[1]), min(int(found[2] or total), total - 1)
        else:
            first, last = max(0, total - int(found[2])), total - 1
        if first >= total:
            return 416, b"", f"bytes */{total}"
        return 206, self.sound[first : last + 1], f"bytes {first}-{last}/{total}"


@contextmanager
def studio(sound: bytes, **habits: Any) -> Iterator[Studio]:
    """The site's platform for a while."""
    state = Studio(sound, **habits)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.asked.append((self.path, self.headers["Range"], self.headers["Authorization"]))
            if state.status != 200:
                self.answer(state.status, json.dumps({"error": state.error}).encode(), "application/json")
            elif not self.path.endswith("/recording"):
                self.answer(200, json.dumps(state.record).encode(), "application/json")
            else:
                status, body, place = state.part(self.headers["Range"])
                self.answer(status, body, state.kind, state.content_range or place)

        def answer(self, status: int, body: bytes, kind: str | None, place: str = "") -> None:
            self.send_response(status)
            if kind:
                self.send_header("Content-Type", kind)
            if place:
                self.send_header("Content-Range", place)
            if state.knows_length:
                self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")  # which ends a body of unknown length, too
            self.end_headers()
            self.close_connection = True
            if state.breaks_at is not None:
                body = body[: state.breaks_at]
            try:
                self.wfile.write(body[: state.stops_at])
                if state.stops_at is not None:
                    state.go_on.wait(30)
                    self.wfile.write(body[state.stops_at :])
            except OSError:
                state.left.set()

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with override_settings(VATEL_BASE_URL=f"http://127.0.0.1:{server.server_port}"):
                yield state
        finally:
            state.go_on.set()
            with suppress(OSError):
                server.shutdown()
            thread.join()
