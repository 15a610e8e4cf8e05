"""sweep and staff_account, as a supervisor or a developer runs them."""

import re
import socket
import stat
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.test import Client, override_settings
from django.utils import timezone

from sessions_app import log, vatel
from sessions_app.events import Frame
from sessions_app.models import SessionEvent, VoiceSession

from .platform import platform
from .sockets import open_session

pytestmark = pytest.mark.django_db


def run(*words: str) -> str:
    output = StringIO()
    call_command(*words, stdout=output)
    return output.getvalue()


def call(state: str, *, seen_s: float, age_s: float = 3600) -> VoiceSession:
    now = timezone.now()
    session = open_session(Client())
    VoiceSession.objects.filter(pk=session.pk).update(created_at=now - timedelta(seconds=age_s))
    if state != "created":
        log.record(session.pk, [Frame(1, 0, "connected", {})])
    if state == "ended":
        log.record(session.pk, [Frame(2, 1000, "hang_up", {})])
    VoiceSession.objects.filter(pk=session.pk).update(last_seen_at=now - timedelta(seconds=seen_s))
    session.refresh_from_db()
    return session


def test_sweep_ends_what_is_over_and_leaves_the_rest() -> None:
    abandoned, heard = call("live", seen_s=91), call("live", seen_s=80)
    not_started, fresh = call("created", seen_s=301, age_s=301), call("created", seen_s=200, age_s=200)
    ended = call("ended", seen_s=5000)
    none = "0 complete, 0 recovered, 0 differing, 0 unverified, 0 to ask again"
    assert run("sweep") == f"1 abandoned, 1 not started, {none}\n"
    assert run("sweep") == f"0 abandoned, 0 not started, {none}\n"
    for session, state, reason in (
        (abandoned, "ended", "abandoned"),
        (heard, "live", ""),
        (not_started, "ended", "not_started"),
        (fresh, "created", ""),
        (ended, "ended", "hang_up"),
    ):
        session.refresh_from_db()
        assert (session.state, session.end_reason) == (state, reason)
    assert abandoned.ended_at == abandoned.last_seen_at
    lines = abandoned.events.filter(source="server")
    assert [(line.seq, line.type, line.data) for line in lines] == [(1, "ended", {"reason": "abandoned"})]


def test_sweep_compares_ended_calls_with_the_platforms_record() -> None:
    complete, recovered, differs, foreign, unknown = calls = [call("live", seen_s=0) for _ in range(5)]
    for number, session in enumerate(calls):
        text = "Good evening." if session is differs else "Hello."
        frames = [Frame(2, 100, "session_started", {"id": f"call-{number}"})]
        if session is not recovered:
            frames.append(Frame(3, 900, "response_text", {"text": text, "turn_id": "agent-1"}))
        frames.append(Frame(len(frames) + 2, 60_000, "hang_up", {}))
        log.record(session.pk, frames)
    # What is recorded in the moment of a comparison is looked at once more.
    SessionEvent.objects.update(recorded_at=timezone.now() - timedelta(minutes=1))
    VoiceSession.objects.update(prove_at=timezone.now())
    hello = {"type": "message", "role": "assistant", "message": "Hello.", "turnId": "agent-1"}
    record = {"status": "ended", "transcript": {"entries": [hello]}}
    with platform() as server:
        server.calls = {f"call-{number}": (200, record) for number in range(4)}
        server.calls["call-3"] = (200, record | {"room": "another"})
        proved = "1 complete, 1 recovered, 1 differing, 1 unverified, 1 to ask again"
        assert run("sweep") == f"0 abandoned, 0 not started, {proved}\n"
        assert run("sweep").endswith("0 complete, 0 recovered, 0 differing, 0 unverified, 0 to ask again\n")
        assert len(server.requests) == 5
    for session, proof in (
        (complete, "complete"),
        (recovered, "recovered"),
        (differs, "differs"),
        (foreign, "unverified"),
        (unknown, ""),
    ):
        session.refresh_from_db()
        assert session.proof == proof


def test_calls_are_ended_also_when_the_platform_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vatel, "READ_S", 0.05)
    ended, abandoned = call("live", seen_s=0), call("live", seen_s=91)
    log.record(ended.pk, [Frame(2, 1, "session_started", {"id": "call-1"}), Frame(3, 2, "hang_up", {})])
    VoiceSession.objects.filter(pk=ended.pk).update(prove_at=timezone.now())
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        override_settings(VATEL_BASE_URL=f"http://127.0.0.1:{mute.getsockname()[1]}"),
    ):
        assert run("sweep").startswith("1 abandoned, 0 not started, ")
    abandoned.refresh_from_db()
    ended.refresh_from_db()
    assert abandoned.state == "ended"
    assert (ended.proof, ended.unproved_because) == ("", "The platform takes too long to answer.")


def test_call_that_was_only_taken_for_abandoned_gets_its_real_end() -> None:
    """As when the site was away for longer than a page may be silent: the call itself went on."""
    session = call("live", seen_s=91)
    run("sweep")
    session.refresh_from_db()
    assert (session.state, session.end_reason) == ("ended", "abandoned")
    assert log.record(session.pk, [Frame(2, 5000, "hang_up", {}), Frame(3, 6000, "disconnected", {})]) == 3
    session.refresh_from_db()
    assert (session.state, session.end_reason) == ("ended", "hang_up")
    assert session.ended_at == session.created_at + timedelta(seconds=5)
    run("sweep")
    session.refresh_from_db()
    assert session.end_reason == "hang_up"


def test_sweep_forgets_visitors_whose_cookie_has_expired() -> None:
    gone, here = Client(), Client()
    for visitor in (gone, here):
        visitor.get("/")
    Session.objects.filter(pk=gone.session.session_key).update(expire_date=timezone.now())
    run("sweep")
    assert [session.pk for session in Session.objects.all()] == [here.session.session_key]


def test_staff_account_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "account.txt"
    path.write_text("older")
    path.chmod(0o644)
    printed = run("staff_account", "--file", str(path))
    found = re.fullmatch(r"user: (\w+)\npassword: (\S{16,})\n", path.read_text())
    assert found is not None
    assert printed == path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    client = Client()
    assert client.login(username=found[1], password=found[2])
    assert client.get("/admin/sessions_app/voicesession/").status_code == 200

    assert "exists already" in run("staff_account", "--file", str(path))
    assert path.read_text() == found[0]
    assert User.objects.count() == 1


def test_staff_account_whose_file_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "account.txt"
    run("staff_account", "--file", str(path))
    path.unlink()
    run("staff_account", "--file", str(path))
    assert "manage.py changepassword staff" in path.read_text()


def test_staff_account_is_not_made_if_nobody_could_learn_of_it(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be written"):
        run("staff_account", "--file", str(tmp_path / "missing" / "account.txt"))
    assert not User.objects.exists()
