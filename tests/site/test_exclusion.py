"""What must not happen at the same time does not: also on PostgreSQL, where transactions run side by side.

The races for the last place are in test_admission, that for a tool call in test_tools.
"""

import json
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from django.conf import settings
from django.db import connection, connections
from django.test import TransactionTestCase
from django.utils import timezone

from sessions_app import log, tools
from sessions_app.events import Frame, ToolCall
from sessions_app.models import Booking, SessionEvent, ToolRun, VoiceSession
from sessions_app.tools import tool

from .sockets import PATIENCE_S, open_session

ANSWER = {"toolCallId": "c1", "output": '{"error":"It did not answer in time."}'}

WAITS_FOR_A_LOCK = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)

on_postgresql = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="SQLite has one writer at a time, whatever it does"
)


@pytest.fixture(autouse=True)
def own_tools() -> Iterator[None]:
    """What a test registers is gone after it."""
    with mock.patch.dict(tools.TOOLS):
        yield


@on_postgresql
class ExclusionTests(TransactionTestCase):
    def setUp(self) -> None:
        self.session = open_session(self.client)

    def run_tool(self, name: str, call_id: str = "c1") -> Any:
        return json.loads(tools.run(self.session, ToolCall(call_id, name, {}), timezone.now()))

    def test_no_answer_gets_into_the_log_between_a_tools_last_look_and_its_end(self) -> None:
        """Or the log would say that the tool gave no answer, and the change would be made afterwards."""
        logged = threading.Event()

        def answer() -> None:
            log.record(self.session.pk, [Frame(1, 0, "tool_call_output", ANSWER)])
            logged.set()
            connection.close()

        page = threading.Thread(target=answer)
        is_answered = VoiceSession.is_answered

        def look(session: VoiceSession, call_id: str) -> bool:
            found = is_answered(session, call_id)
            if connection.in_atomic_block:  # the last look, not the first one before the tool begins
                page.start()
                wait_until_a_lock_is_waited_for(logged)
                assert not logged.is_set()
            return found

        @tool(writes=True)
        def book(run: ToolRun) -> dict[str, Any]:
            Booking.objects.create(
                session=run.session, tool_call_id=run.tool_call_id, people=2, at=timezone.now()
            )
            return {"reference": "B1"}

        with mock.patch.object(VoiceSession, "is_answered", look):
            assert self.run_tool("book") == {"reference": "B1"}
        page.join()
        assert SessionEvent.objects.count() == Booking.objects.count() == 1

    def test_tools_of_one_call_that_write_at_the_same_time_are_all_carried_out(self) -> None:
        """Each locks the call's row in the end; none may hold what another one waits for."""
        together = threading.Barrier(3)

        @tool(writes=True)
        def book(run: ToolRun) -> dict[str, Any]:
            Booking.objects.create(
                session=run.session, tool_call_id=run.tool_call_id, people=2, at=timezone.now()
            )
            together.wait(PATIENCE_S)
            return {"booked": run.tool_call_id}

        outputs: list[Any] = []

        def ask(call_id: str) -> None:
            outputs.append(self.run_tool("book", call_id))
            connection.close()

        threads = [threading.Thread(target=ask, args=(f"c{n}",)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(output["booked"] for output in outputs) == ["c0", "c1", "c2"]
        assert Booking.objects.count() == 3

    def test_a_page_that_leaves_by_both_doors_at_once_is_heard_at_both(self) -> None:
        """What its socket brought is under way into the log while it posts the same: neither may hold what
        the other one waits for, or one of the two is thrown out, and the page is gone by then."""
        frames = [Frame(1, 0, "speech_started", {}), Frame(2, 9, "hang_up", {"by": "page_closed"})]
        for number in (1, 2):  # the second of them changes the call's own row as well
            with self.subTest(frames[number - 1].type):
                self.leave_by_both_doors(frames[:number])

    def leave_by_both_doors(self, frames: list[Frame]) -> None:
        acks: list[int] = []
        insert = log._insert

        def post() -> None:
            try:
                acks.append(log.record(self.session.pk, frames))
            finally:
                heard.set()
                connection.close()

        def insert_and_look(*arguments: Any) -> None:
            insert(*arguments)
            if threading.current_thread() is not page:
                page.start()
                wait_until_a_lock_is_waited_for(heard)

        heard, page = threading.Event(), threading.Thread(target=post)
        with mock.patch.object(log, "_insert", insert_and_look):
            log.commit([(self.session.pk, frame) for frame in frames], set())
            page.join()
        assert acks == [len(frames)]
        assert SessionEvent.objects.count() == len(frames)

    def test_those_who_wait_for_tools_leave_connections_to_the_others(self) -> None:
        """More tool calls than the pool has connections: none is held by a thread that only waits."""
        go_on = threading.Event()

        @tool
        def think(session: VoiceSession) -> dict[str, Any]:
            go_on.wait(PATIENCE_S)
            return {"thought": True}

        outputs: list[Any] = []

        def ask() -> None:
            outputs.append(self.run_tool("think"))
            connection.close()

        most = settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"]
        threads = [threading.Thread(target=ask) for _ in range(most + 4)]
        for thread in threads:
            thread.start()
        assert VoiceSession.objects.filter(pk=self.session.pk).exists()
        go_on.set()
        for thread in threads:
            thread.join()
        assert outputs == [{"thought": True}] * (most + 4)


def wait_until_a_lock_is_waited_for(or_until: threading.Event) -> None:
    with connections["default"].cursor() as cursor:
        while not or_until.is_set():
            cursor.execute("SELECT pg_stat_clear_snapshot()")  # inside a transaction it is not looked at anew
            cursor.execute(WAITS_FOR_A_LOCK)
            if cursor.fetchone() != (0,):
                return
