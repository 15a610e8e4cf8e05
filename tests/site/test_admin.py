"""What staff see of calls and bookings, and who may see it."""

import json
import re
from datetime import timedelta
from html import unescape
from html.parser import HTMLParser
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client, TestCase
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import strip_tags

from sessions_app import log
from sessions_app.events import Frame
from sessions_app.models import Booking, SessionEvent, VoiceSession
from sessions_app.situations import SITUATIONS

from .platform import platform

AGENT = UUID("5a1c0e5e-0000-4000-8000-000000000001")
SESSIONS = "/admin/sessions_app/voicesession/"
BOOKINGS = "/admin/sessions_app/booking/"


def change_url(session: VoiceSession) -> str:
    return f"{SESSIONS}{session.pk}/change/"


def events_url(session: VoiceSession, after: str = "") -> str:
    return f"{change_url(session)}events/?after={after}"


def open_session(agent_name: str = "Concierge") -> VoiceSession:
    return VoiceSession.objects.create(visitor="0" * 32, agent_id=AGENT, agent_name=agent_name)


def tell(session: VoiceSession, *events: tuple[int, str, dict[str, Any]], source: str = "browser") -> None:
    """Logs (at_ms, type, data) under the next numbers of their source."""
    first = log.last_seq(session.pk, source) + 1
    log.record(session.pk, [Frame(first + n, *event) for n, event in enumerate(events)], source=source)
    session.refresh_from_db()


def agent_says(at_ms: int, text: str) -> tuple[int, str, dict[str, Any]]:
    return at_ms, "response_text", {"text": text, "turn_id": f"agent-{at_ms}", "is_final": True}


def caller_says(at_ms: int, text: str) -> tuple[int, str, dict[str, Any]]:
    return at_ms, "input_audio_transcript", {"transcript": text, "turn_id": f"user-{at_ms}", "is_final": True}


def cuts_in(at_ms: int) -> tuple[int, str, dict[str, Any]]:
    return at_ms, "interruption", {}


class Rows(HTMLParser):
    """The lines of a transcript: their attributes, and their words as they are shown."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[dict[str, str | None]] = []
        self.tags: set[str] = set()
        self._is_open = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "li" and ("data-seq", dict(attrs).get("data-seq")) in attrs:
            self.rows.append({**dict(attrs), "words": ""})
            self._is_open = True
        elif self._is_open:
            self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        self._is_open = self._is_open and tag != "li"

    def handle_data(self, data: str) -> None:
        if self._is_open:
            self.rows[-1]["words"] = " ".join(f"{self.rows[-1]['words']} {data}".split())

    def ids(self) -> list[str | None]:
        return [name_of(row) for row in self.rows]

    def words(self) -> list[str | None]:
        return [row["words"] for row in self.rows]

    def cut(self) -> list[str | None]:
        return [row["words"] for row in self.rows if "data-cut" in row]


def name_of(row: dict[str, str | None]) -> str:
    """What a link to the line would say; a hidden one has no id, as another shows it."""
    return f"{row['data-source']}-{row['data-seq']}"


class AdminTestCase(TestCase):
    def setUp(self) -> None:
        self.staff = User.objects.create_user("staff", is_staff=True)
        self.allow("view_voicesession", "view_booking")
        self.client.force_login(self.staff)

    def allow(self, *codenames: str) -> None:
        self.staff.user_permissions.set(Permission.objects.filter(codename__in=codenames))

    def transcript(self, session: VoiceSession) -> Rows:
        return Rows(self.client.get(change_url(session)).content.decode())

    def increment(self, session: VoiceSession, after: str) -> tuple[Rows, str]:
        response = self.client.get(events_url(session, after))
        return Rows(response.content.decode()), response["X-Cursor"]


class PermissionTests(AdminTestCase):
    def statuses(self) -> list[int]:
        session = open_session()
        booking = Booking.objects.create(session=session, tool_call_id="t", people=2, at=timezone.now())
        urls = [
            SESSIONS,
            change_url(session),
            events_url(session),
            BOOKINGS,
            f"{BOOKINGS}{booking.pk}/change/",
        ]
        return [self.client.get(url).status_code for url in urls]

    def test_staff_with_both_permissions(self) -> None:
        assert self.statuses() == [200, 200, 200, 200, 200]

    def test_staff_who_may_see_bookings_only(self) -> None:
        self.allow("view_booking")
        assert self.statuses() == [403, 403, 403, 200, 200]
        self.assertNotContains(self.client.get(BOOKINGS), SESSIONS)

    def test_staff_without_permission(self) -> None:
        self.allow()
        assert self.statuses() == [403, 403, 403, 403, 403]
        self.assertNotContains(self.client.get("/admin/"), SESSIONS)

    def test_a_caller_with_an_account_and_a_stranger_are_sent_to_the_login(self) -> None:
        User.objects.filter(pk=self.staff.pk).update(is_staff=False)
        assert self.statuses() == [302, 302, 302, 302, 302]
        self.client.logout()
        assert self.statuses() == [302, 302, 302, 302, 302]

    def test_nothing_can_be_added_or_changed_not_even_by_a_superuser(self) -> None:
        User.objects.filter(pk=self.staff.pk).update(is_superuser=True)
        session = open_session()
        booking = Booking.objects.create(session=session, tool_call_id="t", people=2, at=timezone.now())
        for url, pk in ((SESSIONS, session.pk), (BOOKINGS, booking.pk)):
            assert self.client.get(f"{url}add/").status_code == 403
            assert self.client.post(f"{url}{pk}/change/", {"people": 9}).status_code == 403
            self.client.post(url, {"action": "delete_selected", "_selected_action": [pk], "post": "yes"})
        # Calls are deleted with a reason (see test_erase.py), their bookings with them.
        assert self.client.post(f"{BOOKINGS}{booking.pk}/delete/", {"post": "yes"}).status_code == 403
        assert self.client.post(f"{SESSIONS}{session.pk}/delete/", {"post": "yes"}).status_code == 422
        assert VoiceSession.objects.get().agent_name == "Concierge"
        assert Booking.objects.get().people == 2

    def test_an_unknown_call_and_a_broken_cursor_are_said_so(self) -> None:
        assert self.client.get(events_url(VoiceSession())).status_code == 404
        for after in (
            "browser",
            "browser:x",
            "browser:-1",
            "moon:1",
            "browser:1;server:2",
            "browser:99999999999",
        ):
            response = self.client.get(events_url(open_session(), after))
            assert response.status_code == 400
            assert "SOURCE:NUMBER" in response.content.decode()


class TranscriptTests(AdminTestCase):
    def test_lines_stand_in_the_order_of_the_conversation(self) -> None:
        session = open_session()
        tell(session, (0, "connected", {}), caller_says(4000, "And in Rome?"), agent_says(900, "Sunny."))
        tell(session, agent_says(899, "Recovered."), source="platform")
        rows = self.transcript(session)
        assert rows.ids() == ["browser-1", "platform-1", "browser-3", "browser-2"]
        assert rows.words() == [
            "0:00 The caller joined",
            "0:00 Agent recovered Recovered.",
            "0:00 Agent Sunny.",
            "0:04 Caller And in Rome?",
        ]

    def test_the_lines_after_a_cursor_are_the_lines_of_a_reload(self) -> None:
        session = open_session()
        tell(session, (0, "connected", {}), agent_says(900, "Hello."))
        page = self.client.get(change_url(session))
        self.assertContains(page, 'data-cursor="browser:2,server:0,platform:0"')
        before = Rows(page.content.decode()).rows
        tell(session, caller_says(3000, "Hi."), (9000, "hang_up", {}))
        tell(session, (9001, "ended", {"reason": "abandoned"}), source="server")

        rows, cursor = self.increment(session, "browser:2,server:0,platform:0")
        assert cursor == "browser:4,server:1,platform:0"
        assert rows.ids() == ["browser-3", "browser-4", "server-1"]
        assert self.transcript(session).rows == before + rows.rows
        assert self.increment(session, cursor)[0].rows == []

    def test_the_state_of_the_call_comes_with_the_lines(self) -> None:
        session = open_session()
        assert self.client.get(events_url(session))["X-State"] == "created"
        tell(session, (0, "connected", {}))
        assert self.client.get(events_url(session))["X-State"] == "live"
        tell(session, (5000, "hang_up", {}))
        assert self.client.get(events_url(session))["X-State"] == "ended"
        self.assertContains(self.client.get(change_url(session)), 'data-state="ended"')

    def test_the_page_tells_of_the_call(self) -> None:
        session = open_session()
        tell(session, (0, "connected", {}), (200, "session_started", {"id": "call-77"}))
        VoiceSession.objects.update(created_at=timezone.now() - timedelta(minutes=8))
        VoiceSession.objects.update(started_at=timezone.now() - timedelta(minutes=7, seconds=5))
        page = self.client.get(change_url(session))
        assert re.search(r'live, <span data-elapsed-ms="425\d\d\d">7:05</span>', page.content.decode())
        self.assertContains(page, "7\xa0minutes ago")
        self.assertContains(page, "<dd>call-77</dd>", html=True)
        self.assertContains(page, f"<dd>{session.pk}</dd>", html=True)
        self.assertContains(page, f'data-events-url="{change_url(session)}events/"')
        self.assertContains(page, f'data-socket-url="/ws/transcripts/{session.pk}/"')
        session.mark_ended("hang_up", timezone.now())
        self.assertContains(self.client.get(change_url(session)), "<dd>the caller hung up</dd>", html=True)

    def test_the_page_needs_nothing_that_the_policy_forbids(self) -> None:
        session = open_session()
        tell(session, caller_says(1, "Hi."))
        page = self.client.get(change_url(session)).content.decode()
        assert 'src="/static/dist/admin-transcript.js" type="module"' in page
        assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
        assert re.findall(r"<style|\sstyle=|\son[a-z]+=", page) == []

    def test_hostile_texts_are_shown_and_never_obeyed(self) -> None:
        hostile = "</li><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;"
        session = open_session(agent_name=hostile[:100])
        call = {
            "toolCallId": hostile,
            "toolName": hostile,
            "arguments": [{"name": hostile, "value": hostile}],
        }
        tell(
            session,
            caller_says(1, hostile),
            agent_says(2, hostile),
            (3, "tool_call", call),
            (4, "tool_call_output", {"toolCallId": hostile, "output": hostile}),
            (5, "tool_call_output", {"toolCallId": hostile, "output": json.dumps({hostile: hostile})}),
            (6, "call_failed", {"code": hostile, hostile: [hostile]}),
            (7, "rejected", {"code": "bad_type", "message": hostile, "type": ""}),
            (8, "response_text", {"text": "x", "turn_id": hostile}),
            (9, "session_started", {"id": hostile}),
            (10, "ended", {"who": "a browser that plays the server"}),
        )
        for response in (self.client.get(change_url(session)), self.client.get(events_url(session))):
            rows = Rows(response.content.decode())
            assert len(rows.rows) == 10
            assert "script" not in rows.tags
            assert "img" not in rows.tags
            assert rows.words()[0] == f"0:00 Caller {hostile}"
            self.assertNotContains(response, "<script>alert")
        self.assertNotContains(self.client.get(SESSIONS), "<script>alert")

    def test_outputs_that_are_no_plain_objects_are_shown_as_they_are(self) -> None:
        outputs = [
            "sunny",
            '"sunny"',
            "[1, 2]",
            "null",
            "9" * 5000,
            "[" * 30000,
            '{"a": "\\ud800"}',
            "{}",
            "",
        ]
        session = open_session()
        tell(
            session,
            *((n, "tool_call_output", {"toolCallId": "t", "output": o}) for n, o in enumerate(outputs)),
        )
        words = self.transcript(session).words()
        assert words[:4] == [f"0:00 Answer {o}" for o in ("sunny", "sunny", "[1, 2]", "null")]
        assert words[6] == '0:00 Answer {"a": "\\ud800"}'

    def test_a_tool_call_and_its_answer(self) -> None:
        session = open_session()
        arguments = [
            {"name": "people", "type": "integer", "required": True, "value": 2},
            {"name": "time", "type": "string", "required": True, "value": "19:30"},
            {"name": "name", "type": "string", "required": False},
        ]
        tell(
            session,
            (7000, "tool_call", {"toolCallId": "a", "toolName": "book_table", "arguments": arguments}),
            (7400, "tool_call_output", {"toolCallId": "a", "output": '{"reference": "B1001"}'}),
            (8000, "tool_call", {"tool_call_id": "b", "tool_name": "get_time", "runs_on": "page"}),
            (9500, "tool_call_output", {"toolCallId": "b", "output": '{"error": "I do not know the city."}'}),
        )
        expected = [
            "0:07 Tool book_table people: 2 time: 19:30 Answer after 0.4 s reference: B1001",
            "",
            "0:08 Tool get_time Failed after 1.5 s error: I do not know the city.",
            "",
        ]
        rows = self.transcript(session)
        assert rows.words() == expected
        assert ["hidden" in row for row in rows.rows] == [False, True, False, True]
        # An answer that comes later changes the line of its call.
        rows, _ = self.increment(session, "browser:3")
        assert (rows.ids(), rows.words()) == (["browser-3", "browser-4"], expected[2:])

    def test_a_second_answer_and_one_to_nothing_stand_by_themselves(self) -> None:
        session = open_session()
        tell(
            session,
            (1000, "tool_call", {"toolCallId": "a", "toolName": "get_time"}),
            (1500, "tool_call_output", {"toolCallId": "b", "output": "lost"}),
            (2000, "tool_call", {"toolCallId": "c", "toolName": "get_time"}),
            (2100, "tool_call_output", {"toolCallId": "c", "output": "first"}),
            (2200, "tool_call_output", {"toolCallId": "c", "output": "second"}),
        )
        assert self.transcript(session).words() == [
            "0:01 Tool get_time Not answered",
            "0:01 Answer lost",
            "0:02 Tool get_time Answer after 0.1 s first",
            "",
            "0:02 Answer get_time after 0.2 s second",
        ]

    def test_a_long_answer_is_folded(self) -> None:
        session = open_session()
        for output in ("short", "long " * 40):
            tell(session, (1, "tool_call_output", {"toolCallId": "a", "output": output}))
        assert self.client.get(change_url(session)).content.decode().count("<details>") == 1

    def test_what_happened_around_the_talk(self) -> None:
        session = open_session()
        tell(
            session,
            (1, "microphone_muted", {"muted": True}),
            (2, "microphone_muted", {"muted": False}),
            (3, "reconnecting", {}),
            (4, "rejected", {"code": "bad_type", "message": "type must be a text", "type": ""}),
            (5, "mood_changed", {"mood": "cheerful", "signs": ["laughs"]}),
        )
        tell(session, (6, "ended", {"reason": "abandoned"}), source="server")
        assert self.transcript(session).words() == [
            "0:00 The caller muted the microphone",
            "0:00 The caller unmuted the microphone",
            "0:00 The media connection was lost; trying again",
            "0:00 The site refused a report from the caller's browser "
            "code: bad_type message: type must be a text",
            "0:00 mood_changed mood: cheerful signs: laughs",
            "0:00 The site closed the call: the page went away the site",
        ]

    def test_each_situation_of_a_call_is_told_in_the_catalogues_words(self) -> None:
        session = open_session()
        notices = {code: each for code, each in SITUATIONS.items() if each.kind == "notice"}
        failures = {code: each for code, each in SITUATIONS.items() if each.kind == "failure"}
        tell(session, *((0, code, {}) for code in notices))
        tell(session, *((0, "call_failed", {"code": code}) for code in failures))
        tell(session, (0, "call_failed", {"code": "of_a_newer_page"}))
        transcript = self.transcript(session)
        assert transcript.words() == [
            *(f"0:00 {notice.log or notice.title}" for notice in notices.values()),
            *(f"0:00 The call failed: {failure.title} code: {code}" for code, failure in failures.items()),
            "0:00 The call failed code: of_a_newer_page",
        ]
        quiet = [row["data-type"] for row in transcript.rows if "is-trouble" not in str(row["class"])]
        assert quiet == ["microphone_offered", "speaker_offered"]

    def test_end_of_a_notice_is_told(self) -> None:
        session = open_session()
        ends = (
            *("microphone_restored", "microphone_heard", "playback_allowed", "reconnected"),
            *("connection_good", "agent_heard"),
        )
        tell(session, *((0, end, {}) for end in ends))
        transcript = self.transcript(session)
        assert len(transcript.rows) == len(ends)
        assert all("_" not in str(words) for words in transcript.words())
        assert all("is-trouble" not in str(row["class"]) for row in transcript.rows)

    def test_what_the_caller_agreed_to(self) -> None:
        session = open_session()
        self.assertNotContains(self.client.get(change_url(session)), "Consent")
        VoiceSession.objects.update(consent_version="0123456789ab")
        page = self.client.get(change_url(session))
        self.assertContains(page, "<dt>Consent</dt> <dd>version 0123456789ab</dd>", html=False)

    def test_speech_marks_have_no_line_and_are_not_asked_for_again(self) -> None:
        session = open_session()
        tell(
            session,
            (1, "speech_started", {"emulated": False}),
            caller_says(1, "Hi."),
            (900, "speech_stopped", {}),
        )
        page = self.client.get(change_url(session))
        assert Rows(page.content.decode()).ids() == ["browser-2"]
        self.assertContains(page, 'data-cursor="browser:2,server:0,platform:0"')
        rows, cursor = self.increment(session, "browser:2,server:0,platform:0")
        assert (rows.rows, cursor) == ([], "browser:3,server:0,platform:0")


class CutTests(AdminTestCase):
    def test_a_text_that_the_caller_cut(self) -> None:
        session = open_session()
        tell(session, agent_says(500, "Hello."), caller_says(3000, "Weather?"), cuts_in(9000))
        tell(session, agent_says(5000, "It is"), caller_says(8900, "Stop."), agent_says(12000, "Fine."))
        rows = self.transcript(session)
        assert rows.cut() == ["0:05 Agent It is cut off here, 0:09"]
        assert [name_of(row) for row in rows.rows if "hidden" in row] == ["browser-3"], (
            "it stands in the text"
        )
        self.assertContains(self.client.get(change_url(session)), 'id="browser-3"', count=1)

    def test_a_text_cut_before_its_first_word(self) -> None:
        session = open_session()
        tell(session, cuts_in(9000), agent_says(8800, ""))
        assert self.transcript(session).cut() == ["0:08 Agent cut off before a word was heard, 0:09"]

    def test_an_answer_that_never_began_does_not_mark_the_one_before(self) -> None:
        session = open_session()
        tell(session, agent_says(500, "Hello."), caller_says(3000, "Weather?"), cuts_in(5000))
        tell(session, caller_says(4900, "No, the time."))
        assert self.transcript(session).cut() == []
        assert "0:05 The caller cut in" in self.transcript(session).words()

    def test_live_the_text_comes_after_the_interruption(self) -> None:
        session = open_session()
        tell(session, cuts_in(9000))
        tell(session, agent_says(5000, "It is"))
        assert self.increment(session, "browser:1")[0].cut() == ["0:05 Agent It is cut off here, 0:09"]

    def test_live_the_interruption_comes_after_the_text(self) -> None:
        session = open_session()
        tell(session, agent_says(5000, "It is sunny."))
        tell(session, cuts_in(9000))
        rows, cursor = self.increment(session, "browser:1")
        assert rows.ids() == ["browser-1", "browser-2"], "the changed line is sent again"
        assert rows.cut() == ["0:05 Agent It is sunny. cut off here, 0:09"]
        assert cursor == "browser:2,server:0,platform:0"

    def test_live_a_mark_moves_when_the_cut_text_turns_up(self) -> None:
        session = open_session()
        tell(session, agent_says(5000, "One moment."), cuts_in(9000))
        assert self.transcript(session).cut() == ["0:05 Agent One moment. cut off here, 0:09"]
        tell(session, agent_says(7000, "It is"))
        rows, _ = self.increment(session, "browser:2")
        assert rows.words() == ["0:05 Agent One moment.", "0:07 Agent It is cut off here, 0:09"]
        assert self.transcript(session).cut() == rows.cut()


RECORD = {
    "status": "ended",
    "duration_seconds": 65.5,
    "termination_reason": "caller_left",
    "summary": "</p><script>alert(1)</script>",
    "cost": {"amount": 0.04, "currency": "EUR"},
    "tags": ["weather", "<b>"],
}
"""What a platform tells of a call, but for its transcript."""


def entry(kind: str, at_ms: int, text: str) -> dict[str, Any]:
    role, turn = ("assistant", "agent") if kind == "response_text" else ("user", "user")
    return {"type": "message", "role": role, "message": text, "turnId": f"{turn}-{at_ms}"}


class ProofTests(AdminTestCase):
    """What staff see of the comparison with the platform's record. The comparing: test_reconcile.py."""

    def setUp(self) -> None:
        super().setUp()
        self.allow("view_voicesession", "change_voicesession")
        self.platform = self.enterContext(platform())

    def call(self, *told: tuple[int, str, dict[str, Any]], call_id: str = "call-77") -> VoiceSession:
        """A call that ended an hour ago, so that the platform's record of it is final."""
        session = open_session()
        VoiceSession.objects.filter(pk=session.pk).update(created_at=timezone.now() - timedelta(hours=1))
        tell(session, (0, "connected", {}), (200, "session_started", {"id": call_id}), *told)
        tell(session, (65_000, "hang_up", {}))
        return session

    def record(self, *told: tuple[int, str, dict[str, Any]], call_id: str = "call-77", **facts: Any) -> None:
        """What the platform has of the call from now on."""
        entries = [entry(kind, at_ms, data.get("text") or data["transcript"]) for at_ms, kind, data in told]
        self.platform.calls[call_id] = (200, {**RECORD, **facts, "transcript": {"entries": entries}})

    def compare(self, session: VoiceSession) -> str:
        """Presses the button; returns the page that follows, as it is read."""
        response = self.client.post(f"{change_url(session)}compare/", follow=True)
        assert response.redirect_chain == [(change_url(session), 302)]
        session.refresh_from_db()
        return shown(response.content.decode())

    def test_the_button_compares_and_tells_what_came_of_it(self) -> None:
        told = (agent_says(900, "Hello."), caller_says(3000, "Hi."), agent_says(5000, "Sunny."))
        session = self.call(*told)
        self.record(*told)
        page = self.compare(session)
        assert "Compared. The platform's own record of the call tells the same." in page
        assert "Proof Complete" in page

        session = self.call(told[0], agent_says(5000, "Rainy."), agent_says(6000, "Free dinner."))
        VoiceSession.objects.exclude(pk=session.pk).delete()
        page = self.compare(session)
        assert "Proof Differs 2" in page
        assert "2 lines do not agree with the platform's record" in page
        assert "1 line was missing in the browser's report, and was added" in page
        rows = self.transcript(session).rows
        assert [row["words"] for row in rows if row["words"] and "hidden" not in row][2:-1] == [
            "0:00 Agent Hello.",
            "0:00 Caller recovered Hi.",
            "0:05 Agent Rainy. The platform's record differs: Agent Sunny.",
            "0:06 Agent Free dinner. Only the browser tells this: the platform's record has nothing like it.",
        ]
        assert [name_of(row) for row in rows if "hidden" in row] == ["platform-2", "platform-3"]

    def test_the_head_tells_what_the_platform_tells(self) -> None:
        session = self.call()
        self.record()
        self.compare(session)
        page = self.client.get(change_url(session))
        for words in ("1:05", "caller_left", "amount: 0.04, currency: EUR", "weather, &lt;b&gt;"):
            self.assertContains(page, f"<dd>{words}</dd>")
        self.assertContains(page, "&lt;/p&gt;&lt;script&gt;alert(1)")
        self.assertNotContains(page, "<script>alert")

    def test_hostile_words_of_the_platform_are_shown_and_never_obeyed(self) -> None:
        hostile = "</li><script>alert(1)</script><img src=x onerror=alert(1)>"
        session = self.call(agent_says(900, "Hello."))
        self.record(agent_says(900, hostile), caller_says(1000, hostile))
        for _ in range(2):
            self.compare(session)
            response = self.client.get(change_url(session))
            rows = Rows(response.content.decode())
            assert not {"script", "img"} & rows.tags
            self.assertNotContains(response, "<script>alert")
        assert any(hostile in str(words) for words in rows.words())
        self.assertNotContains(self.client.get(SESSIONS), "<script>alert")

    def test_a_try_in_vain_says_why(self) -> None:
        session = self.call()
        self.platform.calls["another"] = (200, {})
        page = self.compare(session)
        assert "The call could not be compared. The platform does not know the call." in page
        assert "Proof Waiting The platform does not know the call." not in page
        assert "Waiting" in page
        assert "Next look" in page

    def test_who_may_press_the_button(self) -> None:
        session = self.call()
        self.record()
        url = f"{change_url(session)}compare/"
        assert self.client.get(url).status_code == 405
        self.assertContains(self.client.get(change_url(session)), f'action="{url}"')
        assert Client(enforce_csrf_checks=True).post(url).status_code == 403
        for codenames in (("view_voicesession",), ("view_booking", "change_booking"), ()):
            self.allow(*codenames)
            assert self.client.post(url).status_code == 403
        self.allow("view_voicesession")
        self.assertNotContains(self.client.get(change_url(session)), url)
        User.objects.filter(pk=self.staff.pk).update(is_staff=False)
        assert self.client.post(url)["Location"].startswith("/admin/login/")
        User.objects.filter(pk=self.staff.pk).update(is_staff=True, is_superuser=True)
        assert self.client.post(f"{change_url(VoiceSession())}compare/").status_code == 404
        session.refresh_from_db()
        assert (session.proof, self.platform.requests) == ("", [])
        self.compare(session)
        assert session.proof == "complete"

    def test_there_is_no_button_where_nothing_can_be_compared(self) -> None:
        running, nameless = open_session(), open_session()
        tell(running, (0, "connected", {}), (1, "session_started", {"id": "call-1"}))
        nameless.mark_ended("hang_up", timezone.now())
        for session in (running, nameless):
            self.assertNotContains(self.client.get(change_url(session)), "compare/")
        assert "The call is not over yet." in self.compare(running)
        assert "After the call" in shown(self.client.get(change_url(running)).content.decode())

    def test_lines_that_the_comparison_changes_are_sent_again(self) -> None:
        session = self.call(agent_says(900, "Hello."), agent_says(5000, "Rainy."))
        response = self.client.get(events_url(session))
        cursor, head = response["X-Cursor"], response["X-Head"]
        self.record(agent_says(900, "Hello."), caller_says(3000, "Hi."), agent_says(5000, "Sunny."))
        self.compare(session)
        rows, _ = self.increment(session, cursor)
        assert rows.ids() == ["browser-4", "platform-1", "platform-2"]
        assert rows.words()[0] == "0:05 Agent Rainy. The platform's record differs: Agent Sunny."
        assert "hidden" in rows.rows[2]
        page = self.client.get(change_url(session))
        new_head = self.client.get(events_url(session, cursor))["X-Head"]
        assert new_head != head, "the head is to be fetched again"
        self.assertContains(page, f'data-head="{new_head}"')
        by_name = {name_of(row): row for row in Rows(page.content.decode()).rows}
        assert all(by_name[name_of(row)] == row for row in rows.rows)

    def test_the_list_tells_the_proof_and_filters_by_it(self) -> None:
        told = (agent_says(900, "Hello."), caller_says(3000, "Hi."))
        calls = {
            "complete": self.call(*told, call_id="c1"),
            "recovered": self.call(told[0], call_id="c2"),
            "differs": self.call(agent_says(900, "Goodbye."), call_id="c3"),
            "unverified": self.call(*told, call_id="c4"),
            "waiting": self.call(*told, call_id="c5"),
            "nothing": open_session(),
        }
        open_session().mark_live(timezone.now())
        for call_id in ("c1", "c2", "c3"):
            self.record(*told, call_id=call_id)
        self.record(*told, call_id="c4", room="another")
        for session in calls.values():
            if session.call_id and session.call_id != "c5":
                self.compare(session)
        calls["nothing"].mark_ended("not_started", timezone.now())
        words = {
            "complete": "Complete",
            "recovered": "Recovered 1",
            "differs": "Differs 1 recovered 1",
            "unverified": "Unverified",
            "waiting": "Waiting",
            "nothing": "Nothing to compare",
        }
        for look, session in calls.items():
            page = self.client.get(f"{SESSIONS}?proof={look}").content.decode()
            assert re.findall(rf'<th[^>]*><a href="{SESSIONS}([0-9a-f-]+)/change/', page) == [str(session.pk)]
            cell = re.search(r'<td class="col-proof">(.*?)</td>', page)
            assert cell is not None
            assert shown(cell[1]) == words[look]
        # One turn is one turn, also where two rows tell of it.
        assert " 2 turns " in shown(self.client.get(f"{SESSIONS}?proof=differs").content.decode())


def shown(html: str) -> str:
    """The words of a page."""
    return " ".join(unescape(strip_tags(html)).split())


class BookingTests(AdminTestCase):
    def test_bookings_and_their_calls(self) -> None:
        session = open_session()
        at = timezone.now().replace(year=2031, month=3, day=7, hour=19, minute=30)
        made = Booking.objects.create(session=session, tool_call_id="a", people=2, at=at, name="O'Neill <b>")
        Booking.objects.create(
            session=session, tool_call_id="b", people=5, at=at, cancelled_at=timezone.now()
        )
        with CaptureQueriesContext(connection) as captured:
            page = self.client.get(BOOKINGS)
        joined = [query for query in captured.captured_queries if "sessions_app_voicesession" in query["sql"]]
        assert len(joined) == 1
        for words in (made.reference, "Fri 7 Mar 2031, 19:30", "O&#x27;Neill &lt;b&gt;", "just now"):
            self.assertContains(page, words)
        self.assertContains(page, f'href="{change_url(session)}"', count=2)

    def test_the_log_and_the_tool_runs_have_no_lists_of_their_own(self) -> None:
        tell(open_session(), (0, "connected", {}))
        assert SessionEvent.objects.count() == 1
        for model in ("sessionevent", "toolrun"):
            assert self.client.get(f"/admin/sessions_app/{model}/").status_code == 404
