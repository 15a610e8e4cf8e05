"""The list of calls: what a row tells, its order and pages, filters, search, and calls chosen from it."""

import re
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch
from urllib.parse import quote
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import BadRequest
from django.db import connection
from django.test import RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sessions_app import digest, listing, search
from sessions_app.models import Label, Labelling, Note, VoiceSession

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

PORTER = UUID("5a1c0e5e-0000-4000-8000-000000000002")

RLO, PDI, NUL = "\u202e", "\u2069", "\0"


def call(at: datetime | None = None, **columns: Any) -> VoiceSession:
    """A call of staff's list without a log: figures are what they are said to be."""
    at = at or timezone.now()
    values = {"state": "ended", "started_at": at, "agent_name": "Concierge", "agent_id": AGENT, **columns}
    return VoiceSession.objects.create(visitor="0" * 32, created_at=at, **values)


def ago(**span: float) -> datetime:
    return timezone.now() - timedelta(**span)


class ListTestCase(AdminTestCase):
    def page(self, query: str = "") -> str:
        response = self.client.get(f"{SESSIONS}{query}")
        assert response.status_code == 200
        return response.content.decode()

    def listed(self, query: str = "") -> list[str]:
        """The ids of the calls in the list."""
        return re.findall(rf'<th[^>]*><a href="{SESSIONS}([0-9a-f-]+)/change/', self.page(query))

    def link(self, page: str, words: str) -> str:
        """The query string of a link of the list to itself."""
        found = re.search(rf'<a[^>]*href="(\?[^"]*)"[^>]*>\W*{re.escape(words)}\W*</a>', page)
        assert found is not None, words
        return found[1].replace("&amp;", "&")


class RowTests(ListTestCase):
    def test_what_a_row_tells(self) -> None:
        session = open_session()
        tell(
            session, (0, "connected", {}), caller_says(4000, "And in <b>Rome</b>?"), agent_says(900, "Sunny.")
        )
        tell(session, cuts_in(4500), agent_says(4400, ""))
        tell(session, (5000, "tool_call", {"toolCallId": "t1", "toolName": "get_weather", "arguments": {}}))
        tell(session, (5100, "tool_call_output", {"toolCallId": "t1", "output": '{"error": "no"}'}))
        VoiceSession.objects.update(created_at=ago(hours=2), started_at=ago(hours=2))
        session.refresh_from_db()
        assert session.started_at is not None
        session.mark_ended("hang_up", session.started_at + timedelta(seconds=83))
        for name in ("good", "misheard"):
            Labelling.objects.create(session=session, label=Label.objects.get(name=name), by=self.staff)
        session.mark("flagged", self.staff, timezone.now())
        session.mark("reviewed", self.staff, timezone.now())
        page = self.page()
        row = re.search(r"<tbody>(.*?)</tbody>", page, re.DOTALL)
        assert row is not None
        assert "<b>Caller:</b> <bdi>And in &lt;b&gt;Rome&lt;/b&gt;?</bdi>" in row[1]
        assert shown(row[1].replace("&nbsp;", " ")) == (
            f"Concierge 2 hours ago {timezone.localtime(session.started_at):%-d %b %Y, %H:%M} "
            "Ended the caller hung up 1:23 3 turns Caller: And in <b>Rome</b>? good misheard "
            "1 tool error 1 interruption Unverified Flagged by staff Reviewed by staff"
        )

    def test_a_running_call_tells_the_time_so_far_and_the_words_so_far(self) -> None:
        session = open_session()
        session.mark_live(ago(minutes=3, seconds=7))
        tell(session, agent_says(900, "Good evening."))
        page = self.page()
        assert re.search(r"live, <span [^>]*>3:0[78]</span>", page)
        assert "Good evening." in page
        assert "1 turn" in shown(page)
        tell(session, caller_says(4000, "Good evening to you."))
        page = self.page()
        assert "Good evening to you." in page
        assert "2 turns" in shown(page)

    def test_the_number_of_queries_is_the_same_for_one_call_and_for_fifty(self) -> None:
        label = Label.objects.get(name="good")

        def add(**columns: Any) -> None:
            session = call(reviewed_at=timezone.now(), reviewed_by=self.staff, **columns)
            Labelling.objects.create(session=session, label=label)

        add()
        add(state="live")
        self.client.get(SESSIONS)
        with CaptureQueriesContext(connection) as few:
            assert len(self.listed()) == 2
        for _ in range(50):
            add()
        with CaptureQueriesContext(connection) as many:
            assert len(self.listed()) == 51, "the live one, and a page of others"
        # PostgreSQL has noted how far the log is settled; SQLite looks.
        assert len(few) == len(many) == (15 if connection.vendor == "sqlite" else 14)

    def test_there_is_something_to_read_without_calls(self) -> None:
        assert "There are no calls yet." in shown(self.page())
        assert "No call matches." in shown(self.page("?state=live"))


class OrderTests(ListTestCase):
    def test_live_calls_come_first_then_the_newest(self) -> None:
        old, older = call(ago(hours=1)), call(ago(hours=2))
        live = call(ago(hours=3), state="live")
        assert self.listed() == [str(live.pk), str(old.pk), str(older.pk)]
        assert "Live now" in self.page()

    def test_pages_lead_through_all_calls_and_back_although_new_ones_begin(self) -> None:
        at = ago(days=1)
        # All of one moment, and of several: the id decides where the time does not.
        calls = [call(at - timedelta(seconds=n // 40)) for n in range(120)]
        live = call(ago(days=3), state="live")
        in_order = sorted(calls, key=lambda call: (call.created_at, call.pk), reverse=True)
        ids = [str(call.pk) for call in in_order]
        first = self.page()
        assert self.listed() == [str(live.pk), *ids[:50]]
        assert "Newer" not in first
        second = self.link(first, "Older")
        assert self.listed(second) == ids[50:100]
        newest = call()
        assert self.listed(second) == ids[50:100]
        third = self.link(self.page(second), "Older")
        assert self.listed(third) == ids[100:]
        assert "Older" not in self.page(third)
        back = self.link(self.page(third), "Newer")
        assert self.listed(back) == ids[50:100]
        assert self.listed(self.link(self.page(back), "Newer")) == ids[:50]
        top = self.link(self.page(self.link(self.page(back), "Newer")), "Newer")
        assert self.listed(top) == [str(live.pk), str(newest.pk), *ids[:49]]
        assert self.listed(self.link(self.page(third), "Newest")) == self.listed()

    def test_pages_keep_the_filters(self) -> None:
        for n in range(60):
            call(ago(hours=n), end_reason="hang_up" if n % 2 else "failed", agent_id=PORTER)
            call(ago(hours=n), end_reason="hang_up")
        link = self.link(self.page(f"?agent={PORTER}"), "Older")
        assert len(self.listed(link)) == 10
        assert "No call" not in self.page(link)

    def test_a_broken_address_begins_at_the_newest(self) -> None:
        session = call()
        for place in ("x", "1.2", f"99999999999999999999.{'0' * 32}", "-5", "%00"):
            assert self.listed(f"?before={place}") == [str(session.pk)]
            assert self.listed(f"?after={place}") == [str(session.pk)]

    def test_no_page_counts_the_table(self) -> None:
        call()
        with CaptureQueriesContext(connection) as captured:
            self.page()
        assert not [query for query in captured.captured_queries if "COUNT(" in query["sql"].upper()]
        assert not [query for query in captured.captured_queries if "OFFSET" in query["sql"].upper()]


class FilterTests(ListTestCase):
    def test_each_filter(self) -> None:
        plain = call(ago(days=40))
        Label.objects.create(name="very good")
        reviewer = User.objects.create_user("reviewer", is_staff=True)
        cases: dict[str, dict[str, Any]] = {
            f"agent={PORTER}": {"agent_id": PORTER, "agent_name": "Porter"},
            "state=live": {"state": "live"},
            "state=created": {"state": "created", "started_at": None},
            "end=agent_ended": {"end_reason": "agent_ended"},
            "proof=differs": {"proof": "differs", "differing": 2},
            "has=tool_error": {"tool_errors": 1},
            "has=interruption": {"interruptions": 1},
            "has=incident": {"incidents": 1},
            "has=slow_reply": {"slow_replies": 1},
            "has=flag": {"flagged_at": timezone.now()},
            "longer=600": {"length_s": 600},
            "shorter=10": {"length_s": 10},
            "longer=50&shorter=70": {"length_s": 60},
            "reviewer=reviewer": {"reviewed_by": reviewer, "reviewed_at": timezone.now()},
        }
        for query, columns in cases.items():
            with self.subTest(query):
                wanted = call(ago(days=40), **{"length_s": 200, **columns})
                assert self.listed(f"?{query}") == [str(wanted.pk)]
                wanted.delete()
        labelled, noted = call(), call()
        Labelling.objects.create(session=labelled, label=Label.objects.get(name="very good"))
        Note.objects.create(session=noted, text="?")
        assert self.listed("?label=very+good") == [str(labelled.pk)]
        assert self.listed("?has=note") == [str(noted.pk)]
        VoiceSession.objects.exclude(pk=plain.pk).update(reviewed_at=timezone.now())
        assert self.listed("?has=unreviewed") == [str(plain.pk)]

    def test_filters_together_and_several_things_that_a_call_has(self) -> None:
        call(tool_errors=1)
        call(interruptions=1)
        both = call(tool_errors=1, interruptions=2)
        call(tool_errors=1, interruptions=2, state="live")
        assert self.listed("?has=tool_error&has=interruption&state=ended") == [str(both.pk)]

    @override_settings(TIME_ZONE="America/New_York")
    def test_a_day_is_a_day_of_the_sites_time_zone(self) -> None:
        def at(hour: int) -> datetime:
            return datetime.fromisoformat(f"2026-03-08T{hour:02}:30:00+00:00")

        # New York's clocks went forward on this day, which began at 5:00 and ended at 4:00 of the next one.
        day_before, first = call(at(4)), call(at(5))
        last = call(at(3) + timedelta(days=1))
        day_after = call(at(4) + timedelta(days=1))
        assert self.listed("?from=2026-03-08&to=2026-03-08") == [str(last.pk), str(first.pk)]
        assert self.listed("?to=2026-03-07") == [str(day_before.pk)]
        assert self.listed("?from=2026-03-09") == [str(day_after.pk)]

    def test_the_form_remembers_and_chips_take_away(self) -> None:
        call(agent_name="Concierge", tool_errors=1, length_s=90)
        query = f"?from=2026-01-02&agent={AGENT}&state=ended&has=tool_error&longer=60"
        page = self.page(query)
        for control in (
            'name="from" value="2026-01-02"',
            f'<option value="{AGENT}" selected>Concierge</option>',
            '<option value="ended" selected>',
            'value="tool_error" checked',
            'max="1000000" value="60"',
        ):
            assert control in page, control
        chips = re.findall(r'<a class="chip" href="(\?[^"]*)">(.*?)</a>', page)
        assert [shown(words)[:-2] for _, words in chips] == [
            "Remove From 2 Jan 2026",
            "Remove Concierge",
            "Remove Ended",
            "Remove 60 s or longer",
            "Remove Tool errors",
        ]
        assert chips[2][0].replace("&amp;", "&") == f"?from=2026-01-02&agent={AGENT}&longer=60&has=tool_error"
        assert '<a class="chips-clear" href="?">' in page
        assert "chips" not in self.page()

    def test_what_cannot_be_read_is_said_and_the_rest_applies(self) -> None:
        call(state="live")
        wanted = call()
        for query, sentence in (
            ("from=yesterday", "The first day “yesterday” is no day between 2000 and 2099"),
            ("to=0001-01-01", "The last day “0001-01-01” is no day"),
            ("from=20260101", "The first day “20260101” is no day"),
            ("agent=x", "The agent “x” is not the id of an agent"),
            ("end=boredom", "The end “boredom” is not among the choices"),
            ("label=none+such", "The label “none such” is no label"),
            ("reviewer=nobody", "The reviewer “nobody” is not a user name"),
            ("has=charm", "What the call has “charm” is not among"),
            ("longer=-1", "The shortest length “-1” is no number of seconds"),
            ("shorter=" + "9" * 5000, "The greatest length “" + "9" * 39 + "…” is no number"),
            ("label=%00", "is no label"),
        ):
            page = self.page(f"?{query}&state=ended")
            assert sentence in shown(page), query
            assert self.listed(f"?{query}&state=ended") == [str(wanted.pk)]
        assert "The first day is after the last one" in self.page("?from=2026-02-01&to=2026-01-01")
        assert "The shortest length is above the greatest" in self.page("?longer=9&shorter=3")


class SearchTests(ListTestCase):
    def said(self, words: str, **columns: Any) -> VoiceSession:
        session = open_session()
        tell(session, (0, "connected", {}), caller_says(61_000, words))
        VoiceSession.objects.filter(pk=session.pk).update(**columns)
        session.refresh_from_db()
        return session

    def found(self, query: str) -> list[str]:
        """Ids and anchors of the lines that a search finds."""
        return re.findall(
            rf'<p class="hit-where"><a id="hit-\d+" href="{SESSIONS}([0-9a-f-]+/change/#\w+-\d+)"',
            self.page(query),
        )

    def test_by_the_number_of_the_session_or_the_call(self) -> None:
        wanted, other = open_session(), open_session()
        wanted.set_call("call-4711")
        other.set_call("call-9999")
        for text in (str(wanted.pk), str(wanted.pk)[:13], wanted.pk.hex, "4711", "CALL-47"):
            assert self.listed(f"?q={text}") == [str(wanted.pk)], text
        assert self.listed("?q=4711&state=live") == []
        number = uuid4()
        for text in (str(number), number.hex):
            assert self.listed(f"?q={text}") == []
            assert "No call matches." in shown(self.page(f"?q={text}"))
        VoiceSession.objects.filter(pk=other.pk).update(call_id=str(number))
        for text in (str(number), number.hex, str(number)[:13]):
            assert self.listed(f"?q={text}") == [str(other.pk)]

    def test_words_that_were_said_in_their_context(self) -> None:
        session = self.said("I would like a table for two, <b>please</b>.")
        self.said("Nothing of the kind.")
        page = self.page("?q=table+please")
        assert self.found("?q=table+please") == [f"{session.pk}/change/#browser-2"]
        assert (
            "<b>Caller:</b> <bdi>I would like a <mark>table</mark> for two, "
            "&lt;b&gt;<mark>please</mark>&lt;/b&gt;.</bdi>" in page
        )
        assert "at 1:01" in page
        assert self.found("?q=tables") == []
        assert "Nothing like that was said." in shown(self.page("?q=tables"))

    def test_with_filters(self) -> None:
        ended = self.said("a window, please", state="ended")
        live = self.said("a window seat", state="live")
        assert len(self.found("?q=window")) == 2
        assert self.found("?q=window&state=ended") == [f"{ended.pk}/change/#browser-2"]
        assert self.found("?q=window&state=live") == [f"{live.pk}/change/#browser-2"]
        assert self.found("?q=window&from=2030-01-01") == []

    def test_a_number_that_was_said_can_be_searched_too(self) -> None:
        session = self.said("It is B1042, for 19:30.")
        named = open_session()
        named.set_call("call-B1042")
        page = self.page("?q=B1042")
        assert self.listed("?q=B1042") == [str(named.pk)]
        assert self.found(self.link(page, "Search for it in what was said")) == [
            f"{session.pk}/change/#browser-2"
        ]

    def test_when_only_the_newest_mentions_were_looked_at(self) -> None:
        for _ in range(3):
            self.said("again and again")
        digest.catch_up(5, 100)
        assert "only the newest" not in self.page("?q=again")
        with patch.object(search, "MATCHES", 2):
            assert "only the newest mentions were looked at" in self.page("?q=again")

    def test_the_number_of_queries_is_the_same_for_one_hit_and_for_many(self) -> None:
        self.said("once upon a time")
        self.page("?q=once")
        counts = set()
        for _ in range(2):
            with CaptureQueriesContext(connection) as captured:
                self.page("?q=once")
            counts.add(len(captured))
            for _ in range(6):
                self.said("once more")
            self.page()
        assert len(counts) == 1

    def test_odd_queries(self) -> None:
        self.said("hello")
        for text in (
            '"',
            "*",
            "''; --",
            "\ud83d",
            "a" * 300,
            " ",
            "%00",
            "NOT OR AND",
            "he*llo",
            "٣٤٥٦٧",
            "((((",
        ):
            assert self.client.get(SESSIONS, {"q": text.encode("utf-8", "replace")}).status_code == 200
        assert "200 characters at most" in shown(self.page(f"?q={'a' * 300}"))


class SelectionTests(ListTestCase):
    def chosen(self, data: str, method: str = "post") -> set[UUID]:
        factory = RequestFactory()
        if method == "post":
            request = factory.post("/", data, content_type="application/x-www-form-urlencoded")
        else:
            request = factory.get(f"/?{data}")
        return set(listing.selected(request).values_list("pk", flat=True))

    def test_by_their_ids_or_all_that_match(self) -> None:
        one, two, three = call(tool_errors=1), call(tool_errors=2), call()
        assert self.chosen(f"id={one.pk}&id={three.pk}") == {one.pk, three.pk}
        assert self.chosen("") == set()
        assert self.chosen("has=tool_error") == set(), "filters alone choose nothing in a form"
        assert self.chosen("all=1&has=tool_error") == {one.pk, two.pk}
        assert self.chosen(f"all=1&has=tool_error&id={three.pk}") == {one.pk, two.pk}
        assert self.chosen("all=1") == {one.pk, two.pk, three.pk}
        assert self.chosen("has=tool_error", "get") == {one.pk, two.pk}
        assert self.chosen(f"id={one.pk}", "get") == {one.pk}

    def test_all_that_a_search_finds(self) -> None:
        said, other = open_session(), open_session()
        tell(said, caller_says(1, "Kyoto"), caller_says(2, "Kyoto again"))
        tell(other, caller_says(1, "Osaka"))
        digest.catch_up(5, 10)
        assert self.chosen("all=1&q=kyoto") == {said.pk}
        assert self.chosen(f"all=1&q={other.pk}") == {other.pk}
        assert self.chosen("all=1&q=kyoto&state=ended") == set()
        with patch.object(search, "MATCHES", 1), self.assertRaisesMessage(BadRequest, "too often"):
            self.chosen("all=1&q=kyoto")

    def test_buttons_are_for_those_who_may(self) -> None:
        call()
        buttons = {
            (): [],
            ("export_voicesession",): ["Export JSON", "Export CSV"],
            ("delete_voicesession",): ["Delete…"],
            ("export_voicesession", "delete_voicesession"): ["Export JSON", "Export CSV", "Delete…"],
        }
        for codenames, words in buttons.items():
            self.allow("view_voicesession", *codenames)
            page = self.page()
            assert re.findall(r"<button[^>]*formaction[^>]*>(.*?)</button>", page) == words
            assert ('name="id"' in page) == bool(words)

    def test_the_form_sends_the_choice_with_the_filters_of_the_page(self) -> None:
        self.allow("view_voicesession", "export_voicesession", "delete_voicesession")
        failed, other = call(tool_errors=1, length_s=5), call(length_s=5)
        page = self.page("?has=tool_error&longer=0")
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="(.*?)">', page))
        del hidden["csrfmiddlewaretoken"]
        assert hidden == {"has": "tool_error", "longer": "0"}
        export, delete = (
            re.findall(rf'formaction="(.*?)"[^>]*>{words}<', page)[0] for words in ("Export JSON", "Delete…")
        )
        response = self.client.post(export, {"all": "1", "format": "json", **hidden})
        exported = b"".join(response).decode()
        assert str(failed.pk) in exported
        assert str(other.pk) not in exported
        response = self.client.post(export, {"id": str(other.pk), "format": "json", **hidden})
        assert str(other.pk) in b"".join(response).decode()
        self.assertContains(self.client.post(delete, {"all": "1", **hidden}), str(failed.pk))

    def test_a_broken_filter_must_not_widen_the_choice(self) -> None:
        call()
        for data in ("all=1&state=lively", "all=1&from=x", "all=1&label=gone", "id=x"):
            with pytest.raises(BadRequest):
                self.chosen(data)


class HostileTests(ListTestCase):
    HOSTILE = f'</li><script>alert(1)</script><img src=x onerror="alert(1)">{RLO}gnp.exe{PDI}'

    def test_whatever_was_said_or_named_is_shown_and_never_obeyed(self) -> None:
        session = call(
            agent_name=self.HOSTILE[:100],
            last_words=self.HOSTILE,
            last_role="caller",
            end_reason="hang_up",
            reviewed_at=timezone.now(),
            reviewed_by=User.objects.create_user("<b>eve</b>", is_staff=True),
        )
        label = Label.objects.create(name=f"<i>{RLO}dab</i>")
        Labelling.objects.create(session=session, label=label)
        for query in (
            "",
            f"?label={quote(label.name)}",
            f"?reviewer={quote('<b>eve</b>')}",
            f"?agent={AGENT}",
        ):
            page = self.page(query)
            assert self.listed(query) == [str(session.pk)]
            for tag in ("<script>alert", "<img src", "<b>eve", "<i>"):
                assert tag not in page
            # Characters that turn the direction stand in elements which keep that to themselves.
            body = re.sub(r"<bdi>.*?</bdi>|<option.*?</option>|<input.*?>", "", page, flags=re.DOTALL)
            assert RLO not in body

    def test_a_hostile_query_comes_back_as_text_only(self) -> None:
        for name in ("q", "from", "agent", "label", "has", "longer", "before", "nonsense"):
            page = self.page(f"?{name}={quote(self.HOSTILE)}")
            assert "<script>alert" not in page
            assert "<img" not in page
            body = re.sub(r"<bdi>.*?</bdi>|<input.*?>", "", page, flags=re.DOTALL)
            assert RLO not in body, name

    def test_words_of_60_kb_do_not_fill_the_page(self) -> None:
        session = open_session()
        long = "x" * 60_000
        tell(session, caller_says(1, long), caller_says(2, f"needle {long} {'word ' * 9000}"))
        assert len(self.page()) < 30_000
        assert len(self.page("?q=needle")) < 30_000
        assert f"{session.pk}/change/#browser-2" in self.page("?q=needle")
        for name in ("q", "label", "from", "agent"):
            assert len(self.page(f"?{name}={'y' * 60_000}")) < 30_000

    def test_search_marks_hostile_words_harmlessly(self) -> None:
        session = open_session()
        tell(session, caller_says(1, f"<script>alert(1)</script> {RLO}needle"))
        page = self.page("?q=alert+needle")
        assert "&lt;script&gt;<mark>alert</mark>(1)&lt;/script&gt;" in page
        assert "<script>alert" not in page
