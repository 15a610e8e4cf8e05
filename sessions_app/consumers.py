"""The two sockets: RelayConsumer takes a page's events into the log, TranscriptConsumer tells staff."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from enum import IntEnum
from importlib import import_module
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from channels.db import DatabaseSyncToAsync
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest
from django.utils import timezone

from sessions_app import log, tools
from sessions_app.events import EventError, Frame, Interim, Ping, ToolCall, parse
from sessions_app.models import SEEN_S, VoiceSession

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class Close(IntEnum):
    """Servers can send 1000 and 3000 to 4999 only.

    After BAD_MESSAGE, GAP and TOO_MUCH the page tries again, and gives up if it gets nowhere; after TROUBLE
    it tries until the call is over.
    """

    BAD_MESSAGE = 4400
    NOT_YOURS = 4403
    GAP = 4409
    LOG_CLOSED = 4410
    TOO_LARGE = 4413
    TOO_MUCH = 4429
    TROUBLE = 4500


PER_S, BURST = 40, 300
"""Messages of one socket. A page that comes back sends up to 256 unacknowledged frames at once."""

MAX_WAITING = 1000
"""Frames that wait for the database; more than the rate allows in 20 s means that it does not answer."""

MAX_TOOLS = 8
"""Tool calls of one socket that are carried out at once; agents ask for one or two."""

# Channels' own way runs every consumer's queries in one thread, where a slow one holds up all sockets.
_log_threads = ThreadPoolExecutor(4, thread_name_prefix="log")
# Each waits for a tool, for up to tools.LIMIT_S.
_tool_threads = ThreadPoolExecutor(16, thread_name_prefix="tool-wait")


def in_thread(
    function: Callable[P, T], executor: ThreadPoolExecutor = _log_threads
) -> Callable[P, Awaitable[T]]:
    """An async function that runs `function`, with database connections of its own, in a thread."""
    run: Callable[P, Awaitable[T]] = DatabaseSyncToAsync(function, thread_sensitive=False, executor=executor)
    return run


class Socket(AsyncWebsocketConsumer):  # type: ignore[misc]  # Channels has no types
    """Dispatches without Channels' visit to the one database thread before every message; see in_thread."""

    async def dispatch(self, message: dict[str, Any]) -> None:
        await getattr(self, message["type"].replace(".", "_"))(message)

    @property
    def session_id(self) -> UUID:
        session_id: UUID = self.scope["url_route"]["kwargs"]["session_id"]
        return session_id

    async def close(self, code: int | bool | None = None, reason: str | None = None) -> None:
        # Under Daphne, autobahn refuses a code whose type is not int itself, as that of an enum's member.
        await super().close(code if code is None else int(code), reason)

    async def say(self, message: dict[str, Any]) -> None:
        await self.send(text_data=json.dumps(message))


class RelayConsumer(Socket):
    """Page → log. Numbered frames are committed, then acknowledged; interim captions are passed on."""

    async def connect(self) -> None:
        self.bucket = TokenBucket(PER_S, BURST)
        self.waiting: list[Frame] = []
        self.writer: asyncio.Task[None] | None = None
        self.tools: set[asyncio.Task[None]] = set()
        self.is_closed = False
        await self.accept()
        arrival = await in_thread(arrive)(self.session_id, self.scope["session"])
        self.touched_at = time.monotonic()
        if arrival is None:
            # Closed only now: a refused handshake would not tell the page why.
            await self.shut(Close.NOT_YOURS)
            return
        self.session = arrival.session
        await self.say({"type": "welcome", "ack": arrival.ack})
        for call, at_ms in arrival.unanswered:
            self.start_tool(call, at_ms)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self.is_closed:
            return
        if not self.bucket.take():
            await self.shut(Close.TOO_MUCH, "too many messages")
            return
        try:
            message = parse(text_data or "")
        except EventError as error:
            if error.seq is None:
                await self.shut(
                    Close.TOO_LARGE if error.code == "too_large" else Close.BAD_MESSAGE, error.message
                )
                return
            message = error.as_frame()
        match message:
            case Frame():
                await self.enqueue(message)
            case Interim():
                await log.show(self.session_id, asdict(message))
            case Ping():
                await self.keep_alive()

    async def disconnect(self, code: int) -> None:
        self.is_closed = True
        if self.writer is not None:
            await self.writer  # what has come is stored, though nobody is left to tell

    async def keep_alive(self) -> None:
        if time.monotonic() - self.touched_at >= SEEN_S:
            self.touched_at = time.monotonic()
            await in_thread(self.session.touch)(timezone.now())

    async def enqueue(self, frame: Frame) -> None:
        if len(self.waiting) >= MAX_WAITING:
            await self.shut(Close.TOO_MUCH, "the database does not keep up")
            return
        self.waiting.append(frame)
        if self.writer is None or self.writer.done():
            self.writer = asyncio.create_task(self.write())

    async def write(self) -> None:
        """Whatever comes while one batch is written is the next one."""
        while self.waiting:
            batch, self.waiting = self.waiting, []
            try:
                recorded = await in_thread(log.record)(self.session_id, batch)
            except log.SequenceGapError as gap:
                await self.shut(Close.GAP, str(gap))
            except log.LogFullError as full:
                await self.shut(Close.TOO_MUCH, str(full))
            except log.LogClosedError:
                await self.shut(Close.LOG_CLOSED, "the call ended long ago")
            except VoiceSession.DoesNotExist:
                await self.shut(Close.NOT_YOURS, "the session was deleted")
            except Exception:
                # Whatever it is, the page keeps its frames and comes back with them.
                logger.exception("session %s: %s frames could not be stored", self.session_id, len(batch))
                await self.shut(Close.TROUBLE)
            else:
                await self.answer(recorded)

    async def answer(self, recorded: log.Recorded) -> None:
        for frame in recorded.refused:
            why = {key: frame.data[key] for key in ("code", "message")}
            await self.tell({"type": "nack", "seq": frame.seq, **why})
        await self.tell({"type": "ack", "ack": recorded.ack})
        for frame in recorded.stored:
            if frame.is_for_server and frame.at_ms is not None and not self.is_closed:
                self.start_tool(ToolCall.read(frame.data), frame.at_ms)

    def start_tool(self, call: ToolCall, at_ms: int) -> None:
        called_at = self.session.moment(at_ms)
        if len(self.tools) < MAX_TOOLS:
            output = in_thread(tools.run, _tool_threads)(self.session, call, called_at)
        else:
            output = in_thread(tools.refuse)(self.session, call, "Too much is asked for at once.", "busy")
        task = asyncio.create_task(self.tell_output(call, output))
        self.tools.add(task)  # the event loop itself keeps only weak references
        task.add_done_callback(self.tools.discard)

    async def tell_output(self, call: ToolCall, coming: Awaitable[str]) -> None:
        try:
            output = await coming
        except Exception:
            # Trouble with the database: the tool's change may have been made or not, so nothing can be said
            # of it here. The page tells the agent so when its own time is up.
            logger.exception("session %s: tool call %s could not be run", self.session_id, call.id)
            return
        await self.tell({"type": "tool_call_output", "data": {"toolCallId": call.id, "output": output}})

    async def tell(self, message: dict[str, Any]) -> None:
        """Says it if the page is still there; if not, it learns of it when it comes back."""
        if not self.is_closed:
            await self.say(message)

    async def shut(self, code: int, why: str = "") -> None:
        self.waiting.clear()
        if not self.is_closed:
            self.is_closed = True
            logger.info("session %s: relay closed with %s %s", self.session_id, code, why)
            await self.close(code)


@dataclass(frozen=True)
class Arrival:
    """Where a page stands when it comes (back): the last number in the log, and the tool calls for the server
    that have no answer there."""

    session: VoiceSession
    ack: int
    unanswered: list[tuple[ToolCall, int]]
    """With their at_ms."""


def arrive(session_id: UUID, browser: SessionBase) -> Arrival | None:
    """None: there is no such session of this browser."""
    visitor = browser.get("visitor")
    session = VoiceSession.objects.filter(pk=session_id, visitor=visitor).first() if visitor else None
    if session is None:
        return None
    session.touch(timezone.now())
    unanswered: dict[str, tuple[ToolCall, int]] = {}
    if session.state != VoiceSession.State.ENDED:
        lines = session.events.filter(source=log.BROWSER).order_by("seq")
        for event in lines.filter(type="tool_call"):
            if event.data.get("runs_on") != "page":
                call = ToolCall.read(event.data)
                unanswered[call.id] = call, event.at_ms
        for event in lines.filter(type="tool_call_output"):
            unanswered.pop(event.data["toolCallId"], None)
    return Arrival(session, log.last_seq(session_id), list(unanswered.values()))


class TokenBucket:
    """`per_s` a second on average, `burst` at once."""

    def __init__(self, per_s: float, burst: int) -> None:
        self.per_s, self.burst = per_s, burst
        self.tokens, self.at = float(burst), time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.per_s)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class TranscriptConsumer(Socket):
    """Log → staff. It only says that there is something new; the page reads it from the log."""

    RECHECK_S = 30.0
    """A logout, or a permission withdrawn, ends the watching within this time, and the page looks again."""

    async def connect(self) -> None:
        self.guard: asyncio.Task[None] | None = None
        await self.accept()
        if not await in_thread(may_watch)(self.scope["session"].session_key):
            await self.close(Close.NOT_YOURS)
            return
        await self.channel_layer.group_add(log.group(self.session_id), self.channel_name)
        self.guard = asyncio.create_task(self.keep_checking())
        # The page was rendered some time before it was heard of here: let it look once.
        await self.say({"type": "recorded"})

    async def disconnect(self, code: int) -> None:
        if self.guard is not None:
            self.guard.cancel()
            await self.channel_layer.group_discard(log.group(self.session_id), self.channel_name)

    async def keep_checking(self) -> None:
        code: int = 0
        while not code:
            await asyncio.sleep(self.RECHECK_S)
            try:
                code = 0 if await in_thread(may_watch)(self.scope["session"].session_key) else Close.NOT_YOURS
            except Exception:
                # Whatever it is, nobody goes on watching without having been checked.
                logger.exception("session %s: permission to watch could not be checked", self.session_id)
                code = Close.TROUBLE
            if not code:
                # For what other processes have recorded, as `sweep`: the doorbell rings in this one only.
                await self.say({"type": "recorded"})
        await self.close(code)

    async def event_recorded(self, message: dict[str, Any]) -> None:
        await self.say({"type": "recorded"})

    async def event_interim(self, message: dict[str, Any]) -> None:
        await self.say({"type": "interim", "frame": message["frame"]})


def may_watch(session_key: str | None) -> bool:
    """Whether this browser session is one of staff who may see calls, now."""
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    user = get_user(request)
    return user.is_active and user.is_staff and user.has_perm("sessions_app.view_voicesession")
