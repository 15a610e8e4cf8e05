"""Search in what was said: what is found, in which order, how it is shown, and that nothing deleted stays."""

from importlib import import_module
from io import StringIO
from pathlib import Path
from unittest import mock

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase

from sessions_app import digest, search
from sessions_app.models import Label, Progress, SessionEvent, VoiceSession
from sessions_app.search import Found, fold, spans

from .test_admin import caller_says, open_session, tell

migrations = import_module("sessions_app.migrations.0009_words")


def call(*texts: str) -> VoiceSession:
    """A call in which the caller says this, digested."""
    session = open_session()
    tell(session, *(caller_says(1000 * n, text) for n, text in enumerate(texts)))
    digest.digest(session)
    return session


def said(found: Found) -> list[str]:
    return [hit.event.text for hit in found.hits]


def find(query: str) -> list[str]:
    return said(search.search(query))


def shown(found: Found) -> list[str]:
    """Each hit as it is read, with what was asked for in brackets."""
    return [
        "".join(f"[{words}]" if is_asked else words for words, is_asked in hit.parts) for hit in found.hits
    ]


class FindingTests(TestCase):
    def test_all_words_are_required_whatever_their_order(self) -> None:
        call("The soup is cold", "The soup is hot", "Cold weather")
        assert find("cold soup ") == ["The soup is cold"]
        assert find("cold tea") == []

    def test_case_and_diacritics_do_not_matter(self) -> None:
        call("Ein Café in ŁÓDŹ", "résumé", "e\u0301clair", "Straße", "Ελλάδα", "ЙОД", "TÜRKİYE")
        assert find("cafe lodz") == ["Ein Café in ŁÓDŹ"]
        assert find("CAFÉ") == ["Ein Café in ŁÓDŹ"]
        assert find("Re\u0301sume\u0301") == ["résumé"]
        assert find("éclair") == ["e\u0301clair"]
        assert find("STRASSE") == ["Straße"]
        assert find("ελλαδα") == ["Ελλάδα"]
        assert find("иод") == ["ЙОД"]
        assert find("turkiye") == ["TÜRKİYE"]

    def test_a_phrase_in_quotes_of_any_keyboard(self) -> None:
        call("a table for two please", "two tables for a party", "for two a table")
        assert find('"table for two"') == ["a table for two please"]
        assert find("“Table, for two!”") == ["a table for two please"]
        assert find('"table for two" please') == ["a table for two please"]
        assert find('"table for tw"') == []

    def test_the_last_word_and_those_with_a_star_may_go_on(self) -> None:
        call("reservation tomorrow", "reserved")
        assert set(find("reserv")) == {"reservation tomorrow", "reserved"}
        assert find("reserv tomorrow") == []
        assert find("reserv* tom") == ["reservation tomorrow"]

    def test_words_of_several_parts_are_phrases(self) -> None:
        call("Write an e-mail to O'Brien", "mail me an e", "don't")
        assert find("e-mail now") == []
        assert find("E-MAIL ") == ["Write an e-mail to O'Brien"]
        assert find("o'brien") == ["Write an e-mail to O'Brien"]
        assert find("don\u2019t") == ["don't"]

    def test_text_without_blanks_is_found_by_any_part_of_it(self) -> None:
        call("明日は東京都に行きます", "ขอโต๊ะสำหรับสองคน", "한국어로 말해요")
        assert find("東京") == ["明日は東京都に行きます"]
        assert find("京東") == []
        assert find("สำหรับ") == ["ขอโต๊ะสำหรับสองคน"]
        assert find("한국") == ["한국어로 말해요"]

    def test_hostile_queries_find_what_can_be_found(self) -> None:
        call("the words AND OR NOT NEAR words column rowid")
        for query in (
            "",
            " ",
            '"',
            '""',
            "''",
            "*",
            "-",
            "^",
            "(",
            "\0",
            "\ud800",
            "👍",
            "%s %",
            "?!.,;:()[]{}",
        ):
            with self.subTest(ascii(query)):
                assert search.search(query) == Found([])
        for query in (
            'words AND OR "',
            "words* NOT",
            "(words)",
            "{words} : ^words",
            "words\0and",
            "words'",
            "rowid:",
            "-words +and",
            "words & and | !",
            "👍 words",
            "words -- ;",
            "words \\",
        ):
            with self.subTest(ascii(query)):
                assert find(query) == ["the words AND OR NOT NEAR words column rowid"]
        for query in (
            "words " * 2000,
            '"' * 10_000,
            "a" * 10_000,
            "* " * 5000,
            "京" * 10_000,
            "' <-> & " * 1250,
        ):
            find(query)

    def test_words_of_any_length_are_kept_and_found(self) -> None:
        long = "x" * 5000
        call(long, "end of " + "word " * 12_000, "京" * 60_000, "\u2028 \u202e evil")
        assert find(long) == [long]
        assert len(find('"end of word"')) == 1
        assert len(find("京京")) == 1
        assert find("evil") == ["\u2028 \u202e evil"]

    def test_of_one_turn_only_what_a_reader_sees(self) -> None:
        session = open_session()
        tell(session, caller_says(1000, "My name is Ada"))
        differs = {"transcript": "My name is Eda", "turn_id": "user-1000", "differs_from": ["browser", 1]}
        recovered = {"text": "Welcome back", "turn_id": "agent-2", "entry": 5, "told_up_to": 1}
        tell(
            session,
            (1000, "input_audio_transcript", differs),
            (2000, "response_text", recovered),
            source="platform",
        )
        digest.digest(session)
        assert find("welcome") == ["Welcome back"]
        # The platform's words stand in the browser's line, and lead there.
        hit = search.search("eda").hits[0]
        assert hit.place == ("browser", 1)
        assert search.search("ada").hits[0].place == ("browser", 1)
        # The browser brings later what the platform had told: one line, found once.
        tell(session, (2000, "response_text", {"text": "Welcome back", "turn_id": "agent-2"}))
        digest.digest(session)
        assert [hit.place for hit in search.search("welcome").hits] == [("browser", 2)]

    def test_only_of_the_calls_that_are_asked_for(self) -> None:
        good, other = call("cold soup"), call("cold coffee")
        Label.objects.get(name="good").labellings.create(session=good)
        labelled = VoiceSession.objects.filter(labellings__label__name="good")
        assert said(search.search("cold", labelled)) == ["cold soup"]
        assert said(search.search("cold", VoiceSession.objects.filter(pk=other.pk))) == ["cold coffee"]
        assert search.search("cold", VoiceSession.objects.none()) == Found([])

    def test_says_when_there_are_older_ones_that_were_not_looked_at(self) -> None:
        old = call("cold soup")
        for n in range(3):
            call(f"cold {n}")
        assert not search.search("cold").is_partial
        with mock.patch.object(search, "MATCHES", 3):
            found = search.search("cold")
            assert found.is_partial
            assert said(found) == ["cold 2", "cold 1", "cold 0"]
        only_old = VoiceSession.objects.filter(pk=old.pk)
        with mock.patch.multiple(search, MATCHES=1, FIRST=1, FILTERED=1):
            assert search.search("cold", only_old) == Found([], is_partial=True)
        with mock.patch.multiple(search, MATCHES=1, FIRST=1, FILTERED=4):
            assert said(search.search("cold", only_old)) == ["cold soup"]
        with mock.patch.multiple(search, CHARACTERS=10, READ=1):
            found = search.search("cold")
            assert (len(found.hits), found.is_partial) == (2, True)

    def test_the_number_of_queries_does_not_grow(self) -> None:
        for n in range(5):
            call(f"cold {n}")
        with self.assertNumQueries(3):
            search.search("cold", limit=1)
        with self.assertNumQueries(3):
            assert len(search.search("cold").hits) == 5

    def test_a_line_that_says_where_it_stands_is_not_believed(self) -> None:
        session = call("Good evening")
        for place in (5, ["server", 9], {"a": 1}):
            session.events.update(data={"transcript": "Good evening", "differs_from": place})
            (hit,) = search.search("evening").hits
            assert hit.place == ("browser", 1)

    def test_words_are_indexed_anew(self) -> None:
        call("Good evening")
        with connection.cursor() as cursor:  # as in a database that the log was moved to
            cursor.execute("DELETE FROM sessions_app_words")
        assert find("evening") == []
        call_command("reindex", stdout=StringIO())
        assert find("evening") == ["Good evening"]

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite's index did not change")
    def test_words_of_before_the_upgrade_are_found_after_it(self) -> None:
        soup, tea = call("cold soup"), call("cold tea")
        with connection.cursor() as cursor:
            migrations.backwards(None, connection.schema_editor())
            cursor.execute("INSERT INTO sessions_app_words VALUES (999999999, 'cold')")  # of a deleted line
        migrations.forwards(None, connection.schema_editor())
        assert find("cold") == ["cold tea", "cold soup"]
        assert said(search.search("cold", VoiceSession.objects.filter(pk=soup.pk))) == ["cold soup"]
        search.forget([tea.pk])
        assert find("cold") == ["cold soup"]


class OrderTests(TestCase):
    def test_the_newest_first_among_equals(self) -> None:
        call("soup one", "soup two")
        call("soup three")
        assert find("soup") == ["soup three", "soup two", "soup one"]

    def test_more_mentions_first(self) -> None:
        call("soup soup soup", "soup of the day", "soup and soup")
        assert find("soup") == ["soup soup soup", "soup and soup", "soup of the day"]

    def test_words_that_stand_together_first(self) -> None:
        call("cold soup today", "cold is the evening and the soup", "soup is cold")
        assert find("cold soup") == ["cold soup today", "soup is cold", "cold is the evening and the soup"]

    def test_whole_words_before_beginnings(self) -> None:
        call("book a table", "booking")
        assert find("book") == ["book a table", "booking"]


class ShowingTests(TestCase):
    def test_words_are_marked_as_they_were_said(self) -> None:
        call("Ich möchte einen TISCH für\n zwei, bitte!")
        assert shown(search.search("tisch FUR")) == ["Ich möchte einen [TISCH] [für] zwei, bitte!"]
        assert shown(search.search('"fur zwei"')) == ["Ich möchte einen TISCH [für] [zwei], bitte!"]

    def test_only_the_surroundings_are_shown(self) -> None:
        before, behind = " ".join(f"b{n}" for n in range(50)), " ".join(f"c{n}" for n in range(50))
        call(f"{before} needle, {behind}")
        (line,) = shown(search.search("needle"))
        assert line.startswith("…b38 ")
        assert "[needle], c0 c1" in line
        assert line.endswith(" c11 …")

    def test_the_stretch_with_all_words_is_shown(self) -> None:
        filler = " ".join(["well"] * 60)
        call(f"cold {filler} cold soup {filler} soup")
        (line,) = shown(search.search("soup cold"))
        assert "[cold] [soup]" in line
        assert len(line) < 300

    def test_a_word_without_an_end_does_not_fill_the_page(self) -> None:
        call("京" * 5000, "y" * 50_000)
        assert all(len(line) < 1000 for query in ("京", "y") for line in shown(search.search(query)))

    def test_the_places_of_words_are_those_of_the_folded_text(self) -> None:
        for text in (
            "Plain words, here.",
            "Ça   va?\tÉtÉ e\u0301t",
            "東京 tower 3½ ﷺ ﬁn İI Straße",
            "हिन्दी में ขอโต๊ะ 한국어",
            "\u0301 leading ²",
            "",
            "a" * 200,
        ):
            with self.subTest(ascii(text)):
                assert [word for word, _, _ in spans(text)] == fold(text)
                assert all(start < end for _, start, end in spans(text))


class ForgettingTests(TestCase):
    def test_what_is_forgotten_is_not_found(self) -> None:
        gone, stays = call("secret soup"), call("secret tea")
        with transaction.atomic():
            search.forget([gone.pk])
            gone.delete()
        assert find("secret") == ["secret tea"]
        search.forget([])
        assert find("secret") == [hit.text for hit in stays.events.all()]

    def test_a_line_whose_call_was_deleted_otherwise_is_not_found(self) -> None:
        call("secret soup").delete()
        assert find("secret") == []


@pytest.mark.skipif(connection.vendor != "sqlite", reason="of PostgreSQL's files, its autovacuum takes care")
class FileTests(TransactionTestCase):
    def bytes_of_the_file(self) -> bytes:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        name = Path(connection.settings_dict["NAME"])
        return b"".join(path.read_bytes() for path in name.parent.glob(f"{name.name}*"))

    def test_nothing_forgotten_is_left_in_the_file(self) -> None:
        kept = call("flamingo stays here")
        gone = call("Unforgettable zanzibar words", "and a quagmire of them", "zanzibar " * 3000)
        for n in range(30):  # segments of several levels
            call(f"filler {n} " + " ".join(f"w{n}x{m}" for m in range(50)))
        secrets = (b"zanzibar", b"unforgettable", b"quagmire", b"Zanzibar", b"Unforgettable")
        assert any(word in self.bytes_of_the_file() for word in secrets)
        with transaction.atomic():
            search.forget([gone.pk])
            SessionEvent.objects.filter(session=gone).delete()
            gone.delete()
        with mock.patch.object(search, "PAGES", 1):
            assert not search.compact(budget_s=0)
            while not search.compact(budget_s=0.05):
                pass
        data = self.bytes_of_the_file()
        assert [word for word in secrets if word in data] == []
        assert b"flamingo" in data
        assert find("flamingo") == ["flamingo stays here"]
        assert kept.events.count() == 1
        assert len(find("filler")) == 30
        assert search.compact(budget_s=0)

    def test_without_anything_forgotten_nothing_is_rewritten(self) -> None:
        call("some words")
        assert search.compact(budget_s=0)
        assert not Progress.objects.filter(has_forgotten=True).exists()
