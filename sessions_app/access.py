"""Who looked at, listened to, took away or deleted what. Rows are added here, and never changed.

No foreign keys: a row outlives the call and the account that it names. The database itself refuses changes
(triggers in the migration that makes the table).
"""

from typing import Any, ClassVar
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import models
from django.utils import timezone


class Access(models.Model):
    """One thing that somebody of staff, or the site itself (`who` is ""), did with a call."""

    class Action(models.TextChoices):
        OPEN = "open", "opened"
        LISTEN = "listen", "listened"
        EXPORT = "export", "exported"
        DELETE = "delete", "deleted"
        HOLD = "hold", "held from deletion"
        RELEASE = "release", "released for deletion"

    at = models.DateTimeField(default=timezone.now, db_index=True)
    user_id = models.BigIntegerField(null=True)
    who = models.CharField(
        "by", max_length=150, blank=True, help_text='the account\'s name; "": the site itself'
    )
    action = models.CharField(max_length=16, choices=Action)
    session_id = models.UUIDField(null=True, db_index=True, help_text="none: many at once, see details")
    details = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering: ClassVar = ["-at", "-pk"]
        verbose_name_plural = "access log"

    def __str__(self) -> str:
        return f"{self.who or 'the site'} {self.get_action_display()} {self.session_id or 'calls'}"


class Tombstone(models.Model):
    """All that is left of a deleted call."""

    session_id = models.UUIDField(primary_key=True)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    deleted_at = models.DateTimeField(default=timezone.now)
    who = models.CharField(max_length=150, blank=True, help_text='the account\'s name; "": the site itself')
    why = models.CharField(max_length=255)
    wiped_at = models.DateTimeField(
        null=True, editable=False, help_text="since then SQLite's file holds nothing of it; see erase.py"
    )

    class Meta:
        ordering: ClassVar = ["-deleted_at"]

    def __str__(self) -> str:
        return f"{self.session_id}, deleted {self.deleted_at:%Y-%m-%d}"


def log_access(
    user: AbstractBaseUser | AnonymousUser | None, action: str, session_id: UUID | None, **details: Any
) -> None:
    """Adds a row. `user`: None for the site itself. Call it before what it tells of is given away."""
    is_known = user is not None and user.is_authenticated
    Access.objects.create(
        user_id=user.pk if is_known and user else None,
        who=user.get_username() if is_known and user else "",
        action=action,
        session_id=session_id,
        details=details,
    )
