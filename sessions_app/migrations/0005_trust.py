"""Who may do what, the first labels, and an access log that the database itself does not let anybody edit."""

from typing import Any

from django.contrib.auth.management import create_permissions
from django.db import migrations

SEAL = {
    "sqlite": [
        *(
            f"""CREATE TRIGGER access_no_{event.lower()} BEFORE {event} ON sessions_app_access
            BEGIN SELECT RAISE(ABORT, 'the access log is append-only'); END"""
            for event in ("UPDATE", "DELETE")
        ),
        # REPLACE deletes the older row without a word to the trigger above.
        """CREATE TRIGGER access_no_replace BEFORE INSERT ON sessions_app_access
        WHEN EXISTS (SELECT 1 FROM sessions_app_access WHERE id = NEW.id)
        BEGIN SELECT RAISE(ABORT, 'the access log is append-only'); END""",
    ],
    "postgresql": [
        """CREATE FUNCTION access_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the access log is append-only'; END $$""",
        """CREATE TRIGGER access_no_change BEFORE UPDATE OR DELETE ON sessions_app_access
        FOR EACH ROW EXECUTE FUNCTION access_is_append_only()""",
        """CREATE TRIGGER access_no_truncate BEFORE TRUNCATE ON sessions_app_access
        FOR EACH STATEMENT EXECUTE FUNCTION access_is_append_only()""",
    ],
}
UNSEAL = {
    "sqlite": [f"DROP TRIGGER access_no_{event}" for event in ("update", "delete", "replace")],
    "postgresql": ["DROP FUNCTION access_is_append_only CASCADE"],
}

LABELS = ("good", "wrong answer", "misheard", "too slow", "follow up")

REVIEWER = [
    *("view_voicesession", "annotate_voicesession", "listen_voicesession"),
    *("view_label", "view_booking"),
]
MANAGER = [
    *REVIEWER,
    *("export_voicesession", "delete_voicesession", "hold_voicesession", "change_voicesession"),
    *("add_label", "change_label", "delete_label", "view_access", "view_tombstone"),
]


def seal(apps: Any, schema_editor: Any) -> None:
    for statement in SEAL[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


def unseal(apps: Any, schema_editor: Any) -> None:
    for statement in UNSEAL[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


def add_groups(apps: Any, schema_editor: Any) -> None:
    # Django makes permissions after all migrations, which is too late for what refers to them.
    for app in apps.get_app_configs():
        if app.label == "sessions_app":
            app.models_module = True
            create_permissions(app, apps=apps, verbosity=0, using=schema_editor.connection.alias)
            app.models_module = None
    group_model, permission = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    for name, codenames in (("reviewer", REVIEWER), ("manager", MANAGER)):
        group, _ = group_model.objects.get_or_create(name=name)
        permissions = permission.objects.filter(
            content_type__app_label="sessions_app", codename__in=codenames
        )
        group.permissions.add(*permissions)


def add_labels(apps: Any, schema_editor: Any) -> None:
    label = apps.get_model("sessions_app", "Label")
    label.objects.bulk_create([label(name=name) for name in LABELS], ignore_conflicts=True)


class Migration(migrations.Migration):
    dependencies = [
        ("sessions_app", "0004_review"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [
        migrations.RunPython(seal, unseal, elidable=False),
        migrations.RunPython(add_groups, migrations.RunPython.noop),
        migrations.RunPython(add_labels, migrations.RunPython.noop),
    ]
