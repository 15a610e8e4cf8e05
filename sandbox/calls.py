"""The platform's own record of each call, in one SQLite file."""

import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

EntryType = Literal["message", "tool_call", "tool_call_output", "interruption"]
Role = Literal["user", "assistant", "tool"]
OpenStatus = Literal["connected", "started", "in_progress"]
CallRecord = dict[str, Any]
# `list` is a method of the store, so the built-in type needs another name inside the class.
CallRecords = list[CallRecord]

# The agent gives up on a caller after 30 s. A call still waiting at twice that has lost its agent
# (the dispatch died with the media server), and nobody else would ever give its line back.
JOIN_LIMIT_S = 60.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    agent_id TEXT NOT NULL,
    room TEXT NOT NULL,
    identity TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at REAL NOT NULL,
    started_at REAL,
    ended_at REAL,
    reason TEXT
);
CREATE TABLE IF NOT EXISTS entries (
    call_id TEXT NOT NULL REFERENCES calls (id),
    number INTEGER NOT NULL,
    role TEXT NOT NULL,
    type TEXT NOT NULL,
    message TEXT NOT NULL,
    turn_id TEXT,
    created_at REAL NOT NULL,
    duration_ms INTEGER,
    tool_call TEXT,
    tool_call_output TEXT,
    PRIMARY KEY (call_id, number)
);
"""


class CallStore:
    """Every call and its transcript. Safe to use from any thread: one connection behind one lock."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Open or create the file. Calls that a dead process left open end as `sandbox_stopped`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.executescript(_SCHEMA)
        # It ended at its last sign of life: the process may have died days ago.
        self._db.execute(
            """
            UPDATE calls SET status = 'ended', reason = 'sandbox_stopped', ended_at = max(
                coalesce(started_at, created_at),
                coalesce((SELECT max(created_at + coalesce(duration_ms, 0) / 1000.0)
                          FROM entries WHERE call_id = calls.id), 0))
            WHERE ended_at IS NULL
            """
        )

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def open_call(self, agent_id: str, room: str, identity: str, limit: int) -> str | None:
        """Take a line for a new call and return the call's id; None when `limit` calls are open.

        `{call_id}` in `room` is replaced by the new id, so that a room can bear its call's name.
        """
        call_id = str(uuid.uuid4())
        with self._lock:
            self._expire()
            taken = self._db.execute("SELECT count(*) FROM calls WHERE ended_at IS NULL").fetchone()[0]
            if taken >= limit:
                return None
            self._db.execute(
                "INSERT INTO calls (id, agent_id, room, identity, status, created_at)"
                " VALUES (?, ?, ?, ?, 'connected', ?)",
                (call_id, agent_id, room.replace("{call_id}", call_id), identity, self._clock()),
            )
        return call_id

    def set_status(self, call_id: str, status: OpenStatus) -> float | None:
        """Move an open call on; its clock runs from the first status after `connected`. No effect once ended.

        Returns when the clock began (Unix time), if it has. Raises KeyError for an unknown call.
        """
        with self._lock:
            self._row(call_id)
            self._db.execute(
                "UPDATE calls SET status = :status, started_at = CASE WHEN :status = 'connected'"
                " THEN started_at ELSE coalesce(started_at, :now) END WHERE id = :id AND ended_at IS NULL",
                {"id": call_id, "status": status, "now": self._clock()},
            )
            started_at: float | None = self._row(call_id)["started_at"]
        return started_at

    def add_entry(
        self,
        call_id: str,
        *,
        role: Role,
        message: str = "",
        type: EntryType = "message",  # noqa: A002 - the wire's name
        turn_id: str | None = None,
        started_at: float | None = None,
        duration_ms: int | None = None,
        tool_call: Mapping[str, Any] | None = None,
        tool_call_output: str | None = None,
    ) -> None:
        """Append to the transcript; allowed after the end too (a last turn is often written late).

        `started_at` is in Unix seconds (default: now). `tool_call` has the wire's keys: a `tool_call` entry
        gives `{"callId", "toolName", "arguments"}` (`arguments` a dict or a JSON string), its
        `tool_call_output` entry at least `{"callId"}`; output and times then show with the tool call too.
        Raises KeyError for an unknown call.
        """
        if tool_call is not None and not isinstance(tool_call.get("arguments", ""), str):
            tool_call = {**tool_call, "arguments": json.dumps(tool_call["arguments"])}
        with self._lock:
            self._row(call_id)
            self._db.execute(
                "INSERT INTO entries (call_id, number, role, type, message, turn_id, created_at, duration_ms,"
                " tool_call, tool_call_output) SELECT :call_id, count(*), :role, :type, :message, :turn_id,"
                " :created_at, :duration_ms, :tool_call, :output FROM entries WHERE call_id = :call_id",
                {
                    "call_id": call_id,
                    "role": role,
                    "type": type,
                    "message": message,
                    "turn_id": turn_id,
                    "created_at": self._clock() if started_at is None else started_at,
                    "duration_ms": duration_ms,
                    "tool_call": None if tool_call is None else json.dumps(dict(tool_call)),
                    "output": tool_call_output,
                },
            )

    def end_call(self, call_id: str, reason: str) -> None:
        """Give the line back. The first reason wins. Raises KeyError for an unknown call."""
        with self._lock:
            self._row(call_id)
            self._db.execute(
                "UPDATE calls SET status = 'ended', ended_at = ?, reason = ?"
                " WHERE id = ? AND ended_at IS NULL",
                (self._clock(), reason, call_id),
            )

    def get(self, call_id: str) -> CallRecord | None:
        """The call with its transcript, as the API shows it; None when there is no such call."""
        with self._lock:
            self._expire()
            try:
                call = self._row(call_id)
            except KeyError:
                return None
            rows = self._db.execute(
                "SELECT * FROM entries WHERE call_id = ? ORDER BY number", (call_id,)
            ).fetchall()
        return {**_call(call), "transcript": {"entries": _entries(rows)}}

    def list(self, limit: int = 50, before: str | None = None) -> CallRecords:
        """Calls without their transcripts, newest first; `before` is the id of the last call already seen.

        Raises KeyError when `before` is not a call.
        """
        with self._lock:
            self._expire()
            number = None if before is None else self._row(before)["number"]
            rows = self._db.execute(
                "SELECT * FROM calls WHERE :before IS NULL OR number < :before"
                " ORDER BY number DESC LIMIT :limit",
                {"before": number, "limit": limit},
            ).fetchall()
        return [_call(row) for row in rows]

    def _row(self, call_id: str) -> sqlite3.Row:
        row: sqlite3.Row | None = self._db.execute("SELECT * FROM calls WHERE id = ?", (call_id,)).fetchone()
        if row is None:
            raise KeyError(call_id)
        return row

    def _expire(self) -> None:
        now = self._clock()
        self._db.execute(
            "UPDATE calls SET status = 'ended', reason = 'nobody_joined', ended_at = ?"
            " WHERE status = 'connected' AND created_at < ?",
            (now, now - JOIN_LIMIT_S),
        )


def _iso(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _call(row: sqlite3.Row) -> CallRecord:
    lasted = row["ended_at"] - row["started_at"] if row["ended_at"] and row["started_at"] else None
    return {
        "id": row["id"],
        "agent_id": row["agent_id"],
        "room": row["room"],
        "identity": row["identity"],
        "status": row["status"],
        "created_at": _iso(row["created_at"]),
        "started_at": _iso(row["started_at"]),
        "ended_at": _iso(row["ended_at"]),
        "duration_seconds": None if lasted is None else round(lasted, 3),
        "termination_reason": row["reason"],
        "summary": None,
        "cost": None,
        "tags": [],
    }


def _entries(rows: list[sqlite3.Row]) -> CallRecords:
    calls = [None if row["tool_call"] is None else json.loads(row["tool_call"]) for row in rows]
    outputs = {
        call["callId"]: row
        for row, call in zip(rows, calls, strict=True)
        if row["type"] == "tool_call_output" and call is not None
    }
    entries = []
    for row, call in zip(rows, calls, strict=True):
        if row["type"] == "tool_call" and call is not None:
            output = outputs.get(call["callId"])
            call = {
                "callId": call["callId"],
                "toolName": call["toolName"],
                "arguments": call.get("arguments", "{}"),
                "output": output and output["tool_call_output"],
                "startedAt": _iso(row["created_at"]),
                "endedAt": output and _iso(output["created_at"]),
            }
        entries.append(
            {
                "index": row["number"],
                "role": row["role"],
                "message": row["message"],
                "type": row["type"],
                "toolCall": call,
                "toolCallOutput": row["tool_call_output"],
                "createdAt": _iso(row["created_at"]),
                "durationMs": row["duration_ms"],
                "turnId": row["turn_id"],
            }
        )
    return entries
