"""What a call leaves behind. State changes are methods here, and nowhere else."""

import uuid
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self

from django.conf import settings
from django.db import models
from django.db.models import F, OuterRef, Q, Subquery
from django.utils import timezone

from sessions_app.access import Access, Tombstone
from sessions_app.admission import Caller, place
from sessions_app.bookings import Booking
from sessions_app.figures import Day, Figures, Progress
from sessions_app.redaction import redact_text
from sessions_app.review import Label, Labelling, Note, Review

__all__ = [
    "Access",
    "Booking",
    "Day",
    "Label",
    "Labelling",
    "Note",
    "Progress",
    "SessionEvent",
    "Tombstone",
    "ToolRun",
    "VoiceSession",
]

LIVE_S = 90
"""A call that was not heard of for this long no longer counts as live (a page reports every 20 s)."""

SEEN_S = 15
"""A page moves last_seen_at at most this often, so that a busy call does not rewrite it for each event."""

FIRST_LOOK = timedelta(seconds=5)
"""After a call's end: by then the platform has most likely written its record."""

LEFTOVERS = timedelta(hours=25)
"""After a call's end: a day for its page to bring what it could not report before, an hour to notice it."""

OVERLAP = timedelta(seconds=3)
"""A line's `recorded_at` is taken before its transaction, which a comparison may not have seen yet."""


class VoiceSessionQuerySet(models.QuerySet["VoiceSession"]):
    def live(self, at: datetime) -> Self:
        """Calls that are open and were heard of lately."""
        return self.exclude(state="ended").filter(last_seen_at__gt=at - timedelta(seconds=LIVE_S))

    def abandoned(self, at: datetime) -> Self:
        """Calls that went live, but whose page has been silent for too long."""
        return self.filter(state="live", last_seen_at__lte=at - timedelta(seconds=LIVE_S))

    def not_started(self, at: datetime) -> Self:
        """Calls that got their credential, but never went live within five minutes."""
        return self.filter(state="created", created_at__lte=at - timedelta(minutes=5))

    def touch(self, at: datetime) -> None:
        """Their pages were heard of; without effect after a call's end."""
        self.exclude(state="ended").update(last_seen_at=at)

    def to_prove(self, at: datetime) -> Self:
        """Ended calls that are to be compared with the platform's record now, the longest waiting first.

        Those whose time has come; those that were never looked at (of before there was a proof); and those
        whose page has reported more since.
        """
        ended = self.filter(state="ended")
        reported = SessionEvent.objects.filter(session=OuterRef("pk"), source="browser").order_by("-seq")
        told_more = ended.filter(ended_at__gt=at - LEFTOVERS, proved_at__lt=at, prove_at=None).exclude(
            call_id=""
        )
        told_more = told_more.annotate(told_at=Subquery(reported.values("recorded_at")[:1]))
        told_more = told_more.filter(told_at__gt=F("proved_at") - OVERLAP)
        return ended.filter(
            Q(prove_at__lte=at) | Q(prove_at=None, proof="") | Q(pk__in=told_more.values("pk"))
        ).order_by("prove_at", "created_at")

    def open(
        self, caller: Caller, *, agent_id: uuid.UUID, agent_name: str, consent_version: str = ""
    ) -> "VoiceSession":
        """Takes a place for a new call. Raises admission.TooManyError."""
        with place(self, caller) as now:
            return self.create(
                **asdict(caller),
                agent_id=agent_id,
                agent_name=agent_name,
                consent_version=consent_version,
                created_at=now,
                last_seen_at=now,
            )


class VoiceSession(Figures, Review):
    """One call as the site knows it."""

    class State(models.TextChoices):
        CREATED = "created"
        LIVE = "live"
        ENDED = "ended"

    class EndReason(models.TextChoices):
        HANG_UP = "hang_up", "the caller hung up"
        AGENT_ENDED = "agent_ended", "the agent ended the call"
        DISCONNECTED = "disconnected", "the media connection ended"
        FAILED = "failed", "the call failed"
        ABANDONED = "abandoned", "the page went away"
        NOT_STARTED = "not_started", "never started"

    SUPPOSED = (EndReason.ABANDONED, EndReason.NOT_STARTED)
    """Ends that nobody has told of."""

    class Proof(models.TextChoices):
        """What the comparison with the platform's own record of the call has shown."""

        COMPLETE = "complete"
        RECOVERED = "recovered"
        DIFFERS = "differs"
        UNVERIFIED = "unverified"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    visitor = models.CharField(max_length=32, db_index=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="voice_sessions",
    )
    address = models.CharField(max_length=32, blank=True, help_text="a keyed hash of the caller's network")
    consent_version = models.CharField(max_length=12, blank=True, help_text="what the caller agreed to")
    agent_id = models.UUIDField()
    agent_name = models.CharField(max_length=100)
    room = models.CharField(max_length=255, blank=True)
    identity = models.CharField(max_length=255, blank=True)
    call_id = models.CharField("call on the platform", max_length=255, blank=True, db_index=True)
    state = models.CharField(max_length=16, choices=State, default=State.CREATED)
    end_reason = models.CharField(max_length=16, choices=EndReason, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    last_seen_at = models.DateTimeField(default=timezone.now)
    page = models.CharField(max_length=32, blank=True, help_text="the page load that reports this call")

    proof = models.CharField(max_length=16, choices=Proof, blank=True)
    recovered = models.PositiveIntegerField(default=0, help_text="entries that only the platform had")
    differing = models.PositiveIntegerField(
        default=0, help_text="entries that the two records tell differently"
    )
    unproved_because = models.CharField(max_length=255, blank=True)
    proved_at = models.DateTimeField(null=True, blank=True)
    prove_at = models.DateTimeField(null=True, blank=True, help_text="when the platform is asked (again)")
    prove_tries = models.PositiveSmallIntegerField(default=0)
    platform_call = models.JSONField(
        default=dict, blank=True, help_text="the platform's record of the call, without its transcript"
    )

    objects = VoiceSessionQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-created_at"]
        permissions: ClassVar = [
            ("annotate_voicesession", "Can put notes, labels and marks to calls"),
            ("listen_voicesession", "Can listen to the recordings of calls"),
            ("export_voicesession", "Can export calls"),
            ("hold_voicesession", "Can keep calls from deletion"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["state", "last_seen_at"]),
            models.Index(fields=["prove_at"]),
            models.Index(fields=["created_at", "id"], name="call_newest"),
            models.Index(fields=["address", "created_at"]),
            models.Index(fields=["agent_id", "created_at"], name="call_agent"),
            models.Index(fields=["end_reason", "created_at"], name="call_end_reason"),
            models.Index(fields=["proof", "created_at"], name="call_proof"),
            # All that the list can be narrowed to: whatever is asked for together, no row need be read.
            models.Index(
                fields=[
                    *("created_at", "id", "state", "agent_id", "end_reason", "proof", "length_s"),
                    *("tool_errors", "interruptions", "incidents", "slow_replies"),
                    *("flagged_at", "reviewed_by", "reviewed_at"),
                ],
                name="call_filters",
            ),
            *Figures.Meta.indexes,
            *Review.Meta.indexes,
        ]

    def __str__(self) -> str:
        return f"{self.agent_name}, {timezone.localtime(self.created_at):%Y-%m-%d %H:%M}"

    @property
    def is_live(self) -> bool:
        return self.state == self.State.LIVE

    @property
    def duration(self) -> timedelta | None:
        """From the first moment of the call to its end, or to now; None if it never started."""
        if self.started_at is None:
            return None
        return (self.ended_at or timezone.now()) - self.started_at

    def moment(self, at_ms: int) -> datetime:
        """`at_ms` of the call's clock on ours. The page's word cannot put anything into the future."""
        return min(timezone.now(), self.created_at + timedelta(milliseconds=at_ms))

    def is_answered(self, tool_call_id: str) -> bool:
        """Whether the page has answered a tool call, with the tool's output or with an error of its own."""
        answers = self.events.filter(source=SessionEvent.Source.BROWSER, type="tool_call_output")
        return answers.filter(data__toolCallId=tool_call_id).exists()

    def claim(self, page: str) -> bool:
        """Whether this page may report the call: the first one that does, and no other page of the visitor.

        Two pages would number their events independently of each other, and half of them would be lost.
        """
        if self.page == page:
            return True
        self._change(Q(page=""), page=page)
        if self.page != page:
            self.refresh_from_db(fields=["page"])  # this page's own other socket may have been first
        return self.page == page

    def set_credential(self, room: str, identity: str) -> None:
        """Keeps what the platform gave to this call."""
        self.room, self.identity = room, identity
        self.save(update_fields=["room", "identity"])

    def set_call(self, call_id: str) -> None:
        """Keeps the platform's id of this call; the first one stays."""
        if self._change(Q(call_id=""), call_id=call_id):
            self._plan_proof()  # a page may bring it when the call is over

    def mark_live(self, at: datetime) -> None:
        """The call is on; without effect when it is on already, or over."""
        self._change(Q(state=self.State.CREATED), state=self.State.LIVE, started_at=at)

    def mark_ended(self, reason: str, at: datetime) -> None:
        """The call is over; the first end wins, but for one that the site had only supposed.

        When the site itself was away for a while, its sweep takes the calls for abandoned whose pages could
        not be heard, and these tell of the real end later.
        """
        if self.started_at is not None:
            at = max(at, self.started_at)
        ended: dict[str, Any] = {"state": self.State.ENDED, "end_reason": reason, "ended_at": at}
        supposed = Q() if reason in self.SUPPOSED else Q(end_reason__in=self.SUPPOSED)
        is_open = ~Q(state=self.State.ENDED)
        if self._change(is_open | supposed if supposed else is_open, **ended):
            self._plan_proof()

    @property
    def no_call_because(self) -> str:
        """Why there is nothing to compare a call with which nobody has named."""
        if self.started_at is None:
            return "The call never began."
        return "The browser never named the call on the platform."

    def _plan_proof(self) -> None:
        is_over = Q(state=self.State.ENDED)
        at = timezone.now() + FIRST_LOOK
        self._change(is_over & ~Q(call_id=""), proof="", unproved_because="", prove_at=at, prove_tries=0)
        nothing = {"proof": self.Proof.UNVERIFIED, "unproved_because": self.no_call_because}
        self._change(is_over & Q(call_id=""), prove_at=None, **nothing)

    def lock(self) -> None:
        """Reads the row anew and holds it until the end of the transaction; the writer need not wait."""
        self.refresh_from_db(from_queryset=type(self).objects.select_for_update(no_key=True))

    def lease_proof(self, until: datetime) -> bool:
        """Takes the comparison upon itself until then; False if another process has."""
        return self._change(Q(prove_at=self.prove_at, proved_at=self.proved_at), prove_at=until)

    def put_off_proof(self, because: str, at: datetime, again_at: datetime | None) -> None:
        """No comparison could be made `at`; without another try, the call stays unverified.

        What an earlier one has shown remains.
        """
        values: dict[str, Any] = {"prove_at": again_at, "prove_tries": self.prove_tries + 1}
        self._change(Q(), **values)
        undecided: dict[str, Any] = {"unproved_because": because[:255]}
        if again_at is None:
            undecided |= {"proof": self.Proof.UNVERIFIED, "proved_at": at}
        self._change(Q(proof__in=["", self.Proof.UNVERIFIED]), **undecided)
        if again_at is None:
            self._expire_day()

    def settle_proof(
        self,
        proof: str,
        *,
        recovered: int,
        differing: int,
        because: str,
        call: dict[str, Any],
        at: datetime,
        again_at: datetime | None,
    ) -> None:
        """Keeps what a comparison has shown."""
        self._change(
            Q(),
            proof=proof,
            recovered=recovered,
            differing=differing,
            unproved_because=because[:255],
            platform_call=call,
            proved_at=at,
            prove_at=again_at,
            prove_tries=0,
        )
        self._expire_day()

    def _expire_day(self) -> None:
        """For changes without a line in the log; with one, it is done when the call is digested."""
        Day.objects.expire([(self.created_at, self.agent_id)])

    def _change(self, condition: Q, **values: Any) -> bool:
        # The database checks the condition, not this copy: another socket may have changed the row since.
        if type(self).objects.filter(condition, pk=self.pk).update(**values):
            for name, value in values.items():
                setattr(self, name, value)
            return True
        return False


class SessionEventQuerySet(models.QuerySet["SessionEvent"]):
    def in_order(self) -> Self:
        """The order of the conversation: when each thing began, on the call's clock."""
        return self.order_by("at_ms", "source", "seq")

    def after(self, cursor: Mapping[str, int]) -> Self:
        """What a reader who knows each source up to a number has not seen; a source left out counts as 0."""
        unseen = Q()
        for source in SessionEvent.Source.values:
            unseen |= Q(source=source, seq__gt=cursor.get(source, 0))
        return self.filter(unseen)


ROLES = {"input_audio_transcript": "caller", "response_text": "agent"}
TEXT_KEYS = {"input_audio_transcript": "transcript", "response_text": "text"}


class SessionEvent(models.Model):
    """One line of a call's log: append-only, never rewritten. Each source numbers its own lines 1, 2, 3 …"""

    class Source(models.TextChoices):
        BROWSER = "browser"
        SERVER = "server"
        PLATFORM = "platform"

    session = models.ForeignKey(VoiceSession, on_delete=models.CASCADE, related_name="events")
    source = models.CharField(max_length=16, choices=Source)
    seq = models.PositiveIntegerField()
    type = models.CharField(max_length=64)
    at_ms = models.PositiveIntegerField(help_text="when it began, in ms since the start of the call")
    data = models.JSONField(default=dict)
    sent_at = models.DateTimeField(null=True, blank=True, help_text="the agent's own timestamp")
    recorded_at = models.DateTimeField(default=timezone.now)

    objects = SessionEventQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["session", "source", "seq"], name="one_event_for_each_number")
        ]
        indexes: ClassVar = [models.Index(fields=["session", "at_ms"])]

    def __str__(self) -> str:
        return f"{self.source} {self.seq}: {self.type}"

    @property
    def role(self) -> str:
        """Whose words these are: "caller", "agent", or "" when the line holds none."""
        return ROLES.get(self.type, "")

    @property
    def text(self) -> str:
        """The words; "" when the line holds none."""
        key = TEXT_KEYS.get(self.type)
        return str(self.data.get(key, "")) if key else ""


class ToolRun(models.Model):
    """One run of a server tool: each tool call of a session is run once, however often it is asked for."""

    session = models.ForeignKey(VoiceSession, on_delete=models.CASCADE, related_name="tool_runs")
    tool_call_id = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    arguments = models.JSONField(default=dict)
    output = models.TextField(blank=True)
    is_error = models.BooleanField(default=False)
    started_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["session", "tool_call_id"], name="one_run_for_each_tool_call")
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.tool_call_id}"

    def finish(self, output: str, *, is_error: bool) -> bool:
        """Keeps the output, redacted; the first one stays. False: it had one already."""
        finished_at, output = timezone.now(), redact_text(output)
        changed = ToolRun.objects.filter(pk=self.pk, finished_at=None).update(
            output=output, is_error=is_error, finished_at=finished_at
        )
        if changed:
            self.output, self.is_error, self.finished_at = output, is_error, finished_at
        return bool(changed)
