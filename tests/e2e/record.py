"""The log of a call, read from the database itself: what is in it, not what a page shows of it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import httpx
from playwright.sync_api import Page

from tests.e2e.caller import Caller
from tests.e2e.servers import Sandbox, Site

ENDS = ("hang_up", "session_ended", "disconnected", "call_failed")


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


def texts(rows: Iterable[Row], role: str) -> list[str]:
    """What "caller" or "agent" said in these rows, as far as a word of it was heard."""
    kind, key = {"caller": ("input_audio_transcript", "transcript"), "agent": ("response_text", "text")}[role]
    found = [row.data[key].strip() for row in rows if row.type == kind]
    return [text for text in found if text]


def expect_whole(caller: Caller, site: Site) -> list[Row]:
    """Wait for the end of a call that the caller has hung up: its log has everything that the page showed.

    Each once, in the page's order, under the numbers 1, 2, 3 …; and the page keeps nothing back.
    Returns the browser's rows.
    """
    session = caller.session
    wait_until(caller.page, lambda: session_state(site, session) == ("ended", "hang_up"), "the end is logged")
    logged = browser_rows(site, session)
    assert [row.seq for row in logged] == list(range(1, len(logged) + 1))
    assert [row.type for row in logged if row.type in ENDS] == ["hang_up"]
    assert logged[-1].type == "hang_up"
    for role in ("caller", "agent"):
        assert texts(logged, role) == caller.turn_texts(role)
    wait_until(caller.page, lambda: unsent(caller.page) == [], "all is acknowledged")
    return logged


def unsent(page: Page) -> list[str]:
    """The keys of the frames that a page keeps, as nobody has said that they are stored."""
    keys: list[str] = page.evaluate("() => Object.keys(sessionStorage)")
    return [key for key in keys if ".unsent." in key]


def proof(site: Site, session: str) -> tuple[str, int, int]:
    """(proof, recovered, differing)"""
    with closing(sqlite3.connect(site.env["DATABASE_PATH"])) as database:
        found = database.execute(
            "SELECT proof, recovered, differing FROM sessions_app_voicesession WHERE id = ?",
            [session.replace("-", "")],
        ).fetchone()
    return (found[0], found[1], found[2])


def prove(page: Page, site: Site, session: str) -> tuple[str, int, int]:
    """Sweep until an ended call has been compared with the platform's record. Returns what came of it."""

    def is_proved() -> bool:
        site.manage("sweep")
        return proof(site, session)[0] != ""

    wait_until(page, is_proved, "the call is compared with the platform's record")
    return proof(site, session)


def recorded(sandbox: Sandbox, logged: Iterable[Row]) -> list[dict[str, Any]]:
    """The entries of the platform's own record of the call that a page has reported so."""
    call = next(row.data["id"] for row in logged if row.type == "session_started")
    key = {"Authorization": f"Bearer {sandbox.api_key}"}
    answer = httpx.get(f"{sandbox.base_url}/v1/calls/{call}", headers=key).raise_for_status()
    entries: list[dict[str, Any]] = answer.json()["transcript"]["entries"]
    return entries


def wait_until(page: Page, condition: Callable[[], bool], what: str, timeout_ms: int = 30_000) -> None:
    """Poll `condition` while the browser goes on (Playwright's events are handled between two looks)."""
    for _ in range(timeout_ms // 100):
        if condition():
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"not within {timeout_ms / 1000:.0f} s: {what}")
