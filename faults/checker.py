"""Evidence → violations: the twelve invariants, each recomputed from what the run left behind.

findings = check(evidence)          # pure; see collect.py for where evidence comes from
findings.violations                 # total number
findings.of["I3"].count             # and .examples, at most EXAMPLES lines
findings.sometimes                  # name → how often that danger was met; findings.never: those never met
findings.figures                    # requests, endings, calls … for the report
"""

from collections import Counter
from dataclasses import dataclass, field

from faults.evidence import Evidence
from faults.index import Index
from faults.invariants import INVARIANTS
from faults.sometimes import SOMETIMES, dangers
from schemas.status import Status

EXAMPLES = 5


@dataclass
class Finding:
    """Violations of one invariant: how many, and the first few."""

    promise: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class Findings:
    """The outcome of a check."""

    of: dict[str, Finding]
    sometimes: dict[str, float]
    figures: dict[str, int]

    @property
    def violations(self) -> int:
        """The number of violations of all invariants."""
        return sum(finding.count for finding in self.of.values())

    @property
    def broken(self) -> list[str]:
        """Names of the violated invariants."""
        return [name for name, finding in self.of.items() if finding.count]

    @property
    def never(self) -> list[str]:
        """Dangers that the run never met, and so did not test."""
        return [name for name in SOMETIMES if not self.sometimes[name]]

    def lines(self) -> list[str]:
        """A text report: one line per violated invariant, with its examples below."""
        return [
            line
            for name, finding in self.of.items()
            if finding.count
            for line in (f"{name} {finding.promise}: {finding.count}", *(f"    {each}" for each in finding.examples))
        ]


def check(evidence: Evidence) -> Findings:
    """Check all invariants."""
    index = Index(evidence)
    of: dict[str, Finding] = {}
    for name, (promise, violations) in INVARIANTS.items():
        finding = of[name] = Finding(promise)
        for violation in violations(index):
            finding.count += 1
            if finding.count <= EXAMPLES:
                finding.examples.append(violation)
    return Findings(of, dangers(index), _figures(evidence))


def _figures(evidence: Evidence) -> dict[str, int]:
    endings = Counter(row.status for row in evidence.requests)
    steps = Counter(entry.what for entry in evidence.entries if entry.part == "original")
    return {
        "requests": len(evidence.requests),
        **{status.value: endings[status.value] for status in Status if status.terminal},
        "calls": len(evidence.calls),
        "records": len(evidence.records),
        "replies": len(evidence.replies),
        "dead_letters": len(evidence.dead_letters),
        "acknowledged": len({entry.key for entry in evidence.entries if entry.what == "acked"}),
        "streams": steps["stream"],
    }
