"""How many people a table is for, as callers say it."""

import re

from sandbox.rules import Rule, dotted, last
from sandbox.spoken import DAYS

# The recogniser prefers the commoner word of the same sound.
HOMOPHONES = {"to": 2, "too": 2, "for": 4, "fore": 4, "ate": 8, "won": 1, "tree": 3, "free": 3, "tin": 10}
NUMBER = rf"(\d{{1,6}}|{'|'.join(HOMOPHONES)})"
GUESTS = (
    r"(?:people|persons?|guests?|diners?|seats?|places|friends|adults?|grown ups?|"
    r"children|child|kids?|babies|baby)\b"
)
_FAMILY = re.compile(r"\b(\d{1,2}) (?:adults?|grown ups?|children|child|kids?|babies|baby)\b")


def value_of(word: str) -> int:
    """What NUMBER has found: digits, or a word that sounds like a number."""
    return HOMOPHONES[word] if word in HOMOPHONES else int(word)


def _with(companion: str) -> int | None:
    """How many the caller is with "my wife", "my parents"; nobody knows with "my friends"."""
    if companion.endswith("parents"):
        return 3
    many = companion in ("family", "team", "children") or re.search(r"[^s]s$", companion)
    return None if many else 2


_COMPANY = (
    r"(?:friends|others|people|kids?|children|child|colleagues|guests|more|sons|daughters|boys|girls|"
    r"brothers|sisters|babies|adults)\b"
)
# "My friend and I want a window seat" tells no number, "… would like a table" does.
_NO_REMARK = (
    r"(?! (?:want|need|would|like|love|prefer|are|have|can|cant|dont|will)\b"
    r"(?!.*\b(?:table|tables|book|reserve|reservation|eat|dine|dinner|lunch)\b))"
)
_SOME_OF_US = re.compile(r"\b\d{1,2} of (?:us|you|them)\b")
_PEOPLE: list[Rule[int]] = [
    (re.compile(pattern), meaning)
    for pattern, meaning in (
        (
            rf"\b(my \w+ (?:and )?)?(?:me|myself|i) (?:and|plus|with) (?:my )?{NUMBER} (?:\w+ )?{_COMPANY}",
            lambda m: value_of(m[2]) + (2 if m[1] else 1),
        ),
        (
            rf"\bmy {NUMBER} (?:\w+ )?{_COMPANY} and (?:me|i|myself)\b{_NO_REMARK}",
            lambda m: value_of(m[1]) + 1,
        ),
        (rf"\b(?:me|myself) and (?:my|a) (\w+)\b{_NO_REMARK}", lambda m: _with(m[1])),
        (rf"\bmy (\w+) and (?:me|i|myself)\b{_NO_REMARK}", lambda m: _with(m[1])),
        (r"\ba couple\b|\bboth of us\b", lambda m: 2),
        # "Two of us are vegetarians" is a remark, wherever it stands.
        (
            rf"(?:^|\b(?:we are|were|we will be|well be|there are|there will be|therell be|there is|make it|"
            rf"for|all|just|only|the|table of|its|be) ){NUMBER} of (?:us|you)\b"
            r"(?! (?:is|are|am|has|have|was|wants?|needs?|likes?|cant|can|will|would|do|dont|does|doesnt|"
            r"eats?)\b)",
            lambda m: value_of(m[1]),
        ),
        (r"\bhalf a dozen\b", lambda m: 6),
        (r"\b(?:a|1) dozen\b", lambda m: 12),
        (r"\bnobody\b|\bno people\b", lambda m: 0),
        (r"\bminus (\d+)(?: people)?\b", lambda m: -int(m[1])),
        (rf"\b{NUMBER} {GUESTS}", lambda m: value_of(m[1])),
        (
            rf"\b(?:party|group|family|table|booking|reservation) (?:of|for) {NUMBER}\b",
            lambda m: value_of(m[1]),
        ),
        (
            r"\b(?:we are|were|we will be|well be|there are|there will be|therell be) (\d+)\b",
            lambda m: int(m[1]),
        ),
        (
            r"\b(?:just|only) (?:for )?me\b|\b(?:by|for) myself\b|\balone\b|\b(?:its|for) me\b|^me$",
            lambda m: 1,
        ),
    )
]
MORE: list[Rule[int]] = [
    (
        re.compile(r"(?<!\bme and )\b(\d{1,2}) (?:more|extra) (?:people|persons?|guests?|friends?|kids?)\b"),
        lambda m: int(m[1]),
    ),
    (
        re.compile(r"^(?:and |with )?(?:plus (\d{1,2})|(\d{1,2}) more)(?: please)?$"),
        lambda m: int(m[1] or m[2]),
    ),
]
_EACH_FOR: Rule[int] = (
    re.compile(rf"\b(\d{{1,2}}) for (?=(?:\.|today|tonight|tomorrow|lunch|dinner|{'|'.join(DAYS).lower()}))"),
    lambda m: int(m[1]),
)
_FOR: Rule[int] = (re.compile(r"\bfor (\d{1,6})\b"), lambda m: int(m[1]))


def read_people(text: str, *, for_is_people: bool) -> tuple[int | None, str, int]:
    """People as `last` tells them; `for_is_people`: "for eight" may mean them."""
    family = list(_FAMILY.finditer(text))
    if len(family) > 1:
        return sum(int(match[1]) for match in family), dotted(_FAMILY, text), family[-1].start()
    people, text, place = last(text, _PEOPLE)
    text = dotted(_SOME_OF_US, text)
    if people is None and for_is_people:
        return last(text, [_FOR, _EACH_FOR])
    return people, text, place
