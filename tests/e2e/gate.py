"""A port in front of a media server's signalling, to be shut, silenced and cut. Sound does not pass here."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress


class Gate:
    """Lives in an event loop; `mode` and `target` may be set from any thread.

    mode: "pass" (to the target), "silent" (takes connections, says nothing), "shut" (closes them at once),
    or the HTTP status of every answer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # Bound for as long as it lives: pages may connect only to addresses that the site knew at its start.
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[asyncio.StreamWriter] = set()
        self.port: int = self._listener.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}"
        self.target = 0
        self.mode: str | int = "pass"

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._connected, sock=self._listener)

    def cut(self) -> None:
        """Close everything that passes now; what comes later passes by `mode`."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "silent":
            await reader.read(-1)  # until the other side has had enough
        elif self.mode == "pass":
            await self._pass(reader, writer)
        elif isinstance(self.mode, int):
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 {self.mode} Provoked\r\nAccess-Control-Allow-Origin: *\r\n"
            writer.write(f"{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            await reader.read(-1)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        ways = [asyncio.create_task(pump(reader, far_writer)), asyncio.create_task(pump(far_reader, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            far_writer.transport.abort()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
