"""On PostgreSQL a line's words know its call: which lines are of the calls that are asked for need not be read from
the log, whose rows are large. SQLite's index can do without, as the log's rows lie beside each other there."""

from typing import Any

from django.db import migrations

# A copy, in the lines' order, as an UPDATE would leave a table of twice the size.
FORWARDS = [
    "ALTER TABLE sessions_app_words RENAME TO sessions_app_words_old",
    """CREATE TABLE sessions_app_words AS
    SELECT old.event_id, event.session_id, old.words
    FROM sessions_app_words_old AS old JOIN sessions_app_sessionevent AS event ON event.id = old.event_id
    ORDER BY old.event_id""",
    "DROP TABLE sessions_app_words_old",
    """ALTER TABLE sessions_app_words ADD PRIMARY KEY (event_id),
    ALTER session_id SET NOT NULL, ALTER words SET NOT NULL""",
    "CREATE INDEX sessions_app_words_words ON sessions_app_words USING gin (words)",
    "ANALYZE sessions_app_words",
]
BACKWARDS = ["ALTER TABLE sessions_app_words DROP session_id"]


def execute(schema_editor: Any, statements: list[str]) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for statement in statements:
            schema_editor.execute(statement)


def forwards(apps: Any, schema_editor: Any) -> None:
    execute(schema_editor, FORWARDS)


def backwards(apps: Any, schema_editor: Any) -> None:
    execute(schema_editor, BACKWARDS)


class Migration(migrations.Migration):
    dependencies = [("sessions_app", "0008_filters")]
    operations = [migrations.RunPython(forwards, backwards)]
