"""Who can be called: agents that the settings allow, by the names that the platform has for them."""

import logging
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.conf import settings

from sessions_app import vatel

logger = logging.getLogger(__name__)

FRESH_S = 60.0
"""A list is shown for this long before the platform is asked again."""
PAUSE_S = 10.0
"""After a try in vain, so that an outage does not hold up every visitor."""
PATIENCE_S = 2.0
"""No page waits longer for the list; what comes later serves the next one."""

NAMELESS = "Voice agent"
MAX_NAME = 100


@dataclass(frozen=True)
class Agent:
    id: UUID
    name: str


def offered() -> list[Agent]:
    """The agents that visitors are offered now, in the settings' order; at least one.

    While the platform lists none of them, or lists nothing, all of the settings': a call to one of them
    tells the platform's own reason.
    """
    return _offered(_directory(vatel.platform()).names(FRESH_S))


def callable_agent(agent_id: UUID) -> Agent | None:
    """The agent, if it is offered. Goes by the list that is there, however old: a click waits for no list."""
    agents = _offered(_directory(vatel.platform()).names(float("inf")))
    return next((agent for agent in agents if agent.id == agent_id), None)


def _offered(names: dict[UUID, str]) -> list[Agent]:
    ids = [agent_id for agent_id in settings.VATEL_AGENT_IDS if agent_id in names]
    return [Agent(agent_id, names.get(agent_id, NAMELESS)) for agent_id in ids or settings.VATEL_AGENT_IDS]


class Directory:
    """The platform's agents as this process last heard of them; threads may share it."""

    def __init__(self, client: vatel.VatelClient) -> None:
        self._client = client
        self._names: dict[UUID, str] = {}
        self._heard_at: float | None = None
        self._asked_at = float("-inf")
        self._try: threading.Thread | None = None
        self._lock = threading.Lock()

    def names(self, max_age_s: float) -> dict[UUID, str]:
        """By id, no older than that if the platform answers in time, else the last known; {} if none are."""
        with self._lock:
            now = time.monotonic()
            if self._heard_at is not None and now - self._heard_at <= max_age_s:
                return self._names
            is_trying = self._try is not None and self._try.is_alive()
            if not is_trying and now - self._asked_at > PAUSE_S:
                self._asked_at = now
                # In a thread, because the client has no limit for all of a request together.
                self._try = threading.Thread(target=self._ask, name="list of agents", daemon=True)
                self._try.start()
            waited_for, patience_s = self._try, self._asked_at + PATIENCE_S - now
        if waited_for is not None:
            waited_for.join(max(0.0, patience_s))
        return self._names

    def _ask(self) -> None:
        try:
            names = read_names(self._client.list_agents())
        except vatel.VatelError as error:
            logger.log(error.level, "the list of agents: %s: %s", error.code, error)
            return
        self._names, self._heard_at = names, time.monotonic()


def read_names(answer: Any) -> dict[UUID, str]:
    """The names in an answer to `GET /v1/agents`, by id. Raises VatelBadAnswerError.

    An entry that is no agent with an id is left out: it must not take the names of the others away.
    """
    listed = answer.get("agents") if isinstance(answer, dict) else answer
    if not isinstance(listed, list):
        raise vatel.VatelBadAnswerError("the answer is no list of agents")
    names: dict[UUID, str] = {}
    for entry in listed:
        try:
            names[UUID(entry["id"])] = read_name(entry.get("name"))
        except (AttributeError, KeyError, TypeError, ValueError):
            logger.warning("the list of agents holds something that is no agent with an id")
    if listed and not names:
        raise vatel.VatelBadAnswerError("the list holds no agent with an id")
    return names


def read_name(name: Any) -> str:
    """A name as pages and database can show it: on one line, without invisible characters, not too long."""
    if not isinstance(name, str):
        return NAMELESS
    visible = "".join(character if character.isprintable() else " " for character in name)
    return " ".join(visible.split())[:MAX_NAME].strip() or NAMELESS


@lru_cache(maxsize=1)
def _directory(client: vatel.VatelClient) -> Directory:
    return Directory(client)
