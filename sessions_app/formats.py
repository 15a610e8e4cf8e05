"""A call's transcript as a table, as captions and as plain text. docs/export.md describes them.

What stands in them was said by callers, agents and platforms: no program that opens a file may take it for
a formula, a tag, a cue, a line of the transcript, or an order to the terminal.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.utils import timezone

from sessions_app.digest import reply_ms
from sessions_app.models import VoiceSession
from sessions_app.transcript import CONTEXT, Line, clock, lines

COLUMNS = (
    *("session", "agent", "started_utc", "offset_s", "role", "text", "is_cut", "source", "platform_text"),
    *("reply_ms", "tools", "tool_errors", "labels"),
)

CELL = 32_000
"""Spreadsheets hold at most 32,767 characters in a cell, and what they make of the rest is their affair:
a longer turn goes on in the next row."""

FORMULA = re.compile(r"[\s\0-\x20\x7f-\xa0\xad\u200b-\u200f\u2060-\u2064\ufeff\ufffd]*[=+\-@＝＋－＠]|[\t\n]")  # noqa: RUF001
"""What a spreadsheet takes for a formula's beginning (also in Japanese), after what some of them skip."""

CONTROL = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Orders to a terminal, line breaks that only some programs see, and those that turn the direction of the
text around them. Marks of direction, which Hebrew and Arabic need, stay."""

SPEED = 15
"""Characters a second: how long a turn took of which nobody knows it."""


def shown(session: VoiceSession) -> list[Line]:
    """The lines that a reader of the transcript sees, in order; what stands in another line is left there."""
    events = sorted(session.events.all(), key=lambda event: (event.at_ms, event.source, event.seq))
    found = lines(events, [event for event in events if event.type in CONTEXT])
    return [line for line in found if not line.is_hidden and not line.is_inside]


def clean(text: str) -> str:
    """With line breaks as \\n, and with U+FFFD for each character that would do something."""
    if text.isprintable():
        return text
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", re.sub("\r\n?|[\x85\u2028\u2029\x0b\x0c]", "\n", text))


# ------------------------------------------------------------------ the table


HEAD = "\N{ZERO WIDTH NO-BREAK SPACE}" + ",".join(COLUMNS) + "\r\n"
"""Spreadsheets take a file for UTF-8 by its first character."""


def csv_rows(session: VoiceSession) -> str:
    """A row for each turn of the call."""
    output = io.StringIO()
    table = csv.writer(output)
    started = (session.started_at or session.created_at).astimezone(UTC)
    call = [str(session.pk), session.agent_name, f"{started:%Y-%m-%d %H:%M:%S}"]
    for line, tools in _turns(shown(session)):
        turn = [*call, f"{line.event.at_ms / 1000:.1f}", line.kind]
        errors = sum(bool(tool.answer and tool.answer.is_trouble) for tool in tools)
        facts = [
            "yes" if line.is_cut else "",
            line.event.source,
            line.other.words if line.other else "",
            str(ms) if line.reply and (ms := reply_ms(line.reply)) is not None else "",
            ", ".join(tool.tool for tool in tools),
            str(errors or ""),
            ", ".join(_labels(session)),
        ]
        words = clean(line.words)
        table.writerow([cell(value) for value in [*turn, words[:CELL], *facts]])
        for start in range(CELL, len(words), CELL):
            rest = [*turn, words[start : start + CELL], "", line.event.source, *[""] * 5]
            table.writerow([cell(value) for value in rest])
    return output.getvalue()


def _turns(seen: Sequence[Line]) -> list[tuple[Line, list[Line]]]:
    """Each with the tool calls up to the next one; the first also with those before it."""
    turns: list[tuple[Line, list[Line]]] = []
    early: list[Line] = []
    for line in seen:
        if line.event.role:
            turns.append((line, [] if turns else early))
        elif line.kind == "tool":
            (turns[-1][1] if turns else early).append(line)
    return turns


def _labels(session: VoiceSession) -> list[str]:
    return sorted(labelling.label.name for labelling in session.labellings.all())


def cell(text: str) -> str:
    """A text that no spreadsheet computes: what it could take for a formula stands behind an apostrophe."""
    text = clean(text)[:CELL]
    return f"'{text}" if FORMULA.match(text) else text


# ------------------------------------------------------------------ captions


@dataclass(frozen=True)
class Cue:
    start_ms: int
    end_ms: int
    line: Line


def cues(said: Sequence[Line]) -> list[Cue]:
    """`said`: lines with words. A turn ends as its page measured it; else where the other side begins, or
    when its words have been read."""
    found: list[Cue] = []
    next_of: dict[str, int] = {}
    for line in reversed(said):
        start, took = line.event.at_ms, line.took_ms
        if took is None:
            took = 1000 + len(line.words) * 1000 // SPEED
            after = next_of.get("caller" if line.kind == "agent" else "agent", start)
            took = min(took, after - start) if after > start else took
        found.append(Cue(start, start + took, line))
        next_of[line.kind] = start
    return found[::-1]


def vtt(session: VoiceSession) -> str:
    """WebVTT: one cue for each turn, in the voice of who says it. The zero is the call's."""
    said = [line for line in shown(session) if line.event.role and line.words]
    parts = ["WEBVTT\n"]
    for cue in cues(said):
        # In one line: an empty one would end the cue, and what follows could be another.
        words = " ".join(clean(cue.line.words).split())
        words = words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        mark = " [cut off]" if cue.line.is_cut else ""
        span = f"{_stamp(cue.start_ms)} --> {_stamp(cue.end_ms)}"
        parts.append(f"{cue.line.anchor}\n{span}\n<v {cue.line.label}>{words}{mark}\n")
    return "\n".join(parts)


def _stamp(ms: int) -> str:
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{ms:03}"


# ------------------------------------------------------------------ text


def text(session: VoiceSession) -> str:
    """The transcript as a reader sees it. What is in a line cannot look like another one: only lines of the
    transcript begin at the margin."""
    facts = [
        ("Call with", session.agent_name),
        ("Started", _when(session.started_at or session.created_at)),
        ("Length", clock(session.duration.total_seconds()) if session.duration is not None else ""),
        ("End", str(session.get_end_reason_display()) or str(session.get_state_display())),
        ("Caller", session.user.get_username() if session.user else ""),
        ("Labels", ", ".join(_labels(session))),
        ("Session", str(session.pk)),
    ]
    parts = [_paragraph(f"{name}: {value}") for name, value in facts if value]
    parts += [""]
    for line in shown(session):
        parts += [_paragraph(f"[{line.clock}] {_told(line)}")]
        parts += [_paragraph(f"    {told}") for told in _below(line)]
    notes = sorted(session.notes.all(), key=lambda note: (note.at, note.pk))
    parts += ["", "Notes"] if notes else []
    for note in notes:
        place = f" on {note.source}-{note.seq}" if note.source else ""
        who = note.by.get_username() if note.by else "an account that is gone"
        parts += [_paragraph(f"[{_when(note.at)}] {who}{place}: {note.text}")]
    return "\n".join(parts) + "\n"


def _told(line: Line) -> str:
    origin = f" ({line.origin})" if line.origin and not line.is_side else ""
    if line.event.role:
        words = line.words or "(no words)"
        return f"{line.label}{origin}: {words}{' [cut off]' if line.is_cut else ''}"
    return " ".join(part for part in (f"{line.label}{origin}", line.tool, line.words) if part)


def _below(line: Line) -> Iterator[str]:
    """What stands within a line of the transcript."""
    if line.body:
        yield line.body
    for name, value in line.facts:
        yield f"{name}: {value}"
    if line.answer:
        yield _told(line.answer)
        yield from _below(line.answer)
    if line.dispute:
        yield line.dispute
    if line.other:
        yield _told(line.other)
        yield from _below(line.other)


def _paragraph(said: str) -> str:
    first, *others = clean(said).split("\n")
    return "\n".join([first, *(f"        {other}" for other in others)])


def _when(at: datetime) -> str:
    return timezone.localtime(at).strftime("%Y-%m-%d %H:%M:%S %Z")
