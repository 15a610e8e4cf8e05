"""What lists, filters and the overview know of a call, and when they know it."""

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from threading import Event, Thread
from typing import Any
from unittest import mock
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, DataError, connection, transaction
from django.test import TestCase, TransactionTestCase
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sessions_app import digest, listing, log, overview, search
from sessions_app.models import Day, SessionEvent, VoiceSession

from .test_admin import SESSIONS, agent_says, caller_says, cuts_in, open_session, shown, tell

BEGUN = (0, "session_started", {"id": "call-1"})
HUNG_UP = (60_000, "hang_up", {"by": "button"})


def calls_tool(at_ms: int, name: str) -> tuple[int, str, dict[str, Any]]:
    return at_ms, "tool_call", {"toolCallId": f"t{at_ms}", "toolName": name, "arguments": []}


def answers(at_ms: int, called_at_ms: int, output: Any) -> tuple[int, str, dict[str, Any]]:
    return at_ms, "tool_call_output", {"toolCallId": f"t{called_at_ms}", "output": json.dumps(output)}


def replied(at_ms: int, after_ms: Any) -> tuple[int, str, dict[str, Any]]:
    return at_ms, "reply_audible", {"after_ms": after_ms}


def catch_up() -> int:
    return digest.catch_up(60, 1000)


class FiguresTests(TestCase):
    def test_a_call_in_numbers(self) -> None:
        session = open_session()
        session.created_at = timezone.now() - timedelta(minutes=5)
        session.save()
        tell(
            session,
            BEGUN,
            agent_says(1000, "Good evening."),
            caller_says(4000, "A table for two,\n please"),
            replied(5200, 1200),
            agent_says(5200, "Let me look"),
            calls_tool(6000, "book"),
            answers(6500, 6000, {"error": "no table"}),
            calls_tool(7000, "weather"),
            answers(7100, 7000, {"degrees": 20}),
            cuts_in(8000),
            caller_says(8100, "Tomorrow then."),
            replied(10_200, 2100),
            (11_000, "page_asleep", {}),
            (11_500, "reconnected", {}),
            HUNG_UP,
        )
        tell(session, (60_000, "ended", {"reason": "hang_up"}), source="server")
        digest.digest(session)
        shown = {name: getattr(session, name) for name in ("turns", "interruptions", "tool_calls")}
        assert shown == {"turns": 4, "interruptions": 1, "tool_calls": 2}
        assert (session.tool_errors, session.incidents, session.slow_replies) == (1, 1, 1)
        assert session.reply_ms == 1650
        assert session.length_s == 60
        assert (session.last_role, session.last_words) == ("caller", "Tomorrow then.")
        assert session.details == {
            "replies_ms": [1200, 2100],
            "tools": {"book": 1, "weather": 1},
            "tool_errors": {"book": 1},
        }

    def test_the_last_words_are_one_line_of_at_most_160_characters(self) -> None:
        session = open_session()
        tell(session, caller_says(0, "One\ntwo\t " + "x" * 500), agent_says(10, "  "))
        digest.digest(session)
        assert session.last_words.startswith("One two xxx")
        assert len(session.last_words) == 160
        assert session.last_role == "caller"
        tell(session, caller_says(20, "a" + "\u0301" * 500))  # accents that stand by themselves
        assert catch_up() == 1
        session.refresh_from_db()
        assert len(session.last_words) == 160

    def test_a_greeting_answers_nobody(self) -> None:
        session = open_session()
        tell(
            session,
            replied(600, 600),
            agent_says(600, "Hello."),
            caller_says(2000, "Hi."),
            replied(4000, 900),
        )
        digest.digest(session)
        assert session.details["replies_ms"] == [900]

    def test_figures_that_the_database_refuses_hold_up_no_other_call(self) -> None:
        odd, usual = open_session(), open_session()
        for session in (odd, usual):
            tell(session, caller_says(0, "Good evening."))
        real = digest.digest_all

        def refuse(ids: Sequence[UUID]) -> None:
            if odd.pk in ids:
                raise DataError("value too long")
            real(ids)

        with mock.patch.object(digest, "digest_all", refuse), self.assertLogs(digest.logger, "ERROR"):
            catch_up()
            assert catch_up() == 0
        usual.refresh_from_db()
        assert usual.turns == 1

    def test_what_is_told_twice_counts_once(self) -> None:
        session = open_session()
        tell(session, agent_says(1000, "Hello there."), caller_says(2000, "My name is Ada"))
        different = {"transcript": "My name is Eda", "turn_id": "user-2000", "differs_from": ["browser", 2]}
        recovered = {"text": "And where from?", "turn_id": "agent-9", "entry": 5, "told_up_to": 2}
        tell(
            session,
            (2000, "input_audio_transcript", different),
            (3000, "response_text", recovered),
            source="platform",
        )
        digest.digest(session)
        assert session.turns == 3
        assert session.last_words == "And where from?"
        # The browser brings later what the platform had told already.
        tell(session, (3000, "response_text", {"text": "And where from?", "turn_id": "agent-9"}))
        digest.digest(session)
        assert session.turns == 3
        assert session.digested_lines == 5

    def test_what_a_page_makes_up_of_its_replies_is_no_measurement(self) -> None:
        session = open_session()
        made_up = [-1, 1e300, "2000", None, True, [], 3_600_000]
        tell(
            session,
            caller_says(0, "Go on."),
            *(replied(n, ms) for n, ms in enumerate(made_up)),
            (9, "reply_audible", {}),
            replied(10, 700.4),
        )
        digest.digest(session)
        assert session.details["replies_ms"] == [700]
        assert (session.reply_ms, session.slow_replies) == (700, 0)

    def test_a_page_that_never_stops_does_not_fill_the_details(self) -> None:
        session = open_session()
        tell(
            session,
            caller_says(0, "Go on."),
            *(calls_tool(n, f"tool {n}") for n in range(200)),
            *(replied(n, n) for n in range(1500)),
        )
        digest.digest(session)
        assert session.tool_calls == 200
        assert len(session.details["tools"]) == digest.TOOLS
        assert len(session.details["replies_ms"]) == digest.REPLIES

    def test_a_call_that_goes_on_has_no_length(self) -> None:
        session = open_session()
        tell(session, BEGUN, agent_says(1000, "Hello"))
        digest.digest(session)
        assert session.length_s is None


class CatchUpTests(TestCase):
    def test_new_lines_are_digested_once(self) -> None:
        session, other = open_session(), open_session()
        tell(session, BEGUN, agent_says(1000, "Hello"))
        tell(other, BEGUN)
        assert catch_up() == 2
        assert catch_up() == 0
        tell(session, caller_says(2000, "Hello, you"))
        assert catch_up() == 1
        session.refresh_from_db()
        assert (session.turns, session.last_words) == (2, "Hello, you")

    def test_nothing_new_costs_two_queries(self) -> None:
        tell(open_session(), BEGUN)
        catch_up()
        with mock.patch.object(digest, "OVERLAP", timedelta()):
            catch_up()
            catch_up()
        with CaptureQueriesContext(connection) as queries:
            assert catch_up() == 0
        assert len(queries) == 2

    def test_every_end_brings_the_length(self) -> None:
        def by_the_caller(session: VoiceSession) -> None:
            tell(session, HUNG_UP)

        def by_the_site(session: VoiceSession) -> None:
            with transaction.atomic():
                log.end(session, VoiceSession.EndReason.ABANDONED, session.created_at + timedelta(seconds=60))

        def by_the_site_and_then_otherwise(session: VoiceSession) -> None:
            by_the_site(session)
            catch_up()
            tell(session, (61_000, "session_ended", {}))

        def by_the_record(session: VoiceSession) -> None:
            tell(session, (60_000, "session_ended", {}), source="platform")

        ends: list[Callable[[VoiceSession], None]] = [
            by_the_caller,
            by_the_site,
            by_the_site_and_then_otherwise,
            by_the_record,
        ]
        for end in ends:
            session = open_session()
            session.created_at = timezone.now() - timedelta(minutes=5)
            session.save()
            tell(session, BEGUN)
            catch_up()
            end(session)
            catch_up()
            session.refresh_from_db()
            with self.subTest(end.__name__):
                assert session.length_s == (61 if end is by_the_site_and_then_otherwise else 60)

    def test_a_call_that_never_began_has_none(self) -> None:
        session = open_session()
        log.end(session, VoiceSession.EndReason.NOT_STARTED, timezone.now())
        assert catch_up() == 1
        session.refresh_from_db()
        assert session.length_s is None

    def test_no_more_than_asked_for(self) -> None:
        for _ in range(3):
            tell(open_session(), *(agent_says(n, "word") for n in range(10)))
        with mock.patch.object(digest, "BATCH", 10):
            assert digest.catch_up(60, 2) == 2
            assert digest.catch_up(0, 1000) == 0
            assert digest.catch_up(60, 1000) == 1

    def test_what_is_too_long_for_a_page_is_left_to_the_sweep_and_holds_nothing_else_up(self) -> None:
        long, short = open_session(), open_session()
        tell(long, *(agent_says(n, "word") for n in range(2500)))
        tell(short, agent_says(0, "word"))
        assert digest.catch_up(0.2, 1000) == 1
        short.refresh_from_db()
        assert short.turns == 1
        assert catch_up() == 1
        long.refresh_from_db()
        assert long.turns == 2500

    def test_a_long_backlog_is_worked_off_in_windows(self) -> None:
        for n in range(5):
            tell(open_session(), *(agent_says(at_ms, f"word {n}") for at_ms in range(10)))
        with mock.patch.object(digest, "WINDOW", 7):
            assert catch_up() == 5
        assert set(VoiceSession.objects.values_list("turns", flat=True)) == {10}

    @mock.patch.object(digest, "OVERLAP", timedelta(0))
    def test_who_looks_before_a_long_log_is_worked_off_is_told(self) -> None:
        self.client.force_login(User.objects.create_superuser("staff"))
        urls = (SESSIONS, f"{SESSIONS}?q=word", f"{SESSIONS}overview/")

        def pages() -> list[str]:
            return [shown(self.client.get(url).content.decode()) for url in urls]

        session = open_session()
        tell(session, agent_says(0, "word"))
        for _ in range(2):  # PostgreSQL passes over what was there at the look before
            catch_up()
        tell(session, *(agent_says(at_ms, "word") for at_ms in range(3000)))
        told = "about 3,000 lines are left"
        with (
            mock.patch.object(digest, "BACKLOG", 1000),
            mock.patch.object(listing, "CATCH_UP_CALLS", 0),
            mock.patch.object(overview, "CATCH_UP_CALLS", 0),
        ):
            pages()
            assert [told in page for page in pages()] == [True] * 3
            for _ in range(2):
                catch_up()
            assert [told in page for page in pages()] == [False] * 3

    def test_a_database_that_refuses_is_logged_and_breaks_nothing(self) -> None:
        session = open_session()
        tell(session, BEGUN, agent_says(0, "word"))
        refusal = mock.patch.object(search, "index", side_effect=DatabaseError("disk full"))
        with refusal, self.assertLogs("sessions_app.digest", "ERROR"):
            assert catch_up() == 0
        session.refresh_from_db()
        assert session.digested_lines == 0
        assert catch_up() == 1

    def test_a_line_that_cannot_be_read_does_not_hold_up_the_other_calls(self) -> None:
        odd, session = open_session(), open_session()
        # Nothing writes such a line: it stands for a defect.
        SessionEvent.objects.create(session=odd, source="browser", seq=1, type="tool_call", at_ms=0)
        tell(session, agent_says(0, "word"))
        with self.assertLogs("sessions_app.digest", "ERROR") as logged:
            assert catch_up() == 2
        assert str(odd.pk) in logged.output[0]
        session.refresh_from_db()
        assert session.turns == 1
        assert catch_up() == 0

    def test_who_has_read_fewer_lines_comes_too_late(self) -> None:
        session = open_session()
        tell(session, agent_says(0, "first"))

        def another_is_faster(*given: Any, **named: Any) -> Any:
            with mock.patch.object(digest, "_digest", real):
                tell(session, agent_says(1, "second"))
                digest.digest(session)
            return real(*given, **named)

        real = digest._digest
        with mock.patch.object(digest, "_digest", another_is_faster):
            digest.digest_all([session.pk])
        session.refresh_from_db()
        assert (session.turns, session.last_words) == (2, "second")


class DayTests(TestCase):
    def day(self, session: VoiceSession) -> Day:
        return Day.objects.get(day=timezone.localdate(session.created_at), agent_id=session.agent_id)

    def test_a_days_sums_are_stale_when_a_call_of_it_changes(self) -> None:
        session, other = open_session(), open_session()
        tell(session, BEGUN)
        tell(other, BEGUN)
        catch_up()
        assert Day.objects.count() == 1
        assert self.day(session).is_stale
        Day.objects.update(is_stale=False, figures={"calls": 2})
        tell(other, caller_says(1000, "word"))
        catch_up()
        assert self.day(session).is_stale
        assert self.day(session).figures == {"calls": 2}

    def test_and_when_the_proof_of_one_is_settled_without_a_line(self) -> None:
        session = open_session()
        tell(session, BEGUN, HUNG_UP)
        catch_up()
        Day.objects.update(is_stale=False)
        session.settle_proof(
            VoiceSession.Proof.COMPLETE,
            recovered=0,
            differing=0,
            because="",
            call={},
            at=timezone.now(),
            again_at=None,
        )
        assert self.day(session).is_stale
        Day.objects.update(is_stale=False)
        session.put_off_proof("The platform does not know it.", timezone.now(), None)
        assert self.day(session).is_stale


class AtOnceTests(TransactionTestCase):
    def test_several_processes_may_catch_up_at_once(self) -> None:
        sessions = [open_session() for _ in range(4)]
        for session in sessions:
            tell(session, agent_says(0, "indivisible"))
        counts: list[int] = []

        def run() -> None:
            try:
                counts.append(catch_up())
            finally:
                connection.close()

        threads = [Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(counts) >= 4
        assert set(VoiceSession.objects.values_list("turns", flat=True)) == {1}
        assert len(search.search("indivisible").hits) == 4

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
    def test_a_line_that_is_committed_after_one_with_a_higher_id_is_not_missed(self) -> None:
        slow, fast = open_session(), open_session()
        is_written, may_commit = Event(), Event()

        def write() -> None:
            try:
                with transaction.atomic():
                    tell(slow, agent_says(0, "slowly"))
                    is_written.set()
                    may_commit.wait(30)
            finally:
                connection.close()

        writer = Thread(target=write)
        writer.start()
        is_written.wait(30)
        tell(fast, agent_says(0, "fast"))
        assert catch_up() == 1
        may_commit.set()
        writer.join()
        assert catch_up() == 1
        slow.refresh_from_db()
        assert slow.last_words == "slowly"
