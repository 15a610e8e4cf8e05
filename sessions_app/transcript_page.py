"""The change page of a call, its transcript: what it shows, and the fragments that keep it live."""

from typing import Any, ClassVar

from django.contrib import messages
from django.forms import Media
from django.forms.widgets import Script
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET, require_POST

from sessions_app.looks import changed_by
from sessions_app.models import SessionEvent, VoiceSession
from sessions_app.moments import length_of, moment
from sessions_app.proof_display import headline, mark, platform_facts, sentences
from sessions_app.reconcile import NotProvableError, prove
from sessions_app.staff import call_page, may
from sessions_app.transcript import CONTEXT, lines, moved_cursor, parse_cursor

STATES = {"created": "Not started", "live": "In progress", "ended": "Ended"}
"""The page's words until its script knows better: "Live" is for a page that is."""


class TranscriptMedia:
    """All that the page loads: the admin's own scripts serve forms, and there is none."""

    css: ClassVar = {"all": ["css/admin-transcript.css"]}
    js: ClassVar = [Script("dist/admin-transcript.js", type="module")]


def context(request: HttpRequest, session: VoiceSession) -> dict[str, Any]:
    """What the page's template shows of `session`, beside what the admin gives it."""
    events = list(session.events.in_order())
    may_compare = (
        session.state == VoiceSession.State.ENDED and session.call_id and may(request.user, "change")
    )
    return {
        "title": f"Call with {session.agent_name}",
        "state": STATES[session.state],
        "call_facts": call_facts(session),
        "proof": headline(session),
        "proof_mark": mark(session),
        "proof_sentences": sentences(session),
        "platform_facts": platform_facts(session),
        "compare_url": url_of(session, "compare") if may_compare else "",
        "lines": lines(events, events),
        "cursor": moved_cursor({}, events),
        "events_url": url_of(session, "events"),
        "socket_url": f"/ws/transcripts/{session.pk}/",
        "media": Media(TranscriptMedia),
    }


def url_of(session: VoiceSession, name: str) -> str:
    return reverse(f"admin:sessions_app_voicesession_{name}", args=[session.pk])


def call_facts(session: VoiceSession) -> list[tuple[str, str | SafeString]]:
    """What the head of the page tells of the call."""
    shown: list[tuple[str, str | SafeString]] = [
        ("Agent", session.agent_name),
        ("Started", moment(session.started_at or session.created_at)),
        ("Length", length_of(session)),
        ("End", session.get_end_reason_display()),
        ("Caller", session.user.get_username() if session.user else ""),
        ("Consent", session.consent_version and f"version {session.consent_version}"),
        ("Session", str(session.pk)),
        ("Call on the platform", session.call_id),
    ]
    return [(name, value) for name, value in shown if value]


@require_GET
@call_page()
def events(request: HttpRequest, session: VoiceSession) -> HttpResponse:
    """The lines after ?after=browser:12,server:1, and those which a new one has changed."""
    try:
        after = parse_cursor(request.GET.get("after", ""))
    except ValueError as error:
        return HttpResponseBadRequest(f"after: {error}", content_type="text/plain")
    new = list(session.events.after(after).in_order())
    around: list[SessionEvent] = []
    if any(event.type in CONTEXT for event in new):
        around = list(session.events.filter(type__in=CONTEXT).in_order())
    html = render_to_string(
        "sessions_app/_event_rows.html", {"lines": lines([*changed_by(new, around), *new], around)}
    )
    headers = {"X-Cursor": moved_cursor(after, new), "X-State": session.state, "X-Proof": mark(session)}
    return HttpResponse(html, headers=headers)


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
    path("<uuid:object_id>/change/compare/", compare, name="sessions_app_voicesession_compare"),
]
