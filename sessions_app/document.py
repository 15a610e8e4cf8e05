"""A call as one JSON document, both ways: all of its rows, and nothing that can be worked out from them.

docs/export.md describes it. Columns are taken as the models have them: whoever adds one raises VERSION.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeAlias
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import connection, models, transaction
from django.db.models import QuerySet

from sessions_app import redaction
from sessions_app.events import MAX_DEPTH, MAX_INT, TYPE, EventError, checked_data, is_storable
from sessions_app.figures import Figures
from sessions_app.models import (
    Booking,
    Day,
    Label,
    Labelling,
    Note,
    SessionEvent,
    Tombstone,
    ToolRun,
    VoiceSession,
)
from sessions_app.review import Review

FORMAT = "voicedemo.call"
VERSION = 1

Column: TypeAlias = "models.Field[Any, Any]"


@dataclass(frozen=True)
class Table:
    """Rows that belong to a call, under `name` in its document."""

    name: str
    model: type[models.Model]
    related_name: str
    key: Callable[[Any], Any]
    """Their order: the same rows make the same document in any database."""
    has_id: bool = False

    @property
    def columns(self) -> list[Column]:
        without = {"session"} if self.has_id else {"id", "session"}
        return [column for column in self.model._meta.concrete_fields if column.name not in without]


TABLES = (
    Table("events", SessionEvent, "events", lambda row: (row.at_ms, row.source, row.seq)),
    Table("tool_runs", ToolRun, "tool_runs", lambda row: (row.started_at, row.tool_call_id)),
    # A booking's id is its reference, which the caller was told.
    Table("bookings", Booking, "bookings", lambda row: row.pk, has_id=True),
    Table("notes", Note, "notes", lambda row: (row.at, row.pk)),
    Table("labels", Labelling, "labellings", lambda row: row.label.name),
)

DERIVED = {column.name for column in Figures._meta.local_fields}
MARKS = {column.name for column in Review._meta.local_fields}
SESSION_COLUMNS = sorted(
    (column for column in VoiceSession._meta.concrete_fields if column.name not in DERIVED),
    key=lambda column: column.name in MARKS,
)


def loaded(sessions: QuerySet[VoiceSession]) -> QuerySet[VoiceSession]:
    """With all that `write` and the other formats read: some ten queries, however many calls."""
    return sessions.select_related("user", "flagged_by", "reviewed_by", "held_by").prefetch_related(
        "events", "tool_runs", "bookings", "notes__by", "labellings__by", "labellings__label"
    )


def write(session: VoiceSession) -> bytes:
    """The document, in one line. Reads the database unless the session is `loaded`."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "session": _plain(session, SESSION_COLUMNS),
    }
    for table in TABLES:
        rows = sorted(getattr(session, table.related_name).all(), key=table.key)
        columns = table.columns
        document[table.name] = [_plain(row, columns) for row in rows]
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    # Half a character, which no log holds but a hand-made row might, stands there as JSON's own escape.
    return text.encode(errors="backslashreplace") + b"\n"


def _plain(row: models.Model, columns: Iterable[Column]) -> dict[str, Any]:
    return {column.name: _json(getattr(row, column.name)) for column in columns}


def _json(value: Any) -> Any:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case UUID():
            return str(value)
        case AbstractBaseUser():
            return value.get_username()
        case Label():
            return value.name
        case _:
            return value


class DocumentError(ValueError):
    """A document that cannot be taken; `where`: the field, as "events[3].data"."""

    def __init__(self, where: str, trouble: str) -> None:
        super().__init__(f"{where}: {trouble}" if where else trouble)
        self.where = where


class ExistsError(Exception):
    """The call is here already, or was deleted here (`is_deleted`); the text tells which."""

    def __init__(self, sentence: str, *, is_deleted: bool = False) -> None:
        super().__init__(sentence)
        self.is_deleted = is_deleted


@dataclass
class Accounts:
    """Who is who here, by the names in documents; `missing` counts those who have no account here."""

    missing: dict[str, int] = field(default_factory=dict)
    _known: dict[str, AbstractBaseUser | None] = field(default_factory=dict)

    def find(self, name: str) -> AbstractBaseUser | None:
        if name not in self._known:
            model = get_user_model()
            self._known[name] = model._default_manager.filter(**{model.USERNAME_FIELD: name}).first()
        if self._known[name] is None:
            self.missing[name] = self.missing.get(name, 0) + 1
        return self._known[name]


def restore(document: Any, accounts: Accounts, *, also_deleted: bool = False) -> list[str]:
    """Adds a call with all of its rows, in one transaction. Figures and search rows follow as for new lines.

    Returns sentences on what is not as it was. Raises DocumentError and ExistsError; nothing is changed then.
    `also_deleted`: also a call that was deleted here, which thereby is back.
    """
    session, rows = _read(document)
    _redact(session, rows)
    with transaction.atomic():
        if VoiceSession.objects.filter(pk=session.pk).exists():
            raise ExistsError(f"the call {session.pk} is here already")
        grave = Tombstone.objects.filter(pk=session.pk).first()
        if grave is not None and not also_deleted:
            sentence = f"the call {session.pk} was deleted here on {grave.deleted_at:%Y-%m-%d} ({grave.why})"
            raise ExistsError(sentence, is_deleted=True)
        Tombstone.objects.filter(pk=session.pk).delete()
        _name_people(session, accounts)
        session.save(force_insert=True)
        remarks: list[str] = []
        for table in TABLES:
            for row in rows[table.name]:
                row.session = session
                remarks += _name_people(row, accounts)
            if table.has_id:
                remarks += _keep_ids(rows[table.name])
            table.model._default_manager.bulk_create(rows[table.name], batch_size=500)
        Day.objects.expire([(session.created_at, session.agent_id)])
    return remarks


def _redact(session: VoiceSession, rows: dict[str, list[Any]]) -> None:
    """What this site does not store does not come in by this door either."""
    session.platform_call = redaction.redact(session.platform_call)
    for event in rows["events"]:
        event.data = redaction.redact(event.data)
    for run in rows["tool_runs"]:
        run.arguments = redaction.redact_value(run.arguments)
        run.output = redaction.redact_text(run.output)
    for booking in rows["bookings"]:
        booking.name = redaction.redact_text(booking.name)[:100]


def _name_people(row: Any, accounts: Accounts) -> list[str]:
    """Names become accounts and labels of this site."""
    remarks = []
    for name, value in row.named.items():
        if name != "label":
            setattr(row, name, accounts.find(value))
            continue
        row.label, is_new = Label.objects.get_or_create(name=value)
        if is_new:
            remarks.append(f"the label {value!r} is new here")
    return remarks


def _keep_ids(bookings: Sequence[Any]) -> list[str]:
    """Ids that are free here are kept, and never given to anybody else; others are given anew."""
    if not bookings:
        return []
    taken = set(Booking.objects.filter(pk__in=[row.pk for row in bookings]).values_list("pk", flat=True))
    remarks = []
    for row in bookings:
        if row.pk in taken:
            remarks.append(f"the booking {row.reference} has a new number: another call has it here")
            row.pk = None
    highest = max((row.pk for row in bookings if row.pk), default=0)
    if connection.vendor == "postgresql" and highest:
        # An id that is given does not move the sequence. Never backwards: no reference is given twice.
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT setval(sequence, GREATEST(nextval(sequence), %s))"
                " FROM pg_get_serial_sequence(%s, 'id') AS sequence",
                [highest, Booking._meta.db_table],
            )
    return remarks


# ------------------------------------------------------------------ reading


def _read(document: Any) -> tuple[VoiceSession, dict[str, list[Any]]]:
    """The rows, not saved, with the people in `named`. Raises DocumentError."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise DocumentError("format", f"this is no call: its format must be {FORMAT!r}")
    if document.get("version") != VERSION:
        raise DocumentError(
            "version", f"must be {VERSION}, not {document.get('version')!r:.20}: another release wrote it"
        )
    _check_keys(document, {"format", "version", "session", *(table.name for table in TABLES)}, "")
    session = _read_row(VoiceSession, SESSION_COLUMNS, document["session"], "session")
    rows: dict[str, list[Any]] = {}
    for table in TABLES:
        if not isinstance(document[table.name], list):
            raise DocumentError(table.name, "must be a list")
        columns = table.columns
        rows[table.name] = [
            _read_row(table.model, columns, value, f"{table.name}[{n}]")
            for n, value in enumerate(document[table.name])
        ]
    _check_events(rows["events"])
    _check_notes(rows["notes"], {(row.source, row.seq) for row in rows["events"]})
    _check_once("tool_runs", [row.tool_call_id for row in rows["tool_runs"]])
    _check_once("bookings", [row.tool_call_id for row in rows["bookings"]])
    _check_once("bookings", [row.pk for row in rows["bookings"]])
    _check_once("labels", [row.named.get("label") for row in rows["labels"]])
    return session, rows


def _check_keys(value: Any, wanted: set[str], where: str) -> None:
    if not isinstance(value, dict):
        raise DocumentError(where, "must be an object")
    prefix = f"{where}." if where else ""
    for name in sorted(wanted - value.keys()):
        raise DocumentError(prefix + name, "is missing")
    for name in sorted(value.keys() - wanted):
        raise DocumentError(f"{prefix}{name!s:.40}", "is not known")


def _read_row(model: type[models.Model], columns: Sequence[Column], value: Any, where: str) -> Any:
    _check_keys(value, {column.name for column in columns}, where)
    row: Any = model()
    row.named = {}
    for column in columns:
        found = _read_value(column, value[column.name], f"{where}.{column.name}")
        if not column.is_relation:
            setattr(row, column.name, found)
        elif found is not None:
            row.named[column.name] = found
    return row


def _read_value(column: Column, value: Any, where: str) -> Any:
    def refuse(wanted: str) -> NoReturn:
        raise DocumentError(where, f"must be {wanted}, not {json.dumps(value)[:60]}")

    if value is None:
        return None if column.null else refuse("given")
    match column:
        case models.ForeignKey():
            # What is a fit name for an account is for whoever made it.
            is_label = column.related_model is Label
            return _read_value(
                Label._meta.get_field("name") if is_label else models.TextField(), value, where
            )
        case models.DateTimeField():
            return _moment(value) or refuse("a time in ISO 8601 with its zone")
        case models.UUIDField():
            return _uuid(value) or refuse("a UUID")
        case models.BooleanField():
            return value if type(value) is bool else refuse("true or false")
        case models.IntegerField():
            most = 32767 if isinstance(column, models.PositiveSmallIntegerField) else MAX_INT
            is_fit = type(value) is int and 0 <= value <= most
            return value if is_fit else refuse(f"a whole number from 0 to {most}")
        case models.JSONField():
            is_fit = isinstance(value, dict) and is_storable(value, MAX_DEPTH)
            return value if is_fit else refuse("an object that a database can hold")
        case _:
            if not isinstance(value, str) or not is_storable(value, 0):
                refuse("a text that a database can hold")
    if column.flatchoices and value not in dict(column.flatchoices) and (value or not column.blank):
        refuse("one of " + ", ".join(choice for choice, _ in column.flatchoices))
    try:
        column.run_validators(value)
    except ValidationError as error:
        raise DocumentError(where, " ".join(error.messages)) from error
    return value


def _moment(value: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(value)
        return at.astimezone(UTC) if at.tzinfo else None
    except (TypeError, ValueError, OverflowError):
        return None


def _uuid(value: Any) -> UUID | None:
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _check_events(events: Sequence[SessionEvent]) -> None:
    """What readers of the log rely on."""
    numbers: dict[str, list[int]] = {}
    for n, event in enumerate(events):
        where = f"events[{n}]"
        if not TYPE.fullmatch(event.type):
            raise DocumentError(f"{where}.type", "must be 1 to 64 small letters and underscores")
        try:
            checked_data(event.type, event.data)
        except EventError as error:
            raise DocumentError(f"{where}.data", error.message) from error
        if event.source != SessionEvent.Source.BROWSER:
            _check_marks(event, f"{where}.data")
        numbers.setdefault(event.source, []).append(event.seq)
    for source, found in numbers.items():
        wanted = range(1, len(found) + 1)
        if sorted(found) != [*wanted]:
            missing = next((n for n in wanted if n not in set(found)), None)
            trouble = f"has no number {missing}" if missing else "has a number twice"
            raise DocumentError("events", f"the source {source} {trouble}; numbers go 1, 2, 3 without gaps")


def _check_marks(event: SessionEvent, where: str) -> None:
    """What the site itself puts to its own and the platform's rows (see reconcile.py)."""
    data = event.data
    if event.source == SessionEvent.Source.SERVER and event.type == "ended":
        if not isinstance(data.get("reason"), str):
            raise DocumentError(f"{where}.reason", "must be a text")
        return
    for name, wanted in (("entry", int), ("told_up_to", int), ("turn_id", str), ("toolCallId", str)):
        if type(data.get(name, wanted())) is not wanted:
            raise DocumentError(f"{where}.{name}", "must be " + {int: "a number", str: "a text"}[wanted])
    place = data.get("differs_from", ["browser", 0])
    if not (isinstance(place, list) and [type(part) for part in place] == [str, int]):
        raise DocumentError(f"{where}.differs_from", "must be [source, number]")


def _check_notes(notes: Sequence[Note], lines: set[tuple[str, int]]) -> None:
    for n, note in enumerate(notes):
        if (note.source or note.seq is not None) and (note.source, note.seq) not in lines:
            raise DocumentError(f"notes[{n}]", f"there is no line {note.source} {note.seq} in the events")


def _check_once(where: str, keys: Sequence[Any]) -> None:
    seen: set[Any] = set()
    for n, key in enumerate(keys):
        if key in seen:
            raise DocumentError(f"{where}[{n}]", f"is there twice: {key!r:.60}")
        seen.add(key)
