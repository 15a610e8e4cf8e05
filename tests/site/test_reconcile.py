"""The proof: what the log and the platform's record tell of a call, side by side."""

import json
import threading
from datetime import datetime, timedelta
from typing import Any
from unittest import mock
from uuid import UUID

from django.db import connection
from django.test import TestCase, TransactionTestCase
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase as PropertyTestCase

from sessions_app import log, reconcile
from sessions_app.differences import compare
from sessions_app.events import Frame
from sessions_app.models import SessionEvent, VoiceSession
from sessions_app.transcript import Line, lines

from .platform import Platform, platform

AGENT = UUID("5a1c0e5e-0000-4000-8000-000000000001")
ROOM = "call-room-1"
CALL = "call-77"
HOUR = timedelta(hours=1)

Told = tuple[int, str, dict[str, Any]]


def agent(at_ms: int, number: int, text: str) -> Told:
    return at_ms, "response_text", {"text": text, "turn_id": f"agent-{number}", "is_final": True}


def caller(at_ms: int, number: int, text: str) -> Told:
    data = {"transcript": text, "turn_id": f"user-{number}", "is_final": True}
    return at_ms, "input_audio_transcript", data


WEATHER = '{"city": "Paris", "temperature_c": 16}'
CITY = {"name": "city", "type": "string", "dataType": "string", "required": True, "value": "Paris"}
UNIT = {"name": "unit", "type": "string", "dataType": "string", "required": False}

REPORT: list[Told] = [
    (1183, "connected", {}),
    (1258, "session_started", {"id": CALL}),
    agent(1802, 1, "Hello! How can I help?"),
    (8316, "speech_started", {"emulated": False}),
    caller(8316, 1, "What is the weather like in Paris?"),
    (10241, "speech_stopped", {}),
    (10467, "tool_call", {"toolCallId": "t1", "toolName": "get_weather", "arguments": [CITY, UNIT]}),
    (10511, "tool_call_output", {"toolCallId": "t1", "output": WEATHER}),
    agent(10791, 2, "It is 16 degrees in Paris."),
    caller(16736, 2, "What can you do?"),
    agent(20886, 3, "I can book you a table, tell"),
    (22456, "interruption", {}),
    caller(22278, 3, "Stop."),
    agent(24772, 4, ""),
    agent(25900, 5, "Goodbye."),
    (38401, "hang_up", {}),
]
"""What a browser reports of a call, as a real one does."""

SKEW_S = 37.5
"""The platform's clock is ahead by so much."""


def iso(created_at: datetime, at_ms: float) -> str:
    return (created_at + timedelta(milliseconds=at_ms, seconds=SKEW_S)).isoformat()


def record_of(created_at: datetime, **changes: Any) -> dict[str, Any]:
    """The same call as the platform tells it: entries in the order in which they were written."""

    def said(role: str, turn: str, at_ms: int, text: str) -> dict[str, Any]:
        return entry(role, "message", at_ms, message=text, turnId=turn)

    def entry(role: str, kind: str, at_ms: int, **more: Any) -> dict[str, Any]:
        base = {"message": "", "toolCall": None, "toolCallOutput": None, "durationMs": None, "turnId": None}
        return {"role": role, "type": kind, **base, "createdAt": iso(created_at, at_ms), **more}

    call = {
        "callId": "t1",
        "toolName": "get_weather",
        "arguments": '{"city": "Paris"}',
        "output": WEATHER,
        "startedAt": iso(created_at, 10436),
        "endedAt": iso(created_at, 10498),
    }
    entries = [
        said("assistant", "agent-1", 1773, "Hello! How can I help?"),
        said("user", "user-1", 8221, "What is the weather like in Paris?"),
        entry("tool", "tool_call", 10436, toolCall=call),
        entry("tool", "tool_call_output", 10498, toolCall={"callId": "t1"}, toolCallOutput=WEATHER),
        said("assistant", "agent-2", 10764, "It is 16 degrees in Paris."),
        said("user", "user-2", 16642, "What can you do?"),
        said("assistant", "agent-3", 20858, "I can book you a table, tell"),
        entry("user", "interruption", 22426, turnId="agent-3"),
        said("user", "user-3", 22181, "Stop."),
        said("assistant", "agent-4", 24742, ""),
        said("assistant", "agent-5", 25870, "Goodbye."),
    ]
    return {
        "id": CALL,
        "agent_id": str(AGENT),
        "room": ROOM,
        "identity": "caller-1",
        "status": "ended",
        "created_at": iso(created_at, 200),
        "started_at": iso(created_at, 1200),
        "ended_at": iso(created_at, 38401),
        "duration_seconds": 37.2,
        "termination_reason": "caller_left",
        "summary": None,
        "cost": None,
        "tags": [],
        "transcript": {"entries": [{"index": n, **e} for n, e in enumerate(entries)]},
        **changes,
    }


def entries_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = record["transcript"]["entries"]
    return entries


def turn(record: dict[str, Any], name: str) -> dict[str, Any]:
    """The entry with the words of a turn."""
    return next(
        entry for entry in entries_of(record) if entry["turnId"] == name and entry["type"] == "message"
    )


def report(session: VoiceSession, told: list[Told]) -> None:
    first = log.last_seq(session.pk) + 1
    log.record(session.pk, [Frame(first + n, *event) for n, event in enumerate(told)])
    session.refresh_from_db()


def ended_call(
    told: list[Told] = REPORT, *, age: timedelta = timedelta(hours=1), room: str = ROOM
) -> VoiceSession:
    session = VoiceSession.objects.create(
        visitor="0" * 32,
        agent_id=AGENT,
        agent_name="Concierge",
        room=room,
        created_at=timezone.now() - age,
    )
    report(session, told)
    return session


def without(*turns: str) -> list[Told]:
    """The report without the lines of these turns or tool calls, or of these types."""
    return [
        (at_ms, kind, data)
        for at_ms, kind, data in REPORT
        if not {data.get("turn_id"), data.get("toolCallId"), kind} & set(turns)
    ]


def instead(name: str, **data: Any) -> list[Told]:
    """The report with a turn's data changed."""
    return [
        (at_ms, kind, {**told, **data} if told.get("turn_id") == name else told)
        for at_ms, kind, told in REPORT
    ]


def shown(session: VoiceSession) -> list[Line]:
    """The transcript as staff read it."""
    events = list(session.events.in_order())
    return [line for line in lines(events, events) if not line.is_hidden]


def words(session: VoiceSession) -> list[str]:
    return [line.words for line in shown(session) if line.event.role and line.words]


def state(session: VoiceSession) -> tuple[str, int, int]:
    return session.proof, session.recovered, session.differing


def log_of(session: VoiceSession) -> list[Any]:
    return list(
        session.events.order_by("source", "seq").values_list("source", "seq", "type", "at_ms", "data")
    )


WORDS = [str(data.get("text", data.get("transcript"))) for _, kind, data in REPORT if "turn_id" in data]
WORDS = [text for text in WORDS if text]


class ProofTestCase(TestCase):
    """`self.platform`: the site's platform, which tells of each call what `self.calls` holds."""

    def setUp(self) -> None:
        server = platform()
        self.platform: Platform = self.enterContext(server)

    def prove(self, session: VoiceSession, record: Any = None, **changes: Any) -> str:
        """Compares; returns why that was not possible, "" if it was."""
        if record is None:
            record = record_of(session.created_at)
        if isinstance(record, dict):
            record |= changes
        self.platform.calls = {CALL: (200, record)}
        return self.prove_again(session)

    def prove_again(self, session: VoiceSession) -> str:
        because = ""
        session.refresh_from_db()
        try:
            reconcile.prove(session)
        except reconcile.NotProvableError as trouble:
            because = str(trouble)
        session.refresh_from_db()
        return because


class ComparisonTests(ProofTestCase):
    def test_a_perfect_call_is_complete(self) -> None:
        session = ended_call()
        assert self.prove(session) == ""
        assert state(session) == ("complete", 0, 0)
        assert not session.events.filter(source="platform").exists()
        assert words(session) == WORDS
        assert session.proved_at is not None
        assert session.prove_at is None

    def test_what_the_platform_tells_of_the_call_is_kept(self) -> None:
        session = ended_call()
        self.prove(session, summary="A chat.", cost={"eur": 0.04}, tags=["demo"], recording_url="https://x")
        call = session.platform_call
        assert (call["duration_seconds"], call["termination_reason"]) == (37.2, "caller_left")
        assert (call["summary"], call["cost"], call["tags"]) == ("A chat.", {"eur": 0.04}, ["demo"])
        assert not {"transcript", "recording_url"} & call.keys()

    def test_missing_turns_are_added_in_their_places(self) -> None:
        session = ended_call(without("user-1", "agent-3", "user-3"))
        self.prove(session)
        assert state(session) == ("recovered", 3, 0)
        assert words(session) == WORDS
        rows = session.events.filter(source="platform").order_by("seq")
        assert [(row.seq, row.type, row.data["entry"]) for row in rows] == [
            (1, "input_audio_transcript", 1),
            (2, "response_text", 6),
            (3, "input_audio_transcript", 8),
        ]
        for row, at_ms in zip(rows, (8316, 20886, 22278), strict=True):
            assert abs(row.at_ms - at_ms) < 150, "on the call's clock, although the platform's is wrong"
        assert rows[0].data == {
            "transcript": "What is the weather like in Paris?",
            "turn_id": "user-1",
            "is_final": True,
            "entry": 1,
            "told_up_to": 13,
        }

    def test_missing_tool_calls_and_outputs_are_added(self) -> None:
        session = ended_call(without("t1"))
        self.prove(session)
        assert state(session) == ("recovered", 2, 0)
        tool, answer = (line for line in shown(session) if line.kind in ("tool", "output"))
        assert (tool.tool, tool.facts, tool.origin) == ("get_weather", [("city", "Paris")], "recovered")
        assert (answer.tool, answer.facts) == ("get_weather", [("city", "Paris"), ("temperature_c", "16")])

    def test_an_output_that_is_only_in_its_call_is_found_there(self) -> None:
        session = ended_call(without("tool_call_output"))
        record = record_of(session.created_at)
        del entries_of(record)[3]
        self.prove(session, record)
        assert state(session) == ("recovered", 1, 0)
        output = session.events.get(source="platform")
        assert output.data["output"] == WEATHER
        assert 10_467 <= output.at_ms <= 10_600

    def test_an_output_that_names_no_call_belongs_to_the_call_before_it(self) -> None:
        session = ended_call()
        record = record_of(session.created_at)
        entries_of(record)[2]["toolCall"]["output"] = None
        entries_of(record)[3]["toolCall"] = None
        self.prove(session, record)
        assert state(session) == ("complete", 0, 0)

    def test_a_missing_interruption_is_added_and_cuts_its_turn(self) -> None:
        session = ended_call(without("interruption"))
        self.prove(session)
        assert state(session) == ("recovered", 1, 0)
        assert [line.words for line in shown(session) if line.is_cut] == ["I can book you a table, tell"]

    def test_a_report_without_a_word_is_recovered_whole(self) -> None:
        session = ended_call([event for event in REPORT if event[1] in ("session_started", "hang_up")])
        self.prove(session)
        assert state(session) == ("recovered", 10, 0)
        assert words(session) == WORDS

    def test_spaces_case_and_encoding_are_no_differences(self) -> None:
        session = ended_call(instead("agent-2", text="It  is 16 degrees in PARIS.\u00a0Cafe\u0301 "))
        record = record_of(session.created_at)
        turn(record, "agent-2")["message"] = "it is 16 degrees\nin Paris. Caf\u00e9"
        self.prove(session, record)
        assert state(session) == ("complete", 0, 0)

    def test_a_turn_that_is_told_differently_is_kept_from_both_sides(self) -> None:
        session = ended_call(instead("agent-2", text="It is 26 degrees in Paris."))
        before = log_of(session)
        self.prove(session)
        assert state(session) == ("differs", 0, 1)
        assert log_of(session)[: len(before)] == before, "nothing is rewritten"
        row = session.events.get(source="platform")
        assert row.data["differs_from"] == ["browser", 9]
        line = next(line for line in shown(session) if line.other)
        assert line.words == "It is 26 degrees in Paris."
        assert line.other is not None
        assert line.other.words == "It is 16 degrees in Paris."
        assert len(words(session)) == len(WORDS), "the two stand in one line"

    def test_numbers_and_punctuation_count(self) -> None:
        session = ended_call(instead("agent-2", text="It is 1.6 degrees in Paris."))
        self.prove(session)
        assert state(session) == ("differs", 0, 1)

    def test_tools_are_compared_by_what_they_say(self) -> None:
        session = ended_call(
            [
                (
                    at,
                    kind,
                    {**data, "output": '{"temperature_c":16.0,"city":"Paris"}'} if "output" in data else data,
                )
                for at, kind, data in REPORT
            ]
        )
        self.prove(session)
        assert state(session) == ("complete", 0, 0)

    def test_other_arguments_and_outputs_differ(self) -> None:
        session = ended_call()
        record = record_of(session.created_at)
        entries_of(record)[2]["toolCall"]["arguments"] = '{"city": "Rome"}'
        entries_of(record)[3]["toolCallOutput"] = '{"city": "Rome"}'
        self.prove(session, record)
        assert state(session) == ("differs", 0, 2)
        facts = [line.other.facts for line in shown(session) if line.other]
        assert facts == [[("city", "Rome")], [("city", "Rome")]]

    def test_differences_win_over_what_was_recovered(self) -> None:
        told = [
            event for event in instead("agent-2", text="It rains.") if event[2].get("turn_id") != "user-1"
        ]
        session = ended_call(told)
        self.prove(session)
        assert state(session) == ("differs", 1, 1)

    def test_words_that_only_the_browser_tells_are_marked(self) -> None:
        session = ended_call([*REPORT[:-1], agent(30000, 99, "Dinner is on us."), REPORT[-1]])
        self.prove(session)
        assert state(session) == ("differs", 0, 1)
        assert [line.words for line in shown(session) if line.is_alone] == ["Dinner is on us."]
        assert "Only the browser" in next(line.dispute for line in shown(session) if line.is_alone)

    def test_a_mark_is_withdrawn_when_the_record_has_the_words_after_all(self) -> None:
        session = ended_call()
        record = record_of(session.created_at)
        last = entries_of(record).pop()
        self.prove(session, record)
        assert state(session) == ("differs", 0, 1)
        entries_of(record).append(last)
        self.prove(session, record)
        assert state(session) == ("complete", 0, 0)
        assert not [line for line in shown(session) if line.is_alone]
        entries_of(record).pop()
        self.prove(session, record)
        assert [line.words for line in shown(session) if line.is_alone] == ["Goodbye."]

    def test_an_entry_that_the_platform_has_changed_since_is_shown_as_it_is_now(self) -> None:
        session = ended_call(without("user-2"))
        record = record_of(session.created_at)
        turn(record, "user-2")["message"] = "What can ..."
        self.prove(session, record)
        self.prove(session)
        assert state(session) == ("recovered", 1, 0)
        assert words(session) == WORDS


class CutTests(ProofTestCase):
    WHOLE = "I can book you a table, tell you the weather, or show a list."

    def test_a_record_with_all_that_was_to_be_said_does_not_alarm(self) -> None:
        session = ended_call()
        record = record_of(session.created_at)
        turn(record, "agent-3")["message"] = self.WHOLE
        self.prove(session, record)
        assert state(session) == ("complete", 0, 0)
        line = next(line for line in shown(session) if line.is_cut)
        assert line.words == "I can book you a table, tell"
        assert line.other is not None
        assert line.other.words == self.WHOLE, "staff can see what a page may have hidden"
        assert "more of what was cut off" in line.dispute

    def test_the_log_alone_knows_of_the_cut(self) -> None:
        session = ended_call()
        record = record_of(session.created_at)
        turn(record, "agent-3")["message"] = self.WHOLE
        entries_of(record).pop(7)
        self.prove(session, record)
        assert state(session) == ("complete", 0, 0)

    def test_a_turn_that_nobody_cut_must_be_whole(self) -> None:
        session = ended_call(instead("agent-2", text="It is 16"))
        self.prove(session)
        assert state(session) == ("differs", 0, 1)

    def test_a_turn_that_the_end_of_the_call_cut_does_not_alarm(self) -> None:
        """The page told the words so far; what the caller was saying may have been heard better since."""
        for name, words in (
            ("agent-5", {"text": "Good"}),
            ("user-3", {"transcript": "Stock"}),
        ):
            session = ended_call(instead(name, **words, cut_by="page_closed"))
            self.prove(session)
            assert state(session) == ("complete", 0, 0)
            line = next(line for line in shown(session) if line.words in words.values())
            assert line.is_cut
            assert line.other is not None
            VoiceSession.objects.all().delete()

    def test_other_words_of_the_agent_differ_also_at_the_end(self) -> None:
        session = ended_call(instead("agent-5", text="You won", cut_by="page_closed"))
        self.prove(session)
        assert state(session) == ("differs", 0, 1)

    def test_hanging_up_on_the_agent_is_no_interruption_that_the_log_lacks(self) -> None:
        session = ended_call()
        record = record_of(session.created_at)
        entries_of(record).append(
            {
                "role": "user",
                "type": "interruption",
                "message": "",
                "createdAt": iso(session.created_at, 38_600),
            }
        )
        self.prove(session, record)
        assert state(session) == ("complete", 0, 0)

    def test_other_words_differ_in_a_turn_that_was_cut_too(self) -> None:
        session = ended_call(instead("agent-3", text="I can sell"))
        self.prove(session)
        assert state(session) == ("differs", 0, 1)


class WithoutIdsTests(ProofTestCase):
    """Where one side or both do not number the turns: speaker, words and order."""

    def nameless(self, session: VoiceSession) -> dict[str, Any]:
        record = record_of(session.created_at)
        for entry in entries_of(record):
            entry["turnId"] = None
        return record

    def test_a_record_without_turn_ids(self) -> None:
        session = ended_call(without("user-1"))
        self.prove(session, self.nameless(session))
        assert state(session) == ("recovered", 1, 0)
        assert words(session) == WORDS

    def test_a_record_with_other_turn_ids(self) -> None:
        session = ended_call()
        record = record_of(session.created_at)
        for entry in entries_of(record):
            entry["turnId"] = entry["turnId"] and f"other-{entry['turnId']}"
        self.prove(session, record)
        assert state(session) == ("complete", 0, 0)

    def test_of_equal_words_each_is_counted(self) -> None:
        yes = [(at_ms, kind, {"transcript": "Yes."}) for at_ms, kind, _ in (REPORT[4], REPORT[9])]
        session = ended_call([REPORT[1], *yes, REPORT[-1]])
        record = record_of(session.created_at)
        record["transcript"]["entries"] = [
            {"role": "user", "message": "yes.", "createdAt": iso(session.created_at, at_ms)}
            for at_ms in (8316, 16736, 22278)
        ]
        self.prove(session, record)
        assert state(session) == ("recovered", 1, 0)
        assert [line.event.at_ms for line in shown(session) if line.event.role] == [8316, 16736, 22278]

    def test_the_same_place_is_the_same_turn(self) -> None:
        session = ended_call(instead("agent-2", text="It is 26 degrees in Paris."))
        self.prove(session, self.nameless(session))
        assert state(session) == ("differs", 0, 1)
        assert [line.other.words for line in shown(session) if line.other] == ["It is 16 degrees in Paris."]

    def test_without_times_the_order_is_the_records(self) -> None:
        session = ended_call(without("user-1", "agent-3"))
        record = record_of(session.created_at)
        for entry in entries_of(record):
            entry["createdAt"] = None
        self.prove(session, record)
        assert state(session) == ("recovered", 2, 0)
        assert words(session) == WORDS

    def test_one_turn_in_several_parts(self) -> None:
        parts = [caller(8316, 1, "What is the weather like"), caller(9000, 1, "in Paris?")]
        session = ended_call([*REPORT[:4], *parts, *REPORT[5:]])
        self.prove(session)
        assert state(session) == ("complete", 0, 0)


class LeftoverTests(ProofTestCase):
    """What the page could not report before its call was compared."""

    def late(self, *turns: str) -> tuple[VoiceSession, list[Told]]:
        """A call that was compared when these turns were missing; and they."""
        session = ended_call(without(*turns), age=timedelta(minutes=10))
        self.prove(session)
        assert session.proof == "recovered"
        return session, [event for event in REPORT if event not in without(*turns)]

    def test_a_turn_that_was_recovered_before_is_shown_once(self) -> None:
        session, rest = self.late("user-1", "agent-3", "t1", "interruption")
        report(session, rest)
        assert words(session) == WORDS
        assert not [line for line in shown(session) if line.event.source == "platform"]
        assert [line.words for line in shown(session) if line.is_cut] == ["I can book you a table, tell"]
        rows = log_of(session)
        self.prove_again(session)
        assert state(session) == ("complete", 0, 0)
        assert log_of(session) == rows

    def test_a_turn_that_it_tells_differently_stands_beside_it(self) -> None:
        session, _ = self.late("agent-2")
        report(session, [agent(10791, 2, "It is 26 degrees in Paris.")])
        line = next(line for line in shown(session) if line.other)
        assert (line.words, line.other and line.other.words) == (
            "It is 26 degrees in Paris.",
            "It is 16 degrees in Paris.",
        )
        self.prove_again(session)
        assert state(session) == ("differs", 0, 1)
        assert len(words(session)) == len(WORDS)

    def test_the_call_is_compared_again_when_more_was_reported(self) -> None:
        session, rest = self.late("user-1")
        VoiceSession.objects.filter(pk=session.pk).update(proved_at=timezone.now() - timedelta(minutes=5))
        SessionEvent.objects.update(recorded_at=timezone.now() - timedelta(minutes=6))
        assert not VoiceSession.objects.to_prove(timezone.now())
        report(session, rest)
        reconcile.prove_due(timezone.now())
        session.refresh_from_db()
        assert state(session) == ("complete", 0, 0)

    def test_a_call_that_is_named_only_then_is_compared_after_all(self) -> None:
        session = ended_call(without("session_started"))
        assert (session.proof, session.prove_at) == ("unverified", None)
        assert session.unproved_because == "The browser never named the call on the platform."
        report(session, [(1258, "session_started", {"id": CALL})])
        assert (session.proof, session.unproved_because) == ("", "")
        assert session.prove_at is not None
        self.prove(session)
        assert state(session) == ("complete", 0, 0)


class StrangersTests(ProofTestCase):
    """The call's id comes from a browser."""

    def refused(self, session: VoiceSession, record: dict[str, Any]) -> str:
        because = self.prove(session, record)
        assert (session.proof, session.unproved_because) == ("unverified", because)
        assert (session.prove_at, session.platform_call) == (None, {})
        assert not session.events.filter(source="platform").exists()
        return because

    def test_a_call_in_another_room(self) -> None:
        session = ended_call(without("agent-2"))
        assert "another room" in self.refused(session, record_of(session.created_at, room="another"))

    def test_a_call_with_another_agent(self) -> None:
        session = ended_call()
        record = record_of(session.created_at, agent_id="5a1c0e5e-0000-4000-8000-000000000009", room=None)
        assert "another agent" in self.refused(session, record)

    def test_a_call_at_another_time(self) -> None:
        session = ended_call()
        other = session.created_at - timedelta(hours=3)
        assert "another time" in self.refused(session, record_of(other, room=None))

    def test_a_record_that_is_of_another_call(self) -> None:
        session = ended_call()
        assert "another call" in self.refused(session, record_of(session.created_at, id="call-78"))

    def test_two_sessions_that_name_the_same_call(self) -> None:
        mine, other = ended_call(), ended_call(room="call-room-2")
        nameless = record_of(mine.created_at)
        for key in ("room", "agent_id", "id", "identity", "created_at"):
            del nameless[key]
        assert "Another session" in self.refused(mine, nameless)
        assert "Another session" in self.refused(other, nameless)
        # A record that names the room tells whose it is.
        assert self.prove(mine) == ""
        assert state(mine) == ("complete", 0, 0)

    def test_the_documented_record_names_neither_room_nor_agent(self) -> None:
        session = ended_call()
        record = record_of(session.created_at)
        for key in ("room", "agent_id", "id", "identity", "created_at"):
            del record[key]
        assert self.prove(session, record) == ""
        assert state(session) == ("complete", 0, 0)


HOSTILE: list[Any] = [
    None,
    5,
    "text",
    [],
    {},
    {"type": None},
    {"type": {}},
    {"type": "message", "role": "user"},
    {"type": "message", "role": "user", "message": 5},
    {"type": "message", "role": 5, "message": "x"},
    {"type": "message", "role": "wizard", "message": "x"},
    {"type": "message", "role": "user", "message": "\0 \ud800 x", "turnId": "\ud800", "createdAt": "\0"},
    {"type": "message", "role": "assistant", "message": "x" * 200_000},
    {"type": "message", "role": "assistant", "message": "x", "turnId": ["a"], "createdAt": 5},
    {"type": "message", "role": "user", "message": "x", "turnId": "t" * 300},
    {"type": "message", "role": "user", "message": "x", "createdAt": "0001-01-01T00:00:00+14:00"},
    {"type": "message", "role": "user", "message": "x", "createdAt": "9999-12-31T23:59:59-14:00"},
    {"type": "tool_call", "toolCall": None},
    {"type": "tool_call", "toolCall": {"callId": "", "toolName": "x"}},
    {"type": "tool_call", "toolCall": {"callId": "c" * 256, "toolName": "x"}},
    {"type": "tool_call", "toolCall": {"callId": "a", "toolName": "x", "arguments": "{"}},
    {
        "type": "tool_call",
        "toolCall": {"callId": "b", "toolName": "x", "arguments": {"n": 1e308, "d": [[[]]]}},
    },
    {"type": "tool_call", "toolCall": {"callId": "d", "toolName": "x", "arguments": "[" * 5000}},
    {"type": "tool_call", "toolCall": {"callId": "e", "toolName": "x", "arguments": '{"n": 1e999}'}},
    {"type": "tool_call_output", "toolCallOutput": "of nothing"},
    {"type": "tool_call_output", "toolCall": {"callId": "a"}, "toolCallOutput": 5},
    {"type": "tool_call_output", "toolCall": {"callId": "a"}, "toolCallOutput": "[" * 50_000},
    {"type": "interruption", "turnId": "nobody"},
    {"type": "teleportation", "message": "of a newer platform"},
]


class HostileTests(ProofTestCase):
    def test_entries_of_any_form_end_in_a_state(self) -> None:
        for number, entry in enumerate(HOSTILE):
            session = ended_call()
            record = record_of(session.created_at)
            entries_of(record).insert(3, entry)
            self.prove(session, record)
            assert session.proof in ("complete", "recovered", "unverified"), (number, entry)
            assert len(shown(session)) >= 10, (number, entry)
            rows = log_of(session)
            self.prove(session, record)
            assert log_of(session) == rows, (number, entry)

    def test_all_of_them_at_once(self) -> None:
        session = ended_call()
        record = record_of(session.created_at)
        entries_of(record).extend(HOSTILE)
        assert self.prove(session, record) == ""
        assert session.proof == "unverified"
        assert "entries of the platform's record cannot be read" in session.unproved_because
        assert session.recovered > 0, "what can be read is recovered"

    def test_records_of_any_form_end_in_a_state(self) -> None:
        records: list[Any] = [
            [],
            "text",
            5,
            {},
            {"status": 5},
            {"status": "ended", "transcript": {"entries": {}}},
            {"status": "ended", "transcript": {"entries": "text"}},
            {"status": "ended", "transcript": "text"},
            b"<html>",
            b"[" * 100_000,
            b'{"status": "ended", "duration_seconds": ' + b"9" * 5000 + b"}",
        ]
        for record in records:
            session = ended_call()
            because = self.prove(session, record)
            assert because.startswith("The platform's"), record
            assert (session.proof, session.unproved_because) == ("", because)
            assert session.prove_at is not None, "it may answer better later"
            session.delete()

    def test_facts_of_any_form_are_kept_or_dropped(self) -> None:
        session = ended_call()
        odd = {"a": [{"b": "\0\ud800"}], "c": float("inf")}
        changes = dict.fromkeys(
            ("summary", "cost", "tags", "duration_seconds", "started_at", "ended_at"), odd
        )
        assert self.prove(session, **changes) == ""
        assert session.proof == "complete"
        assert session.platform_call["cost"] == {"a": [{"b": "\ufffd\ufffd"}], "c": None}

    def test_too_many_entries(self) -> None:
        session = ended_call()
        record = record_of(session.created_at)
        entries_of(record).extend([{"role": "user", "message": "x"}] * 20_000)
        assert "20011 entries" in self.prove(session, record)

    def test_repeated_entries_count_once(self) -> None:
        session = ended_call(without("user-1"))
        record = record_of(session.created_at)
        record["transcript"]["entries"] = [
            {**entry, "index": n} for n in range(3) for entry in entries_of(record)
        ]
        self.prove(session, record)
        assert state(session) == ("recovered", 1, 0)
        assert words(session) == WORDS

    def test_a_call_of_which_nobody_says_a_word(self) -> None:
        session = ended_call([REPORT[0], REPORT[1], REPORT[-1]])
        self.prove(session, transcript=None)
        assert state(session) == ("complete", 0, 0)


class ScheduleTests(ProofTestCase):
    """When the platform is asked, and how often."""

    def test_a_call_is_looked_at_soon_after_its_end_and_once_more(self) -> None:
        session = ended_call(age=timedelta(seconds=39))
        assert session.prove_at is not None
        assert timedelta() < session.prove_at - timezone.now() <= timedelta(seconds=5)
        assert reconcile.prove_due(timezone.now()) == {}, "not yet"
        # The record may be written late.
        self.prove(session)
        assert session.proof == "complete"
        assert session.prove_at is not None
        VoiceSession.objects.update(
            ended_at=timezone.now() - timedelta(minutes=2), prove_at=timezone.now() - timedelta(seconds=1)
        )
        self.prove(session, record_of(session.created_at, ended_at=None, summary="Written late."))
        assert session.prove_at is None
        assert session.platform_call["summary"] == "Written late."

    def test_a_record_that_is_not_written_to_its_end_raises_no_alarm(self) -> None:
        session = ended_call(age=timedelta(seconds=39))
        record = record_of(session.created_at)
        entries_of(record).pop()
        assert self.prove(session, record) == "The platform's record is not complete yet."
        assert (session.proof, session.prove_at is None) == ("", False)
        assert self.prove(session) == ""
        assert state(session) == ("complete", 0, 0)

    def test_calls_that_never_were_are_not_asked_for(self) -> None:
        for reason, because in (
            ("not_started", "The call never began."),
            ("failed", "The call never began."),
        ):
            session = VoiceSession.objects.create(visitor="0", agent_id=AGENT, agent_name="Concierge")
            session.mark_ended(reason, timezone.now())
            session.refresh_from_db()
            assert (session.proof, session.unproved_because, session.prove_at) == (
                "unverified",
                because,
                None,
            )
        assert reconcile.prove_due(timezone.now() + timedelta(days=2)) == {}
        assert self.platform.requests == []

    def test_calls_of_before_there_was_a_proof_are_looked_at_once(self) -> None:
        named, nameless, gone = (
            ended_call(age=timedelta(days=9)),
            ended_call([]),
            ended_call(age=timedelta(days=9)),
        )
        nameless.mark_ended("abandoned", timezone.now())
        VoiceSession.objects.filter(pk=gone.pk).update(call_id="call-79")
        VoiceSession.objects.update(proof="", unproved_because="", prove_at=None)
        self.platform.calls = {CALL: (200, record_of(named.created_at))}
        assert reconcile.prove_due(timezone.now()) == {"complete": 1, "unverified": 2}
        assert reconcile.prove_due(timezone.now()) == {}
        assert len(self.platform.requests) == 2

    def test_the_pauses_grow_and_end_after_a_day(self) -> None:
        session = ended_call()
        ended = timezone.now()
        VoiceSession.objects.update(ended_at=ended)
        self.platform.calls = {"another": (200, {})}
        pauses = []
        while session.proof == "":
            at = timezone.now()
            assert self.prove_again(session) == "The platform does not know the call."
            if session.prove_at is not None:
                pause = session.prove_at - at
                pauses.append(round(pause / timedelta(minutes=1)))
                VoiceSession.objects.update(ended_at=session.ended_at and session.ended_at - pause)
        assert pauses == [1, 5, 30, 120, 360, 900]
        assert (session.proof, session.prove_at) == ("unverified", None)
        assert session.unproved_because == "The platform does not know the call."
        assert session.ended_at is not None
        assert ended - session.ended_at < timedelta(days=1)

    def test_a_call_that_goes_on_over_there_is_waited_for(self) -> None:
        session = ended_call()
        because = self.prove(session, status="in_progress")
        assert because == "The platform says that the call is still going on (in_progress)."
        assert (session.proof, session.unproved_because) == ("", because)
        assert session.prove_at is not None
        self.prove(session)
        assert (session.proof, session.unproved_because) == ("complete", "")

    def test_a_call_that_still_goes_on_here_is_not_compared(self) -> None:
        session = ended_call(REPORT[:-1])
        assert self.prove(session) == "The call is not over yet."
        assert (session.proof, session.prove_at, self.platform.requests) == ("", None, [])

    def test_a_platform_that_is_down_is_asked_once_in_each_run(self) -> None:
        for _ in range(4):
            ended_call()
        VoiceSession.objects.update(prove_at=timezone.now())
        for status, asked in ((503, 1), (401, 2)):
            self.platform.calls = {CALL: (status, {"error": "no"})}
            assert reconcile.prove_due(timezone.now()) == {"later": 1}
            assert len(self.platform.requests) == asked
        assert VoiceSession.objects.filter(prove_at__lte=timezone.now()).count() == 2

    def test_a_long_outage_makes_no_call_unverified(self) -> None:
        session = ended_call(age=timedelta(days=3))
        self.platform.calls = {CALL: (503, "")}
        assert self.prove_again(session) == "The platform is too busy to answer."
        assert session.proof == ""
        self.prove(session)
        assert session.proof == "complete"

    def test_what_was_shown_before_outlasts_a_try_in_vain(self) -> None:
        session = ended_call(without("user-1"))
        self.prove(session)
        self.platform.calls = {CALL: (500, "")}
        assert self.prove_again(session) == "The platform reports an error."
        assert state(session) == ("recovered", 1, 0)
        assert session.prove_at is not None

    def test_a_comparison_that_fails_by_a_defect_keeps_no_other_call_waiting(self) -> None:
        broken, whole = ended_call(), ended_call()
        VoiceSession.objects.update(prove_at=timezone.now())
        self.platform.calls = {CALL: (200, record_of(broken.created_at))}

        def compare_one(created_at: datetime, *rest: Any) -> Any:
            if created_at == broken.created_at:
                raise ZeroDivisionError
            return compare(created_at, *rest)

        with mock.patch.object(reconcile, "compare", compare_one), self.assertLogs("sessions_app", "ERROR"):
            assert reconcile.prove_due(timezone.now()) == {"later": 1, "complete": 1}
        broken.refresh_from_db()
        whole.refresh_from_db()
        assert (broken.proof, whole.proof) == ("", "complete")
        assert broken.unproved_because == "The comparison failed; the site's log tells how."
        assert (broken.prove_tries, broken.prove_at is None) == (1, False)

    def test_one_run_has_a_budget(self) -> None:
        for _ in range(3):
            ended_call()
        VoiceSession.objects.update(prove_at=timezone.now())
        self.platform.calls = {"another": (200, {})}
        assert reconcile.prove_due(timezone.now(), limit=2) == {"later": 2}
        assert reconcile.prove_due(timezone.now() - timedelta(minutes=1), budget=timedelta(seconds=30)) == {}


class RaceTests(TransactionTestCase):
    def test_two_at_once_add_each_line_once(self) -> None:
        session = ended_call(without("user-1", "agent-2", "t1"))
        with platform() as server:
            server.calls = {CALL: (200, record_of(session.created_at))}
            start = threading.Barrier(4)

            def prove() -> None:
                try:
                    mine = VoiceSession.objects.get(pk=session.pk)
                    start.wait()
                    reconcile.prove(mine)
                finally:
                    connection.close()

            threads = [threading.Thread(target=prove) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        session.refresh_from_db()
        assert state(session) == ("recovered", 4, 0)
        assert session.events.filter(source="platform").count() == 4
        assert words(session) == WORDS

    def test_what_is_reported_during_a_comparison_is_compared_too(self) -> None:
        session = ended_call(without("user-1"))
        lock = VoiceSession.lock

        def report_first(mine: VoiceSession) -> None:
            with mock.patch.object(VoiceSession, "lock", lock):
                report(session, [REPORT[4]])
            lock(mine)

        with platform() as server, mock.patch.object(VoiceSession, "lock", report_first):
            server.calls = {CALL: (200, record_of(session.created_at))}
            reconcile.prove(session)
        assert state(session) == ("complete", 0, 0)
        assert words(session) == WORDS

    def test_a_call_that_another_run_has_taken_is_left_to_it(self) -> None:
        session = ended_call()
        VoiceSession.objects.update(prove_at=timezone.now())
        session.refresh_from_db()
        other = VoiceSession.objects.get(pk=session.pk)
        assert session.lease_proof(timezone.now() + timedelta(minutes=2))
        assert not other.lease_proof(timezone.now() + timedelta(minutes=2))
        assert reconcile.prove_due(timezone.now()) == {}


class PropertyTests(PropertyTestCase):
    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        kept=st.sets(st.integers(2, len(REPORT) - 2)),
        later=st.booleans(),
        has_ids=st.booleans(),
        has_times=st.booleans(),
    )
    def test_whatever_was_lost_the_words_are_the_records(
        self, kept: set[int], later: bool, has_ids: bool, has_times: bool
    ) -> None:
        """And a second comparison changes nothing; nor is a word told twice if the rest comes afterwards."""
        told = [REPORT[1], *(REPORT[n] for n in sorted(kept)), REPORT[-1]]
        session = ended_call(told)
        record = record_of(session.created_at)
        for entry in entries_of(record):
            if not has_ids:
                entry["turnId"] = None
            if not has_times:
                entry["createdAt"] = None
        with platform() as server:
            server.calls = {CALL: (200, record)}
            reconcile.prove(session)
            assert session.differing == 0
            if has_times:
                assert words(session) == WORDS
            assert sorted(words(session)) == sorted(WORDS)
            rows, before = log_of(session), state(session)
            reconcile.prove(session)
            assert (log_of(session), state(session)) == (rows, before)
            if later:
                report(session, [REPORT[n] for n in range(2, len(REPORT) - 1) if n not in kept])
                assert sorted(words(session)) == sorted(WORDS)
                rows = log_of(session)
                reconcile.prove(session)
                assert state(session) == ("complete", 0, 0)
                assert log_of(session) == rows
                if has_times:
                    assert words(session) == WORDS

    json_values = st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    )
    kinds = st.sampled_from(["message", "tool_call", "tool_call_output", "interruption"])
    tool_calls = st.fixed_dictionaries(
        {},
        optional={
            "callId": st.sampled_from(["t1", "t2"]),
            "toolName": json_values,
            "arguments": json_values,
        },
    )
    fields = st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(["user", "assistant", "tool"]) | json_values,
            "type": st.sampled_from(["message", "tool_call", "tool_call_output", "interruption"])
            | json_values,
            "message": json_values,
            "turnId": st.sampled_from(["user-1", "agent-2"]) | json_values,
            "toolCall": tool_calls | json_values,
            "toolCallOutput": json_values,
            "createdAt": st.datetimes().map(datetime.isoformat) | json_values,
        },
    )

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(entries=st.lists(fields | json_values, max_size=6))
    def test_any_record_ends_in_a_state(self, entries: list[Any]) -> None:
        session = ended_call()
        record = record_of(session.created_at)
        record["transcript"]["entries"] = [*entries_of(record), *entries]
        with platform() as server:
            server.calls = {CALL: (200, json.dumps(record).encode())}
            reconcile.prove(session)
            assert session.proof in ("complete", "recovered", "differs", "unverified")
            rows = log_of(session)
            assert shown(session)
            reconcile.prove(session)
            assert log_of(session) == rows
