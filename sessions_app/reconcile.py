"""The proof: a finished call's log is compared with the platform's own record of it.

What the log lacks is added with source=platform; what the two tell differently is kept from both sides and
marked; nothing is rewritten. A browser is a visitor's, and may have reported anything: so words that only it
has told are marked, too, and the call that it named must fit this session (room, agent, time), which no other
may have named.

Rows of the platform have the wire's names, and besides
    entry          the entry's place in `transcript.entries`
    told_up_to     the browser's last number at that time: what it tells later may be the same thing
    differs_from   [source, seq] of the line that tells it differently
    is_cut         with differs_from: the caller cut this turn off, and one side has only the beginning of
                   what the other has. Platforms may record what was heard, or all that was to be said: no
                   difference to be alarmed by, and not counted. The longer text is kept nevertheless, as a
                   page that wants to hide the rest of a sentence could claim a cut.
A row of the type `not_in_record` says of the line in `differs_from` that the record has nothing like it; with
`is_withdrawn`, that by now it has.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from sessions_app import log, vatel
from sessions_app.comparison import TOLD, Told, Verdict
from sessions_app.differences import Comparison, compare
from sessions_app.events import Frame
from sessions_app.looks import NOT_IN_RECORD
from sessions_app.models import Day, SessionEvent, VoiceSession
from sessions_app.record import Record, RecordError, read
from sessions_app.redaction import is_on, redact

logger = logging.getLogger(__name__)

Proof = VoiceSession.Proof
BROWSER, PLATFORM = SessionEvent.Source.BROWSER, SessionEvent.Source.PLATFORM

SETTLED = timedelta(minutes=1)
"""A record may be written for some time after the end (a last turn, the summary): until then it is not final,
and it is looked at once more."""

PAUSES = [timedelta(minutes=minutes) for minutes in (1, 5, 30, 2 * 60, 6 * 60, 15 * 60)]
"""Between one try and the next; in all, about a day."""

PATIENCE = timedelta(days=1)
"""So long after the end of a call its record is waited for."""

SKEW = timedelta(minutes=10)
"""By so much the platform's clock may differ from ours."""

LEASE = timedelta(minutes=2)
"""A sweep that asks about a call has it for so long to itself."""

PLATFORM_IS_DOWN = (
    vatel.VatelTimeoutError,
    vatel.VatelUnreachableError,
    vatel.VatelBusyError,
    vatel.VatelKeyRefusedError,
)
"""Errors that say nothing of the one call: the next one would end the same way."""


class NotProvableError(Exception):
    """No comparison could be made now; the text is a sentence for staff. `is_final`: nor ever will."""

    def __init__(self, sentence: str, *, is_final: bool = False, is_down: bool = False) -> None:
        super().__init__(sentence)
        self.is_final = is_final
        self.is_down = is_down


def prove(session: VoiceSession) -> None:
    """Compares an ended call with the platform's record, and keeps in the session what came of it.

    Raises NotProvableError, of which the session then also tells. However often, and in however many
    processes at once: what one comparison has added, no other adds again.
    """
    now = timezone.now()
    if session.state != VoiceSession.State.ENDED:
        raise NotProvableError("The call is not over yet.")
    proof = session.proof
    try:
        record = fetch(session)
        _settle(session, record, now)
    except VoiceSession.DoesNotExist as error:
        raise NotProvableError("The session was deleted.") from error
    except NotProvableError as trouble:
        session.put_off_proof(str(trouble), now, next_try(session, now, trouble))
        raise
    except Exception as error:
        # A record from outside may bring a defect to light; the other calls are to have their turn.
        logger.exception("session %s: the comparison failed", session.pk)
        defect = NotProvableError("The comparison failed; the site's log tells how.")
        session.put_off_proof(str(defect), now, next_try(session, now, defect))
        raise defect from error
    finally:
        if session.proof != proof:
            # The overview counts calls by their proof, and may have no new line to notice this by.
            Day.objects.expire([(session.created_at, session.agent_id)])


def next_try(session: VoiceSession, now: datetime, trouble: NotProvableError) -> datetime | None:
    """When to ask again after a try in vain; None: never."""
    if trouble.is_final:
        return None
    again_at = now + PAUSES[min(session.prove_tries, len(PAUSES) - 1)]
    is_old = session.ended_at is None or again_at > session.ended_at + PATIENCE
    # A call is not given up only because its turn came when the platform had been down for a day.
    is_last = session.prove_tries >= len(PAUSES) or not trouble.is_down
    return None if is_old and is_last else again_at


def fetch(session: VoiceSession) -> Record:
    """The platform's record of this session's call. Raises NotProvableError."""
    if not session.call_id:
        raise NotProvableError(session.no_call_because, is_final=True)
    try:
        record = read(vatel.platform().get_call(session.call_id))
    except RecordError as error:
        raise NotProvableError(f"The platform's record cannot be read: {error}.") from error
    except vatel.VatelError as error:
        is_down = isinstance(error, PLATFORM_IS_DOWN)
        logger.log(error.level, "call of session %s: %s: %s", session.pk, error.code, error)
        raise NotProvableError(TROUBLES[type(error)], is_down=is_down) from error
    if foreign := foreign_because(session, record):
        raise NotProvableError(foreign, is_final=True)
    if not record.is_over:
        status = record.facts["status"][:40]
        raise NotProvableError(f"The platform says that the call is still going on ({status}).")
    return redacted(record) if is_on() else record


def redacted(record: Record) -> Record:
    """As the log is: before the two are compared, and before anything of it is kept."""
    entries = [replace(entry, data=redact(entry.data)) for entry in record.entries]
    return replace(record, facts=redact(record.facts), entries=entries)


TROUBLES: dict[type[vatel.VatelError], str] = {
    vatel.VatelRejectedError: "The platform does not accept the name that the browser gave of the call.",
    vatel.VatelKeyRefusedError: "The platform does not accept this site's key.",
    vatel.VatelAgentForeignError: "The platform says that the call is not this site's own.",
    vatel.VatelCallUnknownError: "The platform does not know the call.",
    vatel.VatelBusyError: "The platform is too busy to answer.",
    vatel.VatelFailedError: "The platform reports an error.",
    vatel.VatelTimeoutError: "The platform takes too long to answer.",
    vatel.VatelUnreachableError: "The platform cannot be reached.",
    vatel.VatelBadAnswerError: "The platform's answer is not a record of a call.",
}


def foreign_because(session: VoiceSession, record: Record) -> str:
    """Why the record is of another call than this session's; "" if nothing says so.

    The room is a secret of the site, the platform and this caller: where the record names it, nothing else
    needs to be asked.
    """
    facts = record.facts
    if facts.get("id", session.call_id) != session.call_id:
        return "The platform answered with the record of another call."
    if facts.get("room") is not None:
        is_ours = facts["room"] == session.room
        return "" if is_ours else "The browser named another caller's call: it was held in another room."
    if str(facts.get("agent_id") or session.agent_id).lower() != str(session.agent_id):
        return "The browser named another caller's call: it was held with another agent."
    begun = record.moment("started_at") or record.moment("created_at")
    ended = session.ended_at or timezone.now()
    if begun is not None and not session.created_at - SKEW <= begun <= ended + SKEW:
        return "The browser named another caller's call: it was held at another time."
    if VoiceSession.objects.filter(call_id=session.call_id).exclude(pk=session.pk).exists():
        return "Another session names the same call, and the record does not tell whose it is."
    return ""


def _settle(session: VoiceSession, record: Record, now: datetime) -> None:
    """Adds what is missing and keeps the outcome, in one transaction. Raises NotProvableError."""
    # Thousands of lines take a second, in which nobody else should wait for the row (or, on SQLite, at all).
    heads, finding = _heads(session), _find(session, record)
    with transaction.atomic():
        # Whoever else compares waits here, and then sees what this has added. What is reported meanwhile is
        # newer than `proved_at`, so that the next sweep looks at it.
        session.lock()
        if heads != _heads(session):
            finding = _find(session, record)
        ended = max(filter(None, (session.ended_at, record.moment("ended_at"))), default=now)
        is_young = now - ended < SETTLED
        if finding.alone and is_young:
            raise NotProvableError("The platform's record is not complete yet.")
        _add(session, finding.rows)
        proof = Proof.RECOVERED if finding.recovered else Proof.COMPLETE
        proof = Proof.DIFFERS if finding.differing else proof
        because = ""
        if record.unreadable:
            proof = Proof.UNVERIFIED
            because = f"{record.unreadable} entries of the platform's record cannot be read."
        session.settle_proof(
            proof,
            recovered=finding.recovered,
            differing=finding.differing,
            because=because,
            call=record.facts,
            at=now,
            again_at=now + SETTLED if is_young else None,
        )


def _heads(session: VoiceSession) -> tuple[int, int]:
    """They move with every line that a comparison looks at."""
    return log.last_seq(session.pk, BROWSER), log.last_seq(session.pk, PLATFORM)


Row = tuple[int, str, dict[str, Any], datetime | None]
"""at_ms, type, data, the platform's time"""


@dataclass(frozen=True)
class Finding:
    recovered: int
    differing: int
    alone: int
    """Of those that differ, the lines that only the log has."""
    rows: list[Row]
    """What is to be added."""


def _find(session: VoiceSession, record: Record) -> Finding:
    ours = list(session.events.filter(source=BROWSER).in_order())
    for event in ours:
        event.data = redact(event.data)  # of the time before it was switched on; never saved
    comparison = compare(session.created_at, ours, record.entries)
    alone = comparison.alone
    rows = _new(session, _rows(comparison)) + _alone_rows(session, alone, comparison)
    differing = len(comparison.differing) + len(alone)
    return Finding(len(comparison.missing), differing, len(alone), rows)


def _rows(comparison: Comparison) -> list[Row]:
    """What belongs into the log from the record, in the record's order."""
    events = comparison.events
    told_up_to = max((event.seq for event in events), default=0)
    other = {pair.record.index: pair for pair in comparison.pairs if pair.verdict != Verdict.SAME}
    rows = []
    for place in sorted({*comparison.missing, *other}):
        entry = comparison.entries[place]
        marks: dict[str, Any] = {"entry": entry.index, "told_up_to": told_up_to}
        if place in other:
            event = events[other[place].log.index]
            marks["differs_from"] = [event.source, event.seq]
            if other[place].verdict == Verdict.CUT:
                marks["is_cut"] = True
        rows.append((comparison.times[place], entry.type, {**entry.data, **marks}, entry.at))
    return rows


def _alone_rows(session: VoiceSession, alone: Sequence[SessionEvent], comparison: Comparison) -> list[Row]:
    """The marks of lines that only the log has, as far as they change what earlier marks say."""
    marked: dict[int, SessionEvent] = {}
    for row in session.events.filter(source=PLATFORM, type=NOT_IN_RECORD).order_by("seq"):
        marked[row.data["differs_from"][1]] = row
    now_alone = {event.seq for event in alone}
    rows: list[Row] = []
    for event in comparison.events:
        earlier = marked.get(event.seq)
        was_alone = earlier is not None and not earlier.data.get("is_withdrawn")
        if (event.seq in now_alone) != was_alone:
            data: dict[str, Any] = {"differs_from": [event.source, event.seq]}
            if was_alone:
                data["is_withdrawn"] = True
            rows.append((event.at_ms, NOT_IN_RECORD, data, None))
    return rows


def _new(session: VoiceSession, rows: Iterable[Row]) -> list[Row]:
    """Those that are not in the log."""
    there = Counter(
        _identity(row.type, redact(row.data))
        for row in session.events.filter(source=PLATFORM).exclude(type=NOT_IN_RECORD)
    )
    new = []
    for row in rows:
        identity = _identity(row[1], row[2])
        there[identity] -= 1
        if there[identity] < 0:
            new.append(row)
    return new


def _add(session: VoiceSession, rows: Sequence[Row]) -> None:
    """Raises NotProvableError."""
    first = log.last_seq(session.pk, PLATFORM) + 1
    frames = [Frame(first + n, *row) for n, row in enumerate(rows)]
    try:
        if frames:
            log.record(session.pk, frames, source=PLATFORM)
    except log.LogFullError as full:
        raise NotProvableError(f"What is missing cannot be added: {full}.", is_final=True) from full


def _identity(kind: str, data: dict[str, Any]) -> str:
    """What makes a row of the platform the same as another. Not its place in the record, which may grow in
    its middle."""
    said = Told.read(0, kind, data).said if kind in TOLD else ""
    name = data.get("toolCallId") or data.get("turn_id") or ""
    text = data.get("text", data.get("transcript", ""))
    return json.dumps([kind, name, text or said])


def prove_due(now: datetime, *, limit: int = 50, budget: timedelta = timedelta(seconds=30)) -> Counter[str]:
    """Asks for the records that are due. Counts what came of it: a Proof, or "later".

    A platform that does not answer is asked about one call only, and then left alone until the next time.
    """
    counts: Counter[str] = Counter()
    for session in VoiceSession.objects.to_prove(now)[:limit]:
        if timezone.now() - now > budget:
            break
        if not session.lease_proof(timezone.now() + LEASE):
            continue  # another process was first
        try:
            prove(session)
            counts[session.proof] += 1
        except NotProvableError as trouble:
            counts["later" if session.prove_at else session.proof] += 1
            if trouble.is_down:
                break
    return counts
