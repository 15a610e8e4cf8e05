"""The conversation itself: noise, stop, repeat, help, small talk, not understood, goodbye."""

import re

from sandbox.booking import BOOK
from sandbox.errands import FOOD
from sandbox.slots import read_slots
from sandbox.spoken import Said, read_cities, read_name, say_day
from sandbox.tables import OPENING_HOURS
from sandbox.talk import Question, Reply, Say, Talk

_MOMENT = r"(?:(?:a|one|1|two|2|five|5)(?: more)? (?:moment|minute|second|sec)s?)"
_LET_ME = (
    r"(?:let me|i will|ill|i need to|i have to|i must) (?:just )?(?:think(?: about (?:it|that))?|"
    r"see|(?:check|ask|talk to|speak to|speak with)"
    r"(?: (?:it|that)| (?:with |in )?(?:my|the|him|her|them)\b.*)?)"
)
_STOP = re.compile(
    r"(?:(?:ok|okay|please|no|yes|hey|alright|all right|right|well|oh|um|uh|sorry|just|can you|could you|"
    r"now) )*"
    r"(?:stop(?: it| that| talking| speaking| there)?|(?:be )?quiet|silence|shut up|hush|shush|pause|"
    rf"enough|thats enough|(?:wait|hold on|hang on)(?: (?:for )?(?:just )?{_MOMENT})?|{_LET_ME}|"
    rf"(?:(?:give me|i need|just) )*{_MOMENT})"
    rf"(?: (?:please|now|talking|thanks|thank you|for a moment|stop|while|because|{_LET_ME}))*"
)
_REPEAT = re.compile(
    r"\b(?:repeat|(?:say|tell me) (?:that|it)(?: to me)? again|say again|what did you (?:just )?say|"
    r"what was that|once more|come again|one more time|beg your pardon|"
    r"(?:didnt|did not|couldnt|dont) (?:hear|catch|get|understand)(?: (?:you|that|it|what)\b|$)|"
    r"go on|continue|carry on|keep going)\b"
)
_WHAT = re.compile(r"pardon(?: me)?|sorry|what|excuse me|huh|again|say what|go")
_BYE = re.compile(
    r"\b(?:goodbye|bye|(?<!a )good night|see you (?:then|later|soon|tomorrow|tonight)|farewell|hang up|ciao|"
    r"talk to you later|end (?:the|this) call|have a (?:nice|good|great|lovely) (?:day|evening|night|one))\b|"
    r"\b(?:have|need|got|gotta|must) (?:to )?(?:go|leave|run)(?: (?:now|sorry|thanks|thank you))*$|"
    r"^(?:by|buy|see you)$"
)
# Words that end a call only where nothing is open: "that's it" may agree to a booking.
_DONE = re.compile(
    r"\b(?:nothing (?:else|more)|so long|(?:have|need|got|gotta|must) (?:to )?(?:go|leave)|"
    r"(?:thats|that is|that will be|thatll be) (?:all|it)|(?:im|we are|were) (?:done|finished))\b"
)
_SURELY = re.compile(r"\b(?:yes|yeah|yep|yup|sure|please do|do it|book it|go ahead|of course)\b")
# Nothing but a no and its courtesies: an answer to "anything else?" that ends the call.
_NO_MORE = re.compile(
    r"(?=.*\b(?:no|nope|nah|know|nothing|none|dont|do not|not)\b)"
    r"(?:(?:no|nope|nah|nothing(?: else| more| at all)?|none|not (?:really|now|right now|at the moment)|"
    r"(?:thats|that is|that was|that will be|thatll be) "
    r"(?:all|it|everything|fine|good|okay|ok|great|perfect)|"
    r"(?:(?:no )?thanks|thank you)(?: (?:a lot|very much|so much))?|"
    r"(?:im|i am|we are|were) (?:good|fine|okay|ok|done|all set)|all (?:good|set)|"
    r"(?:i )?(?:dont|do not) (?:think so|(?:need|want) (?:any|some)thing(?: else| more)?)|"
    r"for (?:now|today)|ok|okay|alright|all right|great|good|fine|perfect|sorry|oh|um|uh|well|please|i) ?)+|"
    r"know(?: (?:thanks|thank you))?"
)


def unheard(talk: Talk, said: Said) -> Reply | None:
    if said.core() or said.agrees():
        return None
    if talk.was_cut:
        return Say(talk.last)
    talk.misses += 1
    sorry = talk.vary(
        "unheard", "Sorry, I didn't catch that.", "I couldn't hear you well.", "I'm still here."
    )
    again = talk.open_question() or talk.vary("speak", "What can I do for you?", "Could you say it again?")
    return Say(f"{sorry} {again}")


def stop(talk: Talk, said: Said) -> Reply | None:
    return Say(talk.vary("stop", "Okay.", "All right.")) if _STOP.fullmatch(said.text) else None


def repeat(talk: Talk, said: Said) -> Reply | None:
    if talk.booked and re.search(r"\breference\b", said.text):
        return None
    return Say(talk.last) if said.has(_REPEAT) or _WHAT.fullmatch(said.core()) else None


def farewell(talk: Talk, said: Said) -> Reply | None:
    """A goodbye in so many words comes before what else may answer the open question ("no, bye").

    Not before what is still to be done: "yes, book it, bye", "cancel my booking, bye".
    """
    if not said.has(_BYE) or (talk.booked and re.search(r"\bcancel", said.text)):
        return None
    return None if said.agrees() and said.has(_SURELY) else part(talk)


def goodbye(talk: Talk, said: Said) -> Reply | None:
    return part(talk) if said.has(_BYE) or said.has(_DONE) else None


def part(talk: Talk) -> Say:
    bye = f"Goodbye, {talk.name}" if talk.name else "Goodbye"
    hour = talk.now().hour
    wish = f"have a lovely {'morning' if hour < 11 else 'day' if hour < 17 else 'evening'}!"
    lead = ""
    if talk.draft:
        lead = (
            "Then your booking stays as it was. " if talk.draft.replaces else "Then I book nothing for now. "
        )
    elif talk.booked:
        lead = "Thank you, we look forward to seeing you. "
    talk.draft = talk.question = None
    return Say(f"{lead}{bye}, and {wish}", end_call=True)


# -- help and small talk -----------------------------------------------------------------------

_HELP = re.compile(
    r"\b(?:what (?:else )?(?:can|do|could) (?:you|i|we) (?:do|say|ask|offer|know)|what you can do|"
    r"what i can (?:say|ask|do)|"
    r"how (?:does|do) (?:this|it|you) work|what are (?:my|the|your) (?:options|abilities|features|skills))\b"
)
_HOURS = re.compile(
    r"\b(?:opening (?:hours|times)|(?:are|do|is|does) .*\b(?:open|close|opened|closed)|how late|"
    r"business hours)\b"
)
_ACKNOWLEDGED = re.compile(
    r"(?:thats |very |sounds |thats very )?(?:ok|okay|great|good|nice|cool|fine|perfect|right|alright|"
    r"all right|lovely|"
    r"wonderful|awesome|wow|interesting|excellent)|(?:i )?(?:see|got it|understand)"
)
_SMALL_TALK = [
    (re.compile(pattern), replies)
    for pattern, *replies in (
        (
            r"^(?:(?:no|but|oh|well) )*(?:(?:thats|that is|that was|its|it is|this is) )?"
            r"(?:wrong|incorrect|not (?:right|correct|true|what i \w+))\b",
            "I'm sorry about that.",
        ),
        (
            FOOD.pattern,
            "About the food, your waiter knows best.",
        ),
        (
            r"\b(?:can|do) you (?:still )?hear me\b|\bare you (?:still )?there\b|\b(?:anybody|"
            r"anyone) there\b|^test(?:ing)?\b",
            "Yes, I can hear you well.",
            "I'm here, and I can hear you.",
        ),
        (
            r"\bhow are (?:you|things)\b|\bhows it going\b|\bhow do you do\b",
            "I'm very well, thank you for asking.",
            "Never better, thank you.",
        ),
        (
            r"\bwho are you\b|\byour name\b|\bwho am i (?:talking|speaking)\b|\bwhat are you\b",
            "{me}, a computer voice that follows simple rules.",
        ),
        (
            r"\bare you (?:a |an )?(?:real|human|robot|computer|machine|person|ai|bot)\b",
            "I'm a computer voice, and I follow simple rules.",
        ),
        (r"\bwhere are you\b", "I'm in a computer, and my thoughts are in the kitchen."),
        (r"\bwhat (?:day|date) is (?:it|today)\b|\bwhats (?:the date|today)\b", "Today is {today}."),
        (
            r"\bdo you speak\b|\bspeak (?:french|german|italian|spanish)\b",
            "I only speak English, I'm afraid.",
        ),
        (
            r"\ba joke\b|\bsomething funny\b|\bmake me laugh\b",
            "Why did the tomato blush? Because it saw the salad dressing.",
            "What do you call a fake noodle? An impasta.",
        ),
        (r"\bsorry\b|\bapologi[sz]e\b", "No need to be sorry.", "That's quite all right."),
        (
            r"\byou ?a?re (?:great|good|nice|funny|amazing|helpful|the best|kind)\b|\b(?:well done|"
            r"good job|i love you)\b",
            "That's kind of you.",
            "Thank you, I do my best.",
        ),
        (
            r"\byou ?a?re (?:\w+ )?(?:stupid|bad|useless|dumb|annoying|terrible)\b",
            "I'm sorry, I do what I can.",
        ),
        (r"\bthank|\bthanks\b|\bcheers\b", "You're welcome.", "My pleasure.", "With pleasure."),
        (
            r"^(?:hello|hi|hey|hallo|good (?:morning|afternoon|evening|day)|greetings)\b",
            "Hello!",
            "Hello again!",
        ),
    )
]


_CALL_ME = re.compile(r"\b(?:my name|my names|call me)\b")


def help_(talk: Talk, said: Said) -> Reply | None:
    if not said.has(_HELP) and not (re.search(r"\bhelp\b", said.text) and not said.has(BOOK)):
        return None
    if talk.draft:
        return talk.go_on(
            "I'm booking you a table, and you can change or cancel it at any time. "
            "In between you may ask me for the weather, or for the time in a city."
        )
    return talk.go_on(
        talk.vary(
            "help",
            "I can book you a table, tell you the weather or the time in a city, "
            "make this page dark or light, and show you a list on it.",
            "You can say, book a table for two tomorrow at eight. You can ask, what's the weather in Rome, "
            "or, what time is it in Tokyo. And you can say, dark mode, or, show me the list of cities.",
        )
    )


def hours(talk: Talk, said: Said) -> Reply | None:
    if not said.has(_HOURS):
        return None
    if talk.draft is None:
        talk.question = Question("book", "Shall I book a table for you?")
    return talk.go_on(f"You can come {OPENING_HOURS} on any day.")


def name(talk: Talk, said: Said) -> Reply | None:
    """ "My name is Anna": remembered, and answered if nothing else was said."""
    called = read_name(said)
    if not called:
        return None
    talk.under = called
    if said.has(_CALL_ME):
        talk.name = called
    if said.has(BOOK) or read_slots(said, talk.now()):
        return None
    return talk.go_on(f"Thank you, {called}." if talk.draft else f"Nice to meet you, {called}.")


def offered(talk: Talk, said: Said) -> Reply | None:
    """The answer to "anything else?" or "would you like another city?"."""
    if talk.question is None or talk.question.about not in ("more", "city", "topic", "theme"):
        return None
    agreed, short = said.agrees(), len(said.text.split()) <= 4
    if _NO_MORE.fullmatch(said.text):
        if talk.question.about == "more" and not talk.question.value:
            return part(talk)
        talk.question = None
        return talk.go_on("All right.")
    if (
        agreed
        and short
        and not read_cities(said)
        and re.search(r"\b(?:yes|yeah|yep|yup|sure|please|of course)\b", said.text)
    ):
        if talk.question.about == "more":
            if lookups := talk.question.value:
                talk.question = Question("city", "Which city?", lookups)
                return Say(talk.question.text)
            talk.question = None
            return Say(talk.vary("yes", "What would you like?", "Tell me, what shall I do?"))
        return Say(talk.question.text)
    return None


def small_talk(talk: Talk, said: Said) -> Reply | None:
    for pattern, replies in _SMALL_TALK:
        if said.has(pattern):
            return talk.go_on(
                talk.vary(pattern.pattern, *replies).format(me=talk.introduction(), today=say_day(talk.today))
            )
    if not talk.open_question() and _ACKNOWLEDGED.fullmatch(said.core()):
        return talk.go_on(talk.vary("good", "Good.", "Very good."))
    if said.agrees() is not None and not talk.open_question() and len(said.text.split()) <= 3:
        return talk.go_on("All right.")
    return None


def lost(talk: Talk, said: Said) -> Reply | None:
    """Nothing was understood: names three things to try, in other words each time."""
    talk.misses += 1
    return Say(
        talk.vary(
            "lost",
            "I'm sorry, I didn't understand that. "
            "I can book a table, or tell you the weather or the time in a city.",
            "That one is beyond me, I'm afraid. "
            "You could ask for the weather in Rome, the time in Tokyo, or a dark page.",
            "I still don't follow, sorry. Try, book a table for two, or, show me a list, or, repeat that.",
            "I can't help with that one. You can ask, what time is it in London, or say, help, or, goodbye.",
        )
    )
