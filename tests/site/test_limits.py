"""Limits of what one page may send: up to them all is stored, and beyond them a sentence says why not."""

import asyncio
import json
from unittest import mock

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError
from django.test import Client, TransactionTestCase

from sessions_app import log, relay
from sessions_app import writer as module_of_writer
from sessions_app.events import MAX_BYTES
from sessions_app.models import SessionEvent
from sessions_app.relay import BURST, PER_S, WINDOW, TokenBucket

from .sockets import PATIENCE_S, Socket, frame, open_session, rows, welcome
from .test_relay import BrokenDatabase


def frame_of(size: int, seq: int, character: str = "a") -> str:
    """A frame whose JSON has `size` bytes."""
    bare = json.dumps(frame(seq, "response_text", text=""), ensure_ascii=False)
    room = size - len(bare)
    text = character * (room // len(character.encode()))
    text += "a" * (room - len(text.encode()))
    message = bare.replace('"text": ""', f'"text": "{text}"')
    assert len(message.encode()) == size
    return message


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class LimitTests(TransactionTestCase):
    def setUp(self) -> None:
        self.session = open_session(self.client)

    def relay(self) -> Socket:
        return Socket.relay(self.client, self.session)

    async def test_message_of_64_kib_is_stored_and_one_byte_more_is_refused(self) -> None:
        assert MAX_BYTES == 64 * 1024
        async with self.relay() as page:
            await page.hear()
            await page.send(frame_of(MAX_BYTES, 1), frame_of(MAX_BYTES, 2, "ä"))
            await page.hear_until({"type": "ack", "ack": 2})
            await page.send(frame_of(MAX_BYTES + 1, 3), frame_of(MAX_BYTES + 1, 4, "ä"), frame(5))
            heard = await page.hear_until({"type": "ack", "ack": 5})
        nacks = [message for message in heard if message["type"] == "nack"]
        sentence = f"the message is over {MAX_BYTES} bytes"
        assert nacks == [
            {"type": "nack", "seq": seq, "code": "too_large", "message": sentence} for seq in (3, 4)
        ]
        kinds = ["response_text", "response_text", "rejected", "rejected", "speech_started"]
        assert await rows(self.session) == list(enumerate(kinds, 1))
        line = await SessionEvent.objects.aget(session=self.session, seq=2)
        assert len(line.text.encode()) > MAX_BYTES - 100

    async def test_large_message_without_a_number_closes_the_socket(self) -> None:
        interim = {**frame(0, "response_text", text="", is_final=False)}
        del interim["seq"]
        for size, is_taken in ((MAX_BYTES, True), (MAX_BYTES + 1, False)):
            room = size - len(json.dumps(interim))
            async with self.relay() as page:
                await page.hear()
                await page.send({**interim, "data": {**interim["data"], "text": "a" * room}})
                if is_taken:
                    await page.send(frame(1))
                    assert await page.hear() == {"type": "ack", "ack": 1}
                else:
                    assert await page.hear() == {"close": 4413}

    async def test_forty_messages_a_second_and_bursts_of_200(self) -> None:
        assert (PER_S, BURST) == (40, 200)
        clock = Clock()
        with mock.patch.object(relay, "time", clock):
            async with self.relay() as page:
                await page.hear()
                await page.send(*[frame(seq) for seq in range(1, 201)])
                await page.hear_until({"type": "ack", "ack": 200})
                clock.now += 1
                await page.send(*[frame(seq) for seq in range(201, 241)])
                await page.hear_until({"type": "ack", "ack": 240})
                await page.send({"type": "ping"})  # whatever it is
                assert await page.hear() == {"close": 4429}
            async with self.relay() as page:
                assert await page.hear() == welcome(240)
                clock.now += 3600  # patience is no credit: a burst stays a burst
                await page.send(*[{"type": "ping"}] * 200)
                await page.send(frame(241))
                assert await page.hear() == {"close": 4429}
        assert len(await rows(self.session)) == 240

    async def test_log_is_full_after_20000_lines(self) -> None:
        assert log.MAX_LINES == 20_000
        with mock.patch.object(log, "MAX_LINES", 5):
            async with self.relay() as page:
                await page.hear()
                await page.send(*[frame(seq) for seq in range(1, 6)])
                await page.hear_until({"type": "ack", "ack": 5})
                await page.send(frame(5))  # sent again, it is no line more
                assert await page.hear() == {"type": "ack", "ack": 5}
                await page.send(frame(6))
                assert await page.hear() == {"close": 4430}
        assert len(await rows(self.session)) == 5

    async def test_256_frames_may_wait_for_their_acknowledgement(self) -> None:
        assert WINDOW == 256
        database = BrokenDatabase(OperationalError("locked"))
        with (
            mock.patch.object(relay, "BURST", 1000),
            mock.patch.object(module_of_writer, "RETRY_S", 0.01),
            mock.patch.object(log, "_insert", database.insert),
            self.assertLogs("sessions_app", "WARNING"),
        ):
            async with self.relay() as page:
                assert await page.hear() == welcome(0)
                await page.send(*[frame(seq) for seq in range(1, 257)])
                await asyncio.to_thread(database.asked.wait, PATIENCE_S)
                await page.send(frame(3), frame(256))  # sent again, they take no room
                assert await page.communicator.receive_nothing()
                database.mend()
                await page.hear_until({"type": "ack", "ack": 256})
                await page.send(*[frame(seq) for seq in range(257, 513)])
                await page.hear_until({"type": "ack", "ack": 512})
        assert len(await rows(self.session)) == 512

    async def test_full_writer_sends_away_who_sends_more_and_keeps_what_it_has(self) -> None:
        database = BrokenDatabase(OperationalError("locked"))
        elsewhere = Client()
        other = Socket.relay(elsewhere, await sync_to_async(open_session)(elsewhere))
        with (
            mock.patch.multiple(module_of_writer, MAX_WAITING=10, MAX_BATCH=1, RETRY_S=0.01),
            mock.patch.object(log, "_insert", database.insert),
            self.assertLogs("sessions_app", "WARNING"),
        ):
            async with self.relay() as page, other as neighbour:
                await page.hear()
                await neighbour.hear()
                await page.send(*[frame(seq) for seq in range(1, 9)])
                await asyncio.to_thread(database.asked.wait, PATIENCE_S)
                await neighbour.send(*[frame(seq) for seq in range(1, 9)])
                assert await neighbour.hear() == {"close": 4503}
                database.mend()
                await page.hear_until({"type": "ack", "ack": 8})
                await page.send(frame(9))
                assert await page.hear() == {"type": "ack", "ack": 9}


@pytest.mark.parametrize(
    ("seconds", "taken"), [(0, 0), (0.02, 0), (0.03, 1), (0.5, 20), (5, 200), (5000, 200)]
)
def test_bucket_fills_again_with_time(seconds: float, taken: int) -> None:
    bucket = TokenBucket(PER_S, BURST)
    now = bucket.at
    assert [bucket.take(now) for _ in range(BURST + 1)] == [True] * BURST + [False]
    assert [bucket.take(now + seconds) for _ in range(taken + 1)] == [True] * taken + [False]
