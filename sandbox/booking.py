"""How a table is talked about: booked, corrected, changed and cancelled.

Each rule takes an utterance and answers it, or returns None and leaves it to the next rule.
"""

import re

from sandbox.slots import Clock, Slot, Slots, read_slots
from sandbox.spoken import Said, say_list, say_number, say_time
from sandbox.tables import MOST_PEOPLE, Draft, Table, table_time
from sandbox.talk import Ask, Question, Reply, Say, Talk

BOOK = re.compile(
    r"\b(?:book|booking|bookings|reserve|reservation|reservations|table|tables|dinner|lunch|eat|hungry)\b"
)
_TABLE = re.compile(r"\b(?:tables?|dinner|lunch)\b")
_CANCEL = re.compile(
    r"\b(?:cancel\w*|call (?:it|that) off|scrap (?:it|that)|dont (?:book|want) (?:it|that|a table))\b"
)
_LET_GO = re.compile(
    r"\b(?:never ?mind|forget (?:it|that|about it)|changed my mind|leave it(?! (?:like|as|at)\b)|drop it)\b"
)
_DONT = re.compile(r"\b(?:dont|do not|not|never) cancel")
_MINE = re.compile(
    r"\b(?:my|our) (?:bookings?|reservations?|tables?)\b|\b(?:did i|have i|i have) book|\bi booked\b|"
    r"\b(?:my|the) reference$|(?<!can )(?<!could )(?<!may )\bi have an? (?:booking|reservation)\b"
)
_AGAIN = re.compile(
    r"\bwhen (?:is|was) (?:it|that|the table|the booking)\b|\b(?:which|what) (?:day|time) was (?:it|that)\b|"
    r"\bwhich (?:day|time) is (?:it|that)\b|\b(?:reference|booking number|confirmation number)\b"
)
# What is booked elsewhere.
_ELSEWHERE = re.compile(
    r"\b(?:flights?|hotels?|rooms?|taxis?|cabs?|trains?|tickets?|cars?|appointments?|haircuts?)\b"
)
_CHANGE = re.compile(
    r"\b(?:actually|chang\w+|move|make it|instead|reschedule|different|other|another|shift|earlier|later|"
    r"wrong)\b|^(?:and|but|no|oh|not)\b"
)
_WRONG = re.compile(r"\b(?:wrong|not|chang\w+|different|earlier|later)\b")
_CORRECTS = re.compile(r"^(?:no|not)\b|\bi (?:said|meant|mean)\b|\binstead\b|\bmake (?:it|that)\b")
_KEEP = re.compile(r"\b(?:leave|keep) it (?:like|as|at)\b|^(?:nothing|no change)\b")
_HINTS = {
    "people": "Just say a number, for example, four.",
    "day": "You can say tomorrow, Friday, or a date.",
    "time": "You can say, for example, half past seven.",
    None: "Please say yes or no, or tell me what to change.",
}
_FORMER = re.compile(r"^(?:the )?(?:first|former|second|latter)(?: one)?$")
_OKAY = re.compile(r"^(?:ok|okay|all ?right|good|fine|right)$")
WHAT_TO_CHANGE = "What should I change: the number of people, the day or the time?"


def cancel(talk: Talk, said: Said) -> Reply | None:
    """Drops the draft, or asks which booking to cancel: a real booking is never cancelled without a yes."""
    gone = said.has(_CANCEL)
    if not gone and not said.has(_LET_GO):
        return None
    if said.has(_DONT):
        talk.question = None
        return talk.go_on("All right, I won't cancel anything.")
    if talk.question and talk.question.about == "cancel":
        return _cancelled(talk, not said.has(_LET_GO))
    aside = talk.question and talk.question.about in ("city", "topic", "theme")
    talk.question = None
    if aside and not gone:
        return talk.go_on(talk.vary("let go", "No problem.", "That's fine."))
    if talk.draft:
        kept = talk.draft.replaces
        talk.draft = None
        return talk.go_on(
            "All right, your booking stays as it was." if kept else "All right, I have not booked anything."
        )
    if not gone:
        return talk.go_on(talk.vary("let go", "No problem.", "That's fine."))
    if reference := _reference(said):
        known = next((table for table in talk.booked if table.reference == reference), None)
        named = known.describe(talk.today, "your") if known else f"the booking {reference}"
        return _ask_to_cancel(talk, reference, named)
    if not talk.booked:
        return talk.go_on("You have not booked a table in this call, so there is nothing to cancel.")
    return _choose(talk, said)


def _choose(talk: Talk, said: Said) -> Reply:
    tables = [table for table in talk.booked if _fits(table, said, talk)] or talk.booked
    if len(tables) == 1:
        return _ask_to_cancel(talk, tables[0].reference, tables[0].describe(talk.today, "your"))
    named = say_list([table.describe(talk.today, "the") for table in tables], "or")
    talk.question = Question("which", f"Which one: {named}?")
    return Say(f"You have {say_number(len(tables))} bookings. {talk.question.text}")


def _fits(table: Table, said: Said, talk: Talk) -> bool:
    slots = read_slots(said, talk.now())
    place = talk.booked.index(table)
    ordinals = {
        r"\b(?:first|former)\b": 0,
        r"\b(?:second|latter)\b": 1,
        r"\bthird\b": 2,
        r"\blast\b": len(talk.booked) - 1,
    }
    if any(re.search(pattern, said.text) for pattern in ordinals):
        return any(re.search(pattern, said.text) and place == index for pattern, index in ordinals.items())
    return bool(slots.count) and (
        slots.people in (None, table.people)
        and slots.day in (None, table.day)
        and (slots.clock is None or table_time(slots.clock) == table.at)
    )


def _reference(said: Said) -> str:
    """A reference that was spelled out: "cancel the booking B K two zero four" → "BK204"."""
    spelled = re.search(
        r"\b(?:reference|booking|reservation|number|code|cancel)((?: (?:[a-z]{1,2}|[a-z]*\d\w*))+)$",
        said.figures,
    )
    code = re.sub(r"\b(?:oh|o)\b", "0", spelled[1]) if spelled else ""
    code = re.sub(r"\bbe\b", "b", code).replace(" ", "")  # how the recogniser writes the letter
    code = re.sub(r"^(?:is|it)(?=\w*\d)", "", code)
    return code.upper() if len(code) >= 4 and re.search(r"\d", code) else ""


def _ask_to_cancel(talk: Talk, reference: str, named: str) -> Say:
    text = talk.vary("cancel?", f"Shall I cancel {named}?", f"Do you want me to cancel {named}?")
    talk.question = Question("cancel", text, reference)
    return Say(text)


def _cancelled(talk: Talk, agreed: bool) -> Reply:
    question, talk.question = talk.question, None
    if agreed and question:
        return Ask("cancel_booking", {"reference": question.value})
    return talk.go_on("All right, your table stays booked.")


def bookings(talk: Talk, said: Said) -> Reply | None:
    """ "What have I booked?" """
    if not said.has(_MINE) and not (talk.booked and said.has(_AGAIN)):
        return None
    if talk.draft or (talk.booked and said.has(_CHANGE)):
        return None
    if not talk.booked:
        return nothing_booked(talk)
    named = say_list([f"{table.describe(talk.today)}, reference {table.reference}" for table in talk.booked])
    return talk.go_on(f"You have booked {named}.")


def nothing_booked(talk: Talk) -> Say:
    if talk.draft is None:
        talk.question = Question("book", "Shall I book a table for you?")
    return talk.go_on("You have not booked anything in this call yet.")


def change(talk: Talk, said: Said) -> Reply | None:
    """Changes a table that is booked already: the new one is booked first, then the old one is given back."""
    if talk.draft or not talk.booked or not said.has(_CHANGE):
        return None
    slots = read_slots(said, talk.now())
    if re.search(r"\b(?:another|different) (?:table|booking|reservation|one)\b", said.text):
        return None
    old = next((table for table in talk.booked if table.reference == _reference(said)), talk.booked[-1])
    talk.draft = Draft(old.people, old.day, old.at, replaces=old.reference)
    if not slots and said.has(_WRONG) and (emptied := _without(talk, said)):
        return emptied
    if not slots and not said.has(BOOK):
        talk.draft = None
        return None
    if not slots:
        talk.question = Question("change", WHAT_TO_CHANGE)
        return Say(f"Of course. {WHAT_TO_CHANGE}")
    return _proceed(talk, said, slots, "Of course.")


def answer(talk: Talk, said: Said) -> Reply | None:
    """Takes what is said as the answer to what is open about a table."""
    match talk.question.about if talk.question else None:
        case "cancel":
            agreed = said.agrees()
            return None if agreed is None else _cancelled(talk, agreed)
        case "which":
            return _choose(talk, said) if any(_fits(table, said, talk) for table in talk.booked) else None
        case "book":
            return _asked_to_book(talk, said)
        case "number":
            return _number_means(talk, said)
    if talk.draft is None:
        return None
    corrects = talk.draft.latest and said.has(_CORRECTS)
    slots = read_slots(said, talk.now(), None if corrects else talk.expecting)
    if slots and not _is_agreed(talk, slots, said):
        lead = "Of course." if talk.question or talk.expecting is None else ""
        return _proceed(talk, said, slots, lead)
    agreed = said.agrees()
    changing = talk.question is not None or talk.draft.missing() is None
    if changing and (said.has(_CHANGE) or not (agreed or said.asks())) and (emptied := _without(talk, said)):
        return emptied
    if talk.question and talk.question.about == "change" and (agreed is not None or said.has(_KEEP)):
        talk.question = None
        if any(talk.draft.repeats(table) for table in talk.booked):
            talk.draft = None
            return talk.go_on("All right, your booking stays as it was.")
        return Say(f"Then I leave it as it is. {talk.draft_question()}")
    if talk.question or talk.expecting or agreed is None:
        return None
    if agreed and talk.paused and said.has(_OKAY):
        return Say(talk.draft_question())
    if agreed:
        return _book(talk, talk.draft)
    talk.question = Question("change", WHAT_TO_CHANGE)
    return Say(talk.vary("no", f"All right. {WHAT_TO_CHANGE}", f"No problem. {WHAT_TO_CHANGE}"))


def _is_agreed(talk: Talk, slots: Slots, said: Said) -> bool:
    """ "Yes, Friday at eight": a yes that only says the draft again."""
    draft = talk.draft
    if (
        draft is None
        or said.agrees() is not True
        or talk.expecting
        or slots.number is not None
        or slots.choice
    ):
        return False
    same = Draft(draft.people, draft.day, draft.at)
    same.fill(slots)
    return (same.people, same.day, same.at) == (draft.people, draft.day, draft.at)


def _without(talk: Talk, said: Said) -> Reply | None:
    """ "Another time", "the day is wrong": empties the slot and asks for it."""
    refused = re.search(r"\bnot (.+)", said.text)
    denied = read_slots(Said.of(refused[1]), talk.now()) if refused else Slots()
    if denied.clock or re.search(r"\b(?:time|hour|earlier|later)\b", said.text):
        slot: Slot = "time"
    elif denied.day or re.search(r"\b(?:day|date)\b", said.text):
        slot = "day"
    elif denied.people is not None or re.search(r"\b(?:people|persons|number|guests|how many)\b", said.text):
        slot = "people"
    else:
        return None
    if talk.draft:
        talk.draft.empty(slot)
    talk.question = None
    return Say(f"Of course. {talk.draft_question()}")


def _asked_to_book(talk: Talk, said: Said) -> Reply | None:
    """The answer to "shall I book a table?" and, with a draft, to "shall I try once more?"."""
    slots = read_slots(said, talk.now())
    agreed = said.agrees()
    if agreed is False and not slots:
        talk.question = talk.draft = None
        return talk.go_on("All right.")
    if agreed is None and not slots.count:
        return None
    talk.question = None
    if talk.draft and not slots:
        return _book(talk, talk.draft)
    talk.draft = talk.draft or Draft()
    return _proceed(talk, said, slots, "Gladly.")


def _number_means(talk: Talk, said: Said) -> Reply | None:
    """The answer to "do you mean five people, or 5 p.m.?"."""
    number = int(talk.question.value) if talk.question else 0
    slots = read_slots(said, talk.now())
    if said.has(_FORMER) or not slots.count:
        if re.search(r"\b(?:people|persons?|guests|first|former)\b", said.text):
            slots = Slots(people=number)
        elif re.search(r"\b(?:time|clock|oclock|pm|evening|hour|second|latter)\b", said.text):
            slots = Slots(clock=Clock(number, 0, None))
        elif said.agrees() is False:
            talk.question = Question("change", WHAT_TO_CHANGE)
            return Say(f"All right. {WHAT_TO_CHANGE}")
        else:
            return None
    return _proceed(talk, said, slots, "Of course.")


def wish(talk: Talk, said: Said) -> Reply | None:
    """What is said of a table in a sentence that asks for something else as well."""
    replies = (rule(talk, said) for rule in (cancel, answer, change, start))
    return next((reply for reply in replies if reply), None)


def start(talk: Talk, said: Said) -> Reply | None:
    """Begins a booking, by name ("I'd like a table") or by two of its slots ("two people tomorrow")."""
    slots = read_slots(said, talk.now())
    if said.has(_ELSEWHERE) and re.search(r"\b(?:book|reserve)\b", said.text) and not said.has(_TABLE):
        return talk.go_on("I can only book tables, I'm afraid.")
    if not said.has(BOOK) and slots.count < 2:
        return None
    talk.question = None
    if talk.draft is None:
        talk.draft = Draft()
        return _proceed(talk, said, slots, talk.vary("start", "With pleasure", "Gladly", "Of course"))
    return Say(talk.draft_question())


def _number_slot(draft: Draft, said: Said, number: int) -> Slot | None:
    """What a bare number is: what it is said instead of, what is missing, or what was said last."""
    if number > 23:
        return "people"
    if number > MOST_PEOPLE:
        return "time"
    if denied := re.search(r"\b(?:not|instead of|rather than) (?:at |for )?(\d{1,2})\b", said.figures):
        was = int(denied[1])
        of_time = draft.at is not None and was in (draft.at.hour, draft.at.hour % 12)
        if of_time != (was == draft.people):
            return "time" if of_time else "people"
    if draft.missing() == "people" and not (draft.latest and said.has(_CORRECTS)):
        return "people"
    return draft.latest


def _proceed(talk: Talk, said: Said, slots: Slots, lead: str) -> Say:
    """Fills the slots, then asks for what is impossible, missing or to be confirmed."""
    draft = talk.draft = talk.draft or Draft()
    talk.question = None
    number = slots.number
    if number is not None:
        clock = Clock(number % 24, 0, None)
        match _number_slot(draft, said, number):
            case "people":
                slots = Slots(number, slots.day, slots.clock, latest="people")
            case "time" if not slots.count:
                slots = Slots(clock=clock, latest="time")
            case None if not slots.count:
                people = "one person" if number == 1 else f"{say_number(number)} people"
                text = f"Do you mean {people}, or {say_time(table_time(clock))}?"
                talk.question = Question("number", text, str(number))
                return Say(text)
    draft.fill(slots)
    question = talk.draft_question()
    if slots.choice:
        slot = slots.choice.slot
        if slot:
            draft.empty(slot)
        which = f"Which one: {slots.choice.words}?"
        question = which if slot in (None, talk.expecting) else talk.draft_question()
    if draft.problem(talk.now()):
        return Say(question)
    if draft.missing() is None:
        return Say(f"{lead.rstrip('.')}. {question}" if lead else question)
    asked_at = table_time(slots.clock) if slots.clock else None
    echo = Draft(slots.people, slots.day, asked_at).describe(talk.today)
    if not lead:
        lead = talk.vary("lead", "Good", "Very well", "Fine", "All right")
        echo = echo.removeprefix("a table ")
    lead = f"{lead.rstrip('.')}, {echo}" if slots.count else lead
    return Say(f"{lead.removesuffix('.')}. {question}")  # "9 p.m." has its dot


def _book(talk: Talk, draft: Draft) -> Reply:
    if draft.people is None or draft.day is None or draft.at is None or draft.problem(talk.now()):
        return Say(talk.draft_question())
    details: dict[str, str | int | bool | list[str]] = {
        "people": draft.people,
        "day": draft.day.isoformat(),
        "time": f"{draft.at:%H:%M}",
    }
    name = talk.under or talk.name
    return Ask("book_table", details | ({"name": name} if name else {}))


def ask_again(talk: Talk, said: Said) -> Reply | None:
    """Nothing fitted what is open about a table: asks again with a hint, lets go after the fourth time."""
    if talk.draft is None and (
        talk.question is None or talk.question.about not in ("cancel", "which", "book")
    ):
        return None
    talk.misses += 1
    if talk.misses >= 4:
        talk.draft = talk.question = None
        talk.misses = 0
        return talk.go_on("I'm sorry, I don't understand you well enough. Let's leave the table for now.")
    sorry = talk.vary(
        "again", "I'm sorry, I didn't get that.", "Sorry, I don't follow.", "I still don't get it, sorry."
    )
    hint = "" if talk.question else f" {_HINTS[talk.expecting]}"
    leave = " Or say, cancel, to leave it." if talk.misses == 3 else ""
    return Say(f"{sorry} {talk.open_question()}{hint}{leave}")
