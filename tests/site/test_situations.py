"""The catalogue that page, site and documents share: what the site says is in it, and is fit to be read."""

from sessions_app import admission, vatel, views
from sessions_app.situations import SITUATIONS

CAPS = {f"too_many_{what}{of}" for what in ("calls", "starts") for of in ("", "_of_visitor", "_of_address")}


def test_whatever_the_site_can_say_to_a_caller_is_in_the_catalogue() -> None:
    said = {error.code for error in vatel.VatelError.__subclasses__()} | set(views.STATUSES) | CAPS
    assert said - set(SITUATIONS) == set()
    assert {SITUATIONS[code].kind for code in said} == {"failure"}


def test_everything_is_said_in_whole_sentences() -> None:
    for code, situation in SITUATIONS.items():
        assert situation.kind in ("failure", "notice"), code
        assert situation.sentence.endswith((".", "?")), code
        for short in (situation.title, situation.for_staff):
            assert short, code
            assert not short.endswith("."), code


def test_waits_are_told_in_words() -> None:
    told = {seconds: admission.in_words(seconds) for seconds in (1, 60, 61, 3540, 3541, 3600)}
    assert told == {
        1: "a minute",
        60: "a minute",
        61: "2 minutes",
        3540: "59 minutes",
        3541: "an hour",
        3600: "an hour",
    }
