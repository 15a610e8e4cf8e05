"""The proof is proved: in a log that was changed by one row, the audit finds what was done to it."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from bench.audit import audit
from bench.chaos import load
from bench.reporter import Reporter, Told
from bench.stage import seed, start_server

Truth = tuple[Path, list[Told]]

EVENTS = "sessions_app_sessionevent"
# Copied without its constraints: what a defect could do to the log must not be refused here.
LOOSE = f"""
    CREATE TABLE loose AS SELECT * FROM {EVENTS};
    DROP TABLE {EVENTS};
    ALTER TABLE loose RENAME TO {EVENTS};
"""  # noqa: S608


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """A log as the real server wrote it for two pages that nobody disturbed, and what they told."""
    folder = tmp_path_factory.mktemp("audit")
    site = start_server(folder)
    try:
        began = time.monotonic()
        visitor = seed(site, 2)
        pages = [
            Reporter(site.url, session, visitor.cookie, dice=random.Random(number), per_s=30, began=began)  # noqa: S311
            for number, session in enumerate(visitor.sessions)
        ]

        async def enough() -> None:
            while any(page.told.acked < 100 or len(page.told.outputs) < 3 for page in pages):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

        asyncio.run(load(pages, enough))
    finally:
        site.stop()
    return folder / "db.sqlite3", [page.told for page in pages]


@pytest.fixture
def log(truth: Truth, tmp_path: Path) -> Path:
    copy = tmp_path / "db.sqlite3"
    # Not the file alone: what was committed last may still be in the write-ahead log beside it.
    with closing(sqlite3.connect(truth[0])) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def kinds(log: Path, pages: list[Told], change: str = "") -> set[str]:
    with closing(sqlite3.connect(log)) as database:
        database.executescript(LOOSE + change)
    return {fault.kind for fault in audit(log, pages).faults}


def test_log_that_nobody_touched_has_no_fault(log: Path, truth: Truth) -> None:
    found = audit(log, truth[1])
    assert found.faults == []
    assert found.stored == sum(len(page.sent) for page in truth[1])
    assert 0 < found.rejected < found.stored
    assert kinds(log, truth[1]) == set()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("DELETE FROM {events} WHERE {session} AND seq = 5", {"acked_but_missing", "gaps"}),
        ("DELETE FROM {events} WHERE {session} AND seq = {last}", {"acked_but_missing"}),
        ("DELETE FROM {events} WHERE {session}", {"acked_but_missing"}),
        ("INSERT INTO {events} SELECT * FROM {events} WHERE {session} AND seq = 5", {"duplicates"}),
        (
            "UPDATE {events} SET seq = {plain} + {other} - seq WHERE {session} AND seq IN ({plain}, {other})",
            {"out_of_order"},
        ),
        ("UPDATE {events} SET at_ms = at_ms + 1 WHERE {session} AND seq = {plain}", {"wrong_content"}),
        ("UPDATE {events} SET type = 'connected' WHERE {session} AND seq = {plain}", {"wrong_content"}),
        ("UPDATE {events} SET sent_at = '2020-01-01' WHERE {session} AND seq = {plain}", {"wrong_content"}),
        (
            "UPDATE {events} SET data = json_set(data, '$.text', 'other') WHERE {session} AND seq = {plain}",
            {"wrong_content"},
        ),
        (
            "UPDATE {events} SET data = json_set(data, '$.code', 'other') "
            "WHERE {session} AND seq = (SELECT min(seq) FROM {events} WHERE {session} AND type = 'rejected')",
            {"wrong_content"},
        ),
        (
            "UPDATE {events} SET seq = {last} + 1 WHERE {session} AND seq = {last}",
            {"acked_but_missing", "gaps", "never_sent"},
        ),
        ("UPDATE {events} SET source = 'server' WHERE {session} AND seq = {last}", {"acked_but_missing"}),
        (
            "UPDATE {events} SET session_id = '{stranger}' WHERE {session} AND seq = {last}",
            {"acked_but_missing", "never_sent"},
        ),
        ("UPDATE sessions_app_toolrun SET output = '{{}}' WHERE {session}", {"wrong_tool_answers"}),
        ("DELETE FROM sessions_app_toolrun WHERE {session}", {"wrong_tool_answers"}),
    ],
)
def test_log_that_was_changed_by_one_row(log: Path, truth: Truth, change: str, expected: set[str]) -> None:
    page = truth[1][0]
    plain, other, *_ = (n for n, told in enumerate(page.sent, 1) if told.startswith('["response_text"'))
    words = change.format(
        events=EVENTS,
        session=f"session_id = '{page.session.replace('-', '')}'",
        last=len(page.sent),
        plain=plain,
        other=other,
        stranger="0" * 32,
    )
    assert kinds(log, truth[1], words) == expected


def test_page_that_was_told_something_wrong(log: Path, truth: Truth) -> None:
    told = truth[1][0]
    more = Told(told.session, [*told.sent, "one more"], told.acked, told.nacks, told.outputs)
    assert kinds(log, [more, truth[1][1]]) == {"unacknowledged"}
    more.acked += 1
    assert kinds(log, [more, truth[1][1]]) == {"acked_but_missing"}
    refused = Told(told.session, told.sent, told.acked, {**told.nacks, 1: "bad_type"}, told.outputs)
    assert kinds(log, [refused, truth[1][1]]) == {"wrong_words"}
    assert kinds(log, [told]) == {"never_sent"}
