"""What lists, filters and the overview know of a call without reading its log. digest.py works it out."""

from collections.abc import Iterable
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from django.db import models
from django.db.models import Q
from django.utils import timezone


class Figures(models.Model):
    """A call in numbers, as of its line `digested_event`."""

    turns = models.PositiveIntegerField(default=0)
    interruptions = models.PositiveIntegerField(default=0)
    tool_calls = models.PositiveIntegerField(default=0)
    tool_errors = models.PositiveIntegerField(default=0)
    incidents = models.PositiveIntegerField(default=0, help_text="situations that troubled the call")
    slow_replies = models.PositiveIntegerField(default=0)
    reply_ms = models.PositiveIntegerField(null=True, blank=True, help_text="median of the call's replies")
    length_s = models.PositiveIntegerField(null=True, blank=True, help_text="of a call that is over")
    last_role = models.CharField(max_length=8, blank=True)
    last_words = models.CharField(max_length=160, blank=True)
    details = models.JSONField(
        default=dict,
        blank=True,
        help_text='{"replies_ms": [810, …], "tool_errors": {tool: count}}: what the overview adds up',
    )
    digested_lines = models.PositiveIntegerField(default=0)
    digested_event = models.BigIntegerField(default=0)

    class Meta:
        abstract = True
        # Of these there are few, and each is a filter of the list, whose newest calls come first.
        indexes: ClassVar = [
            models.Index(
                fields=["created_at", "id"], name="call_tool_errors", condition=Q(tool_errors__gt=0)
            ),
            models.Index(
                fields=["created_at", "id"], name="call_interruptions", condition=Q(interruptions__gt=0)
            ),
            models.Index(fields=["created_at", "id"], name="call_incidents", condition=Q(incidents__gt=0)),
            models.Index(
                fields=["created_at", "id"], name="call_slow_replies", condition=Q(slow_replies__gt=0)
            ),
            models.Index(fields=["length_s"], name="call_length"),
        ]


class DayQuerySet(models.QuerySet["Day"]):
    def expire(self, calls: Iterable[tuple[datetime, UUID]]) -> None:
        """Their days are to be added up anew. `calls`: (created_at, agent_id) of those that have changed, or
        will be deleted in this transaction."""
        # In order: whoever else marks some of the same days waits for the first of them, and for no other.
        days = sorted({(timezone.localdate(created_at), agent_id) for created_at, agent_id in calls})
        self.bulk_create(
            [Day(day=day, agent_id=agent_id) for day, agent_id in days],
            update_conflicts=True,
            update_fields=["is_stale"],
            unique_fields=["day", "agent_id"],
        )


class Day(models.Model):
    """One agent's calls of one day (in the site's time zone), added up for the overview."""

    day = models.DateField()
    agent_id = models.UUIDField()
    figures = models.JSONField(default=dict)
    is_stale = models.BooleanField(default=True, help_text="a call of that day has changed since")

    objects = DayQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["day", "agent_id"], name="one_row_for_each_day_and_agent")
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.agent_id}"


class Progress(models.Model):
    """One row: how far the log has been digested, and whether there are words to be cleared away."""

    event = models.BigIntegerField(default=0, help_text="lines up to this one need no second look")
    settled = models.BigIntegerField(default=0, help_text="no line up to this one can still turn up")
    newest = models.BigIntegerField(default=0, help_text="the newest line at `newest_at`")
    newest_at = models.DateTimeField(default=timezone.now)
    has_forgotten = models.BooleanField(default=False, help_text="deleted words are still in SQLite's file")

    def __str__(self) -> str:
        return f"digested up to {self.event}"
