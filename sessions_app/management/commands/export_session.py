import sys
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from sessions_app.access import log_access
from sessions_app.export import FORMATS, pieces
from sessions_app.models import VoiceSession


class Command(BaseCommand):
    help = "Writes calls to standard output, as the site's own export does (see docs/export.md)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("sessions", nargs="*", type=UUID, metavar="SESSION", help="numbers of calls")
        parser.add_argument("--all", action="store_true", help="all calls, the newest first")
        parser.add_argument("--format", choices=FORMATS, default="json", help="json: one line for each call")

    def handle(self, *args: Any, sessions: list[UUID], **options: Any) -> None:
        name = options["format"]
        if bool(sessions) == options["all"]:
            raise CommandError("Name calls by their numbers, or all of them with --all.")
        chosen = VoiceSession.objects.all()
        if sessions:
            chosen = chosen.filter(pk__in=sessions)
            unknown = set(sessions) - set(chosen.values_list("pk", flat=True))
            if unknown:
                raise CommandError(f"There is no call {min(unknown)}.")
        form = FORMATS[name]
        if not form.of_many and len(sessions) != 1:
            raise CommandError(f"{name} is for one call at a time.")
        if len(sessions) == 1:
            log_access(None, "export", sessions[0], format=name)
        else:
            named = {"ids": [str(pk) for pk in sessions]} if sessions else {"filters": ""}
            log_access(None, "export", None, format=name, number=chosen.count(), **named)
        for piece in pieces(chosen, form):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
