"""Calls that nobody had, as many as wanted and like real ones: to try staff's pages, and to measure them."""

import json
import math
import random
import uuid
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

from django.contrib.auth.models import Group, User
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction
from django.db.models import Max
from django.utils import timezone

from sessions_app import digest
from sessions_app.log import COLUMNS
from sessions_app.models import (
    Label,
    Labelling,
    Note,
    Progress,
    SessionEvent,
    ToolRun,
    VoiceSession,
)

DAYS = 90
AGENTS = {"Concierge": 60, "Reservations": 25, "Night desk": 12, "Lost and found": 3}
"""By name, and how many of a hundred calls each has."""

COMMON = """
the a to and I you for at is it we that in of on please can would like have table what do there tonight
tomorrow me my your be with two yes no not one thank good time are this will okay but so four how about
evening if any or eight seven an from could just name people when which open book hello reservation menu
weather free sorry again minute window garden terrace change cancel birthday vegetarian wine dinner lunch
children taxi parking number call back later early kitchen closed price card
"""
SYLLABLES = """
ba be bi bo bra ca ce co cra da de di do dra fa fe fi fo ga ge go gra ha he ho ja ka ke la le li lo lu ma
me mi mo mu na ne ni no nu pa pe pi po pra ra re ri ro ru sa se si so sta ta te ti to tra va ve vi vo wa
we za zo
"""
VOCABULARY = 5000
"""Words in all: a few are said all the time, most of them in one call of hundreds, as in any language."""

TOOLS = {"weather": 40, "time_in_city": 15, "book_table": 30, "cancel_booking": 10, "find_booking": 5}
TROUBLES = ("connection_poor", "reconnecting", "page_asleep", "playback_blocked", "microphone_silent")
ENDS = {"hang_up": 78, "agent_ended": 12, "disconnected": 4, "failed": 2, "abandoned": 3, "not_started": 1}
PROOFS = {"complete": 82, "recovered": 8, "differs": 3, "unverified": 5, "": 2}
NOTES = (
    "Ask the kitchen about this.",
    "The agent did well here.",
    "Wrong date: see the tool call.",
    "Call back.",
)
STAFF = ("ada.seeded", "bela.seeded", "chen.seeded")

CHUNK, DIGESTED = 500, 50
"""Calls written, and digested, at a time."""


@dataclass
class Speech:
    """Words by Zipf's law: the n-th most frequent is said a n-th as often as the first."""

    chance: random.Random
    words: list[str] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    drawn: Iterator[str] = field(default_factory=lambda: iter(()))

    def __post_init__(self) -> None:
        syllables, known = SYLLABLES.split(), dict.fromkeys(COMMON.split())
        while len(known) < VOCABULARY:
            known["".join(self.chance.choices(syllables, k=self.chance.randint(2, 4)))] = None
        self.words = list(known)
        self.weights = list(accumulate(1 / (place + 2.7) for place in range(len(self.words))))

    def say(self, length: int) -> str:
        """A sentence of so many words."""
        said = [word for _, word in zip(range(length), self._words(), strict=False)]
        return f"{' '.join(said).capitalize()}{self.chance.choice('..?!')}"

    def _words(self) -> Iterator[str]:
        while True:
            yield from self.drawn
            self.drawn = iter(self.chance.choices(self.words, cum_weights=self.weights, k=10_000))


def pick(chance: random.Random, weights: dict[str, int]) -> str:
    return chance.choices(list(weights), list(weights.values()))[0]


@dataclass
class Log:
    """The lines of one call as they are written, and the time in it."""

    speech: Speech
    session: VoiceSession
    at_ms: int = 0
    lines: list[tuple[str, int, str, int, dict[str, Any]]] = field(default_factory=list)
    """source, seq, type, at_ms, data"""
    runs: list[ToolRun] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    turns: int = 0

    def tell(self, kind: str, data: dict[str, Any] | None = None, source: str = "browser") -> int:
        self.numbers[source] = self.numbers.get(source, 0) + 1
        self.lines.append((source, self.numbers[source], kind, self.at_ms, data or {}))
        return self.numbers[source]

    def wait(self, seconds: float) -> None:
        self.at_ms += max(1, round(1000 * seconds))

    def agent_speaks(self) -> None:
        chance, turn_id = self.speech.chance, f"agent-{self.turns}"
        text = self.speech.say(min(60, 3 + int(chance.expovariate(1 / 12))))
        self.turns += 1
        self.tell(
            "response_text", {"text": text, "turn_id": turn_id, "is_final": True, "took_ms": len(text) * 60}
        )
        is_cut = chance.random() < 0.06
        self.wait(len(text) * 0.06 * (chance.random() if is_cut else 1))
        if is_cut:
            self.tell("interruption")

    def caller_speaks(self) -> None:
        chance = self.speech.chance
        text = self.speech.say(min(40, 1 + int(chance.expovariate(1 / 8))))
        self.turns += 1
        self.tell("speech_started")
        begun_ms = self.at_ms
        self.wait(len(text) * 0.065)
        self.tell("speech_stopped")
        data = {"transcript": text, "turn_id": f"user-{self.turns}", "is_final": True}
        now_ms, self.at_ms = self.at_ms, begun_ms
        self.tell("input_audio_transcript", {**data, "took_ms": now_ms - begun_ms})
        self.at_ms = now_ms

    def agent_replies(self) -> None:
        chance = self.speech.chance
        after_ms = min(20_000, round(1000 * chance.lognormvariate(math.log(0.9), 0.4)))
        if chance.random() < 0.12:
            after_ms += self.use_tool()
        self.wait(after_ms / 1000)
        self.tell("reply_audible", {"after_ms": after_ms})
        self.agent_speaks()

    def use_tool(self) -> int:
        """Returns how long that took, in ms."""
        chance = self.speech.chance
        name, call_id = pick(chance, TOOLS), uuid.UUID(int=chance.getrandbits(128)).hex
        took_ms = round(1000 * chance.lognormvariate(math.log(0.4), 0.8))
        is_error = chance.random() < 0.05
        answer = {"error": "Nothing free at that time."} if is_error else {"answer": self.speech.say(6)}
        arguments = (
            {"city": "lisbon"} if name in ("weather", "time_in_city") else {"people": chance.randint(1, 8)}
        )
        asked = [{"name": key, "value": value} for key, value in arguments.items()]
        started_at = self.session.created_at + timedelta(milliseconds=self.at_ms)
        self.tell("tool_call", {"toolCallId": call_id, "toolName": name, "arguments": asked})
        self.at_ms += took_ms
        self.tell("tool_call_output", {"toolCallId": call_id, "output": json.dumps(answer)})
        self.runs.append(
            ToolRun(
                session=self.session,
                tool_call_id=call_id,
                name=name,
                arguments=arguments,
                output=json.dumps(answer),
                is_error=is_error,
                started_at=started_at,
                finished_at=started_at + timedelta(milliseconds=took_ms),
            )
        )
        return took_ms


def hold(session: VoiceSession, speech: Speech, *, lines: int, turns: int, now: datetime) -> Log:
    """A call of so many lines, or turns if that is more, or a few above; `session` then tells how it went."""
    chance, log = speech.chance, Log(speech, session)
    end = pick(chance, ENDS) if turns == 0 else "hang_up"
    if end == "not_started":
        log.at_ms = 300_000
        log.tell("ended", {"reason": end}, "server")
        session.proof, session.unproved_because = "unverified", session.no_call_because
        finish(session, end, log.at_ms, now)
        return log
    session.call_id = f"call_{chance.getrandbits(64):016x}"
    log.wait(chance.uniform(0.5, 2))
    session.started_at = session.created_at + timedelta(milliseconds=log.at_ms)
    log.tell("connected")
    log.tell("session_started", {"id": session.call_id})
    log.agent_speaks()
    while len(log.lines) < lines - 1 or log.turns < turns:
        if chance.random() < 0.015:
            log.tell(chance.choice(TROUBLES), {})
        log.wait(chance.expovariate(1 / 1.5))
        log.caller_speaks()
        log.agent_replies()
    last = {"hang_up": "hang_up", "agent_ended": "session_ended", "disconnected": "disconnected"}
    if end in last:
        log.tell(last[end], {"by": "button"} if end == "hang_up" else {})
    elif end == "failed":
        log.tell("call_failed", {"code": "connection_lost"})
    else:
        log.tell("ended", {"reason": end}, "server")
    prove(log, pick(chance, PROOFS))
    finish(session, end, log.at_ms, now)
    return log


def finish(session: VoiceSession, end: str, at_ms: int, now: datetime) -> None:
    session.state, session.end_reason = "ended", end
    session.ended_at = session.last_seen_at = session.created_at + timedelta(milliseconds=at_ms)
    if session.proof:
        session.proved_at = session.ended_at + timedelta(seconds=70)
    else:
        session.prove_at = now + timedelta(days=365)  # the platform does not know these calls


def prove(log: Log, proof: str) -> None:
    """As reconcile.py would have left it."""
    session, seq = log.session, log.numbers["browser"]
    session.proof = proof
    session.platform_call = {"id": session.call_id, "status": "ended", "summary": log.speech.say(12)}
    if proof == "unverified":
        session.unproved_because = "The platform does not know the call."
        session.platform_call = {}
    elif proof == "recovered":
        data = {"text": log.speech.say(8), "turn_id": "agent-recovered", "entry": seq, "told_up_to": seq}
        log.tell("response_text", data, "platform")
        session.recovered = 1
    elif proof == "differs":
        line = next(line for line in log.lines if line[2] == "response_text")
        data = {**line[4], "text": log.speech.say(8), "entry": 1, "told_up_to": seq}
        at_ms, log.at_ms = log.at_ms, line[3]
        log.tell("response_text", {**data, "differs_from": ["browser", line[1]]}, "platform")
        log.at_ms = at_ms
        session.differing = 1


class Command(BaseCommand):
    help = (
        "Fills an empty database with calls that look like real ones, of the last 90 days, and with what "
        "staff make of them. For trying and measuring; not for a site that people use."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--sessions", type=int, default=1000, help="how many calls (default 1000)")
        parser.add_argument("--events", type=int, help="lines in all (default 20 for each call)")
        parser.add_argument(
            "--turns-of-longest", type=int, default=0, help="turns of one long call among them"
        )
        parser.add_argument(
            "--seed", type=int, default=1, help="another number makes other calls (default 1)"
        )
        parser.add_argument("--add", action="store_true", help="even though the database holds calls already")

    def handle(self, *args: Any, **options: Any) -> None:
        sessions, events = options["sessions"], options["events"] or 20 * options["sessions"]
        if sessions < 1 or events < sessions:
            raise CommandError("--sessions must be at least 1, and --events no less than --sessions.")
        is_alone = not VoiceSession.objects.exists()
        if not is_alone and not options["add"]:
            raise CommandError(
                "This database holds calls already. Seed an empty one (DATABASE_PATH or DATABASE_URL names "
                "another), or add to this one with --add."
            )
        chance = random.Random(options["seed"])  # noqa: S311  no secrets in here
        self.seed(Speech(chance), sessions, events, options["turns_of_longest"])
        if is_alone:
            # Nobody else has written, so nothing can turn up late: catch_up need not look through all of it.
            newest = SessionEvent.objects.aggregate(newest=Max("pk"))["newest"]
            Progress.objects.update_or_create(pk=1, defaults={"event": newest, "settled": newest})
        lines = SessionEvent.objects.count()
        self.stdout.write(f"{VoiceSession.objects.count()} calls with {lines} lines are there.")

    def seed(self, speech: Speech, sessions: int, events: int, longest: int) -> None:
        chance, now = speech.chance, timezone.now()
        staff = make_staff()
        labels = list(Label.objects.order_by("pk"))
        begun = sorted(now - moment_ago(chance) for _ in range(sessions))
        left = events
        for first in range(0, sessions, CHUNK):
            logs: list[Log] = []
            for number in range(first, min(first + CHUNK, sessions)):
                mean = left / (sessions - number)
                share = chance.lognormvariate(-0.32, 0.8)  # whose mean is 1
                lines = max(2, round(mean * share)) if number < sessions - 1 else left
                is_longest = longest > 0 and number == sessions // 2
                session = made(chance, begun[number])
                log = hold(session, speech, lines=lines, turns=longest if is_longest else 0, now=now)
                judge(session, chance, staff)
                logs.append(log)
                left -= len(log.lines)
            with transaction.atomic():
                write(logs)
                remark(logs, chance, staff, labels)
            for start in range(0, len(logs), DIGESTED):
                digest.digest_all([log.session.pk for log in logs[start : start + DIGESTED]])
            if (first + CHUNK) % 5000 == 0:
                self.stdout.write(f"{first + CHUNK} calls of {sessions}")


def moment_ago(chance: random.Random) -> timedelta:
    """More by day than by night, and somewhat more lately."""
    day = int(DAYS * chance.betavariate(1, 1.2))
    hour = min(23.99, max(0.0, chance.gauss(14, 4)))
    return timedelta(days=day, hours=24 - hour, minutes=5)


def made(chance: random.Random, created_at: datetime) -> VoiceSession:
    name = pick(chance, AGENTS)
    return VoiceSession(
        id=uuid.UUID(int=chance.getrandbits(128), version=4),
        visitor=f"{chance.getrandbits(128):032x}",
        agent_id=uuid.uuid5(uuid.NAMESPACE_DNS, name.replace(" ", "-")),
        agent_name=name,
        room=f"room-{chance.getrandbits(48):012x}",
        consent_version="2026-1",
        created_at=created_at,
    )


def make_staff() -> list[User]:
    """Accounts that nobody can log in with."""
    reviewers = Group.objects.get(name="reviewer")
    users = []
    for name in STAFF:
        user, is_new = User.objects.get_or_create(username=name, defaults={"is_staff": True})
        if is_new:
            user.set_unusable_password()
            user.save()
            user.groups.add(reviewers)
        users.append(user)
    return users


def judge(session: VoiceSession, chance: random.Random, staff: Sequence[User]) -> None:
    """Marks of staff's, on some calls."""
    later = session.created_at + timedelta(hours=chance.uniform(1, 40))
    for mark, share in (("reviewed", 0.2), ("flagged", 0.02), ("held", 0.002)):
        if chance.random() < share:
            setattr(session, f"{mark}_at", later)
            setattr(session, f"{mark}_by", chance.choice(staff))
    if session.held_at:
        session.held_because = "asked for by the court"


def remark(
    logs: Sequence[Log], chance: random.Random, staff: Sequence[User], labels: Sequence[Label]
) -> None:
    """Labels and notes, on some calls. The first labels of the list are put most often."""
    labellings: list[Labelling] = []
    notes: list[Note] = []
    weights = [2.0**-place for place in range(len(labels))]
    for log in logs:
        by, at = chance.choice(staff), log.session.created_at + timedelta(hours=2)
        if labels and chance.random() < 0.1:
            label = chance.choices(labels, weights)[0]
            labellings.append(Labelling(session=log.session, label=label, by=by, at=at))
        if chance.random() < 0.03:
            source, seq, *_ = chance.choice(log.lines)
            notes.append(
                Note(session=log.session, source=source, seq=seq, text=chance.choice(NOTES), by=by, at=at)
            )
    Labelling.objects.bulk_create(labellings)
    Note.objects.bulk_create(notes)


def write(logs: Sequence[Log]) -> None:
    VoiceSession.objects.bulk_create([log.session for log in logs])
    ToolRun.objects.bulk_create([run for log in logs for run in log.runs])
    ops, is_native = connection.ops, connection.features.has_native_uuid_field
    rows = [
        (
            log.session.pk if is_native else log.session.pk.hex,
            source,
            seq,
            kind,
            at_ms,
            ops.adapt_json_value(data, None),
            None,
            ops.adapt_datetimefield_value(log.session.created_at + timedelta(milliseconds=at_ms)),
        )
        for log in logs
        for source, seq, kind, at_ms, data in log.lines
    ]
    statement = (
        f"INSERT INTO {SessionEvent._meta.db_table} ({', '.join(COLUMNS)})"  # noqa: S608  our own names
        f" VALUES ({', '.join(['%s'] * len(COLUMNS))})"
    )
    with connection.cursor() as cursor:
        cursor.executemany(statement, rows)
