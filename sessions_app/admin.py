"""What staff see, all of it read-only: calls, bookings, and the transcript of a call, its change page."""

from contextlib import suppress
from typing import Any, ClassVar, Protocol
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, F, OuterRef, QuerySet, Subquery, TextField, Value
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Coalesce, Concat
from django.forms import Media
from django.forms.widgets import Script
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBadRequest,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from sessions_app.comparison import TURNS
from sessions_app.models import Booking, SessionEvent, VoiceSession
from sessions_app.moments import moment
from sessions_app.proof_display import ProofFilter, badge, headline, mark, platform_facts, sentences
from sessions_app.reconcile import NotProvableError, prove
from sessions_app.transcript import CONTEXT, changed_by, clock, lines, moved_cursor, parse_cursor

STATES = {"created": "Not started", "live": "In progress", "ended": "Ended"}
"""The change page's words until its script knows better: "Live" is for a page that is."""


# Four tables need no second menu, and the width belongs to the words.
admin.site.enable_nav_sidebar = False


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # its parameter exists in the stubs only
    empty_value_display = ""
    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def length_of(session: VoiceSession) -> str | SafeString:
    if session.duration is None:
        return ""
    if not session.is_live:
        return clock(session.duration)
    elapsed_ms = int(session.duration.total_seconds() * 1000)
    return format_html(
        '<span class="nowrap">live, <span data-elapsed-ms="{}">{}</span></span>',
        elapsed_ms,
        clock(session.duration),
    )


class TranscriptMedia:
    """All that the change page of a call loads: the admin's own scripts serve forms, and there is none."""

    css: ClassVar = {"all": ["css/admin-transcript.css"]}
    js: ClassVar = [Script("dist/admin-transcript.js", type="module")]


class ListedSession(Protocol):
    """What the list adds to each call."""

    turn_count: int
    last_text: str | None
    last_type: str | None


@admin.register(VoiceSession)
class VoiceSessionAdmin(ReadOnlyAdmin):
    list_display = ("status", "started", "agent", "length", "turns_said", "proof_state", "words_said")
    list_filter = (ProofFilter, "state", "agent_name", "end_reason", "created_at")
    search_fields = ("id", "call_id")
    search_help_text = "Number of a session or of a call on the platform, whole or in part"

    class Media:
        css: ClassVar = {"all": ["css/admin-transcript.css"]}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[VoiceSession], search_term: str
    ) -> tuple[QuerySet[VoiceSession], bool]:
        # PostgreSQL knows a number by its text with hyphens only; whole ones are also copied without.
        with suppress(ValueError):
            search_term = str(UUID(search_term))
        return super().get_search_results(request, queryset, search_term)

    def get_queryset(self, request: HttpRequest) -> QuerySet[VoiceSession]:
        turns = SessionEvent.objects.filter(session=OuterRef("pk"), type__in=TURNS)
        spoken = (
            turns.annotate(words=Coalesce(KT("data__text"), KT("data__transcript")))
            .filter(words__gt="")
            .order_by("-at_ms", "-source", "-seq")
        )
        # What several rows tell of one turn (its parts, or the two sides' words) is one turn.
        turn_id = Coalesce(KT("data__turn_id"), Cast("pk", TextField()))
        turn = Concat("type", Value(" "), turn_id, output_field=TextField())
        number = (
            turns.order_by().values("session").annotate(number=Count(turn, distinct=True)).values("number")
        )
        sessions: QuerySet[VoiceSession] = super().get_queryset(request)
        return sessions.annotate(
            turn_count=Coalesce(Subquery(number.values("number")), 0),
            last_text=Subquery(spoken.values("words")[:1]),
            last_type=Subquery(spoken.values("type")[:1]),
        )

    @admin.display(description="State", ordering="state")
    def status(self, session: VoiceSession) -> SafeString:
        return format_html(
            '<span class="call-state call-state-{}">{}</span> <span class="call-ending">{}</span>',
            session.state,
            session.get_state_display(),
            session.get_end_reason_display(),
        )

    @admin.display(description="Started", ordering=Coalesce(F("started_at"), F("created_at")))
    def started(self, session: VoiceSession) -> SafeString:
        return moment(session.started_at or session.created_at)

    @admin.display(description="Agent", ordering="agent_name")
    def agent(self, session: VoiceSession) -> str:
        return session.agent_name

    @admin.display(description="Length")
    def length(self, session: VoiceSession) -> str | SafeString:
        return length_of(session)

    @admin.display(description="Turns", ordering="turn_count")
    def turns_said(self, session: ListedSession) -> int:
        return session.turn_count

    @admin.display(description="Proof", ordering="proof")
    def proof_state(self, session: VoiceSession) -> SafeString | None:
        return badge(session)

    @admin.display(description="Last words")
    def words_said(self, session: ListedSession) -> SafeString | None:
        if not session.last_text:
            return None
        return format_html(
            '<span class="call-last-words"><b>{}:</b> {}</span>',
            "Agent" if session.last_type == "response_text" else "Caller",
            Truncator(session.last_text).chars(80),
        )

    def get_urls(self) -> list[URLPattern]:
        events = path(
            "<uuid:object_id>/change/events/",
            self.admin_site.admin_view(self.events_view),
            name="sessions_app_voicesession_events",
        )
        compare = path(
            "<uuid:object_id>/change/compare/",
            self.admin_site.admin_view(self.compare_view),
            name="sessions_app_voicesession_compare",
        )
        return [events, compare, *super().get_urls()]

    def may_compare(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("sessions_app.change_voicesession"))

    def compare_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """Compares the call with the platform's record, now."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        session = self.get_object(request, str(object_id))
        if not self.has_view_permission(request, session) or not self.may_compare(request):
            raise PermissionDenied
        if session is None:
            raise Http404("There is no such call.")
        try:
            prove(session)
        except NotProvableError as trouble:
            messages.error(request, f"The call could not be compared. {trouble}")
        else:
            is_good = session.proof in (VoiceSession.Proof.COMPLETE, VoiceSession.Proof.RECOVERED)
            tell = messages.success if is_good else messages.warning
            tell(request, f"Compared. {' '.join(sentences(session))}")
        return HttpResponseRedirect(reverse("admin:sessions_app_voicesession_change", args=[session.pk]))

    def events_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """The lines after ?after=browser:12,server:1, and those which a new one has changed."""
        session = self.get_object(request, str(object_id))
        if not self.has_view_permission(request, session):
            raise PermissionDenied
        if session is None:
            raise Http404("There is no such call.")
        try:
            after = parse_cursor(request.GET.get("after", ""))
        except ValueError as error:
            return HttpResponseBadRequest(f"after: {error}", content_type="text/plain")
        new = list(session.events.after(after).in_order())
        context: list[SessionEvent] = []
        if any(event.type in CONTEXT for event in new):
            context = list(session.events.filter(type__in=CONTEXT).in_order())
        html = render_to_string(
            "sessions_app/_event_rows.html", {"lines": lines([*changed_by(new, context), *new], context)}
        )
        headers = {"X-Cursor": moved_cursor(after, new), "X-State": session.state, "X-Proof": mark(session)}
        return HttpResponse(html, headers=headers)

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: VoiceSession | None = None,
    ) -> HttpResponse:
        """The change page is the transcript."""
        if obj is None:  # adding is not offered
            raise PermissionDenied
        events = list(obj.events.in_order())
        context |= {
            "title": f"Call with {obj.agent_name}",
            "state": STATES[obj.state],
            "call_facts": self.call_facts(obj),
            "proof": headline(obj),
            "proof_mark": mark(obj),
            "proof_sentences": sentences(obj),
            "platform_facts": platform_facts(obj),
            "compare_url": reverse("admin:sessions_app_voicesession_compare", args=[obj.pk])
            if obj.state == VoiceSession.State.ENDED and obj.call_id and self.may_compare(request)
            else "",
            "lines": lines(events, events),
            "cursor": moved_cursor({}, events),
            "events_url": reverse("admin:sessions_app_voicesession_events", args=[obj.pk]),
            "socket_url": f"/ws/transcripts/{obj.pk}/",
            # The admin's own scripts serve forms; there is none here.
            "media": Media(TranscriptMedia),
        }
        return super().render_change_form(request, context, add, change, form_url, obj)

    def call_facts(self, session: VoiceSession) -> list[tuple[str, str | SafeString]]:
        """What the head of the transcript tells of the call."""
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


@admin.register(Booking)
class BookingAdmin(ReadOnlyAdmin):
    list_display = ("number", "when", "people", "guest", "cancelled")
    list_select_related = ("session",)

    class Media:
        css: ClassVar = {"all": ["css/admin-transcript.css"]}

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        may_read_calls = request.user.has_perm("sessions_app.view_voicesession")
        return (*self.list_display, "call") if may_read_calls else self.list_display

    def get_fields(self, request: HttpRequest, obj: Booking | None = None) -> tuple[str, ...]:
        return self.get_list_display(request)

    @admin.display(description="Reference", ordering="pk")
    def number(self, booking: Booking) -> str:
        return booking.reference

    @admin.display(description="When", ordering="at")
    def when(self, booking: Booking) -> str:
        return date_format(timezone.localtime(booking.at), "D j M Y, H:i")

    @admin.display(description="Name", ordering="name")
    def guest(self, booking: Booking) -> str | None:
        return booking.name or None

    @admin.display(description="Cancelled", ordering="cancelled_at")
    def cancelled(self, booking: Booking) -> SafeString | None:
        return moment(booking.cancelled_at) if booking.cancelled_at else None

    @admin.display(description="Call")
    def call(self, booking: Booking) -> SafeString:
        url = reverse("admin:sessions_app_voicesession_change", args=[booking.session_id])
        return format_html('<a class="nowrap" href="{}">{}</a>', url, booking.session)
