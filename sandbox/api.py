"""The platform's REST API: session tokens, agents and call records.

Ids that never change: the one agent of this stand-in, its one published version, and an agent that belongs
to another organisation (asking for it is refused with 403).
"""

import asyncio
import hmac
import json
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

import jwt
from aiohttp import web
from livekit.api import AccessToken, VideoGrants

from sandbox.agent import DispatchError
from sandbox.calls import CallStore
from sandbox.conversation import CallRequest
from sandbox.keys import Keys
from sandbox.recordings import Recordings

CONCIERGE = "5a1c0e5e-0000-4000-8000-000000000001"
CONCIERGE_VERSION = "5a1c0e5e-0000-4000-8000-000000000002"
FOREIGN_AGENT = "5a1c0e5e-0000-4000-8000-000000000003"

BODY_LIMIT = 64 * 1024
LIST_LIMIT = 200
# The time to join. LiveKit renews the token of whoever is there, so a call may last longer, and be joined
# again after its connection broke.
TOKEN_LIFE = timedelta(seconds=90)
DISPATCH_LIMIT_S = 5.0

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger(__name__)


class ApiError(Exception):
    """An answer that is an error: its status, and a text for the developer at the other end."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


class Agent(Protocol):
    """What minting needs of the agent; `sandbox.agent.VoiceAgent` is it."""

    @property
    def ready(self) -> bool: ...

    async def dispatch(self, request: CallRequest, room: str) -> None:
        """Send the agent into the room; raises DispatchError."""


@dataclass(frozen=True)
class SessionRequest:
    """The body of a mint, checked."""

    agent_id: str
    transport: str = "websocket"
    version_id: str | None = None
    first_message: str | None = None
    prompt: str | None = None
    chat: bool = False
    chat_id: str | None = None
    variables: dict[str, str] = field(default_factory=dict)


class Api:
    """The routes, over the call records and the agent."""

    def __init__(
        self,
        calls: CallStore,
        recordings: Recordings,
        agent: Agent,
        keys: Keys,
        *,
        livekit_url: str,
        max_calls: int,
        first_message: str,
    ) -> None:
        """`first_message` is the agent's own opening line, as `GET /v1/agents` shows it."""
        self._calls = calls
        self._recordings = recordings
        self._agent = agent
        self._keys = keys
        self._livekit_url = livekit_url
        self._max_calls = max_calls
        self._first_message = first_message

    def application(self) -> web.Application:
        app = web.Application(middlewares=[_json_errors, self._authorize], client_max_size=BODY_LIMIT)
        app.router.add_post("/v1/session-token", self._mint)
        app.router.add_get("/v1/agents", self._list_agents)
        app.router.add_get("/v1/calls", self._list_calls)
        app.router.add_get("/v1/calls/{id}", self._show_call)
        app.router.add_get("/v1/calls/{id}/recording", self._show_recording)
        return app

    @web.middleware
    async def _authorize(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        # Header text may hold what is not UTF-8, as lone surrogates.
        given = key.strip().encode("utf-8", "surrogateescape")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given, self._keys.api_key.encode()):
            raise ApiError(401, "missing or unknown API key", {"WWW-Authenticate": "Bearer"})
        return await handler(request)

    async def _mint(self, request: web.Request) -> web.Response:
        asked = _parse_session_request(await _read_body(request))
        if asked.agent_id == FOREIGN_AGENT:
            raise ApiError(403, "agent_id: this agent belongs to another organization")
        if asked.agent_id != CONCIERGE:
            raise ApiError(404, "agent_id: no such agent")
        if asked.version_id not in (None, CONCIERGE_VERSION):
            raise ApiError(404, "version_id: the agent has no such published version")
        if asked.transport != "webrtc":
            raise ApiError(503, 'transport: this stand-in speaks WebRTC only; send "transport": "webrtc"')
        if not self._agent.ready:
            raise ApiError(503, "the agent is not ready yet; try again in a moment")

        identity = f"caller-{secrets.token_hex(4)}"
        call_id = self._calls.open_call(asked.agent_id, "call-{call_id}", identity, self._max_calls)
        if call_id is None:
            raise ApiError(503, "all lines are busy; try again when a call has ended")
        room = f"call-{call_id}"
        call = CallRequest(
            call_id=call_id,
            agent_id=asked.agent_id,
            identity=identity,
            first_message=asked.first_message,
            prompt=asked.prompt,
            variables=asked.variables,
        )
        try:
            async with asyncio.timeout(DISPATCH_LIMIT_S):
                await self._agent.dispatch(call, room)
        except (DispatchError, TimeoutError) as problem:
            self._calls.end_call(call_id, "dispatch_failed")
            _log.error("call %s: the agent could not be sent: %s", call_id, problem or "no answer in time")
            raise ApiError(503, "the agent cannot be reached; try again in a moment") from problem
        _log.info("call %s is open", call_id)
        return web.json_response(
            {
                "token": self._session_token(asked, call_id, identity),
                "webrtc_token": self._media_token(room, identity),
                "url": self._livekit_url,
                "room": room,
                "identity": identity,
            }
        )

    def _media_token(self, room: str, identity: str) -> str:
        grants = VideoGrants(
            room_join=True,
            room=room,
            can_publish=True,
            can_publish_sources=["microphone"],
            can_publish_data=True,
            can_subscribe=True,
        )
        token = AccessToken(self._keys.livekit_key, self._keys.livekit_secret)
        return token.with_identity(identity).with_ttl(TOKEN_LIFE).with_grants(grants).to_jwt()

    def _session_token(self, asked: SessionRequest, call_id: str, identity: str) -> str:
        claims: dict[str, Any] = {
            "iss": "sandbox",
            "aud": "platform",
            "sub": identity,
            "exp": int(time.time() + TOKEN_LIFE.total_seconds()),
            "agent_id": asked.agent_id,
            "call_id": call_id,
            "scope": "session chat" if asked.chat else "session",
        }
        if asked.chat_id is not None:
            claims["chat_id"] = asked.chat_id
        return jwt.encode(claims, self._keys.session_secret, algorithm="HS256")

    async def _list_agents(self, request: web.Request) -> web.Response:
        concierge = {
            "id": CONCIERGE,
            "name": "Concierge",
            "status": "ready" if self._agent.ready else "starting",
            "first_message": self._first_message,
            "active_version_id": CONCIERGE_VERSION,
        }
        return web.json_response({"agents": [concierge]})

    async def _list_calls(self, request: web.Request) -> web.Response:
        limit = request.query.get("limit", "50")
        if not re.fullmatch(r"[0-9]{1,4}", limit) or not 1 <= int(limit) <= LIST_LIMIT:
            raise ApiError(400, f"limit must be a number from 1 to {LIST_LIMIT}")
        try:
            calls = self._calls.list(int(limit), request.query.get("before"))
        except KeyError:
            raise ApiError(400, "before is not the id of a call") from None
        return web.json_response({"calls": calls})

    async def _show_call(self, request: web.Request) -> web.Response:
        call = self._calls.get(request.match_info["id"].lower())
        if call is None:
            raise ApiError(404, "no such call")
        return web.json_response(call)

    async def _show_recording(self, request: web.Request) -> web.FileResponse:
        call = self._calls.get(request.match_info["id"].lower())
        if call is None:
            raise ApiError(404, "no such call")
        if call["ended_at"] is None:
            raise ApiError(404, "the call is not over yet, and its recording comes at the end")
        recording = self._recordings.find(call["id"])
        if recording is None:
            raise ApiError(404, "there is no recording: the call never began, or newer calls took its place")
        return web.FileResponse(recording, headers={"Content-Type": "audio/wav"})


@web.middleware
async def _json_errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Every error is `{"error": text}`, whoever raised it."""
    try:
        return await handler(request)
    except ApiError as problem:
        return web.json_response({"error": str(problem)}, status=problem.status, headers=problem.headers)
    except web.HTTPException as problem:
        if problem.status < 400:
            raise
        headers = {"Allow": problem.headers["Allow"]} if "Allow" in problem.headers else None
        return web.json_response({"error": problem.reason}, status=problem.status, headers=headers)
    except Exception:
        _log.exception("%s %s failed", request.method, request.path)
        return web.json_response({"error": "internal error"}, status=500)


async def _read_body(request: web.Request) -> Any:
    try:
        return json.loads(await request.read())
    except web.HTTPRequestEntityTooLarge:
        raise ApiError(400, f"the body is larger than {BODY_LIMIT // 1024} KiB") from None
    except (ValueError, RecursionError):
        raise ApiError(400, "the body is not JSON") from None


def _parse_session_request(body: Any) -> SessionRequest:
    if not isinstance(body, dict):
        raise ApiError(400, "the body must be a JSON object")
    for name in body:
        if name not in _FIELDS:
            raise ApiError(400, f"{name[:64]!r}: unknown property")
    if "agent_id" not in body:
        raise ApiError(400, "agent_id: required")
    return SessionRequest(**{name: _FIELDS[name](name, value) for name, value in body.items()})


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ApiError(400, f"{name}: must be a string")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can spell half a surrogate pair; nothing after us can
        raise ApiError(400, f"{name}: is not valid Unicode") from None
    return value


def _uuid(name: str, value: Any) -> str:
    if not (isinstance(value, str) and _UUID.fullmatch(value)):
        raise ApiError(400, f"{name}: must be a UUID")
    return value.lower()


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ApiError(400, f"{name}: must be true or false")
    return value


def _transport(name: str, value: Any) -> str:
    if value not in ("websocket", "webrtc"):
        raise ApiError(400, f'{name}: must be "websocket" or "webrtc"')
    return str(value)


def _variables(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, list):
        raise ApiError(400, f"{name}: must be an array of {{key, value}}")
    variables = {}
    for number, item in enumerate(value):
        where = f"{name}[{number}]"
        if not isinstance(item, dict) or set(item) != {"key", "value"}:
            raise ApiError(400, f"{where}: must be an object of key and value, and nothing else")
        variables[_text(f"{where}.key", item["key"])] = _text(f"{where}.value", item["value"])
    return variables


_FIELDS: dict[str, Callable[[str, Any], Any]] = {
    "agent_id": _uuid,
    "transport": _transport,
    "version_id": _uuid,
    "first_message": _text,
    "prompt": _text,
    "chat": _flag,
    "chat_id": _uuid,
    "variables": _variables,
}
