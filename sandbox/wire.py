"""The messages of one call: JSON text streams on topic `messages`, out in one order, tool outputs in."""

import asyncio
import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from livekit import rtc

TOPIC = "messages"

_log = logging.getLogger(__name__)


class NoAnswerError(Exception):
    """The page did not answer a tool call in time."""


class Wire:
    """Lives on the event loop of its call. Messages wait for `open`: earlier ones would reach nobody."""

    def __init__(self, room: rtc.Room) -> None:
        self._room = room
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._answers: dict[str, asyncio.Future[str]] = {}
        self._readers: set[asyncio.Task[None]] = set()
        self._given_up = False
        self._open = asyncio.Event()
        self._pump = asyncio.create_task(self._send_all())
        room.register_text_stream_handler(TOPIC, self._on_stream)

    def open(self) -> None:
        """Send what is in the queue, and what will be put there: the caller is there."""
        self._open.set()

    def send(self, kind: str, **data: Any) -> None:
        """Put a message into the queue."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._queue.put_nowait(json.dumps({"type": kind, "timestamp": now, "data": data}))

    async def ask(
        self, call_id: str, tool: str, arguments: Sequence[dict[str, Any]], timeout_s: float
    ) -> str:
        """Have the page run a tool; returns its output. `arguments` are descriptors. Raises NoAnswerError."""
        if self._given_up:
            raise NoAnswerError(f"{tool}: the call is over")
        self._answers[call_id] = answer = asyncio.get_running_loop().create_future()
        self.send("tool_call", toolCallId=call_id, toolName=tool, arguments=list(arguments))
        try:
            return await asyncio.wait_for(answer, timeout_s)
        except TimeoutError:
            raise NoAnswerError(f"{tool}: no answer within {timeout_s:g} s") from None
        finally:
            del self._answers[call_id]

    def give_up(self) -> None:
        """Wait for no tool any more: each that is out, or is asked for from now on, raises NoAnswerError."""
        self._given_up = True
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(NoAnswerError("the call is over"))

    async def close(self, timeout_s: float = 1.0) -> None:
        """Wait until everything in the queue is sent, at most `timeout_s`, and stop."""
        try:
            if self._open.is_set():
                await asyncio.wait_for(self._queue.join(), timeout_s)
        except TimeoutError:
            _log.warning("%s: %d messages were not sent", self._room.name, self._queue.qsize())
        self._room.unregister_text_stream_handler(TOPIC)
        for task in (self._pump, *self._readers):
            task.cancel()

    async def _send_all(self) -> None:
        await self._open.wait()
        while True:
            message = await self._queue.get()
            try:
                await self._room.local_participant.send_text(message, topic=TOPIC)
            except ConnectionError as exc:
                _log.warning("%s: a message was not sent: %s", self._room.name, exc)
            finally:
                self._queue.task_done()

    def _on_stream(self, reader: rtc.TextStreamReader, identity: str) -> None:
        task = asyncio.create_task(self._receive(reader, identity))
        self._readers.add(task)
        task.add_done_callback(self._readers.discard)

    async def _receive(self, reader: rtc.TextStreamReader, identity: str) -> None:
        try:
            call_id, output = _tool_output(await reader.read_all())
        except (ValueError, ConnectionError) as exc:
            _log.warning("%s: a message from %s was dropped: %s", self._room.name, identity, exc)
            return
        answer = self._answers.get(call_id)
        if answer is None or answer.done():
            _log.info("%s: nobody waits for an output of tool call %s", self._room.name, call_id)
        else:
            answer.set_result(output)


def _tool_output(text: str) -> tuple[str, str]:
    """The tool call's id and output. Raises ValueError for any other message."""
    message = json.loads(text)
    if not isinstance(message, dict) or message.get("type") != "tool_call_output":
        raise ValueError("it is not a tool_call_output")
    data = message.get("data")
    if not isinstance(data, dict):
        raise ValueError("a tool_call_output without data")
    call_id, output = data.get("toolCallId"), data.get("output")
    if not (isinstance(call_id, str) and isinstance(output, str)):
        raise ValueError("a tool_call_output needs the strings toolCallId and output")
    return call_id, output
