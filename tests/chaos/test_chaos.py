"""What was acknowledged is in the log, once, as it was told, in order, whatever happened to the servers."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from bench import chaos
from tests import postgres

SECONDS = 60
"""For all databases together."""

LEAST = Counter(kill=4, terminate=2, cut=1)

POSSIBLE = {"sqlite": True, "postgresql": postgres.find() is not None}


@pytest.mark.parametrize("database", chaos.DATABASES)
def test_whatever_happens_to_the_servers_nothing_acknowledged_is_lost(database: str) -> None:
    if not POSSIBLE[database]:
        pytest.skip("there is no PostgreSQL on this machine")
    seed = random.randrange(10**6)  # noqa: S311  a choice, not a secret
    outcome = chaos.run(database, SECONDS / sum(POSSIBLE.values()), seed, least=LEAST)
    assert outcome.faults == [], f"seed {seed}"
    assert outcome.injuries >= LEAST
    counts = outcome.counts
    assert counts["frames_stored"] == counts["frames_acknowledged"] == counts["frames_sent"] > 0
    # A run that never lost a socket, repeated nothing and refused nothing would have proved little.
    assert min(counts["frames_resent"], counts["frames_rejected"], counts["reconnects"]) > 0
    assert counts["tool_outputs"] > 0
