"""How many calls there may be: at once and in an hour, of a visitor, an address and the site."""

import threading
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import RequestFactory, TestCase, TransactionTestCase, override_settings
from django.utils import timezone

from sessions_app import admission
from sessions_app.admission import address_of, network_of
from sessions_app.models import VoiceSession
from sessions_app.situations import SITUATIONS

from .page import Page
from .platform import platform
from .test_exclusion import wait_until_a_lock_is_waited_for


def refused(response: Any, code: str) -> tuple[int, str]:
    """After how many seconds to ask again, and what the visitor is told."""
    assert (response.status_code, response.json()["error"]["code"]) == (429, code)
    assert SITUATIONS[code].kind == "failure"
    return int(response.headers["Retry-After"]), response.json()["error"]["message"]


def started_ago(session: VoiceSession, ago: timedelta) -> None:
    VoiceSession.objects.filter(pk=session.pk).update(created_at=timezone.now() - ago)


class CapTests(TestCase):
    def setUp(self) -> None:
        self.enterContext(platform())

    def test_third_call_of_a_visitor_is_refused_until_one_is_over(self) -> None:
        page, other = Page(), Page()
        assert [page.start().status_code for _ in range(2)] == [201, 201]
        retry_s, told = refused(page.start(), "too_many_calls_of_visitor")
        assert (retry_s, told) == (30, SITUATIONS["too_many_calls_of_visitor"].sentence)
        assert other.start().status_code == 201
        ended, unheard = VoiceSession.objects.filter(visitor=page.visitor)
        ended.mark_ended("hang_up", timezone.now())
        assert page.start().status_code == 201
        refused(page.start(), "too_many_calls_of_visitor")
        unheard.last_seen_at = timezone.now() - timedelta(seconds=91)
        unheard.save()
        assert page.start().status_code == 201

    def test_account_is_one_visitor_in_all_its_browsers(self) -> None:
        user = User.objects.create_user("ada")
        pages = [Page() for _ in range(3)]
        for page in pages:
            page.client.force_login(user)
        assert [page.start().status_code for page in pages[:2]] == [201, 201]
        refused(pages[2].start(), "too_many_calls_of_visitor")

    def test_visitors_without_cookies_cannot_take_all_places(self) -> None:
        assert [Page(address="2001:db8:1:2::77").start().status_code for _ in range(10)] == [201] * 10
        refused(Page(address="2001:db8:1:2:ffff::1").start(), "too_many_calls_of_address")
        assert Page(address="2001:db8:1:3::77").start().status_code == 201

    @override_settings(MAX_CALLS=2)
    def test_site_takes_no_more_calls_than_it_may(self) -> None:
        assert [Page().start().status_code for _ in range(2)] == [201, 201]
        refused(Page().start(), "too_many_calls")
        assert VoiceSession.objects.count() == 2

    @override_settings(MAX_STARTS_PER_VISITOR=2)
    def test_starts_of_a_visitor(self) -> None:
        page = Page()
        self.start_and_end(page, timedelta(minutes=57, seconds=30))
        self.start_and_end(page, timedelta(minutes=3))
        retry_s, told = refused(page.start(), "too_many_starts_of_visitor")
        assert told == "Try again in 3 minutes."
        assert 140 < retry_s <= 150
        assert Page().start().status_code == 201
        self.start_and_end(Page(), timedelta(minutes=1))  # of others, which is no matter
        started_ago(
            VoiceSession.objects.filter(visitor=page.visitor).earliest("created_at"), timedelta(hours=1)
        )
        assert page.start().status_code == 201

    @override_settings(MAX_STARTS_PER_ADDRESS=1)
    def test_starts_of_an_address(self) -> None:
        self.start_and_end(Page(address="192.0.2.7"), timedelta(seconds=3590))
        retry_s, told = refused(Page(address="192.0.2.7").start(), "too_many_starts_of_address")
        assert 0 < retry_s <= 10
        assert told == "Try again in a minute."
        assert Page(address="192.0.2.8").start().status_code == 201

    @override_settings(MAX_STARTS=1)
    def test_starts_of_all(self) -> None:
        self.start_and_end(Page(address="192.0.2.7"), timedelta())
        retry_s, told = refused(Page(address="192.0.2.8").start(), "too_many_starts")
        assert 3590 < retry_s <= 3600
        assert told == "Try again in an hour."

    @override_settings(MAX_STARTS_PER_VISITOR=1)
    def test_cap_that_was_lowered_counts_from_the_newest(self) -> None:
        page = Page()
        with override_settings(MAX_STARTS_PER_VISITOR=9):
            for minutes in (50, 40, 30):
                self.start_and_end(page, timedelta(minutes=minutes))
        assert refused(page.start(), "too_many_starts_of_visitor")[1] == "Try again in 30 minutes."

    @override_settings(MAX_STARTS_PER_VISITOR=1)
    def test_clock_that_was_set_back_makes_nobody_wait_longer_than_an_hour(self) -> None:
        page = Page()
        self.start_and_end(page, -timedelta(days=300))
        assert refused(page.start(), "too_many_starts_of_visitor") == (3600, "Try again in an hour.")

    @override_settings(MAX_STARTS_PER_VISITOR=2, MAX_CALLS_PER_VISITOR=1)
    def test_start_that_failed_counts_as_a_start_and_holds_no_place(self) -> None:
        page = Page()
        with platform(500):
            assert [page.start().status_code for _ in range(2)] == [502, 502]
        refused(page.start(), "too_many_starts_of_visitor")

    @override_settings(MAX_CALLS_PER_VISITOR=1)
    def test_refused_start_counts_for_nothing(self) -> None:
        page = Page()
        assert page.start().status_code == 201
        for _ in range(3):
            refused(page.start(), "too_many_calls_of_visitor")
        assert VoiceSession.objects.count() == 1

    def start_and_end(self, page: Page, ago: timedelta) -> None:
        """A call that was started that long ago, and is over."""
        assert page.start().status_code == 201
        session = VoiceSession.objects.filter(visitor=page.visitor).latest("created_at")
        session.mark_ended("hang_up", timezone.now())
        started_ago(session, ago)


class AddressTests(TestCase):
    def address(self, remote: str | None, forwarded: str | None = None) -> str:
        request = RequestFactory().get(
            "/", headers={} if forwarded is None else {"X-Forwarded-For": forwarded}
        )
        request.META.pop("REMOTE_ADDR")
        if remote is not None:
            request.META["REMOTE_ADDR"] = remote
        return address_of(request)

    def test_nobody_reads_an_address_from_what_is_stored(self) -> None:
        with platform():
            assert Page(address="192.0.2.7").start().status_code == 201
        (stored,) = VoiceSession.objects.values_list("address", flat=True)
        assert len(stored) == 32
        assert int(stored, 16)
        with override_settings(SECRET_KEY="of another site"):
            assert self.address("192.0.2.7") != stored
        assert self.address("192.0.2.7") == stored

    def test_client_cannot_choose_its_address(self) -> None:
        plain = self.address("192.0.2.7")
        assert self.address("192.0.2.7", "203.0.113.9") == plain
        with override_settings(TRUST_PROXY=True):
            seen = self.address("127.0.0.1", "192.0.2.7")
            assert seen == plain
            assert self.address("127.0.0.1", "203.0.113.9, 198.51.100.4,192.0.2.7 ") == plain
            assert self.address("127.0.0.1", "192.0.2.7, 203.0.113.9") != plain
            assert self.address("192.0.2.7") == plain  # who asks without the proxy

    def test_who_has_no_address_shares_one_place(self) -> None:
        """A Unix socket tells none."""
        assert self.address(None) == self.address("") == self.address("unknown")

    def test_networks(self) -> None:
        for address, network in {
            "192.0.2.7": "192.0.2.7",
            "192.0.2.7:51234": "192.0.2.7",
            "::ffff:192.0.2.7": "192.0.2.7",
            "[::ffff:192.0.2.7]:443": "192.0.2.7",
            "nobody": "",
            "192.0.2.700": "",
            "' OR 1=1 --": "",
            "[": "",
        }.items():
            assert network_of(address) == network
        home = network_of("2001:db8:1:2::1")
        for same in ("2001:DB8:1:2:ffff:ffff:ffff:ffff", "[2001:db8:1:2::9]:443", "[2001:db8:1:2::9]"):
            assert network_of(same) == home
        assert network_of("2001:db8:1:3::1") != home
        assert network_of("fe80::1%eth0") == network_of("fe80::2")


class LastPlaceTests(TransactionTestCase):
    """Of clicks at once, as many are taken as there are places, also where all could count together."""

    def clicks(self, *pages: Page) -> list[int]:
        statuses: list[int] = []
        start = threading.Barrier(len(pages))

        def click(page: Page) -> None:
            start.wait()
            statuses.append(page.start().status_code)
            connection.close()

        with platform() as server:
            threads = [threading.Thread(target=click, args=(page,)) for page in pages]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(server.requests) == VoiceSession.objects.count() == statuses.count(201)
        return sorted(statuses)

    @override_settings(MAX_CALLS=1)
    def test_of_the_site(self) -> None:
        assert self.clicks(*(Page() for _ in range(4))) == [201, 429, 429, 429]

    @override_settings(MAX_CALLS_PER_ADDRESS=2)
    def test_of_an_address(self) -> None:
        assert self.clicks(*(Page() for _ in range(4))) == [201, 201, 429, 429]

    @override_settings(MAX_STARTS=1)
    def test_of_the_hour(self) -> None:
        assert self.clicks(*(Page() for _ in range(4))) == [201, 429, 429, 429]

    @override_settings(MAX_CALLS_PER_VISITOR=1)
    def test_of_a_visitor_who_clicks_twice(self) -> None:
        page = Page()
        assert self.clicks(page, page) == [201, 429]

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
    @override_settings(MAX_CALLS=1)
    def test_second_click_waits_for_the_first_ones_place(self) -> None:
        """However long the first one takes between counting and taking."""
        first, second = Page(), Page()
        statuses: dict[Page, int] = {}
        told = threading.Event()

        def click(page: Page) -> None:
            statuses[page] = page.start().status_code
            told.set()
            connection.close()

        late = threading.Thread(target=click, args=(second,))
        require_place = admission.require_place

        def count(*arguments: Any) -> None:
            require_place(*arguments)
            if not late.ident:
                late.start()
                wait_until_a_lock_is_waited_for(told)

        with platform(), mock.patch.object(admission, "require_place", count):
            click(first)
            late.join()
        assert (statuses[first], statuses[second]) == (201, 429)
