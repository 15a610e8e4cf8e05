"""What staff see, all of it read-only: calls, bookings, and the transcript of a call, its change page."""

from contextlib import suppress
from typing import Any, ClassVar, Protocol
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Count, F, OuterRef, QuerySet, Subquery, TextField, Value
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Coalesce, Concat
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from sessions_app import transcript_page
from sessions_app.comparison import TURNS
from sessions_app.models import Booking, SessionEvent, VoiceSession
from sessions_app.moments import length_of, moment
from sessions_app.proof_display import ProofFilter, badge

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
        return [*transcript_page.urls, *super().get_urls()]

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
        context |= transcript_page.context(request, obj)
        return super().render_change_form(request, context, add, change, form_url, obj)


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
