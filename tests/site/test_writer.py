"""The writer by itself: what it says is stored is stored, whatever the database does in between."""

from typing import Any
from unittest import mock
from uuid import UUID

from django.db import OperationalError
from django.test import Client, TransactionTestCase

from sessions_app import log
from sessions_app import writer as module_of_writer
from sessions_app.events import Frame
from sessions_app.models import VoiceSession
from sessions_app.writer import Writer

from .sockets import open_session, rows


class Listener:
    """Reports a call, and keeps what it is told."""

    def __init__(self, session: VoiceSession) -> None:
        self.session_id: UUID = session.pk
        self.heard: list[Any] = []

    async def stored(self, frames: list[Frame]) -> None:
        self.heard += [frame.seq for frame in frames]

    async def lost(self, code: str) -> None:
        self.heard.append(code)


class WriterTests(TransactionTestCase):
    def setUp(self) -> None:
        self.session, self.other = open_session(self.client), open_session(Client())
        self.writer = Writer()
        self.addCleanup(self.writer.close)

    async def test_nothing_is_stored_after_what_was_lost_though_the_database_went_in_between(self) -> None:
        """Halving finds the line that cannot be stored; then the database is away, and all is tried again."""
        insert = log._insert
        page, neighbour = Listener(self.session), Listener(self.other)
        is_back: list[bool] = []

        def faulty(lines: Any, *args: Any) -> None:
            if (self.session.pk, 1) in [(session_id, frame.seq) for session_id, frame in lines]:
                raise RuntimeError("a defect")
            if not is_back:
                is_back.append(True)
                raise OperationalError("the database is gone")
            insert(lines, *args)

        with (
            mock.patch.object(module_of_writer, "RETRY_S", 0.01),
            mock.patch.object(log, "_insert", faulty),
            self.assertLogs("sessions_app", "WARNING") as logs,
        ):
            for reporter, seq in ((page, 1), (neighbour, 1), (neighbour, 2), (page, 2)):
                self.writer.put(reporter, Frame(seq, 0, "speech_started", {}), 50)
            await self.writer.flush()
        assert "the database is gone" in "".join(logs.output)
        assert (page.heard, neighbour.heard) == (["trouble"], [1, 2])
        assert await rows(self.session) == []
        assert [seq for seq, _ in await rows(self.other)] == [1, 2]
        assert self.writer.waiting_bytes == 0
