"""Real servers under load are hurt at random; afterwards the log must hold what was told, once, in order."""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from bench.audit import FAULTS, Fault, audit
from bench.figures import Figure
from bench.reporter import Reporter, Told
from bench.small_disk import SmallDisk, small_disk
from bench.stage import seed, start_server
from tests import postgres
from tests.e2e.servers import Site
from tests.postgres import Postgres

DATABASES = ("sqlite", "postgresql")

PAGES = 40
PER_S = (3.0, 12.0)
"""Events of one page: more than any call has, and far enough below its pace to catch up after an outage."""

DECK = ("kill", "terminate", "cut", "kill", "stop", "cut", "crash", "terminate", "full", "kill")
"""What happens, shuffled; then again. `crash` and `full` only where they are possible."""

PAUSE_S = (0.2, 1.5)
"""Between two injuries, on top of the time until the pages get on again (see `rest`)."""

HASTE = 0.25
"""So many injuries strike while the pages may still be coming back from the last one."""

STALL_S = 60
"""Nothing is broken, and still nothing is acknowledged for so long: the site does not recover by itself."""

SETTLE_S = 60
"""After the load, for everything to be acknowledged."""

SHOWN = 40
"""Faults that are told in full."""


@dataclass
class Outcome:
    """What one database's part of a run came to."""

    database: str
    counts: Counter[str] = field(default_factory=Counter)
    injuries: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """`python -m bench chaos`. A fault is told on stderr, and is a figure whose goal is 0."""
    number = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    wanted = DATABASES if arguments.database == "both" else (arguments.database,)
    possible = [name for name in wanted if name == "sqlite" or postgres.find()]
    say(f"seed {number}")
    if set(wanted) != set(possible):
        say("No PostgreSQL on this machine: skipped.")
    figures = []
    for name in possible:
        outcome = run(name, arguments.minutes * 60 / len(possible), number)
        for fault in outcome.faults[:SHOWN]:
            say(f"{name}: {fault.kind}: {fault.what}")
        if len(outcome.faults) > SHOWN:
            say(f"{name}: and {len(outcome.faults) - SHOWN} more faults")
        figures += figures_of(outcome)
    return figures


def figures_of(outcome: Outcome) -> list[Figure]:
    kinds = Counter(fault.kind for fault in outcome.faults)
    prefix = outcome.database
    return [
        *(Figure(f"{prefix}_{name}", count, "") for name, count in sorted(outcome.counts.items())),
        *(Figure(f"{prefix}_injury_{name}", count, "") for name, count in sorted(outcome.injuries.items())),
        *(Figure(f"{prefix}_{name}", kinds[name], "faults", 0) for name in FAULTS),
    ]


def run(name: str, seconds: float, number: int, *, least: Counter[str] | None = None) -> Outcome:
    """One run on one database. It lasts longer than `seconds` if it must, until `least` has happened."""
    outcome = Outcome(name)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        disk = stack.enter_context(small_disk(folder / "disk"))
        server = None
        if name == "postgresql":
            # Its write-ahead log alone would fill the small disk otherwise, in a long run.
            server = stack.enter_context(postgres.start(disk.path / "pg", "max_wal_size=96MB"))
        where = {"DATABASE_URL": server.url()} if server else {"DATABASE_PATH": str(disk.path / "db.sqlite3")}
        site = start_server(folder / "site", **where)
        stack.callback(site.stop)
        began = time.monotonic()
        visitor = seed(site, PAGES)
        dice = random.Random(f"{number} {name}")  # noqa: S311  to be repeated, not to be secret
        pages = [
            Reporter(
                site.url,
                session,
                visitor.cookie,
                dice=random.Random(dice.random()),  # noqa: S311
                per_s=dice.uniform(*PER_S),
                began=began,
            )
            for session in visitor.sessions
        ]
        surgeon = Surgeon(site, server, disk, pages, dice, outcome.injuries)
        try:
            asyncio.run(load(pages, lambda: surgeon.work(seconds, least or Counter())))
            site.end(signal.SIGTERM, 30)
        finally:
            surgeon.heal()
        told = [page.told for page in pages]
        found = audit(server.url() if server else disk.path / "db.sqlite3", told)
        outcome.faults = surgeon.stalls + found.faults
        outcome.counts = counts_of(told) + Counter(frames_stored=found.stored, frames_rejected=found.rejected)
        if outcome.faults:
            kept = Path(tempfile.mkdtemp(prefix="chaos-faults-"))
            shutil.copy(site.log, kept)
            say(f"the server's log: {kept / site.log.name}")
    return outcome


def counts_of(pages: list[Told]) -> Counter[str]:
    counts = sum((page.counts for page in pages), Counter[str]())
    counts["frames_acknowledged"] = sum(page.acked for page in pages)
    counts["nacks_heard"] = sum(len(page.nacks) for page in pages)
    counts["tool_outputs"] = sum(len(page.outputs) for page in pages)
    counts["reconnects"] = counts.pop("connects") - len(pages)
    return counts


async def load(pages: list[Reporter], work: Callable[[], Awaitable[None]]) -> None:
    """The pages report while `work` goes on; then what is left is given time to arrive."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    # Its default limit would end a handshake's socket minutes after the handshake.
    forever = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=forever) as http:
        reporting = [asyncio.create_task(page.run(http)) for page in pages]
        try:
            await work()
        finally:
            for page in pages:
                page.finish()
            _, late = await asyncio.wait(reporting, timeout=SETTLE_S)
            for task in late:
                task.cancel()
            results = await asyncio.gather(*reporting, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


@dataclass
class Surgeon:
    """Who hurts the servers, one injury at a time, and heals what is left in the end."""

    site: Site
    server: Postgres | None
    disk: SmallDisk
    pages: list[Reporter]
    dice: random.Random
    done: Counter[str]
    started: float = field(default_factory=time.monotonic)
    stalls: list[Fault] = field(default_factory=list)

    async def work(self, seconds: float, least: Counter[str]) -> None:
        deck: list[str] = []
        await self.rest()
        while time.monotonic() - self.started < seconds or not least <= self.done:
            if not deck:
                deck = self.dice.sample(DECK, len(DECK))
            injury = deck.pop()
            if (injury == "crash" and self.server is None) or (injury == "full" and not self.can_be_full):
                continue
            say(f"{self.clock}  {injury}")
            self.done[injury] += 1
            await getattr(self, injury)()
            await self.rest()

    async def rest(self) -> None:
        """Mostly until every page gets on again, so that the next injury finds them all at work."""
        before = [page.told.acked for page in self.pages]
        deadline = time.monotonic() + STALL_S
        is_hasty = self.dice.random() < HASTE
        while not is_hasty:
            stalled = [
                page.told.session
                for page, acked in zip(self.pages, before, strict=True)
                if page.told.acked <= acked and not page.told.wrong
            ]
            if not stalled:
                break
            if time.monotonic() > deadline:
                what = f"{self.clock}: nothing acknowledged for {STALL_S} s after an injury had healed"
                self.stalls.append(
                    Fault("stalls", f"{what}, {len(stalled)} sessions, {stalled[0]} the first")
                )
                break
            await asyncio.sleep(0.05)
        await asyncio.sleep(self.dice.uniform(*PAUSE_S))

    @property
    def clock(self) -> str:
        return f"{time.monotonic() - self.started:6.1f} s"

    @property
    def can_be_full(self) -> bool:
        # Without a disk of its own, a limit would have to be laid on each process of PostgreSQL.
        return self.disk.is_mounted or (self.server is None and hasattr(resource, "prlimit"))

    async def kill(self) -> None:
        """SIGKILL, and a while without a server; at times nothing even holds its port."""
        await asyncio.to_thread(self.site.end, signal.SIGKILL)
        await self.restart()

    async def terminate(self) -> None:
        """SIGTERM, as a deployment does."""
        await asyncio.to_thread(self.site.end, signal.SIGTERM, 30)
        await self.restart()

    async def restart(self) -> None:
        if self.dice.random() < 0.5:
            self.site.release_port()
        await asyncio.sleep(self.dice.uniform(0, 1.5))
        await asyncio.to_thread(self.site.start)

    async def stop(self) -> None:
        """SIGSTOP: a machine that sleeps, or a disk that does not answer."""
        self.site.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(self.dice.uniform(1, 4))
        self.site.process.send_signal(signal.SIGCONT)

    async def cut(self) -> None:
        """Some pages lose their sockets, each in its own way."""
        for page in self.dice.sample(self.pages, self.dice.randint(len(self.pages) // 4, len(self.pages))):
            page.cut(self.dice.choice(("cut", "left", "closed")))

    async def crash(self) -> None:
        """PostgreSQL goes without a word, and comes back by its write-ahead log."""
        if self.server is not None:
            await asyncio.to_thread(self.server.crash)
            await asyncio.sleep(self.dice.uniform(0, 2))
            await asyncio.to_thread(self.server.start)

    async def full(self) -> None:
        """No room on the database's disk; then there is room again."""
        self.disk.fill(self.site.process.pid)
        await asyncio.sleep(self.dice.uniform(1, 4))
        await asyncio.to_thread(self.heal)

    def heal(self) -> None:
        """Everything runs again, and nobody touches it."""
        self.disk.free()
        if self.server is not None:
            self.server.start()  # a full disk may have ended it


def say(what: str) -> None:
    sys.stderr.write(f"{what}\n")
    sys.stderr.flush()
