from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sessions_app", "0006_search")]
    operations = [
        migrations.AddField(
            model_name="tombstone",
            name="wiped_at",
            field=models.DateTimeField(
                editable=False,
                help_text="since then SQLite's file holds nothing of it; see erase.py",
                null=True,
            ),
        ),
    ]
