"""The way into the log, over real sockets, next to a stock Channels echo that stores nothing (bench/echo.py).

`…_ratio`        events acknowledged per second ÷ events echoed per second, at 500 sockets with 4 in flight
`ack_p99_ms`     event due → acknowledged, while 500 sockets together send 2,000 events/s
`cpu_cores`      what the site's server uses meanwhile
`viewer_p99_ms`  event due → staff's doorbell, meanwhile
`kb_per_socket`  memory of each of 2,000 sockets that send an event a second

Every acknowledged event is committed (SQLite with synchronous FULL, PostgreSQL with synchronous_commit). An
acknowledgement answers all events up to its number, and counts for each of them: the relay owes part of its
ratio to that, by design, as a page needs no more than the last number.

Echo and relay take turns, each measurement with a server that has just started and with calls of its own. A
relay's socket may send 40 messages a second beyond a burst of 200: in a closed loop of three seconds 500
sockets stay below that up to 45,000 events/s; a faster machine must measure for a shorter time. Whatever is
refused, closed or left unanswered ends the benchmark with an error.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from socket import socket
from urllib.parse import urlsplit

from bench.figures import Figure
from bench.load import Load, Result
from bench.stage import Visitor, seed, start_server
from tests import postgres
from tests.e2e.servers import ROOT, Site, environment, listen

SOCKETS, IN_FLIGHT, RATE = 500, 4, 4.0
MANY_SOCKETS, MANY_RATE = 2000, 1.0
VIEWERS = 20
LONGEST_S = 20
"""Staff's sockets also ring every 30 s by themselves, which must not be taken for an event's doorbell."""

STAFF = """
from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import Client

browser = Client()
browser.force_login(get_user_model().objects.create_superuser("staff"))
print(f"{settings.SESSION_COOKIE_NAME}={browser.cookies[settings.SESSION_COOKIE_NAME].value}")
"""


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """Raises SystemExit when something was refused, or when the machine allows too few open files."""
    rounds: int = arguments.rounds
    if rounds < 1 or not 1 <= arguments.seconds <= LONGEST_S:
        sys.exit(f"--rounds must be at least 1, --seconds from 1 to {LONGEST_S}")
    allow_open_files(MANY_SOCKETS + 500)
    machine = Machine(arguments.seconds, *two_cores())
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        echo = open_echo(folder)
        stack.callback(echo.stop)
        sqlite = open_relay(folder / "sqlite", rounds * (2 * SOCKETS + MANY_SOCKETS))
        stack.callback(sqlite.site.stop)
        relays = {"sqlite": sqlite}
        if postgres.find() is None:
            say("no PostgreSQL on this machine: SQLite only")
        else:
            server = stack.enter_context(postgres.start(folder / "postgresql"))
            relays["postgresql"] = open_relay(
                folder / "site", rounds * 2 * SOCKETS, DATABASE_URL=server.url()
            )
            stack.callback(relays["postgresql"].site.stop)
        for number in range(1, rounds + 1):
            say(f"round {number} of {rounds}")
            machine.run(
                "echo closed", echo, Load(paths=["/echo/"] * SOCKETS, in_flight=IN_FLIGHT, is_relay=False)
            )
            for database, relay in relays.items():
                machine.run(f"{database} closed", relay.site, relay.load(SOCKETS, in_flight=IN_FLIGHT))
            machine.run("echo open", echo, Load(paths=["/echo/"] * SOCKETS, rate=RATE, is_relay=False))
            for database, relay in relays.items():
                machine.run(f"{database} open", relay.site, relay.load(SOCKETS, rate=RATE, viewers=VIEWERS))
            machine.run("many sockets", sqlite.site, sqlite.load(MANY_SOCKETS, rate=MANY_RATE))
    return figures(machine, list(relays))


def figures(machine: Machine, databases: list[str]) -> list[Figure]:
    """Medians of the rounds; a name without a database is of SQLite."""
    results, median = machine.results, machine.median
    shown = [Figure("rounds", len(results["echo closed"]), f"of {machine.seconds:g} s each, {machine.cores}")]
    for database in databases:
        closed = results[f"{database} closed"]
        ratios = [
            per_s(relay) / per_s(echo) for relay, echo in zip(closed, results["echo closed"], strict=True)
        ]
        goal = 1.5 if database == "sqlite" else 1.2
        shown.append(
            Figure(f"{database}_ratio", round(statistics.median(ratios), 2), "x the echo", at_least=goal)
        )
    # Name in front of the figures → kind of server.
    servers = {"echo_": "echo"} | {"" if name == "sqlite" else f"{name}_": name for name in databases}
    for name, server in servers.items():
        kind = f"{server} closed"
        shown += [
            Figure(f"{name}ack_per_s", round(median(kind, per_s)), "events/s, closed loop"),
            Figure(f"{name}cpu_us_per_event", round(median(kind, us_per_event), 1), "µs of the server's CPU"),
            Figure(f"{name}closed_p50_ms", median(kind, ack_p50), "ms, closed loop"),
            Figure(f"{name}closed_p99_ms", median(kind, ack_p99), "ms, closed loop"),
        ]
    for name, server in servers.items():
        kind, is_echo = f"{server} open", server == "echo"
        p99_ms = median(kind, ack_p99)
        shown += [
            Figure(f"{name}ack_p50_ms", median(kind, ack_p50), "ms at 2,000 events/s"),
            Figure(f"{name}ack_p99_ms", p99_ms, "ms at 2,000 events/s", None if is_echo else 25),
            Figure(
                f"{name}cpu_cores",
                round(median(kind, cores), 2),
                "cores at 2,000 events/s",
                None if is_echo else 0.5,
            ),
        ]
        if not is_echo:
            shown += [
                Figure(f"{name}viewer_p50_ms", median(kind, doorbell_p50), "ms, event to doorbell"),
                Figure(
                    f"{name}viewer_p99_ms", median(kind, doorbell_p99), "ms, event to doorbell", p99_ms + 5
                ),
                Figure(f"{name}rows_p50_ms", median(kind, rows_p50), "ms, event to line fetched"),
            ]
    many = "many sockets"
    busiest = max(r.client_cpu_s / r.elapsed_s for of_kind in results.values() for r in of_kind)
    return [
        *shown,
        Figure("kb_per_socket", round(median(many, lambda r: r.kb_per_socket), 1), "KiB of memory", 30),
        Figure("many_sockets_ack_p99_ms", median(many, ack_p99), "ms, 2,000 sockets x 1/s"),
        Figure("many_sockets_cpu_cores", round(median(many, cores), 2), "cores, 2,000 sockets x 1/s"),
        Figure("handshakes_per_s", round(median(many, lambda r: r.handshakes_per_s)), "sockets opened/s"),
        Figure("client_cores", round(busiest, 2), "cores; above, the client is what was measured", 0.9),
    ]


def ack_p50(result: Result) -> float:
    return result.acks_ms[0]


def ack_p99(result: Result) -> float:
    return result.acks_ms[1]


def doorbell_p50(result: Result) -> float:
    return result.doorbells_ms[0]


def doorbell_p99(result: Result) -> float:
    return result.doorbells_ms[1]


def rows_p50(result: Result) -> float:
    return result.rows_ms[0]


def per_s(result: Result) -> float:
    return result.acked_in_time / result.elapsed_s


def us_per_event(result: Result) -> float:
    return result.server_cpu_s / result.acked_in_time * 1e6


def cores(result: Result) -> float:
    return result.server_cpu_s / result.elapsed_s


@dataclass
class Machine:
    """Where the load meets the servers, and what came of it."""

    seconds: float
    server_core: int | None
    client_core: int | None
    results: dict[str, list[Result]] = field(default_factory=dict)

    @property
    def cores(self) -> str:
        if self.server_core is None:
            return "not pinned to cores"
        return f"server on core {self.server_core}, client on core {self.client_core}"

    def median(self, kind: str, figure: Callable[[Result], float]) -> float:
        return statistics.median(map(figure, self.results[kind]))

    def run(self, kind: str, server: Site, load: Load) -> None:
        """One measurement. Raises SystemExit unless everything was answered as it should be."""
        server.start()
        if self.server_core is not None:
            os.sched_setaffinity(server.process.pid, {self.server_core})
        load = replace(
            load,
            port=urlsplit(server.url).port or 0,
            pid=server.process.pid,
            core=self.client_core,
            seconds=self.seconds,
        )
        client = subprocess.run(
            [sys.executable, "-m", "bench.load"],
            cwd=ROOT,
            input=json.dumps(asdict(load)),
            stdout=subprocess.PIPE,
            text=True,
        )
        if client.returncode:
            sys.exit(f"{kind}: the load client failed. The server's log:\n{tail(server.log)}")
        result = Result(**json.loads(client.stdout))
        if result.troubles or result.acked < result.sent:
            some = "\n".join(result.troubles[:5])
            sys.exit(
                f"{kind}: of {result.sent} events {result.acked} were acknowledged, and there were "
                f"{len(result.troubles)} troubles, so this round is void:\n{some}\n"
                f"The server's log:\n{tail(server.log)}"
            )
        server.end()
        self.results.setdefault(kind, []).append(result)
        say(f"  {kind}: {summary(result)}")


def summary(result: Result) -> str:
    p50, p99 = result.acks_ms
    doorbells = f", doorbell p99 {result.doorbells_ms[1]} ms" if result.doorbells_ms else ""
    return (
        f"{per_s(result):,.0f} events/s, p50 {p50} ms, p99 {p99} ms{doorbells}, cores: "
        f"server {cores(result):.2f}, client {result.client_cpu_s / result.elapsed_s:.2f}, "
        f"all else {result.others_cpu_s / result.elapsed_s:.2f}"
    )


@dataclass
class Relay:
    """A site with calls for all rounds."""

    site: Site
    visitor: Visitor
    staff_cookie: str

    def load(self, sockets: int, *, in_flight: int = 0, rate: float = 0.0, viewers: int = 0) -> Load:
        """On calls that no socket has had yet."""
        calls = self.visitor.sessions[:sockets]
        del self.visitor.sessions[:sockets]
        return Load(
            paths=[f"/ws/sessions/{call}/?page=bench-{number:04}" for number, call in enumerate(calls)],
            cookie=self.visitor.cookie,
            in_flight=in_flight,
            rate=rate,
            viewers=[f"/ws/transcripts/{call}/" for call in calls[:viewers]],
            rows=f"/admin/sessions_app/voicesession/{calls[0]}/change/events/" if viewers else "",
            staff_cookie=self.staff_cookie,
        )


def open_relay(folder: Path, calls: int, **env: str) -> Relay:
    """A site with calls and staff, that is down until a measurement starts it."""
    site = start_server(folder, **env)
    try:
        relay = Relay(site, seed(site, calls), site.manage("shell", "-v", "0", "-c", STAFF).strip())
        site.end()
    except BaseException:
        site.stop()
        raise
    return relay


class Echo(Site):
    """The echo at an address, under the stock server."""

    def start(self) -> None:
        assert self.listener is not None
        self.process = serve_echo(self.listener, self.log)


def open_echo(folder: Path) -> Echo:
    """Likewise down until a measurement starts it."""
    listener, log = listen(0), folder / "echo.log"
    echo = Echo(serve_echo(listener, log), log, f"http://127.0.0.1:{listener.getsockname()[1]}", {}, listener)
    echo.end()
    return echo


def serve_echo(listener: socket, log: Path) -> subprocess.Popen[str]:
    with log.open("a") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "daphne", "--fd", str(listener.fileno()), "bench.echo:application"],
            cwd=ROOT,
            env=environment(),
            stdout=output,
            stderr=output,
            text=True,
            pass_fds=[listener.fileno()],
        )


def two_cores() -> tuple[int, int] | tuple[None, None]:
    """One for the server and one for the client, so that they do not take turns; none where the system cannot
    pin processes. PostgreSQL runs wherever there is room."""
    if not hasattr(os, "sched_setaffinity"):
        say("this system cannot pin processes to cores: figures vary more")
        return None, None
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        say("one core for server and client together: ratios mean something, absolute figures do not")
    return allowed[0], allowed[-1]


def allow_open_files(wanted: int) -> None:
    """For this process and all that it starts. Raises SystemExit when the machine does not allow it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        sys.exit(
            f"The benchmark needs {wanted} open files in a process, and {hard} are allowed here: "
            f"raise the limit (`ulimit -Hn {wanted}` as root, or LimitNOFILE of a service)."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def tail(log: Path) -> str:
    """The end of a server's log, without its lines on each socket that came and went."""
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join([line for line in lines if '"WS' not in line][-20:])


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
