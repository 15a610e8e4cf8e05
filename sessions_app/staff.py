"""Who may see which of staff's pages. Every one of them stands below the admin, behind its login."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import PermissionDenied
from django.db import close_old_connections, connection
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404

from sessions_app.models import VoiceSession

View = Callable[..., HttpResponseBase]


def may(user: AbstractBaseUser | AnonymousUser, *acts: str) -> bool:
    """Whether somebody may do all of `acts` with calls: view, annotate, listen, export, hold, delete."""
    has_perm: Callable[[str], bool] = user.has_perm  # type: ignore[union-attr]  # not in the stubs
    return all(has_perm(f"sessions_app.{act}_voicesession") for act in acts)


def staff_page(*acts: str) -> Callable[[View], View]:
    """For `view(request, …)`: the admin's login, then 403 unless the user may view calls and do `acts`."""

    def decorate(view: View) -> View:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not may(request.user, "view", *acts):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        page: View = admin.site.admin_view(checked)
        return page

    return decorate


def call_page(*acts: str) -> Callable[[View], View]:
    """As staff_page, for `view(request, session, …)`; `<uuid:object_id>` in the path names it, or 404."""

    def decorate(view: View) -> View:
        @wraps(view)
        def found(request: HttpRequest, object_id: UUID, *args: Any, **kwargs: Any) -> HttpResponseBase:
            session = get_object_or_404(VoiceSession, pk=object_id)
            return view(request, session, *args, **kwargs)

        return staff_page(*acts)(found)

    return decorate


def give_back() -> None:
    """Parts with this thread's connection to the database, which others need while this one waits for
    somebody's network; unless whoever called is in the middle of a transaction."""
    if not connection.in_atomic_block:
        close_old_connections()
