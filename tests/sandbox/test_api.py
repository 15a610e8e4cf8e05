"""The REST API as a client sees it, over HTTP. Its agent here only takes dispatches: no models, no rooms."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from sandbox.agent import DispatchError
from sandbox.api import CONCIERGE, CONCIERGE_VERSION, FOREIGN_AGENT, Api
from sandbox.calls import CallStore
from sandbox.conversation import CallRequest
from sandbox.keys import Keys
from sandbox.recordings import Recordings

KEYS = Keys("the-organizations-api-key", "livekit-key", "livekit-secret-" * 3, "session-secret-" * 3)
AUTHORIZED = {"Authorization": f"Bearer {KEYS.api_key}"}
MINT = {"agent_id": CONCIERGE, "transport": "webrtc"}


class Dispatches:
    """The seam: what the API asks of the agent, kept."""

    def __init__(self) -> None:
        self.ready = True
        self.problem: Exception | None = None
        self.sent: list[tuple[CallRequest, str]] = []

    async def dispatch(self, request: CallRequest, room: str) -> None:
        if self.problem is not None:
            raise self.problem
        self.sent.append((request, room))


class Platform:
    """The API with its parts; each `ask` is one HTTP request to a real server on a free port."""

    def __init__(self, folder: Path) -> None:
        self.calls = CallStore(folder / "calls.db")
        self.agent = Dispatches()
        self.recordings = Recordings(folder / "recordings")
        self.api = Api(
            self.calls,
            self.recordings,
            self.agent,
            KEYS,
            livekit_url="ws://127.0.0.1:7880",
            max_calls=2,
            first_message="Hello, this is the concierge.",
        )

    def ask(self, method: str, path: str, **request: Any) -> tuple[int, Any]:
        """Status and JSON of the answer. Every answer must be JSON."""

        async def once() -> tuple[int, Any]:
            server = TestServer(self.api.application())
            await server.start_server()
            try:
                async with (
                    ClientSession() as http,
                    http.request(method, server.make_url(path), **request) as answer,
                ):
                    assert answer.content_type == "application/json"
                    return answer.status, await answer.json()
            finally:
                await server.close()

        return asyncio.run(once())

    def get(self, path: str) -> tuple[int, Any]:
        return self.ask("GET", path, headers=AUTHORIZED)

    def mint(self, body: Any = None, **fields: Any) -> tuple[int, Any]:
        return self.ask("POST", "/v1/session-token", headers=AUTHORIZED, json=body or {**MINT, **fields})


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    platform = Platform(tmp_path)
    yield platform
    platform.calls.close()


def test_a_mint_sends_the_agent_and_returns_the_credential(platform: Platform) -> None:
    status, credential = platform.mint(
        version_id=CONCIERGE_VERSION,
        first_message="Good day.",
        prompt="Be brief.",
        chat=True,
        chat_id="0f0e0d0c-0000-4000-8000-000000000000",
        variables=[{"key": "name", "value": "Ada"}, {"key": "city", "value": "Zürich"}],
    )
    assert status == 200
    assert set(credential) == {"token", "webrtc_token", "url", "room", "identity"}
    ((request, room),) = platform.agent.sent
    assert request == CallRequest(
        call_id=request.call_id,
        agent_id=CONCIERGE,
        identity=credential["identity"],
        first_message="Good day.",
        prompt="Be brief.",
        variables={"name": "Ada", "city": "Zürich"},
    )
    assert credential["url"] == "ws://127.0.0.1:7880"
    assert credential["room"] == room == f"call-{request.call_id}"
    status, call = platform.get(f"/v1/calls/{request.call_id}")
    assert (status, call["status"], call["room"], call["identity"]) == (
        200,
        "connected",
        room,
        credential["identity"],
    )


def test_the_media_token_opens_one_room_for_a_microphone(platform: Platform) -> None:
    _, credential = platform.mint()
    claims = jwt.decode(credential["webrtc_token"], KEYS.livekit_secret, algorithms=["HS256"])
    assert claims["iss"] == KEYS.livekit_key
    assert claims["sub"] == credential["identity"]
    assert claims["exp"] - claims["nbf"] == 90
    assert claims["video"] == {
        "roomJoin": True,
        "room": credential["room"],
        "canPublish": True,
        "canPublishSources": ["microphone"],
        "canPublishData": True,
        "canSubscribe": True,
    }


def test_the_platform_token_is_no_media_token(platform: Platform) -> None:
    _, credential = platform.mint(chat=True)
    claims = jwt.decode(
        credential["token"], KEYS.session_secret, algorithms=["HS256"], audience="platform", issuer="sandbox"
    )
    assert claims["sub"] == credential["identity"]
    assert claims["scope"] == "session chat"
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(credential["token"], KEYS.livekit_secret, algorithms=["HS256"], audience="platform")


def test_each_mint_has_its_own_room_and_identity(platform: Platform) -> None:
    (_, first), (_, second) = platform.mint(), platform.mint(agent_id=CONCIERGE.upper())
    assert first["room"] != second["room"]
    assert first["identity"] != second["identity"]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"agent_id": "concierge"}, "agent_id: must be a UUID"),
        ({"agent_id": CONCIERGE.replace("-", "")}, "agent_id: must be a UUID"),
        ({"agent_id": 7}, "agent_id: must be a UUID"),
        ({"agent_id": None}, "agent_id: must be a UUID"),
        ({"transport": "sip"}, 'transport: must be "websocket" or "webrtc"'),
        ({"transport": ["webrtc"]}, 'transport: must be "websocket" or "webrtc"'),
        ({"version_id": "latest"}, "version_id: must be a UUID"),
        ({"first_message": ["Hello"]}, "first_message: must be a string"),
        ({"first_message": "\ud800"}, "first_message: is not valid Unicode"),
        ({"prompt": 1}, "prompt: must be a string"),
        ({"chat": "yes"}, "chat: must be true or false"),
        ({"chat": 1}, "chat: must be true or false"),
        ({"chat_id": 1}, "chat_id: must be a UUID"),
        ({"variables": {"name": "Ada"}}, "variables: must be an array of {key, value}"),
        (
            {"variables": [{"key": "name", "value": "Ada"}, {"key": "name"}]},
            "variables[1]: must be an object of key and value, and nothing else",
        ),
        (
            {"variables": [{"key": "name", "value": "Ada", "type": "string"}]},
            "variables[0]: must be an object of key and value, and nothing else",
        ),
        ({"variables": ["name"]}, "variables[0]: must be an object of key and value, and nothing else"),
        ({"variables": [{"key": "age", "value": 36}]}, "variables[0].value: must be a string"),
        ({"voice": "joe"}, "'voice': unknown property"),
    ],
)
def test_a_bad_field_is_named(platform: Platform, fields: dict[str, Any], error: str) -> None:
    assert platform.mint(**fields) == (400, {"error": error})
    assert platform.calls.list() == []
    assert platform.agent.sent == []


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b'{"agent_id": "\xff"}', "the body is not JSON"),
        (b"[" * 60_000, "the body is not JSON"),
        (b"[]", "the body must be a JSON object"),
        (b"null", "the body must be a JSON object"),
        (b'{"transport": "webrtc"}', "agent_id: required"),
        (json.dumps({**MINT, "prompt": "x" * 65_536}).encode(), "the body is larger than 64 KiB"),
    ],
)
def test_a_bad_body_is_refused(platform: Platform, body: bytes, error: str) -> None:
    answer = platform.ask("POST", "/v1/session-token", headers=AUTHORIZED, data=body)
    assert answer == (400, {"error": error})


def test_a_body_just_under_the_limit_is_taken(platform: Platform) -> None:
    room_for_prompt = 65_536 - len(json.dumps({**MINT, "prompt": ""}))
    assert platform.mint(prompt="x" * room_for_prompt)[0] == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Basic {KEYS.api_key}",
        KEYS.api_key,
        "Bearer schlüssel",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/session-token"),
        ("GET", "/v1/agents"),
        ("GET", "/v1/calls"),
        ("GET", "/v1/calls/some-call"),
        ("GET", "/v1/calls/some-call/recording"),
    ],
)
def test_nothing_works_without_the_key(
    platform: Platform, method: str, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    assert platform.ask(method, path, headers=headers) == (401, {"error": "missing or unknown API key"})


def test_agents_that_are_not_ours(platform: Platform) -> None:
    status, answer = platform.mint(agent_id=FOREIGN_AGENT)
    assert (status, answer) == (403, {"error": "agent_id: this agent belongs to another organization"})
    status, answer = platform.mint(agent_id="00000000-0000-4000-8000-000000000000")
    assert (status, answer) == (404, {"error": "agent_id: no such agent"})
    status, answer = platform.mint(version_id="00000000-0000-4000-8000-000000000000")
    assert (status, answer) == (404, {"error": "version_id: the agent has no such published version"})


@pytest.mark.parametrize("body", [{"agent_id": CONCIERGE}, {"agent_id": CONCIERGE, "transport": "websocket"}])
def test_the_websocket_transport_is_the_default_and_is_not_spoken_here(
    platform: Platform, body: dict[str, str]
) -> None:
    status, answer = platform.mint(body)
    assert status == 503
    assert "WebRTC only" in answer["error"]


def test_an_agent_that_is_not_ready(platform: Platform) -> None:
    platform.agent.ready = False
    assert platform.mint() == (503, {"error": "the agent is not ready yet; try again in a moment"})
    assert platform.get("/v1/agents")[1]["agents"][0]["status"] == "starting"


@pytest.mark.parametrize("problem", [DispatchError("no media server"), TimeoutError()])
def test_a_dispatch_that_fails_gives_its_line_back(platform: Platform, problem: Exception) -> None:
    platform.agent.problem = problem
    for _ in range(3):
        assert platform.mint() == (503, {"error": "the agent cannot be reached; try again in a moment"})
    assert {call["termination_reason"] for call in platform.calls.list()} == {"dispatch_failed"}
    platform.agent.problem = None
    assert platform.mint()[0] == 200


def test_all_lines_busy_until_a_call_ends(platform: Platform) -> None:
    assert [platform.mint()[0] for _ in range(2)] == [200, 200]
    assert platform.mint() == (503, {"error": "all lines are busy; try again when a call has ended"})
    platform.calls.end_call(platform.calls.list()[0]["id"], "caller_left")
    assert platform.mint()[0] == 200


def test_agents(platform: Platform) -> None:
    assert platform.get("/v1/agents") == (
        200,
        {
            "agents": [
                {
                    "id": CONCIERGE,
                    "name": "Concierge",
                    "status": "ready",
                    "first_message": "Hello, this is the concierge.",
                    "active_version_id": CONCIERGE_VERSION,
                }
            ]
        },
    )


def test_a_call_with_its_transcript(platform: Platform) -> None:
    platform.mint()
    call_id = platform.calls.list()[0]["id"]
    platform.calls.set_status(call_id, "in_progress")
    platform.calls.add_entry(
        call_id, role="user", message="Grüezi.", turn_id="user-1", started_at=1_700_000_000
    )
    status, call = platform.get(f"/v1/calls/{call_id}")
    assert status == 200
    assert call["status"] == "in_progress"
    assert call["transcript"]["entries"] == [
        {
            "index": 0,
            "role": "user",
            "type": "message",
            "message": "Grüezi.",
            "turnId": "user-1",
            "createdAt": "2023-11-14T22:13:20.000Z",
            "durationMs": None,
            "toolCall": None,
            "toolCallOutput": None,
        }
    ]


def test_the_list_of_calls(platform: Platform) -> None:
    ids = [platform.calls.open_call(CONCIERGE, "room", "caller", 9) for _ in range(4)]
    status, answer = platform.get("/v1/calls?limit=2")
    assert (status, [call["id"] for call in answer["calls"]]) == (200, [ids[3], ids[2]])
    status, answer = platform.get(f"/v1/calls?before={ids[2]}")
    assert (status, [call["id"] for call in answer["calls"]]) == (200, [ids[1], ids[0]])
    for limit in ("0", "201", "-1", "ten", ""):
        assert platform.get(f"/v1/calls?limit={limit}") == (
            400,
            {"error": "limit must be a number from 1 to 200"},
        )
    assert platform.get("/v1/calls?before=nobody") == (400, {"error": "before is not the id of a call"})


def test_what_does_not_exist(platform: Platform) -> None:
    assert platform.get("/v1/calls/nobody") == (404, {"error": "no such call"})
    assert platform.get("/v1/calls/nobody/recording") == (404, {"error": "no such call"})
    assert platform.get("/v2/agents") == (404, {"error": "Not Found"})
    assert platform.get("/v1/session-token") == (405, {"error": "Method Not Allowed"})


def test_nothing_secret_is_logged_or_shown(platform: Platform, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    _, credential = platform.mint(
        prompt="a secret recipe", variables=[{"key": "pin", "value": "4711-secret"}]
    )
    platform.agent.problem = DispatchError("lost")
    platform.mint()
    platform.ask("GET", "/v1/agents", headers={"Authorization": "Bearer almost-the-key"})
    shown = caplog.text + repr(KEYS)
    assert "is open" in shown
    secrets = [
        KEYS.api_key,
        KEYS.livekit_secret,
        KEYS.session_secret,
        "almost-the-key",
        "recipe",
        "4711-secret",
    ]
    for secret in [*secrets, credential["token"], credential["webrtc_token"]]:
        assert secret not in shown
