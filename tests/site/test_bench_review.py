"""The figures of staff's pages, from the times that were measured. No times of this machine."""

from bench.figures import nested
from bench.review import GROWING, PAGES, figures, p95


def test_95_of_100_are_no_longer() -> None:
    assert p95([float(n) for n in range(100, 0, -1)]) == 95
    assert p95([7.0]) == 7


def test_the_worse_of_the_two_databases_is_told_and_each_of_them() -> None:
    times = {
        ("sqlite", "few"): {page: [100.0] for page in PAGES},
        ("sqlite", "many"): {page: [120.0] for page in PAGES},
        ("postgresql", "few"): {page: [50.0] for page in PAGES},
        ("postgresql", "many"): {page: [90.0] for page in PAGES},
    }
    found = nested(figures(times))
    for page in PAGES:
        shown = (
            found[f"{page}_p95_ms"],
            found["sqlite"][f"{page}_p95_ms"],
            found["postgresql"][f"{page}_p95_ms"],
        )
        assert shown == (120, 120, 90)
    for page in GROWING:
        growth = found["growth"][page], found["sqlite"]["growth"][page], found["postgresql"]["growth"][page]
        assert growth == (1.8, 1.2, 1.8)
