"""The page of a call: its picture, its numbers, and what they cost."""

import json
import re
from datetime import timedelta
from html import unescape
from typing import Any

from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sessions_app.models import Access, Label, Labelling, VoiceSession

from .test_admin import AdminTestCase, agent_says, caller_says, change_url, cuts_in, open_session, tell

Event = tuple[int, str, dict[str, Any]]


def spoken(event: Event, took_ms: int) -> Event:
    """A turn whose length the page has told."""
    at_ms, kind, data = event
    return at_ms, kind, {**data, "took_ms": took_ms}


def heard(at_ms: int, turn: str, after_ms: object) -> Event:
    return at_ms, "reply_audible", {"turn_id": turn, "after_ms": after_ms}


def tool(at_ms: int, name: str, call: str = "t") -> Event:
    return at_ms, "tool_call", {"toolCallId": call, "toolName": name, "arguments": []}


def output(at_ms: int, answer: object, call: str = "t") -> Event:
    return at_ms, "tool_call_output", {"toolCallId": call, "output": json.dumps(answer)}


def picture_of(page: str) -> str:
    found = re.search(r'<svg class="tl-picture".*?</svg>', page, re.DOTALL)
    return found[0] if found else ""


class PageTestCase(AdminTestCase):
    def page(self, session: VoiceSession, part: str = "") -> str:
        return self.client.get(f"{change_url(session)}{part}").content.decode()

    def marks(self, session: VoiceSession) -> list[tuple[str, str]]:
        """The picture's marks in the order in which they are drawn: where each leads, and its words."""
        found = re.findall(
            r'<(?:a href="#([^"]*)"|g)[^>]*><title>(.*?)</title>', picture_of(self.page(session))
        )
        return [(anchor, unescape(title)) for anchor, title in found]

    def table(self, session: VoiceSession) -> list[tuple[str, ...]]:
        """The same as a table: its cells."""
        rows = re.findall(r"<tr><td>(.*?)</tr>", self.page(session), re.DOTALL)
        return [
            tuple(unescape(re.sub(r"<[^>]*>", "", cell)) for cell in row.split("</td><td>")) for row in rows
        ]

    def counts(self, session: VoiceSession, part: str = "") -> dict[str, int]:
        found = re.search(r'<dl id="call-counts".*?</dl>', self.page(session, part))
        assert found is not None
        return {name: int(n) for name, n in re.findall(r"<dt>(.*?)</dt> <dd>(\d+)</dd>", found[0])}


class TimelineTests(PageTestCase):
    def test_who_spoke_when(self) -> None:
        session = open_session()
        tell(session, spoken(agent_says(900, "Hello."), 1400), spoken(caller_says(3000, "Hi."), 600))
        assert self.marks(session) == [
            ("browser-1", "0:00 Agent, 1.4 s: Hello."),
            ("browser-2", "0:03 Caller, 0.6 s: Hi."),
        ]
        assert self.table(session) == [
            ("0:00", "Agent", "1.4 s", "Hello."),
            ("0:03", "Caller", "0.6 s", "Hi."),
        ]
        self.assertNotContains(self.client.get(change_url(session)), "end estimated")

    def test_each_mark_leads_to_something_on_the_page(self) -> None:
        session = open_session()
        tell(
            session,
            *(agent_says(0, "One moment."), cuts_in(900), caller_says(1000, "Stop.")),
            *(tool(2000, "get_time"), output(2500, {"error": "no"}), (3000, "reconnecting", {})),
            *(output(4000, {"error": "late"}, "unknown"), cuts_in(5000)),
        )
        page = self.page(session)
        anchors = [anchor for anchor, _ in self.marks(session)]
        assert anchors == [
            *("browser-1", "browser-2", "browser-3", "browser-4", "browser-6", "browser-7", "browser-8"),
        ]
        assert [page.count(f'id="{anchor}"') for anchor in anchors] == [1] * len(anchors)

    def test_an_end_that_nobody_told_is_an_estimate_and_said_to_be(self) -> None:
        session = open_session()
        tell(session, agent_says(0, "x" * 100), caller_says(3000, "y" * 10))
        assert [row[2] for row in self.table(session)] == ["about 3.0 s", "about 0.7 s"]
        page = self.page(session)
        assert page.count("is-estimate") == 2
        assert "end estimated" in page

    def test_the_callers_words_end_where_the_speech_stopped(self) -> None:
        session = open_session()
        tell(
            session,
            *((1000, "speech_started", {}), caller_says(1000, "Hi."), (2500, "speech_stopped", {})),
            *((6000, "speech_started", {}), caller_says(6000, "Well."), (7200, "speech_stopped", {})),
        )
        assert [row[2] for row in self.table(session)] == ["1.5 s", "1.2 s"]

    def test_words_that_the_caller_cut_end_there(self) -> None:
        session = open_session()
        tell(session, agent_says(0, "z" * 200), cuts_in(4000), caller_says(3900, "Stop."))
        assert self.table(session)[0][:3] == ("0:00", "Agent", "about 3.9 s")

    def test_tools_with_their_time_and_their_failure(self) -> None:
        session = open_session()
        tell(
            session,
            *(tool(1000, "get_time", "a"), output(1400, {"time": "9"}, "a")),
            *(tool(2000, "book", "b"), output(4500, {"error": "taken"}, "b"), tool(5000, "wait", "c")),
        )
        assert self.table(session) == [
            ("0:01", "Tool", "0.4 s", "get_time"),
            ("0:02", "Failed tool", "2.5 s", "book"),
            ("0:05", "Tool", "", "wait, not answered"),
        ]
        assert self.page(session).count("tl-cross") == 1

    def test_silence_is_where_nobody_speaks_for_five_seconds(self) -> None:
        session = open_session()
        tell(
            session,
            *(spoken(agent_says(1000, "a"), 1000), spoken(caller_says(7000, "b"), 100)),
            *(spoken(agent_says(12_101, "c"), 9000), spoken(caller_says(13_000, "d"), 100)),
            (30_000, "hang_up", {}),
        )
        silences = [row for row in self.table(session) if row[1] == "Silence"]
        assert silences == [("0:07", "Silence", "5.0 s", ""), ("0:21", "Silence", "8.9 s", "")]

    def test_slow_replies(self) -> None:
        session = open_session()
        tell(
            session,
            *(heard(3000, "agent-3000", 2001), agent_says(3000, "Sorry.")),
            *(heard(9000, "agent-9000", 2000), agent_says(9000, "Fine.")),
        )
        assert [row for row in self.table(session) if row[1] == "Slow reply"] == [
            ("0:00", "Slow reply", "2.0 s", "until the agent was heard")
        ]
        assert self.counts(session)["Slow replies"] == 1

    def test_a_call_that_runs_goes_on_to_now(self) -> None:
        session = open_session()
        VoiceSession.objects.update(created_at=timezone.now() - timedelta(seconds=60))
        tell(session, (0, "connected", {}), spoken(agent_says(900, "Hello."), 1000))
        last = self.table(session)[-1]
        assert last[:2] == ("0:01", "Silence")
        assert 57 <= float(last[2].removesuffix(" s")) < 60

    def test_hostile_words_and_numbers(self) -> None:
        hostile = "\u202e</title><script>alert(1)</script>\x07 \u2067"
        session = open_session()
        tell(
            session,
            *(agent_says(2**31 - 1, hostile), spoken(caller_says(5, "W" * 60_000), 2**31 - 1)),
            *(caller_says(6, " "), tool(7, hostile[:200], "t"), output(8, {hostile: hostile})),
            *(heard(9, "agent-2147483647", 10**15), heard(10, "x", "soon"), heard(11, "x", -5)),
            (12, "response_text", {"text": "a", "turn_id": ["no", "name"], "took_ms": "long"}),
            (13, "response_text", {"text": "b", "turn_id": {}, "took_ms": True}),
            (14, "reply_audible", {"turn_id": [], "after_ms": {}}),
        )
        page = self.page(session)
        assert "<script>alert" not in page
        picture = picture_of(page)
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08]", picture)
        assert len(picture) < 20_000
        assert int(re.findall(r'width="(\d+)"', picture)[0]) <= 8000
        assert not re.search("[\x00-\x08]", page)
        assert "58,000 more characters" in page

    def test_nothing_yet(self) -> None:
        page = self.page(open_session())
        assert "Nothing has been said yet." in page
        assert picture_of(page) == ""


class ReplyTests(PageTestCase):
    def words(self, session: VoiceSession) -> list[str | None]:
        return self.transcript(session).words()

    def test_each_turn_tells_its_length_and_how_long_the_caller_waited(self) -> None:
        session = open_session()
        tell(
            session,
            *(spoken(caller_says(1000, "Time?"), 900), heard(2700, "agent-2800", 800)),
            *(spoken(agent_says(2800, "Nine."), 1200), heard(9000, "agent-9000", 2600)),
            *(agent_says(9000, "Ten."), spoken(agent_says(11_000, "Eleven."), 61_000)),
        )
        assert self.words(session) == [
            "0:01 Caller 0.9 s long Time?",
            "0:02 Agent heard after 0.8 s 1.2 s long Nine.",
            "0:09 Agent slow: heard after 2.6 s Ten.",
            "0:11 Agent 1:01 long Eleven.",
        ]

    def test_a_sound_that_came_before_its_words_is_theirs(self) -> None:
        session = open_session()
        tell(session, heard(2700, "", 800), agent_says(2900, "Nine."), agent_says(5000, "Ten."))
        assert self.words(session) == ["0:02 Agent heard after 0.8 s Nine.", "0:05 Agent Ten."]

    def test_a_sound_without_words_is_not_that_of_a_later_reply(self) -> None:
        session = open_session()
        tell(session, heard(700, "", 800), caller_says(1000, "Hm?"), agent_says(2900, "Nine."))
        assert self.words(session) == ["0:01 Caller Hm?", "0:02 Agent Nine."]

    def test_a_turn_in_parts_is_heard_once(self) -> None:
        session = open_session()
        part = {"turn_id": "a", "text": "One"}
        tell(session, heard(100, "a", 700), (100, "response_text", part), (900, "response_text", part))
        assert self.words(session) == ["0:00 Agent heard after 0.7 s One", "0:00 Agent One"]

    def test_live_the_sound_is_told_after_the_words(self) -> None:
        session = open_session()
        tell(session, agent_says(2000, "Nine."))
        tell(session, heard(1900, "agent-2000", 700))
        rows, _ = self.increment(session, "browser:1")
        assert rows.words() == ["0:02 Agent heard after 0.7 s Nine."]


class HeadTests(PageTestCase):
    def events(self) -> list[Event]:
        return [
            *(agent_says(0, "One."), caller_says(1000, "Two."), cuts_in(1500)),
            *(agent_says(3000, "Three."), (3500, "reconnecting", {}), (3600, "microphone_offered", {})),
            *(tool(4000, "get_time"), output(4100, {"error": "no"}), heard(5000, "agent-3000", 2500)),
            *((6000, "response_text", {"text": "more", "turn_id": "agent-3000"}), (7000, "hang_up", {})),
        ]

    def test_the_call_in_numbers(self) -> None:
        session = open_session()
        tell(session, *self.events())
        expected = {"Turns": 3, "Interruptions": 1, "Slow replies": 1, "Tool errors": 1, "Incidents": 1}
        assert self.counts(session) == expected
        assert self.counts(session, "timeline/") == expected

    def test_the_head_comes_alone_with_what_is_new(self) -> None:
        session = open_session()
        tell(session, agent_says(0, "One."))
        assert self.counts(session, "timeline/")["Turns"] == 1
        tell(session, caller_says(1000, "Two."))
        part = self.page(session, "timeline/")
        page = self.page(session)
        for anchor in ("call-timeline", "call-facts", "call-review", "call-notes", "call-proof"):
            assert f'id="{anchor}" ' in part
            assert f'id="{anchor}" ' in page
        assert "Two." in part
        assert "<li id=" not in part
        assert "csrfmiddlewaretoken" not in part, "forms keep the page's own"

    def test_who_may_see_it(self) -> None:
        url = f"{change_url(open_session())}timeline/"
        assert self.client.get(url).status_code == 200
        assert self.client.post(url).status_code == 405
        assert self.client.get(f"{change_url(VoiceSession())}timeline/").status_code == 404
        self.allow("view_booking")
        assert self.client.get(url).status_code == 403

    def test_opening_the_page_is_logged_once_and_what_its_script_fetches_is_not(self) -> None:
        session = open_session()
        self.page(session)
        for part in ("events/", "timeline/"):
            self.page(session, part)
        opened = list(Access.objects.values_list("who", "action", "session_id"))
        assert opened == [("staff", "open", session.pk)]

    def test_ways_out_are_offered_to_whoever_may_take_them(self) -> None:
        session = open_session()
        assert "/export/" not in self.page(session)
        self.allow("view_voicesession", "export_voicesession")
        page = self.page(session)
        links = re.findall(r'href="([^"]*/export/[^"]*)"', page)
        assert len(links) == 4
        assert [self.client.get(link).status_code for link in links] == [200] * 4

    def test_a_name_that_turns_the_text_around_stays_by_itself(self) -> None:
        session = open_session(agent_name="\u202egreicnoC")
        page = self.page(session)
        assert "<h1>Call with <bdi>\u202egreicnoC</bdi></h1>" in page
        assert "<dd>\u202egreicnoC</dd>" in page

    def test_the_number_of_queries_does_not_grow_with_the_call(self) -> None:
        colleague = User.objects.create_user("colleague")
        session = open_session()

        def more(number: int) -> None:
            for n in range(number):
                tell(session, *((at + 10_000 * n, kind, data) for at, kind, data in self.events()))
                session.notes.create(source="browser", seq=n + 1, text="A note.", by=colleague)
                session.notes.create(text="A note.", by=colleague)
                label = Label.objects.create(name=f"label {Label.objects.count()}")
                Labelling.objects.create(session=session, label=label, by=colleague)

        def queries() -> list[int]:
            counts = []
            for part in ("", "events/?after=", "timeline/"):
                with CaptureQueriesContext(connection) as captured:
                    assert self.client.get(f"{change_url(session)}{part}").status_code == 200
                counts.append(len(captured))
            return counts

        self.allow("view_voicesession", "annotate_voicesession", "listen_voicesession")
        more(1)
        few = queries()
        more(5)
        assert queries() == few
        assert max(few) <= 20
