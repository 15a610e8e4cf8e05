"""The lines of a transcript as HTML: the page of a call shows all of them, its events/ address the new ones.

Every text in here comes from a caller's browser, from the platform or from staff. `fill` escapes what it is
given, so nothing but its own results may count as safe. It is Python and no template because a long call
has a thousand lines, and a template takes several times as long for each.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.safestring import SafeString

from sessions_app.digest import SLOW_MS, reply_ms
from sessions_app.markup import fill, fill_each
from sessions_app.models import Note
from sessions_app.transcript import Line, clock

NOTHING = SafeString("")

FOLD = 2000
"""Characters of a text that are shown at once: a minute and a half of talk."""

CONTROLS = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"},
    **dict.fromkeys(range(0x7F, 0xA0), 0xFFFD),
}
"""Control characters, made visible: in HTML they are errors, and a reader would not know of them."""


@dataclass
class Reader:
    """Who reads a transcript, and what they are to see beside the lines."""

    user_id: int | None = None
    may_annotate: bool = False
    may_delete: bool = False
    """Notes of others."""
    may_listen: bool = False
    notes: dict[str, list[Note]] = field(default_factory=lambda: defaultdict(list))
    """By the anchors of their lines; those on the whole call by ""."""
    form: SafeString = NOTHING
    """For a new note, opened without script: at `form_at`."""
    form_at: str = ""

    def may_remove(self, note: Note) -> bool:
        is_own = note.by_id is not None and note.by_id == self.user_id
        return self.may_annotate and (is_own or self.may_delete)


HIDDEN = '<li data-source="{}" {} data-type="{}" hidden></li>\n'
ROW = (
    '<li id="{0}" class="line line-{1}" data-source="{2}" {3} data-type="{4}"{5}>\n'
    '<a class="at" href="#{0}" title="Logged {6}">{7}</a>\n'
    '<div class="what">{8}</div>'
)
PLAY = '<button type="button" class="play" aria-label="Play from {7}">Play</button>'
ADD = '<a class="add-note" href="?note={0}#note-form" data-line="{0}" aria-label="Note at {7}">Note</a>'


def rows(lines: Iterable[Line], reader: Reader) -> SafeString:
    """The items of the list; a hidden one keeps its place, for a later line may make it appear."""
    actions = ADD if reader.may_annotate else ""
    other = _row_with(actions)
    turn = _row_with(PLAY + actions) if reader.may_listen else other
    zone = timezone.get_current_timezone()
    return SafeString("".join(_row(line, turn if line.event.role else other, reader, zone) for line in lines))


def _row_with(actions: str) -> str:
    actions = f'\n<div class="line-actions">{actions}</div>' if actions else ""
    return f"{ROW}{actions}{{9}}</li>\n"


def _row(line: Line, template: str, reader: Reader, zone: tzinfo) -> SafeString:
    event = line.event
    numbers = ours(f'data-seq="{event.seq}" data-at-ms="{event.at_ms}"')
    if line.is_hidden or line.is_inside:
        return fill(HIDDEN, event.source, numbers, event.type)
    looks, what, more = line.kind, SHOW[line.kind](line), NOTHING
    if line.is_trouble:
        looks += " is-trouble"
    if line.is_alone or (line.other and not line.is_other_harmless):
        looks += " is-disputed"
    if line.dispute:
        what += _dispute(line)
    if line.turn:
        more += fill(' data-turn="{}"', line.turn)
    if line.is_cut:
        more += ours(" data-cut")
    return fill(
        template,
        line.anchor,
        ours(looks),
        event.source,
        numbers,
        event.type,
        more,
        ours(event.recorded_at.astimezone(zone).isoformat(" ", "seconds")[:19]),
        ours(line.clock),
        what,
        _notes(line, reader),
    )


ours = SafeString
"""For our own words and numbers only: to look for what is to be escaped takes most of the time."""


def said(text: str) -> SafeString:
    """A text in its own direction, whatever marks of direction are in it; a very long one is folded."""
    text = text.translate(CONTROLS)
    if len(text) <= FOLD:
        return fill("<bdi>{}</bdi>", text)
    return fill(
        '<bdi>{}</bdi><details class="rest"><summary>{} more characters</summary><bdi>{}</bdi></details>',
        text[:FOLD],
        f"{len(text) - FOLD:,}",
        text[FOLD:],
    )


def seconds(ms: float) -> str:
    """`0.8 s`, from a minute on `1:05`"""
    return f"{ms / 1000:.1f} s" if ms < 60_000 else clock(ms / 1000)


def _turn(line: Line) -> SafeString:
    facts = f"<b>{line.label}</b>"
    if line.reply and (ms := reply_ms(line.reply)) is not None:
        is_slow = ms > SLOW_MS
        facts += f' <span class="reply{" is-slow" if is_slow else ""}">{"slow: " if is_slow else ""}'
        facts += f"heard after {seconds(ms)}</span>"
    if line.took_ms:
        facts += f' <span class="took">{seconds(line.took_ms)} long</span>'
    return fill(
        '<p class="who">{}{}</p><div class="words">{}{}</div>',
        ours(facts),
        _origin(line),
        said(line.words) if line.words else NOTHING,
        NOTHING if line.words and not line.is_cut else _end(line),
    )


def _end(line: Line) -> SafeString:
    """Where a text was cut off: at the word where it ends."""
    if not line.is_cut:
        return ours('<span class="cut">no words</span>')
    words = "cut off here" if line.words else "cut off before a word was heard"
    if line.cut is None:
        return fill(' <span class="cut">{}</span>', words)
    return fill(
        ' <a class="cut by-caller" id="{0}-{1}" href="#{0}-{1}" title="The caller cut in">{2}, {3}</a>',
        line.cut.source,
        line.cut.seq,
        words,
        clock(line.cut.at_ms / 1000),
    )


def _tool(line: Line) -> SafeString:
    return _plain(line) + _answer(line.answer)


def _answer(answer: Line | None) -> SafeString:
    if answer is None:
        return ours('<p class="answer is-open">Not answered</p>')
    return fill(
        '<div class="answer{}" id="{}">{}{}</div>',
        " is-trouble" if answer.is_trouble else "",
        answer.anchor,
        _plain(answer, names_tool=False),
        _dispute(answer),
    )


def _plain(line: Line, names_tool: bool = True) -> SafeString:
    head = fill(
        '<span class="label">{}</span>{}{}',
        line.label,
        fill(" <code><bdi>{}</bdi></code>", line.tool.translate(CONTROLS))
        if line.tool and names_tool
        else "",
        f" {line.words}" if line.words else "",
    )
    rest = NOTHING
    if line.body:
        rest = fill('<p class="body" dir="auto">{}</p>', line.body.translate(CONTROLS))
    if line.facts:
        facts = fill_each(
            '<div><dt>{}:</dt> <dd dir="auto">{}</dd></div>',
            ((name.translate(CONTROLS), value.translate(CONTROLS)) for name, value in line.facts),
        )
        rest = fill('{}<dl class="facts">{}</dl>', rest, facts)
    if line.is_long:
        return fill("<details><summary>{}</summary>{}</details>{}", head, rest, _origin(line))
    return fill("<p>{}</p>{}{}", head, rest, _origin(line))


def _origin(line: Line) -> SafeString:
    if not line.origin or line.is_side:
        return NOTHING
    return fill(' <span class="source source-{}">{}</span>', line.event.source, line.origin)


def _dispute(line: Line) -> SafeString:
    if not line.dispute:
        return NOTHING
    theirs = NOTHING
    if line.other:
        show = SHOW[line.other.kind] if line.other.kind != "tool" else _plain
        theirs = fill('<div id="{}">{}</div>', line.other.anchor, show(line.other))
    return fill('<div class="other"><p class="dispute">{}</p>{}</div>', line.dispute, theirs)


SHOW: dict[str, Callable[[Line], SafeString]] = {
    "caller": _turn,
    "agent": _turn,
    "tool": _tool,
    "output": _plain,
    "interruption": _plain,
    "note": _plain,
}


def _notes(line: Line, reader: Reader) -> SafeString:
    found: list[Note] = []
    if reader.notes:
        found = [note for anchor in anchors(line) for note in reader.notes.get(anchor, ())]
    form = reader.form if reader.form_at == line.anchor else NOTHING
    if not found and not form:
        return NOTHING
    return fill('\n<div class="notes">{}{}</div>', notes(found, reader), form)


def notes(found: Sequence[Note], reader: Reader) -> SafeString:
    return fill_each(
        '<article class="note" id="note-{}"><div class="note-text">{}</div>'
        '<p class="note-by"><b><bdi>{}</bdi></b>, {}</p>{}</article>',
        (
            (
                note.pk,
                said(note.text),
                note.by.get_username() if note.by else "somebody",
                date_format(timezone.localtime(note.at), "j M Y, H:i"),
                _removal(note) if reader.may_remove(note) else "",
            )
            for note in found
        ),
    )


def _removal(note: Note) -> SafeString:
    return fill(
        '<details class="removal" id="removal-{0}"><summary>Delete</summary>'
        '<button type="submit" form="staff-form" name="delete" value="{0}">Delete this note</button>'
        "</details>",
        note.pk,
    )


def anchors(line: Line) -> list[str]:
    """Those of a line and of the lines that stand in it."""
    found = [line.anchor]
    if line.cut:
        found.append(f"{line.cut.source}-{line.cut.seq}")
    if line.other:
        found.append(line.other.anchor)
    return found + (anchors(line.answer) if line.answer else [])
