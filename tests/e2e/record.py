"""The log of a call, read from the database itself: what is in it, not what a page shows of it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Page

from tests.e2e.servers import Site


@dataclass(frozen=True)
class Row:
    source: str
    seq: int
    type: str
    at_ms: int
    data: dict[str, Any]


def rows(site: Site, session: str) -> list[Row]:
    """Every row of one session, by source and number."""
    with closing(sqlite3.connect(site.env["DATABASE_PATH"])) as database:
        found = database.execute(
            "SELECT source, seq, type, at_ms, data FROM sessions_app_sessionevent WHERE session_id = ?"
            " ORDER BY source, seq",
            [session.replace("-", "")],
        ).fetchall()
    return [Row(source, seq, kind, at, json.loads(data)) for source, seq, kind, at, data in found]


def browser_rows(site: Site, session: str) -> list[Row]:
    return [row for row in rows(site, session) if row.source == "browser"]


def session_state(site: Site, session: str) -> tuple[str, str]:
    """(state, end_reason)"""
    with closing(sqlite3.connect(site.env["DATABASE_PATH"])) as database:
        found = database.execute(
            "SELECT state, end_reason FROM sessions_app_voicesession WHERE id = ?", [session.replace("-", "")]
        ).fetchone()
    return (found[0], found[1])


def wait_until(page: Page, condition: Callable[[], bool], what: str, timeout_ms: int = 30_000) -> None:
    """Poll `condition` while the browser goes on (Playwright's events are handled between two looks)."""
    for _ in range(timeout_ms // 100):
        if condition():
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"not within {timeout_ms / 1000:.0f} s: {what}")
