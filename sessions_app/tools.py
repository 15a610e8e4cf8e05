"""Server tools: typed Python functions that an agent may call in the middle of a call.

    @tool
    def get_weather(session: VoiceSession, city: str) -> dict[str, Any]:
        \"\"\"The weather in a city.\"\"\"

Name, description and parameters come from the function. Its first parameter is the context: the VoiceSession,
or the ToolRun where the id of the tool call matters. What it returns goes to the agent as JSON; a ToolError,
wrong arguments, an unknown name, an exception or the time limit as `{"error": sentence, "code": …}`.
"""

import inspect
import json
import logging
import math
import threading
import time as clock
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Literal, get_args, get_origin, get_type_hints, overload

from django.db import close_old_connections, transaction
from django.utils import timezone

from sessions_app.events import ToolCall
from sessions_app.models import ToolRun, VoiceSession
from sessions_app.redaction import redact_text, redact_value

logger = logging.getLogger(__name__)

LIMIT_S = 8.0
"""Age of a tool call, from the moment in which the agent asked, after which it is not carried out any more.

Agents stop waiting after ten seconds, and the page answers for us after nine (ANSWER_MS in tool-calls.ts).
The second between is for the output's way to the page, and for the age itself: at_ms counts from the page's
request for the call, created_at is that request's arrival here, so a call is older than it seems by the time
that the request was under way. Where that is not enough, the log decides: a tool call that has an answer
there is over.
"""

Function = Callable[..., dict[str, Any]]

_threads = ThreadPoolExecutor(8, thread_name_prefix="tool")


class ToolError(Exception):
    """The tool cannot do what was asked; the text is a sentence for the agent to say."""

    def __init__(self, sentence: str, code: str = "refused") -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True)
class Tool:
    name: str
    description: str
    parameters: dict[str, Any]
    """JSON schema of the arguments."""
    function: Function
    types: dict[str, Any]
    takes_run: bool
    writes: bool


TOOLS: dict[str, Tool] = {}


@overload
def tool(function: Function) -> Function: ...
@overload
def tool(*, writes: bool) -> Callable[[Function], Function]: ...
def tool(function: Function | None = None, *, writes: bool = False) -> Any:
    """Registers a function as a tool.

    `writes`: it changes the database. It then runs in one transaction with the end of its ToolRun, and the
    change is undone if its time is over (see LIMIT_S) or the page has answered in its place: no agent is told
    of a failure first, and the change made afterwards. An output that is lost on its way to the page is the
    one case left; the page then says that it is not known whether the tool's work was done. Keep it short:
    on SQLite it holds the database's write lock.
    Raises TypeError for a parameter of a type that an argument cannot have.
    """
    if function is None:
        return lambda function: _register(function, writes=writes)
    return _register(function, writes=writes)


def _register(function: Function, *, writes: bool) -> Function:
    name = function.__name__
    hints = get_type_hints(function)
    context, *parameters = inspect.signature(function).parameters.values()
    properties = {parameter.name: _schema(hints[parameter.name]) for parameter in parameters}
    required = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    TOOLS[name] = Tool(
        name=name,
        description=(inspect.getdoc(function) or "").partition("\n")[0],
        parameters={"type": "object", "properties": properties, "required": required},
        function=function,
        types={parameter.name: hints[parameter.name] for parameter in parameters},
        takes_run=hints[context.name] is ToolRun,
        writes=writes,
    )
    return function


def run(session: VoiceSession, call: ToolCall, called_at: datetime) -> str:
    """The tool's output as JSON. Blocks until the call, made at `called_at`, is LIMIT_S old.

    Each tool call is run once: asked again, it gives the same output, or waits for the one in the making.
    """
    tool_run, is_new = _open(session, call)
    if not is_new:
        return _earlier_output(tool_run)
    if call.is_redacted:
        logger.warning("tool %s of session %s cannot be run: its arguments are gone", call.name, session.pk)
        return refuse(session, call, f"{call.name} was interrupted.", "interrupted")
    deadline = called_at + timedelta(seconds=LIMIT_S)
    if _is_too_late(tool_run, deadline):
        logger.warning("tool %s of session %s was asked for too long ago", call.name, session.pk)
        return refuse(session, call, f"{call.name} was asked for too long ago.", "late")
    future = _threads.submit(_execute, tool_run, call.arguments, deadline)
    close_old_connections()  # to the pool, where the tool itself may need it
    try:
        future.result((deadline - timezone.now()).total_seconds())
    except TimeoutError:
        future.cancel()
        logger.warning("tool %s of session %s took too long", call.name, session.pk)
        _finish(tool_run, error_output(f"{call.name} took too long.", "late"), is_error=True)
    return _output(tool_run)


def refuse(session: VoiceSession, call: ToolCall, sentence: str, code: str) -> str:
    """The output of a call that is not carried out, neither now nor when it is asked for again."""
    tool_run, _ = _open(session, call)
    _finish(tool_run, error_output(sentence, code), is_error=True)
    return _output(tool_run)


def _open(session: VoiceSession, call: ToolCall) -> tuple[ToolRun, bool]:
    kept = {"name": call.name, "arguments": redact_value(call.arguments)}
    return ToolRun.objects.get_or_create(session=session, tool_call_id=call.id, defaults=kept)


_spoken: dict[int, str] = {}
"""Outputs as the agent is to hear them, where only their redacted form is stored; by run, the newest last. In
memory only, and for a page that asks again within the seconds in which its agent still waits."""

MAX_SPOKEN = 64
_spoken_lock = threading.Lock()


def _finish(run: ToolRun, output: str, *, is_error: bool) -> bool:
    is_first = run.finish(output, is_error=is_error)
    if is_first and run.output != output:
        with _spoken_lock:
            _spoken[run.pk] = output
            if len(_spoken) > MAX_SPOKEN:
                del _spoken[next(iter(_spoken))]
    return is_first


def _output(run: ToolRun) -> str:
    """What the agent is told of a finished run."""
    run.refresh_from_db()
    spoken = _spoken.get(run.pk)
    # Of a run that was undone, another output is stored.
    return spoken if spoken is not None and redact_text(spoken) == run.output else run.output


def _is_too_late(run: ToolRun, deadline: datetime) -> bool:
    return timezone.now() >= deadline or run.session.is_answered(run.tool_call_id)


def _earlier_output(run: ToolRun) -> str:
    # Who runs it writes "late" at LIMIT_S; half a second later it is dead, and the agent still waits.
    deadline = run.started_at + timedelta(seconds=LIMIT_S + 0.5)
    pause_s = 0.05
    while run.finished_at is None:
        if timezone.now() > deadline:  # whoever ran it died in the middle
            _finish(run, error_output(f"{run.name} was interrupted.", "interrupted"), is_error=True)
        else:
            close_old_connections()  # as in run
            clock.sleep(pause_s)
            pause_s = min(0.5, pause_s * 2)
        run.refresh_from_db()
    return _output(run)


def _execute(run: ToolRun, arguments: Mapping[str, Any], deadline: datetime) -> None:
    close_old_connections()
    try:
        _call(run, arguments, deadline)
    except ToolError as error:
        _finish(run, error_output(str(error), error.code), is_error=True)
    except Exception:
        # A tool is somebody's own code; whatever it raises, the agent gets its answer.
        logger.exception("tool %s of session %s failed", run.name, run.session_id)
        _finish(run, error_output(f"{run.name} failed.", "failed"), is_error=True)
    finally:
        close_old_connections()


def _call(run: ToolRun, given: Mapping[str, Any], deadline: datetime) -> None:
    """`given`: the arguments; the run has them as they may be stored."""
    found = TOOLS.get(run.name)
    if found is None:
        raise ToolError(f"There is no tool {run.name}.", "unknown_tool")
    arguments = read_arguments(found, given)
    context = run if found.takes_run else run.session
    if not found.writes:
        _finish(run, json.dumps(found.function(context, **arguments)), is_error=False)
        return
    with transaction.atomic():
        is_first = _finish(run, json.dumps(found.function(context, **arguments)), is_error=False)
        # The log's writer waits for this transaction: what is not in the log now comes after the change. On
        # SQLite any writer does; on PostgreSQL no line can be committed while its session's row is locked so.
        VoiceSession.objects.select_for_update().get(pk=run.session_id)
        if not is_first or _is_too_late(run, deadline):
            raise ToolError(f"{run.name} took too long.", "late")  # and undo it


def error_output(sentence: str, code: str) -> str:
    """What the agent is given instead of a result."""
    return json.dumps({"error": sentence, "code": code})


def read_arguments(found: Tool, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments in the types of the function's parameters. Raises ToolError."""
    unknown = sorted(given.keys() - found.types.keys())
    if unknown:
        raise ToolError(f"{found.name} takes no {unknown[0]}.", "bad_arguments")
    missing = [name for name in found.parameters["required"] if name not in given]
    if missing:
        raise ToolError(f"{found.name} needs {missing[0]}.", "bad_arguments")
    arguments = {}
    for name, value in given.items():
        try:
            arguments[name] = _convert(value, found.types[name])
        except (ValueError, OverflowError):
            wanted = _wanted(found.types[name])
            raise ToolError(f"{name} must be {wanted}, not {value!r:.60}.", "bad_arguments") from None
    return arguments


SCHEMAS: dict[Any, tuple[dict[str, Any], str]] = {
    str: ({"type": "string"}, "a text"),
    int: ({"type": "integer"}, "a whole number"),
    float: ({"type": "number"}, "a number"),
    bool: ({"type": "boolean"}, "true or false"),
    list[str]: ({"type": "array", "items": {"type": "string"}}, "a list of texts"),
    date: ({"type": "string", "format": "date"}, "a day such as 2030-01-31"),
    time: ({"type": "string", "format": "time"}, "a time such as 19:30"),
}


def _schema(wanted: Any) -> dict[str, Any]:
    if get_origin(wanted) is Literal:
        return {"type": "string", "enum": list(get_args(wanted))}
    if wanted not in SCHEMAS:
        raise TypeError(f"a tool's parameter cannot be of type {wanted!r}")
    return SCHEMAS[wanted][0]


def _wanted(wanted: Any) -> str:
    if get_origin(wanted) is Literal:
        return "one of " + ", ".join(get_args(wanted))
    return SCHEMAS[wanted][1]


def _convert(value: Any, wanted: Any) -> Any:
    """Models send numbers as texts and texts as numbers; what is meant is clear. Raises ValueError."""
    if get_origin(wanted) is Literal:
        if value not in get_args(wanted):
            raise ValueError
        return value
    if wanted == list[str]:
        if not isinstance(value, list):
            raise ValueError
        return [_convert(item, str) for item in value]
    if wanted is bool:
        return _convert_bool(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError
    if wanted is int and isinstance(value, float):
        if not value.is_integer():
            raise ValueError
        return int(value)
    if wanted in (date, time):
        return wanted.fromisoformat(str(value).strip())
    converted = wanted(value)
    if isinstance(converted, float) and not math.isfinite(converted):
        raise ValueError
    return converted


def _convert_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "false": False}
    if not isinstance(value, str) or value.strip().lower() not in words:
        raise ValueError
    return words[value.strip().lower()]
