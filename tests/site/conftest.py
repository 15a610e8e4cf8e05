from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from django.core.management.sql import sql_flush
from django.db import close_old_connections, connections
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

from sessions_app.writer import writer

# The same examples each time, on whatever machine: a failure must be one that can be looked at.
settings.register_profile(
    "site",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("site")
set_hypothesis_home_dir(Path(__file__).parents[2] / "build" / "hypothesis")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    tmp_path_factory: pytest.TempPathFactory, django_db_modify_db_settings_parallel_suffix: None
) -> None:
    """A file, as in production: the sockets' threads have connections of their own, which in an in-memory
    database would be locked out by each other's tables. A PostgreSQL server makes its own databases."""
    if connections["default"].vendor != "sqlite":
        return
    path = tmp_path_factory.mktemp("database") / "test.sqlite3"
    connections["default"].settings_dict["TEST"]["NAME"] = str(path)


@pytest.fixture(scope="session", autouse=True)
def writers_connection(django_db_setup: None) -> Iterator[None]:
    """The log's writer keeps its connection, and PostgreSQL drops no database that is in use."""
    yield
    writer.close()


@pytest.fixture(scope="session", autouse=True)
def connections_are_given_back() -> Iterator[None]:
    """Channels' test client keeps all threads from it, for tests in one transaction; a pool would run dry."""
    with mock.patch("channels.testing.application.no_op", close_old_connections):
        yield


@pytest.fixture(scope="session", autouse=True)
def access_log_can_be_flushed() -> Iterator[None]:
    """Tests without a transaction of their own empty all tables when they are done, which the access log
    refuses, as it should. So it is unsealed for that one moment."""
    trust = import_module("sessions_app.migrations.0005_trust")

    def statements(style: Any, connection: Any, **options: Any) -> list[str]:
        flushing = sql_flush(style, connection, **options)
        return [*trust.UNSEAL[connection.vendor], *flushing, *trust.SEAL[connection.vendor]]

    with mock.patch("django.core.management.commands.flush.sql_flush", statements):
        yield
