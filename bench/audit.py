"""Compares a database with what its pages told: each acknowledged event once, as told, at its place."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from bench.reporter import Told, line

FAULTS = (
    "acked_but_missing",
    "duplicates",
    "gaps",
    "wrong_content",
    "out_of_order",
    "never_sent",
    "unacknowledged",
    "wrong_tool_answers",
    "wrong_words",
    "stalls",
)
"""What is counted, and must be 0."""

EVENTS = (
    "SELECT session_id, source, seq, type, at_ms, data, sent_at FROM sessions_app_sessionevent "
    "ORDER BY session_id, source, seq"
)
RUNS = "SELECT session_id, tool_call_id, output FROM sessions_app_toolrun"
BOOKINGS = "SELECT session_id, tool_call_id FROM sessions_app_booking"


class Fault(NamedTuple):
    kind: str
    what: str


@dataclass
class Audit:
    stored: int = 0
    """Lines of the log that pages have reported, the rejected ones among them."""
    rejected: int = 0
    faults: list[Fault] = field(default_factory=list)


def audit(database: str | Path, pages: Iterable[Told]) -> Audit:
    """Every difference between a database (a SQLite file, or PostgreSQL's URL) and what its pages told.

    The load must have ended: an event that is not acknowledged is a fault of its own.
    """
    result = Audit()
    log: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for session, source, seq, kind, at_ms, data, sent_at in rows(database, EVENTS):
        if source == "browser":
            log[key(session)].append((seq, line(kind, at_ms, decoded(data), moment(sent_at))))
            result.stored += 1
            result.rejected += kind == "rejected"
    runs = {(key(session), call): output for session, call, output in rows(database, RUNS)}
    bookings = Counter((key(session), call) for session, call in rows(database, BOOKINGS))
    known = set()
    for page in pages:
        session = key(page.session)
        known.add(session)
        result.faults += compare(page, log.get(session, []))
        result.faults += compare_tools(page, session, runs, bookings)
    strangers = sorted(set(log) - known)
    result.faults += [Fault("never_sent", f"session {session}, which is nobody's") for session in strangers]
    return result


def compare(page: Told, stored: list[tuple[int, str]]) -> Iterator[Fault]:
    """One session's log, in the order of its numbers, with its page's word."""
    where = f"session {page.session}:"
    yield from (Fault("wrong_words", f"{where} {wrong}") for wrong in page.wrong)
    if page.acked < len(page.sent):
        yield Fault("unacknowledged", f"{where} {page.acked + 1} to {len(page.sent)}")
    numbers = Counter(seq for seq, _ in stored)
    for seq, times in numbers.items():
        if times > 1:
            yield Fault("duplicates", f"{where} {seq} is there {times} times")
    for seq in range(1, page.acked + 1):
        if seq not in numbers:
            yield Fault("acked_but_missing", f"{where} {seq} of {page.acked} acknowledged")
    last = 0
    for seq in sorted(numbers):
        if seq != last + 1:
            yield Fault("gaps", f"{where} {last} is followed by {seq}")
        last = seq
    places: dict[str, list[int]] = defaultdict(list)
    for number, told in enumerate(page.sent, 1):
        places[told].append(number)
    for seq, found in stored:
        if not 1 <= seq <= len(page.sent):
            yield Fault("never_sent", f"{where} {seq}: {found:.200}")
        elif found != page.sent[seq - 1]:
            kind = "out_of_order" if found in places else "wrong_content"
            yield Fault(kind, f"{where} {seq} is {found:.200}, told was {page.sent[seq - 1]:.200}")
    for seq, code in page.nacks.items():
        if not page.sent[seq - 1].startswith(f'["rejected", "{code}"'):
            yield Fault("wrong_words", f"{where} {seq} was refused ({code}): {page.sent[seq - 1]:.200}")


def compare_tools(
    page: Told, session: str, runs: dict[tuple[str, str], str], bookings: Counter[tuple[str, str]]
) -> Iterator[Fault]:
    """What the page was told of its tool calls, with what was done."""
    for call, output in page.outputs.items():
        booked = bookings[session, call]
        where = f"session {page.session}, tool call {call}: told was {output}"
        if runs.get((session, call)) != output:
            yield Fault("wrong_tool_answers", f"{where}, kept is {runs.get((session, call))}")
        if booked != ("reference" in json.loads(output)):
            yield Fault("wrong_tool_answers", f"{where}, and there are {booked} bookings")


def rows(database: str | Path, query: str) -> list[tuple[Any, ...]]:
    if isinstance(database, Path):
        with closing(sqlite3.connect(database)) as sqlite:
            return sqlite.execute(query).fetchall()
    with psycopg.connect(database) as postgresql:
        return postgresql.execute(query.encode()).fetchall()


def key(session: Any) -> str:
    return UUID(str(session)).hex


def decoded(data: Any) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(data) if isinstance(data, str) else data
    return value


def moment(value: Any) -> datetime | None:
    """SQLite keeps texts, in UTC without saying so."""
    if isinstance(value, str):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return value if isinstance(value, datetime) else None
