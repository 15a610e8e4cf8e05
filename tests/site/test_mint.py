"""POST /sessions/: what a page gets, what it is told when it gets nothing, and what stays behind."""

import json
import logging
import socket
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import TestCase, override_settings

from sessions_app import vatel
from sessions_app.models import VoiceSession
from sessions_app.situations import SITUATIONS

from .page import Page
from .platform import CREDENTIAL, platform

AGENT = "5a1c0e5e-0000-4000-8000-000000000001"
OTHER_AGENT = "5a1c0e5e-0000-4000-8000-000000000002"
CODES = {error.code for error in vatel.VatelError.__subclasses__()}


class MintTests(TestCase):
    def refused(self, response: Any, status: int, code: str) -> str:
        """The message that goes with the code; nothing but the two is told."""
        assert (response.status_code, response.headers["Content-Type"]) == (status, "application/json")
        error = response.json()["error"]
        assert response.json() == {"error": {"code": code, "message": error["message"]}}
        return str(error["message"])

    def test_credential(self) -> None:
        page = Page()
        with platform() as server:
            response = page.mint({"agent_id": AGENT, "consent": page.consent})
        session = VoiceSession.objects.get()
        assert response.status_code == 201
        assert response.json() == {
            "session": str(session.pk),
            "relay_url": f"/ws/sessions/{session.pk}/",
            "webrtc_token": CREDENTIAL["webrtc_token"],
            "url": CREDENTIAL["url"],
            "room": CREDENTIAL["room"],
            "identity": CREDENTIAL["identity"],
        }
        assert "no-store" in response.headers["Cache-Control"]
        assert (session.state, session.end_reason, session.visitor) == ("created", "", page.visitor)
        assert (str(session.agent_id), session.agent_name) == (AGENT, "Concierge")
        assert (session.room, session.identity) == (CREDENTIAL["room"], CREDENTIAL["identity"])
        assert [request.body for request in server.requests] == [{"agent_id": AGENT, "transport": "webrtc"}]
        assert server.requests[0].headers["Authorization"] == f"Bearer {settings.VATEL_API_KEY}"

    def test_only_agent_need_not_be_named(self) -> None:
        with platform() as server:
            page = Page()
            form = {"consent": page.consent}
            posted = page.client.post("/sessions/", form, headers={"X-CSRFToken": page.csrf})
            assert [page.mint({"consent": page.consent}).status_code, posted.status_code] == [201, 201]
        assert [request.body["agent_id"] for request in server.requests] == [AGENT, AGENT]

    @override_settings(VATEL_AGENT_IDS=[UUID(AGENT), UUID(OTHER_AGENT)])
    def test_one_of_several_agents(self) -> None:
        names = [{"id": AGENT, "name": "Concierge"}, {"id": OTHER_AGENT, "name": "Porter"}]
        with platform() as server:
            server.agents = 200, names
            page = Page(f"/agents/{OTHER_AGENT}/")
            form = {"agent_id": OTHER_AGENT, "consent": page.consent}
            posted = page.client.post("/sessions/", form, headers={"X-CSRFToken": page.csrf})
            assert posted.status_code == 201
            self.refused(page.mint({"consent": page.consent}), 400, "bad_request")
        assert [request.body for request in server.requests] == [
            {"agent_id": OTHER_AGENT, "transport": "webrtc"}
        ]
        assert VoiceSession.objects.get().agent_name == "Porter"

    @override_settings(VATEL_AGENT_IDS=[UUID(AGENT), UUID(OTHER_AGENT)])
    def test_agent_that_the_platform_has_no_more_is_not_called(self) -> None:
        with platform() as server:
            page = Page()
            self.refused(page.mint({"agent_id": OTHER_AGENT, "consent": page.consent}), 400, "unknown_agent")
        assert server.requests == []

    def test_logged_in_user_is_noted(self) -> None:
        page = Page()
        user = User.objects.create_user("ada")
        page.client.force_login(user)
        with platform():
            assert page.start().status_code == 201
        assert VoiceSession.objects.get().user == user

    def test_bad_requests(self) -> None:
        page = Page()
        for body in (b"{", b"\xff", "null", "[]", '"x"', '{"agent_id": 5}', '{"agent_id": NaN}', "[" * 9999):
            self.refused(page.mint(body), 400, "bad_request")
        too_large = {"agent_id": AGENT, "padding": "x" * 20_000}
        assert "16384 bytes" in self.refused(page.mint(too_large), 400, "bad_request")
        for agent in (OTHER_AGENT, "concierge", ""):
            self.refused(page.mint({"agent_id": agent}), 400, "unknown_agent")
        assert page.client.get("/sessions/").status_code == 405
        assert not VoiceSession.objects.exists()

    def test_csrf(self) -> None:
        page = Page()
        for headers in (
            {"X-CSRFToken": ""},
            {"X-CSRFToken": "a" * 64},
            {"Origin": "https://elsewhere.example"},
        ):
            message = self.refused(page.mint({}, **headers), 403, "csrf_failed")
            assert "Reload" in message
        assert not VoiceSession.objects.exists()
        login = page.client.post("/admin/login/", {"username": "a", "password": "b"})
        assert (login.status_code, login.headers["Content-Type"]) == (403, "text/html; charset=utf-8")

    def failed_mint(self, status: int, code: str) -> None:
        """The visitor gets the sentence for the code, the call is on record as failed, and takes no place."""
        assert self.refused(Page().start(), status, code) == SITUATIONS[code].sentence
        session = VoiceSession.objects.latest("created_at")
        assert (session.state, session.end_reason, session.room) == ("ended", "failed", "")
        assert [(event.source, event.type, event.data) for event in session.events.all()] == [
            ("server", "ended", {"reason": "failed"})
        ]

    def test_platform_rejects_the_request(self) -> None:
        with platform(400, {"error": "prompt: too long"}):
            self.failed_mint(502, "platform_rejected")

    def test_platform_refuses_the_key(self) -> None:
        with platform(401, {"error": "invalid key"}):
            self.failed_mint(502, "platform_key_refused")

    def test_agent_of_another_organization(self) -> None:
        with platform(403, {"error": "forbidden"}):
            self.failed_mint(502, "platform_agent_foreign")

    def test_agent_unknown_to_the_platform(self) -> None:
        with platform(404, {"error": "agent not found"}):
            self.failed_mint(502, "platform_agent_unknown")

    def test_platform_is_busy(self) -> None:
        with platform(503, {"error": "all lines are busy; try again when a call has ended"}):
            self.failed_mint(503, "platform_busy")

    def test_platform_is_not_set_up_for_browsers(self) -> None:
        with platform(503, b"WebRTC is not configured"):
            self.failed_mint(502, "platform_not_configured")

    def test_platform_fails(self) -> None:
        for status in (500, 502, 302, 429):
            with platform(status, b""):
                self.failed_mint(502, "platform_failed")

    def test_platform_does_not_answer(self) -> None:
        with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as mute:
            patch.setattr(vatel, "READ_S", 0.05)
            with override_settings(VATEL_BASE_URL=f"http://127.0.0.1:{mute.getsockname()[1]}"):
                self.failed_mint(504, "platform_timeout")

    def test_platform_is_not_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        with override_settings(VATEL_BASE_URL=f"http://127.0.0.1:{port}"):
            self.failed_mint(502, "platform_unreachable")

    def test_platform_answers_in_html(self) -> None:
        with platform(200, b"<html>Welcome to nginx</html>"):
            self.failed_mint(502, "platform_bad_answer")

    def test_platform_gives_no_webrtc_token(self) -> None:
        older = {name: value for name, value in CREDENTIAL.items() if name != "webrtc_token"}
        with platform(200, older):
            self.failed_mint(502, "platform_no_token")

    def test_media_server_that_the_page_may_not_reach(self) -> None:
        with platform(200, CREDENTIAL | {"url": "wss://media.elsewhere.example"}):
            self.failed_mint(502, "platform_media_origin")


@pytest.mark.django_db
@override_settings(MAX_STARTS_PER_ADDRESS=100, MAX_CALLS_PER_ADDRESS=100)
def test_operator_learns_the_cause_and_nobody_the_secrets(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = settings.VATEL_API_KEY
    echo = {"error": f"bad key {key} and token eyJhbGciOi.eyJzdWIi.c2lnbmF0dXJl"}
    answers: list[tuple[int, Any]] = [(status, echo) for status in (400, 401, 403, 404, 500, 503)]
    answers += [(503, {"error": f"{echo['error']} is not enabled"})]
    answers += [(200, CREDENTIAL), (200, CREDENTIAL | {"url": "wss://media.elsewhere.example"})]
    answers += [(200, CREDENTIAL | {"room": 5}), (200, b"not JSON " + json.dumps(CREDENTIAL).encode())]
    answers += [(200, CREDENTIAL | {"webrtc_token": None})]
    told = ""
    for status, body in answers:
        with platform(status, body):
            response = Page().start()
            if response.status_code != 201:
                told += response.content.decode()
    with override_settings(VATEL_BASE_URL="http://127.0.0.1:9"):
        told += Page().start().content.decode()
    for text in (told, caplog.text):
        for secret in (key, CREDENTIAL["token"], CREDENTIAL["webrtc_token"], "eyJhbGciOi"):
            assert secret not in text
    lines = {
        record.getMessage().split(": ")[1]: record
        for record in caplog.records
        if record.name == "sessions_app.views"
    }
    assert set(lines) == CODES - {"platform_timeout"}
    assert "VATEL_MEDIA_ORIGINS" in lines["platform_media_origin"].getMessage()
    assert lines["platform_key_refused"].levelname == "ERROR"
    assert lines["platform_busy"].levelname == "WARNING"
