"""The call records: lines taken and given back, transcripts, and what survives a restart."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.calls import JOIN_LIMIT_S, CallStore

AGENT = "5a1c0e5e-0000-4000-8000-000000000001"


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def open_call(store: CallStore, limit: int = 10) -> str:
    call_id = store.open_call(AGENT, "call-{call_id}", "caller-12345678", limit)
    assert call_id is not None
    return call_id


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[CallStore]:
    store = CallStore(tmp_path / "new" / "calls.db", clock)
    yield store
    store.close()


def test_a_call_from_mint_to_end(store: CallStore, clock: Clock) -> None:
    call_id = open_call(store)
    assert store.get(call_id) == {
        "id": call_id,
        "agent_id": AGENT,
        "room": f"call-{call_id}",
        "identity": "caller-12345678",
        "status": "connected",
        "created_at": "2023-11-14T22:13:20.000Z",
        "started_at": None,
        "ended_at": None,
        "duration_seconds": None,
        "termination_reason": None,
        "summary": None,
        "cost": None,
        "tags": [],
        "transcript": {"entries": []},
    }
    clock.now += 2
    store.set_status(call_id, "started")
    clock.now += 1
    store.set_status(call_id, "in_progress")
    clock.now += 9.5
    store.end_call(call_id, "caller_left")
    store.end_call(call_id, "too_late")
    store.set_status(call_id, "in_progress")
    call = store.get(call_id)
    assert call is not None
    assert call["status"] == "ended"
    assert call["termination_reason"] == "caller_left"
    assert call["started_at"] == "2023-11-14T22:13:22.000Z"
    assert call["ended_at"] == "2023-11-14T22:13:32.500Z"
    assert call["duration_seconds"] == 10.5


def test_the_transcript_keeps_order_and_joins_tool_outputs(store: CallStore, clock: Clock) -> None:
    call_id = open_call(store)
    tool = {"callId": "t1", "toolName": "get_weather", "arguments": {"city": "Oslo"}}
    store.add_entry(call_id, role="assistant", message="Hello.", turn_id="agent-1", duration_ms=800)
    store.add_entry(call_id, role="user", message="Weather?", turn_id="user-1", started_at=clock.now - 1.25)
    store.add_entry(call_id, role="tool", type="tool_call", tool_call=tool)
    clock.now += 3
    store.add_entry(
        call_id, role="tool", type="tool_call_output", tool_call={"callId": "t1"}, tool_call_output='{"c": 7}'
    )
    store.end_call(call_id, "agent_ended")
    store.add_entry(call_id, role="assistant", type="interruption", turn_id="agent-2")

    call = store.get(call_id)
    assert call is not None
    entries = call["transcript"]["entries"]
    assert [(e["index"], e["role"], e["type"], e["turnId"]) for e in entries] == [
        (0, "assistant", "message", "agent-1"),
        (1, "user", "message", "user-1"),
        (2, "tool", "tool_call", None),
        (3, "tool", "tool_call_output", None),
        (4, "assistant", "interruption", "agent-2"),
    ]
    assert entries[0]["durationMs"] == 800
    assert entries[1]["createdAt"] == "2023-11-14T22:13:18.750Z"
    assert entries[2]["toolCall"] == {
        "callId": "t1",
        "toolName": "get_weather",
        "arguments": '{"city": "Oslo"}',
        "output": '{"c": 7}',
        "startedAt": "2023-11-14T22:13:20.000Z",
        "endedAt": "2023-11-14T22:13:23.000Z",
    }
    assert entries[3]["toolCallOutput"] == '{"c": 7}'


def test_a_tool_call_without_output_says_so(store: CallStore) -> None:
    call_id = open_call(store)
    store.add_entry(
        call_id, role="tool", type="tool_call", tool_call={"callId": "t1", "toolName": "get_time"}
    )
    call = store.get(call_id)
    assert call is not None
    shown = call["transcript"]["entries"][0]["toolCall"]
    assert (shown["arguments"], shown["output"], shown["endedAt"]) == ("{}", None, None)


def test_a_line_is_refused_when_all_are_taken_and_free_after_an_end(store: CallStore) -> None:
    first = open_call(store, limit=2)
    open_call(store, limit=2)
    assert store.open_call(AGENT, "r", "i", 2) is None
    store.end_call(first, "caller_left")
    assert store.open_call(AGENT, "r", "i", 2) is not None


def test_many_threads_never_take_more_lines_than_there_are(store: CallStore) -> None:
    taken: list[str | None] = []
    threads = [
        threading.Thread(target=lambda: taken.append(store.open_call(AGENT, "r", "i", 3))) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 12
    assert sum(call is not None for call in taken) == 3


def test_a_call_that_nobody_joins_gives_its_line_back(store: CallStore, clock: Clock) -> None:
    lost, talking = open_call(store, limit=2), open_call(store, limit=2)
    store.set_status(talking, "started")
    clock.now += JOIN_LIMIT_S + 1
    assert store.open_call(AGENT, "r", "i", 2) is not None
    lost_call, live_call = store.get(lost), store.get(talking)
    assert lost_call is not None
    assert live_call is not None
    assert (lost_call["status"], lost_call["termination_reason"]) == ("ended", "nobody_joined")
    assert live_call["status"] == "started"


def test_the_list_is_newest_first_in_pages(store: CallStore) -> None:
    ids = [open_call(store) for _ in range(5)]
    first = store.list(limit=2)
    assert [call["id"] for call in first] == [ids[4], ids[3]]
    assert "transcript" not in first[0]
    assert [call["id"] for call in store.list(limit=2, before=ids[3])] == [ids[2], ids[1]]
    assert [call["id"] for call in store.list(before=ids[2])] == [ids[1], ids[0]]


def test_unknown_calls(store: CallStore) -> None:
    assert store.get("no such call") is None
    with pytest.raises(KeyError):
        store.set_status("no such call", "started")
    with pytest.raises(KeyError):
        store.add_entry("no such call", role="user", message="Hello?")
    with pytest.raises(KeyError):
        store.end_call("no such call", "lost")
    with pytest.raises(KeyError):
        store.list(before="no such call")


def test_records_survive_a_restart_and_open_calls_end_at_their_last_sign_of_life(
    tmp_path: Path, clock: Clock
) -> None:
    store = CallStore(tmp_path / "calls.db", clock)
    done, cut, waiting = (open_call(store) for _ in range(3))
    for call_id in (done, cut):
        store.set_status(call_id, "started")
    store.end_call(done, "agent_ended")
    clock.now += 5
    store.add_entry(cut, role="assistant", message="Hello.", duration_ms=1500)
    store.close()
    clock.now += 86_400

    store = CallStore(tmp_path / "calls.db", clock)
    done_call, cut_call, waiting_call = (store.get(call_id) for call_id in (done, cut, waiting))
    store.close()
    assert done_call is not None
    assert cut_call is not None
    assert waiting_call is not None
    assert done_call["termination_reason"] == "agent_ended"
    assert cut_call["termination_reason"] == "sandbox_stopped"
    assert cut_call["duration_seconds"] == 6.5
    assert [e["message"] for e in cut_call["transcript"]["entries"]] == ["Hello."]
    assert (waiting_call["status"], waiting_call["duration_seconds"]) == ("ended", None)
