"""Taking calls away and bringing them back, whatever was said in them."""

import asyncio
import copy
import csv
import io
import json
import re
import tempfile
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client, TestCase, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sessions_app import digest, export, formats, log, search
from sessions_app.access import Access
from sessions_app.events import Frame
from sessions_app.models import (
    Booking,
    Label,
    Labelling,
    Note,
    SessionEvent,
    Tombstone,
    ToolRun,
    VoiceSession,
)
from voicedemo.asgi import application

from .sockets import PATIENCE_S

AGENT = UUID("5a1c0e5e-0000-4000-8000-000000000001")
SESSIONS = "/admin/sessions_app/voicesession/"
START = datetime(2026, 3, 1, 9, 30, 0, 123456, tzinfo=UTC)

Event = tuple[int, str, dict[str, Any]]


def open_session(**columns: Any) -> VoiceSession:
    values = {"visitor": "0" * 32, "agent_id": AGENT, "agent_name": "Concierge", "created_at": START}
    return VoiceSession.objects.create(**{**values, **columns})


def tell(session: VoiceSession, *events: Event, source: str = "browser") -> None:
    """Logs (at_ms, type, data) under the next numbers of their source."""
    first = log.last_seq(session.pk, source) + 1
    log.record(session.pk, [Frame(first + n, *event) for n, event in enumerate(events)], source=source)
    session.refresh_from_db()


def agent_says(at_ms: int, text: str, **data: Any) -> Event:
    return at_ms, "response_text", {"text": text, "turn_id": f"agent-{at_ms}", "is_final": True, **data}


def caller_says(at_ms: int, text: str, **data: Any) -> Event:
    data = {"transcript": text, "turn_id": f"user-{at_ms}", "is_final": True, **data}
    return at_ms, "input_audio_transcript", data


def tool_call(at_ms: int, call_id: str, name: str, **arguments: Any) -> Event:
    given = [{"name": key, "value": value} for key, value in arguments.items()]
    return at_ms, "tool_call", {"toolCallId": call_id, "toolName": name, "arguments": given}


def tool_output(at_ms: int, call_id: str, output: str) -> Event:
    return at_ms, "tool_call_output", {"toolCallId": call_id, "output": output}


def rich_call(staff: User, caller: User | None = None) -> VoiceSession:
    """One with something in each of its tables and columns."""
    session = open_session(user=caller, room="room-1", identity="caller-1", consent_version="1")
    tell(
        session,
        (0, "connected", {}),
        (200, "session_started", {"id": f"call-{session.pk}"}),
        agent_says(500, "Hello, and welcome to the very long greeting."),
        (1400, "interruption", {}),
        caller_says(1500, "A table for two, please. ☕", took_ms=1800),
        tool_call(3600, "t-1", "book_table", people=2, day="2030-01-31"),
        tool_output(3900, "t-1", '{"error": "closed", "code": "refused"}'),
        (4300, "reply_audible", {"after_ms": 1000, "turn_id": "agent-4400"}),
        agent_says(4400, "I am sorry, we are closed."),
        (9000, "hang_up", {"by": "caller"}),
    )
    row = {"text": "Hello, and welcome.", "turn_id": "agent-500", "differs_from": ["browser", 3]}
    tell(
        session,
        (500, "response_text", {**row, "entry": 0, "told_up_to": 10, "is_cut": True}),
        source="platform",
    )
    tell(session, agent_says(8000, "Good bye.", entry=7, told_up_to=10), source="platform")
    session.lease_proof(timezone.now())
    session.settle_proof(
        "recovered",
        recovered=1,
        differing=0,
        because="",
        call={"status": "ended", "cost": 0.25},
        at=START + timedelta(hours=1),
        again_at=None,
    )
    ToolRun.objects.create(
        session=session,
        tool_call_id="t-1",
        name="book_table",
        arguments={"people": 2, "day": "2030-01-31"},
        output='{"error": "closed"}',
        is_error=True,
        finished_at=START,
    )
    Booking.objects.create(session=session, tool_call_id="t-0", people=2, at=START, name="Łukasz")
    Note.objects.create(session=session, source="browser", seq=5, text="Wrong day?\nAsk.", by=staff)
    Note.objects.create(session=session, text="A note of somebody who left", by=None)
    for name in ("good", "needs a second pair of eyes"):
        label, _ = Label.objects.get_or_create(name=name)
        Labelling.objects.create(session=session, label=label, by=staff)
    session.mark("flagged", staff, START)
    session.held_because = "a complaint"
    session.mark("held", staff, START)
    return session


class ExportTestCase(TestCase):
    def setUp(self) -> None:
        self.staff = User.objects.create_user("ann", is_staff=True)
        self.allow("view_voicesession", "export_voicesession")
        self.client.force_login(self.staff)

    def allow(self, *codenames: str) -> None:
        self.staff.user_permissions.set(Permission.objects.filter(codename__in=codenames))

    def one(self, session: VoiceSession, name: str) -> str:
        response = self.client.get(f"{SESSIONS}{session.pk}/export/{name}/")
        assert response.status_code == 200
        return response.content.decode()

    def many(self, name: str, **query: Any) -> bytes:
        response = self.client.get(f"{SESSIONS}export/", {"format": name, **query})
        assert response.status_code == 200
        return b"".join(response)

    def table(self, session: VoiceSession) -> list[dict[str, str]]:
        text = self.one(session, "csv")
        assert text.startswith("\ufeff")
        return list(csv.DictReader(io.StringIO(text[1:])))


class AccessTests(ExportTestCase):
    def statuses(self) -> list[int]:
        session = open_session()
        urls = [f"{SESSIONS}{session.pk}/export/{name}/" for name in ("json", "csv", "vtt", "txt")]
        urls.append(f"{SESSIONS}export/?format=csv")
        return [self.client.get(url).status_code for url in urls]

    def test_only_staff_who_may_export_do(self) -> None:
        assert self.statuses() == [200] * 5
        self.allow("view_voicesession", "annotate_voicesession", "listen_voicesession")
        assert self.statuses() == [403] * 5
        self.allow("export_voicesession")
        assert self.statuses() == [403] * 5
        User.objects.filter(pk=self.staff.pk).update(is_staff=False)
        assert self.statuses() == [302] * 5
        self.client.logout()
        assert self.statuses() == [302] * 5
        # 4 files of one call and one of many; what was refused is no access.
        assert Access.objects.count() == 5

    def test_the_access_log_tells_of_each_export(self) -> None:
        first, second = open_session(), open_session(state="ended")
        self.one(first, "vtt")
        self.client.post(f"{SESSIONS}export/", {"format": "json", "id": [first.pk, second.pk]})
        self.client.post(f"{SESSIONS}export/", {"format": "csv", "all": "1", "state": "ended"})
        rows = Access.objects.order_by("pk").values_list("who", "action", "session_id", "details")
        both = {"format": "json", "number": 2, "ids": [str(first.pk), str(second.pk)]}
        assert list(rows) == [
            ("ann", "export", first.pk, {"format": "vtt"}),
            ("ann", "export", None, both),
            ("ann", "export", None, {"format": "csv", "number": 1, "filters": "state=ended"}),
        ]

    def test_files_are_named_kept_by_nobody_else_and_never_shown_as_a_page(self) -> None:
        session = open_session(agent_name='"\r\nSet-Cookie: x=1; ../../etc/passwd')
        kinds = {
            "json": "application/json",
            "csv": "text/csv; charset=utf-8",
            "vtt": "text/vtt; charset=utf-8",
            "txt": "text/plain; charset=utf-8",
        }
        for name, kind in kinds.items():
            response = self.client.get(f"{SESSIONS}{session.pk}/export/{name}/")
            assert response["Content-Type"] == kind
            assert response["Content-Disposition"] == f'attachment; filename="call-{session.pk}.{name}"'
            assert "no-store" in response["Cache-Control"]
            assert response["X-Content-Type-Options"] == "nosniff"
        for name, ending in (("json", "jsonl"), ("csv", "csv")):
            response = self.client.get(f"{SESSIONS}export/?format={name}")
            pattern = rf'attachment; filename="calls-[0-9]{{4}}(-[0-9]{{2}}){{2}}-[0-9]{{6}}\.{ending}"'
            assert re.fullmatch(pattern, response["Content-Disposition"])
            assert "no-store" in response["Cache-Control"]

    def test_what_cannot_be_exported_is_said_and_not_logged(self) -> None:
        session = open_session()
        asked: list[tuple[dict[str, Any], str]] = [
            ({"format": "vtt"}, "for one call"),
            ({"format": "txt"}, "for one call"),
            ({"format": "xml"}, "as json or csv"),
            ({}, "as json or csv"),
            ({"format": "csv", "state": "ended"}, "No call is chosen"),
            ({"format": "csv", "id": [uuid4()]}, "No call is chosen"),
            ({"format": "csv", "id": ["x"]}, "not that of a call"),
            ({"format": "csv", "state": "over"}, "cannot be read"),
        ]
        for query, sentence in asked:
            response = self.client.get(f"{SESSIONS}export/", query)
            assert response.status_code == 400
            assert response["Content-Type"] == "text/plain; charset=utf-8"
            assert sentence in response.content.decode()
        assert self.client.post(f"{SESSIONS}export/", {"format": "csv"}).status_code == 400
        assert self.client.get(f"{SESSIONS}{session.pk}/export/xml/").status_code == 404
        assert self.client.get(f"{SESSIONS}{uuid4()}/export/json/").status_code == 404
        assert self.client.post(f"{SESSIONS}{session.pk}/export/json/").status_code == 405
        assert self.client.head(f"{SESSIONS}export/?format=csv").status_code == 405
        assert not Access.objects.exists()


class JsonTests(ExportTestCase):
    def test_a_document_holds_all_rows_of_a_call(self) -> None:
        caller = User.objects.create_user("bob")
        session = rich_call(self.staff, caller)
        found = json.loads(self.one(session, "json"))
        assert (found["format"], found["version"]) == ("voicedemo.call", 1)
        assert found["session"]["id"] == str(session.pk)
        assert found["session"]["user"] == "bob"
        assert found["session"]["flagged_by"] == "ann"
        assert found["session"]["created_at"] == "2026-03-01T09:30:00.123456Z"
        assert found["session"]["platform_call"] == {"status": "ended", "cost": 0.25}
        assert "turns" not in found["session"]
        assert [(event["source"], event["seq"]) for event in found["events"]] == [
            *[("browser", 1), ("browser", 2), ("browser", 3), ("platform", 1)],
            *[("browser", n) for n in range(4, 10)],
            *[("platform", 2), ("browser", 10)],
        ]
        assert found["events"][5]["data"]["transcript"] == "A table for two, please. ☕"
        assert found["tool_runs"][0]["arguments"] == {"people": 2, "day": "2030-01-31"}
        booking = Booking.objects.get()
        assert (found["bookings"][0]["id"], found["bookings"][0]["name"]) == (booking.pk, "Łukasz")
        assert [note["by"] for note in found["notes"]] == ["ann", None]
        assert [label["label"] for label in found["labels"]] == ["good", "needs a second pair of eyes"]

    def test_many_calls_are_a_line_each_the_newest_first(self) -> None:
        calls = [open_session(created_at=START + timedelta(days=n)) for n in range(5)]
        with mock.patch.object(export, "CALLS", 2):
            body = self.many("json")
        assert body.endswith(b"}\n")
        found = [json.loads(line)["session"]["id"] for line in body.splitlines()]
        assert found == [str(call.pk) for call in reversed(calls)]
        # One of them is the same file as it is alone.
        assert body.splitlines(keepends=True)[0].decode() == self.one(calls[-1], "json")

    def test_the_same_moment_hides_no_call_from_the_next_batch(self) -> None:
        calls = {str(open_session().pk) for _ in range(7)}
        with mock.patch.object(export, "CALLS", 3):
            found = [json.loads(line)["session"]["id"] for line in self.many("json").splitlines()]
        assert len(found) == 7
        assert set(found) == calls

    def test_a_selection_is_what_the_list_says(self) -> None:
        ended, live = open_session(state="ended"), open_session(state="live")
        assert len(self.many("json").splitlines()) == 2
        assert json.loads(self.many("json", state="live"))["session"]["id"] == str(live.pk)
        assert json.loads(self.many("json", id=[ended.pk]))["session"]["id"] == str(ended.pk)

    def test_each_batch_costs_the_same_queries_however_many_calls_it_has(self) -> None:
        def queries(number: int) -> int:
            for _ in range(number):
                rich_call(self.staff)
            with CaptureQueriesContext(connection) as captured:
                self.many("json")
            return len(captured)

        few = queries(1)
        assert queries(4) == few


class TableTests(ExportTestCase):
    def test_a_row_tells_of_a_turn(self) -> None:
        session = rich_call(self.staff)
        common = {
            "session": str(session.pk),
            "agent": "Concierge",
            "started_utc": "2026-03-01 09:30:00",
            "labels": "good, needs a second pair of eyes",
            **dict.fromkeys(("is_cut", "platform_text", "reply_ms", "tools", "tool_errors"), ""),
        }
        agent = {**common, "role": "agent", "source": "browser"}
        assert self.table(session) == [
            {
                **agent,
                "offset_s": "0.5",
                "text": "Hello, and welcome to the very long greeting.",
                "is_cut": "yes",
                "platform_text": "Hello, and welcome.",
            },
            {
                **agent,
                "offset_s": "1.5",
                "role": "caller",
                "text": "A table for two, please. ☕",
                "tools": "book_table",
                "tool_errors": "1",
            },
            {**agent, "offset_s": "4.4", "text": "I am sorry, we are closed.", "reply_ms": "1000"},
            {**agent, "offset_s": "8.0", "text": "Good bye.", "source": "platform"},
        ]

    def test_what_is_no_measurement_is_not_in_the_table(self) -> None:
        session = rich_call(self.staff)
        for told in (-5, "soon", 10**9, None):
            session.events.filter(type="reply_audible").update(data={"after_ms": told})
            assert [row["reply_ms"] for row in self.table(session)] == [""] * 4, told

    def test_many_calls_are_in_one_table(self) -> None:
        for name in ("First", "Second"):
            session = open_session(agent_name=name)
            tell(session, agent_says(1, name))
        text = self.many("csv").decode()
        assert text.count("\ufeff") == 1
        rows = list(csv.DictReader(io.StringIO(text[1:])))
        assert sorted(row["text"] for row in rows) == ["First", "Second"]

    def test_no_cell_is_a_formula(self) -> None:
        formulas = [
            *('=HYPERLINK("http://evil.example","x")', "+1+1", "-2+3", "@SUM(A1)", "=1\r\n=2", "\uff1d1+1"),
            *("\t=1", "\r=1", " =1", "\u200b=1", "\ufeff=1", "\u202e=1", "\u00a0+1", "\x07=1", "\n@x"),
        ]
        session = open_session(agent_name="=cmd|' /C calc'!A0")
        tell(session, *(caller_says(n, text) for n, text in enumerate(formulas)))
        tell(session, agent_says(900, "plain - = + @"), tool_call(1000, "t", "=tool"))
        label = Label.objects.create(name="@label")
        Labelling.objects.create(session=session, label=label)
        rows = self.table(session)
        assert len(rows) == len(formulas) + 1
        for row in rows:
            for value in row.values():
                assert not re.match(r"[\s\u200b\ufeff\ufffd]*[=+\-@\uff1d]", value)
                assert not value.startswith(("\t", "\r", "\n"))
        assert rows[0]["text"] == "'" + formulas[0]
        assert rows[-1]["text"] == "plain - = + @"
        assert rows[-1]["tools"] == "'=tool"

    def test_quotes_and_line_breaks_stay_in_their_cell(self) -> None:
        session = open_session(agent_name='A "quoted", name')
        said = 'one "two", three;\nfour\r\nfive\rsix\u2028seven,,,"'
        tell(session, caller_says(1, said), caller_says(2, "next"))
        rows = self.table(session)
        assert [row["text"] for row in rows] == ['one "two", three;\nfour\nfive\nsix\nseven,,,"', "next"]
        assert rows[0]["agent"] == 'A "quoted", name'

    def test_sixty_kilobytes_in_one_turn_go_on_in_the_next_row(self) -> None:
        said = ("=1+1 " * 12_000).strip()
        session = open_session()
        tell(session, caller_says(1, said), caller_says(2, "next"))
        rows = self.table(session)
        assert len(rows) == 3
        assert max(len(row["text"]) for row in rows) < 32_767  # what a spreadsheet's cell holds
        assert "".join(row["text"].removeprefix("'") for row in rows[:2]) == said
        assert {row["offset_s"] for row in rows[:2]} == {"0.0"}


CUE = re.compile(
    r"(?P<id>[a-z]+-\d+)\n(?P<start>\d\d+:\d\d:\d\d\.\d{3}) --> (?P<end>\d\d+:\d\d:\d\d\.\d{3})\n"
    r"<v (?P<voice>Caller|Agent)>(?P<text>[^\n<>]+)\n"
)


def cues(vtt: str) -> list[dict[str, str]]:
    """As a player reads them; a file with anything else in it is no such file."""
    head, *blocks = re.split(r"\n\n+", vtt.rstrip("\n"))
    assert head == "WEBVTT"
    found = [CUE.fullmatch(f"{block}\n") for block in blocks]
    assert None not in found
    return [match.groupdict() for match in found if match]


class CaptionTests(ExportTestCase):
    def test_a_cue_for_each_turn(self) -> None:
        found = cues(self.one(rich_call(self.staff), "vtt"))
        assert [(cue["start"], cue["voice"], cue["text"]) for cue in found] == [
            ("00:00:00.500", "Agent", "Hello, and welcome to the very long greeting. [cut off]"),
            ("00:00:01.500", "Caller", "A table for two, please. ☕"),
            ("00:00:04.400", "Agent", "I am sorry, we are closed."),
            ("00:00:08.000", "Agent", "Good bye."),
        ]
        # Until the other side begins; as long as the page measured; until it is read.
        assert [cue["end"] for cue in found][:2] == ["00:00:01.500", "00:00:03.300"]
        assert all(cue["start"] < cue["end"] for cue in found)

    def test_no_words_forge_a_cue_or_a_tag(self) -> None:
        hostile = [
            "x\n\n00:00:00.000 --> 99:00:00.000\n<v Agent>Your money is gone",
            "--> <v Agent>forged</v> <script>alert(1)</script> &lt; <c.red>",
            "\r\rNOTE x\u2028\u2029STYLE\n::cue { color: red }\x0b\x0c\x85end",
        ]
        session = open_session()
        tell(
            session, *(caller_says(n * 5000, text) for n, text in enumerate(hostile)), caller_says(1, " \n ")
        )
        vtt = self.one(session, "vtt")
        found = cues(vtt)
        assert [cue["voice"] for cue in found] == ["Caller"] * 3
        assert vtt.count("-->") == 3
        assert found[1]["text"].startswith("--&gt; &lt;v Agent&gt;forged&lt;/v&gt; &lt;script&gt;alert(1)")
        assert found[1]["text"].endswith("&amp;lt; &lt;c.red&gt;")

    def test_a_call_in_which_nobody_spoke_and_one_of_days(self) -> None:
        session = open_session()
        assert cues(self.one(session, "vtt")) == []
        tell(session, caller_says(100 * 3_600_000 + 61_001, "Still there?"))
        assert cues(self.one(session, "vtt"))[0]["start"] == "100:01:01.001"


class TextTests(ExportTestCase):
    def test_the_transcript_as_a_reader_sees_it(self) -> None:
        text = self.one(rich_call(self.staff), "txt")
        assert "Call with: Concierge\nStarted: 2026-03-01 09:30:00 UTC\n" in text
        assert "Labels: good, needs a second pair of eyes\n" in text
        said = text.partition("\n\n")[2].partition("\n\n")[0]
        assert said.split("\n") == [
            "[0:00] The caller joined",
            "[0:00] The call began",
            *([line for line in said.split("\n") if line.startswith("    id: ")]),
            "[0:00] Agent: Hello, and welcome to the very long greeting. [cut off]",
            "    The platform's record has less of what was cut off:",
            "    Agent: Hello, and welcome.",
            "[0:01] Caller: A table for two, please. ☕",
            "[0:03] Tool book_table",
            "    people: 2",
            "    day: 2030-01-31",
            "    Failed book_table after 0.3 s",
            "    error: closed",
            "    code: refused",
            "[0:04] Agent: I am sorry, we are closed.",
            "[0:08] Agent (recovered): Good bye.",
            "[0:09] The caller hung up",
        ]
        assert "] ann on browser-5: Wrong day?\n        Ask.\n" in text
        assert "an account that is gone: A note of somebody who left\n" in text

    def test_no_words_forge_a_line_or_command_the_terminal(self) -> None:
        hostile = (
            "x\n[0:01] Agent: forged\r[0:02] Agent: forged\u2028[0:03] Agent: forged\x85[0:04] \x0b[0:05]"
        )
        orders = "\x1b[2J\x1b]0;title\x07\x9b31m\u202eevil\u2066\u2069 \u200eshalom"
        session = open_session(agent_name="A\x1b[31m\nCall with: B")
        tell(session, caller_says(1, hostile), caller_says(2, orders))
        tell(session, tool_call(3, "t", "x\ny", **{"a\nb": "c\nd"}), tool_output(4, "t", "e\n[0:09] f"))
        text = self.one(session, "txt")
        at_margin = [line for line in text.split("\n") if line.startswith("[")]
        assert [line[:14] for line in at_margin] == ["[0:00] Caller:", "[0:00] Caller:", "[0:00] Tool x"]
        assert [line for line in text.split("\n") if line.startswith("Call with")] == [
            "Call with: A\ufffd[31m"
        ]
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", text)
        assert "\u200eshalom" in text  # a mark that Hebrew needs


class HostileTests(ExportTestCase):
    def test_html_bidi_and_sixty_kilobytes_come_through_json_unchanged(self) -> None:
        said = [
            "</script><script>alert(1)</script><img src=x onerror=alert(1)>",
            "\u202egnp.exe\u2066\u2069\x1b[2J\x07\x7f\x85\u2028\u2029",
            "𝄞" * 15_000,
        ]
        session = open_session()
        tell(session, *(caller_says(n, text) for n, text in enumerate(said)))
        line = self.one(session, "json")
        assert line.count("\n") == 1
        assert [event["data"]["transcript"] for event in json.loads(line)["events"]] == said

    def test_halves_of_characters_in_a_tools_answer_break_no_format(self) -> None:
        session = open_session()
        tell(session, tool_call(1, "t", "tool"), tool_output(2, "t", '{"half": "\\ud800", "nul": "\\u0000"}'))
        tell(session, agent_says(3, "Done."))
        assert json.loads(self.one(session, "json"))["events"][1]["data"]["output"] == (
            '{"half": "\\ud800", "nul": "\\u0000"}'
        )
        assert [row["tools"] for row in self.table(session)] == ["tool"]
        assert "Done." in self.one(session, "vtt")
        assert "\0" not in self.one(session, "txt")

    def test_a_row_that_no_page_wrote_breaks_no_format(self) -> None:
        if connection.vendor != "sqlite":
            self.skipTest("PostgreSQL keeps no such text")
        session = open_session()
        SessionEvent.objects.create(
            session=session,
            source="browser",
            seq=1,
            at_ms=1,
            type="response_text",
            data={"text": "a\ud800\0b"},
        )
        assert json.loads(self.one(session, "json"))["events"][0]["data"]["text"] == "a\ud800\0b"
        for name in ("csv", "vtt", "txt"):
            assert "a\ufffd\ufffdb" in self.one(session, name)


# ------------------------------------------------------------------ bringing back


def imported(path: Path | str, *options: str) -> str:
    output = io.StringIO()
    call_command("import_session", str(path), *options, stdout=output)
    return output.getvalue()


class ImportTests(ExportTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def file(self, content: bytes | str, name: str = "calls.jsonl") -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def refused(self, content: bytes | str, *options: str) -> str:
        with pytest.raises(CommandError) as refusal:
            imported(self.file(content), *options)
        return str(refusal.value)

    def document(self) -> dict[str, Any]:
        """Of a call that is not here any more."""
        session = rich_call(self.staff)
        found: dict[str, Any] = json.loads(self.one(session, "json"))
        session.delete()
        return found

    def test_an_empty_database_has_the_same_rows_again(self) -> None:
        caller = User.objects.create_user("OFFICE\\bob")  # as some directories name people
        for _ in range(3):
            rich_call(self.staff, caller)
        tell(open_session(state="live", created_at=START - timedelta(days=1)), caller_says(5, "Hi."))
        before = self.many("json")
        references = sorted(booking.reference for booking in Booking.objects.all())
        VoiceSession.objects.all().delete()
        Label.objects.all().delete()

        said = imported(self.file(before))
        assert "the label 'good' is new here" in said
        assert said.endswith("4 calls imported, 0 skipped.\n")
        assert self.many("json") == before
        assert sorted(booking.reference for booking in Booking.objects.all()) == references

    def test_lists_and_search_know_imported_calls(self) -> None:
        session = rich_call(self.staff)
        before = self.one(session, "json")
        session.delete()
        imported(self.file(before))
        digest.catch_up(60, 1000)
        session = VoiceSession.objects.get()
        assert (session.turns, session.interruptions, session.tool_errors) == (4, 1, 1)
        found = search.search("table for two")
        assert [hit.session.pk for hit in found.hits] == [session.pk]

    def test_who_books_next_gets_a_number_of_their_own(self) -> None:
        document = self.document()
        document["bookings"][0]["id"] += 100
        imported(self.file(json.dumps(document)))
        session = VoiceSession.objects.get()
        first = session.bookings.get()
        later = Booking.objects.create(session=session, tool_call_id="t-9", people=2, at=START)
        assert later.pk > first.pk == document["bookings"][0]["id"]

    def test_a_booking_whose_number_is_taken_gets_another_which_is_said(self) -> None:
        document = self.document()
        other = open_session()
        taken = document["bookings"][0]["id"]
        Booking.objects.create(id=taken, session=other, tool_call_id="t", people=3, at=START)
        said = imported(self.file(json.dumps(document)))
        assert f"the booking B{1000 + taken} has a new number" in said
        assert Booking.objects.get(people=2).pk != taken
        assert Booking.objects.get(pk=taken).session == other

    def test_a_document_may_be_laid_out_by_hand_and_have_a_byte_order_mark(self) -> None:
        document = self.document()
        path = self.file("\ufeff" + json.dumps(document, indent=2))
        assert imported(path).endswith("1 calls imported, 0 skipped.\n")
        assert VoiceSession.objects.get().agent_name == "Concierge"

    def test_standard_input(self) -> None:
        stream = io.TextIOWrapper(io.BytesIO(json.dumps(self.document()).encode()))
        with mock.patch("sys.stdin", stream):
            assert imported("-").endswith("1 calls imported, 0 skipped.\n")

    def test_accounts_that_are_not_here_are_named(self) -> None:
        document = self.document()
        User.objects.filter(username="ann").update(username="anna")
        said = imported(self.file(json.dumps(document)))
        assert "No account here is called 'ann': left empty 5 times." in said
        session = VoiceSession.objects.get()
        assert (session.flagged_by, session.flagged_at) == (None, START)

    def test_a_call_that_is_here_is_refused_or_passed_over(self) -> None:
        here, gone = rich_call(self.staff), open_session(created_at=START - timedelta(days=1))
        body = self.many("json")
        gone.delete()
        refusal = self.refused(body)
        assert f"the call {here.pk} is here already; --skip-existing passes over it." in refusal
        assert imported(self.file(body), "--skip-existing").endswith("1 calls imported, 1 skipped.\n")
        assert VoiceSession.objects.count() == 2
        assert here.events.count() == 12

    def test_a_deleted_call_stays_deleted_unless_it_is_asked_for(self) -> None:
        document = self.document()
        pk = UUID(document["session"]["id"])
        Tombstone.objects.create(session_id=pk, created_at=START, deleted_at=START, who="ann", why="asked to")
        body = json.dumps(document)
        assert f"line 1: the call {pk} was deleted here on 2026-03-01 (asked to); " in self.refused(body)
        assert imported(self.file(body), "--skip-existing").endswith("0 calls imported, 1 skipped.\n")
        assert imported(self.file(body), "--restore-deleted").endswith("1 calls imported, 0 skipped.\n")
        assert VoiceSession.objects.get().pk == pk
        assert not Tombstone.objects.exists()

    def test_what_does_not_fit_is_named_by_line_and_field_and_leaves_nothing(self) -> None:
        changes: list[tuple[list[Any], Any, str]] = [
            (["format"], "other", "format: this is no call"),
            (["version"], 2, "version: must be 1, not 2"),
            (["extra"], 1, "extra: is not known"),
            (["session", "extra"], 1, "session.extra: is not known"),
            (["session"], [], "session: must be an object"),
            (["events"], {}, "events: must be a list"),
            (["session", "id"], "x", 'session.id: must be a UUID, not "x"'),
            (["session", "state"], "over", 'session.state: must be one of created, live, ended, not "over"'),
            (["session", "created_at"], "yesterday", "session.created_at: must be a time in ISO 8601"),
            (["session", "created_at"], "2026-03-01T09:30:00", "session.created_at: must be a time"),
            (["session", "created_at"], None, "session.created_at: must be given"),
            (["session", "agent_name"], "x" * 101, "session.agent_name: Ensure this value has at most 100"),
            (["session", "room"], "a\0b", "session.room: must be a text that a database can hold"),
            (
                ["session", "prove_tries"],
                32_768,
                "session.prove_tries: must be a whole number from 0 to 32767",
            ),
            (["session", "prove_tries"], True, "session.prove_tries: must be a whole number"),
            (["session", "platform_call"], [], "session.platform_call: must be an object"),
            (["session", "user"], 7, "session.user: must be a text"),
            (["events", 2, "seq"], 2**31, "events[2].seq: must be a whole number from 0 to 2147483647"),
            (["events", 2, "seq"], 99, "events: the source browser has no number 3"),
            (["events", 2, "seq"], 4, "events: the source browser has no number 3"),
            (["events", 2, "source"], "moon", "events[2].source: must be one of browser, server, platform"),
            (["events", 2, "type"], "Bad Type", "events[2].type: must be 1 to 64 small letters"),
            (["events", 2, "data"], {}, "events[2].data: text of response_text must be a str"),
            (["events", 2, "data"], {"text": "\ud800"}, "events[2].data: must be an object that a database"),
            (
                ["events", 3, "data", "differs_from"],
                7,
                "events[3].data.differs_from: must be [source, number]",
            ),
            (["events", 3, "data", "turn_id"], [], "events[3].data.turn_id: must be a text"),
            (["tool_runs", 0, "is_error"], 1, "tool_runs[0].is_error: must be true or false"),
            (["notes", 0, "seq"], 99, "notes[0]: there is no line browser 99 in the events"),
            (["labels", 1, "label"], "good", "labels[1]: is there twice: 'good'"),
            (["bookings", 0, "people"], -1, "bookings[0].people: must be a whole number"),
        ]
        good = self.document()
        for path, value, sentence in changes:
            bad = copy.deepcopy(good)
            *places, last = path
            target = bad
            for place in places:
                target = target[place]
            target[last] = value
            assert f"calls.jsonl, line 1: {sentence}" in self.refused(json.dumps(bad)), path
            assert not VoiceSession.objects.exists()
        del good["session"]["room"]
        assert "session.room: is missing" in self.refused(json.dumps(good))

    def test_what_is_no_json_is_said(self) -> None:
        line = json.dumps(self.document())
        contents: list[tuple[bytes | str, str]] = [
            (line[:-100], "line 1, column"),
            (line[:-100], "and the file ends here: it may not be complete"),
            ("\n\n{'a': 1}", "line 3, column 2: it is not JSON: "),
            ("{\n  'a': 1\n}", "line 2, column 3: it is not JSON: "),
            ('{"a": NaN}', "line 1: it is not JSON that can be stored: NaN"),
            ("[" * 100_000, "line 1: it is not JSON that can be stored"),
            (b'\n{"a": "\xff"}', "line 2: it is not in UTF-8"),
            ("7", "line 1: format: this is no call"),
        ]
        for content, sentence in contents:
            assert sentence in self.refused(content)
        with pytest.raises(CommandError, match=r"nowhere\.json cannot be read: No such file"):
            imported(self.folder / "nowhere.json")

    def test_calls_before_a_broken_line_stay_and_the_rest_can_follow(self) -> None:
        for n in range(3):
            open_session(created_at=START + timedelta(days=n))
        body = self.many("json")
        VoiceSession.objects.all().delete()
        refusal = self.refused(body[:-50])
        assert "line 3, column" in refusal
        assert "2 calls before it were imported; with --skip-existing" in refusal
        assert VoiceSession.objects.count() == 2
        imported(self.file(body), "--skip-existing")
        assert self.many("json") == body

    def test_what_is_not_to_be_stored_is_taken_out_on_the_way_in(self) -> None:
        document = self.document()
        document["events"][5]["data"]["transcript"] = "I am bob@example.com"
        document["tool_runs"][0]["arguments"] = {"mail": "bob@example.com"}
        document["bookings"][0]["name"] = "bob@example.com"
        document["session"]["platform_call"] = {"summary": "bob@example.com wrote"}
        with override_settings(REDACT=("email",)):
            imported(self.file(json.dumps(document)))
        body = self.many("json").decode()
        assert "bob@example.com" not in body
        assert body.count("[email]") == 4


class CommandTests(ExportTestCase):
    @pytest.fixture(autouse=True)
    def capture(self, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        self.captured = capfdbinary

    def exported(self, *words: str) -> bytes:
        self.captured.readouterr()
        call_command("export_session", *words)
        return self.captured.readouterr().out

    def test_the_command_line_exports_the_same_files(self) -> None:
        first, second = rich_call(self.staff), open_session(created_at=START - timedelta(days=1))
        assert self.exported("--all") == self.many("json")
        assert self.exported(str(first.pk), str(second.pk), "--format", "csv") == self.many("csv")
        assert self.exported(str(first.pk), "--format", "vtt").decode() == self.one(first, "vtt")
        rows = Access.objects.filter(who="").order_by("pk").values_list("session_id", "details")
        ids = [str(first.pk), str(second.pk)]
        assert list(rows) == [
            (None, {"format": "json", "number": 2, "filters": ""}),
            (None, {"format": "csv", "number": 2, "ids": ids}),
            (first.pk, {"format": "vtt"}),
        ]

    def test_the_command_line_says_what_it_cannot_do(self) -> None:
        session = open_session()
        for words, sentence in [
            ([], "Name calls by their numbers, or all of them with --all"),
            ([str(session.pk), "--all"], "Name calls by their numbers"),
            ([str(uuid4())], "There is no call"),
            (["--all", "--format", "txt"], "txt is for one call at a time"),
        ]:
            with pytest.raises(CommandError, match=sentence):
                call_command("export_session", *words)
        assert not Access.objects.exists()


# ------------------------------------------------------------------ as a stream


def many_calls(number: int, turns: int) -> None:
    """As from a busy site."""
    calls = [
        VoiceSession(
            visitor="0" * 32, agent_id=AGENT, agent_name="Concierge", created_at=START + timedelta(seconds=n)
        )
        for n in range(number)
    ]
    VoiceSession.objects.bulk_create(calls)
    for call in calls:
        SessionEvent.objects.bulk_create(
            SessionEvent(
                session=call, source="browser", seq=1 + n, at_ms=n, type="response_text", data={"text": WORDS}
            )
            for n in range(turns)
        )


WORDS = "Words that somebody said, and that take some room. " * 4


@pytest.mark.django_db
def test_ten_times_as_many_calls_take_no_more_memory() -> None:
    many_calls(440, 10)

    def peak(number: int, form: str) -> int:
        sessions = VoiceSession.objects.filter(created_at__lt=START + timedelta(seconds=number))
        tracemalloc.start()
        size = sum(len(piece) for piece in export.pieces(sessions, export.FORMATS[form]))
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert size > number * 10 * len(WORDS)
        return taken

    with mock.patch.multiple(export, CALLS=20, LINES=200):
        for form in ("json", "csv"):
            peak(40, form)  # whatever is kept for ever is there now
            assert peak(400, form) < 1.5 * peak(40, form)


class Reader:
    """One HTTP request to the application as the server makes it; it takes so many pieces and then goes."""

    def __init__(self, cookie: str, pieces: int) -> None:
        self.scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "path": f"{SESSIONS}export/",
            "raw_path": b"",
            "query_string": b"format=json",
            "headers": [(b"host", b"testserver"), (b"cookie", f"sessionid={cookie}".encode())],
            "server": ("testserver", 80),
            "client": ("127.0.0.1", 1),
        }
        self.body = bytearray()
        self.status = 0
        self.is_complete = False
        self.left = asyncio.Event()
        self.pieces = pieces
        self.is_asked = False

    async def receive(self) -> dict[str, Any]:
        if not self.is_asked:
            self.is_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        self.body += message.get("body", b"")
        self.is_complete = not message.get("more_body", False)
        self.pieces -= 1
        if self.pieces == 0:
            self.left.set()
            await asyncio.Event().wait()  # the server's buffer is full, and nobody empties it

    def read(self) -> None:
        async def run() -> None:
            async with asyncio.timeout(PATIENCE_S):
                await application(self.scope, self.receive, self.send)

        asyncio.run(run())


MANY_READERS = 10
"""More than a process has connections to PostgreSQL: none of them may keep one."""


@pytest.fixture
def cookie(transactional_db: None) -> str:
    """Of a superuser."""
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client.cookies["sessionid"].value


@pytest.fixture
def written() -> Iterator[list[UUID]]:
    """The calls that were written as JSON so far."""
    calls: list[UUID] = []
    form = export.FORMATS["json"]

    def write(session: VoiceSession) -> bytes:
        calls.append(session.pk)
        return form.write(session)

    with mock.patch.dict(export.FORMATS, json=replace(form, write=write)):
        yield calls


def test_the_server_streams_the_same_file(cookie: str) -> None:
    many_calls(100, 10)
    reader = Reader(cookie, pieces=10_000)
    reader.read()
    assert (reader.status, reader.is_complete) == (200, True)
    client = Client()
    client.cookies["sessionid"] = cookie
    response = client.get(f"{SESSIONS}export/?format=json")
    assert bytes(reader.body) == b"".join(response)
    assert reader.body.count(b"\n") == 100
    assert len(reader.body) > 3 * export.PIECE


def test_when_the_reader_leaves_the_work_ends(cookie: str, written: list[UUID]) -> None:
    many_calls(400, 10)
    for _ in range(MANY_READERS):
        written.clear()
        reader = Reader(cookie, pieces=1)
        reader.read()
        assert not reader.is_complete
        assert 0 < len(written) < 100


def test_what_fails_in_the_middle_does_not_look_complete(cookie: str) -> None:
    many_calls(100, 10)
    form = export.FORMATS["json"]
    broken = VoiceSession.objects.order_by("created_at")[3]

    def write(session: VoiceSession) -> bytes:
        if session.pk == broken.pk:
            raise RuntimeError("broken in the middle")
        return form.write(session)

    with mock.patch.dict(export.FORMATS, json=replace(form, write=write)):
        for _ in range(MANY_READERS):
            reader = Reader(cookie, pieces=10_000)
            with pytest.raises(RuntimeError, match="broken in the middle"):
                reader.read()
            assert reader.status == 200
            assert reader.body
            assert not reader.is_complete


# ------------------------------------------------------------------ the document that describes it


@pytest.mark.django_db
def test_the_documented_example_has_every_field_and_can_be_imported(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    example = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert example is not None
    path = tmp_path / "example.json"
    path.write_text(example[1])
    User.objects.create_user("ann")
    Label.objects.get_or_create(name="good")
    assert imported(path) == "1 calls imported, 0 skipped.\n"
    session = VoiceSession.objects.get()
    written = json.loads(export.FORMATS["json"].write(session))
    assert written == json.loads(example[1])
    columns = re.search(r"```csv\n(.*?)\n", text)
    assert columns is not None
    assert columns[1].split(",") == list(formats.COLUMNS)
