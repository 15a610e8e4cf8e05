"""Which lines of two tellings of one call are the same: the log's and the platform's. No database in here.

Turns belong together by their turn id, else by speaker and words, the first of equal ones to the first; what
is then left and stands in the same place (after the same turn, the same number of them from the same
speaker) is one turn that is told differently. Tool calls and their outputs belong together by their id. An
interruption has neither words nor always an id: reconcile.py matches those by time.

Words are the same whatever their case, their spaces and their encoding (NFC). Punctuation counts: "1.5" is
not "15". Arguments and outputs of tools are the same if they mean the same JSON.

A turn that the caller cut off is a special case: one side may hold the words that were heard, the other all
that the agent had been about to say. So the one may be the beginning of the other, and no alarm is raised.
"""

import json
import unicodedata
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sessions_app.events import ToolCall
from sessions_app.redaction import redact_text

TURNS = ("input_audio_transcript", "response_text")
TOLD = (*TURNS, "tool_call", "tool_call_output")

INTERRUPTION_MS = 3000
"""The two sides' marks of one interruption are not further apart."""


@dataclass(frozen=True)
class Told:
    """One line of a telling; `index` is its place there."""

    index: int
    type: str
    id: str
    """Of the turn or the tool call; "" if it has none."""
    said: Any
    """What counts when it is compared."""

    @classmethod
    def read(cls, index: int, kind: str, data: Mapping[str, Any]) -> "Told":
        if kind == "tool_call":
            call = ToolCall.read(dict(data))
            return cls(index, kind, call.id, (call.name, plain(call.arguments)))
        if kind == "tool_call_output":
            return cls(index, kind, data["toolCallId"], meaning(data["output"]))
        turn = data.get("turn_id")
        words = data.get("text" if kind == "response_text" else "transcript", "")
        return cls(index, kind, turn if isinstance(turn, str) else "", spoken(str(words)))


class Verdict(Enum):
    SAME = "same"
    CUT = "cut"
    """One side has the beginning of what the other has, and the caller cut the agent off there."""
    DIFFERS = "differs"


@dataclass(frozen=True)
class Pair:
    log: Told
    record: Told
    verdict: Verdict


def spoken(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def meaning(output: str) -> Any:
    """A tool's output for comparing: JSON by what it says, any other text by its words."""
    try:
        return ("json", plain(json.loads(output)))
    except (ValueError, RecursionError):
        return ("text", " ".join(output.split()))


def plain(value: Any) -> Any:
    """A JSON value for comparing: 2 is 2.0 and is "2", since models and databases change the one into the
    other; null is the same as nothing. Raises RecursionError."""
    match value:
        case bool():
            return value
        case int() | float():
            try:
                return f"{float(value):.15g}"
            except OverflowError:
                return str(value)
        case dict():
            return tuple(sorted((key, plain(item)) for key, item in value.items() if item is not None))
        case list():
            return ("list", *(plain(item) for item in value))
        case _:
            return value


def nearest(ours: Sequence[int], theirs: Sequence[int], limit_ms: int) -> list[tuple[int, int]]:
    """Pairs of places of the moments that are not further apart than the limit, each moment in one pair, the
    first with the first; both in order."""
    pairs = []
    mine = other = 0
    while mine < len(ours) and other < len(theirs):
        if abs(ours[mine] - theirs[other]) <= limit_ms:
            pairs.append((mine, other))
            mine, other = mine + 1, other + 1
        elif ours[mine] < theirs[other]:
            mine += 1
        else:
            other += 1
    return pairs


def match(
    log: Sequence[Told],
    record: Sequence[Told],
    cut_in_log: Collection[int] = (),
    cut_in_record: Collection[int] = (),
    guessed: Collection[int] = (),
) -> list[Pair]:
    """The lines that tell of the same; both tellings in the conversation's order.

    `cut_in_log`, `cut_in_record`: the places of turns that were cut off, as each side has it. `guessed`: in
    the log, the caller's whose words could still change when the call ended.
    """

    def differing(mine: Told, other: Told) -> Pair:
        is_cut = mine.index in cut_in_log or other.index in cut_in_record
        is_harmless = mine.index in guessed or (is_cut and is_beginning(mine.said, other.said))
        return Pair(mine, other, Verdict.CUT if is_harmless else Verdict.DIFFERS)

    pairs = _by_id(log, record, differing)
    pairs += _by_words(_rest(log, pairs, "log"), _rest(record, pairs, "record"))
    return pairs + _by_place(log, record, pairs, differing)


def _rest(lines: Sequence[Told], pairs: Sequence[Pair], side: str) -> list[Told]:
    taken = {getattr(pair, side).index for pair in pairs}
    return [line for line in lines if line.index not in taken]


Differing = Callable[[Told, Told], Pair]


def _by_id(log: Sequence[Told], record: Sequence[Told], differing: Differing) -> list[Pair]:
    logged: dict[tuple[str, str], list[Told]] = defaultdict(list)
    for line in log:
        if line.id:
            logged[line.type, line.id].append(line)
    recorded: dict[tuple[str, str], list[Told]] = defaultdict(list)
    for line in record:
        if (line.type, line.id) in logged:
            recorded[line.type, line.id].append(line)
    pairs = []
    for key, theirs in recorded.items():
        pairs += _parts(logged[key], theirs, differing)
    return pairs


def _parts(ours: Sequence[Told], theirs: Sequence[Told], differing: Differing) -> list[Pair]:
    """One turn may come in parts, not the same ones on both sides, and a part may come twice."""
    if ours[0].type in TURNS and _joined(ours) == _joined(theirs):
        length = max(len(ours), len(theirs))
        return [
            Pair(ours[min(n, len(ours) - 1)], theirs[min(n, len(theirs) - 1)], Verdict.SAME)
            for n in range(length)
        ]
    pairs, our_rest, their_rest = _equal(ours, theirs)
    told = {pair.log.said: pair for pair in pairs}
    pairs += [Pair(line, told[line.said].record, Verdict.SAME) for line in our_rest if line.said in told]
    pairs += [Pair(told[line.said].log, line, Verdict.SAME) for line in their_rest if line.said in told]
    our_rest = [line for line in our_rest if line.said not in told]
    their_rest = [line for line in their_rest if line.said not in told]
    return pairs + [differing(*sides) for sides in zip(our_rest, their_rest, strict=False)]


def _joined(parts: Sequence[Told]) -> str:
    # Redacted part by part, a number that is spread over two of them was not seen.
    return redact_text(" ".join(part.said for part in parts if part.said))


def is_beginning(one: str, other: str) -> bool:
    """Whether one of the texts is the beginning of the other."""
    return one.startswith(other) or other.startswith(one)


def _equal(ours: Sequence[Told], theirs: Sequence[Told]) -> tuple[list[Pair], list[Told], list[Told]]:
    """Pairs of equal lines, the first with the first; and what is left of either side."""
    waiting: dict[Any, deque[Told]] = defaultdict(deque)
    for line in ours:
        waiting[line.type, line.said].append(line)
    pairs, rest = [], []
    for line in theirs:
        queue = waiting[line.type, line.said]
        if queue:
            pairs.append(Pair(queue.popleft(), line, Verdict.SAME))
        else:
            rest.append(line)
    left = {line.index for queue in waiting.values() for line in queue}
    return pairs, [line for line in ours if line.index in left], rest


def _by_words(log: Sequence[Told], record: Sequence[Told]) -> list[Pair]:
    turns = [line for line in log if line.type in TURNS and line.said]
    return _equal(turns, [line for line in record if line.type in TURNS and line.said])[0]


def _by_place(
    log: Sequence[Told], record: Sequence[Told], pairs: Sequence[Pair], differing: Differing
) -> list[Pair]:
    ours = _places(log, {pair.log.index: number for number, pair in enumerate(pairs)})
    theirs = _places(record, {pair.record.index: number for number, pair in enumerate(pairs)})
    found = []
    for place, lines in ours.items():
        others = theirs.get(place, [])
        if len(lines) == len(others):
            found += [
                differing(mine, other)
                for mine, other in zip(lines, others, strict=True)
                # Two ids that are not the same are two turns.
                if not (mine.id and other.id)
            ]
    return found


def _places(lines: Sequence[Told], known: Mapping[int, int]) -> dict[tuple[str, int], list[Told]]:
    """What is in no pair, by speaker and by the pair that it follows (-1: none)."""
    places: dict[tuple[str, int], list[Told]] = defaultdict(list)
    place = -1
    for line in lines:
        if line.type not in TURNS:
            continue
        if line.index in known:
            place = known[line.index]
        elif line.said:
            places[line.type, place].append(line)
    return places
