"""The browser's socket into the log: numbered frames are committed, then acknowledged.

A plain ASGI application: Channels' consumers visit the one database thread and make two tasks for every
message, which costs more than parsing, checking and storing it does.
"""

import asyncio
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from enum import IntEnum
from importlib import import_module
from itertools import count
from typing import Any, ParamSpec, TypeVar
from urllib.parse import parse_qs
from uuid import UUID

from channels.db import DatabaseSyncToAsync
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.http import parse_cookie
from django.utils import timezone

from sessions_app import log, tools
from sessions_app.events import REFUSED, EventError, Frame, Interim, ToolCall, parse
from sessions_app.models import SEEN_S, VoiceSession
from sessions_app.redaction import is_redacted
from sessions_app.writer import writer

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Close(IntEnum):
    """Servers can send 1000 and 3000 to 4999 only.

    NOT_YOURS, LOG_CLOSED, OTHER_PAGE and LOG_FULL are final. After any other close a page comes back and goes
    on after the last number in the log; after BAD_MESSAGE, GAP, TOO_LARGE and WINDOW it gives up if it gets
    nowhere, as they tell of a defect.
    """

    RESTARTING = 4012
    BAD_MESSAGE = 4400
    NOT_YOURS = 4403
    REPLACED = 4408
    GAP = 4409
    LOG_CLOSED = 4410
    TOO_LARGE = 4413
    OTHER_PAGE = 4423
    TOO_FAST = 4429
    LOG_FULL = 4430
    WINDOW = 4431
    TROUBLE = 4500
    SLOW_DOWN = 4503


SENTENCES = {
    Close.RESTARTING: "The site is restarting; the log goes on in a moment.",
    Close.BAD_MESSAGE: "The page sent something that is not an event.",
    Close.NOT_YOURS: "This call is not yours, or is no longer there.",
    Close.REPLACED: "A newer connection of the same page took over.",
    Close.GAP: "An event is missing before the one that came.",
    Close.LOG_CLOSED: "The log of this call is closed.",
    Close.TOO_LARGE: "The page sent more at once than the log takes.",
    Close.OTHER_PAGE: "This call is open in another tab, which keeps its transcript.",
    Close.TOO_FAST: "The page sent events faster than the log takes them.",
    Close.LOG_FULL: f"The log of a call has at most {log.MAX_LINES} lines, and this one is full.",
    Close.WINDOW: "The page sent on without waiting for what it sent to be stored.",
    Close.TROUBLE: "The log has a problem; the page keeps what is not stored yet.",
    Close.SLOW_DOWN: "The log does not keep up; the page keeps what is not stored yet.",
}
"""For people, as the page may show them. Sent before the close: Daphne drops a close's reason."""

WINDOW = 256
"""Frames of one socket that may wait for their acknowledgement."""

PER_S, BURST = 40, 200
"""Messages of one socket. The busiest call has five events a second; a page that comes back sends a burst."""

MAX_TOOLS = 8
"""Tool calls of one socket that are carried out at once; agents ask for one or two."""

RECENT = timedelta(minutes=1)
"""A page that comes back gets the outputs of tool calls that it reported within this time."""

# Channels' own way runs every query of all sockets in one thread, where a slow one holds up the others.
_arrivals = ThreadPoolExecutor(4, thread_name_prefix="arrival")
# Each waits for a tool, for up to tools.LIMIT_S.
_tool_threads = ThreadPoolExecutor(16, thread_name_prefix="tool-wait")


def in_thread(
    function: Callable[P, T], executor: ThreadPoolExecutor = _arrivals
) -> Callable[P, Awaitable[T]]:
    """An async function that runs `function`, with database connections of its own, in a thread."""
    run: Callable[P, Awaitable[T]] = DatabaseSyncToAsync(function, thread_sensitive=False, executor=executor)
    return run


sockets: dict[UUID, "RelaySocket"] = {}
"""The open socket of each call in this process."""

_numbers = count(1)
"""The order in which sockets came."""

is_draining = False
"""The process is about to end: what comes now is not taken any more, as `drain` would never be done."""


async def relay(scope: Message, receive: Receive, send: Send) -> None:
    """The ASGI application: one call of it for each socket."""
    socket = RelaySocket(scope["url_route"]["kwargs"]["session_id"], send)
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})
    try:
        if await socket.enter(browser_of(scope), page_of(scope)):
            await socket.serve(receive)
    except Exception:
        # Whatever it is, the page keeps its frames and comes back with them.
        logger.exception("session %s: the relay failed", socket.session_id)
        await socket.shut(Close.TROUBLE)
    finally:
        socket.leave()


def browser_of(scope: Message) -> SessionBase:
    """The session of the browser that connects; read from the database when it is asked for something.

    Not Channels' middleware for it: that one stays around each socket, with 4 KB and a share of every send.
    """
    cookies = b"; ".join(value for name, value in scope["headers"] if name == b"cookie").decode("latin-1")
    store = import_module(settings.SESSION_ENGINE).SessionStore
    session: SessionBase = store(parse_cookie(cookies).get(settings.SESSION_COOKIE_NAME))
    return session


def page_of(scope: Message) -> str:
    """The page load that connects, by its own word: ?page=…; "" if it says none or something else."""
    page = parse_qs(scope["query_string"].decode(errors="replace")).get("page", [""])[0]
    return page if re.fullmatch("[0-9a-z-]{8,32}", page) else ""


class RelaySocket:
    """One page's socket. It is told by the log's writer what is stored, and tells the page."""

    def __init__(self, session_id: UUID, send: Send) -> None:
        self.session_id = session_id
        self.number = next(_numbers)
        self.session: VoiceSession
        self.is_closed = False
        self.taken = 0
        """The last number that came."""
        self.acked = 0
        """The last number that is stored."""
        self.at_ms = 0
        """Of the last frame, for one that has none that can be read."""
        self.tools: dict[asyncio.Task[None], ToolCall] = {}
        self._send = send
        self._bucket = TokenBucket(PER_S, BURST)
        self._seen_at = time.monotonic()

    async def enter(self, browser: SessionBase, page: str) -> bool:
        """Lets the page in, and tells it where to go on; False: it was turned away."""
        arrival = await in_thread(arrive)(self.session_id, browser, page)
        if is_draining:
            arrival = Close.RESTARTING
        if isinstance(arrival, Close):
            await self.shut(arrival)
            return False
        other = sockets.get(self.session_id)
        if other is not None and other.number > self.number:
            # It came later and was let in sooner: the page has given this one up.
            await self.shut(Close.REPLACED)
            return False
        sockets[self.session_id] = self
        if other is not None:
            await other.shut(Close.REPLACED)
        self.session = arrival.session
        self.taken = self.acked = arrival.ack
        self.at_ms = arrival.at_ms
        await self.say({"type": "welcome", "ack": arrival.ack, "window": WINDOW})
        for call, at_ms in arrival.unanswered:
            self.start_tool(call, at_ms)
        return True

    async def serve(self, receive: Receive) -> None:
        while not self.is_closed:
            message = await receive()
            # Closed while this was on its way: what came before it may have been lost, and not be stored.
            if self.is_closed or message["type"] == "websocket.disconnect":
                return
            if is_draining:
                continue
            if code := await self.take(message.get("text") or ""):
                await self.shut(code)

    def leave(self) -> None:
        """What has come will be stored, though nobody is left to tell."""
        self.is_closed = True
        if sockets.get(self.session_id) is self:
            del sockets[self.session_id]

    async def take(self, text: str) -> Close | None:
        """One message; returns why the socket must be closed, if so."""
        now = time.monotonic()
        if not self._bucket.take(now):
            return Close.TOO_FAST
        if now - self._seen_at >= SEEN_S:
            self._seen_at = now
            writer.seen(self.session_id)
        try:
            message = parse(text)
        except EventError as error:
            if error.seq is None:
                return Close.TOO_LARGE if error.code == "too_large" else Close.BAD_MESSAGE
            message = error.as_frame()
        if isinstance(message, Frame):
            return await self.take_frame(message, len(text))
        if isinstance(message, Interim):
            await log.show(self.session_id, asdict(message))
        return None

    async def take_frame(self, frame: Frame, size: int) -> Close | None:
        if frame.seq <= self.taken:
            if frame.seq <= self.acked:  # else its acknowledgement is on the way
                await self.say({"type": "ack", "ack": self.acked})
            return None
        if frame.seq > self.taken + 1:
            return Close.GAP
        if frame.seq > log.MAX_LINES:
            return Close.LOG_FULL
        if frame.seq > self.acked + WINDOW:
            return Close.WINDOW
        if writer.is_full:
            return Close.SLOW_DOWN
        if frame.at_ms is None:
            frame = replace(frame, at_ms=self.at_ms)
        else:
            self.at_ms = frame.at_ms
        self.taken = frame.seq
        writer.put(self, frame, size)
        return None

    async def stored(self, frames: list[Frame]) -> None:
        """Told by the writer: these are in the log now."""
        self.acked = frames[-1].seq
        for frame in frames:
            if frame.type == REFUSED:
                why = {key: frame.data[key] for key in ("code", "message")}
                await self.say({"type": "nack", "seq": frame.seq, **why})
        await self.say({"type": "ack", "ack": self.acked})
        if is_draining:
            return  # a tool would be cut off with the process; the next one runs it when the page is back
        for frame in frames:
            if frame.is_for_server and not self.is_closed:
                self.start_tool(ToolCall.read(frame.data), frame.at_ms or 0)

    async def lost(self, code: str) -> None:
        """Told by the writer: nothing more of this socket can be stored."""
        await self.shut(Close[code.upper()])

    def start_tool(self, call: ToolCall, at_ms: int) -> None:
        called_at = self.session.moment(at_ms)
        if len(self.tools) < MAX_TOOLS:
            output = in_thread(tools.run, _tool_threads)(self.session, call, called_at)
        else:
            output = in_thread(tools.refuse)(self.session, call, "Too much is asked for at once.", "busy")
        task = asyncio.create_task(self.tell_output(call, output))
        self.tools[task] = call
        task.add_done_callback(self.tools.pop)

    async def tell_output(self, call: ToolCall, coming: Awaitable[str]) -> None:
        try:
            output = await coming
        except Exception:
            # Trouble with the database: the tool's change may have been made or not, so nothing can be said
            # of it here. The page tells the agent so when its own time is up.
            logger.exception("session %s: tool call %s could not be run", self.session_id, call.id)
            return
        await self.say({"type": "tool_call_output", "data": {"toolCallId": call.id, "output": output}})

    async def interrupt_tools(self) -> None:
        """The agent is told now, not by a page whose patience ends; what comes later is dropped."""
        for call in list(self.tools.values()):
            await self.tell_output(
                call,
                in_thread(tools.refuse)(self.session, call, f"{call.name} was interrupted.", "interrupted"),
            )

    async def say(self, message: dict[str, Any]) -> None:
        """Says it if the page is still there; if not, it learns of it when it comes back."""
        if not self.is_closed:
            await self._send({"type": "websocket.send", "text": json.dumps(message)})

    async def shut(self, code: Close) -> None:
        if self.is_closed:
            return
        self.leave()
        logger.info("session %s: relay closed, %s", self.session_id, code.name.lower())
        refused = {"type": "refused", "code": code.name.lower(), "message": SENTENCES[code]}
        await self._send({"type": "websocket.send", "text": json.dumps(refused)})
        # Under Daphne, autobahn refuses a code whose type is not int itself, as that of an enum's member.
        await self._send({"type": "websocket.close", "code": int(code)})


@dataclass(frozen=True)
class Arrival:
    """Where a page stands when it comes (back): the last line of its log, and the tool calls for the server
    that have no answer there."""

    session: VoiceSession
    ack: int
    at_ms: int
    unanswered: list[tuple[ToolCall, int]]
    """With their at_ms."""


def arrive(session_id: UUID, browser: SessionBase, page: str) -> Arrival | Close:
    """Close: why this page may not report this call."""
    visitor = browser.get("visitor")
    session = VoiceSession.objects.filter(pk=session_id, visitor=visitor).first() if visitor else None
    if session is None:
        return Close.NOT_YOURS
    if not session.claim(page):
        return Close.OTHER_PAGE
    now = timezone.now()
    if log.is_closed(session, now):
        return Close.LOG_CLOSED
    if (now - session.last_seen_at).total_seconds() >= SEEN_S:
        VoiceSession.objects.filter(pk=session_id).touch(now)
    # Before the tool calls: the page sends again what is stored in between, as it is not told of it here.
    ack, at_ms = log.last_line(session_id, log.BROWSER)
    unanswered: dict[str, tuple[ToolCall, int]] = {}
    if ack and session.state != VoiceSession.State.ENDED:
        # Older calls were given up by their agent; the page has told it so.
        lines = session.events.filter(source=log.BROWSER, recorded_at__gt=now - RECENT).order_by("seq")
        for event in lines.filter(type="tool_call", seq__lte=ack):
            if event.data.get("runs_on") != "page":
                call = ToolCall.read(event.data)
                call = replace(call, is_redacted=is_redacted(call.arguments))
                unanswered[call.id] = call, event.at_ms
        for event in lines.filter(type="tool_call_output"):
            unanswered.pop(event.data["toolCallId"], None)
    return Arrival(session, ack, at_ms, list(unanswered.values()))


class TokenBucket:
    """`per_s` a second on average, `burst` at once."""

    def __init__(self, per_s: float, burst: int) -> None:
        self.per_s, self.burst = per_s, burst
        self.tokens, self.at = float(burst), time.monotonic()

    def take(self, now: float) -> bool:
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.per_s)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


watchers: set[Any] = set()
"""Staff's sockets in this process; see TranscriptConsumer."""


async def drain(limit_s: float = 4.0) -> None:
    """Before the server goes: takes nothing more, stores and acknowledges what has come, lets the pages go.

    Pages and staff come back by themselves, and the pages with what they could not send. What is not done
    after `limit_s` is left: it was not acknowledged.
    """
    global is_draining
    is_draining = True
    open_sockets = list(sockets.values())
    try:
        async with asyncio.timeout(limit_s):
            # One that fails keeps no other from being told; tell_output has logged why.
            await asyncio.gather(
                *(socket.interrupt_tools() for socket in open_sockets), return_exceptions=True
            )
            await writer.flush()
    except TimeoutError:
        logger.warning("not all frames could be stored before the restart; their pages keep them")
    for socket in open_sockets:
        await socket.shut(Close.RESTARTING)
    for watcher in list(watchers):
        await watcher.close(Close.RESTARTING)
