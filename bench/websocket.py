"""A WebSocket client made by hand: one of a library spends as much on an event as the server does, and a
benchmark would measure the client."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Callable, Iterator
from typing import Any, Self


class WebSocket(asyncio.Protocol):
    """The client's end of RFC 6455, for text messages in one frame each."""

    @classmethod
    async def connect(
        cls, port: int, path: str, cookie: str, hear: Callable[[list[Any]], None], lose: Callable[[str], None]
    ) -> Self:
        """Asks as a page of the same origin does; `opened` tells when that was granted, or why not."""
        here = f"127.0.0.1:{port}"
        headers = {
            "Host": here,
            "Origin": f"http://{here}",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            **({"Cookie": cookie} if cookie else {}),
        }
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        request = "\r\n".join(lines).encode()
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(lambda: cls(request, hear, lose), "127.0.0.1", port)
        return made

    def __init__(
        self, request: bytes, hear: Callable[[list[Any]], None], lose: Callable[[str], None]
    ) -> None:
        """`hear` gets the JSON messages that came together, `lose` the reason of an end."""
        self.request, self.hear, self.lose = request, hear, lose
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.opened.done():
            head, end, rest = self.received.partition(b"\r\n\r\n")
            if not end:
                return
            status = head.partition(b"\r\n")[0]
            if b" 101 " not in status:
                self.opened.set_exception(ConnectionError(f"no WebSocket: {status.decode('latin-1')}"))
                return
            self.received = rest
            self.opened.set_result(None)
        if messages := list(self.messages()):
            self.hear(messages)

    def messages(self) -> Iterator[Any]:
        """Takes the whole frames out of what was received."""
        data, at = self.received, 0
        while len(data) - at >= 2:
            opcode, size, start = data[at] & 15, data[at + 1], at + 2
            if size >= 126:
                start += 2 if size == 126 else 8
                size = int.from_bytes(data[at + 2 : start], "big")
            if len(data) < start + size:
                break
            at = start + size
            payload = data[start:at]
            if opcode == 1:
                yield json.loads(payload)
            elif opcode == 8:
                self.lose(f"closed with {int.from_bytes(payload[:2], 'big') or 1005}")
            elif opcode == 9:
                self.transport.write(masked(10, payload))
        self.received = data[at:]

    def connection_lost(self, error: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(error or ConnectionError("cut during the handshake"))
        self.lose("cut")


def masked(opcode: int, payload: bytes) -> bytes:
    """One frame. As a browser's, it is masked: servers spend time on that."""
    size = len(payload)
    key = os.urandom(4)
    mask = int.from_bytes((key * (size // 4 + 1))[:size], "big")
    body = (int.from_bytes(payload, "big") ^ mask).to_bytes(size, "big")
    length = bytes([128 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([128 | opcode]) + length + key + body
