"""What staff make of a call: notes, labels, a flag to come back to, reviewed or not, held or not."""

from datetime import datetime
from typing import Any, ClassVar, Self

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import models
from django.db.models import Q
from django.utils import timezone


def _staff(related_name: str = "+") -> Any:
    """Who did it; their account may be deleted later."""
    return models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name=related_name,
    )


class Review(models.Model):
    """The marks that a call has once. Each is a time and a person; no time, no mark."""

    flagged_at = models.DateTimeField(null=True, blank=True)
    flagged_by = _staff()
    reviewed_at = models.DateTimeField(null=True, blank=True)
    reviewed_by = _staff()
    held_at = models.DateTimeField(null=True, blank=True, help_text="kept from deletion since")
    held_by = _staff()
    held_because = models.CharField(max_length=255, blank=True)

    class Meta:
        abstract = True
        indexes: ClassVar = [
            models.Index(fields=["created_at", "id"], name="call_flagged", condition=~Q(flagged_at=None)),
            models.Index(fields=["reviewed_by", "created_at"], name="call_reviewer"),
        ]

    def mark(self, name: str, by: AbstractBaseUser | None, at: datetime | None) -> None:
        """Sets or, with `at` None, takes away "flagged", "reviewed" or "held"."""
        setattr(self, f"{name}_at", at)
        setattr(self, f"{name}_by", by if at else None)
        fields = [f"{name}_at", f"{name}_by"]
        if name == "held":
            self.held_because = self.held_because if at else ""
            fields.append("held_because")
        self.save(update_fields=fields)


class Label(models.Model):
    """A word that staff put to calls; the list of them is staff's own."""

    name = models.CharField(max_length=40, unique=True)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class Labelling(models.Model):
    """One label on one call."""

    session = models.ForeignKey("VoiceSession", on_delete=models.CASCADE, related_name="labellings")
    label = models.ForeignKey(Label, on_delete=models.CASCADE, related_name="labellings")
    by = _staff()
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar = ["label__name"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["session", "label"], name="a_label_once_for_each_call")
        ]

    def __str__(self) -> str:
        return f"{self.label} by {self.by}"


class NoteQuerySet(models.QuerySet["Note"]):
    def in_order(self) -> Self:
        return self.order_by("at", "pk")


class Note(models.Model):
    """What somebody of staff wrote about a call or, with source and seq, about one line of its log."""

    MAX_LENGTH = 4000

    session = models.ForeignKey("VoiceSession", on_delete=models.CASCADE, related_name="notes")
    source = models.CharField(max_length=16, blank=True)
    seq = models.PositiveIntegerField(null=True, blank=True)
    text = models.TextField(max_length=MAX_LENGTH)
    by = _staff()
    at = models.DateTimeField(default=timezone.now)

    objects = NoteQuerySet.as_manager()

    def __str__(self) -> str:
        return self.text[:40]
