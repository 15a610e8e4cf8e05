"""What staff write about a call: who may, where it stands, and who else sees it."""

import re
from typing import Any

from channels.layers import get_channel_layer
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client, TransactionTestCase
from django.test.utils import CaptureQueriesContext

from sessions_app import log
from sessions_app.models import Label, Labelling, Note, VoiceSession

from .test_admin import (
    AdminTestCase,
    agent_says,
    caller_says,
    change_url,
    cuts_in,
    events_url,
    open_session,
    shown,
    tell,
)

ANNOTATE = ("view_voicesession", "annotate_voicesession")


class NotesTestCase(AdminTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.allow(*ANNOTATE)
        self.session = open_session()
        tell(self.session, agent_says(0, "Hello."), cuts_in(1900), caller_says(2000, "Hi."))

    def post(self, what: str, **data: Any) -> str:
        """Posts a form as a browser does; returns where it leads."""
        response = self.client.post(f"{change_url(self.session)}{what}/", data)
        assert response.status_code == 302
        return response["Location"].removeprefix(change_url(self.session))

    def page(self, query: str = "") -> str:
        return self.client.get(f"{change_url(self.session)}{query}").content.decode()

    def colleague(self, *codenames: str) -> tuple[Client, User]:
        user = User.objects.create_user("colleague", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames or ANNOTATE))
        client = Client()
        client.force_login(user)
        return client, user


class NoteTests(NotesTestCase):
    def test_a_note_stands_at_its_line_with_its_author(self) -> None:
        assert self.post("note", line="browser-3", text=" Polite.\r\nAnd short. ") == "#browser-3"
        words = str(self.transcript(self.session).rows[2]["words"])
        written = r"Polite\. And short\. staff , \d+ \w+ \d{4}, \d\d:\d\d"
        assert re.fullmatch(rf"0:02 Caller Hi\. Note {written} Delete Delete this note", words)
        assert Note.objects.get().text == "Polite.\nAnd short."
        assert "Polite." not in shown(self.page().split('id="transcript"')[0])

    def test_a_note_on_the_whole_call_stands_above_the_lines(self) -> None:
        assert self.post("note", text="Well done.") == "#notes"
        head, lines = self.page().split('id="transcript"')
        assert "Well done." in head
        assert "Well done." not in lines

    def test_a_note_on_an_interruption_stands_where_that_is_shown(self) -> None:
        self.post("note", line="browser-2", text="Rude.")
        assert [("Rude." in str(row["words"])) for row in self.transcript(self.session).rows] == [
            True,
            False,
            False,
        ]

    def test_a_note_whose_line_is_not_shown_any_more_is_kept_above(self) -> None:
        tell(self.session, caller_says(2000, "Hi."), source="platform")
        self.post("note", line="platform-1", text="Odd.")
        self.session.events.filter(source="platform").update(data={"differs_from": ["browser", 99]})
        assert "Odd." in self.page()

    def test_without_script_the_form_opens_at_its_line(self) -> None:
        assert 'id="note-form"' not in self.page().split("<template")[0]
        page = self.page("?note=browser-3")
        line = page[page.index('id="browser-3"') : page.index("</ol>")]
        assert 'id="note-form"' in line
        assert 'name="line" value="browser-3"' in line
        assert "csrfmiddlewaretoken" in line
        above = self.page("?note=").split('id="transcript"')[0]
        assert 'id="note-form"' in above

    def test_what_cannot_be_saved_is_said(self) -> None:
        long = "x" * (Note.MAX_LENGTH + 1)
        for data, words in (
            ({"text": " "}, "A note needs some words."),
            ({"text": long}, "A note has at most 4,000 characters, this one has 4,001."),
            ({"text": "a\0b"}, "a character that cannot be stored"),
            ({"text": "a", "line": "browser-4"}, "This call has no such line."),
            ({"text": "a", "line": "moon-1"}, "This call has no such line."),
            ({"text": "a", "line": "browser-99999999999"}, "This call has no such line."),
            ({"text": "a", "line": "//evil.example"}, "This call has no such line."),
        ):
            place = self.post("note", **data)
            assert re.fullmatch(r"(#[a-z]+(-[0-9]+)?)?", place), place
            assert words in shown(self.page())
            response = self.client.post(
                f"{change_url(self.session)}note/", data, headers={"Accept": "text/plain"}
            )
            assert response.status_code == 422
            assert words in response.content.decode()
        assert not Note.objects.exists()

    def test_as_many_characters_as_a_browser_lets_be_written(self) -> None:
        # It counts an end of a line as one, and sends two.
        self.post("note", text="a\r\n" * 1999 + "ab")
        assert len(Note.objects.get().text) == 4000

    def test_hostile_words_and_names(self) -> None:
        User.objects.filter(pk=self.staff.pk).update(username="\u202e<i>eve</i>")
        self.post("note", line="browser-1", text="\u202e</li><script>alert(1)</script>\x07")
        self.post("note", text="<img src=x onerror=alert(1)>")
        page = self.page()
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "<bdi>\u202e&lt;/li&gt;&lt;script&gt;alert(1)&lt;/script&gt;\u2407</bdi>" in page
        assert "<bdi>\u202e&lt;i&gt;eve&lt;/i&gt;</bdi>" in page

    def test_author_and_managers_may_delete_it_and_nobody_else(self) -> None:
        other, user = self.colleague()
        mine = self.session.notes.create(text="Mine.", by=self.staff)
        theirs = self.session.notes.create(text="Theirs.", by=user, source="browser", seq=1)
        orphan = self.session.notes.create(text="Nobody's.", by=None)
        url = f"{change_url(self.session)}note/"
        assert re.findall(r'name="delete" value="(\d+)"', self.page()) == [str(mine.pk)]
        assert self.client.post(url, {"delete": theirs.pk}).status_code == 403
        assert self.client.post(url, {"delete": orphan.pk}).status_code == 403
        assert self.post("note", delete=mine.pk) == "#notes"
        assert self.post("note", delete=mine.pk) == "#notes", "it is gone already"
        assert self.post("note", delete="x") == "#notes"
        self.allow(*ANNOTATE, "delete_voicesession")
        assert self.post("note", delete=theirs.pk) == "#browser-1"
        assert other.post(url, {"delete": orphan.pk}).status_code == 403
        assert list(Note.objects.all()) == [orphan]

    def test_a_note_of_another_call_is_out_of_reach(self) -> None:
        note = open_session().notes.create(text="Elsewhere.", by=self.staff)
        self.post("note", delete=note.pk)
        assert Note.objects.get() == note


class MarkTests(NotesTestCase):
    def test_labels_are_put_on_and_taken_off(self) -> None:
        good, bad = Label.objects.create(name="splendid"), Label.objects.create(name="<b>dreadful")
        assert self.post("label", add=good.pk) == "#review"
        self.post("label", add=good.pk)
        self.post("label", add=bad.pk)
        labels = self.session.labellings.values_list("label__name", "by__username")
        assert sorted(labels) == [("<b>dreadful", "staff"), ("splendid", "staff")]
        page = self.page()
        assert "<bdi>&lt;b&gt;dreadful</bdi>" in page
        assert 'aria-label="Remove the label splendid"' in page
        self.post("label", remove=bad.pk)
        self.post("label", remove=bad.pk)
        assert [str(each.label) for each in self.session.labellings.all()] == ["splendid"]
        self.post("label", add=10**14)
        assert "There is no such label any more." in self.page()
        self.post("label", add="x")

    def test_flag_and_review_tell_who_was_first_and_when(self) -> None:
        other, _ = self.colleague()
        for name, words in (("flagged", "Flagged by"), ("reviewed", "Reviewed by")):
            assert self.post("mark", set=name) == "#review"
            other.post(f"{change_url(self.session)}mark/", {"set": name})
            assert f"{words} staff," in shown(self.page())
            other.post(f"{change_url(self.session)}mark/", {"clear": name})
            assert words not in shown(self.page())
            other.post(f"{change_url(self.session)}mark/", {"set": name})
            assert f"{words} colleague," in shown(self.page())

    def test_no_other_mark_is_set(self) -> None:
        for data in ({"set": "held"}, {"set": "pk"}, {"clear": "held"}, {}):
            self.post("mark", **data)
            assert "A mark is one of flagged, reviewed." in self.page()
        self.session.refresh_from_db()
        assert self.session.held_at is None


class PermissionTests(NotesTestCase):
    def test_who_may_only_read_sees_all_and_is_offered_nothing(self) -> None:
        self.session.notes.create(text="On the call.", by=self.staff)
        self.session.notes.create(text="On a line.", by=self.staff, source="browser", seq=1)
        label = Label.objects.create(name="splendid")
        self.post("label", add=label.pk)
        self.post("mark", set="flagged")
        self.allow("view_voicesession")
        for query in ("", "?note=browser-1"):
            page = self.page(query)
            text = shown(page)
            for words in ("On the call.", "On a line.", "splendid", "Flagged by staff"):
                assert words in text
            for offer in ("note-form", "add-note", "Delete", 'name="add"', 'name="set"', 'name="clear"'):
                assert offer not in page

    def test_nobody_else_changes_anything(self) -> None:
        forms = {"note": {"text": "a"}, "label": {"add": "1"}, "mark": {"set": "flagged"}}
        for what, data in forms.items():
            url = f"{change_url(self.session)}{what}/"
            assert self.client.get(url).status_code == 405
            assert Client(enforce_csrf_checks=True).post(url, data).status_code == 403
            assert self.client.post(f"{change_url(VoiceSession())}{what}/", data).status_code == 404
            for codenames in (("view_voicesession",), ("annotate_voicesession",), ("change_voicesession",)):
                self.allow(*codenames)
                assert self.client.post(url, data).status_code == 403
            self.allow(*ANNOTATE)
            assert Client().post(url, data)["Location"].startswith("/admin/login/")
        self.session.refresh_from_db()
        assert (Note.objects.count(), self.session.labellings.count(), self.session.flagged_at) == (
            0,
            0,
            None,
        )


class OthersTests(NotesTestCase):
    def marks(self) -> tuple[str, str]:
        response = self.client.get(events_url(self.session, "browser:3"))
        return response["X-Head"], response["X-Notes"]

    def test_an_open_page_learns_from_its_next_rows_that_something_was_written(self) -> None:
        label = Label.objects.create(name="splendid")
        before = self.marks()
        page = self.page()
        assert f'data-head="{before[0]}" data-notes="{before[1]}"' in page
        seen = {before}
        for what, data in (
            ("note", {"text": "a", "line": "browser-1"}),
            ("note", {"text": "b"}),
            ("label", {"add": label.pk}),
            ("mark", {"set": "flagged"}),
            ("mark", {"set": "reviewed"}),
        ):
            self.post(what, **data)
            seen.add(self.marks())
        assert len(seen) == 6
        heads, notes = zip(*seen, strict=True)
        assert (len(set(heads)), len(set(notes))) == (6, 3)
        self.post("note", delete=Note.objects.get(text="a").pk)
        assert self.marks() not in seen

    def test_the_number_of_queries_is_the_same_for_a_short_call_and_for_a_long_one(self) -> None:
        page = change_url(self.session)

        def queries() -> list[int]:
            counts = []
            for url in (
                page,
                events_url(self.session),
                events_url(self.session, "browser:1"),
                f"{page}timeline/",
            ):
                with CaptureQueriesContext(connection) as captured:
                    assert self.client.get(url).status_code == 200
                counts.append(len(captured))
            return counts

        def review(name: str) -> None:
            writer = User.objects.create_user(name, is_staff=True)
            for at in ("browser-1", "browser-3", ""):
                source, _, seq = at.partition("-")
                Note.objects.create(
                    session=self.session, source=source, seq=seq or None, text="Aha.", by=writer
                )
            label = Label.objects.create(name=name)
            Labelling.objects.create(session=self.session, label=label, by=writer)

        review("one")
        few = queries()
        for n in range(3, 60):
            call = {"toolCallId": f"call-{n}", "toolName": "get_time", "arguments": {}}
            tell(
                self.session,
                caller_says(1000 * n, "And then?"),
                (1000 * n + 300, "speech_stopped", {}),
                (1000 * n + 400, "reply_audible", {"turn_id": f"agent-{1000 * n + 400}", "after_ms": 90}),
                agent_says(1000 * n + 400, "Nothing."),
                (1000 * n + 500, "tool_call", call),
                (1000 * n + 550, "tool_call_output", {"toolCallId": f"call-{n}", "output": "{}"}),
                cuts_in(1000 * n + 600),
            )
        for name in ("two", "three"):
            review(name)
        assert len(self.transcript(self.session).rows) == 3 + 57 * 5
        assert queries() == few


class DoorbellTests(TransactionTestCase):
    async def test_whoever_watches_is_told_when_it_is_saved(self) -> None:
        staff = await User.objects.acreate(username="staff", is_staff=True, is_superuser=True)
        session = await VoiceSession.objects.acreate(
            visitor="0" * 32, agent_id="5a1c0e5e-0000-4000-8000-000000000001"
        )
        layer = get_channel_layer()
        await layer.group_add(log.group(session.pk), "watcher")
        await self.async_client.aforce_login(staff)
        response = await self.async_client.post(f"{change_url(session)}note/", {"text": "A note."})
        assert response.status_code == 302
        assert await layer.receive("watcher") == {"type": "event.recorded"}
        await layer.group_discard(log.group(session.pk), "watcher")
