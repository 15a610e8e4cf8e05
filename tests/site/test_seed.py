"""The seeded calls: as many as asked for, of all kinds that staff's pages tell apart, and readable."""

from io import StringIO
from typing import Any

from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import TestCase

from sessions_app import digest, search
from sessions_app.models import Labelling, Note, SessionEvent, ToolRun, VoiceSession

SESSIONS = "/admin/sessions_app/voicesession/"


def seed(*words: str, sessions: int, **options: Any) -> str:
    out = StringIO()
    call_command("seed_calls", *words, sessions=sessions, stdout=out, **options)
    return out.getvalue()


class SeedTests(TestCase):
    def test_calls_of_all_kinds(self) -> None:
        said = seed(sessions=400, events=8000)
        calls = VoiceSession.objects.all()
        assert calls.count() == 400
        lines = SessionEvent.objects.count()
        assert 8000 <= lines < 8100
        assert said == f"400 calls with {lines} lines are there.\n"
        for column, values in {
            "agent_name": 4,
            "proof": 5,
            "end_reason": 6,
        }.items():
            assert len(set(calls.values_list(column, flat=True))) == values, column
        for column in ("interruptions", "tool_calls", "tool_errors", "incidents", "slow_replies", "turns"):
            assert calls.filter(**{f"{column}__gt": 0}).exists(), column
            assert calls.filter(**{column: 0}).exists(), column
        for mark in ("flagged", "reviewed"):
            assert 0 < calls.exclude(**{f"{mark}_at": None}).count() < 200, mark
        assert Labelling.objects.exists()
        assert Note.objects.exists()
        assert ToolRun.objects.filter(is_error=True).exists()
        assert len({call.created_at.date() for call in calls}) > 50

    def test_everything_is_digested_and_can_be_found(self) -> None:
        seed(sessions=20)
        assert digest.catch_up(60, 1000) == 0
        before = list(
            VoiceSession.objects.order_by("pk").values("turns", "length_s", "last_words", "details")
        )
        digest.digest_all(list(VoiceSession.objects.values_list("pk", flat=True)))
        assert before == list(
            VoiceSession.objects.order_by("pk").values("turns", "length_s", "last_words", "details")
        )
        found = search.search("please")
        assert found.hits
        assert all("please" in hit.event.text.lower() for hit in found.hits)

    def test_one_long_call(self) -> None:
        seed(sessions=3, events=30, turns_of_longest=100)
        assert sorted(turns >= 100 for turns in VoiceSession.objects.values_list("turns", flat=True)) == [
            False,
            False,
            True,
        ]

    def test_every_call_can_be_read(self) -> None:
        seed(sessions=12)
        self.client.force_login(User.objects.create_superuser("root"))
        for pk in VoiceSession.objects.values_list("pk", flat=True):
            assert self.client.get(f"{SESSIONS}{pk}/change/").status_code == 200

    def test_the_same_number_makes_the_same_calls(self) -> None:
        def texts() -> list[Any]:
            return list(SessionEvent.objects.order_by("session", "pk").values_list("session", "type", "data"))

        seed(sessions=5, seed=7)
        first = texts()
        VoiceSession.objects.all().delete()
        seed(sessions=5, seed=7)
        assert texts() == first
        VoiceSession.objects.all().delete()
        seed(sessions=5, seed=8)
        assert texts() != first

    def test_a_database_with_calls_is_left_alone_unless_told_otherwise(self) -> None:
        seed(sessions=2)
        with self.assertRaisesMessage(CommandError, "--add"):
            seed(sessions=2)
        assert VoiceSession.objects.count() == 2
        seed("--add", sessions=3, seed=2)
        assert VoiceSession.objects.count() == 5

    def test_numbers_that_make_no_sense_are_refused(self) -> None:
        for sessions, events in ((0, 10), (10, 5), (-1, None)):
            with self.assertRaisesMessage(CommandError, "--sessions must be at least 1"):
                seed(sessions=sessions, events=events)
