"""The relay's contract, whatever happens to pages, sockets, the database and the process: in the end the log
holds what was sent, once and in order, and no page was told that something is stored before it was."""

import asyncio
import json
import logging
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, OperationalError, connection
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from sessions_app import log, relay, tools
from sessions_app import writer as module_of_writer
from sessions_app.models import SessionEvent, ToolRun, VoiceSession
from sessions_app.tools import tool
from sessions_app.writer import Writer

from .honest_page import WINDOW, Page, Witness
from .sockets import AGENT, PATIENCE_S, frame, tool_call

HONEST = {relay.Close.REPLACED, relay.Close.SLOW_DOWN, relay.Close.RESTARTING}
"""How a socket of a page that keeps to the contract may end while the database works or is away."""


class Database:
    """What the writer and the second door store with, as it is in bad days."""

    def __init__(self) -> None:
        self.trouble: type[Exception] | None = None
        self.is_open = threading.Event()
        """While it is not set, the writer's transactions wait."""
        self.is_open.set()
        self.insert, self.commit = log._insert, log.commit

    def insert_lines(self, lines: Any, *args: Any) -> None:
        if self.trouble is not None:
            raise self.trouble("as the test wants it")
        if any(line.data.get("poison") for _, line in lines):
            raise IntegrityError("as the test wants it")
        self.insert(lines, *args)

    def commit_lines(self, *args: Any) -> None:
        assert self.is_open.wait(PATIENCE_S)
        self.commit(*args)

    def mend(self) -> None:
        self.trouble = None
        self.is_open.set()


SMALL = (
    (relay, {"WINDOW": WINDOW, "BURST": 10_000}),
    (module_of_writer, {"MAX_BATCH": 4, "BUSY": 2, "LINGER_S": 0.001, "RETRY_S": 0.005, "MAX_WAITING": 9}),
)
"""Small numbers, so that short schedules come to the limits."""

KINDS = st.sampled_from(["fine"] * 5 + ["bad", "poison", "tool", "tool", "state"])
COUNTS = st.integers(1, 8)
STEPS = st.one_of(
    st.tuples(
        st.sampled_from(["send", "send", "send", "send", "hear", "repeat", "post", "cut", "connect"]),
        st.integers(0, 1),
        COUNTS,
    ),
    st.tuples(st.just("turn"), st.just(0), COUNTS),
    st.tuples(
        st.sampled_from(["away", "broken", "hold", "mend", "mend", "settle", "settle", "crash", "restart"]),
        st.just(0),
        COUNTS,
    ),
)


def frames_of(kinds: list[str]) -> list[dict[str, Any]]:
    made = {
        "fine": lambda seq: frame(seq, "response_text", text=f"line {seq}"),
        "bad": lambda seq: {**frame(seq, "response_text"), "data": {"text": seq}},
        "poison": lambda seq: frame(seq, "mood_changed", poison=True),
        "tool": lambda seq: tool_call(seq, f"call-{seq}", "count_runs"),
        "state": lambda seq: frame(seq, "session_started", id="call-7"),
    }
    return [made[kind](seq) for seq, kind in enumerate(kinds, 1)]


class Stage:
    """Two pages, a process, and a database."""

    def __init__(self, pages: list[Page]) -> None:
        self.pages = pages
        self.database = Database()
        self.was_broken = False
        self.writer = Writer()
        self.dead: list[Writer] = []
        self.failures: list[Any] = []

    @contextmanager
    def set(self) -> Iterator[None]:
        with ExitStack() as stack:
            for module, numbers in SMALL:
                stack.enter_context(mock.patch.multiple(module, **numbers))
            stack.enter_context(mock.patch.object(relay, "writer", self.writer))
            stack.enter_context(mock.patch.object(relay, "is_draining", False))
            stack.enter_context(mock.patch.object(log, "_insert", self.database.insert_lines))
            stack.enter_context(mock.patch.object(log, "commit", self.database.commit_lines))
            yield

    async def play(self, steps: list[tuple[str, int, int]]) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.failures.append(context))
        for name, index, count in steps:
            await self.step(name, self.pages[index], count)
        self.database.mend()
        await asyncio.gather(*[page.finish() for page in self.pages])
        await self.leave()

    async def step(self, name: str, page: Page, count: int) -> None:
        match name:
            case "send":
                await page.come()
                page.send(count)
            case "hear":
                page.hear()
            case "repeat":
                page.repeat(count)
            case "post":
                page.post(count)
            case "cut":
                page.cut()
            case "connect":
                page.connect()
            case "turn":
                for _ in range(count):
                    await asyncio.sleep(0)
            case "away":
                self.database.trouble = OperationalError
            case "broken":
                self.database.trouble, self.was_broken = RuntimeError, True
            case "hold":
                self.database.is_open.clear()
            case "mend":
                self.database.mend()
            case "settle":
                await self.settle()
            case "crash":
                await self.end_process()
            case "restart":
                works = self.database.trouble is None and self.database.is_open.is_set()
                await relay.drain(PATIENCE_S if works else 0.01)
                await self.end_process()

    async def settle(self) -> None:
        """Until the sockets have been heard, and what came by them is stored, if it can be."""
        if self.database.is_open.is_set() and self.database.trouble is not OperationalError:
            for page in self.pages:
                if page.socket is not None and not page.is_welcome:
                    await page.hear_next()
            await asyncio.sleep(0)
            await self.writer.flush()
        for page in self.pages:
            page.hear()

    async def end_process(self) -> None:
        """Nothing is left but what is in the database, or on the way there."""
        tasks: list[asyncio.Future[Any]] = []
        for page in self.pages:
            page.hear()
            tasks += [socket.communicator.future for socket in page.everything()]
            page.cut()
            page.lost_sockets.clear()
        if self.writer._task is not None:
            tasks.append(self.writer._task)
        calls = [task for socket in relay.sockets.values() for task in socket.tools]
        # The calls have begun by the time that the others have ended: a task cut off before that warns of it.
        for ends in (tasks, calls):
            for task in ends:
                task.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
        self.dead.append(self.writer)
        self.writer.waiting.clear()
        self.writer = vars(relay)["writer"] = Writer()
        relay.is_draining = False
        assert relay.sockets == {}

    async def leave(self) -> None:
        for page in self.pages:
            page.cut()
            ends = [socket.communicator.future for socket in page.lost_sockets]
            async with asyncio.timeout(PATIENCE_S):
                for socket in page.lost_sockets:
                    socket.communicator.input_queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
                await asyncio.gather(*ends)
        await self.writer.flush()
        rest: set[asyncio.Task[Any]] = asyncio.all_tasks() - {asyncio.current_task()}
        if rest:
            await asyncio.wait(rest, timeout=PATIENCE_S)
        assert relay.sockets == {}
        for writer in [*self.dead, self.writer]:
            assert writer in self.dead or not (writer.waiting or writer.waiting_bytes)
            await asyncio.to_thread(writer.close)
            writer._thread.shutdown()
        Witness.threads.submit(lambda: connection.close()).result()


def in_a_loop(play: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        await play

    async_to_sync(run)()


class Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def errors() -> Iterator[list[str]]:
    """What the site says of its own trouble."""
    handler, logger = Errors(), logging.getLogger("sessions_app")
    logger.addHandler(handler)
    with mock.patch.object(logger, "propagate", False):
        try:
            yield handler.lines
        finally:
            logger.removeHandler(handler)


RUNS: Counter[tuple[UUID, str]] = Counter()


@pytest.fixture(autouse=True)
def counting_tool() -> Iterator[None]:
    with mock.patch.dict(tools.TOOLS):

        @tool
        def count_runs(run: ToolRun) -> dict[str, Any]:
            RUNS[run.session_id, run.tool_call_id] += 1
            return {"run": RUNS[run.session_id, run.tool_call_id]}

        yield


@pytest.fixture
def browser(transactional_db: None) -> Client:
    client = Client()
    client.get("/")
    return client


def page_of(client: Client, kinds: list[str]) -> Page:
    session = VoiceSession.objects.create(
        visitor=client.session["visitor"], agent_id=AGENT, agent_name="Concierge", page="page-one"
    )
    return Page(client, session, frames_of(kinds))


@given(
    kinds=st.lists(KINDS, min_size=5, max_size=20),
    others=st.lists(KINDS, max_size=20),
    steps=st.lists(STEPS, min_size=10, max_size=40),
)
@settings(max_examples=60)
def test_log_is_what_was_sent(
    browser: Client, kinds: list[str], others: list[str], steps: list[tuple[str, int, int]]
) -> None:
    stage = Stage([page_of(browser, kinds), page_of(browser, others)])
    with stage.set(), errors() as lines:
        in_a_loop(stage.play(steps))
    assert stage.failures == []
    assert [line for line in lines if "relay failed" in line or "could be told" in line] == []
    for page in stage.pages:
        assert page.lies == []
        codes = HONEST | ({relay.Close.TROUBLE} if stage.was_broken else set())
        assert set(page.closes) <= codes | {relay.Close.GAP}
        check_log(page, stage.was_broken)


def check_log(page: Page, was_broken: bool) -> None:
    rows = SessionEvent.objects.filter(session=page.session, source="browser").order_by("seq")
    assert [row.seq for row in rows] == list(range(1, len(page.frames) + 1))
    for row, sent in zip(rows, page.frames, strict=True):
        if row.type == "rejected":
            is_bad = type(sent["data"].get("text", "")) is not str
            is_poison = sent["data"].get("poison", False)
            assert was_broken or (row.data["code"], is_poison) == (
                "bad_data" if is_bad else "not_storable",
                not is_bad,
            )
        else:
            assert (row.type, row.at_ms, row.data) == (sent["type"], sent["at_ms"], sent["data"])
            assert not sent["data"].get("poison")
            if row.type == "tool_call":
                output = json.loads(page.outputs[f"call-{row.seq}"])
                # One socket has eight at once; a restart interrupts also what waits for its turn.
                assert output == {"run": 1} or output["code"] in ("busy", "interrupted")
                assert RUNS[page.session.pk, f"call-{row.seq}"] <= 1
