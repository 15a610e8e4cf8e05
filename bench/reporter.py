"""A page that reports a call, without its browser: it numbers events, keeps them until they are acknowledged,
and comes back after every close. What it told and what it was told is kept, for the audit."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp

BURST, PER_S = 180, 35.0
"""A page's pace on each socket; the server allows a little more."""

MAX_KEPT = 1000
"""Unacknowledged events; who has more waits before the next, so that an outage does not grow for ever."""

BACKOFF_S = (0.25, 2.0)
"""The first and the longest; shorter than a page's, as these servers are gone for seconds only."""

ANSWER_S = 9.0
"""The page answers a tool call itself when the server has not by then."""

PIECE_BYTES = 60 * 1024
"""Of what a closing page may post at once; one event is at most 64 KiB, and then goes alone."""

WORDS = (
    *("tisch", "für", "zwei", "naïve", "café", "seven", "thirty", "Lisbon", "weather", "ça va", "東京", "🙂"),
    *("window", "please", "we'd", "like", "to", "“book”", "<b>", "&amp;", "%s", "\\", "\u2028", "'; --"),
)

DEFECTS = {"not_yours", "log_closed", "other_page", "log_full", "bad_message", "too_large", "gap", "window"}
"""Closes that a page which keeps to the rules never sees. `too_fast` is not among them: what waited in the
sockets of a server that was stopped comes all at once."""


@dataclass
class Told:
    """What the page of one session told and was told."""

    session: str
    sent: list[str] = field(default_factory=list)
    """The n-th is event n, as `line` writes it."""
    acked: int = 0
    nacks: dict[int, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    """Of the server's tools, by tool call."""
    wrong: list[str] = field(default_factory=list)
    """What the server said and must never say."""
    counts: Counter[str] = field(default_factory=Counter)


def line(kind: str, at_ms: int, data: dict[str, Any], sent_at: datetime | None) -> str:
    """One event in a form in which the told and the stored can be compared.

    Of a refused event only the reason counts: the rest could not be read.
    """
    if kind == "rejected":
        return json.dumps([kind, data.get("code"), data.get("type")])
    moment = sent_at.astimezone(UTC).isoformat() if sent_at else None
    return json.dumps([kind, at_ms, data, moment], sort_keys=True)


class Reporter:
    """One page with one call. `run` reports until `finish` has been called and everything is acknowledged."""

    def __init__(
        self, site: str, session: str, cookie: str, *, dice: random.Random, per_s: float, began: float
    ) -> None:
        """`per_s`: events a second. `began`: when the call was opened, on the monotonic clock."""
        self.told = Told(session)
        self.site, self.cookie, self.dice, self.per_s = site, cookie, dice, per_s
        self.page = f"{dice.getrandbits(64):016x}"
        self.unacked: dict[int, str] = {}
        self.pending: dict[str, float] = {}
        """Tool calls that have no answer yet, with the time at which this page's patience ends."""
        self.highest = 0
        """The last number that went out on any socket."""
        self.began = began
        self.is_finishing = False
        self.news = asyncio.Event()
        self.cut_by = ""
        self.left: list[aiohttp.ClientWebSocketResponse] = []

    async def run(self, http: aiohttp.ClientSession) -> None:
        talking = asyncio.create_task(self.talk())
        failures = 0
        try:
            while not self.is_done:
                before = self.told.acked
                try:
                    await self.connect(http)
                except (aiohttp.ClientError, OSError, TimeoutError):
                    self.told.counts["failed_connects"] += 1
                if self.told.wrong:
                    return
                failures = 0 if self.told.acked > before else failures + 1
                if not self.is_done:
                    limit = min(BACKOFF_S[1], BACKOFF_S[0] * 2**failures)
                    await asyncio.sleep(self.dice.uniform(0, limit))
        finally:
            talking.cancel()
            for forgotten in self.left:
                sever(forgotten)

    def finish(self) -> None:
        """The call is over: no more events; what is there goes into the log."""
        self.is_finishing = True
        self.news.set()

    def cut(self, how: str) -> None:
        """Lose the socket. `cut`: no close frame; `left`: it stays open, forgotten; `closed`: as a tab that
        closes, and posts what is unacknowledged."""
        self.cut_by = how
        self.news.set()

    @property
    def is_done(self) -> bool:
        return self.is_finishing and not self.unacked

    # What is reported

    async def talk(self) -> None:
        while not self.is_finishing:
            await asyncio.sleep(self.dice.expovariate(self.per_s))
            for call_id, patience in list(self.pending.items()):
                if time.monotonic() > patience:
                    self.answer(call_id, json.dumps({"error": "It did not answer in time."}))
            if len(self.unacked) < MAX_KEPT:
                self.say_something()

    def say_something(self) -> None:
        dice, text = self.dice, " ".join(self.dice.choices(WORDS, k=self.dice.randint(1, 40)))
        number = len(self.told.sent) + 1
        match dice.choices(("reply", "words", "signal", "tool", "refused", "long"), (30, 30, 25, 8, 5, 2))[0]:
            case "reply":
                self.put(
                    "response_text", {"text": text, "turn_id": f"t{number}"}, timestamp=datetime.now(UTC)
                )
            case "words":
                data = {
                    "transcript": text,
                    "confidence": dice.random(),
                    "is_final": True,
                    "nested": [[number]],
                }
                self.put("input_audio_transcript", data)
            case "signal":
                self.put(dice.choice(("speech_started", "speech_stopped")), {"loudness": dice.gauss(-30, 9)})
            case "long":
                self.put("response_text", {"text": text * 40, "turn_id": f"t{number}"})
            case "tool":
                self.ask_tool(f"{self.page}-{number}")
            case "refused":
                self.put_refused(text)

    def ask_tool(self, call_id: str) -> None:
        name, arguments = self.dice.choice(
            (
                ("get_weather", {"city": "Lisbon"}),
                ("book_table", {"people": "2", "day": tomorrow(), "time": "22:30"}),
                ("book_table", {"people": "99", "day": tomorrow(), "time": "22:30"}),
                ("open_the_door", {}),
            )
        )
        descriptors = [{"name": key, "type": "string", "value": value} for key, value in arguments.items()]
        data = {"toolCallId": call_id, "toolName": name, "arguments": descriptors}
        if self.dice.random() < 0.2:
            self.put("tool_call", data, runs_on="page")
            self.put("tool_call_output", {"toolCallId": call_id, "output": '{"theme":"dark"}'})
        else:
            self.pending[call_id] = time.monotonic() + ANSWER_S
            self.put("tool_call", data)

    def answer(self, call_id: str, output: str) -> None:
        if self.pending.pop(call_id, None) is not None:
            self.put("tool_call_output", {"toolCallId": call_id, "output": output})

    def put(
        self, kind: str, data: dict[str, Any], *, timestamp: datetime | None = None, runs_on: str = ""
    ) -> None:
        """An event that the log must take as it is."""
        at_ms = self.at_ms()
        message: dict[str, Any] = {"at_ms": at_ms, "type": kind, "data": data}
        if timestamp:
            message["timestamp"] = timestamp.isoformat()
        if runs_on:
            message["runs_on"] = runs_on
            data = {**data, "runs_on": runs_on}
        self.keep(message, line(kind, at_ms, data, timestamp))

    def put_refused(self, text: str) -> None:
        """An event that the log must refuse, and keep its place."""
        good: dict[str, Any] = {"at_ms": self.at_ms(), "type": "response_text", "data": {"text": text}}
        change, code, kind = self.dice.choice(
            (
                ({"type": "Not A Type"}, "bad_type", ""),
                ({"at_ms": -1}, "bad_at_ms", ""),
                ({"data": {"words": text}}, "bad_data", "response_text"),
                ({"data": {"text": text + "\0"}}, "not_storable", "response_text"),
                ({"data": {"text": "x" * 66_000}}, "too_large", ""),
            )
        )
        self.keep({**good, **change}, line("rejected", 0, {"code": code, "type": kind}, None))

    def keep(self, message: dict[str, Any], as_line: str) -> None:
        self.told.sent.append(as_line)
        seq = len(self.told.sent)
        self.unacked[seq] = json.dumps({"seq": seq, **message}, ensure_ascii=False)
        self.news.set()

    def at_ms(self) -> int:
        return round((time.monotonic() - self.began) * 1000)

    # How it is reported

    async def connect(self, http: aiohttp.ClientSession) -> None:
        """One socket, until it is lost or everything is done."""
        self.cut_by = ""
        headers = {"Cookie": self.cookie, "Origin": self.site}
        url = f"{self.site}/ws/sessions/{self.told.session}/?page={self.page}"
        async with asyncio.timeout(15):
            ws = await http.ws_connect(url, headers=headers, max_msg_size=0)
        self.told.counts["connects"] += 1
        window = asyncio.get_running_loop().create_future()
        hearing = asyncio.create_task(self.hear(ws, window.set_result))
        sending = asyncio.create_task(self.send(ws, window))
        try:
            await asyncio.wait([hearing, sending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (hearing, sending):
                task.cancel()
            results = await asyncio.gather(hearing, sending, return_exceptions=True)
        if self.cut_by == "left":
            self.left.append(ws)
        elif self.is_done:
            await ws.close()
        else:
            sever(ws)
            await ws.close()
        for result in results:
            if isinstance(result, Exception):
                raise result
        if self.cut_by == "closed":
            await self.post(http)

    async def hear(self, ws: aiohttp.ClientWebSocketResponse, welcome: Callable[[int], None]) -> None:
        """Everything that the server says, until the socket is closed."""
        async for packet in ws:
            message = json.loads(packet.data)
            match message["type"]:
                case "welcome":
                    if message["ack"] < self.told.acked:
                        self.blame(f"welcomed with {message['ack']} after {self.told.acked} was acknowledged")
                        return
                    self.hear_ack(message["ack"])
                    welcome(message.get("window", 256))
                case "ack":
                    self.hear_ack(message["ack"])
                case "nack":
                    self.told.nacks[message["seq"]] = message["code"]
                case "tool_call_output":
                    self.hear_output(**message["data"])
                case "refused":
                    self.told.counts[f"close_{message['code']}"] += 1
                    if message["code"] in DEFECTS:
                        self.blame(f"turned away: {message['code']}, {message['message']}")
                case other:
                    self.blame(f"a message of the type {other!r}")

    def hear_ack(self, ack: int) -> None:
        if ack > self.highest:
            self.blame(f"{ack} is acknowledged, but only {self.highest} have been sent")
            return
        for seq in range(self.told.acked + 1, ack + 1):
            del self.unacked[seq]
        self.told.acked = max(self.told.acked, ack)
        self.news.set()

    def hear_output(self, toolCallId: str, output: str) -> None:  # noqa: N803  the wire's name
        earlier = self.told.outputs.setdefault(toolCallId, output)
        if earlier != output:
            self.blame(f"tool call {toolCallId} has two outputs: {earlier} and {output}")
        self.answer(toolCallId, output)

    def blame(self, what: str) -> None:
        self.told.wrong.append(what)
        self.news.set()

    async def send(self, ws: aiohttp.ClientWebSocketResponse, welcome: asyncio.Future[int]) -> None:
        """What is unacknowledged, in order, at a page's pace; returns when the socket is to be given up."""
        window = await welcome
        cursor, tokens, at = self.told.acked, float(BURST), time.monotonic()
        while not (self.cut_by or self.is_done or self.told.wrong):
            cursor = max(cursor, self.told.acked)
            if cursor == len(self.told.sent) or cursor >= self.told.acked + window:
                self.news.clear()
                await self.news.wait()
                continue
            now = time.monotonic()
            tokens, at = min(BURST, tokens + (now - at) * PER_S), now
            if tokens < 1:
                await asyncio.sleep((1 - tokens) / PER_S)
                continue
            tokens -= 1
            cursor += 1
            self.told.counts["frames_resent" if cursor <= self.highest else "frames_sent"] += 1
            self.highest = max(self.highest, cursor)
            await ws.send_str(self.unacked[cursor])

    async def post(self, http: aiohttp.ClientSession) -> None:
        """The relay's second door: what a closing page still has, in pieces."""
        token = f"{self.dice.getrandbits(160):040x}"[:32]
        headers = {"Cookie": f"{self.cookie}; csrftoken={token}", "X-CSRFToken": token}
        url = f"{self.site}/sessions/{self.told.session}/events/"
        size, frames, last = 0, list[str](), self.told.acked
        for seq, text in self.unacked.items():
            size += len(text.encode())
            if size > PIECE_BYTES:
                break
            frames.append(text)
            last = seq
        if not frames:
            return
        self.told.counts["frames_resent"] += sum(
            seq <= self.highest for seq in range(self.told.acked + 1, last + 1)
        )
        self.told.counts["frames_sent"] += max(0, last - max(self.highest, self.told.acked))
        self.highest = max(self.highest, last)
        body = f'{{"frames":[{",".join(frames)}]}}'
        json_headers = {**headers, "Content-Type": "application/json", "Origin": self.site}
        async with asyncio.timeout(15), http.post(url, data=body, headers=json_headers) as response:
            if response.status == 200:
                self.told.counts["posts"] += 1
                self.hear_ack((await response.json())["ack"])
            elif response.status < 500:
                self.blame(f"a post was answered with {response.status}: {await response.text()}")


def sever(ws: aiohttp.ClientWebSocketResponse) -> None:
    """As a cut cable, for what the server sees of it: the connection ends, and no close frame comes."""
    connection = ws.get_extra_info("socket")
    if connection is not None:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is gone already


def tomorrow() -> str:
    return datetime.fromtimestamp(time.time() + 24 * 3600, UTC).strftime("%Y-%m-%d")
