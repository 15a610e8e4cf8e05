"""The list of calls: live ones first, then the newest; what was said, searched; calls chosen from either.

Pages go on from a call (keyset), never by counting: the last page of a million costs what the first does.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import BadRequest
from django.db import connection
from django.db.models import Prefetch, Q, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.views.decorators.http import require_safe

from sessions_app import digest, search
from sessions_app.filters import HAS, MAX_SECONDS, MAX_WORDS, STATES, Filters
from sessions_app.models import Label, Labelling, VoiceSession
from sessions_app.moments import length_of, moment
from sessions_app.proof_display import LOOKS, badge
from sessions_app.staff import may, staff_page
from sessions_app.transcript import clock

PAGE = 50
LIVE = 100
"""Shown before all others. Should more be going on, the rest stand where their beginning puts them."""

HITS = 50

CATCH_UP_S = 0.2
"""What a page may spend on lines that came since the last one; the rest is left to the next."""
CATCH_UP_CALLS = 200

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

AGENTS = """
WITH RECURSIVE agents(id) AS (
  SELECT (SELECT agent_id FROM sessions_app_voicesession ORDER BY agent_id LIMIT 1)
  UNION ALL
  SELECT (SELECT agent_id FROM sessions_app_voicesession WHERE agent_id > agents.id ORDER BY agent_id LIMIT 1)
  FROM agents WHERE agents.id IS NOT NULL
)
SELECT id, (SELECT agent_name FROM sessions_app_voicesession WHERE agent_id = agents.id
            ORDER BY created_at DESC LIMIT 1)
FROM agents WHERE id IS NOT NULL
"""
"""One step in the index for each agent; DISTINCT would read all calls."""


def agents() -> dict[UUID, str]:
    """Whoever was ever called, by the name that they had last; in the order of the names."""
    with connection.cursor() as cursor:
        cursor.execute(AGENTS)
        found = {UUID(str(agent)): name for agent, name in cursor.fetchall()}
    return dict(sorted(found.items(), key=lambda item: item[1].casefold()))


@dataclass(frozen=True)
class Place:
    """A call's place in the list, as the address holds it: "1795419777123456.6f1c…" """

    at: datetime
    id: UUID

    @classmethod
    def read(cls, text: str) -> Self | None:
        """None for what is none: a list from its beginning is a good answer to a broken address."""
        found = re.fullmatch(r"([0-9]{1,16})\.([0-9a-f]{32})", text)
        return cls(EPOCH + int(found[1]) * MICROSECOND, UUID(found[2])) if found else None

    @classmethod
    def of(cls, call: VoiceSession) -> Self:
        return cls(call.created_at, call.pk)

    def __str__(self) -> str:
        return f"{(self.at - EPOCH) // MICROSECOND}.{self.id.hex}"

    @property
    def before(self) -> Q:
        """What comes later in the list. The first condition is there for the index."""
        return Q(created_at__lte=self.at) & (Q(created_at__lt=self.at) | Q(pk__lt=self.id))

    @property
    def after(self) -> Q:
        return Q(created_at__gte=self.at) & (Q(created_at__gt=self.at) | Q(pk__gt=self.id))


@dataclass(frozen=True)
class Page:
    ids: list[UUID]
    newer: Place | None
    """Of the first call, if newer ones come before it."""
    older: Place | None


def page_of(calls: QuerySet[VoiceSession], before: Place | None, after: Place | None) -> Page:
    """PAGE calls after a place in the list, or those before it; without one, the newest."""
    places = calls.values_list("created_at", "pk")
    if after is not None and before is None:
        found = [
            Place(*place) for place in places.filter(after.after).order_by("created_at", "pk")[: PAGE + 1]
        ]
        if len(found) > PAGE:
            shown = found[PAGE - 1 :: -1]
            return Page([place.id for place in shown], shown[0], shown[-1])
    wanted = places.filter(before.before) if before else places
    found = [Place(*place) for place in wanted.order_by("-created_at", "-pk")[: PAGE + 1]]
    shown = found[:PAGE]
    return Page(
        [place.id for place in shown],
        shown[0] if before and shown else None,
        shown[-1] if len(found) > PAGE else None,
    )


def rows(ids: Sequence[UUID]) -> list[dict[str, Any]]:
    """What the template shows of these calls."""
    calls = VoiceSession.objects.select_related("reviewed_by", "flagged_by").defer("details", "platform_call")
    calls = calls.prefetch_related(Prefetch("labellings", Labelling.objects.select_related("label")))
    found = {call.pk: call for call in calls.filter(pk__in=ids)}
    return [
        {
            "call": call,
            "state": STATES[call.state],
            "started": moment(call.started_at or call.created_at),
            "length": length_of(call),
            "proof": badge(call),
            "labels": [labelling.label.name for labelling in call.labellings.all()],
        }
        for call in (found[pk] for pk in ids if pk in found)
    ]


def named(text: str) -> Q | None:
    """Calls whose number, here or on the platform, is or holds `text`; None if it is no number of a call.

    A piece of ours has eight digits at least: shorter words of letters a to f and digits are in some number
    by chance.
    """
    if not re.fullmatch(r"[\w.:-]{4,}", text) or not any(char.isdigit() for char in text):
        return None
    digits = text.replace("-", "").lower()
    is_hex = re.fullmatch(r"[0-9a-f]{8,32}", digits) is not None
    if is_hex and len(digits) == 32:
        whole = UUID(digits)
        return Q(pk=whole) | Q(call_id__in=[text, str(whole), whole.hex])
    # Two queries that each read nothing but an index.
    matching = VoiceSession.objects.order_by()
    ours = (
        matching.filter(pk__contains=text.lower()).values_list("pk", flat=True) if is_hex else matching.none()
    )
    theirs = matching.filter(call_id__icontains=text).values_list("call_id", flat=True)
    ids, numbers = list(ours[:PAGE]), list(theirs[:PAGE])
    return Q(pk__in=ids) | Q(call_id__in=numbers) if ids or numbers else None


def selected(request: HttpRequest) -> QuerySet[VoiceSession]:
    """The calls that a form of the list names: by their `id`, or with all=1 all that its filters let through.

    A GET with neither means the list that its address shows. Raises BadRequest for filters that cannot be
    read: what they were to keep out must not be exported or deleted.
    """
    data = request.POST if request.method == "POST" else request.GET
    ids = data.getlist("id")
    if data.get("all") != "1" and (ids or request.method == "POST"):
        try:
            return VoiceSession.objects.filter(pk__in=[UUID(text) for text in ids])
        except ValueError:
            raise BadRequest("An id is not that of a call.") from None
    filters = Filters.read(data)
    if filters.problems:
        raise BadRequest("A filter cannot be read; go back to the list and choose again.")
    calls = filters.apply(VoiceSession.objects.all())
    if not filters.q:
        return calls
    number = named(filters.q)
    if number is not None:
        return calls.filter(number)
    found = search.search(filters.q, calls, limit=search.MATCHES)
    if found.is_partial:
        raise BadRequest("This was said too often to choose all calls with it; narrow the search by dates.")
    return VoiceSession.objects.filter(pk__in={hit.session.pk for hit in found.hits})


def address(*parts: list[tuple[str, str]]) -> str:
    return "?" + urlencode([pair for part in parts for pair in part])


def found_words(filters: Filters) -> dict[str, Any]:
    """For the template: where `q` was said, in calls that the other filters let through."""
    is_narrowed = any(name != "q" for name, _ in filters.pairs())
    calls = filters.apply(VoiceSession.objects.all()) if is_narrowed else None
    found = search.search(filters.q, calls, limit=HITS)
    hits = [
        {
            "call": hit.session,
            "anchor": "{}-{}".format(*hit.place),
            "when": date_format(timezone.localtime(hit.session.created_at), "j M Y, H:i"),
            "role": hit.event.role.capitalize(),
            "offset": clock(hit.event.at_ms / 1000),
            "parts": hit.parts,
        }
        for hit in found.hits
    ]
    return {"hits": hits, "is_partial": found.is_partial, "is_full": len(hits) == HITS}


def listed(filters: Filters, number: Q | None, data: QueryDict) -> dict[str, Any]:
    """For the template: a page of calls, of those with a `number` if there is one."""
    calls = filters.apply(VoiceSession.objects.filter(number or Q()))
    before, after = Place.read(data.get("before", "")), Place.read(data.get("after", ""))
    live: list[UUID] = []
    if not filters.state:
        going_on = VoiceSession.objects.filter(state="live").order_by("-created_at", "-pk")
        live = list(going_on.values_list("pk", flat=True)[:LIVE])
    page = page_of(calls.exclude(pk__in=live), before, after)
    if page.newer is not None:
        live = []
    elif live and filters.pairs():
        wanted = set(calls.filter(pk__in=live).values_list("pk", flat=True))
        live = [pk for pk in live if pk in wanted]
    shown = rows([*live, *page.ids])
    live_rows = [row for row in shown if row["call"].pk in live]
    pairs = filters.pairs()
    return {
        "live": live_rows,
        "rows": shown[len(live_rows) :],
        "newest_url": address(pairs) if page.newer else "",
        "newer_url": address(pairs, [("after", str(page.newer))]) if page.newer else "",
        "older_url": address(pairs, [("before", str(page.older))]) if page.older else "",
    }


def lists(filters: Filters, known: dict[UUID, str]) -> list[dict[str, Any]]:
    """The lists of the filter form: name, label, what is chosen, values and words."""
    reviewers = User.objects.filter(is_staff=True).order_by("username").values_list("username", flat=True)
    labels = Label.objects.values_list("name", flat=True)
    ends = [(value, str(words).capitalize()) for value, words in VoiceSession.EndReason.choices]
    offered: list[tuple[str, str, list[tuple[str, str]]]] = [
        ("agent", "Agent", [(str(agent), name) for agent, name in known.items()]),
        ("state", "State", list(STATES.items())),
        ("end", "Why it ended", ends),
        ("proof", "Proof", [(look, word) for look, (word, _) in LOOKS.items()]),
        ("label", "Label", [(name, name) for name in labels]),
        ("reviewer", "Reviewed by", [(name, name) for name in reviewers]),
    ]
    chosen = dict(filters.pairs())
    return [
        {"name": name, "label": label, "value": chosen.get(name, ""), "choices": choices}
        for name, label, choices in offered
    ]


def acts(request: HttpRequest) -> list[dict[str, str]]:
    """What may be done with chosen calls: the buttons of their form (see export.py and erase.py)."""
    export = reverse("admin:sessions_app_voicesession_export")
    delete = reverse("admin:sessions_app_voicesession_delete_selected")
    offered = [
        ("export", {"words": "Export JSON", "url": export, "format": "json"}),
        ("export", {"words": "Export CSV", "url": export, "format": "csv"}),
        ("delete", {"words": "Delete…", "url": delete}),
    ]
    return [act for permission, act in offered if may(request.user, permission)]


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    digest.catch_up(CATCH_UP_S, CATCH_UP_CALLS)
    filters = Filters.read(request.GET)
    known = agents()
    number = named(filters.q)
    is_search = bool(filters.q) and number is None
    shown = found_words(filters) if is_search else listed(filters, number, request.GET)
    quoted = [(name, f'"{value}"' if name == "q" else value) for name, value in filters.pairs()]
    context = {
        **admin.site.each_context(request),
        "lines_left": digest.lines_left(),
        "title": "Calls",
        "filters": filters,
        "chips": filters.chips(known),
        "lists": lists(filters, known),
        "has": [(key, words) for key, (words, _) in HAS.items()],
        "max_words": MAX_WORDS,
        "max_seconds": MAX_SECONDS,
        "acts": acts(request),
        "is_search": is_search,
        "quoted_url": address(quoted),
        **shown,
    }
    return TemplateResponse(request, "admin/sessions_app/voicesession/change_list.html", context)


urls: list[URLPattern] = [path("", staff_page()(page), name="sessions_app_voicesession_changelist")]
