"""A page that keeps to the relay's contract, and a witness of what it is told."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection
from django.db.models import QuerySet
from django.test import Client

from sessions_app.models import SessionEvent, VoiceSession

from .sockets import PATIENCE_S, Socket

WINDOW = 6
"""The tests' own, so that short schedules come to it."""


class Witness(asyncio.Queue[dict[str, Any]]):
    """What a socket's page will hear. At the moment in which it is said, the database must agree."""

    threads = ThreadPoolExecutor(1, thread_name_prefix="witness")

    def __init__(self, session: VoiceSession, lies: list[str]) -> None:
        super().__init__()
        self.session, self.lies = session, lies

    async def put(self, item: dict[str, Any]) -> None:
        if item["type"] == "websocket.send":
            message = json.loads(item["text"])
            # The loop stands still meanwhile: nothing can be committed by it between the word and the look.
            if not self.threads.submit(self.is_true, message).result():
                self.lies.append(f"{message} was said too early")
        await super().put(item)

    def is_true(self, message: dict[str, Any]) -> bool:
        lines: QuerySet[SessionEvent] = SessionEvent.objects.filter(session=self.session, source="browser")
        match message["type"]:
            case "welcome" | "ack":
                return lines.filter(seq__lte=message["ack"]).count() == int(message["ack"])
            case "nack":
                return lines.filter(seq=message["seq"], type="rejected").exists()
        return True


@dataclass
class Page:
    """Reports a call: resumes where the log ends, minds the window, sends again."""

    client: Client
    session: VoiceSession
    frames: list[dict[str, Any]]
    lies: list[str] = field(default_factory=list)
    acked: int = 0
    acked_when_it_came: int = 0
    sent: int = 0
    """The last number sent on the socket."""
    socket: Socket | None = None
    socket_acked: int = 0
    is_welcome: bool = False
    is_beyond_socket: bool = False
    """The second door has stored what this socket never saw: the next frame will be a gap to it."""
    outputs: dict[str, str] = field(default_factory=dict)
    closes: list[int] = field(default_factory=list)
    lost_sockets: list[Socket] = field(default_factory=list)
    posts: list[asyncio.Task[None]] = field(default_factory=list)

    def connect(self) -> None:
        """The older socket, if there is one, is forgotten, but stays open on the server's side."""
        if self.socket is not None:
            self.lost_sockets.append(self.socket)
        self.socket = Socket.relay(self.client, self.session, "page-one")
        self.socket.communicator._output_queue = Witness(self.session, self.lies)
        self.put({"type": "websocket.connect"})
        self.acked_when_it_came = self.acked
        self.is_welcome = self.is_beyond_socket = False

    def put(self, message: dict[str, Any]) -> None:
        assert self.socket is not None
        assert self.socket.communicator.future is not None  # starts the application
        self.socket.communicator.input_queue.put_nowait(message)

    def cut(self) -> None:
        if self.socket is not None:
            self.put({"type": "websocket.disconnect", "code": 1006})
            self.lost_sockets.append(self.socket)
            self.socket = None

    async def come(self) -> None:
        """Connected, and told where to go on."""
        self.hear()
        while self.socket is None or not self.is_welcome:
            if self.socket is None:
                self.connect()
            await self.hear_next()

    def send(self, number: int) -> None:
        for _ in range(number):
            may_send = self.socket is not None and self.is_welcome
            if not may_send or self.sent == len(self.frames) or self.sent >= self.socket_acked + WINDOW:
                return
            self.sent += 1
            self.put({"type": "websocket.receive", "text": json.dumps(self.frames[self.sent - 1])})

    def repeat(self, back: int) -> None:
        if self.socket is not None and self.is_welcome and self.sent > back:
            self.put({"type": "websocket.receive", "text": json.dumps(self.frames[self.sent - 1 - back])})

    def post(self, number: int) -> None:
        """By the second door, what may be under way on the socket as well."""
        frames = self.frames[self.acked : self.acked + number]
        self.posts.append(asyncio.create_task(self.post_frames(frames)))

    async def post_frames(self, frames: list[dict[str, Any]]) -> None:
        def post() -> Any:
            client = Client(raise_request_exception=False)
            client.cookies = self.client.cookies
            path = f"/sessions/{self.session.pk}/events/"
            try:
                return client.post(path, json.dumps({"frames": frames}), content_type="application/json")
            finally:
                connection.close()

        response = await sync_to_async(post, thread_sensitive=False)()
        if response.status_code == 200:
            self.acked = max(self.acked, response.json()["ack"])
            if self.acked > self.sent:
                self.sent, self.is_beyond_socket = self.acked, True
        else:
            assert response.status_code == 500, response.content  # a database that fails

    def hear(self) -> None:
        """All that has come by now."""
        while self.socket is not None and not self.socket.communicator.output_queue.empty():
            self.listen(self.socket.communicator.output_queue.get_nowait())

    async def hear_next(self) -> None:
        assert self.socket is not None
        async with asyncio.timeout(PATIENCE_S):
            self.listen(await self.socket.communicator.output_queue.get())

    def listen(self, output: dict[str, Any]) -> None:
        if output["type"] == "websocket.close":
            assert self.socket is not None
            self.closes.append(output["code"])
            self.lost_sockets.append(self.socket)
            self.socket = None
        if output["type"] != "websocket.send":
            return
        message = json.loads(output["text"])
        match message["type"]:
            case "welcome":
                # Not of now: the second door may have stored more since.
                assert (message["ack"] >= self.acked_when_it_came, message["window"]) == (True, WINDOW)
                self.sent = self.socket_acked = message["ack"]
                self.acked = max(self.acked, message["ack"])
                self.is_welcome = True
            case "ack":
                assert self.socket_acked <= message["ack"] <= self.sent
                self.socket_acked = message["ack"]
                self.acked = max(self.acked, message["ack"])
            case "tool_call_output":
                call_id, answer = message["data"]["toolCallId"], message["data"]["output"]
                assert self.outputs.setdefault(call_id, answer) == answer
            case "refused" if message["code"] == "gap":
                assert self.is_beyond_socket
            case "refused":
                assert message["code"] != "window"

    async def finish(self) -> None:
        """In the end the page has a good day, and gets rid of everything; its tool calls are answered."""
        await asyncio.gather(*self.posts)
        self.connect()
        while not await self.is_done():
            self.send(len(self.frames))
            await self.hear_next()

    async def is_done(self) -> bool:
        await self.come()
        if self.acked < len(self.frames):
            return False
        calls = SessionEvent.objects.filter(session=self.session, type="tool_call")
        return {call.data["toolCallId"] async for call in calls} <= self.outputs.keys()

    def everything(self) -> list[Socket]:
        return [*self.lost_sockets, *([self.socket] if self.socket else [])]
