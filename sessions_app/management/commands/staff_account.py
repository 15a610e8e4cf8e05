import os
import secrets
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

USER = "staff"


class Command(BaseCommand):
    # A superuser: on a developer's machine the one account should open everything, further accounts included.
    help = f'Creates the account "{USER}" (a superuser) with a random password, unless it exists.'

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--file", type=Path, required=True, help="keeps name and password; readable by you only"
        )

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        users = get_user_model().objects
        if users.filter(username=USER).exists():
            self.stdout.write(f'The account "{USER}" exists already.')
            if not file.exists():
                write_private(
                    file, f"user: {USER}\npassword: as set (new: python manage.py changepassword {USER})\n"
                )
            return
        password = secrets.token_urlsafe(12)
        account = f"user: {USER}\npassword: {password}\n"
        write_private(file, account)
        users.create_superuser(USER, password=password)
        self.stdout.write(account, ending="")


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, also if it was there before."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)
            file.write(text)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
