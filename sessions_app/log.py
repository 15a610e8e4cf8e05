"""The one writer of the log: what is committed here is acknowledged, and nothing else is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import connection, transaction
from django.utils import timezone

from sessions_app.events import REFUSED, Frame
from sessions_app.models import SessionEvent, VoiceSession

BROWSER = SessionEvent.Source.BROWSER
SERVER = SessionEvent.Source.SERVER

MAX_LINES = 20_000
"""Of one source in one call. An hour of talk has about two thousand; a page with a defect never stops."""

OPEN_AFTER_END = timedelta(hours=24)
"""A page may come back with what it could not send; later than this, the log of an ended call is closed."""


@dataclass(frozen=True)
class Recorded:
    """`ack`: the source's last number in the log. `stored`: the new lines. `refused`: what was refused."""

    ack: int
    stored: list[Frame]
    refused: list[Frame]


class SequenceGapError(Exception):
    """Frames are missing before this one; `ack` is the last number in the log."""

    def __init__(self, ack: int) -> None:
        super().__init__(f"the log holds everything up to {ack}, and not the frame after it")
        self.ack = ack


class LogFullError(Exception):
    """The log of this call takes no more lines."""


class LogClosedError(Exception):
    """The call ended long ago."""


def record(session_id: UUID, frames: Sequence[Frame], *, source: str = BROWSER) -> Recorded:
    """Appends a batch of one source's frames, with what they mean for the session, in one transaction.

    A frame that the log has already is passed over. Raises SequenceGapError and LogFullError (what came
    before is then stored), LogClosedError, and VoiceSession.DoesNotExist.
    """
    now = timezone.now()
    stored: list[Frame] = []
    trouble: Exception | None = None
    with transaction.atomic():
        session = VoiceSession.objects.select_for_update().get(pk=session_id)
        if session.ended_at is not None and now - session.ended_at > OPEN_AFTER_END:
            raise LogClosedError
        ack, at_ms = _last_line(session_id, source)
        events: list[SessionEvent] = []
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
            stored.append(frame)
            events.append(
                SessionEvent(
                    session_id=session_id,
                    source=source,
                    seq=frame.seq,
                    type=frame.type,
                    at_ms=at_ms,
                    data=frame.data,
                    sent_at=frame.sent_at,
                    recorded_at=now,
                )
            )
            _apply(session, frame, source, session.moment(at_ms))
        if events:
            _insert(events)
            session.touch(now)
            # robust: a failing doorbell is logged and costs nobody the row; readers find it later.
            transaction.on_commit(lambda: ring(session_id), robust=True)
    if trouble is not None:
        raise trouble
    return Recorded(ack, stored, [frame for frame in frames if frame.type == REFUSED])


def last_seq(session_id: UUID, source: str = BROWSER) -> int:
    return _last_line(session_id, source)[0]


def end(session: VoiceSession, reason: str, at: datetime) -> None:
    """Ends a call by the site's own decision, as a line of its log. Call it inside a transaction."""
    at_ms = max(0, round((at - session.created_at) / timedelta(milliseconds=1)))
    record(
        session.pk,
        [Frame(last_seq(session.pk, SERVER) + 1, at_ms, "ended", {"reason": reason})],
        source=SERVER,
    )


def _last_line(session_id: UUID, source: str) -> tuple[int, int]:
    lines = SessionEvent.objects.filter(session_id=session_id, source=source).order_by("-seq")
    return lines.values_list("seq", "at_ms").first() or (0, 0)


def _apply(session: VoiceSession, frame: Frame, source: str, at: datetime) -> None:
    """What an event means for the session, for which it happened `at`."""
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


def _insert(events: Sequence[SessionEvent]) -> None:
    """With the conflict named: on SQLite, bulk_create(ignore_conflicts) also swallows NOT NULL and CHECK
    violations, and such a row would be acknowledged and lost."""
    fields = [field for field in SessionEvent._meta.concrete_fields if not field.primary_key]
    quote = connection.ops.quote_name
    columns = ", ".join(quote(field.column) for field in fields)
    sql = (
        f"INSERT INTO {quote(SessionEvent._meta.db_table)} ({columns})"  # noqa: S608  names of our own model
        f" VALUES ({', '.join(['%s'] * len(fields))}) ON CONFLICT (session_id, source, seq) DO NOTHING"
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            sql,
            [
                [field.get_db_prep_save(getattr(event, field.attname), connection) for field in fields]
                for event in events
            ],
        )


def group(session_id: UUID) -> str:
    """The group of those who watch one call."""
    return f"session.{session_id.hex}"


def ring(session_id: UUID) -> None:
    """The doorbell: tells those who watch that there is more to read, and carries nothing itself."""
    async_to_sync(_ring)(session_id)


async def _ring(session_id: UUID) -> None:
    await get_channel_layer().group_send(group(session_id), {"type": "event.recorded"})


async def show(session_id: UUID, frame: dict[str, Any]) -> None:
    """Passes an interim caption to those who watch now; nobody else will ever see it."""
    await get_channel_layer().group_send(group(session_id), {"type": "event.interim", "frame": frame})
