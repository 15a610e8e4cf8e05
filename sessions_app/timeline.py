"""A call as a picture: two lanes of who spoke when, tools, interruptions, incidents and silences on one axis.

And the same as a table, for those who do not see it, or want to read it. Each mark leads to its line.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from django.utils.safestring import SafeString

from sessions_app.digest import SLOW_MS, reply_ms
from sessions_app.markup import fill
from sessions_app.rows import CONTROLS, seconds
from sessions_app.transcript import Line, clock

SILENCE_MS = 5000
MS_FOR_CHARACTER = 70
"""How long words take to say whose end nobody has told: about 14 characters are spoken in a second."""
SHORTEST_MS = 300

WIDTHS = range(1100, 8001)
"""In px: what fills a desktop; and what a long call may need, which scrolls sideways."""
PX_FOR_SECOND = 2.5
PAD = 8
"""At both ends, for marks that stand in the middle of their moment."""
TICK_PX = 72
"""Ticks are not closer."""
WORDS_PX = 48
"""A narrower silence does not tell its length."""
STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400, 864000)

AXIS, CALLER, AGENT, TOOLS, EVENTS = 16, 24, 54, 86, 106
"""Where the rows of the picture begin, in px from its top."""
LANE, BAR, HEIGHT = 24, 12, 124

DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Marks that turn around what follows them; a tooltip has no element that could contain them."""


NAMES = {
    "caller": "Caller",
    "agent": "Agent",
    "slow": "Slow reply",
    "silence": "Silence",
    "tool": "Tool",
    "interruption": "Interruption",
    "incident": "Incident",
}


@dataclass(frozen=True)
class Mark:
    """Something in the picture. `line` is None for a silence."""

    kind: str
    """One of NAMES."""
    at_ms: int
    took_ms: int = 0
    line: Line | None = None
    anchor: str = ""
    words: str = ""
    is_estimate: bool = False
    """Nobody has told when it ended."""
    is_trouble: bool = False

    @property
    def end_ms(self) -> int:
        return self.at_ms + self.took_ms

    @property
    def name(self) -> str:
        return "Failed tool" if self.kind == "tool" and self.is_trouble else NAMES[self.kind]

    @property
    def clock(self) -> str:
        return clock(self.at_ms / 1000)

    @property
    def length(self) -> str:
        if not self.took_ms:
            return ""
        return f"about {seconds(self.took_ms)}" if self.is_estimate else seconds(self.took_ms)

    @property
    def title(self) -> str:
        head = ", ".join(filter(None, [f"{self.clock} {self.name}", self.length]))
        return f"{head}: {self.words}" if self.words else head


@dataclass(frozen=True)
class Timeline:
    """`marks` in the order of the call, which is `length_ms` long."""

    marks: Sequence[Mark]
    length_ms: int

    @cached_property
    def width(self) -> int:
        wanted = int(self.length_ms / 1000 * PX_FOR_SECOND)
        return min(max(wanted, WIDTHS.start), WIDTHS.stop - 1)

    @property
    def height(self) -> int:
        return HEIGHT

    @property
    def is_estimated(self) -> bool:
        return any(mark.is_estimate for mark in self.marks)

    def x(self, at_ms: float) -> float:
        return PAD + self.px(at_ms)

    def px(self, ms: float) -> float:
        return ms / self.length_ms * (self.width - 2 * PAD)

    @property
    def ticks(self) -> list[tuple[str, str]]:
        """Their places and their words."""
        step = next((s for s in STEPS_S if self.px(s * 1000) >= TICK_PX), STEPS_S[-1])
        while self.px(step * 1000) < TICK_PX:
            step *= 10
        last = self.length_ms // 1000
        return [(f"{self.x(s * 1000):.1f}", clock(s)) for s in range(0, last + 1, step)]

    @property
    def shapes(self) -> SafeString:
        """The marks as SVG; silences first, as they lie behind all."""
        behind = sorted(self.marks, key=lambda mark: mark.kind != "silence")
        return SafeString("\n".join(self._shape(mark) for mark in behind))

    def _shape(self, mark: Mark) -> SafeString:
        shape = self._moment(mark) if mark.kind in ("interruption", "incident") else self._bar(mark)
        title = fill("<title>{}</title>", mark.title)
        if not mark.anchor:
            return fill("<g>{}{}</g>", title, shape)
        # Whoever goes by keyboard has the table.
        return fill('<a href="#{}" tabindex="-1">{}{}</a>', mark.anchor, title, shape)

    def _bar(self, mark: Mark) -> SafeString:
        top, height = {
            "silence": (CALLER, AGENT + LANE - CALLER),
            "caller": (CALLER, LANE),
            "agent": (AGENT, LANE),
            "slow": (AGENT + LANE / 2 - 2, 4),
        }.get(mark.kind, (TOOLS, BAR))
        x, width = self.x(mark.at_ms), max(self.px(mark.took_ms), 3.0)
        look = f"tl-{mark.kind}"
        if mark.is_estimate:
            look += " is-estimate"
        if mark.is_trouble:
            look += " is-trouble"
        corner = 0 if mark.kind == "silence" else 2
        place = f'x="{x:.1f}" y="{top}" width="{width:.1f}" height="{height}" rx="{corner}"'
        shape = f'<rect class="{look}" {place}/>'
        if mark.is_trouble:
            down, up = f"l8 {BAR + 4}", f"m0 -{BAR + 4}"
            shape += f'<path class="tl-cross" d="M{x - 1:.1f} {TOOLS - 2}{down}{up}l-8 {BAR + 4}"/>'
        if mark.kind == "silence" and width >= WORDS_PX:
            words = mark.length.removeprefix("about ")
            shape += f'<text class="tl-words" x="{x + width / 2:.1f}" y="{AGENT - 1}">{words}</text>'
        return SafeString(shape)  # of numbers, and names of our own

    def _moment(self, mark: Mark) -> SafeString:
        x = f"{self.x(mark.at_ms):.1f}"
        if mark.kind == "incident":
            return fill('<path class="tl-incident" d="M{} {}l8 8l-8 8l-8 -8z"/>', x, EVENTS - 1)
        line = f"M{x} {CALLER - 2}V{EVENTS}"
        return fill(
            '<path class="tl-line" d="{}"/><path class="tl-interruption" d="M{} {}l7 12h-14z"/>',
            line,
            x,
            EVENTS,
        )

    @property
    def table(self) -> SafeString:
        """The marks as rows of a table."""
        return SafeString("\n".join(self._table_row(mark) for mark in self.marks))

    def _table_row(self, mark: Mark) -> SafeString:
        clock = fill('<a href="#{}">{}</a>', mark.anchor, mark.clock) if mark.anchor else mark.clock
        row = "<tr><td>{}</td><td>{}</td><td>{}</td><td><bdi>{}</bdi></td></tr>"
        return fill(row, clock, mark.name, mark.length, mark.words)


def timeline(lines: Sequence[Line], stops: Iterable[int], now_ms: int = 0) -> Timeline:
    """`lines`: all of the call, in order; `stops`: when the caller fell silent (speech_stopped), in ms, in
    order; `now_ms`: where a call stands that is not over."""
    stops = list(stops)
    turns = list(_turns([line for line in lines if line.event.role and not line.is_hidden], stops))
    others = [mark for line in lines if not line.is_hidden and (mark := _other(line))]
    last = max((line.event.at_ms for line in lines), default=0)
    length_ms = max(now_ms, last, *(mark.end_ms for mark in (*turns, *others)), 1000)
    slow = [mark for turn in turns if (mark := _slow(turn))]
    marks = [*turns, *others, *slow, *_silences(turns, length_ms)]
    return Timeline(sorted(marks, key=lambda mark: mark.at_ms), length_ms)


def _turns(lines: Sequence[Line], stops: Sequence[int]) -> Iterator[Mark]:
    begins = [line.event.at_ms for line in lines]
    for index, line in enumerate(lines):
        if not line.words:
            continue  # nobody heard it
        at_ms = line.event.at_ms
        took_ms, is_estimate = line.took_ms or 0, False
        if not took_ms:
            # The next line of either side bounds it; two that began at once are not told apart.
            after = bisect_right(begins, at_ms, index)
            bound = begins[after] if after < len(begins) else None
            took_ms, is_estimate = _length(line, bound, stops)
        yield Mark(line.kind, at_ms, took_ms, line, line.anchor, _short(line.words), is_estimate)


def _length(line: Line, bound: int | None, stops: Sequence[int]) -> tuple[int, bool]:
    """How long the words took of a line that does not tell it, and whether that is only an estimate."""
    at_ms = line.event.at_ms
    if line.kind == "caller":
        before = bisect_left(stops, bound) if bound is not None else len(stops)
        if before and stops[before - 1] > at_ms:
            return stops[before - 1] - at_ms, False
    took_ms = max(SHORTEST_MS, len(line.words) * MS_FOR_CHARACTER)
    if line.cut:
        took_ms = min(took_ms, max(SHORTEST_MS, line.cut.at_ms - at_ms))
    return (took_ms if bound is None else min(took_ms, bound - at_ms)), True


def _slow(turn: Mark) -> Mark | None:
    reply = turn.line and turn.line.reply
    ms = reply_ms(reply) if reply else None
    if not reply or ms is None or ms <= SLOW_MS:
        return None
    return Mark("slow", max(0, reply.at_ms - ms), ms, turn.line, turn.anchor, "until the agent was heard")


def _other(line: Line) -> Mark | None:
    """Of a line that is no turn; None for what the picture leaves out."""
    event = line.event
    match line.kind:
        case "tool":
            answer = line.answer
            took_ms = max(0, answer.event.at_ms - event.at_ms) if answer else 0
            is_trouble = bool(answer and answer.is_trouble)
            words = _short(line.tool) if answer else f"{_short(line.tool)}, not answered"
            return Mark("tool", event.at_ms, took_ms, line, line.anchor, words, is_trouble=is_trouble)
        case "output" if line.is_trouble and not line.is_inside:
            return Mark("tool", event.at_ms, 0, line, line.anchor, _short(line.tool), is_trouble=True)
        case "interruption":
            return Mark("interruption", event.at_ms, 0, line, line.anchor, "the caller cut in")
        case "note" if line.is_trouble:
            return Mark("incident", event.at_ms, 0, line, line.anchor, _short(line.label))
    return None


def _silences(turns: Iterable[Mark], length_ms: int) -> Iterator[Mark]:
    """Where nobody spoke for longer than SILENCE_MS."""
    spoken = sorted((turn.at_ms, turn.end_ms, turn.is_estimate) for turn in turns)
    silent_from, is_estimate = 0, False
    for begin, end, is_end_estimate in [*spoken, (length_ms, length_ms, False)]:
        if begin - silent_from > SILENCE_MS:
            yield Mark("silence", silent_from, begin - silent_from, is_estimate=is_estimate)
        if end > silent_from:
            silent_from, is_estimate = end, is_end_estimate


def _short(text: str) -> str:
    text = DIRECTIONS.sub("", text[:200].translate(CONTROLS))
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:79].rstrip()}…"
