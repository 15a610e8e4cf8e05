"""The site's application with sockets that no site should have: one never stops writing, one hangs all."""

import asyncio
import time
from typing import Any

from voicedemo.asgi import application as site

PIECE = "x" * 65536
PIECES = 4096
"""256 MiB in all, far more than any buffer of the system takes."""

flooded = asyncio.Event()
written = 0


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    match scope["path"]:
        case "/flood/":
            await accept(receive, send)
            await flood(receive, send)
        case "/flooded/":
            await accept(receive, send)
            await flooded.wait()
            await send({"type": "websocket.send", "text": str(written)})
            await receive()
        case "/hang/":
            await accept(receive, send)
            await receive()
            time.sleep(3600)  # noqa: ASYNC251  # the event loop does nothing else any more
        case _:
            await site(scope, receive, send)


async def accept(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})


async def flood(receive: Any, send: Any) -> None:
    """Writes until the socket is gone, or for good; then /flooded/ says how many characters it were."""
    global written
    gone = asyncio.create_task(receive())
    for _ in range(PIECES):
        if gone.done():
            break
        await send({"type": "websocket.send", "text": PIECE})
        written += len(PIECE)
        await asyncio.sleep(0)
    flooded.set()
    await gone
