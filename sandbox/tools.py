"""The tools that the agent may ask the caller's page for, described as JSON schema."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ToolSpec:
    """`parameters` is the JSON schema of an object whose properties all have a description."""

    name: str
    description: str
    parameters: dict[str, Any] = field(repr=False)


def _tool(
    tool: str, description: str, /, *, optional: tuple[str, ...] = (), **properties: dict[str, Any]
) -> ToolSpec:
    schema = {
        "type": "object",
        "properties": properties,
        "required": [each for each in properties if each not in optional],
        "additionalProperties": False,
    }
    return ToolSpec(tool, description, schema)


_CITY = {"type": "string", "description": "The city's English name, for example Paris"}

TOOLS: tuple[ToolSpec, ...] = (
    _tool("get_weather", "Tells the weather in a city right now.", city=_CITY),
    _tool("get_time", "Tells the local time in a city.", city=_CITY),
    _tool(
        "book_table",
        "Books a table. Call it only after the caller has confirmed all details.",
        optional=("name",),
        people={"type": "integer", "minimum": 1, "maximum": 20, "description": "How many people will come"},
        day={"type": "string", "format": "date", "description": "The day as YYYY-MM-DD"},
        time={"type": "string", "description": "The time as HH:MM on the 24-hour clock, from 11:00 to 22:29"},
        name={"type": "string", "description": "The name for the booking, if the caller gave one"},
    ),
    _tool(
        "cancel_booking",
        "Cancels a booking. Call it only after the caller has confirmed.",
        reference={"type": "string", "description": "The reference that book_table gave"},
    ),
    _tool(
        "set_theme",
        "Makes the caller's page dark or light.",
        theme={"type": "string", "enum": ["dark", "light"], "description": "The look of the page"},
    ),
    _tool(
        "show_list",
        "Shows a list on the caller's page.",
        title={"type": "string", "description": "The heading above the list"},
        items={"type": "array", "items": {"type": "string"}, "description": "One line of text for each item"},
    ),
)
