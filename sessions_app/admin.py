"""Staff's part of the site: which tables there are, and what may be done with them by Django's own pages.

Calls have pages of their own: the list (listing.py), the overview (overview.py), the transcript of one
(transcript_page.py).
"""

from contextlib import suppress
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString

from sessions_app import erase, export, listing, notes, overview, recording, transcript_page
from sessions_app.models import Access, Booking, Label, Labelling, Tombstone, VoiceSession
from sessions_app.moments import moment
from sessions_app.staff import may
from sessions_app.transcript import pairs

# Few tables need no second menu, and the width belongs to the words.
admin.site.enable_nav_sidebar = False


class Listed(admin.ModelAdmin):  # type: ignore[type-arg]  # its parameter exists in the stubs only
    empty_value_display = ""
    show_full_result_count = False
    list_per_page = 50

    class Media:
        css: ClassVar = {"all": ["css/admin-transcript.css", "css/admin-lists.css"]}

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        title = str(self.opts.verbose_name_plural).capitalize()
        return super().changelist_view(request, {"title": title, **(extra_context or {})})


class ReadOnlyAdmin(Listed):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        # PostgreSQL knows a number by its text with hyphens only; whole ones are also copied without.
        with suppress(ValueError):
            search_term = str(UUID(search_term))
        return super().get_search_results(request, queryset, search_term)


@admin.register(VoiceSession)
class VoiceSessionAdmin(ReadOnlyAdmin):
    def get_urls(self) -> list[URLPattern]:
        return [
            *listing.urls,
            *overview.urls,
            *export.urls,
            *erase.urls,
            *notes.urls,
            *transcript_page.urls,
            *recording.urls,
            *super().get_urls(),
        ]

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


@admin.register(Label)
class LabelAdmin(Listed):
    """What managers let their colleagues say about a call in one word."""

    search_fields = ("name",)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[Any, Any], set[Any], list[Any]]:
        """In numbers: Django would write a line for each of the thousands of calls that carry a label."""
        labels = list(objs)
        number = Labelling.objects.filter(label__in=labels).count()
        counts = {Label._meta.verbose_name_plural: len(labels)}
        if number:
            counts["calls that carry one"] = number
        return [str(label) for label in labels], counts, set(), []


def call_link(session_id: UUID, words: str) -> SafeString:
    url = reverse("admin:sessions_app_voicesession_change", args=[session_id])
    return format_html('<a class="nowrap" href="{}"><bdi>{}</bdi></a>', url, words)


def isolated(words: str) -> SafeString:
    """A name or a reason, whatever its letters do to the direction of the text around it."""
    return format_html("<bdi>{}</bdi>", words)


@admin.register(Booking)
class BookingAdmin(ReadOnlyAdmin):
    list_display = ("number", "when", "people", "guest", "cancelled")
    list_select_related = ("session",)

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        return (*self.list_display, "call") if may(request.user, "view") else self.list_display

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
        return call_link(booking.session_id, str(booking.session))


@admin.register(Access)
class AccessAdmin(ReadOnlyAdmin):
    list_display = ("when", "by", "did", "call", "more")
    list_display_links = None
    list_filter = ("action", "at")
    search_fields = ("=who", "session_id")
    search_help_text = "A user name, or the number of a session, whole or in part"

    @admin.display(description="When", ordering="at")
    def when(self, access: Access) -> SafeString:
        return moment(access.at)

    @admin.display(description="Who", ordering="who")
    def by(self, access: Access) -> SafeString:
        return isolated(access.who or "the site")

    @admin.display(description="Did", ordering="action")
    def did(self, access: Access) -> str:
        return access.get_action_display()

    @admin.display(description="Session")
    def call(self, access: Access) -> SafeString | None:
        return call_link(access.session_id, str(access.session_id)) if access.session_id else None

    @admin.display(description="Details")
    def more(self, access: Access) -> SafeString:
        return isolated(", ".join(": ".join(pair) for pair in pairs(access.details)))


@admin.register(Tombstone)
class TombstoneAdmin(ReadOnlyAdmin):
    list_display = ("session_id", "created", "deleted", "by", "because")
    list_display_links = None
    list_filter = ("deleted_at",)
    search_fields = ("session_id", "=who", "why")
    search_help_text = "The number of a session, a user name, or words of the reason"

    @admin.display(description="Call of", ordering="created_at")
    def created(self, tombstone: Tombstone) -> SafeString:
        return moment(tombstone.created_at)

    @admin.display(description="Deleted", ordering="deleted_at")
    def deleted(self, tombstone: Tombstone) -> SafeString:
        return moment(tombstone.deleted_at)

    @admin.display(description="Who", ordering="who")
    def by(self, tombstone: Tombstone) -> SafeString:
        return isolated(tombstone.who or "the site")

    @admin.display(description="Why")
    def because(self, tombstone: Tombstone) -> SafeString:
        return isolated(tombstone.why)
