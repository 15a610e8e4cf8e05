"""How the proof of a call is shown to staff: in the list, and above the transcript."""

import math
from typing import Any

from django.db.models import Q
from django.utils.html import format_html
from django.utils.safestring import SafeString

from sessions_app.models import VoiceSession
from sessions_app.moments import moment
from sessions_app.transcript import clock, pairs, plain

Proof = VoiceSession.Proof

NEVER_BEGAN = Q(proof=Proof.UNVERIFIED, call_id="", started_at=None)
"""No call, so nothing is missing: no reason to alarm anybody."""

LOOKS = {
    "complete": ("Complete", Q(proof=Proof.COMPLETE)),
    "recovered": ("Recovered", Q(proof=Proof.RECOVERED)),
    "differs": ("Differs", Q(proof=Proof.DIFFERS)),
    "unverified": ("Unverified", Q(proof=Proof.UNVERIFIED) & ~NEVER_BEGAN),
    "waiting": ("Waiting", Q(state="ended", proof="")),
    "nothing": ("Nothing to compare", NEVER_BEGAN),
}
"""The word for it, and which calls it is said of."""


def look_of(session: VoiceSession) -> str:
    """A key of LOOKS; "" while the call goes on."""
    if session.state != VoiceSession.State.ENDED:
        return ""
    if session.proof == Proof.UNVERIFIED and not session.call_id and session.started_at is None:
        return "nothing"
    return session.proof or "waiting"


def count_of(session: VoiceSession) -> str:
    """The number that goes with the word."""
    count = {Proof.DIFFERS: session.differing, Proof.RECOVERED: session.recovered}.get(session.proof)  # type: ignore[call-overload]
    return "" if count is None else str(count)


def badge(session: VoiceSession) -> SafeString | None:
    """For the list: the word and its number, and below what else there is."""
    look = look_of(session)
    if not look:
        return None
    more = ""
    if session.proof == Proof.DIFFERS and session.recovered:
        more = f"recovered {session.recovered}"
    return format_html(
        '<span class="call-proof call-proof-{}">{} {}</span> <span class="call-ending">{}</span>',
        look,
        LOOKS[look][0],
        count_of(session),
        more,
    )


def headline(session: VoiceSession) -> dict[str, str]:
    """For the head of the transcript."""
    look = look_of(session)
    word = LOOKS[look][0] if look else "After the call"
    return {"look": look or "waiting", "word": f"{word} {count_of(session)}".strip()}


def sentences(session: VoiceSession) -> list[str]:
    """What has been found, or why nothing has."""
    if not look_of(session):
        return ["When the call is over, this log is compared with the platform's own record."]
    if session.proof == Proof.COMPLETE:
        return ["The platform's own record of the call tells the same."]
    said = []
    if session.differing:
        verb = "does" if session.differing == 1 else "do"
        said.append(
            f"{_lines(session.differing)} {verb} not agree with the platform's record: "
            "marked below, with the words of both sides."
        )
    if session.recovered:
        verb = "was" if session.recovered == 1 else "were"
        said.append(
            f"{_lines(session.recovered)} {verb} missing in the browser's report, "
            f"and {verb} added from the platform's record."
        )
    if session.unproved_because and session.proof in ("", Proof.UNVERIFIED):
        said.append(session.unproved_because)
    return said or ["This log is about to be compared with the platform's own record."]


def _lines(number: int) -> str:
    return "1 line" if number == 1 else f"{number} lines"


def platform_facts(session: VoiceSession) -> list[tuple[str, str | SafeString]]:
    """When it was looked at, and what the platform tells of the call."""
    call: dict[str, Any] = session.platform_call
    shown: list[tuple[str, str | SafeString]] = [
        ("Compared" if call else "Last tried", moment(session.proved_at) if session.proved_at else ""),
        ("Next look", moment(session.prove_at) if session.prove_at else ""),
        ("Platform's length", _length(call.get("duration_seconds"))),
        ("Platform's reason for the end", _words(call.get("termination_reason"))),
        ("Cost", _words(call.get("cost"))),
        ("Tags", _words(call.get("tags"))),
        ("Summary", _words(call.get("summary"))),
    ]
    return [(name, value) for name, value in shown if value]


def _length(seconds: Any) -> str:
    is_length = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if is_length and math.isfinite(seconds) and 0 <= seconds < 10**7:
        return clock(seconds)
    return _words(seconds)


def _words(value: Any) -> str:
    if value in (None, [], {}):
        return ""
    return ", ".join(": ".join(pair) for pair in pairs(value)) if isinstance(value, dict) else plain(value)


def mark(session: VoiceSession) -> str:
    """Changes with whatever the head of the transcript shows of the proof."""
    at = session.proved_at.isoformat() if session.proved_at else ""
    again_at = session.prove_at.isoformat() if session.prove_at else ""
    return f"{look_of(session)} {session.recovered} {session.differing} {at} {again_at}"
