"""What a caller's words mean, as a small recogniser spells them, and how to write what a voice reads well.

The recogniser slips on small words ("pairs" for Paris) and spells a time in any of a dozen ways, so
everything is matched on a plain form of the words (`Said`), never on the exact text.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, time
from difflib import SequenceMatcher

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_ORDINALS = [
    "zeroth",
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
    "thirteenth",
    "fourteenth",
    "fifteenth",
    "sixteenth",
    "seventeenth",
    "eighteenth",
    "nineteenth",
]
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fourty": 40, "fifty": 50}
_TENTHS = {"twentieth": 20, "thirtieth": 30}
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]

# The cities by the name that the tools take, each with the slips that stand for it where a city is expected.
CITIES: dict[str, tuple[str, ...]] = {
    "Amsterdam": ("amsterdan",),
    "Athens": ("athans",),
    "Barcelona": (),
    "Berlin": ("burlin", "berlyn", "merlin", "burling"),
    "Cairo": ("kairo", "chiro"),
    "Copenhagen": (),
    "Dublin": ("doublin", "doubling"),
    "Helsinki": (),
    "Istanbul": (),
    "Lisbon": ("lisben", "lizbon"),
    "London": ("landon", "lundon"),
    "Los Angeles": (),
    "Madrid": ("madrit",),
    "Mexico City": (),
    "Mumbai": ("mumbay",),
    "New York": ("new yolk", "newyork"),
    "Oslo": ("oslow", "also"),
    "Paris": ("pairs", "parris", "perris", "pears", "harris"),
    "Prague": ("prag", "frog", "prog"),
    "Rome": ("room", "roam", "rom", "roman", "row"),
    "San Francisco": (),
    "Sao Paulo": ("sao paolo",),
    "Singapore": (),
    "Stockholm": (),
    "Sydney": ("sidney",),
    "Tokyo": ("tokio",),
    "Toronto": (),
    "Vienna": ("viena", "vianna", "veena"),
    "Warsaw": ("war saw",),
    "Zurich": ("zurick",),
}

# Slips that would hide a whole phrase. Applied in this order to the plain text.
_REPAIRS = tuple(
    (re.compile(pattern), right)
    for pattern, right in (
        (r"\b(?:o|a|of) ?c?lock\b", "oclock"),
        (r"\bto morrow\b|\btwo morrow\b|\btomorow\b", "tomorrow"),
        (r"\bto night\b|\btwo night\b", "tonight"),
        (r"\bto day\b", "today"),
        (
            r"\b(?:booker|book are|book of|look a|look at a|bookie|bucket) (?:table|cable|tables)\b",
            "book a table",
        ),
        (r"\b(?:cable|tabel|stable) (?=for\b|four\b)", "table "),
        (r"\btable (?:four|fall|far) (?=\w)", "table for "),
        (r"\bquarter (?:tape|tate|late)\b", "quarter to eight"),
        (r"^add (?=\w+$)", "at "),
        (r"\bbook (?:one|another one|another)\b", "book another table"),
        (r"\btrust me\b", "just me"),
        (r"\bnew work\b", "new york"),
        (r"\bby day\b", "friday"),
        (r"\bthe whether\b", "the weather"),
        (r"\bwhether (?=in|like|there|today|for)\b", "weather "),
        (r"\bgood by[e]?\b|\bgoodby\b|\bbye bye\b|\bbuy bye\b", "goodbye"),
        (r"\bsundae\b", "sunday"),
        (r"\bwensday\b|\bwednes day\b", "wednesday"),
        (r"\bfry day\b", "friday"),
        (r"\blite\b", "light"),
        (r"\b(dark|light) (?:mof|mood|mould|mold|moat|mud|moved|load|note)\b", r"\1 mode"),
    )
)


@dataclass(frozen=True)
class Said:
    """One utterance: `text` without capitals and punctuation, `figures` the same with numbers as digits.

    `asked`: it ended with a question mark, which a recogniser may as well leave out.
    """

    text: str
    figures: str
    asked: bool = False

    @classmethod
    def of(cls, heard: str) -> "Said":
        """Reads what the recogniser wrote: "What's on at 7.30 p.m.?" → "whats on at 7:30 pm"."""
        text = unicodedata.normalize("NFKD", heard.lower()).encode("ascii", "ignore").decode()
        text = re.sub(r"\[[^\]]*\]|\([^)]*\)|['`]", "", text)
        text = re.sub(r"(?<![a-z])([ap])\.? ?m\b\.?", r" \1m ", text)
        text = re.sub(r"(\d)[.:](\d\d)\b", r"\1:\2", text)
        text = " ".join(re.sub(r"[^a-z0-9:]|:(?!\d)|(?<!\d):", " ", text).split())
        for pattern, right in _REPAIRS:
            text = pattern.sub(right, text)
        return cls(text, _in_figures(text), asked=heard.rstrip().endswith("?"))

    def agrees(self) -> bool | None:
        """True for a yes, False for a no, None for neither.

        A question agrees to nothing ("okay, is there parking"), but may begin with a no. In a long sentence
        only the beginning can be a yes: not "a good time would be later for us".
        """
        if self.asks():
            return False if _NO_FIRST.match(self.text) else None
        if _NO_TROUBLE.search(self.text):
            return True
        if _NO.search(self.text):
            return False
        short = len(self.text.split()) <= 5
        return True if (_YES.search if short else _YES.match)(self.text) else None

    def asks(self) -> bool:
        """Whether it is, or contains, a question; "can you book it" is a wish."""
        return not _REQUEST.fullmatch(self.text) and (self.asked or self.has(_ASKS))

    def has(self, pattern: re.Pattern[str]) -> bool:
        return bool(pattern.search(self.text))

    def core(self) -> str:
        """The text without words of courtesy and hesitation, to be compared as a whole."""
        return " ".join(word for word in self.text.split() if not _FILLERS.fullmatch(word))


_CLAUSE = (
    r"(?:^|\b(?:and|but|so|or|well|then|oh|yes|yeah|yep|sure|ok|okay|right|alright|all right|good|great|fine|"
    r"perfect|no|thanks) )"
)
_ASKS = re.compile(
    rf"{_CLAUSE}(?:(?:what|whats|when|whens|where|wheres|which|who|whos|why(?! not\b)|how|hows)\b|"
    r"(?:is|isnt|are|arent|was|were)\b(?! (?:fine|good|ok|okay|right|correct|perfect|great)\b)|"
    r"(?:do|dont|does|doesnt|did|can|cant|could|will|would|wouldnt|shall|should|may|might|have|has|am) "
    r"(?:you|i|we|they|he|she|there|the|my|our|your)\b|"
    r"(?:does|doesnt|did|can|could|will|would|wouldnt|shall|should|may|might|has) (?:it|this|that)\b|"
    r"(?:you|youre) sure\b)"
)
_REQUEST = re.compile(
    rf"{_CLAUSE}*(?:can|could|will|would) you (?:please )?(?:book|do|confirm) (?:it|that)"
    r"(?: (?:please|now))*|why not"
)
_NO_FIRST = re.compile(r"(?:no|nope|nah)\b(?! (?:problem|worries)\b)")
_NO_TROUBLE = re.compile(
    r"\bno (?:problem|worries|thats (?:right|fine|correct|good|okay|ok|perfect))\b|\bwhy not\b"
)
_NO = re.compile(r"\b(?:no|nope|nah|not|nothing|dont|wrong|incorrect|never)\b|^know$")
_YES = re.compile(
    r"(?:(?:oh|uh|um|hm|well) )*\b(?:yes|yeah|yep|yup|yah|ya|sure|ok|okay|alright|all right|correct|right|"
    r"exactly|perfect|absolutely|definitely|certainly|indeed|confirm|confirmed|fine|great|good|lovely|"
    r"wonderful|^please|go ahead|do it|do that|do so|book it|book that|of course|uh huh|mm hmm|mhm|mmhmm|"
    r"thats it|thats all|(?:that|it) works|works for (?:me|us)|go for it|"
    r"i (?:guess|think|suppose|believe) so)\b"
)
_FILLERS = re.compile(
    r"uhm?|umm?|erm?|hm+|mm+|ah|eh|oh|please|well|so|just|now|then|maybe|hey|like|the|an?|and|but|i|it|is"
)


_NO_DAYS = {"one", "time", "thing", "option", "table", "booking", "reservation", "question", "all"}


def _is_day(before: list[str], after: list[str]) -> bool:
    """Whether "first", "second" or "third" is a day of the month: not in "a second", "first of all"."""
    months = {name.lower() for name in MONTHS}
    following = after[1:2] if after[:1] == ["of"] else after[:1]
    if months.intersection(before[-1:] + following):
        return True
    return before[-1:] == ["the"] and not _NO_DAYS.intersection(following)


def _in_figures(text: str) -> str:
    """ "twenty fourth" → "24th", "seven thirty" → "7 30", "a hundred" → "100"."""
    out: list[str] = []
    words = text.split()
    while words:
        word = words.pop(0)
        following = words[0] if words else ""
        if word in _TENS and following in _ONES[1:10]:
            out.append(str(_TENS[word] + _ONES.index(words.pop(0))))
        elif word in _TENS and following in _ORDINALS[1:10]:
            out.append(ordinal(_TENS[word] + _ORDINALS.index(words.pop(0))))
        elif word in _TENS:
            out.append(str(_TENS[word]))
        elif word in _ONES:
            out.append(str(_ONES.index(word)))
        elif word in _ORDINALS[1:4] and not _is_day(out, words):
            out.append(word)
        elif word in _ORDINALS:
            out.append(ordinal(_ORDINALS.index(word)))
        elif word in _TENTHS:
            out.append(ordinal(_TENTHS[word]))
        elif word == "hundred" and out and (out[-1].isdigit() or out[-1] == "a"):
            out[-1] = out[-1].replace("a", "1") + "00"
        else:
            out.append(word)
    text = " ".join(out)
    return re.sub(
        r"\b(\d{1,2}) thousand(?: and)?(?: (\d{1,3}))?\b",
        lambda m: str(int(m[1]) * 1000 + int(m[2] or 0)),
        text,
    )


_NAMES = {city.lower(): city for city in CITIES}
_SLIPS = {slip: city for city, slips in CITIES.items() for slip in slips}
_NOT = r"(?<!\bnot )(?<!\bnot in )(?<!\bnot for )"
_NAMED = re.compile(rf"{_NOT}\b({'|'.join(_NAMES)})s?\b")
_SLIPPED = re.compile(rf"\b(?:in|for|about|of|at|to|from) ({'|'.join(_SLIPS)})\b")
_SOMEWHERE = re.compile(r".*\b(?:in|for|about) (?:the city of |the )?([a-z ]+)$")
_NOT_A_PLACE = re.compile(
    r"\b(?:here|there|where|this|that|moment|today|tonight|tomorrow|now|evening|morning|afternoon|me|us|you|it|"
    r"general|week|"
    r"weekend|city|town|area|place|help|weather|time|table|restaurant|minute|second|people|case|order|"
    r"nothing)\b"
)
_AFTER_A_PLACE = re.compile(
    r"(?: (?:today|now|right|currently|please|tonight|tomorrow|at|the|moment|like|then|thanks|this|week))+$"
)


def read_cities(said: Said, *, expected: bool = False) -> list[str]:
    """The cities that are meant: by name, else by a slip in their place, else what follows "in".

    An unknown place comes back with capitals: whoever looks it up says so. `expected`: the caller was asked
    for a city, so the whole utterance may be one.
    """
    if named := _NAMED.findall(said.text):
        return list(dict.fromkeys(_NAMES[name] for name in named))
    if slipped := _SLIPPED.findall(said.text):
        return [_SLIPS[slip] for slip in slipped]
    core = said.core()
    if expected and core in _SLIPS:
        return [_SLIPS[core]]
    place = _SOMEWHERE.match(said.text)
    words = _AFTER_A_PLACE.sub("", place[1] if place else core if expected else "")
    if 1 <= len(words.split()) <= 3 and not _NOT_A_PLACE.search(words):
        return [words.title()]
    return []


def nearest_city(place: str) -> str:
    """The city whose name is spelled most like `place`; "" if none comes near: "Toke Gill" → "Tokyo"."""
    words = place.lower().split()
    nearest, likeness = "", _ALIKE
    for name in CITIES:
        for spelling in (" ".join(words), "".join(words), words[0]):
            ratio = SequenceMatcher(None, spelling, name.lower()).ratio()
            if spelling[0] == name[0].lower() and ratio >= likeness:
                nearest, likeness = name, ratio
    return nearest


# Below it, real cities are taken for others: "New Orleans" is like "New York" by 0.63.
_ALIKE = 0.65
_NAME = re.compile(
    r"\b(?:my name is|my names|call me|the name is|(?:under|in|on) the name(?: of)?) ([a-z]{2,20})\b|"
    r"(?:^|\b(?:please|it|put|book|table|its|yes) )under (?!the\b|my\b|your\b|a\b)([a-z]{2,20})"
    r"(?: please)?$"
)


def read_name(said: Said) -> str:
    """The name that a caller gives: "my name is Anna" → "Anna"; else ""."""
    found = _NAME.search(said.text)
    name = (found[1] or found[2]) if found else ""
    return "" if name in ("not", "is", "of", "the", "in", "for") else name.capitalize()


def say_number(number: int) -> str:
    """Small numbers as words: a voice stresses "two" better than "2"."""
    return _ONES[number] if 0 <= number <= 12 else str(number)


def say_time(at: time) -> str:
    """ "7:30 p.m.", "8 p.m.", "noon". Not at the end of a sentence before others: its dot ends none."""
    if at.minute == 0 and at.hour in (0, 12):
        return "noon" if at.hour else "midnight"
    minutes = f":{at.minute:02}" if at.minute else ""
    return f"{at.hour % 12 or 12}{minutes} {'p.m.' if at.hour >= 12 else 'a.m.'}"


def say_day(day: date) -> str:
    """ "Friday, November 27th"."""
    return f"{DAYS[day.weekday()]}, {MONTHS[day.month - 1]} {ordinal(day.day)}"


def say_list(items: Sequence[str], word: str = "and") -> str:
    """ "a, b and c"."""
    return f" {word} ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)


def ordinal(number: int) -> str:
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
