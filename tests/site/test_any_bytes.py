"""Whatever comes in is stored whole, refused under its number, or ends the socket; staff can read the log."""

import asyncio
import json
import logging
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.test import Client
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sessions_app.events import MAX_INT
from sessions_app.models import SessionEvent, VoiceSession
from sessions_app.relay import Close
from sessions_app.tools import TOOLS
from sessions_app.writer import writer

from .sockets import AGENT, JUST_NOW, Socket, frame, welcome

NEXT = "the next number"
"""As seq: replaced by the number that the log wants."""

TEXTS = st.one_of(
    st.text(max_size=20),
    st.text(st.characters(), max_size=5),  # halves of characters as well
    st.sampled_from(
        ["", "\0", "\ud800", "<script>&amp;'\"", "{{ 7 }}", "a" * 300, '{"a":"\\ud800"}', "NaN", "1e999"]
    ),
)
NUMBERS = st.one_of(
    st.integers(-5, 5),
    st.sampled_from([MAX_INT, MAX_INT + 1, -MAX_INT, 2**63, 2**64, 10**400, -0.0, 1e308, 5e-324, JUST_NOW]),
    st.floats(),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)

IDS = st.one_of(st.sampled_from(["c1", "c2", "", "x" * 255, "x" * 256]), TEXTS)
ARGUMENTS = st.one_of(
    st.lists(
        st.fixed_dictionaries(
            {
                "name": st.one_of(
                    st.sampled_from(["city", "people", "day", "time", "name", "reference"]), TEXTS
                )
            },
            optional={"value": st.one_of(st.sampled_from(["Oslo", "4", "2030-01-31", "19:30"]), VALUES)},
        ),
        max_size=4,
    ),
    VALUES,
)


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


DATA = st.one_of(
    optional(text=TEXTS, is_final=st.one_of(st.booleans(), VALUES), turn_id=VALUES),
    optional(transcript=TEXTS, is_final=st.booleans(), turn_id=TEXTS),
    optional(toolCallId=IDS, toolName=st.one_of(st.sampled_from(sorted(TOOLS)), IDS), arguments=ARGUMENTS),
    optional(tool_call_id=IDS, tool_name=IDS, arguments=ARGUMENTS, runs_on=VALUES),
    optional(toolCallId=IDS, output=st.one_of(TEXTS, VALUES.map(json.dumps))),
    optional(id=IDS, muted=st.booleans(), code=IDS, reason=VALUES),
    VALUES,
)
TYPES = st.one_of(
    st.sampled_from(
        [
            *("response_text", "input_audio_transcript", "tool_call", "tool_call", "tool_call_output"),
            *("session_started", "connected", "hang_up", "disconnected", "call_failed", "session_ended"),
            *("interruption", "microphone_muted", "mood_changed", "ended", "rejected", "ping", "a" * 65),
        ]
    ),
    VALUES,
)
TIMES = st.one_of(
    st.sampled_from(
        ["2026-03-01T18:30:00.250Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "now"]
    ),
    st.datetimes().map(str),
    VALUES,
)
FRAMES = st.fixed_dictionaries(
    {},
    optional={
        "seq": st.one_of(*[st.just(NEXT)] * 9, st.integers(0, 3), VALUES),
        "at_ms": st.one_of(*[st.just(JUST_NOW)] * 3, st.integers(0, 9999), VALUES),
        "type": TYPES,
        "data": DATA,
        "timestamp": TIMES,
        "runs_on": st.one_of(st.just("page"), VALUES),
        "more": VALUES,
    },
)

WHOLE_FRAMES = st.fixed_dictionaries(
    {"seq": st.just(NEXT), "at_ms": st.just(JUST_NOW), "type": TYPES, "data": DATA},
    optional={"timestamp": TIMES, "runs_on": st.sampled_from(["page", None, "moon"])},
)


@st.composite
def torn_texts(draw: st.DrawFn) -> str:
    """JSON of a frame, with a piece cut out, put in, or twice."""
    text = json.dumps(draw(st.one_of(FRAMES, WHOLE_FRAMES)), ensure_ascii=draw(st.booleans()))
    start, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
    piece = draw(
        st.one_of(st.just(""), st.just(text[start:end] * 2), TEXTS, st.sampled_from(["NaN", "-", "[" * 2000]))
    )
    return text[:start] + piece + text[end:]


MESSAGES = st.one_of(
    WHOLE_FRAMES,
    WHOLE_FRAMES,
    FRAMES,
    VALUES,
    torn_texts(),
    st.text(min_size=1),
    st.binary(min_size=1),
    st.builds(
        lambda depth: frame(0) | {"seq": NEXT, "data": nested(depth)}, st.sampled_from([30, 31, 32, 33, 900])
    ),
    st.builds(
        lambda size: {**frame(0), "seq": NEXT, "data": {"x": "a" * size}}, st.sampled_from([65000, 66000])
    ),
    st.builds(lambda text: '{"seq":1,"seq":2,"type":"a","type":' + json.dumps(text) + "}", VALUES),
)


def nested(depth: int) -> Any:
    value: Any = {}
    for level in range(depth):
        value = {"x": value} if level % 2 else [value]
    return {"x": value}


def numbered(value: Any, seq: int) -> Any:
    return {**value, "seq": seq} if isinstance(value, dict) and value.get("seq") == NEXT else value


def same(value: Any) -> Any:
    """Numbers as a database may give them back: PostgreSQL keeps 1e3 as 1000."""
    return json.loads(json.dumps(value), parse_int=float)


@pytest.fixture
def browser(transactional_db: None) -> Client:
    client = Client()
    client.get("/")
    return client


@pytest.fixture
def staff(transactional_db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("ada"))
    return client


def open_call(browser: Client) -> VoiceSession:
    return VoiceSession.objects.create(
        visitor=browser.session["visitor"], agent_id=AGENT, agent_name="Concierge"
    )


def check_log(session: VoiceSession, staff: Client) -> list[SessionEvent]:
    """No gap, and nothing that staff cannot read."""
    lines = list(SessionEvent.objects.filter(session=session, source="browser").order_by("seq"))
    assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
    page = staff.get(f"/admin/sessions_app/voicesession/{session.pk}/change/")
    assert page.status_code == 200
    assert page.content.decode()
    rows = staff.get(f"/admin/sessions_app/voicesession/{session.pk}/change/events/")
    assert (rows.status_code, rows.headers["X-Cursor"].split(",")[0]) == (200, f"browser:{len(lines)}")
    assert staff.get(f"/admin/sessions_app/voicesession/?q={session.pk}").status_code == 200
    return lines


async def tell(
    browser: Client, session: VoiceSession, messages: list[Any]
) -> tuple[dict[int, Any], list[Any]]:
    """Sends them on one socket. Returns what had the next number, by that number, and what was heard."""
    given: dict[int, Any] = {}
    heard: list[Any] = []
    async with Socket.relay(browser, session) as page:
        assert await page.hear() == welcome(0)
        for message in messages:
            if isinstance(message, bytes):
                await page.communicator.send_to(bytes_data=message)
            elif isinstance(message, str):
                await page.send(message)
            else:
                given_message = numbered(message, len(given) + 1)
                if given_message is not message:
                    given[len(given) + 1] = given_message
                await page.send(given_message)
        last = {"type": "ack", "ack": len(given) + 1}
        await page.send(frame(len(given) + 1))
        while not heard or (heard[-1] != last and "close" not in heard[-1]):
            heard.append(await page.hear())
    await writer.flush()
    rest = asyncio.all_tasks() - {asyncio.current_task()}  # tools at work
    if rest:
        await asyncio.wait(rest)
    return given, heard


@given(st.lists(MESSAGES, min_size=1, max_size=6))
@settings(max_examples=100)
def test_anything_on_the_socket(
    browser: Client, staff: Client, caplog: pytest.LogCaptureFixture, messages: list[Any]
) -> None:
    session = open_call(browser)
    caplog.clear()
    given, heard = async_to_sync(tell)(browser, session, messages)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    lines = check_log(session, staff)
    nacks = {message["seq"]: message["code"] for message in heard if message.get("type") == "nack"}
    if "close" in heard[-1]:
        assert heard[-1]["close"] in (Close.BAD_MESSAGE, Close.GAP, Close.TOO_LARGE)
    else:
        assert len(lines) == len(given) + 1
        assert nacks == {line.seq: line.data["code"] for line in lines if line.type == "rejected"}
    for line in lines:
        if line.type != "rejected" and line.seq in given:
            sent = given[line.seq]
            data = {**sent["data"], "runs_on": "page"} if sent.get("runs_on") else sent["data"]
            assert (line.type, line.at_ms, same(line.data)) == (sent["type"], sent["at_ms"], same(data))


BODIES = st.one_of(
    st.lists(st.one_of(WHOLE_FRAMES, FRAMES, VALUES), max_size=5),
    VALUES.map(lambda value: {"frames": value}),
    VALUES,
    st.binary(),
    torn_texts().map(lambda text: ('{"frames":[' + text + "]}").encode(errors="surrogatepass")),
)


@given(
    BODIES, st.sampled_from(["application/json", "text/plain", "multipart/form-data; boundary=x", "", "\xe9"])
)
@example(b"\xef\xbb\xbf{}", "application/json; charset=utf-16")
@example(b"[" * 100_000, "application/json; charset=nonsense")
@settings(max_examples=60)
def test_anything_at_the_second_door(
    browser: Client, staff: Client, caplog: pytest.LogCaptureFixture, body: Any, content_type: str
) -> None:
    session = open_call(browser)
    caplog.clear()
    if isinstance(body, list):
        body = {"frames": [numbered(item, seq) for seq, item in enumerate(body, 1)]}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = browser.generic("POST", f"/sessions/{session.pk}/events/", content, content_type)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    lines = check_log(session, staff)
    if response.status_code == 200:
        assert response.json() == {"ack": len(lines)}
    else:
        assert (response.status_code, response.json()["error"]["code"]) in {
            (400, "bad_request"),
            (409, "gap"),
        }
        assert response.json()["error"]["message"].endswith(".") or response.status_code == 409
