"""The change page of a call, its transcript: what it shows, and the fragments that keep it live."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from django.contrib import messages
from django.forms import Media
from django.forms.widgets import Script
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseRedirect
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET, require_POST

from sessions_app.access import Access, log_access
from sessions_app.digest import SLOW_MS, reply_ms
from sessions_app.looks import changed_by
from sessions_app.models import Label, Note, SessionEvent, VoiceSession
from sessions_app.moments import length_of, moment
from sessions_app.proof_display import headline, mark, platform_facts, sentences
from sessions_app.reconcile import NotProvableError, prove
from sessions_app.rows import Reader, anchors, notes, rows
from sessions_app.staff import call_page, may
from sessions_app.timeline import timeline
from sessions_app.transcript import CONTEXT, UNSEEN, Line, lines, moved_cursor, parse_cursor

STATES = {"created": "Not started", "live": "In progress", "ended": "Ended"}
"""The page's words until its script knows better: "Live" is for a page that is."""


EXPORTS = {
    "json": "JSON, all of it",
    "csv": "CSV, its turns",
    "vtt": "WebVTT, for subtitles",
    "txt": "Plain text",
}


class TranscriptMedia:
    """All that the page loads: the admin's own scripts serve forms, and there is none."""

    css: ClassVar = {
        "all": [
            "css/admin-transcript.css",
            "css/admin-lines.css",
            "css/admin-timeline.css",
            "css/admin-review.css",
        ]
    }
    js: ClassVar = [Script("dist/admin-transcript.js", type="module")]


def context(request: HttpRequest, session: VoiceSession) -> dict[str, Any]:
    """What the page's template shows of `session`, beside what the admin gives it. Logs the opening."""
    log_access(request.user, Access.Action.OPEN, session.pk)
    reader = reader_of(request, session)
    events, shown = whole_log(session)
    head = head_of(request, session, reader, shown)
    if reader.may_annotate and (at := request.GET.get("note")) is not None:
        form = {"note_url": url_of(session, "note"), "line": at, "max_length": Note.MAX_LENGTH}
        reader.form = SafeString(render_to_string("sessions_app/_note_form.html", form, request))
        reader.form_at = at
    return {
        **head,
        "title": f"Call with {session.agent_name}",
        "state": STATES[session.state],
        "head_mark": head_mark(session, reader),
        "notes_mark": notes_mark(reader),
        "rows": rows(shown, reader),
        "reader": reader,
        "max_length": Note.MAX_LENGTH,
        # What is unseen at the end of the log is passed over at the script's first look.
        "cursor": moved_cursor({}, events),
        "media": Media(TranscriptMedia),
        "socket_url": f"/ws/transcripts/{session.pk}/",
        "events_url": url_of(session, "events"),
        "timeline_url": url_of(session, "timeline"),
        "note_url": url_of(session, "note"),
        "exports": exports(session) if may(request.user, "export") else [],
    }


def whole_log(session: VoiceSession) -> tuple[list[SessionEvent], list[Line]]:
    """The events that lines are made of, no more of a row than that, as it takes half the time; the lines."""
    # session.events would put the session into each row, and read its deferred id for it.
    seen = SessionEvent.objects.filter(session=session).exclude(type__in=UNSEEN)
    events = list(seen.in_order().defer("session", "sent_at"))
    return events, lines(events, [event for event in events if event.type in CONTEXT])


def head_of(
    request: HttpRequest,
    session: VoiceSession,
    reader: Reader,
    shown: Sequence[Line],
) -> dict[str, Any]:
    """What stands around the lines, and is brought up to date while they come in."""
    may_compare = (
        session.state == VoiceSession.State.ENDED and session.call_id and may(request.user, "change")
    )
    now_ms = 0
    if session.state != VoiceSession.State.ENDED and session.started_at:
        now_ms = max(0, round((timezone.now() - session.created_at) / timedelta(milliseconds=1)))
    labellings = list(session.labellings.select_related("label", "by"))
    stops = session.events.filter(type="speech_stopped").order_by("at_ms").values_list("at_ms", flat=True)
    return {
        "original": session,
        "call_facts": call_facts(session),
        "counts": counts(shown),
        "proof": headline(session),
        "proof_sentences": sentences(session),
        "platform_facts": platform_facts(session),
        "compare_url": url_of(session, "compare") if may_compare else "",
        "labellings": labellings,
        "other_labels": other_labels([each.label_id for each in labellings]) if reader.may_annotate else [],
        "may_annotate": reader.may_annotate,
        "label_url": url_of(session, "label"),
        "mark_url": url_of(session, "mark"),
        "timeline": timeline(shown, stops, now_ms),
        "notes": notes(unplaced(reader, shown), reader),
    }


def exports(session: VoiceSession) -> list[tuple[str, str]]:
    """In what forms this call can be taken away, and where."""
    route = "admin:sessions_app_voicesession_export_one"
    return [(words, reverse(route, args=[session.pk, name])) for name, words in EXPORTS.items()]


def url_of(session: VoiceSession, name: str) -> str:
    return reverse(f"admin:sessions_app_voicesession_{name}", args=[session.pk])


def reader_of(request: HttpRequest, session: VoiceSession) -> Reader:
    """Who reads, with the notes of the call."""
    user = request.user
    reader = Reader(user.pk, may(user, "annotate"), may(user, "delete"), may(user, "listen"))
    for note in session.notes.in_order().select_related("by"):
        reader.notes[f"{note.source}-{note.seq}" if note.source else ""].append(note)
    return reader


def unplaced(reader: Reader, shown: Iterable[Line]) -> list[Note]:
    """Notes on the whole call, and those whose line is not shown any more."""
    if not reader.notes:
        return []
    places = {anchor for line in shown if not line.is_hidden for anchor in anchors(line)}
    return [note for anchor, some in reader.notes.items() if anchor not in places for note in some]


def other_labels(ids: Iterable[int]) -> list[Label]:
    return list(Label.objects.exclude(pk__in=ids))


def counts(shown: Iterable[Line]) -> list[tuple[str, int]]:
    """The call in numbers, from its lines: they are there while it runs, too."""
    turns: set[tuple[str, Any]] = set()
    found: Counter[str] = Counter()
    for line in shown:
        if line.is_hidden:
            continue
        if line.event.role:
            turns.add((line.event.type, line.turn or line.event.pk))
            ms = reply_ms(line.reply) if line.reply else None
            found["slow"] += ms is not None and ms > SLOW_MS
        found["cuts"] += line.kind == "interruption"
        found["errors"] += line.kind == "output" and line.is_trouble
        found["incidents"] += line.kind == "note" and line.is_trouble
    return [
        ("Turns", len(turns)),
        ("Interruptions", found["cuts"]),
        ("Slow replies", found["slow"]),
        ("Tool errors", found["errors"]),
        ("Incidents", found["incidents"]),
    ]


def call_facts(session: VoiceSession) -> list[tuple[str, str | SafeString]]:
    """What the head of the page tells of the call."""
    shown: list[tuple[str, str | SafeString]] = [
        ("Agent", session.agent_name),
        ("Started", moment(session.started_at or session.created_at)),
        ("Length", length_of(session)),
        ("End", session.get_end_reason_display()),
        ("Caller", session.user.get_username() if session.user else "a visitor"),
        ("Consent", session.consent_version and f"version {session.consent_version}"),
        ("Session", str(session.pk)),
        ("Call on the platform", session.call_id),
    ]
    return [(name, value) for name, value in shown if value]


def head_mark(session: VoiceSession, reader: Reader) -> str:
    """Changes with whatever the head shows that does not come with a line."""
    marks = [str(getattr(session, f"{name}_at") or "") for name in ("flagged", "reviewed", "held")]
    labels = session.labellings.order_by("pk").values_list("pk", flat=True)
    return " ".join([mark(session), *marks, *map(str, labels), notes_mark(reader)])


def notes_mark(reader: Reader) -> str:
    """Changes with the notes: they are added and deleted, never rewritten."""
    ids = [note.pk for some in reader.notes.values() for note in some]
    return f"{len(ids)} {max(ids, default=0)}"


@require_GET
@call_page()
def events(request: HttpRequest, session: VoiceSession) -> HttpResponse:
    """The lines after ?after=browser:12,server:1, and those which a new one has changed."""
    try:
        after = parse_cursor(request.GET.get("after", ""))
    except ValueError as error:
        return HttpResponseBadRequest(f"after: {error}", content_type="text/plain")
    reader = reader_of(request, session)
    new = list(session.events.after(after).in_order())
    around = [event for event in new if event.type in CONTEXT]
    if around and any(after.values()):
        around = list(session.events.filter(type__in=CONTEXT).in_order())
    headers = {
        "X-Cursor": moved_cursor(after, new),
        "X-State": session.state,
        "X-Head": head_mark(session, reader),
        "X-Notes": notes_mark(reader),
    }
    return HttpResponse(rows(lines([*changed_by(new, around), *new], around), reader), headers=headers)


@require_GET
@call_page()
def head(request: HttpRequest, session: VoiceSession) -> HttpResponse:
    """What stands around the lines, as it is now: the timeline, and all that is told of the call."""
    reader = reader_of(request, session)
    _, shown = whole_log(session)
    return render(request, "sessions_app/_call_head.html", head_of(request, session, reader, shown))


@require_POST
@call_page("change")
def compare(request: HttpRequest, session: VoiceSession) -> HttpResponse:
    """Compares the call with the platform's record, now."""
    try:
        prove(session)
    except NotProvableError as trouble:
        messages.error(request, f"The call could not be compared. {trouble}")
    else:
        is_good = session.proof in (VoiceSession.Proof.COMPLETE, VoiceSession.Proof.RECOVERED)
        tell = messages.success if is_good else messages.warning
        tell(request, f"Compared. {' '.join(sentences(session))}")
    return HttpResponseRedirect(url_of(session, "change"))


urls: list[URLPattern] = [
    path("<uuid:object_id>/change/events/", events, name="sessions_app_voicesession_events"),
    path("<uuid:object_id>/change/timeline/", head, name="sessions_app_voicesession_timeline"),
    path("<uuid:object_id>/change/compare/", compare, name="sessions_app_voicesession_compare"),
]
