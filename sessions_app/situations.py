"""The catalogue of what can go wrong, or needs a decision, in a call. The page and the documents share it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Situation:
    """What the visitor reads, and what staff read."""

    group: str
    kind: Literal["failure", "notice"]
    """A failure is the end of a call, or there is none by it; with a notice the call goes on."""
    title: str
    sentence: str
    """What is wrong, and what the visitor can do about it."""
    action: str
    """What the page's one button does; "none" for no button."""
    log: str = ""

    @property
    def for_staff(self) -> str:
        return self.log or self.title


SITUATIONS: Mapping[str, Situation] = {
    code: Situation(**row)
    for code, row in json.loads(Path(__file__).with_name("situations.json").read_text("utf-8")).items()
}
"""By their codes."""
