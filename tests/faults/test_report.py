"""The report of a campaign: the table, the page, the reasons why it failed."""

from collections import Counter

from faults.campaign import Outcome
from faults.checker import check
from faults.evidence import Evidence
from faults.injected import Injected
from faults.report import markdown, problems, table
from faults.sometimes import SOMETIMES


def outcome(*wrong: str, **dangers: float) -> Outcome:
    injected = Injected("worker kill -9", 8, times=[1.0, 2.0], recoveries=[3.25, 14.75])
    injected.counts["idle"] = 1
    findings = check(Evidence())
    findings.sometimes.update(dangers)
    return Outcome("worker_kills", [injected], findings, list(wrong), Counter(), 44.0, 13.0)


def test_the_table_shows_each_fault_with_its_figures() -> None:
    """Faults asked for and injected, requests, violations and the worst recovery are in the fault's row."""
    head, row = table([outcome("two killed", "three lost")]).splitlines()

    assert head.startswith("fault ")
    assert row.split() == ["worker", "kill", "-9", "8", "2", "0", "2", "14.8", "s"]


def test_a_danger_that_was_never_met_fails_a_whole_campaign() -> None:
    """A danger that never occurred fails a full campaign, but not one of selected phases."""
    met = dict.fromkeys(SOMETIMES, 1.0)

    assert problems([outcome(**met)], whole=True) == []
    assert problems([outcome(**{**met, "zombie_frame": 0})], whole=True) == ["never met: zombie_frame"]
    assert problems([outcome()], whole=False) == []


def test_the_page_tells_what_went_wrong_and_names_no_machine() -> None:
    """The page shows figures, kinds and problems."""
    page = markdown([outcome("a reply was lost")], full=True, minutes=61.0, whole=False)

    assert "| worker kill -9 | 8 | 2 | 0 | 1 | 14.8 s |" in page
    assert "- worker kill -9: idle 1" in page
    assert "- worker_kills: a reply was lost" in page
    assert "Apache Kafka 4.2.0" in page
