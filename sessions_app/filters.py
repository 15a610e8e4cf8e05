"""What a list of calls is narrowed to. The address holds it, so that it can be kept and shared."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import Any, Self
from unicodedata import category
from urllib.parse import urlencode
from uuid import UUID

from django.contrib.auth.models import User
from django.db.models import Func, IntegerField, Q, QuerySet
from django.http import QueryDict
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from sessions_app.models import Label, Labelling, Note, VoiceSession
from sessions_app.proof_display import LOOKS

MAX_WORDS = 200
MAX_SECONDS = 10**6
YEARS = range(2000, 2100)
"""What a day may lie in: beyond, databases and time zones have their own ends of time."""

STATES = {"created": "Not started", "live": "Live", "ended": "Ended"}

HAS = {
    "tool_error": ("Tool errors", Q(tool_errors__gt=0)),
    "interruption": ("Interruptions", Q(interruptions__gt=0)),
    "incident": ("Incidents", Q(incidents__gt=0)),
    "slow_reply": ("Slow replies", Q(slow_replies__gt=0)),
    "flag": ("Flagged", Q(flagged_at__isnull=False)),
    "unreviewed": ("Not reviewed", Q(reviewed_at=None)),
    "note": ("Notes", Q(pk__in=Note.objects.values("session"))),
}
"""The word for it, and which calls have it."""

PLACES = {"from": "since", "to": "until"}
"""Parameters whose names Python keeps for itself, and the fields that they go to."""


def midnight(day: date) -> datetime:
    """When a day begins in the site's time zone."""
    return timezone.make_aware(datetime.combine(day, time.min))


def day(text: str) -> date:
    """A date as the address writes it, YYYY-MM-DD. Raises ValueError with a sentence."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = date.min
    if found.year not in YEARS or len(text) != 10:
        raise ValueError(f"is no day between {YEARS[0]} and {YEARS[-1]}; write it as 2026-05-31.")
    return found


def number(text: str) -> UUID:
    """The id of an agent. Raises ValueError with a sentence."""
    try:
        return UUID(text)
    except ValueError:
        raise ValueError("is not the id of an agent; choose one from the list.") from None


def _plain(text: str) -> str:
    # PostgreSQL takes no NUL, nor does anybody search for control characters.
    return " ".join("".join(" " if category(char) in ("Cc", "Cs") else char for char in text).split())


def _words(text: str) -> str:
    words = _plain(text)
    if len(words) > MAX_WORDS:
        raise ValueError(f"is too long; a search has {MAX_WORDS} characters at most.")
    return words


def _seconds(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,7}", text) or int(text) > MAX_SECONDS:
        raise ValueError("is no number of seconds; write it as 90.")
    return int(text)


def _one_of(choices: Iterable[str]) -> Callable[[str], str]:
    known = list(choices)

    def read(text: str) -> str:
        if text not in known:
            raise ValueError("is not among the choices; choose one from the list.")
        return text

    return read


def _label(text: str) -> str:
    name = text.replace("\0", "")
    if not Label.objects.filter(name=name).exists():
        raise ValueError("is no label, or no longer; choose one from the list.")
    return name


def _reviewer(text: str) -> str:
    name = text.replace("\0", "")
    if not User.objects.filter(username=name).exists():
        raise ValueError("is not a user name of staff; choose one from the list.")
    return name


READERS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "q": ("The search", _words),
    "from": ("The first day", day),
    "to": ("The last day", day),
    "agent": ("The agent", number),
    "state": ("The state", _one_of(STATES)),
    "end": ("The end", _one_of(VoiceSession.EndReason.values)),
    "proof": ("The proof", _one_of(LOOKS)),
    "label": ("The label", _label),
    "reviewer": ("The reviewer", _reviewer),
    "longer": ("The shortest length", _seconds),
    "shorter": ("The greatest length", _seconds),
    "has": ("What the call has", _one_of(HAS)),
}
"""Each parameter's name in a sentence, and how it is read: raises ValueError with the sentence's end."""


class Walked(Func):
    """A column that SQLite does not look up in an index of its own.

    SQLite does not know how many calls have a value: it would take all of an agent's and sort them, to find
    the few that the other filters let through. This way it walks through the index call_filters, the newest
    first, which has every column that is asked for. PostgreSQL keeps statistics and decides for itself.
    """

    arity = 1
    template = "%(expressions)s"

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="+%(expressions)s", **context)


WALKED = {
    "pk": Walked("pk"),
    "agent_id": Walked("agent_id"),
    "state": Walked("state"),
    "end_reason": Walked("end_reason"),
    "proof": Walked("proof"),
    "reviewed_by_id": Walked("reviewed_by_id", output_field=IntegerField()),
}


def walked(condition: Q) -> Q:
    """The same on the columns of WALKED."""

    def renamed(child: Any) -> Any:
        if isinstance(child, Q):
            return walked(child)
        name, value = child
        return (f"walked_{name}" if name.partition("__")[0] in WALKED else name), value

    same = Q(*map(renamed, condition.children), _connector=condition.connector)
    return ~same if condition.negated else same


@dataclass(frozen=True)
class Chip:
    """One filter that is on, and the list's query string without it."""

    words: str
    without: str


@dataclass(frozen=True)
class Filters:
    q: str = ""
    since: date | None = None
    until: date | None = None
    agent: UUID | None = None
    state: str = ""
    end: str = ""
    proof: str = ""
    label: str = ""
    reviewer: str = ""
    longer: int | None = None
    shorter: int | None = None
    has: tuple[str, ...] = ()
    problems: tuple[SafeString, ...] = ()
    """What could not be read, each a sentence for the page. The rest applies."""

    @classmethod
    def read(cls, data: QueryDict) -> Self:
        """From the parameters of a request; others, and empty ones, are left alone."""
        found: dict[str, Any] = {}
        problems: list[SafeString] = []
        for name, (title, reader) in READERS.items():
            texts = list(dict.fromkeys(data.getlist(name)))
            for text in filter(None, texts if name == "has" else texts[-1:]):
                try:
                    value = reader(text)
                except ValueError as trouble:
                    shown = Truncator(text).chars(40)
                    problems.append(format_html("{} “<bdi>{}</bdi>” {}", title, shown, str(trouble)))
                    continue
                place = PLACES.get(name, name)
                found[place] = (*found.get(place, ()), value) if name == "has" else value
        filters = cls(**found)
        if filters.since and filters.until and filters.since > filters.until:
            problems.append(format_html("{}", "The first day is after the last one: no call can match."))
        if None not in (filters.longer, filters.shorter) and filters.longer > filters.shorter:  # type: ignore[operator]
            problems.append(
                format_html("{}", "The shortest length is above the greatest: no call can match.")
            )
        return replace(filters, problems=tuple(problems))

    def pairs(self) -> list[tuple[str, str]]:
        """As an address or a form holds them."""
        values = ((name, getattr(self, PLACES.get(name, name))) for name in READERS if name != "has")
        return [(name, str(value)) for name, value in values if value not in ("", None)] + [
            ("has", key) for key in self.has
        ]

    @property
    def query_string(self) -> str:
        return urlencode(self.pairs())

    def chips(self, agents: Mapping[UUID, str]) -> list[Chip]:
        """Those that are on, in words; `agents`: their names."""
        pairs = self.pairs()
        return [
            Chip(
                self._words(name, value, agents), urlencode([pair for pair in pairs if pair != (name, value)])
            )
            for name, value in pairs
        ]

    def _words(self, name: str, value: str, agents: Mapping[UUID, str]) -> str:
        match name:
            case "q":
                return f"“{value}”"
            case "from" | "to":
                shown = date_format(date.fromisoformat(value), "j M Y")
                return f"{'From' if name == 'from' else 'Until'} {shown}"
            case "agent":
                return agents.get(UUID(value), f"Agent {value}")
            case "state":
                return STATES[value]
            case "end":
                return str(VoiceSession.EndReason(value).label).capitalize()
            case "proof":
                return f"Proof: {LOOKS[value][0].lower()}"
            case "label":
                return f"Label: {value}"
            case "reviewer":
                return f"Reviewed by {value}"
            case "longer":
                return f"{value} s or longer"
            case "shorter":
                return f"{value} s or shorter"
            case _:
                return HAS[value][0]

    def apply(self, calls: QuerySet[VoiceSession]) -> QuerySet[VoiceSession]:
        """All but `q`, which is looked for elsewhere."""
        conditions = self._conditions()
        if len(conditions) < 2 and not (self.state or self.reviewer or self.label or "note" in self.has):
            return calls.filter(*conditions)  # which has an index of its own
        calls = calls.alias(**{f"walked_{name}": column for name, column in WALKED.items()})
        return calls.filter(*map(walked, conditions))

    def _conditions(self) -> list[Q]:
        """Those that look into other tables last: SQLite asks in this order."""
        columns = {
            "agent_id": self.agent,
            "state": self.state,
            "end_reason": self.end,
            "length_s__gte": self.longer,
            "length_s__lte": self.shorter,
            "created_at__gte": self.since and midnight(self.since),
            "created_at__lt": self.until and midnight(self.until + timedelta(days=1)),
        }
        conditions = [Q((name, value)) for name, value in columns.items() if value not in ("", None)]
        if self.proof:
            conditions.append(LOOKS[self.proof][1])
        if self.reviewer:
            reviewers = User.objects.filter(username=self.reviewer)
            conditions.append(Q(reviewed_by_id__in=reviewers.values("pk")))
        conditions += [HAS[key][1] for key in sorted(self.has, key=list(HAS).index)]
        if self.label:
            labelled = Labelling.objects.filter(label__name=self.label)
            conditions.append(Q(pk__in=labelled.values("session")))
        return conditions
