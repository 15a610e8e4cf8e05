"""The demo's own table: what its tools write (see concierge_tools.py)."""

from datetime import datetime
from typing import ClassVar

from django.db import models
from django.utils import timezone


class Booking(models.Model):
    """A table at the restaurant, booked in a call."""

    FIRST_REFERENCE = 1000

    session = models.ForeignKey("VoiceSession", on_delete=models.CASCADE, related_name="bookings")
    tool_call_id = models.CharField(max_length=255)
    people = models.PositiveSmallIntegerField()
    at = models.DateTimeField()
    name = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    cancelled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["-created_at"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["session", "tool_call_id"], name="one_booking_for_each_tool_call")
        ]

    def __str__(self) -> str:
        return f"{self.reference}: {self.people} people, {timezone.localtime(self.at):%Y-%m-%d %H:%M}"

    @property
    def reference(self) -> str:
        """What the caller is told: short enough to be spoken."""
        return f"B{self.FIRST_REFERENCE + self.pk}"

    def cancel(self, at: datetime) -> None:
        """The table is free again; without effect when it is already."""
        if self.cancelled_at is None:
            self.cancelled_at = at
            self.save(update_fields=["cancelled_at"])
