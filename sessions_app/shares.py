"""Calls in shares of so many lines, where all of them at once would hold up the log or fill the memory."""

from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

from django.db.models import Count

from sessions_app.models import SessionEvent


def lines_of(ids: Sequence[UUID]) -> dict[UUID, int]:
    """How many lines each of the calls has, in the order of `ids`."""
    counted = SessionEvent.objects.filter(session__in=ids).order_by().values_list("session")
    found = dict(counted.annotate(lines=Count("pk")))
    return {pk: found.get(pk, 0) for pk in ids}


def shares(calls: Mapping[UUID, int], most: int) -> Iterator[list[UUID]]:
    """In order, so that each share has at most `most` lines, or one call. `calls`: see lines_of."""
    share: list[UUID] = []
    lines = 0
    for pk, number in calls.items():
        if share and lines + number > most:
            yield share
            share, lines = [], 0
        share.append(pk)
        lines += number
    if share:
        yield share
