"""The sample frames are read as their file says."""

import json
from pathlib import Path
from typing import Any

import pytest

from sessions_app.events import REFUSED, EventError, Frame, Interim, Ping, ToolCall, parse, read

FRAMES = Path(__file__).parents[1] / "frames"


def samples(name: str) -> list[Any]:
    rows: list[dict[str, Any]] = json.loads((FRAMES / name).read_text())
    return [pytest.param(row, id=row["name"]) for row in rows]


@pytest.mark.parametrize("sample", samples("frames.json"))
def test_valid_frame(sample: dict[str, Any]) -> None:
    frame = sample["frame"]
    match parse(json.dumps(frame)):
        case Frame() as read_frame:
            kept = {key: value for key, value in read_frame.data.items() if key != "runs_on"}
            assert (read_frame.seq, read_frame.at_ms) == (frame["seq"], frame["at_ms"])
            assert (read_frame.type, kept) == (frame["type"], frame["data"])
            assert read_frame.is_for_server == (frame["type"] == "tool_call" and "runs_on" not in frame)
        case Interim() as interim:
            assert "seq" not in frame
            assert (interim.at_ms, interim.type, interim.data) == (
                frame["at_ms"],
                frame["type"],
                frame["data"],
            )
        case Ping():
            assert frame == {"type": "ping"}


@pytest.mark.parametrize("sample", samples("malformed-frames.json"))
def test_malformed_frame_is_refused_with_its_reason(sample: dict[str, Any]) -> None:
    with pytest.raises(EventError) as caught:
        parse(sample["text"])
    assert (caught.value.code, caught.value.seq) == (sample["code"], sample["seq"])
    assert caught.value.message


@pytest.mark.parametrize("sample", samples("messages.json"))
def test_message_of_the_room_can_be_logged(sample: dict[str, Any]) -> None:
    message = sample["message"]
    frame = {"seq": 1, "at_ms": 5, **message, "data": message.get("data", {})}
    if frame["data"].get("is_final") is False:
        del frame["seq"]
    logged = read(frame)
    assert isinstance(logged, Frame | Interim)
    assert (logged.type, logged.data) == (message["type"], frame["data"])


def test_timestamp_is_kept_in_utc_and_dropped_if_it_is_none() -> None:
    def sent_at(timestamp: str) -> str | None:
        frame = read({"seq": 1, "at_ms": 0, "type": "hang_up", "timestamp": timestamp, "data": {}})
        assert isinstance(frame, Frame)
        return None if frame.sent_at is None else frame.sent_at.isoformat()

    assert sent_at("2026-03-01T19:30:00+01:00") == "2026-03-01T18:30:00+00:00"
    assert sent_at("2026-03-01T19:30:00") == "2026-03-01T19:30:00+00:00"
    assert sent_at("half past six") is None
    assert sent_at("0001-01-01T00:00:00+14:00") is None


def test_refused_frame_keeps_its_place() -> None:
    with pytest.raises(EventError) as caught:
        read({"seq": 7, "at_ms": 40, "type": "response_text", "data": {"text": 5}})
    frame = caught.value.as_frame()
    assert (frame.seq, frame.at_ms, frame.type) == (7, 40, REFUSED)
    assert frame.data == {"code": "bad_data", "message": caught.value.message, "type": "response_text"}


def test_tool_call_is_read_in_both_spellings() -> None:
    arguments = [{"name": "city", "type": "string", "value": "Oslo"}, {"name": "unit", "required": False}]
    expected = ToolCall("c1", "get_weather", {"city": "Oslo"})
    assert ToolCall.read({"toolCallId": "c1", "toolName": "get_weather", "arguments": arguments}) == expected
    assert (
        ToolCall.read({"tool_call_id": "c1", "tool_name": "get_weather", "arguments": arguments}) == expected
    )


def test_message_over_the_limit_names_its_number_if_it_has_one() -> None:
    long = "a" * 70_000
    for extra, seq in (({"seq": 3}, 3), ({}, None), ({"seq": "3"}, None)):
        with pytest.raises(EventError) as caught:
            parse(json.dumps({"at_ms": 0, "type": "response_text", "data": {"text": long}, **extra}))
        assert (caught.value.code, caught.value.seq) == ("too_large", seq)
