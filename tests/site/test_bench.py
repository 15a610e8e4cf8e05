"""The load client, against the real servers: what it counts is what was stored. No times."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bench.figures import Figure, table
from bench.load import SIZE, Load, Result, event
from bench.relay import Relay, open_echo, open_relay
from tests.e2e.servers import ROOT, Site

COUNT = (
    "from sessions_app.models import SessionEvent; print(SessionEvent.objects.filter(session__in={}).count())"
)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    relay = open_relay(tmp_path_factory.mktemp("bench"), calls=100)
    relay.site.start()
    yield relay
    relay.site.stop()


def start(site: Site, load: Load) -> subprocess.CompletedProcess[str]:
    load = replace(load, port=urlsplit(site.url).port or 0, pid=site.process.pid, warm_s=0)
    words = [sys.executable, "-m", "bench.load"]
    return subprocess.run(words, cwd=ROOT, input=json.dumps(asdict(load)), capture_output=True, text=True)


def run(site: Site, load: Load, seconds: float) -> Result:
    client = start(site, replace(load, seconds=seconds))
    assert client.returncode == 0, client.stderr
    return Result(**json.loads(client.stdout))


def stored(relay: Relay, load: Load) -> int:
    calls = [path.split("/")[3] for path in load.paths]
    return int(relay.site.manage("shell", "-v", "0", "-c", COUNT.format(calls)))


def test_what_the_closed_loop_counts_as_acknowledged_is_stored(relay: Relay) -> None:
    # So many and so short that no socket comes near its 40 messages a second beyond 200.
    load = relay.load(60, in_flight=4)
    result = run(relay.site, load, seconds=0.3)
    assert result.troubles == []
    # More than was in flight at first, so that answers brought new events.
    assert result.sent == result.acked > 4 * 60
    assert stored(relay, load) == result.sent
    assert 0 < result.acked_in_time <= result.acked
    assert result.server_cpu_s > 0


def test_the_open_loop_sends_at_its_rate_and_viewers_see_every_event(relay: Relay) -> None:
    load = relay.load(5, rate=10, viewers=2)
    result = run(relay.site, load, seconds=1)
    assert result.troubles == []
    assert result.sent == result.acked == stored(relay, load)
    # One to open with, then for a second one each 100 ms, from a random moment of the first 100.
    assert 9 * 5 <= result.sent <= 11 * 5 + 1
    assert len(result.acks_ms) == len(result.doorbells_ms) == len(result.rows_ms) == 2


def test_an_event_of_a_call_that_is_not_ours_is_a_trouble(relay: Relay) -> None:
    client = start(relay.site, replace(relay.load(2, in_flight=1), cookie=""))
    assert client.returncode
    assert "not_yours" in client.stderr


def test_the_echo_answers_every_event(tmp_path: Path) -> None:
    echo = open_echo(tmp_path)
    echo.start()
    try:
        result = run(echo, Load(paths=["/echo/"] * 5, in_flight=4, is_relay=False), seconds=0.3)
    finally:
        echo.stop()
    assert result.troubles == []
    assert result.sent == result.acked > 20


def test_events_have_the_promised_size() -> None:
    for seq in (1, 20_000):
        frame = event(seq, 1.5)
        assert len(frame) == SIZE
        assert json.loads(frame)["seq"] == seq


def test_the_table_says_which_goals_are_met() -> None:
    shown = table([Figure("a", 2, "ms", 2), Figure("b", 1, "x", at_least=1.5), Figure("c", 3, "")])
    assert [line.split()[3:] for line in shown.splitlines()[1:3]] == [
        ["<=", "2", "met"],
        [">=", "1.5", "MISSED"],
    ]
    assert shown.splitlines()[3].split() == ["c", "3"]
