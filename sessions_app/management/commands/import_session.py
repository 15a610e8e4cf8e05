import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from django.core.management.base import BaseCommand, CommandError

from sessions_app.document import Accounts, DocumentError, ExistsError, restore


class Command(BaseCommand):
    help = (
        "Brings exported calls back: all rows of a call (see docs/export.md), in one transaction for each. "
        "Lists, search and the overview know them after the next sweep."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "files", nargs="+", metavar="FILE", help="JSON of one call, or JSON Lines; -: standard input"
        )
        parser.add_argument(
            "--skip-existing", action="store_true", help="pass over calls that are here, or were deleted here"
        )
        parser.add_argument(
            "--restore-deleted", action="store_true", help="take also calls that were deleted here"
        )

    def handle(
        self, *args: Any, files: list[str], skip_existing: bool, restore_deleted: bool, **options: Any
    ) -> None:
        accounts, taken, skipped = Accounts(), 0, 0
        try:
            for where, document in (found for name in files for found in documents(name)):
                try:
                    remarks = restore(document, accounts, also_deleted=restore_deleted)
                except ExistsError as error:
                    if not skip_existing:
                        hint = "--restore-deleted takes it, --skip-existing passes over it"
                        hint = hint if error.is_deleted else "--skip-existing passes over it"
                        raise CommandError(f"{where}: {error}; {hint}.") from error
                    skipped += 1
                    continue
                except DocumentError as error:
                    raise CommandError(f"{where}: {error}") from error
                taken += 1
                for remark in remarks:
                    self.stdout.write(f"{where}: {remark}.")
        except CommandError as error:
            if taken:
                before = f"{taken} calls before it were imported; with --skip-existing, the same files can be"
                raise CommandError(f"{error}\n{before} imported again.") from error
            raise
        finally:
            for name, times in sorted(accounts.missing.items()):
                self.stdout.write(f"No account here is called {name!r}: left empty {times} times.")
        self.stdout.write(f"{taken} calls imported, {skipped} skipped.")


def documents(name: str) -> Iterator[tuple[str, Any]]:
    """Where each stands, for messages, and what it holds. Raises CommandError."""
    try:
        with nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb") as file:
            yield from _documents("standard input" if name == "-" else name, file)
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error.strerror}") from error


def _documents(name: str, file: BinaryIO) -> Iterator[tuple[str, Any]]:
    is_first = True
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        if is_first and line.strip() in (b"{", b"\xef\xbb\xbf{"):  # one document, in many lines
            yield name, _load(line + file.read(), name, number)
            return
        is_first = False
        yield f"{name}, line {number}", _load(line, name, number)


def _load(text: bytes, name: str, first_line: int) -> Any:
    """Strict JSON. Raises CommandError."""
    try:
        return json.loads(text.decode("utf-8-sig"), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        line = first_line + text.count(b"\n", 0, error.start)
        raise CommandError(f"{name}, line {line}: it is not in UTF-8") from error
    except json.JSONDecodeError as error:
        where = f"{name}, line {first_line + error.lineno - 1}, column {error.colno}"
        end = "" if text.endswith(b"\n") else ", and the file ends here: it may not be complete"
        raise CommandError(f"{where}: it is not JSON: {error.msg}{end}") from error
    except (ValueError, RecursionError) as error:
        raise CommandError(
            f"{name}, line {first_line}: it is not JSON that can be stored: {error}"
        ) from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")
