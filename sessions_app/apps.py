from django.apps import AppConfig


class SessionsConfig(AppConfig):
    name = "sessions_app"
    verbose_name = "Calls"

    def ready(self) -> None:
        # Importing it registers its tools; models can only be imported from here on.
        from sessions_app import concierge_tools  # noqa: F401
