"""Listening to a call: parts and wholes, limits, who may, what is logged and kept, and where it begins."""

import asyncio
import io
import os
import tempfile
import threading
import time
import wave
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from unittest import mock
from uuid import UUID

import numpy as np
import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.core.signals import request_finished
from django.db import close_old_connections
from django.http import HttpResponse
from django.template.loader import render_to_string
from django.test import (
    AsyncClient,
    Client,
    RequestFactory,
    SimpleTestCase,
    TestCase,
    TransactionTestCase,
    override_settings,
)
from django.utils import timezone

from sessions_app import recording, sound, vatel
from sessions_app.models import Access, SessionEvent, VoiceSession
from sessions_app.playhead import zero_ms
from sessions_app.sound import PART, Span

from .studio import Studio, studio

AGENT = UUID("5a1c0e5e-0000-4000-8000-000000000001")


def spoken(seconds: float) -> bytes:
    """A WAV in which no two places are alike."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((2, 2, 16_000, 0, "NONE", ""))
        noise = np.random.default_rng(0).integers(-9999, 9999, round(seconds * 16_000) * 2, np.int16)
        out.writeframes(noise.tobytes())
    return file.getvalue()


SOUND = spoken(40)
assert len(SOUND) > 2 * PART


def ended_call(**fields: Any) -> VoiceSession:
    at = timezone.now() - timedelta(minutes=5)
    given: dict[str, Any] = {
        "visitor": "0" * 32,
        "agent_id": AGENT,
        "agent_name": "Concierge",
        "state": "ended",
        "created_at": at,
        "started_at": at + timedelta(seconds=1),
        "ended_at": at + timedelta(seconds=41),
        "call_id": "call-77",
        "room": "room-77",
        "platform_call": {"id": "call-77", "status": "ended"},
    }
    return VoiceSession.objects.create(**{**given, **fields})


def staff_user(*acts: str) -> User:
    user = User.objects.create_user("ada", password="pw", is_staff=True)
    codenames = [f"{act}_voicesession" for act in acts]
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))
    return user


def url_of(session: VoiceSession, player: str = "") -> str:
    url = f"/admin/sessions_app/voicesession/{session.pk}/change/recording/"
    return f"{url}?player={player}" if player else url


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def is_idle() -> bool:
    """No recording is open."""
    return recording._places._value == recording.STREAMS


class SpanTests(SimpleTestCase):
    def test_what_headers_ask_for(self) -> None:
        assert Span.read("bytes=0-") == Span(0)
        assert Span.read("bytes=7-9") == Span(7, 9)
        assert Span.read("bytes=-5") == Span(tail=5)
        for header in (
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=9-7",
            "bytes=1-2,4-5",
            "items=0-1",
            "bytes=-0",
        ):
            assert Span.read(header) is None, header

    def test_a_part_is_small_however_much_is_asked_for(self) -> None:
        assert Span.read("bytes=100-") == Span(100)
        assert Span(100).header == f"bytes=100-{100 + PART - 1}"
        assert Span(100).within(PART * 9) == range(100, 100 + PART)
        assert Span(100, 10**12).within(500) == range(100, 500)
        assert Span(tail=10 * PART).within(11 * PART) == range(PART, 2 * PART)
        assert Span(tail=600).within(500) == range(500)
        assert not Span(500).within(500)


class RecordingTests(TestCase):
    def setUp(self) -> None:
        self.user = staff_user("view", "listen")
        self.client.force_login(self.user)
        self.session = ended_call()

    def tearDown(self) -> None:
        assert is_idle(), "a recording was left open"

    def get(self, wanted: str = "", player: str = "p1", client: Client | None = None) -> HttpResponse:
        headers = {"Range": wanted} if wanted else {}
        answer = (client or self.client).get(url_of(self.session, player), headers=headers)
        return cast(HttpResponse, answer)

    def body(self, answer: Any) -> bytes:
        return b"".join(answer.streaming_content) if answer.streaming else answer.content

    def play(self) -> bytes:
        """All of it as a player gets it: parts, one after the other."""
        parts = b""
        while True:
            answer = self.get(f"bytes={len(parts)}-")
            assert answer.status_code == 206
            last = len(parts) + len(answer.content) - 1
            assert answer["Content-Range"] == f"bytes {len(parts)}-{last}/{len(SOUND)}"
            assert answer["Content-Length"] == str(len(answer.content))
            parts += answer.content
            if len(parts) == len(SOUND):
                return parts

    def expect_sentence(self, status: int, *words: str) -> None:
        for wanted in ("", "bytes=0-"):
            answer = self.get(wanted)
            assert answer.status_code == status, answer.content
            assert answer["Content-Type"] == "text/plain; charset=utf-8"
            assert "no-store" in answer["Cache-Control"]
            text = answer.content.decode()
            assert all(word in text for word in words), text
            assert settings.VATEL_API_KEY not in text
        assert not Access.objects.exists()

    def test_a_player_gets_all_of_it_in_parts(self) -> None:
        with studio(SOUND) as platform:
            assert self.play() == SOUND
        paths = {path for path, _, _ in platform.asked}
        assert paths == {"/v1/calls/call-77/recording"}
        assert {key for _, _, key in platform.asked} == {f"Bearer {settings.VATEL_API_KEY}"}
        assert platform.asked[1][1] == f"bytes={PART}-{2 * PART - 1}"

    def test_parts_of_all_sorts(self) -> None:
        size = len(SOUND)
        for habits in ({}, {"knows_ranges": False}):
            with self.subTest(habits), studio(SOUND, **habits):
                for wanted, first, last in (
                    ("bytes=0-1", 0, 1),
                    ("bytes=44-1043", 44, 1043),
                    (f"bytes={PART + 3}-{PART + 7}", PART + 3, PART + 7),
                    (f"bytes={size - 9}-", size - 9, size - 1),
                    (f"bytes={size - 9}-{size + 5000}", size - 9, size - 1),
                    ("bytes=-100", size - 100, size - 1),
                ):
                    answer = self.get(wanted)
                    assert answer.status_code == 206, wanted
                    assert answer.content == SOUND[first : last + 1], wanted
                    assert answer["Content-Range"] == f"bytes {first}-{last}/{size}"
                    assert answer["Content-Type"] == "audio/wav"
                    assert answer["Accept-Ranges"] == "bytes"
                    assert "no-store" in answer["Cache-Control"]
                answer = self.get(f"bytes={size}-")
                assert (answer.status_code, answer["Content-Range"]) == (416, f"bytes */{size}")

    def test_a_platform_that_does_not_know_ranges_can_be_played(self) -> None:
        with studio(SOUND, knows_ranges=False):
            assert self.play() == SOUND

    def test_all_of_it_in_one_piece(self) -> None:
        for wanted in ("", "bytes=0-1,5-6", "items=0-1"):
            with studio(SOUND) as platform:
                answer = self.get(wanted)
                assert answer.status_code == 200
                assert answer["Content-Length"] == str(len(SOUND))
                assert answer["Accept-Ranges"] == "bytes"
                assert self.body(answer) == SOUND
            assert platform.asked[0][1] is None

    def test_a_platform_that_does_not_tell_the_length_can_be_heard(self) -> None:
        with studio(SOUND, knows_length=False, knows_ranges=False):
            answer = self.get("bytes=5000-")
            assert answer.status_code == 200
            assert "Content-Length" not in answer
            assert "Accept-Ranges" not in answer
            assert self.body(answer) == SOUND

    def test_head_tells_the_same_without_the_sound(self) -> None:
        with studio(SOUND):
            for wanted, length in (({}, len(SOUND)), ({"Range": "bytes=10-19"}, 10)):
                answer = self.client.head(url_of(self.session), headers=wanted)
                assert answer.status_code == (206 if wanted else 200)
                assert answer["Content-Length"] == str(length)
                assert answer.content == b""
        assert not Access.objects.exists()

    def test_who_may_listen(self) -> None:
        with studio(SOUND) as platform:
            assert self.get("", client=Client()).status_code == 302
            for number, acts in enumerate([("view",), ("listen",), ("view", "annotate", "export")]):
                User.objects.filter(username="ada").update(username=f"former-{number}")
                other = Client()
                other.force_login(staff_user(*acts))
                assert self.get("bytes=0-", client=other).status_code == 403, acts
            assert self.client.post(url_of(self.session)).status_code == 405
            unknown = url_of(self.session).replace(str(self.session.pk), str(AGENT))
            assert self.client.get(unknown).status_code == 404
        assert platform.asked == []
        assert not Access.objects.exists()

    def test_there_is_no_recording(self) -> None:
        with studio(SOUND) as platform:
            VoiceSession.objects.update(state="live")
            self.expect_sentence(404, "not over yet")
            VoiceSession.objects.update(state="ended", call_id="")
            self.expect_sentence(404, "never named the call")
            assert platform.asked == []
            VoiceSession.objects.update(call_id="call-77")
            platform.status = 404
            self.expect_sentence(404, "no recording of this call")

    def test_a_platform_in_trouble_is_told_in_a_sentence(self) -> None:
        for status, told, words in (
            (401, 502, "does not accept this site's key"),
            (403, 502, "not this site's own"),
            (500, 502, "reports an error"),
            (307, 502, "reports an error"),
            (503, 503, "too busy"),
        ):
            with self.subTest(status), studio(SOUND, status=status, error=settings.VATEL_API_KEY):
                self.expect_sentence(told, words)
        self.expect_sentence(502, "cannot be reached")

    def test_what_is_no_recording_is_not_passed_on(self) -> None:
        for habits in ({"kind": "text/html"}, {"kind": "application/json"}, {"kind": "audio/<script>"}):
            with self.subTest(habits), studio(b"<script>alert(1)</script>", **habits):
                self.expect_sentence(502, "not a recording")
        for told in (f"bytes 5-9/{len(SOUND)}", "bytes 0-9/*", "nonsense", f"bytes */{len(SOUND)}"):
            with self.subTest(told), studio(SOUND, content_range=told):
                assert self.get("bytes=0-9").status_code == 502
        for kind in (None, "application/octet-stream", "audio/x-wav; codec=1"):
            with self.subTest(kind), studio(SOUND, kind=kind):
                assert self.get("bytes=0-9")["Content-Type"] == (
                    "audio/x-wav" if kind and "x-wav" in kind else "audio/wav"
                )

    def test_a_platform_that_hangs_up_half_way(self) -> None:
        with studio(SOUND, breaks_at=70_000):
            assert self.get("bytes=0-").status_code == 502
            assert not Access.objects.exists()
            answer = self.get()
            with pytest.raises(vatel.VatelUnreachableError):
                self.body(answer)

    def test_a_platform_that_only_drips_is_given_up(self) -> None:
        with studio(SOUND, stops_at=100_000), mock.patch.object(recording, "PART_S", 0.0):
            answer = self.get("bytes=0-")
            assert (answer.status_code, answer.content) == (504, b"The platform takes too long to answer.")

    def test_a_recording_without_an_end_is_cut_off(self) -> None:
        with (
            studio(SOUND, knows_length=False, knows_ranges=False),
            mock.patch.object(sound, "MAX_SOUND", 1_000_000),
        ):
            answer = self.get()
            with pytest.raises(vatel.VatelBadAnswerError):
                self.body(answer)

    def test_only_so_many_at_once(self) -> None:
        with studio(SOUND), mock.patch.object(recording, "QUEUE_S", 0.01):
            held = [self.get() for _ in range(recording.STREAMS)]
            answer = self.get("bytes=0-")
            assert (answer.status_code, b"being played already" in answer.content) == (503, True)
            for one in held:
                assert self.body(one) == SOUND
            assert self.get("bytes=0-").status_code == 206

    def test_a_call_that_is_not_proved_yet_must_be_this_sites_own(self) -> None:
        VoiceSession.objects.update(platform_call={})
        ours = {"id": "call-77", "status": "ended", "room": "room-77"}
        with studio(SOUND, record={**ours, "room": "room-of-another"}):
            self.expect_sentence(404, "another caller's call")
        with studio(SOUND, record={**ours, "status": "in_progress"}):
            self.expect_sentence(404, "still going on")
        with studio(SOUND, record=ours):
            assert self.get("bytes=0-9").content == SOUND[:10]

    def test_a_name_of_a_call_is_no_address(self) -> None:
        VoiceSession.objects.update(call_id="../agents?x=1")
        with studio(SOUND) as platform:
            self.get("bytes=0-9")
            assert platform.asked[0][0] == "/v1/calls/..%2Fagents%3Fx%3D1/recording"
            VoiceSession.objects.update(call_id="..")
            assert self.get("bytes=0-9").status_code == 404

    def test_the_access_log_has_one_row_for_each_player(self) -> None:
        with studio(SOUND):
            for wanted in ("bytes=0-", f"bytes={PART}-", "bytes=0-", "bytes=7-"):
                self.get(wanted, player="first")
            rows = list(Access.objects.values_list("who", "action", "session_id", "details"))
            assert rows == [("ada", "listen", self.session.pk, {"player": "first"})]
            self.get("bytes=500-", player="second")
            assert Access.objects.count() == 2
            for player in ("", "no name<>", "x" * 17):
                self.get("bytes=500-", player=player)
            assert Access.objects.count() == 5
            with mock.patch.object(recording, "ONE_LISTENING", timedelta(0)):
                self.get("bytes=9-", player="first")
            assert Access.objects.count() == 6
            other = ended_call()
            self.client.get(url_of(other, "first"), headers={"Range": "bytes=0-"})
            assert Access.objects.filter(session_id=other.pk).count() == 1

    def test_the_page_of_a_call_has_a_player_for_those_who_may_listen(self) -> None:
        def page(user: User) -> str:
            request = RequestFactory().get("/")
            request.user = user
            return render_to_string("sessions_app/_recording.html", {"original": self.session}, request)

        html = page(self.user)
        assert f'src="{url_of(self.session)}?player=' in html
        assert 'preload="none"' in html
        assert "call-77" not in html
        assert html != page(self.user), "each page is a listening of its own"
        self.user.username = "reviewer"
        for fields in ({"state": "live"}, {"call_id": ""}):
            VoiceSession.objects.update(**fields)
            self.session.refresh_from_db()
            assert page(self.user).strip() == ""
            VoiceSession.objects.update(state="ended", call_id="call-77")
        self.session.refresh_from_db()
        User.objects.filter(username="ada").update(username="former")
        assert page(staff_user("view", "export")).strip() == ""


class EventLoopTests(TestCase):
    """As under the server: Django would read a synchronous iterator to its end before it sends any of it."""

    def setUp(self) -> None:
        self.user = staff_user("view", "listen")
        self.session = ended_call()

    async def get(self, wanted: str = "") -> Any:
        client = AsyncClient()
        await client.aforce_login(self.user)
        return await client.get(url_of(self.session), headers={"Range": wanted} if wanted else {})

    async def test_all_of_it_and_a_part(self) -> None:
        with studio(SOUND):
            answer = await self.get()
            assert answer.is_async
            assert b"".join([piece async for piece in answer]) == SOUND
            wait_for(is_idle)
            assert (await self.get("bytes=5-9")).content == SOUND[5:10]

    async def test_it_comes_while_the_platform_still_sends(self) -> None:
        with studio(SOUND, stops_at=200_000) as platform:
            answer = await self.get()
            pieces = aiter(answer)
            assert SOUND.startswith(await anext(pieces))
            assert not platform.go_on.is_set()
            platform.go_on.set()
            rest = b"".join([piece async for piece in pieces])
            assert SOUND.endswith(rest)
            wait_for(is_idle)

    async def test_the_platform_is_left_when_the_browser_goes_away(self) -> None:
        with studio(spoken(600)) as platform:
            answer = await self.get()
            pieces = aiter(answer)
            await anext(pieces)
            await pieces.aclose()
            # As the server does then; a test's own connection to the database must survive that.
            request_finished.disconnect(close_old_connections)
            answer.close()
            request_finished.connect(close_old_connections)
            await asyncio.to_thread(wait_for, platform.left.is_set)
            await asyncio.to_thread(wait_for, is_idle)

    def test_the_platform_is_left_when_nobody_reads_the_answer(self) -> None:
        """As when the browser goes away while the platform is still asked."""
        with studio(spoken(600)) as platform:
            response = recording._whole(RequestFactory().get("/"), recording._open(self.session, None))
            assert not is_idle()
            del response
            wait_for(platform.left.is_set)
            assert is_idle()


class KeepingTests(TransactionTestCase):
    """With KEEP_RECORDINGS: copies are made in threads, which see what is committed."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "recordings"
        changed = override_settings(KEEP_RECORDINGS=True, RECORDINGS=self.folder)
        changed.enable()
        self.addCleanup(changed.disable)
        self.client.force_login(staff_user("view", "listen"))
        self.session = ended_call()
        self.copy = recording.copy_of(self.session.pk)

    def listen(self, wanted: str = "bytes=0-99") -> bytes:
        answer = self.client.get(url_of(self.session), headers={"Range": wanted})
        assert answer.status_code == 206, answer.content
        assert answer["Content-Range"].endswith(f"/{len(SOUND)}")
        return answer.content

    def wait_for_threads(self) -> None:
        wait_for(lambda: not any(thread.name == "copy" for thread in threading.enumerate()))
        assert is_idle()

    def files(self) -> Iterator[str]:
        return (path.name for path in self.folder.glob("*"))

    def test_the_first_who_listens_leaves_a_copy_that_serves_the_next(self) -> None:
        with studio(SOUND) as platform:
            self.listen()
            wait_for(self.copy.exists)
            self.wait_for_threads()
            asked = len(platform.asked)
            assert self.listen("bytes=77-99") == SOUND[77:100]
            assert self.listen("bytes=-5") == SOUND[-5:]
            assert len(platform.asked) == asked
        assert self.copy.read_bytes() == SOUND
        assert self.copy.stat().st_mode & 0o777 == 0o600
        # The platform is gone, and its recording is still there.
        assert self.listen(f"bytes={PART}-") == SOUND[PART : 2 * PART]
        whole = self.client.get(url_of(self.session))
        assert b"".join(whole.streaming_content) == SOUND  # type: ignore[attr-defined]
        recording.forget(self.session.pk)
        assert list(self.files()) == []
        recording.forget(self.session.pk)  # there is none

    def test_nothing_is_kept_unless_a_setting_says_so(self) -> None:
        with studio(SOUND), override_settings(KEEP_RECORDINGS=False):
            self.listen()
            self.wait_for_threads()
        assert not self.folder.exists()

    def test_no_half_of_a_recording_is_kept(self) -> None:
        for habits in ({"breaks_at": 200_000}, {"kind": "audio/mpeg"}):
            with self.subTest(habits), studio(SOUND, **habits), self.assertLogs(recording.logger, "WARNING"):
                self.listen()
                self.wait_for_threads()
            assert list(self.files()) == []

    def begin_copy(self, platform: Studio) -> None:
        platform.stops_at = 100_000
        self.listen()
        wait_for(lambda: any(name.endswith(".part") for name in self.files()))

    def test_who_is_forgotten_while_being_copied_is_forgotten(self) -> None:
        with studio(SOUND) as platform, self.assertLogs(recording.logger, "WARNING"):
            self.begin_copy(platform)
            recording.forget(self.session.pk)
            platform.go_on.set()
            self.wait_for_threads()
        assert list(self.files()) == []

    def test_a_call_that_is_deleted_leaves_no_copy(self) -> None:
        with studio(SOUND) as platform:
            self.begin_copy(platform)
            VoiceSession.objects.all().delete()
            platform.go_on.set()
            self.wait_for_threads()
        assert list(self.files()) == []

    def test_what_a_dead_process_left_is_begun_anew(self) -> None:
        self.folder.mkdir()
        left = self.folder / f"{self.session.pk}.part"
        left.write_bytes(b"half")
        with studio(SOUND):
            self.listen()
            self.wait_for_threads()
            assert left.read_bytes() == b"half"  # another thread may be at it
            long_ago = time.time() - 2 * recording.WHOLE_S
            os.utime(left, (long_ago, long_ago))
            self.listen()
            wait_for(self.copy.exists)
            self.wait_for_threads()
        assert self.copy.read_bytes() == SOUND


class PlayheadTests(TestCase):
    """The recording begins 1.4 s after the caller's click, whatever the platform's clock shows."""

    def setUp(self) -> None:
        self.session = ended_call()

    def platform_tells(self, ahead: timedelta) -> None:
        started_at = self.session.created_at + timedelta(seconds=1.4) + ahead
        self.session.platform_call = {"started_at": started_at.isoformat()}
        late = [30, 45, 25, 60, 900]
        SessionEvent.objects.bulk_create(
            SessionEvent(
                session=self.session,
                source="browser",
                seq=number,
                type="speech_started" if number % 2 else "tool_call",
                at_ms=5000 * number + late_ms,
                sent_at=self.session.created_at + timedelta(seconds=5 * number) + ahead,
            )
            for number, late_ms in enumerate(late)
        )

    def test_clocks_that_agree(self) -> None:
        self.platform_tells(timedelta(0))
        assert zero_ms(self.session) == 1400 + 45

    def test_clocks_that_do_not(self) -> None:
        for ahead in (timedelta(minutes=7), timedelta(hours=-3)):
            SessionEvent.objects.all().delete()
            self.platform_tells(ahead)
            assert zero_ms(self.session) == 1400 + 45

    def test_a_platform_that_tells_no_times(self) -> None:
        started_at = self.session.created_at + timedelta(seconds=1.4)
        self.session.platform_call = {"started_at": started_at.isoformat()}
        assert zero_ms(self.session) == 1400
        for call in ({}, {"started_at": None}, {"started_at": "yesterday"}):
            self.session.platform_call = call
            assert zero_ms(self.session) == 1000  # when the page said that the call began
        self.session.started_at = None
        assert zero_ms(self.session) == 0
