"""How far the log has been digested, and the words that search finds: a table that belongs to no model."""

from typing import Any

import django.utils.timezone
from django.db import migrations, models

# Words come folded and divided by blanks: `ascii` leaves all other characters alone, as unicode61, which knows
# the letters of its own year only, would not. The order of lines is worked out without the lengths of columns.
SQLITE = [
    """CREATE VIRTUAL TABLE sessions_app_words USING fts5(
    words, tokenize = 'ascii', columnsize = 0, prefix = '1 2 3')""",
]
POSTGRESQL = [
    "CREATE TABLE sessions_app_words (event_id bigint PRIMARY KEY, words tsvector NOT NULL)",
    "CREATE INDEX sessions_app_words_words ON sessions_app_words USING gin (words)",
]


def make(apps: Any, schema_editor: Any) -> None:
    for statement in POSTGRESQL if schema_editor.connection.vendor == "postgresql" else SQLITE:
        schema_editor.execute(statement)


def drop(apps: Any, schema_editor: Any) -> None:
    schema_editor.execute("DROP TABLE sessions_app_words")


class Migration(migrations.Migration):
    dependencies = [("sessions_app", "0005_trust")]
    operations = [
        migrations.CreateModel(
            name="Progress",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "event",
                    models.BigIntegerField(default=0, help_text="lines up to this one need no second look"),
                ),
                (
                    "settled",
                    models.BigIntegerField(default=0, help_text="no line up to this one can still turn up"),
                ),
                ("newest", models.BigIntegerField(default=0, help_text="the newest line at `newest_at`")),
                ("newest_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "has_forgotten",
                    models.BooleanField(default=False, help_text="deleted words are still in SQLite's file"),
                ),
            ],
        ),
        migrations.RunPython(make, drop),
    ]
