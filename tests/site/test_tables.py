"""Staff's tables beside the calls: labels, the access log, and what is left of deleted calls."""

import re
from datetime import timedelta

from django.contrib.auth.models import Group
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import escape

from sessions_app.access import log_access
from sessions_app.models import Access, Label, Labelling, Tombstone, VoiceSession

from .test_admin import AdminTestCase, open_session, shown

TABLES = "/admin/sessions_app"
HOSTILE = "<script>alert(1)</script>\u202egnp"


class TableTestCase(AdminTestCase):
    def join(self, name: str) -> None:
        """The account is of this group, and has no other rights."""
        self.allow()
        self.staff.groups.set([Group.objects.get(name=name)])

    def page(self, path: str) -> str:
        response = self.client.get(f"{TABLES}/{path}")
        assert response.status_code == 200
        return response.content.decode()


class LabelTests(TableTestCase):
    def test_managers_keep_the_list_of_labels_and_reviewers_read_it(self) -> None:
        self.join("reviewer")
        assert "wrong answer" in self.page("label/")
        assert self.client.post(f"{TABLES}/label/add/", {"name": "funny"}).status_code == 403
        self.join("manager")
        self.client.post(f"{TABLES}/label/add/", {"name": "funny"})
        label = Label.objects.get(name="funny")
        self.client.post(f"{TABLES}/label/{label.pk}/change/", {"name": "very funny"})
        assert Label.objects.filter(name="very funny").exists()

    def test_deleting_a_label_says_how_many_calls_lose_it(self) -> None:
        self.join("manager")
        label = Label.objects.get(name="good")
        url = f"label/{label.pk}/delete/"

        def queries() -> int:
            with CaptureQueriesContext(connection) as captured:
                self.page(url)
            return len(captured)

        Labelling.objects.create(session=open_session(), label=label, by=self.staff)
        one = queries()
        for _ in range(5):
            Labelling.objects.create(session=open_session(), label=label, by=self.staff)
        assert queries() == one
        assert "Calls that carry one: 6" in shown(self.page(url))
        self.client.post(f"{TABLES}/{url}", {"post": "yes"})
        assert not Label.objects.filter(name="good").exists()
        assert VoiceSession.objects.count() == 6
        assert not Labelling.objects.exists()


class AccessTests(TableTestCase):
    def test_managers_read_who_did_what_and_find_it_by_call_and_by_name(self) -> None:
        session, other = open_session(), open_session()
        log_access(self.staff, Access.Action.EXPORT, session.pk, format="json")
        log_access(None, Access.Action.DELETE, other.pk, why=HOSTILE)
        log_access(self.staff, Access.Action.EXPORT, None, number=3, filters="state=ended")
        self.join("reviewer")
        assert self.client.get(f"{TABLES}/access/").status_code == 403
        self.join("manager")
        page = self.page("access/")
        cells = [re.findall(r"<bdi>(.*?)</bdi>", row) for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL)]
        assert ["staff", "number: 3, filters: state=ended"] in cells
        assert ["the site", str(other.pk), f"why: {escape(HOSTILE)}"] in cells
        assert "<script>alert" not in page
        for query in (session.pk, session.pk.hex, str(session.pk)[:13]):
            page = self.page(f"access/?q={query}")
            assert f"{TABLES}/voicesession/{session.pk}/change/" in page
            assert str(other.pk) not in page
        assert "<bdi>the site</bdi>" not in self.page("access/?q=staff")

    def test_nobody_changes_it(self) -> None:
        log_access(self.staff, Access.Action.OPEN, open_session().pk)
        row = Access.objects.get()
        self.staff.is_superuser = True
        self.staff.save()
        for path, status in (("add/", 403), (f"{row.pk}/change/", 403), (f"{row.pk}/delete/", 403)):
            assert self.client.post(f"{TABLES}/access/{path}", {"who": "eve"}).status_code == status
        row.refresh_from_db()
        assert row.who == "staff"


class TombstoneTests(TableTestCase):
    def test_what_is_left_of_a_deleted_call(self) -> None:
        session = open_session()
        at = timezone.now() - timedelta(days=3)
        Tombstone.objects.create(session_id=session.pk, created_at=at, who="staff", why=HOSTILE)
        Tombstone.objects.create(session_id=open_session().pk, created_at=at, why="It was kept for 30 days.")
        self.join("manager")
        page = self.page("tombstone/")
        assert "It was kept for 30 days." in page
        assert "3 days ago" in shown(page)
        assert "<script>alert" not in page
        page = self.page(f"tombstone/?q={session.pk}")
        assert str(session.pk) in page
        assert "30 days" not in page
        assert (
            self.client.post(f"{TABLES}/tombstone/{session.pk}/delete/", {"post": "yes"}).status_code == 403
        )
        self.join("reviewer")
        assert self.client.get(f"{TABLES}/tombstone/").status_code == 403
