"""The live transcript: staff are told that there is more, and nobody else is."""

from unittest import mock

from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.backends.base import SessionBase
from django.test import Client, TransactionTestCase

from sessions_app import consumers
from sessions_app.consumers import TranscriptConsumer

from .sockets import Socket, frame, open_session, rows


class TranscriptTests(TransactionTestCase):
    def setUp(self) -> None:
        self.session = open_session(self.client)
        self.staff, self.user = self.log_in("staff", is_staff=True)
        self.user.user_permissions.add(Permission.objects.get(codename="view_voicesession"))

    def log_in(self, name: str, *, is_staff: bool) -> tuple[Client, User]:
        user = User.objects.create_user(name, is_staff=is_staff)
        client = Client()
        client.force_login(user)
        return client, user

    async def test_doorbell_rings_after_the_commit(self) -> None:
        async with Socket.transcript(self.staff, self.session) as viewer:
            # What was recorded while the page was loading is fetched once, in any case.
            assert await viewer.hear() == {"type": "recorded"}
            async with Socket.relay(self.client, self.session) as page:
                await page.hear()
                await page.send(frame(1))
                assert await viewer.hear() == {"type": "recorded"}
                assert await rows(self.session) == [(1, "speech_started")]

    async def test_interim_text_is_shown_and_not_stored(self) -> None:
        data = {"text": "Hel", "turn_id": "agent-1", "is_final": False}
        interim = {"at_ms": 5, "type": "response_text", "data": data}
        async with Socket.transcript(self.staff, self.session) as viewer:
            await viewer.hear()
            async with Socket.relay(self.client, self.session) as page:
                await page.hear()
                await page.send(interim)
                assert await viewer.hear() == {"type": "interim", "frame": interim}
        assert await rows(self.session) == []

    async def test_other_calls_are_not_heard(self) -> None:
        stranger = Client()
        other = await sync_to_async(open_session)(stranger)
        async with Socket.transcript(self.staff, self.session) as viewer:
            await viewer.hear()
            async with (
                Socket.relay(stranger, other) as elsewhere,
                Socket.relay(self.client, self.session) as page,
            ):
                await elsewhere.hear()
                await page.hear()
                for text in ("one", "two"):
                    data = {"text": text, "is_final": False}
                    await elsewhere.send({"at_ms": 1, "type": "response_text", "data": data})
                await elsewhere.send(frame(1))
                assert await elsewhere.hear() == {"type": "ack", "ack": 1}
                await page.send(frame(1))
                assert await page.hear() == {"type": "ack", "ack": 1}
            assert await viewer.hear() == {"type": "recorded"}
            assert await viewer.communicator.receive_nothing()

    async def test_nobody_else_may_watch(self) -> None:
        visitor, _ = await sync_to_async(self.log_in)("visitor", is_staff=False)
        unpermitted, _ = await sync_to_async(self.log_in)("clerk", is_staff=True)
        for client in (Client(), self.client, visitor, unpermitted):
            async with Socket.transcript(client, self.session) as viewer:
                assert await viewer.hear() == {"close": 4403}
        async with Socket.transcript(self.staff, self.session, origin="https://elsewhere.example") as viewer:
            assert not viewer.is_accepted

    async def test_watching_ends_with_the_permission(self) -> None:
        with mock.patch.object(TranscriptConsumer, "RECHECK_S", 0.01):
            async with Socket.transcript(self.staff, self.session) as viewer:
                await viewer.hear()
                await self.user.user_permissions.aclear()
                await viewer.hear_until({"close": 4403})

    async def test_watching_ends_with_the_login(self) -> None:
        with mock.patch.object(TranscriptConsumer, "RECHECK_S", 0.01):
            async with Socket.transcript(self.staff, self.session) as viewer:
                await viewer.hear()
                await sync_to_async(self.staff.logout)()
                await viewer.hear_until({"close": 4403})

    async def test_what_another_process_has_recorded_is_seen_soon(self) -> None:
        """Its doorbell rings in its own memory: whoever watches here looks for himself now and then."""
        with mock.patch.object(TranscriptConsumer, "RECHECK_S", 0.01):
            async with Socket.transcript(self.staff, self.session) as viewer:
                assert [await viewer.hear() for _ in range(3)] == [{"type": "recorded"}] * 3

    async def test_watching_ends_if_the_permission_cannot_be_checked(self) -> None:
        def broken(browser: SessionBase) -> bool:
            raise RuntimeError("a defect")

        with mock.patch.object(TranscriptConsumer, "RECHECK_S", 0.05):
            async with Socket.transcript(self.staff, self.session) as viewer:
                await viewer.hear()
                with (
                    mock.patch.object(consumers, "may_watch", broken),
                    self.assertLogs("sessions_app", "ERROR"),
                ):
                    while (message := await viewer.hear()) == {"type": "recorded"}:
                        pass
                assert message == {"close": 4500}
