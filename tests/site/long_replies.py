"""The site with three pages more: one that sends as much as it can, one that tells how much, one that breaks.

For `python -m voicedemo.server`; see test_replies.py.
"""

import asyncio
from typing import Any

from voicedemo.asgi import application as site

PIECE = b"x" * 64 * 1024
MANY = 1000
"""Pieces: 64 MB."""

PAUSE_S = 1
"""A piece that was not taken after so long waits for its reader."""

taken: "asyncio.Queue[int]" = asyncio.Queue()


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    pages = {"/much": much, "/taken": tell, "/breaks": breaks}
    page = pages.get(scope.get("path", "")) if scope["type"] == "http" else None
    await (page(send) if page else site(scope, receive, send))


async def begin(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})


async def much(send: Any) -> None:
    """The first piece that has to wait is told of."""
    await begin(send)
    is_told = False
    for number in range(MANY):
        piece = asyncio.ensure_future(send({"type": "http.response.body", "body": PIECE, "more_body": True}))
        _, waiting = await asyncio.wait([piece], timeout=PAUSE_S)
        if waiting and not is_told:
            taken.put_nowait(number)
            is_told = True
        await piece
    if not is_told:
        taken.put_nowait(MANY)
    await send({"type": "http.response.body", "body": b"end"})


async def tell(send: Any) -> None:
    await begin(send)
    await send({"type": "http.response.body", "body": str(await taken.get()).encode()})


async def breaks(send: Any) -> None:
    await begin(send)
    await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    raise RuntimeError("broken in the middle")
