"""The client of the voice platform: what it sends, what it makes of each answer, how it keeps its secrets."""

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

import httpx
import pytest

from sessions_app import vatel
from sessions_app.vatel import VatelClient

from .platform import CREDENTIAL, platform

AGENT = UUID("5a1c0e5e-0000-4000-8000-000000000001")
KEY = "the-key-of-this-test"

Handler = Callable[[httpx.Request], httpx.Response]


def client(handler: Handler) -> VatelClient:
    return VatelClient("https://platform.test", KEY, transport=httpx.MockTransport(handler))


def answering(status: int, **content: Any) -> VatelClient:
    return client(lambda request: response(status, **content))


def response(status: int, **content: Any) -> httpx.Response:
    """As it comes from a network: not read yet."""
    return httpx.Response(status, stream=httpx.ByteStream(httpx.Response(status, **content).content))


def test_mint_sends_the_documented_request_and_nothing_else() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return response(200, json=CREDENTIAL)

    client(answer).generate_session_token(AGENT)
    client(answer).generate_session_token(AGENT, first_message="Hello", variables={"name": "Ada"}, chat=False)
    assert [str(request.url) for request in seen] == ["https://platform.test/v1/session-token"] * 2
    assert seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert json.loads(seen[0].content) == {"agent_id": str(AGENT), "transport": "webrtc"}
    assert json.loads(seen[1].content) == {
        "agent_id": str(AGENT),
        "transport": "webrtc",
        "first_message": "Hello",
        "chat": False,
        "variables": [{"key": "name", "value": "Ada"}],
    }


def test_mint_gives_the_credential() -> None:
    token = answering(200, json=CREDENTIAL | {"added_later": 1}).generate_session_token(AGENT)
    assert {name: getattr(token, name) for name in CREDENTIAL} == CREDENTIAL


def test_path_of_the_base_url_is_kept() -> None:
    with platform() as server:
        VatelClient(f"{server.url}/eu", KEY).generate_session_token(AGENT)
    assert server.requests[0].path == "/eu/v1/session-token"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, vatel.VatelRejectedError),
        (401, vatel.VatelKeyRefusedError),
        (403, vatel.VatelAgentForeignError),
        (404, vatel.VatelAgentUnknownError),
        (503, vatel.VatelBusyError),
        (500, vatel.VatelFailedError),
        (502, vatel.VatelFailedError),
        (418, vatel.VatelFailedError),
        (204, vatel.VatelFailedError),
        (307, vatel.VatelFailedError),
    ],
)
@pytest.mark.parametrize("content", [{"json": {"error": "because"}}, {"text": "<html>"}, {"text": ""}])
def test_status_has_its_own_error(
    status: int, error: type[vatel.VatelError], content: dict[str, Any]
) -> None:
    with pytest.raises(error, match=f"answered {status}"):
        answering(status, **content).generate_session_token(AGENT)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"text": "<html>Welcome</html>"}, "not JSON"),
        ({"text": ""}, "not JSON"),
        ({"text": "[" * 60_000}, "not JSON"),
        ({"json": ["token"]}, "not a JSON object"),
        ({"json": CREDENTIAL | {"room": None}}, "room"),
        ({"json": CREDENTIAL | {"room": "r" * 256}}, "room"),
        ({"json": CREDENTIAL | {"url": "https://media.test"}}, "url"),
        ({"json": CREDENTIAL | {"url": "wss://user@media.test"}}, "url"),
        ({"json": CREDENTIAL | {"url": "wss://media.test:port"}}, "url"),
        ({"json": CREDENTIAL | {"padding": "x" * 70_000}}, "over 65536 bytes"),
    ],
)
def test_yes_in_another_form_is_a_bad_answer(content: dict[str, Any], names: str) -> None:
    with pytest.raises(vatel.VatelBadAnswerError, match=names) as caught:
        answering(200, **content).generate_session_token(AGENT)
    assert "eyJ" not in str(caught.value)


@pytest.mark.parametrize("change", [{"webrtc_token": ""}, {"webrtc_token": 5}, {"webrtc_token": None}])
def test_yes_without_a_token_for_the_browser_is_told_apart(change: dict[str, Any]) -> None:
    with pytest.raises(vatel.VatelNoTokenError, match="webrtc_token") as caught:
        answering(200, json=CREDENTIAL | change).generate_session_token(AGENT)
    assert "eyJ" not in str(caught.value)


@pytest.mark.parametrize("cause", [httpx.ConnectTimeout, httpx.ReadTimeout, httpx.PoolTimeout])
def test_timeout(cause: type[httpx.TimeoutException]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise cause("timed out", request=request)

    with pytest.raises(vatel.VatelTimeoutError, match=cause.__name__):
        client(answer).generate_session_token(AGENT)


def test_waiting_has_limits() -> None:
    seen: list[dict[str, float]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"])
        return response(200, json=CREDENTIAL)

    client(answer).generate_session_token(AGENT)
    assert seen == [{"connect": 3.0, "read": 10.0, "write": 10.0, "pool": 10.0}]


def test_refused_connection_and_unknown_host_are_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    for base_url in (f"http://127.0.0.1:{port}", "http://host.invalid"):
        with pytest.raises(vatel.VatelUnreachableError, match="ConnectError"):
            VatelClient(base_url, KEY).generate_session_token(AGENT)


def test_broken_answer_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.recv(65536)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(vatel.VatelUnreachableError):
            VatelClient(f"http://127.0.0.1:{server.getsockname()[1]}", KEY).generate_session_token(AGENT)
        thread.join()


def test_answer_that_only_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vatel, "TOTAL_S", 0.1)
    given_up = threading.Event()

    def drip() -> None:
        connection, _ = server.accept()
        with connection, suppress(ConnectionError):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
            while not given_up.wait(0.01):
                connection.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(vatel.VatelTimeoutError, match="not complete after"):
                VatelClient(f"http://127.0.0.1:{server.getsockname()[1]}", KEY).generate_session_token(AGENT)
        finally:
            given_up.set()
            thread.join()


def test_redirect_does_not_carry_the_key_elsewhere() -> None:
    with (
        platform() as elsewhere,
        platform(307, Location=f"{elsewhere.url}/v1/session-token") as server,
        pytest.raises(vatel.VatelFailedError),
    ):
        VatelClient(server.url, KEY).generate_session_token(AGENT)
    assert elsewhere.requests == []


def test_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with platform() as server:
        VatelClient(server.url, KEY).generate_session_token(AGENT)
    assert len(server.requests) == 1


def test_a_call_is_asked_for_by_its_name_whatever_that_is() -> None:
    with platform() as server:
        known = VatelClient(server.url, KEY)
        server.calls = {"call-77": (200, {"status": "ended"}), "..%2Fagents%3Fx%3D1": (200, ["a", "name"])}
        assert known.get_call("call-77") == {"status": "ended"}
        assert known.get_call("../agents?x=1") == ["a", "name"]
        for nothing in ("..", ".", "call-78"):
            with pytest.raises(vatel.VatelCallUnknownError):
                known.get_call(nothing)
    assert [request.path for request in server.requests] == [
        "/v1/calls/call-77",
        "/v1/calls/..%2Fagents%3Fx%3D1",
        "/v1/calls/call-78",
    ]
    assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, vatel.VatelRejectedError),
        (401, vatel.VatelKeyRefusedError),
        (403, vatel.VatelAgentForeignError),
        (404, vatel.VatelCallUnknownError),
        (500, vatel.VatelFailedError),
        (503, vatel.VatelBusyError),
    ],
)
def test_status_of_a_call_has_its_own_error(status: int, error: type[vatel.VatelError]) -> None:
    with pytest.raises(error, match=f"answered {status}"):
        answering(status, text="").get_call("call-77")


def test_a_record_may_be_long_but_not_endless() -> None:
    megabyte = "x" * 1024 * 1024
    assert answering(200, json=[megabyte] * 7).get_call("call-77") == [megabyte] * 7
    with pytest.raises(vatel.VatelBadAnswerError, match="over 8388608 bytes"):
        answering(200, json=[megabyte] * 8).get_call("call-77")


def test_secrets_show_in_no_repr_and_no_error() -> None:
    token = answering(200, json=CREDENTIAL).generate_session_token(AGENT)
    assert CREDENTIAL["token"] not in repr(token)
    assert CREDENTIAL["webrtc_token"] not in repr(token)
    assert KEY not in repr(client(lambda request: httpx.Response(200)))
    quoting = {"error": f"the key {KEY} cannot use eyJhbGciOi.eyJzdWIi.c2lnbmF0dXJl"}
    with pytest.raises(vatel.VatelKeyRefusedError) as caught:
        answering(401, json=quoting).generate_session_token(AGENT)
    assert "the key [key] cannot use [token]" in str(caught.value)


def test_key_that_no_header_can_hold_is_not_told() -> None:
    with platform() as server, pytest.raises(vatel.VatelError, match=r"header.*\[key\]") as caught:
        VatelClient(server.url, f"{KEY}\n").generate_session_token(AGENT)
    assert KEY not in str(caught.value)
    assert server.requests == []


@pytest.mark.parametrize(
    "text",
    [
        "WebRTC is not configured on this stack",
        "the webrtc transport isn't enabled",
        "LiveKit has NOT been set up",
        "media: unconfigured",
    ],
)
def test_platform_that_is_not_set_up_is_told_from_one_that_is_busy(text: str) -> None:
    for content in ({"json": {"error": text}}, {"text": text}):
        with pytest.raises(vatel.VatelNotConfiguredError, match="answered 503"):
            answering(503, **content).generate_session_token(AGENT)
    with pytest.raises(vatel.VatelBusyError):
        answering(503, text=text).get_call("call-77")  # which has nothing to do with browsers


def test_agents_are_asked_for_with_the_key_and_their_list_may_be_long() -> None:
    agents = [{"id": str(AGENT), "prompt": "x" * 900_000}]
    with platform() as server:
        server.agents = 200, agents
        assert VatelClient(server.url, KEY).list_agents() == agents
        server.agents = 401, {"error": "unknown key"}
        with pytest.raises(vatel.VatelKeyRefusedError):
            VatelClient(server.url, KEY).list_agents()
    with pytest.raises(vatel.VatelBadAnswerError, match="over 1048576 bytes"):
        answering(200, json=agents * 2).list_agents()


def test_every_error_has_a_code_of_its_own() -> None:
    errors = vatel.VatelError.__subclasses__()
    assert len({error.code for error in errors}) == len(errors) == 12


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("wss://sip.vatel.ai", "wss://sip.vatel.ai"),
        ("wss://SIP.vatel.ai:443/rtc?x=1", "wss://sip.vatel.ai"),
        ("ws://127.0.0.1:7880", "ws://127.0.0.1:7880"),
        ("ws://[::1]:7880/", "ws://[::1]:7880"),
        ("https://sip.vatel.ai", None),
        ("wss://", None),
        ("wss://[bad", None),
        ("javascript:alert(1)", None),
    ],
)
def test_origin_of(url: str, origin: str | None) -> None:
    assert vatel.origin_of(url) == origin
