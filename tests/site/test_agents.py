"""Who is offered: the settings say which agents, the platform what they are called."""

import socket
import threading
from html import unescape
from unittest import mock
from uuid import UUID

import pytest
from django.test import TestCase, override_settings

from sessions_app import agents
from sessions_app.models import VoiceSession

from .page import Page
from .platform import platform

ADA, BOB, EVE = (f"5a1c0e5e-0000-4000-8000-00000000000{n}" for n in range(1, 4))
ALL = [{"id": ADA, "name": "Ada"}, {"id": BOB, "name": "Bob"}, {"id": EVE, "name": "Eve"}]


def links(html: str) -> list[str]:
    return [part.split('"')[0] for part in html.split('href="/agents/')[1:]]


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@override_settings(VATEL_AGENT_IDS=[UUID(BOB), UUID(ADA)])
class OfferTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.enterContext(mock.patch.object(agents, "time", self.clock))
        self.platform = self.enterContext(platform())
        self.platform.agents = 200, ALL

    def names(self) -> list[str]:
        return [agent.name for agent in agents.offered()]

    def test_several_are_a_list_in_the_settings_order(self) -> None:
        html = self.client.get("/").content.decode()
        assert links(html) == [f"{BOB}/", f"{ADA}/"]
        assert html.index("Bob") < html.index("Ada")
        assert "Eve" not in html

    def test_each_has_a_page_of_its_own(self) -> None:
        page = Page(f"/agents/{ADA}/")
        assert (page.data("agent-id"), page.data("agent-name")) == (ADA, "Ada")
        assert "All agents" in page.html
        assert page.start().status_code == 201
        assert VoiceSession.objects.get().agent_name == "Ada"
        assert self.platform.requests[0].body["agent_id"] == ADA

    def test_nobody_else_has_one(self) -> None:
        for other in (EVE, UUID(int=0), "ada"):
            assert self.client.get(f"/agents/{other}/").status_code == 404

    def test_only_one_has_the_start_page(self) -> None:
        self.platform.agents = 200, {"agents": [ALL[0]]}
        for path in ("/", f"/agents/{ADA}/"):
            page = Page(path)
            assert page.data("agent-id") == ADA
            assert "All agents" not in page.html
        assert self.client.get(f"/agents/{BOB}/").status_code == 404

    def test_none_of_them_on_the_platform_leaves_all(self) -> None:
        """So that a call tells what is wrong."""
        self.platform.agents = 200, [ALL[2]]
        assert self.names() == ["Voice agent", "Voice agent"]
        with platform(404, {"error": "no such agent"}) as broken:
            broken.agents = 200, []
            answer = Page(f"/agents/{BOB}/").start()
        assert answer.json()["error"]["code"] == "platform_agent_unknown"

    def test_list_is_kept_for_a_minute(self) -> None:
        assert self.names() == ["Bob", "Ada"]
        self.platform.agents = 200, [{"id": ADA, "name": "Countess"}]
        self.clock.now += 60
        assert self.names() == ["Bob", "Ada"]
        assert self.platform.lists == 1
        self.clock.now += 1
        assert self.names() == ["Countess"]
        assert self.platform.lists == 2

    def test_platform_that_fails_leaves_the_last_known_list_and_is_left_in_peace(self) -> None:
        assert self.names() == ["Bob", "Ada"]
        self.clock.now += 61
        for wrong in (
            (500, ""),
            (401, {"error": "no"}),
            (200, "<html>"),
            (200, {}),
            (200, [{"id": 5}]),
            (200, [7]),
        ):
            asked = self.platform.lists
            self.platform.agents = wrong
            with self.assertLogs("sessions_app.agents", "WARNING"):
                assert self.names() == ["Bob", "Ada"]
            assert self.names() == ["Bob", "Ada"]
            assert self.platform.lists == asked + 1
            self.clock.now += 11
        self.platform.agents = 200, ALL[:1]
        assert self.names() == ["Ada"]

    def test_one_odd_entry_takes_no_name_away(self) -> None:
        self.platform.agents = 200, [7, {"id": 5}, None, *ALL]
        with self.assertLogs("sessions_app.agents", "WARNING"):
            assert self.names() == ["Bob", "Ada"]

    def test_click_does_not_wait_for_a_newer_list(self) -> None:
        page = Page(f"/agents/{ADA}/")
        self.clock.now += 3600
        assert page.start().status_code == 201
        assert self.platform.lists == 1

    def test_names_are_no_more_than_words(self) -> None:
        for name, shown in {
            "<script>alert(1)</script>": "<script>alert(1)</script>",
            '" onmouseover="alert(1)': '" onmouseover="alert(1)',
            "  Two\n\tlines\r\n": "Two lines",
            "Null\0 and bell\a": "Null and bell",
            "\u202egnorw": "gnorw",
            "half \ud83d": "half",
            "A" * 5000: "A" * 100,
            "Zoë 🎩": "Zoë 🎩",
            "": "Voice agent",
            "\u200b\0": "Voice agent",
            None: "Voice agent",
            7: "Voice agent",
        }.items():
            self.platform.agents = 200, [{"id": ADA, "name": name}]
            self.clock.now += 61
            page = Page()
            assert unescape(page.data("agent-name")) == shown
            assert "<script>alert" not in page.html
            assert page.start().status_code == 201
            session = VoiceSession.objects.latest("created_at")
            assert session.agent_name == shown
            session.delete()


def test_platform_that_never_answers_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one who waits have to wait after another: the time counts from the question."""
    assert agents.PATIENCE_S == 2
    clock = Clock()
    monkeypatch.setattr(agents, "time", clock)
    monkeypatch.setattr(agents, "PATIENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"http://127.0.0.1:{mute.getsockname()[1]}"
        with override_settings(VATEL_BASE_URL=address):
            assert [agent.name for agent in agents.offered()] == ["Voice agent"]
            (asking,) = (thread for thread in threading.enumerate() if thread.name == "list of agents")
            clock.now += 60  # the question is still open: no second one
            assert [agent.name for agent in agents.offered()] == ["Voice agent"]
            asked, _ = mute.accept()
            # It answers after all, and whoever comes next has the names.
            with asked:
                asked.recv(65536)
                body = b'[{"id": "%s", "name": "Ada"}]' % ADA.encode()
                asked.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                asking.join()
            assert [agent.name for agent in agents.offered()] == ["Ada"]
