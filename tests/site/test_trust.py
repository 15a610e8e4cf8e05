"""Who may do what on staff's pages, every one of them; and the access log, which nobody can edit."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import DatabaseError, connection, transaction
from django.test import Client, TestCase, override_settings
from django.urls import URLPattern, URLResolver, reverse
from django.utils import timezone

from sessions_app import recording
from sessions_app.access import log_access
from sessions_app.models import Access, Booking, Label, Tombstone, VoiceSession

from .test_erase import CALLS, ended_call

ROLES = ("nobody", "a caller with an account", "staff", "reviewer", "manager")
"""Each may do what those before it may. `staff`: who may enter the admin and has no permission at all."""

CALL = "sessions_app_voicesession_"


@dataclass
class Route:
    """A page of the admin: who may use it, and what they get. `least`: None for superusers only."""

    least: str | None
    status: int = 200
    data: dict[str, Any] | None = None
    """What is posted; None for a GET."""
    refused: int = 403
    kwargs: dict[str, Any] = field(default_factory=dict)


def of_model(name: str, **least: str | None) -> dict[str, Route]:
    """Django's own five pages of a table. Not given: for superusers only, if at all."""
    acts = {act: least.get(act) for act in ("changelist", "add", "history", "delete", "change")}
    return {f"{name}_{act}": Route(who) for act, who in acts.items()}


ROUTES = {
    "index": Route("staff"),
    "password_change": Route("staff"),
    "password_change_done": Route("staff"),
    "jsi18n": Route("staff"),
    "view_on_site": Route("staff", 404),  # calls have no page outside
    "app_list": Route("reviewer", refused=404, kwargs={"app_label": "sessions_app"}),
    "autocomplete": Route(None),
    **of_model("auth_group"),
    **of_model("auth_user"),
    "auth_user_password_change": Route(None),
    **of_model(
        "sessions_app_label",
        changelist="reviewer",
        history="reviewer",
        add="manager",
        change="reviewer",
        delete="manager",
    ),
    **of_model("sessions_app_booking", changelist="reviewer", history="reviewer", change="reviewer"),
    **of_model("sessions_app_access", changelist="manager", history="manager", change="manager"),
    **of_model("sessions_app_tombstone", changelist="manager", history="manager", change="manager"),
    **of_model("sessions_app_voicesession", changelist="reviewer", history="reviewer", change="reviewer"),
    f"{CALL}overview": Route("reviewer"),
    f"{CALL}events": Route("reviewer"),
    f"{CALL}timeline": Route("reviewer"),
    f"{CALL}recording": Route("reviewer", 404),  # this call has none
    f"{CALL}note": Route("reviewer", 302, {"text": "Hm."}),
    f"{CALL}label": Route("reviewer", 302, {"add": "1"}),
    f"{CALL}mark": Route("reviewer", 302, {"flagged": "1"}),
    f"{CALL}export": Route("manager", 400),  # in no format
    f"{CALL}export_one": Route("manager", kwargs={"name": "json"}),
    f"{CALL}compare": Route("manager", 302, {}),
    f"{CALL}hold": Route("manager", 302, {"act": "hold", "why": "A test."}),
    f"{CALL}delete": Route("manager"),
    f"{CALL}delete_selected": Route("manager", 200, {}),
}
OPEN = {"login", "logout"}
"""Where nobody has to be anybody."""


def patterns(those: Any, before: str = "") -> Iterator[tuple[str, URLPattern]]:
    for each in those:
        path = f"{before}{each.pattern}"
        if isinstance(each, URLResolver):
            yield from patterns(each.url_patterns, path)
        else:
            yield path, each


class RouteTests(TestCase):
    def setUp(self) -> None:
        self.session = ended_call()
        log_access(None, "open", self.session.pk)
        Tombstone.objects.create(session_id=self.session.pk, created_at=timezone.now(), why="x")

    def client_of(self, role: str) -> Client:
        client = Client()
        if role != "nobody":
            is_staff = not role.startswith("a caller")
            user, _ = User.objects.get_or_create(username=role, defaults={"is_staff": is_staff})
            user.groups.set(Group.objects.filter(name=role))
            client.force_login(user)
        return client

    def url(self, name: str, pattern: URLPattern) -> str:
        keys = set(pattern.pattern.converters) | set(ROUTES[name].kwargs)
        objects: dict[str, Any] = {
            "auth_group": Group.objects.first(),
            "auth_user": User.objects.get_or_create(username="somebody")[0],
            "sessions_app_label": Label.objects.first(),
            "sessions_app_booking": Booking.objects.first(),
            "sessions_app_access": Access.objects.first(),
            "sessions_app_tombstone": Tombstone.objects.first(),
            "sessions_app_voicesession": self.session,
        }
        found = [obj for table, obj in objects.items() if name.startswith(f"{table}_")]
        pk = (found[0] if found else self.session).pk
        content_type = ContentType.objects.get_for_model(VoiceSession).pk
        known = {"object_id": pk, "id": pk, "content_type_id": content_type, **ROUTES[name].kwargs}
        return reverse(f"admin:{name}", kwargs={key: known[key] for key in keys})

    def test_every_page_of_the_admin_is_known_here(self) -> None:
        """One that is added must say who may use it."""
        named = {each.name for _, each in patterns(admin.site.urls[0]) if each.name}
        assert named == ROUTES.keys() | OPEN
        unnamed = [path for path, each in patterns(admin.site.urls[0]) if not each.name]
        # Django's addresses of older times, which lead to a change page, and what is not found.
        assert [path for path in unnamed if not path.endswith(("/<path:object_id>/", "(?P<url>.*)$"))] == []

    def test_who_may_use_each_page(self) -> None:
        found = {}
        expected = {}
        clients = {role: self.client_of(role) for role in ROLES}
        first = {each.name: each for _, each in reversed(list(patterns(admin.site.urls[0])))}
        for name, route in ROUTES.items():
            url = self.url(name, first[name])
            least = ROLES.index(route.least) if route.least else len(ROLES)
            for place, role in enumerate(ROLES):
                client = clients[role]
                # CSRF is another matter (see test_erase.py); a client of the tests is let through.
                got = client.get(url) if route.data is None else client.post(url, route.data)
                to_login = got.status_code == 302 and got.headers["Location"].startswith("/admin/login/")
                found[name, role] = "login" if to_login else got.status_code
                is_outside = place < ROLES.index("staff")
                below: Any = "login" if is_outside else route.refused
                expected[name, role] = route.status if place >= least else below
        wrong = {key: (found[key], expected[key]) for key in found if found[key] != expected[key]}
        assert wrong == {}

    def test_what_is_refused_is_not_done(self) -> None:
        for role in ROLES[:-1]:
            client = self.client_of(role)
            for path, data in (
                (f"{self.session.pk}/delete/", {"why": "x"}),
                ("delete/", {"ids": str(self.session.pk), "why": "x"}),
                (f"{self.session.pk}/hold/", {"act": "hold", "why": "x"}),
            ):
                assert client.post(f"{CALLS}{path}", data).status_code in (302, 403)
        self.session.refresh_from_db()
        assert self.session.held_at is None
        assert not Access.objects.exclude(action="open").exists()

    def test_permissions_are_separate(self) -> None:
        """Each alone, with the permission to view calls, opens what it names, and nothing else."""
        pages = {
            "annotate": (f"{CALLS}{self.session.pk}/change/note/", {"text": "x"}),
            "listen": (f"{CALLS}{self.session.pk}/change/recording/", None),
            "export": (f"{CALLS}{self.session.pk}/export/csv/", None),
            "hold": (f"{CALLS}{self.session.pk}/hold/", {"act": "hold", "why": "x"}),
            "delete": (f"{CALLS}{self.session.pk}/delete/", None),
        }
        for act in pages:
            user = User.objects.create_user(act, is_staff=True)
            user.user_permissions.set(permissions("view", act))
            alone = User.objects.create_user(f"{act} only", is_staff=True)
            alone.user_permissions.set(permissions(act))
            for page, (url, data) in pages.items():
                for who, is_open in ((user, page == act), (alone, False)):
                    client = Client()
                    client.force_login(who)
                    got = client.get(url) if data is None else client.post(url, data)
                    assert (got.status_code != 403) == is_open, (who.username, page)

    def test_groups_hold_what_their_names_say(self) -> None:
        held = {
            group.name: {permission.codename for permission in group.permissions.all()}
            for group in Group.objects.all()
        }
        calls = {f"{act}_voicesession" for act in ("view", "annotate", "listen")}
        reviewer = {*calls, "view_label", "view_booking"}
        more = {f"{act}_voicesession" for act in ("export", "delete", "hold", "change")}
        labels = {f"{act}_label" for act in ("add", "change", "delete")}
        assert held == {
            "reviewer": reviewer,
            "manager": {*reviewer, *more, *labels, "view_access", "view_tombstone"},
        }


def permissions(*acts: str) -> Any:
    return Permission.objects.filter(codename__in=[f"{act}_voicesession" for act in acts])


class AccessLogTests(TestCase):
    def setUp(self) -> None:
        self.session = ended_call()
        self.manager = User.objects.create_user("ada", is_staff=True)
        self.manager.groups.set(Group.objects.filter(name="manager"))
        self.client.force_login(self.manager)

    def rows(self) -> list[tuple[str, str, Any]]:
        return [(row.action, row.who, row.session_id) for row in Access.objects.order_by("pk")]

    def test_what_is_done_with_a_call_is_a_row(self) -> None:
        call = self.session.pk
        with TemporaryDirectory() as folder, override_settings(RECORDINGS=Path(folder)):
            recording.copy_of(call).write_bytes(b"RIFF" + bytes(400))
            VoiceSession.objects.filter(pk=call).update(call_id="call-1")
            self.client.get(f"{CALLS}{call}/change/")
            self.client.get(f"{CALLS}{call}/change/events/")  # what an open page fetches by itself
            heard = self.client.get(f"{CALLS}{call}/change/recording/")
            assert heard.getvalue().startswith(b"RIFF")
            self.client.get(f"{CALLS}{call}/export/txt/")
            assert self.client.get(f"{CALLS}export/?format=csv&end=hang_up").getvalue()
            self.client.post(f"{CALLS}{call}/hold/", {"act": "hold", "why": "x"})
            self.client.post(f"{CALLS}{call}/hold/", {"act": "release", "why": "x"})
            self.client.post(f"{CALLS}{call}/delete/", {"why": "x"})
        acts = ("open", "listen", "export", "export", "hold", "release", "delete")
        many = acts.index("export") + 1
        assert self.rows() == [
            (act, "ada", None if place == many else call) for place, act in enumerate(acts)
        ]
        row = Access.objects.order_by("pk")[many]
        assert (row.details["number"], row.details["filters"]) == (1, "end=hang_up")

    def test_rows_outlive_the_call_and_the_account(self) -> None:
        self.client.get(f"{CALLS}{self.session.pk}/change/")
        before = self.rows()
        self.session.delete()
        pk = self.manager.pk
        self.manager.delete()
        assert self.rows() == before
        assert Access.objects.get().user_id == pk

    def test_nobody_changes_or_deletes_a_row(self) -> None:
        log_access(self.manager, "open", self.session.pk)
        log_access(None, "delete", None)
        before = list(Access.objects.order_by("pk").values())
        row = Access.objects.order_by("pk")[0]
        table = Access._meta.db_table
        again = (
            f"INTO {table} (id, at, who, action, details) VALUES ({row.pk}, '2000-01-01', '', 'open', '{{}}')"
        )
        row.who = "somebody else"

        def sql(statement: str) -> None:
            with connection.cursor() as cursor:
                cursor.execute(statement)

        ways: list[Callable[[], object]] = [
            row.save,
            row.delete,
            lambda: Access.objects.update(who=""),
            lambda: Access.objects.all().delete(),
            lambda: Access.objects.bulk_update([row], ["who"]),
            lambda: Access.objects.bulk_create(
                [row], update_conflicts=True, update_fields=["who"], unique_fields=["id"]
            ),
            lambda: sql(f"UPDATE {table} SET at = '2000-01-01'"),  # noqa: S608
            lambda: sql(f"DELETE FROM {table} WHERE id = {row.pk}"),  # noqa: S608
            lambda: sql(f"INSERT {again} ON CONFLICT (id) DO UPDATE SET who = ''"),
        ]
        if connection.vendor == "sqlite":
            ways.append(lambda: sql(f"REPLACE {again}"))
        else:
            ways += [lambda: sql(f"TRUNCATE {table}"), lambda: sql(f"TRUNCATE {table} CASCADE")]
        for way in ways:
            with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
                way()
        assert list(Access.objects.order_by("pk").values()) == before

    def test_admin_offers_no_way_either(self) -> None:
        """Not even to a superuser."""
        log_access(self.manager, "open", self.session.pk)
        row = Access.objects.get()
        log = "/admin/sessions_app/access/"
        chief = User.objects.create_superuser("chief")
        for user in (self.manager, chief):
            self.client.force_login(user)
            listed = self.client.get(log)
            self.assertContains(listed, str(self.session.pk))
            self.assertNotContains(listed, "delete_selected")
            assert self.client.get(f"{log}add/").status_code == 403
            assert self.client.post(f"{log}add/", {"who": "x"}).status_code == 403
            assert self.client.post(f"{log}{row.pk}/change/", {"who": "x"}).status_code == 403
            assert self.client.post(f"{log}{row.pk}/delete/", {"post": "yes"}).status_code == 403
            picked = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
            self.client.post(log, picked)
            for table in ("tombstone", "booking", "voicesession"):
                page = f"/admin/sessions_app/{table}/"
                assert self.client.post(f"{page}add/", {}).status_code == 403
        assert Access.objects.get().who == "ada"
