"""The overview of a span of days: how many calls, how fast the agent replied, what went wrong.

Its numbers come from one row for each day and agent (figures.Day), so that a year costs what its days cost,
however many calls they held. A day is marked as stale when one of its calls has changed, and added up anew
before it is shown next. Medians cannot be added up, so a day keeps a histogram of its replies, in steps of
5 %, which puts any percentile of any span within 2.5 % of the true one.
"""

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Self
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, HttpResponse, QueryDict
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.views.decorators.http import require_safe

from sessions_app import digest
from sessions_app.filters import day as read_day
from sessions_app.filters import midnight, number
from sessions_app.listing import CATCH_UP_CALLS, CATCH_UP_S, agents
from sessions_app.models import Day, VoiceSession
from sessions_app.proof_display import look_of
from sessions_app.staff import staff_page

STEP = math.log(1.05)

SPANS = (7, 30, 90)
USUAL = 30
LONGEST = 366

RECOUNT_S = 0.1
"""What a page may spend on adding up; old days need it once, so that the next page has the rest of them."""

TOOLS = 50
"""Of a day, and shown: a caller who invents tools must not make the page grow."""
TOOL_NAME = 100


def step_of(ms: int) -> int:
    """The step of the histogram in which a reply of this latency lies."""
    return round(math.log(max(ms, 1)) / STEP)


@dataclass
class Totals:
    """Calls added up."""

    calls: int = 0
    began: int = 0
    interrupted: int = 0
    unverified: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    replies: Counter[int] = field(default_factory=Counter)
    """How many in each step."""
    tool_calls: Counter[str] = field(default_factory=Counter)
    tool_errors: Counter[str] = field(default_factory=Counter)

    def count(self, call: VoiceSession) -> None:
        self.calls += 1
        self.began += call.started_at is not None
        self.interrupted += call.started_at is not None and call.interruptions > 0
        self.unverified += look_of(call) == "unverified"
        if call.end_reason:
            self.ends[call.end_reason] += 1
        self.replies.update(step_of(ms) for ms in call.details.get("replies_ms", ()))
        for counter, name in ((self.tool_calls, "tools"), (self.tool_errors, "tool_errors")):
            for tool, times in call.details.get(name, {}).items():
                counter[Truncator(tool).chars(TOOL_NAME)] += times

    def add(self, figures: Mapping[str, Any]) -> None:
        """Those of a Day."""
        for name in ("calls", "began", "interrupted", "unverified"):
            setattr(self, name, getattr(self, name) + figures.get(name, 0))
        self.replies.update({int(step): times for step, times in figures.get("replies", {}).items()})
        for name in ("ends", "tool_calls", "tool_errors"):
            getattr(self, name).update(figures.get(name, {}))

    def figures(self) -> dict[str, Any]:
        """As a Day keeps them."""
        # Whatever fails counts before what is merely called.
        tools = self.tool_errors.most_common(TOOLS) + self.tool_calls.most_common(TOOLS)
        kept = {tool for tool, _ in tools[:TOOLS]}
        return {
            "calls": self.calls,
            "began": self.began,
            "interrupted": self.interrupted,
            "unverified": self.unverified,
            "ends": dict(self.ends),
            "replies": dict(sorted(self.replies.items())),
            "tool_calls": {tool: times for tool, times in self.tool_calls.items() if tool in kept},
            "tool_errors": {tool: times for tool, times in self.tool_errors.items() if tool in kept},
        }

    def reply_ms(self, share: float) -> int | None:
        """The latency that this share of the replies did not exceed; None without replies."""
        left = math.ceil(share * self.replies.total())
        for step, times in sorted(self.replies.items()):
            left -= times
            if left <= 0:
                return round(math.exp(step * STEP))
        return None


def recount(days: Iterable[date], budget_s: float) -> int:
    """Adds up what is stale of these days, newest first, while there is time; returns how many it left."""
    until = time.monotonic() + budget_s
    span = sorted(days)
    if not span:
        return 0
    stale = Day.objects.filter(is_stale=True, day__range=(span[0], span[-1])).order_by("-day")
    keys = list(stale.values_list("pk", flat=True))
    for done, pk in enumerate(keys):
        if time.monotonic() > until:
            return len(keys) - done
        _add_up(pk)
    return 0


def _add_up(pk: int) -> None:
    with transaction.atomic():
        # Whoever marks the day as stale while its calls are read waits here, and their mark stays.
        day = Day.objects.select_for_update().filter(pk=pk, is_stale=True).first()
        if day is None:
            return
        calls = VoiceSession.objects.filter(
            agent_id=day.agent_id,
            created_at__gte=midnight(day.day),
            created_at__lt=midnight(day.day + timedelta(days=1)),
        )
        totals = Totals()
        for call in calls.only(
            *("state", "started_at", "end_reason", "proof", "call_id", "interruptions", "details")
        ).order_by():
            totals.count(call)
        day.figures, day.is_stale = totals.figures(), False
        day.save(update_fields=["figures", "is_stale"])


@dataclass(frozen=True)
class Span:
    """The days that the page is about, and whose calls."""

    first: date
    last: date
    agent: UUID | None = None
    preset: int | None = None
    problems: tuple[SafeString, ...] = ()

    @classmethod
    def read(cls, data: QueryDict, today: date) -> Self:
        """From the address: span=7|30|90, or from and to; agent."""
        problems: list[SafeString] = []
        found: dict[str, Any] = {}
        for name, title, reader in (
            ("from", "The first day", read_day),
            ("to", "The last day", read_day),
            ("agent", "The agent", number),
        ):
            if text := data.get(name, ""):
                try:
                    found[name] = reader(text)
                except ValueError as trouble:
                    shown = Truncator(text).chars(40)
                    problems.append(format_html("{} “<bdi>{}</bdi>” {}", title, shown, str(trouble)))
        agent = found.get("agent")
        if "from" not in found and "to" not in found:
            text = data.get("span", "") or str(USUAL)
            if text not in map(str, SPANS):
                problems.append(format_html("{}", f"A span is one of {', '.join(map(str, SPANS))} days."))
                text = str(USUAL)
            return cls(today - timedelta(days=int(text) - 1), today, agent, int(text), tuple(problems))
        last = found.get("to", max(today, found.get("from", today)))
        first = found.get("from", last - timedelta(days=USUAL - 1))
        if first > last:
            problems.append(format_html("{}", "The first day is after the last one: they were exchanged."))
            first, last = last, first
        if (last - first).days >= LONGEST:
            problems.append(format_html("{}", f"A span has {LONGEST} days at most: these are its last ones."))
            first = last - timedelta(days=LONGEST - 1)
        return cls(first, last, agent, None, tuple(problems))

    @property
    def agent_pair(self) -> dict[str, str]:
        """As an address holds it."""
        return {"agent": str(self.agent)} if self.agent else {}

    @property
    def days(self) -> list[date]:
        return [self.first + timedelta(days=n) for n in range((self.last - self.first).days + 1)]

    def calls_url(self, first: date | None = None, last: date | None = None, **more: str) -> str:
        """The list of these calls."""
        pairs = {"from": first or self.first, "to": last or self.last, **self.agent_pair, **more}
        return f"{reverse('admin:sessions_app_voicesession_changelist')}?{urlencode(pairs)}"


def added_up(span: Span) -> tuple[Totals, list[tuple[date, Totals]]]:
    """Of the whole span, and of each of its days."""
    stored = Day.objects.filter(day__range=(span.first, span.last))
    if span.agent:
        stored = stored.filter(agent_id=span.agent)
    whole, by_day = Totals(), {day: Totals() for day in span.days}
    for day, figures in stored.values_list("day", "figures"):
        whole.add(figures)
        by_day[day].add(figures)
    return whole, list(by_day.items())


@dataclass(frozen=True)
class Value:
    """A number for the chart, and its words for everybody."""

    number: float | str
    words: str

    @classmethod
    def latency(cls, ms: int | None) -> Self:
        return cls("", "") if ms is None else cls(ms / 1000, f"{ms / 1000:.2f} s")

    @classmethod
    def share(cls, part: int, whole: int) -> Self:
        return cls(part / whole, f"{part / whole:.1%}") if whole else cls("", "")


def table_of_days(span: Span, by_day: Iterable[tuple[date, Totals]]) -> list[dict[str, Any]]:
    return [
        {
            "day": day.isoformat(),
            "words": date_format(day, "D j M Y"),
            "url": span.calls_url(day, day),
            "calls": totals.calls,
            "unverified": totals.unverified,
            "median": Value.latency(totals.reply_ms(0.5)),
            "p95": Value.latency(totals.reply_ms(0.95)),
            "replies": totals.replies.total(),
            "interrupted": totals.interrupted,
            "began": totals.began,
            "interrupted_share": Value.share(totals.interrupted, totals.began),
        }
        for day, totals in by_day
    ]


def table_of_tools(whole: Totals) -> list[dict[str, Any]]:
    """The tools that failed most, then those that were called most."""
    tools = sorted(
        whole.tool_calls | whole.tool_errors,
        key=lambda tool: (-whole.tool_errors[tool], -whole.tool_calls[tool], tool),
    )
    most = max(whole.tool_errors.values(), default=0) or 1
    return [
        {
            "tool": tool,
            "calls": whole.tool_calls[tool],
            "errors": whole.tool_errors[tool],
            "share": Value.share(whole.tool_errors[tool], whole.tool_calls[tool]),
            "bar": round(100 * whole.tool_errors[tool] / most),
        }
        for tool in tools[:TOOLS]
    ]


def table_of_ends(span: Span, whole: Totals) -> list[dict[str, Any]]:
    labels = dict(VoiceSession.EndReason.choices)
    most = max(whole.ends.values(), default=1)
    return [
        {
            "end": str(labels.get(end, end)).capitalize(),
            "url": span.calls_url(end=end),
            "calls": calls,
            "share": Value.share(calls, whole.ends.total()),
            "bar": round(100 * calls / most),
        }
        for end, calls in whole.ends.most_common()
    ]


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    digest.catch_up(CATCH_UP_S, CATCH_UP_CALLS)
    known = agents()
    span = Span.read(request.GET, timezone.localdate())
    left = recount(span.days, RECOUNT_S)
    whole, by_day = added_up(span)
    context = {
        **admin.site.each_context(request),
        "lines_left": digest.lines_left(),
        "title": "Overview",
        "opts": VoiceSession._meta,
        "span": span,
        "presets": [(days, urlencode({"span": days, **span.agent_pair})) for days in SPANS],
        "agents": [(str(agent), name) for agent, name in known.items()],
        "agent_name": known.get(span.agent, span.agent) if span.agent else "",
        "days_left": left,
        "whole": whole,
        "median": Value.latency(whole.reply_ms(0.5)),
        "p95": Value.latency(whole.reply_ms(0.95)),
        "interrupted_share": Value.share(whole.interrupted, whole.began),
        "tool_errors": whole.tool_errors.total(),
        "links": {
            "calls": span.calls_url(),
            "interrupted": span.calls_url(has="interruption"),
            "tool_errors": span.calls_url(has="tool_error"),
            "unverified": span.calls_url(proof="unverified"),
            "slow": span.calls_url(has="slow_reply"),
        },
        "days": table_of_days(span, by_day),
        "tools": table_of_tools(whole),
        "ends": table_of_ends(span, whole),
    }
    return TemplateResponse(request, "admin/sessions_app/voicesession/overview.html", context)


urls: list[URLPattern] = [path("overview/", staff_page()(page), name="sessions_app_voicesession_overview")]
