"""Server tools: each tool call gets exactly one answer, whatever happens, and each effect happens once."""

import json
import threading
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any, Literal
from unittest import mock
from zoneinfo import ZoneInfo

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connection
from django.test import Client, TransactionTestCase, override_settings
from django.utils import timezone

from sessions_app import log, relay, tools
from sessions_app.events import Frame, ToolCall
from sessions_app.models import Booking, ToolRun, VoiceSession
from sessions_app.tools import tool

from .sockets import Socket, frame, open_session, tool_call, welcome


@pytest.fixture(autouse=True)
def own_tools() -> Iterator[None]:
    """What a test registers is gone after it."""
    with mock.patch.dict(tools.TOOLS):
        yield


def run(session: VoiceSession, call_id: str, name: str, /, age_s: float = 0, **arguments: Any) -> str:
    """Runs a tool that the agent asked for `age_s` ago."""
    called_at = timezone.now() - timedelta(seconds=age_s)
    return tools.run(session, ToolCall(call_id, name, arguments), called_at)


def days_ahead(days: int) -> str:
    return (timezone.localdate() + timedelta(days=days)).isoformat()


class ToolTests(TransactionTestCase):
    def setUp(self) -> None:
        self.session = open_session(self.client)
        self.calls = 0

    def run_tool(self, name: str, /, call_id: str = "", **arguments: Any) -> Any:
        self.calls += 1
        return json.loads(run(self.session, call_id or f"call-{self.calls}", name, **arguments))

    def said(self, name: str, /, **arguments: Any) -> str:
        """The sentence of a tool that refuses."""
        output = self.run_tool(name, **arguments)
        assert set(output) == {"error", "code"}
        assert output["error"].endswith(".")
        assert ToolRun.objects.latest("pk").is_error
        return str(output["error"])

    def test_description_of_a_tool_comes_from_the_function(self) -> None:
        assert {"get_weather", "get_time", "book_table", "cancel_booking"} <= set(tools.TOOLS)
        book_table = tools.TOOLS["book_table"]
        assert book_table.description == "Books a table. The time is the restaurant's."
        assert book_table.parameters == {
            "type": "object",
            "properties": {
                "people": {"type": "integer"},
                "day": {"type": "string", "format": "date"},
                "time": {"type": "string", "format": "time"},
                "name": {"type": "string"},
            },
            "required": ["people", "day", "time"],
        }

    def test_parameter_types(self) -> None:
        @tool
        def echo(
            session: VoiceSession,
            number: int = 0,
            price: float = 0,
            really: bool = False,
            names: list[str] = [],  # noqa: B006
            theme: Literal["dark", "light"] = "dark",
            day: date = date.min,
            at: time = time.min,
        ) -> dict[str, Any]:
            return {"is": [number, price, really, names, theme, str(day), str(at)]}

        defaults = [0, 0, False, [], "dark", "0001-01-01", "00:00:00"]
        taken: tuple[tuple[dict[str, Any], list[Any]], ...] = (
            ({}, defaults),
            ({"number": "4", "price": "1.5", "really": "true"}, [4, 1.5, True, *defaults[3:]]),
            ({"number": 4.0, "names": ["a", 5]}, [4, 0, False, ["a", "5"], *defaults[4:]]),
            ({"theme": "light"}, [*defaults[:4], "light", *defaults[5:]]),
            ({"day": "2030-01-31", "at": "19:30"}, [*defaults[:5], "2030-01-31", "19:30:00"]),
        )
        for given, expected in taken:
            assert self.run_tool("echo", **given) == {"is": expected}
        refused: tuple[tuple[dict[str, Any], str], ...] = (
            ({"number": "four"}, "number must be a whole number, not 'four'."),
            ({"number": 4.5}, "number must be a whole number, not 4.5."),
            ({"number": True}, "number must be a whole number, not True."),
            ({"price": "nan"}, "price must be a number, not 'nan'."),
            ({"price": {}}, "price must be a number, not {}."),
            ({"really": "maybe"}, "really must be true or false, not 'maybe'."),
            ({"names": "Ada"}, "names must be a list of texts, not 'Ada'."),
            ({"theme": "green"}, "theme must be one of dark, light, not 'green'."),
            ({"day": "tomorrow"}, "day must be a day such as 2030-01-31, not 'tomorrow'."),
            ({"at": "25:00"}, "at must be a time such as 19:30, not '25:00'."),
            ({"colour": "red"}, "echo takes no colour."),
        )
        for given, sentence in refused:
            assert self.said("echo", **given) == sentence
        assert self.said("get_weather") == "get_weather needs city."

    def test_type_that_no_argument_can_have_is_a_mistake_at_once(self) -> None:
        with pytest.raises(TypeError, match="cannot be of type"):

            @tool
            def wrong(session: VoiceSession, what: bytes) -> dict[str, Any]:
                return {}

    def test_unknown_tool(self) -> None:
        output = self.run_tool("order_pizza", size="large")
        assert output == {"error": "There is no tool order_pizza.", "code": "unknown_tool"}

    def test_exception_is_logged_and_told_without_its_text(self) -> None:
        @tool
        def broken(session: VoiceSession) -> dict[str, Any]:
            raise RuntimeError("secret detail")

        @tool
        def unspeakable(session: VoiceSession) -> dict[str, Any]:
            return {"x": object()}

        for name in ("broken", "unspeakable"):
            with self.assertLogs("sessions_app.tools", "ERROR"):
                assert self.run_tool(name) == {"error": f"{name} failed.", "code": "failed"}
        run = ToolRun.objects.get(name="broken")
        assert (run.is_error, run.finished_at is not None) == (True, True)

    def test_late_output_is_dropped_and_its_effect_undone(self) -> None:
        go_on, done = threading.Event(), threading.Event()

        @tool
        def slow(session: VoiceSession) -> dict[str, Any]:
            go_on.wait(30)
            done.set()
            return {"too": "late"}

        with mock.patch.object(tools, "LIMIT_S", 0.05), self.assertLogs("sessions_app.tools", "WARNING"):
            assert self.run_tool("slow", "c1") == {"error": "slow took too long.", "code": "late"}
        go_on.set()
        assert done.wait(30)
        assert self.run_tool("slow", "c1")["code"] == "late"
        assert ToolRun.objects.get(tool_call_id="c1").is_error

    def test_effect_of_a_late_tool_is_undone(self) -> None:
        finished = threading.Event()

        @tool(writes=True)
        def book_slowly(run: ToolRun) -> dict[str, Any]:
            # As if the time limit had struck while this was at work.
            assert run.finish(tools.error_output("book_slowly took too long.", "late"), is_error=True)
            run.finished_at = None
            Booking.objects.create(
                session=run.session, tool_call_id=run.tool_call_id, people=2, at=timezone.now()
            )
            connection.on_commit(finished.set)
            return {"reference": "B1"}

        assert self.run_tool("book_slowly")["code"] == "late"
        assert not Booking.objects.exists()
        assert not finished.is_set()

    def test_call_that_is_older_than_the_limit_is_not_carried_out(self) -> None:
        table: dict[str, Any] = {"people": 2, "day": days_ahead(1), "time": "19:30"}
        output = json.loads(run(self.session, "c1", "book_table", age_s=tools.LIMIT_S, **table))
        assert output == {"error": "book_table was asked for too long ago.", "code": "late"}
        assert json.loads(run(self.session, "c1", "book_table", **table)) == output
        assert ToolRun.objects.get().is_error
        assert not Booking.objects.exists()

    def test_call_that_the_page_has_answered_is_not_carried_out(self) -> None:
        log.record(self.session.pk, [Frame(1, 0, "tool_call_output", {"toolCallId": "c1", "output": "x"})])
        table: dict[str, Any] = {"people": 2, "day": days_ahead(1), "time": "19:30"}
        assert self.run_tool("book_table", "c1", **table)["code"] == "late"
        assert not Booking.objects.exists()
        assert "reference" in self.run_tool("book_table", "c2", **table)

    def test_effect_is_undone_if_the_page_answers_meanwhile(self) -> None:
        @tool(writes=True)
        def book_slowly(run: ToolRun) -> dict[str, Any]:
            answer = {"toolCallId": run.tool_call_id, "output": '{"error":"It did not answer in time."}'}
            log.record(run.session_id, [Frame(1, 0, "tool_call_output", answer)])
            Booking.objects.create(
                session=run.session, tool_call_id=run.tool_call_id, people=2, at=timezone.now()
            )
            return {"reference": "B1"}

        assert self.run_tool("book_slowly")["code"] == "late"
        assert not Booking.objects.exists()

    def test_effect_is_undone_if_it_comes_after_the_limit(self) -> None:
        @tool(writes=True)
        def book_slowly(run: ToolRun) -> dict[str, Any]:
            Booking.objects.create(
                session=run.session, tool_call_id=run.tool_call_id, people=2, at=timezone.now()
            )
            while timezone.now() < limit:
                pass
            return {"reference": "B1"}

        limit = timezone.now() + timedelta(seconds=0.5)
        output = run(self.session, "c1", "book_slowly", age_s=tools.LIMIT_S - 0.5)
        assert json.loads(output)["code"] == "late"
        assert not Booking.objects.exists()

    def test_tool_call_is_run_once(self) -> None:
        arrived, go_on = threading.Event(), threading.Event()
        runs = []

        @tool
        def count(session: VoiceSession) -> dict[str, Any]:
            runs.append(1)
            arrived.set()
            go_on.wait(30)
            return {"runs": len(runs)}

        outputs: list[str] = []

        def ask() -> None:
            outputs.append(run(self.session, "c1", "count"))
            connection.close()

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert arrived.wait(30)
        go_on.set()
        for thread in threads:
            thread.join()
        assert outputs == ['{"runs": 1}'] * 3
        assert run(self.session, "c1", "count") == '{"runs": 1}'
        other = open_session(Client())
        assert run(other, "c1", "count") == '{"runs": 2}'

    def test_run_that_died_with_its_process_is_answered(self) -> None:
        ToolRun.objects.create(
            session=self.session,
            tool_call_id="c1",
            name="get_time",
            started_at=timezone.now() - timedelta(seconds=60),
        )
        output = self.run_tool("get_time", "c1", city="Oslo")
        assert output == {"error": "get_time was interrupted.", "code": "interrupted"}

    def test_weather_is_marked_as_demonstration(self) -> None:
        lisbon = {"city": "Lisbon", "condition": "sunny", "temperature_c": 23, "demo_data": True}
        assert self.run_tool("get_weather", city="Lisbon") == lisbon
        assert self.run_tool("get_weather", city=" zürich ")["temperature_c"] == 13
        somewhere = self.run_tool("get_weather", city="Little Snoring")
        assert somewhere == self.run_tool("get_weather", city="Little Snoring")
        assert somewhere["demo_data"] is True
        assert "name of a city" in self.said("get_weather", city="?!")

    def test_time_is_real(self) -> None:
        for city, zone in (
            ("New York", "America/New_York"),
            ("new york city", "America/New_York"),
            ("San Francisco", "America/Los_Angeles"),
            ("Zürich", "Europe/Zurich"),
            ("Tokyo", "Asia/Tokyo"),
            ("Buenos Aires", "America/Argentina/Buenos_Aires"),
            ("Singapore", "Asia/Singapore"),
        ):
            before = timezone.now().astimezone(ZoneInfo(zone))
            output = self.run_tool("get_time", city=city)
            after = timezone.now().astimezone(ZoneInfo(zone))
            assert (output["city"], output["time_zone"]) == (city, zone)
            assert (output["time"], output["day"]) in [(f"{t:%H:%M}", f"{t:%A}") for t in (before, after)]
        assert self.said("get_time", city="Atlantis") == "I do not know the city 'Atlantis'."

    @override_settings(TIME_ZONE="America/New_York")
    def test_booking_is_a_row_in_the_restaurants_time(self) -> None:
        day = days_ahead(30)
        output = self.run_tool("book_table", "c1", people="4", day=day, time="19:30", name=" Ada ")
        booking = Booking.objects.get()
        assert output == {"reference": booking.reference, "people": 4, "day": day, "time": "19:30"}
        assert (booking.session, booking.tool_call_id, booking.people) == (self.session, "c1", 4)
        expected = datetime.combine(date.fromisoformat(day), time(19, 30), ZoneInfo("America/New_York"))
        assert (booking.at, booking.name, booking.cancelled_at) == (expected, "Ada", None)
        assert self.run_tool("book_table", "c1", people=4, day=day, time="19:30") == output
        assert Booking.objects.count() == 1

    def test_table_that_cannot_be_booked(self) -> None:
        good: dict[str, Any] = {"people": 2, "day": days_ahead(1), "time": "19:30"}
        for change, words in (
            ({"people": 0}, "1 to 20 people"),
            ({"people": 21}, "1 to 20 people"),
            ({"people": 10**30}, "1 to 20 people"),
            ({"time": "10:59"}, "from 11:00 to 22:30"),
            ({"time": "22:31"}, "from 11:00 to 22:30"),
            ({"day": days_ahead(-1)}, "has passed"),
            ({"day": "0001-01-01"}, "has passed"),
            ({"day": days_ahead(366)}, "up to a year"),
            ({"day": "9999-12-31"}, "up to a year"),
        ):
            assert words in self.said("book_table", **{**good, **change})
        assert not Booking.objects.exists()
        for opening in ("11:00", "22:30"):
            assert "reference" in self.run_tool("book_table", **{**good, "time": opening})

    def test_cancellation(self) -> None:
        booked = self.run_tool("book_table", people=2, day=days_ahead(1), time="19:30")
        spoken = booked["reference"].lower().replace("b", "b ")
        for _ in range(2):
            expected = {"reference": booked["reference"], "cancelled": True}
            assert self.run_tool("cancel_booking", reference=spoken) == expected
        assert Booking.objects.get().cancelled_at is not None

    def test_booking_of_somebody_else_cannot_be_cancelled(self) -> None:
        booked = self.run_tool("book_table", people=2, day=days_ahead(1), time="19:30")
        self.session = open_session(Client())
        for reference in (booked["reference"], "B9", "", "B" + "9" * 30, "nonsense"):
            assert "I find no booking" in self.said("cancel_booking", reference=reference)
        assert Booking.objects.get().cancelled_at is None


class ToolCallTests(TransactionTestCase):
    """Tool calls as the relay hands them to the server."""

    def setUp(self) -> None:
        self.session = open_session(self.client)

    def relay(self) -> Socket:
        return Socket.relay(self.client, self.session)

    async def output_of(self, page: Socket, call_id: str) -> Any:
        while (message := await page.hear())["type"] != "tool_call_output":
            pass
        assert message["data"].keys() == {"toolCallId", "output"}
        assert message["data"]["toolCallId"] == call_id
        return json.loads(message["data"]["output"])

    async def test_output_comes_down_the_same_socket(self) -> None:
        async with self.relay() as page:
            await page.hear()
            await page.send(tool_call(1, "c1", "get_weather", city="Lisbon"))
            assert await page.hear() == {"type": "ack", "ack": 1}
            assert (await self.output_of(page, "c1"))["condition"] == "sunny"
            await page.send(tool_call(2, "c2", "get_weather"), tool_call(3, "c3", "order_pizza"))
            outputs: dict[str, str] = {}
            while len(outputs) < 2:
                message = await page.hear()
                if message["type"] == "tool_call_output":
                    outputs[message["data"]["toolCallId"]] = json.loads(message["data"]["output"])["code"]
            assert outputs == {"c2": "bad_arguments", "c3": "unknown_tool"}

    async def test_more_calls_at_once_than_a_socket_may_have_are_refused(self) -> None:
        go_on = threading.Event()

        @tool
        def think(session: VoiceSession) -> dict[str, Any]:
            go_on.wait(30)
            return {"thought": True}

        with mock.patch.object(relay, "MAX_TOOLS", 1):
            async with self.relay() as page:
                await page.hear()
                await page.send(tool_call(1, "c1", "think"), tool_call(2, "c2", "think"))
                assert (await self.output_of(page, "c2"))["code"] == "busy"
            go_on.set()
            async with self.relay() as page:
                await page.hear()
                outputs = [await page.hear() for _ in range(2)]
        told = {output["data"]["toolCallId"]: json.loads(output["data"]["output"]) for output in outputs}
        assert told["c1"] == {"thought": True}
        assert told["c2"]["code"] == "busy"

    async def test_call_that_the_page_answers_is_not_run(self) -> None:
        async with self.relay() as page:
            await page.hear()
            await page.send({**tool_call(1, "c1", "get_weather", city="Lisbon"), "runs_on": "page"})
            assert await page.hear() == {"type": "ack", "ack": 1}
            await page.send(tool_call(2, "c2", "get_time", city="Lisbon"))
            await self.output_of(page, "c2")
        async with self.relay() as page:
            await page.hear()
            await self.output_of(page, "c2")
        assert [run.tool_call_id async for run in ToolRun.objects.all()] == ["c2"]

    async def test_call_sent_again_is_not_run_again(self) -> None:
        booking = tool_call(1, "c1", "book_table", people="2", day=days_ahead(2), time="20:00")
        async with self.relay() as page:
            await page.hear()
            await page.send(booking)
            first = await self.output_of(page, "c1")
            await page.send(booking, {**booking, "seq": 2})
            assert await self.output_of(page, "c1") == first
        assert await Booking.objects.acount() == 1

    async def test_output_is_sent_again_until_the_log_has_it(self) -> None:
        async with self.relay() as page:
            await page.hear()
            await page.send(tool_call(1, "c1", "get_weather", city="Lisbon"))
            output = await self.output_of(page, "c1")
        async with self.relay() as page:
            assert await page.hear() == welcome(1)
            assert await self.output_of(page, "c1") == output
            await page.send(frame(2, "tool_call_output", toolCallId="c1", output=json.dumps(output)))
            assert await page.hear() == {"type": "ack", "ack": 2}
        async with self.relay() as page:
            assert await page.hear() == welcome(2)
            await page.send(frame(3))
            assert await page.hear() == {"type": "ack", "ack": 3}

    async def test_call_that_comes_too_late_is_not_carried_out(self) -> None:
        """The way into the log was cut: the page tells the agent of a failure, and only then comes back."""
        await VoiceSession.objects.aupdate(created_at=timezone.now() - timedelta(seconds=60))
        booking = tool_call(1, "c1", "book_table", people="2", day=days_ahead(2), time="20:00")
        async with self.relay() as page:
            await page.hear()
            await page.send({**booking, "at_ms": 40_000})
            assert (await self.output_of(page, "c1"))["code"] == "late"
            gave_up: dict[str, Any] = {"toolCallId": "c2", "output": '{"error":"It did not answer in time."}'}
            await page.send(
                {**booking, "seq": 2, "data": {**booking["data"], "toolCallId": "c2"}},
                frame(3, "tool_call_output", **gave_up),
            )
            await page.hear_until({"type": "ack", "ack": 3})
        async with self.relay() as page:
            assert await page.hear() == welcome(3)
            assert (await self.output_of(page, "c1"))["code"] == "late"
        assert not await Booking.objects.acount()

    async def test_call_that_waited_in_the_log_for_too_long_is_not_carried_out(self) -> None:
        await VoiceSession.objects.aupdate(created_at=timezone.now() - timedelta(seconds=60))
        booking = tool_call(1, "c1", "book_table", people="2", day=days_ahead(2), time="20:00")
        body = json.dumps({"frames": [{**booking, "at_ms": 40_000}]})
        path = f"/sessions/{self.session.pk}/events/"
        await sync_to_async(self.client.post)(path, body, content_type="application/json")
        async with self.relay() as page:
            await page.hear()
            assert (await self.output_of(page, "c1"))["code"] == "late"
        assert not await Booking.objects.acount()

    async def test_call_whose_socket_was_lost_meanwhile_is_answered_on_the_next(self) -> None:
        arrived, go_on = threading.Event(), threading.Event()

        @tool
        def think(session: VoiceSession) -> dict[str, Any]:
            arrived.set()
            go_on.wait(30)
            return {"thought": True}

        async with self.relay() as page:
            await page.hear()
            await page.send(tool_call(1, "c1", "think"))
            assert await sync_to_async(arrived.wait, thread_sensitive=False)(30)
        async with self.relay() as page:
            await page.hear()
            go_on.set()
            assert await self.output_of(page, "c1") == {"thought": True}

    async def test_call_that_came_by_the_second_door_is_run_when_the_page_is_back(self) -> None:
        body = json.dumps({"frames": [tool_call(1, "c1", "get_weather", city="Lisbon")]})
        path = f"/sessions/{self.session.pk}/events/"
        await sync_to_async(self.client.post)(path, body, content_type="application/json")
        assert not await ToolRun.objects.aexists()
        async with self.relay() as page:
            await page.hear()
            assert (await self.output_of(page, "c1"))["city"] == "Lisbon"

    async def test_ended_call_runs_nothing(self) -> None:
        body = json.dumps({"frames": [tool_call(1, "c1", "get_weather", city="Lisbon"), frame(2, "hang_up")]})
        path = f"/sessions/{self.session.pk}/events/"
        await sync_to_async(self.client.post)(path, body, content_type="application/json")
        async with self.relay() as page:
            await page.hear()
            await page.send(frame(3))
            assert await page.hear() == {"type": "ack", "ack": 3}
        assert not await ToolRun.objects.aexists()

    async def test_after_trouble_with_running_nothing_is_claimed(self) -> None:
        """Whether it was done is not known then; the page tells the agent so when its own time is up."""

        def locked(*args: Any) -> str:
            raise OperationalError("database is locked")

        with mock.patch.object(tools, "run", locked), self.assertLogs("sessions_app.relay", "ERROR"):
            async with self.relay() as page:
                await page.hear()
                await page.send(tool_call(1, "c1", "get_weather", city="Lisbon"))
                assert await page.hear() == {"type": "ack", "ack": 1}
                assert await page.communicator.receive_nothing()
        async with self.relay() as page:
            await page.hear()
            assert (await self.output_of(page, "c1"))["city"] == "Lisbon"
