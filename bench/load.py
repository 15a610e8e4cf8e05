"""The load client of `python -m bench relay`: one process, many WebSockets, one clock for all of them.

Reads one Load from standard input and prints one Result, both as JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import aiohttp
import psutil

from bench.websocket import WebSocket, masked

PATIENCE_S = 30
"""For a handshake, and at the end for what is still unanswered."""

AT_ONCE = 40
"""Handshakes at the same time; more only wait in the listener's queue."""

SIZE = 260
"""Bytes of an event: the final text of a spoken sentence or two."""

WORDS = "We could seat the two of you by the window on Thursday, would half past seven suit you? " * 3


@dataclass(frozen=True)
class Load:
    """What to do. `in_flight` > 0: a closed loop, each socket keeps that many events unanswered. Else an open
    one: each socket sends `rate` events a second, whatever the server does, and an event's time counts from
    the moment when it was due."""

    paths: list[str]
    """One socket each."""
    port: int = 0
    seconds: float = 3.0
    warm_s: float = 1.0
    """Load before anything counts."""
    in_flight: int = 0
    rate: float = 0.0
    cookie: str = ""
    is_relay: bool = True
    """False: the server does not say welcome, and answers each event by repeating it."""
    viewers: list[str] = field(default_factory=list)
    """The n-th watches the session of the n-th socket."""
    rows: str = ""
    """Where the first viewer reads the new lines after its doorbell; "": it does not."""
    staff_cookie: str = ""
    pid: int = 0
    """The server's process, whose CPU and memory are read; 0: neither."""
    core: int | None = None
    """The CPU core on which this process stays."""


@dataclass
class Result:
    """What happened. Times are from an event's due time (closed loop: from its sending)."""

    sent: int = 0
    acked: int = 0
    """Of all that were sent, warm-up and last answers included."""
    acked_in_time: int = 0
    """Within the measured time."""
    elapsed_s: float = 0.0
    acks_ms: list[float] = field(default_factory=list)
    """p50 and p99; likewise below."""
    doorbells_ms: list[float] = field(default_factory=list)
    """Event → the doorbell of the viewer."""
    rows_ms: list[float] = field(default_factory=list)
    """Event → its line is in the viewer's hands."""
    server_cpu_s: float = 0.0
    client_cpu_s: float = 0.0
    others_cpu_s: float = 0.0
    """Of everything else on the machine, databases included."""
    kb_per_socket: float = 0.0
    """What each socket after the first added to the server's resident memory, once all had sent events."""
    handshakes_per_s: float = 0.0
    troubles: list[str] = field(default_factory=list)
    """Refusals, closed sockets and wrong answers; a measurement with any of them is worth nothing."""


class Page:
    """One socket that reports events."""

    def __init__(self, run: Run, path: str) -> None:
        self.run, self.path = run, path
        self.seq = self.acked = 0
        self.unanswered: deque[float] = deque()
        """When the events after `acked` were due."""
        self.viewer: Viewer | None = None
        self.welcomed: asyncio.Future[int] = run.loop.create_future()

    async def open(self) -> None:
        self.socket = await self.run.connect(self.path, self.run.load.cookie, self.hear)
        if self.run.load.is_relay:
            await asyncio.wait_for(self.welcomed, PATIENCE_S)

    def say(self, due: float, count: int = 1) -> None:
        """Sends `count` events, in one piece: so does a browser whose page sends them in one go."""
        frames = b""
        for seq in range(self.seq + 1, self.seq + count + 1):
            frames += masked(1, event(seq, due - self.run.began))
            self.unanswered.append(due)
        self.seq += count
        self.socket.transport.write(frames)

    def hear(self, messages: list[Any]) -> None:
        now, before = self.run.clock(), self.acked
        for message in messages:
            match message:
                case {"type": "ack", "ack": seq} | {"type": "response_text", "seq": seq}:
                    self.answered(seq, now)
                case {"type": "welcome", "ack": seq}:
                    if not self.welcomed.done():
                        self.welcomed.set_result(seq)
                case _:
                    what = f"{self.path}: {json.dumps(message):.200}"
                    self.run.trouble(what)
                    if not self.welcomed.done():
                        self.welcomed.set_exception(ConnectionError(what))
        if self.run.is_on and self.run.load.in_flight and self.acked > before:
            self.say(now, self.acked - before)

    def answered(self, seq: int, now: float) -> None:
        if not self.acked < seq <= self.seq:
            self.run.trouble(f"{self.path}: {seq} was acknowledged between {self.acked} and {self.seq}")
            return
        for number in range(self.acked + 1, seq + 1):
            due = self.unanswered.popleft()
            if self.run.counts(due):
                self.run.acks.append(now - due)
            if self.viewer is not None:
                self.viewer.acked(number, due, now)
        if self.run.counts(now):
            self.run.result.acked_in_time += seq - self.acked
        self.acked = seq

    def start(self) -> None:
        now, load = self.run.clock(), self.run.load
        if load.in_flight:
            self.say(now, load.in_flight)
        else:
            due = now + random.random() / load.rate  # noqa: S311  spreads the sockets, keeps no secret
            self.run.loop.call_at(due, self.keep_saying, due)

    def keep_saying(self, due: float) -> None:
        """The open loop: one event each 1/rate seconds."""
        if self.run.is_on:
            self.say(due)
            again = due + 1 / self.run.load.rate
            self.run.loop.call_at(again, self.keep_saying, again)


class Viewer:
    """One socket of staff, which rings when there is something new to read.

    A doorbell does not say for which event it rings. The server acknowledges, then rings; the two may arrive
    the other way round. So an event's doorbell is the first after its acknowledgement, or just before it.
    """

    JUST_BEFORE_S = 0.05
    """Shorter than the pause between two events of a call."""

    def __init__(self, run: Run, path: str, page: Page, rows: str = "") -> None:
        self.run, self.path, self.page, self.rows = run, path, page, rows
        self.admitted: asyncio.Future[None] = run.loop.create_future()
        self.rings: deque[float] = deque(maxlen=100)
        self.unseen: list[tuple[int, float]] = []
        """Numbers and due times of the events for which it has not rung."""
        self.unread: list[tuple[int, float]] = []
        self.reading: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self.socket = await self.run.connect(self.path, self.run.load.staff_cookie, self.hear)
        await asyncio.wait_for(self.admitted, PATIENCE_S)
        self.page.viewer = self

    def hear(self, messages: list[Any]) -> None:
        if any(message != {"type": "recorded"} for message in messages):
            self.run.trouble(f"{self.path}: {json.dumps(messages):.200}")
        elif not self.admitted.done():
            self.admitted.set_result(None)
        else:
            now, unseen, self.unseen = self.run.clock(), self.unseen, []
            self.rings.append(now)
            for seq, due in unseen:
                self.see(seq, due, now)

    def acked(self, seq: int, due: float, now: float) -> None:
        earliest = max(due, now - self.JUST_BEFORE_S)
        rung = next((at for at in self.rings if at >= earliest), None)
        if rung is None:
            self.unseen.append((seq, due))
        else:
            self.see(seq, due, rung)

    def see(self, seq: int, due: float, at: float) -> None:
        if self.run.counts(due):
            self.run.doorbells.append(at - due)
        if self.rows:
            self.unread.append((seq, due))
            if self.reading is None or self.reading.done():
                self.reading = asyncio.create_task(self.read())

    async def read(self) -> None:
        """Fetches the new lines as the admin's page does, until everything rung for is there."""
        while self.unread:
            first = self.unread[0][0]
            async with self.run.http.get(
                f"http://127.0.0.1:{self.run.load.port}{self.rows}?after=browser:{first - 1}",
                headers={"Cookie": self.run.load.staff_cookie},
                allow_redirects=False,
            ) as response:
                html = await response.text()
                cursor = response.headers.get("X-Cursor", "")
            last = dict(part.split(":") for part in cursor.split(",") if part).get("browser", "0")
            if response.status != 200 or int(last) < first or f'data-seq="{last}"' not in html:
                self.run.trouble(f"{self.rows}: {response.status}, cursor {cursor!r} after {first - 1}")
                return
            now = self.run.clock()
            for seq, due in self.unread:
                if seq <= int(last) and self.run.counts(due):
                    self.run.rows.append(now - due)
            self.unread = [(seq, due) for seq, due in self.unread if seq > int(last)]


class Run:
    """One measurement."""

    def __init__(self, load: Load, http: aiohttp.ClientSession) -> None:
        self.load, self.http, self.result = load, http, Result()
        self.loop = asyncio.get_running_loop()
        self.clock = self.loop.time
        self.began = self.clock()
        self.from_ = self.until = float("inf")
        self.is_on = self.is_over = False
        self.acks: list[float] = []
        self.doorbells: list[float] = []
        self.rows: list[float] = []
        self.pages = [Page(self, path) for path in load.paths]
        self.viewers = [
            Viewer(self, path, page, load.rows if page is self.pages[0] else "")
            for path, page in zip(load.viewers, self.pages, strict=False)
        ]

    def counts(self, at: float) -> bool:
        """Whether a moment lies in the measured time."""
        return self.from_ <= at < self.until

    def trouble(self, what: str) -> None:
        if not self.is_over:
            self.result.troubles.append(what)

    async def measure(self) -> Result:
        load, result = self.load, self.result
        await self.open()
        # A collection would stop this process for longer than an event takes.
        gc.collect()
        gc.disable()
        self.is_on = True
        for page in self.pages:
            page.start()
        await asyncio.sleep(load.warm_s)
        before, self.from_ = self.cpu_s(), self.clock()
        await asyncio.sleep(load.seconds)
        after, self.until = self.cpu_s(), self.clock()
        self.is_on = False
        result.elapsed_s = self.until - self.from_
        result.server_cpu_s, result.client_cpu_s, everything = (
            b - a for a, b in zip(before, after, strict=True)
        )
        result.others_cpu_s = everything - result.server_cpu_s - result.client_cpu_s
        await self.wait_for_answers()
        result.kb_per_socket = (self.memory_kb() - self.memory_before_kb) / max(1, len(self.pages) - 1)
        result.sent = sum(page.seq for page in self.pages)
        result.acked = sum(page.acked for page in self.pages)
        result.acks_ms, result.doorbells_ms, result.rows_ms = map(
            percentiles, (self.acks, self.doorbells, self.rows)
        )
        self.is_over = True
        return result

    async def open(self) -> None:
        """All sockets; the first one alone, with an event, so that what a server sets up once is not counted
        as a socket's memory."""
        first, *others = self.pages
        await first.open()
        first.say(self.clock())
        await self.wait_for_answers()
        self.memory_before_kb = self.memory_kb()
        at_once, began = asyncio.Semaphore(AT_ONCE), self.clock()

        async def open_soon(one: Page | Viewer) -> None:
            async with at_once:
                await one.open()

        everyone: list[Page | Viewer] = [*others, *self.viewers]
        await asyncio.gather(*map(open_soon, everyone))
        self.result.handshakes_per_s = len(everyone) / (self.clock() - began)

    async def wait_for_answers(self) -> None:
        """Until everything is acknowledged, and the viewers know."""
        until = self.clock() + PATIENCE_S
        while True:
            unanswered = sum(len(page.unanswered) for page in self.pages)
            unseen = sum(len(viewer.unseen) + len(viewer.unread) for viewer in self.viewers)
            if not unanswered and not unseen:
                return
            if self.result.troubles or self.clock() > until:
                self.trouble(f"{unanswered} events were not acknowledged, {unseen} not shown to viewers")
                return
            await asyncio.sleep(0.02)

    async def connect(self, path: str, cookie: str, hear: Callable[[list[Any]], None]) -> WebSocket:
        made = await WebSocket.connect(
            self.load.port, path, cookie, hear, lambda why: self.trouble(f"{path}: {why}")
        )
        await asyncio.wait_for(made.opened, PATIENCE_S)
        return made

    def cpu_s(self) -> tuple[float, float, float]:
        """What the server, this process and the whole machine have used."""
        machine = psutil.cpu_times()
        server = psutil.Process(self.load.pid).cpu_times() if self.load.pid else None
        return (
            server.user + server.system if server else 0.0,
            time.process_time(),
            machine.user + machine.system,
        )

    def memory_kb(self) -> float:
        return psutil.Process(self.load.pid).memory_info().rss / 1024 if self.load.pid else 0.0


def event(seq: int, at_s: float) -> bytes:
    """A durable frame: the final text of a sentence that the agent spoke."""
    head = f'{{"seq":{seq},"at_ms":{max(0, int(at_s * 1000))},"type":"response_text","data":{{"text":"'
    tail = f'","turn_id":"agent-{seq}","is_final":true}}}}'
    return f"{head}{WORDS[: SIZE - len(head) - len(tail)]}{tail}".encode()


def percentiles(seconds: list[float]) -> list[float]:
    """p50 and p99 in ms; nothing of nothing."""
    ranked = sorted(seconds)
    return [round(ranked[int(len(ranked) * share)] * 1000, 2) for share in (0.5, 0.99)] if ranked else []


async def run(load: Load) -> Result:
    """Raises OSError and TimeoutError when the sockets cannot be opened."""
    async with aiohttp.ClientSession() as http:
        return await Run(load, http).measure()


def main() -> None:
    load = Load(**json.load(sys.stdin))
    if load.core is not None:
        os.sched_setaffinity(0, {load.core})
    try:
        result = asyncio.run(run(load))
    except (OSError, TimeoutError) as error:
        sys.exit(f"The sockets could not be opened: {error!r}")
    print(json.dumps(asdict(result)), flush=True)


if __name__ == "__main__":
    main()
