"""Tables at the restaurant: one that is booked, one that is being talked about, and what is possible."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from sandbox.slots import Clock, Slot, Slots
from sandbox.spoken import say_day, say_number, say_time

OPENS = time(11, 0)
CLOSES = time(22, 30)
MOST_PEOPLE = 20
OPENING_HOURS = f"from {say_time(OPENS)} to {say_time(CLOSES)}"


@dataclass(frozen=True)
class Table:
    """A table that has been booked in this call."""

    reference: str
    people: int
    day: date
    at: time

    def describe(self, today: date, article: str = "a") -> str:
        return Draft(self.people, self.day, self.at).describe(today, article)


@dataclass
class Draft:
    """A table that is being talked about.

    `replaces`: the reference of a booking that it is to replace.
    `latest`: of people and time, what was said last.
    """

    people: int | None = None
    day: date | None = None
    at: time | None = None
    replaces: str = ""
    latest: Slot | None = None

    def fill(self, slots: Slots) -> None:
        self.latest = slots.latest or self.latest
        if slots.people is not None:
            self.people = slots.people
        elif slots.extra and self.people is not None:
            self.people += slots.extra
        self.day = slots.day or self.day
        if slots.clock is not None:
            self.at = table_time(slots.clock)
        elif slots.shift and self.at:
            self.at = (datetime.combine(date.min + timedelta(1), self.at) + slots.shift).time()

    def empty(self, slot: Slot) -> None:
        match slot:
            case "people":
                self.people = None
            case "day":
                self.day = None
            case "time":
                self.at = None

    def repeats(self, table: Table) -> bool:
        """Whether it is to replace a table by just the same."""
        same = (self.people, self.day, self.at) == (table.people, table.day, table.at)
        return same and self.replaces == table.reference

    def missing(self) -> Slot | None:
        return (
            "people"
            if self.people is None
            else "day"
            if self.day is None
            else "time"
            if self.at is None
            else None
        )

    def problem(self, now: datetime) -> tuple[Slot, str] | None:
        """What makes this table impossible, and which slot has to change."""
        today = now.date()
        if self.people is not None and self.people < 1:
            return "people", "I need at least one person for a table."
        if self.people is not None and self.people > MOST_PEOPLE:
            return "people", f"{self.people} is too many for us. I can book for up to {MOST_PEOPLE} people."
        if self.day is not None and self.day < today:
            return "day", f"{say_day(self.day)} is already over."
        if self.day == today and now.time() >= CLOSES:
            return "day", "We are closed for today."
        if self.at is not None and not OPENS <= self.at < CLOSES:
            return (
                "time",
                f"We can't seat you at {say_time(self.at)}, because we are open {OPENING_HOURS} every day.",
            )
        if self.day == today and self.at is not None and self.at <= now.time():
            return "time", f"It's already {say_time(now.time())} now, so {say_time(self.at)} today is over."
        return None

    def describe(self, today: date, article: str = "a") -> str:
        """ "a table for two at 7:30 p.m. on Friday, November 27th", or as much of it as is known."""
        parts = [f"{article} table"]
        if self.people is not None:
            parts.append(f"for {say_number(self.people)}")
        if self.at is not None:
            parts.append(f"at {say_time(self.at)}")
        if self.day is not None:
            tonight = self.day == today and self.at is not None and self.at.hour >= 17
            parts.append("tonight" if tonight else on_day(self.day, today))
        return " ".join(parts)


def table_time(clock: Clock) -> time:
    """The time that a guest means: by the opening hours, "seven" is p.m., "eleven" a.m."""
    if clock.hour > 12 or (clock.hour == 0 and clock.half is None):
        return time(clock.hour, clock.minute)
    morning, evening = time(clock.hour % 12, clock.minute), time(clock.hour % 12 + 12, clock.minute)
    if clock.half:
        # Nobody dines at midnight: "twelve in the morning" and "twelve a.m." stay midnight, and are refused.
        return morning if clock.half == "am" else evening
    return next((at for at in (morning, evening) if OPENS <= at < CLOSES), evening)


def on_day(day: date, today: date) -> str:
    """ "today", "tomorrow, Monday, November 23rd", "on Friday, November 27th"."""
    if day == today:
        return "today"
    return f"tomorrow, {say_day(day)}" if (day - today).days == 1 else f"on {say_day(day)}"
