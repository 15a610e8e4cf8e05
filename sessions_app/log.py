"""The log of what was said: what is committed here is acknowledged, and nothing else is.

`commit` is for the writer, which gathers the frames of all sockets; `record` for everything else (a view, a
command): one session's frames, at once.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import connection, transaction
from django.utils import timezone

from sessions_app.events import Frame
from sessions_app.models import SessionEvent, VoiceSession
from sessions_app.redaction import is_on, redact, redact_growing

BROWSER = SessionEvent.Source.BROWSER
SERVER = SessionEvent.Source.SERVER

MAX_LINES = 20_000
"""Of one source in one call. An hour of talk has about two thousand; a page with a defect never stops."""

OPEN_AFTER_END = timedelta(hours=24)
"""A page may come back with what it could not send; later than this, the log of an ended call is closed."""

STATE_CHANGES = {
    "connected",
    "session_started",
    "session_ended",
    "hang_up",
    "disconnected",
    "call_failed",
}
"""A browser's events that mean something for the session itself; see `_apply`."""


class SequenceGapError(Exception):
    """Frames are missing before this one; `ack` is the last number in the log."""

    def __init__(self, ack: int) -> None:
        super().__init__(f"the log holds everything up to {ack}, and not the frame after it")
        self.ack = ack


class LogFullError(Exception):
    """The log of this call takes no more lines."""


class LogClosedError(Exception):
    """The call ended long ago."""


def commit(lines: Sequence[tuple[UUID, Frame]], seen: Collection[UUID]) -> None:
    """Stores frames of any sessions' browsers, each with its `at_ms`, in one transaction.

    `seen`: sessions whose page was heard of. That the numbers have no gap is the caller's affair.
    """
    now = timezone.now()
    with transaction.atomic():
        # The sessions' rows before their lines, as `record` does, else the two could wait for each other:
        # a page that leaves posts what its socket has just brought.
        if seen:
            VoiceSession.objects.filter(pk__in=seen).touch(now)
        for session_id, frame in lines:
            if frame.type in STATE_CHANGES:
                _apply(VoiceSession.objects.get(pk=session_id), frame, BROWSER)
        _insert(lines, BROWSER, now)


def record(session_id: UUID, frames: Sequence[Frame], *, source: str = BROWSER) -> int:
    """Appends a batch of one source's frames, with what they mean for the session, in one transaction.

    A frame that the log has already is passed over. Returns the source's last number. Raises SequenceGapError
    and LogFullError (what came before is then stored), LogClosedError, and VoiceSession.DoesNotExist.
    """
    now = timezone.now()
    stored: list[Frame] = []
    trouble: Exception | None = None
    with transaction.atomic():
        # no_key: the writer's foreign keys, which PostgreSQL looks at when it commits, do not wait for this.
        session = VoiceSession.objects.select_for_update(no_key=True).get(pk=session_id)
        if is_closed(session, now) and source == BROWSER:
            raise LogClosedError
        ack, at_ms = last_line(session_id, source)
        for frame in frames:
            if frame.seq <= ack:
                continue
            if frame.seq > ack + 1:
                trouble = SequenceGapError(ack)
                break
            if frame.seq > MAX_LINES:
                trouble = LogFullError(f"the log of a call has at most {MAX_LINES} lines")
                break
            ack = frame.seq
            at_ms = at_ms if frame.at_ms is None else frame.at_ms
            stored.append(replace(frame, at_ms=at_ms))
        if stored:
            _insert([(session_id, frame) for frame in stored], source, now)
            for frame in stored:
                _apply(session, frame, source)
            if source == BROWSER:
                VoiceSession.objects.filter(pk=session_id).touch(now)
            # robust: a failing doorbell is logged and costs nobody the row; readers find it later.
            transaction.on_commit(lambda: async_to_sync(ring)(session_id), robust=True)
    if trouble is not None:
        raise trouble
    return ack


def is_closed(session: VoiceSession, now: datetime) -> bool:
    """Whether the call ended so long ago that its page can report nothing more."""
    return session.ended_at is not None and now - session.ended_at > OPEN_AFTER_END


def last_line(session_id: UUID, source: str) -> tuple[int, int]:
    """(seq, at_ms) of a source's last line; zeros if it has none."""
    lines = SessionEvent.objects.filter(session_id=session_id, source=source).order_by("-seq")
    return lines.values_list("seq", "at_ms").first() or (0, 0)


def last_seq(session_id: UUID, source: str = BROWSER) -> int:
    return last_line(session_id, source)[0]


def end(session: VoiceSession, reason: str, at: datetime) -> None:
    """Ends a call by the site's own decision, as a line of its log. Call it inside a transaction."""
    session.lock()  # or another process could give its line the same number
    at_ms = max(0, round((at - session.created_at) / timedelta(milliseconds=1)))
    record(
        session.pk,
        [Frame(last_seq(session.pk, SERVER) + 1, at_ms, "ended", {"reason": reason})],
        source=SERVER,
    )


def _apply(session: VoiceSession, frame: Frame, source: str) -> None:
    """What an event means for the session."""
    at = session.moment(frame.at_ms or 0)
    match frame.type:
        case "connected":
            session.mark_live(at)
        case "session_started":
            session.mark_live(at)
            if frame.data["id"]:
                session.set_call(frame.data["id"])
        case "session_ended":
            session.mark_ended(VoiceSession.EndReason.AGENT_ENDED, at)
        case "hang_up":
            session.mark_ended(VoiceSession.EndReason.HANG_UP, at)
        case "disconnected":
            session.mark_ended(VoiceSession.EndReason.DISCONNECTED, at)
        case "call_failed":
            session.mark_ended(VoiceSession.EndReason.FAILED, at)
        case "ended" if source == SERVER:
            session.mark_ended(frame.data["reason"], at)


COLUMNS = ("session_id", "source", "seq", "type", "at_ms", "data", "sent_at", "recorded_at")


ROWS = 100
"""Of one statement. Python gives up its lock for each statement, and a busy loop does not give it back soon:
row by row, a batch could take seconds. Older SQLite takes 999 values at most."""


def _insert(lines: Sequence[tuple[UUID, Frame]], source: str, now: datetime) -> None:
    """Lines that the log has already are passed over. The only way into it: here they are redacted.

    The conflict is named: on SQLite, bulk_create(ignore_conflicts) also swallows NOT NULL and CHECK
    violations, and such a row would be acknowledged and lost. The ORM's objects would double the time.
    """
    ops = connection.ops
    is_native = connection.features.has_native_uuid_field
    recorded_at = ops.adapt_datetimefield_value(now)
    is_redacting = is_on()
    rows = [
        (
            session_id if is_native else session_id.hex,
            source,
            frame.seq,
            frame.type,
            frame.at_ms,
            ops.adapt_json_value(redact(frame.data) if is_redacting else frame.data, None),
            ops.adapt_datetimefield_value(frame.sent_at),
            recorded_at,
        )
        for session_id, frame in lines
    ]
    one = f"({', '.join(['%s'] * len(COLUMNS))})"
    with connection.cursor() as cursor:
        for start in range(0, len(rows), ROWS):
            some = rows[start : start + ROWS]
            cursor.execute(
                f"INSERT INTO {SessionEvent._meta.db_table} ({', '.join(COLUMNS)})"  # noqa: S608  our own names
                f" VALUES {', '.join([one] * len(some))} ON CONFLICT (session_id, source, seq) DO NOTHING",
                [value for row in some for value in row],
            )


def group(session_id: UUID) -> str:
    """The group of those who watch one call."""
    return f"session.{session_id.hex}"


async def ring(session_id: UUID) -> None:
    """The doorbell: tells those who watch that there is more to read, and carries nothing itself."""
    await _tell(session_id, {"type": "event.recorded"})


async def show(session_id: UUID, frame: dict[str, Any]) -> None:
    """Passes an interim caption to those who watch now; nobody else will ever see it."""
    frame = {**frame, "data": redact_growing(frame["data"])}
    await _tell(session_id, {"type": "event.interim", "frame": frame})


async def _tell(session_id: UUID, message: dict[str, Any]) -> None:
    layer, name = get_channel_layer(), group(session_id)
    # The layer in memory walks through all of its channels and groups for each message, also for one to
    # nobody, and nobody watches most calls.
    if name in getattr(layer, "groups", (name,)):
        await layer.group_send(name, message)
