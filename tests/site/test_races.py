"""The relay where two things happen at once: the log loses nothing, and the page hears the truth."""

import asyncio
import threading
from typing import Any
from unittest import mock

from asgiref.sync import sync_to_async
from django.test import TransactionTestCase

from sessions_app import log, relay, tools
from sessions_app.events import Frame, read
from sessions_app.models import ToolRun
from sessions_app.writer import writer

from .sockets import PATIENCE_S, Socket, frame, open_session, rows, tool_call, welcome


class RaceTests(TransactionTestCase):
    def setUp(self) -> None:
        self.session = open_session(self.client)

    def relay(self, page: str = "page-one") -> Socket:
        return Socket.relay(self.client, self.session, page)

    async def test_frame_that_comes_while_the_socket_closes_leaves_no_gap(self) -> None:
        """What came before it was lost, and dropped; the page had sent it before it heard of that."""

        def broken(*_: Any) -> None:
            raise RuntimeError("a defect")

        async with self.relay() as page:
            await page.hear()
            with mock.patch.object(log, "_insert", broken), self.assertLogs("sessions_app", "ERROR"):
                await page.send(frame(1), frame(2))
                assert await page.hear() == {"close": 4500}
                await writer.flush()
            await page.send(frame(3))
        await writer.flush()
        assert await rows(self.session) == []
        async with self.relay() as page:
            assert await page.hear() == welcome(0)

    async def test_socket_that_took_long_to_enter_does_not_replace_a_newer_one(self) -> None:
        """The page has given it up, and would be left without any."""
        is_first, go_on = threading.Event(), threading.Event()
        arrive = relay.arrive

        def slow(*args: Any) -> Any:
            if not is_first.is_set():
                is_first.set()
                assert go_on.wait(PATIENCE_S)
            return arrive(*args)

        with mock.patch.object(relay, "arrive", slow):
            async with self.relay() as old:
                await asyncio.to_thread(is_first.wait, PATIENCE_S)
                async with self.relay() as new:
                    assert await new.hear() == welcome(0)
                    go_on.set()
                    assert await old.hear() == {"close": 4408}
                    await new.send(frame(1))
                    assert await new.hear() == {"type": "ack", "ack": 1}

    async def test_tool_call_that_is_stored_while_the_page_comes_back_is_answered(self) -> None:
        """Its page does not send it again, being told that it is stored; the socket it came by is gone."""
        last_line = log.last_line
        call = read(tool_call(1, "c1", "get_weather", city="Lisbon"))
        assert isinstance(call, Frame)

        def stored_just_before(*args: Any) -> Any:
            if not is_stored:
                is_stored.append(True)
                log.record(self.session.pk, [call])
            return last_line(*args)

        is_stored: list[bool] = []
        with mock.patch.object(log, "last_line", stored_just_before):
            async with self.relay() as page:
                assert await page.hear() == welcome(1)
                assert (await page.hear())["data"]["toolCallId"] == "c1"

    async def test_tool_call_that_is_stored_by_the_drain_is_run_after_the_restart(self) -> None:
        """In the process that ends, it would be killed in the middle, or its output reach nobody."""
        self.addCleanup(setattr, relay, "is_draining", False)
        insert, asked, go_on = log._insert, threading.Event(), threading.Event()
        run, runs = tools.run, []

        def counted(*args: Any) -> str:
            runs.append(args)
            return run(*args)

        self.enterContext(mock.patch.object(tools, "run", counted))

        def slow(*args: Any) -> None:
            asked.set()
            assert go_on.wait(PATIENCE_S)
            insert(*args)

        async with self.relay() as page:
            await page.hear()
            with mock.patch.object(log, "_insert", slow):
                await page.send(tool_call(1, "c1", "get_weather", city="Lisbon"))
                await asyncio.to_thread(asked.wait, PATIENCE_S)
                drain = asyncio.create_task(relay.drain())
                await asyncio.sleep(0)
                go_on.set()
                assert await page.hear() == {"type": "ack", "ack": 1}
                assert await page.hear() == {"close": 4012}
                await drain
        relay.is_draining = False
        async with self.relay() as page:
            assert await page.hear() == welcome(1)
            assert "sunny" in (await page.hear())["data"]["output"]
        assert len(runs) == 1

    async def test_page_that_comes_while_the_process_ends_is_sent_away(self) -> None:
        self.addCleanup(setattr, relay, "is_draining", False)
        call = read(tool_call(1, "c1", "get_weather", city="Lisbon"))
        assert isinstance(call, Frame)
        await sync_to_async(log.record)(self.session.pk, [call])
        relay.is_draining = True
        async with self.relay() as page:
            assert await page.hear() == {"close": 4012}
        assert not await ToolRun.objects.aexists()
