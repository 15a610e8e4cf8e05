"""The relay: what a page reports is in the log once, in order, before it is acknowledged."""

import asyncio
import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest import mock
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.db import IntegrityError, OperationalError, connection
from django.test import Client, TransactionTestCase, override_settings
from django.utils import timezone

from sessions_app import log, relay
from sessions_app import writer as module_of_writer
from sessions_app.models import SessionEvent, VoiceSession
from sessions_app.writer import writer

from .sockets import PATIENCE_S, Socket, frame, open_session, rows, welcome


class BrokenDatabase:
    """Refuses every line until it is mended."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error
        self.times: float = math.inf
        self.failures = 0
        self.asked = threading.Event()
        self.real = log._insert

    def insert(self, *args: Any) -> None:
        self.asked.set()
        if self.error is not None and self.failures < self.times:
            self.failures += 1
            raise self.error
        self.real(*args)

    def fail_times(self, times: int) -> None:
        self.times = times

    def mend(self) -> None:
        self.error = None


class RelayTests(TransactionTestCase):
    def setUp(self) -> None:
        self.session = open_session(self.client)

    def relay(self, client: Client | None = None, *, page: str = "", **headers: str | None) -> Socket:
        return Socket.relay(client or self.client, self.session, page, **headers)

    async def reload(self) -> VoiceSession:
        await self.session.arefresh_from_db()
        return self.session

    async def test_frames_are_stored_and_then_acknowledged(self) -> None:
        async with self.relay() as page:
            assert await page.hear() == welcome(0)
            text = {"transcript": "Hello", "turn_id": "user-1", "is_final": True}
            await page.send(
                frame(1, "connected"),
                {**frame(2, "input_audio_transcript", 150, **text), "timestamp": "2026-03-01T18:30:00.250Z"},
            )
            await page.hear_until({"type": "ack", "ack": 2})
            line = await SessionEvent.objects.aget(session=self.session, seq=2)
        assert (line.source, line.type, line.at_ms, line.data) == (
            "browser",
            "input_audio_transcript",
            150,
            text,
        )
        assert line.sent_at is not None
        assert line.sent_at.isoformat() == "2026-03-01T18:30:00.250000+00:00"
        assert (line.role, line.text) == ("caller", "Hello")

    async def test_acknowledgements_are_cumulative(self) -> None:
        async with self.relay() as page:
            await page.hear()
            await page.send(*[frame(seq) for seq in range(1, 101)])
            acks = await page.hear_until({"type": "ack", "ack": 100})
        assert len(acks) <= 100
        assert [ack["ack"] for ack in acks] == sorted({ack["ack"] for ack in acks})
        assert await rows(self.session) == [(seq, "speech_started") for seq in range(1, 101)]

    async def test_page_that_comes_back_resumes(self) -> None:
        async with self.relay() as page:
            await page.hear()
            await page.send(frame(1), frame(2), frame(3))
            await page.hear_until({"type": "ack", "ack": 3})
        async with self.relay() as page:
            assert await page.hear() == welcome(3)
            await page.send(frame(2), frame(3), frame(4))
            await page.hear_until({"type": "ack", "ack": 4})
        assert [seq for seq, _ in await rows(self.session)] == [1, 2, 3, 4]

    async def test_frame_sent_again_changes_nothing(self) -> None:
        async with self.relay() as page:
            await page.hear()
            await page.send(frame(1, "response_text", text="Hello"))
            await page.hear_until({"type": "ack", "ack": 1})
            await page.send(frame(1, "response_text", text="Goodbye"))
            assert await page.hear() == {"type": "ack", "ack": 1}
        assert (await SessionEvent.objects.aget(session=self.session)).text == "Hello"

    async def test_what_came_is_stored_although_the_page_is_gone(self) -> None:
        async with self.relay() as page:
            await page.hear()
            await page.send(*[frame(seq) for seq in range(1, 51)])
        await writer.flush()
        assert [seq for seq, _ in await rows(self.session)] == list(range(1, 51))

    async def test_gap_is_refused_and_what_came_before_it_kept(self) -> None:
        async with self.relay() as page:
            await page.hear()
            await page.send(frame(1), frame(3))
            heard = [await page.hear()]
            while "close" not in heard[-1]:
                heard.append(await page.hear())
            assert heard[-1] == {"close": 4409}
        await writer.flush()
        async with self.relay() as page:
            assert await page.hear() == welcome(1)
            await page.send(frame(2), frame(3))
            await page.hear_until({"type": "ack", "ack": 3})
        assert [seq for seq, _ in await rows(self.session)] == [1, 2, 3]

    async def test_refused_frame_keeps_its_number_and_stops_nobody(self) -> None:
        async with self.relay() as page:
            await page.hear()
            await page.send(
                frame(1),
                {"seq": 2, "at_ms": 230, "type": "response_text", "data": {"text": 5}},
                {"seq": 3, "at_ms": -1, "type": "Hang Up!", "data": {}},
                frame(4, "response_text", text="a" * 70_000),
                frame(5),
            )
            heard = await page.hear_until({"type": "ack", "ack": 5})
        nacks = [
            (nack["seq"], nack["code"], bool(nack["message"])) for nack in heard if nack["type"] == "nack"
        ]
        assert nacks == [(2, "bad_data", True), (3, "bad_at_ms", True), (4, "too_large", True)]
        kinds = ["speech_started", "rejected", "rejected", "rejected", "speech_started"]
        assert await rows(self.session) == list(enumerate(kinds, 1))
        refused = [line async for line in SessionEvent.objects.filter(type="rejected").order_by("seq")]
        assert [(line.at_ms, line.data["code"], line.data["type"]) for line in refused] == [
            (230, "bad_data", "response_text"),
            (230, "bad_at_ms", ""),
            (230, "too_large", ""),
        ]

    async def test_unreadable_messages_close_the_socket(self) -> None:
        for text in (" ", "{", "null", "[]", '{"type":"hang_up"}', '{"seq":0}', "[" * 60_000, "\ud83d"):
            async with self.relay() as page:
                await page.hear()
                await page.send(text)
                assert await page.hear() == {"close": 4400}, text[:20]
        async with self.relay() as page:
            await page.hear()
            await page.communicator.send_to(bytes_data=b"\x00\x01")
            assert await page.hear() == {"close": 4400}
        async with self.relay() as page:
            await page.hear()
            await page.send("a" * 70_000 + "{")
            assert await page.hear() == {"close": 4400}
            await page.send(frame(1))
        async with self.relay() as page:
            await page.hear()
            await page.send({"type": "ping", "padding": "a" * 70_000})
            assert await page.hear() == {"close": 4413}
        assert await rows(self.session) == []

    async def test_newer_socket_of_the_page_takes_over(self) -> None:
        async with self.relay(page="page-one") as old:
            await old.hear()
            await old.send(frame(1), frame(2))
            await old.hear_until({"type": "ack", "ack": 2})
            async with self.relay(page="page-one") as new:
                assert await new.hear() == welcome(2)
                assert await old.hear() == {"close": 4408}
                await new.send(frame(2), frame(3))
                await new.hear_until({"type": "ack", "ack": 3})
        assert [seq for seq, _ in await rows(self.session)] == [1, 2, 3]

    async def test_another_page_may_not_report_the_call(self) -> None:
        async with self.relay(page="page-one") as first:
            await first.hear()
            for page in ("page-two", "", "Page one's?"):
                async with self.relay(page=page) as second:
                    assert await second.hear() == {"close": 4423}
                    await second.send(frame(1))
            await first.send(frame(1, "hang_up"))
            assert await first.hear() == {"type": "ack", "ack": 1}
        async with self.relay(page="page-two") as second:
            assert await second.hear() == {"close": 4423}  # not even when the first one is away
        assert await rows(self.session) == [(1, "hang_up")]

    async def test_others_are_turned_away(self) -> None:
        stranger = Client()
        await sync_to_async(stranger.get)("/")
        for socket in (
            self.relay(stranger),
            self.relay(Client()),
            Socket.relay(self.client, uuid4()),
        ):
            async with socket as page:
                assert page.is_accepted
                assert await page.hear() == {"close": 4403}
                await page.send(frame(1))
        assert await rows(self.session) == []

    async def test_only_pages_of_this_site_may_connect(self) -> None:
        refused: list[dict[str, str | None]] = [
            {"origin": None},
            {"origin": "null"},
            {"origin": ""},
            {"origin": "https://testserver"},
            {"origin": "http://testserver:8000"},
            {"origin": "http://testserver.elsewhere.example"},
            {"origin": "http://elsewhere.example"},
            {"origin": "http://elsewhere.example", "host": "elsewhere.example"},
        ]
        for headers in refused:
            with self.assertLogs("voicedemo", "WARNING") as logs:
                async with Socket.relay(self.client, self.session, **headers) as page:
                    assert not page.is_accepted, headers
            assert "refused a WebSocket" in logs.output[0]
        async with self.relay(origin="http://testserver:8001", host="testserver:8001") as page:
            assert await page.hear() == welcome(0)
        with override_settings(CSRF_TRUSTED_ORIGINS=["https://talk.example.com"]):
            async with self.relay(origin="https://talk.example.com") as page:
                assert page.is_accepted
        with override_settings(HTTPS=True):
            async with self.relay(origin="https://testserver") as page:
                assert page.is_accepted

    async def test_address_cannot_forge_a_line_of_the_servers_log(self) -> None:
        with self.assertLogs("voicedemo", "WARNING") as logs:
            async with Socket(
                self.client, "/ws/%0AERROR%20forged", origin="http://elsewhere.example"
            ) as page:
                assert not page.is_accepted
        assert "ERROR forged" in logs.output[0]
        assert "\n" not in logs.output[0]

    async def test_unknown_socket_is_refused(self) -> None:
        for path in ("/ws/", "/ws/sessions/", "/ws/sessions/1/", "/elsewhere"):
            async with Socket(self.client, path) as page:
                assert not page.is_accepted

    async def test_too_many_messages_close_the_socket(self) -> None:
        async with self.relay() as page:
            await page.hear()
            await page.send(*[{"type": "ping"}] * 400)
            assert await page.hear() == {"close": 4429}

    async def test_full_log_takes_no_more(self) -> None:
        with mock.patch.object(log, "MAX_LINES", 3):
            for _ in range(2):
                async with self.relay() as page:
                    await page.hear()
                    await page.send(*[frame(seq) for seq in range(1, 6)])
                    while (heard := await page.hear()).get("type") == "ack":
                        pass
                    assert heard == {"close": 4430}
                await writer.flush()
        assert [seq for seq, _ in await rows(self.session)] == [1, 2, 3]

    async def test_burst_of_a_page_that_comes_back_is_not_too_fast(self) -> None:
        async with self.relay() as page:
            await page.hear()
            await page.send(*[frame(seq) for seq in range(1, 201)])
            await page.hear_until({"type": "ack", "ack": 200})

    async def test_page_must_wait_for_its_acknowledgements(self) -> None:
        with mock.patch.object(relay, "BURST", 1000), self.database(OperationalError("locked")) as database:
            async with self.relay() as page:
                await page.hear()
                await page.send(*[frame(seq) for seq in range(1, 258)])
                assert await page.hear() == {"close": 4431}
            database.mend()
            await writer.flush()
        assert [seq for seq, _ in await rows(self.session)] == list(range(1, 257))

    @contextmanager
    def database(self, error: Exception) -> Iterator["BrokenDatabase"]:
        """A database that fails until it is mended."""
        database = BrokenDatabase(error)
        with mock.patch.object(log, "_insert", database.insert):
            yield database

    async def test_nothing_is_lost_while_the_database_is_away(self) -> None:
        with (
            self.database(OperationalError("the database is gone")) as database,
            self.assertLogs("sessions_app", "WARNING") as logs,
        ):
            async with self.relay() as page:
                await page.hear()
                await page.send(frame(1), frame(2))
                await asyncio.to_thread(database.asked.wait, PATIENCE_S)
                await page.send(frame(3))
                assert await page.communicator.receive_nothing()
                database.mend()
                await page.hear_until({"type": "ack", "ack": 3})
        assert "frames wait for the database: the database is gone" in logs.output[0]
        assert [seq for seq, _ in await rows(self.session)] == [1, 2, 3]

    async def test_pages_are_told_to_slow_down_when_too_much_waits(self) -> None:
        for name, limit in (("MAX_WAITING", 3), ("MAX_WAITING_BYTES", 200)):
            self.session = await sync_to_async(open_session)(self.client)
            with (
                mock.patch.object(module_of_writer, name, limit),
                self.database(OperationalError("locked")) as database,
                self.assertLogs("sessions_app", "WARNING"),
            ):
                async with self.relay() as page:
                    await page.hear()
                    await page.send(frame(1))
                    await asyncio.to_thread(database.asked.wait, PATIENCE_S)
                    await page.send(*[frame(seq) for seq in range(2, 20)])
                    assert await page.hear() == {"close": 4503}
                database.mend()
                await writer.flush()
            stored = [seq for seq, _ in await rows(self.session)]
            assert stored == list(range(1, len(stored) + 1))
            async with self.relay() as page:
                assert await page.hear() == welcome(len(stored))

    async def test_page_that_comes_back_after_trouble_with_the_log_loses_nothing(self) -> None:
        with self.database(RuntimeError("a defect")), self.assertLogs("sessions_app", "ERROR"):
            async with self.relay() as page:
                await page.hear()
                await page.send(frame(1), frame(2))
                assert await page.hear() == {"close": 4500}
            await writer.flush()
        assert await rows(self.session) == []
        async with self.relay() as page:
            assert await page.hear() == welcome(0)
            await page.send(frame(1))
            assert await page.hear() == {"type": "ack", "ack": 1}

    async def test_nothing_is_stored_after_what_was_lost(self) -> None:
        """Or the page, told of the last number in the log, would never send what is missing before it."""
        with self.database(RuntimeError("a defect")) as database, self.assertLogs("sessions_app", "ERROR"):
            async with self.relay() as page:
                await page.hear()
                with mock.patch.object(module_of_writer, "MAX_BATCH", 1):
                    await page.send(*[frame(seq) for seq in range(1, 11)])
                    await asyncio.to_thread(database.asked.wait, PATIENCE_S)
                    database.fail_times(2)  # the frame, and its refusal
                    assert await page.hear() == {"close": 4500}
                    await writer.flush()
        assert await rows(self.session) == []

    async def test_line_that_the_database_refuses_is_refused_alone(self) -> None:
        other = await sync_to_async(open_session)(self.client)

        def insert(lines: Any, *args: Any) -> None:
            if any(frame.data.get("text") == "poison" for _, frame in lines):
                raise IntegrityError("no")
            real(lines, *args)

        real = log._insert
        with mock.patch.object(log, "_insert", insert), self.assertLogs("sessions_app", "ERROR"):
            async with self.relay() as page, Socket.relay(self.client, other) as neighbour:
                await page.hear()
                await neighbour.hear()
                texts = ["a", "b", "poison", "d", "e", "poison", "g"]
                for seq, text in enumerate(texts, 1):
                    await page.send(frame(seq, "response_text", text=text))
                    await neighbour.send(frame(seq))
                heard = await page.hear_until({"type": "ack", "ack": 7})
                await neighbour.hear_until({"type": "ack", "ack": 7})
        nacks = [(nack["seq"], nack["code"]) for nack in heard if nack["type"] == "nack"]
        assert nacks == [(3, "not_storable"), (6, "not_storable")]
        kinds = ["rejected" if text == "poison" else "response_text" for text in texts]
        assert await rows(self.session) == list(enumerate(kinds, 1))
        assert await rows(other) == [(seq, "speech_started") for seq in range(1, 8)]

    async def test_drain_stores_what_came_and_sends_the_pages_away(self) -> None:
        self.addCleanup(setattr, relay, "is_draining", False)
        async with self.relay() as page:
            await page.hear()
            await page.send(*[frame(seq) for seq in range(1, 51)])
            await page.hear()  # some of it is stored
            await relay.drain()
            heard = [await page.hear()]
            while "close" not in heard[-1]:
                heard.append(await page.hear())
            assert heard[-1] == {"close": 4012}
            acked = max((message["ack"] for message in heard[:-1]), default=0)
        stored = [seq for seq, _ in await rows(self.session)]
        assert stored == list(range(1, len(stored) + 1))
        assert acked in (0, len(stored))

    async def test_broken_doorbell_costs_no_row(self) -> None:
        async def broken(*args: Any) -> None:
            raise ConnectionError("the layer is gone")

        with mock.patch.object(log, "ring", broken), self.assertLogs("sessions_app", "ERROR"):
            async with self.relay() as page:
                await page.hear()
                await page.send(frame(1))
                assert await page.hear() == {"type": "ack", "ack": 1}
        assert await rows(self.session) == [(1, "speech_started")]

    async def test_deleted_session(self) -> None:
        async with self.relay() as page:
            await page.hear()
            await VoiceSession.objects.all().adelete()
            await page.send(frame(1))
            assert await page.hear() == {"close": 4403}

    async def test_log_is_closed_a_day_after_the_end(self) -> None:
        async with self.relay() as page:
            await page.hear()
            await page.send(frame(1, "hang_up"))
            await page.hear()
            await page.send(frame(2, "disconnected"))
            assert await page.hear() == {"type": "ack", "ack": 2}
        await VoiceSession.objects.aupdate(ended_at=timezone.now() - timedelta(hours=25))
        async with self.relay() as page:
            assert await page.hear() == {"close": 4410}

    async def test_pings_and_frames_say_that_the_page_is_there(self) -> None:
        async def seen_again() -> bool:
            return timezone.now() - (await self.reload()).last_seen_at < timedelta(seconds=60)

        async def forget() -> None:
            await VoiceSession.objects.aupdate(last_seen_at=timezone.now() - timedelta(seconds=80))

        await forget()
        with mock.patch.object(relay, "SEEN_S", 0):
            async with self.relay() as page:
                await page.hear()
                assert await seen_again()
                await forget()
                await page.send({"type": "ping"}, frame(1, "hang_up", at_ms=0))
                await page.hear()
                assert await seen_again()
                await forget()
                await page.send({"type": "ping"}, frame(2))
                await page.hear()
                assert not await seen_again()  # after its end a call is not kept alive


class StateTests(TransactionTestCase):
    """What the events of a call mean for its session."""

    def setUp(self) -> None:
        self.session = open_session(self.client)

    def tell(self, *frames: dict[str, Any]) -> VoiceSession:
        client = self.client
        body = json.dumps({"frames": frames})
        response = client.post(f"/sessions/{self.session.pk}/events/", body, content_type="application/json")
        assert response.json() == {"ack": frames[-1]["seq"]}
        self.session.refresh_from_db()
        return self.session

    def test_call_from_beginning_to_end(self) -> None:
        assert (self.session.state, self.session.duration) == ("created", None)
        VoiceSession.objects.update(created_at=timezone.now() - timedelta(minutes=5))
        live = self.tell(frame(1, "connected", at_ms=1000))
        assert (live.state, live.is_live, live.call_id) == ("live", True, "")
        named = self.tell(frame(2, "session_started", at_ms=1200, id="call-7"))
        assert (named.call_id, named.started_at) == ("call-7", live.started_at)
        ended = self.tell(frame(3, "hang_up", at_ms=61_000), frame(4, "disconnected", at_ms=61_500))
        assert (ended.state, ended.end_reason, ended.is_live) == ("ended", "hang_up", False)
        assert ended.duration == timedelta(seconds=60)

    def test_first_end_wins(self) -> None:
        for kind, data, reason in (
            ("session_ended", {}, "agent_ended"),
            ("hang_up", {}, "hang_up"),
            ("disconnected", {"reason": 5}, "disconnected"),
            ("call_failed", {"code": "media_lost"}, "failed"),
        ):
            self.session = open_session(Client())
            VoiceSession.objects.filter(pk=self.session.pk).update(visitor=self.client.session["visitor"])
            session = self.tell(
                frame(1, "connected"), frame(2, kind, **data), frame(3, "session_started", id="c")
            )
            assert (session.state, session.end_reason, session.call_id) == ("ended", reason, "c")
            assert self.tell(frame(4, "hang_up"), frame(5, "call_failed", code="x")).end_reason == reason

    def test_clock_of_the_page_cannot_put_the_end_into_the_future(self) -> None:
        session = self.tell(frame(1, "connected", at_ms=0), frame(2, "hang_up", at_ms=2_000_000_000))
        assert session.ended_at is not None
        assert session.ended_at <= timezone.now()

    def test_only_the_server_decides_that_a_call_is_abandoned(self) -> None:
        session = self.tell(frame(1, "connected"), frame(2, "ended", reason="abandoned"))
        assert session.state == "live"


class SecondDoorTests(TransactionTestCase):
    """POST /sessions/<uuid>/events/: the same log, for a page that is closing or has left something over."""

    def setUp(self) -> None:
        self.session = open_session(self.client)

    def post(self, body: Any, client: Client | None = None) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body)
        path = f"/sessions/{self.session.pk}/events/"
        return (client or self.client).post(path, content, content_type="application/json")

    async def test_frames_come_by_either_door(self) -> None:
        post = sync_to_async(self.post)
        async with Socket.relay(self.client, self.session) as page:
            await page.hear()
            await page.send(frame(1), frame(2))
            await page.hear_until({"type": "ack", "ack": 2})
        response = await post({"frames": [frame(2), frame(3), {"seq": 4, "type": 5}, frame(5, "hang_up")]})
        assert (response.status_code, response.json()) == (200, {"ack": 5})
        kinds = ["speech_started", "speech_started", "speech_started", "rejected", "hang_up"]
        assert await rows(self.session) == list(enumerate(kinds, 1))
        async with Socket.relay(self.client, self.session) as page:
            assert await page.hear() == welcome(5)

    def refused(self, response: Any, status: int, code: str) -> None:
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)

    def test_refusals(self) -> None:
        bodies: tuple[Any, ...] = (
            b"{",
            [],
            {},
            {"frames": {}},
            {"frames": ["x"]},
            {"frames": [{"type": "hang_up"}]},
            {"frames": [{"type": "ping"}]},
            {"frames": [frame(seq) for seq in range(1, 1002)]},
            {"frames": [frame(1, "response_text", text="a" * 600_000)]},
        )
        for body in bodies:
            self.refused(self.post(body), 400, "bad_request")
        stranger = Client()
        stranger.get("/")
        for client in (stranger, Client()):
            self.refused(self.post({"frames": [frame(1)]}, client), 403, "not_yours")
        assert not SessionEvent.objects.exists()

    def test_gap_tells_where_to_go_on(self) -> None:
        response = self.post({"frames": [frame(1), frame(2), frame(4)]})
        self.refused(response, 409, "gap")
        assert response.json()["ack"] == 2
        assert self.post({"frames": [frame(3), frame(4)]}).json() == {"ack": 4}
        assert self.post({"frames": []}).json() == {"ack": 4}

    def test_full_log_takes_no_more(self) -> None:
        with mock.patch.object(log, "MAX_LINES", 3):
            for _ in range(2):
                response = self.post({"frames": [frame(seq) for seq in range(1, 6)]})
                self.refused(response, 429, "log_full")
        assert SessionEvent.objects.count() == 3

    def test_frame_has_the_same_limit_as_on_the_socket(self) -> None:
        large = [
            frame(seq, "response_text", text="\u00e4" * size) for seq, size in ((1, 32_000), (2, 33_000))
        ]
        assert self.post({"frames": large}).json() == {"ack": 2}
        assert [line.type for line in SessionEvent.objects.order_by("seq")] == ["response_text", "rejected"]
        assert SessionEvent.objects.get(seq=2).data["code"] == "too_large"

    def test_closed_log(self) -> None:
        self.post({"frames": [frame(1, "hang_up")]})
        VoiceSession.objects.update(ended_at=timezone.now() - timedelta(hours=25))
        self.refused(self.post({"frames": [frame(2)]}), 410, "log_closed")

    def test_csrf(self) -> None:
        careful = Client(enforce_csrf_checks=True)
        careful.cookies = self.client.cookies
        self.refused(self.post({"frames": [frame(1)]}, careful), 403, "csrf_failed")

    def test_insert_reports_a_row_that_the_database_refuses(self) -> None:
        """A row that is not stored must never be acknowledged, whatever the reason."""
        table = "sessions_app_sessionevent"
        refuse, allow = {
            "sqlite": (
                f"CREATE TRIGGER no BEFORE INSERT ON {table} WHEN new.seq = 2 "
                "BEGIN SELECT RAISE(ABORT, 'no'); END",
                "DROP TRIGGER no",
            ),
            "postgresql": (
                f"ALTER TABLE {table} ADD CONSTRAINT no CHECK (seq <> 2)",
                f"ALTER TABLE {table} DROP CONSTRAINT no",
            ),
        }[connection.vendor]
        with connection.cursor() as cursor:
            cursor.execute(refuse)
        try:
            with pytest.raises(IntegrityError):
                self.post({"frames": [frame(1), frame(2)]})
        finally:
            with connection.cursor() as cursor:
                cursor.execute(allow)
        assert not SessionEvent.objects.exists()
