"""POST /sessions/: what a page gets, what it is told when it gets nothing, and what stays behind."""

import json
import logging
import re
import socket
import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, TestCase, TransactionTestCase, override_settings
from django.utils import timezone

from sessions_app import vatel
from sessions_app.models import VoiceSession

from .platform import CREDENTIAL, platform

AGENT = "5a1c0e5e-0000-4000-8000-000000000001"
OTHER_AGENT = "5a1c0e5e-0000-4000-8000-000000000002"
SENTENCES = {error.code: error.sentence for error in vatel.VatelError.__subclasses__()}


class Page:
    """A visitor's browser with the talk page open."""

    def __init__(self) -> None:
        self.client = Client(enforce_csrf_checks=True)
        html = self.client.get("/").content.decode()
        found = re.search(r'<meta name="csrf-token" content="(\w+)"', html)
        assert found is not None
        self.csrf = found[1]

    def mint(self, body: Any = None, **extra: Any) -> Any:
        content = body if isinstance(body, (str, bytes)) else json.dumps({} if body is None else body)
        headers = {"X-CSRFToken": self.csrf} | extra.pop("headers", {})
        return self.client.post(
            "/sessions/", content, content_type="application/json", headers=headers, **extra
        )

    @property
    def visitor(self) -> str:
        return str(self.client.session["visitor"])


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
            response = page.mint({"agent_id": AGENT})
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
            form = page.client.post("/sessions/", {}, headers={"X-CSRFToken": page.csrf})
            assert [page.mint().status_code, form.status_code] == [201, 201]
        assert [request.body["agent_id"] for request in server.requests] == [AGENT, AGENT]

    @override_settings(VATEL_AGENTS={UUID(AGENT): "Concierge", UUID(OTHER_AGENT): "Porter"})
    def test_one_of_several_agents(self) -> None:
        page = Page()
        with platform() as server:
            form = {"agent_id": OTHER_AGENT}
            posted = page.client.post("/sessions/", form, headers={"X-CSRFToken": page.csrf})
            assert posted.status_code == 201
            self.refused(page.mint(), 400, "bad_request")
        assert [request.body["agent_id"] for request in server.requests] == [OTHER_AGENT]
        assert VoiceSession.objects.get().agent_name == "Porter"

    def test_logged_in_user_is_noted(self) -> None:
        page = Page()
        user = User.objects.create_user("ada")
        page.client.force_login(user)
        with platform():
            assert page.mint().status_code == 201
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
            message = self.refused(page.mint(headers=headers), 403, "csrf_failed")
            assert "Reload" in message
        assert not VoiceSession.objects.exists()
        login = page.client.post("/admin/login/", {"username": "a", "password": "b"})
        assert (login.status_code, login.headers["Content-Type"]) == (403, "text/html; charset=utf-8")

    def test_fourth_call_of_a_visitor_is_refused_until_one_is_over(self) -> None:
        page, other = Page(), Page()
        with platform() as server:
            assert [page.mint().status_code for _ in range(3)] == [201] * 3
            self.refused(page.mint(), 429, "too_many_calls")
            assert other.mint().status_code == 201
            ended, unheard = VoiceSession.objects.filter(visitor=page.visitor)[:2]
            ended.mark_ended("hang_up", timezone.now())
            assert page.mint().status_code == 201
            self.refused(page.mint(), 429, "too_many_calls")
            unheard.last_seen_at = timezone.now() - timedelta(seconds=91)
            unheard.save()
            assert page.mint().status_code == 201
        assert len(server.requests) == 6

    @override_settings(MAX_CALLS=2)
    def test_site_takes_no_more_calls_than_it_may(self) -> None:
        with platform():
            assert [Page().mint().status_code for _ in range(2)] == [201, 201]
            self.refused(Page().mint(), 429, "too_many_calls")
        assert VoiceSession.objects.count() == 2

    def failed_mint(self, status: int, code: str) -> None:
        """The visitor gets the sentence for the code, the call is on record as failed, and takes no place."""
        assert self.refused(Page().mint(), status, code) == SENTENCES[code]
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
        with platform(503, b"WebRTC is not configured"):
            self.failed_mint(503, "platform_busy")

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
def test_operator_learns_the_cause_and_nobody_the_secrets(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = settings.VATEL_API_KEY
    echo = {"error": f"bad key {key} and token eyJhbGciOi.eyJzdWIi.c2lnbmF0dXJl"}
    answers: list[tuple[int, Any]] = [(status, echo) for status in (400, 401, 403, 404, 500, 503)]
    answers += [(200, CREDENTIAL), (200, CREDENTIAL | {"url": "wss://media.elsewhere.example"})]
    answers += [(200, CREDENTIAL | {"room": 5}), (200, b"not JSON " + json.dumps(CREDENTIAL).encode())]
    answers += [(200, CREDENTIAL | {"webrtc_token": None})]
    told = ""
    for status, body in answers:
        with platform(status, body):
            response = Page().mint()
            if response.status_code != 201:
                told += response.content.decode()
    with override_settings(VATEL_BASE_URL="http://127.0.0.1:9"):
        told += Page().mint().content.decode()
    for text in (told, caplog.text):
        for secret in (key, CREDENTIAL["token"], CREDENTIAL["webrtc_token"], "eyJhbGciOi"):
            assert secret not in text
    lines = {
        record.getMessage().split(": ")[1]: record
        for record in caplog.records
        if record.name == "sessions_app.views"
    }
    assert set(lines) == set(SENTENCES) - {"platform_timeout"}
    assert "VATEL_MEDIA_ORIGINS" in lines["platform_media_origin"].getMessage()
    assert lines["platform_key_refused"].levelname == "ERROR"
    assert lines["platform_busy"].levelname == "WARNING"


def test_page_has_a_title_for_every_code() -> None:
    page = (settings.BASE_DIR / "sessions_app/frontend/call-failures.ts").read_text()
    known = set(re.findall(r"^  (\w+):", page, re.MULTILINE))
    assert set(SENTENCES) | {"bad_request", "unknown_agent", "csrf_failed", "too_many_calls"} <= known


class LastPlaceTests(TransactionTestCase):
    @override_settings(MAX_CALLS=1)
    def test_two_clicks_at_once_cannot_both_take_the_last_place(self) -> None:
        pages = [Page() for _ in range(4)]
        statuses: list[int] = []
        start = threading.Barrier(len(pages))

        def click(page: Page) -> None:
            start.wait()
            statuses.append(page.mint().status_code)
            connection.close()

        with platform() as server:
            threads = [threading.Thread(target=click, args=(page,)) for page in pages]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert sorted(statuses) == [201, 429, 429, 429]
        assert len(server.requests) == VoiceSession.objects.count() == 1
