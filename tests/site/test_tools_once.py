"""Tool calls between sockets, processes and restarts: each is run once, and slow ones hold up nobody."""

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test import Client, TransactionTestCase
from django.utils import timezone

from sessions_app import relay, tools
from sessions_app.events import ToolCall
from sessions_app.models import SessionEvent, ToolRun, VoiceSession
from sessions_app.tools import tool

from .sockets import PATIENCE_S, Socket, frame, open_session, tool_call, welcome


@pytest.fixture(autouse=True)
def own_tools() -> Iterator[None]:
    """What a test registers is gone after it."""
    with mock.patch.dict(tools.TOOLS):
        yield


class Workshop:
    """A tool that is at work until it may end."""

    def __init__(self) -> None:
        self.began, self.may_end, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.runs = 0

        @tool
        def think(session: Any) -> dict[str, Any]:
            self.runs += 1
            self.began.set()
            assert self.may_end.wait(PATIENCE_S)
            self.ended.set()
            return {"run": self.runs}

    async def is_at_work(self) -> None:
        assert await asyncio.to_thread(self.began.wait, PATIENCE_S)


class OnceTests(TransactionTestCase):
    def setUp(self) -> None:
        self.session = open_session(self.client)
        self.workshop = Workshop()

    def relay(self) -> Socket:
        return Socket.relay(self.client, self.session)

    def run_in_another_process(self, call_id: str, name: str) -> str:
        """Processes have nothing in common but the database; nor have these two runs."""
        try:
            return tools.run(self.session, ToolCall(call_id, name), timezone.now())
        finally:
            connection.close()

    def post(self, *frames: dict[str, Any]) -> Any:
        path = f"/sessions/{self.session.pk}/events/"
        body = json.dumps({"frames": frames})
        return self.client.post(path, body, content_type="application/json").json()

    async def output(self, page: Socket, call_id: str = "c1") -> Any:
        while (message := await page.hear())["type"] != "tool_call_output":
            pass
        assert message["data"]["toolCallId"] == call_id
        return json.loads(message["data"]["output"])

    async def test_call_that_comes_by_every_way_at_once_is_run_once(self) -> None:
        call = tool_call(1, "c1", "think")
        async with self.relay() as page:
            await page.hear()
            await page.send(call)
            assert await page.hear() == {"type": "ack", "ack": 1}
            await self.workshop.is_at_work()
            elsewhere = asyncio.create_task(asyncio.to_thread(self.run_in_another_process, "c1", "think"))
            assert await sync_to_async(self.post)(call, {**call, "seq": 2}) == {"ack": 2}
            await page.send(call, {**call, "seq": 2}, {**call, "seq": 3})
            await page.hear_until({"type": "ack", "ack": 3})
            async with self.relay() as newer:
                assert await newer.hear() == welcome(3)
                self.workshop.may_end.set()
                assert await self.output(newer) == {"run": 1}
            assert json.loads(await elsewhere) == {"run": 1}
        assert (self.workshop.runs, await ToolRun.objects.acount()) == (1, 1)

    async def test_slow_tool_holds_up_neither_its_own_socket_nor_others(self) -> None:
        client = Client()
        other = await sync_to_async(open_session)(client)
        async with self.relay() as page, Socket.relay(client, other) as neighbour:
            await page.hear()
            await neighbour.hear()
            await page.send(tool_call(1, "c1", "think"), tool_call(2, "c2", "think"))
            await page.hear_until({"type": "ack", "ack": 2})
            await self.workshop.is_at_work()
            await page.send(frame(3), tool_call(4, "c4", "get_weather", city="Lisbon"), frame(5))
            await page.hear_until({"type": "ack", "ack": 5})
            assert (await self.output(page, "c4"))["condition"] == "sunny"
            await neighbour.send(frame(1), tool_call(2, "c1", "get_weather", city="Lisbon"))
            assert (await self.output(neighbour))["condition"] == "sunny"
            assert not self.workshop.ended.is_set()
            self.workshop.may_end.set()
            told = {(await page.hear())["data"]["toolCallId"] for _ in range(2)}
            assert told == {"c1", "c2"}

    async def test_output_of_a_late_tool_is_dropped_and_recorded_as_late(self) -> None:
        # The agent has waited for most of the time that there is.
        late = {**tool_call(1, "c1", "think"), "at_ms": 60_000 - round(tools.LIMIT_S * 1000) + 300}
        await VoiceSession.objects.aupdate(created_at=timezone.now() - timedelta(seconds=60))
        with self.assertLogs("sessions_app.tools", "WARNING"):
            async with self.relay() as page:
                await page.hear()
                await page.send(late)
                assert await page.hear() == {"type": "ack", "ack": 1}
                assert (await self.output(page))["code"] == "late"
                self.workshop.may_end.set()
                await page.send(frame(2))
                assert await page.hear() == {"type": "ack", "ack": 2}
        async with self.relay() as page:
            assert await page.hear() == welcome(2)
            assert (await self.output(page))["code"] == "late"
        run = await ToolRun.objects.aget()
        assert (json.loads(run.output)["code"], run.is_error) == ("late", True)
        assert self.workshop.runs <= 1

    async def test_tool_that_a_restart_interrupts_is_answered_at_once_and_for_good(self) -> None:
        self.addCleanup(setattr, relay, "is_draining", False)
        async with self.relay() as page:
            await page.hear()
            await page.send(tool_call(1, "c1", "think"))
            assert await page.hear() == {"type": "ack", "ack": 1}
            await self.workshop.is_at_work()
            await relay.drain()
            interrupted = {"error": "think was interrupted.", "code": "interrupted"}
            assert await self.output(page) == interrupted
            assert await page.hear() == {"close": 4012}
        assert not self.workshop.ended.is_set()
        self.workshop.may_end.set()
        relay.is_draining = False
        async with self.relay() as page:
            assert await page.hear() == welcome(1)
            assert await self.output(page) == interrupted
        assert self.workshop.runs == 1

    async def test_after_a_crash_the_agent_is_answered_within_its_ten_seconds(self) -> None:
        called_at = timezone.now()
        await ToolRun.objects.acreate(
            session=self.session,
            tool_call_id="c1",
            name="think",
            started_at=called_at + timedelta(seconds=0.1),
        )
        await VoiceSession.objects.aupdate(created_at=called_at)
        await sync_to_async(self.post)(tool_call(1, "c1", "think"))
        clock = Clock(called_at + timedelta(seconds=4))
        with mock.patch.object(tools, "timezone", clock), mock.patch.object(tools, "clock", clock):
            async with self.relay() as page:
                assert await page.hear() == welcome(1)
                assert (await self.output(page))["code"] == "interrupted"
        assert clock.at < called_at + timedelta(seconds=9.5)
        assert self.workshop.runs == 0

    async def test_calls_of_long_ago_are_not_run_when_the_page_comes_back(self) -> None:
        await sync_to_async(self.post)(tool_call(1, "c1", "think"))
        await SessionEvent.objects.aupdate(recorded_at=timezone.now() - timedelta(minutes=2))
        async with self.relay() as page:
            assert await page.hear() == welcome(1)
            await page.send(frame(2))
            assert await page.hear() == {"type": "ack", "ack": 2}
        assert not await ToolRun.objects.aexists()


class Clock:
    """Moves on only while somebody sleeps."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
