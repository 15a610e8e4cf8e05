from typing import Any

from django.core.management.base import BaseCommand

from sessions_app import digest, search
from sessions_app.models import Progress, VoiceSession


class Command(BaseCommand):
    help = (
        "Makes figures and the index of words anew, from the log of every call: after the database was moved "
        "to another one, since dumpdata and loaddata know no index."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        search.clear()
        VoiceSession.objects.update(digested_lines=0, digested_event=0)
        Progress.objects.update(event=0, settled=0, newest=0)
        count = 0
        while done := digest.catch_up(60, 5000):
            count += done
            self.stdout.write(f"{count} calls …")
        self.stdout.write(f"{count} calls can be found again.")
