"""A platform that fails as a test wants it to: its answers, its media server's gates, and its agents.

Each of its agents is a line of its own, so that several calls with different fates can be open at once.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

from aiohttp import web
from livekit import api, rtc

from tests.e2e.gate import Gate
from tests.e2e.media_server import MediaServer
from tests.e2e.stand_in_agent import Agent, Voice

LINES = 12
GATES = 6
PATIENCE_S = 20
API_KEY = "key-of-the-stand-in"

Result = TypeVar("Result")


@dataclass(frozen=True)
class Answer:
    """What one request for a call gets: if nothing is said, a credential, and an agent that sounds a tone."""

    status: int = 200
    body: str | None = None
    """In place of the credential or of the error."""
    change: dict[str, Any] = field(default_factory=dict)
    """Of the credential: other values; None leaves a field out."""
    after_s: float = 0
    """How long the platform takes to answer."""
    is_hung_up: bool = False
    """The connection is closed with no answer."""
    lives_s: int = 90
    """Of the token; LiveKit allows for a minute, so -120 is one that has expired."""
    may_publish: bool = True
    has_agent: bool = True
    voice: Voice = "tone"
    greets: bool = True


@dataclass
class StandInCall:
    room: str
    identity: str
    agent: Agent | None = None


class Line:
    """One agent of the stand-in, as a test sees it. Its methods are for the test's thread."""

    def __init__(self, stand_in: StandIn, agent_id: str, name: str) -> None:
        self._stand_in = stand_in
        self.agent_id = agent_id
        self.name = name
        self.reset()

    def reset(self) -> None:
        self.answers: list[Answer] = [Answer()]
        """The first is used up by the first request, and so on; the last one stays."""
        self.media = self._stand_in.media
        self.gate: Gate | None = None
        self.calls: list[StandInCall] = []

    @property
    def call(self) -> StandInCall:
        return self.calls[-1]

    @property
    def agent(self) -> Agent:
        """Of the newest call."""
        agent = self.call.agent
        assert agent, "this call has no agent"
        return agent

    @property
    def minted(self) -> int:
        """How many credentials were given out."""
        return len(self.calls)

    def do(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Carry out what an agent is to do, as `line.do(line.agent.leave())`, and wait until it is done."""
        return self._stand_in.do(work)

    def callers(self) -> list[str]:
        """Who of this line's callers is in a room, as the media server says."""
        return self.do(self._callers())

    def send_agent(self, voice: Voice = "tone", *, greets: bool = True) -> Agent:
        """Let an agent join the newest call; the one before, if any, stays."""
        return self.do(self._stand_in.send_agent(self, self.call, voice, greets=greets))

    def remove_caller(self) -> None:
        call = self.call
        self.do(self._api_call("remove_participant", call))

    def delete_room(self) -> None:
        self.do(self._api_call("delete_room", self.call))

    def take_callers_place(self) -> None:
        """Join the newest call under the caller's own name, as another device with its token; then go."""
        self.do(self._take_place(self.call))

    async def _callers(self) -> list[str]:
        found = []
        async with self._stand_in.livekit(self.media) as livekit:
            for call in self.calls:
                try:
                    answer = await livekit.room.list_participants(api.ListParticipantsRequest(room=call.room))
                except api.TwirpError as error:
                    if error.code != api.TwirpErrorCode.NOT_FOUND:
                        raise
                    continue
                found += [who.identity for who in answer.participants if who.identity == call.identity]
        return found

    async def _api_call(self, method: str, call: StandInCall) -> None:
        async with self._stand_in.livekit(self.media) as livekit:
            if method == "delete_room":
                await livekit.room.delete_room(api.DeleteRoomRequest(room=call.room))
            else:
                who = api.RoomParticipantIdentity(room=call.room, identity=call.identity)
                await livekit.room.remove_participant(who)

    async def _take_place(self, call: StandInCall) -> None:
        guest = rtc.Room()
        await guest.connect(self.media.url, self._stand_in.token(self.media, call.room, call.identity))
        await guest.disconnect()

    async def close(self) -> None:
        """Everybody whom the stand-in has sent leaves."""
        for call in self.calls:
            if call.agent:
                await call.agent.leave()


class StandIn:
    """The platform, in a thread of its own, on a free port."""

    def __init__(self, media: MediaServer) -> None:
        self.media = media
        self.base_url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stand-in", daemon=True)
        self._lines = [
            Line(self, str(UUID(int=0x4000_8000 << 48 | number, version=4)), f"Line {number}")
            for number in range(1, LINES + 1)
        ]
        self._free_lines = list(self._lines)
        self._gates = [Gate(self._loop) for _ in range(GATES)]
        self._free_gates = list(self._gates)
        self._servers: list[asyncio.Server] = []
        self._stopping = asyncio.Event()

    def start(self) -> None:
        self._thread.start()
        self.do(self._serve())

    def stop(self) -> None:
        self.do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def environment(self) -> dict[str, str]:
        """Settings of a site that talks to this platform."""
        origins = [self.media.url, *(gate.url for gate in self._gates)]
        return {
            "VATEL_BASE_URL": self.base_url,
            "VATEL_API_KEY": API_KEY,
            "VATEL_AGENT_IDS": ",".join(line.agent_id for line in self._lines),
            "VATEL_MEDIA_ORIGINS": ",".join(origins),
        }

    def open_line(self, *answers: Answer, media: MediaServer | None = None, gated: bool = False) -> Line:
        """A line that nobody else uses. media: another server than the usual; gated: behind a gate."""
        line = self._free_lines.pop(0)
        line.answers = list(answers) or line.answers
        line.media = media or self.media
        if gated:
            line.gate = self._free_gates.pop(0)
            line.gate.target = line.media.port
        return line

    def close_line(self, line: Line) -> None:
        self.do(line.close())
        if line.gate:
            line.gate.mode = "pass"
            line.gate.cut()
            self._free_gates.append(line.gate)
        line.reset()
        self._free_lines.append(line)

    def do(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def livekit(self, media: MediaServer) -> api.LiveKitAPI:
        return api.LiveKitAPI(f"http://127.0.0.1:{media.port}", media.key, media.secret)

    def token(
        self,
        media: MediaServer,
        room: str,
        identity: str,
        lives_s: int = 90,
        *,
        is_agent: bool = False,
        may_publish: bool = True,
    ) -> str:
        token = api.AccessToken(media.key, media.secret).with_identity(identity)
        rights = api.VideoGrants(room_join=True, room=room, agent=is_agent, can_publish=may_publish)
        return token.with_ttl(timedelta(seconds=lives_s)).with_grants(rights).to_jwt()

    async def send_agent(self, line: Line, call: StandInCall, voice: Voice, *, greets: bool) -> Agent:
        agent = Agent(call.room, greets=greets)
        call.agent = agent
        name = f"agent-{uuid4().hex[:8]}"
        await agent.join(line.media.url, self.token(line.media, call.room, name, is_agent=True), voice)
        return agent

    # ------------------------------------------------------------------ HTTP

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/session-token", self._mint)
        app.router.add_get("/v1/agents", self._list_agents)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._servers = [await gate.serve() for gate in self._gates]

    async def _close(self) -> None:
        self._stopping.set()
        await self._runner.cleanup()
        for server in self._servers:
            server.close()
        for gate in self._gates:
            gate.cut()

    async def _list_agents(self, request: web.Request) -> web.Response:
        agents = [{"id": line.agent_id, "name": line.name, "status": "ready"} for line in self._lines]
        return web.json_response({"agents": agents})

    async def _mint(self, request: web.Request) -> web.Response:
        agent_id = (await request.json())["agent_id"]
        line = next(line for line in self._lines if line.agent_id == agent_id)
        answer = line.answers.pop(0) if len(line.answers) > 1 else line.answers[0]
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), answer.after_s)
        if answer.is_hung_up or self._stopping.is_set():
            if request.transport:
                request.transport.abort()
            return web.Response(status=503)
        if answer.status != 200 or answer.body is not None:
            return web.Response(status=answer.status, text=answer.body or "", content_type="application/json")
        return web.json_response(await self._credential(line, answer))

    async def _credential(self, line: Line, answer: Answer) -> dict[str, Any]:
        call = StandInCall(f"call-{uuid4()}", f"caller-{uuid4().hex[:8]}")
        line.calls.append(call)
        if answer.has_agent:
            await self.send_agent(line, call, answer.voice, greets=answer.greets)
        token = self.token(
            line.media, call.room, call.identity, answer.lives_s, may_publish=answer.may_publish
        )
        credential = {
            "token": "token-of-the-platform",
            "webrtc_token": token,
            "url": line.gate.url if line.gate else line.media.url,
            "room": call.room,
            "identity": call.identity,
        }
        return {name: text for name, text in {**credential, **answer.change}.items() if text is not None}


def failing(answer: Answer | None = None, **what: Any) -> tuple[Answer, Answer]:
    """Answers of a line whose first call fails so, and whose next ones work."""
    return replace(answer or Answer(), **what), Answer()


def error(text: str) -> str:
    """The body of a platform's error."""
    return json.dumps({"error": text})
