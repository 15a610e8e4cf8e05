"""The way to the media server: there or not, open or walled up, lost for a moment or for good."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from playwright.sync_api import expect

from tests.e2e import provoke
from tests.e2e.lines import LineCaller, Lines
from tests.e2e.media_server import MediaServer
from tests.e2e.stand_in import Answer
from tests.e2e.visitors import Watch

# Chromium's own lines for servers that do not answer, or with a refusal.
NETWORK_LOG = r"Failed to load resource: |WebSocket connection to .* failed"
EXPIRED = Answer(lives_s=-120)


@dataclass
class Slow:
    """Calls begun before the first test: that nothing comes is known only after a while."""

    walled_up: LineCaller
    unanswered: LineCaller
    dropped: LineCaller
    lost: LineCaller
    lost_server: MediaServer


@pytest.fixture(scope="module", autouse=True)
def slow(early_lines: Lines, own_media_server: Callable[[], MediaServer]) -> Slow:
    early_lines.visitors.watch.allow(NETWORK_LOG)
    walled_up = early_lines.visit(None, provoke.NO_MEDIA_PATH).open().start()
    silent = early_lines.open(gated=True)
    assert silent.gate
    silent.gate.mode = "silent"
    unanswered = early_lines.visit(silent).open().start()

    lost_server = own_media_server()
    lost = early_lines.visit(early_lines.open(media=lost_server, gated=True)).call()
    lost_server.freeze()

    dropped_server = own_media_server()
    dropped = early_lines.visit(early_lines.open(media=dropped_server, gated=True)).call()
    dropped_server.kill()
    dropped.expect_notice("reconnecting")
    dropped_server.start()
    return Slow(walled_up, unanswered, dropped, lost, lost_server)


# ------------------------------------------------------------------ no way in


@pytest.mark.parametrize("mode", ["shut", 404, 503])
def test_media_server_that_is_not_there(mode: str | int, lines: Lines, watch: Watch) -> None:
    """media_unreachable: nothing answers, or something that is no media server."""
    watch.allow(NETWORK_LOG)
    line = lines.open(gated=True)
    assert line.gate
    line.gate.mode = mode
    caller = lines.visit(line).open().start()
    caller.expect_call_failed("media_unreachable")
    line.gate.mode = "pass"
    caller.expect_the_button_helps()


def test_expired_token_is_replaced_without_a_word(lines: Lines, watch: Watch) -> None:
    watch.allow(NETWORK_LOG)
    caller = lines.visit(lines.open(EXPIRED, Answer())).open()
    caller.watch_troubles()
    caller.start().expect_live()
    assert caller.line.minted == 2
    assert caller.troubles() == ["loading", "microphone", "connecting", "live"]
    caller.expect_a_call()


@pytest.mark.parametrize(
    "answers", [(EXPIRED, EXPIRED), (Answer(may_publish=False),)], ids=["expired twice", "may not speak"]
)
def test_token_that_is_refused(answers: tuple[Answer, ...], lines: Lines, watch: Watch) -> None:
    watch.allow(NETWORK_LOG)
    caller = lines.visit(lines.open(*answers, Answer())).open().start()
    caller.expect_call_failed("media_refused")
    caller.expect_the_button_helps()


# ------------------------------------------------------------------ in mid-call


def test_signalling_that_breaks_for_some_seconds(lines: Lines, watch: Watch) -> None:
    """reconnecting: the seconds are counted, sound goes on, and so does the call."""
    watch.allow(NETWORK_LOG)
    line = lines.open(gated=True)
    caller = lines.visit(line).call()
    assert line.gate
    line.gate.mode = "shut"
    line.gate.cut()
    caller.expect_notice("reconnecting")
    expect(caller.notice).to_contain_text(re.compile("[3-9] s"))
    expect(caller.status).to_contain_text("Reconnecting")
    caller.expect_agent_heard()
    line.gate.mode = "pass"
    caller.expect_no_notice()
    caller.expect_state("live")
    for kind in ("reconnecting", "reconnected"):
        caller.expect_logged(kind)
    caller.expect_a_call()


def test_network_that_is_a_hole_for_a_moment(
    lines: Lines, own_media_server: Callable[[], MediaServer]
) -> None:
    server = own_media_server()
    caller = lines.visit(lines.open(media=server, gated=True)).call()
    server.freeze()
    caller.expect_notice("connection_poor")
    server.thaw()
    caller.expect_no_notice()
    for kind in ("connection_poor", "connection_good"):
        caller.expect_logged(kind)
    caller.expect_a_call()


def test_same_caller_somewhere_else(lines: Lines) -> None:
    caller = lines.visit().call()
    caller.line.take_callers_place()
    caller.expect_call_failed("taken_over")
    caller.expect_the_button_helps()


@pytest.mark.parametrize("how", ["delete_room", "remove_caller"])
def test_room_that_the_other_side_closes(how: str, lines: Lines) -> None:
    caller = lines.visit().call()
    getattr(caller.line, how)()
    caller.expect_call_failed("room_closed")
    caller.expect_the_button_helps()


# ------------------------------------------------------------------ what takes its time


def test_media_server_that_takes_the_call_and_says_nothing(slow: Slow) -> None:
    caller = slow.unanswered
    caller.expect_call_failed("media_unreachable")
    assert caller.line.gate
    caller.line.gate.mode = "pass"
    caller.expect_the_button_helps()


def test_firewall_that_lets_no_sound_through(slow: Slow) -> None:
    caller = slow.walled_up
    caller.expect_call_failed("media_blocked")
    caller.page.evaluate("() => openTheWall()")
    caller.expect_the_button_helps()


def test_dropped_call_is_resumed(slow: Slow) -> None:
    caller = slow.dropped
    caller.expect_no_notice()
    caller.expect_logged("reconnected")
    caller.expect_a_call()


def test_connection_that_never_comes_back(slow: Slow) -> None:
    caller = slow.lost
    caller.expect_failure("media_lost")
    assert caller.page.evaluate(provoke.LEFT_OPEN) == []
    slow.lost_server.thaw()
    caller.expect_call_failed("media_lost")
    caller.expect_the_button_helps()
