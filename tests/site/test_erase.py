"""Calls that are deleted: what goes, what stays, what nobody can delete, and who is told."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client, TestCase, TransactionTestCase, override_settings
from django.utils import timezone

from sessions_app import digest, erase, log, reconcile, recording, search
from sessions_app.events import Frame
from sessions_app.models import (
    Access,
    Booking,
    Day,
    Label,
    Labelling,
    Note,
    SessionEvent,
    Tombstone,
    ToolRun,
    VoiceSession,
)
from sessions_app.record import read
from sessions_app.relay import Close

from .sockets import Socket, frame, open_session, welcome
from .test_commands import run
from .test_settings import ROOT, environment

CALLS = "/admin/sessions_app/voicesession/"
WORDS = "marmalade"


def ended_call(client: Client | None = None, *, ended_ago: timedelta = timedelta(hours=1)) -> VoiceSession:
    """A call with something in each of the tables."""
    session = open_session(client or Client())
    frames = [
        Frame(1, 0, "connected", {}),
        Frame(2, 900, "response_text", {"text": f"I like {WORDS}.", "turn_id": "a-1"}),
        Frame(3, 60_000, "hang_up", {}),
    ]
    log.record(session.pk, frames)
    at = timezone.now() - ended_ago
    VoiceSession.objects.filter(pk=session.pk).update(
        created_at=at, started_at=at, ended_at=at, prove_at=None
    )
    session.refresh_from_db()
    ToolRun.objects.create(session=session, tool_call_id="t-1", name="get_time", arguments={"city": WORDS})
    Booking.objects.create(session=session, tool_call_id="t-2", people=2, at=at, name=WORDS)
    Note.objects.create(session=session, text=WORDS)
    label, _ = Label.objects.get_or_create(name="good")
    Labelling.objects.create(session=session, label=label)
    digest.digest(session)
    return session


def live_call(client: Client | None = None) -> VoiceSession:
    session = open_session(client or Client())
    log.record(session.pk, [Frame(1, 0, "connected", {})])
    session.refresh_from_db()
    return session


def held(session: VoiceSession) -> VoiceSession:
    session.held_because = "A complaint."
    session.mark("held", None, timezone.now())
    return session


def what_is_left(session: VoiceSession) -> list[str]:
    """Tables with rows of the call."""
    tables = (VoiceSession, SessionEvent, ToolRun, Booking, Note, Labelling)
    found = [
        table.__name__
        for table in tables
        if table.objects.filter(**{"pk" if table is VoiceSession else "session": session.pk}).exists()
    ]
    return found + ["words"] * bool(search.search(WORDS).hits)


class EraseTests(TestCase):
    def setUp(self) -> None:
        self.staff = User.objects.create_user("ada", is_staff=True)
        acts = ("view", "delete", "hold")
        self.staff.user_permissions.set(
            Permission.objects.filter(codename__in=[f"{act}_voicesession" for act in acts])
        )
        self.client.force_login(self.staff)

    def post(self, path: str, **data: Any) -> Any:
        with self.captureOnCommitCallbacks(execute=True):
            return self.client.post(f"{CALLS}{path}", data)

    def messages(self, response: Any) -> list[str]:
        return [str(message) for message in self.client.get(response.headers["Location"]).context["messages"]]

    def test_all_of_a_call_goes_and_a_tombstone_stays(self) -> None:
        session, other = ended_call(), ended_call()
        assert len(search.search(WORDS).hits) == 2
        erase.erase(other, None, "old")
        asked = self.client.get(f"{CALLS}{session.pk}/delete/")
        for words in ("3 lines of its log", "1 runs of tools", "1 bookings", "1 notes", "1 labels"):
            self.assertContains(asked, words)
        done = self.post(f"{session.pk}/delete/", why="  The caller asked\n for it. ")
        assert (done.status_code, done.headers["Location"]) == (302, CALLS)
        assert self.messages(done) == [f"The call of {session} was deleted."]
        assert what_is_left(session) == what_is_left(other) == []
        stone = Tombstone.objects.get(pk=session.pk)
        assert (stone.who, stone.why) == ("ada", "The caller asked for it.")
        times = (session.created_at, session.started_at, session.ended_at)
        assert (stone.created_at, stone.started_at, stone.ended_at) == times
        assert Tombstone.objects.get(pk=other.pk).who == ""
        row = Access.objects.get(session_id=session.pk, action="delete")
        assert (row.who, row.user_id, row.details) == (
            "ada",
            self.staff.pk,
            {"why": "The caller asked for it."},
        )
        assert self.client.get(f"{CALLS}{session.pk}/delete/").status_code == 404

    def test_reason_is_asked_for(self) -> None:
        session = ended_call()
        for why, sentence in (
            ("", "Give a reason."),
            (" \0\n", "Give a reason."),
            ("x" * 256, "at most 255"),
        ):
            answer = self.post(f"{session.pk}/delete/", why=why)
            self.assertContains(answer, sentence, status_code=422)
        assert len(what_is_left(session)) == 7

    def test_form_has_a_token_that_counts(self) -> None:
        session = ended_call()
        browser = Client(enforce_csrf_checks=True)
        browser.force_login(self.staff)
        url = f"{CALLS}{session.pk}/delete/"
        for path in (url, f"{CALLS}delete/", f"{CALLS}{session.pk}/hold/"):
            assert browser.post(path, {"why": "x", "act": "hold"}).status_code == 403
        token = str(browser.get(url).context["csrf_token"])
        assert browser.post(url, {"why": "x", "csrfmiddlewaretoken": token}).status_code == 302

    def test_calls_that_are_held_or_not_over_stay(self) -> None:
        created = open_session(Client())
        for session, sentence in (
            (held(ended_call()), "This call is held: A complaint. Release it before you delete it."),
            (live_call(), "This call is not over yet. It can be deleted when it is."),
            (created, "This call is not over yet."),
        ):
            asked = self.client.get(f"{CALLS}{session.pk}/delete/")
            self.assertContains(asked, sentence)
            self.assertNotContains(asked, 'name="why"')
            self.assertContains(self.post(f"{session.pk}/delete/", why="x"), sentence, status_code=422)
            with pytest.raises(erase.NotErasableError, match=re.escape(sentence)):
                erase.erase(session, None, "x")
            assert VoiceSession.objects.filter(pk=session.pk).exists()
        assert not Tombstone.objects.exists()
        gone = ended_call()
        erase.erase(gone, None, "x")
        with pytest.raises(erase.NotErasableError, match="was deleted already"):
            erase.erase(gone, None, "x")

    def test_what_somebody_has_said_is_only_shown(self) -> None:
        session = held(ended_call())
        VoiceSession.objects.filter(pk=session.pk).update(
            held_because="<script>alert(1)</script>", agent_name="<b>x</b>"
        )
        for page in (f"{session.pk}/delete/", f"{session.pk}/change/"):
            shown = self.client.get(f"{CALLS}{page}")
            self.assertContains(shown, "&lt;script&gt;alert(1)")
            self.assertNotContains(shown, "<script>alert")
            self.assertNotContains(shown, "<b>x</b>")

    def test_overview_of_its_day_is_added_up_anew(self) -> None:
        session = ended_call()
        Day.objects.update(is_stale=False)
        erase.erase(session, None, "x")
        assert Day.objects.get().is_stale

    def test_hold_and_release_give_a_reason_and_are_logged(self) -> None:
        session = ended_call()
        page = f"{CALLS}{session.pk}/change/"
        self.assertContains(self.client.get(page), "Reason to hold it from deletion")
        held_it = self.post(f"{session.pk}/hold/", act="hold", why="A complaint.")
        assert (held_it.status_code, held_it.headers["Location"]) == (302, page)
        self.assertContains(self.client.get(page), "<bdi>A complaint.</bdi>")
        self.post(f"{session.pk}/hold/", act="hold", why="Another click.")
        session.refresh_from_db()
        assert (session.held_by, session.held_because) == (self.staff, "A complaint.")
        assert self.messages(self.post(f"{session.pk}/hold/", act="release", why="")) == [
            "Give a reason. It stays in the access log."
        ]
        self.post(f"{session.pk}/hold/", act="release", why="It is settled.")
        session.refresh_from_db()
        assert (session.held_at, session.held_by, session.held_because) == (None, None, "")
        rows = Access.objects.filter(session_id=session.pk).exclude(action="open").order_by("pk")
        assert [(row.action, row.who, row.details["why"]) for row in rows] == [
            ("hold", "ada", "A complaint."),
            ("release", "ada", "It is settled."),
        ]
        assert self.post(f"{session.pk}/hold/", act="open", why="x").status_code == 400
        assert self.client.get(f"{CALLS}{session.pk}/hold/").status_code == 405

    def test_page_of_a_call_leads_to_what_its_reader_may_do(self) -> None:
        session = ended_call()
        page = self.client.get(f"{CALLS}{session.pk}/change/")
        self.assertContains(page, f'href="{CALLS}{session.pk}/delete/"')
        self.assertContains(page, f'action="{CALLS}{session.pk}/hold/"')
        self.staff.user_permissions.set(Permission.objects.filter(codename="view_voicesession"))
        page = self.client.get(f"{CALLS}{session.pk}/change/")
        self.assertNotContains(page, f"{session.pk}/delete/")
        self.assertNotContains(page, f"{session.pk}/hold/")

    def test_chosen_calls(self) -> None:
        first, second, kept, live = ended_call(), ended_call(), held(ended_call()), live_call()
        chosen = [call.pk for call in (first, second, kept, live)]
        asked = self.post("delete/", id=chosen)
        for words in (
            "2 calls go",
            "One call stays: it is held by staff.",
            "One call stays: it is not over yet.",
        ):
            self.assertContains(asked, words)
        ids = asked.context["ids"]
        assert set(ids.split(",")) == {str(first.pk), str(second.pk)}
        assert VoiceSession.objects.count() == 4
        again = self.post("delete/", ids=ids, why="")
        self.assertContains(again, "Give a reason.", status_code=422)
        assert set(again.context["ids"].split(",")) == set(ids.split(","))
        held(second)  # meanwhile
        done = self.post("delete/", ids=ids, why="A test.")
        assert self.messages(done) == [
            "1 call was deleted. 1 stayed: held meanwhile, or deleted by somebody else."
        ]
        assert set(VoiceSession.objects.values_list("pk", flat=True)) == {second.pk, kept.pk, live.pk}
        assert [(row.session_id, row.details) for row in Access.objects.filter(action="delete")] == [
            (first.pk, {"why": "A test."})
        ]

    def test_all_calls_that_match(self) -> None:
        calls = [ended_call() for _ in range(erase.BATCH * 2 + 3)]
        VoiceSession.objects.filter(pk=calls[0].pk).update(end_reason="failed")
        asked = self.post("delete/", all="1", end="hang_up")
        self.assertContains(asked, f"{len(calls) - 1} calls go")
        later = ended_call()  # nobody has been asked about this one
        assert self.post("delete/", ids=asked.context["ids"], why="x").status_code == 302
        assert set(VoiceSession.objects.values_list("pk", flat=True)) == {calls[0].pk, later.pk}

    def test_too_many_or_none(self) -> None:
        with mock.patch.object(erase, "LIMIT", 2):
            calls = [ended_call() for _ in range(3)]
            asked = self.post("delete/", id=[call.pk for call in calls])
            self.assertContains(asked, "at most 2 can be deleted at once")
            self.assertNotContains(asked, 'name="ids"')
            ids = ",".join(str(call.pk) for call in calls)
            assert self.post("delete/", ids=ids, why="x").status_code == 400
        self.assertContains(self.post("delete/"), "No call is chosen.")
        for wrong in ("x", "", f"{calls[0].pk},"):
            assert self.post("delete/", ids=wrong, why="x").status_code == 400
        assert self.client.get(f"{CALLS}delete/").status_code == 405
        assert VoiceSession.objects.count() == 3

    def test_copy_of_the_recording_goes(self) -> None:
        folder = Path(self.enterContext(TemporaryDirectory()))
        with override_settings(RECORDINGS=folder):
            session, other = ended_call(), ended_call()
            for call in (session, other):
                recording.copy_of(call.pk).write_bytes(b"RIFF")
            self.assertContains(self.client.get(f"{CALLS}{session.pk}/delete/"), "the copy of its recording")
            self.post(f"{session.pk}/delete/", why="x")
            assert [file.stem for file in folder.iterdir()] == [str(other.pk)]
            # As if the process had died between the deletion and this.
            recording.copy_of(session.pk).write_bytes(b"RIFF")
            (folder / "some-body-elses.wav").touch()
            with mock.patch.object(connection, "vendor", "postgresql"):  # no PRAGMA in this transaction
                erase.wipe(timezone.now())
            assert {file.stem for file in folder.iterdir()} == {str(other.pk), "some-body-elses"}


DAY = timedelta(days=1)


class RetentionTests(TransactionTestCase):
    """Sweep, as a timer runs it."""

    @override_settings(RETENTION_DAYS=30)
    def test_calls_are_deleted_when_their_time_is_over(self) -> None:
        old, young = ended_call(ended_ago=31 * DAY), ended_call(ended_ago=29 * DAY)
        kept = held(ended_call(ended_ago=400 * DAY))
        long = live_call()
        VoiceSession.objects.filter(pk=long.pk).update(created_at=timezone.now() - 40 * DAY)
        access = Access.objects.create(action="open", session_id=old.pk, at=timezone.now() - 400 * DAY)
        assert run("sweep").endswith(", 1 deleted\n")
        assert set(VoiceSession.objects.values_list("pk", flat=True)) == {young.pk, kept.pk, long.pk}
        assert what_is_left(old) == ["words"]  # of the others
        assert {hit.session for hit in search.search(WORDS).hits} == {young, kept}
        stone = Tombstone.objects.get()
        assert (stone.pk, stone.who, stone.why) == (old.pk, "", "It was kept for 30 days.")
        row = Access.objects.get(action="delete")
        assert (row.session_id, row.who, row.user_id) == (old.pk, "", None)
        assert Access.objects.filter(pk=access.pk).exists()
        assert run("sweep").endswith(", 0 deleted\n")

    def test_nothing_is_deleted_unless_it_is_said(self) -> None:
        ended_call(ended_ago=3000 * DAY)
        assert "deleted" not in run("sweep")
        assert VoiceSession.objects.count() == 1

    @override_settings(RETENTION_DAYS=1)
    def test_one_run_has_an_end_and_short_transactions(self) -> None:
        calls = [ended_call(ended_ago=(50 - n) * DAY) for n in range(6)]
        sizes: list[int] = []
        real = search.forget

        def forget(ids: Any) -> None:
            sizes.append(len(ids))
            real(ids)

        with mock.patch.object(erase, "BATCH", 2), mock.patch.object(search, "forget", forget):
            assert erase.expire(timezone.now(), limit=5) == 5
            assert sizes == [2, 2, 1]
            assert VoiceSession.objects.get() == calls[-1]
            assert erase.expire(timezone.now(), budget_s=0) == 0
        for n in range(3):
            ended_call(ended_ago=(50 - n) * DAY)
        sizes.clear()
        with mock.patch.object(erase, "LINES", 1), mock.patch.object(search, "forget", forget):
            assert erase.expire(timezone.now()) == 4
            assert sizes == [1, 1, 1, 1]


class LatePageTests(TransactionTestCase):
    """A page that still reports into a call which was deleted is told so, for good."""

    def setUp(self) -> None:
        self.session = ended_call(self.client)

    def erase(self) -> None:
        erase.erase(self.session, None, "x")

    async def test_socket_that_comes(self) -> None:
        await sync_to_async(self.erase)()
        async with Socket.relay(self.client, self.session) as page:
            assert await page.hear() == {"close": Close.NOT_YOURS}

    async def test_socket_that_is_open(self) -> None:
        async with Socket.relay(self.client, self.session) as page:
            assert await page.hear() == welcome(3)
            await sync_to_async(self.erase)()
            await page.send(frame(4), frame(5, "response_text", text=WORDS))
            assert await page.hear() == {"close": Close.NOT_YOURS}
        assert await sync_to_async(what_is_left)(self.session) == []

    def test_second_door(self) -> None:
        url = f"/sessions/{self.session.pk}/events/"

        def post() -> Any:
            return self.client.post(url, {"frames": [frame(4)]}, content_type="application/json")

        real = log.record

        def record(*words: Any) -> int:
            self.erase()  # in the very moment between the look and the lock
            return real(*words)

        with mock.patch.object(log, "record", record):
            during = post()
        for answer in (during, post()):
            assert answer.status_code == 403
            assert answer.json()["error"]["code"] == "not_yours"
        assert what_is_left(self.session) == []

    def test_comparison_that_is_under_way(self) -> None:
        VoiceSession.objects.filter(pk=self.session.pk).update(call_id="call-1")
        self.session.refresh_from_db()

        def fetch(session: VoiceSession) -> Any:
            self.erase()
            return read({"status": "ended"})

        with (
            mock.patch.object(reconcile, "fetch", fetch),
            pytest.raises(reconcile.NotProvableError, match="was deleted"),
        ):
            reconcile.prove(self.session)
        assert what_is_left(self.session) == []


SCRIPT = """
import sys
from datetime import timedelta
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from sessions_app import digest, log
from sessions_app.events import Frame
from sessions_app.models import Booking, Note, ToolRun, VoiceSession

secret, number = sys.argv[1], int(sys.argv[2])
staff = User.objects.create_superuser("ada", password="x")
calls = []
for n in range(number):
    at = timezone.now() - timedelta(days=60)
    call = VoiceSession.objects.create(visitor="v" * 32, agent_id=secret_agent, agent_name="Concierge")
    calls.append(call)
for line in range(60):  # lines of all calls among each other, as they come
    for n, call in enumerate(calls):
        word = secret if n % 2 else "ordinary"
        text = " ".join(f"{word}{line}x{part}" for part in range(1 + line * 7 % 50 * (1 + 9 * (line == 59))))
        log.record(call.pk, [Frame(line + 1, line * 10, "response_text", {"text": text})])
    digest.catch_up(60, 5000)
for n, call in enumerate(calls):
    word = secret if n % 2 else "ordinary"
    log.record(call.pk, [Frame(61, 5000, "hang_up", {})])
    call.refresh_from_db()
    run = ToolRun.objects.create(session=call, tool_call_id="t", name="x", arguments={"a": word * 9})
    run.finish(word * 9, is_error=False)
    Booking.objects.create(session=call, tool_call_id="t", people=2, at=timezone.now(), name=word)
    Note.objects.create(session=call, text=word * 9, by=staff)
    VoiceSession.objects.filter(pk=call.pk).update(platform_call={"summary": word * 9})
digest.catch_up(60, 5000)
by_hand, by_time = calls[1], calls[3:]
for call in by_time:
    at = timezone.now() - timedelta(days=60)
    VoiceSession.objects.filter(pk=call.pk).update(created_at=at, started_at=at, ended_at=at)
client = Client(headers={"host": "talk.example.com"})
client.force_login(staff)
url = f"/admin/sessions_app/voicesession/{by_hand.pk}/delete/"
assert client.post(url, {"why": "A test."}, secure=True).status_code == 302
assert VoiceSession.objects.count() == number - 1
"""


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the file is SQLite's")
def test_what_was_said_is_not_in_the_file_any_more(tmp_path: Path) -> None:
    """The database's file and its logs, byte by byte, after the real commands. Others are there still."""
    secret, number = "pomegranate", 8
    env = {"PATH": os.environ["PATH"], **environment(tmp_path, RETENTION_DAYS="30", REDACT="")}
    path = Path(env["DATABASE_PATH"])

    def manage(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def found(word: str) -> list[str]:
        """The files in which a word is."""
        files = [file for file in tmp_path.iterdir() if file.name.startswith(path.name)]
        return [file.name for file in files if word.encode() in file.read_bytes()]

    manage("migrate", "--verbosity", "0")
    script = SCRIPT.replace("secret_agent", repr(env["VATEL_AGENT_IDS"]))
    script = f"import sys; sys.argv[1:] = [{secret!r}, {number}]\n{script}"
    manage("shell", "--verbosity", "0", "--command", script)
    assert found(secret)
    # Calls in the second, fourth … place have said it; the third one is young.
    assert f"{number - 3} deleted" in manage("sweep")
    # The index leaves out the first letters that a word has in common with the one before it.
    assert found(secret[2:]) == []
    assert found("ordinary") == [path.name]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the file is SQLite's")
class WipeTests(TransactionTestCase):
    """The file is rewritten after deletions, and not too often."""

    def wiped(self) -> set[bool]:
        return {stone.wiped_at is not None for stone in Tombstone.objects.all()}

    def test_file_is_rewritten_once_an_hour_at_most(self) -> None:
        now = timezone.now()
        assert erase.wipe(now)  # nothing to do
        erase.erase(ended_call(), None, "x")
        assert erase.wipe(timezone.now())
        assert self.wiped() == {True}
        erase.erase(ended_call(), None, "x")
        assert not erase.wipe(timezone.now())
        assert self.wiped() == {True, False}
        assert erase.wipe(timezone.now() + timedelta(hours=1, minutes=1))
        assert self.wiped() == {True}

    def test_large_file_waits_for_the_night(self) -> None:
        erase.erase(ended_call(), None, "x")
        day = timezone.now() + timedelta(days=1)
        with mock.patch.object(erase, "LARGE", 1), timezone.override("UTC"):
            assert not erase.wipe(day.replace(hour=12))
            assert self.wiped() == {False}
            assert erase.wipe(day.replace(hour=3))
        assert self.wiped() == {True}

    def test_full_disk_is_not_filled_any_further(self) -> None:
        erase.erase(ended_call(), None, "x")
        usage = shutil.disk_usage("/")
        with (
            mock.patch.object(shutil, "disk_usage", return_value=usage._replace(free=4096)),
            self.assertLogs("sessions_app.erase", "WARNING") as logs,
        ):
            assert not erase.wipe(timezone.now())
        assert "no room" in logs.output[0]
        assert self.wiped() == {False}
        assert erase.wipe(timezone.now())
        assert self.wiped() == {True}

    def test_who_reads_is_not_disturbed_and_the_rest_is_done_later(self) -> None:
        erase.erase(ended_call(), None, "x")
        reader = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
        try:
            reader.execute("BEGIN")
            seen = reader.execute("SELECT count(*) FROM sessions_app_tombstone").fetchone()
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA busy_timeout = 50")  # the reader stays until we are done
            assert not erase.wipe(timezone.now())
            assert self.wiped() == {False}
            assert reader.execute("SELECT count(*) FROM sessions_app_tombstone").fetchone() == seen == (1,)
        finally:
            reader.close()
            connection.close()  # with its patience
        assert erase.wipe(timezone.now())
        assert self.wiped() == {True}
