"""Regular expressions of the site's own, from a file: what is to be left out of the log beside the built-in
kinds.

    # comment
    kind = regular expression

Python's `re`, small and capital letters alike. They run on whatever a caller or a platform says, in the way
of the log, and nothing can stop a match that has begun. So what could take long is refused when the site
starts: a repetition without a limit (+, *, {3,}), and ambiguity that multiplies, as in (\\w{1,9} ?){1,9}. A
possessive repetition (++, {1,9}+) or an atomic group (?>…) never goes back, and does not count.
"""

import re
from collections.abc import Iterable
from pathlib import Path

# What re.compile itself goes by; its documented front has no word for "how often".
from re import _constants as words  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

BUILT_IN = ("email", "card", "phone")
"""Kinds that need no pattern (see redaction.py), in the order in which they are looked for: a card's number
could pass for a phone's."""

FLAGS = re.IGNORECASE

MAX_REPEAT = 256
"""Of one repetition. With MAX_WAYS it bounds a match to some thousand steps from each character of a text."""

MAX_WAYS = 1000
"""In which one place of a text may be tried."""

KIND = re.compile(r"[a-z][a-z0-9_-]{0,31}")


class PatternError(ValueError):
    """The file cannot be used; the text is a sentence that names the line."""


def read(path: Path, taken: Iterable[str]) -> dict[str, str]:
    """The patterns of a file by their kind, in its order; `taken`: kinds that they may not have.

    Raises PatternError.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PatternError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PatternError(f"{path} is not UTF-8 text") from None
    patterns: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        kind, equals, pattern = (part.strip() for part in line.partition("="))
        try:
            if not equals or not KIND.fullmatch(kind):
                raise PatternError("write kind = regular expression, the kind in small letters")
            if kind in taken or kind in patterns:
                raise PatternError(f"there is a kind {kind} already; take another word")
            check(pattern)
        except PatternError as error:
            raise PatternError(f"{path}, line {number}: {error}") from None
        patterns[kind] = pattern
    if not patterns:
        raise PatternError(f"{path} holds no pattern; write lines of the form kind = regular expression")
    return patterns


def check(pattern: str) -> None:
    """Raises PatternError for a regular expression that is none, that matches nothing at all, or that a
    text could make slow."""
    try:
        tree = parser.parse(pattern, FLAGS)
        re.compile(f"x|{pattern}", FLAGS)  # as redaction.py does: flags for all of it come too late there
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternError(f"{pattern!r} is not a regular expression ({error})") from None
    if tree.getwidth()[0] == 0:
        raise PatternError(f"{pattern!r} also matches the empty text; let it demand a character")
    if _ways(tree) > MAX_WAYS:
        raise PatternError(
            f"{pattern!r} can match one text in too many ways, and would hold up the log; "
            "make inner repetitions possessive: ?+ for ?, {1,9}+ for {1,9}"
        )


def _ways(tree: Any) -> int:
    """In how many ways a part can match from one place of a text, at most; above MAX_WAYS not exactly."""
    ways = 1
    for operation, argument in tree:
        ways *= _ways_of(operation, argument)
        if ways > MAX_WAYS:
            break
    return ways


def _ways_of(operation: Any, argument: Any) -> int:
    if operation in (words.MAX_REPEAT, words.MIN_REPEAT, words.POSSESSIVE_REPEAT):
        least, most, item = argument
        if most > MAX_REPEAT:
            raise PatternError(
                f"a repetition goes on for more than {MAX_REPEAT} times, and a long text could hold up the "
                "log; write {1,64} for +, and {0,64} for *"
            )
        inner = _ways(item)
        if operation is words.POSSESSIVE_REPEAT:
            return _once(inner)
        ways = 0
        for times in range(least, most + 1):
            ways += inner ** min(times, MAX_WAYS)
            if ways > MAX_WAYS:
                break
        return ways
    if operation is words.SUBPATTERN:
        return _ways(argument[-1])
    if operation is words.BRANCH:
        return sum(_ways(branch) for branch in argument[1])
    if operation is words.ATOMIC_GROUP:
        return _once(_ways(argument))
    if operation in (words.ASSERT, words.ASSERT_NOT):
        return _ways(argument[1])
    if operation is words.GROUPREF_EXISTS:
        return sum(_ways(branch) for branch in argument[1:] if branch is not None)
    return 1


def _once(ways: int) -> int:
    """Of what is never tried again once it has matched; until then it may go back within itself."""
    return 1 if ways <= MAX_WAYS else ways
