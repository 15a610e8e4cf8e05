"""What is taken out before anything is stored, and that nothing gets past it."""

import ast
import json
import re
from datetime import timedelta
from io import StringIO
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client, TransactionTestCase, override_settings
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from sessions_app import log, tools
from sessions_app.comparison import spoken
from sessions_app.events import Frame, ToolCall
from sessions_app.models import Booking, ToolRun, VoiceSession
from sessions_app.redaction import is_redacted, redact, redact_growing, redact_text, redact_value
from sessions_app.tools import TOOLS, tool

from .sockets import JUST_NOW, Socket, frame, open_session, tool_call, welcome
from .test_reconcile import (
    CITY,
    REPORT,
    ROOM,
    UNIT,
    ProofTestCase,
    Told,
    agent,
    ended_call,
    entries_of,
    record_of,
    turn,
    without,
)
from .test_settings import environment, load

ALL = ("email", "phone", "card")


def redacting(*kinds: str, **patterns: str) -> override_settings:
    return override_settings(REDACT=kinds, REDACT_PATTERNS=patterns)


PLACES = [
    ("write to Ada.Lovelace+x@Example.co.uk.", "write to [email]."),
    ("josé@example.org, o'neil@example.org", "[email], [email]"),
    ("jose\u0301@example.org", "[email]"),
    ("call +44 20 7946 0958 now", "call [phone] now"),
    ("+49 (0)151 12345678", "[phone]"),
    ("0049 151 12345678", "[phone]"),
    ("020 7946 0958 or 06.12.34.56.78", "[phone] or [phone]"),
    ("(212) 555-1234, 212.555.1234", "[phone], [phone]"),
    ("2125551234; 1-800-555-0199 x12", "[phone]; [phone] x12"),
    ("555, 123, 4567", "[phone]"),
    ("5 5 5 1 2 3 4 5 6 7", "[phone]"),
    ("555-123-4567 2nd floor", "[phone] 2nd floor"),
    ("4111 1111 1111 1111", "[card]"),
    ("4111-1111-1111-1111 12 27 123", "[card] 12 27 123"),
    ("4111111111111111 and 378282246310005.", "[card] and [card]."),
    ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "[card]"),
    ("\u0664\u0661\u0661\u0661 \u0661111 1111 1111", "[card]"),
    ("4111\n1111  1111 - 1111", "[card]"),
]
LEFT = [
    "a table for 4 on 2026-11-23 at 19:30, not 23.11.2026 or 11/23/2026",
    "2026-11-23 19:30 and 2026-11-23T19:30:00.123456+01:00",
    "your reference is B1007",
    "flights in 1998, 2001 or 2005 for 1,000,000 or 100.000 people",
    "5a1c0e5e-0000-4000-8000-000000000001",
    "1763883717123",
    "192.168.100.200",
    "3.14159265358979",
    "me @ home, a@b",
    "five five five, one two three four",
    "[email] [phone] [card] [other] [PHONE]",
]


@pytest.mark.parametrize(("told", "stored"), PLACES)
def test_kind_takes_the_place(told: str, stored: str) -> None:
    with redacting(*ALL):
        assert redact_text(told) == stored


@pytest.mark.parametrize("told", LEFT)
def test_other_numbers_stay(told: str) -> None:
    with redacting(*ALL):
        assert redact_text(told) == told


def test_card_is_known_by_its_checksum() -> None:
    with redacting("card"):
        assert redact_text("4111 1111 1111 1112") == "4111 1111 1111 1112"
        assert redact_text("1234 5678 1234 5670") == "[card]"
        assert redact_value({"number": 4111111111111111, "n": 3}) == {"number": "[card]", "n": 3}


def test_only_what_is_asked_for_and_nothing_when_off() -> None:
    text = "ada@example.org 212-555-1234 4111111111111111"
    assert redact_text(text) == text
    with redacting("phone"):
        assert redact_text(text) == "ada@example.org [phone] 4111111111111111"
    with redacting("email", "card"):
        assert redact_text(text) == "[email] 212-555-1234 [card]"
    with redacting(customer=r"\bK-\d{6}\b"):
        assert redact_text("k-123456 and K-1234567") == "[customer] and K-1234567"


def test_json_inside_of_texts_stays_json() -> None:
    with redacting(*ALL):
        for told, stored in (
            ('{"to": "ada@example.org",  "n": 5}', {"to": "[email]", "n": 5}),
            ('{"to": "ada\\u0040example.org", "half": "\\ud800"}', {"to": "[email]", "half": "\ud800"}),
            (
                '["212-555-1234", {"ada@example.org": [4111111111111111]}]',
                ["[phone]", {"[email]": ["[card]"]}],
            ),
            ('"ada@example.org"', "[email]"),
            ('{"to": "ada@example.org", "to": "x"}', {"to": "x"}),
            (json.dumps({"in": json.dumps({"to": "ada@example.org"})}), {"in": '{"to": "[email]"}'}),
        ):
            redacted = redact_text(told)
            assert json.loads(redacted) == stored
            assert redact_text(redacted) == redacted
            redacted.encode()  # can be stored
        as_it_is = '{"a":1,  "b": "\\u0041"}'
        assert redact_text(as_it_is) is as_it_is


def test_names_by_which_lines_find_each_other_stay() -> None:
    data = {
        "toolCallId": "212-555-1234",
        "turn_id": "4111111111111111",
        "text": "212-555-1234",
        "at": 2125551234,
    }
    with redacting(*ALL):
        assert redact(data) == {**data, "text": "[phone]", "at": "[phone]"}
        assert data["text"] == "212-555-1234"
        told_as_a_name = {"ada@example.org": "yes", "call 212-555-1234": {"to": 4111111111111111}}
        assert redact(told_as_a_name) == {"[email]": "yes", "call [phone]": {"to": "[card]"}}


def test_what_is_still_being_said_shows_no_half_of_a_number() -> None:
    with redacting(*ALL):
        for said, shown in (
            ("My number is 212-5", "My number is […]"),
            ("My number is +49 151 1", "My number is […]"),
            ("My number is 212-555-1234", "My number is [phone]"),
            ("I am ada@exam", "I am […]"),
            ("a table for 4", "a table for 4"),
        ):
            data = {"text": said, "turn_id": "turn-212-555", "is_final": False}
            assert redact_growing(data) == {**data, "text": shown}
    assert redact_growing({"text": "My number is 212-5"}) == {"text": "My number is 212-5"}


pieces = st.sampled_from(
    [
        *(text for text, _ in PLACES),
        *LEFT,
        *(
            "[email]",
            "[phone]",
            "[card",
            "@",
            "+",
            "(",
            "-",
            ". ",
            "\n",
            "1",
            "42",
            "a",
            "é",
            "e\u0301",
            '"',
            "{",
            "K-",
        ),
        *(
            "4111 1111 1111 1111",
            "212",
            "555",
            "1234",
            "ada@",
            "example.org",
            '{"a": "ada@example.org"}',
            "[1]",
        ),
    ]
)
texts = st.lists(pieces | st.text(max_size=5), max_size=8).map("".join) | st.text(
    alphabet='0123456789 -+().,@aé[]"', max_size=60
)
values = st.recursive(
    texts | st.integers() | st.floats() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
OWN = {"customer": r"\bK-\d{1,6}", "word": r"(?:home|turn)\s?+\w{0,3}", "phoneme": r"e\w{2,4}l"}


@given(text=texts)
def test_what_is_redacted_is_not_changed_by_being_redacted_again(text: str) -> None:
    for patterns in ({}, OWN):
        with redacting(*ALL, **patterns):
            once = redact_text(text)
            assert redact_text(once) == once


@given(value=values)
def test_json_is_not_changed_by_being_redacted_again(value: Any) -> None:
    with redacting(*ALL, **OWN):
        once = redact_value(value)
        assert json.dumps(redact_value(once)) == json.dumps(once)
        in_text = redact_text(json.dumps(value))
        assert redact_text(in_text) == in_text


@given(text=texts)
def test_two_tellings_of_the_same_words_are_redacted_to_the_same(text: str) -> None:
    """The platform's may have other capitals, blanks and encoding."""
    with redacting(*ALL):
        other = "  ".join(text.upper().split(" ")) if spoken(text.upper()) == spoken(text) else text
        assert spoken(redact_text(other)) == spoken(redact_text(text))


class LogTests(TransactionTestCase):
    """Through each door of the log."""

    def setUp(self) -> None:
        self.session = open_session(self.client)
        self.enterContext(redacting(*ALL, customer=r"K-\d{6}"))

    def data(self) -> list[dict[str, Any]]:
        return list(self.session.events.order_by("source", "seq").values_list("data", flat=True))

    async def test_socket(self) -> None:
        async with Socket.relay(self.client, self.session) as socket:
            assert await socket.hear() == welcome(0)
            await socket.send(
                frame(1, "response_text", text="Write to ada@example.org or K-123456."),
                frame(2, "input_audio_transcript", transcript="It is 4111 1111 1111 1111.", turn_id="t-1"),
                frame(3, "of_a_newer_platform", note={"deep": ["212-555-1234"]}, phone=2125551234),
            )
            await socket.hear_until({"type": "ack", "ack": 3})
        assert await sync_to_async(self.data)() == [
            {"text": "Write to [email] or [customer]."},
            {"transcript": "It is [card].", "turn_id": "t-1"},
            {"note": {"deep": ["[phone]"]}, "phone": "[phone]"},
        ]

    def test_second_door(self) -> None:
        frames = [frame(1, "response_text", text="Write to ada@example.org.")]
        url = f"/sessions/{self.session.pk}/events/"
        posted = self.client.post(url, {"frames": frames}, content_type="application/json")
        assert posted.json() == {"ack": 1}
        assert self.data() == [{"text": "Write to [email]."}]

    async def test_captions_for_staff(self) -> None:
        staff = User(username="ada", is_staff=True, is_superuser=True)
        await staff.asave()
        colleague = Client()
        await sync_to_async(colleague.force_login)(staff)
        async with (
            Socket.relay(self.client, self.session) as page,
            Socket.transcript(colleague, self.session) as watcher,
        ):
            assert await page.hear() == welcome(0)
            assert await watcher.hear() == {"type": "recorded"}
            caption = frame(1, "response_text", text="I am ada@example.org, 212-5", is_final=False)
            del caption["seq"]
            await page.send(caption)
            caption["data"]["text"] = "I am [email], […]"
            assert await watcher.hear() == {"type": "interim", "frame": caption}

    async def test_tools_run_with_what_was_said_and_tell_it(self) -> None:
        """Their arguments and outputs are kept without it."""
        heard: list[str] = []

        def send_confirmation(session: VoiceSession, address: str, card: int) -> dict[str, Any]:
            """Sends mail."""
            heard.append(f"{address} {card}")
            return {"sent_to": address, "from": "212-555-1234"}

        with mock.patch.dict(TOOLS):
            tool(send_confirmation)
            async with Socket.relay(self.client, self.session) as page:
                assert await page.hear() == welcome(0)
                call = tool_call(
                    1, "t1", "send_confirmation", address="ada@example.org", card=4111111111111111
                )
                await page.send(call)
                said = await page.hear()
                while said["type"] == "ack":
                    said = await page.hear()
                output = said["data"]["output"]
                answer = frame(2, "tool_call_output", JUST_NOW, toolCallId="t1", output=output)
            # The page was away for a moment, and asks again: its agent still waits.
            async with Socket.relay(self.client, self.session) as page:
                assert await page.hear() == welcome(1)
                assert await page.hear() == said
                await page.send(answer)
                await page.hear_until({"type": "ack", "ack": 2})
        assert heard == ["ada@example.org 4111111111111111"]
        assert json.loads(output) == {"sent_to": "ada@example.org", "from": "212-555-1234"}
        run = await ToolRun.objects.aget()
        assert run.arguments == {"address": "[email]", "card": "[card]"}
        kept = {"sent_to": "[email]", "from": "[phone]"}
        assert json.loads(run.output) == kept
        told, answered = await sync_to_async(self.data)()
        assert [item["value"] for item in told["arguments"]] == ["[email]", "[card]"]
        assert (answered["toolCallId"], json.loads(answered["output"])) == ("t1", kept)

    def test_call_that_is_imported(self) -> None:
        with redacting():
            log.record(
                self.session.pk, [Frame(1, 0, "response_text", {"text": SECRET}), Frame(2, 9, "hang_up", {})]
            )
            run = ToolRun.objects.create(
                session=self.session, tool_call_id="t", name="x", arguments={"to": SECRET}
            )
            run.finish(json.dumps({"to": SECRET}), is_error=False)
            document = self.exported()
        assert SECRET in document
        VoiceSession.objects.all().delete()
        with NamedTemporaryFile("w", suffix=".json") as file:
            file.write(document)
            file.flush()
            call_command("import_session", file.name, stdout=StringIO())
        assert [data.get("text") for data in self.data()] == [HIDDEN, None]
        run = ToolRun.objects.get()
        assert (run.arguments, json.loads(run.output)) == ({"to": HIDDEN}, {"to": HIDDEN})

    def exported(self) -> str:
        client = Client()
        client.force_login(User.objects.create_superuser("ada"))
        url = f"/admin/sessions_app/voicesession/{self.session.pk}/export/json/"
        return str(client.get(url).getvalue().decode())

    def test_booking_of_the_demos_tool(self) -> None:
        day = (timezone.localdate() + timedelta(days=3)).isoformat()
        table = {"people": 2, "day": day, "time": "19:30", "name": "Ada, 212-555-1234"}
        output = json.loads(tools.run(self.session, ToolCall("t1", "book_table", table), timezone.now()))
        booking = Booking.objects.get()
        assert (output["reference"], booking.name) == (booking.reference, "Ada, [phone]")

    async def test_wrong_argument_is_told_and_not_kept(self) -> None:
        async with Socket.relay(self.client, self.session) as page:
            assert await page.hear() == welcome(0)
            await page.send(
                tool_call(1, "t1", "book_table", people="ada@example.org", day="2030-01-01", time="19:30")
            )
            said = await page.hear()
            while said["type"] == "ack":
                said = await page.hear()
        assert "not 'ada@example.org'" in said["data"]["output"]
        run = await ToolRun.objects.aget()
        assert "ada@" not in run.output
        assert json.loads(run.output)["code"] == "bad_arguments"

    async def test_tool_is_not_run_with_what_is_left_of_its_arguments(self) -> None:
        """The page was cut off before its tool call was begun, and the log has only the redacted one."""
        call = tool_call(
            1, "t1", "book_table", name="ada@example.org", people=2, day="2030-01-01", time="19:30"
        )
        whole = tool_call(2, "t2", "get_time", city="Paris")
        url = f"/sessions/{self.session.pk}/events/"
        await sync_to_async(self.client.post)(url, {"frames": [call, whole]}, content_type="application/json")
        async with Socket.relay(self.client, self.session) as page:
            assert await page.hear() == welcome(2)
            outputs = [(await page.hear())["data"] for _ in range(2)]
        by_call = {data["toolCallId"]: json.loads(data["output"]) for data in outputs}
        assert by_call["t1"] == {"error": "book_table was interrupted.", "code": "interrupted"}
        assert by_call["t2"]["city"] == "Paris"
        assert not await Booking.objects.aexists()


SECRET = "Mail ada@example.org or call 212-555-1234."
HIDDEN = "Mail [email] or call [phone]."


class ProofTests(ProofTestCase):
    """The platform's record is redacted before it is compared, and before anything of it is kept."""

    def setUp(self) -> None:
        super().setUp()
        self.enterContext(redacting(*ALL))

    def with_secrets(self) -> list[Told]:
        arguments = [{**CITY, "value": "ada@example.org"}, UNIT]
        return [
            (at_ms, kind, data | {"arguments": arguments})
            if kind == "tool_call"
            else (at_ms, kind, data | {"output": '{"mail":   "ada@example.org", "n": 2125551234}'})
            if kind == "tool_call_output"
            else (at_ms, kind, data | {"text": SECRET.upper()})
            if data.get("turn_id") == "agent-2"
            else (at_ms, kind, data | {"transcript": "It is 4111  1111 1111\n1111."})
            if data.get("turn_id") == "user-2"
            else (at_ms, kind, data)
            for at_ms, kind, data in REPORT
        ]

    def record(self, session: VoiceSession) -> dict[str, Any]:
        record = record_of(session.created_at, summary=SECRET, tags=[SECRET])
        turn(record, "agent-2")["message"] = SECRET
        turn(record, "user-2")["message"] = "It is 4111 1111 1111 1111."
        for entry in entries_of(record):
            if entry["type"] == "tool_call":
                entry["toolCall"]["arguments"] = '{"city": "ada@example.org"}'
                entry["toolCall"]["output"] = '{"n": 2125551234, "mail": "ada@example.org"}'
            if entry["type"] == "tool_call_output":
                entry["toolCallOutput"] = '{"n": 2125551234, "mail": "ada@example.org"}'
        return record

    def kept(self, session: VoiceSession) -> str:
        session.refresh_from_db()
        return json.dumps([*session.events.values_list("data", flat=True), session.platform_call])

    def test_same_words_are_still_the_same(self) -> None:
        session = ended_call(self.with_secrets())
        self.prove(session, self.record(session))
        assert session.proof == "complete"
        assert session.platform_call["summary"] == HIDDEN
        assert session.platform_call["tags"] == [HIDDEN]
        assert session.platform_call["room"] == ROOM
        assert not re.search("ada@|ADA@|4111|212", self.kept(session))

    def test_what_the_record_brings(self) -> None:
        session = ended_call(without("agent-2", "user-2"))
        record = self.record(session)
        for entry in entries_of(record):
            if entry["type"] == "tool_call":
                entry["toolCall"]["callId"] = "t9"
            if entry["type"] == "tool_call_output":
                entry["toolCall"] = {"callId": "t9"}
        self.prove(session, record)
        texts = [event.text for event in session.events.filter(source="platform").order_by("seq")]
        assert HIDDEN in texts
        assert "It is [card]." in texts
        assert not re.search("ada@|4111|212", self.kept(session))

    def test_calls_of_before_it_was_switched_on(self) -> None:
        with redacting():
            session = ended_call(self.with_secrets())
        self.prove(session, self.record(session))
        assert session.proof == "complete"
        # Again, with a page that tells more: nothing is added that is there already.
        assert not session.events.filter(source="platform").exists()

    def test_number_in_two_parts_of_one_turn(self) -> None:
        """The parts are stored as they come, and neither is a number."""
        parts = [agent(10791, 2, "Call 212-5"), agent(10800, 2, "55-1234.")]
        whole = agent(10791, 2, "Call 212- 555-1234.")
        session = ended_call([told for told in REPORT if told[2].get("turn_id") != "agent-2"] + parts)
        record = record_of(session.created_at)
        turn(record, "agent-2")["message"] = whole[2]["text"].replace("212- 5", "212-5 ")
        self.prove(session, record)
        assert session.proof == "complete"


FILE = r"""
# Customers.
customer = \bK-\d{6}\b
iban = \b[a-z]{2}\d{2}(?:\s?+[a-z0-9]){11,30}\b
"""
WRONG = [
    ("customer: K-1", "line 1: write kind = regular expression"),
    ("Customer = K", "line 1: write kind = regular expression"),
    ("# first\n\na = (", "line 3: '(' is not a regular expression (missing ), unterminated"),
    ("email = x", "line 1: there is a kind email already"),
    ("a = x\na = y", "line 2: there is a kind a already"),
    ("a = K?", "line 1: 'K?' also matches the empty text"),
    (r"a = K-\d+", "line 1: a repetition goes on for more than 256 times"),
    ("a = (?=.*b)c", "line 1: a repetition goes on for more than 256 times"),
    (r"a = (\w{1,9} ?){1,9}", "can match one text in too many ways"),
    ("a = (x|xx){1,30}y", "can match one text in too many ways"),
    ("a = (?>(x{1,9}){1,9}y)", "can match one text in too many ways"),
    ("a = x(?i)y", "is not a regular expression (global flags"),
    ("a = ", "also matches the empty text"),
    ("", "holds no pattern"),
    ("a = \udcff", "is not UTF-8 text"),
]


def test_patterns_of_a_file_are_read_and_wrong_ones_refused(tmp_path: Path) -> None:
    environments = []
    for number, (text, _) in enumerate(WRONG):
        path = tmp_path / f"{number}.txt"
        path.write_bytes(text.encode(errors="surrogateescape"))
        environments.append(environment(tmp_path, REDACT_PATTERNS=str(path)))
    good = tmp_path / "good.txt"
    good.write_text(FILE)
    *sentences, missing, kinds, given = load(
        [
            *environments,
            environment(tmp_path, REDACT_PATTERNS=str(tmp_path / "missing.txt")),
            environment(tmp_path, REDACT="email,emails"),
            environment(tmp_path, REDACT="phone, email,phone", REDACT_PATTERNS=str(good)),
        ]
    )
    for (_, expected), sentence in zip(WRONG, sentences, strict=True):
        assert isinstance(sentence, str), expected
        assert expected in sentence
        assert sentence.startswith("REDACT_PATTERNS: ")
        assert "; for example REDACT_PATTERNS=" in sentence
    assert "missing.txt cannot be read: No such file" in missing
    assert (
        kinds == "REDACT holds 'emails', which is none of email, card, phone; for example REDACT=email,phone"
    )
    assert ast.literal_eval(given["REDACT"]) == ("phone", "email")
    patterns = ast.literal_eval(given["REDACT_PATTERNS"])
    with redacting(**patterns):
        assert redact_text("K-123456, DE89 3704 0044 0532 0130 00") == "[customer], [iban]"


def test_hostile_text_is_done_with_soon() -> None:
    """No times are asserted: with a match that goes back and forth, this would not end today."""
    size = 60_000
    unit = (
        "a",
        "a@",
        "1",
        "1 ",
        "4 ",
        "+1",
        "(",
        "01 ",
        "1-",
        "1.",
        "[",
        '"',
        "@",
        "1 " * 9 + "\n" * 99,
        "a.",
        "K-1",
    )
    with redacting(*ALL, customer=r"\bK-\d{1,64}x", iban=r"\b[a-z]{2}\d{2}(?:\s?+[a-z0-9]){11,30}\b"):
        for part in unit:
            for text in (
                part * (size // len(part)),
                "1" + part * (size // len(part)) + "@x",
                "[" * 500 + part,
            ):
                assert redact_text(redact_text(text)) == redact_text(text)
                redact_growing({"text": text})


def test_look_of_what_was_redacted() -> None:
    assert not is_redacted({"name": "[email]"})
    with redacting("phone", customer="K"):
        assert is_redacted({"deep": [{"name": "It is [customer]."}]})
        assert not is_redacted({"name": "[somebody]"})
