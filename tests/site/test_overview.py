"""The overview: its numbers are those of the calls, each is there without script, and a call counts once."""

import re
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from statistics import median
from typing import Any
from unittest.mock import patch
from urllib.parse import quote
from uuid import UUID

from django.core.management import call_command
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sessions_app import overview
from sessions_app.models import Day, VoiceSession

from .platform import platform
from .test_admin import (
    AGENT,
    SESSIONS,
    AdminTestCase,
    agent_says,
    caller_says,
    cuts_in,
    open_session,
    shown,
    tell,
)

OVERVIEW = f"{SESSIONS}overview/"
PORTER = UUID("5a1c0e5e-0000-4000-8000-000000000002")
MAY = date(2026, 5, 1)


def call(day: date = MAY, hour: int = 12, **columns: Any) -> VoiceSession:
    """A call of that day, digested: its figures are what they are said to be."""
    at = datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
    values = {"agent_id": AGENT, "agent_name": "Concierge", "started_at": at, "state": "ended", **columns}
    session = VoiceSession.objects.create(visitor="0" * 32, created_at=at, **values)
    Day.objects.expire([(session.created_at, session.agent_id)])
    return session


class OverviewTestCase(AdminTestCase):
    def page(self, query: str = "?from=2026-05-01&to=2026-05-03") -> str:
        response = self.client.get(f"{OVERVIEW}{query}")
        assert response.status_code == 200
        return response.content.decode()

    def tiles(self, query: str = "?from=2026-05-01&to=2026-05-03") -> dict[str, str]:
        """The numbers at the top."""
        found = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", self.page(query))
        return {shown(name): shown(value) for name, value in found}

    def table(self, title: str, query: str = "?from=2026-05-01&to=2026-05-03") -> list[list[str]]:
        """The cells of the rows under a chart's title."""
        part = self.page(query).split(f"<h2>{title}</h2>")[1]
        body = part[part.index("<tbody>") : part.index("</tbody>")]
        return [
            [shown(cell) for _, cell in re.findall(r"<(th|td)\b[^>]*>(.*?)</\1>", row, re.DOTALL)]
            for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
        ]


class NumberTests(OverviewTestCase):
    def test_what_happened_in_the_calls_of_a_span(self) -> None:
        call(end_reason="hang_up", proof="complete", interruptions=2)
        call(end_reason="hang_up", proof="unverified")
        call(end_reason="failed", proof="unverified", call_id="", started_at=None)
        errors = {"tools": {"book_table": 3, "get_time": 1}, "tool_errors": {"book_table": 2}}
        call(MAY + timedelta(days=2), end_reason="agent_ended", proof="differs", details=errors)
        call(MAY + timedelta(days=3), end_reason="failed", interruptions=5, details=errors)
        call(MAY - timedelta(days=1), end_reason="failed", interruptions=5, details=errors)
        assert self.tiles() == {
            "Calls": "4",
            "Reply, median": "none",
            "Reply, 95 of 100 within": "none",
            "Interrupted": "33.3%",
            "Tool errors": "2",
            "Unverified": "1",
        }
        assert self.table("Calls per day") == [
            ["Fri 1 May 2026", "3", "1"],
            ["Sat 2 May 2026", "0", "0"],
            ["Sun 3 May 2026", "1", "0"],
        ]
        assert self.table("Interrupted calls") == [
            ["Fri 1 May 2026", "50.0%", "1", "2"],
            ["Sat 2 May 2026", "", "0", "0"],
            ["Sun 3 May 2026", "0.0%", "0", "1"],
        ]
        assert self.table("Tool errors by tool") == [
            ["book_table", "2", "", "3", "66.7%"],
            ["get_time", "0", "", "1", "0.0%"],
        ]
        assert self.table("Why calls ended") == [
            ["The caller hung up", "2", "", "50.0%"],
            ["The call failed", "1", "", "25.0%"],
            ["The agent ended the call", "1", "", "25.0%"],
        ]

    def test_latency_of_a_span_is_that_of_its_replies_not_of_its_days(self) -> None:
        days = [[500, 520, 640, 700, 710], [3000], [400, 4100, 800]]
        for number, replies in enumerate(days):
            call(MAY + timedelta(days=number), details={"replies_ms": replies})
        of_days = [
            [float(words.split()[0]) * 1000 for words in row[1:3]] for row in self.table("Reply latency")
        ]
        everything = sorted(ms for replies in days for ms in replies)
        tiles = self.tiles()
        for found, true in (
            (of_days[0][0], 640),
            (of_days[1][0], 3000),
            (of_days[1][1], 3000),
            (of_days[2][0], 800),
            (of_days[2][1], 4100),
            (float(tiles["Reply, median"].split()[0]) * 1000, median(everything)),
            (float(tiles["Reply, 95 of 100 within"].split()[0]) * 1000, 4100),
        ):
            assert abs(found - true) <= 0.025 * true + 5, (found, true)

    def test_one_agents_calls(self) -> None:
        call(interruptions=1)
        call(agent_id=PORTER, agent_name="Porter")
        query = f"?from=2026-05-01&to=2026-05-03&agent={PORTER}"
        assert self.tiles(query)["Calls"] == "1"
        assert self.tiles(query)["Interrupted"] == "0.0%"
        assert "Porter" in shown(self.page(query))

    @override_settings(TIME_ZONE="Pacific/Auckland")
    def test_a_day_is_a_day_of_the_sites_time_zone(self) -> None:
        call(hour=11)  # 23:00 of the same day
        call(hour=12)  # 0:00 of the next one
        call(hour=13)
        assert [row[1] for row in self.table("Calls per day")] == ["1", "2", "0"]

    def test_numbers_lead_to_their_calls(self) -> None:
        wanted = call(end_reason="failed", interruptions=1, proof="unverified")
        call(end_reason="hang_up")
        call(MAY + timedelta(days=9), end_reason="failed", interruptions=1, proof="unverified")
        page = self.page()
        for words in ("50.0%", "1", "The call failed"):
            link = re.search(rf'<a href="([^"]*from=2026-05-01[^"]*)">{re.escape(words)}</a>', page)
            assert link is not None, words
            found = self.client.get(link[1].replace("&amp;", "&")).content.decode()
            assert re.findall(r"<th[^>]*><a href=\"\S+?([0-9a-f-]{36})/change/", found) == [str(wanted.pk)], (
                words
            )


class FreshnessTests(OverviewTestCase):
    def test_what_is_told_since_counts_at_the_next_look_and_once(self) -> None:
        session = open_session()
        today = "?span=7"
        tell(session, (0, "connected", {}), caller_says(3000, "Hi."), agent_says(4000, "Good evening."))
        assert self.tiles(today)["Calls"] == "1"
        assert self.tiles(today)["Interrupted"] == "0.0%"
        tell(session, cuts_in(4500), (5000, "reply_audible", {"after_ms": 900}))
        for _ in range(2):
            tiles = self.tiles(today)
            assert (tiles["Calls"], tiles["Interrupted"]) == ("1", "100.0%")
            assert tiles["Reply, median"].startswith(("0.8", "0.9"))

    def test_a_comparison_counts_although_no_line_came(self) -> None:
        session = open_session()
        tell(session, (0, "connected", {}), (1, "session_started", {"id": "call-1"}), (2, "hang_up", {}))
        assert self.tiles("?span=7")["Unverified"] == "0"
        self.allow("view_voicesession", "change_voicesession")
        VoiceSession.objects.update(ended_at=timezone.now() - timedelta(days=3))
        self.enterContext(platform()).calls["another"] = (200, {})
        self.client.post(f"{SESSIONS}{session.pk}/change/compare/")
        assert self.tiles("?span=7")["Unverified"] == "1"

    def test_a_day_is_added_up_once(self) -> None:
        call()
        self.page()
        with CaptureQueriesContext(connection) as captured:
            self.page()
        assert not [query for query in captured.captured_queries if '"details"' in query["sql"]]

    def test_the_number_of_queries_does_not_grow_with_days_or_calls(self) -> None:
        counts = set()
        for number in (1, 40):
            for n in range(number):
                call(MAY + timedelta(days=n % 3), hour=n % 24)
            self.page()
            with CaptureQueriesContext(connection) as captured:
                self.page()
            counts.add(len(captured))
        assert len(counts) == 1

    def test_what_there_was_no_time_for_is_left_to_the_next_look_and_said(self) -> None:
        for n in range(3):
            call(MAY + timedelta(days=n))
        days = [MAY + timedelta(days=n) for n in range(3)]
        assert overview.recount(days, budget_s=-1) == 3
        with patch.object(overview, "RECOUNT_S", -1):
            page = shown(self.page())
        assert "The figures of 3 days of an agent are not added up yet." in page
        assert self.tiles()["Calls"] == "3"


class SpanTests(OverviewTestCase):
    def test_the_sweep_spares_readers_the_adding_up(self) -> None:
        for day in range(3):
            call(MAY + timedelta(days=day))
        with platform():
            call_command("sweep", stdout=StringIO())
        with patch.object(overview, "RECOUNT_S", -1):  # a reader who has no time for it
            assert self.tiles()["Calls"] == "3"

    def test_spans(self) -> None:
        today = timezone.localdate()
        call(today)
        for query, days in (("", 30), ("?span=7", 7), ("?span=90", 90)):
            rows = self.table("Calls per day", query)
            assert len(rows) == days
            assert rows[-1][1] == "1"
            assert f'aria-current="page">{days} days' in self.page(query)
        assert 'aria-current="page"' not in self.page(f"?from={today}&to={today}")
        assert len(self.table("Calls per day", f"?from={today}&to={today}")) == 1

    def test_an_empty_span_says_so(self) -> None:
        call(MAY)
        page = shown(self.page("?from=2025-01-01&to=2025-01-31"))
        assert "There were no calls in this span." in page
        assert "Calls per day" not in page
        call(MAY + timedelta(days=1), started_at=None)
        page = shown(self.page("?from=2026-05-02&to=2026-05-02"))
        for words in (
            "No reply was measured",
            "No call began",
            "No tool was called",
            "No call of this span is over",
        ):
            assert words in page

    def test_what_cannot_be_read_is_said(self) -> None:
        for query, words in (
            ("?span=8", "A span is one of 7, 30, 90 days."),
            ("?from=tomorrow", "The first day “tomorrow” is no day"),
            ("?to=1999-12-31", "The last day “1999-12-31” is no day"),
            ("?agent=x", "The agent “x” is not the id of an agent"),
            ("?from=2026-05-03&to=2026-05-01", "they were exchanged"),
            ("?from=2020-01-01&to=2026-05-01", "A span has 366 days at most"),
            ("?from=2099-12-31", ""),
            ("?to=2000-01-01", ""),
        ):
            assert words in shown(self.page(query)), query

    def test_who_may_see_it(self) -> None:
        self.assertContains(self.client.get("/admin/"), OVERVIEW)
        self.assertContains(self.client.get(SESSIONS), OVERVIEW)
        self.allow("view_booking")
        assert self.client.get(OVERVIEW).status_code == 403
        self.assertNotContains(self.client.get("/admin/"), OVERVIEW)
        self.client.logout()
        assert self.client.get(OVERVIEW)["Location"].startswith("/admin/login/")


class HostileTests(OverviewTestCase):
    def test_names_of_tools_and_agents_are_text_and_there_are_not_too_many(self) -> None:
        hostile = "<script>alert(1)</script>\u202e"
        tools = {f"{hostile}{n}" + "x" * 60_000: n + 1 for n in range(80)}
        call(agent_name=hostile, details={"tools": tools, "tool_errors": tools})
        page = self.page(f"?from=2026-05-01&to=2026-05-01&agent={AGENT}")
        assert "<script>alert" not in page
        assert len(page) < 60_000
        assert len(self.table("Tool errors by tool")) == 50
        assert "\u202e" not in re.sub(r"<bdi>.*?</bdi>|<option.*?</option>", "", page, flags=re.DOTALL)
        for name in ("from", "agent", "span"):
            assert "<script>alert" not in self.page(f"?{name}={quote(hostile)}")
