"""Search in what was said, the same on SQLite (FTS5) and on PostgreSQL (tsvector).

Words are made here, by `fold`; the databases keep them and find the newest lines that hold all
that is asked for. Which of these come first is worked out here again, from the lines themselves. The table
belongs to no model: its row is a line's id and its words, on PostgreSQL its call's id, too.
"""

import re
import time
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.exceptions import EmptyResultSet
from django.db import connection, transaction
from django.db.models import Case, QuerySet, TextField, Value, When
from django.db.models.expressions import RawSQL
from django.db.models.fields.json import KT

from sessions_app.models import TEXT_KEYS, Progress, SessionEvent, VoiceSession

MATCHES = 1000
"""As many of the newest lines that match are ranked."""

FILTERED = 10_000
"""As many are looked at when only some calls are asked for."""

FIRST = 2500
"""Of these looked at before the rest: they are enough where most calls are asked for."""

READ = 250
"""Of those ranked, at a time."""

RECENT = 200_000
"""Lines of any kind, the latest."""

CHARACTERS = 2_000_000
"""Of matching lines, read for one search: somebody may have filled calls with lines of 60 kB."""

WORDS = 10_000
"""Of one line: an hour of talk. PostgreSQL knows the places of the first 16,383 only."""

LENGTH = 64
"""Characters of a word; PostgreSQL refuses those of more than 2 kB."""

ASKED = 32
"""Words of a query; those beyond are not looked for."""

CONTEXT = 12
"""Words shown before and behind the matching ones."""

UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "IDEOGRAPHIC", "THAI", "LAO", "KHMER", "MYANMAR")
"""Scripts, by the names of their characters, that put no blanks between words: each character is a word."""

STROKES = {"ł": "l", "ø": "o", "đ": "d", "ħ": "h", "ŧ": "t", "æ": "ae", "œ": "oe", "\u0131": "i"}
"""What is a letter with a mark to people, but not to Unicode."""

PIECE = re.compile(r'["“”„«»]([^"“”„«»]*)["“”„«»]?|([^\s"“”„«»]+)')
"""A phrase in quotes, of any keyboard, or a word."""


SAID = Case(
    *(When(type=kind, then=KT(f"data__{key}")) for kind, key in TEXT_KEYS.items()),
    default=Value(""),
    output_field=TextField(),
)
"""SessionEvent.text, from the database alone."""


class _Folding(dict[int, str]):
    """For str.translate: no case, no diacritics, and a blank for everything that is no part of a word."""

    def __missing__(self, code: int) -> str:
        folded = ""
        for part in unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", chr(code)).casefold()):
            if unicodedata.category(part).startswith("M"):
                continue
            letter = STROKES.get(part, part) if part.isalnum() else " "
            folded += f" {letter} " if unicodedata.name(part, "").startswith(UNSPACED) else letter
        if len(self) < 10_000:  # or whoever says every character there is fills the memory
            self[code] = folded
        return folded


_folding = _Folding()


def fold(text: str) -> list[str]:
    """The words of a text as they are kept and compared."""
    return [word[:LENGTH] for word in text.translate(_folding).split()]


def spans(text: str) -> list[tuple[str, int, int]]:
    """The words of `fold`, each with its place in the text: [start, end)."""
    found: list[tuple[str, int, int]] = []
    word, start, end = "", 0, 0
    for place, letter in enumerate(text):
        folded = _folding[ord(letter)]
        if not folded and word:  # an accent of its own belongs to the letter before it
            end = place + 1
        for part in folded:
            if part != " ":
                start = start if word else place
                word, end = word + part, place + 1
            elif word:
                found.append((word[:LENGTH], start, end))
                word = ""
    return [*found, (word[:LENGTH], start, end)] if word else found


@dataclass(frozen=True)
class Term:
    """Words that must follow each other. `is_open`: the last of them may go on."""

    words: tuple[str, ...]
    is_open: bool = False

    def places(self, words: Sequence[str]) -> Iterator[tuple[int, bool]]:
        """Where it is found, and whether as a whole."""
        *firsts, last = self.words
        for place in range(len(words) - len(firsts)):
            word = words[place + len(firsts)]
            if (word == last or (self.is_open and word.startswith(last))) and (
                not firsts or list(words[place : place + len(firsts)]) == firsts
            ):
                yield place, word == last


def read(query: str) -> list[Term]:
    """What is asked for. Whatever the text, no error; nothing in it that is a word: an empty list."""
    pieces = list(PIECE.finditer(query[:10_000]))
    terms: list[Term] = []
    room = ASKED
    for piece in pieces:
        phrase, word = piece.groups()
        words = tuple(fold(phrase if word is None else word))[:room]
        room -= len(words)
        if words:
            is_open = word is not None and (word.endswith("*") or piece is pieces[-1])
            terms.append(Term(words, is_open))
    return list(dict.fromkeys(terms))


@dataclass(frozen=True)
class Hit:
    """A line in which it was said."""

    event: SessionEvent
    session: VoiceSession
    parts: list[tuple[str, bool]]
    """The words in their context, as they were said; True: asked for."""

    @property
    def place(self) -> tuple[str, int]:
        """(source, seq) of the line of the transcript that shows it: the platform's words, where they differ,
        stand in the browser's line."""
        if self.event.source == SessionEvent.Source.PLATFORM and "differs_from" in self.event.data:
            source, seq = self.event.data["differs_from"]
            return source, seq
        return self.event.source, self.event.seq


@dataclass(frozen=True)
class Found:
    hits: list[Hit]
    """The best first."""
    is_partial: bool = False
    """Only the newest lines that match were looked at."""


def search(query: str, sessions: QuerySet[VoiceSession] | None = None, limit: int = 50) -> Found:
    """Lines with all words of `query`, of the calls `sessions` (None: of all).

    "words in quotes" follow each other; `word*` and the query's last word may go on.
    """
    terms = read(query)
    if not terms:
        return Found([])
    ids, is_partial = _matches(terms, sessions)
    ranked: list[tuple[float, int, int, int]] = []
    room = CHARACTERS
    for start in range(0, len(ids), READ):
        if room < 0:
            is_partial = True
            break
        lines = SessionEvent.objects.filter(pk__in=_listed(ids[start : start + READ]))
        for pk, text in lines.values_list("pk", SAID):
            room -= len(text)
            if score := _score(terms, fold(text)[:WORDS]):
                ranked.append((-score[0], -pk, *score[1:]))
    best = sorted(ranked)[:limit]
    found = SessionEvent.objects.select_related("session").defer("session__details", "session__platform_call")
    events = found.in_bulk([-pk for _, pk, _, _ in best])
    hits = [
        Hit(line, line.session, _parts(line.text, terms, first, last))
        for _, pk, first, last in best
        if (line := events.get(-pk)) is not None  # deleted in between
    ]
    return Found(hits, is_partial)


def _matches(terms: Sequence[Term], sessions: QuerySet[VoiceSession] | None) -> tuple[list[int], bool]:
    """Ids of the newest lines that match, and whether there may be older ones."""
    if sessions is None:
        ids = [pk for pk, _ in _newest(terms, MATCHES + 1)]
        return ids[:MATCHES], len(ids) > MATCHES
    for limit in (FIRST, FILTERED + 1):
        looked_at = _newest(terms, limit, sessions)
        ids = [pk for pk, is_wanted in looked_at if is_wanted]
        if len(ids) > MATCHES or len(looked_at) < limit:
            break
    return ids[:MATCHES], len(ids) > MATCHES or len(looked_at) > FILTERED


def _listed(ids: Sequence[int]) -> RawSQL:
    """For `pk__in`: the ids as one parameter. With thousands, Django would spend more than the database."""
    if connection.vendor == "postgresql":
        return RawSQL("SELECT unnest(%s::bigint[])", [list(ids)])
    return RawSQL("SELECT value FROM json_each(%s)", [str(list(ids))])


def _newest(
    terms: Sequence[Term], limit: int, sessions: QuerySet[VoiceSession] | None = None
) -> list[tuple[int, bool]]:
    """Ids of the newest lines that match, and whether each is of one of `sessions`."""
    if connection.vendor == "postgresql":
        return _newest_of_postgresql(terms, limit, sessions)
    asked = " ".join(f'"{" ".join(term.words)}"{"*" if term.is_open else ""}' for term in terms)
    newest = (
        "SELECT rowid AS event_id FROM sessions_app_words WHERE words MATCH %s ORDER BY rowid DESC LIMIT %s"
    )
    if sessions is not None:
        lines = "LEFT JOIN sessions_app_sessionevent AS event ON event.id = event_id"
        newest = f"SELECT event_id, event.session_id FROM ({newest}) {lines}"  # noqa: S608
    return _looked(newest, (asked, limit), sessions)


def _newest_of_postgresql(
    terms: Sequence[Term], limit: int, sessions: QuerySet[VoiceSession] | None
) -> list[tuple[int, bool]]:
    asked = " & ".join(
        "({}{})".format(" <-> ".join(f"'{word}'" for word in term.words), ":*" if term.is_open else "")
        for term in terms
    )
    match = "SELECT event_id, session_id FROM sessions_app_words WHERE words @@ %s::tsquery"
    newest = "ORDER BY event_id DESC LIMIT %s"
    if any(len(term.words) > 1 for term in terms):
        # It takes a phrase for as frequent as its words are, and would read all lines, the newest first, to
        # find enough of a rare one. So the latest lines tell whether it is: then the index is the better way.
        is_late = "event_id > (SELECT max(event_id) FROM sessions_app_words) - %s"
        late = _looked(f"{match} AND {is_late} {newest}", (asked, RECENT, limit), sessions)
        if len(late) == limit:
            return late
        if len(late) < limit // 4:
            found = f"WITH found AS MATERIALIZED ({match}) SELECT event_id, session_id FROM found"  # noqa: S608
            return _looked(f"{found} {newest}", (asked, limit), sessions)
    return _looked(f"{match} {newest}", (asked, limit), sessions)


def _looked(
    lines: str, parameters: tuple[Any, ...], sessions: QuerySet[VoiceSession] | None
) -> list[tuple[int, bool]]:
    """What the statement `lines` finds, the newest first, and whether it is of one of `sessions`."""
    wanted, more = "TRUE", ()
    if sessions is not None:
        # One look for each line, not a list of all the calls that are asked for: these may be most of them.
        one = sessions.filter(pk=RawSQL("looked.session_id", ())).order_by().values("pk")
        try:
            statement, more = one.query.sql_with_params()
        except EmptyResultSet:  # such as those with a label that nobody knows
            return []
        wanted = f"EXISTS ({statement})"
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT event_id, {wanted} FROM ({lines}) AS looked ORDER BY event_id DESC",  # noqa: S608
            (*more, *parameters),
        )
        return [(pk, bool(is_wanted)) for pk, is_wanted in cursor.fetchall()]


def _score(terms: Sequence[Term], words: Sequence[str]) -> tuple[float, int, int] | None:
    """How well a line answers, and the first and last place of the shortest stretch with all terms.

    How often each term is there, the first times counting most and beginnings of words half; and how close
    together the terms are.
    """
    score = 0.0
    places: list[tuple[int, int]] = []
    for number, term in enumerate(terms):
        found = list(term.places(words))
        if not found:
            return None
        places += [(place, number) for place, _ in found]
        weight = sum(1 if is_whole else 0.5 for _, is_whole in found)
        score += weight / (1 + weight) / len(terms)
    first, last = _shortest(sorted(places), terms)
    asked = sum(len(term.words) for term in terms)
    return score + min(1, asked / (last - first + 1)), first, last


def _shortest(places: Sequence[tuple[int, int]], terms: Sequence[Term]) -> tuple[int, int]:
    seen: dict[int, int] = {}
    best: tuple[int, int] | None = None
    for place, number in places:
        seen.pop(number, None)
        seen[number] = place  # in the order of their places, so that the first is where the stretch begins
        if len(seen) == len(terms):
            first = next(iter(seen.values()))
            last = max(at + len(terms[term].words) - 1 for term, at in seen.items())
            if best is None or last - first < best[1] - best[0]:
                best = first, last
    assert best is not None  # noqa: S101  each term has a place
    return best


def _parts(text: str, terms: Sequence[Term], first: int, last: int) -> list[tuple[str, bool]]:
    found = spans(text)[:WORDS]
    words = [word for word, _, _ in found]
    lowest, highest = max(0, first - CONTEXT), min(len(found), last + 1 + CONTEXT, first + 4 * CONTEXT)
    marked = {place + n for term in terms for place, _ in term.places(words) for n in range(len(term.words))}
    at = found[lowest][1] if lowest else 0
    end = found[highest][1] if highest < len(found) else len(text)
    parts = [("…", False)] if lowest else []
    for place in range(lowest, highest):
        if place in marked:
            _, start, stop = found[place]
            parts += [(text[at:start], False), (text[start:stop], True)]
            at = stop
    parts.append((text[at:end], False))
    if highest < len(found):
        parts.append(("…", False))
    return [(_one_line(words), is_asked) for words, is_asked in parts if words]


def _one_line(words: str) -> str:
    words = re.sub(r"\s+", " ", words)
    return words if len(words) <= 300 else f"{words[:300]}…"


def index(lines: Mapping[int, str], *, hidden: Collection[int] = ()) -> None:
    """Keeps the words of lines, by the ids of their events, and forgets those of `hidden` ones.

    A line's words never change, so those that are there stay. Call it inside a transaction.
    """
    with connection.cursor() as cursor:
        there = _there(cursor, [*lines, *hidden])
        _forget(cursor, there & set(hidden))
        new = {pk: fold(text)[:WORDS] for pk, text in lines.items() if pk not in there}
        if connection.vendor == "postgresql":
            cursor.execute(
                "INSERT INTO sessions_app_words (event_id, session_id, words)"
                " SELECT event.id, event.session_id, new.words::tsvector"
                " FROM unnest(%s::bigint[], %s::text[]) AS new (id, words)"
                " JOIN sessions_app_sessionevent AS event ON event.id = new.id ON CONFLICT DO NOTHING",
                [list(new), [_vector(words) for words in new.values()]],
            )
        else:
            cursor.executemany(
                "INSERT INTO sessions_app_words (rowid, words) VALUES (%s, %s)",
                [(pk, " ".join(words)) for pk, words in new.items()],
            )


def _vector(words: Sequence[str]) -> str:
    """A tsvector as text, so that PostgreSQL sees the same words as SQLite. Words are letters and digits."""
    places: dict[str, list[str]] = {}
    for place, word in enumerate(words, 1):
        places.setdefault(word, []).append(str(place))
    return " ".join(f"'{word}':{','.join(at)}" for word, at in places.items())


def _there(cursor: Any, ids: Sequence[int]) -> set[int]:
    if connection.vendor == "postgresql":
        cursor.execute("SELECT event_id FROM sessions_app_words WHERE event_id = ANY(%s)", [list(ids)])
    else:
        cursor.execute(
            "SELECT rowid FROM sessions_app_words WHERE rowid IN (SELECT value FROM json_each(%s))",
            [str(list(ids))],
        )
    return {row[0] for row in cursor.fetchall()}


def _forget(cursor: Any, ids: Collection[int]) -> None:
    if not ids:
        return
    if connection.vendor == "postgresql":
        cursor.execute("DELETE FROM sessions_app_words WHERE event_id = ANY(%s)", [list(ids)])
    else:
        cursor.executemany("DELETE FROM sessions_app_words WHERE rowid = %s", [(pk,) for pk in ids])
        Progress.objects.update_or_create(pk=1, defaults={"has_forgotten": True})


def forget(session_ids: Collection[UUID]) -> None:
    """Takes the words of calls out of the index, before the calls are deleted in the same transaction.

    On SQLite, `compact` afterwards takes what is left of them out of the file.
    """
    with transaction.atomic():
        # Whoever is digesting one of them has its row, and is waited for: what it adds would stay behind.
        list(VoiceSession.objects.filter(pk__in=session_ids).select_for_update().order_by("pk").only("pk"))
        ids = SessionEvent.objects.filter(session__in=session_ids).values_list("pk", flat=True)
        with connection.cursor() as cursor:
            _forget(cursor, list(ids))


def clear() -> None:
    """Forgets all words of all calls; digesting them brings the words back."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM sessions_app_words")


PAGES = 100
"""Of the index, rewritten in one transaction, for which the writer of the log has to wait."""


def compact(budget_s: float = 10) -> bool:
    """Takes forgotten words out of SQLite's file; False when there is more to do, next time.

    An FTS5 index only notes what is deleted (3.42 and later could do otherwise, older ones could not read
    such a file): the words go when its segments are merged into one. That rewrites the whole index, so it is
    done step by step, and only after something was forgotten; whoever calls this (erase.py) decides how
    often, and clears the file's free pages and its log of the last changes afterwards. PostgreSQL's
    autovacuum does its own.
    """
    if connection.vendor == "postgresql" or not Progress.objects.filter(has_forgotten=True).exists():
        return True
    deadline = time.monotonic() + budget_s
    while not _merge():
        if time.monotonic() > deadline:
            return False
    return True


def _merge() -> bool:
    """One step; True when there is nothing left to merge."""
    with transaction.atomic(), connection.cursor() as cursor:
        before = _changes(cursor)
        # Negative: as many as are needed until there is one segment, however few there are of a level.
        cursor.execute(
            "INSERT INTO sessions_app_words (sessions_app_words, rank) VALUES ('merge', %s)", [-PAGES]
        )
        is_done = _changes(cursor) - before < 2  # as FTS5's documentation has it
        if is_done:
            Progress.objects.update(has_forgotten=False)
        return is_done


def _changes(cursor: Any) -> int:
    return int(cursor.execute("SELECT total_changes()").fetchone()[0])
