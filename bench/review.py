"""Staff's pages with many calls: lists, filters, search, the overview and a transcript of 500 turns.

`…_p95_ms`   95 of 100 requests are answered within: from the request to the last byte of the answer, as the
             real server's only visitor has it, over a connection that is open. The worse of the two databases
`growth.…`   the same, divided by what it is with 1,000 calls of 20,000 lines
`sqlite.…`, `postgresql.…`  the same of each database

The calls come from `manage.py seed_calls`, the same for both databases. No two requests of a page are alike,
but for the transcript's and some of the overview's. Before each overview a call of today has changed, so that
a part of the day is added up anew, as on a site where people call. PostgreSQL is vacuumed and analysed after
the seeding, as it does of itself within minutes; SQLite, which does nothing of itself, is left as it is.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import psycopg

from bench.figures import Figure
from bench.relay import STAFF, say
from bench.stage import server_environment, start_server
from tests import postgres
from tests.e2e.servers import Site, collect_static

REQUESTS = 80
"""Of each kind of page."""

TURNS = 500
FEW_SESSIONS, FEW_EVENTS = 1000, 20_000
GOAL_MS, GOAL_GROWTH = 300, 1.5

CALLS = "/admin/sessions_app/voicesession/"

PAGES = ("list", "filter", "search", "overview", "transcript")
GROWING = ("list", "filter", "transcript")

Facts = dict[str, Any]

FACTS = """
import json, random
from collections import Counter
from django.contrib.auth.models import User
from sessions_app.listing import Place
from sessions_app.models import Label, SessionEvent, VoiceSession

chance = random.Random(1)
calls = VoiceSession.objects.order_by("created_at", "pk")
number = calls.count()
places = [str(Place.of(calls[chance.randrange(number)])) for _ in range(80)]
texts = [event.text for event in SessionEvent.objects.filter(type="response_text").order_by("-pk")[:5000]]
words = Counter(word.strip(".?!").lower() for text in texts for word in text.split())
print(json.dumps({
    "places": places,
    "texts": chance.sample([text for text in texts if len(text.split()) > 6], 40),
    "words": [word for word, _ in words.most_common()],
    "agents": sorted({str(agent) for agent in calls[number - 500:].values_list("agent_id", flat=True)}),
    "labels": list(Label.objects.values_list("name", flat=True)),
    "reviewers": list(User.objects.filter(username__contains=".seeded").values_list("username", flat=True)),
    "days": sorted({str(call.created_at.date()) for call in calls[:: max(1, number // 400)]}),
    "longest": str(VoiceSession.objects.order_by("-turns").first().pk),
}))
"""


@dataclass
class Measured:
    """One site with its calls, and how long its pages took."""

    site: Site
    change_today: Callable[[], None]
    """A call of today has changed: its day is no longer added up."""
    facts: Facts = field(default_factory=dict)
    times_ms: dict[str, list[float]] = field(default_factory=dict)


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """Raises SystemExit when a page answers with an error."""
    sizes = {"few": (FEW_SESSIONS, FEW_EVENTS), "many": (arguments.sessions, arguments.events)}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        # Before the servers: they list these files when they start.
        collect_static(server_environment(folder))
        server = None
        if postgres.find() is None:
            say("no PostgreSQL on this machine: SQLite only")
        else:
            server = stack.enter_context(postgres.start(folder / "postgresql"))
        sites: dict[tuple[str, str], Measured] = {}
        for size in sizes:
            sites["sqlite", size] = of_sqlite(folder / size)
            if server is not None:
                sites["postgresql", size] = of_postgresql(folder / f"{size}_site", server.url(size))
        for measured in sites.values():
            stack.callback(measured.site.stop)
        say(f"seeding {arguments.sessions:,} calls with {arguments.events:,} lines: minutes")
        with ThreadPoolExecutor(2) as pool:
            seeded = [pool.submit(fill, measured, *sizes[size]) for (_, size), measured in sites.items()]
            for one in seeded:
                one.result()
        if server is not None:
            for size in sizes:
                with psycopg.connect(server.url(size), autocommit=True) as connection:
                    connection.execute("VACUUM ANALYZE")
        for database in dict.fromkeys(database for database, _ in sites):
            say(database)
            look(sites[database, "few"], sites[database, "many"])
    return figures({name: measured.times_ms for name, measured in sites.items()})


def of_sqlite(folder: Path) -> Measured:
    site = start_server(folder)

    def change_today() -> None:
        with closing(sqlite3.connect(site.env["DATABASE_PATH"], timeout=30)) as connection, connection:
            connection.execute(STALE)

    return Measured(site, change_today)


def of_postgresql(folder: Path, url: str) -> Measured:
    def change_today() -> None:
        with psycopg.connect(url) as connection:
            connection.execute(STALE)

    return Measured(start_server(folder, DATABASE_URL=url), change_today)


STALE = """UPDATE sessions_app_day SET is_stale = true
    WHERE id = (SELECT id FROM sessions_app_day ORDER BY day DESC, agent_id LIMIT 1)"""


def fill(measured: Measured, sessions: int, events: int) -> None:
    words = ["--sessions", str(sessions), "--events", str(events), "--turns-of-longest", str(TURNS)]
    measured.site.manage("seed_calls", *words)


def look(few: Measured, many: Measured) -> None:
    """Asks for all pages, as staff do; the two sites take turns, as the machine may be busier at times."""
    sites = (few, many)
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(visit(one))) for one in sites]
        for page in PAGES:
            paths = [paths_of(page, one.facts) for one in sites]
            times: list[list[tuple[float, str]]] = [[], []]
            for number in range(-1, REQUESTS):  # the first of each is not counted
                for one, client, some, taken in zip(sites, clients, paths, times, strict=True):
                    if page == "overview":
                        one.change_today()
                    taken.append((get(client, some[number])[0], some[number]))
            for one, taken in zip(sites, times, strict=True):
                one.times_ms[page] = [ms for ms, _ in taken[1:]]
            (few_p95, many_p95), (slowest_ms, path) = (
                (p95(one.times_ms[page]) for one in sites),
                max(times[1]),
            )
            say(f"  {page}: p95 {few_p95:.0f} and {many_p95:.0f} ms, slowest {slowest_ms:.0f} ms: {path}")


def visit(measured: Measured) -> httpx.Client:
    """Staff's browser, once everything is there that a site which is in use has already."""
    site = measured.site
    cookie = site.manage("shell", "--verbosity", "0", "--command", STAFF).strip()
    measured.facts = json.loads(site.manage("shell", "--verbosity", "0", "--command", FACTS))
    client = httpx.Client(base_url=site.url, headers={"Cookie": cookie}, timeout=120)
    # Days that were never looked at are added up once, some at each visit.
    while "not added up yet" in get(client, f"{CALLS}overview/?span=90")[1]:
        pass
    return client


def paths_of(page: str, facts: Facts) -> list[str]:
    chance = random.Random(1)  # noqa: S311  no secrets in here
    return [path for path, _ in zip(ADDRESSES[page](facts, chance), range(REQUESTS), strict=False)]


def get(client: httpx.Client, path: str) -> tuple[float, str]:
    """Milliseconds, and the page. Raises SystemExit for any other answer than a page."""
    begun = time.perf_counter()
    answer = client.get(path)
    ms = 1000 * (time.perf_counter() - begun)
    if answer.status_code != 200 or "/login/" in str(answer.url):
        sys.exit(f"{path}: {answer.status_code}\n{re.sub('<[^>]+>', '', answer.text)[:500]}")
    return ms, answer.text


def lists(facts: Facts, chance: random.Random) -> Iterable[str]:
    """The first page, and pages anywhere, in both directions."""
    yield CALLS
    for place in facts["places"]:
        yield f"{CALLS}?{chance.choice(['before', 'before', 'after'])}={place}"


def filters(facts: Facts, chance: random.Random) -> Iterable[str]:
    """Common and rare ones, alone and together, also those that nothing matches."""
    one = {
        "agent": facts["agents"],
        "state": ["ended", "created"],
        "end": ["hang_up", "agent_ended", "disconnected", "failed", "abandoned", "not_started"],
        "proof": ["complete", "recovered", "differs", "unverified", "waiting", "nothing"],
        "label": facts["labels"],
        "reviewer": facts["reviewers"],
        "has": ["tool_error", "interruption", "incident", "slow_reply", "note", "flag", "unreviewed"],
        "longer": ["60", "600", "3000"],
        "shorter": ["5", "20"],
        "from": facts["days"],
        "to": facts["days"],
    }
    for name, values in one.items():
        for value in values[:7]:
            yield address(**{name: value})
    while True:
        names = chance.sample(list(one), chance.randint(2, 4))
        yield address(**{name: chance.choice(one[name]) for name in names})


def searches(facts: Facts, chance: random.Random) -> Iterable[str]:
    """Words that everybody says and words that hardly anybody does, beginnings, phrases, within filters."""
    words, texts = facts["words"], facts["texts"]
    common, rare = words[:30], words[-2000:]
    while True:
        text = chance.choice(texts).split()
        place = chance.randrange(len(text) - 4)
        phrase = " ".join(text[place : place + 3])
        yield address(q=chance.choice(common))
        yield address(q=chance.choice(rare))
        yield address(q=f"{chance.choice(common)} {chance.choice(common)}")
        yield address(q=f"{chance.choice(rare)} {chance.choice(common)}")
        yield address(q=f'"{phrase}"')
        yield address(q=f"{chance.choice(common)} {chance.choice('abcdefghlmnoprst')}")
        yield address(q=chance.choice(words)[:3])
        yield address(q=chance.choice(rare), agent=chance.choice(facts["agents"]))
        yield address(q=chance.choice(common), has=chance.choice(["flag", "tool_error", "note"]))
        yield address(q=f'"{phrase}"', label=chance.choice(facts["labels"]))
        yield address(q="nobodysaidthis")


def overviews(facts: Facts, chance: random.Random) -> Iterable[str]:
    while True:
        for span in (30, 90):
            yield f"{CALLS}overview/?span={span}"
            yield f"{CALLS}overview/?span={span}&agent={chance.choice(facts['agents'])}"


def transcripts(facts: Facts, chance: random.Random) -> Iterable[str]:
    while True:
        yield f"{CALLS}{facts['longest']}/change/"


def address(**parameters: str) -> str:
    return f"{CALLS}?{urlencode(parameters)}"


ADDRESSES: dict[str, Callable[[Facts, random.Random], Iterable[str]]] = {
    "list": lists,
    "filter": filters,
    "search": searches,
    "overview": overviews,
    "transcript": transcripts,
}


def p95(times_ms: list[float]) -> float:
    """95 of 100 are no longer than this."""
    return sorted(times_ms)[math.ceil(0.95 * len(times_ms)) - 1]


def figures(times_ms: dict[tuple[str, str], dict[str, list[float]]]) -> list[Figure]:
    """`times_ms`: of each database, with "few" calls and with "many", the times of each page."""
    shown: dict[str, list[Figure]] = {}
    for database in dict.fromkeys(database for database, _ in times_ms):
        few, many = times_ms[database, "few"], times_ms[database, "many"]
        shown[database] = [
            *(Figure(f"{page}_p95_ms", round(p95(many[page]), 1), "ms", GOAL_MS) for page in PAGES),
            *(
                Figure(f"growth.{page}", round(p95(many[page]) / p95(few[page]), 2), "x", GOAL_GROWTH)
                for page in GROWING
            ),
        ]
    worst = [max(same, key=lambda figure: figure.value) for same in zip(*shown.values(), strict=True)]
    named = [
        replace(figure, name=f"{database}.{figure.name}")
        for database, of_one in shown.items()
        for figure in of_one
    ]
    return [*worst, *named]
